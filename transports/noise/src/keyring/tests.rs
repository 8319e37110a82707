use super::*;
use crate::aead::TAG_BYTES;
use crate::replay::WINDOW;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const SECOND: u64 = 1_000_000;
const HEADER: [u8; 12] = *b"twelve bytes";

/// What a handshake gives the one who asked, and the one who was asked.
pub(crate) fn pair(number: u8, slot: u8) -> (Keys, Keys) {
    let keys = |sealing: u8, opening: u8| {
        Keys::new(Algorithm::Aes128Gcm, slot, &[sealing; 32], &[opening; 32])
    };
    let (one, other) = (number.wrapping_mul(2), number.wrapping_mul(2).wrapping_add(1));
    (keys(one, other), keys(other, one))
}

#[derive(Clone)]
struct Packet {
    slot: u8,
    number: u64,
    body: Vec<u8>,
    tag: Tag,
}

fn seal(keys: &mut Keyring, now: u64, number: u64) -> Packet {
    let slot = keys.slot(now).unwrap();
    let mut body = number.to_le_bytes().to_vec();
    let tag = keys.seal(now, number, &HEADER, &mut body).unwrap();
    Packet { slot, number, body, tag }
}

fn open(keys: &mut Keyring, now: u64, packet: &Packet) -> Opened {
    let Packet { slot, number, ref body, ref tag } = *packet;
    let mut body = body.clone();
    let opened = keys.open(now, slot, number, &HEADER, &mut body, tag);
    if opened != Opened::No {
        assert_eq!(body, number.to_le_bytes());
    }
    opened
}

/// Two ends that have just agreed.
fn ends() -> (Keyring, Keyring) {
    let (mut asking, mut asked) = (Keyring::new(), Keyring::new());
    let (ours, theirs) = pair(1, asking.next_slot());
    assert!(asked.propose(theirs, 0));
    asking.install(ours, 0);
    (asking, asked)
}

#[test]
fn keys_say_whether_a_packet_is_the_peers_before_they_are_used() {
    let (mut asking, mut asked) = (Keyring::new(), Keyring::new());
    let (ours, theirs) = pair(1, 2);
    asking.install(ours, 0);
    let packet = seal(&mut asking, 0, 5);
    let opens = |slot, number, header: &[u8]| {
        let mut body = packet.body.clone();
        let opens = theirs.opens(slot, number, header, &mut body, &packet.tag);
        assert_eq!(opens, body == 5u64.to_le_bytes());
        opens
    };
    assert!(opens(2, 5, &HEADER) && opens(2, 5, &HEADER));
    assert!(!opens(1, 5, &HEADER) && !opens(2, 6, &HEADER) && !opens(2, 5, b"others"));
    assert!(!opens(2, NUMBER_MAX + 1, &HEADER));
    assert!(asked.propose(theirs, 0));
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed, "as if nobody had looked");
}

#[test]
fn keys_that_are_used_once_seal_the_first_packet() {
    let mut asking = Keyring::new();
    let (ours, theirs) = pair(1, 2);
    asking.install(ours, 0);
    let mut body = 0u64.to_le_bytes().to_vec();
    let tag = theirs.seal_only(&HEADER, &mut body);
    let packet = Packet { slot: 2, number: 0, body, tag };
    assert_eq!(open(&mut asking, 0, &packet), Opened::Yes);
}

fn renew(asking: &mut Keyring, asked: &mut Keyring, number: u8, now: u64) {
    let (ours, theirs) = pair(number, asking.next_slot());
    assert!(asked.may_propose(asking.next_slot()));
    assert!(asked.propose(theirs, now));
    asking.install(ours, now);
}

#[test]
fn nothing_is_sealed_without_keys() {
    let mut keys = Keyring::new();
    assert_eq!((keys.slot(0), keys.algorithm(), keys.next_slot()), (None, None, 0));
    assert_eq!(keys.seal(0, 0, &HEADER, &mut [1]), Err(Spent));
    assert_eq!((keys.renew_micros(), keys.stop_micros()), (None, None));
    assert_eq!(keys.open(0, 0, 0, &HEADER, &mut [1], &[0; 16]), Opened::No);
}

#[test]
fn the_one_who_is_asked_waits_for_a_packet() {
    let (mut asking, mut asked) = ends();
    assert_eq!((asked.slot(0), asked.algorithm()), (None, None), "nobody has shown anything yet");
    assert!(asking.owes_packet());
    let first = seal(&mut asking, 0, 0);
    assert!(!asking.owes_packet());
    let second = seal(&mut asking, 0, 1);
    assert_eq!(open(&mut asked, 0, &second), Opened::Confirmed);
    assert_eq!(asked.slot(0), Some(0));
    assert_eq!(open(&mut asked, 0, &first), Opened::Yes);
    assert_eq!(open(&mut asked, 0, &first), Opened::No, "it came before");
    let answer = seal(&mut asked, 0, 0);
    assert_eq!(open(&mut asking, 0, &answer), Opened::Yes);
    assert_eq!(open(&mut asked, 0, &answer), Opened::No, "its own");
}

#[test]
fn keys_are_renewed_while_packets_fly() {
    let (mut asking, mut asked) = ends();
    let packet = seal(&mut asking, 0, 0);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed);
    let mut number = 1;
    for round in 2..40 {
        let now = u64::from(round - 1) * RENEW_MICROS;
        let (old, older) = (seal(&mut asking, now - 1, number), seal(&mut asked, now - 1, number));
        renew(&mut asking, &mut asked, round, now);
        let new = seal(&mut asking, now, number + 1);
        assert_eq!(new.slot, (round - 1) & 3);
        // The one who is asked goes on with the old ones.
        let answer = seal(&mut asked, now, number + 1);
        assert_eq!(answer.slot, old.slot);
        assert_eq!(open(&mut asking, now, &answer), Opened::Yes);
        assert_eq!(open(&mut asking, now, &older), Opened::Yes);
        assert_eq!(open(&mut asked, now, &new), Opened::Confirmed);
        assert_eq!(open(&mut asked, now, &new), Opened::No);
        assert_eq!(open(&mut asked, now, &old), Opened::Yes, "it was under way");
        for packet in [&old, &new] {
            assert_eq!(open(&mut asked, now, packet), Opened::No, "replayed");
        }
        let answer = seal(&mut asked, now, number + 2);
        assert_eq!(answer.slot, new.slot);
        assert_eq!(open(&mut asking, now, &answer), Opened::Yes);
        number += 3;
    }
}

/// The RESPONSE is lost, and the peer asks again.
#[test]
fn one_sided_renewals_disturb_nothing() {
    let (mut asking, mut asked) = ends();
    let packet = seal(&mut asking, 0, 0);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed);
    for round in 2..30 {
        let (_, theirs) = pair(round, asking.next_slot());
        assert!(asked.propose(theirs, 0));
        let (packet, answer) =
            (seal(&mut asking, 0, u64::from(round)), seal(&mut asked, 0, u64::from(round)));
        assert_eq!((packet.slot, answer.slot), (0, 0));
        assert_eq!(open(&mut asked, 0, &packet), Opened::Yes);
        assert_eq!(open(&mut asking, 0, &answer), Opened::Yes);
    }
    renew(&mut asking, &mut asked, 30, 0);
    let packet = seal(&mut asking, 0, 100);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed);
}

#[test]
fn the_slot_in_use_is_nobody_elses() {
    let (mut asking, mut asked) = ends();
    let packet = seal(&mut asking, 0, 0);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed);
    assert!(!asked.may_propose(0));
    assert!(!asked.propose(pair(5, 0).1, 0));
    let packet = seal(&mut asking, 0, 1);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Yes);
    for slot in 1..4 {
        assert!(asked.may_propose(slot));
    }
    assert!(!asked.may_propose(4));
}

#[test]
fn keys_end() {
    let (mut asking, mut asked) = ends();
    assert_eq!(asking.renew_micros(), Some(120 * SECOND));
    assert_eq!(asking.stop_micros(), Some(180 * SECOND));
    let last = seal(&mut asking, 180 * SECOND - 1, 0);
    assert_eq!(asking.slot(180 * SECOND), None);
    assert_eq!(asking.seal(180 * SECOND, 1, &HEADER, &mut [1]), Err(Spent));
    assert_eq!(open(&mut asked, 180 * SECOND, &last), Opened::No);
    assert_eq!(open(&mut asked, 180 * SECOND - 1, &last), Opened::Confirmed);
    for keys in [&mut asking, &mut asked] {
        keys.expire(180 * SECOND - 1);
        assert_eq!(keys.algorithm(), Some(Algorithm::Aes128Gcm));
        keys.expire(180 * SECOND);
        assert_eq!(keys.algorithm(), None);
    }
}

#[test]
fn keys_do_so_much() {
    for (bytes, renew, stop) in [
        (SHORT_BYTES, PACKETS_RENEW, PACKETS_MAX),
        (SHORT_BYTES + 1, LONG_PACKETS_RENEW, LONG_PACKETS_MAX),
    ] {
        let (mut asking, mut asked) = ends();
        let mut body = std::vec![0; bytes];
        asking.seal(0, 0, &HEADER, &mut body).unwrap();
        asking.keys.pretend_sealed(renew - 1);
        assert_eq!(asking.renew_micros(), Some(RENEW_MICROS));
        asking.seal(0, 1, &HEADER, &mut body).unwrap();
        assert_eq!(asking.renew_micros(), Some(0), "overdue");
        asking.keys.pretend_sealed(stop - 1);
        let tag = asking.seal(0, 2, &HEADER, &mut body).unwrap();
        assert_eq!(asking.seal(0, 3, &HEADER, &mut [1]), Err(Spent));
        assert_eq!(asking.slot(0), None);
        // What the peer sealed counts as well, for it asks for no keys.
        assert_eq!(asked.open(0, 0, 2, &HEADER, &mut body, &tag), Opened::Confirmed);
        asked.keys.pretend_opened(renew);
        assert_eq!(asked.renew_micros(), Some(0));
    }
}

#[test]
fn no_number_is_sealed_twice() {
    let (mut asking, _) = ends();
    assert!(asking.seal(0, 5, &HEADER, &mut [1]).is_ok());
    for used in [5, 4, 0, NUMBER_MAX + 1, u64::MAX] {
        let mut body = *b"in the clear";
        assert_eq!(asking.seal(0, used, &HEADER, &mut body), Err(Spent));
        assert_eq!(&body, b"in the clear");
    }
    assert!(asking.seal(0, NUMBER_MAX, &HEADER, &mut [1]).is_ok());
    assert!(asking.seal(0, NUMBER_MAX, &HEADER, &mut [1]).is_err());
}

#[test]
fn the_edges_of_the_window() {
    let (mut asking, mut asked) = ends();
    let packets: Vec<_> = (0..WINDOW + 2).map(|number| seal(&mut asking, 0, number)).collect();
    let last = packets.len() - 1;
    assert_eq!(open(&mut asked, 0, &packets[last]), Opened::Confirmed);
    assert_eq!(open(&mut asked, 0, &packets[0]), Opened::No);
    assert_eq!(open(&mut asked, 0, &packets[1]), Opened::No);
    assert_eq!(open(&mut asked, 0, &packets[2]), Opened::Yes);
    assert_eq!(open(&mut asked, 0, &packets[2]), Opened::No);
}

#[test]
fn every_flipped_bit_is_seen() {
    let (mut asking, mut asked) = ends();
    let packet = seal(&mut asking, 0, 5);
    for bit in 0..2 {
        let other = Packet { slot: packet.slot ^ 1 << bit, ..packet.clone() };
        assert_eq!(open(&mut asked, 0, &other), Opened::No);
    }
    for bit in 0..64 {
        let other = Packet { number: packet.number ^ 1 << bit, ..packet.clone() };
        assert_eq!(open(&mut asked, 0, &other), Opened::No);
    }
    for bit in 0..packet.body.len() * 8 {
        let mut other = packet.clone();
        other.body[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&mut asked, 0, &other), Opened::No);
    }
    for bit in 0..TAG_BYTES * 8 {
        let mut other = packet.clone();
        other.tag[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&mut asked, 0, &other), Opened::No);
    }
    for bit in 0..HEADER.len() * 8 {
        let mut header = HEADER;
        header[bit / 8] ^= 1 << (bit % 8);
        let mut body = packet.body.clone();
        assert_eq!(asked.open(0, 0, 5, &header, &mut body, &packet.tag), Opened::No);
    }
    for length in 0..1500 {
        let mut body = std::vec![0; length];
        assert_eq!(asked.open(0, 0, 5, &HEADER, &mut body, &packet.tag), Opened::No);
    }
    // None of it moved the window, or made the keys the peer's.
    assert_eq!(asked.slot(0), None);
    assert_eq!(open(&mut asked, 0, &packet), Opened::Confirmed);
}

/// The pair of key and nonce is what must not repeat; keys are known by what they were made of.
#[test]
fn no_nonce_repeats_in_a_million_packets() {
    let (mut asking, mut asked) = ends();
    let mut key = 1;
    let mut seen = Vec::new();
    let mut number = 0;
    let mut header = [0; 12];
    for round in 0..1_000_000_u64 {
        // Numbers have gaps, and go back now and then, by mistake.
        number += 1 + (round % 97 == 0) as u64;
        let tried = if round % 1000 == 999 { number - 500 } else { number };
        header[0] = round as u8;
        let mut body = round.to_le_bytes();
        match asking.seal(0, tried, &header, &mut body) {
            Ok(tag) => {
                seen.push((key, tried));
                if round % 64 == 0 {
                    let slot = asking.slot(0).unwrap();
                    let opened = asked.open(0, slot, tried, &header, &mut body, &tag);
                    assert_ne!(opened, Opened::No);
                }
            }
            Err(Spent) => assert!(tried < number),
        }
        if round % 10_007 == 0 && key < 120 {
            key += 1;
            renew(&mut asking, &mut asked, key, 0);
        }
    }
    let sealed = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), sealed);
    assert!(sealed > 990_000 && key > 90);
}

#[derive(Clone, Debug)]
enum Step {
    Seal { is_initiator: bool },
    Deliver { at: prop::sample::Index, again: bool },
    Lose { at: prop::sample::Index },
    Renew { is_answered: bool },
    Wait { micros: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|is_initiator| Step::Seal { is_initiator }),
        6 => (at(), any::<bool>()).prop_map(|(at, again)| Step::Deliver { at, again }),
        1 => at().prop_map(|at| Step::Lose { at }),
        2 => any::<bool>().prop_map(|is_answered| Step::Renew { is_answered }),
        1 => (0..40 * SECOND).prop_map(|micros| Step::Wait { micros }),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever is lost, repeated and overtaken: no packet opens twice, what opens is what was sealed,
    /// and with keys that were renewed in time both ends understand each other in the end.
    #[test]
    fn any_network_ends_in_agreement(steps in steps()) {
        let (mut asking, mut asked) = ends();
        let (mut now, mut next, mut key) = (0, 0, 1);
        let mut flying = Vec::new();
        let mut opened = BTreeSet::new();
        for step in steps {
            match step {
                Step::Seal { is_initiator } => {
                    let keys = if is_initiator { &mut asking } else { &mut asked };
                    if keys.slot(now).is_some() {
                        flying.push((is_initiator, seal(keys, now, next)));
                        next += 1;
                    }
                }
                Step::Deliver { at, again } if !flying.is_empty() => {
                    let at = at.index(flying.len());
                    let (is_initiator, packet) = flying[at].clone();
                    let keys = if is_initiator { &mut asked } else { &mut asking };
                    if open(keys, now, &packet) != Opened::No {
                        prop_assert!(opened.insert(packet.number), "{} twice", packet.number);
                    }
                    if !again {
                        flying.swap_remove(at);
                    }
                }
                Step::Lose { at } if !flying.is_empty() => {
                    flying.swap_remove(at.index(flying.len()));
                }
                Step::Renew { is_answered } => {
                    key += 1;
                    let (ours, theirs) = pair(key, asking.next_slot());
                    let is_taken = asked.propose(theirs, now);
                    if is_answered && is_taken {
                        asking.install(ours, now);
                    }
                }
                Step::Wait { micros } => now += micros,
                Step::Deliver { .. } | Step::Lose { .. } => (),
            }
        }
        key += 1;
        if asked.may_propose(asking.next_slot()) {
            renew(&mut asking, &mut asked, key, now);
        }
        if asking.slot(now).is_some() {
            let last = seal(&mut asking, now, next);
            prop_assert_ne!(open(&mut asked, now, &last), Opened::No);
            let answer = seal(&mut asked, now, next + 1);
            prop_assert_eq!(open(&mut asking, now, &answer), Opened::Yes);
        }
    }
}
