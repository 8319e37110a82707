//! The default backend: Rust alone, neither heap nor C compiler. It finds out by itself what the CPU
//! has, and overwrites its keys when they are dropped.

use super::{Aead, NONCE_BYTES, Tag};
use aes_gcm::Aes128Gcm;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, ChaChaPoly1305, Key};
use zeroize::Zeroize;

/// AES-128-GCM.
pub(super) struct Aes(Aes128Gcm);

impl Aes {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Aes(Aes128Gcm::new(key.into()))
    }
}

/// ChaCha20-Poly1305.
pub(super) struct ChaCha(ChaCha20Poly1305);

impl ChaCha {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        ChaCha(ChaChaPoly1305::new(<&Key>::from(key)))
    }
}

impl Aead for Aes {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        let sealed = self.0.encrypt_inout_detached(nonce.into(), ad, (&mut *body).into());
        sealed.map_or_else(|_| refused(body), Into::into)
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool {
        self.0.decrypt_inout_detached(nonce.into(), ad, body.into(), tag.into()).is_ok()
    }
}

impl Aead for ChaCha {
    #[inline]
    fn seal_in_place(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], body: &mut [u8]) -> Tag {
        let sealed = self.0.encrypt_inout_detached(nonce.into(), ad, (&mut *body).into());
        sealed.map_or_else(|_| refused(body), Into::into)
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> bool {
        self.0.decrypt_inout_detached(nonce.into(), ad, body.into(), tag.into()).is_ok()
    }
}

/// A body of 64 GiB is not sealed; nor does it leave.
#[cold]
fn refused(body: &mut [u8]) -> Tag {
    body.zeroize();
    Tag::default()
}
