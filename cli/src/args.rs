//! The command line, read into plain data. An error is one line. Knows no socket, and prints
//! nothing itself.

use crate::duration::Span;
use crate::endpoint::{Listen, Refused, Target};
pub use crate::help::Bounds;
use crate::help::command;
use crate::log::Level;
use crate::shown::write_whole;
use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// How many targets may be named.
pub const TARGETS_MAX: usize = 16;

/// SO_SNDBUF and SO_RCVBUF: below it the kernel takes its own minimum, above it the doubled value
/// would not fit an int (socket(7)).
const SOCKET_BUFFER_BYTES: std::ops::RangeInclusive<usize> = 4096..=(1 << 30) - 1;

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `seaprox static`.
    Static(Config),
    /// `seaprox limits`.
    Limits {
        /// `--socket-buffer`.
        socket_buffer_bytes: Option<usize>,
    },
}

/// What a full table does with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They wait in the backlog.
    Wait,
    /// They are accepted and reset.
    Refuse,
}

/// A static proxy. Invariant: 1 <= threads <= connections_max <= what was compiled in, and
/// 1 <= targets <= [`TARGETS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients come from.
    pub listen: Listen,
    /// Where their bytes go, in the order to try them.
    pub targets: Vec<Target>,
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
    /// What becomes of clients above the limit.
    pub when_full: WhenFull,
    /// From the order to end until what is left is reset; `None` waits for the last one.
    pub drain_millis: Option<u32>,
    /// Which events are written.
    pub log: Level,
    /// Whether each connection's end is an event.
    pub log_connections: bool,
    /// SO_SNDBUF and SO_RCVBUF; `None` lets the kernel tune them.
    pub socket_buffer_bytes: Option<usize>,
}

/// What to say instead of running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Help or version, for stdout; success.
    Say(String),
    /// One line that says what is wrong; a usage error.
    Refuse(String),
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Answer::Refuse(refused.to_string())
    }
}

/// Reads the command line; `arguments` begins with the program's name.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    bounds: Bounds,
) -> Result<Command, Answer> {
    let matches =
        command(bounds).try_get_matches_from(arguments).map_err(|error| answer_of(&error))?;
    match matches.subcommand() {
        Some(("static", given)) => Ok(Command::Static(config_of(given, bounds)?)),
        Some(("limits", given)) => {
            Ok(Command::Limits { socket_buffer_bytes: socket_buffer_of(given)? })
        }
        _ => Err(Answer::Refuse(NO_COMMAND.into())),
    }
}

const NO_COMMAND: &str =
    "no command: `seaprox static LISTEN TARGET` relays, `seaprox --help` says more";

fn config_of(given: &ArgMatches, bounds: Bounds) -> Result<Config, Refused> {
    let listen = given.get_one::<OsString>("LISTEN").map_or(b"".as_slice(), |l| l.as_bytes());
    let targets = given.get_many::<OsString>("TARGET").unwrap_or_default();
    if targets.len() > TARGETS_MAX {
        return Err(Refused::new(b"TARGET", format!("at most {TARGETS_MAX} may be given")));
    }
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
    Ok(Config {
        listen: Listen::parse(listen)?,
        targets: targets.map(|t| Target::parse(t.as_bytes())).collect::<Result<_, _>>()?,
        prefer_ipv4: given.get_flag("prefer-ipv4"),
        connections_max,
        threads: threads
            .unwrap_or_else(|| bounds.threads.min(bounds.cpus).clamp(1, connections_max)),
        connect_timeout_millis: timeout_of(given, "connect-timeout")?,
        idle_timeout_millis: timeout_of(given, "idle-timeout")?,
        half_close_timeout_millis: timeout_of(given, "half-close-timeout")?,
        when_full: match given.get_one::<String>("when-full").map(String::as_str) {
            Some("refuse") => WhenFull::Refuse,
            _ => WhenFull::Wait,
        },
        drain_millis: span_of(given, "drain")?.millis(),
        log: given.get_one::<String>("log").and_then(|l| Level::named(l)).unwrap_or(Level::Info),
        log_connections: given.get_flag("log-connections"),
        socket_buffer_bytes: socket_buffer_of(given)?,
    })
}

fn bytes_of<'g>(given: &'g ArgMatches, option: &str) -> Option<&'g [u8]> {
    given.get_one::<OsString>(option).map(|value| value.as_bytes())
}

fn refused_option(given: &ArgMatches, option: &str, reason: String) -> Refused {
    let value = bytes_of(given, option).unwrap_or_default();
    Refused::new(&[b"--", option.as_bytes(), b" ", value].concat(), reason)
}

fn span_of(given: &ArgMatches, option: &str) -> Result<Span, Refused> {
    let Some(text) = bytes_of(given, option) else { return Ok(Span::Off) };
    Span::parse(text).map_err(|refused| refused_option(given, option, refused.reason().into()))
}

/// A timeout of 0 would end everything before it began.
fn timeout_of(given: &ArgMatches, option: &str) -> Result<Option<u32>, Refused> {
    match span_of(given, option)?.millis() {
        Some(0) => Err(refused_option(given, option, "no time at all: `off` is no limit".into())),
        millis => Ok(millis),
    }
}

fn count_of(
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

fn socket_buffer_of(given: &ArgMatches) -> Result<Option<usize>, Refused> {
    let most = SOCKET_BUFFER_BYTES.end();
    count_of(given, "socket-buffer", SOCKET_BUFFER_BYTES, |_| format!("at most {most} bytes"))
}

/// What clap has to say, errors in one line.
fn answer_of(error: &clap::Error) -> Answer {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Answer::Say(error.to_string());
    }
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = write_whole(&mut line, reason_of(error).as_bytes());
    Answer::Refuse(line)
}

fn reason_of(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let whole = context(ContextKind::InvalidArg);
    // clap shows an option with the name of its value: `--threads <N>`.
    let argument = whole.split(' ').next().unwrap_or_default();
    match error.kind() {
        ErrorKind::MissingSubcommand => NO_COMMAND.into(),
        ErrorKind::InvalidSubcommand => format!(
            "{}: no such command; `seaprox --help` lists them",
            context(ContextKind::InvalidSubcommand)
        ),
        ErrorKind::UnknownArgument => {
            format!("{whole}: no such option or argument; --help lists them")
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{whole} missing; like `seaprox static 127.0.0.1:8080 example.org:80`")
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("{argument}: no value; --help says which")
        }
        ErrorKind::InvalidValue => format!(
            "{argument} {}: write one of {}",
            context(ContextKind::InvalidValue),
            context(ContextKind::ValidValue)
        ),
        ErrorKind::TooManyValues => format!("{argument}: takes no value"),
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).into()
        }
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
