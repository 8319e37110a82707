//! The one source of chance in a simulation: SplitMix64, so that a seed is the whole run. Knows
//! nothing of what it decides.

/// A stream of numbers that only its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, and 0 if that is 0. The bias is that of a 64-bit product: none here.
    pub const fn below(&mut self, end: usize) -> usize {
        ((self.bits() as u128 * end as u128) >> 64) as usize
    }

    /// A number from `least` to `most`, both included.
    pub const fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// A number from 1 to `most` whose logarithm is even: small ones as often as large ones.
    pub const fn scaled(&mut self, most: usize) -> usize {
        let bits = usize::BITS - most.leading_zeros();
        let high = 1usize << self.below(bits as usize);
        let value = high + self.below(high);
        if value < most { value } else { most }
    }

    /// True `chance` times in 65,536. A chance of 0 draws nothing.
    pub const fn chance(&mut self, chance: u16) -> bool {
        chance != 0 && (self.bits() >> 48) < chance as u64
    }

    /// One of `choices`.
    pub const fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_ranges_hold() {
        let mut random = Random::new(0);
        assert_eq!(random.bits(), 0xe220_a839_7b1d_cdaf, "SplitMix64's published first output");
        let mut small = 0;
        for _ in 0..10_000 {
            assert!((3..=9).contains(&random.between(3, 9)));
            let scaled = random.scaled(300_000);
            assert!((1..=300_000).contains(&scaled));
            small += usize::from(scaled < 512);
        }
        assert!((4_000..6_000).contains(&small), "half of the logarithms are below 2^9 of 2^18");
        assert_eq!(random.below(0), 0);
    }
}
