//! Time as this transport counts it: the engine's milliseconds are too coarse for round trips.

/// Microseconds of CLOCK_MONOTONIC.
///
/// ```
/// use seaprox_udp::time::Micros;
///
/// assert_eq!(Micros(5).after(7).since(Micros(5)), 7);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl Micros {
    /// So many microseconds later.
    #[must_use]
    pub const fn after(self, micros: u64) -> Micros {
        Micros(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to here; 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_saturate() {
        assert_eq!(Micros(5).after(7).since(Micros(5)), 7);
        assert_eq!(Micros(5).since(Micros(6)), 0);
        assert_eq!(Micros(9).after(u64::MAX), Micros(u64::MAX));
    }
}
