//! How a connector on another thread reports its outcome: one 64-bit mailbox word per connection.
//!
//! ```text
//! 63            40 39                                  0
//! | generation 24 | dest_fd * 64 + reason              |   an outcome
//! | generation 24 | all ones                           |   awaited
//! | 0                                                  |   nobody awaits anything
//! ```
//!
//! Invariant: a word leaves "awaited" exactly once, by compare-exchange, either to an outcome (then
//! the worker owns `dest_fd`) or to nothing (then the completer still owns it and is told so).
//! Knows no eventfd: [`crate::share::Commons`] rings the doorbell.

use crate::fail::{FailReason, NUM_CONNECTION_FAIL_REASONS};
use crate::sys::RawFd;
#[cfg(not(test))]
use core::sync::atomic::AtomicU64 as Word;
use core::sync::atomic::Ordering;

const WORD_BITS: u32 = 40;
const AWAITED: u64 = (1 << WORD_BITS) - 1;
const GENERATION_MAX: u32 = (1 << (64 - WORD_BITS)) - 1;
/// In a ticket's own word: as many connections and threads as a table can have.
const MAILBOX_BITS: u32 = 28;
const THREAD_BITS: u32 = 64 - MAILBOX_BITS - (64 - WORD_BITS);

/// What became of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Connected: this descriptor is the dest's, and from now on the proxy's to close.
    Connected(RawFd),
    /// What was waited for is there, the dest itself is still to be connected: a name's addresses
    /// are known now. Descriptor 0, reason 0.
    Resolved,
    /// It could not be connected.
    Failed(FailReason),
}

/// The completion word `dest_fd * NUM_CONNECTION_FAIL_REASONS + reason`; 40 bits are enough for
/// every descriptor.
pub const fn encode(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Connected(fd) => fd as u32 as u64 * NUM_CONNECTION_FAIL_REASONS,
        Outcome::Resolved => 0,
        Outcome::Failed(reason) => reason as u64,
    }
}

/// The outcome a completion word stands for; total: a word with a reason and a descriptor is a
/// failure, and one whose descriptor cannot exist is [`FailReason::Other`].
pub const fn decode(word: u64) -> Outcome {
    let fd = word / NUM_CONNECTION_FAIL_REASONS;
    let reason = FailReason::from_number((word % NUM_CONNECTION_FAIL_REASONS) as u8);
    match reason {
        Some(reason) => Outcome::Failed(reason),
        None if fd == 0 => Outcome::Resolved,
        None if fd <= RawFd::MAX as u64 => Outcome::Connected(fd as RawFd),
        None => Outcome::Failed(FailReason::Other),
    }
}

/// The right to report one outcome, once. Plain data, so it can cross threads and languages.
///
/// ```
/// use seaprox::completion::Ticket;
///
/// // As a number it may go to another thread, or through C.
/// let ticket = Ticket::from_word(0);
/// assert_eq!(Ticket::from_word(ticket.to_word()), ticket);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The mailbox's number, over all threads' tables.
    pub(crate) mailbox: u32,
    /// 1..=GENERATION_MAX.
    pub(crate) generation: u32,
    /// Whose doorbell to ring.
    pub(crate) thread: u32,
}

impl Ticket {
    /// The ticket as one number, for a language that keeps no struct of ours; never 0.
    pub const fn to_word(self) -> u64 {
        (self.generation as u64) << (MAILBOX_BITS + THREAD_BITS)
            | (self.thread as u64) << MAILBOX_BITS
            | self.mailbox as u64
    }

    /// The ticket with this number; one that nobody gave out is stale.
    pub const fn from_word(word: u64) -> Ticket {
        Ticket {
            mailbox: (word & ((1 << MAILBOX_BITS) - 1)) as u32,
            generation: (word >> (MAILBOX_BITS + THREAD_BITS)) as u32,
            thread: (word >> MAILBOX_BITS & ((1 << THREAD_BITS) - 1)) as u32,
        }
    }

    /// The number of the mailbox, below MAX_NUM_CONNECTIONS: one ticket at a time is good for it.
    pub fn mailbox(&self) -> usize {
        self.mailbox as usize
    }
}

/// The ticket was used, or its connection timed out or was aborted: nothing was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// One connection's mailbox. All zeroes: nobody awaits anything.
#[derive(Debug, Default)]
pub struct Mailbox(Word);

impl Mailbox {
    /// A mailbox that awaits nothing.
    pub const fn new() -> Self {
        Mailbox(Word::new(0))
    }

    /// The generation after `generation`, never 0.
    pub(crate) const fn next_generation(generation: u32) -> u32 {
        generation % GENERATION_MAX + 1
    }

    /// From now on an outcome with this generation is awaited.
    pub(crate) fn await_outcome(&self, generation: u32) {
        debug_assert!(generation != 0 && generation <= GENERATION_MAX);
        self.0.store(u64::from(generation) << WORD_BITS | AWAITED, Ordering::Release);
    }

    /// Reports an outcome; O(1), from any thread.
    pub(crate) fn complete(&self, generation: u32, outcome: Outcome) -> Result<(), Stale> {
        let high = u64::from(generation) << WORD_BITS;
        let (awaited, done) = (high | AWAITED, high | encode(outcome));
        self.0
            .compare_exchange(awaited, done, Ordering::AcqRel, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|_| Stale)
    }

    /// Takes the outcome, if one was reported.
    pub(crate) fn take(&self) -> Option<Outcome> {
        let word = self.0.load(Ordering::Acquire);
        if word == 0 || word & AWAITED == AWAITED {
            return None;
        }
        // Only the worker leaves the reported state, so a plain store cannot lose anything.
        self.0.store(0, Ordering::Release);
        Some(decode(word & AWAITED))
    }

    /// Awaits nothing any more; gives the outcome that came first, whose descriptor is ours.
    pub(crate) fn abort(&self) -> Option<Outcome> {
        let word = self.0.load(Ordering::Acquire);
        if word != 0
            && word & AWAITED == AWAITED
            && self.0.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            return None;
        }
        self.take()
    }
}

#[cfg(test)]
#[path = "completion_tests.rs"]
mod tests;
#[cfg(test)]
use tests::Word;
