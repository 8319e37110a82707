use super::*;
use proptest::prelude::*;

#[test]
fn a_kind_has_its_length() {
    let kinds = [
        (Kind::Init, INIT_BYTES),
        (Kind::Response, RESPONSE_BYTES),
        (Kind::Cookie, COOKIE_BYTES),
        (Kind::Versions, VERSIONS_BYTES),
    ];
    for length in 0..1500 {
        for first in 0..=u8::MAX {
            let mut datagram = [0; 1500];
            datagram[0] = first;
            let is_it = |(kind, bytes): &(Kind, usize)| *kind as u8 == first && *bytes == length;
            let expected = kinds.iter().find(|kind| is_it(kind)).map(|(kind, _)| *kind);
            let datagram = &datagram[..length];
            assert_eq!(kind_of(datagram), expected, "{first:#x}, {length} bytes");
            assert_eq!(index_of(datagram).is_some(), length >= 8);
        }
    }
}

#[test]
fn what_is_sealed_is_these_bytes() {
    let offer = Offer {
        clock: 0x0807_0605_0403_0201,
        parameters: *b"0123456789abcdef",
        algorithms: 6,
        preferred: 1,
        slot: 2,
        renews: Some(0xb4b3_b2b1),
    };
    let mut bytes = [0; OFFER_BYTES];
    put(&mut bytes, 0, &[1, 2, 3, 4, 5, 6, 7, 8]);
    put(&mut bytes, 8, b"0123456789abcdef");
    put(&mut bytes, 24, &[6, 1, 2, 1, 0xb1, 0xb2, 0xb3, 0xb4]);
    assert_eq!(offer.encode(), bytes);
    assert_eq!(Offer::decode(&bytes), offer);
    let answer = Answer {
        version: 1,
        outcome: Outcome::Link { algorithm: Algorithm::ChaCha20Poly1305, sender: 0xb4b3_b2b1 },
        clock: 0x0807_0605_0403_0201,
        parameters: *b"0123456789abcdef",
    };
    let mut bytes = [0; ANSWER_BYTES];
    put(&mut bytes, 0, &[0, 1, 2, 0, 0, 0, 0, 0, 0xb1, 0xb2, 0xb3, 0xb4]);
    put(&mut bytes, 16, &[1, 2, 3, 4, 5, 6, 7, 8]);
    put(&mut bytes, 24, b"0123456789abcdef");
    assert_eq!(answer.encode(), bytes);
    assert_eq!(Answer::decode(&bytes), Some(answer));
    bytes[2] = 3;
    assert_eq!(Answer::decode(&bytes), None, "an algorithm of a later version");
    bytes[0] = 3;
    assert_eq!(Answer::decode(&bytes), None, "an outcome of a later version");
    let prologue = prologue(2, &head(Kind::Init, 1, 3, 0xa4a3_a2a1));
    let mut expected = *b"seaprox-noise-1\0\x02.......\x01\x01\x03.\xa1\xa2\xa3\xa4";
    expected.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = 0);
    assert_eq!(prologue, expected);
}

#[test]
fn a_reason_nobody_knows_is_a_reason() {
    for (low, high, reason) in [
        (200, 0, FailReason::Other),
        (0, 1, FailReason::Other),
        (0, 0, FailReason::Other),
        (13, 0, FailReason::Version),
    ] {
        let mut bytes = [0; ANSWER_BYTES];
        put(&mut bytes, 0, &[1, 1, 0, 0, low, high]);
        assert_eq!(Answer::decode(&bytes).unwrap().outcome, Outcome::Refused(reason));
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(bytes: [u8; 32], more: [u8; 24]) {
        let mut offered = [0; OFFER_BYTES];
        put(&mut offered, 0, &bytes);
        let offer = Offer::decode(&offered);
        prop_assert_eq!(Offer::decode(&offer.encode()), offer);
        let mut answered = [0; ANSWER_BYTES];
        put(&mut answered, 0, &bytes);
        put(&mut answered, 32, &more);
        answered[0] %= 4;
        answered[2] %= 4;
        if let Some(answer) = Answer::decode(&answered) {
            prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }
}
