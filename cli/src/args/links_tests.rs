use super::*;
use crate::args::Command;
use crate::args::tests::{COMMON, EVERY_OPTION, KEY, every_common, refusal, told};
use seaprox_udp::congestion::Algorithm;

fn ingress(line: &str) -> IngressConfig {
    match told(&format!("seaprox ingress {line}")) {
        Ok(Command::Ingress(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

fn egress(line: &str) -> EgressConfig {
    match told(&format!("seaprox egress {line}")) {
        Ok(Command::Egress(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

fn link(text: &str) -> Link {
    Link::parse(text.as_bytes()).unwrap()
}

fn entrance(text: &str) -> Entrance {
    Entrance::parse(text.as_bytes()).unwrap()
}

fn target(text: &str) -> Target {
    Target::parse(text.as_bytes()).unwrap()
}

#[test]
fn defaults_are_those_of_the_help() {
    assert_eq!(
        ingress(":8080 sctp:a:7000 --insecure"),
        IngressConfig {
            entrances: vec![entrance(":8080")],
            handshakes: None,
            link: link("sctp:a:7000"),
            protection: Protection::Insecure,
            ask: Ask::Own,
            link_wait_millis: Some(10_000),
            link_timeout_millis: 15_000,
            sctp_udp_port: None,
            congestion: Algorithm::Bbr,
            when_full: WhenFull::Wait,
            common: Common { connect_timeout_millis: Some(10_000), ..COMMON },
        }
    );
    assert_eq!(
        egress("sctp::7000 a:1 --insecure"),
        EgressConfig {
            link: link("sctp::7000"),
            protection: Protection::Insecure,
            link_timeout_millis: 15_000,
            targets: vec![target("a:1")],
            services: vec![],
            allowed: Allowed::default(),
            congestion: Algorithm::Bbr,
            common: COMMON,
        }
    );
}

#[test]
fn the_way_over_udp_is_shared_as_told() {
    let asked = ingress(":1 udp:a:1 --insecure --congestion cubic");
    assert_eq!((asked.link, asked.congestion), (link("udp:a:1"), Algorithm::Cubic));
    let offered = egress("udp::1 a:1 --insecure --congestion newreno");
    assert_eq!((offered.link, offered.congestion), (link("udp::1"), Algorithm::NewReno));
}

#[test]
fn each_option() {
    let config = ingress(&format!(
        ":1 --link-wait 0s unix:/x --insecure --service web_1 {EVERY_OPTION} \
         --sctp-udp-port 9899 --when-full refuse --link-timeout 300ms sctp:a:7000,b"
    ));
    assert_eq!(config.entrances.len(), 2);
    assert_eq!((config.link, config.ask), (link("sctp:a:7000,b"), Ask::Service("web_1".into())));
    assert_eq!((config.link_wait_millis, config.sctp_udp_port), (Some(0), Some(9899)));
    assert_eq!((config.when_full, config.common), (WhenFull::Refuse, every_common()));
    assert_eq!(config.link_timeout_millis, 300);
    let config = ingress(":1 seqpacket:/l --to [::1]:80 --link-wait off --insecure");
    assert_eq!(config.link_wait_millis, None);
    assert_eq!(config.ask, Ask::Target(target("[::1]:80")));

    let config = egress(&format!(
        "--service web=a:1,[::1]:2,unix:/x seqpacket:@l --allow *.a:1 a:1 --insecure {EVERY_OPTION} \
         --service db=b:1 b:2 --allow 10.0.0.0/8 --link-timeout 1h"
    ));
    assert_eq!(
        (config.link, config.targets),
        (link("seqpacket:@l"), vec![target("a:1"), target("b:2")])
    );
    let web = vec![target("a:1"), target("[::1]:2"), target("unix:/x")];
    assert_eq!(
        config.services,
        [
            Service { name: "web".into(), targets: web },
            Service { name: "db".into(), targets: vec![target("b:1")] }
        ]
    );
    let patterns: Vec<_> = config.allowed.patterns().iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["*.a:1", "10.0.0.0/8:*"]);
    assert_eq!(config.link_timeout_millis, 3_600_000);
    assert_eq!(config.common, every_common());
}

#[test]
fn clients_of_an_ingress_may_talk() {
    let config = ingress(
        ":1 socks5:127.0.0.1:2 http:unix:/x sctp:a:1 --insecure --to b:1 --passwords f \
         --handshake-timeout 3s",
    );
    assert_eq!(config.entrances, [":1", "socks5:127.0.0.1:2", "http:unix:/x"].map(entrance));
    let handshakes = Handshakes { passwords: Some("f".into()), timeout_millis: 3000 };
    assert_eq!(config.handshakes, Some(handshakes));
    let config = ingress("socks5::1 sctp:a:1 --insecure");
    assert_eq!(config.handshakes, Some(Handshakes { passwords: None, timeout_millis: 10_000 }));
}

/// Any of them is something to connect to.
#[test]
fn an_egress_needs_no_target_of_its_own() {
    assert_eq!(egress("sctp::1 --service a=b:1 --insecure").targets, []);
    assert_eq!(egress("sctp::1 --allow a:1 --insecure").targets, []);
    assert_eq!(
        refusal("seaprox egress sctp::1 --insecure"),
        "TARGET: nothing to connect to: name one, or --service NAME=TARGET, or what ingresses may \
         name with --allow"
    );
}

fn keyed(key: &str, psk: Option<&str>, peers: &[&str], list: Option<&str>) -> Protection {
    Protection::Keyed(KeyFiles {
        key: key.into(),
        psk: psk.map(Into::into),
        peers: peers.iter().map(|key| Public::from_base64(key.as_bytes()).unwrap()).collect(),
        list: list.map(Into::into),
    })
}

/// What `wg pubkey` made of another secret than [`KEY`]'s.
const OTHER: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

#[test]
fn by_which_keys() {
    let with = |options: &str| ingress(&format!(":1 udp:a:1 {options}")).protection;
    assert_eq!(with(&format!("--key k --peer {KEY}")), keyed("k", None, &[KEY], None));
    assert_eq!(
        with(&format!("--psk /p --peer {KEY} --key ./k")),
        keyed("./k", Some("/p"), &[KEY], None)
    );
    let with = |options: &str| egress(&format!("udp::1 a:1 {options}")).protection;
    assert_eq!(
        with(&format!("--key k --peer {KEY} --peers l --peer {OTHER} --psk p")),
        keyed("k", Some("p"), &[KEY, OTHER], Some("l"))
    );
    assert_eq!(with("--key k --peers l"), keyed("k", None, &[], Some("l")));
    // Whatever is allowed stands there.
    assert_eq!(egress("udp::1 --key k --peers l").targets, []);
}

#[test]
fn keys_that_are_missing_or_not_keys() {
    for end in ["ingress :1 udp:a:1", "egress udp::1 a:1", "egress seqpacket:/x a:1"] {
        let why = |options: &str| refusal(&format!("seaprox {end} {options}"));
        let line = why("");
        for word in ["no keys: ", "seaprox genkey > ", "seaprox pubkey < ", "--key link.key --peer"]
        {
            assert!(line.contains(word), "{line}");
        }
        assert!(line.contains("--insecure"), "{line}");
        assert!(told(&format!("seaprox {end} --insecure")).is_ok());
        let peer = format!("--peer {KEY}");
        assert_eq!(why("--key k"), format!("--peer: {PEER_MISSING}"));
        assert_eq!(why("--key k --psk p"), format!("--peer: {PEER_MISSING}"));
        assert_eq!(why(&peer), format!("--key: {KEY_MISSING}"));
        assert_eq!(why("--psk p"), format!("--key: {KEY_MISSING}"));
        assert_eq!(why("--key k --peer k"), "--peer k: a key is 44 characters of base64");
        let twice = format!("--key k {peer} {peer}");
        assert_eq!(why(&twice), format!("--peer {KEY}: is there twice"));
        for options in ["--key k", &peer, "--psk p"] {
            let option = options.split(' ').next().unwrap();
            let both = format!("{options} --insecure");
            let line = why(&both);
            let says = |a: &str, b: &str| line == format!("{a}: not together with {b}");
            assert!(says("--insecure", option) || says(option, "--insecure"), "{line}");
        }
        // Whoever types a key there has shown it, and the log does not show it again.
        for option in ["--key", "--psk"] {
            let line = why(&format!("{option} {KEY} {peer}"));
            assert_eq!(line, format!("{option}: {IS_KEY}"));
        }
    }
    assert_eq!(
        refusal(&format!("seaprox ingress :1 udp:a:1 --key k --peer {KEY} --peer {OTHER}")),
        format!("--peer {OTHER}: an ingress has one link, and so one peer")
    );
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let line = refusal(&format!("seaprox egress udp::1 a:1 --key k --peer {zero}"));
    assert_eq!(line, format!("--peer {zero}: a key of nothing but zeroes is no key"));
    let line = refusal("seaprox egress udp::1 a:1 --key k --peers l --psk p");
    assert!(line.starts_with("--psk: it is for those of --peer"), "{line}");
    let line = refusal("seaprox egress udp::1 a:1 --insecure --peers l");
    assert!(line.contains("not together with"), "{line}");
    let line = refusal("seaprox ingress :1 udp:a:1 --key k --peers l");
    assert_eq!(line, "--peers: no such option or argument; --help lists them");
}

#[test]
fn refused_in_one_line_that_says_what_to_do() {
    for (line, expected) in [
        (
            "ingress",
            "<LISTEN>... missing; like `seaprox ingress 127.0.0.1:8080 udp:egress.example:7000 \
             --key FILE --peer KEY`",
        ),
        (
            "ingress :1",
            "LINK: missing: the last argument says where the egress is, like \
             `udp:egress.example:7000`",
        ),
        (
            "ingress sctp:a:1",
            "LISTEN: missing; like `seaprox ingress 127.0.0.1:8080 udp:egress.example:7000 \
             --key FILE --peer KEY`",
        ),
        (
            "ingress :1 a:2",
            "a:2: not a link: write udp:HOST:PORT, sctp:HOST:PORT, or seqpacket:/path on one machine",
        ),
        (
            "ingress sctp:a:1 sctp:a:1",
            "sctp:a:1: an IPv6 address goes in brackets: write [ADDRESS]:PORT",
        ),
        ("ingress :1 :2 :1 sctp:a:1", ":1: is there twice"),
        ("ingress :1 socks5::1 sctp:a:1", "socks5::1: is there twice"),
        (
            "ingress :1 sctp:a:1 --passwords f",
            "--passwords f: no LISTEN is socks5: or http:, so nobody is asked anything: leave it out",
        ),
        (
            "ingress :1 sctp:a:1 --handshake-timeout 1s",
            "--handshake-timeout 1s: no LISTEN is socks5: or http:, so nobody is asked anything: \
             leave it out",
        ),
        (
            "ingress socks5::1 http::2 sctp:a:1 --to b:1",
            "--to b:1: every LISTEN is socks5: or http:, whose clients say themselves where they want \
             to go: leave it out",
        ),
        ("ingress :1 sctp::1", "sctp::1: no host: write sctp:NAME:1, where the egress is"),
        (
            "ingress :1 sctp:a:1 --service a=b:1",
            "--service a=b:1: an ingress only names it: what it is, its egress says",
        ),
        (
            "ingress :1 sctp:a:1 --service a/b",
            "--service a/b: a service's name is 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        ("ingress :1 sctp:a:1 --service a --to b:1", "--service: not together with --to"),
        ("ingress :1 sctp:a:1 --to b", "--to b: no port: write b:PORT"),
        (
            "ingress :1 sctp:a:1 --to unix:/x",
            "--to unix:/x: the far end can be asked for NAME:PORT and ADDRESS:PORT only: give it a \
             --service for a path",
        ),
        (
            "ingress :1 sctp:a:1 --to [fe80::1%lo]:1",
            "--to [fe80::1%lo]:1: the far end does not know this machine's interfaces",
        ),
        (
            "ingress :1 sctp:a:1 --link-wait 5",
            "--link-wait 5: no unit: write ms, s, m or h after it",
        ),
        (
            "ingress :1 sctp:a:1 --link-timeout 299ms",
            "--link-timeout 299ms: a link's is 300ms to 1h",
        ),
        ("egress sctp::1 a:1 --link-timeout off", "--link-timeout off: a link's is 300ms to 1h"),
        (
            "ingress :1 sctp:a:1 --congestion bbr",
            "--congestion bbr: sctp:a:1 is not udp: leave it out",
        ),
        (
            "egress seqpacket:/x a:1 --congestion cubic",
            "--congestion cubic: seqpacket:/x is not udp: leave it out",
        ),
        ("ingress :1 sctp:a:1 --sctp-udp-port 0", "--sctp-udp-port 0: at least 1"),
        (
            "ingress :1 sctp:a:1 --sctp-udp-port 65536",
            "--sctp-udp-port 65536: a port is 1 to 65535",
        ),
        (
            "ingress :1 seqpacket:/x --sctp-udp-port 1",
            "--sctp-udp-port 1: seqpacket:/x is not sctp: leave it out",
        ),
        ("ingress :1 sctp:a:1 --allow a", "--allow: no such option or argument; --help lists them"),
        (
            "egress",
            "<LINK> missing; like `seaprox egress udp::7000 example.org:80 --key FILE --peer KEY`",
        ),
        (
            "egress :1 a:1",
            ":1: not a link: write udp:HOST:PORT, sctp:HOST:PORT, or seqpacket:/path on one machine",
        ),
        (
            "egress sctp:a:1 a:1",
            "sctp:a:1: a name cannot be listened on: write addresses, like sctp:127.0.0.1:1, or \
             sctp::1 for every one",
        ),
        ("egress sctp::1 a", "a: no port: write a:PORT"),
        ("egress sctp::1 --service a", "--service a: no target: write NAME=TARGET[,TARGET..]"),
        ("egress sctp::1 --service a=", "--service a=: no target: write NAME=TARGET[,TARGET..]"),
        (
            "egress sctp::1 --service a=b:1,",
            "--service a=b:1,: no target: write NAME=TARGET[,TARGET..]",
        ),
        ("egress sctp::1 --service a=b:1,c", "--service a=b:1,c: c: no port: write c:PORT"),
        (
            "egress sctp::1 --service =b:1",
            "--service =b:1: a service's name is 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        (
            "egress sctp::1 --service a=b:1 --service a=c:1",
            "--service a=c:1: there is one of that name already",
        ),
        (
            "egress sctp::1 --allow 10.0.0.1/8",
            "--allow 10.0.0.1/8: bits are set behind the first 8: write 10.0.0.0/8",
        ),
        (
            "egress sctp::1 a:1 --when-full wait",
            "--when-full: no such option or argument; --help lists them",
        ),
        (
            "egress sctp::1 a:1 --threads 5",
            "--threads 5: this build can run at most 4 threads; build it with SEAPROX_NUM_THREADS=5 for more",
        ),
    ] {
        assert_eq!(refusal(&format!("seaprox {line}")), expected, "{line}");
    }
}

/// As many as there may be, and one more.
#[test]
fn at_most_so_many() {
    let list = |count: usize, item: &dyn Fn(usize) -> String| -> String {
        (1..=count).map(|number| item(number) + " ").collect()
    };
    let listens = |count| list(count, &|number| format!(":{number}"));
    assert_eq!(
        ingress(&format!("{}sctp:a:1 --insecure", listens(LISTENS_MAX))).entrances.len(),
        16
    );
    assert_eq!(
        refusal(&format!("seaprox ingress {}sctp:a:1 --insecure", listens(LISTENS_MAX + 1))),
        "LISTEN: at most 16 may be given"
    );
    let egress_of = |rest: &str| told(&format!("seaprox egress sctp::1 --insecure {rest}"));
    let most = |rest: &str, line: &str| {
        assert_eq!(egress_of(rest), Err(crate::args::Answer::Refuse(line.into())));
    };
    let services = |count| list(count, &|number| format!("--service s{number}=a:1"));
    assert!(egress_of(&services(SERVICES_MAX)).is_ok());
    most(&services(SERVICES_MAX + 1), "--service s17=a:1: at most 16 may be given");
    let patterns = |count| list(count, &|number| format!("--allow a:{number}"));
    assert!(egress_of(&patterns(64)).is_ok());
    most(&patterns(65), "--allow a:65: at most 64 patterns");
    assert!(egress_of(&"a:1 ".repeat(TARGETS_MAX)).is_ok());
    most(&"a:1 ".repeat(TARGETS_MAX + 1), "TARGET: at most 16 may be given");
    let targets = |count: usize| vec!["a:1"; count].join(",");
    assert!(egress_of(&format!("--service s={}", targets(16))).is_ok());
    let line = refusal(&format!("seaprox egress sctp::1 --service s={}", targets(17)));
    assert!(line.ends_with(": at most 16 targets in one service"), "{line}");
    let all = |count| list(count, &|number| format!("--service s{number}={}", targets(16)));
    assert!(egress_of(&all(8)).is_ok());
    most(&(all(8) + "a:1"), "TARGET: at most 128 targets in all, those of services too");
    let longest = "s".repeat(63);
    assert!(egress_of(&format!("--service {longest}=a:1")).is_ok());
    assert!(egress_of(&format!("--service {longest}s=a:1")).is_err());
}
