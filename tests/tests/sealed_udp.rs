//! Links over UDP with keys: who has them has a link that nobody reads, and who has not has none.

use seaprox_tests::ends::{End, egress, ingress};
use seaprox_tests::eventually;
use seaprox_tests::exchange::{Watch, Wish, backend, exchange_all};
use seaprox_tests::keys::{self, Key};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{echo, end, listen, own_ip, serve_on, vacant_port};
use seaprox_tests::tap::Tap;
use seaprox_udp::packet::{Kind, Mode, kind_of};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const MB: u64 = 1_000_000;

fn vacant() -> SocketAddr {
    SocketAddr::from((own_ip(), vacant_port()))
}

fn at(address: SocketAddr) -> String {
    format!("udp:{address}")
}

/// Who sends back what comes.
fn echo_server() -> SocketAddr {
    let listener = listen();
    let address = listener.local_addr().expect("it has one");
    serve_on(listener, echo);
    address
}

/// Text goes to the far end and comes back.
fn goes_and_comes(ingress: &Proxy, text: &[u8]) {
    let mut stream = TcpStream::connect(ingress.address).expect("it listens");
    stream.write_all(text).expect("it takes it");
    end(&stream);
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("it comes back");
    assert!(back == text, "other bytes");
}

#[test]
fn nobody_on_the_way_reads_anything() {
    let egress_at = vacant();
    let tap = Tap::to(egress_at);
    let _egress = egress(&at(egress_at)).sealed().to(echo_server()).start();
    let ingress = ingress(&at(tap.address())).sealed().start();
    ingress.wait_says("event=\"link up\"");
    let token = b"nobody reads this on the way";
    let text = token.repeat(2000);
    goes_and_comes(&ingress, &text);
    let kept = tap.kept();
    let all: Vec<_> = kept.iter().flatten().collect();
    assert!(all.iter().map(|bytes| bytes.len()).sum::<usize>() > text.len(), "it went there");
    for bytes in &all {
        assert!(kind_of(Mode::Keyed, bytes).is_some(), "{bytes:02x?}");
        assert!(!bytes.windows(8).any(|part| token.windows(8).any(|other| part == other)));
    }
    let [up, down] = [0, 1].map(|way| kind_of(Mode::Keyed, &kept[way][0]));
    assert_eq!((up, down), (Some(Kind::Init), Some(Kind::Response)));
}

#[test]
fn many_links_of_many_threads_carry_much() {
    let egress_at = vacant();
    let watch = Arc::new(Watch::default());
    let backend = backend(&watch);
    let _egress = egress(&at(egress_at)).sealed().to(backend).threads(2).start();
    let ingress = ingress(&at(egress_at)).sealed().threads(2).start();
    ingress.wait_says_times("event=\"link up\"", 2);
    let wishes: Vec<_> = (1..=8).map(|seed| Wish::both(seed, 4 * MB)).collect();
    exchange_all(ingress.address, &wishes, &watch);
    assert_eq!(watch.exact(), 8);
}

#[test]
fn either_end_may_be_started_again() {
    let egress_at = vacant();
    let backend = echo_server();
    let start_egress = || egress(&at(egress_at)).sealed().to(backend).start();
    let first = start_egress();
    let mut ingress_once = ingress(&at(egress_at)).sealed().start();
    ingress_once.wait_says("event=\"link up\"");
    drop(first);
    ingress_once.wait_says("link down");
    let second = start_egress();
    ingress_once.wait_says_times("event=\"link up\"", 2);
    goes_and_comes(&ingress_once, b"again");
    ingress_once.kill();
    let other = ingress(&at(egress_at)).sealed().start();
    other.wait_says("event=\"link up\"");
    goes_and_comes(&other, b"and again");
    assert!(second.is_alive());
}

/// No link, however often it is tried while one looks.
fn have_no_link(egress: End, ingress: End) -> [String; 2] {
    let egress = egress.to("127.0.0.1:9").start();
    let ingress = ingress.option("--connect-timeout", "1s").start();
    ingress.wait_says_times("link down", 2);
    let said = [&ingress, &egress].map(|end| end.stderr());
    assert!(!said.iter().any(|said| said.contains("link up")), "{said:?}");
    said
}

#[test]
fn who_has_other_keys_has_no_link() {
    let [own, far] = keys::of_ends();
    let other = Key::new();
    let psk = keys::psk().into_os_string().into_string().expect("a path in UTF-8");
    // A stranger; a far end that is somebody else; and keys that are right but for the preshared one.
    type Change<'k> = Box<dyn Fn(End, End) -> (End, End) + 'k>;
    let changes: [Change<'_>; 3] = [
        Box::new(|egress, ingress| (egress.sealed(), ingress.keyed(&other, far))),
        Box::new(|egress, ingress| (egress.sealed(), ingress.keyed(own, &other))),
        Box::new(|egress, ingress| (egress.sealed(), ingress.sealed().option("--psk", &psk))),
    ];
    for change in changes {
        let link = at(vacant());
        let (egress, ingress) = change(egress(&link), ingress(&link));
        let [said, _] = have_no_link(egress, ingress);
        assert!(said.contains("reason=timed-out"), "{said}");
    }
    std::fs::remove_file(psk).expect("it is there");
}

#[test]
fn who_has_no_keys_has_no_link_with_who_has() {
    for is_sealed in [[true, false], [false, true]] {
        let link = at(vacant());
        let [egress, ingress] = [egress(&link), ingress(&link)];
        let egress = if is_sealed[0] { egress.sealed() } else { egress.insecure() };
        let ingress = if is_sealed[1] { ingress.sealed() } else { ingress.insecure() };
        have_no_link(egress, ingress);
    }
}

#[test]
fn strangers_meet_silence_and_links_go_on() {
    let egress_at = vacant();
    let tap = Tap::to(egress_at);
    let egress = egress(&at(egress_at)).sealed().to(echo_server()).start();
    let ingress = ingress(&at(tap.address())).sealed().start();
    ingress.wait_says("event=\"link up\"");
    goes_and_comes(&ingress, &b"something to be heard ".repeat(1000));
    let [up, down] = tap.kept();
    let stranger = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    stranger.connect(egress_at).expect("an address");
    stranger.set_read_timeout(Some(Duration::from_millis(300))).expect("a time");
    let memory = egress.process.data_bytes();
    for bytes in up.iter().chain(&down) {
        // As it was, with another bit, as of the other kind, and cut.
        let mut bent = bytes.clone();
        bent[bytes.len() / 2] ^= 1;
        let mut other = bytes.clone();
        other[0] ^= 0x20;
        for datagram in [&bytes[..], &bent, &other, &bytes[..bytes.len() - 1]] {
            // A full queue of the kernel drops it, as any path may.
            let _ = stranger.send(datagram);
        }
    }
    let mut answer = [0; 2048];
    assert!(stranger.recv(&mut answer).is_err(), "somebody was answered");
    goes_and_comes(&ingress, b"as if nobody had been there");
    eventually("memory is what it was", || egress.process.data_bytes() <= memory);
    assert!(!ingress.stderr().contains("link down") && !egress.stderr().contains("link down"));
}
