//! What each controller reaches on modelled paths: utilisation, fairness, queues, and what it does
//! when the path changes. The figures are printed (`--nocapture`); waits are in tenths of milliseconds.

use super::super::*;
use super::network::{Link, Network, Source, mbit};
use std::println;
use std::string::String;
use std::vec::Vec;

use Algorithm::{Bbr, Cubic, NewReno};

/// 100 Mbit/s and 50 ms, with a queue of one filling.
const USUAL: Link = Link::new(mbit(100), 50, 100);

/// Percent of the link that all flows together get in so many milliseconds.
fn filled(network: &mut Network, millis: u64) -> u64 {
    network.reset();
    network.run(millis);
    let got: u64 = (0..network.flows.len()).map(|index| network.take(index)).sum();
    got * 1_000 * 100 / (network.link.rate * millis)
}

/// Percent of the link that one flow gets in so many milliseconds, after so many.
fn alone(algorithm: Algorithm, link: Link, warm: u64, millis: u64, seed: u64) -> (u64, Network) {
    let mut network = Network::new(link, seed);
    network.add(algorithm, Source::Bulk, 0);
    network.run(warm);
    let percent = filled(&mut network, millis);
    let flow = &network.flows[0];
    let filling = (link.rate * link.one_way_micros * 2 / 1_000_000).max(1);
    println!(
        "{}: {} Mbit/s {} ms, queue {} %, loss {} ppm, jitter {} us: filled {percent} %, wait p50 {} p99 {}, \
         flight at most {} %, lost {} of {}",
        algorithm.name(),
        link.rate / 125_000,
        link.one_way_micros / 500,
        link.queue_bytes * 100 / filling,
        link.loss_ppm,
        link.jitter_micros,
        network.wait(50),
        network.wait(99),
        flow.flight_max * 100 / filling,
        flow.lost_packets,
        flow.sent_packets,
    );
    (percent, network)
}

#[test]
fn a_clean_path_is_filled() {
    for algorithm in Algorithm::ALL {
        let (percent, _) = alone(algorithm, USUAL, 3_000, 20_000, 1);
        assert!(percent >= 95, "{}: {percent} %", algorithm.name());
    }
    let (percent, network) = alone(Bbr, USUAL, 0, 20_000, 1);
    assert!(percent >= 90, "with its start: {percent} %");
    let flow = &network.flows[0];
    assert!(flow.lost_packets * 100 <= flow.sent_packets, "Startup lost {}", flow.lost_packets);
}

#[test]
fn bbr_keeps_queues_short_however_deep_they_could_be() {
    for queue in [50, 100, 200, 400] {
        let (percent, network) = alone(Bbr, Link::new(mbit(100), 50, queue), 3_000, 20_000, 1);
        assert!(percent >= 95, "{percent} %");
        assert!(network.wait(50) <= 20, "{}", network.wait(50));
        assert!(network.wait(99) <= 250, "{}", network.wait(99));
        assert!(network.flows[0].lost_packets == 0);
        alone(Cubic, Link::new(mbit(100), 50, queue), 3_000, 20_000, 1);
    }
    for (rate, rtt) in [(1, 50), (10, 100), (1_000, 1), (100, 300)] {
        let (percent, _) = alone(Bbr, Link::new(mbit(rate), rtt, 100), 10_000, 10_000, 1);
        assert!(percent >= 95, "{percent} %");
    }
}

#[test]
fn shallow_queues_cost_bbr_little() {
    for queue in [10, 25] {
        let (percent, network) = alone(Bbr, Link::new(mbit(100), 50, queue), 3_000, 20_000, 1);
        let flow = &network.flows[0];
        assert!(percent >= 95, "{percent} %");
        assert!(
            flow.lost_packets * 100 <= flow.sent_packets,
            "lost {} of {}",
            flow.lost_packets,
            flow.sent_packets
        );
        let (percent, _) = alone(Cubic, Link::new(mbit(100), 50, queue), 3_000, 20_000, 1);
        assert!(percent >= 85, "{percent} %");
    }
}

#[test]
fn a_percent_of_loss_does_not_slow_bbr() {
    for seed in 1..=6 {
        let link = Link { loss_ppm: 10_000, ..USUAL };
        let (percent, _) = alone(Bbr, link, 0, 20_000, seed);
        assert!(percent >= 90, "{percent} %");
        let link = Link { loss_ppm: 10_000, ..Link::new(mbit(400), 20, 100) };
        let (percent, _) = alone(Bbr, link, 0, 5_000, seed);
        assert!(percent >= 90, "{percent} %");
    }
    for algorithm in [NewReno, Cubic] {
        alone(algorithm, Link { loss_ppm: 10_000, ..USUAL }, 3_000, 20_000, 1);
    }
}

#[test]
fn more_loss_is_learnt_to_be_the_paths_own() {
    for (loss, least) in [(20_000, 85), (30_000, 80), (50_000, 75), (100_000, 60)] {
        for (rate, rtt) in [(100, 50), (400, 20), (10, 20)] {
            let link = Link { loss_ppm: loss, ..Link::new(mbit(rate), rtt, 100) };
            let (percent, _) = alone(Bbr, link, 0, 10_000, 1);
            assert!(percent >= least, "{percent} %");
        }
    }
}

#[test]
fn jitter_does_not_starve_bbr() {
    for (jitter, least) in [(2_000, 90), (10_000, 85), (20_000, 75)] {
        for loss in [0, 10_000] {
            let link =
                Link { jitter_micros: jitter, loss_ppm: loss, ..Link::new(mbit(100), 30, 100) };
            let (percent, _) = alone(Bbr, link, 3_000, 20_000, 1);
            assert!(percent >= least, "{percent} %");
        }
    }
}

/// Percent that the first of two gets of what both do in a minute, the second some seconds later.
fn share(first: Algorithm, second: Algorithm, link: Link, after: u64, seed: u64) -> u64 {
    let mut network = Network::new(link, seed);
    network.add(first, Source::Bulk, 0);
    network.add(second, Source::Bulk, after * 1_000);
    network.run(after * 1_000);
    network.reset();
    let mut shares = Vec::new();
    let mut all = [0; 2];
    for _ in 0..6 {
        network.run(10_000);
        let got = [network.take(0), network.take(1)];
        all = [all[0] + got[0], all[1] + got[1]];
        shares.push(got[0] * 100 / (got[0] + got[1]));
    }
    let percent = all[0] * 100 / (all[0] + all[1]);
    println!(
        "{} and {after} s later {}, {} Mbit/s {} ms, {} ppm: {percent} % ({shares:?}), filled {} %, wait p50 {} p99 {}",
        first.name(),
        second.name(),
        link.rate / 125_000,
        link.one_way_micros / 500,
        link.loss_ppm,
        (all[0] + all[1]) * 100 / (60 * link.rate),
        network.wait(50),
        network.wait(99),
    );
    percent
}

#[test]
fn two_of_a_kind_share() {
    for algorithm in Algorithm::ALL {
        for (after, seed) in [(0, 1), (1, 2), (3, 3), (5, 4), (10, 5)] {
            let percent = share(algorithm, algorithm, USUAL, after, seed);
            // CUBIC and Reno take longer to make up for a late start.
            let decided = algorithm == Bbr || after <= 3;
            assert!(!decided || (35..=65).contains(&percent), "{}: {percent} %", algorithm.name());
        }
    }
    for (rate, rtt) in [(10, 20), (20, 50), (100, 10), (100, 100), (5, 100)] {
        for (after, loss) in [(1, 0), (5, 0), (1, 3_000)] {
            let link = Link { loss_ppm: loss, ..Link::new(mbit(rate), rtt, 100) };
            let percent = share(Bbr, Bbr, link, after, 6);
            assert!((35..=65).contains(&percent), "{percent} %");
        }
    }
}

/// On queues of one filling. Of shallow ones CUBIC gets less, which is printed.
#[test]
fn bbr_and_cubic_leave_each_other_room() {
    for (rate, rtt) in [(100, 50), (20, 50), (100, 10)] {
        for after in [0, 5] {
            let link = Link::new(mbit(rate), rtt, 100);
            for (first, second) in [(Bbr, Cubic), (Cubic, Bbr), (Bbr, NewReno)] {
                let percent = share(first, second, link, after, 1);
                assert!((20..=80).contains(&percent), "{percent} %");
            }
        }
    }
    for queue in [10, 25, 50, 200, 400] {
        println!("a queue of {queue} %");
        share(Bbr, Cubic, Link::new(mbit(100), 50, queue), 5, 1);
    }
}

#[test]
fn three_share() {
    for (algorithm, least) in [(Bbr, 90), (Cubic, 80)] {
        let mut network = Network::new(USUAL, 1);
        for index in 0..3 {
            network.add(algorithm, Source::Bulk, index * 2_000);
        }
        network.run(14_000);
        network.reset();
        network.run(60_000);
        let got: Vec<u64> =
            (0..3).map(|index| network.take(index) * 100 / (60 * USUAL.rate)).collect();
        let sum: u64 = got.iter().sum();
        let jain = sum * sum * 100 / (3 * got.iter().map(|one| one * one).sum::<u64>());
        let (p50, p99) = (network.wait(50), network.wait(99));
        println!("three {}: {got:?} %, Jain 0.{jain}, wait p50 {p50} p99 {p99}", algorithm.name());
        assert!(jain >= least && sum >= 90, "{got:?}");
    }
}

#[test]
fn a_stall_is_overcome() {
    for algorithm in Algorithm::ALL {
        for stall in [500, 2_000] {
            let mut network = Network::new(USUAL, 1);
            network.add(algorithm, Source::Bulk, 0);
            network.run(10_000);
            network.is_stalled = true;
            network.run(stall);
            network.is_stalled = false;
            let line: Vec<_> = (0..8).map(|_| filled(&mut network, 250)).collect();
            println!(
                "{} after {stall} ms of nothing, by quarters of a second: {line:?} %",
                algorithm.name()
            );
            assert!(line[0] >= 30 && line[1..].iter().all(|percent| *percent >= 75), "{line:?}");
            assert!(algorithm != Bbr || line[4..].iter().all(|percent| *percent >= 95), "{line:?}");
        }
    }
}

/// 100 Mbit/s, then 10, then 100.
#[test]
fn a_rate_that_changes_is_followed_within_three_seconds() {
    for algorithm in Algorithm::ALL {
        let mut worst = (0, 0);
        for seed in 1..=5 {
            let mut network = Network::new(USUAL, seed);
            network.add(algorithm, Source::Bulk, 0);
            // Wherever in its cycle it is.
            network.run(10_000 + seed * 530);
            network.link.rate = mbit(10);
            let down: Vec<_> = (0..8)
                .map(|_| {
                    let percent = filled(&mut network, 500);
                    assert!(percent >= 85, "{} {percent} %", algorithm.name());
                    network.wait(50)
                })
                .collect();
            network.run(4_000 + seed * 310);
            network.link.rate = mbit(100);
            let up: Vec<_> = (0..8).map(|_| filled(&mut network, 500)).collect();
            if seed == 1 {
                println!(
                    "{}: waits at 10 {down:?}, filled at 100 again {up:?} %",
                    algorithm.name()
                );
            }
            worst = (worst.0.max(down[6].max(down[7])), worst.1.max(100 - up[6].min(100)));
        }
        println!(
            "{}: after 3 s wait {} at 10, {} % missing at 100",
            algorithm.name(),
            worst.0,
            worst.1
        );
        if algorithm == Bbr {
            assert!(worst.0 <= 1_500, "still {} of a queue", worst.0);
            assert!(worst.1 <= 15, "{} % missing", worst.1);
        }
    }
}

#[test]
fn a_minute_of_small_talk_does_not_slow_what_follows() {
    for algorithm in Algorithm::ALL {
        let mut network = Network::new(USUAL, 1);
        let talk = Source::Every { bytes: 100, micros: 50_000 };
        network.add(algorithm, talk, 0);
        for known in [false, true] {
            network.flows[0].source = talk;
            network.run(60_000);
            network.flows[0].source = Source::Bulk;
            let line: Vec<_> = (0..8).map(|_| filled(&mut network, 250)).collect();
            println!("{} after small talk, known {known}: {line:?} %", algorithm.name());
            assert!(line[3..].iter().all(|percent| *percent >= 90), "{line:?}");
            assert!(!known || line[0] >= 70, "the path was known: {line:?}");
        }
    }
}

/// Two threads of one machine: nothing limits but how fast they are, acknowledgements come for
/// batches, and the receiver has to wait for its turn.
#[test]
fn loopback_does_not_choke() {
    for algorithm in Algorithm::ALL {
        let mut line = String::new();
        for (every, pause) in [(1, 0), (4_000, 1_000), (20_000, 5_000)] {
            let link = Link {
                rate: 1_500_000_000,
                queue_bytes: 4_000_000,
                one_way_micros: 50,
                tick_micros: 10,
                ack_packets: 45,
                ack_micros: 50,
                pause_every_micros: every,
                pause_micros: pause,
                ..USUAL
            };
            let (percent, _) = alone(algorithm, link, 0, 1_000, 1);
            assert!(percent >= 75, "{percent} % {pause}");
            line += &std::format!(" {percent} % pausing {pause} of {every} us,");
        }
        println!("{} on loopback:{line}", algorithm.name());
    }
}

/// What goes at once is what a queue must hold: pacing is for paths that have almost none.
#[test]
fn pacing_is_worth_its_while() {
    let link = Link::new(mbit(100), 50, 5);
    let lost = [true, false].map(|is_paced| {
        let mut network = Network::new(link, 1);
        network.add(Cubic, Source::Bulk, 0);
        network.flows[0].is_paced = is_paced;
        let percent = filled(&mut network, 10_000);
        println!("paced {is_paced}: {percent} %, lost {}", network.flows[0].lost_packets);
        percent
    });
    assert!(lost[0] > lost[1] + 10, "{lost:?}");
}
