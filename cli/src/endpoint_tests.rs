use super::*;
use proptest::prelude::*;

fn listen(text: &str) -> Result<Listen, String> {
    Listen::parse(text.as_bytes()).map_err(|refused| refused.to_string())
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text.as_bytes()).map_err(|refused| refused.to_string())
}

fn inet(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn unix(path: &str) -> UnixPath {
    UnixPath(path.as_bytes().into())
}

#[test]
fn each_kind_of_listen() {
    assert_eq!(listen(":8080"), Ok(Listen::Everywhere { port: 8080 }));
    assert_eq!(listen("127.0.0.1:1"), Ok(Listen::Inet(inet("127.0.0.1:1"))));
    assert_eq!(listen("[::]:65535"), Ok(Listen::Inet(inet("[::]:65535"))));
    assert_eq!(listen("[::ffff:1.2.3.4]:80"), Ok(Listen::Inet(inet("1.2.3.4:80"))));
    assert_eq!(listen("unix:/run/x:y"), Ok(Listen::Unix(unix("/run/x:y"))));
    assert_eq!(listen("unix:@x"), Ok(Listen::Unix(unix("@x"))));
    assert_eq!(listen("fd:3"), Ok(Listen::Descriptor(3)));
    assert_eq!(listen("fd:web.socket"), Ok(Listen::Named("web.socket".into())));
}

#[test]
fn each_kind_of_target() {
    let name = |name: &str, port| Ok(Target::Name { name: name.into(), port });
    assert_eq!(target("example.org:80"), name("example.org", 80));
    assert_eq!(target("a_b-c.example.org.:080"), name("a_b-c.example.org.", 80));
    assert_eq!(target("1e100.net:80"), name("1e100.net", 80));
    assert_eq!(target("1.2.3.4:80"), Ok(Target::Inet(inet("1.2.3.4:80"))));
    assert_eq!(target("[::1]:80"), Ok(Target::Inet(inet("[::1]:80"))));
    assert_eq!(target("unix:x"), Ok(Target::Unix(unix("x"))));
    let Ok(Target::Inet(SocketAddr::V6(scoped))) = target("[fe80::1%lo]:80") else { panic!() };
    assert_eq!(Some(scoped.scope_id()), sys::interface_number(c"lo"));
}

#[test]
fn a_port_is_one_to_65535() {
    for bad in ["0", "65536", "99999999999999999999", "-1", "+80", "8 0", "http", "８０"] {
        let reason = target(&format!("example.org:{bad}")).unwrap_err();
        assert!(reason.ends_with(": a port is 1 to 65535"), "{reason}");
        assert!(reason.contains(&format!(": port {bad}:")), "{reason}");
    }
    assert_eq!(target("a:").unwrap_err(), "a:: no port after the `:`: a port is 1 to 65535");
    assert_eq!(target("a").unwrap_err(), "a: no port: write a:PORT");
    assert_eq!(target("[::1]").unwrap_err(), "[::1]: no port: write [ADDRESS]:PORT");
    assert_eq!(listen("8080").unwrap_err(), "8080: no host: write :8080 or 127.0.0.1:8080");
}

#[test]
fn what_to_write_instead() {
    let refused_as = [
        (target(""), "empty"),
        (target(":80"), "no host: write NAME:80"),
        (target("http://example.org:80/"), "a URL"),
        (target("::1:80"), "in brackets"),
        (target("[::1:80"), "no `]`"),
        (target("[1.2.3.4]:80"), "without brackets"),
        (target("[x]:80"), "not an IPv6 address"),
        (target("256.1.1.1:80"), "not an IPv4 address"),
        (target("127.1:80"), "not an IPv4 address"),
        (target("0x7f.0x1:80"), "not an IPv4 address"),
        (target("[fe80::1%nosuchif0]:80"), "no interface `nosuchif0`: `ip link` lists them"),
        (target("[fe80::1%4294967295]:80"), "no interface `4294967295`"),
        (target("[fe80::1%]:80"), "no interface ``"),
        (target("a b:80"), "no name contains ` `"),
        (target("a\n:80"), "no name contains `\\n`"),
        (target("bücher.example:80"), "`xn--...`"),
        (target("a..b:80"), "nothing between two dots"),
        (target(".:80"), "nothing between two dots"),
        (target("unix:"), "no path"),
        (target("unix:@"), "no name after the @"),
        (target("unix:a\0b"), "NUL"),
        (target("fd:3"), "a target is"),
        (target(&format!("{}:80", "a".repeat(64))), "at most 63"),
        (target(&format!("{}a:80", "a.".repeat(127))), "at most 253"),
        (target(&format!("unix:/{}", "a".repeat(107))), "at most 107"),
    ];
    for (refused, reason) in refused_as {
        let refused = refused.unwrap_err();
        assert!(refused.contains(reason), "{refused} should say {reason}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    let refused_as = [
        (listen("localhost:80"), "127.0.0.1:80 or [::1]:80, or :80 for every one"),
        (listen("*:80"), "write :80"),
        (listen("fd:"), "fd:NAME"),
        (listen("fd:2"), "standard streams"),
        (listen("fd:4294967296"), "so large"),
        (listen("fd:-1\x7f"), "LISTEN_FDNAMES"),
        (listen("fd:a:b"), "LISTEN_FDNAMES"),
    ];
    for (refused, reason) in refused_as {
        let refused = refused.unwrap_err();
        assert!(refused.contains(reason), "{refused} should say {reason}");
    }
    assert!(Target::parse(b"\xff:80").unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn the_longest_that_fit() {
    assert!(target(&format!("{}b:1", "a.".repeat(126))).is_ok());
    assert!(target(&format!("{}b.:1", "a.".repeat(126))).is_ok());
    assert!(target(&format!("{}:1", "a".repeat(63))).is_ok());
    assert!(target(&format!("unix:/{}", "a".repeat(106))).is_ok());
}

fn any_inet() -> impl Strategy<Value = SocketAddr> {
    let scope = sys::interface_number(c"lo").unwrap_or(0);
    (any::<IpAddr>(), 1..=u16::MAX, any::<bool>()).prop_map(move |(ip, port, scoped)| match ip {
        IpAddr::V4(ip) => (ip, port).into(),
        IpAddr::V6(ip) => canonical(ip, port, if scoped { scope } else { 0 }),
    })
}

fn any_unix() -> impl Strategy<Value = UnixPath> {
    "/?[a-zA-Z0-9:/.%@ é-]{1,50}".prop_map(|path| UnixPath(path.as_bytes().into()))
}

fn any_listen() -> impl Strategy<Value = Listen> {
    prop_oneof![
        (1..=u16::MAX).prop_map(|port| Listen::Everywhere { port }),
        any_inet().prop_map(Listen::Inet),
        any_unix().prop_filter("no name", |path| path.as_bytes() != b"@").prop_map(Listen::Unix),
        (3..=i32::MAX).prop_map(Listen::Descriptor),
        "[a-z][ -9;-~]{0,40}".prop_map(Listen::Named),
    ]
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        ("[a-z0-9_-]{1,63}(\\.[a-z0-9-]{1,20}){0,3}\\.[a-z]{2,63}\\.?", 1..=u16::MAX)
            .prop_map(|(name, port)| Target::Name { name, port }),
        any_inet().prop_map(Target::Inet),
        any_unix().prop_filter("no name", |path| path.as_bytes() != b"@").prop_map(Target::Unix),
    ]
}

/// Bytes near the grammar, so that the deep branches are reached.
fn near_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "[", "]", ":", "::", "%", "lo", "1", "80", "65536", "0", "unix:", "fd:", "a", ".", "@",
        "\0", "é", "\n", "://", "1.2.3.4", "fe80", "255", "-", "0x", "*",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_can_be_read(listen in any_listen(), target in any_target()) {
        prop_assert_eq!(Listen::parse(listen.to_string().as_bytes()), Ok(listen));
        prop_assert_eq!(Target::parse(target.to_string().as_bytes()), Ok(target));
    }

    #[test]
    fn no_bytes_panic_and_every_refusal_is_one_line(text in near_bytes()) {
        let one_line = |refused: Refused| {
            let line = refused.to_string();
            !line.chars().any(char::is_control) && line.chars().count() < 1200
        };
        prop_assert!(Listen::parse(&text).map_or_else(one_line, |_| true));
        prop_assert!(Target::parse(&text).map_or_else(one_line, |_| true));
    }
}
