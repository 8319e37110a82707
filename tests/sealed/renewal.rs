//! Keys that are renewed while a link goes on, and what becomes of a link whose keys are not.

use crate::pair::{Memories, Pair};
use seaprox::fail::FailReason;
use seaprox_noise::message::{INIT_BYTES, RESPONSE_BYTES};
use seaprox_tests::bytes::pattern;
use std::fmt::Debug;

const RENEW_MILLIS: u64 = 120_000;
const STOP_MILLIS: u64 = 180_000;
const INIT: u8 = 0x01;
const RESPONSE: u8 = 0x02;

/// The key slots of the last packets of both ends.
fn slots(pair: &Pair<'_>) -> [u8; 2] {
    let last = |sent: &[Vec<u8>]| {
        let first = sent.iter().rev().map(|packet| packet[0]).find(|&first| first & 0xfc == 0x10);
        first.expect("it has sealed something") & 3
    };
    pair.wires.each_ref().map(|wire| wire.look(last))
}

#[test]
fn keys_are_renewed_under_load() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(4);
    let texts: Vec<_> = (0..4).map(|seed| pattern(seed, 30_000)).collect();
    let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
    for renewal in 1..20 {
        assert_eq!(pair.wires[0].count(INIT), renewal, "not before it is time");
        pair.clock.forward(RENEW_MILLIS);
        pair.exchange(usize::from(renewal % 2 == 0), &texts);
        pair.turns(2);
        pair.exchange(0, &[b"ping"]);
        pair.exchange(1, &[b"pong"]);
        assert_eq!(slots(&pair), [(renewal % 4) as u8; 2]);
    }
    assert_eq!(pair.dead(), [None, None]);
    assert_eq!(pair.wires[1].count(RESPONSE), 20);
}

/// Nobody says anything, and yet both use the new keys from then on.
#[test]
fn keys_of_a_quiet_link_are_renewed() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(1);
    for renewal in 1..9 {
        let at = pair.ends[0].link.timeout().expect("it is due some time");
        let left = at.since(seaprox_sealed::Outside::now(&pair.clock));
        assert!((RENEW_MILLIS - 10_000..=RENEW_MILLIS).contains(&left), "{left} ms are left");
        pair.clock.forward(left);
        pair.turns(2);
        let sent = pair.wires[0].look(|sent| sent.last().map(Vec::len));
        assert_eq!(sent, Some(17), "a packet of nothing");
        assert_eq!(slots(&pair)[0], renewal % 4);
    }
    pair.exchange(1, &[b"and on"]);
    assert_eq!(slots(&pair), [0, 0]);
    assert_eq!(pair.dead(), [None, None]);
}

/// Of what is said in a renewal something else is sent, the same for each; what became of it in time.
fn renew_without(
    end: usize,
    kind: u8,
    change: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> [Option<FailReason>; 2] {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(1);
    pair.wires[end].change(move |packet| match packet[0] == kind {
        true => change(packet),
        false => vec![packet.to_vec()],
    });
    pair.clock.forward(RENEW_MILLIS);
    pair.turns(4);
    if pair.dead() == [None, None] {
        pair.exchange(0, &[b"the old keys go on"]);
        pair.exchange(1, &[b"both ways"]);
        assert_eq!(slots(&pair), [0, 0]);
        pair.clock.forward(STOP_MILLIS - RENEW_MILLIS - 5000);
        pair.turns(2);
        pair.exchange(0, &[b"until they end"]);
        let before = pair.wires.each_ref().map(|wire| wire.look(|sent| sent.len()));
        pair.clock.forward(5000);
        assert_eq!(pair.ends[0].say(0, b"too late"), 8);
        pair.turns(4);
        let after = pair.wires.each_ref().map(|wire| wire.look(|sent| sent.len()));
        assert_eq!(before, after, "something was sealed");
        assert_eq!(pair.ends[1].heard[0], b"the old keys go onuntil they end");
    }
    pair.dead()
}

/// One end says why it ends the link; the other the same, or that the socket is closed.
#[track_caller]
fn assert_ended(ended: [Option<FailReason>; 2], why: FailReason, which: impl Debug) {
    let is_one = |reason| reason == Some(why) || reason == Some(FailReason::LinkDown);
    assert!(ended.contains(&Some(why)) && ended.into_iter().all(is_one), "{which:?}: {ended:?}");
}

/// One end renews its keys, as far as it knows, and the other hears nothing of it: before the keys end
/// nothing is lost, and after that nothing is said.
#[test]
fn what_is_renewed_by_one_end_alone_stops_in_time() {
    assert_ended(renew_without(0, INIT, |_| vec![]), FailReason::Auth, INIT);
    assert_ended(renew_without(1, RESPONSE, |_| vec![]), FailReason::Auth, RESPONSE);
}

#[test]
fn a_renewal_that_somebody_meddles_with_ends_the_link() {
    // The last 16 bytes of INIT are for cookies, which nobody is asked for here.
    for (end, kind, bytes) in [(0, INIT, INIT_BYTES - 16), (1, RESPONSE, RESPONSE_BYTES)] {
        for bit in (0..bytes * 8).step_by(7) {
            let ended = renew_without(end, kind, move |packet| {
                let mut packet = packet.to_vec();
                packet[bit / 8] ^= 1 << (bit % 8);
                vec![packet]
            });
            assert_ended(ended, FailReason::Auth, (kind, bit));
        }
        // Longer or shorter it is none.
        let ended = renew_without(end, kind, |packet| vec![packet[1..].to_vec()]);
        assert_ended(ended, FailReason::Auth, (kind, "shorter"));
        let ended = renew_without(end, kind, |packet| vec![[packet, &[0]].concat()]);
        assert_ended(ended, FailReason::Auth, (kind, "longer"));
    }
}

#[test]
fn an_init_that_comes_twice_ends_the_link() {
    let twice = |packet: &[u8]| vec![packet.to_vec(), packet.to_vec()];
    assert_ended(renew_without(0, INIT, twice), FailReason::Auth, INIT);
    // What comes after the answer answers nothing.
    assert_ended(renew_without(1, RESPONSE, twice), FailReason::Protocol, RESPONSE);
}

/// What was said of another link, or of this one before, is nothing here.
#[test]
fn an_init_of_another_link_ends_the_link() {
    let mut memories = [Memories::new(), Memories::new()];
    let [one, other] = &mut memories;
    let mut other = Pair::new(other);
    other.clock.forward(RENEW_MILLIS);
    other.turns(3);
    let inits = other.wires[0].look(|sent| {
        let is_init = |packet: &&Vec<u8>| packet[0] == INIT;
        sent.iter().filter(is_init).cloned().collect::<Vec<_>>()
    });
    assert_eq!(inits.len(), 2);
    // The first shows a clock that the far end knows to be behind, and its answer goes to who did not ask;
    // the second is of a link that is not this one.
    for (init, why) in inits.into_iter().zip([FailReason::Protocol, FailReason::Auth]) {
        let mut pair = Pair::new(one);
        pair.open(1);
        pair.wires[0].change(move |packet| vec![init.clone(), packet.to_vec()]);
        assert_eq!(pair.ends[0].say(0, b"hello"), 5);
        pair.turns(4);
        assert_ended(pair.dead(), why, "another's");
    }
}
