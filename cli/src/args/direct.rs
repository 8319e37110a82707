//! What `seaprox socks5` and `seaprox http` are told, and what every program is told whose clients talk
//! before their bytes.

use super::common::{bytes_of, timeout_of};
use super::{Common, WhenFull};
use crate::allow::Allowed;
use crate::endpoint::{Listen, Refused};
use crate::help::Bounds;
use crate::talk::Talk;
use clap::ArgMatches;
use seaprox::time::DURATION_MILLIS_MAX;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const FOR_WHOM: &str = "others can connect here: say where they may go with --allow PATTERN, or who \
    they are with --passwords FILE, or listen on 127.0.0.1";

/// Clients in who say where they want to go, connections out. Invariant: who can connect has a
/// password, or is on this machine, or may not go everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectConfig {
    /// What clients talk.
    pub talk: Talk,
    /// Where they come from.
    pub listen: Listen,
    /// Where they may go.
    pub allowed: Allowed,
    /// How they are talked to.
    pub handshakes: Handshakes,
    /// What becomes of clients above the limit.
    pub when_full: WhenFull,
    /// How it runs.
    pub common: Common,
}

/// How clients are talked to before their bytes flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// The file of those who may connect; `None`: everybody.
    pub passwords: Option<PathBuf>,
    /// How long a client may take to say what it wants.
    pub timeout_millis: u32,
}

impl DirectConfig {
    pub(super) fn of(talk: Talk, given: &ArgMatches, bounds: Bounds) -> Result<Self, Refused> {
        let text = bytes_of(given, "LISTEN").unwrap_or_default();
        let listen = Listen::parse(text)?;
        let patterns = given.get_many::<OsString>("allow").unwrap_or_default();
        let allowed = Allowed::parse(patterns.map(|pattern| pattern.as_bytes()))
            .map_err(|refused| refused.of_option("--allow"))?;
        let handshakes = Handshakes::of(given)?;
        let is_limited = handshakes.passwords.is_some() || !allowed.patterns().is_empty();
        if !is_limited && can_be_reached(&listen) {
            return Err(Refused::new(text, FOR_WHOM));
        }
        Ok(DirectConfig {
            talk,
            listen,
            allowed: if allowed.patterns().is_empty() { Allowed::everything() } else { allowed },
            handshakes,
            when_full: WhenFull::of(given),
            common: Common::of(given, bounds)?,
        })
    }
}

impl Handshakes {
    pub(super) fn of(given: &ArgMatches) -> Result<Handshakes, Refused> {
        let timeout = timeout_of(given, "handshake-timeout")?;
        Ok(Handshakes {
            passwords: bytes_of(given, "passwords").map(|path| OsStr::from_bytes(path).into()),
            timeout_millis: timeout.unwrap_or(DURATION_MILLIS_MAX),
        })
    }
}

/// Whether others than this machine's users can connect. Of a socket that somebody else opened that is
/// not known; who may use a path, its folder says.
fn can_be_reached(listen: &Listen) -> bool {
    match listen {
        Listen::Inet(address) => !address.ip().is_loopback(),
        Listen::Unix(_) => false,
        Listen::Everywhere { .. } | Listen::Descriptor(_) | Listen::Named(_) => true,
    }
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
