//! What Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s is made of: the curve, the cipher and the hash, as
//! `noise-protocol` wants them. Knows no message. Names and lengths are those of the Noise Protocol
//! Framework, revision 34, section 12.
//!
//! Invariant: whatever the handshake keeps that is secret is in a [`Wiped`].

use crate::keys::{Identity, KEY_BYTES, Psk, Secret};
use blake2::{Blake2s256, Digest};
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use core::hint::black_box;
use noise_protocol::patterns::noise_ik_psk2;
use noise_protocol::{DH, HandshakeState, Hash, U8Array};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One handshake under way.
pub(crate) type Handshake = HandshakeState<X25519, ChaChaPoly, Blake2s>;

/// A secret of both ends.
pub(crate) type Shared = Wiped<KEY_BYTES>;

const TAG_BYTES: usize = 16;

/// Bytes that are overwritten when they are dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Wiped<const N: usize>([u8; N]);

impl<const N: usize> Wiped<N> {
    pub(crate) const fn new(bytes: [u8; N]) -> Self {
        Wiped(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> U8Array for Wiped<N> {
    fn new() -> Self {
        Wiped([0; N])
    }

    fn new_with(byte: u8) -> Self {
        Wiped([byte; N])
    }

    /// Of slices whose length is a constant of the framework, never one that came from outside.
    fn from_slice(slice: &[u8]) -> Self {
        let mut bytes = Wiped([0; N]);
        bytes.0.copy_from_slice(slice);
        bytes
    }

    fn len() -> usize {
        N
    }

    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// X25519 (RFC 7748). A key is a secret and its public behind it, so that no public is computed
/// twice.
pub(crate) struct X25519;

type Pair = Wiped<64>;

fn pair(secret: &Secret, public: &[u8; KEY_BYTES]) -> Pair {
    let mut pair = Wiped([0; 64]);
    let (front, back) = pair.0.split_at_mut(KEY_BYTES);
    front.copy_from_slice(secret.bytes());
    back.copy_from_slice(public);
    pair
}

impl DH for X25519 {
    type Key = Pair;
    type Pubkey = [u8; KEY_BYTES];
    type Output = Shared;

    fn name() -> &'static str {
        "25519"
    }

    fn genkey() -> Pair {
        // `handshake` gives one to every handshake. A key that everybody knows would be worse than this.
        unreachable!("an ephemeral key is given, never drawn here")
    }

    fn pubkey(key: &Pair) -> [u8; KEY_BYTES] {
        U8Array::from_slice(key.0.split_at(KEY_BYTES).1)
    }

    fn dh(key: &Pair, public: &[u8; KEY_BYTES]) -> Result<Shared, ()> {
        let mut secret: [u8; KEY_BYTES] = U8Array::from_slice(key.0.split_at(KEY_BYTES).0);
        let shared = StaticSecret::from(secret).diffie_hellman(&PublicKey::from(*public));
        secret.zeroize();
        // Else this part of the handshake would be no secret (RFC 7748, section 6.1).
        if shared.was_contributory() { Ok(Wiped(shared.to_bytes())) } else { Err(()) }
    }
}

/// ChaCha20-Poly1305 (RFC 8439); the nonce is four zero bytes and the number, little-endian.
pub(crate) struct ChaChaPoly;

impl ChaChaPoly {
    fn nonce(number: u64) -> [u8; 12] {
        let [n0, n1, n2, n3, n4, n5, n6, n7] = number.to_le_bytes();
        [0, 0, 0, 0, n0, n1, n2, n3, n4, n5, n6, n7]
    }
}

impl noise_protocol::Cipher for ChaChaPoly {
    type Key = Shared;

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &Shared, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) {
        let Some((front, _)) = out.split_at_mut_checked(plaintext.len()) else { return };
        front.copy_from_slice(plaintext);
        Self::encrypt_in_place(key, nonce, ad, out, plaintext.len());
    }

    fn encrypt_in_place(
        key: &Shared,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        plaintext_len: usize,
    ) -> usize {
        let Some((body, rest)) = in_out.split_at_mut_checked(plaintext_len) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG_BYTES>() else { return 0 };
        let cipher = ChaCha20Poly1305::new(key.bytes().into());
        let sealed =
            cipher.encrypt_inout_detached(&Self::nonce(nonce).into(), ad, InOutBuf::from(body));
        // It fails for 256 GiB, and nothing that is not sealed may leave.
        *place = sealed.map_or_else(|_| [0; TAG_BYTES], Into::into);
        plaintext_len + TAG_BYTES
    }

    fn decrypt(
        key: &Shared,
        nonce: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<(), ()> {
        let (body, tag) = ciphertext.split_last_chunk::<TAG_BYTES>().ok_or(())?;
        let cipher = ChaCha20Poly1305::new(key.bytes().into());
        let buffer = InOutBuf::new(body, out).map_err(|_| ())?;
        cipher
            .decrypt_inout_detached(&Self::nonce(nonce).into(), ad, buffer, tag.into())
            .map_err(|_| ())
    }

    fn decrypt_in_place(
        key: &Shared,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        ciphertext_len: usize,
    ) -> Result<usize, ()> {
        let sealed = in_out.get_mut(..ciphertext_len).ok_or(())?;
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(())?;
        let bytes = body.len();
        let cipher = ChaCha20Poly1305::new(key.bytes().into());
        cipher
            .decrypt_inout_detached(&Self::nonce(nonce).into(), ad, body.into(), (&*tag).into())
            .map_err(|_| ())?;
        Ok(bytes)
    }
}

/// BLAKE2s with 32 bytes of output (RFC 7693).
#[derive(Default)]
pub(crate) struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    type Block = Wiped<64>;
    type Output = Wiped<32>;

    fn name() -> &'static str {
        "BLAKE2s"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self) -> Wiped<32> {
        Wiped(core::mem::take(&mut self.0).finalize().into())
    }
}

/// A handshake that begins: of the one who asks if it knows the peer's static key, else of the one
/// who is asked. The ephemeral key is used for this one alone.
pub(crate) fn handshake(
    own: &Identity,
    peer: Option<&[u8; KEY_BYTES]>,
    ephemeral: &Secret,
    prologue: &[u8],
) -> Handshake {
    Handshake::new(
        noise_ik_psk2(),
        peer.is_some(),
        prologue,
        Some(pair(own.secret(), own.public().bytes())),
        Some(pair(ephemeral, ephemeral.public().bytes())),
        peer.copied(),
        None,
    )
}

/// Does the one thing that needs the psk, and leaves none in the handshake, but for one that ended at a
/// key of low order, which is dropped.
pub(crate) fn with_psk<T>(
    handshake: &mut Handshake,
    psk: &Psk,
    work: impl FnOnce(&mut Handshake) -> T,
) -> T {
    handshake.push_psk(psk.bytes());
    let done = work(handshake);
    // In the place that it was taken from.
    handshake.push_psk(Psk::NONE.bytes());
    black_box(&*handshake);
    done
}

/// The keys of a handshake that is done: what the initiator seals with, and the responder.
pub(crate) fn split(handshake: &Handshake) -> (Shared, Shared) {
    let (initiators, responders) = handshake.get_ciphers();
    (initiators.extract().0, responders.extract().0)
}

#[cfg(test)]
mod tests;
