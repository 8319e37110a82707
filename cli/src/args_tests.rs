use super::*;
use crate::log::Level;
use crate::user::User;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

const BOUNDS: Bounds = Bounds { connections: 8192, threads: 4, cpus: 2 };

/// Somebody's.
pub(super) const KEY: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// What is so unless it is said.
pub(super) const COMMON: Common = Common {
    prefer_ipv4: false,
    connections_max: 8192,
    threads: 2,
    connect_timeout_millis: Some(10_000),
    idle_timeout_millis: None,
    half_close_timeout_millis: None,
    drain_millis: Some(30_000),
    log: Level::Info,
    log_connections: false,
    socket_buffer_bytes: None,
    user: None,
    sandbox: true,
};

/// The same with everything said: [`EVERY_OPTION`].
pub(super) fn every_common() -> Common {
    Common {
        prefer_ipv4: true,
        connections_max: 7,
        threads: 3,
        connect_timeout_millis: None,
        idle_timeout_millis: Some(3_600_000),
        half_close_timeout_millis: Some(120_000),
        drain_millis: Some(0),
        log: Level::Debug,
        log_connections: true,
        socket_buffer_bytes: Some(65536),
        user: Some(User::parse(b"nobody:nogroup").unwrap()),
        sandbox: false,
    }
}

pub(super) const EVERY_OPTION: &str = "--prefer-ipv4 --max-connections 7 --threads=3 \
    --connect-timeout off --idle-timeout 1h --half-close-timeout 2m --drain 0s --log debug \
    --log-connections --socket-buffer 65536 --user nobody:nogroup --no-sandbox";

pub(super) fn told(line: &str) -> Result<Command, Answer> {
    parse(line.split_whitespace().map(OsString::from), BOUNDS)
}

fn config(line: &str) -> Config {
    match told(line) {
        Ok(Command::Static(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

pub(super) fn refusal(line: &str) -> String {
    match told(line) {
        Err(Answer::Refuse(line)) => line,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_the_help() {
    let config = config("seaprox static :8080 example.org:80");
    assert_eq!(
        config,
        Config {
            listen: Listen::Everywhere { port: 8080 },
            targets: vec![Target::Name { name: "example.org".into(), port: 80 }],
            when_full: WhenFull::Wait,
            common: COMMON,
        }
    );
}

#[test]
fn each_option() {
    let config = config(&format!(
        "seaprox static unix:/x a:1 b:2 {EVERY_OPTION} --when-full refuse unix:/c"
    ));
    assert_eq!((config.targets.len(), config.when_full), (3, WhenFull::Refuse));
    assert_eq!(config.common, every_common());
    assert_eq!(told("seaprox limits"), Ok(Command::Limits { socket_buffer_bytes: None }));
}

#[test]
fn the_last_one_counts() {
    let config =
        config("seaprox static :1 a:1 --threads 1 --threads 2 --prefer-ipv4 --prefer-ipv6");
    assert_eq!((config.common.threads, config.common.prefer_ipv4), (2, false));
    let one = self::config("seaprox static :1 a:1 --max-connections 1");
    let one = one.common;
    assert_eq!((one.connections_max, one.threads), (1, 1), "fewer threads by themselves");
}

#[test]
fn refused_in_one_line_that_says_what_to_do() {
    let whole = [
        ("seaprox", NO_COMMAND),
        ("seaprox statc", "statc: no such command; `seaprox --help` lists them"),
        (
            "seaprox static :1 a:1 --max-connections 8193",
            "--max-connections 8193: this build can hold at most 8192 connections; build it with \
             SEAPROX_MAX_NUM_CONNECTIONS=8193 for more",
        ),
        (
            "seaprox static :1 a:1 --threads 5",
            "--threads 5: this build can run at most 4 threads; build it with \
             SEAPROX_NUM_THREADS=5 for more",
        ),
        (
            "seaprox static :1 a:1 --threads 4 --max-connections 3",
            "--threads 4: more threads than connections: at most 3",
        ),
        ("seaprox static :1 a:1 --threads 0", "--threads 0: at least 1"),
        ("seaprox static :1 a:1 --threads +1", "--threads +1: not a whole number"),
        ("seaprox static :1 a:1 --threads", "--threads: no value; --help says which"),
        ("seaprox static :1 a:1 --log loud", "--log loud: write one of error warn info debug"),
        (
            "seaprox static :1 a:1 --idle-timeout 0s",
            "--idle-timeout 0s: no time at all: `off` is no limit",
        ),
        (
            "seaprox static :1 a:1 --idle-timeout 5",
            "--idle-timeout 5: no unit: write ms, s, m or h after it",
        ),
        ("seaprox static :1 a:1 --log-connections=x", "--log-connections: takes no value"),
        ("seaprox static :1 a:1 --nope", "--nope: no such option or argument; --help lists them"),
        ("seaprox limits x", "x: no such option or argument; --help lists them"),
        (
            "seaprox static :1",
            "<TARGET>... missing; like `seaprox static 127.0.0.1:8080 example.org:80`",
        ),
        ("seaprox static :0 a:1", ":0: port 0: a port is 1 to 65535"),
        ("seaprox static :1 a:65536", "a:65536: port 65536: a port is 1 to 65535"),
        ("seaprox limits --socket-buffer 1", "--socket-buffer 1: at least 4096"),
    ];
    for (line, expected) in whole {
        assert_eq!(refusal(line), expected, "{line}");
    }
    let many = format!("seaprox static :1 {}", "a:1 ".repeat(TARGETS_MAX + 1));
    assert_eq!(refusal(&many), "TARGET: at most 16 may be given");
    assert!(refusal("seaprox static :1 a:1 --threads 99999999999999999999").contains("at most 4"));
}

#[test]
fn help_has_examples_and_is_long_only_when_asked() {
    let say = |line: &str| match told(line) {
        Err(Answer::Say(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(say("seaprox --version"), format!("seaprox {}\n", env!("CARGO_PKG_VERSION")));
    let mut texts = vec![say("seaprox -h"), say("seaprox --help"), say("seaprox help static")];
    for command in ["static", "socks5", "http", "ingress", "egress"] {
        let short = say(&format!("seaprox {command} -h"));
        let long = say(&format!("seaprox {command} --help"));
        assert!(long.contains("Examples:") && !short.contains("Examples:"), "{long}");
        assert!(long.contains("\n\nSignals:") && long.contains("\n\nExit codes:"), "{long}");
        assert!(long.len() > short.len() && short.contains("8192"), "{short}");
        texts.extend([short, long]);
    }
    for text in texts {
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(110), "{longest:?} in\n{text}");
    }
}

/// Every example line of the help is a command this program takes.
#[test]
fn the_examples_are_true() {
    let helps = ["", "static ", "socks5 ", "http ", "ingress ", "egress "].map(|command| {
        let Err(Answer::Say(text)) = told(&format!("seaprox {command}--help")) else { panic!() };
        text
    });
    let examples: Vec<_> = helps
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| line.trim().replace('\'', ""))
        .filter(|line| line.starts_with("seaprox "))
        .map(|line| line.replace("KEY", KEY))
        .collect();
    assert_eq!(examples.len(), 31);
    for example in examples {
        assert!(told(&example).is_ok(), "{example}: {:?}", told(&example));
    }
}

proptest! {
    #[test]
    fn no_arguments_panic_and_every_refusal_is_one_line(
        arguments in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "static", "limits", "--threads", "--drain", "--log", "--when-full", "-h", "--",
                    ":1", "a:1", "help", "--socket-buffer", "=", "-", "--log=\n", "\n", "--x\ny",
                    "ingress", "egress", "sctp::1", "sctp:a:1", "seqpacket:\n", "--insecure",
                    "--key", "--key=a", "--peer", "--peer=\n", KEY, "--psk", "--peers=a", "genkey",
                    "--service", "--service=a=b:1", "--to", "--allow", "--allow=*\n", "*:1",
                    "socks5", "http", "http::1", "socks5:unix:\n", "--passwords", "--passwords=\n",
                    "--handshake-timeout",
                ]).prop_map(|text| text.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..8,
        ),
    ) {
        let arguments = arguments.into_iter().map(OsString::from_vec);
        if let Err(Answer::Refuse(line)) =
            parse([OsString::from("seaprox")].into_iter().chain(arguments), BOUNDS)
        {
            prop_assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?}");
        }
    }
}
