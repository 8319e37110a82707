use super::*;
use core::sync::atomic::AtomicU64;
use proptest::prelude::*;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec::Vec;

std::thread_local! {
    static MEANWHILE: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    static ACCESSES: Cell<usize> = const { Cell::new(0) };
}

/// The mailbox's word, which lets a test act before each access, as another thread would. A
/// mailbox is this one word, so whatever several threads do to it happens in some order of their
/// accesses: trying each order tries everything that can happen.
#[derive(Debug, Default)]
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) const fn new(word: u64) -> Word {
        Word(AtomicU64::new(word))
    }

    pub(super) fn load(&self, order: Ordering) -> u64 {
        let_others_act();
        self.0.load(order)
    }

    pub(super) fn store(&self, word: u64, order: Ordering) {
        let_others_act();
        self.0.store(word, order);
    }

    pub(super) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let_others_act();
        self.0.compare_exchange(current, new, success, failure)
    }
}

/// Nobody acts before the accesses of those who act.
fn let_others_act() {
    ACCESSES.set(ACCESSES.get() + 1);
    let others = MEANWHILE.with(|meanwhile| meanwhile.borrow_mut().take());
    if let Some(mut others) = others {
        others();
        MEANWHILE.with(|meanwhile| *meanwhile.borrow_mut() = Some(others));
    }
}

#[test]
fn every_outcome_survives_its_word() {
    for fd in [1, 3, 1023, RawFd::MAX] {
        assert_eq!(decode(encode(Outcome::Connected(fd))), Outcome::Connected(fd));
    }
    for reason in FailReason::ALL {
        assert_eq!(decode(encode(Outcome::Failed(reason))), Outcome::Failed(reason));
    }
    assert_eq!(decode(encode(Outcome::Resolved)), Outcome::Resolved);
    assert_eq!(encode(Outcome::Connected(7)), 7 * 64);
    assert_eq!(decode(u64::MAX), Outcome::Failed(FailReason::Other));
}

#[test]
fn a_ticket_survives_its_word() {
    let last = (1 << MAILBOX_BITS) - 1;
    for (mailbox, generation, thread) in
        [(0, 1, 0), (7, 9, 3), (last, GENERATION_MAX, (1 << THREAD_BITS) - 1)]
    {
        let ticket = Ticket { mailbox, generation, thread };
        assert_eq!(Ticket::from_word(ticket.to_word()), ticket);
        assert_ne!(ticket.to_word(), 0);
    }
    assert_eq!(Ticket::from_word(0).generation, 0, "which nobody awaits");
}

#[test]
fn a_ticket_is_good_once() {
    let mailbox = Mailbox::new();
    mailbox.await_outcome(5);
    assert_eq!(mailbox.complete(4, Outcome::Connected(9)), Err(Stale));
    assert_eq!(mailbox.take(), None);
    assert_eq!(mailbox.complete(5, Outcome::Connected(9)), Ok(()));
    assert_eq!(mailbox.complete(5, Outcome::Connected(10)), Err(Stale));
    assert_eq!(mailbox.take(), Some(Outcome::Connected(9)));
    assert_eq!(mailbox.take(), None);
    assert_eq!(mailbox.complete(5, Outcome::Connected(9)), Err(Stale));
}

#[test]
fn an_abort_and_a_completion_agree_on_who_owns_the_descriptor() {
    let mailbox = Mailbox::new();
    mailbox.await_outcome(1);
    assert_eq!(mailbox.abort(), None);
    assert_eq!(mailbox.complete(1, Outcome::Connected(9)), Err(Stale));
    mailbox.await_outcome(2);
    assert_eq!(mailbox.complete(2, Outcome::Connected(9)), Ok(()));
    assert_eq!(mailbox.abort(), Some(Outcome::Connected(9)));
    assert_eq!(Mailbox::next_generation(GENERATION_MAX), 1);
}

/// What the worker does with a mailbox.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take,
    Abort,
    /// A new ticket: the old one is stale, and what it brought is taken over first.
    Renew,
}

const STEPS: [Step; 3] = [Step::Take, Step::Abort, Step::Renew];

/// More accesses than any script of three steps makes.
const ACCESSES_MAX: usize = 14;

/// A connector: before which of the worker's accesses it completes a ticket of which generation
/// with which descriptor, and what it was told.
#[derive(Clone, Debug)]
struct Completer {
    at: usize,
    generation: u32,
    fd: RawFd,
    told: Option<Result<(), Stale>>,
}

impl Completer {
    fn complete(&mut self, mailbox: &Mailbox) {
        let accesses = ACCESSES.get();
        self.told = Some(mailbox.complete(self.generation, Outcome::Connected(self.fd)));
        assert_eq!(ACCESSES.get() - accesses, 1, "it could not be interleaved as a whole");
    }
}

/// Plays one order of accesses; gives the descriptors the worker got, and what the others were told.
fn play(script: &[Step], completers: [Completer; 2]) -> (Vec<RawFd>, Vec<Completer>) {
    let mailbox = Rc::new(Mailbox::new());
    mailbox.await_outcome(1);
    let shared = Rc::new(RefCell::new(completers));
    let others = (Rc::clone(&mailbox), Rc::clone(&shared));
    let mut access = 0;
    MEANWHILE.set(Some(Box::new(move || {
        for completer in others.1.borrow_mut().iter_mut().filter(|other| other.at == access) {
            completer.complete(&others.0);
        }
        access += 1;
    })));
    let mut generation = 1;
    let mut outcomes = Vec::new();
    for step in script {
        match step {
            Step::Take => outcomes.push(mailbox.take()),
            Step::Abort => outcomes.push(mailbox.abort()),
            Step::Renew => {
                outcomes.push(mailbox.abort());
                generation = Mailbox::next_generation(generation);
                mailbox.await_outcome(generation);
            }
        }
    }
    MEANWHILE.set(None);
    for late in shared.borrow_mut().iter_mut().filter(|other| other.told.is_none()) {
        late.complete(&mailbox);
    }
    outcomes.push(mailbox.take());
    let fd = |outcome: Outcome| match outcome {
        Outcome::Connected(fd) => fd,
        other => panic!("nobody reported {other:?}"),
    };
    let completers = shared.borrow().to_vec();
    (outcomes.into_iter().flatten().map(fd).collect(), completers)
}

/// Every script of three steps, and two connectors at every point of it, with the same ticket, the
/// next one, or one that nobody gave out: what a connector is told decides who owns its descriptor.
#[test]
#[cfg_attr(miri, ignore = "26,000 orders on one thread")]
fn in_every_order_each_descriptor_has_one_owner() {
    let scripts = STEPS
        .into_iter()
        .flat_map(|a| STEPS.map(|b| (a, b)))
        .flat_map(|(a, b)| STEPS.map(|c| [a, b, c]));
    let points = || (0..ACCESSES_MAX).flat_map(|a| (0..ACCESSES_MAX).map(move |b| (a, b)));
    let generations = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 7)];
    let (mut owned_by_worker, mut refused) = (0, 0);
    for script in scripts {
        for ((first, second), (ticket, other_ticket)) in
            points().flat_map(|points| generations.map(|generations| (points, generations)))
        {
            let completer = |at, generation, fd| Completer { at, generation, fd, told: None };
            let completers = [completer(first, ticket, 9), completer(second, other_ticket, 10)];
            let (mut taken, completers) = play(&script, completers);
            let mut given: Vec<_> =
                completers.iter().filter(|c| c.told == Some(Ok(()))).map(|c| c.fd).collect();
            taken.sort_unstable();
            given.sort_unstable();
            assert_eq!(taken, given, "{script:?} {completers:?}");
            owned_by_worker += taken.len();
            refused += completers.len() - given.len();
        }
    }
    assert!(owned_by_worker > 1000 && refused > 1000, "{owned_by_worker}, {refused}");
}

/// What a connector wrote before it completed is there for whoever takes the outcome: a resolver's
/// addresses. (Only a machine with weak memory, or Miri, could show the contrary.)
#[test]
fn an_outcome_brings_along_what_was_written_before_it() {
    let (mailbox, addresses) = (Mailbox::new(), AtomicU64::new(0));
    for round in 1..=20 {
        mailbox.await_outcome(round);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                addresses.store(u64::from(round), Ordering::Relaxed);
                mailbox.complete(round, Outcome::Resolved)
            });
            let outcome = loop {
                match if round % 2 == 0 { mailbox.take() } else { mailbox.abort() } {
                    None if round % 2 == 0 => std::thread::yield_now(),
                    outcome => break outcome,
                }
            };
            if let Some(outcome) = outcome {
                assert_eq!(outcome, Outcome::Resolved);
                assert_eq!(addresses.load(Ordering::Relaxed), u64::from(round));
            }
        });
    }
}

proptest! {
    #[test]
    fn every_word_is_some_outcome(word in any::<u64>(), bits in 0..64) {
        let word = word >> bits;
        let outcome = decode(word);
        prop_assert_eq!(decode(encode(outcome)), outcome);
        match outcome {
            Outcome::Connected(fd) => prop_assert!(fd > 0 && encode(outcome) == word),
            Outcome::Resolved => prop_assert_eq!(word, 0),
            Outcome::Failed(_) => {}
        }
        prop_assert!(encode(outcome) < AWAITED, "no outcome looks like none");
    }
}
