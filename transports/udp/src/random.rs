//! Numbers that look random, from one that is. Knows no secret: whoever has seen none of them cannot
//! tell the next, whoever has seen one can.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). O(1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    /// `seed`: unpredictable.
    pub(crate) const fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next number; each of the 2^64 comes once before any comes again.
    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of java.util.SplittableRandom(0), which is the same.
    #[test]
    fn it_is_the_one_of_the_paper() {
        let mut random = SplitMix64::new(0);
        let drawn = [(); 3].map(|()| random.draw());
        let known = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!(drawn, known);
    }
}
