//! One thread's share of the table: sides found by descriptor, vacant connections. Knows no system
//! call and no transport.

use crate::completion::{Mailbox, Ticket};
use crate::share::{Commons, Share};
use crate::side::{Handle, Side, SideKey, Stage};
use crate::sys::RawFd;

/// Size of the buffer each thread reads small messages into.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// How many keys one step of the lookup compares: `iter().position` stops at each, which keeps the
/// compiler from using vector instructions.
const KEYS_PER_STEP: usize = 16;

/// Points in a connection's life; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamps {
    /// When it last moved a byte; kept only where there is an idle timeout.
    pub(crate) touched: u32,
    /// When it must be over: one direction has ended, or a side is in error.
    pub(crate) over: u32,
    /// Bytes that both sides had not acknowledged when it was last found without a byte moved.
    pub(crate) unacknowledged: u32,
}

/// One thread's slices of the static memory.
///
/// Invariant: `occupied <= limit <= connections`; a side with a key has a state other than idle;
/// every vacant connection below `high_water` is on the vacant list exactly once.
pub struct Table<'a> {
    /// Descriptor + 1 of each side, 0 where there is none; nothing else, so that a lookup reads as
    /// little memory as possible.
    pub(crate) keys: &'a mut [u32],
    pub(crate) sides: &'a mut [Side],
    pub(crate) stamps: &'a mut [Stamps],
    pub(crate) deadlines: &'a mut [u32],
    /// [`BUFFER_BYTES`] bytes.
    pub(crate) buffer: &'a mut [u8],
    pub(crate) commons: Commons<'a>,
    pub(crate) thread: u32,
    /// The number of this table's first mailbox.
    pub(crate) first_mailbox: u32,
    pub(crate) occupied: usize,
    /// The first vacant connection + 1, 0 if the list is empty.
    pub(crate) vacant: u32,
    /// Connections from here on were never used.
    pub(crate) high_water: usize,
}

impl<'a> Table<'a> {
    /// Connections this table has room for.
    pub fn capacity(&self) -> usize {
        self.keys.len() / 2
    }

    /// Connections it holds.
    pub fn occupied(&self) -> usize {
        self.occupied
    }

    /// Whether no connection is vacant.
    pub fn is_full(&self) -> bool {
        self.occupied == self.capacity()
    }

    /// Whether this connection is one of those: a place beyond the table holds none. O(1).
    pub fn holds(&self, connection: usize) -> bool {
        let sides = [SideKey::source(connection), SideKey::dest(connection)];
        connection < self.capacity()
            && sides.iter().any(|key| !matches!(self.side(*key).stage, Stage::Idle { .. }))
    }

    /// What all threads see.
    pub fn commons(&self) -> Commons<'a> {
        self.commons
    }

    pub(crate) fn share(&self) -> &'a Share {
        &self.commons.shares[self.thread as usize]
    }

    /// The side with this descriptor. O(1) when `hint` is right, else a scan of every key: O(n).
    #[inline]
    pub fn find(&self, fd: RawFd, hint: SideKey) -> Option<SideKey> {
        let key = Handle::descriptor(fd).word();
        if self.keys.get(hint.slot()) == Some(&key) {
            return Some(hint);
        }
        scan(self.keys, key).map(|slot| SideKey(slot as u32))
    }

    /// What a side's bytes rest in.
    pub fn handle(&self, side: SideKey) -> Option<Handle> {
        Handle::from_word(self.keys[side.slot()])
    }

    /// The descriptor of a side, if it has one.
    pub fn fd(&self, side: SideKey) -> Option<RawFd> {
        self.handle(side).and_then(Handle::fd)
    }

    /// Gives a side a descriptor or a channel, or takes it away.
    pub(crate) fn set_handle(&mut self, side: SideKey, handle: Option<Handle>) {
        self.keys[side.slot()] = handle.map_or(0, Handle::word);
    }

    /// Gives a side a descriptor, or takes it away.
    pub(crate) fn set_fd(&mut self, side: SideKey, fd: Option<RawFd>) {
        self.set_handle(side, fd.map(Handle::descriptor));
    }

    /// One side.
    pub fn side(&self, side: SideKey) -> &Side {
        &self.sides[side.slot()]
    }

    /// One side, to change it.
    pub fn side_mut(&mut self, side: SideKey) -> &mut Side {
        &mut self.sides[side.slot()]
    }

    /// A side and the other side.
    #[inline]
    pub(crate) fn pair_mut(&mut self, from: SideKey) -> (&mut Side, &mut Side) {
        let source = from.slot() & !1;
        let (source, dest) = self.sides[source..source + 2].split_at_mut(1);
        match from.slot() & 1 {
            0 => (&mut source[0], &mut dest[0]),
            _ => (&mut dest[0], &mut source[0]),
        }
    }

    /// Takes a vacant connection; `None` when the table is full. O(1).
    pub(crate) fn occupy(&mut self) -> Option<usize> {
        let connection = match self.vacant.checked_sub(1) {
            Some(connection) => {
                let source = self.side(SideKey::source(connection as usize));
                let Stage::Idle { next_vacant } = source.stage else {
                    unreachable!("a connection on the vacant list is in use")
                };
                self.vacant = next_vacant;
                connection as usize
            }
            None if self.high_water < self.capacity() => {
                self.high_water += 1;
                self.high_water - 1
            }
            None => return None,
        };
        self.occupied += 1;
        Some(connection)
    }

    /// Makes a connection vacant. O(1).
    pub(crate) fn vacate(&mut self, connection: usize) {
        for side in [SideKey::source(connection), SideKey::dest(connection)] {
            self.set_handle(side, None);
            self.side_mut(side).vacate();
        }
        self.stamps[connection] = Stamps::default();
        self.side_mut(SideKey::source(connection)).stage = Stage::Idle { next_vacant: self.vacant };
        self.vacant = connection as u32 + 1;
        self.occupied -= 1;
    }

    pub(crate) fn mailbox(&self, connection: usize) -> &'a Mailbox {
        &self.commons.mailboxes[self.first_mailbox as usize + connection]
    }

    pub(crate) fn ticket(&self, connection: usize, generation: u32) -> Ticket {
        let mailbox = self.first_mailbox + connection as u32;
        Ticket { mailbox, generation, thread: self.thread }
    }

    /// Checks the invariant. O(n).
    #[cfg(any(test, feature = "sim"))]
    pub fn invariants(&self) {
        assert!(self.occupied <= self.capacity());
        let mut vacant = 0;
        let mut next = self.vacant;
        while let Some(connection) = next.checked_sub(1) {
            vacant += 1;
            assert!(vacant <= self.high_water, "the vacant list has a loop");
            match self.side(SideKey::source(connection as usize)).stage {
                Stage::Idle { next_vacant } => next = next_vacant,
                _ => panic!("connection {connection} is on the vacant list, and in use"),
            }
        }
        assert_eq!(vacant + self.occupied, self.high_water);
        for (slot, &key) in self.keys.iter().enumerate() {
            let idle = matches!(self.sides[slot].stage, Stage::Idle { .. });
            assert!(key == 0 || !idle, "slot {slot} is idle and has a descriptor");
        }
    }
}

/// Where `key` is first, wherever it is: which step has it, [`KEYS_PER_STEP`] keys at a time, and
/// then where in that step. One loop for both would tempt the compiler to mix the two, which is
/// twice as slow.
fn scan(keys: &[u32], key: u32) -> Option<usize> {
    let (steps, _) = keys.as_chunks::<KEYS_PER_STEP>();
    let has_key = |step: &[u32; KEYS_PER_STEP]| {
        step.iter().fold(false, |found, &candidate| found | (candidate == key))
    };
    let from = steps.iter().position(has_key).unwrap_or(steps.len()) * KEYS_PER_STEP;
    let within = keys[from..].iter().position(|&candidate| candidate == key)?;
    Some(from + within)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
