//! The hostile relay over real sockets: each thing that it is told to do it does, as often as its
//! seed says, and nothing else. What the seed says is tested where it is drawn.

use nix::sys::socket::{setsockopt, sockopt};
use seaprox_tests::bytes::pattern;
use seaprox_tests::peer::own_ip;
use seaprox_tests::relay::{Conditions, Counters, Relay};
use seaprox_tests::{PATIENCE, eventually};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A client, a server, and a relay between them.
struct Scene {
    relay: Relay,
    client: UdpSocket,
    server: UdpSocket,
}

/// What arrived: when, and what, and from which port.
struct Arrived {
    at: Instant,
    bytes: Vec<u8>,
    port: u16,
}

impl Arrived {
    /// The number that `send` gave it.
    fn number(&self) -> u32 {
        u32::from_be_bytes(self.bytes[..4].try_into().expect("it has a number"))
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    // As large as may be: only the relay shall lose anything.
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("root may have large buffers");
    socket
}

fn scene(seed: u64, words: &str) -> Scene {
    let mut conditions = Conditions::default();
    conditions.apply(words, Duration::ZERO).expect("the words are right");
    let server = socket();
    let to = server.local_addr().unwrap();
    let relay = Relay::start((own_ip(), 0).into(), to, seed, conditions).expect("a relay");
    let client = socket();
    client.connect(relay.address()).unwrap();
    Scene { relay, client, server }
}

/// What datagram `number` consists of.
fn datagram(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = pattern(u64::from(number), length);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

impl Scene {
    /// Sends so many to the server, one each `gap`, and takes what arrives until nothing has for
    /// so long.
    fn send(&self, count: u32, length: usize, gap: Duration, silence: Duration) -> Vec<Arrived> {
        thread::scope(|scope| {
            let taker = scope.spawn(|| take(&self.server, silence));
            let begin = Instant::now();
            for number in 0..count {
                self.client.send(&datagram(number, length)).expect("the relay listens");
                thread::sleep(
                    (begin + gap * (number + 1)).saturating_duration_since(Instant::now()),
                );
            }
            taker.join().expect("the taker goes on")
        })
    }

    fn up(&self) -> Counters {
        self.relay.totals().up
    }
}

fn take(socket: &UdpSocket, silence: Duration) -> Vec<Arrived> {
    let mut arrived = Vec::new();
    let mut buffer = vec![0; 65_536];
    // The first one may be long in coming.
    socket.set_read_timeout(Some(PATIENCE.min(silence * 5))).unwrap();
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let bytes = buffer[..length].to_vec();
                arrived.push(Arrived { at: Instant::now(), bytes, port: from.port() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return arrived,
            Err(error) => panic!("{error}"),
        }
        socket.set_read_timeout(Some(silence)).unwrap();
    }
}

fn numbers(arrived: &[Arrived]) -> Vec<u32> {
    arrived.iter().map(Arrived::number).collect()
}

/// So many of so many, give or take five standard deviations: the seed is fixed, so it holds
/// always or never.
#[track_caller]
fn assert_share(count: usize, of: usize, share: f64) {
    let deviation = (of as f64 * share * (1.0 - share)).sqrt();
    let off = (count as f64 - of as f64 * share).abs();
    assert!(off <= 5.0 * deviation, "{count} of {of} are not {share}");
}

#[test]
fn without_a_word_it_changes_nothing() {
    let scene = scene(1, "");
    let other = socket();
    other.connect(scene.relay.address()).unwrap();
    let mut ports = Vec::new();
    let mut buffer = vec![0; 65_536];
    scene.server.set_read_timeout(Some(PATIENCE)).unwrap();
    for (client, length) in
        [(&scene.client, 0), (&scene.client, 1), (&other, 1452), (&other, 65_000)]
    {
        let question = pattern(length as u64, length);
        client.send(&question).unwrap();
        let (got, from) = scene.server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..got], question);
        ports.push(from.port());
        // The answer goes to who asked.
        scene.server.send_to(&question, from).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let got = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..got], question);
    }
    assert!(ports[0] == ports[1] && ports[1] != ports[2] && ports[2] == ports[3], "{ports:?}");
    eventually("all is counted", || scene.relay.totals().down.sent == 4);
    let totals = scene.relay.end().unwrap();
    assert_eq!((totals.clients, totals.up.sent, totals.up.sent_bytes), (2, 4, 66_453));
    assert_eq!(totals.up.received, 4);
}

#[test]
fn what_is_lost_depends_on_the_seed_alone_and_on_the_way() {
    let run = |seed| {
        let scene = scene(seed, "up.loss=10%");
        let arrived = numbers(&scene.send(2000, 200, MS / 20, 50 * MS));
        assert!(arrived.is_sorted());
        assert_share(2000 - arrived.len(), 2000, 0.1);
        let up = scene.up();
        assert_eq!((up.received, up.sent, up.lost), (2000, arrived.len() as u64, 2000 - up.sent));
        arrived
    };
    let first = run(7);
    assert_eq!(run(7), first);
    assert_ne!(run(8), first);

    let scene = scene(7, "down.loss=100%");
    assert_eq!(scene.send(100, 200, MS / 20, 50 * MS).len(), 100);
}

#[test]
fn losses_come_in_bursts() {
    let scene = scene(3, "burst=2%/20%");
    let arrived = numbers(&scene.send(5000, 100, MS / 50, 50 * MS));
    let spells = arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
    let lost = 5000 - arrived.len();
    // Every spell loses five on average; single losses of as many would have 1.1.
    let length = lost as f64 / spells as f64;
    assert!((4.0..6.5).contains(&length), "{lost} in {spells} spells");
    assert!((0.05..0.14).contains(&(lost as f64 / 5000.0)), "{lost}");
}

#[test]
fn each_is_on_the_way_as_long_as_it_should() {
    let scene = scene(5, "delay=20ms,jitter=4ms");
    let begin = Instant::now();
    let arrived = scene.send(500, 200, MS, 100 * MS);
    assert_eq!(numbers(&arrived), (0..500).collect::<Vec<_>>());
    let mut delays: Vec<_> = arrived
        .iter()
        .map(|one| one.at.duration_since(begin).saturating_sub(MS * one.number()))
        .collect();
    delays.sort();
    // Never early. How late depends on who else wants the CPU: not half of them much.
    assert!(delays[0] >= 20 * MS, "{:?}", delays[0]);
    assert!((21 * MS..27 * MS).contains(&delays[250]), "{:?}", delays[250]);
}

#[test]
fn some_are_overtaken_and_some_come_twice() {
    let scene = scene(6, "delay=5ms,reorder=25%/4ms");
    let arrived = numbers(&scene.send(2000, 100, MS / 2, 100 * MS));
    let behind = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count();
    // Those held back one after the other come back in order: 25 % of them begin such a row.
    assert!((250..500).contains(&behind), "{behind}");
    let mut sorted = arrived.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..2000).collect::<Vec<_>>());
    assert_share(scene.up().held_back as usize, 2000, 0.25);

    scene.relay.apply("reorder=0%/0,duplicate=10%").unwrap();
    thread::sleep(50 * MS);
    let arrived = numbers(&scene.send(2000, 100, MS / 20, 100 * MS));
    assert_share(arrived.len() - 2000, 2000, 0.1);
    assert_eq!(arrived.len() as u64 - 2000, scene.up().duplicated);
    let copies = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(copies, arrived.len() - 2000);
}

#[test]
fn some_are_damaged_and_old_ones_return() {
    let broken = |arrived: &[Arrived], length: usize| {
        let is_other = |one: &&Arrived| one.bytes != datagram(one.number(), length);
        arrived.iter().filter(is_other).count()
    };
    let scene = scene(9, "corrupt=10%");
    let mut arrived = scene.send(2000, 1452, MS / 20, 50 * MS);
    assert_eq!(arrived.len(), 2000);
    assert_eq!(broken(&arrived, 1452) as u64, scene.up().corrupted);
    assert_share(broken(&arrived, 1452), 2000, 0.1);
    assert!(arrived.iter().all(|one| one.bytes.len() == 1452));

    scene.relay.apply("corrupt=0,truncate=10%").unwrap();
    thread::sleep(50 * MS);
    arrived = scene.send(2000, 1452, MS / 20, 50 * MS);
    let short: Vec<_> = arrived.iter().filter(|one| one.bytes.len() < 1452).collect();
    assert_eq!((arrived.len(), short.len() as u64), (2000, scene.up().truncated));
    assert_share(short.len(), 2000, 0.1);

    scene.relay.apply("truncate=0,replay=10%").unwrap();
    thread::sleep(50 * MS);
    arrived = scene.send(2000, 1452, MS / 20, 50 * MS);
    assert_eq!(broken(&arrived, 1452), 0);
    assert_eq!(arrived.len() as u64, 2000 + scene.up().replayed);
    assert_share(arrived.len() - 2000, 2000, 0.1);
    let newest = arrived.iter().scan(0, |newest, one| {
        *newest = one.number().max(*newest);
        Some(*newest - one.number())
    });
    assert!(newest.max().unwrap() > 100, "nothing old came back");
}

#[test]
fn the_rate_is_the_rate_and_the_queue_is_no_longer_than_it_may_be() {
    // Twice as much as passes, for half a second.
    let scene = scene(1, "rate=40M,queue=50k");
    let begin = Instant::now();
    let arrived = scene.send(3444, 1452, Duration::from_nanos(145_200), 100 * MS);
    let lasted = arrived.last().unwrap().at.duration_since(arrived[0].at).as_secs_f64();
    let rate = (arrived.len() - 1) as f64 * 1452.0 * 8.0 / lasted;
    assert!((34e6..40.8e6).contains(&rate), "{rate}");
    // 50 KiB take 10.24 ms, and each one 0.29.
    let sent_at = |one: &Arrived| begin + Duration::from_nanos(145_200) * one.number();
    let mut waits: Vec<_> =
        arrived.iter().map(|one| one.at.saturating_duration_since(sent_at(one))).collect();
    waits.sort();
    let half = waits[waits.len() / 2];
    assert!((9 * MS..13 * MS).contains(&half), "{half:?}");
    let up = scene.up();
    assert_eq!(up.sent + up.queue_full, 3444);
    assert_eq!(up.sent, arrived.len() as u64);
}

#[test]
fn the_path_shrinks_without_a_word() {
    let scene = scene(1, "mtu=1500");
    for (mtu, length, passes) in [
        (1500, 1472, true),
        (1500, 1473, false),
        (1280, 1253, false),
        (1280, 1252, true),
        (600, 573, false),
    ] {
        scene.relay.set(|conditions| conditions.both(|way, mtu| way.mtu = mtu, mtu));
        thread::sleep(30 * MS);
        let arrived = scene.send(3, length, MS, 20 * MS);
        assert_eq!(arrived.len(), if passes { 3 } else { 0 }, "{length} at {mtu}");
    }
    assert_eq!(scene.up().too_large, 9);
}

#[test]
fn in_a_blackout_nothing_passes_and_before_and_after_it_all_does() {
    let scene = scene(1, "");
    scene.relay.blackout(100 * MS, 200 * MS);
    let arrived = numbers(&scene.send(400, 100, MS, 600 * MS));
    let gap = arrived.windows(2).map(|pair| pair[1] - pair[0] - 1).max().unwrap();
    // One moment on one side, one on the other.
    assert!((150..=250).contains(&gap), "{gap}");
    assert_eq!(arrived.len() as u32 + gap, 400);
    assert_eq!(scene.up().in_blackout, u64::from(gap));
    let last_before = arrived.windows(2).find(|pair| pair[1] - pair[0] > 1).unwrap()[0];
    assert!((50..=150).contains(&last_before), "{last_before}");
}

#[test]
fn a_new_port_is_where_the_answers_go() {
    let scene = scene(1, "");
    let mut buffer = [0; 100];
    let mut hear = || -> SocketAddr {
        scene.client.send(b"ask").unwrap();
        scene.server.set_read_timeout(Some(PATIENCE)).unwrap();
        scene.server.recv_from(&mut buffer).unwrap().1
    };
    let first = hear();
    scene.relay.rebind();
    eventually("it has another port", || scene.relay.totals().rebinds == 1);
    let second = hear();
    assert_ne!(first.port(), second.port());
    // The old port is silent, as behind a NAT: no error comes back, and nothing goes on.
    scene.server.send_to(b"old", first).unwrap();
    scene.server.send_to(b"new", second).unwrap();
    scene.client.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = scene.client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], *b"new");
    scene.server.send_to(b"again", first).unwrap();
    scene.server.send_to(b"again", second).unwrap();
    let length = scene.client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], *b"again");

    scene.relay.apply("rebind=50ms").unwrap();
    thread::sleep(30 * MS);
    let mut ports: Vec<_> =
        scene.send(400, 100, MS, 50 * MS).into_iter().map(|one| one.port).collect();
    assert_eq!(ports.len(), 400);
    ports.dedup();
    assert!((4..=10).contains(&ports.len()), "{ports:?}");
}

#[test]
fn the_program_follows_its_input_and_ends_with_it() {
    let server = socket();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hostile-relay"))
        .args([&format!("{}:0", own_ip()), &server.local_addr().unwrap().to_string()])
        .args(["seed=7", "loss=100%"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the relay starts");
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening = said.next().expect("it says where it listens");
    let client = socket();
    client.connect(listening.strip_prefix("listening ").unwrap()).unwrap();

    client.send(b"lost").unwrap();
    let mut input = child.stdin.take().unwrap();
    let counts = |name: &str, line: &str| -> u64 {
        let mut words = line.split(' ').skip_while(|word| *word != name).skip(1);
        words.next().expect("it is counted").parse().expect("a number")
    };
    eventually("it is lost", || {
        writeln!(input, "totals").unwrap();
        let lines: Vec<_> = said.by_ref().take(3).collect();
        counts("lost", &lines[0]) == 1
    });
    writeln!(input, "nonsense\nloss=0").unwrap();
    server.set_read_timeout(Some(20 * MS)).unwrap();
    let mut buffer = [0; 100];
    eventually("one arrives", || {
        client.send(b"found").unwrap();
        server.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *b"found")
    });
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not understood: nonsense"));
    assert_eq!(said.count(), 3);
}

#[test]
fn the_program_says_what_it_does_not_understand() {
    for words in
        [&["127.0.0.1:0"][..], &["127.0.0.1:0", "nowhere"], &["127.0.0.1:0", "127.0.0.1:9", "x=1"]]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hostile-relay")).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("usage") || said.contains("not understood: x=1"), "{said}");
    }
}
