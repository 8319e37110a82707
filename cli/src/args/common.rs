//! What every proxy may be told, and how options are read: numbers, durations.

use crate::duration::Span;
use crate::endpoint::Refused;
use crate::help::Bounds;
use crate::log::Level;
use crate::user::User;
use clap::ArgMatches;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// SO_SNDBUF and SO_RCVBUF: below it the kernel takes its own minimum, above it the doubled value
/// would not fit an int (socket(7)).
const SOCKET_BUFFER_BYTES: std::ops::RangeInclusive<usize> = 4096..=(1 << 30) - 1;

/// How any proxy runs. Invariant: 1 <= threads <= connections_max <= what was compiled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// Try IPv4 before IPv6.
    pub prefer_ipv4: bool,
    /// Connections at once, all threads together.
    pub connections_max: usize,
    /// Threads that relay.
    pub threads: usize,
    /// From accept until connected; `None` is no limit.
    pub connect_timeout_millis: Option<u32>,
    /// Without a byte in either direction.
    pub idle_timeout_millis: Option<u32>,
    /// From the end of one direction to the end of the other.
    pub half_close_timeout_millis: Option<u32>,
    /// From the order to end until what is left is reset; `None` waits for the last one.
    pub drain_millis: Option<u32>,
    /// Which events are written.
    pub log: Level,
    /// Whether each connection's end is an event.
    pub log_connections: bool,
    /// SO_SNDBUF and SO_RCVBUF; `None` lets the kernel tune them.
    pub socket_buffer_bytes: Option<usize>,
    /// Whom it becomes once everything is open; `None`: it stays who it is.
    pub user: Option<User>,
    /// Whether it gives up what it does not need.
    pub sandbox: bool,
}

impl Common {
    pub(super) fn of(given: &ArgMatches, bounds: Bounds) -> Result<Common, Refused> {
        let (connections_max, threads) = sizes_of(given, bounds)?;
        Ok(Common {
            prefer_ipv4: given.get_flag("prefer-ipv4"),
            connections_max,
            threads,
            connect_timeout_millis: timeout_of(given, "connect-timeout")?,
            idle_timeout_millis: timeout_of(given, "idle-timeout")?,
            half_close_timeout_millis: timeout_of(given, "half-close-timeout")?,
            drain_millis: span_of(given, "drain")?.millis(),
            log: given
                .get_one::<String>("log")
                .and_then(|l| Level::named(l))
                .unwrap_or(Level::Info),
            log_connections: given.get_flag("log-connections"),
            socket_buffer_bytes: socket_buffer_of(given)?,
            user: bytes_of(given, "user").map(User::parse).transpose()?,
            sandbox: !given.get_flag("no-sandbox"),
        })
    }
}

/// What a full table does with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They wait in the backlog.
    Wait,
    /// They are accepted and reset.
    Refuse,
}

impl WhenFull {
    pub(super) fn of(given: &ArgMatches) -> WhenFull {
        match given.get_one::<String>("when-full").map(String::as_str) {
            Some("refuse") => WhenFull::Refuse,
            _ => WhenFull::Wait,
        }
    }
}

/// Connections and threads.
fn sizes_of(given: &ArgMatches, bounds: Bounds) -> Result<(usize, usize), Refused> {
    let connections_max = count_of(given, "max-connections", 1..=bounds.connections, |wanted| {
        format!(
            "this build can hold at most {} connections; build it with \
             SEAPROX_MAX_NUM_CONNECTIONS={wanted} for more",
            bounds.connections
        )
    })?
    .unwrap_or(bounds.connections);
    let threads = count_of(given, "threads", 1..=bounds.threads, |wanted| {
        format!(
            "this build can run at most {} threads; build it with \
             SEAPROX_NUM_THREADS={wanted} for more",
            bounds.threads
        )
    })?;
    if threads.is_some_and(|threads| threads > connections_max) {
        let reason = format!("more threads than connections: at most {connections_max}");
        return Err(refused_option(given, "threads", reason));
    }
    let most = bounds.threads.min(bounds.cpus).clamp(1, connections_max);
    Ok((connections_max, threads.unwrap_or(most)))
}

pub(super) fn bytes_of<'g>(given: &'g ArgMatches, option: &str) -> Option<&'g [u8]> {
    given.get_one::<OsString>(option).map(|value| value.as_bytes())
}

pub(super) fn refused_option(given: &ArgMatches, option: &str, reason: String) -> Refused {
    let value = bytes_of(given, option).unwrap_or_default();
    Refused::new(&[b"--", option.as_bytes(), b" ", value].concat(), reason)
}

pub(super) fn span_of(given: &ArgMatches, option: &str) -> Result<Span, Refused> {
    let Some(text) = bytes_of(given, option) else { return Ok(Span::Off) };
    Span::parse(text).map_err(|refused| refused_option(given, option, refused.reason().into()))
}

/// A timeout of 0 would end everything before it began.
pub(super) fn timeout_of(given: &ArgMatches, option: &str) -> Result<Option<u32>, Refused> {
    match span_of(given, option)?.millis() {
        Some(0) => Err(refused_option(given, option, "no time at all: `off` is no limit".into())),
        millis => Ok(millis),
    }
}

pub(super) fn count_of(
    given: &ArgMatches,
    option: &str,
    range: std::ops::RangeInclusive<usize>,
    too_many: impl Fn(&str) -> String,
) -> Result<Option<usize>, Refused> {
    let Some(text) = bytes_of(given, option) else { return Ok(None) };
    let refused = |reason: String| Err(refused_option(given, option, reason));
    let digits = str::from_utf8(text).unwrap_or("");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("not a whole number".into());
    }
    match digits.parse() {
        Ok(count) if range.contains(&count) => Ok(Some(count)),
        Ok(count) if count < *range.start() => refused(format!("at least {}", range.start())),
        _ => refused(too_many(digits)),
    }
}

pub(super) fn socket_buffer_of(given: &ArgMatches) -> Result<Option<usize>, Refused> {
    let most = SOCKET_BUFFER_BYTES.end();
    count_of(given, "socket-buffer", SOCKET_BUFFER_BYTES, |_| format!("at most {most} bytes"))
}
