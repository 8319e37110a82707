//! Connections end as their peers ended them: FIN as FIN, RST as RST, with every byte that came
//! before, and nothing is left of them.

use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::eventually;
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    End, accept, assert_echoes, assert_ends, assert_rest, echo, end, fill, linger, listen,
    read_bytes, read_to_end, reset, serve, wait_acknowledged,
};
use seaprox_tests::process::{CLOSE_WAIT, Process, Signal, TcpSocket};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A proxy, its backend, and how many sockets it has while it has no connection.
fn proxy() -> (Proxy, TcpListener, usize) {
    let backend = listen();
    let proxy = Launch::to(backend.local_addr().unwrap()).start();
    let clean = proxy.sockets();
    (proxy, backend, clean)
}

/// Does the same from the client to the server and from the server to the client, each on a
/// connection of its own, and sees that nothing is left.
fn each_way(mut does: impl FnMut(TcpStream, TcpStream)) {
    let (proxy, backend, clean) = proxy();
    let (client, server) = proxy.pair(&backend);
    does(client, server);
    let (client, server) = proxy.pair(&backend);
    does(server, client);
    assert_nothing_left(&proxy, clean);
}

fn assert_nothing_left(proxy: &Proxy, clean: usize) {
    proxy.wait_sockets(clean);
    let port = proxy.address.port();
    let waits = |sockets: &[TcpSocket]| {
        sockets.iter().any(|socket| socket.local_port == port && socket.state == CLOSE_WAIT)
    };
    eventually("no socket stays in CLOSE_WAIT", || !waits(&proxy.process.tcp_sockets()));
    let cpu = proxy.process.cpu_nanos();
    proxy.wait_asleep();
    thread::sleep(Duration::from_millis(100));
    assert!(proxy.process.cpu_nanos() - cpu < 100_000_000, "it spins");
}

/// One direction ends, the other goes on for as long as it wants.
#[test]
fn a_fin_ends_one_direction_only() {
    each_way(|mut one, mut other| {
        one.write_all(b"the last words").unwrap();
        end(&one);
        assert_rest(&mut other, b"the last words");
        for seed in 0..5 {
            let message = pattern(seed, 20 * KIB);
            other.write_all(&message).unwrap();
            assert_same(&read_bytes(&one, message.len()), &message, "after the FIN");
        }
        drop(other);
        assert_ends(&mut one, End::Fin);
    });
}

/// An end without a byte before it is an end as well.
#[test]
fn a_fin_at_once() {
    each_way(|one, mut other| {
        end(&one);
        assert_ends(&mut other, End::Fin);
        drop(one);
    });
}

/// nginx by default, realm, rinetd and others lose it (envoy#2067): the client says all it has to
/// say, ends, and waits for the answer.
#[test]
fn the_reply_after_the_clients_half_close_is_never_lost() {
    let address = serve(|mut stream| {
        let (request, ended) = read_to_end(&mut stream);
        assert_eq!(ended, End::Fin);
        thread::sleep(Duration::from_millis(request.len() as u64 % 7));
        stream.write_all(&pattern(request.len() as u64, 10 * request.len())).unwrap();
    });
    let proxy = Launch::to(address).start();
    let clean = proxy.sockets();
    for round in 0..10 {
        let mut clients: Vec<_> = (0..10)
            .map(|index| {
                let length = 1 + (round * 10 + index) * 700;
                let mut client = proxy.connect();
                client.write_all(&pattern(1, length)).unwrap();
                end(&client);
                (client, length)
            })
            .collect();
        for (client, length) in &mut clients {
            assert_rest(client, &pattern(*length as u64, 10 * *length));
        }
    }
    assert_nothing_left(&proxy, clean);
}

/// The same as people do it: `printf .. | nc -N`.
#[test]
fn netcat_gets_its_answer() {
    let address = serve(|mut stream| {
        let (request, _) = read_to_end(&mut stream);
        thread::sleep(Duration::from_millis(100));
        stream.write_all(&[b"you said ", &request[..]].concat()).unwrap();
    });
    let proxy = Launch::to(address).start();
    let mut netcat = Command::new("nc")
        .args(["-N", &proxy.address.ip().to_string(), &proxy.address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc cannot be run, install netcat-openbsd");
    netcat.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = netcat.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "you said hello");
}

/// A reset is passed on as a reset: a FIN would say that all went well. Every peer measured here
/// makes a FIN of the server's reset.
#[test]
fn a_reset_is_a_reset() {
    each_way(|one, mut other| {
        reset(one);
        assert_ends(&mut other, End::Rst);
    });
    each_way(|mut one, mut other| {
        assert_echo(&mut one, &mut other);
        reset(one);
        assert_ends(&mut other, End::Rst);
    });
}

fn assert_echo(one: &mut TcpStream, other: &mut TcpStream) {
    one.write_all(b"ping").unwrap();
    assert_eq!(read_bytes(other, 4), b"ping");
    other.write_all(b"pong").unwrap();
    assert_eq!(read_bytes(one, 4), b"pong");
}

/// A reset after a half-close, in either order of directions.
#[test]
fn a_reset_after_a_fin_is_a_reset() {
    each_way(|one, mut other| {
        end(&other);
        let mut reader = one.try_clone().unwrap();
        assert_ends(&mut reader, End::Fin);
        drop(reader);
        reset(one);
        assert_ends(&mut other, End::Rst);
    });
    each_way(|one, mut other| {
        end(&one);
        assert_ends(&mut other, End::Fin);
        reset(one);
        // Its direction has ended in order already; that it is gone shows when one writes.
        eventually("the reset arrives", || other.write_all(b"x").is_err());
    });
}

/// What was said before the reset arrives before the reset (envoy#45267: the answer already read
/// is discarded).
#[test]
fn everything_said_before_a_reset_arrives() {
    for length in [1, 100, 20 * KIB, 70_000, 300 * KIB, MIB] {
        each_way(|mut one, mut other| {
            // It is connected for the program too: who resets before that is nobody's client.
            assert_echo(&mut one, &mut other);
            let reader = thread::spawn(move || read_to_end(&mut other));
            one.write_all(&pattern(7, length)).unwrap();
            wait_acknowledged(&one);
            reset(one);
            let (bytes, ended) = reader.join().unwrap();
            assert_same(&bytes, &pattern(7, length), "before the reset");
            assert_eq!(ended, End::Rst);
        });
    }
}

/// The same when the receiver reads only after the reset has happened, and has room for all of it.
#[test]
fn everything_said_before_a_reset_arrives_at_a_late_reader() {
    each_way(|mut one, mut other| {
        assert_echo(&mut one, &mut other);
        one.write_all(&pattern(8, 50 * KIB)).unwrap();
        wait_acknowledged(&one);
        reset(one);
        thread::sleep(Duration::from_millis(300));
        let (bytes, ended) = read_to_end(&mut other);
        assert_same(&bytes, &pattern(8, 50 * KIB), "before the reset");
        assert_eq!(ended, End::Rst);
    });
}

/// The receiver takes nothing when the sender resets: it is reset too, and the slot is not kept for
/// it.
#[test]
fn a_reset_while_the_other_side_is_blocked() {
    each_way(|one, mut other| {
        let sent = fill(&one, 9);
        reset(one);
        let (bytes, ended) = read_to_end(&mut other);
        assert_same(&bytes, &pattern(9, sent)[..bytes.len()], "as far as it came");
        assert_eq!(ended, End::Rst);
    });
}

/// The one who takes nothing resets, while the other is still sending.
#[test]
fn the_blocked_side_resets() {
    each_way(|mut one, other| {
        fill(&one, 10);
        reset(other);
        eventually("the sender is told", || one.write_all(&[0; 1000]).is_err());
    });
}

/// Many connections at once, each blocked when it is reset from either end.
#[test]
fn resets_of_blocked_connections_leave_nothing() {
    let (proxy, backend, clean) = proxy();
    let mut pairs: Vec<_> = (0..16).map(|_| proxy.pair(&backend)).collect();
    thread::scope(|scope| {
        for (index, (client, server)) in pairs.iter().enumerate() {
            let sender = if index % 2 == 0 { client } else { server };
            scope.spawn(move || fill(sender, 1));
        }
    });
    for (index, (client, server)) in pairs.drain(..).enumerate() {
        match index % 4 {
            0 | 1 => reset(client),
            2 => reset(server),
            _ => drop((client, server)),
        }
    }
    assert_nothing_left(&proxy, clean);
}

/// Closing with bytes unread sends an RST (RFC 9293 section 3.10.4), which is passed on after what
/// was said before it.
#[test]
fn a_close_with_unread_bytes() {
    each_way(|mut one, mut other| {
        other.write_all(&pattern(11, 10 * KIB)).unwrap();
        wait_acknowledged(&other);
        eventually("the bytes are there", || one.peek(&mut [0; 1]).is_ok());
        one.write_all(b"I do not want to know").unwrap();
        wait_acknowledged(&one);
        drop(one);
        let (bytes, ended) = read_to_end(&mut other);
        assert_eq!((&bytes[..], ended), (&b"I do not want to know"[..], End::Rst));
    });
}

/// Both have said something, and one is gone, before the proxy looks: what cannot be written to it
/// any more does not keep what it said before from being read.
#[test]
fn the_answer_of_one_that_is_gone_is_read() {
    let (proxy, backend, clean) = proxy();
    for round in 0..8 {
        let (client, server) = proxy.pair(&backend);
        let (mut one, mut other) = if round % 2 == 0 { (client, server) } else { (server, client) };
        assert_echo(&mut one, &mut other);
        proxy.process.signal(Signal::SIGSTOP);
        one.write_all(b"more and more").unwrap();
        wait_acknowledged(&one);
        other.write_all(&pattern(13, 30 * KIB)).unwrap();
        wait_acknowledged(&other);
        reset(other);
        proxy.process.signal(Signal::SIGCONT);
        let (bytes, ended) = read_to_end(&mut one);
        assert_same(&bytes, &pattern(13, 30 * KIB), "what was said before");
        assert_eq!(ended, End::Rst);
        drop(one);
    }
    assert_nothing_left(&proxy, clean);
}

/// One has said all and ended, then its host resets; the other ends too, and reads only then: both
/// FINs are a hang-up, but the bytes are still on their way.
#[test]
fn what_is_on_its_way_survives_both_fins_and_a_reset() {
    each_way(|one, mut other| {
        let length = MIB;
        let mut sender = one.try_clone().unwrap();
        sender.write_all(&pattern(14, length)).unwrap();
        drop(sender);
        end(&one);
        wait_acknowledged(&one);
        thread::sleep(Duration::from_millis(100));
        reset(one);
        thread::sleep(Duration::from_millis(20));
        // Nobody takes that; it tells the proxy that this direction is broken.
        other.write_all(b"thanks").unwrap();
        thread::sleep(Duration::from_millis(20));
        end(&other);
        thread::sleep(Duration::from_millis(20));
        let (bytes, _) = read_to_end(&mut other);
        assert_same(&bytes, &pattern(14, length), "what was said");
    });
}

/// A close that waits for its bytes (SO_LINGER) loses none of them.
#[test]
fn a_lingering_close() {
    each_way(|mut one, mut other| {
        linger(&one, 5);
        let reader = thread::spawn(move || read_to_end(&mut other));
        one.write_all(&pattern(12, 2 * MIB)).unwrap();
        drop(one);
        let (bytes, ended) = reader.join().unwrap();
        assert_same(&bytes, &pattern(12, 2 * MIB), "before the close");
        assert_eq!(ended, End::Fin);
    });
}

/// Both peers end at the same moment.
#[test]
fn both_ends_close_at_once() {
    let (proxy, backend, clean) = proxy();
    for round in 0..100 {
        let (client, server) = proxy.pair(&backend);
        let barrier = Arc::new(Barrier::new(2));
        let ends = [client, server].map(|mut stream| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                barrier.wait();
                match round % 3 {
                    0 => {
                        end(&stream);
                        assert_ends(&mut stream, End::Fin);
                    }
                    1 => drop(stream),
                    _ => reset(stream),
                }
            })
        });
        for end in ends {
            end.join().expect("both end in order");
        }
    }
    assert_nothing_left(&proxy, clean);
}

/// A backend that is killed in the middle of an answer: the client is told, and gets what there is.
#[test]
fn the_backend_is_killed_in_the_middle() {
    let backend = seaprox_tests::peer::vacant_address();
    let (ip, port) = (backend.ip().to_string(), backend.port().to_string());
    let mut netcat = Command::new("nc")
        .args(["-l", &ip, &port])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::null())
        .spawn()
        .expect("nc cannot be run, install netcat-openbsd");
    let proxy = Launch::to(backend).start();
    let clean = proxy.sockets();
    let listener = Process::child(&netcat);
    eventually("netcat listens", || listener.listens_on(backend.port()));
    let mut client = proxy.connect();
    client.write_all(b"more").unwrap();
    assert!(read_bytes(&client, 5 * MIB).iter().all(|&byte| byte == 0));
    netcat.kill().unwrap();
    netcat.wait().unwrap();
    let (rest, _) = read_to_end(&mut client);
    assert!(rest.iter().all(|&byte| byte == 0));
    drop(client);
    assert_nothing_left(&proxy, clean);
}

/// Every kind of end, many times through a table of four: a slot lost for each would soon leave
/// none (microsandbox#1181: a slot for each FIN).
#[test]
fn no_end_keeps_a_slot() {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap()).option("--max-connections", 4);
    let proxy = launch.start();
    let clean = proxy.sockets();
    for round in 0..48 {
        let (mut client, mut server) = proxy.pair(&backend);
        match round % 8 {
            0 => drop((client, server)),
            1 => drop((server, client)),
            2 => reset(client),
            3 => reset(server),
            4 => {
                end(&client);
                assert_ends(&mut server, End::Fin);
            }
            5 => {
                end(&server);
                assert_ends(&mut client, End::Fin);
            }
            6 => {
                client.write_all(&pattern(1, 30 * KIB)).unwrap();
                drop(server);
            }
            _ => {
                server.write_all(&pattern(1, 30 * KIB)).unwrap();
                drop(client);
            }
        }
    }
    // Those whose peer was dropped with bytes on the way to it may take a moment.
    assert_nothing_left(&proxy, clean);
    let mut pairs: Vec<_> = (0..4).map(|_| proxy.pair(&backend)).collect();
    for (client, server) in &mut pairs {
        assert_echo(client, server);
    }
    assert_eq!(proxy.sockets(), clean + 8);
}

/// A client that comes and goes before it says anything is nothing special.
#[test]
fn clients_that_say_nothing() {
    let proxy = Launch::to(serve(echo)).start();
    let clean = proxy.sockets();
    for round in 0..60 {
        let client = proxy.connect();
        if round % 2 == 0 { drop(client) } else { reset(client) }
    }
    assert_nothing_left(&proxy, clean);
    assert_echoes(&mut proxy.connect(), b"still here");
}

/// The client is gone before its connection was accepted: accept gives a dead socket.
#[test]
fn clients_that_leave_the_backlog() {
    let (proxy, backend, clean) = proxy();
    proxy.process.signal(Signal::SIGSTOP);
    for round in 0..20 {
        let mut client = proxy.connect();
        client.write_all(b"too late").unwrap();
        if round % 2 == 0 { reset(client) } else { end(&client) }
    }
    proxy.process.signal(Signal::SIGCONT);
    // Those that ended in order are served in order.
    for _ in 0..10 {
        let mut server = accept(&backend);
        let (bytes, _) = read_to_end(&mut server);
        assert!(bytes == b"too late" || bytes.is_empty());
    }
    backend.set_nonblocking(false).unwrap();
    thread::spawn(move || backend.incoming().for_each(drop));
    assert_nothing_left(&proxy, clean);
}
