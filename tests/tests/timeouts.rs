//! Finite lives: what is idle, half closed or never connected ends when it was said to, and not
//! before. (The connect timeout is in `connecting.rs`.)

use seaprox_tests::eventually;
use seaprox_tests::launch::Launch;
use seaprox_tests::peer::{
    End, assert_ends, assert_rest, end, fill, listen, read_bytes, read_to_end,
};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_millis(600);

/// A connection that moves no byte is reset at both ends.
#[test]
fn an_idle_connection_is_reset() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "600ms").start();
    let clean = proxy.sockets();
    let start = Instant::now();
    let (mut silent, mut silent_server) = proxy.pair(&backend);
    let (mut client, mut server) = proxy.pair(&backend);
    client.write_all(b"once").unwrap();
    assert_eq!(read_bytes(&server, 4), b"once");
    for stream in [&mut silent, &mut silent_server, &mut client, &mut server] {
        assert_ends(stream, End::Rst);
    }
    assert!(start.elapsed() >= TIMEOUT, "after {:?}", start.elapsed());
    proxy.wait_sockets(clean);
}

/// A byte in either direction postpones the end.
#[test]
fn activity_postpones_the_idle_timeout() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "2s").start();
    let (mut client, mut server) = proxy.pair(&backend);
    for round in 0..12 {
        thread::sleep(Duration::from_millis(300));
        let (sender, receiver) =
            if round < 6 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        sender.write_all(b"x").expect("the connection lives");
        assert_eq!(read_bytes(receiver, 1), b"x");
    }
    assert_ends(&mut client, End::Rst);
    assert_ends(&mut server, End::Rst);
}

/// A reader that is slow is not idle, though it is long before its kernel has room for more than what
/// it was sent: what it acknowledges counts.
#[test]
fn a_slow_reader_is_not_idle() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "1s").start();
    let (client, server) = proxy.pair(&backend);
    fill(&server, 1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(read_bytes(&client, 50_000).len(), 50_000);
        thread::sleep(Duration::from_millis(100));
    }
}

/// A reader that stands still does not keep a connection alive.
#[test]
fn a_stalled_connection_is_idle() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "4s").start();
    let clean = proxy.sockets();
    let (mut client, server) = proxy.pair(&backend);
    fill(&server, 1);
    proxy.wait_sockets(clean);
    assert_eq!(read_to_end(&mut client).1, End::Rst);
}

/// One direction has ended; the other may go on for so long, busy or not.
#[test]
fn a_half_closed_connection_is_reset() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--half-close-timeout", "600ms").start();
    let clean = proxy.sockets();
    let (mut whole, whole_server) = proxy.pair(&backend);
    for from_client in [true, false] {
        let (client, server) = proxy.pair(&backend);
        let (one, mut other) = if from_client { (client, server) } else { (server, client) };
        let start = Instant::now();
        end(&one);
        assert_ends(&mut other, End::Fin);
        let busy = thread::spawn(move || {
            while other.write_all(b"still here").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let mut one = one;
        assert_eq!(read_to_end(&mut one).1, End::Rst);
        busy.join().unwrap();
        assert!(start.elapsed() >= TIMEOUT, "after {:?}", start.elapsed());
    }
    // One that ends in time ends in order, and one that is whole is left alone.
    let (mut client, mut server) = proxy.pair(&backend);
    end(&client);
    server.write_all(b"in time").unwrap();
    drop(server);
    assert_rest(&mut client, b"in time");
    whole.write_all(b"whole").unwrap();
    assert_eq!(read_bytes(&whole_server, 5), b"whole");
    drop((client, whole, whole_server));
    proxy.wait_sockets(clean);
}

/// Off is off: nothing ends by itself.
#[test]
fn without_timeouts_nothing_ends() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "off").start();
    let (mut idle, idle_server) = proxy.pair(&backend);
    let (half, mut half_server) = proxy.pair(&backend);
    end(&half);
    assert_ends(&mut half_server, End::Fin);
    thread::sleep(Duration::from_secs(3));
    idle.write_all(b"idle").unwrap();
    assert_eq!(read_bytes(&idle_server, 4), b"idle");
    half_server.write_all(b"half").unwrap();
    assert_eq!(read_bytes(&half, 4), b"half");
}

/// Each of many has its own deadline.
#[test]
fn many_deadlines() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap());
    let proxy = launch.option("--idle-timeout", "1s").threads(2).start();
    let clean = proxy.sockets();
    let mut pairs: Vec<_> = (0..100)
        .map(|_| {
            thread::sleep(Duration::from_millis(5));
            proxy.pair(&backend)
        })
        .collect();
    for (client, server) in &mut pairs {
        assert_ends(client, End::Rst);
        assert_ends(server, End::Rst);
    }
    proxy.wait_sockets(clean);
}

/// A peer that vanished without a word is found out: keepalive is on at both ends once a connection
/// has lived for a second.
#[test]
fn keepalive_is_on() {
    let backend = listen();
    let proxy = Launch::to(backend.local_addr().unwrap()).start();
    let (client, _server) = proxy.pair(&backend);
    let of_client = client.local_addr().unwrap().port();
    let of_server = backend.local_addr().unwrap().port();
    for remote_port in [of_client, of_server] {
        eventually("the socket has a keepalive timer", || {
            let mut own = proxy.processes().flat_map(|process| process.own_tcp_sockets());
            let socket = own.find(|socket| socket.remote_port == remote_port);
            socket.is_some_and(|socket| socket.timer == seaprox_tests::process::KEEPALIVE)
        });
    }
}
