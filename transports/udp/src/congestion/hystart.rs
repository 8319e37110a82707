//! Leaves slow start before the queue overflows: HyStart++ (RFC 9406). Knows round trips and rounds,
//! no window.
//!
//! Invariant: once done it stays done until it is made anew.

/// Round trips a round must have shown before it is judged (RFC 9406 section 4.2).
const SAMPLES_MIN: u8 = 8;
/// Bounds of the rise that counts, in microseconds, and its share of the round trip.
const RISE_MICROS_MIN: u64 = 4_000;
const RISE_MICROS_MAX: u64 = 16_000;
const RISE_DIVISOR: u64 = 8;
/// How much slower conservative slow start grows.
const CONSERVATIVE_DIVISOR: u64 = 4;
/// How many rounds of that end slow start.
const CONSERVATIVE_ROUNDS: u8 = 5;

/// No round trip was seen.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Slow,
    /// Conservative slow start: the round trip that began it, and the rounds it has left.
    Conservative {
        baseline: u64,
        rounds: u8,
    },
    Done,
}

/// What a slow start knows of its rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    stage: Stage,
    last_min: u64,
    this_min: u64,
    samples: u8,
}

impl HyStart {
    pub(super) const fn new() -> HyStart {
        HyStart { stage: Stage::Slow, last_min: NONE, this_min: NONE, samples: 0 }
    }

    /// A round trip was measured.
    pub(super) fn on_rtt(&mut self, micros: u64) {
        self.this_min = self.this_min.min(micros);
        self.samples = self.samples.saturating_add(1);
        if self.samples < SAMPLES_MIN || self.this_min == NONE {
            return;
        }
        match self.stage {
            Stage::Slow if self.last_min != NONE => {
                let rise = (self.last_min / RISE_DIVISOR).clamp(RISE_MICROS_MIN, RISE_MICROS_MAX);
                if self.this_min >= self.last_min.saturating_add(rise) {
                    let baseline = self.this_min;
                    self.stage = Stage::Conservative { baseline, rounds: CONSERVATIVE_ROUNDS };
                }
            }
            Stage::Conservative { baseline, .. } if self.this_min < baseline => {
                self.stage = Stage::Slow;
            }
            _ => {}
        }
    }

    /// A round has ended.
    pub(super) fn on_round(&mut self) {
        self.last_min = self.this_min;
        self.this_min = NONE;
        self.samples = 0;
        if let Stage::Conservative { rounds, .. } = &mut self.stage {
            *rounds -= 1;
            if *rounds == 0 {
                self.stage = Stage::Done;
            }
        }
    }

    /// Slow start should end.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// By how much a window grows for so many acknowledged bytes. The sender paces, so there is no
    /// limit to that.
    pub(super) fn growth(&self, acked: u64) -> u64 {
        match self.stage {
            Stage::Slow => acked,
            Stage::Conservative { .. } | Stage::Done => acked / CONSERVATIVE_DIVISOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(hystart: &mut HyStart, rtt: u64, samples: u32) {
        for _ in 0..samples {
            hystart.on_rtt(rtt);
        }
        hystart.on_round();
    }

    #[test]
    fn a_rise_of_an_eighth_slows_and_five_rounds_end() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 80_000, 8);
        round(&mut hystart, 89_999, 8);
        assert_eq!(hystart.growth(1_000), 1_000);
        // 89 999 / 8 is 11 249.
        for _ in 0..8 {
            assert_eq!(hystart.growth(1_000), 1_000);
            hystart.on_rtt(89_999 + 11_249);
        }
        assert_eq!(hystart.growth(1_000), 250);
        for left in (0..5).rev() {
            assert!(!hystart.is_done());
            hystart.on_round();
            round_samples(&mut hystart, 110_000);
            assert_eq!(hystart.is_done(), left == 0);
        }
    }

    fn round_samples(hystart: &mut HyStart, rtt: u64) {
        for _ in 0..8 {
            hystart.on_rtt(rtt);
        }
    }

    #[test]
    fn a_rise_is_bounded_on_both_sides() {
        for (base, rise) in [(1_000, 4_000), (40_000, 5_000), (1_000_000, 16_000)] {
            for (more, slowed) in [(rise - 1, false), (rise, true)] {
                let mut hystart = HyStart::new();
                round(&mut hystart, base, 8);
                round_samples(&mut hystart, base + more);
                assert_eq!(hystart.growth(4) == 1, slowed, "{base} + {more}");
            }
        }
    }

    #[test]
    fn a_rise_that_was_jitter_is_taken_back() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 20_000, 8);
        round(&mut hystart, 30_000, 8);
        assert_eq!(hystart.growth(4), 1);
        round(&mut hystart, 20_000, 8);
        assert_eq!(hystart.growth(4), 4);
        for _ in 0..20 {
            round(&mut hystart, 20_000, 8);
        }
        assert!(!hystart.is_done());
    }

    #[test]
    fn few_samples_judge_nothing() {
        let mut hystart = HyStart::new();
        round(&mut hystart, 20_000, 8);
        round(&mut hystart, 90_000, 7);
        assert_eq!(hystart.growth(4), 4);
    }
}
