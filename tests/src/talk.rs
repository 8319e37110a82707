//! What clients of proxies say who choose where they go, and what they hear: SOCKS 5, CONNECT of HTTP, and
//! curl, which talks both.

use crate::peer::{connect, read_bytes};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// Runs curl; its exit code, and what it wrote to stdout.
///
/// # Panics
/// It is not installed.
pub fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--noproxy", ""])
        .args(arguments)
        .output()
        .expect("curl cannot be run, install it");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A request of SOCKS 5 for an IPv4 address, greeting and all (RFC 1928 sections 3 and 4).
///
/// # Panics
/// It is another address.
pub fn socks5_request(to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    [&[5, 1, 0, 5, 1, 0, 1][..], &to.ip().octets(), &to.port().to_be_bytes()].concat()
}

/// A client that has asked for `to`, and what it was told: the code of the reply (RFC 1928 section 6).
///
/// # Panics
/// It was told something else.
#[track_caller]
pub fn socks5(proxy: SocketAddr, to: SocketAddr) -> (u8, TcpStream) {
    let mut stream = connect(proxy);
    stream.write_all(&socks5_request(to)).expect("it listens");
    assert_eq!(read_bytes(&stream, 2), [5, 0]);
    let reply = read_bytes(&stream, 10);
    assert_eq!((reply[0], &reply[2..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    (reply[1], stream)
}

/// A request for a target (RFC 9110 section 9.3.6).
pub fn http_request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

/// The header of an answer, byte by byte, so that nothing behind it is taken.
///
/// # Panics
/// There is none.
#[track_caller]
pub fn read_header(stream: &mut TcpStream) -> String {
    let mut header = Vec::new();
    let mut byte = [0];
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("more of the header");
        header.push(byte[0]);
        assert!(header.len() < 1000, "not a header: {:?}", String::from_utf8_lossy(&header));
    }
    String::from_utf8(header).expect("a header is ASCII")
}

/// The status of an answer.
///
/// # Panics
/// It has none.
#[track_caller]
pub fn status_of(header: &str) -> u16 {
    let status = header.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no status: {header:?}"))
}

/// A client that has asked for `target`, and the status it was told.
///
/// # Panics
/// It was told something else.
#[track_caller]
pub fn http(proxy: SocketAddr, target: &str) -> (u16, TcpStream) {
    let mut stream = connect(proxy);
    stream.write_all(http_request(target).as_bytes()).expect("it listens");
    let status = status_of(&read_header(&mut stream));
    (status, stream)
}
