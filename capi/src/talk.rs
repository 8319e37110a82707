//! A proxy type in C: what its callbacks make of a client is looked at before it is believed. Knows no
//! connection.

use crate::bounds::SEAPROX_SEAT_BYTES;
use crate::raw::Zero;
use crate::types::{
    ProxyType, SEAPROX_CONNECT, SEAPROX_HOST_SIZE, SEAPROX_MORE, SEAPROX_REJECT,
    SEAPROX_STATE_SIZE, SEAPROX_TARGET_ADDRESS, SEAPROX_TARGET_DEFAULT, SEAPROX_TARGET_NAME,
    SEAPROX_TARGET_SERVICE, Verdict,
};
use core::ffi::{c_int, c_void};
use core::net::IpAddr;
use seaprox::fail::FailReason;
use seaprox::handshake::{self, Handshake, REPLY_BYTES, Reply};
use seaprox::sys::Errno;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::wanted::{NAME_BYTES_MAX, Wanted};

/// How long a client may take to say what it wants, unless the caller says.
const TIMEOUT_MILLIS: u32 = 10_000;

/// Bytes of a client's own.
type State = [u64; SEAPROX_STATE_SIZE / 8];

/// A client of a proxy type.
pub(crate) type ClientSeat = handshake::Seat<State>;

const _: () = assert!(size_of::<ClientSeat>() <= SEAPROX_SEAT_BYTES);
const _: () = assert!(size_of::<ClientSeat>() + 64 > SEAPROX_SEAT_BYTES);
const _: () = assert!(NAME_BYTES_MAX < SEAPROX_HOST_SIZE);

// SAFETY: its documentation says so, as zeroes are the state of nobody.
#[allow(unsafe_code)]
unsafe impl Zero for ClientSeat {}

type OnBytes =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *const u8, usize, *mut Verdict) -> c_int;
type OnAnswer = unsafe extern "C" fn(*mut c_void, *mut c_void, u32, *mut Verdict);

/// A proxy type's callbacks.
#[derive(Clone, Copy)]
pub(crate) struct Talk {
    on_bytes: OnBytes,
    on_answer: OnAnswer,
    user: *mut c_void,
    pub(crate) timeout_millis: u32,
}

impl TryFrom<&ProxyType> for Talk {
    type Error = Errno;

    fn try_from(talk: &ProxyType) -> Result<Self, Errno> {
        let timeout_millis = match talk.timeout_millis {
            0 => TIMEOUT_MILLIS,
            millis if millis > DURATION_MILLIS_MAX => return Err(Errno::INVAL),
            millis => millis,
        };
        if talk.state_size as usize > SEAPROX_STATE_SIZE {
            return Err(Errno::INVAL);
        }
        Ok(Talk {
            on_bytes: talk.on_bytes.ok_or(Errno::INVAL)?,
            on_answer: talk.on_answer.ok_or(Errno::INVAL)?,
            user: talk.user,
            timeout_millis,
        })
    }
}

/// The same on one thread.
pub(crate) struct Talking {
    talk: Talk,
    /// The name of the last verdict, until it was heard.
    host: [u8; SEAPROX_HOST_SIZE],
}

impl Talking {
    pub(crate) const fn new(talk: Talk) -> Self {
        Talking { talk, host: [0; SEAPROX_HOST_SIZE] }
    }
}

impl Handshake for Talking {
    type Origin = ();
    type State = State;
    const VACANT: State = [0; SEAPROX_STATE_SIZE / 8];

    fn begin(&mut self, (): ()) -> State {
        Self::VACANT
    }

    #[allow(unsafe_code)]
    fn hear<'v>(
        &'v mut self,
        state: &'v mut State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> handshake::Verdict<'v> {
        let mut room = [0; REPLY_BYTES];
        let mut verdict = blank(&mut room);
        let talk = &self.talk;
        // SAFETY: the function and its word are the caller's; the state, the input and the room are as
        // long as it is told, and all outlives the call.
        let result = unsafe {
            let state = state.as_mut_ptr().cast();
            (talk.on_bytes)(talk.user, state, input.as_ptr(), input.len(), &raw mut verdict)
        };
        let (Some(words), Some(rest)) =
            (room.get(..verdict.reply_size), input.get(verdict.consumed..))
        else {
            return handshake::Verdict::Reject(FailReason::Other);
        };
        *input = rest;
        reply.say(words);
        match result {
            SEAPROX_MORE => handshake::Verdict::More,
            SEAPROX_CONNECT => {
                self.host = verdict.host;
                let host = self.host.get(..usize::from(verdict.host_size));
                let host = host.and_then(|host| wanted(verdict.target_kind, host, verdict.port));
                match host {
                    Some(wanted) => handshake::Verdict::Connect(wanted),
                    None => handshake::Verdict::Reject(FailReason::Other),
                }
            }
            SEAPROX_REJECT => handshake::Verdict::Reject(reason(verdict.reason)),
            _ => handshake::Verdict::Reject(FailReason::Other),
        }
    }

    #[allow(unsafe_code)]
    fn answer(&mut self, state: &mut State, outcome: Result<(), FailReason>, reply: &mut Reply) {
        let mut room = [0; REPLY_BYTES];
        let mut verdict = blank(&mut room);
        let talk = &self.talk;
        let reason = outcome.err().map_or(0, |reason| u32::from(reason as u8));
        // SAFETY: as above.
        unsafe {
            (talk.on_answer)(talk.user, state.as_mut_ptr().cast(), reason, &raw mut verdict);
        }
        // More than there was room for: the client is refused.
        reply.say(room.get(..verdict.reply_size).unwrap_or(&[0; REPLY_BYTES + 1]));
    }
}

/// What a callback begins with.
fn blank(room: &mut [u8; REPLY_BYTES]) -> Verdict {
    Verdict {
        size: size_of::<Verdict>(),
        reply: room.as_mut_ptr(),
        reply_size: 0,
        consumed: 0,
        target_kind: SEAPROX_TARGET_DEFAULT,
        reason: 0,
        port: 0,
        host_size: 0,
        host: [0; SEAPROX_HOST_SIZE],
    }
}

/// What C says is wanted; `None` if it means nothing.
pub(crate) fn wanted(kind: u32, host: &[u8], port: u16) -> Option<Wanted<'_>> {
    match kind {
        SEAPROX_TARGET_DEFAULT => Some(Wanted::Service(b"")),
        SEAPROX_TARGET_SERVICE => Some(Wanted::Service(host)),
        SEAPROX_TARGET_NAME if !host.is_empty() => Some(Wanted::Name(host, port)),
        SEAPROX_TARGET_ADDRESS => {
            let ip: IpAddr = str::from_utf8(host).ok()?.parse().ok()?;
            Some(Wanted::Inet((ip, port).into()))
        }
        _ => None,
    }
}

fn reason(number: u32) -> FailReason {
    let known = FailReason::ALL.into_iter().find(|known| *known as u32 == number);
    known.unwrap_or(FailReason::Other)
}
