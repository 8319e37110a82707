//! Keys of links: they are made, and read from files, with what is said of each peer. Knows no link and
//! no socket.
//!
//! Invariant: no secret is in the command line, in the environment, in a message, or in memory that is
//! given back without being overwritten.

mod file;
mod listed;
mod verbs;

pub(crate) use file::is_key;
pub use listed::Rights;
pub use verbs::{Verb, run};

use crate::exit::{ExitCode, fail};
use crate::memory::MAX_NUM_PEERS;
use crate::shown::Shown;
use crate::sys;
use file::{Files, Unusable};
use seaprox_noise::keys::{Identity, Peer, Psk, Public, Secret};
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;

/// How links are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not at all.
    Insecure,
    /// By keys, which are in these files.
    Keyed(KeyFiles),
}

/// Where the keys are. Invariant: there is a peer, or a list of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// This end's secret.
    pub key: OsString,
    /// What this end and each of `peers` know besides.
    pub psk: Option<OsString>,
    /// Who may be at the far end.
    pub peers: Vec<Public>,
    /// More of them, with what each may do.
    pub list: Option<OsString>,
}

/// All that an end of links knows of itself and of others.
pub struct Keys {
    /// This end.
    pub identity: Identity,
    /// At least one, at most [`MAX_NUM_PEERS`]; no two with the same key or name.
    pub peers: Vec<Known>,
}

/// Somebody who may be at the far end.
pub struct Known {
    /// What the log calls it.
    pub name: String,
    /// What it is known by.
    pub peer: Peer,
    /// What it may do.
    pub rights: Rights,
}

/// Keys cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct CannotUse {
    /// Names the file and the reason.
    pub line: String,
    /// What the caller is told.
    pub code: ExitCode,
}

impl CannotUse {
    fn new(argument: impl Display, unusable: Unusable) -> CannotUse {
        CannotUse { line: format!("{argument}: {}", unusable.reason), code: unusable.code }
    }
}

impl Protection {
    /// The keys, for as long as the process lives; `None`: there are none. If they cannot be had the program
    /// ends. `services`: see [`KeyFiles::read`].
    pub(crate) fn keys(&self, services: &[&str]) -> Option<&'static Keys> {
        let Protection::Keyed(files) = self else { return None };
        let keys = files.read(services).unwrap_or_else(|refused| fail(refused.code, refused.line));
        Some(Box::leak(Box::new(keys)))
    }
}

impl KeyFiles {
    /// Reads the keys. `services`: those that an egress has, its own targets being `""`. This process leaves
    /// no core dump from here on.
    ///
    /// # Errors
    /// A file cannot be read, or others can; or what is in it is no key, or no list of peers.
    pub fn read(&self, services: &[&str]) -> Result<Keys, CannotUse> {
        self.read_from(&Files::from_environment(), services)
    }

    fn read_from(&self, files: &Files, services: &[&str]) -> Result<Keys, CannotUse> {
        sys::forbid_dumps().map_err(|error| CannotUse {
            line: format!("core dumps: {error}"),
            code: ExitCode::System,
        })?;
        let key = argument("--key", &self.key);
        let identity = read_identity(files, &self.key).map_err(|why| CannotUse::new(key, why))?;
        // Never moved to another place in the heap, where the old one would keep what it held.
        let mut keys = Keys { identity, peers: Vec::with_capacity(MAX_NUM_PEERS) };
        let psk = match &self.psk {
            Some(name) => {
                let why = |unusable| CannotUse::new(argument("--psk", name), unusable);
                read_psk(files, name).map_err(why)?
            }
            None => Psk::NONE,
        };
        for public in &self.peers {
            let why = |unusable| CannotUse::new(format_args!("--peer {public}"), unusable);
            keys.add(public.to_string(), *public, psk.clone(), Rights::default()).map_err(why)?;
        }
        if let Some(list) = &self.list {
            keys.add_list(files, list, services)?;
        }
        Ok(keys)
    }
}

impl Keys {
    fn add_list(
        &mut self,
        files: &Files,
        list: &OsStr,
        services: &[&str],
    ) -> Result<(), CannotUse> {
        let why = |unusable| CannotUse::new(argument("--peers", list), unusable);
        let text = files.list(list).map_err(why)?;
        for (line, entry) in listed::entries(&text, services) {
            let added = entry.map_err(Unusable::because).and_then(|entry| {
                let psk = match &entry.psk {
                    Some(name) => read_psk(files, name).map_err(|unusable| Unusable {
                        reason: format!("psk={}: {}", Shown(name.as_bytes()), unusable.reason),
                        ..unusable
                    })?,
                    None => Psk::NONE,
                };
                self.add(entry.name, entry.public, psk, entry.rights)
            });
            let list = Shown(list.as_bytes());
            added.map_err(|why| CannotUse::new(format_args!("--peers {list}:{line}"), why))?;
        }
        match self.peers.is_empty() {
            true => Err(why(Unusable::because("there is nobody in it"))),
            false => Ok(()),
        }
    }

    fn add(
        &mut self,
        name: String,
        public: Public,
        psk: Psk,
        rights: Rights,
    ) -> Result<(), Unusable> {
        let peer = Peer::new(&self.identity, public, psk).map_err(Unusable::because)?;
        if let Some(other) = self.peers.iter().find(|other| other.peer.public() == public) {
            return Err(Unusable::because(format_args!(
                "this key is that of {} already",
                other.name
            )));
        }
        if self.peers.iter().any(|other| other.name == name) {
            return Err(Unusable::because("there is one of this name already"));
        }
        if self.peers.len() == MAX_NUM_PEERS {
            return Err(Unusable::because(too_many()));
        }
        self.peers.push(Known { name, peer, rights });
        Ok(())
    }
}

/// Says that there are more peers than there is room for.
pub(crate) fn too_many() -> String {
    format!(
        "this build can know at most {MAX_NUM_PEERS} peers; build it with SEAPROX_MAX_NUM_PEERS for more"
    )
}

fn argument<'n>(option: &'static str, name: &'n OsStr) -> impl Display + use<'n> {
    struct Argument<'n>(&'static str, &'n OsStr);
    impl Display for Argument<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} {}", self.0, Shown(self.1.as_bytes()))
        }
    }
    Argument(option, name)
}

fn read_identity(files: &Files, name: &OsStr) -> Result<Identity, Unusable> {
    let secret = Secret::from_base64(files.key(name)?.as_bytes()).map_err(Unusable::because)?;
    Ok(Identity::new(secret))
}

fn read_psk(files: &Files, name: &OsStr) -> Result<Psk, Unusable> {
    Psk::from_base64(files.key(name)?.as_bytes()).map_err(Unusable::because)
}

#[cfg(test)]
#[path = "keys/keys_tests.rs"]
mod tests;
