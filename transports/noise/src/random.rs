//! Numbers that nobody can tell, out of one secret that was drawn at random when the program started.
//! Knows no system call.
//!
//! Invariant: the secret is replaced by a hash of itself with each draw, so whoever reads the memory
//! later finds nothing of what was drawn before, and no key that was agreed on with it ("fast key
//! erasure", <https://blog.cr.yp.to/20170723-random.html>).

use crate::keys::KEY_BYTES;
use crate::suite::Wiped;
use blake2::{Blake2s256, Digest};
use core::fmt;

/// Draws 32 bytes at a time.
///
/// ```
/// use seaprox_noise::random::Random;
///
/// let mut random = Random::new([7; 32]);
/// assert_ne!(random.draw(), random.draw());
/// ```
pub struct Random(Wiped<KEY_BYTES>);

impl Random {
    /// Of 32 bytes that were drawn at random, and are used for nothing else.
    #[must_use]
    pub const fn new(secret: [u8; KEY_BYTES]) -> Self {
        Random(Wiped::new(secret))
    }

    /// As unpredictable as the secret was. About a microsecond.
    #[must_use]
    pub fn draw(&mut self) -> [u8; KEY_BYTES] {
        let drawn = self.hash(1);
        self.0 = Wiped::new(self.hash(0));
        drawn
    }

    fn hash(&self, what: u8) -> [u8; KEY_BYTES] {
        let hash = Blake2s256::new().chain_update(b"seaprox random  ").chain_update([what]);
        hash.chain_update(self.0.bytes()).finalize().into()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_is_drawn_twice_and_the_secret_is_never_what_was_drawn() {
        let mut random = Random::new([7; 32]);
        let mut seen = BTreeSet::from([[7; 32]]);
        for _ in 0..1000 {
            assert!(seen.insert(random.draw()));
            assert!(seen.insert(*random.0.bytes()));
        }
    }

    #[test]
    fn another_secret_draws_others() {
        let drawn = |secret| Random::new([secret; 32]).draw();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
