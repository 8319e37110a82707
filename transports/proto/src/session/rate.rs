//! How often something happens in a second. Knows not what.

use seaprox::time::Instant;

const SECOND_MILLIS: u64 = 1000;

/// Counts by the second, each of which begins with the first after the last is over: so within any
/// second there are at most twice as many as may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    count: u32,
    since: Instant,
}

impl Rate {
    /// Nothing has happened.
    pub(crate) const NONE: Rate = Rate { count: 0, since: Instant::from_millis(0) };

    /// Happens once more; whether that is within what may happen in a second.
    pub(crate) fn count(&mut self, max: u32, now: Instant) -> bool {
        if now.since(self.since) >= SECOND_MILLIS {
            (self.count, self.since) = (0, now);
        }
        self.count = self.count.saturating_add(1);
        self.count <= max
    }
}
