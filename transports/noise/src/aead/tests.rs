use super::*;
use std::vec::Vec;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305];
const AD: [u8; 12] = *b"twelve bytes";

/// RFC 8439, section 2.8.2.
#[test]
fn chacha_is_that_of_the_rfc() {
    let key = core::array::from_fn(|at| 0x80 + at as u8);
    let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
    let ad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
    let mut body =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                      the future, sunscreen would be it.";
    let cipher = Cipher::new(Algorithm::ChaCha20Poly1305, &key);
    let tag = cipher.seal_in_place(&nonce, &ad, &mut body);
    assert_eq!(body[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
    let expected = [
        0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 6, 0x91,
    ];
    assert_eq!(tag, expected);
    assert!(cipher.open_in_place(&nonce, &ad, &mut body, &tag));
    assert!(body.starts_with(b"Ladies"));
}

/// Test cases 1 and 2 of the GCM specification (McGrew and Viega, appendix B): nothing, and a block of
/// zeroes, under a key of zeroes.
#[test]
fn aes_is_that_of_the_specification() {
    let cipher = Cipher::new(Algorithm::Aes128Gcm, &[0; 32]);
    let tag = cipher.seal_in_place(&[0; 12], &[], &mut []);
    assert_eq!(u128::from_be_bytes(tag), 0x58e2_fcce_fa7e_3061_367f_1d57_a4e7_455a);
    let mut block = [0; 16];
    let tag = cipher.seal_in_place(&[0; 12], &[], &mut block);
    assert_eq!(u128::from_be_bytes(block), 0x0388_dace_60b6_a392_f328_c2b9_71b2_fe78);
    assert_eq!(u128::from_be_bytes(tag), 0xab6e_47d4_2cec_13bd_f53a_67b2_1257_bddf);
    // Of 32 bytes AES takes 16.
    let mut key = [0; 32];
    key[31] = 1;
    let same = Cipher::new(Algorithm::Aes128Gcm, &key).seal_in_place(&[0; 12], &[], &mut []);
    assert_eq!(u128::from_be_bytes(same), 0x58e2_fcce_fa7e_3061_367f_1d57_a4e7_455a);
}

#[test]
fn every_length_opens_and_nothing_else() {
    for algorithm in ALGORITHMS {
        let cipher = Cipher::new(algorithm, &[5; 32]);
        let other = Cipher::new(algorithm, &[6; 32]);
        for bytes in (0..200).chain([1200, 1452, 8972, 65_507]) {
            let clear: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let mut body = clear.clone();
            let tag = cipher.seal_in_place(&nonce(7), &AD, &mut body);
            assert!(bytes < 8 || body != clear, "{bytes} bytes in the clear");
            let sealed = body.clone();
            assert!(!cipher.open_in_place(&nonce(8), &AD, &mut body.clone(), &tag));
            assert!(!cipher.open_in_place(&nonce(7), &AD[1..], &mut body.clone(), &tag));
            assert!(!other.open_in_place(&nonce(7), &AD, &mut body.clone(), &tag));
            if bytes > 0 {
                assert!(!cipher.open_in_place(&nonce(7), &AD, &mut body.clone()[1..], &tag));
            }
            assert_eq!(body, sealed);
            assert!(cipher.open_in_place(&nonce(7), &AD, &mut body, &tag));
            assert_eq!(body, clear);
        }
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for algorithm in ALGORITHMS {
        let cipher = Cipher::new(algorithm, &[5; 32]);
        let mut body = [9; 67];
        let tag = cipher.seal_in_place(&nonce(7), &AD, &mut body);
        for bit in 0..body.len() * 8 {
            let mut other = body;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!cipher.open_in_place(&nonce(7), &AD, &mut other, &tag));
        }
        for bit in 0..TAG_BYTES * 8 {
            let mut other = tag;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!cipher.open_in_place(&nonce(7), &AD, &mut body.clone(), &other));
        }
        for bit in 0..AD.len() * 8 {
            let mut other = AD;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!cipher.open_in_place(&nonce(7), &other, &mut body.clone(), &tag));
        }
    }
}

/// One end may be built with ring and the other without.
#[cfg(feature = "ring")]
#[test]
fn both_backends_are_one() {
    let key = [0x5c; 32];
    for bytes in (0..300).chain([1452, 8972]) {
        let clear: Vec<u8> = (0..bytes).map(|at| (at * 7) as u8).collect();
        let nonce = nonce(bytes as u64);
        let aes = key.first_chunk().unwrap();
        let pairs: [(&dyn Aead, &dyn Aead); 2] = [
            (&ring::Aes::new(aes), &rust_crypto::Aes::new(aes)),
            (&ring::ChaCha::new(&key), &rust_crypto::ChaCha::new(&key)),
        ];
        for (one, other) in pairs {
            let (mut body, mut same) = (clear.clone(), clear.clone());
            let tag = one.seal_in_place(&nonce, &AD, &mut body);
            assert_eq!(tag, other.seal_in_place(&nonce, &AD, &mut same));
            assert_eq!(body, same);
            assert!(other.open_in_place(&nonce, &AD, &mut body, &tag));
            assert!(one.open_in_place(&nonce, &AD, &mut same, &tag));
            assert_eq!((&body, &same), (&clear, &clear));
        }
    }
}

#[test]
fn nonces_are_numbers() {
    assert_eq!(nonce(0x0807_0605_0403_0201), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for number in 0..=u8::MAX {
        let algorithm = Algorithm::from_number(number);
        assert_eq!(
            algorithm.map(|algorithm| algorithm as u8),
            (1..3).contains(&number).then_some(number)
        );
    }
}
