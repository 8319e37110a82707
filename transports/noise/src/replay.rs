//! Which packet numbers have been seen under a key: a window that slides with the largest. Knows no
//! packet and no key.
//!
//! Invariant: no number is marked twice, and none that is [`WINDOW`] or more below the largest at all.
//! The bits are a ring of words, of which one more is kept than the window has, so that none has to be
//! shifted (RFC 6479, section 3).

/// So many numbers up to the largest are known one by one: at 10 Gbit/s in packets of 1452 bytes,
/// 19 milliseconds.
pub const WINDOW: u64 = 16_384;

const WORD_BITS: u64 = 64;

/// One more, for the window ends within a word unless it is full.
const WORDS: usize = (WINDOW / WORD_BITS) as usize + 1;

/// The numbers seen so far. 2 KiB.
///
/// ```
/// use seaprox_noise::replay::Replay;
///
/// let mut seen = Replay::new();
/// assert!(seen.mark(7) && seen.mark(3), "in any order");
/// assert!(!seen.mark(7), "but once");
/// ```
#[derive(Clone, Debug)]
pub struct Replay {
    words: [u64; WORDS],
    /// One more than the largest number that was marked; 0: none was.
    end: u64,
}

impl Replay {
    /// None was seen.
    #[must_use]
    pub const fn new() -> Self {
        Replay { words: [0; WORDS], end: 0 }
    }

    /// Whether a number was neither seen nor is too old to tell. O(1).
    #[inline]
    #[must_use]
    pub fn is_fresh(&self, number: u64) -> bool {
        if number >= self.end {
            return number < u64::MAX;
        }
        let is_within = self.end - number <= WINDOW;
        let (at, bit) = place(number);
        is_within && self.words.get(at).is_some_and(|word| word & bit == 0)
    }

    /// Marks a number as seen, and says whether it was fresh. Only of a packet that opened: numbers of
    /// strangers would move the window. O(1), but for jumps, which clear at most the window.
    #[inline]
    pub fn mark(&mut self, number: u64) -> bool {
        if !self.is_fresh(number) {
            return false;
        }
        if number >= self.end {
            self.advance(number);
        }
        let (at, bit) = place(number);
        if let Some(word) = self.words.get_mut(at) {
            *word |= bit;
        }
        true
    }

    /// Clears the words between the one that has been the last and that of a new largest number.
    #[inline]
    fn advance(&mut self, number: u64) {
        let after = self.end.div_ceil(WORD_BITS);
        let last = number / WORD_BITS;
        // All of them, if it jumps beyond.
        let first = after.max((last + 1).saturating_sub(WORDS as u64));
        for word in first..=last {
            if let Some(word) = self.words.get_mut((word % WORDS as u64) as usize) {
                *word = 0;
            }
        }
        self.end = number + 1;
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn place(number: u64) -> (usize, u64) {
    ((number / WORD_BITS % WORDS as u64) as usize, 1 << (number % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// The same, told as simply as can be.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn mark(&mut self, number: u64) -> bool {
            let is_old = self.0.last().is_some_and(|last| number + WINDOW <= *last);
            !is_old && self.0.insert(number)
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut replay = Replay::new();
        assert!(replay.is_fresh(0));
        assert!(replay.mark(5));
        assert!(!replay.mark(5));
        assert!(replay.mark(0));
        let last = 5 + WINDOW;
        assert!(replay.mark(last));
        assert!(!replay.is_fresh(5), "seen, and too old");
        assert!(!replay.is_fresh(4), "never seen, and too old");
        assert!(replay.is_fresh(6), "the oldest within");
        assert!(replay.mark(last - WINDOW + 1));
        assert!(!replay.mark(last - WINDOW + 1));
        assert!(replay.mark(last + 1));
        assert!(!replay.is_fresh(6), "it was the oldest");
        assert!(replay.is_fresh(7));
        // All that was seen before is too old now, and nothing after it was seen.
        let far = last + 10 * WINDOW;
        assert!(replay.mark(far));
        for number in far - WINDOW + 1..far {
            assert!(replay.mark(number), "{number}");
            assert!(!replay.mark(number), "{number}");
        }
        assert!(!replay.is_fresh(far - WINDOW));
    }

    #[test]
    fn the_greatest_numbers() {
        let mut replay = Replay::new();
        assert!(replay.mark(u64::MAX - 1));
        assert!(!replay.mark(u64::MAX - 1));
        assert!(!replay.is_fresh(u64::MAX), "its end would be no number");
        assert!(replay.mark(u64::MAX - 1 - (WINDOW - 1)));
        assert!(!replay.mark(u64::MAX - 1 - WINDOW));
        assert!(!replay.mark(0));
    }

    #[test]
    fn every_start_of_a_window_within_a_word() {
        for first in 0..2 * WORD_BITS {
            let mut replay = Replay::new();
            for number in first..first + WINDOW + 2 * WORD_BITS {
                assert!(replay.mark(number));
            }
            let end = first + WINDOW + 2 * WORD_BITS;
            let fresh: Vec<_> = (0..end).filter(|&number| replay.is_fresh(number)).collect();
            assert_eq!(fresh, [], "from {first}");
        }
    }

    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![
            4 => (0..3u64).prop_map(|ahead| ahead as i64),
            4 => -100..100i64,
            2 => -20_000..20_000i64,
            1 => -100_000..100_000i64,
            1 => (WINDOW as i64 - 70)..(WINDOW as i64 + 70),
            1 => (-(WINDOW as i64) - 70)..(-(WINDOW as i64) + 70),
        ];
        (0..1u64 << 48, proptest::collection::vec(step, 1..400)).prop_map(|(start, steps)| {
            let mut at = start;
            let walk = steps.into_iter().map(|step| {
                at = at.saturating_add_signed(step);
                at
            });
            walk.collect()
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_set_says(numbers in numbers()) {
            let (mut replay, mut model) = (Replay::new(), Model::default());
            for number in numbers {
                let is_fresh = replay.is_fresh(number);
                prop_assert_eq!(replay.mark(number), is_fresh);
                prop_assert_eq!(is_fresh, model.mark(number), "{}", number);
            }
        }
    }
}
