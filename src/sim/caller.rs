//! What a worker calls a transport with, for tests that drive a transport without a worker. Adds
//! nothing to what the worker does.

use crate::address::Address;
use crate::completion::{Mailbox, Ticket};
use crate::poller::Poller;
use crate::side::SideKey;
use crate::sys::{Sys, SysResult};
use crate::time::Instant;
use crate::transport::{Cause, Desk, Dest, Dial, Step};

/// A dest that is being dialed.
pub struct Dialed<'d> {
    /// Which side it will be.
    pub side: SideKey,
    /// Who is to be connected.
    pub source: Address,
    /// The source waits to be told.
    pub awaited: bool,
    /// The dest's notes; all zeroes at the start.
    pub notes: &'d mut [u8; 8],
}

/// A poller, and the clock a turn has looked at.
pub struct Caller<K: Sys> {
    sys: K,
    poller: Poller<K>,
    mailbox: Mailbox,
    /// When the turn began.
    pub now: Instant,
}

impl<K: Sys> Caller<K> {
    /// A caller whose turn begins now.
    ///
    /// # Errors
    /// The kernel gave no epoll or no eventfd.
    pub fn new(sys: K, now: Instant) -> SysResult<Self> {
        Ok(Caller { sys, poller: Poller::new(sys)?, mailbox: Mailbox::new(), now })
    }

    /// What a transport may use.
    pub fn desk(&mut self) -> Desk<'_, K> {
        Desk { sys: self.sys, poller: &mut self.poller, now: self.now }
    }

    /// The next step of a dest that has no descriptor, as a link has none.
    pub fn dial<T, D: Dest<K, T>>(
        &mut self,
        dest: &mut D,
        Dialed { side, source, awaited, notes }: Dialed<'_>,
        cause: Cause<T>,
    ) -> Step {
        let mut dial = Dial {
            desk: Desk { sys: self.sys, poller: &mut self.poller, now: self.now },
            side,
            fd: None,
            peer: Address::UNKNOWN,
            source,
            notes,
            mailbox: &self.mailbox,
            ticket: Ticket { mailbox: 0, generation: 0, thread: 0 },
            awaited,
            generation: &mut 0,
        };
        dest.dial(&mut dial, cause)
    }

    /// The turn is over: what was retired is closed.
    pub fn end_turn(&mut self) {
        self.poller.bury();
    }
}
