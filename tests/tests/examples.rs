//! The examples that talk SOCKS 5 or HTTP, as programs, in a network of their own: with curl, with names that
//! have several addresses or none, and with dests that refuse, do not answer, or take their time.

use seaprox_tests::example::Example;
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    End, assert_echoes, connect, echo, end, read_bytes, read_to_end, serve_on,
};
use seaprox_tests::run;
use seaprox_tests::talk::http;
use seaprox_tests::trace::temporary;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

const PROXY: &str = "127.0.0.1:1080";
const PROXY_PORT: u16 = 1080;
const PAGE_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;

/// The second address of `two` answers, the first refuses; nobody is at the other names.
const HOSTS: &str =
    "127.0.0.2 two\n127.0.0.3 two\n127.0.0.3 page\n127.0.0.2 closed\n198.51.100.9 hole\n";

/// A network with a page, an echo and a void.
fn network() -> (Namespace, Vec<String>) {
    let mut network = Namespace::new();
    network.add_void();
    let wrapper = network.wrapper(HOSTS);
    let listen = |port| TcpListener::bind(("127.0.0.3", port)).expect("a backend can listen");
    network.within(|| {
        serve_on(listen(ECHO_PORT), echo);
        serve_on(listen(PAGE_PORT), |mut stream| {
            read_bytes(&stream, 4);
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").expect("curl reads");
            end(&stream);
            read_to_end(&mut stream);
        });
    });
    (network, wrapper)
}

/// What curl says with these arguments, in the network.
fn curl(wrapper: &[String], arguments: &[&str]) -> String {
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let usual = ["curl", "--silent", "--show-error", "--max-time", "30", "--noproxy", ""];
    run(&[&words[..], &usual, arguments].concat())
}

/// Whether curl is refused by its proxy (CURLE_PROXY, libcurl-errors(3)).
fn is_refused(wrapper: &[String], arguments: &[&str]) -> bool {
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).args(["curl", "--silent", "--max-time", "30", "--noproxy", ""]);
    command.args(arguments).output().expect("it can be run").status.code() == Some(97)
}

/// The request for a port of a name, and the greeting before it.
fn hello(name: &str, port: u16) -> Vec<u8> {
    let head = [5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    [&head[..], name.as_bytes(), &port.to_be_bytes()].concat()
}

fn answer(code: u8) -> Vec<u8> {
    vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// A client in the network that wants this, and has said so.
fn ask(network: &Namespace, name: &str, port: u16) -> TcpStream {
    let at: SocketAddr = PROXY.parse().expect("an address");
    let mut stream = network.within(|| connect(at));
    stream.write_all(&hello(name, port)).expect("it listens");
    stream
}

fn assert_refused_with(network: &Namespace, name: &str, code: u8) {
    let mut stream = ask(network, name, PAGE_PORT);
    assert_eq!(read_to_end(&mut stream), (answer(code), End::Fin), "{name}");
}

#[test]
fn socks5_serves_those_it_knows() {
    let (_network, wrapper) = network();
    let passwords = temporary("passwords");
    std::fs::write(&passwords, "bob:hidden\nalice:secret\n").expect("it can be written");
    let arguments = [PROXY, passwords.to_str().expect("a path of ours is plain")];
    let proxy = Example::start(&wrapper, "socks5", &arguments, PROXY_PORT);
    for user in ["alice:secret", "bob:hidden"] {
        assert_eq!(
            curl(&wrapper, &["-U", user, "--socks5-hostname", PROXY, "http://two/"]),
            "hello"
        );
    }
    for user in ["alice:hidden", "alice:", "carol:secret", ":"] {
        assert!(is_refused(&wrapper, &["-U", user, "--socks5-hostname", PROXY, "http://two/"]));
    }
    assert!(is_refused(&wrapper, &["--socks5-hostname", PROXY, "http://two/"]));
    proxy.wait_says("refused ipv4[127.0.0.1:", "auth");
    proxy.finish();
    std::fs::remove_file(passwords).expect("it is ours");
}

/// To some ports alone, and never to what the C library would take for an address.
#[test]
fn http_connect_serves_some_ports() {
    let (network, wrapper) = network();
    let proxy = Example::start(&wrapper, "http_connect", &[PROXY, "80", "443"], PROXY_PORT);
    let at = format!("http://{PROXY}");
    for name in ["page", "two", "127.0.0.3"] {
        let url = format!("http://{name}/");
        assert_eq!(curl(&wrapper, &["--proxytunnel", "--proxy", &at, &url]), "hello");
        proxy.wait_says("connected http[ipv4[127.0.0.1:", "->ipv4[127.0.0.3:80]]");
    }
    for (target, status) in [
        ("page:443", 502),
        ("closed:80", 502),
        ("nobody.invalid:80", 502),
        ("page:7", 403),
        ("127.0.0.3:7", 403),
        ("127.3:80", 403),
    ] {
        let (told, mut stream) = network.within(|| http(PROXY.parse().expect("address"), target));
        assert_eq!(told, status, "{target}");
        assert_eq!(read_to_end(&mut stream), (Vec::new(), End::Fin));
    }
    proxy.wait_says("refused ipv4[127.0.0.1:", "denied");
    proxy.finish();
}

#[test]
fn external_connect_looks_names_up_and_connects() {
    let (network, wrapper) = network();
    let proxy = Example::start(&wrapper, "external_connect", &[PROXY], PROXY_PORT);
    for name in ["page", "two", "127.0.0.3"] {
        let url = format!("http://{name}/");
        assert_eq!(curl(&wrapper, &["--socks5-hostname", PROXY, &url]), "hello");
        proxy.wait_says("connected external[ipv4[127.0.0.1:", "->ipv4[127.0.0.3:80]]");
    }
    // RFC 1928 section 6: which of them it is, each client is told.
    for (name, code) in [("nobody.invalid", 4), ("closed", 5), ("hole", 6)] {
        assert_refused_with(&network, name, code);
    }
    proxy.wait_says("refused", "name-resolution");
    proxy.finish();
}

/// Those whose dests take long hold up nobody else, as long as there are threads: one after the other
/// they would take longer than the proxy waits for any.
#[test]
fn external_connect_waits_for_some_and_serves_others() {
    let (network, wrapper) = network();
    let proxy = Example::start(&wrapper, "external_connect", &[PROXY], PROXY_PORT);
    let mut lost: Vec<_> = (0..5).map(|_| ask(&network, "hole", PAGE_PORT)).collect();
    let mut client = ask(&network, "page", ECHO_PORT);
    assert_eq!(read_bytes(&client, 12), answer(0));
    assert_echoes(&mut client, b"early or late");
    for stream in &mut lost {
        assert_eq!(read_to_end(stream), (answer(6), End::Fin));
    }
    drop(client);
    proxy.finish();
}
