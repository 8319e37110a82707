//! Who asks for a link. Knows neither when to give up nor where its datagrams go.
//!
//! Invariant: however many answers come, INITs are sent at most twice as often as without any.

use super::{Agreed, Cookie, Init, Limits, PROOF_BYTES, Response, VERSION, Versions, session_id};
use crate::packet::{INIT_BYTES, Kind, Mode, kind_of};
use crate::time::Micros;
use seaprox::fail::FailReason;

/// After the first INIT the next waits so long, and each one twice as long as that before.
const RETRY_MICROS: u64 = 250_000;

/// But no longer than this.
const RETRY_MICROS_MAX: u64 = 1_000_000;

/// What a datagram was to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is not of this attempt, or not whole, or too late.
    Ignored,
    /// The far end wants to see that this address is real: an INIT is due.
    Proof,
    /// There is a link.
    Accepted(Agreed),
    /// There will be none. A later attempt wants a new nonce.
    Refused(FailReason),
}

/// Whether an answer made an INIT due before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// Not since the last one that was due by time.
    No,
    /// The one that is due.
    Due,
    /// The last one: no other before one is due by time.
    Done,
}

/// One attempt at a link.
#[derive(Clone, Debug)]
pub struct Initiator {
    index: u32,
    nonce: u64,
    limits: Limits,
    proof: [u8; PROOF_BYTES],
    /// INITs sent so far, and when the last was.
    sends: u32,
    sent_at: Micros,
    /// When the next one is due.
    due: Micros,
    haste: Haste,
    /// It was accepted or refused.
    is_over: bool,
}

impl Initiator {
    /// For the link that has this index here. The nonce is drawn at random: who knows it can answer.
    #[must_use]
    pub const fn new(index: u32, nonce: u64, limits: Limits, now: Micros) -> Self {
        Initiator {
            index,
            nonce,
            limits,
            proof: [0; PROOF_BYTES],
            sends: 0,
            sent_at: Micros(0),
            due: now,
            haste: Haste::No,
            is_over: false,
        }
    }

    /// When an INIT is to be sent; `None`: no more.
    #[must_use]
    pub fn due_at(&self) -> Option<Micros> {
        (!self.is_over).then_some(self.due)
    }

    /// The INIT to be sent now, if one is due. It counts as sent.
    pub fn init(&mut self, now: Micros) -> Option<[u8; INIT_BYTES]> {
        self.due_at().filter(|&due| due <= now)?;
        self.haste = if self.haste == Haste::Due { Haste::Done } else { Haste::No };
        // More doublings are beyond the greatest wait anyway.
        let wait = RETRY_MICROS << self.sends.min(8);
        self.sends = self.sends.saturating_add(1);
        self.sent_at = now;
        self.due = now.after(wait.min(RETRY_MICROS_MAX));
        let init = Init {
            version_min: VERSION,
            version_max: VERSION,
            sender: self.index,
            nonce: self.nonce,
            proof: self.proof,
            limits: self.limits,
        };
        Some(init.encode())
    }

    /// A datagram came from where the INITs go.
    pub fn hear(&mut self, now: Micros, datagram: &[u8]) -> Heard {
        if self.is_over || self.sends == 0 {
            return Heard::Ignored;
        }
        let heard = match kind_of(Mode::Insecure, datagram) {
            Some(Kind::Response) => self.response(now, datagram),
            Some(Kind::Cookie) => self.cookie(now, datagram),
            Some(Kind::Versions) => self.versions(datagram),
            Some(Kind::Init | Kind::Data) | None => None,
        };
        let heard = heard.unwrap_or(Heard::Ignored);
        self.is_over = matches!(heard, Heard::Accepted(_) | Heard::Refused(_));
        heard
    }

    const fn is_own(&self, receiver: u32, nonce: u64) -> bool {
        receiver == self.index && nonce == self.nonce
    }

    fn response(&self, now: Micros, datagram: &[u8]) -> Option<Heard> {
        let response = Response::decode(datagram)?;
        if !self.is_own(response.receiver, response.nonce) {
            return None;
        }
        if let Some(reason) = response.refused {
            return Some(Heard::Refused(reason));
        }
        if response.version != VERSION || !response.limits.is_sane() {
            return None;
        }
        Some(Heard::Accepted(Agreed {
            version: response.version,
            own_index: self.index,
            peer_index: response.sender,
            session: session_id(self.index, response.sender, self.nonce),
            peer: response.limits,
            rtt_micros: (self.sends == 1).then(|| now.since(self.sent_at)),
        }))
    }

    fn cookie(&mut self, now: Micros, datagram: &[u8]) -> Option<Heard> {
        let cookie = Cookie::decode(datagram)?;
        // The same again: it answers an INIT that was sent before this one was known.
        if !self.is_own(cookie.receiver, cookie.nonce) || cookie.proof == self.proof {
            return None;
        }
        self.proof = cookie.proof;
        if self.haste != Haste::No {
            // Someone takes no proof for one: the next goes by time, and has the newest.
            return None;
        }
        self.haste = Haste::Due;
        self.due = now;
        Some(Heard::Proof)
    }

    fn versions(&self, datagram: &[u8]) -> Option<Heard> {
        let versions = Versions::decode(datagram)?;
        let has_ours = versions.version_min <= VERSION && VERSION <= versions.version_max;
        let is_answer = self.is_own(versions.receiver, versions.nonce) && !has_ours;
        is_answer.then_some(Heard::Refused(FailReason::Version))
    }
}
