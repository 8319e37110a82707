//! Targets by name: families, fallback, and looking up again. Each test has a network and an
//! /etc/hosts of its own, and no DNS.

use seaprox_tests::eventually;
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    End, accept, assert_ends, assert_refused, assert_rest, end, read_bytes, read_to_end, reset,
    serve_on, vacant_port,
};
use seaprox_tests::process::Signal;
use seaprox_tests::trace::Strace;
use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Says who it is, to whoever has ended.
fn backend(ip: &str, port: u16) {
    let ip: IpAddr = ip.parse().unwrap();
    let listener = TcpListener::bind((ip, port)).expect("the address is here");
    serve_on(listener, move |mut stream| {
        let _ = read_to_end(&mut stream);
        let _ = write!(stream, "{ip}");
    });
}

/// Whom the next client reaches.
#[track_caller]
fn reached(proxy: &Proxy) -> String {
    let mut client = proxy.connect();
    end(&client);
    let (bytes, ended) = read_to_end(&mut client);
    assert_eq!(ended, End::Fin, "the target was not reached");
    String::from_utf8(bytes).unwrap()
}

/// A network where `name` has these addresses, and a proxy in it.
fn with_name(
    addresses: &[&str],
    options: &[&str],
    test: impl FnOnce(&Namespace, &dyn Fn(u16) -> Proxy) + Send,
) {
    let mut network = Namespace::new();
    network.add_void();
    let hosts: String = addresses.iter().map(|address| format!("{address} name\n")).collect();
    let wrapper = network.wrapper(&hosts);
    network.within(|| {
        let start = |port: u16| {
            let launch = Launch::to(format!("name:{port}")).wrapped(wrapper.clone());
            options.iter().fold(launch, |launch, option| launch.flag(option)).start()
        };
        test(&network, &start);
    });
}

/// Both families, both answer: IPv6, unless told otherwise.
#[test]
fn ipv6_comes_first() {
    with_name(&["127.0.0.1", "::1"], &[], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        backend("::1", port);
        assert_eq!(reached(&start(port)), "::1");
    });
}

#[test]
fn ipv4_comes_first_if_told_so() {
    with_name(&["127.0.0.1", "::1"], &["--prefer-ipv4"], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        backend("::1", port);
        assert_eq!(reached(&start(port)), "127.0.0.1");
    });
    with_name(&["::1", "127.0.0.1"], &["--prefer-ipv4", "--prefer-ipv6"], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        backend("::1", port);
        assert_eq!(reached(&start(port)), "::1");
    });
}

/// The first family refuses: the other is tried at once.
#[test]
fn the_other_family_is_the_fallback() {
    with_name(&["127.0.0.1", "::1"], &[], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        let proxy = start(port);
        let clean = proxy.sockets();
        (0..10).for_each(|_| assert_eq!(reached(&proxy), "127.0.0.1"));
        proxy.wait_sockets(clean);
    });
}

#[test]
fn a_name_with_one_family() {
    for address in ["127.0.0.1", "::1"] {
        for option in ["--prefer-ipv4", "--prefer-ipv6"] {
            with_name(&[address], &[option], |_, start| {
                let port = vacant_port();
                backend(address, port);
                assert_eq!(reached(&start(port)), address);
            });
        }
    }
}

/// A name that nobody knows is RST, and the next target is tried.
#[test]
fn an_unknown_name() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 known\n");
    network.within(|| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        let proxy = Launch::to("nobody.invalid:80").wrapped(wrapper.clone()).start();
        let clean = proxy.sockets();
        (0..3).for_each(|_| assert_refused(proxy.address, b"hello"));
        proxy.wait_sockets(clean);
        proxy.wait_says("name-resolution");
        let launch = Launch::to("nobody.invalid:80").or_to(format!("known:{port}"));
        assert_eq!(reached(&launch.wrapped(wrapper).start()), "127.0.0.1");
    });
}

/// An IPv6 address that swallows everything costs a quarter of a second, not the connect timeout
/// (RFC 8305); the one that lost is closed.
#[test]
fn a_silent_ipv6_address_is_overtaken() {
    with_name(&["2001:db8::9", "127.0.0.1"], &[], |_, start| {
        let port = vacant_port();
        let backend = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let proxy = start(port);
        let clean = proxy.sockets();
        let start = Instant::now();
        let mut client = proxy.connect();
        client.write_all(b"early").unwrap();
        let mut server = accept(&backend);
        assert!(start.elapsed() > Duration::from_millis(150), "IPv6 was not tried first");
        assert_eq!(read_bytes(&server, 5), b"early");
        proxy.wait_sockets(clean + 2);
        server.write_all(b"late").unwrap();
        drop(server);
        assert_rest(&mut client, b"late");
        drop(client);
        proxy.wait_sockets(clean);
    });
}

/// More of them at once than second connects a thread may have under way: each gets its turn.
#[test]
fn many_are_overtaken_at_once() {
    with_name(&["2001:db8::9", "127.0.0.1"], &["--connect-timeout", "20s"], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        let proxy = start(port);
        let clean = proxy.sockets();
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(reached(&proxy), "127.0.0.1"));
            }
        });
        proxy.wait_sockets(clean);
    });
}

/// Nobody answers at any address: the connect timeout ends both connects.
#[test]
fn all_addresses_are_silent() {
    let addresses = ["2001:db8::9", "198.51.100.9"];
    with_name(&addresses, &["--connect-timeout", "1s"], |_, start| {
        let proxy = start(80);
        let clean = proxy.sockets();
        let begun = Instant::now();
        let clients: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
        for mut client in clients {
            assert_ends(&mut client, End::Rst);
        }
        assert!(begun.elapsed() > Duration::from_millis(900));
        proxy.wait_sockets(clean);
    });
}

/// The client resets while two connects are under way: both are given up.
#[test]
fn a_reset_gives_up_both_connects() {
    let addresses = ["2001:db8::9", "198.51.100.9"];
    with_name(&addresses, &["--connect-timeout", "10m"], |_, start| {
        let proxy = start(80);
        let clean = proxy.sockets();
        let clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
        // A socket for the client, one for each address, as far as there is room for the second.
        eventually("two connects are under way", || proxy.sockets() >= clean + 50);
        clients.into_iter().for_each(reset);
        proxy.wait_sockets(clean);
    });
}

/// A client that ended while its name was looked up has its answer.
#[test]
fn an_early_fin_survives_the_lookup() {
    with_name(&["127.0.0.1"], &[], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        let proxy = start(port);
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(reached(&proxy), "127.0.0.1"));
            }
        });
    });
}

/// A name moves (3proxy#1208: it was looked up once): HUP looks it up at once, and without it the
/// cache is soon too old.
#[test]
fn names_are_looked_up_again() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 name\n");
    let hosts = wrapper.iter().find(|word| word.ends_with(".hosts")).unwrap().clone();
    network.within(|| {
        let port = vacant_port();
        for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            backend(ip, port);
        }
        let proxy = Launch::to(format!("name:{port}")).wrapped(wrapper).start();
        assert_eq!(reached(&proxy), "127.0.0.1");
        std::fs::write(&hosts, "127.0.0.2 name\n").unwrap();
        proxy.process.signal(Signal::SIGHUP);
        eventually("HUP looks it up again", || reached(&proxy) == "127.0.0.2");
        std::fs::write(&hosts, "127.0.0.3 name\n").unwrap();
        eventually("the cache grows old", || {
            thread::sleep(Duration::from_millis(200));
            reached(&proxy) == "127.0.0.3"
        });
    });
}

/// However many clients come, a name is looked up once in a while, not once for each.
#[test]
fn lookups_are_shared() {
    with_name(&["127.0.0.1"], &[], |_, start| {
        let port = vacant_port();
        backend("127.0.0.1", port);
        let proxy = start(port);
        let strace = Strace::attach(proxy.process, &["-e", "trace=open,openat"]);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..10).for_each(|_| assert_eq!(reached(&proxy), "127.0.0.1")));
            }
        });
        let opened = strace.detach().lines().filter(|line| line.contains("/etc/hosts")).count();
        assert!((1..20).contains(&opened), "{opened} lookups for 200 connections");
    });
}

/// The name is lost while it is in use: what runs goes on, and a new client is told.
#[test]
fn a_name_that_is_lost() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 name\n");
    let hosts = wrapper.iter().find(|word| word.ends_with(".hosts")).unwrap().clone();
    network.within(|| {
        let port = vacant_port();
        let backend = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let proxy = Launch::to(format!("name:{port}")).wrapped(wrapper).start();
        let (mut client, server) = proxy.pair(&backend);
        std::fs::write(&hosts, "127.0.0.1 other\n").unwrap();
        proxy.process.signal(Signal::SIGHUP);
        thread::sleep(Duration::from_millis(100));
        assert_refused(proxy.address, b"hello");
        client.write_all(b"still").unwrap();
        assert_eq!(read_bytes(&server, 5), b"still");
    });
}
