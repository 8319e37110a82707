//! A transport that lends: channels whose far ends are the sockets of the kernel in memory, so that
//! what arrives and what there is room for is at the same whim, and every byte is checked by the
//! same hand. It lends pieces of any length, and says that there is nothing, or no room, at any time;
//! then an event follows, as the contract has it.

use super::kernel::{Kernel, Last};
use crate::fail::FailReason;
use crate::side::Handle;
use crate::sys::{RawFd, Ready};
use crate::transport::{Desk, Event, Lent, Room, Transport};
use std::vec::Vec;

/// Why a channel is reset.
pub(super) const REASON: FailReason = FailReason::Denied;

/// What is lent at most, at a time.
pub(super) const LENT_BYTES_MAX: usize = 32 * 1024;

pub(super) struct Lender<'k> {
    kernel: &'k Kernel,
    bytes: Vec<u8>,
    room: Vec<u8>,
    /// Which channel's bytes are lent, and how many; whose room.
    lent: Option<(usize, usize)>,
    roomy: Option<(usize, usize)>,
}

impl<'k> Lender<'k> {
    pub(super) fn new(kernel: &'k Kernel) -> Self {
        Lender { kernel, bytes: Vec::new(), room: Vec::new(), lent: None, roomy: None }
    }
}

/// The channel whose far end is this socket.
pub(super) fn channel_of(socket: usize) -> Handle {
    Handle::channel(socket as u32)
}

fn socket_of(channel: Handle) -> usize {
    assert_eq!(channel.fd(), None);
    channel.number() as usize
}

impl<'k> Transport<&'k Kernel> for Lender<'k> {
    const PROMPT: bool = true;
    const LENDS: bool = true;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, &'k Kernel>) -> Option<Event> {
        None
    }

    fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        let state = &mut *self.kernel.0.borrow_mut();
        let n = socket_of(channel);
        self.lent = None;
        if state.whims.once_in(16) {
            state.sockets[n].read_event = true;
            return Lent::Drained;
        }
        let there = state.sockets[n].unread();
        if there == 0 {
            return match (state.sockets[n].over, state.sockets[n].last) {
                (false, _) => Lent::Drained,
                (true, Last::Fin) => Lent::Ended,
                (true, Last::Reset) => Lent::Reset(REASON),
            };
        }
        let most = state.whims.amount(there.min(LENT_BYTES_MAX));
        self.bytes.clear();
        self.bytes.extend_from_slice(state.pattern(n, state.sockets[n].read, most));
        self.lent = Some((n, most));
        Lent::Bytes(&self.bytes)
    }

    fn consume(&mut self, channel: Handle, bytes: usize) {
        let state = &mut *self.kernel.0.borrow_mut();
        let n = socket_of(channel);
        let (of, most) = self.lent.take().expect("bytes that were lent");
        assert!(of == n && (1..=most).contains(&bytes), "{bytes} of {most} that were lent");
        state.sockets[n].read += bytes;
        state.let_peers_act();
    }

    fn room(&mut self, channel: Handle) -> Room<'_> {
        let state = &mut *self.kernel.0.borrow_mut();
        let n = socket_of(channel);
        self.roomy = None;
        if state.sockets[n].is_reset() {
            return Room::Broken;
        }
        if state.whims.once_in(16) {
            state.sockets[n].write_event = true;
            return Room::Full;
        }
        let Ok(there) = state.sockets[n].writable() else { return Room::Full };
        let most = state.whims.amount(there.min(LENT_BYTES_MAX));
        // What is put there and not committed must never be seen.
        self.room.clear();
        self.room.resize(most, 0xee);
        self.roomy = Some((n, most));
        Room::Bytes(&mut self.room)
    }

    fn commit(&mut self, channel: Handle, bytes: usize) {
        let state = &mut *self.kernel.0.borrow_mut();
        let n = socket_of(channel);
        let (of, most) = self.roomy.take().expect("room that was lent");
        assert!(of == n && (1..=most).contains(&bytes), "{bytes} where there was room for {most}");
        state.take_in(n, &self.room[..bytes]);
        state.let_peers_act();
    }
}

/// Whoever has descriptors: it lends nothing.
pub(super) struct Descriptors;

impl<'k> Transport<&'k Kernel> for Descriptors {
    const PROMPT: bool = false;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, &'k Kernel>) -> Option<Event> {
        None
    }
}
