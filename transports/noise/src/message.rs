//! The handshake's datagrams from outside: which kind one is, and where everything in it lies. Knows
//! no key; nothing here was checked against anything but its form.
//!
//! ```text
//! INIT      0x01, version min, version max, 0 | sender's index   | e32 | sealed static 48
//! 184       sealed offer 64 | mac1 16 | mac2 16
//! RESPONSE  0x02, 0, 0, 0                     | receiver's index | e32 | sealed answer 72 | mac1 16
//! 128
//! COOKIE    0x03, 0, 0, 0                     | receiver's index | nonce 24 | sealed cookie 32
//! 64
//! VERSIONS  0x04, version min, version max, 0 | receiver's index | 8 zeroes | mac 16
//! 32
//! offer     clock u64 | parameters 16 | algorithms, preferred, key slot, flags (bit 0: renews keys)
//! 48        receiver's index u32, of a link whose keys are renewed | 16 zeroes
//! answer    outcome (0 a link, 1 refused, 2 clock), version, algorithm, 0 | reason u16 | 2 zeroes
//! 56        sender's index u32 | 4 zeroes | clock u64 | parameters 16 | 16 zeroes
//! ```
//!
//! All little-endian. What is sealed ends with its tag, 16 bytes. From `e` to the sealed offer, and from
//! `e` to the sealed answer, are the two messages of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s; their
//! prologue is `seaprox-noise-1`, a zero, the carrier (u8), seven zeroes, and the first 8 bytes of INIT.
//! So nobody changes an index, the versions or the carrier on the way. Without a psk it is 32 zeroes.
//!
//! * `mac1` is BLAKE2s-128 of all before it, keyed by BLAKE2s-256 of `seaprox mac1    ` and the receiver's
//!   public key. `mac2` is BLAKE2s-128 of all before it, keyed by the cookie; zeroes without one.
//! * The cookie is 16 bytes, sealed with XChaCha20-Poly1305 under BLAKE2s-256 of `seaprox cookie  ` and
//!   its sender's public key; the associated data is `mac1` of the INIT that it answers.
//! * The mac of VERSIONS is of its first 16 bytes and `mac1` of the INIT that it answers, keyed by
//!   BLAKE2s-256 of `seaprox versions` and its sender's public key.
//! * The algorithms are bits, `1 << number` each; `preferred` is a number. Those are
//!   [`Algorithm`]'s. The parameters are the carrier's own; reasons are
//!   [`FailReason`]'s.
//! * The keys of data are the two that Noise's split gives, the initiator's first; AES takes the first 16
//!   bytes. Zeroes are room for later versions: they are written, and not looked at.
//!
//! On a carrier that keeps order all is the same, but nobody asks for a cookie there.

use crate::aead::{Algorithm, TAG_BYTES};
use crate::mac::MAC_BYTES;
use seaprox::fail::FailReason;

/// The version of this handshake and of what follows it that is spoken here.
pub const VERSION: u8 = 1;

/// The bytes of INIT: at least as many as any answer to it, so no answer amplifies.
pub const INIT_BYTES: usize = 184;
/// The bytes of RESPONSE.
pub const RESPONSE_BYTES: usize = 128;
/// The bytes of COOKIE.
pub const COOKIE_BYTES: usize = 64;
/// The bytes of VERSIONS.
pub const VERSIONS_BYTES: usize = 32;

/// The bytes of what a carrier tells its peer in the handshake.
pub const PARAMETERS_BYTES: usize = 16;

/// What a carrier tells its peer in the handshake, sealed and bound to it: its limits, say.
pub type Parameters = [u8; PARAMETERS_BYTES];

pub(crate) const HEAD_BYTES: usize = 8;
pub(crate) const OFFER_BYTES: usize = 48;
pub(crate) const ANSWER_BYTES: usize = 56;
pub(crate) const PROLOGUE_BYTES: usize = 32;
/// Where the messages of Noise end.
pub(crate) const INIT_NOISE_END: usize = INIT_BYTES - 2 * MAC_BYTES;
pub(crate) const RESPONSE_NOISE_END: usize = RESPONSE_BYTES - MAC_BYTES;

const _: () = assert!(INIT_NOISE_END == HEAD_BYTES + 32 + 32 + TAG_BYTES + OFFER_BYTES + TAG_BYTES);
const _: () = assert!(RESPONSE_NOISE_END == HEAD_BYTES + 32 + ANSWER_BYTES + TAG_BYTES);
const _: () = assert!(RESPONSE_BYTES <= INIT_BYTES && COOKIE_BYTES <= INIT_BYTES);
const _: () = assert!(VERSIONS_BYTES <= INIT_BYTES);

/// The kind of a datagram of the handshake: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Who connects asks for a link, or for new keys.
    Init = 0x01,
    /// The answer, sealed.
    Response = 0x02,
    /// Come again with this.
    Cookie = 0x03,
    /// The asker's versions are none of these.
    Versions = 0x04,
}

/// The first byte of a packet of a link, or its first byte less the key slot where nothing follows
/// but what is sealed ([`crate::streams`]).
pub const DATA: u8 = 0x10;

/// Which kind of datagram this is; `None`: none of the handshake's, or not as long as its kind has
/// to be. O(1).
#[inline]
#[must_use]
pub fn kind_of(datagram: &[u8]) -> Option<Kind> {
    let (kind, bytes) = match *datagram.first()? {
        0x01 => (Kind::Init, INIT_BYTES),
        0x02 => (Kind::Response, RESPONSE_BYTES),
        0x03 => (Kind::Cookie, COOKIE_BYTES),
        0x04 => (Kind::Versions, VERSIONS_BYTES),
        _ => return None,
    };
    (datagram.len() == bytes).then_some(kind)
}

/// The index by which a datagram of any kind is steered: INIT's sender, of all others the receiver.
#[inline]
#[must_use]
pub fn index_of(datagram: &[u8]) -> Option<u32> {
    let &[_, _, _, _, i0, i1, i2, i3] = datagram.first_chunk()?;
    Some(u32::from_le_bytes([i0, i1, i2, i3]))
}

/// The first bytes of every kind.
pub(crate) const fn head(kind: Kind, low: u8, high: u8, index: u32) -> [u8; HEAD_BYTES] {
    let [i0, i1, i2, i3] = index.to_le_bytes();
    [kind as u8, low, high, 0, i0, i1, i2, i3]
}

/// What both ends mix in before anything else.
pub(crate) fn prologue(carrier: u8, head: &[u8; HEAD_BYTES]) -> [u8; PROLOGUE_BYTES] {
    let mut bytes = [0; PROLOGUE_BYTES];
    put(&mut bytes, 0, b"seaprox-noise-1\0");
    put(&mut bytes, 16, &[carrier]);
    put(&mut bytes, 24, head);
    bytes
}

/// What an initiator says under seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) clock: u64,
    pub(crate) parameters: Parameters,
    /// Bits: `1 << number`.
    pub(crate) algorithms: u8,
    pub(crate) preferred: u8,
    pub(crate) slot: u8,
    /// The responder's index of the link whose keys are to be renewed.
    pub(crate) renews: Option<u32>,
}

impl Offer {
    pub(crate) fn encode(&self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        put(&mut bytes, 0, &self.clock.to_le_bytes());
        put(&mut bytes, 8, &self.parameters);
        let flags = u8::from(self.renews.is_some());
        put(&mut bytes, 24, &[self.algorithms, self.preferred, self.slot, flags]);
        put(&mut bytes, 28, &self.renews.unwrap_or(0).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; OFFER_BYTES]) -> Offer {
        let [algorithms, preferred, slot, flags] = at(bytes, 24);
        Offer {
            clock: u64::from_le_bytes(at(bytes, 0)),
            parameters: at(bytes, 8),
            algorithms,
            preferred,
            slot: slot & SLOT_MASK,
            renews: (flags & 1 != 0).then(|| u32::from_le_bytes(at(bytes, 28))),
        }
    }

    /// What will be used, if the one who is asked prefers this: AES where both have instructions for
    /// it. `None`: the two have nothing in common.
    pub(crate) fn choose(&self, preferred: Algorithm) -> Option<Algorithm> {
        let aes = Algorithm::Aes128Gcm;
        let both = preferred == aes && self.preferred == aes as u8;
        let order = match both {
            true => [aes, Algorithm::ChaCha20Poly1305],
            false => [Algorithm::ChaCha20Poly1305, aes],
        };
        order.into_iter().find(|algorithm| self.algorithms & bit(*algorithm) != 0)
    }
}

/// The bits of a key slot's number.
pub(crate) const SLOT_MASK: u8 = 0b11;

pub(crate) const fn bit(algorithm: Algorithm) -> u8 {
    1 << algorithm as u8
}

/// What is to become of an INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A link, or new keys for one.
    Link { algorithm: Algorithm, sender: u32 },
    /// None, and why.
    Refused(FailReason),
    /// None: its clock was not after the one that is told.
    Clock,
}

/// What a responder says under seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) version: u8,
    pub(crate) outcome: Outcome,
    /// The newest clock that was seen.
    pub(crate) clock: u64,
    pub(crate) parameters: Parameters,
}

impl Answer {
    pub(crate) fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        let (outcome, algorithm, reason, sender) = match self.outcome {
            Outcome::Link { algorithm, sender } => (0, algorithm as u8, 0, sender),
            Outcome::Refused(reason) => (1, 0, reason as u8, 0),
            Outcome::Clock => (2, 0, 0, 0),
        };
        put(&mut bytes, 0, &[outcome, self.version, algorithm, 0, reason, 0]);
        put(&mut bytes, 8, &sender.to_le_bytes());
        put(&mut bytes, 16, &self.clock.to_le_bytes());
        put(&mut bytes, 24, &self.parameters);
        bytes
    }

    /// `None`: an outcome or an algorithm that is not known here.
    pub(crate) fn decode(bytes: &[u8; ANSWER_BYTES]) -> Option<Answer> {
        let [outcome, version, algorithm, _] = at(bytes, 0);
        let outcome = match outcome {
            0 => Outcome::Link {
                algorithm: Algorithm::from_number(algorithm)?,
                sender: u32::from_le_bytes(at(bytes, 8)),
            },
            1 => {
                // A reason of a later version may have any number.
                let reason = u16::from_le_bytes(at(bytes, 4)).try_into().unwrap_or(u8::MAX);
                Outcome::Refused(FailReason::from_number(reason).unwrap_or(FailReason::Other))
            }
            2 => Outcome::Clock,
            _ => return None,
        };
        let clock = u64::from_le_bytes(at(bytes, 16));
        Some(Answer { version, outcome, clock, parameters: at(bytes, 24) })
    }
}

/// Places are constants, and so are lengths: that all are within is what the vectors show.
pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// Likewise.
pub(crate) fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
