//! Names into addresses on threads of the resolver's own, so that no worker ever waits for DNS.
//! A small cache of names, one lookup a name at a time, and one ticket a mailbox that waits for it.
//! Knows no socket. Allocates nothing after [`Resolver::start`]; what libc's `getaddrinfo` takes
//! from malloc on these threads is limited by their number.
//!
//! ```text
//! vacant -> queued -> looking -> known | failed -> queued ..      another name may take the place
//!                        ^---------|  flushed meanwhile           of a known or failed one
//! ```
//!
//! Invariant: only a queued or looking name has tickets that wait, and one that was just found or
//! failed until all of them are told: so long it stays as it is. The lock is held neither over a
//! lookup nor while a ticket is completed.

use crate::lookup;
use crate::resolve::{Addresses, Lookup, Resolve};
use crate::targets::NAME_BYTES_MAX;
use arrayvec::ArrayVec;
use core::ffi::CStr;
use core::marker::PhantomData;
use seaprox::completion::{Outcome, Ticket};
use seaprox::fail::FailReason;
use seaprox::share::Commons;
use seaprox::sys::{Linux, Sys};
use seaprox::time::Instant;
use std::io;
use std::string::String;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How long addresses are good for.
pub const KNOWN_MILLIS: u32 = 5000;
/// How long a failure is remembered, so that a name that does not exist is not asked for by each
/// of a thousand clients.
pub const FAILED_MILLIS: u32 = 1000;
/// A thread's stack: `getaddrinfo` and the modules of nsswitch run on it.
pub const STACK_BYTES: usize = 256 * 1024;
/// How many tickets are completed between two looks at the list.
const BATCH: usize = 64;

/// How one name is looked up, and what time it is.
pub trait Query: 'static {
    /// Looks a name up, however long that takes; no address is a failure.
    fn look_up(name: &CStr, prefer_ipv4: bool) -> Addresses;

    /// The time answers grow old by.
    fn now() -> Instant {
        Linux.now()
    }
}

/// The system's own resolver, getaddrinfo(3).
pub struct System;

impl Query for System {
    fn look_up(name: &CStr, prefer_ipv4: bool) -> Addresses {
        lookup::look_up(name, prefer_ipv4)
    }
}

/// How a resolver runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many lookups run at once.
    pub threads: usize,
    /// Which family comes first.
    pub prefer_ipv4: bool,
    /// What each of its threads does before it looks anything up.
    pub prepare: fn(),
}

/// Looks up a name that nobody can have, so that the C library loads what lookups are made of:
/// the modules of nsswitch.conf(5), of which glibc loads some only when they are asked. A label of
/// 64 bytes fits into no query (RFC 1035 section 2.3.4), so nothing is sent to anybody.
pub fn load() {
    let mut name = [b'a'; 65];
    name[64] = 0;
    let name = CStr::from_bytes_until_nul(&name).unwrap_or(c"");
    let _ = lookup::look_up(name, false);
}

/// A resolver that knows `NAMES` names at most, for tickets of `WAITERS` mailboxes: as many as
/// there are connections, so a ticket always finds room to wait.
pub struct Resolver<const NAMES: usize, const WAITERS: usize, Q = System> {
    state: Mutex<State<NAMES, WAITERS>>,
    queued: Condvar,
    started: Condvar,
    query: PhantomData<fn() -> Q>,
}

struct State<const NAMES: usize, const WAITERS: usize> {
    entries: [Entry; NAMES],
    /// One for each mailbox.
    waiters: [Waiter; WAITERS],
    /// Grows with each name that is queued: the oldest is looked up first.
    turn: u64,
    /// Threads that run.
    threads: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Vacant,
    Queued,
    Looking,
    Known,
    Failed,
}

struct Entry {
    step: Step,
    /// It was flushed while looking: what was found may be old.
    again: bool,
    length: u8,
    /// Zeroes behind the name end it for libc.
    name: [u8; NAME_BYTES_MAX + 1],
    /// The first waiter's index + 1; 0 is none.
    first: u32,
    /// Queued: its turn. Known or failed: the millisecond until which that is good.
    stamp: u64,
    /// Kept while the name is looked up again.
    addresses: Addresses,
}

/// A node of an entry's list of waiters; indices + 1, and 0 is none.
#[derive(Clone, Copy)]
struct Waiter {
    ticket: Option<Ticket>,
    entry: u32,
    previous: u32,
    next: u32,
}

impl<const NAMES: usize, const WAITERS: usize, Q: Query> Resolver<NAMES, WAITERS, Q> {
    /// The bytes of its static memory.
    pub const MEMORY_BYTES: usize = size_of::<Self>();

    /// A resolver that knows nothing and whose threads do not run.
    pub const fn new() -> Self {
        const { assert!(NAMES >= 1 && WAITERS >= 1 && WAITERS < u32::MAX as usize) };
        Resolver {
            state: Mutex::new(State {
                entries: [const { Entry::VACANT }; NAMES],
                waiters: [Waiter { ticket: None, entry: 0, previous: 0, next: 0 }; WAITERS],
                turn: 0,
                threads: 0,
            }),
            queued: Condvar::new(),
            started: Condvar::new(),
            query: PhantomData,
        }
    }

    /// Starts its threads, and returns when all of them run: what a thread allocates for itself is
    /// allocated by then. Outcomes go to `commons`.
    pub fn start(&'static self, commons: Commons<'static>, options: Options) -> io::Result<()> {
        for _ in 0..options.threads {
            std::thread::Builder::new()
                .name(String::from("resolver"))
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    (options.prepare)();
                    self.run(commons, options.prefer_ipv4);
                })?;
        }
        let state = self.lock();
        let all = self.started.wait_while(state, |state| state.threads < options.threads);
        drop(all.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Forgets how fresh everything is: each name is looked up again before its next use.
    pub fn flush(&self) {
        for entry in &mut self.lock().entries {
            match entry.step {
                Step::Known | Step::Failed => entry.stamp = 0,
                Step::Looking => entry.again = true,
                Step::Vacant | Step::Queued => {}
            }
        }
    }

    /// What is known of a name, for whoever has no ticket: what is not known, or too old, is looked
    /// up, and [`Lookup::Waiting`] means to ask again a little later, until it is known. An answer
    /// stays for [`KNOWN_MILLIS`] or [`FAILED_MILLIS`]; ask more often than that, or it may be gone
    /// when it is asked for. Without [`Resolver::start`] one waits for ever. O(NAMES).
    pub fn ask(&self, name: &str) -> Lookup {
        self.answer_or_queue(name, None)
    }

    /// The answer, if there is one; else the name is looked up, and the ticket waits for it.
    fn answer_or_queue(&self, name: &str, ticket: Option<Ticket>) -> Lookup {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.as_bytes().contains(&0) {
            return Lookup::Failed(FailReason::NameResolution);
        }
        let now = Q::now();
        let mut state = self.lock();
        let Some(index) = state.find(name).or_else(|| state.settle(name)) else {
            return Lookup::Failed(FailReason::ResolverFull);
        };
        if let Some(answer) = state.entries[index].answer(now) {
            return answer;
        }
        if ticket.is_some_and(|ticket| !state.wait(index, ticket)) {
            return Lookup::Failed(FailReason::ResolverFull);
        }
        if state.enqueue(index) {
            drop(state);
            self.queued.notify_one();
        }
        Lookup::Waiting
    }

    /// No panic can poison it: they abort.
    fn lock(&self) -> MutexGuard<'_, State<NAMES, WAITERS>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, commons: Commons<'static>, prefer_ipv4: bool) {
        let mut state = self.lock();
        state.threads += 1;
        self.started.notify_all();
        loop {
            let Some(index) = state.next_queued() else {
                state = self.queued.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.entries[index].step = Step::Looking;
            let name = state.entries[index].name;
            drop(state);
            let name = CStr::from_bytes_until_nul(&name).unwrap_or(c"");
            let addresses = Q::look_up(name, prefer_ipv4);
            state = self.lock();
            if let Some(outcome) = state.finish(index, addresses, Q::now()) {
                state = self.tell(state, index, commons, outcome);
            }
        }
    }

    /// Completes the tickets that wait for a name, a batch at a time, without the lock.
    fn tell<'s>(
        &'s self,
        mut state: MutexGuard<'s, State<NAMES, WAITERS>>,
        index: usize,
        commons: Commons<'static>,
        outcome: Outcome,
    ) -> MutexGuard<'s, State<NAMES, WAITERS>> {
        // At most WAITERS / BATCH rounds: nobody joins a list that is being told. Once it is empty
        // the entry may be queued again or another name's, so its new list is not looked at.
        loop {
            let (batch, more) = state.take_waiters(index);
            drop(state);
            for ticket in batch {
                // Stale: its connection timed out or was aborted, and nobody waits any more.
                let _ = commons.complete(Linux, ticket, outcome);
            }
            state = self.lock();
            if !more {
                return state;
            }
        }
    }
}

impl<const NAMES: usize, const WAITERS: usize, Q: Query> Default for Resolver<NAMES, WAITERS, Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const NAMES: usize, const WAITERS: usize, Q: Query> Resolve for Resolver<NAMES, WAITERS, Q> {
    fn lookup(&self, name: &str, ticket: Ticket) -> Lookup {
        self.answer_or_queue(name, Some(ticket))
    }

    fn addresses(&self, name: &str) -> Option<Addresses> {
        let state = self.lock();
        let entry = &state.entries[state.find(name)?];
        (!entry.addresses.is_empty()).then(|| entry.addresses.clone())
    }
}

impl Entry {
    const VACANT: Entry = Entry {
        step: Step::Vacant,
        again: false,
        length: 0,
        name: [0; NAME_BYTES_MAX + 1],
        first: 0,
        stamp: 0,
        addresses: ArrayVec::new_const(),
    };

    /// Names do not differ by case (RFC 4343).
    fn is_called(&self, name: &str) -> bool {
        usize::from(self.length) == name.len()
            && self.name[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    }

    /// What is known, if it is still good.
    fn answer(&self, now: Instant) -> Option<Lookup> {
        // One whose waiters are not all told is good whatever its age.
        if now.as_millis() >= self.stamp && self.first == 0 {
            return None;
        }
        match self.step {
            Step::Known => Some(Lookup::Known(self.addresses.clone())),
            Step::Failed => Some(Lookup::Failed(FailReason::NameResolution)),
            Step::Vacant | Step::Queued | Step::Looking => None,
        }
    }

    /// Whether another name may take its place.
    fn is_free(&self) -> bool {
        match self.step {
            Step::Vacant => true,
            Step::Queued | Step::Looking => false,
            Step::Known | Step::Failed => self.first == 0,
        }
    }
}

/// O(NAMES) where it looks for a name, else O(1).
impl<const NAMES: usize, const WAITERS: usize> State<NAMES, WAITERS> {
    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is_called(name))
    }

    /// Gives the name the place of one that is free, the oldest first; `None` if all are busy.
    fn settle(&mut self, name: &str) -> Option<usize> {
        let free = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_free());
        let (index, _) = free.min_by_key(|(_, entry)| entry.stamp)?;
        let entry = &mut self.entries[index];
        *entry = Entry { length: name.len() as u8, ..Entry::VACANT };
        entry.name[..name.len()].copy_from_slice(name.as_bytes());
        Some(index)
    }

    /// Whether it was not queued or looked up already.
    fn enqueue(&mut self, index: usize) -> bool {
        let entry = &mut self.entries[index];
        if matches!(entry.step, Step::Queued | Step::Looking) {
            return false;
        }
        self.turn += 1;
        entry.step = Step::Queued;
        entry.stamp = self.turn;
        true
    }

    fn next_queued(&self) -> Option<usize> {
        let queued =
            self.entries.iter().enumerate().filter(|(_, entry)| entry.step == Step::Queued);
        queued.min_by_key(|(_, entry)| entry.stamp).map(|(index, _)| index)
    }

    /// Keeps what was found; what its waiters are to be told, or `None` if it is looked up again.
    fn finish(&mut self, index: usize, addresses: Addresses, now: Instant) -> Option<Outcome> {
        let entry = &mut self.entries[index];
        if core::mem::take(&mut entry.again) {
            entry.step = Step::Failed;
            self.enqueue(index);
            return None;
        }
        let failed = addresses.is_empty();
        entry.addresses = addresses;
        let (step, good_for, outcome) = if failed {
            (Step::Failed, FAILED_MILLIS, Outcome::Failed(FailReason::NameResolution))
        } else {
            (Step::Known, KNOWN_MILLIS, Outcome::Resolved)
        };
        entry.step = step;
        entry.stamp = now.after(good_for).as_millis();
        Some(outcome)
    }

    /// Lets the ticket wait for this name, and its mailbox for nothing else; whether there is such
    /// a mailbox.
    fn wait(&mut self, index: usize, ticket: Ticket) -> bool {
        let mailbox = ticket.mailbox();
        if mailbox >= WAITERS {
            return false;
        }
        self.unlink(mailbox);
        let own = mailbox as u32 + 1;
        let next = core::mem::replace(&mut self.entries[index].first, own);
        let entry = index as u32 + 1;
        self.waiters[mailbox] = Waiter { ticket: Some(ticket), entry, previous: 0, next };
        if next != 0 {
            self.waiters[next as usize - 1].previous = own;
        }
        true
    }

    /// The ticket of this mailbox waits no more.
    fn unlink(&mut self, mailbox: usize) -> Option<Ticket> {
        let waiter = &mut self.waiters[mailbox];
        let ticket = waiter.ticket.take()?;
        let Waiter { entry, previous, next, .. } = *waiter;
        match previous {
            0 => self.entries[entry as usize - 1].first = next,
            _ => self.waiters[previous as usize - 1].next = next,
        }
        if next != 0 {
            self.waiters[next as usize - 1].previous = previous;
        }
        Some(ticket)
    }

    /// Some of the tickets that wait for a name, and whether more do.
    fn take_waiters(&mut self, index: usize) -> (ArrayVec<Ticket, BATCH>, bool) {
        let mut batch = ArrayVec::new();
        while !batch.is_full() && self.entries[index].first != 0 {
            let mailbox = self.entries[index].first as usize - 1;
            batch.extend(self.unlink(mailbox));
        }
        (batch, self.entries[index].first != 0)
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
