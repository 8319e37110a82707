//! Whether this thread wants another connection: not when it is full, not for a while after the
//! kernel ran out of something, and not when it is far ahead of the other threads: the kernel wakes
//! the first waiter first, so without stepping aside one thread would take most. Knows no listener.
//!
//! Invariant: of the threads that are not full, one that holds the fewest connections is never
//! aside, so a client that can be taken is always waited for.

use crate::share::Share;
use crate::time::Instant;
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

    /// Whether another connection is wanted. O(threads).
    pub(crate) fn wanted(&self) -> bool {
        if self.retry_at.is_some() {
            return false;
        }
        if self.own().is_full() {
            return self.when_full == WhenFull::Refuse && self.shares.iter().all(Share::is_full);
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

    /// The fewest connections of any thread that runs and is not full.
    fn fewest(&self) -> Option<u32> {
        let open = self.shares.iter().filter(|share| share.runs() && !share.is_full());
        open.map(|share| share.occupied.load(SeqCst)).min()
    }

    /// This thread holds `occupied` connections now, before it held another number: wakes whom that
    /// concerns. `ring` is called with each thread to wake. O(threads).
    pub(crate) fn count(&self, occupied: usize, mut ring: impl FnMut(&Share)) {
        let before = self.own().occupied.swap(occupied as u32, SeqCst);
        let others = || self.shares.iter().filter(|share| !core::ptr::eq(*share, self.own()));
        if (occupied as u32) < before {
            // One that refuses because all are full is to leave that to nobody.
            if before >= self.own().limit() && self.when_full == WhenFull::Refuse {
                others().filter(|share| share.is_full()).for_each(&mut ring);
            }
            // Fewer here brings nobody back who is ahead.
            return;
        }
        if others().any(|share| share.aside.load(SeqCst)) {
            let is_full = self.own().is_full();
            let back_at = comes_back_at(self.fewest().unwrap_or(u32::MAX));
            others()
                .filter(|share| share.aside.load(SeqCst) && !share.is_full())
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
