//! The example `redir` behind a packet filter: two namespaces and a wire, clients at one end, at the
//! other a gateway that redirects them to the proxy.

use seaprox_tests::bytes::pattern;
use seaprox_tests::example::Example;
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    accept, accept_within, assert_refused, assert_rest, connect, end, send_pattern,
};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

const PROXY_PORT: u16 = 8080;
const PORT: u16 = 80;

/// Redirected too, and nobody listens there.
const VACANT_PORT: u16 = 81;

const BYTES: usize = 300_000;

/// Where clients want to go, and where the proxy is seen from outside.
const V4: [&str; 2] = ["203.0.113.9", "192.0.2.1"];
const V6: [&str; 2] = ["2001:db8:9::9", "2001:db8:2::1"];

fn address(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().expect("an address"), port).into()
}

/// The gateway and the clients' network behind it.
fn networks() -> (Namespace, Namespace) {
    let (gateway, outside) = (Namespace::new(), Namespace::new());
    gateway.wire_to(&outside);
    gateway.ip(&["addr", "add", "203.0.113.9/32", "dev", "lo"]);
    gateway.ip(&["addr", "add", "2001:db8:9::9/128", "dev", "lo", "nodad"]);
    let rule = format!("iifname wire tcp dport {PORT}-{VACANT_PORT} redirect to :{PROXY_PORT}");
    for words in [
        "add table inet redir",
        "add chain inet redir incoming { type nat hook prerouting priority dstnat; }",
        &format!("add rule inet redir incoming {rule}"),
    ] {
        gateway.run(&["nft", words]);
    }
    (gateway, outside)
}

fn start(gateway: &mut Namespace, listen: &str) -> Example {
    let wrapper = gateway.wrapper("127.0.0.1 localhost\n");
    Example::start(&wrapper, "redir", &[listen], PROXY_PORT)
}

/// The client talks to whom it wanted, who hears of the proxy only.
fn assert_redirected(
    proxy: &Example,
    (gateway, outside): (&Namespace, &Namespace),
    [target, _]: [&str; 2],
) {
    let to = address(target, PORT);
    let backend = gateway.within(|| TcpListener::bind(to).expect("a backend can listen"));
    let mut client = outside.within(|| connect(to));
    let mut server = accept(&backend);
    let seen = server.peer_addr().expect("it is connected").ip();
    assert_eq!(seen, to.ip(), "the proxy is here, and the client is not");
    let sent = [send_pattern(&client, 1, BYTES), send_pattern(&server, 2, BYTES)];
    let up = std::thread::spawn(move || assert_rest(&mut server, &pattern(1, BYTES)));
    assert_rest(&mut client, &pattern(2, BYTES));
    up.join().expect("all has arrived");
    sent.into_iter().for_each(|sent| sent.join().expect("all was sent"));
    let kind = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    proxy.wait_says(&format!("connected redir[{kind}["), &format!("->{kind}[{to}]]"));
    proxy.wait_says("closed redir[", &format!("->{kind}[{to}]] {BYTES} {BYTES}"));
}

#[test]
fn who_is_redirected_gets_where_it_was_going() {
    for (listen, families) in [("0.0.0.0:8080", &[V4][..]), ("[::]:8080", &[V4, V6])] {
        let (mut gateway, outside) = networks();
        let proxy = start(&mut gateway, listen);
        for &family in families {
            assert_redirected(&proxy, (&gateway, &outside), family);
        }
        proxy.finish();
    }
}

/// A way that leads here would lead here again, and again.
#[test]
fn who_is_not_redirected_is_reset() {
    let (mut gateway, outside) = networks();
    let proxy = start(&mut gateway, "[::]:8080");
    for [_, here] in [V4, V6] {
        for network in [&gateway, &outside] {
            network.within(|| assert_refused(address(here, PROXY_PORT), b"hello"));
        }
        let kind = if here.contains(':') { "ipv6" } else { "ipv4" };
        proxy.wait_says(&format!("refused {kind}["), "denied");
    }
    proxy.finish();
}

#[test]
fn a_dest_that_refuses_is_a_reset() {
    let (mut gateway, outside) = networks();
    let proxy = start(&mut gateway, "[::]:8080");
    for [target, _] in [V4, V6] {
        outside.within(|| assert_refused(address(target, VACANT_PORT), b"hello"));
    }
    proxy.wait_says("refused", "connection-refused");
    proxy.finish();
}

/// The drain that the end of its stdin begins lets go on what runs, and takes nobody else.
#[test]
fn it_ends_with_its_last_connection() {
    let (mut gateway, outside) = networks();
    let proxy = start(&mut gateway, "[::]:8080");
    let to = address(V4[0], PORT);
    let backend = gateway.within(|| TcpListener::bind(to).expect("a backend can listen"));
    let mut client = outside.within(|| connect(to));
    let mut server = accept(&backend);
    let ending = std::thread::spawn(move || proxy.finish());
    client.write_all(b"still there").expect("it is");
    end(&client);
    assert_rest(&mut server, b"still there");
    assert!(accept_within(&backend, Duration::from_millis(1)).is_none());
    drop(server);
    assert_rest(&mut client, b"");
    ending.join().expect("it ends in order");
}
