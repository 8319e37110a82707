//! A simulated pipe: bytes in a limited number of slots, as the kernel counts them. Knows no
//! socket.

use super::socket::front;
use crate::sys::{Errno, SysResult};
use std::collections::VecDeque;

/// The size of a page, which is what a slot holds when bytes are written.
pub(super) const PAGE: usize = 4096;

/// One slot: how much is in it, and whether a write may add to it (spliced pages are not ours to
/// write to).
#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: usize,
    written: bool,
}

/// Invariant: `slots.len() <= slots_max`, and the slots' bytes sum up to `bytes.len()`.
#[derive(Debug)]
pub(super) struct Pipe {
    slots: VecDeque<Slot>,
    bytes: VecDeque<u8>,
    slots_max: usize,
    /// How many of the two ends are open.
    pub(super) ends: u8,
}

impl Pipe {
    pub(super) fn new(slots_max: usize) -> Pipe {
        Pipe { slots: VecDeque::new(), bytes: VecDeque::new(), slots_max, ends: 2 }
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots_max * PAGE
    }

    pub(super) fn slots_free(&self) -> usize {
        self.slots_max - self.slots.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Fills one slot with what a splice brings: as much as its page fragment has, so that slots
    /// run out with hardly a byte in them, and a pipe can hold more than its capacity says.
    pub(super) fn fill_slot(&mut self, halves: (&[u8], &[u8])) {
        assert!(self.slots_free() > 0, "a splice into a full pipe");
        self.slots.push_back(Slot { bytes: halves.0.len() + halves.1.len(), written: false });
        self.bytes.extend(halves.0);
        self.bytes.extend(halves.1);
    }

    /// write(2), non-blocking: up to a page all or nothing, beyond that what fits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> SysResult<usize> {
        let mut taken = 0;
        // A write adds its last part page to the page written before, if it fits there whole.
        let part = bytes.len() % PAGE;
        if let Some(last) = self.slots.back_mut()
            && part > 0
            && last.written
            && last.bytes + part <= PAGE
        {
            last.bytes += part;
            taken = part;
        }
        while taken < bytes.len() && self.slots_free() > 0 {
            let page = (bytes.len() - taken).min(PAGE);
            self.slots.push_back(Slot { bytes: page, written: true });
            taken += page;
        }
        self.bytes.extend(&bytes[..taken]);
        if taken == 0 && !bytes.is_empty() { Err(Errno::AGAIN) } else { Ok(taken) }
    }

    /// The first `bytes` ones, in the two halves of the ring.
    pub(super) fn unread(&self, bytes: usize) -> (&[u8], &[u8]) {
        front(&self.bytes, bytes)
    }

    /// Takes `bytes` off; a slot is free once its last byte is gone.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        let mut left = bytes;
        while left > 0 {
            let slot = &mut self.slots[0];
            let part = slot.bytes.min(left);
            slot.bytes -= part;
            left -= part;
            if slot.bytes == 0 {
                self.slots.pop_front();
            }
        }
    }
}
