//! Who is asked for links. Keeps nothing of a stranger, and of a peer only its clock; which links there
//! are, and whether there is room for one more, others know.
//!
//! Invariants: who cannot show that it knows this end's public key meets silence, and so does who is no
//! peer; every INIT of a peer is taken once at most as long as the program runs. No answer is longer
//! than what it answers.

use crate::aead::Algorithm;
use crate::agreed::{Agreed, Keys, Terms};
use crate::keys::{Identity, Psk, Secret};
use crate::mac::{self, Label, MAC_BYTES};
use crate::message::{
    Answer, COOKIE_BYTES, HEAD_BYTES, INIT_NOISE_END, Kind, OFFER_BYTES, Offer, Outcome,
    Parameters, RESPONSE_BYTES, RESPONSE_NOISE_END, VERSION, VERSIONS_BYTES, at, head, kind_of,
    prologue, put,
};
use crate::peers::{PeerNumber, Peers};
use crate::suite::{Handshake, Wiped, handshake, with_psk};
use arrayvec::ArrayVec;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use seaprox::fail::FailReason;

/// What goes back to where an INIT came from; never longer than that was.
pub type Reply = ArrayVec<u8, RESPONSE_BYTES>;

/// Cookies are made anew this often, and hold for one to two times as long. As WireGuard has it.
pub const COOKIE_MICROS: u64 = 120_000_000;

/// What is to be done about a datagram.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap for a handshake")]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// This goes back, and nothing else happens.
    Reply(Reply),
    /// A peer asks: [`Asked::accept`] or [`Asked::refuse`].
    Asked(Asked),
}

/// Hears INITs.
#[derive(Debug)]
pub struct Responder {
    keys: OuterKeys,
    terms: Terms,
    /// Cookies given so far: no two are sealed with the same nonce.
    cookies: u64,
}

/// What is needed before anybody is known. None but the secret is one.
struct OuterKeys {
    mac1: [u8; 32],
    cookie: Wiped<32>,
    versions: [u8; 32],
    secret: Wiped<32>,
}

impl fmt::Debug for OuterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OuterKeys(..)")
    }
}

impl Responder {
    /// The secret is drawn at random when the program starts: who knows it can show any address.
    #[must_use]
    pub fn new(own: &Identity, secret: [u8; 32], terms: Terms) -> Self {
        let public = *own.public().bytes();
        let keys = OuterKeys {
            mac1: mac::key(Label::Mac1, &public),
            cookie: Wiped::new(mac::key(Label::Cookie, &public)),
            versions: mac::key(Label::Versions, &public),
            secret: Wiped::new(secret),
        };
        Responder { keys, terms, cookies: 0 }
    }

    /// A datagram that may be an INIT came. `must_prove`: where it came from, if whoever asks has to
    /// show first that it gets what is sent there; that is for times when more come than can be
    /// answered, and for carriers on which addresses can be made up. `random`: draws 32 bytes that are
    /// used for nothing else; called for those alone who know this end's public key.
    ///
    /// About a microsecond for strangers, and for all under load; about 150 for who knows the public
    /// key, as much again for a peer whose clock is behind; O(`N`) besides.
    #[must_use]
    pub fn hear_init<const N: usize>(
        &mut self,
        own: &Identity,
        peers: &mut Peers<N>,
        datagram: &[u8],
        must_prove: Option<&SocketAddr>,
        now_micros: u64,
        random: impl FnOnce() -> [u8; 32],
    ) -> Verdict {
        self.heard(own, peers, datagram, must_prove, now_micros, random).unwrap_or(Verdict::Ignore)
    }

    fn heard<const N: usize>(
        &mut self,
        own: &Identity,
        peers: &mut Peers<N>,
        datagram: &[u8],
        must_prove: Option<&SocketAddr>,
        now_micros: u64,
        random: impl FnOnce() -> [u8; 32],
    ) -> Option<Verdict> {
        kind_of(datagram).filter(|&kind| kind == Kind::Init)?;
        let (front, mac1) = datagram.split_at_checked(INIT_NOISE_END)?;
        let (mac1, mac2) = mac1.split_first_chunk::<MAC_BYTES>()?;
        if !mac::is_same(&mac::mac(&self.keys.mac1, &[front]), mac1) {
            return None;
        }
        let (first, noise) = front.split_first_chunk::<HEAD_BYTES>()?;
        let [_, version_min, version_max, _, ..] = *first;
        let sender = u32::from_le_bytes(at(first, 4));
        if !(version_min..=version_max).contains(&VERSION) {
            return Some(Verdict::Reply(self.versions(sender, mac1)));
        }
        if let Some(from) = must_prove {
            let proven = datagram.get(..INIT_NOISE_END + MAC_BYTES)?;
            if !self.is_proof(proven, mac2.first_chunk()?, from, now_micros) {
                return Some(Verdict::Reply(self.cookie(sender, mac1, from, now_micros)?));
            }
        }
        let ephemeral = Secret::from_random(random());
        let prologue = prologue(self.terms.carrier, first);
        let mut handshake = handshake(own, None, &ephemeral, &prologue);
        let mut offer = [0; OFFER_BYTES];
        handshake.read_message(noise, &mut offer).ok()?;
        let offer = Offer::decode(&offer);
        let peer = peers.find(&handshake.get_rs()?)?;
        let psk = peers.peer(peer)?.psk().clone();
        let last = peers.clock(peer);
        if last == Some(offer.clock) {
            // It was answered.
            return None;
        }
        peers.saw(peer, offer.clock);
        let asked = Asked { handshake, psk, offer, peer, sender, terms: self.terms };
        if let Some(last) = last.filter(|&last| last > offer.clock) {
            return asked.answer(Outcome::Clock, last).map(|(reply, _)| Verdict::Reply(reply));
        }
        if asked.algorithm().is_none() {
            return asked.refuse(FailReason::Version).map(Verdict::Reply);
        }
        Some(Verdict::Asked(asked))
    }

    fn versions(&self, receiver: u32, mac1: &[u8; MAC_BYTES]) -> Reply {
        let mut bytes = [0; VERSIONS_BYTES];
        put(&mut bytes, 0, &head(Kind::Versions, VERSION, VERSION, receiver));
        let front = bytes.split_at(VERSIONS_BYTES - MAC_BYTES).0;
        let tag = mac::mac(&self.keys.versions, &[front, mac1]);
        put(&mut bytes, VERSIONS_BYTES - MAC_BYTES, &tag);
        reply(&bytes)
    }

    /// Tells whoever gets what is sent to this address what its next INIT has to show.
    fn cookie(
        &mut self,
        receiver: u32,
        mac1: &[u8; MAC_BYTES],
        from: &SocketAddr,
        now_micros: u64,
    ) -> Option<Reply> {
        let mut cookie = self.proof(from, now_micros / COOKIE_MICROS);
        let nonce = self.nonce();
        let cipher = XChaCha20Poly1305::new(<&Key>::from(self.keys.cookie.bytes()));
        let nonce_ref = <&XNonce>::from(&nonce);
        let tag =
            cipher.encrypt_inout_detached(nonce_ref, mac1, cookie.as_mut_slice().into()).ok()?;
        let mut bytes = [0; COOKIE_BYTES];
        put(&mut bytes, 0, &head(Kind::Cookie, 0, 0, receiver));
        put(&mut bytes, 8, &nonce);
        put(&mut bytes, 32, &cookie);
        put(&mut bytes, 48, &tag);
        Some(reply(&bytes))
    }

    /// Never the same, and nobody's guess.
    fn nonce(&mut self) -> [u8; 24] {
        self.cookies = self.cookies.wrapping_add(1);
        let mut nonce = [0; 24];
        for (half, at) in [(0, 0), (1, 8)] {
            let parts: [&[u8]; 3] = [b"nonce", &[half], &self.cookies.to_le_bytes()];
            put(&mut nonce, at, &mac::mac(self.keys.secret.bytes(), &parts));
        }
        nonce
    }

    /// By the secret of this time or the one before.
    fn is_proof(
        &self,
        proven: &[u8],
        mac2: &[u8; MAC_BYTES],
        from: &SocketAddr,
        now_micros: u64,
    ) -> bool {
        let time = now_micros / COOKIE_MICROS;
        let times = [Some(time), time.checked_sub(1)];
        times.into_iter().flatten().any(|time| {
            let cookie = self.proof(from, time);
            mac::is_same(&mac::mac(&cookie, &[proven]), mac2)
        })
    }

    /// Shows that whoever has it got what was sent to this address, at about this time.
    fn proof(&self, from: &SocketAddr, time: u64) -> [u8; MAC_BYTES] {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let (time, port) = (time.to_le_bytes(), from.port().to_le_bytes());
        let parts: [&[u8]; 4] = [b"proof", &ip.octets(), &port, &time];
        mac::mac(self.keys.secret.bytes(), &parts)
    }
}

/// A peer asks for a link, or for new keys of one. Dropped, it is as if its INIT had been lost, but for
/// the peer's clock.
pub struct Asked {
    handshake: Handshake,
    psk: Psk,
    offer: Offer,
    peer: PeerNumber,
    sender: u32,
    terms: Terms,
}

impl Asked {
    /// Who asks.
    #[must_use]
    pub const fn peer(&self) -> PeerNumber {
        self.peer
    }

    /// The link, as the peer counts.
    #[must_use]
    pub const fn peer_index(&self) -> u32 {
        self.sender
    }

    /// What the peer told.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.offer.parameters
    }

    /// The link, as it is counted here, whose keys are to be renewed; `None`: it is to be a new one.
    /// Whether there is such a link, and of this peer, is for the caller to say.
    #[must_use]
    pub const fn renews(&self) -> Option<u32> {
        self.offer.renews
    }

    /// Where the keys will be: [`crate::keyring::Keyring::may_propose`] says whether they can.
    #[must_use]
    pub const fn slot(&self) -> u8 {
        self.offer.slot
    }

    /// There is a link, which has this index here, or there are new keys for it: what goes back, and
    /// what was agreed. The peer has shown nothing yet but that it made this INIT at some time: until a
    /// packet of it opens, it may be somebody who repeats it. About 130 microseconds. `None`: never, for
    /// a peer whose keys were checked.
    #[must_use]
    pub fn accept(self, own_index: u32) -> Option<(Reply, Agreed)> {
        let algorithm = self.algorithm()?;
        let (offer, peer_index, clock) = (self.offer, self.sender, self.offer.clock);
        let outcome = Outcome::Link { algorithm, sender: own_index };
        let (reply, handshake) = self.answer(outcome, clock)?;
        let agreed = Agreed {
            version: VERSION,
            own_index,
            peer_index,
            parameters: offer.parameters,
            rtt_micros: None,
            keys: Keys::of(&handshake, algorithm, offer.slot, false),
        };
        Some((reply, agreed))
    }

    /// There is none, and why; what goes back. About 130 microseconds. `None` as above.
    #[must_use]
    pub fn refuse(self, reason: FailReason) -> Option<Reply> {
        let clock = self.offer.clock;
        self.answer(Outcome::Refused(reason), clock).map(|(reply, _)| reply)
    }

    fn algorithm(&self) -> Option<Algorithm> {
        self.offer.choose(self.terms.preferred)
    }

    fn answer(mut self, outcome: Outcome, clock: u64) -> Option<(Reply, Handshake)> {
        let parameters = self.terms.parameters;
        let answer = Answer { version: VERSION, outcome, clock, parameters }.encode();
        let mut bytes = [0; RESPONSE_BYTES];
        put(&mut bytes, 0, &head(Kind::Response, 0, 0, self.sender));
        let noise = bytes.get_mut(HEAD_BYTES..RESPONSE_NOISE_END)?;
        let write = |handshake: &mut Handshake| handshake.write_message(&answer, noise);
        with_psk(&mut self.handshake, &self.psk, write).ok()?;
        let peer = self.handshake.get_rs()?;
        let key = mac::key(Label::Mac1, &peer);
        let mac1 = mac::mac(&key, &[bytes.split_at(RESPONSE_NOISE_END).0]);
        put(&mut bytes, RESPONSE_NOISE_END, &mac1);
        Some((reply(&bytes), self.handshake))
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("peer", &self.peer)
            .field("peer_index", &self.sender)
            .field("renews", &self.offer.renews)
            .finish_non_exhaustive()
    }
}

fn reply(bytes: &[u8]) -> Reply {
    // Never longer: see the invariant.
    bytes.iter().copied().take(RESPONSE_BYTES).collect()
}

#[cfg(test)]
mod tests;
