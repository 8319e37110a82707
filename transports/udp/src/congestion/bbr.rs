//! BBR, after version 3 (draft-ietf-ccwg-bbr): keeps as much under way as fills the path, at the rate
//! at which it was seen to arrive, and from time to time looks for more. Loss below a threshold is the
//! path's own and changes nothing. What is known of the path is `path.rs`; here is what follows.
//!
//! Where this differs from the draft: a round is judged by how likely its loss is on a path that loses
//! so much by itself (1 %, or what it has shown to lose while there was neither a queue nor a probe),
//! as one packet of thirty is no sign of a queue; a queue that stands is drained in Cruise too, and
//! the window is smaller there; a rate that has fallen by half is believed after three rounds; a
//! short-term cut ends once rounds are calm; probes come each 1.25 to 2 s; the window never exceeds two
//! fillings of the path and what bunching asks for, or what goes in 2 ms.
//!
//! Invariants: every phase but Cruise has an end that does not depend on loss; the window is at least
//! four datagrams, except after the path was gone.

use super::rate::{Rate, Sample};
use super::{AckEnd, AckedPacket, Lost, Stamp, WINDOW_DATAGRAMS_INITIAL, scaled};
use crate::time::Micros;
use path::{NONE, Path, Round};

mod path;

/// Datagrams that may always be under way: what keeps acknowledgements coming.
const WINDOW_DATAGRAMS: u64 = 4;

/// The window holds at least what goes in that time: timers fire at milliseconds, so a path shorter
/// than that would stand still between them.
const WINDOW_MICROS: u64 = 2_000;

/// On a path this short, whose round trip is threads waiting for their turn, the window is at least a
/// few sends.
const SHORT_MICROS: u64 = 1_000;
const SHORT_WINDOW_BYTES: u64 = 4 * 64 * 1024;

/// How much slower than the path it sends, in hundredths, so that queues drain.
const MARGIN: u64 = 1;

/// A rate that grows by less, in hundredths, for so many rounds has reached its plateau.
const PLATEAU_GROWTH: u64 = 125;
const PLATEAU_ROUNDS: u8 = 3;

/// What a bound that was too high keeps, in hundredths, and what is left below one for others.
const BETA: u64 = 70;
const HEADROOM: u64 = 85;

/// Startup ends by loss only if that much was lost in a round, in datagrams.
const STARTUP_LOSSES: u64 = 6;

/// How long between probes for bandwidth: at least, and up to so much more at random; never sooner
/// than the least, though Reno would probe after so many rounds.
const PROBE_MICROS: u64 = 1_250_000;
const PROBE_MICROS_MORE: u64 = 750_000;
const PROBE_MICROS_LEAST: u64 = 500_000;
const PROBE_ROUNDS_MAX: u64 = 63;

/// How fast the long-term bound rises: by a sixteenth in a probe's first round, then an eighth, then a
/// quarter, as the rate does.
const RISE_SHIFT: u32 = 5;

/// A round trip that rises by less than that and an eighth shows no queue.
const QUEUE_MICROS: u64 = 1_000;

/// So many rounds without a queue or much loss end the wait after a short-term cut: it was enough.
const CALM_ROUNDS: u8 = 4;

/// A probe for the smallest round trip lasts so long, at half a filling of the path.
const PROBE_RTT_MICROS: u64 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubles until the rate no longer rises.
    Startup,
    /// Lets the queue of Startup go.
    Drain,
    /// Lets the queue of Up go, and some more for others.
    Down,
    /// Keeps the rate.
    Cruise,
    /// Fills the path once more, without short-term bounds.
    Refill,
    /// Looks for more.
    Up,
    /// Looks for a shorter round trip.
    ProbeRtt,
}

impl Phase {
    /// How fast to send in it, in hundredths of the rate.
    const fn pacing(self) -> u64 {
        match self {
            Phase::Startup => 277,
            Phase::Drain => 50,
            Phase::Down => 85,
            Phase::Cruise | Phase::Refill | Phase::ProbeRtt => 100,
            Phase::Up => 125,
        }
    }

    /// How much may be under way in it, in hundredths of what fills the path.
    const fn window(self) -> u64 {
        match self {
            Phase::Down => 125,
            Phase::Cruise => 150,
            _ => 200,
        }
    }

    /// Whether what is lost in it was lost to a probe: then it says where the path ends.
    const fn probes(self) -> bool {
        matches!(self, Phase::Startup | Phase::Refill | Phase::Up)
    }
}

/// The controller of one path.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    datagram: u64,
    rate: Rate,
    path: Path,
    phase: Phase,
    /// Rounds in the phase, and since the last probe for bandwidth.
    phase_rounds: u64,
    probe_rounds: u64,
    /// When the next probe for bandwidth is due, and what that is drawn from.
    probe_wait: u64,
    probe_from: Micros,
    seed: u64,
    /// The highest rate so far and the rounds that did not raise it; at the plateau the path is known.
    plateau_rate: u64,
    plateau_rounds: u8,
    is_known: bool,
    /// Samples of the last probe are still coming.
    probe_pending: bool,
    /// How fast the long-term bound rises: bytes for each so many acknowledged.
    rise_step: u32,
    /// What was under way when Up began.
    up_flight: u64,
    /// And what the round trip was.
    up_rtt: u64,
    /// When a probe for the round trip may end, once little enough is under way.
    probe_rtt_until: Option<Micros>,
    window: u64,
    window_before: u64,
    /// The window was what limited the sender, in this round and the one before.
    filled: [bool; 2],
    pacing: u64,
    has_rtt: bool,
}

impl Bbr {
    pub(super) fn new(datagram: u64, now: Micros) -> Bbr {
        let window = datagram * WINDOW_DATAGRAMS_INITIAL;
        Bbr {
            datagram,
            rate: Rate::new(now),
            path: Path::new(now),
            phase: Phase::Startup,
            phase_rounds: 0,
            probe_rounds: 0,
            probe_wait: PROBE_MICROS,
            probe_from: now,
            seed: now.0 | 1,
            plateau_rate: 0,
            plateau_rounds: 0,
            is_known: false,
            probe_pending: false,
            rise_step: 0,
            up_flight: 0,
            up_rtt: 0,
            probe_rtt_until: None,
            window,
            window_before: window,
            filled: [false; 2],
            pacing: scaled(window, 1_000 * Phase::Startup.pacing(), 100),
            has_rtt: false,
        }
    }

    pub(super) fn on_sent(&mut self, now: Micros, bytes: u32, in_flight_before: u64) -> Stamp {
        let flight = in_flight_before.saturating_add(u64::from(bytes));
        self.filled[1] |= flight.saturating_add(self.datagram) > self.window;
        self.rate.on_sent(now, bytes, in_flight_before)
    }

    pub(super) fn on_acked(&mut self, now: Micros, packet: &AckedPacket) {
        self.rate.on_acked(now, packet);
    }

    pub(super) fn on_lost(&mut self, _now: Micros, lost: &Lost) {
        self.path.on_lost(lost.bytes);
        if lost.persistent {
            // The model stays: the path may be as it was. The window finds out, doubling.
            self.window = self.datagram * super::WINDOW_DATAGRAMS_MIN;
        }
    }

    pub(super) fn on_ce(&mut self, _now: Micros, _sent_at: Micros) {
        self.path.on_marked();
    }

    pub(super) fn on_app_limited(&mut self, in_flight: u64) {
        self.rate.on_app_limited(in_flight);
    }

    pub(super) fn on_datagram_bytes(&mut self, bytes: u64) {
        self.datagram = bytes;
        self.window = self.window.max(bytes * super::WINDOW_DATAGRAMS_MIN);
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        self.pacing
    }

    pub(super) fn on_ack_end(&mut self, now: Micros, ack: &AckEnd) {
        let floor = self.path.rtt_min().min(ack.rtt_min.max(1));
        let Some(sample) = self.rate.take(now, floor) else {
            return;
        };
        let round = self.path.on_sample(&sample, ack.rtt_latest, self.datagram);
        self.path.on_bunch(now, sample.acked, self.window);
        self.judge_loss(now, &sample, round);
        if round.began {
            self.end_round(now, &sample);
        }
        self.step(now, &sample, round, ack);
        let rtt_due = self.path.on_rtt(now, ack.rtt_latest);
        self.step_probe_rtt(now, &sample, round, ack, rtt_due);
        if round.began {
            self.path.begin_round(self.rate.delivered(), ack.in_flight);
            self.filled = [self.filled[1], false];
        }
        self.set_pacing(ack);
        self.set_window(&sample);
    }

    /// What loss means: in a probe that the path ends here, otherwise that there is less of it now.
    fn judge_loss(&mut self, now: Micros, sample: &Sample, round: Round) {
        if self.phase == Phase::Startup {
            let many = self.path.round_lost() >= self.datagram * STARTUP_LOSSES;
            // While the rate still rises, loss is no sign of the end; a mark always is.
            let ends = round.marked || (many && self.plateau_rounds > 0);
            if round.excess && ends && !self.is_known {
                self.is_known = true;
                self.path.flight_high =
                    self.path.filled_at(self.path.rate()).max(self.path.flight_latest());
            }
        } else if self.phase.probes() || self.probe_pending {
            if round.excess_began {
                self.end_probe_too_high(now, sample);
            }
        } else if round.began && round.excess && self.is_known && !self.is_after_probe() {
            self.path.lower(self.window);
        }
        if !round.excess && self.path.flight_high != NONE && sample.flight > self.path.flight_high {
            self.path.flight_high = sample.flight;
        }
    }

    /// What is lost now was sent while Up was not known to be too much.
    fn is_after_probe(&self) -> bool {
        self.phase == Phase::Drain || self.probe_rounds < 3
    }

    /// A probe was more than the path holds.
    fn end_probe_too_high(&mut self, now: Micros, sample: &Sample) {
        self.probe_pending = false;
        if !sample.app_limited {
            let target = self.path.filled_at(self.path.rate_max()).min(self.window);
            self.path.flight_high = sample.flight.max(scaled(target, BETA, 100));
        }
        if matches!(self.phase, Phase::Refill | Phase::Up) {
            self.enter_down(now);
        }
    }

    fn end_round(&mut self, now: Micros, sample: &Sample) {
        if matches!(self.phase, Phase::Down | Phase::Cruise) && !self.probe_pending {
            self.path.learn_usual(self.datagram);
        }
        self.phase_rounds += 1;
        self.probe_rounds += 1;
        if !self.phase.probes() && self.probe_rounds >= 2 {
            self.probe_pending = false;
        }
        if sample.app_limited {
            // How fast little arrives says nothing of how fast more would, nor whose the queue is.
            return;
        }
        self.find_plateau();
        if self.is_known && self.phase != Phase::ProbeRtt && self.path.adopt_slower() {
            self.enter_down(now);
        }
    }

    /// Whether the rate still rises: in Startup for the first time, in Up again.
    fn find_plateau(&mut self) {
        let latest = self.path.rate_latest();
        if latest >= scaled(self.plateau_rate, PLATEAU_GROWTH, 100) {
            self.plateau_rate = latest;
            self.plateau_rounds = 0;
        } else {
            self.plateau_rounds = self.plateau_rounds.saturating_add(1);
        }
        if self.phase == Phase::Startup && self.plateau_rounds >= PLATEAU_ROUNDS {
            self.is_known = true;
        }
    }

    /// From phase to phase; [`Phase::ProbeRtt`] apart.
    fn step(&mut self, now: Micros, sample: &Sample, round: Round, ack: &AckEnd) {
        let filling = self.path.filled_at(self.path.rate());
        match self.phase {
            Phase::Startup if self.is_known => self.enter(Phase::Drain),
            Phase::Drain if ack.in_flight <= filling => self.enter_down(now),
            Phase::Down => {
                if ack.in_flight <= filling.min(self.below_high()) {
                    self.enter(Phase::Cruise);
                }
                self.probe_if_due(now);
            }
            Phase::Cruise => self.probe_if_due(now),
            Phase::Refill if round.began && self.phase_rounds >= 1 => {
                self.up_flight = ack.in_flight;
                self.up_rtt = ack.rtt_latest.unwrap_or(self.path.rtt_min());
                self.enter_up();
            }
            Phase::Up => {
                self.raise_high(sample, round);
                if self.phase_rounds >= 1 && self.is_too_full(sample, ack) {
                    self.enter_down(now);
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_rounds = 0;
    }

    /// The end of a cycle of probing, and the wait for the next.
    fn enter_down(&mut self, now: Micros) {
        self.path.end_cycle();
        self.enter(Phase::Down);
        self.probe_rounds = 0;
        self.probe_from = now;
        // xorshift, stirred by the time: links that began together part.
        self.seed ^= now.0.rotate_left(17) | 1;
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.probe_wait = PROBE_MICROS + self.seed % PROBE_MICROS_MORE;
    }

    fn probe_if_due(&mut self, now: Micros) {
        let waited = now.since(self.probe_from);
        let datagrams = self.path.filled_at(self.path.rate_max()) / self.datagram;
        let reno = self.probe_rounds >= datagrams.min(PROBE_ROUNDS_MAX);
        let calm = self.path.is_lowered() && self.path.calm_rounds >= CALM_ROUNDS;
        let early = (calm || reno) && waited >= PROBE_MICROS_LEAST;
        if early || waited >= self.probe_wait {
            self.path.forget_low();
            self.enter(Phase::Refill);
            self.rise_step = 0;
        }
    }

    fn enter_up(&mut self) {
        self.enter(Phase::Up);
        self.probe_pending = true;
        self.plateau_rate = self.path.rate_latest();
        self.plateau_rounds = 0;
    }

    /// The long-term bound rises while it is what limits: a datagram in the first round, then two,
    /// four, eight.
    fn raise_high(&mut self, sample: &Sample, round: Round) {
        let used = self.filled[0] || self.filled[1];
        if round.began {
            self.rise_step = (self.rise_step + 1).min(20);
        }
        if self.path.flight_high == NONE || !used || self.window < self.path.flight_high {
            return;
        }
        let more = sample.acked >> RISE_SHIFT.saturating_sub(self.rise_step).max(2);
        self.path.flight_high = self.path.flight_high.saturating_add(more);
    }

    /// Whether Up has gone far enough: a quarter more is under way than fills the path, and more than
    /// there was when it began, and that shows as a queue; or the rate does not rise. What is under way
    /// alone tells nothing: until the first packet of Up comes back it must rise.
    fn is_too_full(&self, sample: &Sample, ack: &AckEnd) -> bool {
        let filling = self.path.filled_at(self.path.rate());
        let most = scaled(filling.max(self.up_flight), Phase::Up.pacing(), 100);
        let rtt_most = self.up_rtt.saturating_add(self.path.rtt_min() / 8 + QUEUE_MICROS);
        let is_queued = ack.rtt_latest.is_some_and(|rtt| rtt > rtt_most);
        let over = ack.in_flight.saturating_add(sample.acked) >= most;
        over && is_queued || sample.flight >= most || self.plateau_rounds >= PLATEAU_ROUNDS
    }

    fn step_probe_rtt(
        &mut self,
        now: Micros,
        sample: &Sample,
        round: Round,
        ack: &AckEnd,
        due: bool,
    ) {
        // A sender that has little to send sees the path as empty as a probe would.
        if due && self.phase != Phase::ProbeRtt && sample.flight > self.probe_rtt_window() {
            self.window_before = self.window;
            self.enter(Phase::ProbeRtt);
            self.probe_rtt_until = None;
        }
        if self.phase != Phase::ProbeRtt {
            return;
        }
        match self.probe_rtt_until {
            None if ack.in_flight <= self.probe_rtt_window() => {
                self.probe_rtt_until = Some(now.after(PROBE_RTT_MICROS));
                self.phase_rounds = 0;
            }
            Some(until) if now >= until && round.began && self.phase_rounds >= 1 => {
                self.path.rtt_was_probed(now);
                self.window = self.window.max(self.window_before);
                self.path.forget_low();
                let phase = if self.is_known { Phase::Cruise } else { Phase::Startup };
                self.enter(phase);
            }
            _ => {}
        }
    }

    /// What may be under way while the smallest round trip is looked for.
    fn probe_rtt_window(&self) -> u64 {
        (self.path.filled_at(self.path.rate()) / 2).max(self.least())
    }

    /// The long-term bound and some room below it.
    fn below_high(&self) -> u64 {
        if self.path.flight_high == NONE {
            return NONE;
        }
        scaled(self.path.flight_high, HEADROOM, 100)
    }

    fn least(&self) -> u64 {
        let least = self.datagram * WINDOW_DATAGRAMS;
        let least = least.max(scaled(self.path.rate(), WINDOW_MICROS, 1_000_000));
        if self.path.rtt_min() < SHORT_MICROS { least.max(SHORT_WINDOW_BYTES) } else { least }
    }

    fn set_pacing(&mut self, ack: &AckEnd) {
        let stands = self.phase == Phase::Cruise && self.path.is_queued;
        let gain = if stands { Phase::Down.pacing() } else { self.phase.pacing() };
        if !self.has_rtt && ack.rtt_smoothed > 0 {
            self.has_rtt = true;
            let window = self.datagram * WINDOW_DATAGRAMS_INITIAL;
            self.pacing = scaled(window, 10_000 * gain, ack.rtt_smoothed);
        }
        let pacing = scaled(self.path.rate(), gain * (100 - MARGIN), 10_000);
        if pacing > 0 && (self.is_known || pacing > self.pacing) {
            self.pacing = pacing;
        }
    }

    fn set_window(&mut self, sample: &Sample) {
        let filling = self.path.filled_at(self.path.rate());
        let most = scaled(filling, self.phase.window(), 100)
            .saturating_add(self.path.bunch())
            .max(self.least());
        let grown = self.window.saturating_add(sample.acked);
        if self.is_known {
            self.window = grown.min(most);
        } else if self.window < most
            || self.rate.delivered() < self.datagram * WINDOW_DATAGRAMS_INITIAL
        {
            self.window = grown;
        }
        let bound = match self.phase {
            Phase::Startup | Phase::Drain => NONE,
            Phase::Cruise => self.below_high(),
            Phase::ProbeRtt => self.probe_rtt_window().min(self.below_high()),
            Phase::Down | Phase::Refill | Phase::Up => self.path.flight_high,
        };
        let bound = bound.min(self.path.flight_low()).max(self.least());
        self.window = self.window.min(bound);
    }
}

/// Whether a path that loses so many of ten thousand by itself would hardly ever lose so much of
/// `all`: over a hundredth more, and over three standard deviations more, and more than one packet. In
/// bytes.
fn excessive(lost: u64, all: u64, datagram: u64, usual: u64) -> bool {
    let lost = lost / datagram;
    let all = all / datagram;
    let likely = all.saturating_mul(usual);
    // Packets times ten thousand: three deviations are 3 * sqrt(usual / 10 000 * all).
    let most = likely.saturating_add(300 * likely.isqrt() + 10_000);
    lost.saturating_mul(10_000) > most.max(likely.saturating_add(all.saturating_mul(100)))
}

#[cfg(test)]
#[path = "bbr_tests.rs"]
mod tests;
