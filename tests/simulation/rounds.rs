//! A proxy type of the test's own, which does all that a proxy type may: it speaks first, asks for many
//! rounds, takes long messages piece by piece and short ones whole, one a call, and answers whatever
//! comes of them.
//!
//! A message is a kind, how long its contents are in two bytes, and those.

use core::net::{Ipv4Addr, SocketAddr};
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Reply, Verdict};
use seaprox::wanted::Wanted;

/// Kinds of messages: heard whole, and answered; heard as it comes, and answered; what is wanted.
pub(crate) const ROUND: u8 = b'R';
pub(crate) const STREAM: u8 = b'S';
pub(crate) const WISH: u8 = b'W';

pub(crate) const HEAD_BYTES: usize = 3;

/// What is wanted: the default service, an IPv4 address and port, a port of a name.
pub(crate) const SERVICE: u8 = 0;
pub(crate) const V4: u8 = 1;
pub(crate) const NAME: u8 = 2;

/// How replies begin: the first, what a message is answered with, the outcome.
pub(crate) const WELCOME: u8 = 0xcc;
pub(crate) const HEARD: u8 = 0xbb;
pub(crate) const OUTCOME: u8 = 0xaa;

/// Contents that begin like this are not understood.
pub(crate) const WRONG: u8 = 0xee;

#[derive(Clone, Copy)]
pub(crate) struct Rounds;

#[derive(Clone, Copy, Default)]
pub(crate) struct State {
    welcomed: bool,
    /// Messages so far.
    heard: u8,
    /// What is left of one that is heard as it comes.
    left: usize,
    /// All bytes of a message's contents, added up.
    sum: u8,
}

/// The answer to a message.
pub(crate) fn answer_to(number: u8, contents: &[u8]) -> [u8; 3] {
    [HEARD, number, sum(0, contents)]
}

fn sum(start: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(start, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte))
}

impl State {
    /// More of a message that is heard as it comes.
    fn hear_piece(&mut self, input: &mut &[u8], reply: &mut Reply) {
        let (piece, rest) = input.split_at(self.left.min(input.len()));
        *input = rest;
        self.left -= piece.len();
        self.sum = sum(self.sum, piece);
        if self.left == 0 {
            reply.say(&[HEARD, self.heard, self.sum]);
            self.heard += 1;
        }
    }
}

impl Handshake for Rounds {
    type Origin = ();
    type State = State;
    const VACANT: State = State { welcomed: false, heard: 0, left: 0, sum: 0 };

    fn begin(&mut self, (): ()) -> State {
        State::default()
    }

    fn hear<'v>(
        &'v mut self,
        state: &'v mut State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Verdict<'v> {
        if !core::mem::replace(&mut state.welcomed, true) {
            assert!(input.is_empty(), "nothing can be heard before the first call");
            reply.say(&[WELCOME]);
            return Verdict::More;
        }
        assert!(!input.is_empty(), "called though nothing was said");
        if state.left > 0 {
            state.hear_piece(input, reply);
            return Verdict::More;
        }
        let Some(&[kind, low, high]) = input.first_chunk::<HEAD_BYTES>() else {
            return Verdict::More;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == STREAM && length > 0 {
            *input = &input[HEAD_BYTES..];
            (state.left, state.sum) = (length, 0);
            return Verdict::More;
        }
        let Some(contents) = input.get(HEAD_BYTES..HEAD_BYTES + length) else {
            return Verdict::More;
        };
        *input = &input[HEAD_BYTES + length..];
        match (kind, contents) {
            (ROUND, [WRONG, ..]) => {
                reply.say(&[OUTCOME, FailReason::Auth as u8]);
                Verdict::Reject(FailReason::Auth)
            }
            (ROUND, contents) => {
                reply.say(&answer_to(state.heard, contents));
                state.heard += 1;
                Verdict::More
            }
            (WISH, [SERVICE]) => Verdict::Connect(Wanted::Service(b"")),
            (WISH, &[V4, a, b, c, d, low, high]) => {
                let port = u16::from_le_bytes([low, high]);
                Verdict::Connect(Wanted::Inet(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port))))
            }
            (WISH, &[NAME, low, high]) => {
                Verdict::Connect(Wanted::Name(b"name", u16::from_le_bytes([low, high])))
            }
            // Not a word.
            _ => Verdict::Reject(FailReason::Protocol),
        }
    }

    fn answer(&mut self, _: &mut State, outcome: Result<(), FailReason>, reply: &mut Reply) {
        reply.say(&[OUTCOME, outcome.err().map_or(0, |reason| reason as u8)]);
    }
}
