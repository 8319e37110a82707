//! How long a round trip takes (RFC 9002 section 5). In microseconds.

/// Taken for the round trip before there is a sample: more than most, less than a user notices.
const INITIAL_MICROS: u64 = 100_000;

/// Timers are no finer (RFC 9002 section 6.1.2, kGranularity).
pub(crate) const GRANULARITY_MICROS: u64 = 1000;

/// The estimate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    /// The last sample.
    pub(crate) latest: u64,
    /// Weighted mean.
    pub(crate) smoothed: u64,
    /// Mean deviation.
    pub(crate) variation: u64,
    /// The least sample so far; `u64::MAX`: there is none.
    pub(crate) min: u64,
}

impl Rtt {
    const UNKNOWN: Rtt = Rtt {
        latest: INITIAL_MICROS,
        smoothed: INITIAL_MICROS,
        variation: INITIAL_MICROS / 2,
        min: u64::MAX,
    };

    /// `handshake`: how long that took, if it was a round trip. It counts as a sample (RFC 9002 section
    /// 5.1).
    pub(crate) fn begin(handshake: Option<u64>) -> Rtt {
        let mut rtt = Rtt::UNKNOWN;
        if let Some(micros) = handshake {
            rtt.sample(micros.max(1), 0);
        }
        rtt
    }

    /// Whether there was no sample yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.min == u64::MAX
    }

    /// A packet was acknowledged so long after it was sent, of which the peer says it held the
    /// acknowledgement back for `delay`.
    pub(crate) fn sample(&mut self, micros: u64, delay: u64) {
        self.latest = micros;
        if self.is_unknown() {
            (self.min, self.smoothed, self.variation) = (micros, micros, micros / 2);
            return;
        }
        self.min = self.min.min(micros);
        // A peer that exaggerates cannot bring it below the least.
        let adjusted = if micros >= self.min + delay { micros - delay } else { micros };
        self.variation = (3 * self.variation + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (7 * self.smoothed + adjusted) / 8;
    }

    /// After so long without an acknowledgement something is sent to ask for one (RFC 9002 section
    /// 6.2.1); `ack_delay`: how long the peer may hold one back. The first time a little sooner, as
    /// the variation of a quiet link is wide: the end of a burst is what is lost most dearly (RACK-TLP,
    /// RFC 8985 section 7.2).
    pub(crate) fn probe_timeout(&self, ack_delay: u64, is_first: bool) -> u64 {
        let usual = self.smoothed + (4 * self.variation).max(GRANULARITY_MICROS) + ack_delay;
        if is_first && !self.is_unknown() {
            usual.min((self.smoothed + self.smoothed / 2).max(2 * GRANULARITY_MICROS) + ack_delay)
        } else {
            usual
        }
    }

    /// A packet is lost when a later one arrived so long ago (RFC 9002 section 6.1.2).
    pub(crate) fn loss_delay(&self) -> u64 {
        let round = self.smoothed.max(self.latest);
        (round + round / 8).max(GRANULARITY_MICROS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_weighted_as_the_rfc_says() {
        let mut rtt = Rtt::UNKNOWN;
        rtt.sample(40_000, 9_000);
        assert_eq!((rtt.min, rtt.smoothed, rtt.variation), (40_000, 40_000, 20_000));
        rtt.sample(56_000, 8_000);
        assert_eq!((rtt.smoothed, rtt.variation), (41_000, 17_000));
        // Held back longer than can be: not believed.
        rtt.sample(41_000, 5_000);
        assert_eq!((rtt.min, rtt.smoothed, rtt.variation), (40_000, 41_000, 12_750));
        assert_eq!(rtt.probe_timeout(5_000, false), 41_000 + 51_000 + 5_000);
        assert_eq!(rtt.probe_timeout(5_000, true), 61_500 + 5_000);
        assert_eq!(rtt.loss_delay(), 46_125);
    }

    #[test]
    fn nothing_is_finer_than_the_timers() {
        let mut rtt = Rtt::UNKNOWN;
        (0..100).for_each(|_| rtt.sample(50, 0));
        assert_eq!(rtt.loss_delay(), GRANULARITY_MICROS);
        assert_eq!(rtt.probe_timeout(1000, true), 3 * GRANULARITY_MICROS - 950);
        assert_eq!(rtt.probe_timeout(1000, false), 50 + 2 * GRANULARITY_MICROS);
    }
}
