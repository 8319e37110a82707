//! Strangers that know an egress's public key, which is no secret, and start handshakes without end: made-up ones
//! with the right mac1, real ones of ends that are no peers, and some that show that their addresses are theirs. The
//! egress takes no memory for them and lets none in; a link that is there goes on, and a peer comes in beside them.
//!
//! SEAPROX_TESTS_STARTS says how many there are; `--nocapture` shows what a ping over the link took meanwhile.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac as _, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use seaprox_noise::aead::Algorithm;
use seaprox_noise::agreed::Terms;
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator, Purpose};
use seaprox_noise::keys::{Identity, Peer, Psk, Public, Secret};
use seaprox_noise::message::{COOKIE_BYTES, INIT_BYTES, Kind, kind_of};
use seaprox_tests::bytes::Numbers;
use seaprox_tests::ends::{egress, ingress};
use seaprox_tests::eventually;
use seaprox_tests::keys;
use seaprox_tests::launch::Proxy;
use seaprox_tests::peer::{assert_echoes, echo, own_ip, read_bytes, serve, vacant_port};
use seaprox_udp::keyed::CARRIER;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// As many as come in without the variable.
const STARTS: usize = 20_000;

/// Places that strangers speak from, each with an address of its own.
const SOCKETS: usize = 100;

/// INITs between two times that answers are looked for.
const ROUND: usize = 2_000;

/// Of each round, so many go the whole way: a real INIT, then the same with the cookie.
const PROVING: usize = 8;

/// What the egress may have more in memory after than before: pages of its static memory that it had not
/// touched.
const GROWTH_MAX: u64 = 1536 * 1024;

fn starts() -> usize {
    let given = std::env::var("SEAPROX_TESTS_STARTS").ok();
    given.map_or(STARTS, |number| number.parse().expect("SEAPROX_TESTS_STARTS is a number"))
}

/// As docs/protocol.md has it: what shows that its sender knows the receiver's public key.
struct Mac1([u8; 32]);

impl Mac1 {
    fn of(public: &Public) -> Mac1 {
        let label = b"seaprox mac1    ";
        Mac1(Blake2s256::new().chain_update(label).chain_update(public.bytes()).finalize().into())
    }

    fn put(&self, init: &mut [u8; INIT_BYTES]) {
        let mut mac = Blake2sMac::<U16>::new_from_slice(&self.0).expect("it is short enough");
        Update::update(&mut mac, &init[..152]);
        init[152..168].copy_from_slice(&mac.finalize().into_bytes());
    }
}

/// Somebody who has keys that nobody knows.
struct Stranger {
    own: Identity,
    egress: Peer,
    clock: Clock,
}

impl Stranger {
    fn new(number: u8, egress: Public) -> Stranger {
        let own = Identity::new(Secret::from_random([number; 32]));
        let egress = Peer::new(&own, egress, Psk::NONE).expect("they are two");
        Stranger { own, egress, clock: Clock::new() }
    }
}

/// One who goes the whole way.
struct Attempt {
    socket: usize,
    index: u32,
    initiator: Initiator,
}

/// All of them.
struct Strangers {
    sockets: Vec<UdpSocket>,
    numbers: Numbers,
    mac1: Mac1,
    stranger: Stranger,
    attempts: Vec<Attempt>,
    /// Real INITs of strangers, to be sent again and again: nothing is kept of them, so each is a new one.
    real: Vec<[u8; INIT_BYTES]>,
    sent: usize,
    proven: usize,
    answers: usize,
}

impl Strangers {
    fn of(egress: SocketAddr, public: Public) -> Strangers {
        let sockets = (0..SOCKETS).map(|number| {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 66, 6, number as u8 + 1), 0));
            let socket = socket.expect("every address of 127.0.0.0/8 is this machine's");
            socket.connect(egress).expect("an address");
            socket.set_nonblocking(true).expect("it is ours");
            socket
        });
        let mut strangers = Strangers {
            sockets: sockets.collect(),
            numbers: Numbers::new(9),
            mac1: Mac1::of(&public),
            stranger: Stranger::new(77, public),
            attempts: Vec::new(),
            real: Vec::new(),
            sent: 0,
            proven: 0,
            answers: 0,
        };
        strangers.real = (0..64).map(|number| strangers.attempt(number).1).collect();
        strangers
    }

    fn random(&mut self) -> [u8; 32] {
        let mut random = [0; 32];
        random
            .chunks_mut(8)
            .for_each(|part| part.copy_from_slice(&self.numbers.next().to_le_bytes()));
        random
    }

    fn attempt(&mut self, index: u32) -> (Initiator, [u8; INIT_BYTES]) {
        let preferred = Algorithm::Aes128Gcm;
        let terms = Terms { carrier: CARRIER, parameters: [0; 16], preferred };
        let mut initiator = Initiator::new(index, Purpose::Link, terms, 0);
        let random = self.random();
        let Stranger { own, egress, clock } = &mut self.stranger;
        let ends = Ends { own, peer: egress };
        let init = initiator.init(ends, clock, 0, 1_000_000, random).expect("it is due");
        (initiator, init)
    }

    fn send(&mut self, socket: usize, init: &[u8]) {
        // A full queue of the kernel drops it, as any path may.
        let _ = self.sockets[socket].send(init);
        self.sent += 1;
        if self.sent.is_multiple_of(SOCKETS) {
            // A flood of 100 datagrams a millisecond, and not only of what overflows at once.
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// One that nobody has sent before.
    fn send_made_up(&mut self) {
        let mut init = [0; INIT_BYTES];
        init.chunks_mut(8)
            .for_each(|part| part.copy_from_slice(&self.numbers.next().to_le_bytes()));
        init[..4].copy_from_slice(&[Kind::Init as u8, 1, 1, 0]);
        // Each other one would be opened, if its sender had shown its address.
        if self.sent.is_multiple_of(2) {
            self.mac1.put(&mut init);
        }
        self.send(self.sent % SOCKETS, &init);
    }

    fn round(&mut self) {
        for number in 0..ROUND - 2 * PROVING {
            match number % 4 {
                0 => self.send(self.sent % SOCKETS, &self.real[self.sent / 4 % 64].clone()),
                _ => self.send_made_up(),
            }
        }
        self.attempts.clear();
        for _ in 0..PROVING {
            let (socket, index) = (self.numbers.below(SOCKETS), self.numbers.next() as u32);
            let (initiator, init) = self.attempt(index);
            self.attempts.push(Attempt { socket, index, initiator });
            self.send(socket, &init);
        }
        thread::sleep(Duration::from_millis(2));
        self.hear();
    }

    /// Nothing but cookies is said to any of them; who gets one comes again with it.
    fn hear(&mut self) {
        let mut attempts = std::mem::take(&mut self.attempts);
        let mut datagram = [0; 2048];
        for socket in 0..SOCKETS {
            while let Ok(count) = self.sockets[socket].recv(&mut datagram) {
                let answer = &datagram[..count];
                assert_eq!((kind_of(answer), count), (Some(Kind::Cookie), COOKIE_BYTES));
                self.answers += 1;
                let index = u32::from_le_bytes(answer[4..8].try_into().expect("four bytes"));
                let is_this =
                    |attempt: &&mut Attempt| attempt.index == index && attempt.socket == socket;
                let Some(attempt) = attempts.iter_mut().find(is_this) else { continue };
                let random = self.random();
                let Stranger { own, egress, clock } = &mut self.stranger;
                let ends = Ends { own, peer: egress };
                // An answer makes the next one due before its time.
                let Heard::Again = attempt.initiator.hear(ends, clock, 1, answer) else { continue };
                let Some(init) = attempt.initiator.init(ends, clock, 1, 1_000_000, random) else {
                    continue;
                };
                self.send(socket, &init);
                self.proven += 1;
            }
        }
    }
}

/// What an egress holds: private mappings, and pages that it has touched.
fn memory(egress: &Proxy) -> (u64, u64) {
    let resident = egress.process.field("status", "VmRSS");
    let resident = resident.trim_end_matches("kB").trim().parse::<u64>().expect("a number");
    (egress.process.data_bytes(), resident * 1024)
}

/// Datagrams that this port has not heard, its queue being full (proc_net_udp: `drops`, the last column).
fn dropped(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("it is there");
    let of_port = table.lines().filter(|line| {
        let local = line.split_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
    });
    of_port.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// How long a word over the link and back takes, again and again while somebody wants it.
fn pings(over: &Proxy, goes_on: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut client = over.connect();
    client.set_nodelay(true).expect("it is tcp");
    let mut took = Vec::new();
    while goes_on(took.len()) {
        let start = Instant::now();
        client.write_all(&[7; 64]).expect("it takes it");
        assert_eq!(read_bytes(&client, 64), [7; 64]);
        took.push(start.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    took.sort_unstable();
    took
}

fn shown(took: &[Duration]) -> String {
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    format!("{} pings, p50 {:?}, p99 {:?}, longest {:?}", took.len(), at(50), at(99), at(100))
}

#[test]
fn handshakes_of_strangers() {
    let count = starts();
    let at = SocketAddr::from((own_ip(), vacant_port()));
    let link = format!("udp:{at}");
    let egress = egress(&link).sealed().to(serve(echo)).option("--link-timeout", "3s").start();
    let over = ingress(&link).sealed().start();
    over.wait_says("event=\"link up\"");
    // Both links that there can be have been used once: their memory is touched.
    {
        let second = ingress(&link).sealed().start();
        second.wait_says("event=\"link up\"");
        assert_echoes(&mut second.connect(), &[1; 100_000]);
    }
    assert_echoes(&mut over.connect(), &[1; 100_000]);
    eventually("the second link is gone", || egress.stderr().contains("link down"));
    let alone = pings(&over, |count| count < 1000);
    let public = Public::from_base64(keys::of_ends()[1].public.as_bytes()).expect("a key");
    let mut strangers = Strangers::of(at, public);
    let before = memory(&egress);
    let (is_over, begun) = (AtomicBool::new(false), Instant::now());
    let beside = thread::scope(|scope| {
        let beside =
            scope.spawn(|| pings(&over, |count| count < 100 || !is_over.load(Ordering::Relaxed)));
        let mut newcomer = None;
        while strangers.sent < count {
            strangers.round();
            // A peer comes in meanwhile.
            if newcomer.is_none() && strangers.sent > count / 2 {
                newcomer = Some(ingress(&link).sealed().start());
            }
        }
        let newcomer = newcomer.expect("half of them have come");
        newcomer.wait_says("event=\"link up\"");
        assert_echoes(&mut newcomer.connect(), b"beside strangers");
        is_over.store(true, Ordering::Relaxed);
        beside.join().expect("it goes on beside the flood")
    });
    let took = begun.elapsed();
    let after = memory(&egress);
    println!("alone:  {}", shown(&alone));
    println!("beside: {}", shown(&beside));
    println!(
        "{} handshake starts in {took:?}, {} not heard by the socket, {} with a cookie, {} cookies said; \
         memory {before:?}, then {after:?}",
        strangers.sent,
        dropped(at.port()),
        strangers.proven,
        strangers.answers,
    );
    assert!(after.0 <= before.0, "private mappings: {before:?}, then {after:?}");
    assert!(after.1 <= before.1 + GROWTH_MAX, "resident: {before:?}, then {after:?}");
    assert!(strangers.answers > 100, "{} were asked to show their address", strangers.answers);
    assert!(strangers.proven > PROVING, "{} showed it", strangers.proven);
    // No stranger has a link, and nobody lost one.
    assert_eq!(egress.stderr().matches("event=\"link up\"").count(), 3, "{}", egress.stderr());
    assert!(!over.stderr().contains("link down"), "{}", over.stderr());
    assert_echoes(&mut over.connect(), b"as if nobody had been there");
}
