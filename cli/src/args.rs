//! The command line, read into plain data. An error is one line. Knows no socket, and prints
//! nothing itself.

mod common;
mod direct;
#[cfg(feature = "links")]
mod links;

pub use crate::help::Bounds;
pub use common::{Common, WhenFull};
pub use direct::{DirectConfig, Handshakes};
#[cfg(feature = "links")]
pub(crate) use links::is_name;
#[cfg(feature = "links")]
pub use links::{
    Ask, CONGESTION_DEFAULT, EgressConfig, IngressConfig, LISTENS_MAX, OPENS_PER_SECOND_MAX,
    SERVICES_MAX, Service,
};

use crate::endpoint::{Listen, Refused, Target};
use crate::help::command;
#[cfg(feature = "links")]
use crate::keys::Verb;
use crate::shown::write_whole;
use crate::talk::Talk;
use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use common::socket_buffer_of;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// How many targets may be named, for each service.
pub const TARGETS_MAX: usize = 16;

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `seaprox static`.
    Static(Config),
    /// `seaprox socks5`, `seaprox http`.
    Direct(DirectConfig),
    /// `seaprox ingress`.
    #[cfg(feature = "links")]
    Ingress(IngressConfig),
    /// `seaprox egress`.
    #[cfg(feature = "links")]
    Egress(EgressConfig),
    /// `seaprox genkey`, `pubkey` or `genpsk`.
    #[cfg(feature = "links")]
    Key(Verb),
    /// `seaprox limits`.
    Limits {
        /// `--socket-buffer`.
        socket_buffer_bytes: Option<usize>,
    },
}

/// A static proxy. Invariant: 1 <= targets <= [`TARGETS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients come from.
    pub listen: Listen,
    /// Where their bytes go, in the order to try them.
    pub targets: Vec<Target>,
    /// What becomes of clients above the limit.
    pub when_full: WhenFull,
    /// How it runs.
    pub common: Common,
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
    let arguments: Vec<_> = arguments.into_iter().collect();
    let name = arguments.get(1).and_then(|name| name.to_str()).unwrap_or_default();
    let matches = command(bounds)
        .try_get_matches_from(&arguments)
        .map_err(|error| answer_of(&error, name))?;
    match matches.subcommand() {
        Some(("static", given)) => Ok(Command::Static(config_of(given, bounds)?)),
        Some(("socks5", given)) => {
            Ok(Command::Direct(DirectConfig::of(Talk::Socks5, given, bounds)?))
        }
        Some(("http", given)) => Ok(Command::Direct(DirectConfig::of(Talk::Http, given, bounds)?)),
        #[cfg(feature = "links")]
        Some(("ingress", given)) => Ok(Command::Ingress(IngressConfig::of(given, bounds)?)),
        #[cfg(feature = "links")]
        Some(("egress", given)) => Ok(Command::Egress(EgressConfig::of(given, bounds)?)),
        #[cfg(feature = "links")]
        Some(("genkey", _)) => Ok(Command::Key(Verb::GenKey)),
        #[cfg(feature = "links")]
        Some(("pubkey", _)) => Ok(Command::Key(Verb::PubKey)),
        #[cfg(feature = "links")]
        Some(("genpsk", _)) => Ok(Command::Key(Verb::GenPsk)),
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
    Ok(Config {
        listen: Listen::parse(listen)?,
        targets: targets_of(given)?,
        when_full: WhenFull::of(given),
        common: Common::of(given, bounds)?,
    })
}

fn targets_of(given: &ArgMatches) -> Result<Vec<Target>, Refused> {
    let targets = given.get_many::<OsString>("TARGET").unwrap_or_default();
    if targets.len() > TARGETS_MAX {
        return Err(Refused::new(b"TARGET", format!("at most {TARGETS_MAX} may be given")));
    }
    targets.map(|target| Target::parse(target.as_bytes())).collect()
}

/// What clap has to say, errors in one line.
fn answer_of(error: &clap::Error, command: &str) -> Answer {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Answer::Say(error.to_string());
    }
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = write_whole(&mut line, reason_of(error, command).as_bytes());
    Answer::Refuse(line)
}

fn reason_of(error: &clap::Error, command: &str) -> String {
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
        ErrorKind::InvalidSubcommand if is_of_links(command) => format!(
            "{command}: this build has no links; build it with the feature `links` of seaprox-cli"
        ),
        ErrorKind::InvalidSubcommand => format!(
            "{}: no such command; `seaprox --help` lists them",
            context(ContextKind::InvalidSubcommand)
        ),
        ErrorKind::UnknownArgument => {
            format!("{whole}: no such option or argument; --help lists them")
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{whole} missing; like `{}`", example_of(command))
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(ContextKind::PriorArg);
            format!("{argument}: not together with {}", prior.split(' ').next().unwrap_or_default())
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

/// Whether a command is there in builds with links only.
fn is_of_links(command: &str) -> bool {
    matches!(command, "ingress" | "egress" | "genkey" | "pubkey" | "genpsk")
}

/// The least that is a command.
fn example_of(command: &str) -> &'static str {
    match command {
        "socks5" => "seaprox socks5 127.0.0.1:1080",
        "http" => "seaprox http 127.0.0.1:3128",
        "ingress" => "seaprox ingress 127.0.0.1:8080 udp:egress.example:7000 --key FILE --peer KEY",
        "egress" => "seaprox egress udp::7000 example.org:80 --key FILE --peer KEY",
        _ => "seaprox static 127.0.0.1:8080 example.org:80",
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
pub(crate) mod tests;
