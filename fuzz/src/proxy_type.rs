//! Proxy types, each a line here: alone, where what a client says must mean the same in whatever pieces
//! it comes, and in front of a worker (`served.rs`), where that is what the client must get.
//!
//! The first two bytes are whims: in what pieces the client says the rest, and what becomes of it.

mod served;

use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, INPUT_BYTES, Reply, Verdict};
use seaprox::passwords::Passwords;
use seaprox::wanted::Wish;
use seaprox_http_connect::HttpConnect;
use seaprox_socks5::Socks5;

/// SOCKS 5, with and without passwords.
pub fn socks5(bytes: &[u8]) {
    proxy_type(bytes, |whims| Socks5(Alice { is_asked: whims.with_secret }));
}

/// CONNECT of HTTP, likewise.
pub fn http_connect(bytes: &[u8]) {
    proxy_type(bytes, |whims| HttpConnect(Alice { is_asked: whims.with_secret }));
}

struct Alice {
    is_asked: bool,
}

impl Passwords for Alice {
    fn asks(&self) -> bool {
        self.is_asked
    }

    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        (name, password) == (b"alice", b"secret")
    }
}

/// What is not said by the client.
#[derive(Clone, Copy, Debug)]
struct Whims {
    /// How many bytes the client says at a time, at least 1.
    piece_bytes: usize,
    /// It ends when it has said all.
    ends: bool,
    /// Whether clients have to know a secret.
    with_secret: bool,
    /// What becomes of its dest.
    dest: Result<(), FailReason>,
}

impl Whims {
    fn of(first: u8, second: u8) -> Whims {
        Whims {
            piece_bytes: match first & 7 {
                0 => 1,
                1 => INPUT_BYTES - 1,
                2 => INPUT_BYTES,
                3 => usize::MAX,
                _ => 1 + usize::from(second >> 2),
            },
            ends: first & 8 != 0,
            with_secret: first & 16 != 0,
            dest: match second & 3 {
                0 => Err(FailReason::ConnectionRefused),
                1 => Err(FailReason::Denied),
                _ => Ok(()),
            },
        }
    }
}

/// Whatever a client says, in whatever pieces.
fn proxy_type<H: Handshake<Origin = ()>>(bytes: &[u8], make: impl Fn(Whims) -> H) {
    let &[first, second, ref said @ ..] = bytes else { return };
    let whims = Whims::of(first, second);
    let (whole, _) = alone(&mut make(whims), said, usize::MAX);
    let (talk, state) = alone(&mut make(whims), said, whims.piece_bytes);
    assert_eq!(talk, whole, "{whims:?}");
    let answer = answer(&mut make(whims), state, &talk.outcome, whims);
    served::serve(make(whims), said, whims, &talk, &answer);
}

/// What came of a talk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Talk {
    told: Vec<u8>,
    outcome: Outcome,
    /// How much of what was said is for nobody but the dest; 0 if there is none.
    beyond: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// More would have to be said.
    More,
    /// What is wanted; `None`: no wish can be so long.
    Wish(Box<Option<Wish>>),
    Rejected {
        reason: FailReason,
        with_a_word: bool,
    },
    /// It can say no more that makes a difference.
    Full,
}

/// The handshake hears all that is said as a seat would have it hear, and the client reads what it is
/// told at once.
fn alone<H: Handshake<Origin = ()>>(
    handshake: &mut H,
    said: &[u8],
    piece_bytes: usize,
) -> (Talk, H::State) {
    let mut state = handshake.begin(());
    let (mut told, mut start, mut end) = (Vec::new(), 0, 0);
    let outcome = loop {
        let mut input = &said[start..end];
        let before = input;
        let mut reply = Reply::new();
        let outcome = match handshake.hear(&mut state, &mut input, &mut reply) {
            Verdict::More => Outcome::More,
            Verdict::Connect(wanted) => Outcome::Wish(Box::new(Wish::new(wanted))),
            Verdict::Reject(reason) => {
                Outcome::Rejected { reason, with_a_word: !reply.bytes().is_empty() }
            }
        };
        assert!(before.ends_with(input), "what is left is not what was said last");
        told.extend_from_slice(reply.bytes());
        let consumed = before.len() - input.len();
        start += consumed;
        if outcome != Outcome::More {
            break outcome;
        }
        if consumed > 0 && start < end {
            continue;
        }
        let room = INPUT_BYTES - (end - start);
        if room == 0 {
            break Outcome::Full;
        }
        let more = piece_bytes.min(room).min(said.len() - end);
        if more == 0 {
            break Outcome::More;
        }
        end += more;
    };
    // Of what is for nobody it is all the same how much was looked at.
    let is_wish = matches!(outcome, Outcome::Wish(_));
    let beyond = if is_wish { said.len() - start } else { 0 };
    (Talk { told, outcome, beyond }, state)
}

/// What the handshake answers in the end.
fn answer<H: Handshake<Origin = ()>>(
    handshake: &mut H,
    mut state: H::State,
    outcome: &Outcome,
    whims: Whims,
) -> Vec<u8> {
    let result = match outcome {
        Outcome::Rejected { .. } => return Vec::new(),
        Outcome::Wish(wish) if wish.is_some() => whims.dest,
        Outcome::Wish(_) => Err(FailReason::Denied),
        Outcome::Full => Err(FailReason::Protocol),
        Outcome::More => Err(FailReason::TimedOut),
    };
    let mut reply = Reply::new();
    handshake.answer(&mut state, result, &mut reply);
    reply.bytes().to_vec()
}
