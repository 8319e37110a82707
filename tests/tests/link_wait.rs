//! Links that are not there yet, and more of them than an egress has places for.

use seaprox_tests::ends::{egress, ingress, vacant_link, vacant_link_path};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    accept_within, assert_echoes, assert_refused, echo, listen, patient, serve,
};
use seaprox_tests::process::want_descriptors;
use seaprox_tests::{PATIENCE, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Little enough of a moment's CPU that nobody turns in circles.
fn assert_rests(proxy: &Proxy) {
    let cpu = proxy.process.cpu_nanos();
    std::thread::sleep(Duration::from_millis(300));
    let spent = proxy.process.cpu_nanos() - cpu;
    assert!(spent < 60_000_000, "{spent} ns of CPU in 300 ms");
}

fn assert_serves(proxy: &Proxy) {
    (0..3).for_each(|_| assert_echoes(&mut proxy.connect(), b"hello"));
}

/// Clients wait in the backlog, with what they have said, and are all served.
#[test]
fn clients_wait_for_an_egress_that_comes_later() {
    let link = vacant_link_path();
    let ingress = ingress(&link).start();
    let mut clients: Vec<_> = (0..20).map(|_| ingress.connect()).collect();
    for client in &mut clients {
        client.write_all(b"are you there?").unwrap();
    }
    ingress.wait_says("reason=connection-refused");
    assert_rests(&ingress);
    assert_eq!(ingress.connections(), 0, "nobody is accepted before");
    let _egress = egress(&link).to(serve(echo)).start();
    for client in &mut clients {
        let mut answer = [0; 14];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"are you there?");
    }
    assert_serves(&ingress);
}

/// After `--link-wait` clients are reset, for a reason that is counted, until the link is up.
#[test]
fn clients_are_reset_when_the_wait_is_over() {
    let link = vacant_link_path();
    let ingress = ingress(&link).option("--link-wait", "300ms").flag("--log-connections").start();
    let start = Instant::now();
    // The first may come before the time is over.
    assert_refused(ingress.address, b"hello");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let start = Instant::now();
    (0..5).for_each(|_| assert_refused(ingress.address, b"hello"));
    assert!(start.elapsed() < Duration::from_millis(250), "not at once: {:?}", start.elapsed());
    assert_eq!(ingress.failed("link-down"), 6);
    assert_rests(&ingress);
    let mut egress_now = egress(&link).to(serve(echo)).start();
    ingress.wait_says("event=\"link up\"");
    assert_serves(&ingress);
    assert_eq!(ingress.failed("link-down"), 6);
    // And so again when it is lost.
    egress_now.kill();
    ingress.wait_says("reason=link-down");
    let start = Instant::now();
    assert_refused(ingress.address, b"hello");
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(100) && waited < Duration::from_secs(2), "{waited:?}");
    let _egress = egress(&link).to(serve(echo)).start();
    ingress.wait_says_times("event=\"link up\"", 2);
    assert_serves(&ingress);
}

/// `--link-wait 0s`: at once.
#[test]
fn nobody_waits_if_told_so() {
    let ingress = ingress(&vacant_link_path()).option("--link-wait", "0s").start();
    let start = Instant::now();
    (0..5).for_each(|_| assert_refused(ingress.address, b"hello"));
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    assert_eq!(ingress.failed("link-down"), 5);
}

/// Several ingresses, of one thread and of two, on an egress of one thread and of two.
#[test]
fn several_ingresses_on_one_egress() {
    for (threads, of_each) in [(1, [1, 1].as_slice()), (2, &[2, 1, 1]), (2, &[2, 2])] {
        let link = vacant_link();
        let egress = egress(&link).to(serve(echo)).threads(threads).start();
        let start = |&threads: &usize| ingress(&link).threads(threads).start();
        let ingresses: Vec<_> = of_each.iter().map(start).collect();
        egress.wait_says_times("event=\"link up\"", of_each.iter().sum());
        let clean: Vec<_> = ingresses.iter().map(Proxy::sockets).collect();
        for _ in 0..5 {
            ingresses.iter().for_each(assert_serves);
        }
        std::thread::scope(|scope| {
            for ingress in &ingresses {
                for _ in 0..4 {
                    scope.spawn(|| assert_serves(ingress));
                }
            }
        });
        for (ingress, clean) in ingresses.iter().zip(clean) {
            ingress.wait_sockets(clean);
        }
    }
}

/// An egress has two places a thread: the third link waits, disturbs nobody, and is up soon after
/// another has left.
#[test]
fn one_ingress_too_many() {
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).option("--link-timeout", "1s").start();
    let mut ingresses = [(); 2].map(|()| ingress(&link).start());
    egress.wait_says_times("event=\"link up\"", 2);
    // With keys it is still being connected while nobody answers, without it is already a link.
    let last =
        ingress(&link).option("--link-timeout", "1s").option("--connect-timeout", "1s").start();
    let mut waiting = last.connect();
    waiting.write_all(b"at last").unwrap();
    // It takes the egress for silent, or is told, and comes again.
    last.wait_says(match link.starts_with("udp:") {
        true => "reason=table-full",
        false => "reason=timed-out",
    });
    ingresses.iter().for_each(assert_serves);
    assert_rests(&last);
    assert_rests(&egress);
    assert_eq!(egress.stderr().matches("event=\"link up\"").count(), 2);
    ingresses[0].kill();
    let mut answer = [0; 7];
    waiting.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"at last");
    assert_serves(&ingresses[1]);
    assert_serves(&last);
}

/// More channels than the egress takes connections: those beyond are reset, with the reason, and
/// nobody else is disturbed.
#[test]
fn more_clients_than_the_egress_takes() {
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).option("--max-connections", 100).start();
    let ingress = ingress(&link).option("--max-connections", 400).start();
    ingress.wait_says("event=\"link up\"");
    // Who is reset may be so before the connect has returned.
    let clients = (0..300).map(|_| TcpStream::connect(ingress.address).ok());
    let clients: Vec<_> = clients.collect();
    let mut served: Vec<_> = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let Some(client) = client else { continue };
        let mut client = patient(client);
        let word = (number as u32).to_le_bytes();
        let mut answer = [0; 4];
        if client.write_all(&word).is_ok() && client.read_exact(&mut answer).is_ok() {
            assert_eq!(answer, word);
            served.push(client);
        }
    }
    assert_eq!(served.len(), 100);
    assert_eq!((egress.failed("table-full"), ingress.failed("table-full")), (200, 200));
    served.iter_mut().for_each(|client| assert_echoes(client, b"still here"));
    eventually("the ingress holds those alone", || ingress.connections() == 100);
    // Who leaves makes room.
    served.truncate(60);
    eventually("the others are gone", || egress.connections() == 60);
    served.extend((0..40).map(|_| {
        let mut client = ingress.connect();
        assert_echoes(&mut client, b"in your place");
        client
    }));
    served.iter_mut().for_each(|client| assert_echoes(client, b"still here"));
}

/// Two links at one end of which one has no place at the other: the thread without leaves clients to
/// the one that has a link, which takes them all, before `--link-wait` is over and after.
#[test]
fn a_thread_without_a_link_leaves_its_clients_to_another() {
    for wait in ["10s", "300ms"] {
        let link = vacant_link();
        let egress = egress(&link).to(serve(echo)).start();
        let first = ingress(&link).start();
        first.wait_says("event=\"link up\"");
        let second = ingress(&link).threads(2).option("--link-wait", wait).start();
        second.wait_says("event=\"link up\"");
        // Longer than the shorter wait.
        std::thread::sleep(Duration::from_millis(600));
        let mut clients: Vec<_> = (0..40).map(|_| second.connect()).collect();
        clients.iter_mut().for_each(|client| assert_echoes(client, b"hello"));
        assert_eq!(second.connections(), 40);
        assert_eq!(second.failed("link-down"), 0, "{}", second.stderr());
        assert_rests(&second);
        assert_eq!(second.stderr().matches("event=\"link up\"").count(), 1);
        // Nobody has a link: after the wait, and only then, clients are reset.
        drop((clients, egress, first));
        second.wait_says("reason=link-down");
        if wait == "300ms" {
            assert_refused(second.address, b"hello");
            assert_rests(&second);
        }
    }
}

/// The channels of a link, of which a thread has one: fewer than the connections of a build for several.
fn channels() -> u64 {
    let (_, limits, _) = seaprox_tests::program::output(&["limits"]);
    let compiled = |name: &str| -> u64 {
        let line = limits.lines().find(|line| line.contains(name)).expect("it is printed");
        line.split_whitespace().last().and_then(|word| word.parse().ok()).expect("a number")
    };
    let connections = compiled("SEAPROX_MAX_NUM_CONNECTIONS");
    let channels = connections.div_ceil(compiled("SEAPROX_NUM_THREADS"));
    assert!(channels < connections, "a build for one thread shows nothing");
    channels
}

/// An ingress on fewer threads than were built in takes no more clients than its links have channels:
/// who comes beyond that waits, where the link would have had to refuse.
#[test]
fn an_ingress_takes_no_more_than_its_links_carry() {
    let channels = channels();
    let ingress = ingress(&vacant_link()).start();
    ingress.wait_says(&format!("connections_max={channels} threads=1"));
    assert_eq!(ingress.status("connections_max"), [channels]);
    assert!(ingress.stderr().contains("fewer connections"), "{}", ingress.stderr());
}

/// A link that carries all it can is full, not down: `--when-full` says what becomes of who comes then,
/// and `--link-wait` does not.
#[test]
fn a_full_link_is_not_down() {
    let channels = channels() as usize;
    want_descriptors(3 * channels as u64);
    for when_full in ["wait", "refuse"] {
        let link = vacant_link();
        let backend = listen();
        let egress = egress(&link).to(backend.local_addr().unwrap()).start();
        let ingress =
            ingress(&link).option("--link-wait", "300ms").option("--when-full", when_full).start();
        ingress.wait_says("event=\"link up\"");
        let mut pairs: Vec<_> = (0..channels).map(|_| ingress.pair(&backend)).collect();
        if when_full == "refuse" {
            let start = Instant::now();
            (0..3).for_each(|_| assert_refused(ingress.address, b"hello"));
            assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
            assert_eq!(ingress.failed("table-full"), 3);
        } else {
            let mut waiting = ingress.connect();
            waiting.write_all(b"any room?").unwrap();
            // Longer than `--link-wait`.
            assert!(accept_within(&backend, Duration::from_secs(1)).is_none(), "above the limit");
            pairs.pop();
            let mut taken = accept_within(&backend, PATIENCE).expect("it waited for that");
            let mut said = [0; 9];
            taken.read_exact(&mut said).expect("what it has said");
            assert_eq!(&said, b"any room?");
            assert_eq!(ingress.failed("table-full"), 0);
        }
        assert_eq!(ingress.failed("link-down"), 0);
        drop((pairs, egress));
    }
}
