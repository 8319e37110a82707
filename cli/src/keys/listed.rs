//! `--peers FILE`: who may be at the far end of an egress's links, and what each may do. Reads text;
//! knows no file.
//!
//! ```text
//! # NAME  PUBLIC-KEY  [psk=FILE] [services=NAME,..] [allow=PATTERN].. [channels=N] [opens-per-second=N]
//! berlin  l1YZ..pA=   psk=berlin.psk services=web,db
//! laptop  Xq0P..Yk=   services= allow=*.example.org:443 allow=10.0.0.0/8:80,443 channels=50
//! ```

use super::is_key;
use crate::allow::Allowed;
use crate::args::{OPENS_PER_SECOND_MAX, is_name};
use crate::memory::MAX_NUM_CONNECTIONS;
use crate::shown::Shown;
use seaprox_noise::keys::Public;
use seaprox_proto::source::Quota;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What stands for the egress's own targets in a list of services: no service can be called so.
const OWN_TARGETS: &str = "@";

/// What a peer may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Which services it may ask for, the egress's own targets being `""`; `None`: any.
    pub services: Option<Vec<String>>,
    /// What it may name itself; `None`: what any peer may (--allow).
    pub allowed: Option<Allowed>,
    /// How much it may have of each thread.
    pub quota: Quota,
}

impl Rights {
    /// Whether it may ask for this service, the egress's own targets being `b""`. O(services).
    pub(crate) fn has_service(&self, name: &[u8]) -> bool {
        let Some(services) = &self.services else { return true };
        services.iter().any(|service| service.as_bytes() == name)
    }
}

/// A line that names somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) public: Public,
    /// The file of its preshared key.
    pub(super) psk: Option<OsString>,
    pub(super) rights: Rights,
}

/// Everybody in a list, or what is wrong with that line, with the lines' numbers, from 1 on. `services`: those
/// that there are.
pub(super) fn entries<'l>(
    text: &'l [u8],
    services: &'l [&str],
) -> impl Iterator<Item = (usize, Result<Entry, String>)> + 'l {
    (1..).zip(text.split(|&byte| byte == b'\n')).filter_map(move |(number, line)| {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        // A comment begins with a word, as a pattern may contain anything.
        let mut words = words.take_while(|word| !word.starts_with(b"#"));
        let name = words.next()?;
        Some((number, entry(name, words, services)))
    })
}

fn entry<'l>(
    name: &[u8],
    mut words: impl Iterator<Item = &'l [u8]>,
    services: &[&str],
) -> Result<Entry, String> {
    let name = str::from_utf8(name).ok().filter(|name| is_name(name)).ok_or_else(|| {
        let shown = if is_key(OsStr::from_bytes(name)) { Shown(b"a key") } else { Shown(name) };
        format!("{shown}: a line begins with a name: 1 to 63 letters, digits, `-`, `_` or `.`")
    })?;
    let public = words.next().ok_or("no public key after the name")?;
    let public = Public::from_base64(public).map_err(|why| format!("{}: {why}", Shown(public)))?;
    let mut entry = Entry { name: name.into(), public, psk: None, rights: Rights::default() };
    let mut seen = Vec::new();
    let mut patterns = Vec::new();
    for word in words {
        let at = word.iter().position(|&byte| byte == b'=');
        let (what, value) = match at {
            Some(at) => (&word[..at], &word[at + 1..]),
            None => (word, &word[word.len()..]),
        };
        let refused = |why: String| format!("{}: {why}", Shown(word));
        if what != b"allow" && seen.contains(&what) {
            return Err(refused("once is enough".into()));
        }
        seen.push(what);
        match (at, what) {
            (Some(_), b"psk") if is_key(OsStr::from_bytes(value)) => {
                return Err("psk=: a key has a file of its own: write psk=FILE".into());
            }
            (Some(_), b"psk") => entry.psk = Some(OsStr::from_bytes(value).into()),
            (Some(_), b"services") => {
                entry.rights.services = Some(services_of(value, services).map_err(refused)?);
            }
            (Some(_), b"allow") if value.is_empty() => {}
            (Some(_), b"allow") => patterns.push(value),
            (Some(_), b"channels") => {
                entry.rights.quota.channels_max =
                    number_of(value, MAX_NUM_CONNECTIONS as u32).map_err(refused)?;
            }
            (Some(_), b"opens-per-second") => {
                entry.rights.quota.opens_per_second_max =
                    number_of(value, OPENS_PER_SECOND_MAX).map_err(refused)?;
            }
            _ => {
                return Err(refused(
                    "after the key come psk=FILE, services=NAME,.. allow=PATTERN, channels=N, \
                     opens-per-second=N"
                        .into(),
                ));
            }
        }
    }
    if seen.contains(&b"allow".as_slice()) {
        let allowed = Allowed::parse(patterns).map_err(|why| format!("allow={why}"))?;
        entry.rights.allowed = Some(allowed);
    }
    Ok(entry)
}

/// Of `""`: none.
fn services_of(text: &[u8], services: &[&str]) -> Result<Vec<String>, String> {
    let names = text.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    let known = |name: &[u8]| {
        let name = if name == OWN_TARGETS.as_bytes() { b"" } else { name };
        services.iter().find(|service| service.as_bytes() == name).map(|name| (*name).to_owned())
    };
    let names = names.map(|name| {
        known(name).ok_or_else(|| match name == OWN_TARGETS.as_bytes() {
            true => "this egress has no targets of its own, which is what @ means".into(),
            false => format!("this egress has no --service {}", Shown(name)),
        })
    });
    names.collect()
}

fn number_of(text: &[u8], most: u32) -> Result<u32, String> {
    let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("a number from 1 to {most}")),
    }
}
