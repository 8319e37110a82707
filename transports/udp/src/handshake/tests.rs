use super::*;
use crate::packet::{self, Mode, index_of};
use crate::time::Micros;
use core::net::SocketAddr;
use proptest::prelude::*;
use std::vec::Vec;

/// The kind of a datagram that is of links without keys.
fn kind_of(datagram: &[u8]) -> Option<Kind> {
    packet::kind_of(Mode::Insecure, datagram)
}

const MS: u64 = 1_000;
const NONCE: u64 = 0x0102_0304_0506_0708;
const HERE: Limits = Limits { datagram_bytes_max: 1472, window: 0x4000 };
const THERE: Limits = Limits { datagram_bytes_max: 8972, window: 0x2000 };

fn from(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn peer() -> SocketAddr {
    from("192.0.2.1:7000")
}

fn initiator() -> Initiator {
    Initiator::new(7, NONCE, HERE, Micros(0))
}

fn responder() -> Responder<4> {
    Responder::new([3; 16], THERE)
}

fn reply(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Reply(answer) => answer,
        other => panic!("{other:?} is no reply"),
    }
}

/// All four, as they may be sent.
fn samples() -> [Vec<u8>; 4] {
    let init = Init {
        version_min: 1,
        version_max: 2,
        sender: 0xa4a3_a2a1,
        nonce: NONCE,
        proof: *b"0123456789abcdef",
        limits: HERE,
    };
    let response = Response {
        version: 1,
        refused: Some(FailReason::TableFull),
        receiver: 0xa4a3_a2a1,
        nonce: NONCE,
        sender: 0xb4b3_b2b1,
        limits: THERE,
    };
    let cookie = Cookie { receiver: 0xa4a3_a2a1, nonce: NONCE, proof: *b"0123456789abcdef" };
    let versions = Versions { version_min: 3, version_max: 4, receiver: 0xa4a3_a2a1, nonce: NONCE };
    assert_eq!(Init::decode(&init.encode()), Some(init));
    assert_eq!(Response::decode(&response.encode()), Some(response));
    assert_eq!(Cookie::decode(&cookie.encode()), Some(cookie));
    assert_eq!(Versions::decode(&versions.encode()), Some(versions));
    [
        init.encode().to_vec(),
        response.encode().to_vec(),
        cookie.encode().to_vec(),
        versions.encode().to_vec(),
    ]
}

fn vector(front: &[u8], zeroes: usize, sum: [u8; 16]) -> Vec<u8> {
    [front, &[0; 120][..zeroes], &sum].concat()
}

#[test]
fn the_datagrams_are_these_bytes() {
    let [init, response, cookie, versions] = samples();
    let index = [0xa1, 0xa2, 0xa3, 0xa4, 8, 7, 6, 5, 4, 3, 2, 1];
    let sums = SUMS;
    let front = [&[0x21, 1, 2, 0][..], &index, b"0123456789abcdef", &[0xc0, 5, 0, 0x40]].concat();
    assert_eq!(
        init,
        vector(&[&front[..], &[0; 12]].concat(), 120, sums[0]),
        "{:02x?}",
        &init[168..]
    );
    let front =
        [&[0x22, 1, 4, 0][..], &index, &[0xb1, 0xb2, 0xb3, 0xb4, 0x0c, 0x23, 0, 0x20]].concat();
    let expected = vector(&[&front[..], &[0; 12]].concat(), 76, sums[1]);
    assert_eq!(response, expected, "{:02x?}", &response[112..]);
    let front = [&[0x23, 0, 0, 0][..], &index, b"0123456789abcdef"].concat();
    assert_eq!(cookie, vector(&front, 16, sums[2]), "{:02x?}", &cookie[48..]);
    let front = [&[0x24, 3, 4, 0][..], &index].concat();
    assert_eq!(versions, vector(&front, 0, sums[3]), "{:02x?}", &versions[16..]);
}

/// As another implementation of XXH3-128 has them.
const SUMS: [[u8; 16]; 4] = [
    [
        0x0c, 0x39, 0x1d, 0xc8, 0x00, 0xfb, 0x82, 0x9d, 0xaf, 0x1c, 0xe9, 0x9b, 0x17, 0xfe, 0xb9,
        0xf8,
    ],
    [
        0x8a, 0x03, 0x6c, 0x6c, 0xe7, 0xaf, 0x31, 0x5d, 0xd5, 0x53, 0x60, 0xf7, 0x6d, 0x84, 0x31,
        0xda,
    ],
    [
        0x09, 0x82, 0xfc, 0x93, 0x62, 0x90, 0x62, 0x41, 0x71, 0xec, 0xfb, 0x8e, 0x08, 0xb5, 0x7b,
        0xcc,
    ],
    [
        0x36, 0x42, 0x46, 0x46, 0x6c, 0xd0, 0x49, 0xc2, 0xbd, 0xf8, 0xc3, 0x43, 0x18, 0xfb, 0x43,
        0x9a,
    ],
];

#[test]
fn sessions_are_these_numbers() {
    assert_eq!(session_id(1, 2, 3), 0x9b15_0fb2_dc29_0547);
    let others = [session_id(2, 1, 3), session_id(1, 3, 3), session_id(1, 2, 4)];
    assert!(!others.contains(&session_id(1, 2, 3)));
}

#[test]
fn all_are_of_their_kind_and_steered_by_their_index() {
    let kinds = [Kind::Init, Kind::Response, Kind::Cookie, Kind::Versions];
    for (sample, kind) in samples().iter().zip(kinds) {
        assert_eq!(kind_of(sample), Some(kind));
        assert_eq!(index_of(sample), Some(0xa4a3_a2a1));
    }
}

#[test]
fn a_flipped_bit_and_another_length_are_refused() {
    let is_anything = |bytes: &[u8]| {
        Init::decode(bytes).is_some()
            || Response::decode(bytes).is_some()
            || Cookie::decode(bytes).is_some()
            || Versions::decode(bytes).is_some()
    };
    for sample in samples() {
        for bit in 0..sample.len() * 8 {
            let mut bytes = sample.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_anything(&bytes), "bit {bit} of {:#x}", sample[0]);
        }
        let mut bytes = sample.clone();
        bytes.resize(1500, 0);
        for length in 0..1500 {
            assert_eq!(is_anything(&bytes[..length]), length == sample.len());
        }
    }
}

/// Neither end changes for anything that is not whole.
#[test]
fn both_ends_ignore_flipped_bits() {
    let mut asking = initiator();
    let init = asking.init(Micros(0)).unwrap();
    let mut hearing = responder();
    let Verdict::Accept(asked) = hearing.hear_init(&init, &peer(), Micros(0), Ok(())) else {
        panic!("a good INIT")
    };
    let (response, _) = responder().accept(&asked, 1);
    let cookie = Cookie { receiver: 7, nonce: NONCE, proof: [1; 16] }.encode();
    let versions = Versions { version_min: 2, version_max: 2, receiver: 7, nonce: NONCE }.encode();
    for bit in 0..init.len() * 8 {
        let mut bytes = init;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = hearing.hear_init(&bytes, &peer(), Micros(0), Ok(()));
        assert_eq!(verdict, Verdict::Ignore, "bit {bit} of INIT");
    }
    for answer in [&response[..], &cookie, &versions] {
        for bit in 0..answer.len() * 8 {
            let mut bytes = answer.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(asking.hear(Micros(1), &bytes), Heard::Ignored, "bit {bit}");
        }
    }
    assert!(matches!(asking.hear(Micros(1), &response), Heard::Accepted(_)));
}

#[test]
fn both_ends_agree() {
    let (mut asking, mut hearing) = (initiator(), responder());
    assert_eq!(asking.due_at(), Some(Micros(0)));
    let init = asking.init(Micros(0)).unwrap();
    let Verdict::Accept(asked) = hearing.hear_init(&init, &peer(), Micros(0), Ok(())) else {
        panic!("a good INIT")
    };
    let (answer, there) = hearing.accept(&asked, 9);
    assert_eq!(answer.len(), RESPONSE_BYTES);
    let Heard::Accepted(here) = asking.hear(Micros(30 * MS), &answer) else {
        panic!("a good RESPONSE")
    };
    assert_eq!((here.own_index, here.peer_index), (7, 9));
    assert_eq!((there.own_index, there.peer_index), (9, 7));
    assert_eq!(here.session, there.session);
    assert_eq!((here.peer, there.peer), (THERE, HERE));
    assert_eq!((here.version, there.version), (VERSION, VERSION));
    assert_eq!((here.rtt_micros, there.rtt_micros), (Some(30 * MS), None));
    // And then nothing more.
    assert_eq!(asking.due_at(), None);
    assert_eq!(asking.init(Micros(u64::MAX)), None);
    assert_eq!(asking.hear(Micros(31 * MS), &answer), Heard::Ignored);
}

#[test]
fn it_asks_again_and_ever_more_slowly() {
    let mut asking = initiator();
    let mut times = Vec::new();
    for now in (0..6_000).step_by(10) {
        if asking.init(Micros(now * MS)).is_some() {
            times.push(now);
        }
    }
    assert_eq!(times, [0, 250, 750, 1750, 2750, 3750, 4750, 5750]);
    for _ in 0..100 {
        let due = asking.due_at().unwrap();
        assert!(asking.init(due).is_some());
        assert_eq!(asking.due_at(), Some(due.after(1_000 * MS)));
    }
    // It is not known which of them this answers.
    let answer = Response {
        version: VERSION,
        refused: None,
        receiver: 7,
        nonce: NONCE,
        sender: 1,
        limits: THERE,
    };
    let Heard::Accepted(agreed) = asking.hear(Micros(u64::MAX), &answer.encode()) else {
        panic!("a good RESPONSE")
    };
    assert_eq!(agreed.rtt_micros, None);
}

#[test]
fn answers_to_others_are_ignored() {
    let good = Response {
        version: VERSION,
        refused: None,
        receiver: 7,
        nonce: NONCE,
        sender: 1,
        limits: THERE,
    };
    let short = Limits { datagram_bytes_max: LOWEST_BYTES - 1, ..THERE };
    let mut asking = initiator();
    assert_eq!(asking.hear(Micros(0), &good.encode()), Heard::Ignored, "nothing was asked yet");
    asking.init(Micros(0)).unwrap();
    for answer in [
        Response { receiver: 8, ..good }.encode(),
        Response { nonce: NONCE + 1, ..good }.encode(),
        Response { version: 2, ..good }.encode(),
        Response { limits: short, ..good }.encode(),
        Response { limits: Limits { window: 255, ..THERE }, ..good }.encode(),
        Response { nonce: 0, refused: Some(FailReason::Shutdown), ..good }.encode(),
    ] {
        assert_eq!(asking.hear(Micros(1), &answer), Heard::Ignored);
    }
    let cookie = Cookie { receiver: 7, nonce: NONCE, proof: [1; 16] };
    let versions = Versions { version_min: 2, version_max: 9, receiver: 7, nonce: NONCE };
    for answer in [
        &Cookie { receiver: 6, ..cookie }.encode()[..],
        &Cookie { nonce: 1, ..cookie }.encode(),
        &Cookie { proof: [0; 16], ..cookie }.encode(),
        &Versions { receiver: 6, ..versions }.encode(),
        &Versions { nonce: 1, ..versions }.encode(),
        &Versions { version_min: 1, ..versions }.encode(),
        &asking.clone().init(Micros(u64::MAX)).unwrap(),
    ] {
        assert_eq!(asking.hear(Micros(1), answer), Heard::Ignored);
    }
    let refused = Response { refused: Some(FailReason::Shutdown), ..good }.encode();
    assert_eq!(asking.clone().hear(Micros(1), &refused), Heard::Refused(FailReason::Shutdown));
    let heard = asking.clone().hear(Micros(1), &versions.encode());
    assert_eq!(heard, Heard::Refused(FailReason::Version));
    // Why it was refused matters more than what could not have been agreed.
    let odd = Response { refused: Some(FailReason::Denied), version: 9, limits: short, ..good };
    assert_eq!(asking.hear(Micros(1), &odd.encode()), Heard::Refused(FailReason::Denied));
    assert_eq!(asking.due_at(), None);
}

#[test]
fn a_reason_nobody_knows_is_a_reason() {
    for (low, high, reason) in
        [(200, 0, FailReason::Other), (0, 1, FailReason::Other), (13, 0, FailReason::Version)]
    {
        let [_, mut response, ..] = samples();
        response[2..4].copy_from_slice(&[low, high]);
        put_sum(&mut response);
        assert_eq!(Response::decode(&response).unwrap().refused, Some(reason));
    }
}

#[test]
fn a_repeat_gets_the_same_answer_and_no_second_link() {
    let mut hearing = responder();
    let mut asking = initiator();
    let init = asking.init(Micros(0)).unwrap();
    let Verdict::Accept(asked) = hearing.hear_init(&init, &peer(), Micros(0), Ok(())) else {
        panic!("a good INIT")
    };
    let (answer, _) = hearing.accept(&asked, 9);
    // Though there is no room any more, and it came from elsewhere, and with another proof.
    let again = Init { proof: [9; 16], ..asked }.encode();
    for (init, vacancy) in [(init, Ok(())), (again, Err(FailReason::TableFull))] {
        for number in 0..100 {
            let verdict =
                hearing.hear_init(&init, &from("[2001:db8::1]:9"), Micros(number), vacancy);
            assert_eq!(reply(verdict), answer);
        }
    }
    // Others are others.
    let later = Micros(5_000 * MS);
    for other in [Init { nonce: 1, ..asked }, Init { sender: 8, ..asked }] {
        let verdict = hearing.hear_init(&other.encode(), &peer(), later, Ok(()));
        assert_eq!(verdict, Verdict::Accept(other));
    }
    hearing.forget(8);
    assert_eq!(reply(hearing.hear_init(&init, &peer(), later, Ok(()))), answer);
    hearing.forget(9);
    assert_eq!(hearing.hear_init(&init, &peer(), later, Ok(())), Verdict::Accept(asked));
}

#[test]
fn the_newest_are_remembered() {
    let mut hearing = responder();
    let init = |nonce| Init {
        version_min: 1,
        version_max: 1,
        sender: 5,
        nonce,
        proof: [0; 16],
        limits: HERE,
    };
    let mut now = Micros(0);
    let mut is_known = |hearing: &mut Responder<4>, nonce| {
        now = now.after(100 * MS);
        let verdict = hearing.hear_init(&init(nonce).encode(), &peer(), now, Ok(()));
        matches!(verdict, Verdict::Reply(_))
    };
    for nonce in 0..6 {
        assert!(!is_known(&mut hearing, nonce));
        hearing.accept(&init(nonce), 10 + nonce as u32);
        assert!(is_known(&mut hearing, nonce));
    }
    let known: Vec<_> = (0..6).filter(|&nonce| is_known(&mut hearing, nonce)).collect();
    assert_eq!(known, [2, 3, 4, 5]);
    // An index that is used again is another link's.
    hearing.accept(&init(7), 14);
    let known: Vec<_> = (0..8).filter(|&nonce| is_known(&mut hearing, nonce)).collect();
    assert_eq!(known, [2, 3, 5, 7]);
}

#[test]
fn no_room_is_a_reason_and_leaves_no_trace() {
    let mut hearing = responder();
    let mut asking = initiator();
    let init = asking.init(Micros(0)).unwrap();
    for reason in [FailReason::TableFull, FailReason::Shutdown] {
        let answer = reply(hearing.hear_init(&init, &peer(), Micros(0), Err(reason)));
        assert_eq!(asking.clone().hear(Micros(1), &answer), Heard::Refused(reason));
    }
    let verdict = hearing.hear_init(&init, &peer(), Micros(0), Ok(()));
    assert!(matches!(verdict, Verdict::Accept(_)));
}

#[test]
fn other_versions_are_told_ours() {
    let good = Init {
        version_min: 1,
        version_max: 255,
        sender: 7,
        nonce: NONCE,
        proof: [0; 16],
        // What a later version has there, nobody knows.
        limits: Limits { datagram_bytes_max: 0, window: 0 },
    };
    let mut hearing = responder();
    for (version_min, version_max) in [(2, 2), (2, 255), (0, 0)] {
        let init = Init { version_min, version_max, ..good }.encode();
        let answer = reply(hearing.hear_init(&init, &peer(), Micros(0), Ok(())));
        let versions =
            Versions { version_min: VERSION, version_max: VERSION, receiver: 7, nonce: NONCE };
        assert_eq!(answer[..], versions.encode());
    }
    let insane = good.encode();
    assert_eq!(hearing.hear_init(&insane, &peer(), Micros(0), Ok(())), Verdict::Ignore);
    let upside_down = Init { version_min: 2, version_max: 1, limits: HERE, ..good }.encode();
    assert_eq!(hearing.hear_init(&upside_down, &peer(), Micros(0), Ok(())), Verdict::Ignore);
}

/// Sixteen INITs within a second, each of its own link.
fn flooded() -> Responder<4> {
    let mut hearing = responder();
    for nonce in 0..16 {
        let init = Initiator::new(1, nonce, HERE, Micros(0)).init(Micros(0)).unwrap();
        let verdict = hearing.hear_init(&init, &peer(), Micros(nonce), Ok(()));
        assert!(matches!(verdict, Verdict::Accept(_)), "INIT {nonce}");
    }
    hearing
}

#[test]
fn in_a_flood_an_address_is_to_be_proved() {
    let mut hearing = flooded();
    let mut asking = initiator();
    let now = Micros(100);
    let init = asking.init(now).unwrap();
    let answer = reply(hearing.hear_init(&init, &peer(), now, Ok(())));
    assert_eq!(kind_of(&answer), Some(Kind::Cookie));
    assert_eq!(asking.hear(now, &answer), Heard::Proof);
    assert_eq!(asking.due_at(), Some(now));
    let init = asking.init(now).unwrap();
    // It is good for this address, port and nonce, for some time.
    let accepts = |now: u64, init: &[u8], address: &str| {
        let mut hearing = flooded();
        for _ in 0..40 {
            let other = Initiator::new(1, 99, HERE, Micros(0)).init(Micros(0)).unwrap();
            let _ = hearing.hear_init(&other, &peer(), Micros(now), Ok(()));
        }
        let verdict = hearing.hear_init(init, &from(address), Micros(now), Ok(()));
        matches!(verdict, Verdict::Accept(_))
    };
    assert!(accepts(100, &init, "192.0.2.1:7000"));
    assert!(accepts(7_999 * MS, &init, "192.0.2.1:7000"));
    assert!(accepts(15_999 * MS, &init, "192.0.2.1:7000"));
    assert!(!accepts(16_000 * MS, &init, "192.0.2.1:7000"));
    assert!(!accepts(100, &init, "192.0.2.1:7001"));
    assert!(!accepts(100, &init, "192.0.2.2:7000"));
    assert!(!accepts(100, &init, "[2001:db8::1]:7000"));
    let asked = Init::decode(&init).unwrap();
    assert!(!accepts(100, &Init { nonce: 1, ..asked }.encode(), "192.0.2.1:7000"));
    // And nowhere else.
    let mut elsewhere = Responder::<4>::new([4; 16], THERE);
    for _ in 0..20 {
        let verdict = elsewhere.hear_init(&init, &peer(), now, Err(FailReason::TableFull));
        let kind = kind_of(&reply(verdict));
        assert!(matches!(kind, Some(Kind::Response | Kind::Cookie)));
    }
    let verdict = elsewhere.hear_init(&init, &peer(), now, Ok(()));
    assert_eq!(kind_of(&reply(verdict)), Some(Kind::Cookie));
    assert!(matches!(hearing.hear_init(&init, &peer(), now, Ok(())), Verdict::Accept(_)));
}

#[test]
fn a_flood_ends() {
    let mut hearing = flooded();
    let mut nonce = 1_000;
    let mut is_accepted = |hearing: &mut Responder<4>, now: u64| {
        nonce += 1;
        let init = Initiator::new(1, nonce, HERE, Micros(0)).init(Micros(0)).unwrap();
        let verdict = hearing.hear_init(&init, &peer(), Micros(now), Ok(()));
        matches!(verdict, Verdict::Accept(_))
    };
    // Half a second later there is room for half as many.
    let accepted = (0..10_000).filter(|_| is_accepted(&mut hearing, 500 * MS)).count();
    assert_eq!(accepted, 8);
    assert!(!is_accepted(&mut hearing, 1_400 * MS), "it was more than a second's worth");
    assert!(is_accepted(&mut hearing, 2_600 * MS));
    // Sixteen a second, for ever, is none.
    for number in 0..1_000 {
        assert!(is_accepted(&mut hearing, 5_000 * MS + number * 63 * MS));
    }
}

/// Who answers every INIT with another cookie gets no more than two for one.
#[test]
fn cookies_do_not_make_it_hurry() {
    let mut asking = initiator();
    let mut sent = 0;
    for now in 0..10_000 {
        if asking.init(Micros(now * MS)).is_some() {
            sent += 1;
        }
        let proof = [now as u8 | 1; 16];
        let cookie = Cookie { receiver: 7, nonce: NONCE, proof };
        let _ = asking.hear(Micros(now * MS), &cookie.encode());
    }
    assert!((20..=24).contains(&sent), "{sent} INITs in ten seconds");
}

/// One link over a path that loses and repeats, however it does.
fn talk(losses: u64, flood: bool) {
    let mut hearing = if flood { flooded() } else { responder() };
    let mut asking = initiator();
    let mut links = 0;
    let mut here = None;
    for step in 0..64 {
        let now = Micros(step * 250 * MS);
        let Some(init) = asking.init(now) else { continue };
        if flood {
            for nonce in 500..520 {
                let other = Initiator::new(1, nonce, HERE, Micros(0)).init(Micros(0)).unwrap();
                let _ = hearing.hear_init(&other, &from("203.0.113.5:1"), now, Ok(()));
            }
        }
        let is_lost = |bit: u64| losses >> ((step * 3 + bit) % 64) & 1 == 1;
        let copies = usize::from(!is_lost(0)) * (1 + usize::from(is_lost(2)));
        for _ in 0..copies {
            let answer = match hearing.hear_init(&init, &peer(), now, Ok(())) {
                Verdict::Ignore => panic!("a good INIT is ignored"),
                Verdict::Reply(answer) => answer,
                Verdict::Accept(asked) => {
                    links += 1;
                    hearing.accept(&asked, 9).0
                }
            };
            if !is_lost(1)
                && let Heard::Accepted(agreed) = asking.hear(now, &answer)
            {
                here = Some(agreed);
            }
        }
    }
    assert!(links <= 1, "{links} links, losses {losses:#x}");
    assert_eq!(here.is_some(), asking.due_at().is_none());
    if let Some(here) = here {
        assert_eq!((links, here.peer_index), (1, 9));
        assert_eq!(here.session, session_id(7, 9, NONCE));
    }
    assert!(losses != 0 || here.is_some());
}

proptest! {
    #[test]
    fn at_most_one_link_however_much_is_lost(losses: u64, more: u64, flood: bool) {
        talk(losses & more, flood);
        talk(0, flood);
    }

    #[test]
    fn no_bytes_do_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6usize) {
        let lengths = [INIT_BYTES, RESPONSE_BYTES, COOKIE_BYTES, VERSIONS_BYTES];
        if let Some(&length) = lengths.get(kind) {
            bytes.resize(length, 0);
            bytes[0] = 0x21 + kind as u8;
            put_sum(&mut bytes);
        }
        let mut asking = initiator();
        asking.init(Micros(0));
        prop_assert_eq!(asking.hear(Micros(1), &bytes), Heard::Ignored);
        let mut hearing = responder();
        match hearing.hear_init(&bytes, &peer(), Micros(0), Ok(())) {
            Verdict::Reply(answer) => {
                prop_assert!(answer.len() <= bytes.len());
                prop_assert_eq!(answer[4..16].to_vec(), bytes[4..16].to_vec());
            }
            Verdict::Accept(init) => prop_assert!(init.is_understood() && init.limits.is_sane()),
            Verdict::Ignore => {}
        }
    }

    #[test]
    fn sessions_differ(a: (u32, u32, u64), b: (u32, u32, u64)) {
        let [one, other] = [a, b].map(|(x, y, nonce)| session_id(x, y, nonce));
        prop_assert_eq!(one == other, a == b);
    }
}
