//! How two ends begin, or do not: each outcome at both, and what a stranger gets to hear.

use crate::keys::{self, Clock, House};
use crate::pair::{Carried, Greeted, greet, sockets};
use crate::tap::Tap;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use seaprox::fail::FailReason;
use seaprox_noise::keys::{Identity, KeyError, Peer, Psk};
use seaprox_noise::message::{INIT_BYTES, RESPONSE_BYTES};
use seaprox_proto::carrier::{Carrier, Greeting};
use seaprox_proto::message::{Hello, Message, parse};
use seaprox_sealed::{Kind, Outside, Sealed};
use seaprox_tests::bytes::pattern;

type Outcome = Result<Greeting, FailReason>;

const DONE: Outcome = Ok(Greeting::Done);

/// Number 1 asks number 2, and they know each other.
fn houses() -> [&'static House; 2] {
    let clock = Clock::default();
    let (asks, own) = (keys::identity(1), keys::identity(2));
    let near = keys::asking(1, own, keys::psk(9), &clock);
    [near, keys::answering(own, &[(asks, keys::psk(9))], 1, &clock)]
}

/// How many packets each end has sent.
fn counts(greeted: &Greeted) -> [usize; 2] {
    greeted.wires.each_ref().map(|wire| wire.look(|sent| sent.len()))
}

fn greet_all([near, far]: [&'static House; 2]) -> Greeted {
    greet(near, far, sockets())
}

#[test]
fn two_that_know_each_other_begin() {
    let greeted = greet_all(houses());
    assert_eq!(greeted.outcomes, [DONE; 2]);
    assert_eq!(counts(&greeted), [2, 1]);
    let lengths =
        |end: usize| greeted.wires[end].look(|sent| sent.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!([lengths(0), lengths(1)], [vec![INIT_BYTES, 17], vec![RESPONSE_BYTES]]);
    assert_eq!(greeted.carriers.each_ref().map(Sealed::peer), [None, Some(0)]);
    let bounds = greeted.carriers[0].bounds();
    assert_eq!(bounds.sent_bytes_max, 32_768 - 17);
}

/// Whoever does not know this end, or is not known to it, hears nothing at all.
#[test]
fn strangers_meet_silence() {
    let clock = Clock::default();
    let (asks, own) = (keys::identity(1), keys::identity(2));
    let known = |peers: &[(&Identity, Psk)]| keys::answering(own, peers, 1, &clock);
    let peers = [(asks, keys::psk(9))];
    let of_another = keys::asking_kind(Kind::Sctp, 1, own, keys::psk(9), &clock);
    for (what, near, far) in [
        ("another's key", keys::asking(1, keys::identity(7), keys::psk(9), &clock), known(&peers)),
        ("not a peer", keys::asking(3, own, keys::psk(9), &clock), known(&peers)),
        ("nobody is", keys::asking(1, own, keys::psk(9), &clock), known(&[])),
        ("of another carrier", of_another, known(&peers)),
    ] {
        let greeted = greet(near, far, sockets());
        assert_eq!(greeted.outcomes, [Ok(Greeting::Stranger), Err(FailReason::Auth)], "{what}");
        assert_eq!(counts(&greeted), [1, 0], "{what}");
    }
    assert_eq!(Peer::new(own, own.public(), Psk::NONE), Err(KeyError::Own));
}

/// The answer is of the peer, and cannot be read: only who asked can know.
#[test]
fn another_psk_is_found_by_who_asked() {
    let clock = Clock::default();
    let (asks, own) = (keys::identity(1), keys::identity(2));
    for (theirs, ours) in [(keys::psk(9), keys::psk(8)), (Psk::NONE, keys::psk(9))] {
        let near = keys::asking(1, own, theirs, &clock);
        let far = keys::answering(own, &[(asks, ours)], 1, &clock);
        let Greeted { outcomes, .. } = greet(near, far, sockets());
        assert_eq!(outcomes, [Err(FailReason::Auth), Ok(Greeting::Answered)]);
    }
}

#[test]
fn who_is_refused_is_told_why() {
    let [near, far] = houses();
    for (has_seat, why) in [(true, FailReason::Shutdown), (false, FailReason::TableFull)] {
        let seat = if has_seat { None } else { Some(greet_all([near, far])) };
        assert!(seat.as_ref().is_none_or(|greeted| greeted.outcomes == [DONE; 2]));
        let near = houses_near();
        let [one, other] = sockets();
        let wire = other.wire.clone();
        let mut asks = Sealed::asking(near, one).expect("a seat of its own");
        let mut asked = Sealed::asked(far, other);
        assert_eq!(asks.greet(None), Ok(Greeting::Stranger));
        assert_eq!(asked.greet(has_seat.then_some(why)), Err(why));
        assert_eq!(asks.greet(None), Err(why));
        // Nobody else can read it.
        wire.look(|sent| assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [128]));
    }
}

/// Number 1 once more, somewhere else.
fn houses_near() -> &'static House {
    keys::asking(1, keys::identity(2), keys::psk(9), &Clock::default())
}

/// A machine whose clock is behind asks once more.
#[test]
fn a_clock_that_is_behind_is_set() {
    let ahead = Clock::default();
    ahead.forward(3_600_000);
    let [_, far] = houses();
    let early = keys::asking(1, keys::identity(2), keys::psk(9), &ahead);
    let Greeted { outcomes, carriers, .. } = greet(early, far, sockets());
    assert_eq!(outcomes, [DONE; 2]);
    drop(carriers);
    let late = houses_near();
    for sent in [[3, 2], [2, 1]] {
        let greeted = greet(late, far, sockets());
        assert_eq!(greeted.outcomes, [DONE; 2]);
        assert_eq!(counts(&greeted), sent, "INITs once more, and then never again");
    }
}

/// The other end's keys are older than those of who gets its answer late, and have to be renewed by then.
#[test]
fn keys_are_as_old_as_the_question() {
    let clock = Clock::default();
    let (asks, own) = (keys::identity(1), keys::identity(2));
    let near = keys::asking(1, own, keys::psk(9), &clock);
    let far = keys::answering(own, &[(asks, keys::psk(9))], 1, &clock);
    let [one, other] = sockets();
    let (mut asks, mut asked) = (Sealed::asking(near, one).unwrap(), Sealed::asked(far, other));
    assert_eq!(asks.greet(None), Ok(Greeting::Stranger));
    assert_eq!(asked.greet(None), Ok(Greeting::Answered));
    clock.forward(40_000);
    assert_eq!(asks.greet(None), DONE);
    assert_eq!(asked.greet(None), DONE);
    let left = |end: &Carried| end.timeout().map(|at| at.since(clock.now()));
    let [renewed, ended] = [&asks, &asked].map(|end| left(end).expect("keys have their time"));
    assert!((79_000..=80_000).contains(&renewed), "renewed in {renewed} ms");
    assert!((renewed + 59_000..=renewed + 61_000).contains(&ended), "at an end in {ended} ms");
}

/// An end that waits for an INIT, and how to say something to it.
fn asked(far: &'static House) -> (Tap, Carried) {
    let [near, other] = sockets();
    (near, Sealed::asked(far, other))
}

#[test]
fn what_was_said_once_is_nothing_the_second_time() {
    let [near, far] = houses();
    let Greeted { wires, carriers, .. } = greet_all([near, far]);
    let said = wires[0].look(<[_]>::to_vec);
    drop(carriers);
    // At once.
    let (mut again, mut end) = asked(far);
    again.send(0, &said[0]).unwrap();
    assert_eq!(end.greet(None), Err(FailReason::Auth));
    assert_eq!(end.carrier().wire.look(|sent| sent.len()), 0);
    // By an end that has started anew since, and remembers nobody: one answer, and no link.
    let [_, anew] = houses();
    let (mut again, mut end) = asked(anew);
    again.send(0, &said[0]).unwrap();
    assert_eq!(end.greet(None), Ok(Greeting::Answered));
    again.send(0, &said[1]).unwrap();
    assert_eq!(end.greet(None), Err(FailReason::Auth));
    assert_eq!(end.carrier().wire.look(|sent| sent.len()), 1);
}

#[test]
fn whatever_else_is_said_first_ends_it() {
    let [_, far] = houses();
    for length in (1..=1500).filter(|length| length % 7 == 1 || (180..190).contains(length)) {
        let (mut stranger, mut end) = asked(far);
        let mut packet = pattern(length, length as usize);
        packet[0] = 0x01;
        stranger.send(0, &packet).unwrap();
        let outcome = end.greet(None);
        let expected = if length <= 184 { FailReason::Auth } else { FailReason::Protocol };
        assert_eq!(outcome, Err(expected), "{length} bytes");
        assert_eq!(end.carrier().wire.look(|sent| sent.len()), 0, "{length} bytes");
    }
    // The end of the other.
    let (stranger, mut end) = asked(far);
    drop(stranger);
    assert_eq!(end.greet(None), Err(FailReason::LinkDown));
}

/// Who has no keys says HELLO: it is told that there is no link without.
#[test]
fn who_says_hello_is_told_about_keys() {
    let [_, far] = houses();
    let (mut plain, mut end) = asked(far);
    let mut bytes = [0; 100];
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        flags: 0,
        channels_max: 7,
        initial_credit: 4096,
        credit_max: 65_536,
        idle_seconds: 15,
    };
    let length = Message::Hello(hello).emit(&mut bytes).unwrap();
    plain.send(0, &bytes[..length]).unwrap();
    assert_eq!(end.greet(None), Err(FailReason::Auth));
    end.carrier().wire.look(|sent| {
        let (said, length) = parse(&sent[0]).unwrap();
        assert!(matches!(said, Message::Close { reason: 14, .. }), "{said:?}");
        assert_eq!((sent.len(), sent[0].len()), (1, length));
    });
}

/// Somebody in between changes one bit of what is said: there is no link, and the end that sees it knows
/// why.
#[test]
fn no_bit_of_a_greeting_can_be_changed() {
    // The last 16 bytes of INIT are for cookies, which nobody is asked for here.
    for (end, nth, bytes) in [(0, 0, INIT_BYTES - 16), (1, 0, RESPONSE_BYTES), (0, 1, 17)] {
        let step = if cfg!(debug_assertions) && bytes > 17 { 5 } else { 1 };
        for bit in (0..bytes * 8).step_by(step) {
            let taps = sockets();
            let mut left = nth;
            taps[end].wire.change(move |packet| {
                let mut packet = packet.to_vec();
                if left == 0 {
                    packet[bit / 8] ^= 1 << (bit % 8);
                }
                left = usize::wrapping_sub(left, 1);
                vec![packet]
            });
            let [near, far] = houses();
            let Greeted { outcomes, .. } = greet(near, far, taps);
            assert_eq!(outcomes[1 - end], Err(FailReason::Auth), "{end} {nth} bit {bit}");
        }
    }
}

/// As docs/protocol.md has it.
fn mac(label: &[u8; 16], of: &Identity, parts: &[&[u8]]) -> [u8; 16] {
    let key = Blake2s256::new().chain_update(label).chain_update(of.public().bytes()).finalize();
    let mut mac = Blake2sMac::<U16>::new_from_slice(&key).expect("it is short enough");
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize().into_bytes().into()
}

/// Both say so if one speaks a later version: here by somebody in between, who makes each believe it.
#[test]
fn ends_of_other_versions_say_so() {
    let own = keys::identity(2);
    let [one, other] = sockets();
    let first = one.wire.clone();
    one.wire.change(move |packet| {
        let mut init = packet.to_vec();
        init[1..3].copy_from_slice(&[2, 3]);
        let sum = mac(b"seaprox mac1    ", own, &[&init[..152]]);
        init[152..168].copy_from_slice(&sum);
        vec![init]
    });
    other.wire.change(move |packet| {
        assert_eq!((packet.len(), packet[0], &packet[1..3]), (32, 0x04, &[1, 1][..]));
        let mut versions = packet.to_vec();
        versions[1..3].copy_from_slice(&[2, 3]);
        let mac1 = first.look(|sent| sent[0][152..168].to_vec());
        let sum = mac(b"seaprox versions", own, &[&versions[..16], &mac1]);
        versions[16..].copy_from_slice(&sum);
        vec![versions]
    });
    let [near, far] = houses();
    let Greeted { outcomes, .. } = greet(near, far, [one, other]);
    assert_eq!(outcomes, [Err(FailReason::Version); 2]);
}
