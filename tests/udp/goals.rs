//! What links must reach on paths whose bottleneck is known: how full it is, how fair, how long its
//! queue. Through the whole carrier, paced by timers of a millisecond. The figures are printed.

use crate::net::{Net, Weather};
use crate::world::{Setup, World};
use seaprox_udp::congestion::Algorithm;
use std::cell::RefCell;

use Algorithm::{Bbr, Cubic, NewReno};

/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const ROUND_TRIP_MICROS: u64 = 50_000;

/// Chances are of 65,536.
const PERCENT: u16 = 655;

/// A bottleneck with a queue of what fills it, on the way there.
fn paths(lost: u16) -> [Weather; 2] {
    let delay = ROUND_TRIP_MICROS / 2;
    let queue_bytes = RATE * ROUND_TRIP_MICROS / 1_000_000;
    let there = Weather { rate: RATE, queue_bytes, lost, ..Weather::calm(delay) };
    [there, Weather { lost, ..Weather::calm(delay) }]
}

/// How long datagrams waited at the bottleneck, in tenths of milliseconds: the median and the 99th.
fn waits(net: &RefCell<Net>) -> (u32, u32) {
    let waits = &mut net.borrow_mut().roads[0].waits;
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).map_or(0, |wait| wait / 100);
    (at(50), at(99))
}

/// Bytes of each link's channel, the one that was opened first before the other.
fn received<const LINKS: usize>(world: &World<LINKS>) -> [u64; LINKS] {
    let egress = world.egress.as_ref().expect("it is there");
    std::array::from_fn(|number| egress.sides.get(number).map_or(0, |side| side.received))
}

/// Percent of the bottleneck that the bytes of one channel take, in so long after so long.
fn alone(algorithm: Algorithm, lost: u16, warm: u64, micros: u64, seed: u64) -> u64 {
    let setup = Setup { weather: paths(lost), algorithms: vec![algorithm], seed, is_sealed: true };
    let mut world = World::<1>::new(&setup);
    world.connect();
    let now = world.now();
    world.initiators[0].open(u64::MAX, now);
    world.run(warm);
    world.net.borrow_mut().roads[0].waits.clear();
    let before = received(&world).iter().sum::<u64>();
    world.run(micros);
    let bytes = received(&world).iter().sum::<u64>() - before;
    let percent = bytes * 100 * 1_000_000 / (RATE * micros);
    let (p50, p99) = waits(world.net);
    println!(
        "{}, {lost}/65536 lost, after {} ms: {percent} % of 100 Mbit/s with 50 ms, \
         waits {p50} and {p99} tenths of ms, {} found the queue full",
        algorithm.name(),
        warm / 1000,
        world.net.borrow().roads[0].dropped,
    );
    percent
}

#[test]
fn a_clean_path_is_filled() {
    for algorithm in Algorithm::ALL {
        let percent = alone(algorithm, 0, 2_000_000, 10_000_000, 1);
        assert!(percent >= 90, "{}: {percent} %", algorithm.name());
    }
    let percent = alone(Bbr, 0, 0, 10_000_000, 2);
    assert!(percent >= 85, "{percent} % with its start");
}

#[test]
fn a_percent_of_loss_costs_bbr_little() {
    for seed in 1..=3 {
        let percent = alone(Bbr, PERCENT, 1_000_000, 10_000_000, seed);
        assert!(percent >= 80, "{percent} %");
    }
}

/// By the formula it leaves them 3 % (RFC 5348 section 3.1).
#[test]
fn a_percent_of_loss_leaves_the_others_something() {
    for algorithm in [Cubic, NewReno] {
        for seed in 1..=3 {
            let percent = alone(algorithm, PERCENT, 1_000_000, 30_000_000, seed);
            assert!((1..=20).contains(&percent), "{}: {percent} %", algorithm.name());
        }
    }
}

/// Percent that the first of two links gets of what both do in the minute after the second began.
fn share(algorithms: [Algorithm; 2], later: u64, seed: u64) -> u64 {
    let setup = Setup { weather: paths(0), algorithms: algorithms.to_vec(), seed, is_sealed: true };
    let mut world = World::<2>::new(&setup);
    world.connect();
    let now = world.now();
    world.initiators[0].open(u64::MAX, now);
    world.run(later);
    let now = world.now();
    world.initiators[1].open(u64::MAX, now);
    world.net.borrow_mut().roads[0].waits.clear();
    let of_two = |bytes: [u64; 2]| bytes[0] * 100 / (bytes[0] + bytes[1]);
    let before = received(&world);
    let since = |now: [u64; 2], then: [u64; 2]| [now[0] - then[0], now[1] - then[1]];
    let (mut last, mut each) = (before, Vec::new());
    for _ in 0..6 {
        world.run(10_000_000);
        let now = received(&world);
        each.push(of_two(since(now, last)));
        last = now;
    }
    let bytes = since(last, before);
    let percent = of_two(bytes);
    let (p50, p99) = waits(world.net);
    println!(
        "{} and {} ms later {}: {percent} % for the first ({each:?} each 10 s), {} % of the path, \
         waits {p50} and {p99} tenths of ms",
        algorithms[0].name(),
        later / 1000,
        algorithms[1].name(),
        (bytes[0] + bytes[1]) * 100 / (RATE * 60),
    );
    percent
}

#[test]
fn two_links_of_a_kind_share() {
    for algorithm in Algorithm::ALL {
        for seed in 1..=2 {
            let percent = share([algorithm; 2], 1_000_000, seed);
            assert!((35..=65).contains(&percent), "{}: {percent} %", algorithm.name());
        }
    }
}

#[test]
fn bbr_and_cubic_live_side_by_side() {
    for algorithms in [[Bbr, Cubic], [Cubic, Bbr]] {
        let percent = share(algorithms, 3_000_000, 1);
        assert!((20..=80).contains(&percent), "{algorithms:?}: {percent} %");
    }
}
