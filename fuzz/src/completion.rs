//! The completion word, and the mailbox it lies in.

use crate::bytes::Bytes;
use seaprox::completion::{Mailbox, Outcome, Stale, Ticket, decode, encode};
use seaprox::fail::{FailReason, NUM_CONNECTION_FAIL_REASONS};
use seaprox::share::Commons;
use seaprox::sys::Linux;
use std::sync::atomic::AtomicU8;

const MAILBOXES: usize = 3;

/// The largest generation a ticket can have.
const GENERATION_MAX: u64 = (1 << 24) - 1;

/// Every word is some outcome; and whatever is done with mailboxes, each is what its model is.
pub fn completion(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    word(bytes.u64());
    let mailboxes = [const { Mailbox::new() }; MAILBOXES];
    let order = AtomicU8::new(0);
    let mut office = Office {
        commons: Commons::of_mailboxes(&mailboxes, &order),
        models: [Model::Nothing; MAILBOXES],
        tickets: Vec::new(),
    };
    while !bytes.is_empty() {
        office.act(&mut bytes);
    }
}

fn word(word: u64) {
    let outcome = decode(word);
    assert_eq!(decode(encode(outcome)), outcome);
    let (fd, reason) = (word / NUM_CONNECTION_FAIL_REASONS, word % NUM_CONNECTION_FAIL_REASONS);
    let known = reason <= FailReason::ALL.len() as u64;
    match outcome {
        Outcome::Resolved => assert_eq!(word, 0),
        Outcome::Connected(own) => assert!(reason == 0 && own > 0 && own as u64 == fd),
        Outcome::Failed(why) if reason > 0 && known => assert_eq!(why as u64, reason),
        Outcome::Failed(why) => {
            assert_eq!(why, FailReason::Other);
            assert!(reason > 0 || fd > i32::MAX as u64, "a word of an outcome is no failure");
        }
    }
    let valid = known && (reason == 0 || fd == 0) && fd <= i32::MAX as u64;
    assert!(!valid || encode(outcome) == word, "{word:#x} is {outcome:?}");
}

/// A mailbox as anybody would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    Nothing,
    Awaited(u64),
    Reported(Outcome),
}

struct Office<'m> {
    commons: Commons<'m>,
    models: [Model; MAILBOXES],
    /// Every ticket that was ever given out, and its generation.
    tickets: Vec<(Ticket, u64)>,
}

impl Office<'_> {
    fn act(&mut self, bytes: &mut Bytes<'_>) {
        let act = bytes.byte();
        let mailbox = usize::from(act >> 4) % MAILBOXES;
        match act % 5 {
            0 => {
                self.abort(mailbox);
                // Few different ones, so that a ticket meets one of its own generation again.
                let generation = [bytes.byte().max(1).into(), GENERATION_MAX][usize::from(act % 2)];
                let ticket = self.commons.await_outcome(mailbox as u32, generation as u32);
                assert_eq!(ticket.mailbox(), mailbox);
                self.tickets.push((ticket, generation));
                self.models[mailbox] = Model::Awaited(generation);
            }
            1 | 2 if !self.tickets.is_empty() => {
                let (ticket, generation) = self.tickets[bytes.below(self.tickets.len().min(256))];
                // Any number at all may come from an embedder.
                let outcome = match bytes.below(3) {
                    0 => Outcome::Connected(bytes.i32()),
                    1 => Outcome::Failed(FailReason::ALL[bytes.below(FailReason::ALL.len())]),
                    _ => decode(bytes.u64()),
                };
                self.complete(ticket, generation, outcome);
            }
            3 => self.abort(mailbox),
            _ => {
                let model = &mut self.models[mailbox];
                let expected = match *model {
                    Model::Reported(outcome) => Some(outcome),
                    Model::Nothing | Model::Awaited(_) => None,
                };
                if expected.is_some() {
                    *model = Model::Nothing;
                }
                assert_eq!(self.commons.take(mailbox as u32), expected);
            }
        }
    }

    fn complete(&mut self, ticket: Ticket, generation: u64, outcome: Outcome) {
        let model = &mut self.models[ticket.mailbox()];
        let expected = if *model == Model::Awaited(generation) {
            // What the word cannot say becomes what it can.
            *model = Model::Reported(decode(encode(outcome)));
            Ok(())
        } else {
            Err(Stale)
        };
        assert_eq!(self.commons.complete(Linux, ticket, outcome), expected);
    }

    fn abort(&mut self, mailbox: usize) {
        let before = std::mem::replace(&mut self.models[mailbox], Model::Nothing);
        let expected = match before {
            Model::Reported(outcome) => Some(outcome),
            Model::Nothing | Model::Awaited(_) => None,
        };
        assert_eq!(self.commons.abort(mailbox as u32), expected);
    }
}
