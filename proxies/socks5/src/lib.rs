//! SOCKS version 5 (RFC 1928) as a proxy type: CONNECT to an address or a name, for anybody or for
//! those who know a password (RFC 1929). BIND and UDP ASSOCIATE are refused. Knows no socket, and
//! not where connections go.
//!
//! Invariant: a message is consumed whole or not at all.
#![no_std]

#[cfg(test)]
extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Reply, Verdict};
pub use seaprox::passwords::Passwords;
use seaprox::wanted::Wanted;

/// The version of the protocol (RFC 1928 section 3).
const VERSION: u8 = 5;

/// The version of the password's subnegotiation (RFC 1929 section 2).
const PASSWORD_VERSION: u8 = 1;

/// Methods of authentication (RFC 1928 section 3).
const NO_PASSWORD: u8 = 0;
const PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;

/// The one command there is (RFC 1928 section 4).
const CONNECT: u8 = 1;

/// Kinds of addresses (RFC 1928 section 5).
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// What a reply says (RFC 1928 section 6).
mod code {
    pub(super) const SUCCEEDED: u8 = 0;
    pub(super) const GENERAL_FAILURE: u8 = 1;
    pub(super) const NOT_ALLOWED: u8 = 2;
    pub(super) const NETWORK_UNREACHABLE: u8 = 3;
    pub(super) const HOST_UNREACHABLE: u8 = 4;
    pub(super) const REFUSED: u8 = 5;
    pub(super) const EXPIRED: u8 = 6;
    pub(super) const NO_SUCH_COMMAND: u8 = 7;
    pub(super) const NO_SUCH_ADDRESS: u8 = 8;
}

/// SOCKS version 5, for those whom `P` permits.
///
/// ```
/// use seaprox::handshake::{Handshake, Seat};
/// use seaprox_socks5::Socks5;
///
/// static SEATS: [Seat<<Socks5 as Handshake>::State>; 64] =
///     [const { Seat::new(Socks5::<()>::VACANT) }; 64];
/// let for_everybody = Socks5(());
/// # let _ = for_everybody;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Socks5<P = ()>(pub P);

/// What a client is to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Which methods of authentication it knows.
    Greeting = 0,
    /// Its name and its password.
    Password,
    /// What it wants.
    Request,
}

impl<P: Passwords> Handshake for Socks5<P> {
    type Origin = ();
    type State = State;
    const VACANT: State = State::Greeting;

    fn begin(&mut self, (): ()) -> State {
        State::Greeting
    }

    fn hear<'v>(
        &'v mut self,
        state: &'v mut State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Verdict<'v> {
        let mut rest = *input;
        let verdict = self.hear_message(state, &mut rest, reply);
        if verdict.is_some() {
            *input = rest;
        }
        verdict.unwrap_or(Verdict::More)
    }

    fn answer(&mut self, state: &mut State, outcome: Result<(), FailReason>, reply: &mut Reply) {
        // A client that has not come so far could not read it.
        if *state == State::Request {
            reply.say(&reply_of(outcome.err().map_or(code::SUCCEEDED, code_of)));
        }
    }
}

impl<P: Passwords> Socks5<P> {
    /// Hears one message; `None` if it is not all there.
    fn hear_message<'v>(
        &self,
        state: &mut State,
        rest: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Option<Verdict<'v>> {
        match state {
            State::Greeting => {
                if byte(rest)? != VERSION {
                    return Some(Verdict::Reject(FailReason::Protocol));
                }
                let methods = counted(rest)?;
                let wanted = if self.0.asks() { PASSWORD } else { NO_PASSWORD };
                if !methods.contains(&wanted) {
                    reply.say(&[VERSION, NO_ACCEPTABLE_METHOD]);
                    return Some(Verdict::Reject(FailReason::Auth));
                }
                reply.say(&[VERSION, wanted]);
                *state = if self.0.asks() { State::Password } else { State::Request };
                Some(Verdict::More)
            }
            State::Password => {
                let is_known = byte(rest)? == PASSWORD_VERSION;
                let (name, password) = (counted(rest)?, counted(rest)?);
                let permitted = is_known && self.0.permits(name, password);
                reply.say(&[PASSWORD_VERSION, u8::from(!permitted)]);
                if !permitted {
                    return Some(Verdict::Reject(FailReason::Auth));
                }
                *state = State::Request;
                Some(Verdict::More)
            }
            State::Request => Some(match request(rest)? {
                Ok(wanted) => Verdict::Connect(wanted),
                Err(code) => {
                    reply.say(&reply_of(code));
                    Verdict::Reject(FailReason::Protocol)
                }
            }),
        }
    }
}

/// VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 section 4): what is wanted, or what to reply. The
/// reserved byte is not looked at.
fn request<'v>(rest: &mut &'v [u8]) -> Option<Result<Wanted<'v>, u8>> {
    if byte(rest)? != VERSION {
        return Some(Err(code::GENERAL_FAILURE));
    }
    if byte(rest)? != CONNECT {
        return Some(Err(code::NO_SUCH_COMMAND));
    }
    byte(rest)?;
    Some(Ok(match byte(rest)? {
        V4 => {
            let ip = Ipv4Addr::from(array(rest)?);
            Wanted::Inet(SocketAddr::from((ip, port(rest)?)))
        }
        V6 => {
            let ip = Ipv6Addr::from(array(rest)?);
            Wanted::Inet(SocketAddr::from((ip, port(rest)?)))
        }
        NAME => match counted(rest)? {
            [] => return Some(Err(code::GENERAL_FAILURE)),
            name => Wanted::Name(name, port(rest)?),
        },
        _ => return Some(Err(code::NO_SUCH_ADDRESS)),
    }))
}

/// The next bytes, if they are there.
fn take<'v>(rest: &mut &'v [u8], bytes: usize) -> Option<&'v [u8]> {
    let (taken, after) = rest.split_at_checked(bytes)?;
    *rest = after;
    Some(taken)
}

/// So many of them.
fn array<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    take(rest, BYTES)?.try_into().ok()
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    array::<1>(rest).map(|[byte]| byte)
}

fn port(rest: &mut &[u8]) -> Option<u16> {
    array(rest).map(u16::from_be_bytes)
}

/// Bytes behind a byte that says how many.
fn counted<'v>(rest: &mut &'v [u8]) -> Option<&'v [u8]> {
    let count = byte(rest)?;
    take(rest, count.into())
}

/// A reply (RFC 1928 section 6). The address the proxy connects from is nobody's business: clients
/// need it for BIND only.
const fn reply_of(code: u8) -> [u8; 10] {
    [VERSION, code, 0, V4, 0, 0, 0, 0, 0, 0]
}

/// What a client is told of a reason. "TTL expired" is what others say too of a dest that does not
/// answer, and tells it from a name that is not known.
const fn code_of(reason: FailReason) -> u8 {
    use FailReason as R;
    match reason {
        R::Denied | R::NoSuchService | R::Auth => code::NOT_ALLOWED,
        R::Unreachable | R::LinkDown => code::NETWORK_UNREACHABLE,
        R::NameResolution => code::HOST_UNREACHABLE,
        R::ConnectionRefused | R::Reset => code::REFUSED,
        R::TimedOut => code::EXPIRED,
        _ => code::GENERAL_FAILURE,
    }
}

#[cfg(test)]
mod tests;
