use super::*;
use crate::args::Command;
use crate::args::tests::{COMMON, EVERY_OPTION, every_common, refusal, told};

fn direct(line: &str) -> DirectConfig {
    match told(line) {
        Ok(Command::Direct(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_help() {
    for (name, talk) in [("socks5", Talk::Socks5), ("http", Talk::Http)] {
        let config = direct(&format!("seaprox {name} 127.0.0.1:1080"));
        let expected = DirectConfig {
            talk,
            listen: Listen::parse(b"127.0.0.1:1080").unwrap(),
            allowed: Allowed::everything(),
            handshakes: Handshakes { passwords: None, timeout_millis: 10_000 },
            when_full: WhenFull::Wait,
            common: COMMON,
        };
        assert_eq!(config, expected);
    }
}

#[test]
fn each_option() {
    let config = direct(&format!(
        "seaprox socks5 :1080 {EVERY_OPTION} --when-full refuse --allow *.a:1 --allow 10.0.0.0/8 \
         --passwords /etc/who --handshake-timeout off"
    ));
    assert_eq!((config.when_full, config.common), (WhenFull::Refuse, every_common()));
    let patterns: Vec<_> = config.allowed.patterns().iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["*.a:1", "10.0.0.0/8:*"]);
    let handshakes =
        Handshakes { passwords: Some("/etc/who".into()), timeout_millis: DURATION_MILLIS_MAX };
    assert_eq!(config.handshakes, handshakes);
}

/// Nobody opens a proxy to the world by leaving something out.
#[test]
fn who_can_be_reached_says_for_whom() {
    for listen in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "unix:/x", "unix:@x"] {
        assert_eq!(direct(&format!("seaprox http {listen}")).allowed, Allowed::everything());
    }
    for listen in [":1", "0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1", "fd:3", "fd:a"] {
        let line = format!("seaprox http {listen}");
        assert_eq!(refusal(&line), format!("{listen}: {FOR_WHOM}"));
        assert_eq!(direct(&format!("{line} --allow a:1")).allowed.patterns().len(), 1);
        assert_eq!(direct(&format!("{line} --passwords f")).allowed, Allowed::everything());
    }
}

#[test]
fn refused_in_one_line_that_says_what_to_do() {
    for (line, expected) in [
        ("seaprox socks5", "<LISTEN> missing; like `seaprox socks5 127.0.0.1:1080`"),
        ("seaprox http", "<LISTEN> missing; like `seaprox http 127.0.0.1:3128`"),
        ("seaprox http 127.0.0.1:1 a:1", "a:1: no such option or argument; --help lists them"),
        (
            "seaprox socks5 127.0.0.1:1 --handshake-timeout 0s",
            "--handshake-timeout 0s: no time at all: `off` is no limit",
        ),
        (
            "seaprox socks5 127.0.0.1:1 --allow a:b",
            "--allow a:b: ports are like 443, 80-90, 80,443 or *, each 1 to 65535",
        ),
    ] {
        assert_eq!(refusal(line), expected);
    }
    let refused = refusal("seaprox socks5 socks5:127.0.0.1:1");
    assert!(refused.contains("stands once, before a LISTEN of an ingress"), "{refused}");
}
