//! Links over UDP on paths that lose, delay, reorder, copy, damage and move what they carry: real
//! programs, real sockets, and the hostile relay between them. All have keys, and every byte is checked.

use seaprox_tests::ends::{End, egress, ingress};
use seaprox_tests::exchange::{Watch, Wish, all_reset, backend, connect, exchange, exchange_all};
use seaprox_tests::launch::Proxy;
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{own_ip, vacant_address, vacant_port};
use seaprox_tests::process::Signal;
use seaprox_tests::program::program;
use seaprox_tests::relay::{Conditions, Relay, Totals};
use seaprox_tests::{PATIENCE, eventually};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const MB: u64 = 1_000_000;

/// All may stand still for no longer than this on a path that carries something.
const STALL_MAX: Duration = Duration::from_secs(3);

/// How soon a link is up again once the path is: a try every 10 s at least, and one more second.
const UP_AGAIN_MAX: Duration = Duration::from_secs(11);

/// Both ends, and the path between them.
struct Scene {
    relay: Relay,
    egress: Proxy,
    ingress: Proxy,
    watch: Arc<Watch>,
    backend: SocketAddr,
    egress_at: SocketAddr,
}

fn relay_to(server: SocketAddr, seed: u64, words: &str) -> Relay {
    let mut conditions = Conditions::default();
    conditions.apply(words, Duration::ZERO).expect("the words are right");
    let own = if server.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { IpAddr::from(own_ip()) };
    Relay::start((own, 0).into(), server, seed, conditions).expect("a relay")
}

fn link_at(address: SocketAddr) -> String {
    format!("udp:{address}")
}

/// As `words` say, with ends that are told more by `told`.
fn scene(seed: u64, words: &str, told: impl Fn(End) -> End) -> Scene {
    let egress_at = vacant_address();
    let relay = relay_to(egress_at, seed, words);
    let watch = Arc::new(Watch::default());
    let backend = backend(&watch);
    let egress = told(egress(&link_at(egress_at)).sealed().to(backend)).start();
    let ingress = told(ingress(&link_at(relay.address())).sealed()).start();
    ingress.wait_says("event=\"link up\"");
    Scene { relay, egress, ingress, watch, backend, egress_at }
}

fn as_it_is(end: End) -> End {
    end
}

fn after(seconds: &'static str) -> impl Fn(End) -> End {
    move |end| end.option("--link-timeout", seconds)
}

impl Scene {
    /// So many exchanges at once, of so many bytes each way.
    fn exchanges(&self, first_seed: u64, count: u64, bytes: u64) {
        let wishes: Vec<_> =
            (first_seed..first_seed + count).map(|seed| Wish::both(seed, bytes)).collect();
        exchange_all(self.ingress.address, &wishes, &self.watch);
    }

    /// The same while `happens` runs beside them, which must end first.
    fn exchanges_while(&self, count: u64, bytes: u64, happens: impl FnOnce()) {
        thread::scope(|scope| {
            let all = scope.spawn(|| self.exchanges(1, count, bytes));
            self.wait_moves(MB / 2);
            happens();
            assert!(!all.is_finished(), "it was over before all had happened");
        });
    }

    /// Waits until so many more bytes have arrived.
    fn wait_moves(&self, bytes: u64) {
        let before = self.watch.arrived();
        eventually("bytes arrive", || self.watch.arrived() > before + bytes);
    }

    fn assert_never_stalled(&self) {
        let gap = self.watch.longest_gap();
        assert!(gap < STALL_MAX, "{gap:?} without progress; the path: {}", self.relay.totals());
    }

    fn assert_never_down(&self) {
        for end in [&self.ingress, &self.egress] {
            let said = end.stderr();
            assert!(!said.contains("link down"), "{said}");
        }
    }
}

#[test]
fn a_path_that_loses_reorders_and_copies() {
    let words = "rtt=20ms,loss=10%,reorder=25%/5ms,duplicate=10%";
    let scene = scene(1, words, as_it_is);
    scene.exchanges(1, 3, 2 * MB);
    scene.assert_never_stalled();
    scene.assert_never_down();
    let Totals { up, down, .. } = scene.relay.totals();
    for way in [up, down] {
        assert!(way.lost > 50 && way.held_back > 100 && way.duplicated > 50, "{way}");
    }
}

#[test]
fn a_path_that_damages_and_replays() {
    let words = "rtt=4ms,corrupt=3%,truncate=3%,replay=10%";
    let scene = scene(2, words, as_it_is);
    scene.exchanges(1, 3, 3 * MB);
    scene.assert_never_stalled();
    scene.assert_never_down();
    let Totals { up, down, .. } = scene.relay.totals();
    for way in [up, down] {
        assert!(way.corrupted > 50 && way.truncated > 50 && way.replayed > 200, "{way}");
    }
}

/// A path that is gone for less than the dead time costs time, and nothing else.
#[test]
fn a_path_that_flaps() {
    let scene = scene(3, "rtt=10ms,rate=60M,queue=1bdp", as_it_is);
    let idle = connect(scene.ingress.address);
    scene.exchanges_while(2, 7 * MB, || {
        for millis in [100, 100, 2000, 100] {
            scene.relay.blackout(Duration::ZERO, millis * MS);
            thread::sleep(millis * MS + 50 * MS);
            scene.wait_moves(MB / 4);
        }
    });
    let Totals { up, down, .. } = scene.relay.totals();
    assert!(up.in_blackout > 0 && down.in_blackout > 0, "{up}; {down}");
    scene.assert_never_down();
    exchange(&idle, Wish::both(77, MB), &scene.watch);
    assert!(scene.watch.longest_gap() < 2000 * MS + STALL_MAX, "{:?}", scene.watch.longest_gap());
}

/// Longer than the dead time of 15 s: all connections are reset at both ends, and the link comes back.
#[test]
fn a_path_that_is_gone_for_longer_than_the_dead_time() {
    const GONE: Duration = Duration::from_secs(20);
    let scene = scene(4, "rtt=10ms", as_it_is);
    let mut back_at = Instant::now();
    all_reset(scene.ingress.address, 1..7, &scene.watch, || {
        scene.relay.blackout(Duration::ZERO, GONE);
        back_at = Instant::now() + GONE;
    });
    assert!(Instant::now() < back_at, "the dead time was up before the path was back");
    for end in [&scene.ingress, &scene.egress] {
        end.wait_says("reason=timed-out");
        assert_eq!(end.connections(), 0);
    }
    eventually("the targets are reset", || scene.watch.resets() == 6);
    scene.ingress.wait_says_times("event=\"link up\"", 2);
    let late = Instant::now().saturating_duration_since(back_at);
    assert!(late < UP_AGAIN_MAX, "{late:?}");
    scene.exchanges(11, 2, MB);
}

#[test]
fn an_egress_that_is_killed_and_comes_back() {
    let mut scene = scene(5, "rtt=4ms", after("1s"));
    for round in 0..2u64 {
        let first = 1 + round * 100;
        let (address, watch) = (scene.ingress.address, Arc::clone(&scene.watch));
        all_reset(address, first..first + 6, &watch, || {
            scene.egress.kill();
            let link = link_at(scene.egress_at);
            scene.egress = after("1s")(egress(&link).sealed().to(scene.backend)).start();
        });
        scene.ingress.wait_says_times("event=\"link up\"", round as usize + 2);
        scene.exchanges(first + 50, 2, MB);
    }
}

#[test]
fn an_ingress_that_is_killed_and_comes_back() {
    let mut scene = scene(6, "rtt=4ms", after("1s"));
    let clean = scene.egress.sockets();
    for round in 0..2u64 {
        let first = 1 + round * 100;
        let (address, watch) = (scene.ingress.address, Arc::clone(&scene.watch));
        all_reset(address, first..first + 6, &watch, || {
            scene.ingress.kill();
            let again = ingress(&link_at(scene.relay.address())).sealed().at(address);
            scene.ingress = after("1s")(again).start();
        });
        // The old link and the new one have room beside each other.
        scene.ingress.wait_says("event=\"link up\"");
        scene.exchanges(first + 50, 2, MB);
        eventually("the old targets are reset", || watch.resets() == (round + 1) * 6);
        scene.egress.wait_says_times("reason=timed-out", round as usize + 1);
        scene.egress.wait_sockets(clean);
        assert_eq!(scene.egress.connections(), 0);
    }
}

/// Nobody says that packets are too large: they vanish.
#[test]
fn a_path_that_becomes_narrow() {
    let scene = scene(7, "rtt=10ms,rate=60M,queue=1bdp,mtu=1500", as_it_is);
    scene.exchanges_while(2, 12 * MB, || {
        for mtu in [1280, 600] {
            // By then it has found out how much goes.
            thread::sleep(700 * MS);
            scene.relay.apply(&format!("mtu={mtu}")).unwrap();
            scene.wait_moves(MB);
        }
    });
    scene.assert_never_stalled();
    scene.assert_never_down();
    let Totals { up, down, .. } = scene.relay.totals();
    assert!(up.too_large > 10 && down.too_large > 10, "{up}; {down}");
}

/// Both ends have four threads: whatever port a packet comes from, it gets to its link's.
#[test]
fn a_path_whose_port_changes() {
    let scene = scene(8, "rtt=4ms,rate=80M,queue=1bdp", |end| end.threads(4));
    scene.ingress.wait_says_times("event=\"link up\"", 4);
    scene.exchanges_while(8, 3 * MB, || {
        scene.relay.rebind();
        scene.wait_moves(MB);
        scene.relay.rebind();
        scene.wait_moves(MB);
        scene.relay.apply("rebind=200ms").unwrap();
        thread::sleep(1100 * MS);
    });
    let rebinds = scene.relay.totals().rebinds;
    // Of four clients, each by itself.
    assert!(rebinds >= 4 * 7, "{rebinds}");
    scene.assert_never_stalled();
    scene.assert_never_down();
    // Idle links are found again too, by what is said next.
    scene.exchanges(21, 8, MB / 4);
    scene.assert_never_down();
}

/// An ingress whose address becomes another, of which the kernel says something with IPv4 and nothing
/// with IPv6: its socket, which has one peer, takes the new one, and the link goes on.
fn an_address_is_taken_away(egress_at: &str, from: &str, to: &str) {
    let network = Namespace::new();
    let (version, bits) = if egress_at.contains(':') { ("-6", "/128") } else { ("-4", "/32") };
    let way = |verb: &str, more: &[&str]| {
        let way = [version, "route", verb, "table", "local", "local", egress_at, "dev", "lo"];
        network.ip(&[&way, more].concat());
    };
    for address in [egress_at, from, to] {
        network.ip(&["addr", "add", &format!("{address}{bits}"), "dev", "lo"]);
    }
    // The kernel's own begins at the address itself.
    way("del", &[]);
    way("add", &["src", from]);
    network.within(|| {
        let watch = Arc::new(Watch::default());
        let ip: IpAddr = egress_at.parse().expect("an address");
        let link = link_at((ip, vacant_port()).into());
        let _egress = egress(&link).sealed().to(backend(&watch)).start();
        let ingress = ingress(&link).sealed().start();
        ingress.wait_says("event=\"link up\"");
        let client = connect(ingress.address);
        exchange(&connect(ingress.address), Wish::both(1, MB / 4), &watch);
        way("del", &[]);
        way("add", &["src", to]);
        network.ip(&["addr", "del", &format!("{from}{bits}"), "dev", "lo"]);
        exchange(&client, Wish::both(2, MB), &watch);
        let said = ingress.stderr();
        assert!(!said.contains("link down"), "{said}");
    });
}

#[test]
fn an_ingress_that_loses_its_address() {
    an_address_is_taken_away("198.51.100.9", "198.51.100.1", "198.51.100.2");
    an_address_is_taken_away("2001:db8::9", "2001:db8::1", "2001:db8::2");
}

/// Two ingresses at one egress, each with its own bytes; there is no room for a third until one
/// goes.
#[test]
fn two_ingresses_and_a_third() {
    let mut scene = scene(9, "rtt=4ms,loss=1%", as_it_is);
    let link = link_at(scene.relay.address());
    let second = ingress(&link).sealed().start();
    second.wait_says("event=\"link up\"");
    let third = thread::scope(|scope| {
        let (scene, second) = (&scene, &second);
        scope.spawn(|| scene.exchanges(1, 4, 2 * MB));
        scope.spawn(|| {
            let wishes: Vec<_> = (11..15).map(|seed| Wish::both(seed, 2 * MB)).collect();
            exchange_all(second.address, &wishes, &scene.watch);
        });
        let third = ingress(&link).sealed().start();
        third.wait_says("reason=table-full");
        third
    });
    assert_eq!(scene.watch.exact(), 8);
    scene.assert_never_down();
    assert!(!second.stderr().contains("link down"));
    scene.ingress.process.signal(Signal::SIGTERM);
    scene.ingress.wait();
    third.wait_says("event=\"link up\"");
    exchange_all(third.address, &[Wish::both(31, MB)], &scene.watch);
}

/// One egress has a port, however many threads; the next one gets it when that has ended.
#[test]
fn a_port_that_is_taken() {
    let at = link_at(vacant_address());
    let start = || egress(&at).sealed().to("127.0.0.1:9").threads(2).start();
    let mut first = start();
    for threads in ["1", "2"] {
        let mut second = Command::new(program())
            .args(["egress", &at, "127.0.0.1:9", "--insecure", "--threads", threads])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let begun = Instant::now();
        while second.try_wait().expect("it is our child").is_none() {
            if begun.elapsed() > PATIENCE {
                second.kill().expect("it is our child");
                panic!("two have one port");
            }
            thread::sleep(5 * MS);
        }
        let output = second.wait_with_output().expect("it has ended");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{said}");
        assert!(said.lines().count() == 1 && said.contains("address in use"), "{said}");
    }
    first.kill();
    start();
}

/// One address of IPv6; and every address, IPv6 and IPv4 at once, each behind a relay.
#[test]
fn both_families() {
    let watch = Arc::new(Watch::default());
    let backend = backend(&watch);
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, vacant_port()));
    let words = "rtt=4ms,loss=1%,rate=40M,queue=1bdp,rebind=50ms";
    let relay = relay_to(at, 10, words);
    let _one = egress(&link_at(at)).sealed().to(backend).start();
    let over = ingress(&link_at(relay.address())).sealed().start();
    exchange_all(over.address, &[Wish::both(1, MB)], &watch);
    let port = vacant_port();
    let _every = egress(&format!("udp::{port}")).sealed().to(backend).start();
    let hosts = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    let relays = hosts.map(|host| relay_to((host, port).into(), 11, words));
    let ingresses =
        relays.each_ref().map(|relay| ingress(&link_at(relay.address())).sealed().start());
    thread::scope(|scope| {
        for (seed, over) in (10..).step_by(10).zip(&ingresses) {
            let watch = &watch;
            let wishes = [Wish::both(seed, MB), Wish::both(seed + 1, MB)];
            scope.spawn(move || exchange_all(over.address, &wishes, watch));
        }
    });
    for relay in relays.iter().chain([&relay]) {
        assert!(relay.totals().rebinds > 0);
    }
    assert_eq!(watch.exact(), 5);
}
