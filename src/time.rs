//! Time as the engine sees it: whole milliseconds of a clock that never steps. Knows no clock;
//! [`crate::sys::Sys::now`] reads it.

use core::num::NonZeroU32;

/// A point on the monotonic clock, in milliseconds.
///
/// ```
/// use seaprox::time::Instant;
///
/// let now = Instant::from_millis(5000);
/// assert_eq!(now.after(250).since(now), 250);
/// assert_eq!(now.since(now.after(250)), 0, "it lies ahead");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

/// The longest duration a deadline may lie ahead, in milliseconds (20 days): half of what a 32-bit
/// millisecond counter can tell apart, with some room.
pub const DURATION_MILLIS_MAX: u32 = 20 * 24 * 3600 * 1000;

impl Instant {
    /// The instant `millis` milliseconds after the clock's zero.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis)
    }

    /// Milliseconds since the clock's zero.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant `millis` milliseconds later.
    pub const fn after(self, millis: u32) -> Self {
        Instant(self.0 + millis as u64)
    }

    /// Milliseconds since `earlier`, 0 if that lies ahead.
    pub const fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The 32 low bits, with 1 for 0: what a table keeps for an instant, so that 0 means none.
    pub(crate) const fn stamp(self) -> Stamp {
        match NonZeroU32::new(self.0 as u32) {
            Some(low) => low,
            None => NonZeroU32::MIN,
        }
    }
}

/// The low 32 bits of an [`Instant`]; two are compared by the sign of their difference, so both
/// must lie within [`DURATION_MILLIS_MAX`] of each other.
pub(crate) type Stamp = NonZeroU32;

/// Milliseconds from `now` until `stamp`; negative when it has passed.
pub(crate) const fn millis_until(stamp: u32, now: Instant) -> i32 {
    stamp.wrapping_sub(now.0 as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_compare_across_the_wrap() {
        let before = Instant::from_millis(u64::from(u32::MAX) - 5);
        let stamp = before.after(10).stamp();
        assert_eq!(millis_until(stamp.get(), before), 10);
        assert_eq!(millis_until(stamp.get(), before.after(15)), -5);
        assert_eq!(Instant::from_millis(1 << 32).stamp().get(), 1);
    }
}
