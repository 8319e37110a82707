//! Paths that fail in ways of their own, and what must come of it. All links have keys.

use crate::net::Weather;
use crate::party::Over;
use crate::world::{Setup, World};
use seaprox::fail::FailReason;
use seaprox::transport::Notice;
use seaprox_udp::congestion::Algorithm;

const SECOND: u64 = 1_000_000;

/// Chances are of 65,536.
const PERCENT: u16 = 655;

/// 10 ms each way.
fn paths(weather: Weather) -> [Weather; 2] {
    [weather; 2]
}

pub(crate) fn setup(weather: Weather, algorithm: Algorithm, seed: u64) -> Setup {
    Setup { weather: paths(weather), algorithms: vec![algorithm], seed, is_sealed: true }
}

/// 100 Mbit/s and a round trip of 20 ms.
pub(crate) fn usual() -> Weather {
    Weather { rate: 12_500_000, queue_bytes: 250_000, ..Weather::calm(10_000) }
}

/// What the far end of the first channel has received.
pub(crate) fn received(world: &World<1>) -> u64 {
    let egress = world.egress.as_ref().expect("it is there");
    egress.sides.first().map_or(0, |side| side.received)
}

/// Lets a stream flow for so long; gives the longest time in which nothing came, in microseconds.
pub(crate) fn longest_stall(world: &mut World<1>, micros: u64) -> u64 {
    let until = world.micros() + micros;
    let (mut last, mut at, mut longest) = (received(world), world.micros(), 0);
    while world.micros() < until {
        world.run(10_000);
        if received(world) > last {
            (last, at) = (received(world), world.micros());
        }
        longest = longest.max(world.micros() - at);
    }
    longest
}

/// Begins a stream that has no end.
pub(crate) fn stream(world: &mut World<1>) {
    world.connect();
    let now = world.now();
    world.initiators[0].open(u64::MAX, now);
    world.run(SECOND);
}

#[test]
fn loss_and_reordering_and_copies_together_never_stall_a_stream() {
    for (seed, algorithm) in (1..=6).zip(Algorithm::ALL.into_iter().cycle()) {
        let weather = Weather {
            lost: 10 * PERCENT,
            late: 25 * PERCENT,
            late_micros: 20_000,
            copied: 10 * PERCENT,
            ..usual()
        };
        let mut world = World::new(&setup(weather, algorithm, seed));
        stream(&mut world);
        let before = received(&world);
        let stall = longest_stall(&mut world, 20 * SECOND);
        let rate = (received(&world) - before) / 20_000;
        println!("{}: {rate} kB/s, no longer without than {} ms", algorithm.name(), stall / 1000);
        assert!(stall <= 3 * SECOND, "{}: {stall} us", algorithm.name());
    }
}

const BYTES: u64 = 40_000_000;

#[test]
fn a_path_that_is_dark_for_a_while_loses_nothing() {
    for (seed, algorithm) in (1..=6).zip(Algorithm::ALL.into_iter().cycle()) {
        for dark in [SECOND / 10, 2 * SECOND] {
            let mut world = World::<1>::new(&setup(usual(), algorithm, seed));
            world.connect();
            let now = world.now();
            let place = world.initiators[0].open(BYTES, now);
            for _ in 0..3 {
                world.run(SECOND);
                let until = world.micros() + dark;
                world.net.borrow_mut().darken(seaprox_udp::time::Micros(until));
                world.run(dark);
                let back = world.micros();
                let before = received(&world);
                let goes_on = world.run_until(back + 2 * SECOND, |world| {
                    received(world) > before || before == BYTES
                });
                assert!(goes_on, "{}: nothing for 2 s after {dark} us", algorithm.name());
            }
            let until = world.micros() + 120 * SECOND;
            let all = world.run_until(until, |world| received(world) == BYTES);
            assert!(all, "{}: {} bytes", algorithm.name(), received(&world));
            world.run(SECOND);
            let egress = world.egress.as_ref().expect("it is there");
            for side in [&world.initiators[0].sides[place], &egress.sides[0]] {
                assert_eq!(side.over, Some(Over::InOrder));
            }
        }
    }
}

#[test]
fn past_the_dead_time_both_ends_are_told_and_the_link_comes_back() {
    for seed in 1..=5 {
        let mut world = World::<1>::new(&setup(usual(), Algorithm::Bbr, seed));
        stream(&mut world);
        let back = world.micros() + 20 * SECOND;
        world.net.borrow_mut().darken(seaprox_udp::time::Micros(back));
        world.run(20 * SECOND);
        let down = Some(Over::Because(FailReason::LinkDown));
        assert_eq!(world.initiators[0].sides[0].over, down);
        let egress = world.egress.as_ref().expect("it is there");
        assert_eq!(egress.sides[0].over, down);
        let told = |notices: &[(u64, Notice)]| {
            let dead = |notice: &Notice| {
                matches!(notice, Notice::LinkDown { reason: FailReason::TimedOut, .. })
            };
            notices.iter().any(|(_, notice)| dead(notice))
        };
        assert!(told(&world.initiators[0].notices) && told(&egress.notices));
        let is_up = world.run_until(back + 11 * SECOND, |world| world.initiators[0].is_open());
        assert!(is_up, "seed {seed}: not within 11 s");
        let now = world.now();
        let place = world.initiators[0].open(1000, now);
        world.run(SECOND);
        assert_eq!(world.initiators[0].sides[place].over, Some(Over::InOrder));
    }
}

#[test]
fn either_end_may_begin_anew() {
    let mut world = World::<2>::new(&setup(usual(), Algorithm::Bbr, 1));
    world.connect();
    let now = world.now();
    world.initiators[0].open(u64::MAX, now);
    world.run(SECOND);
    // Nobody listens for a moment, and the host says so.
    world.stop_egress();
    let stopped = world.micros();
    let told = world.run_until(stopped + 16 * SECOND, |world| {
        world.initiators[0].sides[0].over == Some(Over::Because(FailReason::LinkDown))
    });
    assert!(told, "nobody told that the far end is gone");
    println!("after {} ms", (world.micros() - stopped) / 1000);
    assert!(world.micros() - stopped < 3 * SECOND, "its host says so");
    world.start_egress();
    let started = world.micros();
    let is_up = world.run_until(started + 11 * SECOND, |world| world.initiators[0].is_open());
    assert!(is_up, "not within 11 s");
    // Another process at once, of which nobody says anything.
    let now = world.now();
    let place = world.initiators[0].open(u64::MAX, now);
    world.run(SECOND);
    world.start_egress();
    let started = world.micros();
    let is_up = world.run_until(started + 30 * SECOND, |world| {
        world.initiators[0].sides[place].over.is_some() && world.initiators[0].is_open()
    });
    assert!(is_up, "not within 30 s");
    // And the other end, of which one is left behind until it is dead.
    world.restart_initiator(0);
    world.connect();
    let now = world.now();
    let place = world.initiators[0].open(1_000_000, now);
    world.run(20 * SECOND);
    assert_eq!(world.initiators[0].sides[place].over, Some(Over::InOrder));
    let egress = world.egress.as_ref().expect("it is there");
    let open = egress.sides.iter().filter(|side| side.over.is_none()).count();
    assert_eq!(open, 0, "channels of the one that is gone");
}

#[test]
fn a_path_becomes_narrower_under_way() {
    for (seed, algorithm) in (1..=3).zip(Algorithm::ALL) {
        let mut world = World::new(&setup(usual(), algorithm, seed));
        stream(&mut world);
        for longest in [1472, 1252, 572] {
            for road in &mut world.net.borrow_mut().roads {
                road.weather.longest = longest;
            }
            let stall = longest_stall(&mut world, 8 * SECOND);
            let before = received(&world);
            world.run(2 * SECOND);
            let rate = (received(&world) - before) / 2000;
            println!(
                "{}, {longest} bytes: {rate} kB/s, nothing for {} ms",
                algorithm.name(),
                stall / 1000
            );
            assert!(stall <= 3 * SECOND, "{}: {stall} us", algorithm.name());
            assert!(rate >= 1000, "{}: {rate} kB/s", algorithm.name());
        }
    }
}

#[test]
fn a_port_that_is_rewritten_under_way_costs_little() {
    for seed in 1..=5 {
        let mut world = World::new(&setup(usual(), Algorithm::Bbr, seed));
        stream(&mut world);
        for _ in 0..5 {
            world.net.borrow_mut().rebind(0);
            let stall = longest_stall(&mut world, 2 * SECOND);
            assert!(stall <= SECOND, "seed {seed}: {stall} us");
        }
        assert!(world.initiators[0].notices.len() == 1, "the link stayed up");
    }
}

/// A round trip of 64 bytes over a link that has nothing else to do: all of them, sorted, in
/// microseconds.
fn pings(lost: u16, seed: u64, count: usize) -> Vec<u64> {
    let weather = Weather { lost, ..Weather::calm(10_000) };
    let mut world = World::<1>::new(&setup(weather, Algorithm::Bbr, seed));
    world.egress.as_mut().expect("it is there").echoes = true;
    world.connect();
    let now = world.now();
    let place = world.initiators[0].open(0, now);
    world.initiators[0].sides[place].ends = false;
    world.run(6 * SECOND);
    let mut times = Vec::new();
    for number in 1..=count as u64 {
        let (now, begun) = (world.now(), world.micros());
        world.initiators[0].send(place, 64, now);
        let answered = world.run_until(begun + 5 * SECOND, |world| {
            world.initiators[0].sides[place].received == 64 * number
        });
        assert!(answered, "no answer for 5 s");
        times.push(world.micros() - begun);
        world.run(50_000 + number * 7919 % 50_000);
    }
    times.sort_unstable();
    times
}

#[test]
fn a_lone_message_that_is_lost_comes_a_little_later() {
    for seed in 1..=3 {
        let times = pings(PERCENT, seed, 2000);
        let (p50, p99, most) = (times[1000], times[1980], times[1999]);
        println!("1 % lost, 20 ms: p50 {p50} us, p99 {p99} us, most {most} us");
        assert!(p99 <= 25_000, "{p99} us");
    }
}

#[test]
fn who_finds_every_link_taken_is_told_so() {
    let algorithms = vec![Algorithm::Bbr; 2];
    let mut world =
        World::<1>::new(&Setup { weather: paths(usual()), algorithms, seed: 1, is_sealed: true });
    world.run(5 * SECOND);
    let up = |world: &World<1>, place: usize| world.initiators[place].is_open();
    let (inside, outside) = if up(&world, 0) { (0, 1) } else { (1, 0) };
    let told = world.initiators[outside].notices.iter().all(|(_, notice)| {
        matches!(notice, Notice::LinkDown { reason: FailReason::TableFull, .. })
    });
    assert!(told && !world.initiators[outside].notices.is_empty());
    // The one that is inside does not mind.
    let now = world.now();
    let place = world.initiators[inside].open(1_000_000, now);
    world.run(5 * SECOND);
    assert_eq!(world.initiators[inside].sides[place].over, Some(Over::InOrder));
    // Once it is gone there is room.
    world.restart_initiator(inside);
    let until = world.micros() + 30 * SECOND;
    assert!(world.run_until(until, |world| up(world, outside) || up(world, inside)));
}
