//! HTTP/1 (RFC 9112) as a proxy type, as far as its method CONNECT goes (RFC 9110 section 9.3.6): to an
//! address or a name, for anybody or for those who know a password (RFC 7617). Whoever asks for anything
//! else is told why not. Knows no socket, and not where connections go.
//!
//! Invariants: a line is consumed whole, or is a field that means nothing here. What a client is told does
//! not depend on the pieces in which it has said something.
#![no_std]

#[cfg(test)]
extern crate std;

mod line;
mod status;

use line::{Field, Line};
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, INPUT_BYTES, Reply, Verdict};
pub use seaprox::passwords::Passwords;
use seaprox::wanted::Wish;
use status::Status;

/// How long the header of a request may be, in bytes, its request line included.
pub const HEADER_BYTES_MAX: u16 = 8192;

/// How long the empty lines before a request may be together, in bytes.
const EMPTY_BYTES_MAX: u16 = 16;

/// CONNECT, for those whom `P` permits. Passwords are sent as they are: what is between a client and
/// the proxy can read them.
///
/// ```
/// use seaprox::handshake::{Handshake, Seat};
/// use seaprox_http_connect::HttpConnect;
///
/// static SEATS: [Seat<<HttpConnect as Handshake>::State>; 64] =
///     [const { Seat::new(HttpConnect::<()>::VACANT) }; 64];
/// let for_everybody = HttpConnect(());
/// # let _ = for_everybody;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpConnect<P = ()>(pub P);

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct State {
    step: Step,
    /// It has said something at all.
    has_begun: bool,
    /// It speaks HTTP/1.0, and need not name a host twice.
    is_old: bool,
    has_host: bool,
    /// It has said a password, and that is right.
    has_password: bool,
    is_permitted: bool,
    /// Bytes of the header that were consumed.
    header_bytes: u16,
    wish: Wish,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// The request line, perhaps after empty ones (RFC 9112 section 2.2).
    Request = 0,
    /// A field, or the end of the header.
    Field,
    /// The rest of a field that is longer than is looked at.
    Rest,
    /// The header is whole.
    Over,
}

impl State {
    const VACANT: State = State {
        step: Step::Request,
        has_begun: false,
        is_old: false,
        has_host: false,
        has_password: false,
        is_permitted: false,
        header_bytes: 0,
        wish: Wish::DEFAULT,
    };
}

impl<P: Passwords> Handshake for HttpConnect<P> {
    type Origin = ();
    type State = State;
    const VACANT: State = State::VACANT;

    fn begin(&mut self, (): ()) -> State {
        State::VACANT
    }

    fn hear<'v>(
        &'v mut self,
        state: &'v mut State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Verdict<'v> {
        state.has_begun |= !input.is_empty();
        match self.hear_lines(state, input) {
            Ok(false) => Verdict::More,
            Ok(true) => Verdict::Connect(state.wish.wanted()),
            Err(status) => {
                status.say(None, reply);
                Verdict::Reject(status.reason())
            }
        }
    }

    fn answer(&mut self, state: &mut State, outcome: Result<(), FailReason>, reply: &mut Reply) {
        let Err(reason) = outcome else { return Status::Ok.say(None, reply) };
        match state.step {
            Step::Over => Status::of(reason).say(Some(reason), reply),
            // Who has said nothing may be about to say something, and would take this for the answer.
            _ if !state.has_begun => {}
            _ if reason == FailReason::TimedOut => Status::RequestTimeout.say(None, reply),
            _ => Status::of(reason).say(Some(reason), reply),
        }
    }
}

impl<P: Passwords> HttpConnect<P> {
    /// Hears all lines that are there; whether the header has come to its end.
    fn hear_lines(&self, state: &mut State, input: &mut &[u8]) -> Result<bool, Status> {
        while state.step != Step::Over {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                return self.hear_part(state, input).map(|()| false);
            };
            let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
            self.hear_line(state, line, end + 1)?;
            consume(state, input, end + 1);
        }
        Ok(true)
    }

    /// Hears a line whole, without its end; with that it has so many `bytes`.
    fn hear_line(&self, state: &mut State, line: &[u8], bytes: usize) -> Result<(), Status> {
        match state.step {
            Step::Request if line.is_empty() && state.header_bytes < EMPTY_BYTES_MAX => {}
            Step::Request => {
                let request = line::request(line)?;
                (state.wish, state.is_old) = (request.wish, request.is_old);
                state.step = Step::Field;
            }
            Step::Field => {
                check_length(state, bytes)?;
                match line.is_empty() {
                    true => self.end(state)?,
                    false => self.hear_field(state, line::field(line)?)?,
                }
            }
            Step::Rest => {
                check_rest(state, line)?;
                check_length(state, bytes)?;
                state.step = Step::Field;
            }
            Step::Over => {}
        }
        Ok(())
    }

    /// Hears a line of which the end is not there: most must be waited for.
    fn hear_part(&self, state: &mut State, input: &mut &[u8]) -> Result<(), Status> {
        let is_full = input.len() == INPUT_BYTES;
        // The last may be the CR of the line's end.
        let whole = input.len() - usize::from(input.ends_with(b"\r"));
        match state.step {
            // Bytes of another protocol have no line's end to wait for.
            Step::Request => match line::check_method(input) {
                Ok(()) if is_full && input.contains(&b' ') => Err(Status::UriTooLong),
                Ok(()) if is_full => Err(Status::BadRequest),
                checked => checked,
            },
            Step::Field => {
                check_length(state, input.len())?;
                match is_full {
                    true => self.hear_long_field(state, input, whole),
                    false => Ok(()),
                }
            }
            Step::Rest => {
                check_rest(state, &input[..whole])?;
                check_length(state, whole)?;
                consume(state, input, whole);
                Ok(())
            }
            Step::Over => Ok(()),
        }
    }

    /// Hears the beginning of a field that is longer than is looked at.
    fn hear_long_field(
        &self,
        state: &mut State,
        input: &mut &[u8],
        whole: usize,
    ) -> Result<(), Status> {
        if !input.contains(&b':') {
            return Err(Status::HeaderTooLarge);
        }
        match line::field(&input[..whole])?.line {
            Line::Other => {
                state.step = Step::Rest;
                consume(state, input, whole);
                Ok(())
            }
            Line::Host | Line::Password => Err(Status::HeaderTooLarge),
        }
    }

    fn hear_field(&self, state: &mut State, field: Field<'_>) -> Result<(), Status> {
        match field.line {
            Line::Other => Ok(()),
            // Two of either might be read in two ways (RFC 9112 section 3.2).
            Line::Host if state.has_host => Err(Status::BadRequest),
            Line::Host => {
                state.has_host = true;
                line::check_host(field.value)
            }
            Line::Password if state.has_password => Err(Status::BadRequest),
            Line::Password => {
                state.has_password = true;
                state.is_permitted =
                    line::credentials(field.value, |name, password| self.0.permits(name, password));
                Ok(())
            }
        }
    }

    /// The header is whole.
    fn end(&self, state: &mut State) -> Result<(), Status> {
        state.step = Step::Over;
        if !state.has_host && !state.is_old {
            return Err(Status::BadRequest);
        }
        match self.0.asks() && !state.is_permitted {
            true => Err(Status::PasswordRequired),
            false => Ok(()),
        }
    }
}

/// So many bytes of the header have been heard. It is not longer than it may be: a request line is much
/// shorter, and with fields that was looked at.
fn consume(state: &mut State, input: &mut &[u8], bytes: usize) {
    state.header_bytes += bytes as u16;
    *input = &input[bytes..];
}

/// Whether what follows of a field may be in it, as far as the header may be longer.
fn check_rest(state: &State, part: &[u8]) -> Result<(), Status> {
    let left = usize::from(HEADER_BYTES_MAX.saturating_sub(state.header_bytes));
    line::check_value(&part[..part.len().min(left)])
}

/// Whether the header may be longer by so many bytes, which are at most [`INPUT_BYTES`].
fn check_length(state: &State, bytes: usize) -> Result<(), Status> {
    match usize::from(state.header_bytes) + bytes > usize::from(HEADER_BYTES_MAX) {
        true => Err(Status::HeaderTooLarge),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
