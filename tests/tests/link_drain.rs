//! Ends of links that are told to end: what runs is finished first, nothing is lost, and the other end
//! goes on elsewhere.

use nix::sys::socket::{setsockopt, sockopt};
use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::ends::{egress, ingress, vacant_link, vacant_link_path, vacant_path};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    End, assert_echoes, assert_refused, assert_rest, echo, end, listen, read_bytes, read_to_end,
    send_pattern, serve,
};
use seaprox_tests::process::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const BYTES: usize = 3_000_000;

/// Ends with code 0 within a second.
fn assert_ends_soon(proxy: &mut Proxy) {
    let start = Instant::now();
    let status = proxy.wait();
    assert_eq!(status.code(), Some(0), "{}", proxy.stderr());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// Sends a pattern each way, ends each, and sees that all of it arrives.
fn finish(mut client: TcpStream, mut server: TcpStream, seed: u64) {
    let (up, down) = (send_pattern(&client, seed, BYTES), send_pattern(&server, seed + 1, BYTES));
    let at_client = thread::spawn(move || assert_rest(&mut client, &pattern(seed + 1, BYTES)));
    assert_rest(&mut server, &pattern(seed, BYTES));
    at_client.join().unwrap();
    up.join().unwrap();
    down.join().unwrap();
}

/// TERM to an egress: no channel is opened through it any more, what runs is finished, and the
/// ingress takes the next one as soon as that is there.
#[test]
fn an_egress_that_drains() {
    let link = vacant_link_path();
    let backend = listen();
    let mut old = egress(&link).to(backend.local_addr().unwrap()).start();
    let ingress = ingress(&link).start();
    let pairs: Vec<_> = (0..4).map(|_| ingress.pair(&backend)).collect();
    old.process.signal(Signal::SIGTERM);
    old.wait_says("event=draining");
    thread::sleep(Duration::from_millis(50));
    // This one waits, and is served by whoever comes next.
    let mut waiting = ingress.connect();
    waiting.write_all(b"is anybody there?").unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(ingress.connections(), 4);
    for (number, (client, server)) in pairs.into_iter().enumerate() {
        finish(client, server, number as u64 * 2);
    }
    assert_ends_soon(&mut old);
    assert!(!old.stderr().contains("reason=reset"), "{}", old.stderr());
    ingress.wait_says("reason=shutdown");
    let _new = egress(&link).to(serve(echo)).start();
    assert_eq!(read_bytes(&waiting, 17), b"is anybody there?");
}

/// The next egress can listen at the same path while the last one drains, and takes the ingresses
/// over that have nothing running.
#[test]
fn two_egresses_of_one_path() {
    let link = vacant_path();
    let backend = listen();
    let mut old = egress(&link).to(backend.local_addr().unwrap()).start();
    let busy = ingress(&link).start();
    let idle = ingress(&link).start();
    let (client, server) = busy.pair(&backend);
    old.wait_says_times("event=\"link up\"", 2);
    old.process.signal(Signal::SIGTERM);
    old.wait_says("event=draining");
    // Its link was closed: nothing runs over it.
    idle.wait_says("reason=shutdown");
    let new = egress(&link).to(serve(echo)).start();
    new.wait_says("event=\"link up\"");
    assert_echoes(&mut idle.connect(), b"hello");
    finish(client, server, 1);
    assert_ends_soon(&mut old);
    assert_echoes(&mut busy.connect(), b"hello");
    // What the old one leaves when it ends is not the new one's path.
    assert!(std::path::Path::new(link.trim_start_matches("seqpacket:")).exists());
}

/// TERM to an ingress.
#[test]
fn an_ingress_that_drains() {
    let link = vacant_link();
    let backend = listen();
    let egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let clean = egress.sockets();
    for round in 0..3 {
        let mut ingress = ingress(&link).start();
        let pairs: Vec<_> = (0..4).map(|_| ingress.pair(&backend)).collect();
        ingress.process.signal(Signal::SIGTERM);
        ingress.wait_says("event=draining");
        thread::sleep(Duration::from_millis(20));
        assert!(TcpStream::connect(ingress.address).is_err(), "it still listens");
        for (number, (client, server)) in pairs.into_iter().enumerate() {
            finish(client, server, 100 * round + number as u64 * 2);
        }
        assert_ends_soon(&mut ingress);
        egress.wait_sockets(clean);
    }
    assert!(!egress.stderr().contains("reason=reset"), "{}", egress.stderr());
}

/// So much is on its way when all of it has left the end that goes: some of it fits into the sockets, some
/// waits in the memory of the other end, and some in the carrier.
const LAST_WORDS: [usize; 6] = [5_000, 20_000, 40_000, 70_000, 110_000, 170_000];

/// The last bytes of the last connection are on their way when the ingress ends: they arrive, though
/// the target reads them late.
#[test]
fn the_last_words_of_an_ingress() {
    let link = vacant_link();
    let backend = listen();
    setsockopt(&backend, sockopt::RcvBuf, &8192).unwrap();
    let target = backend.local_addr().unwrap();
    let _egress = egress(&link).to(target).option("--socket-buffer", 8192).start();
    for (seed, length) in LAST_WORDS.into_iter().enumerate() {
        let mut ingress = ingress(&link).start();
        let (mut client, mut server) = ingress.pair(&backend);
        end(&server);
        assert_eq!(read_to_end(&mut client).1, End::Fin);
        ingress.process.signal(Signal::SIGTERM);
        ingress.wait_says("event=draining");
        let sent = send_pattern(&client, seed as u64, length);
        thread::sleep(Duration::from_millis(100));
        let (got, ended) = read_to_end(&mut server);
        assert_same(&got, &pattern(seed as u64, length), "the last words");
        assert_eq!(ended, End::Fin);
        sent.join().unwrap();
        assert_ends_soon(&mut ingress);
    }
}

/// And of an egress, whose ingress keeps them for a client that is slow.
#[test]
fn the_last_words_of_an_egress() {
    let link = vacant_link();
    let backend = listen();
    for (seed, length) in LAST_WORDS.into_iter().enumerate() {
        let mut egress = egress(&link).to(backend.local_addr().unwrap()).start();
        let ingress = ingress(&link).option("--socket-buffer", 8192).start();
        let (mut client, mut server) = ingress.pair(&backend);
        setsockopt(&client, sockopt::RcvBuf, &8192).unwrap();
        end(&client);
        assert_eq!(read_to_end(&mut server).1, End::Fin);
        egress.process.signal(Signal::SIGTERM);
        egress.wait_says("event=draining");
        let sent = send_pattern(&server, seed as u64, length);
        thread::sleep(Duration::from_millis(100));
        let (got, ended) = read_to_end(&mut client);
        assert_same(&got, &pattern(seed as u64, length), "the last words");
        assert_eq!(ended, End::Fin);
        sent.join().unwrap();
        assert_ends_soon(&mut egress);
    }
}

/// A second TERM ends what runs, at either end, and the program, even if its far end stands still and
/// the carrier takes nothing more.
#[test]
fn the_second_word_resets() {
    for (of_egress, stands_still) in [(true, false), (false, false), (true, true), (false, true)] {
        let link = vacant_link();
        let backend = listen();
        let mut egress = egress(&link).to(backend.local_addr().unwrap()).start();
        let mut ingress = ingress(&link).start();
        let pairs: Vec<_> = (0..80).map(|_| ingress.pair(&backend)).collect();
        let (told, other) =
            if of_egress { (&mut egress, &ingress) } else { (&mut ingress, &egress) };
        if stands_still {
            other.process.signal(Signal::SIGSTOP);
            for (client, server) in &pairs {
                let from = if of_egress { server } else { client };
                from.set_nonblocking(true).unwrap();
                let _ = (&*from).write(&[0; 50_000]);
                from.set_nonblocking(false).unwrap();
            }
        }
        told.process.signal(Signal::SIGTERM);
        told.wait_says("event=draining");
        thread::sleep(Duration::from_millis(50));
        assert!(told.is_alive(), "something runs");
        told.process.signal(Signal::SIGTERM);
        assert_ends_soon(told);
        other.process.signal(Signal::SIGCONT);
        for (mut client, mut server) in pairs {
            assert_eq!(read_to_end(&mut client).1, End::Rst);
            assert_eq!(read_to_end(&mut server).1, End::Rst);
        }
    }
}

/// A client that comes to a draining egress, over a link that is left, is not served by it.
#[test]
fn nobody_new_while_it_drains() {
    let link = vacant_link();
    let backend = listen();
    let egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let ingress = ingress(&link).option("--link-wait", "200ms").start();
    let (mut client, server) = ingress.pair(&backend);
    egress.process.signal(Signal::SIGTERM);
    egress.wait_says("event=draining");
    thread::sleep(Duration::from_millis(50));
    assert_refused(ingress.address, b"hello");
    let echoes = thread::spawn(move || echo(server));
    assert_echoes(&mut client, b"as before");
    drop(client);
    echoes.join().unwrap();
}

/// TERM to an ingress of two threads of which one has no link: who is queued is served by the other,
/// whichever of them looks first.
#[test]
fn an_ingress_with_a_thread_without_a_link_drains() {
    for _ in 0..8 {
        let link = vacant_link();
        let egress = egress(&link).to(serve(echo)).start();
        let first = ingress(&link).start();
        first.wait_says("event=\"link up\"");
        let mut ingress = ingress(&link).threads(2).start();
        ingress.wait_says("event=\"link up\"");
        ingress.process.signal(Signal::SIGSTOP);
        let mut clients: Vec<_> = (0..60).map(|_| ingress.connect()).collect();
        ingress.process.signal(Signal::SIGTERM);
        ingress.process.signal(Signal::SIGCONT);
        clients.iter_mut().for_each(|client| assert_echoes(client, b"hello"));
        drop(clients);
        assert_ends_soon(&mut ingress);
        assert_eq!(egress.stderr().matches("event=\"link up\"").count(), 2);
    }
}
