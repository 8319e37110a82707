//! What the threads of one proxy show each other: a doorbell, how full each is, counters, and the
//! mailboxes. Everything here is atomic and nothing here blocks. Knows no table.

use crate::completion::{Mailbox, Outcome, Stale, Ticket};
use crate::fail::FailReason;
use crate::sys::{RawFd, Sys};
use crate::transport::Intake;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// What the whole proxy is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Order {
    /// Accept and relay.
    Run = 0,
    /// Take what is queued, accept nothing more, finish what runs.
    Drain = 1,
    /// End at once: what runs is reset.
    Stop = 2,
}

/// One thread's doorbell, fill and counters; a cache line of its own, so that no thread slows
/// another by counting. All zeroes: not running.
#[derive(Debug)]
#[repr(align(64))]
pub struct Share {
    /// The eventfd, 0 when the thread does not run.
    doorbell: AtomicI32,
    /// Threads that are ringing it right now.
    ringing: AtomicU32,
    /// It was rung and has not been heard: ringing again would only cost.
    rung: AtomicBool,
    pub(crate) occupied: AtomicU32,
    pub(crate) limit: AtomicU32,
    pub(crate) aside: AtomicBool,
    /// An [`Intake`], the dest's.
    pub(crate) intake: AtomicU8,
    /// What happened so far.
    pub counters: Counters,
}

/// What happened on one thread since its start. Each has one writer, the thread itself.
#[derive(Debug)]
pub struct Counters {
    accepted: AtomicU64,
    connected: AtomicU64,
    closed: AtomicU64,
    bytes: AtomicU64,
    failed: [AtomicU64; FailReason::ALL.len() + 1],
}

impl Counters {
    const fn new() -> Self {
        Counters {
            accepted: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: [const { AtomicU64::new(0) }; FailReason::ALL.len() + 1],
        }
    }

    /// Connections taken from the source.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections whose dest was reached.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Connections that ended, however.
    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Bytes relayed by the connections that ended, both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Connections that ended, or were not made, for this reason.
    pub fn failed(&self, reason: FailReason) -> u64 {
        self.failed[reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_accepted(&self) {
        add(&self.accepted, 1);
    }

    pub(crate) fn count_connected(&self) {
        add(&self.connected, 1);
    }

    pub(crate) fn count_failed(&self, reason: FailReason) {
        add(&self.failed[reason as usize], 1);
    }

    pub(crate) fn count_closed(&self, bytes: u64, reason: Option<FailReason>) {
        add(&self.closed, 1);
        add(&self.bytes, bytes);
        if let Some(reason) = reason {
            self.count_failed(reason);
        }
    }
}

/// One writer: a load and a store, no locked instruction.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Share {
    pub(crate) const fn new() -> Self {
        Share {
            doorbell: AtomicI32::new(0),
            ringing: AtomicU32::new(0),
            rung: AtomicBool::new(false),
            occupied: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            aside: AtomicBool::new(false),
            intake: AtomicU8::new(Intake::Takes as u8),
            counters: Counters::new(),
        }
    }

    /// Connections this thread holds now.
    pub fn occupied(&self) -> u32 {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Connections this thread may hold.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether the thread takes part.
    pub(crate) fn runs(&self) -> bool {
        self.doorbell.load(Ordering::Relaxed) != 0
    }

    /// Whether the thread's dest, or the thread itself, has no room, or not even a way.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_full() || self.intake.load(Ordering::SeqCst) >= Intake::Full as u8
    }

    pub(crate) fn is_full(&self) -> bool {
        self.occupied.load(Ordering::SeqCst) >= self.limit()
    }

    /// Whether the thread's dest connects who comes.
    pub(crate) fn takes(&self) -> bool {
        self.intake.load(Ordering::SeqCst) == Intake::Takes as u8
    }

    /// Whether the thread's dest can connect nobody, and will not in a moment.
    pub(crate) fn is_down(&self) -> bool {
        self.intake.load(Ordering::SeqCst) >= Intake::Down as u8
    }

    pub(crate) fn set_doorbell(&self, eventfd: RawFd) {
        self.doorbell.store(eventfd, Ordering::SeqCst);
    }

    /// Wakes the thread, if it runs.
    pub(crate) fn ring<K: Sys>(&self, sys: K) {
        // Said before the number is read, as `take_doorbell` takes the number away before it looks
        // for ringers (sequential consistency): either it sees us, or we see that it is gone.
        self.ringing.fetch_add(1, Ordering::SeqCst);
        let eventfd = self.doorbell.load(Ordering::SeqCst);
        if eventfd != 0 && !self.rung.swap(true, Ordering::SeqCst) {
            sys.ring(eventfd);
        }
        self.ringing.fetch_sub(1, Ordering::SeqCst);
    }

    /// The thread has heard it and is about to look at what it was rung for: whatever changes from
    /// now on rings anew.
    pub(crate) fn heard(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Nobody rings any more once this returns, so the eventfd can be closed and its number be
    /// somebody else's. Waits for those who are ringing: for the length of a system call.
    pub(crate) fn take_doorbell(&self) {
        self.doorbell.store(0, Ordering::SeqCst);
        while self.ringing.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
    }
}

/// What all threads of one proxy see.
///
/// ```
/// use seaprox::Seaprox;
/// use seaprox::completion::{Outcome, Stale, Ticket};
/// use seaprox::fail::FailReason;
/// use seaprox::share::Order;
/// use seaprox::sys::Linux;
///
/// static PROXY: Seaprox<8, 1> = Seaprox::new();
///
/// let commons = PROXY.commons();
/// let nobodys = Ticket::from_word(0);
/// let failed = Outcome::Failed(FailReason::Unreachable);
/// assert_eq!(commons.complete(Linux, nobodys, failed), Err(Stale));
/// commons.order(Linux, Order::Drain);
/// assert_eq!(commons.ordered(), Order::Drain);
/// assert_eq!(commons.shares()[0].occupied(), 0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Commons<'a> {
    pub(crate) mailboxes: &'a [Mailbox],
    pub(crate) shares: &'a [Share],
    pub(crate) order: &'a AtomicU8,
}

impl<'a> Commons<'a> {
    /// Reports the outcome of a connect from any thread, and wakes the worker that awaits it.
    ///
    /// `Ok`: the worker owns the descriptor now. [`Stale`]: the ticket was used, or its connection
    /// timed out or was aborted; the descriptor is still the caller's. O(1).
    pub fn complete<K: Sys>(&self, sys: K, ticket: Ticket, outcome: Outcome) -> Result<(), Stale> {
        let mailbox = self.mailboxes.get(ticket.mailbox as usize).ok_or(Stale)?;
        mailbox.complete(ticket.generation, outcome)?;
        if let Some(share) = self.shares.get(ticket.thread as usize) {
            share.ring(sys);
        }
        Ok(())
    }

    /// Tells every thread what to do from now on; an order is never taken back to a lesser one.
    pub fn order<K: Sys>(&self, sys: K, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.shares.iter().for_each(|share| share.ring(sys));
    }

    /// What the proxy was told last.
    pub fn ordered(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Stop,
        }
    }

    /// Each thread's fill and counters.
    pub fn shares(&self) -> &'a [Share] {
        self.shares
    }
}

/// What tests of a connector on other threads need of a proxy: mailboxes, and no workers.
#[cfg(any(test, feature = "sim"))]
impl<'a> Commons<'a> {
    /// Mailboxes that nobody serves.
    pub const fn of_mailboxes(mailboxes: &'a [Mailbox], order: &'a AtomicU8) -> Commons<'a> {
        Commons { mailboxes, shares: &[], order }
    }

    /// Lets a mailbox await an outcome: what a worker does before it connects.
    pub fn await_outcome(&self, mailbox: u32, generation: u32) -> Ticket {
        self.mailboxes[mailbox as usize].await_outcome(generation);
        Ticket { mailbox, generation, thread: 0 }
    }

    /// Takes a mailbox's outcome, if it has one.
    pub fn take(&self, mailbox: u32) -> Option<Outcome> {
        self.mailboxes[mailbox as usize].take()
    }

    /// Lets a mailbox await nothing any more: what a worker does when it gives a dest up.
    pub fn abort(&self, mailbox: u32) -> Option<Outcome> {
        self.mailboxes[mailbox as usize].abort()
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
