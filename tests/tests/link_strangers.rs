//! Peers of an egress that are not seaprox: whatever they say or do not say, they are refused, leave
//! nothing behind, and disturb nobody.

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, socket, sockopt,
};
use nix::sys::time::TimeVal;
use seaprox_tests::bytes::pattern;
use seaprox_tests::ends::{End as LinkEnd, vacant_link};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{
    End, assert_echoes, assert_ends, echo, end, listen, read_to_end, send_pattern, serve,
};
use seaprox_tests::{PATIENCE, eventually, run};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// The ends here have no keys: with keys nobody who has none is heard so far (tests/sealed).
fn egress(link: &str) -> LinkEnd {
    seaprox_tests::ends::egress(link).insecure()
}

fn ingress(link: &str) -> LinkEnd {
    seaprox_tests::ends::ingress(link).insecure()
}

/// HELLO, as docs/protocol.md gives it.
const HELLO: [u8; 20] = [0x0e, 1, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0x80, 0, 0x0f, 0, 0, 0];
const CLOSE: u8 = 0x0b;
const PING: [u8; 12] = [0x08, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const PROTOCOL: u8 = 6;

/// A socket of packets that is connected to the egress.
struct Stranger(OwnedFd);

impl Stranger {
    fn at(link: &str) -> Stranger {
        let name = link.strip_prefix("seqpacket:@").expect("an abstract name");
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &patience).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
        Stranger(fd)
    }

    /// Sends a packet; the egress may have closed already.
    fn says(&self, packet: &[u8]) {
        let _ = socket::send(self.0.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL);
    }

    /// The next packet; empty at the end.
    fn hears(&self) -> Vec<u8> {
        let mut packet = vec![0; 65_536];
        let count = match socket::recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            // What was sent to a socket that is closed counts as a reset.
            Err(nix::errno::Errno::ECONNRESET) => 0,
            other => other.expect("it says something in time"),
        };
        packet.truncate(count);
        packet
    }

    /// Everything until the end.
    fn hears_all(&self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.hears() {
                packet if packet.is_empty() => return all,
                packet => all.extend(packet),
            }
        }
    }

    /// With both HELLOs said, and the PING after them.
    fn greeted(link: &str) -> Stranger {
        let stranger = Stranger::at(link);
        stranger.says(&HELLO);
        assert_eq!(stranger.hears()[0], HELLO[0]);
        stranger.says(&PING);
        assert_eq!(stranger.hears()[0], 0x0d, "a PONG");
        stranger
    }
}

fn message(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// An egress with a good ingress, over which a transfer runs while `strangers` do what they do.
fn beside_a_transfer(strangers: impl FnOnce(&str, &Proxy)) {
    const BYTES: usize = 20_000_000;
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).option("--link-timeout", "1s").start();
    let ingress = ingress(&link).option("--link-timeout", "1s").start();
    egress.wait_says("event=\"link up\"");
    let clean = egress.sockets();
    let mut client = ingress.connect();
    let sent = send_pattern(&client, 1, BYTES);
    let got = thread::spawn(move || read_to_end(&mut client));
    strangers(&link, &egress);
    sent.join().unwrap();
    let (bytes, ended) = got.join().unwrap();
    assert!(bytes == pattern(1, BYTES), "other bytes, or not all of them");
    assert_eq!(ended, End::Fin);
    egress.wait_sockets(clean);
    assert_eq!(egress.connections(), 0);
    assert!(!ingress.stderr().contains("link down"), "{}", ingress.stderr());
    // There is a place for whoever comes.
    let other = self::ingress(&link).start();
    assert_echoes(&mut other.connect(), b"hello");
}

/// Bytes that are no message, before hello: CLOSE with the reason `protocol`, behind a HELLO.
#[test]
fn garbage() {
    beside_a_transfer(|link, egress| {
        for seed in 0..30 {
            let stranger = Stranger::at(link);
            let mut packet = pattern(seed, 1 + (seed as usize * 97) % 3000);
            packet[0] |= 0x40;
            packet[0] &= 0x7f;
            stranger.says(&packet);
            let heard = stranger.hears_all();
            if !heard.is_empty() {
                assert_eq!((heard[0], heard[20]), (HELLO[0], CLOSE), "{heard:?}");
                assert_eq!(heard[22], PROTOCOL);
            }
        }
        egress.wait_says_times("reason=protocol", 30);
    });
}

/// A good hello, and then one breach each.
#[test]
fn breaches_after_hello() {
    let breaches: [(&str, Vec<u8>); 9] = [
        ("a kind that is not there", vec![0x42; 12]),
        ("hello again", HELLO.to_vec()),
        ("an opened channel that is not there", message(&[&[5, 0, 0, 0], &[0; 4], &[0; 4]])),
        ("data on it", message(&[&[1, 0, 1, 0], &[0, 0, 0, 0x80], b"x"])),
        ("a slot that is too high", {
            message(&[&[4, 0, 0, 0], &[0xff, 0xff, 0, 0x80], &[0, 0x40, 0, 0], &[0, 0]])
        }),
        ("an open that is cut off", message(&[&[4, 0, 0, 0], &[0, 0, 0, 0x80]])),
        ("data longer than its packet", message(&[&[1, 0, 0xff, 0xff], &[0; 4]])),
        ("done of nothing", message(&[&[0x0f, 0, 0, 0], &[0, 0, 0, 0x80]])),
        ("zeroes that end in garbage", [vec![0; 4000], vec![0x55; 100]].concat()),
    ];
    beside_a_transfer(|link, egress| {
        for (number, (what, packet)) in breaches.iter().enumerate() {
            let stranger = Stranger::greeted(link);
            stranger.says(packet);
            let heard = stranger.hears_all();
            assert_eq!((heard.first(), heard.get(2)), (Some(&CLOSE), Some(&PROTOCOL)), "{what}");
            egress.wait_says_times("reason=protocol", number + 1);
        }
    });
}

/// More bytes on a channel than there was credit for.
#[test]
fn more_than_the_credit() {
    let link = vacant_link();
    let backend = listen();
    let egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let clean = egress.sockets();
    let stranger = Stranger::greeted(&link);
    stranger.says(&message(&[&[4, 0, 0, 0], &[0, 0, 0, 0x80], &[0, 0x40, 0, 0], &[0, 0]]));
    let mut server = seaprox_tests::peer::accept(&backend);
    let data = message(&[&[1, 0, 0xa0, 0x0f], &[0, 0, 0, 0x80], &[b'x'; 4000]]);
    // The target does not read, so nothing is granted beyond what there is room for.
    for _ in 0..100_000 {
        if socket::send(stranger.0.as_raw_fd(), &data, MsgFlags::MSG_NOSIGNAL).is_err() {
            break;
        }
    }
    egress.wait_says("reason=credit-exceeded");
    assert_eq!(read_to_end(&mut server).1, End::Rst);
    egress.wait_sockets(clean);
}

/// A packet that is larger than any may be.
#[test]
fn a_packet_too_large() {
    beside_a_transfer(|link, egress| {
        for (number, bytes) in [32_769, 65_000, 150_000].into_iter().enumerate() {
            let stranger = Stranger::greeted(link);
            stranger.says(&vec![0; bytes]);
            stranger.hears_all();
            egress.wait_says_times("event=\"link down\"", number + 1);
        }
        let stranger = Stranger::at(link);
        stranger.says(&vec![0; 100_000]);
        stranger.hears_all();
    });
}

/// Who says nothing keeps a place for `--link-timeout` and no longer; and so does who says hello and
/// then nothing.
#[test]
fn silence() {
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).option("--link-timeout", "500ms").start();
    let clean = egress.sockets();
    let start = Instant::now();
    let silent = Stranger::at(&link);
    let polite = Stranger::at(&link);
    polite.says(&HELLO);
    eventually("both have a place", || egress.sockets() == clean + 2);
    // Both places are taken; the third comes into one of them, in time.
    let ingress = ingress(&link).start();
    assert_echoes(&mut ingress.connect(), b"hello");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    silent.hears_all();
    polite.hears_all();
    egress.wait_says_times("reason=timed-out", 2);
    egress.wait_sockets(clean + 1);
}

/// Many come and go, some without a word, some in the middle of one.
#[test]
fn coming_and_going() {
    beside_a_transfer(|link, _| {
        for number in 0..200 {
            let stranger = Stranger::at(link);
            match number % 4 {
                0 => {}
                1 => stranger.says(&HELLO),
                2 => stranger.says(&HELLO[..10]),
                _ => {
                    stranger.says(&HELLO);
                    stranger.hears();
                }
            }
        }
    });
}

/// The process has no descriptor left for one more link: it waits a moment, and does not spin.
#[test]
fn no_descriptor_for_one_more() {
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).start();
    let first = ingress(&link).start();
    egress.wait_says("event=\"link up\"");
    let pid = egress.process.0.to_string();
    let is_free = |fd: &u32| !std::fs::exists(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let free = (0..).find(is_free).unwrap();
    run(&["prlimit", "--pid", &pid, &format!("--nofile={free}:20000")]);
    let second = ingress(&link).start();
    egress.wait_says("event=\"nothing is accepted for a moment\"");
    let cpu = egress.process.cpu_nanos();
    thread::sleep(Duration::from_millis(500));
    let spent = egress.process.cpu_nanos() - cpu;
    assert!(spent < 50_000_000, "{spent} ns of CPU in half a second");
    assert!(egress.stderr().lines().count() < 8, "{}", egress.stderr());
    run(&["prlimit", "--pid", &pid, "--nofile=20000:20000"]);
    let mut clients = [first.connect(), second.connect()];
    for client in &mut clients {
        assert_echoes(client, b"at last");
        end(client);
        assert_ends(client, End::Fin);
    }
}
