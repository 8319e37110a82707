use super::*;

#[test]
fn bytes_and_text_are_the_same_key() {
    let bytes: [u8; KEY_BYTES] = core::array::from_fn(|at| at as u8 + 1);
    let secret = Secret::from_bytes(bytes).unwrap();
    assert_eq!(Secret::from_base64(secret.to_base64().as_str().as_bytes()), Ok(secret));
    let psk = Psk::from_bytes(bytes).unwrap();
    assert_eq!(Psk::from_base64(psk.to_base64().as_str().as_bytes()), Ok(psk));
    assert_eq!(Secret::from_bytes([0; KEY_BYTES]), Err(KeyError::Zero));
    assert_eq!(Psk::from_bytes([0; KEY_BYTES]), Err(KeyError::Zero));
}

use std::format;
use std::string::ToString;

/// From RFC 7748, section 6.1.
const ALICE: [u8; 32] = [
    0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
    0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
];
const ALICES_PUBLIC: [u8; 32] = [
    0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
    0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
];

/// As coreutils' base64 writes the two.
const ALICES_TEXT: &str = "cAdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LGo=";
const ALICES_PUBLIC_TEXT: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

#[test]
fn keys_are_those_of_the_rfc() {
    let secret = Secret::from_random(ALICE);
    assert_eq!(secret.public().bytes(), &ALICES_PUBLIC);
    assert_eq!(secret.to_base64().as_str(), ALICES_TEXT);
    assert_eq!(secret.public().to_string(), ALICES_PUBLIC_TEXT);
    assert_eq!(Public::from_base64(ALICES_PUBLIC_TEXT.as_bytes()), Ok(secret.public()));
    assert_eq!(Secret::from_base64(ALICES_TEXT.as_bytes()), Ok(secret));
    // Not made a scalar, it is the same key in other words.
    let unclamped = Secret::from_base64(Text::new(&ALICE).as_str().as_bytes()).unwrap();
    assert_eq!(unclamped.public().bytes(), &ALICES_PUBLIC);
    assert_eq!(Identity::new(unclamped).public().bytes(), &ALICES_PUBLIC);
}

#[test]
fn secrets_are_made_scalars() {
    for byte in 0..=u8::MAX {
        let secret = Secret::from_random([byte; 32]);
        assert_eq!(secret.0[0] & 7, 0);
        assert_eq!(secret.0[31] >> 6, 1);
        assert_eq!(secret.0[1..31], [byte; 30]);
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let text = ALICES_PUBLIC_TEXT;
    for cut in 0..text.len() {
        assert_eq!(Public::from_base64(&text.as_bytes()[..cut]), Err(KeyError::Malformed));
    }
    for wrong in [
        format!("{text}\n"),
        format!("{text}="),
        format!(" {}", &text[..43]),
        text.replace('=', "A"),
        text.replace('2', "-"),
        text.replace('/', "_"),
        // The last character has two bits that are no key's.
        text.replace("mo=", "mp="),
        format!("{}==", &text[..42]),
    ] {
        assert_eq!(Public::from_base64(wrong.as_bytes()), Err(KeyError::Malformed), "{wrong}");
        assert_eq!(Secret::from_base64(wrong.as_bytes()), Err(KeyError::Malformed), "{wrong}");
        assert_eq!(Psk::from_base64(wrong.as_bytes()), Err(KeyError::Malformed), "{wrong}");
    }
    let zero = Text::new(&[0; 32]);
    assert_eq!(Secret::from_base64(zero.as_str().as_bytes()), Err(KeyError::Zero));
    assert_eq!(Public::from_base64(zero.as_str().as_bytes()), Err(KeyError::Zero));
    assert_eq!(Psk::from_base64(zero.as_str().as_bytes()), Err(KeyError::Zero));
}

#[test]
fn points_that_keep_no_secret_are_refused() {
    for point in low_order() {
        let expected = if point == [0; 32] { KeyError::Zero } else { KeyError::LowOrder };
        assert_eq!(Public::from_bytes(point), Err(expected));
        let text = Text::new(&point);
        assert_eq!(Public::from_base64(text.as_str().as_bytes()), Err(expected));
    }
    assert!(Public::from_bytes(ALICES_PUBLIC).is_ok());
    // On the twist, and of large order.
    assert!(Public::from_bytes([2; 32]).is_ok());
}

#[test]
fn no_secret_is_shown() {
    let secret = Secret::from_random([0x41; 32]);
    let psk = Psk::from_random([0x42; 32]);
    assert_eq!(format!("{secret:?} {psk:?}"), "Secret(..) Psk(..)");
    let own = Identity::new(secret);
    let other = Secret::from_random([0x43; 32]).public();
    let peer = Peer::new(&own, other, psk).unwrap();
    let shown = format!("{own:?} {peer:?}");
    for text in [Text::new(&[0x42; 32]), own.secret().to_base64()] {
        assert!(!shown.contains(text.as_str()), "{shown}");
    }
    assert!(shown.contains(&other.to_string()), "{shown}");
}

#[test]
fn nobody_is_its_own_peer() {
    let own = Identity::new(Secret::from_random([1; 32]));
    assert_eq!(Peer::new(&own, own.public(), Psk::NONE), Err(KeyError::Own));
    let other = Secret::from_random([2; 32]).public();
    assert_eq!(Peer::new(&own, other, Psk::NONE).unwrap().public(), other);
}

#[test]
fn keys_differ_in_any_bit() {
    let one = Psk::from_random(ALICE);
    for bit in 0..256 {
        let mut other = ALICE;
        other[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(Psk::from_random(other), one);
        assert_ne!(Secret(other), Secret(ALICE));
    }
    assert_eq!(Psk::from_base64(one.to_base64().as_str().as_bytes()), Ok(one));
}
