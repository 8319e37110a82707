//! Strangers that flood an egress of links over UDP: with noise, with greetings, with packets of
//! links that are not theirs, and with what they have heard before. It takes no memory for them, a
//! link that is there goes on, and new connections and new links are made.

use seaprox_tests::bytes::{Numbers, pattern};
use seaprox_tests::ends::{End, egress, ingress};
use seaprox_tests::eventually;
use seaprox_tests::exchange::{Watch, Wish, backend, connect, exchange, exchange_all};
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{own_ip, vacant_port};
use seaprox_tests::tap::Tap;
use seaprox_udp::handshake::{Cookie, Init, Limits, VERSION};
use seaprox_udp::packet::{Header, INIT_BYTES, Mode};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const MB: u64 = 1_000_000;

/// What an egress may have more in memory after a flood than before: pages of its static memory that
/// it had not touched, not a byte for each of many thousand datagrams.
const GROWTH_MAX: u64 = 1536 * 1024;

/// As many datagrams as a socket's buffer can hold many times.
const FLOOD: usize = 10_000;

/// Many sockets that send to the egress, and hear it.
struct Strangers {
    sockets: Vec<UdpSocket>,
    next: usize,
    numbers: Numbers,
}

impl Strangers {
    fn of(egress: SocketAddr) -> Strangers {
        let sockets = (0..100).map(|_| {
            let socket = UdpSocket::bind((own_ip(), 0)).unwrap();
            socket.connect(egress).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        Strangers { sockets: sockets.collect(), next: 0, numbers: Numbers::new(7) }
    }

    /// Each time from another port.
    fn send(&mut self, datagram: &[u8]) {
        self.next = (self.next + 1) % self.sockets.len();
        // A full queue of the kernel drops it, as any path may.
        let _ = self.sockets[self.next].send(datagram);
        if self.next == 0 {
            // A flood of 100 datagrams a millisecond, and not only of what overflows at once.
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The answers that lie there, and who got each.
    fn hear(&self) -> Vec<(usize, Vec<u8>)> {
        let mut all = Vec::new();
        let mut datagram = [0; 2048];
        for (index, socket) in self.sockets.iter().enumerate() {
            while let Ok(count) = socket.recv(&mut datagram) {
                all.push((index, datagram[..count].to_vec()));
            }
        }
        all
    }

    fn init(&mut self) -> Init {
        let (sender, nonce) = (self.numbers.next() as u32, self.numbers.next());
        let limits = Limits { datagram_bytes_max: 1472, window: 1024 };
        let (version_min, version_max) = (VERSION, VERSION);
        Init { version_min, version_max, sender, nonce, proof: [0; 16], limits }
    }
}

/// What an egress holds: private mappings, and pages that it has touched.
fn memory(egress: &Proxy) -> (u64, u64) {
    let resident = egress.process.field("status", "VmRSS");
    let resident = resident.trim_end_matches("kB").trim().parse::<u64>().expect("a number");
    (egress.process.data_bytes(), resident * 1024)
}

/// A link of this mode with connections, while strangers do what `flood` says; then new connections, and a
/// new link of another ingress.
fn beside_a_link(mode: Mode, flood: impl FnOnce(&mut Strangers, &Tap)) {
    let at = SocketAddr::from((own_ip(), vacant_port()));
    let tap = Tap::to(at);
    let watch = Arc::new(Watch::default());
    let backend = backend(&watch);
    let link = format!("udp:{at}");
    let of_mode = |end: End| match mode {
        Mode::Keyed => end.sealed(),
        Mode::Insecure => end.insecure(),
    };
    let egress = of_mode(egress(&link)).to(backend).option("--link-timeout", "3s").start();
    let over = of_mode(ingress(&format!("udp:{}", tap.address()))).start();
    over.wait_says("event=\"link up\"");
    let wishes = |first: u64| [0, 1, 2].map(|next| Wish::both(first + next, 4 * MB));
    // Both links that there can be have been used once: their memory is touched.
    {
        let second = of_mode(ingress(&link)).start();
        thread::scope(|scope| {
            scope.spawn(|| exchange_all(over.address, &wishes(1), &watch));
            scope.spawn(|| exchange_all(second.address, &wishes(11), &watch));
        });
    }
    eventually("the second link is gone", || egress.stderr().contains("link down"));
    let before = memory(&egress);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let runs = scope.spawn(|| {
            let mut seed = 100;
            while !is_over.load(Ordering::Relaxed) {
                exchange(&connect(over.address), Wish::both(seed, MB), &watch);
                seed += 1;
            }
            seed
        });
        flood(&mut Strangers::of(at), &tap);
        is_over.store(true, Ordering::Relaxed);
        assert!(runs.join().expect("it goes on beside the flood") > 100);
    });
    exchange_all(over.address, &wishes(21), &watch);
    assert!(!over.stderr().contains("link down"), "{}", over.stderr());
    let after = memory(&egress);
    assert!(after.0 <= before.0, "private mappings: {before:?}, then {after:?}");
    assert!(after.1 <= before.1 + GROWTH_MAX, "resident: {before:?}, then {after:?}");
    // Whatever strangers had taken, they do not have for long.
    let third = of_mode(ingress(&link)).start();
    third.wait_says("event=\"link up\"");
    exchange_all(third.address, &wishes(31), &watch);
}

/// Any bytes, many of which begin as something does.
#[test]
fn noise() {
    beside_a_link(Mode::Keyed, |strangers, _| flood_with_noise(strangers, Mode::Keyed));
}

#[test]
fn noise_without_keys() {
    beside_a_link(Mode::Insecure, |strangers, _| flood_with_noise(strangers, Mode::Insecure));
}

fn flood_with_noise(strangers: &mut Strangers, mode: Mode) {
    let bytes = pattern(3, 1 << 16);
    for _ in 0..FLOOD {
        let length = strangers.numbers.below(1500);
        let start = strangers.numbers.below(bytes.len() - length);
        let mut datagram = bytes[start..start + length].to_vec();
        if let Some(first) = datagram.first_mut() {
            let kind = [0x01, 0x02, 0x03, 0x04, 0x10, 0x10, *first, 0x00][length % 8];
            *first = kind | mode as u8;
        }
        strangers.send(&datagram);
    }
}

/// Greetings that are in order but for their address; cut ones; and damaged ones. With keys there is no such
/// thing: see keys.rs.
#[test]
fn greetings_without_proof() {
    beside_a_link(Mode::Insecure, |strangers, _| {
        for number in 0..FLOOD {
            let mut init = strangers.init().encode().to_vec();
            match number % 4 {
                0 => init.truncate(number % INIT_BYTES),
                1 => init[number % INIT_BYTES] ^= 1,
                _ => {}
            }
            strangers.send(&init);
        }
    });
}

/// The same by who gets the answers, and shows that: each takes a link that it never speaks over, if
/// there is one.
#[test]
fn greetings_with_proof() {
    beside_a_link(Mode::Insecure, |strangers, _| {
        let mut proven = 0;
        for _ in 0..FLOOD / 500 {
            let mut inits = Vec::new();
            for _ in 0..250 {
                let init = strangers.init();
                strangers.send(&init.encode());
                inits.push(init);
            }
            for (index, answer) in strangers.hear() {
                let Some(cookie) = Cookie::decode(&answer) else { continue };
                let asked = inits.iter().find(|init| init.nonce == cookie.nonce);
                let Some(&init) = asked else { continue };
                let init = Init { proof: cookie.proof, ..init };
                let _ = strangers.sockets[index].send(&init.encode());
                proven += 1;
            }
        }
        assert!(proven > FLOOD / 50, "{proven} were asked for a proof");
    });
}

/// Packets of links that are not there, and of one that is, with a wrong tag.
#[test]
fn packets_of_others() {
    beside_a_link(Mode::Keyed, |strangers, tap| flood_with_packets(strangers, tap, Mode::Keyed));
}

#[test]
fn packets_of_others_without_keys() {
    let mode = Mode::Insecure;
    beside_a_link(mode, |strangers, tap| flood_with_packets(strangers, tap, mode));
}

fn flood_with_packets(strangers: &mut Strangers, tap: &Tap, mode: Mode) {
    let [up, _] = tap.kept();
    let own = up
        .iter()
        .rev()
        .find_map(|datagram| Header::decode(datagram.first_chunk()?).map(|header| header.receiver));
    let own = own.expect("a packet was heard");
    let bytes = pattern(5, 1472);
    for number in 0..FLOOD {
        let receiver = if number % 2 == 0 { own } else { strangers.numbers.next() as u32 };
        // With keys, any of the slots that a key may be in.
        let key_slot = if mode == Mode::Keyed { number as u8 / 2 % 4 } else { 0 };
        let header = Header { mode, key_slot, number: number as u64 * 7, receiver }.encode();
        let length = 12 + strangers.numbers.below(1460);
        strangers.send(&[&header, &bytes[12..length]].concat());
    }
}

/// Everything that was heard, both ways, from the beginning and from lately, again and from
/// elsewhere.
#[test]
fn what_was_heard_before() {
    beside_a_link(Mode::Keyed, flood_with_replays);
}

#[test]
fn what_was_heard_before_without_keys() {
    beside_a_link(Mode::Insecure, flood_with_replays);
}

fn flood_with_replays(strangers: &mut Strangers, tap: &Tap) {
    let kept = tap.kept();
    assert!(kept.iter().all(|way| way.len() > 500), "little was heard");
    for number in 0..FLOOD {
        let way = &kept[usize::from(number % 4 == 3)];
        strangers.send(&way[number % way.len()]);
    }
}
