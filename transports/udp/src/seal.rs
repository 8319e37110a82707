//! What stands at the end of a packet and shows that it is whole, and whose it is: a checksum, or what the
//! keys of a link make. Refuses to know what is in a packet.
//!
//! Invariants: a body is used only after `Seal::open` said that it is the peer's; with keys, nothing
//! leaves that was not sealed.

use crate::packet::Mode;
use crate::time::Micros;
use seaprox_noise::agreed::Keys;
use seaprox_noise::keyring::{Keyring, Opened};
use twox_hash::XxHash3_128;

/// The bytes of a tag, whatever makes it.
pub const TAG_BYTES: usize = seaprox_noise::aead::TAG_BYTES;

/// No cipher: 128 bits of XXH3 over session, number, header and body. It finds what networks do to
/// packets and those of another link, and nothing that people do.
///
/// ```
/// use seaprox_udp::seal::Checksum;
///
/// let tag = Checksum::new(7).tag(1, b"header", b"body");
/// assert_ne!(tag, Checksum::new(7).tag(1, b"header", b"bodx"));
/// assert_ne!(tag, Checksum::new(8).tag(1, b"header", b"body"), "of another link");
/// ```
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

    /// The tag of a packet. Two sums, so that no byte is copied to stand beside the others and the long
    /// one needs no seeded secret, which takes longer to derive than a small packet takes to be summed.
    /// O(length).
    #[inline]
    #[must_use]
    pub fn tag(self, number: u64, header: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
        // An odd factor: as long as one of the two is right, the other shows.
        let seed = self.session.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let head = XxHash3_128::oneshot_with_seed(seed, header);
        // Turned, or a body that is its own header would cancel it.
        XxHash3_128::oneshot(body).rotate_left(41).wrapping_add(head).to_le_bytes()
    }
}

/// What the packets of a link are sealed with from its beginning.
#[derive(Debug)]
pub enum Sealing {
    /// With nothing.
    Checksum(Checksum),
    /// With keys that this end has asked for: it may seal at once.
    Asked(Keys),
    /// With keys that this end was asked for: it may seal once a packet of the peer's has opened.
    Given(Keys),
}

/// Seals and opens the packets of one link, in place.
pub struct Seal<'m> {
    keyring: &'m mut Keyring,
    /// Instead of the keys.
    checksum: Option<Checksum>,
}

impl<'m> Seal<'m> {
    /// Whatever keys there were are gone.
    pub(crate) fn new(keyring: &'m mut Keyring, sealing: Sealing, now: Micros) -> Seal<'m> {
        *keyring = Keyring::new();
        let checksum = match sealing {
            Sealing::Checksum(checksum) => Some(checksum),
            Sealing::Asked(keys) => {
                keyring.install(keys, now.0);
                None
            }
            Sealing::Given(keys) => {
                // There are none that they could be in the way of.
                let _ = keyring.propose(keys, now.0);
                None
            }
        };
        Seal { keyring, checksum }
    }

    /// The memory of the keys, which are overwritten.
    pub(crate) fn into_keyring(self) -> &'m mut Keyring {
        *self.keyring = Keyring::new();
        self.keyring
    }

    /// Of what kind the packets are.
    pub(crate) const fn mode(&self) -> Mode {
        if self.checksum.is_some() { Mode::Insecure } else { Mode::Keyed }
    }

    /// The keys; `None`: there is only a checksum.
    pub(crate) fn keys(&self) -> Option<&Keyring> {
        self.checksum.is_none().then_some(&*self.keyring)
    }

    /// The keys; `None`: there is only a checksum.
    pub(crate) fn keys_mut(&mut self) -> Option<&mut Keyring> {
        self.checksum.is_none().then_some(&mut *self.keyring)
    }

    /// Which key seals now, for the header. `None`: nothing can be sealed. O(1).
    #[inline]
    pub(crate) fn slot(&mut self, now: Micros) -> Option<u8> {
        match self.checksum {
            Some(_) => Some(0),
            None => self.keyring.slot(now.0),
        }
    }

    /// Makes the tag of a packet; `body` becomes what is sent. `None`: nothing may be sent. A number is
    /// sealed once: one that is sealed again, with another body, gives a cipher away, so with keys it is
    /// refused. O(length).
    #[inline]
    pub(crate) fn seal(
        &mut self,
        now: Micros,
        number: u64,
        header: &[u8],
        body: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        match self.checksum {
            Some(checksum) => Some(checksum.tag(number, header, body)),
            None => self.keyring.seal(now.0, number, header, body).ok(),
        }
    }

    /// Whether this tag was made by the peer of this link for exactly this number, header and body; then
    /// `body` is again what it was before it was sealed, else it is any bytes. `slot`: what the header
    /// says of the key. O(length).
    #[inline]
    pub(crate) fn open(
        &mut self,
        now: Micros,
        slot: u8,
        number: u64,
        header: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Opened {
        match self.checksum {
            Some(checksum) if checksum.tag(number, header, body) == *tag => Opened::Yes,
            Some(_) => Opened::No,
            None => self.keyring.open(now.0, slot, number, header, body, tag),
        }
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
        let checksum = Checksum::new(0x1122_3344_5566_7788);
        let body: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 256) as u8).collect();
        let tag = checksum.tag(NUMBER, &HEADER, &body);
        (checksum, body, tag)
    }

    /// Lengths on both sides of where XXH3 changes its way: 3, 8, 16, 128, 240, 1024.
    const LENGTHS: [usize; 15] = [0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 1204];

    #[test]
    fn what_was_sealed_opens() {
        for bytes in LENGTHS {
            let (checksum, body, tag) = sealed(bytes);
            assert_eq!(checksum.tag(NUMBER, &HEADER, &body), tag, "{bytes} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for bytes in LENGTHS {
            let (checksum, mut body, tag) = sealed(bytes);
            for bit in 0..bytes * 8 {
                body[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum.tag(NUMBER, &HEADER, &body), tag, "body {bit} of {bytes}");
                body[bit / 8] ^= 1 << (bit % 8);
            }
            for bit in 0..HEADER.len() * 8 {
                let mut header = HEADER;
                header[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum.tag(NUMBER, &header, &body), tag, "header {bit}");
            }
            for bit in 0..TAG_BYTES * 8 {
                let mut tag = tag;
                tag[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum.tag(NUMBER, &HEADER, &body), tag, "tag {bit}");
            }
            for bit in 0..64 {
                let number = NUMBER ^ 1 << bit;
                assert_ne!(checksum.tag(number, &HEADER, &body), tag, "number {bit}");
            }
        }
    }

    #[test]
    fn another_session_is_refused() {
        for bytes in LENGTHS {
            let (checksum, body, tag) = sealed(bytes);
            for bit in 0..64 {
                let other = Checksum::new(checksum.session ^ 1 << bit);
                assert_ne!(other.tag(NUMBER, &HEADER, &body), tag, "session {bit}");
            }
        }
    }

    #[test]
    fn a_cut_or_longer_body_is_refused() {
        for bytes in LENGTHS.into_iter().filter(|&bytes| bytes > 0) {
            let (checksum, mut body, tag) = sealed(bytes);
            assert_ne!(checksum.tag(NUMBER, &HEADER, &body[..bytes - 1]), tag);
            body.push(0);
            assert_ne!(checksum.tag(NUMBER, &HEADER, &body), tag);
        }
    }

    /// The other end may be another machine: the bytes are for ever.
    #[test]
    fn the_tag_is_these_bytes() {
        let tag = Checksum::new(1).tag(2, &HEADER, b"seaprox");
        assert_eq!(tag, VECTOR, "{tag:02x?}");
    }

    const VECTOR: [u8; TAG_BYTES] = [
        0x57, 0x1d, 0xdb, 0x7a, 0x47, 0x95, 0xe0, 0x48, 0xc4, 0x9c, 0x31, 0xac, 0xae, 0x4a, 0x87,
        0x86,
    ];

    proptest! {
        #[test]
        fn bodies_do_not_collide(a: Vec<u8>, b: Vec<u8>, session: u64, number in 0..1u64 << 48) {
            let tag = |body: &[u8]| Checksum::new(session).tag(number, &HEADER, body);
            prop_assert_eq!(tag(&a) == tag(&b), a == b);
        }

        /// A body that is its own header is as good as any.
        #[test]
        fn header_and_body_do_not_cancel(bytes: Vec<u8>, flipped in 0..8u8) {
            prop_assume!(!bytes.is_empty());
            let tag = |bytes: &[u8]| Checksum::new(0).tag(0, bytes, bytes);
            let mut other = bytes.clone();
            other[0] ^= 1 << flipped;
            prop_assert_ne!(tag(&bytes), tag(&other));
        }
    }
}
