//! The datagrams of this transport from outside: which kind one is, the header of those that carry
//! data, and the messages that are the carrier's own. Refuses to know what a link says, and the
//! handshake's contents.
//!
//! Invariant: nothing here was checked against anything but its form: any number may be a
//! stranger's. No bytes whatever make any of this panic.

use crate::ack::Ack;
use crate::seal::TAG_BYTES;
use core::fmt;
use seaprox_noise::message as keyed;

/// The bytes of INIT: at least as many as any answer to it, so no answer amplifies.
pub const INIT_BYTES: usize = 184;
/// The bytes of RESPONSE.
pub const RESPONSE_BYTES: usize = 128;
/// The bytes of COOKIE.
pub const COOKIE_BYTES: usize = 64;
/// The bytes of VERSIONS.
pub const VERSIONS_BYTES: usize = 32;
// With keys or without, all kinds are of the same length.
const _: () = {
    assert!(INIT_BYTES == keyed::INIT_BYTES && RESPONSE_BYTES == keyed::RESPONSE_BYTES);
    assert!(COOKIE_BYTES == keyed::COOKIE_BYTES && VERSIONS_BYTES == keyed::VERSIONS_BYTES);
    assert!(Kind::Data as u8 == keyed::DATA && Kind::Init as u8 == keyed::Kind::Init as u8);
};

/// The bytes of a packet before its messages.
pub const HEADER_BYTES: usize = 12;
/// What a packet spends beside its messages, in bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// The greatest packet number. A link ends before it would need a greater one.
pub const NUMBER_MAX: u64 = (1 << 48) - 1;

/// Fills a datagram's end, one byte each: whoever meets one skips all that is left.
pub const PAD: u8 = 0x00;
/// Message of the carrier: see [`Ack`].
pub const ACK: u8 = 0x02;
/// Message of the carrier: show that you get what is sent to this address.
pub const PATH_CHALLENGE: u8 = 0x09;
/// Message of the carrier: what a challenge said.
pub const PATH_RESPONSE: u8 = 0x0a;
/// Message of the carrier: acknowledge this packet. Its one byte is all of it.
pub const PROBE: u8 = 0x10;

/// The bytes of a challenge, and of what answers it.
pub const PATH_BYTES: usize = 12;

/// Whether datagrams are of links with keys. An end speaks in one mode alone, and does not hear the
/// other: nobody on the way can have two ends do without keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// They are: sealed by seaprox-noise.
    Keyed = 0,
    /// They are not: see [`crate::seal::Checksum`] and [`crate::handshake`].
    Insecure = 0x20,
}

/// The kind of a datagram: its first byte, less that of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Who connects asks for a link.
    Init = 0x01,
    /// The answer: a link, or why there is none.
    Response = 0x02,
    /// Come again with this.
    Cookie = 0x03,
    /// The asker's versions are none of these.
    Versions = 0x04,
    /// A packet of a link.
    Data = 0x10,
}

impl Kind {
    /// The first byte of a datagram.
    #[inline]
    #[must_use]
    pub const fn first(self, mode: Mode) -> u8 {
        self as u8 | mode as u8
    }
}

/// Which kind of datagram of this mode it is; `None`: none of ours, or not as long as its kind has to be.
/// O(1).
#[inline]
#[must_use]
pub fn kind_of(mode: Mode, datagram: &[u8]) -> Option<Kind> {
    let (kind, is_so_long) = match *datagram.first()? ^ mode as u8 {
        0x10 => (Kind::Data, datagram.len() >= OVERHEAD_BYTES),
        0x01 => (Kind::Init, datagram.len() == INIT_BYTES),
        0x02 => (Kind::Response, datagram.len() == RESPONSE_BYTES),
        0x03 => (Kind::Cookie, datagram.len() == COOKIE_BYTES),
        0x04 => (Kind::Versions, datagram.len() == VERSIONS_BYTES),
        _ => return None,
    };
    is_so_long.then_some(kind)
}

/// The index by which a datagram of any kind is steered: INIT's sender, of all others the receiver.
#[inline]
#[must_use]
pub fn index_of(datagram: &[u8]) -> Option<u32> {
    let &[_, _, _, _, i0, i1, i2, i3] = datagram.first_chunk()?;
    Some(u32::from_le_bytes([i0, i1, i2, i3]))
}

/// The header of a packet.
///
/// ```text
/// 0x10 or 0x30, flags (bits 0-1: key slot), number bits 32-47 | receiver's index | number bits 0-31
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether it was sealed with a key.
    pub mode: Mode,
    /// Which of the receiver's keys opens it, 0..=3; 0 without a cipher.
    pub key_slot: u8,
    /// At most [`NUMBER_MAX`].
    pub number: u64,
    /// The link, as its receiver counts.
    pub receiver: u32,
}

const KEY_SLOT: u8 = 0b11;

impl Header {
    /// Its bytes; of the key slot and the number only the bits that there is room for.
    #[inline]
    #[must_use]
    pub const fn encode(&self) -> [u8; HEADER_BYTES] {
        let [n0, n1, n2, n3, n4, n5, _, _] = self.number.to_le_bytes();
        let [r0, r1, r2, r3] = self.receiver.to_le_bytes();
        let kind = Kind::Data.first(self.mode);
        [kind, self.key_slot & KEY_SLOT, n4, n5, r0, r1, r2, r3, n0, n1, n2, n3]
    }

    /// What these bytes say; `None`: it is another kind, or a flag is set that has no meaning.
    #[inline]
    #[must_use]
    pub const fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let &[kind, flags, n4, n5, r0, r1, r2, r3, n0, n1, n2, n3] = bytes;
        let mode = match kind {
            0x10 => Mode::Keyed,
            0x30 => Mode::Insecure,
            _ => return None,
        };
        if flags & !KEY_SLOT != 0 {
            return None;
        }
        let number = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, 0, 0]);
        let receiver = u32::from_le_bytes([r0, r1, r2, r3]);
        Some(Header { mode, key_slot: flags, number, receiver })
    }
}

/// A packet taken apart, as `Seal::open` wants it.
#[derive(Debug)]
pub struct Parts<'d> {
    /// What the header says.
    pub header: Header,
    /// The header as it came.
    pub head: &'d [u8; HEADER_BYTES],
    /// Sealed messages, perhaps none.
    pub body: &'d mut [u8],
    /// What shows that it is whole.
    pub tag: &'d [u8; TAG_BYTES],
}

/// Takes a packet apart; `None`: it is none. O(1), nothing was opened.
#[inline]
#[must_use]
pub fn take_apart(datagram: &mut [u8]) -> Option<Parts<'_>> {
    let (head, rest) = datagram.split_first_chunk_mut::<HEADER_BYTES>()?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>()?;
    Some(Parts { header: Header::decode(head)?, head, body, tag })
}

/// These bytes are no message of the carrier: the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed message of the carrier")
    }
}

impl core::error::Error for Malformed {}

/// A message that never reaches the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own<'m> {
    /// Packets arrived.
    Ack(Ack<'m>),
    /// The answer is the same value.
    PathChallenge(u64),
    /// What a challenge said.
    PathResponse(u64),
    /// Nothing but that this packet wants to be acknowledged.
    Probe,
}

impl<'m> Own<'m> {
    /// The first message of the rest of a packet, and its length in bytes, if it is the carrier's
    /// own; `None`: it is a PAD, or the link's. O(ranges).
    ///
    /// # Errors
    /// It begins as the carrier's own and is not, or not whole.
    #[inline]
    pub fn parse(rest: &'m [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        match rest.first() {
            Some(&ACK) => Ack::parse(rest).map(|(ack, bytes)| Some((Own::Ack(ack), bytes))),
            Some(&PROBE) => Ok(Some((Own::Probe, 1))),
            Some(&kind @ (PATH_CHALLENGE | PATH_RESPONSE)) => {
                let (&[_, z0, z1, z2, v @ ..], _) =
                    rest.split_first_chunk::<PATH_BYTES>().ok_or(Malformed)?;
                if [z0, z1, z2] != [0; 3] {
                    return Err(Malformed);
                }
                let value = u64::from_le_bytes(v);
                let own = match kind {
                    PATH_CHALLENGE => Own::PathChallenge(value),
                    _ => Own::PathResponse(value),
                };
                Ok(Some((own, PATH_BYTES)))
            }
            _ => Ok(None),
        }
    }
}

/// The bytes of a challenge.
#[must_use]
pub const fn path_challenge(value: u64) -> [u8; PATH_BYTES] {
    path(PATH_CHALLENGE, value)
}

/// The bytes of what answers a challenge.
#[must_use]
pub const fn path_response(value: u64) -> [u8; PATH_BYTES] {
    path(PATH_RESPONSE, value)
}

const fn path(kind: u8, value: u64) -> [u8; PATH_BYTES] {
    let [v0, v1, v2, v3, v4, v5, v6, v7] = value.to_le_bytes();
    [kind, 0, 0, 0, v0, v1, v2, v3, v4, v5, v6, v7]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Checksum;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn a_header_is_these_bytes() {
        for (first, mode) in [(0x10, Mode::Keyed), (0x30, Mode::Insecure)] {
            let (key_slot, number, receiver) = (2, 0x0605_0403_0201, 0xdead_beef);
            let header = Header { mode, key_slot, number, receiver };
            let bytes = [first, 2, 5, 6, 0xef, 0xbe, 0xad, 0xde, 1, 2, 3, 4];
            assert_eq!(header.encode(), bytes);
            assert_eq!(Header::decode(&bytes), Some(header));
        }
    }

    #[test]
    fn paths_are_these_bytes() {
        let bytes = [9, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(path_challenge(0x0102_0304_0506_0708), bytes);
        let answer = path_response(0x0102_0304_0506_0708);
        assert_eq!(answer[0], 0x0a);
        assert_eq!(answer[1..], bytes[1..]);
        assert_eq!(Own::parse(&bytes), Ok(Some((Own::PathChallenge(0x0102_0304_0506_0708), 12))));
        assert_eq!(Own::parse(&answer), Ok(Some((Own::PathResponse(0x0102_0304_0506_0708), 12))));
        for cut in 1..PATH_BYTES {
            assert_eq!(Own::parse(&bytes[..cut]), Err(Malformed), "{cut} bytes");
        }
        for reserved in 1..4 {
            let mut other = bytes;
            other[reserved] = 1;
            assert_eq!(Own::parse(&other), Err(Malformed));
        }
        assert_eq!(Own::parse(&[PROBE, PAD]), Ok(Some((Own::Probe, 1))));
    }

    /// The carrier takes its own out before the link sees the rest: no kind is both's.
    #[test]
    fn no_message_of_the_link_is_the_carriers() {
        use seaprox_proto::message::parse;
        for kind in [ACK, PATH_CHALLENGE, PATH_RESPONSE, PROBE] {
            let mut bytes = [0; 300];
            bytes[0] = kind;
            assert!(parse(&bytes).is_err(), "kind {kind:#x} is a message of the link");
        }
        for kind in 0..=u8::MAX {
            let mut bytes = [0; 300];
            bytes[0] = kind;
            let own = Own::parse(&bytes);
            let is_own = [ACK, PATH_CHALLENGE, PATH_RESPONSE, PROBE].contains(&kind);
            assert_eq!(own != Ok(None), is_own, "kind {kind:#x}");
        }
        assert_eq!(Own::parse(&[]), Ok(None));
    }

    #[test]
    fn a_kind_has_its_length() {
        for length in 0..1500 {
            for first in 0..=u8::MAX {
                let mut datagram = [0; 1500];
                datagram[0] = first;
                let expected = |first, length| match (first, length) {
                    (0x01, 184) => Some(Kind::Init),
                    (0x02, 128) => Some(Kind::Response),
                    (0x03, 64) => Some(Kind::Cookie),
                    (0x04, 32) => Some(Kind::Versions),
                    (0x10, 28..) => Some(Kind::Data),
                    _ => None,
                };
                let (keyed, insecure) = (expected(first, length), expected(first ^ 0x20, length));
                let datagram = &mut datagram[..length];
                assert_eq!(kind_of(Mode::Keyed, datagram), keyed, "{first:#x}, {length} bytes");
                assert_eq!(kind_of(Mode::Insecure, datagram), insecure, "{first:#x}, {length}");
                assert!(keyed.is_none() || insecure.is_none(), "nothing is of both modes");
                assert_eq!(index_of(datagram).is_some(), length >= 8);
                let is_packet = take_apart(datagram).is_some();
                assert_eq!(is_packet, keyed.or(insecure) == Some(Kind::Data));
            }
        }
    }

    #[test]
    fn a_packet_is_taken_apart_as_it_was_put_together() {
        let mode = Mode::Insecure;
        let header = Header { mode, key_slot: 0, number: NUMBER_MAX, receiver: 3 };
        for bytes in [0, 1, 1204] {
            let seal = Checksum::new(5);
            let body: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let tag = seal.tag(header.number, &header.encode(), &body);
            let mut datagram: Vec<u8> = [&header.encode()[..], &body, &tag].concat();
            let parts = take_apart(&mut datagram).unwrap();
            assert_eq!((parts.header, parts.head), (header, &header.encode()));
            assert_eq!((&*parts.body, parts.tag), (&body[..], &tag));
            assert_eq!(seal.tag(parts.header.number, parts.head, parts.body), *parts.tag);
            assert_eq!(index_of(&datagram), Some(3));
        }
    }

    proptest! {
        /// One form: what decodes is encoded as the same bytes, and what is encoded decodes.
        #[test]
        fn headers_have_one_form(bytes: [u8; HEADER_BYTES], flags in 0..8u8, is_keyed: bool) {
            let mut bytes = bytes;
            bytes[0] = if is_keyed { 0x10 } else { 0x30 };
            bytes[1] = if flags < 4 { flags } else { bytes[1] };
            match Header::decode(&bytes) {
                Some(header) => {
                    prop_assert_eq!(header.encode(), bytes);
                    prop_assert!(header.number <= NUMBER_MAX && header.key_slot < 4);
                }
                None => prop_assert!(bytes[1] > 3),
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut bytes = bytes;
            let modes = [Mode::Keyed, Mode::Insecure];
            let _ = (modes.map(|mode| kind_of(mode, &bytes)), index_of(&bytes));
            if let Ok(Some((_, length))) = Own::parse(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&length));
            }
            let _ = take_apart(&mut bytes);
        }
    }
}
