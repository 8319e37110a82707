//! The ciphers of what follows a handshake: sealed in place, opened in place, with keys that are
//! expanded once. Knows neither where keys come from nor what a nonce counts.
//!
//! Invariant: nothing leaves [`Aead::seal_in_place`] as it came, and nothing that was not sealed with
//! the same key, nonce and associated data passes [`Aead::open_in_place`].
//!
//! AES-128-GCM where the CPUs of both ends have it, else ChaCha20-Poly1305, which is as good and needs
//! no instructions of its own. AES-256 would cost a tenth more and buy nothing: what X25519 agrees on is
//! worth 128 bits, and no key seals more than [`crate::keyring::PACKETS_MAX`] packets.
//!
//! What they cost, in CPU seconds for 10^9 bytes sealed and opened in packets of 1200 bytes, on one
//! core of an x86-64 server (`cargo bench -p seaprox-benches --bench ciphers` tells of another):
//!
//! | | AES-128-GCM | ChaCha20-Poly1305 |
//! | --- | --- | --- |
//! | default | 0.79 | 4.7 |
//! | feature `ring` | 0.38 | 1.3 |
//!
//! Of the default backend AES-GCM 0.11 is twice as fast as 0.10 was; ChaCha20-Poly1305 is slow in
//! every version, for Poly1305 is: on a CPU without AES, take ring.

#[cfg(feature = "ring")]
mod ring;
#[cfg(any(test, not(feature = "ring")))]
mod rust_crypto;

#[cfg(feature = "ring")]
use self::ring as backend;
#[cfg(not(feature = "ring"))]
use self::rust_crypto as backend;

use crate::keys::KEY_BYTES;
use core::fmt;

/// Whose ciphers these are: `ring` with that feature, else `RustCrypto`.
pub const BACKEND: &str = if cfg!(feature = "ring") { "ring" } else { "RustCrypto" };

/// The bytes of a tag, of every cipher.
pub const TAG_BYTES: usize = 16;

/// The bytes of a nonce, of every cipher.
pub const NONCE_BYTES: usize = 12;

/// What is sent behind what was sealed.
pub type Tag = [u8; TAG_BYTES];

/// Seals and opens with one key.
pub trait Aead {
    /// Seals a body, which becomes what is sent, and returns its tag. A nonce is used once: the second
    /// time gives the key away. O(length).
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag;

    /// Whether exactly this was sealed with this key; then the body is what it was before, else it is
    /// any bytes. O(length), in a time that does not depend on the tag.
    #[must_use]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool;
}

/// A cipher's name: its number is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-128-GCM (NIST SP 800-38D): where the CPU has AES and carry-less multiplication.
    Aes128Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// The one to be preferred on this CPU. Whether this CPU has instructions for AES-GCM the
    /// program says, which may ask: on x86-64
    /// `is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq")`.
    #[must_use]
    pub const fn preferred(is_aes_fast: bool) -> Algorithm {
        if is_aes_fast { Algorithm::Aes128Gcm } else { Algorithm::ChaCha20Poly1305 }
    }

    /// The one with this number; `None`: it is of a later version.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Algorithm> {
        match number {
            1 => Some(Algorithm::Aes128Gcm),
            2 => Some(Algorithm::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// As logs name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Aes128Gcm => "aes-128-gcm",
            Algorithm::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }
}

/// One key of the algorithm that was agreed on, expanded.
///
/// ```
/// use seaprox_noise::aead::{Aead, Algorithm, Cipher, nonce};
///
/// let cipher = Cipher::new(Algorithm::ChaCha20Poly1305, &[7; 32]);
/// let mut body = *b"hello";
/// let tag = cipher.seal_in_place(&nonce(1), b"header", &mut body);
/// assert_ne!(&body, b"hello");
/// assert!(!cipher.open_in_place(&nonce(2), b"header", &mut body.clone(), &tag));
/// assert!(cipher.open_in_place(&nonce(1), b"header", &mut body, &tag));
/// assert_eq!(&body, b"hello");
/// ```
pub struct Cipher(Kind);

#[cfg_attr(
    not(feature = "ring"),
    expect(clippy::large_enum_variant, reason = "there is no heap for the larger")
)]
enum Kind {
    Aes(backend::Aes),
    ChaCha(backend::ChaCha),
}

impl Cipher {
    /// Of 32 bytes; AES takes the first 16. About 100 nanoseconds.
    #[must_use]
    pub fn new(algorithm: Algorithm, key: &[u8; KEY_BYTES]) -> Cipher {
        Cipher(match algorithm {
            Algorithm::Aes128Gcm => {
                // Of 32 there are 16.
                let key = key.first_chunk().unwrap_or(&[0; 16]);
                Kind::Aes(backend::Aes::new(key))
            }
            Algorithm::ChaCha20Poly1305 => Kind::ChaCha(backend::ChaCha::new(key)),
        })
    }

    /// Which it is.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Kind::Aes(_) => Algorithm::Aes128Gcm,
            Kind::ChaCha(_) => Algorithm::ChaCha20Poly1305,
        }
    }
}

impl Aead for Cipher {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        match &self.0 {
            Kind::Aes(aes) => aes.seal_in_place(nonce, ad, body),
            Kind::ChaCha(chacha) => chacha.seal_in_place(nonce, ad, body),
        }
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool {
        match &self.0 {
            Kind::Aes(aes) => aes.open_in_place(nonce, ad, body, tag),
            Kind::ChaCha(chacha) => chacha.open_in_place(nonce, ad, body, tag),
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({})", self.algorithm().name())
    }
}

/// The nonce of a number: four zero bytes, and the number little-endian.
#[inline]
#[must_use]
pub const fn nonce(number: u64) -> [u8; NONCE_BYTES] {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = number.to_le_bytes();
    [0, 0, 0, 0, n0, n1, n2, n3, n4, n5, n6, n7]
}

#[cfg(test)]
mod tests;
