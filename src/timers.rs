//! One deadline a connection, in a dense array that is scanned when the earliest may have passed:
//! 8,192 deadlines take two or three microseconds, and nothing is moved when one changes. Knows no
//! connection and no meaning of a deadline.

use crate::time::{Instant, millis_until};

/// How many deadlines one step of a scan looks at: one at a time uses no vector instructions.
const DEADLINES_PER_STEP: usize = 16;

/// The deadlines of one thread's connections; 0 is none.
///
/// Invariant: `armed` is the number of deadlines that are not 0, and none of them lies before
/// `next`, unless `next` has come: a scan that stopped early leaves passed ones behind.
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
        let passed = |&deadline: &u32| (deadline != 0) & (millis_until(deadline, now) <= 0);
        let deadlines = self.deadlines.get(from..)?;
        // As in the table's scan: first in which step, then where in it.
        let (steps, _) = deadlines.as_chunks::<DEADLINES_PER_STEP>();
        let has_passed = |step: &[u32; DEADLINES_PER_STEP]| {
            step.iter().fold(false, |found, deadline| found | passed(deadline))
        };
        let step = steps.iter().position(has_passed).unwrap_or(steps.len()) * DEADLINES_PER_STEP;
        let connection = from + step + deadlines[step..].iter().position(passed)?;
        self.disarm(connection);
        Some(connection)
    }

    /// Finds the earliest deadline again, after a scan. O(n).
    pub(crate) fn settle(&mut self, now: Instant) {
        let left = |deadline| if deadline == 0 { i32::MAX } else { millis_until(deadline, now) };
        let (steps, rest) = self.deadlines.as_chunks::<DEADLINES_PER_STEP>();
        // A minimum for each place in a step, or each would wait for the one before it.
        let mut earliest = [i32::MAX; DEADLINES_PER_STEP];
        for step in steps {
            for (earliest, &deadline) in earliest.iter_mut().zip(step) {
                *earliest = left(deadline).min(*earliest);
            }
        }
        let earliest = rest.iter().map(|&deadline| left(deadline)).chain(earliest).min();
        self.next = now.after(earliest.unwrap_or(i32::MAX).max(0) as u32);
    }

    #[cfg(test)]
    fn invariants(&self, now: Instant) {
        let set = self.deadlines.iter().filter(|&&deadline| deadline != 0);
        assert_eq!(set.clone().count(), self.armed);
        let next = self.next.as_millis() as i64 - now.as_millis() as i64;
        let kept = |&deadline: &u32| i64::from(millis_until(deadline, now)) >= next;
        assert!(next <= 0 || set.clone().all(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Two steps of a scan, and a rest.
    const CONNECTIONS: usize = 37;

    #[derive(Clone, Debug)]
    enum Action {
        Arm(usize, u32),
        Disarm(usize),
        /// So many milliseconds pass, then the worker looks; it takes at most so many.
        Pass(u32, usize),
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (0..CONNECTIONS, 0..200u32).prop_map(|(c, millis)| Action::Arm(c, millis)),
            1 => (0..CONNECTIONS).prop_map(Action::Disarm),
            3 => (0..150u32, 0..=CONNECTIONS).prop_map(|(m, most)| Action::Pass(m, most)),
        ]
    }

    proptest! {
        #[test]
        fn timers_are_a_list_of_instants(
            // Also where 32 bits of milliseconds run over.
            start in prop_oneof![0..1000u64, (1u64 << 32) - 500..(1u64 << 32) + 10],
            actions in prop::collection::vec(any_action(), 0..100),
        ) {
            let mut now = Instant::from_millis(start);
            let mut deadlines = [0; CONNECTIONS];
            let mut timers = Timers::new(&mut deadlines);
            let mut model: [Option<Instant>; CONNECTIONS] = [None; CONNECTIONS];
            for action in actions {
                match action {
                    Action::Arm(connection, millis) => {
                        timers.arm(connection, now.after(millis));
                        model[connection] = Some(kept(now.after(millis)));
                    }
                    Action::Disarm(connection) => {
                        timers.disarm(connection);
                        model[connection] = None;
                    }
                    Action::Pass(millis, most) => {
                        now = now.after(millis);
                        let due = |c: &usize| model[*c].is_some_and(|at| at <= now);
                        let due: Vec<_> = (0..CONNECTIONS).filter(due).collect();
                        if due.is_empty() && !timers.is_due(now) {
                            continue;
                        }
                        prop_assert!(timers.is_due(now), "{:?} are due and nobody looks", due);
                        let mut from = 0;
                        for &expected in due.iter().take(most) {
                            prop_assert_eq!(timers.expire(from, now), Some(expected));
                            model[expected] = None;
                            from = expected + 1;
                        }
                        if most > due.len() {
                            prop_assert_eq!(timers.expire(from, now), None);
                        }
                        timers.settle(now);
                    }
                }
                timers.invariants(now);
                let earliest = model.iter().flatten().min();
                prop_assert_eq!(timers.next().is_some(), earliest.is_some());
                if let (Some(next), Some(&earliest)) = (timers.next(), earliest) {
                    prop_assert!(next <= earliest.max(now), "slept too long");
                }
            }
        }

        /// After a scan the worker sleeps exactly until the next deadline.
        #[test]
        fn a_scan_finds_the_earliest_again(
            at in prop::collection::vec(1..10_000u32, 1..CONNECTIONS),
            start in prop_oneof![1..1000u64, (1u64 << 32) - 5000..(1u64 << 32) - 1],
        ) {
            let now = Instant::from_millis(start);
            let mut deadlines = [0; CONNECTIONS];
            let mut timers = Timers::new(&mut deadlines);
            for (connection, &millis) in at.iter().enumerate() {
                timers.arm(connection, now.after(millis));
            }
            timers.settle(now);
            let earliest = now.after(*at.iter().min().unwrap());
            let next = timers.next().unwrap();
            prop_assert_eq!(next, kept(earliest));
        }
    }

    /// A deadline as a stamp keeps it: the one instant in 50 days whose stamp would be 0, which means
    /// none, is a millisecond late.
    fn kept(at: Instant) -> Instant {
        at.after(u32::from(at.as_millis() as u32 == 0))
    }

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
