//! Whether this thread wants another connection: not when it or its dest cannot take one, not for a
//! while after the kernel ran out of something, and not when it is far ahead of the other threads:
//! the kernel wakes the first waiter first, so without stepping aside one thread would take most.
//! Knows no listener.
//!
//! Invariant: of the threads that can take a connection, one that holds the fewest is never aside,
//! so a client that can be taken is always waited for.

use crate::share::Share;
use crate::time::Instant;
use crate::transport::Intake;
use core::sync::atomic::Ordering::SeqCst;

/// What becomes of clients when the whole table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// They wait in the listener's backlog.
    #[default]
    Wait,
    /// They are accepted and reset.
    Refuse,
}

/// How long nothing is accepted after the kernel ran out of descriptors, buffers or memory.
const BACKOFF_MILLIS: u32 = 100;

/// Ahead by more than this, and a part of what the emptiest thread holds, is too far: then a thread
/// steps aside. It comes back when it is ahead by half of that, or it would come and go all the time.
const AHEAD_CONNECTIONS: u32 = 2;

/// The part: an eighth keeps every thread within 20 % of even, as soon as there are some twenty
/// connections a thread.
const AHEAD_PART: u32 = 8;

pub(crate) struct Admission<'a> {
    shares: &'a [Share],
    thread: usize,
    when_full: WhenFull,
    retry_at: Option<Instant>,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(shares: &'a [Share], thread: u32, when_full: WhenFull) -> Self {
        Admission { shares, thread: thread as usize, when_full, retry_at: None }
    }

    fn own(&self) -> &'a Share {
        &self.shares[self.thread]
    }

    /// The kernel ran out of something.
    pub(crate) fn back_off(&mut self, now: Instant) {
        self.retry_at = Some(now.after(BACKOFF_MILLIS));
    }

    /// Until when nothing is wanted, if the kernel ran out of something.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The pause is over.
    pub(crate) fn try_again(&mut self) {
        self.retry_at = None;
    }

    fn others(&self) -> impl Iterator<Item = &'a Share> {
        let own = self.own();
        self.shares.iter().filter(move |share| !core::ptr::eq(*share, own))
    }

    /// This thread's dest, which did `before`, does `now` from here on: wakes those who counted on
    /// that. `ring` is called with each thread to wake. O(threads).
    pub(crate) fn dest_changed(&self, before: Intake, now: Intake, ring: impl FnMut(&Share)) {
        // Said before others are woken, who then look at it.
        self.own().intake.store(now as u8, SeqCst);
        // Who is aside for this thread's sake comes back; who refuses is to stop, or is to begin.
        let full_counts = self.when_full == WhenFull::Refuse;
        let is_lost = |intake| full_counts && intake >= Intake::Full;
        let is_other = before.is_down() != now.is_down() || is_lost(before) != is_lost(now);
        let is_less = before == Intake::Takes;
        self.others()
            .filter(|share| is_other || is_less && share.aside.load(SeqCst))
            .for_each(ring);
    }

    /// Whether another thread can take a connection, now or later.
    pub(crate) fn another_can(&self) -> bool {
        self.others().any(|share| share.runs() && !share.is_down())
    }

    /// Whether another connection is wanted. O(threads).
    pub(crate) fn wanted(&self, intake: Intake) -> bool {
        if self.retry_at.is_some() {
            return false;
        }
        // Where another is full, clients wait for that one, or it refuses them.
        if intake == Intake::Refuses {
            return !self.another_can();
        }
        if intake == Intake::Down {
            return false;
        }
        if self.own().is_full() || intake == Intake::Full {
            return self.when_full == WhenFull::Refuse && self.others().all(Share::is_lost);
        }
        if intake == Intake::Blocked {
            return false;
        }
        // Said before the counts are read, as the others count before they look at who is aside:
        // whoever comes second sees the first (sequential consistency), so no call is lost.
        let was_aside = self.own().aside.swap(true, SeqCst);
        let aside = self.is_ahead(was_aside);
        if !aside {
            self.own().aside.store(false, SeqCst);
        }
        !aside
    }

    /// Far enough ahead to step aside, or, once aside, to stay there.
    fn is_ahead(&self, was_aside: bool) -> bool {
        let own = self.own().occupied.load(SeqCst);
        self.fewest().is_some_and(|fewest| {
            own > if was_aside { comes_back_at(fewest) } else { steps_aside_above(fewest) }
        })
    }

    /// The fewest connections of any thread that can take one.
    fn fewest(&self) -> Option<u32> {
        let is_open = |share: &&Share| share.runs() && !share.is_full() && share.takes();
        let open = self.shares.iter().filter(is_open);
        open.map(|share| share.occupied.load(SeqCst)).min()
    }

    /// This thread holds `occupied` connections now, before it held another number: wakes whom that
    /// concerns. `ring` is called with each thread to wake. O(threads).
    pub(crate) fn count(&self, occupied: usize, mut ring: impl FnMut(&Share)) {
        let before = self.own().occupied.swap(occupied as u32, SeqCst);
        if (occupied as u32) < before {
            // One that refuses because all are full is to leave that to nobody.
            if before >= self.own().limit() && self.when_full == WhenFull::Refuse {
                self.others().filter(|share| share.is_lost()).for_each(&mut ring);
            }
            // Fewer here brings nobody back who is ahead.
            return;
        }
        if self.others().any(|share| share.aside.load(SeqCst)) {
            let is_full = self.own().is_full();
            let back_at = comes_back_at(self.fewest().unwrap_or(u32::MAX));
            self.others()
                .filter(|share| share.aside.load(SeqCst) && !share.is_full() && share.takes())
                .filter(|share| is_full || share.occupied.load(SeqCst) <= back_at)
                .for_each(&mut ring);
        }
    }
}

fn steps_aside_above(fewest: u32) -> u32 {
    fewest.saturating_add(AHEAD_CONNECTIONS).saturating_add(fewest / AHEAD_PART)
}

fn comes_back_at(fewest: u32) -> u32 {
    fewest.saturating_add(AHEAD_CONNECTIONS / 2).saturating_add(fewest / AHEAD_PART / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that run, with room for 100 connections each.
    fn shares<const N: usize>(dests: [Intake; N]) -> [Share; N] {
        dests.map(|intake| {
            let share = Share::new();
            share.set_doorbell(1);
            share.limit.store(100, SeqCst);
            share.intake.store(intake as u8, SeqCst);
            share
        })
    }

    #[test]
    fn nobody_is_ahead_of_a_thread_that_can_take_none() {
        let far_ahead = |other| {
            let shares = shares([Intake::Takes, other]);
            shares[0].occupied.store(50, SeqCst);
            !Admission::new(&shares, 0, WhenFull::Wait).wanted(Intake::Takes)
        };
        assert!(far_ahead(Intake::Takes));
        assert!(!far_ahead(Intake::Blocked));
        assert!(!far_ahead(Intake::Full));
        assert!(!far_ahead(Intake::Down));
        assert!(!far_ahead(Intake::Refuses));
    }

    #[test]
    fn nobody_is_refused_whom_another_can_take() {
        for when_full in [WhenFull::Wait, WhenFull::Refuse] {
            let refuses = |other, occupied| {
                let shares = shares([Intake::Refuses, other]);
                shares[1].occupied.store(occupied, SeqCst);
                Admission::new(&shares, 0, when_full).wanted(Intake::Refuses)
            };
            assert!(!refuses(Intake::Takes, 0));
            assert!(
                !refuses(Intake::Takes, 100),
                "who is full says itself what becomes of clients"
            );
            assert!(!refuses(Intake::Blocked, 0), "it takes them in a moment");
            assert!(!refuses(Intake::Full, 0), "the same");
            assert!(refuses(Intake::Down, 0));
            assert!(refuses(Intake::Refuses, 0));
        }
    }

    #[test]
    fn a_dest_without_room_is_as_a_table_without() {
        let wanted = |own, occupied, other, when_full| {
            let shares = shares([own, other]);
            shares[0].occupied.store(occupied, SeqCst);
            Admission::new(&shares, 0, when_full).wanted(own)
        };
        use Intake::{Blocked, Down, Full, Takes};
        use WhenFull::{Refuse, Wait};
        for (own, occupied) in [(Full, 3), (Takes, 100), (Full, 100), (Blocked, 100)] {
            for other in [Full, Down] {
                assert!(wanted(own, occupied, other, Refuse));
                assert!(!wanted(own, occupied, other, Wait));
            }
            for other in [Takes, Blocked] {
                assert!(!wanted(own, occupied, other, Refuse), "there is room elsewhere");
            }
        }
    }

    #[test]
    fn a_change_of_the_dest_wakes_whom_it_concerns() {
        use Intake::{Blocked, Down, Full, Refuses, Takes};
        let woken_if = |when_full, before, now, aside| {
            let shares = shares([before, Takes]);
            shares[1].aside.store(aside, SeqCst);
            let mut woken = 0;
            Admission::new(&shares, 0, when_full).dest_changed(before, now, |_| woken += 1);
            assert_eq!(shares[0].intake.load(SeqCst), now as u8);
            woken == 1
        };
        let woken = |before, now, aside| woken_if(WhenFull::Wait, before, now, aside);
        assert!(
            woken(Takes, Down, false)
                && woken(Blocked, Down, false)
                && woken(Refuses, Takes, false)
        );
        assert!(woken(Takes, Blocked, true) && !woken(Takes, Blocked, false));
        assert!(!woken(Down, Refuses, true) && !woken(Blocked, Takes, true));
        assert!(!woken(Full, Takes, false) && woken_if(WhenFull::Refuse, Full, Takes, false));
    }
}
