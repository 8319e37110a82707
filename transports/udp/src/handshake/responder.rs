//! Who is asked for links. Keeps nothing of a stranger until a link is accepted; whether there is
//! room for one, others know.
//!
//! Invariant: of one nonce and sender's index at most one link is accepted as long as it is
//! remembered.

use super::{
    Agreed, Cookie, Init, Limits, PROOF_BYTES, Response, VERSION, Versions, put, session_id,
};
use crate::flood::Rate;
use crate::packet::RESPONSE_BYTES;
use crate::time::Micros;
use arrayvec::ArrayVec;
use core::net::{IpAddr, SocketAddr};
use seaprox::fail::FailReason;
use siphasher::sip128::SipHasher24;

/// What goes back to where an INIT came from; never longer than that was.
pub type Answer = ArrayVec<u8, RESPONSE_BYTES>;

/// Proofs are made anew this often, and hold for one to two times as long.
const PROOF_MICROS: u64 = 8_000_000;

/// What is to be done about a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// This goes back, and nothing else happens.
    Reply(Answer),
    /// There may be a link: take a vacant one and call [`Responder::accept`].
    Accept(Init),
}

/// An INIT that was accepted.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    nonce: u64,
    peer_index: u32,
    own_index: u32,
}

/// Hears INITs. `RECENT`: so many accepted ones are remembered, at least one; as many as there can
/// be links, and no repeat is ever taken for a new one while its link lives.
#[derive(Debug)]
pub struct Responder<const RECENT: usize> {
    secret: [u8; 16],
    limits: Limits,
    recent: [Option<Accepted>; RECENT],
    /// The place that is taken next if none is vacant: the oldest.
    next: usize,
    rate: Rate,
}

impl<const RECENT: usize> Responder<RECENT> {
    /// The secret is drawn at random: who knows it can prove any address.
    #[must_use]
    pub const fn new(secret: [u8; 16], limits: Limits) -> Self {
        const { assert!(RECENT > 0) };
        Responder { secret, limits, recent: [None; RECENT], next: 0, rate: Rate::NEW }
    }

    /// A datagram that may be an INIT came. `vacancy`: whether there is room for a link, or why there
    /// is none. O(`RECENT`).
    #[must_use]
    pub fn hear_init(
        &mut self,
        datagram: &[u8],
        from: &SocketAddr,
        now: Micros,
        vacancy: Result<(), FailReason>,
    ) -> Verdict {
        let Some(init) = Init::decode(datagram) else { return Verdict::Ignore };
        let is_flood = self.rate.count(now);
        if let Some(accepted) = self.find(&init) {
            // The RESPONSE was lost, or is still on its way.
            return Verdict::Reply(self.response(&init, Ok(accepted.own_index)));
        }
        if !init.is_understood() {
            let (receiver, nonce) = (init.sender, init.nonce);
            let versions = Versions { version_min: VERSION, version_max: VERSION, receiver, nonce };
            return Verdict::Reply(answer(&versions.encode()));
        }
        if is_flood && !self.is_proof(&init, from, now) {
            let proof = self.proof(from, init.nonce, now.0 / PROOF_MICROS);
            let cookie = Cookie { receiver: init.sender, nonce: init.nonce, proof };
            return Verdict::Reply(answer(&cookie.encode()));
        }
        if !init.limits.is_sane() {
            return Verdict::Ignore;
        }
        match vacancy {
            Ok(()) => Verdict::Accept(init),
            Err(reason) => Verdict::Reply(self.response(&init, Err(reason))),
        }
    }

    /// An INIT that [`Verdict::Accept`] told is accepted for the link that has this index here. What
    /// is to be sent back, and what was agreed. O(`RECENT`).
    pub fn accept(&mut self, init: &Init, own_index: u32) -> (Answer, Agreed) {
        self.forget(own_index);
        let vacant = self.recent.iter().position(Option::is_none);
        let place = vacant.unwrap_or(self.next);
        if vacant.is_none() {
            self.next = (self.next + 1) % RECENT;
        }
        if let Some(place) = self.recent.get_mut(place) {
            *place = Some(Accepted { nonce: init.nonce, peer_index: init.sender, own_index });
        }
        let agreed = Agreed {
            version: VERSION,
            own_index,
            peer_index: init.sender,
            session: session_id(init.sender, own_index, init.nonce),
            peer: init.limits,
            rtt_micros: None,
        };
        (self.response(init, Ok(own_index)), agreed)
    }

    /// The link that had this index is gone: its INIT, should it come again, asks for a new one.
    pub fn forget(&mut self, own_index: u32) {
        let is_its = |accepted: &mut Accepted| accepted.own_index == own_index;
        for place in &mut self.recent {
            let _ = place.take_if(is_its);
        }
    }

    fn find(&self, init: &Init) -> Option<&Accepted> {
        let is_same = |accepted: &&Accepted| {
            accepted.nonce == init.nonce && accepted.peer_index == init.sender
        };
        self.recent.iter().flatten().find(is_same)
    }

    fn response(&self, init: &Init, link: Result<u32, FailReason>) -> Answer {
        let response = Response {
            version: VERSION,
            refused: link.err(),
            receiver: init.sender,
            nonce: init.nonce,
            sender: link.unwrap_or(0),
            limits: self.limits,
        };
        answer(&response.encode())
    }

    /// Of this or the time before.
    fn is_proof(&self, init: &Init, from: &SocketAddr, now: Micros) -> bool {
        let time = now.0 / PROOF_MICROS;
        let times = [Some(time), time.checked_sub(1)];
        times.into_iter().flatten().any(|time| self.proof(from, init.nonce, time) == init.proof)
    }

    /// Shows that whoever has it got what was sent to this address, at about this time.
    fn proof(&self, from: &SocketAddr, nonce: u64, time: u64) -> [u8; PROOF_BYTES] {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; 34];
        put(&mut bytes, 0, &ip.octets());
        put(&mut bytes, 16, &nonce.to_le_bytes());
        put(&mut bytes, 24, &time.to_le_bytes());
        put(&mut bytes, 32, &from.port().to_le_bytes());
        SipHasher24::new_with_key(&self.secret).hash(&bytes).as_bytes()
    }
}

fn answer(bytes: &[u8]) -> Answer {
    // Never longer: see the invariant of the handshake.
    bytes.iter().copied().take(RESPONSE_BYTES).collect()
}
