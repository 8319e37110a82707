//! How two ends agree on a link, without a cipher: the datagrams, and what each end does with them.
//! Knows no socket and no table of links.
//!
//! ```text
//! INIT      0x21, version min, version max, 0 | sender's index   | nonce8 | cookie16 | limits16
//!           120 zeroes | sum16
//! RESPONSE  0x22, version, reason u16         | receiver's index | nonce8 | sender's index4 | limits16
//!           76 zeroes | sum16
//! COOKIE    0x23, 0, 0, 0                     | receiver's index | nonce8 | cookie16
//!           16 zeroes | sum16
//! VERSIONS  0x24, version min, version max, 0 | receiver's index | nonce8 | sum16
//! limits    datagram bytes u16, window u16, 12 zeroes
//! sum       XXH3-128 of all before
//! ```
//!
//! All little-endian. Zeroes are room for keys: they are written as such and not looked at. Of any
//! version, kinds, lengths, sums, versions, indices and nonces are where they are here.
//!
//! Invariant: no answer is longer than the INIT it answers, and each tells the nonce of that INIT,
//! so nobody off the path makes an answer up.

mod initiator;
mod responder;

pub use initiator::{Heard, Initiator};
pub use responder::{Answer, Responder, Verdict};

use crate::ack::{WINDOW, WINDOW_MIN};
use crate::mtu::LOWEST_BYTES;
use crate::packet::{COOKIE_BYTES, INIT_BYTES, Kind, Mode, RESPONSE_BYTES, VERSIONS_BYTES};
use crate::slots::DATAGRAM_BYTES_MAX;
use seaprox::fail::FailReason;
use twox_hash::{XxHash3_64, XxHash3_128};

/// The version of this transport that is spoken here.
pub const VERSION: u8 = 1;

/// The bytes of what proves an address.
pub const PROOF_BYTES: usize = 16;

const SUM_BYTES: usize = 16;

// What is said fits its 16 bits.
const _: () = assert!(DATAGRAM_BYTES_MAX <= 0xffff && WINDOW <= 0xffff && Limits::OWN.is_sane());
const _: () = assert!(RESPONSE_BYTES <= INIT_BYTES && COOKIE_BYTES <= INIT_BYTES);
const _: () = assert!(VERSIONS_BYTES <= INIT_BYTES);

/// What an end can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest datagram it has room for, in bytes of UDP payload.
    pub datagram_bytes_max: u16,
    /// So many packet numbers up to the largest it knows one by one: a packet that is this much
    /// older than another is lost when it arrives.
    pub window: u16,
}

impl Limits {
    /// Of this end.
    pub const OWN: Limits =
        Limits { datagram_bytes_max: DATAGRAM_BYTES_MAX as u16, window: WINDOW as u16 };

    /// Whether a link can be with an end like this.
    #[must_use]
    pub const fn is_sane(&self) -> bool {
        self.datagram_bytes_max >= LOWEST_BYTES && self.window as u64 >= WINDOW_MIN
    }

    pub(crate) const fn bytes(&self) -> [u8; 4] {
        let ([d0, d1], [w0, w1]) =
            (self.datagram_bytes_max.to_le_bytes(), self.window.to_le_bytes());
        [d0, d1, w0, w1]
    }

    pub(crate) const fn of([d0, d1, w0, w1]: [u8; 4]) -> Self {
        Limits {
            datagram_bytes_max: u16::from_le_bytes([d0, d1]),
            window: u16::from_le_bytes([w0, w1]),
        }
    }
}

/// What two ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version they speak.
    pub version: u8,
    /// What the peer puts into its packets.
    pub own_index: u32,
    /// What this end puts into its packets.
    pub peer_index: u32,
    /// The number of the link, the same at both ends: for [`crate::seal::Checksum`].
    pub session: u64,
    /// What the peer can take.
    pub peer: Limits,
    /// How long the answer took, in microseconds, if it is certain which INIT it answers; only the
    /// end that asked knows.
    pub rtt_micros: Option<u64>,
}

/// The number of a link: another one for other indices or another nonce, as good as surely.
#[must_use]
pub fn session_id(initiator_index: u32, responder_index: u32, nonce: u64) -> u64 {
    let mut bytes = [0; 16];
    put(&mut bytes, 0, &initiator_index.to_le_bytes());
    put(&mut bytes, 4, &responder_index.to_le_bytes());
    put(&mut bytes, 8, &nonce.to_le_bytes());
    XxHash3_64::oneshot(&bytes)
}

/// Asks for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// The lowest version the sender speaks.
    pub version_min: u8,
    /// The highest, not below.
    pub version_max: u8,
    /// The link, as the sender counts.
    pub sender: u32,
    /// Drawn for this attempt at a link; repeats have the same.
    pub nonce: u64,
    /// What a [`Cookie`] said, or zeroes.
    pub proof: [u8; PROOF_BYTES],
    /// What the sender can take.
    pub limits: Limits,
}

impl Init {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; INIT_BYTES] {
        let mut bytes = [0; INIT_BYTES];
        let head = [first(Kind::Init), self.version_min, self.version_max, 0];
        put_head(&mut bytes, head, self.sender, self.nonce);
        put(&mut bytes, 16, &self.proof);
        put(&mut bytes, 32, &self.limits.bytes());
        put_sum(&mut bytes);
        bytes
    }

    /// What a datagram says; `None`: it is no INIT, or not whole. The limits are not looked at.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Init> {
        let bytes = whole::<INIT_BYTES>(datagram, Kind::Init)?;
        let [_, version_min, version_max, _] = at(bytes, 0);
        (version_min <= version_max).then(|| Init {
            version_min,
            version_max,
            sender: u32::from_le_bytes(at(bytes, 4)),
            nonce: u64::from_le_bytes(at(bytes, 8)),
            proof: at(bytes, 16),
            limits: Limits::of(at(bytes, 32)),
        })
    }

    /// Whether its sender speaks the version that is spoken here.
    #[must_use]
    pub const fn is_understood(&self) -> bool {
        self.version_min <= VERSION && VERSION <= self.version_max
    }
}

/// A link, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The version that will be spoken.
    pub version: u8,
    /// Why there is no link; `None`: there is one.
    pub refused: Option<FailReason>,
    /// The index that INIT told.
    pub receiver: u32,
    /// The nonce that INIT told.
    pub nonce: u64,
    /// The link, as the sender counts; nothing if there is none.
    pub sender: u32,
    /// What the sender can take.
    pub limits: Limits,
}

impl Response {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RESPONSE_BYTES] {
        let mut bytes = [0; RESPONSE_BYTES];
        let reason = self.refused.map_or(0, |reason| reason as u8);
        let head = [first(Kind::Response), self.version, reason, 0];
        put_head(&mut bytes, head, self.receiver, self.nonce);
        put(&mut bytes, 16, &self.sender.to_le_bytes());
        put(&mut bytes, 20, &self.limits.bytes());
        put_sum(&mut bytes);
        bytes
    }

    /// What a datagram says; `None`: it is no RESPONSE, or not whole. The limits are not looked at.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Response> {
        let bytes = whole::<RESPONSE_BYTES>(datagram, Kind::Response)?;
        let [_, version, low, high] = at(bytes, 0);
        // A reason of a later version may have any number.
        let reason = u16::from_le_bytes([low, high]).try_into().unwrap_or(u8::MAX);
        Some(Response {
            version,
            refused: FailReason::from_number(reason),
            receiver: u32::from_le_bytes(at(bytes, 4)),
            nonce: u64::from_le_bytes(at(bytes, 8)),
            sender: u32::from_le_bytes(at(bytes, 16)),
            limits: Limits::of(at(bytes, 20)),
        })
    }
}

/// Come again, with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The index that INIT told.
    pub receiver: u32,
    /// The nonce that INIT told.
    pub nonce: u64,
    /// What the next INIT has to tell.
    pub proof: [u8; PROOF_BYTES],
}

impl Cookie {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; COOKIE_BYTES] {
        let mut bytes = [0; COOKIE_BYTES];
        put_head(&mut bytes, [first(Kind::Cookie), 0, 0, 0], self.receiver, self.nonce);
        put(&mut bytes, 16, &self.proof);
        put_sum(&mut bytes);
        bytes
    }

    /// What a datagram says; `None`: it is no COOKIE, or not whole.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Cookie> {
        let bytes = whole::<COOKIE_BYTES>(datagram, Kind::Cookie)?;
        Some(Cookie {
            receiver: u32::from_le_bytes(at(bytes, 4)),
            nonce: u64::from_le_bytes(at(bytes, 8)),
            proof: at(bytes, 16),
        })
    }
}

/// These are spoken here, and none of them was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub version_min: u8,
    /// The highest, not below.
    pub version_max: u8,
    /// The index that INIT told.
    pub receiver: u32,
    /// The nonce that INIT told.
    pub nonce: u64,
}

impl Versions {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; VERSIONS_BYTES] {
        let mut bytes = [0; VERSIONS_BYTES];
        let head = [first(Kind::Versions), self.version_min, self.version_max, 0];
        put_head(&mut bytes, head, self.receiver, self.nonce);
        put_sum(&mut bytes);
        bytes
    }

    /// What a datagram says; `None`: it is no VERSIONS, or not whole.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Versions> {
        let bytes = whole::<VERSIONS_BYTES>(datagram, Kind::Versions)?;
        let [_, version_min, version_max, _] = at(bytes, 0);
        (version_min <= version_max).then(|| Versions {
            version_min,
            version_max,
            receiver: u32::from_le_bytes(at(bytes, 4)),
            nonce: u64::from_le_bytes(at(bytes, 8)),
        })
    }
}

/// The datagram, if it is of this kind and length and its sum is right.
fn whole<const N: usize>(datagram: &[u8], kind: Kind) -> Option<&[u8; N]> {
    let bytes: &[u8; N] = datagram.try_into().ok()?;
    let (front, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
    let is_whole =
        front.first() == Some(&first(kind)) && *sum == XxHash3_128::oneshot(front).to_le_bytes();
    is_whole.then_some(bytes)
}

const fn first(kind: Kind) -> u8 {
    kind.first(Mode::Insecure)
}

fn put_sum(bytes: &mut [u8]) {
    if let Some((front, sum)) = bytes.split_last_chunk_mut::<SUM_BYTES>() {
        *sum = XxHash3_128::oneshot(front).to_le_bytes();
    }
}

fn put_head(bytes: &mut [u8], first: [u8; 4], index: u32, nonce: u64) {
    put(bytes, 0, &first);
    put(bytes, 4, &index.to_le_bytes());
    put(bytes, 8, &nonce.to_le_bytes());
}

/// Places are constants, and so are lengths: that all are within is what the vectors show.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// Likewise.
fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
