use super::*;
use core::net::{IpAddr, Ipv4Addr};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use seaprox::completion::Mailbox;
use std::boxed::Box;
use std::string::ToString;
use std::thread::sleep;
use std::vec::Vec;
use std::{format, vec};

const NAMES: usize = 4;
const WAITERS: usize = 200;

/// What a test's lookups do: `none..` has no address, `slow..` waits for the gate, any other name
/// has one that tells how many lookups there were.
struct Control {
    now: AtomicU64,
    asked: Mutex<Vec<String>>,
    shut: Mutex<bool>,
    opened: Condvar,
}

static CONTROLS: [Control; 9] = [const {
    Control {
        now: AtomicU64::new(1),
        asked: Mutex::new(Vec::new()),
        shut: Mutex::new(false),
        opened: Condvar::new(),
    }
}; 9];

struct Fake<const TEST: usize>;

impl<const TEST: usize> Query for Fake<TEST> {
    fn look_up(name: &CStr, _: bool) -> Addresses {
        let control = &CONTROLS[TEST];
        let name = name.to_str().unwrap().to_string();
        let slow = name.starts_with("slow");
        let none = name.starts_with("none");
        let count = {
            let mut asked = control.asked.lock().unwrap();
            asked.push(name);
            asked.len()
        };
        if slow {
            let shut = control.shut.lock().unwrap();
            drop(control.opened.wait_while(shut, |shut| *shut).unwrap());
        }
        let address = IpAddr::from(Ipv4Addr::new(10, 0, (count >> 8) as u8, count as u8));
        if none { Addresses::new() } else { Addresses::from_iter([address]) }
    }

    fn now() -> Instant {
        Instant::from_millis(CONTROLS[TEST].now.load(Ordering::SeqCst))
    }
}

struct Bed<const TEST: usize> {
    resolver: &'static Resolver<NAMES, WAITERS, Fake<TEST>>,
    commons: Commons<'static>,
}

static ORDER: AtomicU8 = AtomicU8::new(0);

fn mailboxes() -> Commons<'static> {
    let mailboxes: Vec<Mailbox> = (0..WAITERS).map(|_| Mailbox::new()).collect();
    Commons::of_mailboxes(Vec::leak(mailboxes), &ORDER)
}

impl<const TEST: usize> Bed<TEST> {
    fn new(threads: usize) -> Self {
        let resolver: &'static _ = Box::leak(Box::new(Resolver::new()));
        let commons = mailboxes();
        resolver.start(commons, Options { threads, prefer_ipv4: false, prepare: || {} }).unwrap();
        Bed { resolver, commons }
    }

    fn lookup(&self, name: &str, mailbox: u32, generation: u32) -> Lookup {
        self.resolver.lookup(name, self.commons.await_outcome(mailbox, generation))
    }

    fn told(&self, mailbox: u32) -> Outcome {
        told(&self.commons, mailbox)
    }

    fn asked(&self) -> Vec<String> {
        CONTROLS[TEST].asked.lock().unwrap().clone()
    }

    /// Waits until so many lookups have begun.
    fn wait_asked(&self, count: usize) {
        for _ in 0..5000 {
            if self.asked().len() >= count {
                return;
            }
            sleep(Duration::from_millis(1));
        }
        panic!("{:?}", self.asked());
    }

    fn pass(&self, millis: u64) {
        CONTROLS[TEST].now.fetch_add(millis, Ordering::SeqCst);
    }

    fn shut(&self, shut: bool) {
        *CONTROLS[TEST].shut.lock().unwrap() = shut;
        CONTROLS[TEST].opened.notify_all();
    }
}

fn told(commons: &Commons<'_>, mailbox: u32) -> Outcome {
    for _ in 0..5000 {
        if let Some(outcome) = commons.take(mailbox) {
            return outcome;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("mailbox {mailbox} was never told");
}

fn known(count: u8) -> Lookup {
    Lookup::Known(Addresses::from_iter([IpAddr::from([10, 0, 0, count])]))
}

#[test]
fn found_once_kept_a_while_and_looked_up_again() {
    let bed = Bed::<0>::new(2);
    assert_eq!(bed.resolver.addresses("a.example"), None);
    assert_eq!(bed.lookup("a.example", 0, 1), Lookup::Waiting);
    assert_eq!(bed.told(0), Outcome::Resolved);
    bed.pass(u64::from(KNOWN_MILLIS) - 1);
    assert_eq!(bed.lookup("A.EXAMPLE", 0, 2), known(1), "case does not matter");
    bed.pass(1);
    assert_eq!(
        bed.resolver.addresses("a.example"),
        Some(Addresses::from_iter([[10, 0, 0, 1].into()]))
    );
    assert_eq!(bed.lookup("a.example", 0, 3), Lookup::Waiting, "too old");
    assert_eq!(bed.told(0), Outcome::Resolved);
    assert_eq!(bed.lookup("a.example", 0, 4), known(2));

    bed.resolver.flush();
    assert_eq!(bed.lookup("a.example", 0, 5), Lookup::Waiting, "flushed");
    assert_eq!(bed.told(0), Outcome::Resolved);
    assert_eq!(bed.lookup("a.example", 0, 6), known(3));
    assert_eq!(bed.asked(), ["a.example"; 3]);
}

#[test]
fn a_failure_is_remembered_a_short_time() {
    let bed = Bed::<1>::new(1);
    let failed = FailReason::NameResolution;
    assert_eq!(bed.lookup("none.example", 0, 1), Lookup::Waiting);
    assert_eq!(bed.told(0), Outcome::Failed(failed));
    bed.pass(u64::from(FAILED_MILLIS) - 1);
    assert_eq!(bed.lookup("none.example", 0, 2), Lookup::Failed(failed));
    assert_eq!(bed.resolver.addresses("none.example"), None);
    bed.pass(1);
    assert_eq!(bed.lookup("none.example", 0, 3), Lookup::Waiting);
    assert_eq!(bed.told(0), Outcome::Failed(failed));
    for bad in ["", "a\0b", &"a".repeat(255)] {
        assert_eq!(bed.lookup(bad, 0, 4), Lookup::Failed(failed));
    }
    assert_eq!(bed.lookup(&"a".repeat(254), 0, 5), Lookup::Waiting);
    assert_eq!(bed.told(0), Outcome::Resolved);
    assert_eq!(bed.asked().last().unwrap().len(), 254);
}

#[test]
fn one_lookup_a_name_however_many_wait_and_nobody_else_waits() {
    let bed = Bed::<2>::new(2);
    bed.shut(true);
    for mailbox in 0..150 {
        assert_eq!(bed.lookup("slow.example", mailbox, 1), Lookup::Waiting);
    }
    bed.wait_asked(1);
    assert_eq!(bed.lookup("quick.example", 150, 1), Lookup::Waiting);
    assert_eq!(bed.told(150), Outcome::Resolved, "the other thread looks it up meanwhile");
    bed.shut(false);
    for mailbox in 0..150 {
        assert_eq!(bed.told(mailbox), Outcome::Resolved);
    }
    assert_eq!(bed.asked(), ["slow.example", "quick.example"]);
}

#[test]
fn when_every_place_is_busy_a_new_name_is_refused_and_old_ones_are_not() {
    let bed = Bed::<3>::new(1);
    bed.shut(true);
    for number in 0..NAMES as u32 {
        assert_eq!(bed.lookup(&format!("slow{number}"), number, 1), Lookup::Waiting);
    }
    let full = Lookup::Failed(FailReason::ResolverFull);
    assert_eq!(bed.lookup("new", 10, 1), full);
    assert_eq!(bed.lookup("slow2", 11, 1), Lookup::Waiting, "one that is queued already");
    assert_eq!(
        bed.lookup("slow2", WAITERS as u32 - 1, 1),
        Lookup::Waiting,
        "the last mailbox has a place of its own"
    );
    bed.shut(false);
    for mailbox in [0, 1, 2, 3, 11, WAITERS as u32 - 1] {
        assert_eq!(bed.told(mailbox), Outcome::Resolved);
    }
    assert_eq!(bed.asked(), ["slow0", "slow1", "slow2", "slow3"], "first come, first served");

    assert_eq!(bed.lookup("new", 10, 2), Lookup::Waiting, "the oldest makes room");
    assert_eq!(bed.told(10), Outcome::Resolved);
    assert_eq!(bed.resolver.addresses("slow0"), None);
    assert!(bed.resolver.addresses("slow1").is_some());
}

#[test]
fn a_mailbox_that_gave_up_and_waits_for_another_name_is_told_of_that_one() {
    let bed = Bed::<4>::new(1);
    bed.shut(true);
    for mailbox in 0..3 {
        assert_eq!(bed.lookup("slow0", mailbox, 1), Lookup::Waiting);
    }
    bed.wait_asked(1);
    // From the middle of the list, and its first and last.
    assert_eq!(bed.lookup("none1", 1, 2), Lookup::Waiting);
    assert_eq!(bed.lookup("none1", 2, 2), Lookup::Waiting);
    assert_eq!(bed.lookup("none1", 0, 2), Lookup::Waiting);
    assert_eq!(bed.lookup("slow0", 3, 1), Lookup::Waiting);
    assert_eq!(bed.lookup("slow0", 0, 3), Lookup::Waiting, "and back again");
    assert_eq!(bed.lookup("slow0", 0, 4), Lookup::Waiting, "and once more");
    bed.shut(false);
    let failed = Outcome::Failed(FailReason::NameResolution);
    let outcomes = [Outcome::Resolved, failed, failed, Outcome::Resolved];
    assert_eq!([0, 1, 2, 3].map(|mailbox| bed.told(mailbox)), outcomes);
}

#[test]
fn what_was_flushed_while_it_was_looked_up_is_looked_up_again() {
    let bed = Bed::<5>::new(1);
    bed.shut(true);
    assert_eq!(bed.lookup("slow", 0, 1), Lookup::Waiting);
    bed.wait_asked(1);
    bed.resolver.flush();
    assert_eq!(bed.lookup("slow", 1, 1), Lookup::Waiting);
    bed.shut(false);
    assert_eq!((bed.told(0), bed.told(1)), (Outcome::Resolved, Outcome::Resolved));
    assert_eq!(bed.lookup("slow", 0, 2), known(2));
    assert_eq!(bed.asked(), ["slow", "slow"]);
}

/// Many names, mailboxes that give up, flushes, the clock: every ticket that waits is told in the
/// end, and each of what its name has.
#[test]
fn everybody_who_waits_is_told() {
    let bed = Bed::<6>::new(3);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut waiting: Vec<Option<String>> = vec![None; WAITERS];
    let mut generation = 0;
    let (mut refused, mut joined, mut given_up) = (0, 0, 0);
    for _ in 0..20_000 {
        match random(100) {
            0 => bed.resolver.flush(),
            1..10 => bed.pass(random(300)),
            _ => {}
        }
        let mailbox = random(WAITERS as u64) as usize;
        let kind = ["none", "some"][random(2) as usize];
        let expected = |name: &str| match name.starts_with("none") {
            true => Outcome::Failed(FailReason::NameResolution),
            false => Outcome::Resolved,
        };
        if let Some(name) = waiting[mailbox].take() {
            if random(2) == 0 {
                assert_eq!(bed.told(mailbox as u32), expected(&name), "{name}");
            } else {
                given_up += 1;
            }
        }
        generation += 1;
        let name = format!("{kind}{}", random(5));
        match bed.lookup(&name, mailbox as u32, generation) {
            Lookup::Waiting => {
                joined += 1;
                waiting[mailbox] = Some(name);
            }
            Lookup::Known(_) => assert_eq!(expected(&name), Outcome::Resolved),
            Lookup::Failed(FailReason::ResolverFull) => refused += 1,
            Lookup::Failed(_) => assert_ne!(expected(&name), Outcome::Resolved),
        }
    }
    for (mailbox, name) in waiting.iter().enumerate() {
        if let Some(name) = name {
            let failed = name.starts_with("none");
            let outcome = bed.told(mailbox as u32);
            assert_eq!(outcome == Outcome::Resolved, !failed, "{name}");
        }
    }
    assert!(joined > 100 && given_up > 10, "{joined} {given_up} {refused}");
    assert!(bed.resolver.lock().waiters.iter().all(|waiter| waiter.ticket.is_none()));
    assert!(bed.resolver.lock().entries.iter().all(|entry| entry.first == 0));
}

#[test]
fn the_system_is_asked_by_threads_with_small_stacks() {
    static RESOLVER: Resolver<NAMES, WAITERS> = Resolver::new();
    let commons = mailboxes();
    RESOLVER.start(commons, Options { threads: 2, prefer_ipv4: true, prepare: || {} }).unwrap();
    assert_eq!(RESOLVER.lookup("localhost", commons.await_outcome(0, 1)), Lookup::Waiting);
    assert_eq!(RESOLVER.lookup("a b", commons.await_outcome(1, 1)), Lookup::Waiting);
    assert_eq!(told(&commons, 0), Outcome::Resolved);
    assert_eq!(told(&commons, 1), Outcome::Failed(FailReason::NameResolution));
    let Lookup::Known(addresses) = RESOLVER.lookup("localhost", commons.await_outcome(0, 2)) else {
        panic!();
    };
    assert!(addresses.iter().all(IpAddr::is_loopback));
    assert_eq!(
        RESOLVER.lookup("a b", commons.await_outcome(1, 2)),
        Lookup::Failed(FailReason::NameResolution)
    );
}

#[test]
fn whoever_has_no_ticket_asks_again() {
    let bed = Bed::<7>::new(1);
    bed.shut(true);
    let until_known = |name: &str| {
        for _ in 0..5000 {
            match bed.resolver.ask(name) {
                Lookup::Waiting => sleep(Duration::from_millis(1)),
                answer => return answer,
            }
        }
        panic!("{name} is never known");
    };
    assert_eq!(bed.resolver.ask("slow"), Lookup::Waiting);
    bed.wait_asked(1);
    assert_eq!(bed.resolver.ask("slow"), Lookup::Waiting, "no second lookup");
    assert_eq!(bed.lookup("slow", 0, 1), Lookup::Waiting, "but one with a ticket joins it");
    bed.shut(false);
    assert_eq!(bed.told(0), Outcome::Resolved);
    assert_eq!(until_known("slow"), known(1));
    assert_eq!(until_known("none"), Lookup::Failed(FailReason::NameResolution));
    bed.pass(u64::from(KNOWN_MILLIS));
    assert_eq!(bed.resolver.ask("slow"), Lookup::Waiting, "too old");
    assert_eq!(until_known("slow"), known(3));
    bed.resolver.flush();
    assert_eq!(bed.resolver.ask("none"), Lookup::Waiting, "flushed");
    assert_eq!(until_known("none"), Lookup::Failed(FailReason::NameResolution));
    assert_eq!(bed.asked(), ["slow", "none", "slow", "none"]);

    bed.shut(true);
    bed.pass(u64::from(KNOWN_MILLIS));
    for number in 0..NAMES {
        assert_eq!(bed.resolver.ask(&format!("slow{number}")), Lookup::Waiting);
    }
    assert_eq!(bed.resolver.ask("more"), Lookup::Failed(FailReason::ResolverFull));
    assert_eq!(bed.resolver.ask(""), Lookup::Failed(FailReason::NameResolution));
    bed.shut(false);
}

/// While the tickets of one lookup are told, without the lock, its name stays as it is; from then
/// on it may be anybody's.
#[test]
fn a_name_stays_until_all_who_waited_are_told() {
    let commons = mailboxes();
    let mut state = Resolver::<1, WAITERS, Fake<8>>::new().state.into_inner().unwrap();
    assert_eq!(state.settle("a"), Some(0));
    for mailbox in 0..BATCH as u32 + 1 {
        assert!(state.wait(0, commons.await_outcome(mailbox, 1)));
    }
    assert!(state.enqueue(0) && !state.enqueue(0));
    assert_eq!(state.next_queued(), Some(0));
    state.entries[0].step = Step::Looking;
    let now = Instant::from_millis(1);
    let addresses = Addresses::from_iter([IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(state.finish(0, addresses, now), Some(Outcome::Resolved));

    let late = now.after(10 * KNOWN_MILLIS);
    let (batch, more) = state.take_waiters(0);
    assert_eq!((batch.len(), more), (BATCH, true));
    assert_eq!(state.entries[0].answer(late), Some(known(1)), "old, but not told yet");
    assert_eq!(state.settle("b"), None);
    let (batch, more) = state.take_waiters(0);
    assert_eq!((batch.len(), more), (1, false));
    assert_eq!(state.entries[0].answer(late), None);
    assert_eq!(state.settle("b"), Some(0));
}
