//! SOCK_SEQPACKET as a carrier, over real sockets.

mod common_tests;

use common_tests::*;
use seaprox::address::Address;
use seaprox::sys::{Errno, OwnedFd};
use seaprox_proto::carrier::{Carrier, Received};
use seaprox_proto::message::PACKET_BYTES;
use seaprox_sctp::{Options, Seqpacket, Socket, is_missing};
use std::path::PathBuf;
use std::time::Duration;

/// A name of its own for each test, in the abstract namespace: nothing is left behind.
fn name(test: &str) -> Vec<u8> {
    format!("@seaprox-{}-{test}", std::process::id()).into_bytes()
}

fn folder(test: &str) -> PathBuf {
    let name = format!("seaprox-sctp-{}-{test}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn ends(test: &str) -> (End<Seqpacket>, End<Seqpacket>) {
    let (name, options) = (name(test), Options::new(1));
    let listener = Seqpacket::listen(&name, &options).unwrap();
    pair(&listener, name.as_slice(), &options)
}

#[test]
fn packets_arrive_whole_and_in_order_both_ways() {
    let (mut a, mut b) = ends("order");
    carries_whole_packets_in_order(&mut a, &mut b, 0, 600);
    carries_whole_packets_in_order(&mut b, &mut a, 0, 600);
}

#[test]
fn a_full_one_says_when_there_is_room_again() {
    let (mut a, mut b) = ends("room");
    says_when_there_is_room_again(&mut a, &mut b);
    says_when_there_is_room_again(&mut b, &mut a);
}

/// Whoever waits for an edge gets one for each packet that comes when there was none.
#[test]
fn each_packet_after_quiet_is_an_edge() {
    let (mut a, mut b) = ends("edge");
    for number in 0..10 {
        assert_eq!(b.try_hear(), Err(Errno::AGAIN));
        while b.edges.wait(Duration::ZERO).is_some() {}
        a.send(0, &packet(number, 100));
        assert!(b.edges.wait(PATIENCE).is_some(), "no edge");
        assert_eq!(b.try_hear(), Ok(Heard::Packet(0, packet(number, 100))));
    }
}

#[test]
fn what_was_sent_arrives_before_the_end() {
    let (a, b) = ends("end");
    ends_in_order(a, b);
    let (a, b) = ends("end");
    ends_in_order(b, a);
}

/// With bytes unread at its own end the other is reset (unix(7)).
#[test]
fn a_peer_that_goes_without_reading_is_gone() {
    let (mut a, mut b) = ends("reset");
    a.send(0, b"never read");
    b.send(0, b"read");
    drop(b);
    let mut heard = vec![a.hear()];
    while heard.last() != Some(&Heard::Gone) {
        heard.push(a.hear());
    }
    // Linux may let the reset overtake it.
    assert!(heard.len() == 1 || heard[0] == Heard::Packet(0, b"read".to_vec()), "{heard:?}");
    assert_eq!(a.hear(), Heard::Gone);
}

/// The kernel drops what there was no room for: it must not look like a packet.
#[test]
fn a_packet_larger_than_the_room_has_no_end() {
    for (sent, room) in
        [(101, 100), (2, 1), (PACKET_BYTES + 1, PACKET_BYTES), (40_000, PACKET_BYTES)]
    {
        let (mut a, mut b) = ends("long");
        a.send(0, &packet(9, sent));
        a.send(0, b"whole");
        let mut buffer = vec![0; room];
        let got = b.carrier.receive(&mut buffer);
        assert_eq!(got, Ok(Received::Piece { stream: 0, bytes: room, end: false }));
        assert_eq!(buffer, packet(9, sent)[..room]);
        for _ in 0..2 {
            assert_eq!(b.carrier.receive(&mut buffer), Ok(Received::Gone));
        }
    }
}

#[test]
fn a_packet_as_large_as_the_room_is_whole() {
    let (mut a, mut b) = ends("fits");
    for length in [1, 100, PACKET_BYTES] {
        a.send(0, &packet(3, length));
        let mut buffer = vec![0; length];
        let got = b.carrier.receive(&mut buffer);
        assert_eq!(got, Ok(Received::Piece { stream: 0, bytes: length, end: true }));
        assert_eq!(buffer, packet(3, length));
    }
    assert_eq!(b.carrier.receive(&mut []), Err(Errno::MSGSIZE));
    a.send(0, b"still there");
    assert_eq!(b.hear(), Heard::Packet(0, b"still there".to_vec()));
}

/// A packet of nothing would be the end: ours sends none, and another program's is one.
#[test]
fn a_packet_of_nothing_is_the_end() {
    let (mut a, mut b) = ends("nothing");
    a.send(0, b"");
    a.send(0, b"x");
    assert_eq!(b.hear(), Heard::Packet(0, b"x".to_vec()));
    let fd = OwnedFd::from(a.carrier);
    rustix::net::send(&fd, b"", rustix::net::SendFlags::empty()).unwrap();
    assert_eq!((b.hear(), b.hear()), (Heard::Gone, Heard::Gone));
}

#[test]
fn up_comes_first_and_once() {
    let (name, options) = (name("up"), Options::new(1));
    let listener = Seqpacket::listen(&name, &options).unwrap();
    assert_eq!(Seqpacket::accept(&listener).err(), Some(Errno::AGAIN));
    let mut a = Seqpacket::connect(&name, &options).unwrap();
    a.send(0, b"early").unwrap();
    let (mut b, peer) = Seqpacket::accept(&listener).unwrap();
    assert_eq!(peer, Address::UNIX);
    let mut buffer = [0; 10];
    assert_eq!(b.receive(&mut buffer), Ok(Received::Up));
    assert_eq!(b.receive(&mut buffer), Ok(Received::Piece { stream: 0, bytes: 5, end: true }));
    assert_eq!(b.receive(&mut buffer), Err(Errno::AGAIN));
    let streams = b.streams().unwrap();
    assert_eq!(streams.channels(), 32_767);
}

#[test]
fn a_path_is_a_file() {
    let folder = folder("path");
    let path = folder.join("link");
    let (bytes, options) = (path.to_str().unwrap().as_bytes(), Options::new(1));
    assert_eq!(Seqpacket::connect(bytes, &options).err(), Some(Errno::NOENT));
    let listener = Seqpacket::listen(bytes, &options).unwrap();
    assert_eq!(Seqpacket::listen(bytes, &options).err(), Some(Errno::ADDRINUSE));
    let (mut a, mut b) = pair::<Seqpacket>(&listener, bytes, &options);
    a.send(0, b"x");
    assert_eq!(b.hear(), Heard::Packet(0, b"x".to_vec()));
    drop(listener);
    assert_eq!(Seqpacket::connect(bytes, &options).err(), Some(Errno::CONNREFUSED));
    std::fs::remove_dir_all(&folder).unwrap();
    let long = [b'a'; 200];
    assert_eq!(Seqpacket::connect(&long, &options).err(), Some(Errno::NAMETOOLONG));
    assert_eq!(Seqpacket::listen(&long, &options).err(), Some(Errno::NAMETOOLONG));
}

#[test]
fn nobody_there_and_another_kind_are_errors() {
    let options = Options::new(1);
    assert_eq!(Seqpacket::connect(&name("none"), &options).err(), Some(Errno::CONNREFUSED));
    let folder = folder("kind");
    let path = folder.join("stream");
    let _stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let bytes = path.to_str().unwrap().as_bytes();
    let errno = Seqpacket::connect(bytes, &options).err().unwrap();
    assert_eq!(errno, Errno::PROTOTYPE);
    assert!(!is_missing(errno));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// As many as may wait, and EAGAIN for one more: no connect waits.
#[test]
fn a_full_queue_is_said_at_once() {
    let (name, options) = (name("queue"), Options::new(1));
    let listener = Seqpacket::listen(&name, &options).unwrap();
    let mut waiting = Vec::new();
    let errno = loop {
        match Seqpacket::connect(&name, &options) {
            Ok(carrier) => waiting.push(carrier),
            Err(errno) => break errno,
        }
        assert!(waiting.len() < 1_000, "the queue has no end");
    };
    assert_eq!(errno, Errno::AGAIN);
    for carrier in &mut waiting {
        assert_eq!(carrier.finish_connect(), Ok(()));
        let _: Seqpacket = accepted(&listener);
    }
    assert!(Seqpacket::connect(&name, &options).is_ok());
}

/// The queue that nobody can overtake is as long as was asked for, on both ends.
#[test]
fn the_send_buffer_is_what_was_asked_for() {
    let short = Options { send_buffer_bytes: 64 << 10, ..Options::new(1) };
    let name = name("short");
    let listener = Seqpacket::listen(&name, &short).unwrap();
    let (mut a, mut b) = pair::<Seqpacket>(&listener, &name, &short);
    let taken = [fill(&mut a, 0, PACKET_BYTES), fill(&mut b, 0, PACKET_BYTES)];
    for taken in taken {
        assert!((64 << 10..=160 << 10).contains(&taken), "{taken} bytes");
    }
    let (mut a, _b) = ends("usual");
    let taken = fill(&mut a, 0, PACKET_BYTES);
    assert!((160 << 10..=600 << 10).contains(&taken), "{taken} bytes");
    println!("the usual buffer takes {taken} bytes");
}
