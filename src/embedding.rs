//! What a worker is to whoever has it beside the turn: something to wait for, and connections to look
//! at. Part of the worker; none of it is needed to relay.

use crate::side::{Description, SideKey, Stage};
use crate::sys::{Linux, RawFd, Sys, borrow};
use crate::transport::{Dest, Observer, Source};
use crate::worker::Worker;
use rustix::fd::{AsFd, BorrowedFd};

impl<K, S, D, O> Worker<'_, K, S, D, O>
where
    K: Sys,
    S: Source<K>,
    D: Dest<K, S::Target>,
    O: Observer,
{
    /// The descriptor that is readable when a turn has something to do: for a loop that waits for
    /// more than this worker, together with [`Worker::timeout`].
    pub fn fd(&self) -> RawFd {
        self.poller.fd()
    }

    /// In how many milliseconds a turn is due although [`Worker::fd`] may not be readable; `None`: not
    /// before it is. Each turn changes it.
    pub fn timeout(&mut self) -> Option<u32> {
        // The next turn begins by saying whether connections are wanted.
        if self.admission_stale || self.dest.intake() != self.intake {
            return Some(0);
        }
        self.clock = None;
        self.patience()
    }

    /// A connection in words: who came, and where it goes as far as that is known.
    pub fn describe(&self, connection: usize) -> Description {
        let peer = |key| self.table.side(key).peer;
        Description {
            proxy: self.options.proxy,
            source: peer(SideKey::source(connection)),
            dest: peer(SideKey::dest(connection)),
        }
    }

    /// Gives a side the embedder's own word ([`crate::side::Side::data`]), which it has until its connection ends:
    /// then the observer is told of it ([`crate::transport::Notice`]). `false`: there is no such connection.
    pub fn set_data(&mut self, side: SideKey, data: u64) -> bool {
        let connection = side.connection();
        let is_there = self.table.holds(connection)
            // The observer was told of one that is parting.
            && !matches!(self.table.side(SideKey::dest(connection)).stage, Stage::Parting);
        if is_there {
            self.table.side_mut(side).data = data;
        }
        is_there
    }
}

/// [`Worker::fd`], for whoever waits with types: poll(2), another epoll.
impl<S, D, O> AsFd for Worker<'_, Linux, S, D, O> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(self.poller.fd())
    }
}
