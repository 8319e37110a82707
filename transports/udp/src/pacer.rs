//! Spreads what a window allows over time: a token bucket that fills at the pacing rate. Knows no
//! socket and no timer; says how much may go now, and when to ask again.
//!
//! Invariants: over any span no more goes than the rate times the span, plus one full bucket, plus
//! what the last batch went over; the state is three numbers, whatever the rate.

use crate::time::Micros;

/// How long a bucket takes to fill. Timers of the worker fire up to two of their milliseconds apart:
/// a smaller bucket would overflow between them, and a rate it should allow could not be reached.
const BUCKET_MICROS: u64 = 2_000;

/// What one wakeup should be worth, in time at the rate.
const BATCH_MICROS: u64 = 1_000;

/// More than this is not worth waiting for: it is about what one send takes.
const BATCH_BYTES_MAX: u64 = 64 * 1024;

/// What a bucket holds at least, in datagrams.
const BUCKET_DATAGRAMS: u64 = 2;

/// A token bucket for one link. Every call is O(1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    /// Bytes that may go, in millionths: what a microsecond adds is then a whole number.
    tokens: i64,
    /// When tokens were last added.
    filled_at: Micros,
    /// Nothing was asked of it yet: the bucket is full at whatever size it will have.
    fresh: bool,
}

const MILLION: i64 = 1_000_000;

/// Faster than any machine; keeps the millionths within 64 bits.
const RATE_MAX: u64 = 1_000_000_000_000;

impl Pacer {
    /// A full bucket.
    pub(crate) const fn new(now: Micros) -> Pacer {
        Pacer { tokens: 0, filled_at: now, fresh: true }
    }

    /// How many bytes may go now at `rate` bytes per second: 0, or a batch that is worth a send. A
    /// batch may end with a whole datagram that goes a little over it; [`Pacer::spend`] takes what
    /// was sent and the next batch is later by as much.
    pub(crate) fn budget(&mut self, now: Micros, rate: u64, datagram_bytes: u32) -> u64 {
        let rate = rate.min(RATE_MAX);
        let room = millionths(bucket_bytes(rate, datagram_bytes));
        if self.fresh {
            self.fresh = false;
            self.tokens = room;
        }
        // A rate is millionths of a byte in a microsecond.
        let added = now.since(self.filled_at).saturating_mul(rate).min(i64::MAX as u64) as i64;
        self.tokens = self.tokens.saturating_add(added).min(room);
        self.filled_at = self.filled_at.max(now);
        if self.tokens < millionths(batch_bytes(rate, datagram_bytes)) {
            return 0;
        }
        u64::try_from(self.tokens / MILLION).unwrap_or(0)
    }

    /// So many bytes went.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(millionths(bytes));
    }

    /// When a batch will be worth a send; in the past if one is already. To be asked after
    /// [`Pacer::budget`], with the same rate.
    pub(crate) fn next(&self, rate: u64, datagram_bytes: u32) -> Micros {
        let rate = rate.clamp(1, RATE_MAX);
        let missing = millionths(batch_bytes(rate, datagram_bytes)).saturating_sub(self.tokens);
        self.filled_at.after((missing.max(0) as u64).div_ceil(rate))
    }
}

/// What a bucket holds.
fn bucket_bytes(rate: u64, datagram_bytes: u32) -> u64 {
    in_span(rate, BUCKET_MICROS).max(u64::from(datagram_bytes) * BUCKET_DATAGRAMS)
}

/// What one wakeup should be worth: at least one datagram.
fn batch_bytes(rate: u64, datagram_bytes: u32) -> u64 {
    in_span(rate, BATCH_MICROS).min(BATCH_BYTES_MAX).max(u64::from(datagram_bytes))
}

fn millionths(bytes: u64) -> i64 {
    (bytes.min(RATE_MAX) as i64) * MILLION
}

/// Bytes that go in so many microseconds; a rate that no machine has counts as one that fits.
fn in_span(rate: u64, micros: u64) -> u64 {
    rate.saturating_mul(micros) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u32 = 1_200;

    /// Sends all it may at each of the times, returns the bytes that went.
    fn run(pacer: &mut Pacer, rate: u64, times: impl Iterator<Item = u64>) -> u64 {
        let mut sent = 0;
        for now in times {
            let budget = pacer.budget(Micros(now), rate, DATAGRAM);
            let bytes = budget.div_ceil(u64::from(DATAGRAM)) * u64::from(DATAGRAM);
            pacer.spend(bytes);
            sent += bytes;
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_at_every_rate_and_wakeup() {
        for rate in [1_000, 125_000, 1_250_000, 12_500_000, 125_000_000, 2_000_000_000] {
            for step in [10, 100, 1_000, 2_000] {
                let mut pacer = Pacer::new(Micros(7));
                let seconds = if rate < 100_000 { 100 } else { 1 };
                let first = pacer.budget(Micros(7), rate, DATAGRAM);
                assert_eq!(first, bucket_bytes(rate, DATAGRAM), "starts full");
                pacer.spend(first);
                let sent = run(&mut pacer, rate, (7..7 + seconds * 1_000_000).step_by(step));
                let due = rate * seconds;
                let slack = u64::from(DATAGRAM) + due / 100 + bucket_bytes(rate, DATAGRAM);
                assert!(sent <= due + u64::from(DATAGRAM), "{sent} of {due} at {rate} by {step}");
                assert!(sent + slack >= due, "{sent} of {due} at {rate} by {step}");
            }
        }
    }

    #[test]
    fn silence_saves_up_one_bucket_and_no_more() {
        let mut pacer = Pacer::new(Micros(0));
        let first = pacer.budget(Micros(0), 12_500_000, DATAGRAM);
        pacer.spend(first);
        assert_eq!(pacer.budget(Micros(60_000_000), 12_500_000, DATAGRAM), 25_000);
    }

    #[test]
    fn next_is_when_a_batch_may_go() {
        for rate in [1, 1_000, 12_500_000, 1_000_000_000] {
            let mut pacer = Pacer::new(Micros(0));
            let first = pacer.budget(Micros(0), rate, DATAGRAM);
            assert_eq!(pacer.next(rate, DATAGRAM), Micros(0));
            pacer.spend(first);
            let next = pacer.next(rate, DATAGRAM);
            assert!(next > Micros(0));
            let mut early = pacer;
            assert_eq!(early.budget(Micros(next.0 - 1), rate, DATAGRAM), 0, "at {rate}");
            assert_ne!(pacer.budget(next, rate, DATAGRAM), 0, "at {rate}");
        }
    }

    #[test]
    fn a_rate_beyond_reason_and_a_clock_that_steps_back_do_no_harm() {
        let mut pacer = Pacer::new(Micros(50));
        assert_ne!(pacer.budget(Micros(10), u64::MAX, DATAGRAM), 0);
        pacer.spend(u64::MAX);
        assert_ne!(pacer.budget(Micros(u64::MAX), u64::MAX, u32::MAX), 0);
        pacer.spend(1_000_000);
        let _ = pacer.next(0, DATAGRAM);
    }
}
