//! What stands at the end of a packet and shows that it is whole: the trait that a cipher will
//! implement, and the checksum that stands in for one. Refuses to know what is in a packet.
//!
//! Invariant: a body is used only after [`Seal::open`] said `true` of it.

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// The bytes of a tag, whatever makes it.
pub const TAG_BYTES: usize = 16;

/// Seals and opens the packets of one link, in place.
pub trait Seal {
    /// Makes the tag of a packet; `body` becomes what is sent. A number is sealed once: one that
    /// is sealed again, with another body, gives a cipher away. O(length).
    fn seal(&mut self, number: u64, header: &[u8], body: &mut [u8]) -> [u8; TAG_BYTES];

    /// Whether this tag was made by the peer of this link for exactly this number, header and body;
    /// then `body` is again what it was before it was sealed, else it is any bytes. O(length).
    fn open(&mut self, number: u64, header: &[u8], body: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool;
}

/// No cipher: 128 bits of XXH3 over session, number, header and body. It finds what networks do to
/// packets and those of another link, and nothing that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    session: u64,
}

impl Checksum {
    /// Of the link with this number, see [`crate::handshake::session_id`].
    #[must_use]
    pub const fn new(session: u64) -> Self {
        Checksum { session }
    }

    /// Two sums, so that no byte is copied to stand beside the others and the long one needs no
    /// seeded secret, which takes longer to derive than a small packet takes to be summed.
    fn tag(self, number: u64, header: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
        // An odd factor: as long as one of the two is right, the other shows.
        let seed = self.session.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let head = xxh3_128_with_seed(header, seed);
        // Turned, or a body that is its own header would cancel it.
        xxh3_128(body).rotate_left(41).wrapping_add(head).to_le_bytes()
    }
}

impl Seal for Checksum {
    #[inline]
    fn seal(&mut self, number: u64, header: &[u8], body: &mut [u8]) -> [u8; TAG_BYTES] {
        self.tag(number, header, body)
    }

    #[inline]
    fn open(&mut self, number: u64, header: &[u8], body: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.tag(number, header, body) == *tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const HEADER: [u8; 12] = [0x30, 0, 0, 0, 7, 0, 0, 0, 1, 2, 3, 4];
    const NUMBER: u64 = 0x0403_0201;

    fn sealed(bytes: usize) -> (Checksum, Vec<u8>, [u8; TAG_BYTES]) {
        let mut checksum = Checksum::new(0x1122_3344_5566_7788);
        let mut body: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 256) as u8).collect();
        let tag = checksum.seal(NUMBER, &HEADER, &mut body);
        (checksum, body, tag)
    }

    /// Lengths on both sides of where XXH3 changes its way: 3, 8, 16, 128, 240, 1024.
    const LENGTHS: [usize; 15] = [0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 1204];

    #[test]
    fn what_was_sealed_opens() {
        for bytes in LENGTHS {
            let (mut checksum, mut body, tag) = sealed(bytes);
            assert!(checksum.open(NUMBER, &HEADER, &mut body, &tag), "{bytes} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for bytes in LENGTHS {
            let (mut checksum, mut body, tag) = sealed(bytes);
            for bit in 0..bytes * 8 {
                body[bit / 8] ^= 1 << (bit % 8);
                assert!(!checksum.open(NUMBER, &HEADER, &mut body, &tag), "body {bit} of {bytes}");
                body[bit / 8] ^= 1 << (bit % 8);
            }
            for bit in 0..HEADER.len() * 8 {
                let mut header = HEADER;
                header[bit / 8] ^= 1 << (bit % 8);
                assert!(!checksum.open(NUMBER, &header, &mut body, &tag), "header {bit}");
            }
            for bit in 0..TAG_BYTES * 8 {
                let mut tag = tag;
                tag[bit / 8] ^= 1 << (bit % 8);
                assert!(!checksum.open(NUMBER, &HEADER, &mut body, &tag), "tag {bit}");
            }
            for bit in 0..64 {
                let number = NUMBER ^ 1 << bit;
                assert!(!checksum.open(number, &HEADER, &mut body, &tag), "number {bit}");
            }
        }
    }

    #[test]
    fn another_session_is_refused() {
        for bytes in LENGTHS {
            let (checksum, mut body, tag) = sealed(bytes);
            for bit in 0..64 {
                let mut other = Checksum::new(checksum.session ^ 1 << bit);
                assert!(!other.open(NUMBER, &HEADER, &mut body, &tag), "session {bit}");
            }
        }
    }

    #[test]
    fn a_cut_or_longer_body_is_refused() {
        for bytes in LENGTHS.into_iter().filter(|&bytes| bytes > 0) {
            let (mut checksum, mut body, tag) = sealed(bytes);
            assert!(!checksum.open(NUMBER, &HEADER, &mut body[..bytes - 1], &tag));
            body.push(0);
            assert!(!checksum.open(NUMBER, &HEADER, &mut body, &tag));
        }
    }

    /// The other end may be another machine: the bytes are for ever.
    #[test]
    fn the_tag_is_these_bytes() {
        let mut body = *b"seaprox";
        let tag = Checksum::new(1).seal(2, &HEADER, &mut body);
        assert_eq!(&body, b"seaprox");
        assert_eq!(tag, VECTOR, "{tag:02x?}");
    }

    const VECTOR: [u8; TAG_BYTES] = [
        0x57, 0x1d, 0xdb, 0x7a, 0x47, 0x95, 0xe0, 0x48, 0xc4, 0x9c, 0x31, 0xac, 0xae, 0x4a, 0x87,
        0x86,
    ];

    proptest! {
        #[test]
        fn bodies_do_not_collide(a: Vec<u8>, b: Vec<u8>, session: u64, number in 0..1u64 << 48) {
            let (mut one, mut other) = (a.clone(), b.clone());
            let tag = Checksum::new(session).seal(number, &HEADER, &mut one);
            let opens = Checksum::new(session).open(number, &HEADER, &mut other, &tag);
            prop_assert_eq!(opens, a == b);
        }

        /// A body that is its own header is as good as any.
        #[test]
        fn header_and_body_do_not_cancel(bytes: Vec<u8>, flipped in 0..8u8) {
            prop_assume!(!bytes.is_empty());
            let mut seal = Checksum::new(0);
            let tag = seal.seal(0, &bytes, &mut bytes.clone());
            let mut other = bytes.clone();
            other[0] ^= 1 << flipped;
            prop_assert!(!seal.open(0, &other, &mut other.clone(), &tag));
        }
    }
}
