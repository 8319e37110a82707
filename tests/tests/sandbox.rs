//! What the program may still do once it runs, and that it can do all it has to: names from files and
//! from DNS, links that are connected again, another user. That nothing it does is refused, every
//! test of the program looks for.

use nix::unistd::{Gid, Uid, User};
use seaprox_tests::ends::{egress, ingress, vacant_link, vacant_path};
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    assert_echoes, assert_refused, echo, loopback, serve, serve_on, vacant_port,
};
use seaprox_tests::process::{Process, Signal};
use seaprox_tests::{PATIENCE, eventually};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many filters this test has itself, as whatever it runs in may have given it some.
fn own_filters() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

/// Every thread has given up what it does not need: the process's filter, and one of its own.
#[track_caller]
fn assert_confined(process: Process) {
    let expected = (own_filters() + 2).to_string();
    eventually("every thread has narrowed its rights", || {
        let threads = process.threads();
        let filters = |thread: &seaprox_tests::process::Thread| thread.field("Seccomp_filters");
        !threads.is_empty() && threads.iter().all(|thread| filters(thread) == expected)
    });
    for thread in process.threads() {
        let name = thread.field("Name");
        assert_eq!(thread.field("Seccomp"), "2", "{name}");
        assert_eq!(thread.field("NoNewPrivs"), "1", "{name}");
    }
}

#[test]
fn every_thread_of_every_proxy_is_confined() {
    let listener = TcpListener::bind((loopback(false), 0)).unwrap();
    let backend = listener.local_addr().unwrap();
    serve_on(listener, echo);
    let named = format!("localhost:{}", backend.port());
    for target in [backend.to_string(), named.clone()] {
        let proxy = Launch::to(target).threads(2).option("--log", "debug").start();
        proxy.processes().for_each(assert_confined);
        assert!(proxy.stderr().contains("event=sandbox with=\"landlock "), "{}", proxy.stderr());
    }
    let link = vacant_link();
    let egress = egress(&link).option("--allow", "localhost:*").threads(2).start();
    let ingress = ingress(&link).option("--to", named).start();
    ingress.wait_says("event=\"link up\"");
    [&egress, &ingress].iter().for_each(|end| assert_confined(end.process));
    assert_echoes(&mut ingress.connect(), b"through both");
}

#[test]
fn without_a_sandbox_nothing_is_given_up() {
    let proxy = Launch::to(serve(echo)).flag("--no-sandbox").start();
    let own = own_filters().to_string();
    for thread in proxy.process.threads() {
        assert_eq!(thread.field("Seccomp_filters"), own);
    }
    assert_echoes(&mut proxy.connect(), b"as before");
    proxy.wait_says("event=\"no sandbox\"");
}

/// A name server in the network of this thread: it knows `name.example`, which is 127.0.0.1, and tells it
/// by TCP only: an answer by UDP is always truncated. Counts those by TCP.
fn truncating_dns() -> Arc<AtomicUsize> {
    let told = Arc::new(AtomicUsize::new(0));
    let datagrams = UdpSocket::bind("127.0.0.1:53").expect("the port is free");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = datagrams.recv_from(&mut query) {
            let _ = datagrams.send_to(&answer(&query[..length], true), from);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:53").expect("the port is free");
    let counted = told.clone();
    serve_on(listener, move |mut stream| {
        while let Some(query) = read_query(&mut stream) {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = answer(&query, false);
            let length = (answer.len() as u16).to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                return;
            }
        }
    });
    told
}

/// By TCP a message comes after its length (RFC 1035 section 4.2.2).
fn read_query(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut query).ok()?;
    Some(query)
}

/// An answer to a query of one question (RFC 1035 section 4.1).
fn answer(query: &[u8], truncated: bool) -> Vec<u8> {
    const HEADER: usize = 12;
    let question = &query[HEADER..];
    let name = question.iter().position(|&byte| byte == 0).expect("a name ends in the root") + 1;
    let question = &question[..name + 4];
    let is_known = question.starts_with(b"\x04name\x07example\0");
    let wants_ipv4 = question[name..] == [0, 1, 0, 1];
    let gives = is_known && wants_ipv4 && !truncated;
    let mut message = query[..2].to_vec();
    // An answer, authoritative, recursion wanted and had; no such name.
    message.push(0x85 | if truncated { 2 } else { 0 });
    message.push(0x80 | if is_known { 0 } else { 3 });
    message.extend([0, 1, 0, gives.into(), 0, 0, 0, 0]);
    message.extend(question);
    if gives {
        // The name of the question, type A, class IN, no time to live, 4 bytes.
        message.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    message
}

/// Looked up in DNS, by TCP because the answer by UDP is truncated; again after HUP, and a name that
/// nobody has is refused. Landlock lets this one connect to its target's port only, and that of DNS.
#[test]
fn a_name_of_dns_is_found_by_tcp() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 localhost\n");
    network.within(|| {
        let told = truncating_dns();
        let port = vacant_port();
        serve_on(TcpListener::bind((loopback(false), port)).unwrap(), echo);
        let launch = Launch::to(format!("name.example:{port}")).wrapped(wrapper.clone());
        let proxy = launch.start();
        assert_eq!(told.load(Ordering::Relaxed), 0, "nothing is asked for before it is needed");
        assert_echoes(&mut proxy.connect(), b"found");
        let before = told.load(Ordering::Relaxed);
        assert!(before > 0, "it was not looked up by TCP");
        proxy.process.signal(Signal::SIGHUP);
        eventually("HUP looks it up again", || {
            assert_echoes(&mut proxy.connect(), b"found again");
            told.load(Ordering::Relaxed) > before
        });
        let lost = Launch::to(format!("other.example:{port}")).wrapped(wrapper).start();
        assert_refused(lost.address, b"nobody");
        assert_confined(lost.process);
    });
}

/// An egress looks up what ingresses may name: from files, and in DNS.
#[test]
fn an_egress_finds_what_ingresses_name() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 localhost filed\n");
    network.within(|| {
        let told = truncating_dns();
        let port = vacant_port();
        serve_on(TcpListener::bind((loopback(false), port)).unwrap(), echo);
        let link = vacant_link();
        let words = wrapper.iter().map(String::as_str);
        let egress = egress(&link).option("--allow", "*").wrapped(words).start();
        for name in ["filed", "name.example"] {
            let to = format!("{name}:{port}");
            let words = wrapper.iter().map(String::as_str);
            let ingress = ingress(&link).option("--to", to).wrapped(words).start();
            ingress.wait_says("event=\"link up\"");
            assert_echoes(&mut ingress.connect(), name.as_bytes());
        }
        assert!(told.load(Ordering::Relaxed) > 0);
        assert_confined(egress.process);
    });
}

/// The egress is killed, and another one takes its place: the ingress opens sockets, and looks names
/// up, as often as it must.
fn assert_connects_again(link_of_ingress: &str, link: &str, wrapper: &[String]) {
    let words = || wrapper.iter().map(String::as_str);
    let backend = serve(echo);
    let mut first = egress(link).to(backend).wrapped(words()).start();
    let ingress = ingress(link_of_ingress).option("--link-timeout", "1s").wrapped(words()).start();
    ingress.wait_says("event=\"link up\"");
    assert_confined(ingress.process);
    assert_echoes(&mut ingress.connect(), b"once");
    first.kill();
    ingress.wait_says("event=\"link down\"");
    let second = egress(link).to(backend).wrapped(words()).start();
    ingress.wait_says_times("event=\"link up\"", 2);
    assert_echoes(&mut ingress.connect(), b"twice");
    ingress.process.signal(Signal::SIGUSR1);
    ingress.wait_says("event=status");
    assert_ends_in_order(ingress);
    assert_ends_in_order(second);
}

#[track_caller]
fn assert_ends_in_order(proxy: Proxy) {
    proxy.process.signal(Signal::SIGTERM);
    assert_ends(proxy);
}

#[track_caller]
fn assert_ends(mut proxy: Proxy) {
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

#[test]
fn links_are_connected_again() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 localhost far-end\n");
    network.within(|| {
        let port = vacant_port();
        assert_connects_again(
            &format!("udp:far-end:{port}"),
            &format!("udp:127.0.0.1:{port}"),
            &wrapper,
        );
        let path = vacant_path();
        assert_connects_again(&path, &path, &wrapper);
        let file = path.strip_prefix("seqpacket:").unwrap();
        assert!(!std::path::Path::new(file).exists(), "the path goes with the egress");
    });
}

/// The socket of a service manager may be in the abstract namespace, which nothing else is let into.
#[test]
fn a_service_manager_with_an_abstract_socket_is_told() {
    let name = format!("seaprox-notify-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |word: &str| {
        let mut message = [0; 500];
        let length = manager.recv(&mut message).expect("a message");
        assert_eq!(str::from_utf8(&message[..length]), Ok(word));
    };
    let variable = format!("NOTIFY_SOCKET=@{name}");
    let proxy = Launch::to(serve(echo)).wrapped(["env", &variable]).start();
    hears("READY=1");
    assert_confined(proxy.process);
    proxy.process.signal(Signal::SIGTERM);
    hears("STOPPING=1");
    assert_ends(proxy);
}

/// Whom it becomes: real, effective, saved and for files (proc_pid_status(5)).
#[track_caller]
fn assert_is(process: Process, user: u32, group: u32) {
    let four = |number: u32| vec![number.to_string(); 4].join("\t");
    for thread in process.threads() {
        assert_eq!(thread.field("Uid"), four(user));
        assert_eq!(thread.field("Gid"), four(group));
        assert_eq!(thread.field("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(thread.field(set), "0000000000000000", "{set}");
        }
    }
}

/// A port below 1024 is bound first; then it is somebody else, by number or by name.
#[test]
fn another_user_once_everything_is_open() {
    let nobody = User::from_uid(Uid::from_raw(65534)).unwrap().expect("there is a nobody");
    let own_group = nobody.gid.as_raw();
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 name\n");
    network.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024").unwrap();
        let port = vacant_port();
        serve_on(TcpListener::bind((loopback(false), port)).unwrap(), echo);
        for (user, number, group) in [
            (nobody.name.as_str(), 65534, own_group),
            ("65534", 65534, own_group),
            ("1234:4321", 1234, 4321),
        ] {
            let launch = Launch::to(format!("name:{port}")).wrapped(wrapper.clone());
            let launch = launch.listen("127.0.0.1:81").option("--user", user);
            let proxy = launch.start();
            assert_is(proxy.process, number, group);
            assert_confined(proxy.process);
            let mut client = proxy.connect();
            assert_echoes(&mut client, b"whoever you are");
            drop(client);
            assert_ends_in_order(proxy);
        }
    });
}

#[test]
fn both_ends_of_a_link_as_another_user() {
    let link = vacant_link();
    let egress = egress(&link).to(serve(echo)).option("--user", "65534:1").start();
    let ingress = ingress(&link).option("--user", "65533:1").start();
    ingress.wait_says("event=\"link up\"");
    assert_echoes(&mut ingress.connect(), b"hello");
    assert_is(egress.process, 65534, 1);
    assert_is(ingress.process, 65533, 1);
}

#[test]
fn whom_it_cannot_become() {
    let run = |user: &str| Launch::to("127.0.0.1:9").option("--user", user).run();
    let (code, stderr) = run("no-such-user");
    assert_eq!(code, Some(78), "{stderr}");
    assert_eq!(stderr, "seaprox: --user no-such-user: there is no user no-such-user\n");
    let (code, _) = run("a:b:c");
    assert_eq!(code, Some(64));

    let drop_rights = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let copy = Launch::to("127.0.0.1:9").copied().wrapped(drop_rights);
    let (code, stderr) = copy.option("--user", format!("0:{}", Gid::current())).run();
    assert_eq!(code, Some(77), "{stderr}");
    assert_eq!(stderr, "seaprox: --user 0:0: only root may become somebody else\n");
}
