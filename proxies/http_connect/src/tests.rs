use super::*;
use base64ct::{Base64, Encoding};
use seaprox::wanted::Wanted;
use std::format;
use std::string::String;
use std::vec::Vec;

/// One user.
#[derive(Clone, Copy)]
struct Alice;

impl Passwords for Alice {
    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        name == b"alice" && password == b"sec:ret"
    }
}

/// What a client gets to hear, what it wants, and how much of what it said is left.
#[derive(Debug, PartialEq, Eq)]
struct Talk {
    told: String,
    wanted: Option<Result<String, FailReason>>,
    beyond: usize,
}

/// A client says `bytes`, so many at a time.
fn talk<P: Passwords>(passwords: P, bytes: &[u8], at_a_time: usize) -> Talk {
    let mut http = HttpConnect(passwords);
    let mut state = http.begin(());
    let (mut told, mut pending, mut rest) = (String::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let room = INPUT_BYTES - pending.len();
        assert!(room > 0, "it would wait for ever");
        let (chunk, after) = rest.split_at(at_a_time.min(room).min(rest.len()));
        pending.extend_from_slice(chunk);
        rest = after;
        let mut input = &pending[..];
        let mut reply = Reply::new();
        let wanted = match http.hear(&mut state, &mut input, &mut reply) {
            Verdict::More => None,
            Verdict::Connect(wanted) => Some(Ok(format!("{wanted:?}"))),
            Verdict::Reject(reason) => Some(Err(reason)),
        };
        told.push_str(str::from_utf8(reply.bytes()).unwrap());
        let beyond = input.len();
        pending.drain(..pending.len() - beyond);
        if wanted.is_some() {
            return Talk { told, wanted, beyond: beyond + rest.len() };
        }
    }
    Talk { told, wanted: None, beyond: pending.len() }
}

const WAYS: [usize; 7] = [1, 2, 3, 7, 100, 519, 10_000];

/// However the bytes are cut the target is this.
#[track_caller]
fn expect<P: Passwords + Copy>(passwords: P, said: &[u8], wanted: Wanted<'_>) {
    for at_a_time in WAYS {
        let heard = talk(passwords, said, at_a_time);
        let expected =
            Talk { told: String::new(), wanted: Some(Ok(format!("{wanted:?}"))), beyond: 0 };
        assert_eq!(heard, expected, "{at_a_time}");
    }
}

/// However the bytes are cut this is the answer, and there is no other.
#[track_caller]
fn expect_refused<P: Passwords + Copy>(passwords: P, said: &[u8], status: u16, reason: FailReason) {
    for at_a_time in WAYS {
        let Talk { told, wanted, .. } = talk(passwords, said, at_a_time);
        let shown = String::from_utf8_lossy(&said[..said.len().min(100)]);
        assert_eq!(wanted, Some(Err(reason)), "{at_a_time}: {shown:?}");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{at_a_time}: {shown:?}: {told}");
        assert!(told.ends_with("\r\n\r\n") && told.matches("\r\n\r\n").count() == 1, "{told:?}");
        assert!(
            told.contains("\r\nContent-Length: 0\r\n") && told.contains("\r\nConnection: close")
        );
    }
}

#[track_caller]
fn expect_malformed(said: &[u8]) {
    expect_refused((), said, 400, FailReason::Protocol);
}

fn request(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

fn name(host: &str, port: u16) -> Wanted<'_> {
    Wanted::Name(host.as_bytes(), port)
}

#[test]
fn addresses_and_names_are_wanted() {
    let inet = |text: &str| Wanted::Inet(text.parse().unwrap());
    for target in ["127.0.0.1:443", "[2001:db8::7]:65535"] {
        expect((), request(target).as_bytes(), inet(target));
    }
    expect((), request("example.org:443").as_bytes(), name("example.org", 443));
    expect((), request("a_b.EXAMPLE.:1").as_bytes(), name("a_b.EXAMPLE.", 1));
    // What looks like an address and is none is for others to judge.
    expect((), request("127.1:80").as_bytes(), name("127.1", 80));
    let longest = "n".repeat(255);
    expect((), request(&format!("{longest}:65535")).as_bytes(), name(&longest, 65535));
}

#[test]
fn what_comes_behind_is_not_consumed() {
    let said = request("example.org:443") + "\x16\x03\x01";
    assert_eq!(talk((), said.as_bytes(), said.len()).beyond, 3);
}

/// What RFC 9112 lets a recipient be lenient about, and what means nothing here.
#[test]
fn many_ways_to_say_it() {
    let wanted = name("example.org", 80);
    for said in [
        "\r\n\r\nCONNECT example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.1\nHost:example.org:80\n\n",
        "CONNECT example.org:80 HTTP/1.1\r\nhOST: \t example.org \t\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.1\r\nHost:\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.9\r\nHost: [::1]:80\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.0\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.1\r\nUser-Agent: a(b) c\x7a/1\r\nHost: x\r\nX: \u{e4}\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.1\r\nProxy-Authorization: Basic ?\r\nHost: x\r\n\r\n",
    ] {
        expect((), said.as_bytes(), wanted);
    }
}

#[test]
fn fields_may_be_longer_than_is_looked_at() {
    let line = "CONNECT example.org:80 HTTP/1.1\r\n";
    for bytes in (480..560).chain([1040, 8000, 8100]) {
        let value = "x".repeat(bytes);
        let said = format!("{line}Cookie: {value}\r\nHost: example.org\r\n\r\n");
        expect((), said.as_bytes(), name("example.org", 80));
        let said = format!("{line}Cookie: {value}\0\r\nHost: example.org\r\n\r\n");
        expect_malformed(said.as_bytes());
    }
}

#[test]
fn other_methods_are_refused_with_the_one_there_is() {
    let protocol = FailReason::Protocol;
    for said in [
        "GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "connect example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n",
        "CONNECTED x",
        "OPTIONS ",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        expect_refused((), said.as_bytes(), 405, protocol);
        assert!(talk((), said.as_bytes(), 1).told.contains("\r\nAllow: CONNECT\r\n"));
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000));
    expect_refused((), long.as_bytes(), 405, protocol);
}

#[test]
fn what_is_malformed_is_refused() {
    for target in [
        "",
        "example.org",
        "example.org:",
        ":80",
        "example.org:0",
        "example.org:65536",
        "example.org:+80",
        "example.org:80x",
        "[::1]",
        "[::1:80",
        "::1:80",
        "[127.0.0.1]:80",
        "[fe80::1%1]:80",
        "user@example.org:80",
        "http://example.org:80",
        "a/b:80",
        "a b:80",
        "a\u{e4}:80",
        "exa\tmple:80",
        "a%41:80",
    ] {
        expect_malformed(request(target).as_bytes());
    }
    let too_long = "n".repeat(256);
    expect_malformed(request(&format!("{too_long}:80")).as_bytes());
    for said in [
        " CONNECT example.org:80 HTTP/1.1\r\n\r\n",
        "CONNECT  example.org:80 HTTP/1.1\r\n\r\n",
        "CONNECT example.org:80  HTTP/1.1\r\n\r\n",
        "CONNECT example.org:80 HTTP/1.1 \r\n\r\n",
        "CONNECT example.org:80\r\n\r\n",
        "CONNECT example.org:80 http/1.1\r\n\r\n",
        "CONNECT example.org:80 HTTP/1\r\n\r\n",
        "CONNECT\texample.org:80\tHTTP/1.1\r\n\r\n",
        "CONNECT\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c",
        "\x05\x01\x00",
    ] {
        expect_malformed(said.as_bytes());
    }
    let line = "CONNECT example.org:80 HTTP/1.1\r\n";
    for fields in [
        "\r\n",
        "Host: a\r\nHost: a\r\n\r\n",
        "Host: a b\r\n\r\n",
        "Host: a,b\r\n\r\n",
        "Host: a/b\r\n\r\n",
        "Host : a\r\n\r\n",
        "Host\r\n\r\n",
        ": a\r\n\r\n",
        " Host: a\r\n\r\n",
        "Host: a\r\n b\r\n\r\n",
        "Host: a\r\n\tb: c\r\n\r\n",
        "Host: a\r\nX: b\rc\r\n\r\n",
        "Host: a\r\nX: b\0\r\n\r\n",
        "Host: a\r\nX\u{e4}: b\r\n\r\n",
        "Host: a\r\nProxy-Authorization: a\r\nProxy-Authorization: a\r\n\r\n",
    ] {
        expect_malformed([line, fields].concat().as_bytes());
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let protocol = FailReason::Protocol;
    let long = request(&format!("{}:80", "n".repeat(9000)));
    expect_refused((), long.as_bytes(), 414, protocol);
    expect_refused((), &[b'C'; 9000], 400, protocol);
    let line = "CONNECT example.org:80 HTTP/1.1\r\nHost: a\r\n";
    let with = |fields: String| [line, &fields, "\r\n"].concat();
    let one = with(format!("Cookie: {}\r\n", "x".repeat(8200)));
    let many = with("Cookie: x\r\n".repeat(800));
    let nameless = with("x".repeat(8200));
    let password = with(format!("Proxy-Authorization: Basic {}\r\n", "x".repeat(600)));
    for said in [one, many, nameless, password] {
        expect_refused((), said.as_bytes(), 431, protocol);
    }
    let host = format!("CONNECT a:80 HTTP/1.1\r\nHost: {}\r\n\r\n", "n".repeat(600));
    expect_refused((), host.as_bytes(), 431, protocol);
    let lines = |count| "\r\n".repeat(count) + &request("a:80");
    expect((), lines(8).as_bytes(), name("a", 80));
    expect_malformed(lines(9).as_bytes());
    // What is too long is, whatever else it is, and what comes before that counts.
    for bad in [0, 1, 100] {
        let rest = usize::from(HEADER_BYTES_MAX) - line.len() - "X: ".len();
        let before = with(format!("X: {}\0{}", "x".repeat(rest - 1 - bad), "x".repeat(200)));
        expect_malformed(before.as_bytes());
        let beyond = with(format!("X: {}\0{}", "x".repeat(rest + bad), "x".repeat(200)));
        expect_refused((), beyond.as_bytes(), 431, protocol);
        let fields = "X: y\r\n".repeat(rest / 6);
        let beyond = with(format!("{fields}no field at all{}", "x".repeat(200)));
        expect_refused((), beyond.as_bytes(), 431, protocol);
    }
    // To the byte.
    for (more, is_taken) in [(0, true), (1, false)] {
        let rest = usize::from(HEADER_BYTES_MAX) - line.len() - "X: \r\n\r\n".len() + more;
        let said = with(format!("X: {}\r\n", "x".repeat(rest)));
        assert_eq!(said.len(), 8192 + more);
        let wanted = talk((), said.as_bytes(), 300).wanted;
        assert_eq!(wanted.is_some_and(|wanted| wanted.is_ok()), is_taken);
    }
}

#[test]
fn later_versions_are_not_spoken() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.0"] {
        let said = format!("CONNECT example.org:80 {version}\r\nHost: a\r\n\r\n");
        expect_refused((), said.as_bytes(), 505, FailReason::Protocol);
    }
}

#[test]
fn passwords_are_asked_for_and_looked_at() {
    let with = |fields: &str| format!("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let basic = |scheme: &str, credentials: &[u8]| {
        let mut room = [0; 520];
        let encoded = Base64::encode(credentials, &mut room).unwrap();
        with(&format!("Proxy-Authorization: {scheme} {encoded}\r\n"))
    };
    let known = b"alice:sec:ret";
    for scheme in ["Basic", "basic", "BASIC  "] {
        expect(Alice, basic(scheme, known).as_bytes(), name("a", 80));
    }
    let unknown = [
        with(""),
        with("Authorization: Basic YWxpY2U6c2VjOnJldA==\r\n"),
        with("Proxy-Authorization: Basic YWxpY2U6c2VjOnJldA=\r\n"),
        with("Proxy-Authorization: Basic\r\n"),
        with("Proxy-Authorization:\r\n"),
        basic("Digest", known),
        basic("Basic", b"alice:sec:reT"),
        basic("Basic", b"alice"),
        basic("Basic", b":"),
        basic("Basic", &[b'x'; 350]),
    ];
    for said in unknown {
        expect_refused(Alice, said.as_bytes(), 407, FailReason::Auth);
        let told = talk(Alice, said.as_bytes(), 1).told;
        assert!(told.contains("\r\nProxy-Authenticate: Basic realm=\"seaprox\"\r\n"), "{told}");
    }
}

fn answer_to(said: &[u8], outcome: Result<(), FailReason>) -> String {
    let mut http = HttpConnect(());
    let (mut state, mut reply) = (http.begin(()), Reply::new());
    let _ = http.hear(&mut state, &mut &said[..], &mut reply);
    http.answer(&mut state, outcome, &mut reply);
    String::from_utf8(reply.bytes().to_vec()).unwrap()
}

#[test]
fn only_who_has_begun_is_answered() {
    let late = Err(FailReason::TimedOut);
    assert_eq!(answer_to(b"", late), "");
    for begun in [&b"C"[..], b"CONNECT a:80 HTTP/1.1\r\n", b"\r\n"] {
        assert!(answer_to(begun, late).starts_with("HTTP/1.1 408 "), "{begun:?}");
    }
    let whole = request("a:80");
    assert!(answer_to(whole.as_bytes(), late).starts_with("HTTP/1.1 504 "));
}

#[test]
fn every_outcome_has_its_status() {
    let whole = request("a:80");
    let answer = |outcome| answer_to(whole.as_bytes(), outcome);
    assert_eq!(answer(Ok(())), "HTTP/1.1 200 OK\r\n\r\n");
    for reason in FailReason::ALL {
        let told = answer(Err(reason));
        let status: u16 = told[9..12].parse().unwrap();
        assert!([403, 502, 503, 504].contains(&status), "{reason}: {told}");
        assert!(told.ends_with("\r\n\r\n") && told.contains("\r\nConnection: close\r\n"), "{told}");
    }
    for (reason, status, error) in [
        (FailReason::ConnectionRefused, 502, "connection_refused"),
        (FailReason::NameResolution, 502, "dns_error"),
        (FailReason::TimedOut, 504, "connection_timeout"),
        (FailReason::Denied, 403, "destination_ip_prohibited"),
        (FailReason::LinkDown, 503, "destination_unavailable"),
    ] {
        let told = answer(Err(reason));
        let error = format!("\r\nProxy-Status: seaprox; error={error}\r\n");
        assert!(
            told.starts_with(&format!("HTTP/1.1 {status} ")) && told.contains(&error),
            "{told}"
        );
    }
}
