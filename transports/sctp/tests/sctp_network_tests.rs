//! SCTP over two paths between two network namespaces: loss, dark paths, a peer that restarts. Only
//! in the machine of tests/vm/run, where the namespaces are nobody else's.

use super::*;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// Both namespaces, until dropped; one test at a time has them.
struct Network(#[allow(dead_code, reason = "held")] MutexGuard<'static, ()>);

fn call(words: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm/network.sh");
    let status = Command::new(script).args(words).status().expect("network.sh runs");
    assert!(status.success(), "{words:?}");
}

impl Network {
    fn new() -> Option<Network> {
        static NETWORK: Mutex<()> = Mutex::new(());
        if !has_sctp() || !is_set("SEAPROX_VM") {
            println!("skipped: the network is not ours to change");
            return None;
        }
        let guard = NETWORK.lock().unwrap_or_else(|poison| poison.into_inner());
        call(&["network_up"]);
        Some(Network(guard))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        call(&["network_down"]);
    }
}

/// Makes sockets in a namespace: they stay in it wherever they are used.
#[allow(unsafe_code)]
fn within<T: Send>(namespace: &str, make: impl FnOnce() -> T + Send) -> T {
    use std::os::fd::AsRawFd;
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
            // SAFETY: a call without pointers; this thread ends with the scope.
            assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            make()
        });
        made.join().expect("it is made")
    })
}

const A: [&str; 2] = ["10.1.0.1", "10.2.0.1"];
const B: [&str; 2] = ["10.1.0.2", "10.2.0.2"];

fn listener(port: u16) -> OwnedFd {
    within("b", || Association::listen(&endpoint(&B, port), &Options::new(64)).unwrap())
}

/// From a port of `a` to one of `b`, by both paths.
fn connecting(from: u16, to: u16) -> Association {
    let local = A.map(|host| SocketAddr::new(host.parse().unwrap(), from));
    let endpoint = endpoint(&B, to).from_local(&local).unwrap();
    within("a", || Association::connect(&endpoint, &Options::new(64)).unwrap())
}

fn two_paths() -> (End<Association>, End<Association>, OwnedFd, u16) {
    let to = port();
    let listener = listener(to);
    let mut connecting = connecting(0, to);
    assert_eq!(decided(&mut connecting), Ok(()));
    let mut ends = (End::new(connecting), End::new(accepted(&listener)));
    assert_eq!((ends.0.hear(), ends.1.hear()), (Heard::Up, Heard::Up));
    // The second path is used only once a heartbeat on it was answered.
    std::thread::sleep(Duration::from_millis(1_500));
    (ends.0, ends.1, listener, to)
}

/// A packet there, within that time.
fn within_seconds(
    from: &mut End<Association>,
    to: &mut End<Association>,
    seconds: u64,
) -> Duration {
    let start = Instant::now();
    from.send(1, b"are you there?");
    let heard = to.hear_within(Duration::from_secs(seconds));
    assert_eq!(heard, Some(Heard::Packet(1, b"are you there?".to_vec())));
    start.elapsed()
}

#[test]
fn loss_and_delay_change_nothing() {
    let Some(_network) = Network::new() else { return };
    let (mut a, mut b, ..) = two_paths();
    call(&["netem", "1", "loss", "1%", "delay", "20ms"]);
    call(&["netem", "2", "loss", "1%", "delay", "20ms"]);
    let start = Instant::now();
    carries_whole_packets_in_order(&mut a, &mut b, 7, 200);
    println!("one way at 1 % loss and 20 ms: {:?}", start.elapsed());
    carries_whole_packets_in_order(&mut b, &mut a, 7, 200);
}

/// Bytes flow again within 5 s of the path they took going dark, and go on when it is back.
#[test]
fn one_path_going_dark_stops_bytes_for_a_moment() {
    let Some(_network) = Network::new() else { return };
    let (mut a, mut b, ..) = two_paths();
    for path in ["1", "2"] {
        within_seconds(&mut a, &mut b, 5);
        call(&["blackhole", path]);
        let gaps = [within_seconds(&mut a, &mut b, 5), within_seconds(&mut b, &mut a, 5)];
        println!("path {path} dark: {gaps:?}");
        carries_whole_packets_in_order(&mut a, &mut b, 1, 100);
        call(&["restore", path]);
        // Until a heartbeat has found it.
        std::thread::sleep(Duration::from_secs(4));
    }
    assert_eq!(a.try_hear(), Err(Errno::AGAIN), "it lives");
}

/// By one path or two, with bytes under way and without.
#[test]
fn a_dead_peer_is_found() {
    let Some(_network) = Network::new() else { return };
    let (one, options) = (endpoint(&B[..1], port()), Options::new(64));
    let listener = within("b", || Association::listen(&one, &options).unwrap());
    let one = one.from_local(&["10.1.0.1:0".parse().unwrap()]).unwrap();
    let mut connecting = within("a", || Association::connect(&one, &options).unwrap());
    assert_eq!(decided(&mut connecting), Ok(()));
    let (mut c, mut d) = (End::new(connecting), End::new(accepted(&listener)));
    assert_eq!((c.hear(), d.hear()), (Heard::Up, Heard::Up));
    let (mut a, mut b, ..) = two_paths();
    within_seconds(&mut a, &mut b, 5);
    within_seconds(&mut c, &mut d, 5);
    call(&["blackhole", "1"]);
    call(&["blackhole", "2"]);
    let start = Instant::now();
    a.send(1, b"lost");
    c.send(1, b"lost");
    let mut ends = [("two paths", a), ("two paths, idle", b), ("one path", c)];
    let mut took = Vec::new();
    while took.len() < ends.len() && start.elapsed() < Duration::from_secs(60) {
        for (name, end) in &mut ends {
            let is_known = took.iter().any(|(other, _)| other == name);
            if !is_known && end.hear_within(Duration::from_millis(50)) == Some(Heard::Gone) {
                took.push((*name, start.elapsed()));
            }
        }
    }
    println!("dead after {took:?}");
    assert_eq!(took.len(), ends.len());
    for (name, took) in took {
        assert!((5..=25).contains(&took.as_secs()), "{name}: {took:?}");
    }
}

/// The same addresses and ports begin anew, and the socket lives.
#[test]
fn a_peer_that_has_restarted_is_told_apart() {
    let Some(_network) = Network::new() else { return };
    let to = port();
    let listener = listener(to);
    let mut first = connecting(40_000, to);
    assert_eq!(decided(&mut first), Ok(()));
    let mut b = End::new(accepted::<Association>(&listener));
    let mut a = End::new(first);
    assert_eq!((a.hear(), b.hear()), (Heard::Up, Heard::Up));
    a.send(1, b"before");
    assert_eq!(b.hear(), Heard::Packet(1, b"before".to_vec()));
    // It goes without a word that arrives.
    call(&["blackhole", "1"]);
    call(&["blackhole", "2"]);
    b.send(2, b"for nobody");
    abort(a);
    // Begun before anything of the first can arrive again, or the answer to that would be an ABORT.
    let mut again = connecting(40_000, to);
    call(&["restore", "1"]);
    call(&["restore", "2"]);
    assert_eq!(decided(&mut again), Ok(()));
    let mut a = End::new(again);
    assert_eq!((a.hear(), b.hear()), (Heard::Up, Heard::Restarted));
    a.send(1, b"after");
    assert_eq!(b.hear(), Heard::Packet(1, b"after".to_vec()));
    b.send(1, b"yes");
    assert_eq!(
        a.hear(),
        Heard::Packet(1, b"yes".to_vec()),
        "what was for nobody stays with nobody"
    );
    assert_eq!(Association::accept(&listener).err(), Some(Errno::AGAIN), "no other association");
}

/// Nobody answers at all.
#[test]
fn a_connect_into_the_dark_is_given_up() {
    let Some(_network) = Network::new() else { return };
    call(&["blackhole", "1"]);
    call(&["blackhole", "2"]);
    let start = Instant::now();
    let mut lost = connecting(0, port());
    assert_eq!(lost.finish_connect(), Err(Errno::INPROGRESS));
    assert_eq!(decided(&mut lost), Err(Errno::TIMEDOUT));
    println!("given up after {:?}", start.elapsed());
    assert!((4..=12).contains(&start.elapsed().as_secs()), "after {:?}", start.elapsed());
}

/// One of the peer's addresses leads nowhere from the start.
#[test]
fn a_connect_finds_the_path_that_works() {
    let Some(_network) = Network::new() else { return };
    call(&["blackhole", "1"]);
    let to = port();
    let listener = listener(to);
    let start = Instant::now();
    let mut connecting = connecting(0, to);
    assert_eq!(decided(&mut connecting), Ok(()));
    println!("connected by the second path after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(4));
    let (mut a, mut b) = (End::new(connecting), End::new(accepted(&listener)));
    assert_eq!((a.hear(), b.hear()), (Heard::Up, Heard::Up));
    within_seconds(&mut a, &mut b, 5);
}

/// What waits on one stream does not hold up another for longer than a packet of each.
#[test]
fn streams_take_turns() {
    let Some(_network) = Network::new() else { return };
    let (mut a, mut b, ..) = two_paths();
    // Slow enough for a queue: 2 Mbit/s.
    call(&["netem", "1", "rate", "2mbit"]);
    call(&["netem", "2", "rate", "2mbit"]);
    let mut before = 0;
    let taken = fill(&mut a, 1, PACKET_BYTES - 1_000) / (PACKET_BYTES - 1_000);
    // It is full: one packet's room, and the small one goes to the end of the queue, if there is one.
    loop {
        match a.carrier.send(3, b"small") {
            Ok(()) => break,
            Err(Errno::AGAIN) => assert!(a.edges.wait(PATIENCE).is_some()),
            Err(errno) => panic!("{errno:?}"),
        }
        while let Some(Heard::Packet(1, _)) = b.hear_within(Duration::ZERO) {
            before += 1;
        }
    }
    let sent_after = before;
    loop {
        match b.hear() {
            Heard::Packet(3, _) => break,
            Heard::Packet(1, _) => before += 1,
            other => panic!("{other:?}"),
        }
    }
    println!(
        "{taken} packets queued, {sent_after} had arrived, {before} came before the small one"
    );
    assert!(before < taken * 3 / 4, "{before} of {taken} came first");
}
