//! Keyed hashes of the handshake's outside: BLAKE2s with 16 bytes of output (RFC 7693, section 2.9),
//! keyed by a hash of a label and a public key. They show that the sender knows that public key,
//! or got a cookie; never who it is.

use crate::keys::KEY_BYTES;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac as _, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use subtle::ConstantTimeEq;

/// The bytes of every one.
pub(crate) const MAC_BYTES: usize = 16;

/// What a key is for: no hash of one kind is ever one of another.
#[derive(Clone, Copy)]
pub(crate) enum Label {
    /// Of INIT and RESPONSE, by their receiver's public key.
    Mac1,
    /// What a cookie is sealed with, by the public key of who gives it.
    Cookie,
    /// Of VERSIONS, by the public key of who sends it.
    Versions,
}

/// The key of this label and public key.
pub(crate) fn key(label: Label, public: &[u8; KEY_BYTES]) -> [u8; 32] {
    let label: &[u8; 16] = match label {
        Label::Mac1 => b"seaprox mac1    ",
        Label::Cookie => b"seaprox cookie  ",
        Label::Versions => b"seaprox versions",
    };
    Blake2s256::new().chain_update(label).chain_update(public).finalize().into()
}

/// Of these parts, one after the other. The key is 16 or 32 bytes.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    // No key is longer than 32 bytes, so there always is one.
    let Ok(mut mac) = Blake2sMac::<U16>::new_from_slice(key) else { return [0; MAC_BYTES] };
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether they are the same, in a time that does not tell where they differ.
pub(crate) fn is_same(one: &[u8; MAC_BYTES], other: &[u8; MAC_BYTES]) -> bool {
    one.ct_eq(other).into()
}
