//! What BBR believes of a path: how fast it is, how long, how much it holds, how its acknowledgements
//! bunch. Measures only; what follows from it for the sender is the parent's.
//!
//! Invariant: the bounds are at most what was seen plus what probing added, and short-term bounds go
//! with the next probe, so no accident lasts.

use super::super::rate::Sample;
use super::super::scaled;
use super::excessive;
use crate::time::Micros;

/// No bound, or nothing seen.
pub(in super::super) const NONE: u64 = u64::MAX;

/// How long the smallest round trip holds, and how long until it is looked for (draft section 2.5).
const RTT_HOLDS_MICROS: u64 = 10_000_000;
const RTT_PROBE_MICROS: u64 = 5_000_000;

/// How many rounds half of the filter of bunched acknowledgements spans.
const BUNCH_ROUNDS: u8 = 5;
/// A bunch is at most what arrives in that time: more is a path that stood still.
const BUNCH_MICROS_MAX: u64 = 100_000;

/// A round trip longer than the smallest by less than that and a quarter is jitter, not a queue.
const QUEUED_MICROS: u64 = 2_000;

/// A path may lose so many of ten thousand packets by itself, until it has shown over so many packets
/// that it loses more even when nobody sends too much; at most so many. What it showed long ago fades.
const USUAL_LOSS: u64 = 100;
const USUAL_LOSS_MAX: u64 = 1_000;
const USUAL_PACKETS: u64 = 200;
const USUAL_PACKETS_MAX: u64 = 20_000;

/// What a short-term bound keeps of what it was, in tenths.
const BETA_TENTHS: u64 = 7;

/// A rate below half of the model's, with a queue standing, is the path's own after so many rounds.
const SLOW_ROUNDS: u8 = 3;

/// What an acknowledgement meant for the round that it falls into.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// It begins a new one.
    pub(super) began: bool,
    /// More was lost in it than a path may lose by itself.
    pub(super) excess: bool,
    /// It has just become that.
    pub(super) excess_began: bool,
    /// A packet of it was marked (RFC 3168).
    pub(super) marked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The highest rates of the last probing cycle and of this.
    rates: [u64; 2],
    /// Short-term bounds, of the rate and of what is under way.
    rate_low: u64,
    flight_low: u64,
    /// Long-term bound of what is under way.
    pub(super) flight_high: u64,
    rtt_min: u64,
    rtt_min_at: Micros,
    rtt_probe: u64,
    rtt_probe_at: Micros,
    /// Bytes that came in a bunch beyond the rate: the most of the last rounds and of these.
    bunches: [u64; 2],
    bunch_rounds: u8,
    bunch_from: Micros,
    bunch_bytes: u64,
    round_end: u64,
    round_flight: u64,
    round_acked: u64,
    round_lost: u64,
    round_marked: bool,
    round_excess: bool,
    /// Of this round: the highest rate, the most delivered in a span, the smallest round trip.
    rate_latest: u64,
    flight_latest: u64,
    rtt_latest: u64,
    /// The last round did not once find the queue empty, or nearly so.
    pub(super) is_queued: bool,
    /// Rounds with neither a queue nor much loss, one after the other.
    pub(super) calm_rounds: u8,
    slow_rounds: u8,
    slow_best: u64,
    /// Packets of rounds without a queue or a probe, and how many of them were lost.
    usual_all: u64,
    usual_lost: u64,
}

impl Path {
    pub(super) fn new(now: Micros) -> Path {
        Path {
            rates: [0; 2],
            rate_low: NONE,
            flight_low: NONE,
            flight_high: NONE,
            rtt_min: NONE,
            rtt_min_at: now,
            rtt_probe: NONE,
            rtt_probe_at: now,
            bunches: [0; 2],
            bunch_rounds: 0,
            bunch_from: now,
            bunch_bytes: 0,
            round_end: 0,
            round_flight: 0,
            round_acked: 0,
            round_lost: 0,
            round_marked: false,
            round_excess: false,
            rate_latest: 0,
            flight_latest: 0,
            rtt_latest: NONE,
            is_queued: false,
            calm_rounds: 0,
            slow_rounds: 0,
            slow_best: 0,
            usual_all: 0,
            usual_lost: 0,
        }
    }

    /// The highest rate seen lately, in bytes per second; 0 before any.
    pub(super) fn rate_max(&self) -> u64 {
        self.rates[0].max(self.rates[1])
    }

    /// The rate to send at.
    pub(super) fn rate(&self) -> u64 {
        self.rate_max().min(self.rate_low)
    }

    /// The smallest round trip, in microseconds; [`NONE`] before any.
    pub(super) fn rtt_min(&self) -> u64 {
        self.rtt_min
    }

    pub(super) fn flight_low(&self) -> u64 {
        self.flight_low
    }

    /// What fills a path of that rate, in bytes.
    pub(super) fn filled_at(&self, rate: u64) -> u64 {
        if self.rtt_min == NONE { 0 } else { scaled(rate, self.rtt_min, 1_000_000) }
    }

    /// Allowance for acknowledgements that come in bunches, in bytes.
    pub(super) fn bunch(&self) -> u64 {
        let most = scaled(self.rate(), BUNCH_MICROS_MAX, 1_000_000);
        self.bunches[0].max(self.bunches[1]).min(most)
    }

    pub(super) fn rate_latest(&self) -> u64 {
        self.rate_latest
    }

    pub(super) fn flight_latest(&self) -> u64 {
        self.flight_latest
    }

    pub(super) fn round_lost(&self) -> u64 {
        self.round_lost
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.round_lost = self.round_lost.saturating_add(bytes);
    }

    pub(super) fn on_marked(&mut self) {
        self.round_marked = true;
    }

    /// Takes a sample in, and says what it means for its round; the counts of a round that has ended
    /// are there until [`Path::begin_round`].
    pub(super) fn on_sample(&mut self, sample: &Sample, rtt: Option<u64>, datagram: u64) -> Round {
        self.round_acked = self.round_acked.saturating_add(sample.acked);
        self.rate_latest = self.rate_latest.max(sample.rate);
        self.flight_latest = self.flight_latest.max(sample.delivered);
        self.rtt_latest = self.rtt_latest.min(rtt.unwrap_or(NONE));
        if !sample.app_limited || sample.rate >= self.rate_max() {
            self.rates[1] = self.rates[1].max(sample.rate);
        }
        // All of the round, although it is not over: what is lost of it will not become less.
        let all = self.round_flight.max(self.round_acked.saturating_add(self.round_lost));
        let excess = self.round_marked || excessive(self.round_lost, all, datagram, self.usual());
        let excess_began = excess && !self.round_excess;
        self.round_excess = excess;
        Round {
            began: sample.prior >= self.round_end,
            excess,
            excess_began,
            marked: self.round_marked,
        }
    }

    /// What the path loses by itself, of ten thousand.
    pub(super) fn usual(&self) -> u64 {
        if self.usual_all < USUAL_PACKETS {
            return USUAL_LOSS;
        }
        scaled(self.usual_lost, 10_000, self.usual_all).clamp(USUAL_LOSS, USUAL_LOSS_MAX)
    }

    /// At the end of a round in which nothing was probed: if there was no queue either, its loss is
    /// not for sending too much.
    pub(super) fn learn_usual(&mut self, datagram: u64) {
        if self.rtt_latest == NONE || self.rtt_latest > self.queued_from() {
            return;
        }
        let all = self.round_acked.saturating_add(self.round_lost) / datagram;
        self.usual_all = self.usual_all.saturating_add(all);
        self.usual_lost = self.usual_lost.saturating_add(self.round_lost / datagram);
        if self.usual_all > USUAL_PACKETS_MAX {
            self.usual_all /= 2;
            self.usual_lost /= 2;
        }
    }

    /// A round trip above this had a queue.
    fn queued_from(&self) -> u64 {
        self.rtt_min.saturating_add(self.rtt_min / 4).saturating_add(QUEUED_MICROS)
    }

    /// A new round: counts begin at 0. `delivered` is the total so far, `in_flight` what is under way.
    pub(super) fn begin_round(&mut self, delivered: u64, in_flight: u64) {
        self.round_end = delivered;
        self.round_flight = in_flight;
        self.round_acked = 0;
        self.round_lost = 0;
        self.round_marked = false;
        self.rate_latest = 0;
        self.flight_latest = 0;
        self.is_queued = self.rtt_latest != NONE && self.rtt_latest > self.queued_from();
        let calm = !self.is_queued && !self.round_excess && self.rtt_latest != NONE;
        self.calm_rounds = if calm { self.calm_rounds.saturating_add(1) } else { 0 };
        self.round_excess = false;
        self.rtt_latest = NONE;
        self.bunch_rounds += 1;
        if self.bunch_rounds >= BUNCH_ROUNDS {
            self.bunch_rounds = 0;
            self.bunches = [self.bunches[1], 0];
        }
    }

    /// A cycle of probing is over: the oldest rates are forgotten.
    pub(super) fn end_cycle(&mut self) {
        if self.rates[1] != 0 {
            self.rates = [self.rates[1], 0];
        }
    }

    /// A round lost too much while nothing was being probed: what arrived is what there is for now.
    pub(super) fn lower(&mut self, window: u64) {
        self.calm_rounds = 0;
        let rate = if self.rate_low == NONE { self.rate_max() } else { self.rate_low };
        self.rate_low = self.rate_latest.max(scaled(rate, BETA_TENTHS, 10)).max(1);
        let flight = if self.flight_low == NONE { window } else { self.flight_low };
        self.flight_low = self.flight_latest.max(scaled(flight, BETA_TENTHS, 10));
    }

    /// A short-term bound holds.
    pub(super) fn is_lowered(&self) -> bool {
        self.rate_low != NONE
    }

    /// Short-term bounds go.
    pub(super) fn forget_low(&mut self) {
        self.rate_low = NONE;
        self.flight_low = NONE;
    }

    /// At the end of a round that filled the path: whether the path has become much slower, which
    /// is then what the model says. Without this the old rate would keep a queue for two cycles.
    pub(super) fn adopt_slower(&mut self) -> bool {
        let queued = self.rtt_latest != NONE && self.rtt_latest / 3 > self.rtt_min / 2;
        if !queued || self.rate_latest >= self.rate_max() / 2 {
            self.slow_rounds = 0;
            self.slow_best = 0;
            return false;
        }
        self.slow_rounds += 1;
        self.slow_best = self.slow_best.max(self.rate_latest);
        if self.slow_rounds < SLOW_ROUNDS || self.slow_best == 0 {
            return false;
        }
        self.rates = [self.slow_best; 2];
        self.bunches = [0; 2];
        self.forget_low();
        self.slow_rounds = 0;
        self.slow_best = 0;
        true
    }

    /// Bytes beyond those that the rate explains, in the bunch that goes on.
    pub(super) fn on_bunch(&mut self, now: Micros, acked: u64, window: u64) {
        let mut expected = scaled(self.rate_max(), now.since(self.bunch_from), 1_000_000);
        if self.bunch_bytes <= expected {
            self.bunch_bytes = 0;
            self.bunch_from = now;
            expected = 0;
        }
        self.bunch_bytes = self.bunch_bytes.saturating_add(acked);
        let extra = self.bunch_bytes.saturating_sub(expected).min(window);
        self.bunches[1] = self.bunches[1].max(extra);
    }

    /// A round trip was measured. Returns whether it is time to look for a smaller one: the smallest
    /// was not seen again for long.
    pub(super) fn on_rtt(&mut self, now: Micros, rtt: Option<u64>) -> bool {
        let Some(rtt) = rtt.map(|rtt| rtt.max(1)) else {
            return false;
        };
        let due = now.since(self.rtt_probe_at) > RTT_PROBE_MICROS;
        if rtt <= self.rtt_probe || due {
            self.rtt_probe = rtt;
            self.rtt_probe_at = now;
        }
        if self.rtt_probe <= self.rtt_min || now.since(self.rtt_min_at) > RTT_HOLDS_MICROS {
            self.rtt_min = self.rtt_probe;
            self.rtt_min_at = self.rtt_probe_at;
        }
        due
    }

    /// The smallest round trip was looked for until now.
    pub(super) fn rtt_was_probed(&mut self, now: Micros) {
        self.rtt_probe_at = now;
    }
}
