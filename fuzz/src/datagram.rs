//! What comes out of a UDP socket: datagrams of any kind, and the acknowledgements in them.

use crate::bytes::Bytes;
use seaprox::fail::FailReason;
use seaprox_udp::ack::{ACK_BYTES_MAX, Ack, Arrival, RANGES_MAX, Received, WINDOW};
use seaprox_udp::handshake::{
    Cookie, Heard, Init, Initiator, Limits, Responder, Response, VERSION, Verdict, Versions,
};
use seaprox_udp::packet::{
    self, HEADER_BYTES, Kind, Mode, NUMBER_MAX, OVERHEAD_BYTES, Own, index_of, path_challenge,
    path_response, take_apart,
};
use seaprox_udp::seal::{Checksum, TAG_BYTES};
use seaprox_udp::time::Micros;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use twox_hash::XxHash3_128;

/// The kind of a datagram of links without keys.
fn kind_of(bytes: &[u8]) -> Option<Kind> {
    packet::kind_of(Mode::Insecure, bytes)
}

const LIMITS: Limits = Limits { datagram_bytes_max: 1472, window: WINDOW as u16 };

/// A datagram has at most one kind; what is read of it is written as it was, but for what has no
/// meaning yet; nobody answers with more bytes, or to another; and what is sealed opens, until a bit
/// of it is another.
pub fn datagram(bytes: &[u8]) {
    let kind = kind_of(bytes);
    assert!(kind.is_none() || packet::kind_of(Mode::Keyed, bytes).is_none(), "it is of both modes");
    let is = [
        Init::decode(bytes).is_some(),
        Response::decode(bytes).is_some(),
        Cookie::decode(bytes).is_some(),
        Versions::decode(bytes).is_some(),
    ];
    let kinds = [Kind::Init, Kind::Response, Kind::Cookie, Kind::Versions];
    for (is, of) in is.into_iter().zip(kinds) {
        assert!(!is || kind == Some(of), "{kind:?} is read as {of:?}");
    }
    ask(bytes);
    // Nobody finds a sum by chance: the same once more with the right one.
    let mut summed = bytes.to_vec();
    if let Some((front, sum)) = summed.split_last_chunk_mut::<16>() {
        *sum = XxHash3_128::oneshot(front).to_le_bytes();
        ask(&summed);
        reread(&summed);
    }
    if bytes.len() >= OVERHEAD_BYTES {
        packet(&mut summed);
    } else {
        assert!(take_apart(&mut summed).is_none());
    }
}

/// What is read of a datagram of the handshake, and written, is read as the same.
fn reread(bytes: &[u8]) {
    if let Some(init) = Init::decode(bytes) {
        assert_eq!(Init::decode(&init.encode()), Some(init));
        assert_eq!(init.encode()[..36], [&bytes[..3], &[0], &bytes[4..36]].concat());
    }
    if let Some(response) = Response::decode(bytes) {
        assert_eq!(Response::decode(&response.encode()), Some(response));
        assert_eq!(response.encode()[4..24], bytes[4..24]);
    }
    if let Some(cookie) = Cookie::decode(bytes) {
        assert_eq!(cookie.encode()[4..32], bytes[4..32]);
    }
    if let Some(versions) = Versions::decode(bytes) {
        assert_eq!(versions.encode()[4..16], bytes[4..16]);
    }
}

/// Both ends of a handshake hear it, one after another until its flood is one.
fn ask(bytes: &[u8]) {
    let from = SocketAddr::from(([192, 0, 2, 1], 7000));
    let mut responder = Responder::<2>::new([7; 16], LIMITS);
    let mut index = 0;
    for time in 0..24 {
        let vacancy = if time % 4 == 3 { Err(FailReason::TableFull) } else { Ok(()) };
        match responder.hear_init(bytes, &from, Micros(time), vacancy) {
            Verdict::Ignore => {}
            Verdict::Reply(answer) => {
                assert!(answer.len() <= bytes.len(), "{bytes:02x?} is amplified");
                assert_eq!(answer[4..16], bytes[4..16], "another is answered");
                assert!(!matches!(kind_of(&answer), None | Some(Kind::Init | Kind::Data)));
            }
            Verdict::Accept(init) => {
                assert!(vacancy.is_ok() && init.is_understood() && init.limits.is_sane());
                assert_eq!(index, 0, "a second link");
                index += 1;
                let (answer, there) = responder.accept(&init, index);
                let mut initiator = Initiator::new(init.sender, init.nonce, LIMITS, Micros(0));
                initiator.init(Micros(0));
                let Heard::Accepted(here) = initiator.hear(Micros(5), &answer) else {
                    panic!("an accepted link is none")
                };
                assert_eq!(here.session, there.session);
                assert_eq!((here.own_index, here.peer_index), (there.peer_index, there.own_index));
            }
        }
    }
    // Someone who asked for something else, unless it is exactly that.
    let index = index_of(bytes).unwrap_or(7);
    let nonce = bytes.get(8..16).map_or(7, |nonce| u64::from_le_bytes(nonce.try_into().unwrap()));
    for (index, nonce, is_own) in
        [(index, nonce, true), (!index, nonce, false), (index, !nonce, false)]
    {
        let mut initiator = Initiator::new(index, nonce, LIMITS, Micros(0));
        assert_eq!(initiator.hear(Micros(0), bytes), Heard::Ignored, "nothing was asked");
        initiator.init(Micros(0)).expect("the first is due at once");
        let heard = initiator.hear(Micros(1), bytes);
        assert!(is_own || heard == Heard::Ignored);
        let is_over = matches!(heard, Heard::Accepted(_) | Heard::Refused(_));
        assert_eq!(initiator.due_at().is_none(), is_over);
        if let Heard::Accepted(agreed) = heard {
            assert!(agreed.version == VERSION && agreed.peer.is_sane());
        }
    }
}

/// Sealed, opened, damaged; then the carrier's messages in it.
fn packet(bytes: &mut [u8]) {
    let seal = Checksum::new(5);
    let whole = bytes.len();
    let number = {
        let Some(parts) = take_apart(bytes) else {
            assert!(![0x10, 0x30].contains(&bytes[0]) || bytes[1] > 3);
            return;
        };
        assert_eq!(parts.header.encode(), *parts.head, "a header has two forms");
        assert!(parts.header.number <= NUMBER_MAX && parts.header.key_slot < 4);
        assert_eq!(parts.body.len(), whole - OVERHEAD_BYTES);
        let tag = seal.tag(parts.header.number, parts.head, parts.body);
        assert_ne!(Checksum::new(6).tag(parts.header.number, parts.head, parts.body), tag);
        bytes[whole - TAG_BYTES..].copy_from_slice(&tag);
        take_apart(bytes).map(|parts| parts.header.number).expect("it was one")
    };
    // One bit of body or tag, drawn by the bytes themselves.
    let place = HEADER_BYTES + number as usize % (whole - HEADER_BYTES);
    bytes[place] ^= 1 << (number >> 32 & 7);
    let parts = take_apart(bytes).expect("its header is the same");
    let tag = seal.tag(number, parts.head, parts.body);
    assert_ne!(tag, *parts.tag, "byte {place} is another");
    bytes[place] ^= 1 << (number >> 32 & 7);
    let mut rest = &bytes[HEADER_BYTES..whole - TAG_BYTES];
    while let Ok(Some((own, length))) = Own::parse(rest) {
        assert!((1..=rest.len()).contains(&length), "{own:?} is {length} bytes");
        assert_eq!(Own::parse(&rest[..length]), Ok(Some((own, length))), "what follows matters");
        for cut in 1..length {
            assert!(Own::parse(&rest[..cut]).is_err(), "{cut} bytes of {own:?}");
        }
        match own {
            Own::Ack(ack) => drop(check(&ack)),
            Own::PathChallenge(value) => assert_eq!(rest[..length], path_challenge(value)),
            Own::PathResponse(value) => assert_eq!(rest[..length], path_response(value)),
            Own::Probe => assert_eq!(length, 1),
        }
        rest = &rest[length..];
    }
}

/// Ranges ascend, apart from each other, and are the same from either end.
fn check(ack: &Ack<'_>) -> Vec<RangeInclusive<u64>> {
    let up: Vec<_> = ack.ascending().collect();
    let mut down: Vec<_> = ack.descending().collect();
    down.reverse();
    assert_eq!(up, down);
    assert!((1..=RANGES_MAX).contains(&up.len()));
    assert!(up.iter().all(|range| range.start() <= range.end()));
    assert!(up.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()), "{up:?}");
    assert_eq!((*up[0].start(), *up[up.len() - 1].end()), (ack.smallest(), ack.largest));
    up
}

/// Any bytes are an ACK with ranges that make sense, or none. And packets that arrive in any order,
/// more than once, with gaps of any size: those and only those are acknowledged, as a set of all of
/// them has it.
pub fn acknowledgement(bytes: &[u8]) {
    if let Ok((ack, length)) = Ack::parse(bytes) {
        check(&ack);
        assert_eq!(Ack::parse(&bytes[..length]), Ok((ack, length)));
        assert!(Ack::parse(&bytes[..length - 1]).is_err());
    }
    let mut bytes = Bytes(bytes);
    let mut received = Received::new();
    let mut arrived = BTreeSet::new();
    let mut told_below = 0;
    let mut due = 0;
    let mut next = 0_u64;
    while !bytes.is_empty() {
        let act = bytes.byte();
        let drawn = u64::from(bytes.byte());
        let number = match act & 7 {
            0..=2 => next,
            3 => next + drawn,
            4 => next + (drawn << (act >> 3)),
            5 => next.saturating_sub(drawn),
            6 => next.saturating_sub(drawn << (act >> 5) << 4),
            _ => {
                let confirmed = act & 8 == 0;
                let told = tell(&mut received, &arrived, told_below);
                if let (true, Some(&largest)) = (confirmed && told, arrived.last()) {
                    received.confirm(largest);
                    told_below = largest + 1;
                }
                due = 0;
                continue;
            }
        };
        let bottom = arrived.last().map_or(0, |largest: &u64| (largest + 1).saturating_sub(WINDOW));
        let expected = match () {
            () if number > NUMBER_MAX || number < bottom => Arrival::TooOld,
            () if arrived.contains(&number) => Arrival::Duplicate,
            () => Arrival::New,
        };
        assert_eq!(received.look(number), expected);
        let eliciting = act & 16 == 0;
        assert_eq!(received.insert(number, Micros(9), eliciting, false), expected);
        if expected == Arrival::New {
            if arrived.last().is_some_and(|&largest| number < largest) {
                told_below = told_below.min(number);
            }
            arrived.insert(number);
            next = next.max(number + 1);
            due += u64::from(eliciting);
        }
        assert_eq!(received.ack_at(0).is_some(), due > 0);
        assert!(due < 2 || received.ack_at(u64::MAX) == Some(Micros(9)));
        let bottom = next.saturating_sub(WINDOW);
        arrived =
            if arrived.first() < Some(&bottom) { arrived.split_off(&bottom) } else { arrived };
    }
    tell(&mut received, &arrived, told_below);
}

/// Whether there was anything to be told.
fn tell(received: &mut Received, arrived: &BTreeSet<u64>, told_below: u64) -> bool {
    let mut out = [0xee; ACK_BYTES_MAX];
    let length = received.emit(Micros(9), &mut out);
    assert!(received.ack_at(0).is_none() && !received.has_news());
    let Some(&largest) = arrived.last() else {
        assert_eq!(length, 0);
        return false;
    };
    let (ack, parsed) = Ack::parse(&out[..length]).expect("what is written is read");
    assert_eq!(parsed, length);
    let mut expected: Vec<RangeInclusive<u64>> = Vec::new();
    for &number in arrived.range(told_below.min(largest)..) {
        match expected.last_mut() {
            Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
            _ => expected.push(number..=number),
        }
    }
    let newest = expected.len().saturating_sub(RANGES_MAX);
    assert_eq!(check(&ack), expected[newest..]);
    true
}
