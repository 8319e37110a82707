//! Links with keys: what is renewed under load, and what somebody on the way can do who keeps what was
//! sent, and sends it again when it suits.

use crate::net::Weather;
use crate::party::Over;
use crate::stories::{longest_stall, received, setup, stream, usual};
use crate::world::World;
use seaprox::fail::FailReason;
use seaprox::transport::Notice;
use seaprox_noise::keyring::{KEY_MICROS, RENEW_MICROS};
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::packet::{Kind, Mode, kind_of, take_apart};
use seaprox_udp::time::Micros;
use std::net::SocketAddr;

const SECOND: u64 = 1_000_000;

/// Chances are of 65,536.
const PERCENT: u16 = 655;

/// 4 Mbit/s and a round trip of 20 ms: minutes of it are few packets.
fn slow() -> Weather {
    Weather { rate: 500_000, queue_bytes: 50_000, ..Weather::calm(10_000) }
}

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([10, 3, 0, 1], 1))
}

/// Somebody begins to keep what is sent.
fn tap(world: &World<1>) {
    world.net.borrow_mut().tap = Some(Vec::new());
}

/// What was kept since, by line and end, and no more is.
fn kept(world: &World<1>) -> Vec<(usize, usize, Vec<u8>)> {
    world.net.borrow_mut().tap.take().unwrap_or_default()
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    kind_of(Mode::Keyed, bytes)
}

/// Sends all of it again: what was sent to the acceptor comes from somewhere else.
fn replay(world: &World<1>, all: &[(usize, usize, Vec<u8>)]) {
    let line = world.net.borrow().latest(0).expect("it was there");
    for (_, end, bytes) in all {
        match end {
            0 => world.net.borrow_mut().forge(elsewhere(), bytes),
            _ => world.net.borrow_mut().forge_back(line, bytes),
        }
    }
}

/// What was sent to where nobody has a link.
fn to_elsewhere(world: &World<1>) -> Vec<Vec<u8>> {
    let sent = std::mem::take(&mut world.net.borrow_mut().to_strangers);
    sent.into_iter().map(|(_, bytes)| bytes).collect()
}

fn is_up(world: &World<1>) -> bool {
    world.initiators[0].is_open() && world.initiators[0].notices.len() == 1
}

#[test]
fn keys_are_renewed_under_load_and_loss() {
    for (seed, algorithm) in (1..=2).zip([Algorithm::Bbr, Algorithm::Cubic]) {
        let weather =
            Weather { lost: 5 * PERCENT, late: 10 * PERCENT, late_micros: 20_000, ..slow() };
        let mut world = World::new(&setup(weather, algorithm, seed));
        stream(&mut world);
        tap(&world);
        let stall = longest_stall(&mut world, 3 * RENEW_MICROS + 20 * SECOND);
        assert!(stall <= 3 * SECOND, "{}: {stall} us", algorithm.name());
        assert!(is_up(&world));
        for end in [0, 1] {
            let mut slots = Vec::new();
            let mut numbers = Vec::new();
            for (_, _, mut bytes) in kept_of(&world, end) {
                if let Some(parts) = take_apart(&mut bytes) {
                    slots.push(parts.header.key_slot);
                    numbers.push(parts.header.number);
                }
            }
            slots.dedup();
            assert_eq!(slots, [0, 1, 2, 3], "end {end}");
            assert!(numbers.is_sorted_by(|a, b| a < b), "no number twice, whatever the key");
        }
    }
}

/// What an end has sent so far.
fn kept_of(world: &World<1>, end: usize) -> Vec<(usize, usize, Vec<u8>)> {
    let net = world.net.borrow();
    let all = net.tap.iter().flatten();
    all.filter(|(_, from, _)| *from == end).cloned().collect()
}

#[test]
fn a_renewal_whose_answers_are_lost_or_whose_path_is_dark_costs_nothing() {
    for is_dark in [false, true] {
        let mut world = World::new(&setup(slow(), Algorithm::Bbr, 3));
        stream(&mut world);
        let stall = longest_stall(&mut world, RENEW_MICROS - 5 * SECOND);
        assert!(stall <= SECOND);
        tap(&world);
        let most = if is_dark {
            let until = world.micros() + 9 * SECOND;
            world.net.borrow_mut().darken(Micros(until));
            12 * SECOND
        } else {
            world.net.borrow_mut().withheld = Some((Kind::Response as u8, 4));
            SECOND
        };
        let stall = longest_stall(&mut world, 30 * SECOND);
        assert!(stall <= most, "{stall} us");
        assert!(is_up(&world));
        let last = kept_of(&world, 1).pop().expect("acknowledgements at least");
        assert_eq!(last.2[1], 1, "the second key");
    }
}

#[test]
fn a_link_without_new_keys_ends_and_comes_back_with_others() {
    let mut world = World::new(&setup(slow(), Algorithm::Bbr, 4));
    stream(&mut world);
    world.net.borrow_mut().withheld = Some((Kind::Init as u8, u32::MAX));
    let stall = longest_stall(&mut world, KEY_MICROS - 5 * SECOND);
    assert!(stall <= SECOND && is_up(&world), "as long as the keys last");
    world.run(5 * SECOND);
    let dead = |notices: &[(u64, Notice)]| {
        let is_it =
            |notice: &Notice| matches!(notice, Notice::LinkDown { reason: FailReason::Auth, .. });
        notices.iter().any(|(_, notice)| is_it(notice))
    };
    assert!(dead(&world.initiators[0].notices));
    assert!(dead(&world.egress.as_ref().expect("it is there").notices));
    assert!(world.initiators[0].sides[0].over.is_some());
    world.net.borrow_mut().withheld = None;
    let until = world.micros() + 11 * SECOND;
    assert!(world.run_until(until, |world| world.initiators[0].is_open()));
    let now = world.now();
    let place = world.initiators[0].open(1000, now);
    world.run(SECOND);
    assert_eq!(world.initiators[0].sides[place].over, Some(Over::InOrder));
}

#[test]
fn what_is_sent_again_is_nobodys() {
    let mut world = World::new(&setup(slow(), Algorithm::Bbr, 5));
    tap(&world);
    stream(&mut world);
    let begin = kept(&world);
    let inits = begin.iter().filter(|(_, _, bytes)| kind(bytes) == Some(Kind::Init)).count();
    assert!(inits > 0);
    // At once, a second later, and when the keys are others.
    for pause in [0, SECOND, RENEW_MICROS + 5 * SECOND] {
        world.run(pause);
        to_elsewhere(&world);
        for part in begin.chunks(50) {
            replay(&world, part);
            world.run(10_000);
        }
        let stall = longest_stall(&mut world, 5 * SECOND);
        assert!(stall <= SECOND && is_up(&world), "after {pause} us");
        // Nobody is answered; but an INIT from before the last one is, with that one's clock under seal,
        // as it may be the peer's whose clock was set back.
        let answers = to_elsewhere(&world);
        let expected = if pause > RENEW_MICROS { inits } else { 0 };
        assert_eq!(answers.len(), expected, "after {pause} us");
        assert!(answers.iter().all(|bytes| kind(bytes) == Some(Kind::Response)));
    }
}

#[test]
fn what_is_sent_again_after_a_restart_is_answered_once() {
    let mut world = World::<1>::new(&setup(slow(), Algorithm::Bbr, 6));
    tap(&world);
    stream(&mut world);
    let begin = kept(&world);
    let inits = begin.iter().filter(|(_, _, bytes)| kind(bytes) == Some(Kind::Init)).count();
    // The acceptor begins anew and knows no clock; the initiator is kept away.
    let line = world.net.borrow().latest(0).expect("it was there");
    world.net.borrow_mut().lines[line].is_silent = true;
    world.start_egress();
    for round in 0..20 {
        for part in begin.chunks(50) {
            replay(&world, part);
            world.run(10_000);
        }
        let answers = to_elsewhere(&world);
        assert_eq!(answers.len(), if round == 0 { inits } else { 0 }, "round {round}");
        assert!(answers.iter().all(|bytes| kind(bytes) == Some(Kind::Response)));
    }
    let egress = world.egress.as_ref().expect("it is there");
    assert!(egress.notices.is_empty() && egress.sides.is_empty(), "no link and no channel");
    // There is room for the initiator at once, which finds out by the silence.
    let until = world.micros() + 40 * SECOND;
    assert!(world.run_until(until, |world| world.initiators[0].notices.len() >= 3));
    let now = world.now();
    let place = world.initiators[0].open(1000, now);
    world.run(SECOND);
    assert_eq!(world.initiators[0].sides[place].over, Some(Over::InOrder));
    // And what the acceptor said before, to an initiator that begins anew.
    world.restart_initiator(0);
    world.connect();
    replay(&world, &begin);
    let now = world.now();
    let place = world.initiators[0].open(1000, now);
    world.run(SECOND);
    assert_eq!(world.initiators[0].sides[place].over, Some(Over::InOrder));
}

/// Somebody is faster than the path, and sends each packet from an address of its own first.
#[test]
fn who_overtakes_packets_moves_nobody() {
    let mut world = World::new(&setup(usual(), Algorithm::Bbr, 7));
    stream(&mut world);
    to_elsewhere(&world);
    let before = received(&world);
    for _ in 0..200 {
        tap(&world);
        world.run(5_000);
        replay(&world, &kept(&world));
    }
    assert!(is_up(&world));
    let rate = received(&world) - before;
    assert!(rate >= 5_000_000, "{rate} bytes in a second");
    // It is asked whether it is the peer, and cannot answer; no bytes of the link go there.
    let asked = to_elsewhere(&world);
    assert!(asked.iter().all(|bytes| bytes.len() == 40 && kind(bytes) == Some(Kind::Data)));
    assert!(!asked.is_empty() && asked.len() <= 200, "{} times", asked.len());
    let stall = longest_stall(&mut world, 3 * SECOND);
    assert!(stall <= SECOND, "{stall} us");
}
