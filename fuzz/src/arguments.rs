//! The command line, and the durations on it.

use crate::is_one_line;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox_cli::args::{Answer, Bounds, Command, Config, TARGETS_MAX, WhenFull, parse};
use seaprox_cli::duration::Span;
use seaprox_cli::endpoint::{Listen, Target};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const BOUNDS: Bounds = Bounds { connections: 100, threads: 4, cpus: 2 };

/// A whole command line, its arguments apart by NUL as execve(2) has them: refused in one line, or
/// a configuration within its bounds, which says of itself how it is written.
pub fn arguments(bytes: &[u8]) {
    let arguments = bytes.split(|&byte| byte == 0).map(|a| OsString::from_vec(a.into()));
    match parse([OsString::from("seaprox")].into_iter().chain(arguments), BOUNDS) {
        Ok(Command::Static(config)) => {
            check(&config);
            let again = parse(written(&config), BOUNDS);
            assert_eq!(again, Ok(Command::Static(config)));
        }
        Ok(Command::Limits { socket_buffer_bytes }) => check_buffer(socket_buffer_bytes),
        Err(Answer::Say(text)) => {
            assert!(text.ends_with('\n') && text.lines().all(|l| l.is_empty() || is_one_line(l)));
        }
        Err(Answer::Refuse(line)) => assert!(is_one_line(&line), "{line:?}"),
    }
}

/// What the rest of the program relies on.
fn check(config: &Config) {
    assert!((1..=BOUNDS.connections).contains(&config.connections_max), "{config:?}");
    assert!((1..=BOUNDS.threads.min(config.connections_max)).contains(&config.threads));
    assert!((1..=TARGETS_MAX).contains(&config.targets.len()), "{config:?}");
    let timeouts = [
        config.connect_timeout_millis,
        config.idle_timeout_millis,
        config.half_close_timeout_millis,
    ];
    assert!(timeouts.into_iter().flatten().all(|t| (1..=DURATION_MILLIS_MAX).contains(&t)));
    assert!(config.drain_millis.is_none_or(|millis| millis <= DURATION_MILLIS_MAX));
    check_buffer(config.socket_buffer_bytes);
}

/// setsockopt(2) takes an int, which the kernel doubles.
fn check_buffer(bytes: Option<usize>) {
    assert!(bytes.is_none_or(|bytes| (4096..=i32::MAX as usize / 2).contains(&bytes)), "{bytes:?}");
}

/// The configuration as a command line.
fn written(config: &Config) -> Vec<OsString> {
    let span = |millis: Option<u32>| millis.map_or(Span::Off, Span::Millis);
    let when_full = match config.when_full {
        WhenFull::Wait => "wait",
        WhenFull::Refuse => "refuse",
    };
    let mut line = vec![
        "seaprox".into(),
        "static".into(),
        format!("--prefer-ipv{}", if config.prefer_ipv4 { 4 } else { 6 }),
        format!("--max-connections={}", config.connections_max),
        format!("--threads={}", config.threads),
        format!("--connect-timeout={}", span(config.connect_timeout_millis)),
        format!("--idle-timeout={}", span(config.idle_timeout_millis)),
        format!("--half-close-timeout={}", span(config.half_close_timeout_millis)),
        format!("--when-full={when_full}"),
        format!("--drain={}", span(config.drain_millis)),
        format!("--log={}", config.log.name()),
    ];
    line.extend(config.log_connections.then(|| "--log-connections".into()));
    line.extend(config.socket_buffer_bytes.map(|bytes| format!("--socket-buffer={bytes}")));
    line.push("--".into());
    let listen = match &config.listen {
        Listen::Unix(path) => unix(path.as_bytes()),
        listen => listen.to_string().into(),
    };
    let targets = config.targets.iter().map(|target| match target {
        Target::Unix(path) => unix(path.as_bytes()),
        target => target.to_string().into(),
    });
    line.into_iter().map(OsString::from).chain([listen]).chain(targets).collect()
}

/// A path byte for byte: shown it would be escaped.
fn unix(path: &[u8]) -> OsString {
    OsString::from_vec([b"unix:", path].concat())
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
