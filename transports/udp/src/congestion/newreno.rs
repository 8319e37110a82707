//! NewReno as RFC 9002 appendix B has it: a datagram more each round trip, half of the window on a
//! loss. Knows nothing of rates.
//!
//! Invariant: what was acknowledged toward the next datagram is less than the window.

use super::window::Window;
use super::{AckEnd, AckedPacket, Lost, Stamp};
use crate::time::Micros;

/// The controller of one path.
#[derive(Clone, Debug)]
pub(super) struct NewReno {
    window: Window,
    /// Bytes acknowledged toward the next datagram.
    acked: u64,
}

impl NewReno {
    pub(super) fn new(datagram: u64, now: Micros) -> NewReno {
        NewReno { window: Window::new(datagram, now), acked: 0 }
    }

    pub(super) fn on_sent(&mut self, _now: Micros, bytes: u32, in_flight_before: u64) -> Stamp {
        self.window.on_sent(bytes, in_flight_before);
        Stamp::default()
    }

    pub(super) fn on_acked(&mut self, _now: Micros, packet: &AckedPacket) {
        self.acked += self.window.on_acked(packet);
        if self.acked >= self.window.bytes {
            self.acked -= self.window.bytes;
            self.window.bytes = self.window.bytes.saturating_add(self.window.datagram);
        }
    }

    pub(super) fn on_ack_end(&mut self, now: Micros, ack: &AckEnd) {
        self.window.on_ack_end(now, ack);
    }

    pub(super) fn on_lost(&mut self, now: Micros, lost: &Lost) {
        self.on_ce(now, lost.largest_lost_sent_at);
        if lost.persistent {
            self.window.collapse();
        }
    }

    pub(super) fn on_ce(&mut self, now: Micros, sent_at: Micros) {
        if self.window.begin_recovery(now, sent_at) {
            self.acked = 0;
            self.window.shrink_to(self.window.bytes / 2);
        }
    }

    pub(super) fn on_app_limited(&mut self, _in_flight: u64) {}

    pub(super) fn on_datagram_bytes(&mut self, bytes: u64) {
        self.window.on_datagram_bytes(bytes);
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window.bytes
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        self.window.pacing_rate()
    }
}
