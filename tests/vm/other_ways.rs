//! Links in other ways than one thread over IPv4: IPv6, several threads, udp, and ends that are told to
//! end while much is under way.

use super::*;
use seaprox_tests::process::Signal;
use std::thread::{Scope, ScopedJoinHandle};

/// The same paths.
const ONE_PATH_IPV6: &str = "sctp:[fd00:1::2]:7000";
const BOTH_FAMILIES: &str = "sctp:10.1.0.2:7000,[fd00:2::2]";

/// Path 1 goes dark with so many clients in the middle of something.
fn assert_path_2_takes_over(clients: u64) {
    // The second path is used only once a heartbeat on it was answered.
    thread::sleep(Duration::from_millis(1_500));
    // All of a small machine is busy, so nobody knows how long the change takes: clients come until
    // it is made, and then once more.
    let is_dark = AtomicBool::new(false);
    thread::scope(|scope| {
        let bulk = scope.spawn(|| {
            for wave in 0.. {
                let last = is_dark.load(Ordering::Relaxed);
                talk_all(clients, wave * clients, 400 * KIB);
                if last {
                    break;
                }
            }
        });
        Network::change(&["blackhole", "1"]);
        let before = packets("2");
        is_dark.store(true, Ordering::Relaxed);
        bulk.join().expect("it goes on");
        assert!(packets("2") - before > 100, "path 2 did not take over");
    });
}

#[test]
fn two_hundred_channels_over_ipv6() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, ONE_PATH_IPV6, &[]);
    serve_on(backend, exchange);
    talk_all(200, 1, 20 * KIB);
    way.assert_held();
    way.assert_empty();
}

/// One path is IPv4's, the other IPv6's.
#[test]
fn ipv6_takes_over_from_ipv4() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, BOTH_FAMILIES, &[]);
    serve_on(backend, exchange);
    assert_path_2_takes_over(4);
    way.assert_held();
    way.assert_empty();
}

/// A link for each thread, all of them over both paths, and all of them leave one.
#[test]
fn four_threads_leave_a_dark_path() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::of_threads(network, &backend, TWO_PATHS, 4);
    serve_on(backend, exchange);
    assert_path_2_takes_over(12);
    talk_all(40, 10_000, 20 * KIB);
    way.assert_held();
    way.assert_empty();
}

/// What the kernel itself does to packets, beside the relay of the other tests.
#[test]
fn udp_loses_and_reorders_and_changes_no_byte() {
    let Some(network) = Network::new() else { return };
    let worse = ["delay", "20ms", "5ms", "loss", "1%", "reorder", "25%", "duplicate", "1%"];
    Network::change(&[&["netem", "1"][..], &worse].concat());
    let backend = backend();
    let way = Way::new(network, &backend, "udp:10.1.0.2:7000", &[]);
    serve_on(backend, exchange);
    talk_all(20, 1, 60 * KIB);
    talk_all(2, 100, 1_000 * KIB);
    way.assert_held();
    way.assert_empty();
}

const CLIENTS_UNDER_WAY: usize = 8;

/// Clients with much to say and to hear, each known to be at both ends.
fn under_way<'s>(scope: &'s Scope<'s, '_>, way: &Way) -> Vec<ScopedJoinHandle<'s, ()>> {
    let clients: Vec<_> = (0..CLIENTS_UNDER_WAY).map(|_| client()).collect();
    let talks = clients
        .into_iter()
        .zip(1..)
        .map(|(client, seed)| scope.spawn(move || talk(client, seed, 800 * KIB)))
        .collect();
    way.egress.wait_connections(CLIENTS_UNDER_WAY);
    talks
}

/// In order, and of its own accord.
#[track_caller]
fn assert_drained(ended: &mut Running) {
    let mut status = None;
    eventually("it ends", || {
        status = ended.child.try_wait().expect("it is ours");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", ended.log());
    assert_eq!(ended.says("reason=reset"), 0, "{}", ended.log());
}

#[test]
fn an_egress_that_drains_under_load_loses_nothing() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let mut way = Way::new(network, &backend, TWO_PATHS, &[]);
    serve_on(backend, exchange);
    thread::scope(|scope| {
        let talks = under_way(scope, &way);
        way.egress.process.signal(Signal::SIGTERM);
        way.egress.wait_says("event=draining");
        assert!(talks.iter().any(|talk| !talk.is_finished()), "nothing is under way");
    });
    assert_drained(&mut way.egress);
    way.ingress.wait_says("reason=shutdown");
    way.ingress.wait_connections(0);
    // Who comes meanwhile waits for the next one.
    let waiting = client();
    way.egress = egress(way.link, &way.target);
    talk(waiting, 50, 10 * KIB);
    talk_all(8, 60, 40 * KIB);
    assert_eq!(way.ingress.says("reason=reset"), 0, "{}", way.ingress.log());
    way.assert_empty();
}

#[test]
fn an_ingress_that_drains_under_load_loses_nothing() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let mut way = Way::new(network, &backend, TWO_PATHS, &[]);
    serve_on(backend, exchange);
    thread::scope(|scope| {
        let talks = under_way(scope, &way);
        way.ingress.process.signal(Signal::SIGTERM);
        way.ingress.wait_says("event=draining");
        assert!(talks.iter().any(|talk| !talk.is_finished()), "nothing is under way");
    });
    assert_drained(&mut way.ingress);
    way.egress.wait_says("event=\"link down\"");
    way.egress.wait_connections(0);
    assert_eq!(way.egress.says("reason=reset"), 0, "{}", way.egress.log());
    way.ingress = ingress(way.link, &[]);
    talk_all(8, 60, 40 * KIB);
    way.assert_empty();
}
