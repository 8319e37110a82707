//! An ingress and an egress with SCTP between them, over two paths between two network namespaces:
//! many channels, loss, dark paths, ends that are killed, strangers. Only in the machine of
//! tests/vm/run, where the namespaces are nobody else's; elsewhere each test says that it is skipped.

use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::keys::{self, Which};
use seaprox_tests::namespace::within;
use seaprox_tests::peer::{
    End, accept, assert_ends, assert_refused, assert_rest, connect, echo, end, fill, linger,
    read_bytes, read_to_end, send_pattern, serve_on,
};
use seaprox_tests::process::{LISTEN, Process};
use seaprox_tests::program::{program, workspace};
use seaprox_tests::{PATIENCE, eventually, run, trace};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[path = "other_ways.rs"]
mod other_ways;

const KIB: usize = 1024;

/// Where clients go to, in `a`.
const CLIENTS: &str = "127.0.0.1:8000";
/// One path, and both.
const ONE_PATH: &str = "sctp:10.1.0.2:7000";
const TWO_PATHS: &str = "sctp:10.1.0.2:7000,10.2.0.2";

/// Both namespaces and the paths between them; one test at a time has them. They are made once, as
/// that takes seconds.
struct Network(#[allow(dead_code, reason = "held")] MutexGuard<'static, bool>);

/// The paths are not as they were made.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// A function of tests/vm/network.sh.
fn call(words: &[&str]) -> String {
    let script = workspace().join("tests/vm/network.sh");
    let script = script.to_str().expect("a path in words");
    run(&[&[script], words].concat())
}

impl Network {
    fn new() -> Option<Network> {
        static IS_UP: Mutex<bool> = Mutex::new(false);
        if std::env::var_os("SEAPROX_VM").is_none() {
            println!("skipped: the network is not ours to change");
            return None;
        }
        let mut is_up = IS_UP.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_up {
            call(&["network_up"]);
        } else if CHANGED.swap(false, Ordering::Relaxed) {
            call(&["network_plain"]);
        }
        *is_up = true;
        Some(Network(is_up))
    }

    /// Calls a function that makes a path another than it was.
    fn change(words: &[&str]) {
        CHANGED.store(true, Ordering::Relaxed);
        call(words);
    }
}

/// One end of the links, killed with this value.
struct Running {
    child: Child,
    process: Process,
    log: PathBuf,
}

impl Running {
    fn new(namespace: &str, words: &[&str]) -> Running {
        let log = trace::temporary("log");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program()).arg(words[0]);
        let which = if words[0] == "ingress" { Which::Ingress } else { Which::Egress };
        if !words.contains(&"--insecure") {
            command.args(keys::words(which));
        }
        // What comes later counts.
        command.args(["--threads", "1"]).args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a temporary file can be written"));
        let child = command.spawn().expect("ip runs");
        // `ip` becomes the program.
        let running = Running { process: Process::child(&child), child, log };
        running.wait_says("event=listening");
        running
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn says(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    #[track_caller]
    fn wait_says(&self, words: &str) {
        eventually(words, || self.says(words) > 0);
    }

    /// At once, so that it cannot say good-bye.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has so many TCP sockets that are connected, or are about to be.
    #[track_caller]
    fn wait_connections(&self, count: usize) {
        let connected = || {
            let sockets = self.process.own_tcp_sockets();
            sockets.iter().filter(|socket| socket.state != LISTEN).count()
        };
        eventually(&format!("{count} connections"), || connected() == count);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Everything there is between a client and a backend.
struct Way {
    ingress: Running,
    egress: Running,
    link: &'static str,
    links: usize,
    target: String,
    /// The last, so that it outlives both.
    #[allow(dead_code, reason = "held")]
    network: Network,
}

fn egress(link: &str, target: &str) -> Running {
    Running::new("b", &["egress", link, target, "--log-connections"])
}

fn ingress(link: &str, options: &[&str]) -> Running {
    Running::new("a", &[&["ingress", CLIENTS, link, "--log-connections"], options].concat())
}

impl Way {
    /// With the link up.
    fn new(network: Network, backend: &TcpListener, link: &'static str, options: &[&str]) -> Way {
        let target = backend.local_addr().expect("a listener has an address").to_string();
        let egress = egress(link, &target);
        let ingress = ingress(link, options);
        Way { ingress, egress, link, links: 1, target, network }.up()
    }

    /// With a link for each of so many threads.
    fn of_threads(
        network: Network,
        backend: &TcpListener,
        link: &'static str,
        links: usize,
    ) -> Way {
        let target = backend.local_addr().expect("a listener has an address").to_string();
        let threads = ["--threads", &links.to_string()];
        let words = [&["egress", link, &target, "--log-connections"][..], &threads].concat();
        let egress = Running::new("b", &words);
        let ingress = ingress(link, &threads);
        Way { ingress, egress, link, links, target, network }.up()
    }

    /// Waits for every link.
    fn up(self) -> Way {
        for end in [&self.ingress, &self.egress] {
            eventually("every link is up", || end.says("event=\"link up\"") == self.links);
        }
        self
    }

    /// No link was lost.
    #[track_caller]
    fn assert_held(&self) {
        for end in [&self.ingress, &self.egress] {
            assert!(end.process.is_alive(), "one end is no more");
            assert_eq!(
                end.says("event=\"link up\""),
                self.links,
                "the first links are the only ones"
            );
            assert_eq!(end.says("event=\"link down\""), 0, "a link was lost");
        }
    }

    #[track_caller]
    fn assert_empty(&self) {
        self.ingress.wait_connections(0);
        self.egress.wait_connections(0);
    }
}

/// A listener where the egress goes to.
fn backend() -> TcpListener {
    within("b", || TcpListener::bind("127.0.0.1:0").expect("there are ports"))
}

fn client() -> TcpStream {
    within("a", || connect(CLIENTS.parse().expect("an address")))
}

/// A connection, and its backend's end.
fn pair(backend: &TcpListener) -> (TcpStream, TcpStream) {
    let client = client();
    (client, accept(backend))
}

/// The stream that goes the other way.
fn answer_to(seed: u64) -> u64 {
    seed + (1 << 32)
}

/// A backend that is told a seed and a length, sends one stream, and wants another of it; it ends in
/// order if that was the right one.
fn exchange(mut stream: TcpStream) {
    let mut head = [0; 16];
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    let seed = u64::from_le_bytes(head[..8].try_into().expect("8 bytes"));
    let length = u64::from_le_bytes(head[8..].try_into().expect("8 bytes")) as usize;
    let mut writer = stream.try_clone().expect("a stream can be cloned");
    let answer = thread::spawn(move || {
        let _ = writer.write_all(&pattern(answer_to(seed), length));
    });
    let mut bytes = Vec::new();
    let whole = stream.read_to_end(&mut bytes).is_ok() && bytes == pattern(seed, length);
    let _ = answer.join();
    // The client sees which of them it is.
    if !whole {
        linger(&stream, 0);
    }
}

/// A client of that backend: both streams at once, whole, and both ends.
fn talk(mut client: TcpStream, seed: u64, length: usize) {
    client.write_all(&[seed.to_le_bytes(), (length as u64).to_le_bytes()].concat()).unwrap();
    let sender = send_pattern(&client, seed, length);
    assert_rest(&mut client, &pattern(answer_to(seed), length));
    sender.join().expect("the link takes the bytes");
}

/// So many of them at once, from this seed on.
fn talk_all(count: u64, first_seed: u64, length: usize) {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| client()).collect();
        for (client, seed) in clients.into_iter().zip(first_seed..) {
            let small = thread::Builder::new().stack_size(128 * KIB);
            small.spawn_scoped(scope, move || talk(client, seed, length)).expect("a thread");
        }
    });
}

#[test]
fn two_hundred_channels_at_once_both_ways() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, ONE_PATH, &[]);
    serve_on(backend, exchange);
    talk_all(200, 1, 40 * KIB);
    way.assert_empty();
    // The same places again.
    talk_all(20, 1_000, 300 * KIB);
    way.assert_held();
    way.assert_empty();
}

#[test]
fn each_direction_ends_by_itself() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, ONE_PATH, &[]);
    for number in 0..2 {
        let (client, server) = pair(&backend);
        let (mut one, mut other) = if number == 0 { (client, server) } else { (server, client) };
        end(&one);
        assert_ends(&mut other, End::Fin);
        let sender = send_pattern(&other, 3, 200 * KIB);
        assert_rest(&mut one, &pattern(3, 200 * KIB));
        sender.join().unwrap();
    }
    let (client, mut server) = pair(&backend);
    linger(&client, 0);
    drop(client);
    assert_ends(&mut server, End::Rst);
    way.assert_empty();
    drop(backend);
    within("a", || assert_refused(CLIENTS.parse().expect("an address"), b""));
    way.assert_held();
}

#[test]
fn one_who_does_not_read_holds_up_nobody() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, ONE_PATH, &[]);
    let (slow_reader, slow) = pair(&backend);
    let sent = fill(&slow, 77);
    serve_on(backend, exchange);
    talk_all(8, 100, 300 * KIB);
    end(&slow);
    let mut slow_reader = slow_reader;
    let (bytes, ended) = read_to_end(&mut slow_reader);
    assert_same(&bytes, &pattern(77, sent)[..], "what waited");
    assert_eq!(ended, End::Fin);
    drop(slow_reader);
    way.assert_held();
    way.assert_empty();
}

/// Clients in the middle of something, each known to be at both ends.
fn busy(backend: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let pairs: Vec<_> = (0..count).map(|_| pair(backend)).collect();
    for (number, (client, server)) in pairs.iter().enumerate() {
        let mut one = if number % 2 == 0 { client } else { server };
        let mut other = if number % 2 == 0 { server } else { client };
        one.write_all(b"ping").unwrap();
        assert_eq!(read_bytes(other, 4), b"ping");
        other.write_all(b"and what is on its way").unwrap();
    }
    pairs
}

/// Whoever is left is reset, whatever it was told before.
fn assert_all_reset(streams: impl Iterator<Item = TcpStream>) {
    for mut stream in streams {
        assert_eq!(read_to_end(&mut stream).1, End::Rst);
    }
}

#[test]
fn an_egress_that_is_killed_comes_back() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let mut way = Way::new(network, &backend, ONE_PATH, &[]);
    let pairs = busy(&backend, 20);
    way.egress.kill();
    assert_all_reset(pairs.into_iter().map(|(client, _)| client));
    way.ingress.wait_connections(0);
    // It waits for the link.
    let waiting = client();
    way.egress = egress(way.link, &way.target);
    serve_on(backend, exchange);
    talk(waiting, 5, 10 * KIB);
    talk_all(20, 6, 40 * KIB);
    way.assert_empty();
}

#[test]
fn an_ingress_that_is_killed_leaves_nothing() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let mut way = Way::new(network, &backend, ONE_PATH, &[]);
    let pairs = busy(&backend, 20);
    way.ingress.kill();
    assert_all_reset(pairs.into_iter().map(|(_, server)| server));
    way.egress.wait_connections(0);
    way.ingress = ingress(way.link, &[]);
    serve_on(backend, exchange);
    talk_all(20, 6, 40 * KIB);
    way.assert_empty();
}

/// Nobody is told: neither that a path is dark, nor that who is beyond it was killed.
#[test]
fn an_egress_that_vanishes_is_found_dead() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let mut way = Way::new(network, &backend, TWO_PATHS, &[]);
    let pairs = busy(&backend, 4);
    Network::change(&["blackhole", "1"]);
    Network::change(&["blackhole", "2"]);
    way.egress.kill();
    for (client, _) in &pairs {
        let mut client = client;
        client.write_all(b"anybody?").unwrap();
    }
    assert_all_reset(pairs.into_iter().map(|(client, _)| client));
    Network::change(&["restore", "1"]);
    Network::change(&["restore", "2"]);
    way.egress = egress(way.link, &way.target);
    serve_on(backend, exchange);
    talk_all(4, 6, 40 * KIB);
    way.assert_empty();
}

#[test]
fn loss_and_delay_change_no_byte() {
    let Some(network) = Network::new() else { return };
    for path in ["1", "2"] {
        Network::change(&["netem", path, "loss", "1%", "delay", "20ms"]);
    }
    let backend = backend();
    let way = Way::new(network, &backend, TWO_PATHS, &[]);
    serve_on(backend, exchange);
    talk_all(20, 1, 60 * KIB);
    way.assert_held();
    way.assert_empty();
}

/// Asks and is answered, again and again; the longest it took.
fn longest_echo(client: &mut TcpStream, over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    let begin = Instant::now();
    for number in 0.. {
        assert!(begin.elapsed() < 4 * PATIENCE, "the others have failed");
        let sent = pattern(number, 2_000);
        let start = Instant::now();
        client.write_all(&sent).unwrap();
        assert_same(&read_bytes(client, sent.len()), &sent, "the echo");
        longest = longest.max(start.elapsed());
        if over.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    longest
}

#[test]
fn a_path_that_goes_dark_is_left() {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let way = Way::new(network, &backend, TWO_PATHS, &[]);
    let (mut client, server) = pair(&backend);
    thread::spawn(move || echo(server));
    serve_on(backend, exchange);
    // The second path is used only once a heartbeat on it was answered.
    thread::sleep(Duration::from_millis(1_500));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let echoes = scope.spawn(|| longest_echo(&mut client, &over));
        let before = packets("2");
        let bulk = scope.spawn(|| talk_all(4, 1, 2_000 * KIB));
        thread::sleep(Duration::from_millis(100));
        assert!(!bulk.is_finished(), "there is nothing to be in the middle of");
        Network::change(&["blackhole", "1"]);
        bulk.join().expect("it goes on");
        assert!(packets("2") - before > 100, "path 2 did not take over");
        Network::change(&["restore", "1"]);
        // Until a heartbeat has found it again.
        thread::sleep(Duration::from_millis(2_500));
        let before = packets("1");
        Network::change(&["blackhole", "2"]);
        talk_all(4, 10, 100 * KIB);
        assert!(packets("1") - before > 100, "path 1 did not take over");
        over.store(true, Ordering::Relaxed);
        let longest = echoes.join().expect("the echo goes on");
        println!("longest echo: {longest:?}");
        assert!(longest < Duration::from_secs(5), "{longest:?} without a byte");
    });
    drop(client);
    way.assert_held();
    way.assert_empty();
}

/// Packets that have arrived in `b` on a path.
fn packets(path: &str) -> u64 {
    call(&["packets_at", "b", path]).trim().parse().expect("a number")
}

#[test]
fn strangers_disturb_nobody() {
    beside_strangers(&[]);
}

#[test]
fn strangers_disturb_nobody_without_keys() {
    beside_strangers(&["--insecure"]);
}

fn beside_strangers(options: &[&str]) {
    let Some(network) = Network::new() else { return };
    let backend = backend();
    let target = backend.local_addr().expect("a listener has an address").to_string();
    let words = [&["egress", ONE_PATH, &target, "--log-connections"][..], options].concat();
    let egress = Running::new("b", &words);
    let ingress = ingress(ONE_PATH, options);
    let way = Way { ingress, egress, link: ONE_PATH, links: 1, target, network }.up();
    let (mut client, server) = pair(&backend);
    thread::spawn(move || echo(server));
    serve_on(backend, exchange);
    let over = AtomicBool::new(false);
    let alien = std::env::var("SEAPROX_VM_PROGRAMS").expect("where tests/vm/build put them");
    let alien = format!("{alien}/alien");
    thread::scope(|scope| {
        let echoes = scope.spawn(|| longest_echo(&mut client, &over));
        for kind in ["garbage", "hello", "nearly", "long", "streams"] {
            let words = ["netns", "exec", "a", &alien, kind, "10.1.0.2", "7000", "1", "8", "200"];
            println!("{kind}: {}", run(&[&["timeout", "60", "ip"], &words[..]].concat()).trim());
        }
        talk_all(8, 1, 40 * KIB);
        over.store(true, Ordering::Relaxed);
        println!("longest echo: {:?}", echoes.join().expect("the echo goes on"));
    });
    drop(client);
    assert_eq!(way.ingress.says("event=\"link down\""), 0, "the good one's link was lost");
    assert_eq!(way.ingress.says("event=\"link up\""), 1);
    let (up, down) = (way.egress.says("event=\"link up\""), way.egress.says("event=\"link down\""));
    assert!(down >= up - 1, "a stranger's link is still there: {up} up, {down} down");
    let refused = way.egress.says("reason=protocol") + way.egress.says("reason=auth");
    assert!(refused > 10, "strangers were refused");
    way.assert_empty();
    // And a good one that comes later finds room.
    let second =
        Running::new("a", &[&["ingress", "127.0.0.1:8001", way.link][..], options].concat());
    second.wait_says("event=\"link up\"");
}

/// RFC 6951, where nothing but UDP gets through.
#[test]
fn sctp_goes_inside_udp() {
    let Some(network) = Network::new() else { return };
    for namespace in ["a", "b"] {
        run(&["ip", "netns", "exec", namespace, "sysctl", "-qw", "net.sctp.udp_port=9899"]);
        for path in ["path1", "path2"] {
            CHANGED.store(true, Ordering::Relaxed);
            run(&["tc", "-n", namespace, "qdisc", "add", "dev", path, "clsact"]);
            let filter = ["tc", "-n", namespace, "filter", "add", "dev", path, "ingress"];
            let sctp = ["protocol", "ip", "u32", "match", "ip", "protocol", "132", "0xff"];
            run(&[&filter[..], &sctp, &["action", "drop"]].concat());
        }
    }
    let backend = backend();
    let way = Way::new(network, &backend, TWO_PATHS, &["--sctp-udp-port", "9899"]);
    serve_on(backend, exchange);
    talk_all(8, 1, 40 * KIB);
    way.assert_held();
    way.assert_empty();
}
