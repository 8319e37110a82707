//! BBR's phases and judgements, one at a time.

use super::super::tests::network::{DATAGRAM, Link, Network, Source, mbit};
use super::super::{Algorithm, Kind};
use super::*;
use std::vec::Vec;

const SIZE: u64 = DATAGRAM as u64;

fn bbr(network: &Network) -> &Bbr {
    match &network.flows[0].congestion.0 {
        Kind::Bbr(bbr) => bbr,
        _ => panic!("it is the first"),
    }
}

fn bulk(link: Link) -> Network {
    let mut network = Network::new(link, 1);
    network.add(Algorithm::Bbr, Source::Bulk, 0);
    network
}

/// The phases of so many milliseconds, each with how long it lasted.
fn phases(network: &mut Network, millis: u64) -> Vec<(Phase, u64)> {
    let mut phases: Vec<(Phase, u64)> = Vec::new();
    for _ in 0..millis {
        network.run(1);
        let phase = bbr(network).phase;
        match phases.last_mut() {
            Some((last, lasted)) if *last == phase => *lasted += 1,
            _ => phases.push((phase, 1)),
        }
    }
    phases
}

#[test]
fn a_path_is_learnt_and_then_probed_in_cycles() {
    let mut network = bulk(Link::new(mbit(100), 50, 100));
    let seen = phases(&mut network, 10_000);
    // The queue of a probe may be gone within a round trip, so Down is not always seen.
    let names: Vec<_> =
        seen.iter().map(|(phase, _)| *phase).filter(|one| *one != Phase::Down).collect();
    assert_eq!(names[..3], [Phase::Startup, Phase::Drain, Phase::Cruise]);
    for cycle in names[3..].chunks_exact(3) {
        assert_eq!(cycle, [Phase::Refill, Phase::Up, Phase::Cruise]);
    }
    assert!(names.len() >= 3 + 3 * 3, "{seen:?}");
    let waits = seen.iter().filter(|(phase, _)| *phase == Phase::Cruise);
    assert!(waits.clone().all(|(_, lasted)| *lasted <= 2_000), "{seen:?}");
    let path = &bbr(&network).path;
    let rate = path.rate_max() / 125_000;
    assert!((97..=103).contains(&rate), "{rate} Mbit/s");
    assert!((50_000..51_000).contains(&path.rtt_min()), "{}", path.rtt_min());
}

#[test]
fn no_more_than_two_fillings_and_the_bunches_are_under_way() {
    for (rate, rtt) in [(100, 50), (400, 20), (10, 100)] {
        let mut network = bulk(Link::new(mbit(rate), rtt, 400));
        network.run(3_000);
        for _ in 0..5_000 {
            network.run(1);
            let bbr = bbr(&network);
            let most = bbr.path.filled_at(bbr.path.rate_max()) * 2 + bbr.path.bunch();
            assert!(bbr.window <= most, "{} of {most} in {:?}", bbr.window, bbr.phase);
            assert!(network.flows[0].in_flight <= most.max(bbr.window) + SIZE);
        }
    }
}

/// Something else keeps a queue, so the smallest round trip is not seen again by chance.
#[test]
fn the_smallest_round_trip_is_looked_for_while_others_keep_a_queue() {
    let mut network = bulk(Link::new(mbit(100), 50, 100));
    network.add(Algorithm::Cubic, Source::Bulk, 0);
    let seen = phases(&mut network, 30_000);
    let probes: Vec<_> = seen.iter().filter(|(phase, _)| *phase == Phase::ProbeRtt).collect();
    assert!((2..=6).contains(&probes.len()), "{probes:?}");
    assert!(probes.iter().all(|(_, lasted)| (200..=500).contains(lasted)), "{probes:?}");
    assert!(bbr(&network).path.rtt_min() < 60_000, "{}", bbr(&network).path.rtt_min());
}

#[test]
fn a_probe_for_the_round_trip_leaves_half_a_filling() {
    let mut network = bulk(Link { jitter_micros: 4_000, ..Link::new(mbit(100), 50, 100) });
    let mut least = u64::MAX;
    for _ in 0..15_000 {
        network.run(1);
        let bbr = bbr(&network);
        if bbr.phase == Phase::ProbeRtt {
            least = least.min(network.flows[0].in_flight);
            assert!(bbr.window <= bbr.path.filled_at(bbr.path.rate_max()) * 6 / 10);
        }
    }
    let filling = mbit(100) / 20;
    assert!(least <= filling * 6 / 10, "{least} of {filling}");
    assert!(least >= filling * 3 / 10, "{least} of {filling}");
}

#[test]
fn a_longer_way_is_believed_after_ten_seconds() {
    let mut network = bulk(Link::new(mbit(100), 20, 200));
    network.run(5_000);
    network.link.one_way_micros = 50_000;
    network.run(20_000);
    let rtt = bbr(&network).path.rtt_min();
    assert!((100_000..105_000).contains(&rtt), "{rtt}");
}

#[test]
fn a_short_way_has_a_window_for_threads_that_wait() {
    let mut network =
        bulk(Link { one_way_micros: 25, tick_micros: 25, ..Link::new(mbit(100), 1, 900) });
    network.run(1_000);
    assert!(bbr(&network).window >= SHORT_WINDOW_BYTES);
}

#[test]
fn loss_is_judged_by_how_likely_it_is() {
    // (lost, of all, usual of 10 000, too much)
    let cases = [
        (1, 1, 100, false),
        (1, 30, 100, false),
        (2, 30, 100, false),
        (3, 30, 100, true),
        (6, 100, 100, true),
        (5, 100, 100, false),
        // 1 % of 1 000 is 10, three deviations 9.5.
        (20, 1_000, 100, false),
        (21, 1_000, 100, true),
        (200, 10_000, 100, false),
        (201, 10_000, 100, true),
        // A path that loses 5 % by itself.
        (600, 10_000, 500, false),
        (601, 10_000, 500, true),
        (0, 0, 100, false),
    ];
    for (lost, all, usual, too_much) in cases {
        let judged = excessive(lost * SIZE, all * SIZE, SIZE, usual);
        assert_eq!(judged, too_much, "{lost} of {all}, {usual} usual");
    }
}

/// Of a path that loses 1 % by itself, rounds of any size are rarely taken for an end of the path.
#[test]
fn chance_is_rarely_taken_for_congestion() {
    let mut seed = 7u64;
    for packets in [10u64, 30, 100, 500, 2_000] {
        let mut wrong = 0;
        for _ in 0..2_000 {
            let lost = (0..packets).filter(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 20).is_multiple_of(100)
            });
            wrong += u32::from(excessive(lost.count() as u64 * SIZE, packets * SIZE, SIZE, 100));
        }
        assert!(wrong <= 20, "{wrong} of 2000 rounds of {packets}");
    }
}

#[test]
fn what_a_path_loses_by_itself_is_learnt_and_forgotten() {
    let mut network = bulk(Link { loss_ppm: 50_000, ..Link::new(mbit(100), 50, 100) });
    network.run(10_000);
    let usual = bbr(&network).path.usual();
    assert!((400..=600).contains(&usual), "{usual}");
    network.link.loss_ppm = 0;
    network.run(30_000);
    let usual = bbr(&network).path.usual();
    assert!(usual <= 200, "{usual}");
}

#[test]
fn marks_end_startup_and_lower_the_rate_until_the_next_probe() {
    let mut network = bulk(Link::new(mbit(100), 50, 100));
    network.run(400);
    assert_eq!(bbr(&network).phase, Phase::Startup);
    let now = Micros(network.now);
    network.flows[0].congestion.on_ce(now, now);
    network.run(60);
    assert_ne!(bbr(&network).phase, Phase::Startup);

    let mut network = bulk(Link::new(mbit(100), 50, 100));
    network.run(3_000);
    while bbr(&network).phase != Phase::Cruise || bbr(&network).probe_rounds < 5 {
        network.run(1);
    }
    let before = bbr(&network).window;
    let now = Micros(network.now);
    network.flows[0].congestion.on_ce(now, now);
    network.run(120);
    assert!(bbr(&network).path.is_lowered());
    assert!(bbr(&network).window < before);
    network.run(2_200);
    assert!(!bbr(&network).path.is_lowered());
}

#[test]
fn a_path_that_was_gone_is_found_out_anew() {
    let mut network = bulk(Link::new(mbit(100), 50, 100));
    network.run(5_000);
    let lost = Lost { bytes: SIZE, largest_lost_sent_at: Micros(network.now), persistent: true };
    network.flows[0].congestion.on_lost(Micros(network.now), &lost);
    assert_eq!(network.flows[0].congestion.window_bytes(), 2 * SIZE);
    network.run(1_000);
    assert!(network.flows[0].congestion.window_bytes() > mbit(100) / 20);
}

#[test]
fn a_probe_that_was_too_much_leaves_seven_tenths_of_a_filling_at_least() {
    let mut network = bulk(Link::new(mbit(100), 50, 100));
    network.run(3_000);
    let mut bbr = bbr(&network).clone();
    let filling = bbr.path.filled_at(bbr.path.rate_max());
    for (flight, left) in [(0, filling * 7 / 10), (filling * 2, filling * 2)] {
        bbr.enter_up();
        let sample = Sample { flight, ..Sample::default() };
        bbr.end_probe_too_high(Micros(network.now), &sample);
        assert_eq!(bbr.phase, Phase::Down);
        assert!(bbr.path.flight_high.abs_diff(left) <= 1, "{} of {filling}", bbr.path.flight_high);
    }
}

/// A receiver that answers each 20 ms, on a path of 10.
#[test]
fn bunched_acknowledgements_widen_the_window() {
    let link = Link { ack_packets: 1_000, ack_micros: 20_000, ..Link::new(mbit(100), 10, 400) };
    let mut network = bulk(link);
    network.run(3_000);
    network.reset();
    network.run(5_000);
    let percent = network.take(0) * 100 / (mbit(100) * 5);
    let bunch = bbr(&network).path.bunch();
    let in_a_bunch = mbit(100) / 50;
    assert!((in_a_bunch / 2..in_a_bunch * 2).contains(&bunch), "{bunch} of {in_a_bunch}");
    assert!(percent >= 95, "{percent} %");
}
