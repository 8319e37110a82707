//! What dies with a link: everything that ran over it, and nothing else. An end that is killed, or
//! that stands still for too long, leaves nothing behind at the other.

use seaprox_tests::bytes::{Numbers, pattern};
use seaprox_tests::ends::{egress, ingress, vacant_link_path};
use seaprox_tests::eventually;
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{End, assert_echoes, echo, listen, patient, serve};
use seaprox_tests::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 12;

/// Little enough of a moment's CPU that nobody turns in circles.
fn assert_rests(proxy: &Proxy) {
    let cpu = proxy.process.cpu_nanos();
    thread::sleep(Duration::from_millis(300));
    let spent = proxy.process.cpu_nanos() - cpu;
    assert!(spent < 60_000_000, "{spent} ns of CPU in 300 ms");
}

/// Sends back the stream that the client names with its first eight bytes, for ever.
fn endless(mut stream: TcpStream) {
    let mut seed = [0; 8];
    if stream.read_exact(&mut seed).is_err() {
        return;
    }
    let mut numbers = Numbers::new(u64::from_le_bytes(seed));
    let mut bytes = [0; 16 * 1024];
    loop {
        for place in bytes.chunks_exact_mut(8) {
            place.copy_from_slice(&numbers.next().to_le_bytes());
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Asks for the stream called `seed`, and reads it until it ends; every byte must be that stream's.
/// Counts itself among those that have `begun`.
fn read_stream(address: SocketAddr, seed: u64, begun: &AtomicUsize) -> (usize, End) {
    let mut stream = patient(TcpStream::connect(address).expect("it listens"));
    stream.write_all(&seed.to_le_bytes()).expect("a few bytes");
    let mut numbers = Numbers::new(seed);
    let mut buffer = vec![0; 64 * 1024];
    let (mut count, mut kept) = (0, 0);
    loop {
        match stream.read(&mut buffer[kept..]) {
            Ok(0) => return (count, End::Fin),
            Ok(more) => {
                if count == 0 {
                    begun.fetch_add(1, Ordering::Relaxed);
                }
                count += more;
                let filled = kept + more;
                let whole = filled / 8 * 8;
                for place in buffer[..whole].chunks_exact(8) {
                    assert_eq!(place, numbers.next().to_le_bytes(), "a byte of another stream");
                }
                buffer.copy_within(whole..filled, 0);
                kept = filled - whole;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (count, End::Rst),
            Err(error) => panic!("no end after {count} bytes: {error}"),
        }
    }
}

/// `CLIENTS` transfers run; what `happens` ends them all by a reset.
fn assert_all_reset(ingress: &Proxy, first_seed: u64, happens: impl FnOnce()) {
    let begun = AtomicUsize::new(0);
    let read = |seed| read_stream(ingress.address, seed, &begun);
    thread::scope(|scope| {
        let reads: Vec<_> =
            (first_seed..).take(CLIENTS).map(|seed| scope.spawn(move || read(seed))).collect();
        eventually("all transfers run", || begun.load(Ordering::Relaxed) == CLIENTS);
        assert_eq!(ingress.connections(), CLIENTS as u64);
        thread::sleep(Duration::from_millis(50));
        happens();
        for read in reads {
            let (count, end) = read.join().expect("its bytes are its own");
            assert_eq!(end, End::Rst, "after {count} bytes");
        }
    });
}

/// The egress is killed in the middle of transfers, again and again.
#[test]
fn an_egress_that_is_killed() {
    let link = vacant_link_path();
    let backend = serve(endless);
    let start = || egress(&link).to(backend).start();
    let mut egress = start();
    let ingress = ingress(&link).flag("--log-connections").start();
    ingress.wait_says("event=\"link up\"");
    let clean = ingress.sockets();
    let pipes = ingress.process.pipe_ends();
    for round in 1..=3 {
        assert_all_reset(&ingress, round * 1000, || egress.kill());
        ingress.wait_says_times("reason=link-down", CLIENTS * round as usize);
        // The link's own is gone too.
        ingress.wait_sockets(clean - 1);
        assert_eq!(ingress.connections(), 0);
        assert_rests(&ingress);
        egress = start();
        ingress.wait_says_times("event=\"link up\"", round as usize + 1);
        ingress.wait_sockets(clean);
    }
    assert_eq!(ingress.process.pipe_ends(), pipes);
}

/// The ingress is killed: the egress resets its targets.
#[test]
fn an_ingress_that_is_killed() {
    let link = vacant_link_path();
    let backend = listen();
    let egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let clean = egress.sockets();
    for round in 0..3 {
        let mut ingress = ingress(&link).start();
        let pairs: Vec<_> = (0..CLIENTS).map(|_| ingress.pair(&backend)).collect();
        for (number, (client, server)) in pairs.iter().enumerate() {
            let mut client = client;
            client.write_all(&pattern(number as u64, 100_000)).unwrap();
            let mut server = server;
            server.write_all(b"in the other direction").unwrap();
        }
        ingress.kill();
        for (number, (_, mut server)) in pairs.into_iter().enumerate() {
            let expected = pattern(number as u64, 100_000);
            let (bytes, end) = seaprox_tests::peer::read_to_end(&mut server);
            assert!(expected.starts_with(&bytes), "bytes of another");
            assert_eq!(end, End::Rst, "round {round}");
        }
        egress.wait_sockets(clean);
        assert_eq!(egress.connections(), 0);
        assert_rests(&egress);
    }
}

/// An egress that stands still is dead to the ingress after `--link-timeout`; when it goes on it finds
/// its links gone, resets its targets, and is connected to again.
#[test]
fn an_egress_that_stands_still() {
    let link = vacant_link_path();
    let egress = egress(&link).to(serve(endless)).option("--link-timeout", "1s").start();
    let ingress = ingress(&link).option("--link-timeout", "600ms").start();
    ingress.wait_says("event=\"link up\"");
    let clean = egress.sockets();
    let mut stopped = Instant::now();
    assert_all_reset(&ingress, 1, || {
        egress.process.signal(Signal::SIGSTOP);
        stopped = Instant::now();
    });
    let waited = stopped.elapsed();
    assert!(waited > Duration::from_millis(400) && waited < Duration::from_secs(2), "{waited:?}");
    ingress.wait_says("reason=timed-out");
    assert_eq!(ingress.connections(), 0);
    assert_rests(&ingress);
    egress.process.signal(Signal::SIGCONT);
    ingress.wait_says_times("event=\"link up\"", 2);
    egress.wait_sockets(clean);
    assert_all_reset(&ingress, 1000, || egress.process.signal(Signal::SIGKILL));
}

/// The same with the ingress.
#[test]
fn an_ingress_that_stands_still() {
    let link = vacant_link_path();
    let backend = listen();
    let egress =
        egress(&link).to(backend.local_addr().unwrap()).option("--link-timeout", "600ms").start();
    let ingress = ingress(&link).option("--link-timeout", "1s").start();
    ingress.wait_says("event=\"link up\"");
    let clean = ingress.sockets();
    let (mut client, mut server) = ingress.pair(&backend);
    ingress.process.signal(Signal::SIGSTOP);
    assert_eq!(seaprox_tests::peer::read_to_end(&mut server).1, End::Rst);
    egress.wait_says("reason=timed-out");
    assert_eq!(egress.connections(), 0);
    assert_rests(&egress);
    ingress.process.signal(Signal::SIGCONT);
    assert_eq!(seaprox_tests::peer::read_to_end(&mut client).1, End::Rst);
    ingress.wait_says_times("event=\"link up\"", 2);
    ingress.wait_sockets(clean);
    let (mut client, server) = ingress.pair(&backend);
    let echoes = thread::spawn(|| echo(server));
    assert_echoes(&mut client, b"as if nothing had been");
    drop(client);
    echoes.join().unwrap();
}

/// A link is alive while nothing is said for long: heartbeats are enough, in both directions.
#[test]
fn silence_is_not_death() {
    let link = vacant_link_path();
    let backend = listen();
    let target = backend.local_addr().unwrap();
    let egress = egress(&link).to(target).option("--link-timeout", "300ms").start();
    let ingress = ingress(&link).option("--link-timeout", "300ms").start();
    let (mut client, server) = ingress.pair(&backend);
    thread::sleep(Duration::from_millis(1500));
    thread::spawn(|| echo(server));
    assert_echoes(&mut client, b"hello");
    for end in [&ingress, &egress] {
        assert!(!end.stderr().contains("link down"), "{}", end.stderr());
    }
}
