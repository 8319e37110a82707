use super::*;
use crate::sys::Linux;
use core::sync::atomic::AtomicUsize;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::vec::Vec;

/// Threads that complete tickets, and how many each completes.
const CONNECTORS: usize = 8;
const TICKETS: usize = if cfg!(miri) { 12 } else { 200_000 };

/// Tickets that are good at the same time: few, so that connectors meet at them.
const MAILBOXES: usize = 3;

/// Eight connectors with real doorbells against a worker that takes, gives up and renews, and that is
/// gone in the end while they still ring: a descriptor is the worker's if and only if its connector
/// was told so, and nobody rings a doorbell that was closed. (Miri sees every access, and with it a
/// data race or an access after the end.)
#[test]
fn connectors_on_eight_threads_and_a_worker_agree() {
    let mailboxes = [const { Mailbox::new() }; MAILBOXES];
    let (shares, order) = ([Share::new()], AtomicU8::new(0));
    let commons = Commons { mailboxes: &mailboxes, shares: &shares, order: &order };
    let doorbell = Linux.eventfd().expect("an eventfd");
    shares[0].set_doorbell(doorbell);
    let current: [AtomicU64; MAILBOXES] = [const { AtomicU64::new(0) }; MAILBOXES];
    let renew = |mailbox: usize, generation: u32| {
        let ticket = commons.await_outcome(mailbox as u32, generation);
        current[mailbox].store(ticket.to_word(), Ordering::Release);
    };
    (0..MAILBOXES).for_each(|mailbox| renew(mailbox, 1));
    let given = Mutex::new(BTreeSet::new());
    let (left, taken) = (AtomicUsize::new(CONNECTORS), &mut Vec::new());

    thread::scope(|scope| {
        for connector in 0..CONNECTORS {
            let (current, given, left) = (&current, &given, &left);
            scope.spawn(move || {
                for number in 0..TICKETS {
                    // Perhaps another's, or of a while ago.
                    let word = current[(connector + number) % MAILBOXES].load(Ordering::Acquire);
                    let fd = (connector * TICKETS + number + 3) as RawFd;
                    let ticket = Ticket::from_word(word);
                    if commons.complete(Linux, ticket, Outcome::Connected(fd)).is_ok() {
                        assert!(given.lock().unwrap().insert(fd));
                    }
                }
                left.fetch_sub(1, Ordering::Release);
            });
        }
        let mut generation = 1;
        while left.load(Ordering::Acquire) > 0 {
            Linux.hush(doorbell);
            shares[0].heard();
            for mailbox in 0..MAILBOXES {
                generation += 1;
                let outcome = match generation % 3 {
                    0 => commons.abort(mailbox as u32),
                    _ => commons.take(mailbox as u32),
                };
                // What was not aborted and is still awaited stays so.
                if outcome.is_some() || generation % 3 == 0 {
                    renew(mailbox, generation);
                }
                taken.extend(outcome);
            }
            thread::yield_now();
            // The worker ends while some are in the middle of it.
            if generation > TICKETS as u32 {
                break;
            }
        }
        shares[0].take_doorbell();
        Linux.close(doorbell);
    });
    taken.extend((0..MAILBOXES as u32).filter_map(|mailbox| commons.abort(mailbox)));
    let fd = |outcome: &Outcome| match outcome {
        Outcome::Connected(fd) => *fd,
        other => panic!("nobody reported {other:?}"),
    };
    let owned: BTreeSet<_> = taken.iter().map(fd).collect();
    assert_eq!(owned.len(), taken.len(), "a descriptor was taken twice");
    assert_eq!(owned, given.into_inner().unwrap());
    assert!(owned.len() >= MAILBOXES, "{} is no contest", owned.len());
}
