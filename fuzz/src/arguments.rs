//! The command line, and the durations on it.

use crate::is_one_line;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox_cli::allow::PATTERNS_MAX;
use seaprox_cli::args::{
    Answer, Ask, Bounds, Command, Common, DirectConfig, EgressConfig, Handshakes, IngressConfig,
    LISTENS_MAX, SERVICES_MAX, TARGETS_MAX, WhenFull, parse,
};
use seaprox_cli::duration::Span;
use seaprox_cli::endpoint::{Entrance, Link, Listen, Target};
use seaprox_cli::keys::Protection;
use seaprox_cli::talk::Talk;
use seaprox_cli::user::User;
use seaprox_udp::congestion::Algorithm;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const BOUNDS: Bounds = Bounds { connections: 100, threads: 4, cpus: 2 };

/// A whole command line, its arguments apart by NUL as execve(2) has them: refused in one line, or
/// a configuration within its bounds, which says of itself how it is written.
pub fn arguments(bytes: &[u8]) {
    let arguments = bytes.split(|&byte| byte == 0).map(|a| OsString::from_vec(a.into()));
    match parse([OsString::from("seaprox")].into_iter().chain(arguments), BOUNDS) {
        Ok(Command::Limits { socket_buffer_bytes }) => check_buffer(socket_buffer_bytes),
        // Told by its name, and nothing else.
        Ok(Command::Key(_)) => {}
        Ok(command) => {
            check(&command);
            if has_plain_user(&command) {
                assert_eq!(parse(written(&command), BOUNDS), Ok(command));
            }
        }
        Err(Answer::Say(text)) => {
            assert!(text.ends_with('\n') && text.lines().all(|l| l.is_empty() || is_one_line(l)));
        }
        Err(Answer::Refuse(line)) => assert!(is_one_line(&line), "{line:?}"),
    }
}

/// Whether a user that was given is shown as it was: other bytes than text are not, and long names
/// neither.
fn has_plain_user(command: &Command) -> bool {
    let user = match command {
        Command::Static(config) => &config.common.user,
        Command::Direct(config) => &config.common.user,
        Command::Ingress(config) => &config.common.user,
        Command::Egress(config) => &config.common.user,
        Command::Key(_) | Command::Limits { .. } => &None,
    };
    user.as_ref().is_none_or(|user| {
        let shown = user.to_string();
        assert!(is_one_line(&shown), "{shown:?}");
        User::parse(shown.as_bytes()).as_ref() == Ok(user)
    })
}

/// What the rest of the program relies on.
fn check(command: &Command) {
    match command {
        Command::Static(config) => {
            assert!((1..=TARGETS_MAX).contains(&config.targets.len()), "{config:?}");
            check_common(&config.common);
        }
        Command::Direct(config) => {
            assert_ne!(config.talk, Talk::Plain);
            // Who can connect from elsewhere has a password, or may not go everywhere.
            let patterns = config.allowed.patterns().len();
            assert!((1..=PATTERNS_MAX).contains(&patterns), "{config:?}");
            check_handshakes(&config.handshakes);
            check_common(&config.common);
        }
        Command::Ingress(config) => {
            assert!((1..=LISTENS_MAX).contains(&config.entrances.len()), "{config:?}");
            let talks = config.entrances.iter().any(|entrance| entrance.talk != Talk::Plain);
            assert_eq!(config.handshakes.is_some(), talks, "{config:?}");
            config.handshakes.iter().for_each(check_handshakes);
            assert_eq!(config.link.check_peer(), Ok(()));
            assert!(!matches!(config.ask, Ask::Target(Target::Unix(_))), "{config:?}");
            assert_ne!(config.sctp_udp_port, Some(0));
            check_common(&config.common);
        }
        Command::Egress(config) => {
            assert_eq!(config.link.check_local(), Ok(()));
            let services = config.services.iter().map(|service| service.targets.len());
            assert!(services.clone().all(|targets| (1..=TARGETS_MAX).contains(&targets)));
            assert!(config.targets.len() <= TARGETS_MAX && services.len() <= SERVICES_MAX);
            let all = config.targets.len() + services.sum::<usize>();
            let patterns = config.allowed.patterns().len();
            assert!(all <= 128 && patterns <= PATTERNS_MAX && all + patterns > 0, "{config:?}");
            check_common(&config.common);
        }
        Command::Key(_) | Command::Limits { .. } => unreachable!("looked at by the caller"),
    }
}

fn check_handshakes(handshakes: &Handshakes) {
    assert!((1..=DURATION_MILLIS_MAX).contains(&handshakes.timeout_millis), "{handshakes:?}");
}

fn check_common(common: &Common) {
    assert!((1..=BOUNDS.connections).contains(&common.connections_max), "{common:?}");
    assert!((1..=BOUNDS.threads.min(common.connections_max)).contains(&common.threads));
    let timeouts = [
        common.connect_timeout_millis,
        common.idle_timeout_millis,
        common.half_close_timeout_millis,
    ];
    assert!(timeouts.into_iter().flatten().all(|t| (1..=DURATION_MILLIS_MAX).contains(&t)));
    assert!(common.drain_millis.is_none_or(|millis| millis <= DURATION_MILLIS_MAX));
    check_buffer(common.socket_buffer_bytes);
}

/// setsockopt(2) takes an int, which the kernel doubles.
fn check_buffer(bytes: Option<usize>) {
    assert!(bytes.is_none_or(|bytes| (4096..=i32::MAX as usize / 2).contains(&bytes)), "{bytes:?}");
}

/// What the command line said, as a command line.
fn written(command: &Command) -> Vec<OsString> {
    let (name, common, own, positional) = match command {
        Command::Static(config) => {
            let positional = std::iter::once(listen(&config.listen));
            let own = vec![when_full(config.when_full)];
            let targets = config.targets.iter().map(target);
            ("static", &config.common, own, positional.chain(targets).collect())
        }
        Command::Direct(config) => {
            let name = if config.talk == Talk::Socks5 { "socks5" } else { "http" };
            (name, &config.common, of_direct(config), vec![listen(&config.listen)])
        }
        Command::Ingress(config) => {
            let positional = config.entrances.iter().map(entrance).chain([link(&config.link)]);
            ("ingress", &config.common, of_ingress(config), positional.collect())
        }
        Command::Egress(config) => {
            let targets = config.targets.iter().map(target);
            let positional: Vec<_> = std::iter::once(link(&config.link)).chain(targets).collect();
            ("egress", &config.common, of_egress(config), positional)
        }
        Command::Key(_) | Command::Limits { .. } => unreachable!("looked at by the caller"),
    };
    let line = ["seaprox", name].map(OsString::from).into_iter();
    line.chain(options(common)).chain(own).chain(["--".into()]).chain(positional).collect()
}

/// The options of every proxy.
fn options(common: &Common) -> Vec<OsString> {
    let mut line = vec![
        format!("--prefer-ipv{}", if common.prefer_ipv4 { 4 } else { 6 }),
        format!("--max-connections={}", common.connections_max),
        format!("--threads={}", common.threads),
        format!("--connect-timeout={}", span(common.connect_timeout_millis)),
        format!("--idle-timeout={}", span(common.idle_timeout_millis)),
        format!("--half-close-timeout={}", span(common.half_close_timeout_millis)),
        format!("--drain={}", span(common.drain_millis)),
        format!("--log={}", common.log.name()),
    ];
    line.extend(common.user.as_ref().map(|user| format!("--user={user}")));
    line.extend((!common.sandbox).then(|| "--no-sandbox".into()));
    line.extend(common.log_connections.then(|| "--log-connections".into()));
    line.extend(common.socket_buffer_bytes.map(|bytes| format!("--socket-buffer={bytes}")));
    line.into_iter().map(OsString::from).collect()
}

fn of_direct(config: &DirectConfig) -> Vec<OsString> {
    let allowed =
        config.allowed.patterns().iter().map(|pattern| format!("--allow={pattern}").into());
    let own = of_handshakes(&config.handshakes).into_iter().chain([when_full(config.when_full)]);
    own.chain(allowed).collect()
}

fn of_handshakes(handshakes: &Handshakes) -> Vec<OsString> {
    let timeout = format!("--handshake-timeout={}", span(Some(handshakes.timeout_millis)));
    let passwords = handshakes.passwords.as_ref();
    let passwords = passwords.map(|path| option("--passwords=", path.as_os_str().into()));
    [timeout.into()].into_iter().chain(passwords).collect()
}

fn protection(protection: &Protection) -> Vec<OsString> {
    let Protection::Keyed(files) = protection else { return vec!["--insecure".into()] };
    assert!(!files.peers.is_empty() || files.list.is_some(), "{files:?}");
    let file = |name, file: &OsString| option(name, file.clone());
    let psk = files.psk.iter().map(|psk| file("--psk=", psk));
    let list = files.list.iter().map(|list| file("--peers=", list));
    let peers = files.peers.iter().map(|peer| format!("--peer={peer}").into());
    [file("--key=", &files.key)].into_iter().chain(psk).chain(list).chain(peers).collect()
}

/// Said only of udp.
fn congestion(of: &Link, congestion: Algorithm) -> Option<OsString> {
    let is_udp = matches!(of, Link::Udp { .. });
    is_udp.then(|| format!("--congestion={}", congestion.name()).into())
}

fn of_ingress(config: &IngressConfig) -> Vec<OsString> {
    let wait = format!("--link-wait={}", span(config.link_wait_millis));
    let mut line = vec![wait.into(), when_full(config.when_full)];
    line.extend(protection(&config.protection));
    line.push(link_timeout(config.link_timeout_millis));
    line.extend(config.handshakes.iter().flat_map(of_handshakes));
    line.extend(congestion(&config.link, config.congestion));
    line.extend(config.sctp_udp_port.map(|port| format!("--sctp-udp-port={port}").into()));
    match &config.ask {
        Ask::Own => {}
        Ask::Service(name) => line.push(format!("--service={name}").into()),
        Ask::Target(wanted) => line.push(option("--to=", target(wanted))),
    }
    line
}

fn of_egress(config: &EgressConfig) -> Vec<OsString> {
    let services = config.services.iter().map(|service| {
        let targets: Vec<_> = service.targets.iter().map(|one| target(one).into_vec()).collect();
        let text = format!("--service={}=", service.name).into_bytes();
        OsString::from_vec([text, targets.join(&b',')].concat())
    });
    let allowed =
        config.allowed.patterns().iter().map(|pattern| format!("--allow={pattern}").into());
    let own = [link_timeout(config.link_timeout_millis)];
    let own = protection(&config.protection).into_iter().chain(own);
    let congestion = congestion(&config.link, config.congestion);
    own.chain(congestion).chain(services).chain(allowed).collect()
}

fn link_timeout(millis: u32) -> OsString {
    format!("--link-timeout={}", span(Some(millis))).into()
}

fn span(millis: Option<u32>) -> Span {
    millis.map_or(Span::Off, Span::Millis)
}

fn when_full(when_full: WhenFull) -> OsString {
    match when_full {
        WhenFull::Wait => "--when-full=wait".into(),
        WhenFull::Refuse => "--when-full=refuse".into(),
    }
}

fn option(name: &str, value: OsString) -> OsString {
    OsString::from_vec([name.as_bytes(), &value.into_vec()].concat())
}

fn listen(listen: &Listen) -> OsString {
    match listen {
        Listen::Unix(path) => path_of("unix:", path.as_bytes()),
        listen => listen.to_string().into(),
    }
}

fn entrance(entrance: &Entrance) -> OsString {
    match entrance.talk {
        Talk::Plain => listen(&entrance.listen),
        talk => option(&format!("{talk}:"), listen(&entrance.listen)),
    }
}

fn target(target: &Target) -> OsString {
    match target {
        Target::Unix(path) => path_of("unix:", path.as_bytes()),
        target => target.to_string().into(),
    }
}

fn link(link: &Link) -> OsString {
    match link {
        Link::Seqpacket(path) => path_of("seqpacket:", path.as_bytes()),
        link => link.to_string().into(),
    }
}

/// A path byte for byte: shown it would be escaped.
fn path_of(kind: &str, path: &[u8]) -> OsString {
    OsString::from_vec([kind.as_bytes(), path].concat())
}

/// A duration is what it says, digit by digit, and is shown as one that is as long.
pub fn duration(bytes: &[u8]) {
    let span = Span::parse(bytes);
    if bytes == b"off" {
        assert_eq!(span, Ok(Span::Off));
        return;
    }
    let millis = spelled(bytes).filter(|&millis| millis <= u128::from(DURATION_MILLIS_MAX));
    match (span, millis) {
        (Ok(span), Some(millis)) => {
            assert_eq!(span.millis().map(u128::from), Some(millis));
            assert_eq!(Span::parse(span.to_string().as_bytes()), Ok(span));
        }
        (Err(refused), None) => assert!(is_one_line(&refused.to_string())),
        (span, millis) => panic!("{span:?} is {millis:?} ms"),
    }
}

/// The milliseconds of digits and a unit, as simply as can be.
fn spelled(bytes: &[u8]) -> Option<u128> {
    let text = str::from_utf8(bytes).ok()?;
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)].into_iter().find_map(
        |(unit, millis)| {
            let digits = text.strip_suffix(unit)?;
            let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let significant = digits.trim_start_matches('0');
            // More digits than that are too long anyway.
            let number = if significant.is_empty() {
                "0"
            } else {
                significant.get(..30).unwrap_or(significant)
            };
            all_digits.then(|| number.parse::<u128>().ok()?.checked_mul(millis)).flatten()
        },
    )
}
