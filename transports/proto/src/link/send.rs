//! How a link sends: what is owed first, then what sides have put into the packet that is being put
//! together. A part of `link.rs`, whose invariants are kept here.

use super::{Link, STARVED_MILLIS};
use crate::carrier::{Carrier, Order, WINDOW_BYTES_MIN};
use crate::link::Outgoing;
use seaprox::fail::FailReason;
use seaprox::sys::Errno;

impl<C: Carrier> Link<'_, C> {
    /// Sends what was put together and what is owed.
    pub(super) fn flush(&mut self) {
        if self.carrier.is_none() {
            // What is owed on a link that died must not be the start of the next one's packet.
            return;
        }
        while !self.outgoing.blocked && self.dead.is_none() {
            let Some(stream) = self.session.owes() else { break };
            if !self.make_room(stream, 1) {
                break;
            }
            let before = self.outgoing.filled;
            self.outgoing.stream = stream;
            let out = &mut self.outgoing.packet[before..self.outgoing.limit];
            self.outgoing.filled += self.session.emit_control(out, Some(stream));
            if self.outgoing.filled == before && !self.send() {
                break;
            }
        }
        self.send();
    }

    /// Makes sure that so many bytes can be added for a stream; `false`: the carrier takes nothing.
    pub(super) fn make_room(&mut self, stream: u16, bytes: usize) -> bool {
        if self.outgoing.blocked {
            return false;
        }
        loop {
            let other = self.bounds.order == Order::Streams && self.outgoing.stream != stream;
            let is_full = self.outgoing.limit - self.outgoing.filled < bytes;
            if self.outgoing.filled > 0 && (other || is_full) && !self.send() {
                return false;
            }
            if !self.begin() {
                return false;
            }
            // What is owed may have filled it; there is less of that each time.
            let is_full = self.outgoing.limit - self.outgoing.filled < bytes;
            if self.outgoing.filled == 0 || !is_full {
                return true;
            }
        }
    }

    /// Begins a packet if none is begun, with what is owed: were it to wait for the end of the turn, a
    /// carrier that takes little would be full of bytes by then, turn after turn, and the other
    /// direction would stand still for want of credit. `false`: the carrier takes nothing.
    pub(super) fn begin(&mut self) -> bool {
        let Some(carrier) = &mut self.carrier else { return false };
        if self.outgoing.filled == 0 {
            let window = carrier.window();
            // The last word of a link does not wait for the network.
            if window < WINDOW_BYTES_MIN && !self.session.is_ending() {
                self.outgoing.blocked = true;
                return false;
            }
            self.outgoing.limit = window.max(WINDOW_BYTES_MIN).min(self.bounds.sent_bytes_max);
            // A stream's packets are its own.
            if self.bounds.order != Order::Streams && self.session.owes().is_some() {
                let out = &mut self.outgoing.packet[..self.outgoing.limit];
                self.outgoing.filled = self.session.emit_control(out, None);
                self.outgoing.stream = 0;
            }
        }
        true
    }

    /// Sends the packet; `false`: the carrier does not take it now.
    pub(super) fn send(&mut self) -> bool {
        let Outgoing { packet, filled, stream, blocked, .. } = &mut self.outgoing;
        let Some(carrier) = &mut self.carrier else { return false };
        if *filled == 0 || *blocked {
            return !*blocked;
        }
        match carrier.send(*stream, &packet[..*filled]) {
            Ok(()) => {
                *filled = 0;
                true
            }
            Err(Errno::AGAIN) => {
                *blocked = true;
                false
            }
            Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {
                *blocked = true;
                self.starved_until = Some(self.now.after(STARVED_MILLIS));
                false
            }
            Err(_) => {
                *blocked = true;
                self.dead = Some(FailReason::LinkDown);
                false
            }
        }
    }
}
