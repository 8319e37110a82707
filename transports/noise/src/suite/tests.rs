use super::*;
use crate::keys::{Peer, Public};
use noise_protocol::Cipher as _;
use std::vec::Vec;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let bytes: Vec<u8> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
const HASH: &str = "f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5";

/// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s of the vectors of cacophony, which those of other
/// implementations of Noise agree with: keys, payloads and messages.
#[test]
fn the_published_vector() {
    let secret = |hex| Secret::from_random(bytes(hex));
    // Clamping them changes nothing of what is computed with them.
    let alice =
        Identity::new(secret("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"));
    let bob =
        Identity::new(secret("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"));
    let public = bytes("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
    assert_eq!(bob.public().bytes(), &public);
    let e1 = secret("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
    let e2 = secret("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b");
    let peer = Peer::new(&bob, alice.public(), Psk::from_random(bytes(PSK))).unwrap();
    let mut asking = handshake(&alice, Some(&public), &e1, b"John Galt");
    let mut hearing = handshake(&bob, None, &e2, b"John Galt");

    let mut first = [0; 112];
    asking.write_message(b"Ludwig von Mises", &mut first).unwrap();
    let vector = "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8\
                  e2ad57527207feb56253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab50009\
                  80c84831215f2441eba616548e832985464cf17e51ee93109008399a21f7e13f";
    assert_eq!(first, bytes(vector));
    let mut payload = [0; 16];
    hearing.read_message(&first, &mut payload).unwrap();
    assert_eq!(&payload, b"Ludwig von Mises");
    assert_eq!(hearing.get_rs(), Some(*alice.public().bytes()));

    let mut second = [0; 63];
    with_psk(&mut hearing, peer.psk(), |hearing| {
        hearing.write_message(b"Murray Rothbard", &mut second)
    })
    .unwrap();
    let vector = "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b\
                  8f007572dab0322217755c0632f365717edbf34d33e87a";
    assert_eq!(second, bytes(vector));
    let mut payload = [0; 15];
    with_psk(&mut asking, peer.psk(), |asking| asking.read_message(&second, &mut payload)).unwrap();
    assert_eq!(&payload, b"Murray Rothbard");
    assert_eq!(asking.get_hash(), bytes::<32>(HASH));
    assert_eq!(hearing.get_hash(), asking.get_hash());

    // What follows, number by number; the initiator says the first.
    let (initiators, responders) = split(&asking);
    let (same_initiators, same_responders) = split(&hearing);
    assert_eq!(initiators.bytes(), same_initiators.bytes());
    assert_eq!(responders.bytes(), same_responders.bytes());
    let mut said = [0; 27];
    ChaChaPoly::encrypt(&initiators, 0, &[], b"F. A. Hayek", &mut said);
    assert_eq!(said, bytes("8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"));
    let mut said = *b"Carl Menger0123456789abcdef";
    assert_eq!(ChaChaPoly::encrypt_in_place(&responders, 0, &[], &mut said, 11), 27);
    assert_eq!(said, bytes("07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"));
    assert_eq!(ChaChaPoly::decrypt_in_place(&responders, 0, &[], &mut said, 27), Ok(11));
    assert_eq!(&said[..11], b"Carl Menger");
    let mut said = [0; 33];
    ChaChaPoly::encrypt(&initiators, 1, &[], b"Jean-Baptiste Say", &mut said);
    let vector = "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d";
    assert_eq!(said, bytes(vector));
    let mut heard = [0; 17];
    ChaChaPoly::decrypt(&initiators, 1, &[], &said, &mut heard).unwrap();
    assert_eq!(&heard, b"Jean-Baptiste Say");
    assert!(ChaChaPoly::decrypt(&initiators, 2, &[], &said, &mut heard).is_err());
}

/// The ephemeral key of a forger may be of low order: then nothing is agreed on.
#[test]
fn a_handshake_with_a_key_of_low_order_fails() {
    let alice = Identity::new(Secret::from_random([1; 32]));
    let bob = Identity::new(Secret::from_random([2; 32]));
    let e = Secret::from_random([3; 32]);
    for point in crate::keys::low_order() {
        assert!(Public::from_bytes(point).is_err());
        let mut asking = handshake(&alice, Some(&point), &e, b"");
        assert!(asking.write_message(&[], &mut [0; 96]).is_err(), "{point:x?}");
        let mut hearing = handshake(&bob, None, &e, b"");
        let mut first = [0; 96];
        first[..32].copy_from_slice(&point);
        assert!(hearing.read_message(&first, &mut []).is_err(), "{point:x?}");
    }
}
