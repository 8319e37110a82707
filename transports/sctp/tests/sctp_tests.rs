//! SCTP as a carrier, over real sockets. A kernel that has none skips each test and says so, unless
//! SEAPROX_REQUIRE_SCTP is set, as it is in the machine of tests/vm/run.

mod common_tests;

use common_tests::*;
use rustix::net::sockopt;
use seaprox::sys::{Errno, OwnedFd};
use seaprox_proto::carrier::{Carrier, Received};
use seaprox_proto::message::PACKET_BYTES;
use seaprox_sctp::{Association, Endpoint, Options, Socket, Streams, is_missing};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

#[path = "sctp_network_tests.rs"]
mod network;

const QUIET: Duration = Duration::from_millis(300);

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// Whether this kernel has SCTP.
fn has_sctp() -> bool {
    let listener = Association::listen(&endpoint(&["127.0.0.1"], port()), &Options::new(1));
    match listener {
        Ok(_) => true,
        Err(errno) => {
            assert!(is_missing(errno), "{errno:?}");
            assert!(!is_set("SEAPROX_REQUIRE_SCTP"), "this kernel has no SCTP");
            println!("skipped: this kernel has no SCTP");
            false
        }
    }
}

/// One that no other test has.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(17_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn endpoint(hosts: &[&str], port: u16) -> Endpoint {
    let addresses = hosts.iter().map(|host| SocketAddr::new(host.parse().unwrap(), port));
    Endpoint::new(&addresses.collect::<Vec<_>>()).unwrap()
}

fn ends_of(channels: u16) -> (End<Association>, End<Association>) {
    let (endpoint, options) = (endpoint(&["127.0.0.1"], port()), Options::new(channels));
    let listener = Association::listen(&endpoint, &options).unwrap();
    pair(&listener, &endpoint, &options)
}

fn abort(end: End<Association>) {
    let fd = OwnedFd::from(end.carrier);
    sockopt::set_socket_linger(&fd, Some(Duration::ZERO)).unwrap();
}

#[test]
fn packets_arrive_whole_and_in_order_both_ways() {
    if has_sctp() {
        let (mut a, mut b) = ends_of(8);
        carries_whole_packets_in_order(&mut a, &mut b, 0, 600);
        carries_whole_packets_in_order(&mut b, &mut a, 16, 600);
    }
}

#[test]
fn a_full_one_says_when_there_is_room_again() {
    if has_sctp() {
        let (mut a, mut b) = ends_of(8);
        says_when_there_is_room_again(&mut a, &mut b);
        says_when_there_is_room_again(&mut b, &mut a);
    }
}

/// A room smaller than the packet gets it in pieces, the last of which is the end.
#[test]
fn a_packet_comes_in_pieces_where_there_is_little_room() {
    if !has_sctp() {
        return;
    }
    let (mut a, mut b) = ends_of(8);
    for (length, room) in [(100, 7), (PACKET_BYTES, 5_000), (PACKET_BYTES, PACKET_BYTES), (1, 1)] {
        let whole = packet(length as u32, length);
        a.send(5, &whole);
        b.edges.wait(PATIENCE);
        let (mut got, mut room) = (Vec::<u8>::new(), vec![0; room]);
        loop {
            match b.carrier.receive(&mut room) {
                Ok(Received::Piece { stream, bytes, end }) => {
                    assert_eq!(stream, 5);
                    got.extend(&room[..bytes]);
                    assert_eq!(end, got.len() == length);
                    if end {
                        break;
                    }
                }
                Err(Errno::AGAIN) => assert!(b.edges.wait(PATIENCE).is_some()),
                other => panic!("{other:?}"),
            }
        }
        assert!(got == whole);
    }
    assert_eq!(b.carrier.receive(&mut []), Err(Errno::MSGSIZE));
}

/// Another program's: it fills the room, and there is no end.
#[test]
fn a_packet_larger_than_the_room_has_no_end() {
    if !has_sctp() {
        return;
    }
    for more in [1, 20_000] {
        let (mut a, mut b) = ends_of(8);
        a.send(5, &packet(1, PACKET_BYTES + more));
        let mut room = vec![0; PACKET_BYTES];
        let got = loop {
            match b.carrier.receive(&mut room) {
                Err(Errno::AGAIN) => assert!(b.edges.wait(PATIENCE).is_some()),
                got => break got,
            }
        };
        assert_eq!(got, Ok(Received::Piece { stream: 5, bytes: PACKET_BYTES, end: false }));
    }
}

/// Behind most of a packet there may be room for one byte only.
#[test]
fn notifications_come_in_pieces_where_there_is_little_room() {
    if !has_sctp() {
        return;
    }
    let (endpoint, options) = (endpoint(&["127.0.0.1"], port()), Options::new(8));
    let listener = Association::listen(&endpoint, &options).unwrap();
    let mut a = Association::connect(&endpoint, &options).unwrap();
    assert_eq!(decided(&mut a), Ok(()));
    let mut b = accepted::<Association>(&listener);
    for end in [&mut a, &mut b] {
        let pieces = (0..100).map(|_| end.receive(&mut [0]).unwrap());
        let pieces: Vec<_> = pieces.take_while(|piece| *piece == Received::Nothing).collect();
        assert_eq!(pieces.len(), 19, "of 20 bytes");
        assert_eq!(end.receive(&mut [0]), Err(Errno::AGAIN));
    }
}

#[test]
fn what_was_sent_arrives_before_the_end() {
    if has_sctp() {
        let (a, b) = ends_of(8);
        ends_in_order(a, b);
        let (a, b) = ends_of(8);
        ends_in_order(b, a);
    }
}

#[test]
fn an_abort_is_the_end() {
    if !has_sctp() {
        return;
    }
    let (a, mut b) = ends_of(8);
    abort(a);
    assert_eq!((b.hear(), b.hear()), (Heard::Gone, Heard::Gone));
    let errno = b.carrier.send(0, b"x").expect_err("nobody takes it");
    assert_ne!(errno, Errno::AGAIN);
    assert_eq!(b.carrier.streams(), Err(Errno::NOTCONN));
}

#[test]
fn nobody_there_is_an_error() {
    if !has_sctp() {
        return;
    }
    let refused = Association::connect(&endpoint(&["127.0.0.1"], port()), &Options::new(8));
    let mut refused = refused.expect("it is decided later");
    assert_eq!(decided(&mut refused), Err(Errno::CONNREFUSED));
    assert_eq!(refused.finish_connect(), Err(Errno::NOTCONN));
    assert_eq!(refused.receive(&mut [0; 100]), Ok(Received::Gone));
}

/// Before anybody has asked what became of the connecting.
#[test]
fn what_was_up_and_is_gone_again_is_decided() {
    if !has_sctp() {
        return;
    }
    for by_abort in [false, true] {
        let (endpoint, options) = (endpoint(&["127.0.0.1"], port()), Options::new(8));
        let listener = Association::listen(&endpoint, &options).unwrap();
        let mut a = Association::connect(&endpoint, &options).unwrap();
        let b = End::new(accepted::<Association>(&listener));
        if by_abort {
            abort(b)
        } else {
            drop(b)
        }
        std::thread::sleep(QUIET);
        let decided = a.finish_connect();
        assert_ne!(decided, Err(Errno::INPROGRESS), "by abort: {by_abort}");
        println!("by abort: {by_abort}: {decided:?}");
        let mut a = End::new(a);
        let heard = a.hear();
        assert!(heard == Heard::Gone || heard == Heard::Up && a.hear() == Heard::Gone);
    }
}

#[test]
fn the_streams_are_those_that_both_have() {
    if !has_sctp() {
        return;
    }
    for (connecting, listening, channels) in [(512, 512, 512), (2048, 100, 100), (7, 300, 7)] {
        let endpoint = endpoint(&["127.0.0.1"], port());
        let listener = Association::listen(&endpoint, &Options::new(listening)).unwrap();
        let (a, b) = pair::<Association>(&listener, &endpoint, &Options::new(connecting));
        let both = 1 + 2 * channels;
        for end in [&a, &b] {
            let streams = end.carrier.streams().unwrap();
            assert_eq!(streams, Streams { outbound: both, inbound: both });
            assert_eq!(streams.channels(), channels);
        }
        let mut ends = (a, b);
        ends.0.send(both - 1, b"the last");
        assert_eq!(ends.1.hear(), Heard::Packet(both - 1, b"the last".to_vec()));
        assert_eq!(ends.0.carrier.send(both, b"one more"), Err(Errno::INVAL));
    }
}

/// As many as there can be.
#[test]
fn sixty_five_thousand_streams() {
    if has_sctp() {
        let (mut a, mut b) = ends_of(32_767);
        assert_eq!(a.carrier.streams().unwrap().channels(), 32_767);
        b.send(65_534, b"far");
        assert_eq!(a.hear(), Heard::Packet(65_534, b"far".to_vec()));
    }
}

#[test]
fn ipv6_and_both_kinds_together() {
    if !has_sctp() {
        return;
    }
    let options = Options::new(8);
    for (listen, connect) in [
        (&["::1"][..], &["::1"][..]),
        (&["::"], &["::1"]),
        (&["::"], &["127.0.0.1"]),
        (&["0.0.0.0"], &["127.0.0.1", "127.0.0.2"]),
        (&["::1", "127.0.0.1"], &["127.0.0.1"]),
        (&["127.0.0.1", "127.0.0.2"], &["127.0.0.2"]),
        (&["127.0.0.1", "::1"], &["::1", "127.0.0.1"]),
    ] {
        let port = port();
        let listener = Association::listen(&endpoint(listen, port), &options).unwrap();
        let (mut a, mut b) = pair::<Association>(&listener, &endpoint(connect, port), &options);
        a.send(0, b"x");
        assert_eq!(b.hear(), Heard::Packet(0, b"x".to_vec()), "{listen:?} {connect:?}");
    }
}

/// Only the first of several addresses is anybody's.
#[test]
fn a_peer_is_reached_at_any_of_its_addresses() {
    if !has_sctp() {
        return;
    }
    let (port, options) = (port(), Options::new(8));
    let listener = Association::listen(&endpoint(&["127.0.0.5"], port), &options).unwrap();
    let both = endpoint(&["127.0.0.5", "127.0.0.6"], port);
    let from = both.from_local(&["127.0.0.7:0".parse().unwrap()]).unwrap();
    let mut a = Association::connect(&from, &options).unwrap();
    assert_eq!(decided(&mut a), Ok(()));
    let (_, peer) = Association::accept(&listener).unwrap();
    assert_eq!(peer.socket_addr().unwrap().ip().to_string(), "127.0.0.7");
}

#[test]
fn two_do_not_listen_on_one_port() {
    if !has_sctp() {
        return;
    }
    let (endpoint, options) = (endpoint(&["127.0.0.1"], port()), Options::new(8));
    let listener = Association::listen(&endpoint, &options).unwrap();
    assert_eq!(Association::accept(&listener).err(), Some(Errno::AGAIN));
    assert_eq!(Association::listen(&endpoint, &options).err(), Some(Errno::ADDRINUSE));
    // An association of before does not hold the port.
    let (_a, b) = pair::<Association>(&listener, &endpoint, &options);
    drop(listener);
    let listener = Association::listen(&endpoint, &options).expect("the port is free again");
    drop(b);
    drop(listener);
}

/// RFC 6951.
#[test]
fn through_udp() {
    let own = "/proc/sys/net/sctp/udp_port";
    if !has_sctp() || !is_set("SEAPROX_VM") {
        println!("skipped: the system's UDP port is not ours to set");
        return;
    }
    // The tests beside this one go over IP itself and do not mind.
    std::fs::write(own, "9899").unwrap();
    let (port, options) = (port(), Options::new(8));
    let plain = endpoint(&["127.0.0.1"], port);
    let listener = Association::listen(&plain, &options).unwrap();
    let udp = || std::fs::read_to_string("/proc/net/snmp").unwrap();
    let sent = |text: &str| -> u64 {
        let line = text.lines().rfind(|line| line.starts_with("Udp:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = sent(&udp());
    let (mut a, mut b) = pair::<Association>(&listener, &plain.clone().through_udp(9899), &options);
    carries_whole_packets_in_order(&mut a, &mut b, 3, 600);
    carries_whole_packets_in_order(&mut b, &mut a, 3, 600);
    let after = sent(&udp());
    assert!(after > before + 400, "it did not go through UDP: {before} {after}");
}

/// Short enough that a small packet is not stuck behind much, and enough for a few.
#[test]
fn the_send_buffer_is_what_was_asked_for() {
    if !has_sctp() {
        return;
    }
    for (asked, least, most) in [(64 << 10, 32 << 10, 128 << 10), (256 << 10, 128 << 10, 512 << 10)]
    {
        let options =
            Options { send_buffer_bytes: asked, receive_buffer_bytes: 4096, ..Options::new(8) };
        let endpoint = endpoint(&["127.0.0.1"], port());
        let listener = Association::listen(&endpoint, &options).unwrap();
        let (mut a, mut b) = pair::<Association>(&listener, &endpoint, &options);
        for (name, from) in [("connected", &mut a), ("accepted", &mut b)] {
            let mut taken = fill(from, 1, PACKET_BYTES);
            while from.edges.wait(QUIET).is_some() {
                taken += fill(from, 1, PACKET_BYTES);
            }
            println!("{name}: {asked} asked for, {taken} taken");
            assert!((least..=most).contains(&taken), "{name}: {taken} bytes");
        }
    }
}
