//! How fast bytes arrive at the other end: each acknowledgement is a sample, from the packet's sending
//! to its acknowledgement (draft-cheng-iccrg-delivery-rate-estimation). Knows no window.
//!
//! Invariant: a sample is never higher than the bytes were sent and never higher than they were
//! acknowledged, so bunched acknowledgements do not look like a fast path.

use super::{AckedPacket, Stamp};
use crate::time::Micros;

/// The most a stamp says of bytes under way.
const FLIGHT_MAX: u64 = (1 << 31) - 1;

/// What one acknowledgement tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes per second; 0 if the span was too short to tell.
    pub(super) rate: u64,
    /// Bytes that were delivered in the span.
    pub(super) delivered: u64,
    /// Bytes that had been delivered when its newest packet was sent.
    pub(super) prior: u64,
    /// Bytes under way when that was sent, it included.
    pub(super) flight: u64,
    /// Bytes the acknowledgement adds.
    pub(super) acked: u64,
    /// The sender had too little to send, so the path may be faster.
    pub(super) app_limited: bool,
}

/// What is delivered so far, and the sample that is being taken.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    delivered: u64,
    delivered_at: Micros,
    first_sent_at: Micros,
    /// Samples are app-limited until so many bytes are delivered; 0: they are not.
    app_limited_until: u64,
    /// What this acknowledgement has brought so far.
    acked: u64,
    newest: Option<AckedPacket>,
}

impl Rate {
    pub(super) fn new(now: Micros) -> Rate {
        Rate {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            acked: 0,
            newest: None,
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn on_sent(&mut self, now: Micros, bytes: u32, in_flight_before: u64) -> Stamp {
        if in_flight_before == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        let flight = in_flight_before.saturating_add(u64::from(bytes)).min(FLIGHT_MAX);
        // The low halves: see `Stamp`.
        Stamp {
            delivered: self.delivered as u32,
            delivered_at: self.delivered_at.0 as u32,
            first_sent_at: self.first_sent_at.0 as u32,
            flight: (flight as u32) << 1 | u32::from(self.app_limited_until > 0),
        }
    }

    pub(super) fn on_acked(&mut self, now: Micros, packet: &AckedPacket) {
        self.delivered += u64::from(packet.bytes);
        self.delivered_at = now;
        self.acked += u64::from(packet.bytes);
        if self.newest.is_none_or(|newest| packet.sent_at >= newest.sent_at) {
            self.newest = Some(*packet);
        }
    }

    /// The sample of the acknowledgement that ends here; `None` if it brought nothing. One over less
    /// than the path's round trip would only show how acknowledgements bunch.
    pub(super) fn take(&mut self, now: Micros, rtt_min: u64) -> Option<Sample> {
        let newest = self.newest.take()?;
        let stamp = newest.stamp;
        let sent_at = newest.sent_at.0 as u32;
        let sending = sent_at.wrapping_sub(stamp.first_sent_at);
        let arriving = (now.0 as u32).wrapping_sub(stamp.delivered_at);
        let span = u64::from(sending.max(arriving));
        let delivered = u64::from((self.delivered as u32).wrapping_sub(stamp.delivered));
        let rate = if span < rtt_min.max(1) { 0 } else { delivered * 1_000_000 / span };
        self.first_sent_at = self.first_sent_at.max(newest.sent_at);
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        Some(Sample {
            rate,
            delivered,
            prior: self.delivered.saturating_sub(delivered),
            flight: u64::from(stamp.flight >> 1),
            acked: core::mem::take(&mut self.acked),
            app_limited: stamp.flight & 1 != 0,
        })
    }

    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = self.delivered.saturating_add(in_flight).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u32 = 1_000;

    fn send(rate: &mut Rate, now: u64, before: u64) -> AckedPacket {
        let stamp = rate.on_sent(Micros(now), BYTES, before);
        AckedPacket { bytes: BYTES, sent_at: Micros(now), stamp }
    }

    /// A packet each millisecond, a round trip of 10: a megabyte a second.
    fn steady(start: u64, per_ack: usize) -> Sample {
        let mut rate = Rate::new(Micros(start));
        let mut sent = std::vec::Vec::new();
        let (mut acked, mut last) = (0, None);
        for milli in 0..100u64 {
            let now = start + milli * 1_000;
            if milli >= 10 && (milli as usize - 9).is_multiple_of(per_ack) {
                for packet in &sent[acked..=milli as usize - 10] {
                    rate.on_acked(Micros(now), packet);
                }
                acked = milli as usize - 9;
                last = rate.take(Micros(now), 10_000);
            }
            let before = (sent.len() - acked) as u64 * u64::from(BYTES);
            sent.push(send(&mut rate, now, before));
        }
        last.unwrap()
    }

    #[test]
    fn a_steady_stream_is_its_own_rate_also_where_the_counters_wrap() {
        for start in [0, 5_000_000, (1 << 32) - 50_000] {
            let sample = steady(start, 1);
            assert_eq!(sample.rate, 1_000_000, "from {start}");
            assert_eq!((sample.delivered, sample.flight), (10_000, 10_000));
            assert!(!sample.app_limited);
        }
    }

    #[test]
    fn bunched_acknowledgements_are_no_faster() {
        for per_ack in [2, 5, 9] {
            let rate = steady(0, per_ack).rate;
            assert!((500_000..=1_000_000).contains(&rate), "{rate} by {per_ack}");
        }
    }

    #[test]
    fn a_burst_that_is_acknowledged_at_once_tells_by_the_round_trip() {
        let mut rate = Rate::new(Micros(0));
        let packets: [_; 10] = core::array::from_fn(|i| send(&mut rate, 0, i as u64 * 1_000));
        for packet in &packets {
            rate.on_acked(Micros(20_000), packet);
        }
        let sample = rate.take(Micros(20_000), 20_000).unwrap();
        assert_eq!((sample.rate, sample.acked), (500_000, 10_000));
        assert_eq!(rate.take(Micros(20_000), 20_000), None);
    }

    #[test]
    fn what_was_sent_slowly_is_not_fast_for_coming_back_at_once() {
        let mut rate = Rate::new(Micros(0));
        let first: [_; 10] =
            core::array::from_fn(|i| send(&mut rate, i as u64 * 1_000, i as u64 * 1_000));
        rate.on_acked(Micros(30_000), &first[0]);
        rate.take(Micros(30_000), 10_000);
        let last = send(&mut rate, 30_000, 9_000);
        for packet in first[1..].iter().chain([&last]) {
            rate.on_acked(Micros(40_000), packet);
        }
        // Ten packets in the 10 ms since the first one came back, but sent over 30.
        assert_eq!(rate.take(Micros(40_000), 10_000).unwrap().rate, 333_333);
    }

    #[test]
    fn too_short_a_span_tells_nothing() {
        let mut rate = Rate::new(Micros(0));
        let packet = send(&mut rate, 0, 0);
        rate.on_acked(Micros(9_999), &packet);
        assert_eq!(rate.take(Micros(9_999), 10_000).unwrap().rate, 0);
    }

    #[test]
    fn too_little_to_send_marks_what_was_under_way_and_no_more() {
        let mut rate = Rate::new(Micros(0));
        let first = send(&mut rate, 0, 0);
        rate.on_app_limited(1_000);
        let second = send(&mut rate, 1_000, 1_000);
        let ack = |rate: &mut Rate, now, packet: &AckedPacket| {
            rate.on_acked(Micros(now), packet);
            rate.take(Micros(now), 1).unwrap().app_limited
        };
        assert!(!ack(&mut rate, 10_000, &first));
        assert!(ack(&mut rate, 11_000, &second));
        let third = send(&mut rate, 12_000, 0);
        assert!(!ack(&mut rate, 22_000, &third));
    }
}
