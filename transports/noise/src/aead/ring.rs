//! The faster backend: ring, which is assembly and C. It allocates nothing for a key or a packet.

use super::{Aead, NONCE_BYTES, Tag};
use core::hint::black_box;
use ring::aead::{AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

/// A key, if it was as long as its algorithm wants it, which the constructors see to.
struct Expanded(Option<LessSafeKey>, &'static Algorithm);

impl Expanded {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Self {
        Expanded(UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new), algorithm)
    }
}

/// ring overwrites no key; so another takes its place.
impl Drop for Expanded {
    fn drop(&mut self) {
        let nothing = [0; 32];
        let nothing = nothing.get(..self.1.key_len()).unwrap_or_default();
        self.0 = UnboundKey::new(self.1, nothing).ok().map(LessSafeKey::new);
        black_box(&self.0);
    }
}

impl Aead for Expanded {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.0.as_ref();
        let sealed =
            key.map(|key| key.seal_in_place_separate_tag(nonce, Aad::from(ad), &mut *body));
        match sealed {
            Some(Ok(tag)) => tag.as_ref().try_into().unwrap_or_default(),
            // A body of 64 GiB is not sealed; nor does it leave.
            Some(Err(_)) | None => {
                body.zeroize();
                Tag::default()
            }
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
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = ring::aead::Tag::from(*tag);
        self.0.as_ref().is_some_and(|key| {
            key.open_in_place_separate_tag(nonce, Aad::from(ad), tag, body, 0..).is_ok()
        })
    }
}

/// AES-128-GCM.
pub(super) struct Aes(Expanded);

impl Aes {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Aes(Expanded::new(&AES_128_GCM, key))
    }
}

impl Aead for Aes {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        self.0.seal_in_place(nonce, ad, body)
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool {
        self.0.open_in_place(nonce, ad, body, tag)
    }
}

/// ChaCha20-Poly1305.
pub(super) struct ChaCha(Expanded);

impl ChaCha {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        ChaCha(Expanded::new(&CHACHA20_POLY1305, key))
    }
}

impl Aead for ChaCha {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        self.0.seal_in_place(nonce, ad, body)
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool {
        self.0.open_in_place(nonce, ad, body, tag)
    }
}
