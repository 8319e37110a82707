//! What NewReno and CUBIC have in common: slow start, the recovery that answers a loss once, and the
//! rule that a window which is not used does not grow (RFC 9002 section 7). Knows not how a window
//! grows after slow start.
//!
//! Invariant: the window is never below the least of RFC 9002.

use super::hystart::HyStart;
use super::{AckEnd, AckedPacket, WINDOW_DATAGRAMS_INITIAL, WINDOW_DATAGRAMS_MIN, scaled};
use crate::time::Micros;

/// Datagrams by which a flight may fall short of its window, at least, and still use it.
const SLACK_DATAGRAMS: u64 = 3;

/// A window and what decides whether it may grow.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) datagram: u64,
    pub(super) bytes: u64,
    /// Slow start ends here; also when [`HyStart`] says so.
    threshold: u64,
    hystart: HyStart,
    /// Packets sent until then are answered for: neither their loss nor their arrival counts.
    recovery_until: Option<Micros>,
    /// The round ends when a packet sent from here on is acknowledged.
    round_from: Micros,
    /// The most that was under way in this round and in the one before.
    flight_this: u64,
    flight_last: u64,
    rtt_smoothed: u64,
}

impl Window {
    pub(super) fn new(datagram: u64, now: Micros) -> Window {
        Window {
            datagram,
            bytes: datagram * WINDOW_DATAGRAMS_INITIAL,
            threshold: u64::MAX,
            hystart: HyStart::new(),
            recovery_until: None,
            round_from: now,
            flight_this: 0,
            flight_last: 0,
            rtt_smoothed: 0,
        }
    }

    pub(super) fn on_sent(&mut self, bytes: u32, in_flight_before: u64) {
        self.flight_this = self.flight_this.max(in_flight_before.saturating_add(u64::from(bytes)));
    }

    /// Grows in slow start. Returns the bytes for which the window should grow after it: 0 in slow
    /// start, in recovery, and while the window is not used.
    pub(super) fn on_acked(&mut self, packet: &AckedPacket) -> u64 {
        if self.recovery_until.is_some_and(|until| packet.sent_at <= until) || !self.is_used() {
            return 0;
        }
        let bytes = u64::from(packet.bytes);
        if !self.in_slow_start() {
            return bytes;
        }
        self.bytes = self.bytes.saturating_add(self.hystart.growth(bytes));
        0
    }

    pub(super) fn on_ack_end(&mut self, now: Micros, ack: &AckEnd) {
        self.rtt_smoothed = ack.rtt_smoothed;
        if !self.in_slow_start() {
            self.end_round(now, ack.largest_acked_sent_at);
            return;
        }
        if let Some(rtt) = ack.rtt_latest {
            self.hystart.on_rtt(rtt);
        }
        if self.end_round(now, ack.largest_acked_sent_at) {
            self.hystart.on_round();
        }
        if self.hystart.is_done() {
            self.threshold = self.bytes;
        }
    }

    /// Whether a new round begins.
    fn end_round(&mut self, now: Micros, acked_sent_at: Micros) -> bool {
        if acked_sent_at < self.round_from {
            return false;
        }
        self.round_from = now;
        self.flight_last = self.flight_this;
        self.flight_this = 0;
        true
    }

    /// Whether a congestion event of a packet sent then is one that has not been answered; recovery
    /// begins if so. The caller then says to what the window shrinks.
    pub(super) fn begin_recovery(&mut self, now: Micros, sent_at: Micros) -> bool {
        if self.recovery_until.is_some_and(|until| sent_at <= until) {
            return false;
        }
        self.recovery_until = Some(now);
        true
    }

    /// The window and the end of slow start, after a congestion event.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        self.bytes = bytes.max(self.least());
        self.threshold = self.bytes;
    }

    /// The path was gone (RFC 9002 section 7.6.2): slow start from the least window.
    pub(super) fn collapse(&mut self) {
        self.bytes = self.least();
        self.recovery_until = None;
        self.hystart = HyStart::new();
    }

    /// A datagram carries so much from now on; whether that is something else than before.
    pub(super) fn on_datagram_bytes(&mut self, bytes: u64) -> bool {
        let before = core::mem::replace(&mut self.datagram, bytes);
        self.bytes = self.bytes.max(self.least());
        bytes != before
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.bytes < self.threshold
    }

    /// Whether as much was under way lately as the window asks for. In slow start the window may be
    /// twice that, for it doubles while what fills it is still under way.
    pub(super) fn is_used(&self) -> bool {
        let flight = self.flight_this.max(self.flight_last);
        if self.in_slow_start() {
            return self.bytes < flight.saturating_mul(2);
        }
        let slack = (self.bytes / 8).max(self.datagram * SLACK_DATAGRAMS);
        flight.saturating_add(slack) >= self.bytes
    }

    /// A window each round trip and a quarter more, or twice that in slow start, so that pacing
    /// never is what limits it (RFC 9002 section 7.7). Before any round trip is known, the window in
    /// a millisecond.
    pub(super) fn pacing_rate(&self) -> u64 {
        let quarters = if self.in_slow_start() { 8 } else { 5 };
        let rtt = if self.rtt_smoothed == 0 { 1_000 } else { self.rtt_smoothed };
        scaled(self.bytes, 250_000 * quarters, rtt)
    }

    pub(super) fn rtt_smoothed(&self) -> u64 {
        self.rtt_smoothed
    }

    fn least(&self) -> u64 {
        self.datagram * WINDOW_DATAGRAMS_MIN
    }
}
