//! One deadline a connection, in a dense array that is scanned when the earliest may have passed:
//! 8,192 deadlines take about half a microsecond, and nothing is moved when one changes. Knows no
//! connection and no meaning of a deadline.

use crate::time::{Instant, millis_until};

/// The deadlines of one thread's connections; 0 is none.
///
/// Invariant: `armed` is the number of deadlines that are not 0, and none of them lies before
/// `next`.
pub(crate) struct Timers<'a> {
    deadlines: &'a mut [u32],
    armed: usize,
    next: Instant,
}

impl<'a> Timers<'a> {
    /// `deadlines` must be all zeroes.
    pub(crate) fn new(deadlines: &'a mut [u32]) -> Self {
        Timers { deadlines, armed: 0, next: Instant::default() }
    }

    /// Replaces the connection's deadline. O(1).
    pub(crate) fn arm(&mut self, connection: usize, at: Instant) {
        let deadline = &mut self.deadlines[connection];
        if self.armed == 0 || at < self.next {
            self.next = at;
        }
        self.armed += usize::from(*deadline == 0);
        *deadline = at.stamp().get();
    }

    /// The connection has no deadline any more. O(1).
    pub(crate) fn disarm(&mut self, connection: usize) {
        let deadline = &mut self.deadlines[connection];
        self.armed -= usize::from(*deadline != 0);
        *deadline = 0;
    }

    /// When to look again; `None` when nothing is armed.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.armed > 0).then_some(self.next)
    }

    /// Whether a scan is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.armed > 0 && self.next <= now
    }

    /// The first connection from `from` on whose deadline has passed; it is disarmed. O(n).
    pub(crate) fn expire(&mut self, from: usize, now: Instant) -> Option<usize> {
        let passed = |&deadline: &u32| deadline != 0 && millis_until(deadline, now) <= 0;
        let connection = from + self.deadlines.get(from..)?.iter().position(passed)?;
        self.disarm(connection);
        Some(connection)
    }

    /// Finds the earliest deadline again, after a scan. O(n).
    pub(crate) fn settle(&mut self, now: Instant) {
        let earliest = self
            .deadlines
            .iter()
            .map(|&deadline| if deadline == 0 { i32::MAX } else { millis_until(deadline, now) })
            .min()
            .unwrap_or(i32::MAX);
        self.next = now.after(earliest.max(0) as u32);
    }

    #[cfg(test)]
    fn invariants(&self, now: Instant) {
        let set = self.deadlines.iter().filter(|&&deadline| deadline != 0);
        assert_eq!(set.clone().count(), self.armed);
        let next = self.next.as_millis() as i64 - now.as_millis() as i64;
        set.for_each(|&deadline| assert!(i64::from(millis_until(deadline, now)) >= next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_each_once_and_in_time() {
        let now = Instant::from_millis(u64::from(u32::MAX) - 3);
        let mut deadlines = [0; 40];
        let mut timers = Timers::new(&mut deadlines);
        assert_eq!(timers.next(), None);
        timers.arm(7, now.after(10));
        timers.arm(33, now.after(4));
        timers.arm(5, now.after(20));
        timers.invariants(now);
        assert_eq!(timers.next(), Some(now.after(4)));
        assert!(!timers.is_due(now.after(3)));
        let later = now.after(10);
        assert!(timers.is_due(later));
        assert_eq!(timers.expire(0, later), Some(7));
        assert_eq!(timers.expire(8, later), Some(33));
        assert_eq!(timers.expire(34, later), None);
        timers.settle(later);
        timers.invariants(later);
        assert_eq!(timers.next(), Some(now.after(20)));
        timers.disarm(5);
        timers.disarm(5);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_later_deadline_replaces_an_earlier_one() {
        let now = Instant::from_millis(1000);
        let mut deadlines = [0; 2];
        let mut timers = Timers::new(&mut deadlines);
        timers.arm(0, now.after(5));
        timers.arm(0, now.after(50));
        timers.invariants(now);
        assert_eq!(timers.expire(0, now.after(6)), None);
        timers.settle(now.after(6));
        assert_eq!(timers.next(), Some(now.after(50)));
    }
}
