//! What the two ends of a link are told. Knows no carrier but by its endpoint's name.

use super::common::{bytes_of, count_of, refused_option, span_of};
use super::{Common, Handshakes, TARGETS_MAX, WhenFull, targets_of};
use crate::allow::Allowed;
use crate::endpoint::{Entrance, Link, Refused, Target};
use crate::help::Bounds;
use crate::keys::{KeyFiles, Protection, is_key, too_many};
use crate::memory::MAX_NUM_PEERS;
use crate::talk::Talk;
use clap::ArgMatches;
use clap::parser::ValueSource;
use seaprox_noise::keys::Public;
use seaprox_udp::congestion::Algorithm;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;

/// How many LISTENs one ingress may have.
pub const LISTENS_MAX: usize = 16;
/// How many services one egress may have beside its own targets.
pub const SERVICES_MAX: usize = 16;
/// A service's longest name; it travels in each OPEN.
const SERVICE_BYTES_MAX: usize = 63;

/// How long a link may be silent, in milliseconds: a heartbeat is a third of it, and what takes hours to
/// be found dead need not be found.
const LINK_TIMEOUT_MILLIS: std::ops::RangeInclusive<u32> = 300..=3_600_000;

/// Without `--congestion`.
pub const CONGESTION_DEFAULT: Algorithm = Algorithm::Bbr;

/// Channels the far end of a link may open in a second: more than one machine accepts on one thread.
pub const OPENS_PER_SECOND_MAX: u32 = 200_000;

const LISTEN_MISSING: &str = "missing; like `seaprox ingress 127.0.0.1:8080 \
    udp:egress.example:7000 --key FILE --peer KEY`";
const LINK_MISSING: &str = "missing: the last argument says where the egress is, like \
    `udp:egress.example:7000`";
const NO_KEYS: &str = "at each end, `(umask 077; seaprox genkey > link.key)` makes its own, \
    `seaprox pubkey < link.key` prints what the other end knows it by, and `--key link.key --peer KEY` \
    starts it, with what the other end printed; where nobody else can reach either end or the way \
    between, --insecure at both does without";
const KEY_MISSING: &str = "missing: write --key FILE, the file that `seaprox genkey` printed into";
const PEER_MISSING: &str =
    "missing: write --peer KEY, what `seaprox pubkey` prints at the other end";
const IS_KEY: &str = "this wants a file with a key in it, and not the key: everybody can read the \
    command line; make a new key, as this one may be known by now";

/// An ingress: clients in, one link out. Invariant: 1 <= entrances <= [`LISTENS_MAX`], no LISTEN twice, and
/// the link is a peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressConfig {
    /// Where clients come from, and what they talk.
    pub entrances: Vec<Entrance>,
    /// How those are talked to that talk; `None`: all are plain.
    pub handshakes: Option<Handshakes>,
    /// Where the egress is.
    pub link: Link,
    /// By which keys; of a peer there is one.
    pub protection: Protection,
    /// What the egress is asked to connect plain clients to.
    pub ask: Ask,
    /// How long a client waits for a link that is not up; `None` is as long as it takes, 0 not at
    /// all.
    pub link_wait_millis: Option<u32>,
    /// After how long without a word of the far end the link is dead.
    pub link_timeout_millis: u32,
    /// The peer's udp port, if SCTP is to go inside udp (RFC 6951).
    pub sctp_udp_port: Option<u16>,
    /// How much may be under way over udp.
    pub congestion: Algorithm,
    /// What becomes of clients above the limit.
    pub when_full: WhenFull,
    /// How it runs. The time to connect is the link's.
    pub common: Common,
}

/// What an ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The egress's own targets.
    Own,
    /// `--service NAME`.
    Service(String),
    /// `--to TARGET`: a name or an address without a scope, never a path.
    Target(Target),
}

/// An egress: links in, connections out. Invariant: there is something to connect to; at most
/// [`TARGETS_MAX`] own targets, [`SERVICES_MAX`] services of other names each, with 1 to
/// [`TARGETS_MAX`] targets, and [`seaprox_tcp::TARGETS_MAX`] in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressConfig {
    /// Where links come in.
    pub link: Link,
    /// By which keys.
    pub protection: Protection,
    /// After how long without a word of its far end a link is dead.
    pub link_timeout_millis: u32,
    /// What is connected to when an ingress asks for nothing else, in the order to try them.
    pub targets: Vec<Target>,
    /// What else is offered.
    pub services: Vec<Service>,
    /// What an ingress may name itself.
    pub allowed: Allowed,
    /// How much may be under way over udp.
    pub congestion: Algorithm,
    /// How it runs.
    pub common: Common,
}

/// A name for some targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What ingresses call it: 1..=63 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where it is, in the order to try them.
    pub targets: Vec<Target>,
}

impl IngressConfig {
    pub(super) fn of(given: &ArgMatches, bounds: Bounds) -> Result<IngressConfig, Refused> {
        let arguments = given.get_many::<OsString>("LISTEN").unwrap_or_default();
        let mut arguments: Vec<_> = arguments.map(|argument| argument.as_bytes()).collect();
        let last = arguments.pop().unwrap_or_default();
        let link = Link::parse(last);
        if arguments.is_empty() {
            return Err(match link {
                Ok(_) => Refused::new(b"LISTEN", LISTEN_MISSING),
                Err(_) => Refused::new(b"LINK", LINK_MISSING),
            });
        }
        let link = link?;
        link.check_peer()?;
        let sctp_udp_port =
            count_of(given, "sctp-udp-port", 1..=65535, |_| "a port is 1 to 65535".into())?
                .map(|port| port as u16);
        if sctp_udp_port.is_some() && !matches!(link, Link::Sctp { .. }) {
            let reason = format!("{link} is not sctp: leave it out");
            return Err(refused_option(given, "sctp-udp-port", reason));
        }
        let entrances = entrances_of(&arguments)?;
        Ok(IngressConfig {
            ask: ask_of(given)?,
            handshakes: handshakes_of(given, &entrances)?,
            entrances,
            link_wait_millis: span_of(given, "link-wait")?.millis(),
            link_timeout_millis: link_timeout_of(given)?,
            sctp_udp_port,
            congestion: congestion_of(given, &link)?,
            when_full: WhenFull::of(given),
            common: Common::of(given, bounds)?,
            protection: protection_of(given, 1)?,
            link,
        })
    }
}

impl EgressConfig {
    pub(super) fn of(given: &ArgMatches, bounds: Bounds) -> Result<EgressConfig, Refused> {
        let link = Link::parse(bytes_of(given, "LINK").unwrap_or_default())?;
        link.check_local()?;
        let patterns = given.get_many::<OsString>("allow").unwrap_or_default();
        let config = EgressConfig {
            link_timeout_millis: link_timeout_of(given)?,
            targets: targets_of(given)?,
            services: services_of(given)?,
            congestion: congestion_of(given, &link)?,
            allowed: Allowed::parse(patterns.map(|pattern| pattern.as_bytes()))
                .map_err(|refused| refused.of_option("--allow"))?,
            common: Common::of(given, bounds)?,
            protection: protection_of(given, MAX_NUM_PEERS)?,
            link,
        };
        let named = config.services.iter().map(|service| service.targets.len()).sum::<usize>();
        if config.targets.is_empty() && named == 0 && !config.allows_some() {
            return Err(Refused::new(
                b"TARGET",
                "nothing to connect to: name one, or --service NAME=TARGET, or what ingresses may \
                 name with --allow",
            ));
        }
        let most = seaprox_tcp::TARGETS_MAX;
        if config.targets.len() + named > most {
            let reason = format!("at most {most} targets in all, those of services too");
            return Err(Refused::new(b"TARGET", reason));
        }
        Ok(config)
    }

    /// What an ingress may ask for; its own targets, if it has any, are `""`.
    pub(crate) fn service_names(&self) -> Vec<&str> {
        let own = (!self.targets.is_empty()).then_some("");
        own.into_iter().chain(self.services.iter().map(|service| service.name.as_str())).collect()
    }

    /// Whether ingresses may name targets themselves, or a list of peers may say so.
    fn allows_some(&self) -> bool {
        let has_list = matches!(&self.protection, Protection::Keyed(files) if files.list.is_some());
        has_list || !self.allowed.patterns().is_empty()
    }
}

fn link_timeout_of(given: &ArgMatches) -> Result<u32, Refused> {
    match span_of(given, "link-timeout")?.millis() {
        Some(millis) if LINK_TIMEOUT_MILLIS.contains(&millis) => Ok(millis),
        _ => Err(refused_option(given, "link-timeout", "a link's is 300ms to 1h".into())),
    }
}

fn congestion_of(given: &ArgMatches, link: &Link) -> Result<Algorithm, Refused> {
    let is_given = given.value_source("congestion") == Some(ValueSource::CommandLine);
    if is_given && !matches!(link, Link::Udp { .. }) {
        let reason = format!("{link} is not udp: leave it out");
        let name = given.get_one::<String>("congestion").map_or("", String::as_str);
        return Err(Refused::new(format!("--congestion {name}").as_bytes(), reason));
    }
    let name = given.get_one::<String>("congestion").map(String::as_str);
    let known = Algorithm::ALL.into_iter().find(|algorithm| Some(algorithm.name()) == name);
    Ok(known.unwrap_or(CONGESTION_DEFAULT))
}

/// `--insecure`, or the files with keys and at most so many peers. clap has seen to it that there is
/// only one of both.
fn protection_of(given: &ArgMatches, peers_max: usize) -> Result<Protection, Refused> {
    if given.get_flag("insecure") {
        return Ok(Protection::Insecure);
    }
    let [key, psk, list] = ["key", "psk", "peers"].map(|option| file_of(given, option));
    let (key, psk, list) = (key?, psk?, list?);
    let peers = peers_of(given, peers_max)?;
    let Some(key) = key else {
        return Err(match peers.is_empty() && psk.is_none() && list.is_none() {
            true => Refused::new(b"no keys", NO_KEYS),
            false => Refused::new(b"--key", KEY_MISSING),
        });
    };
    if peers.is_empty() && psk.is_some() && list.is_some() {
        let reason = "it is for those of --peer: of those in the list, their lines say psk=FILE";
        return Err(Refused::new(b"--psk", reason));
    }
    match peers.is_empty() && list.is_none() {
        true => Err(Refused::new(b"--peer", PEER_MISSING)),
        false => Ok(Protection::Keyed(KeyFiles { key, psk, peers, list })),
    }
}

/// An ingress knows no list.
fn file_of(given: &ArgMatches, option: &str) -> Result<Option<OsString>, Refused> {
    match given.try_get_one::<OsString>(option).unwrap_or_default() {
        Some(name) if is_key(name) => Err(Refused::new(format!("--{option}").as_bytes(), IS_KEY)),
        name => Ok(name.cloned()),
    }
}

fn peers_of(given: &ArgMatches, peers_max: usize) -> Result<Vec<Public>, Refused> {
    let mut peers = Vec::new();
    for text in given.get_many::<OsString>("peer").unwrap_or_default() {
        let refused =
            |reason: String| Refused::new(&[b"--peer ", text.as_bytes()].concat(), reason);
        let peer = Public::from_base64(text.as_bytes()).map_err(|why| refused(why.to_string()))?;
        if peers.contains(&peer) {
            return Err(refused("is there twice".into()));
        }
        if peers.len() == peers_max {
            return Err(refused(match peers_max {
                1 => "an ingress has one link, and so one peer".into(),
                _ => too_many(),
            }));
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn entrances_of(arguments: &[&[u8]]) -> Result<Vec<Entrance>, Refused> {
    let mut entrances: Vec<Entrance> = Vec::new();
    for text in arguments {
        let entrance = Entrance::parse(text)?;
        if entrances.iter().any(|other| other.listen == entrance.listen) {
            return Err(Refused::new(text, "is there twice"));
        }
        if entrances.len() == LISTENS_MAX {
            return Err(Refused::new(b"LISTEN", format!("at most {LISTENS_MAX} may be given")));
        }
        entrances.push(entrance);
    }
    Ok(entrances)
}

/// Refuses what would be of no use.
fn handshakes_of(
    given: &ArgMatches,
    entrances: &[Entrance],
) -> Result<Option<Handshakes>, Refused> {
    let is_given = |option| given.value_source(option) == Some(ValueSource::CommandLine);
    let is_plain = |entrance: &Entrance| entrance.talk == Talk::Plain;
    let refused = |options: &[&'static str], reason: &str| {
        let option = options.iter().copied().find(|option| is_given(option))?;
        Some(refused_option(given, option, reason.into()))
    };
    let of_others = refused(
        &["passwords", "handshake-timeout"],
        "no LISTEN is socks5: or http:, so nobody is asked anything: leave it out",
    );
    let of_plain = refused(
        &["service", "to"],
        "every LISTEN is socks5: or http:, whose clients say themselves where they want to go: leave \
         it out",
    );
    if let (true, Some(refused)) = (entrances.iter().all(is_plain), of_others) {
        return Err(refused);
    }
    if let (false, Some(refused)) = (entrances.iter().any(is_plain), of_plain) {
        return Err(refused);
    }
    match entrances.iter().all(is_plain) {
        true => Ok(None),
        false => Handshakes::of(given).map(Some),
    }
}

fn ask_of(given: &ArgMatches) -> Result<Ask, Refused> {
    if let Some(text) = bytes_of(given, "to") {
        let refused = |reason: String| refused_option(given, "to", reason);
        return match Target::parse(text).map_err(|why| refused(why.reason().into()))? {
            Target::Unix(_) => Err(refused(
                "the far end can be asked for NAME:PORT and ADDRESS:PORT only: give it a \
                 --service for a path"
                    .into(),
            )),
            Target::Inet(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                Err(refused("the far end does not know this machine's interfaces".into()))
            }
            target => Ok(Ask::Target(target)),
        };
    }
    let Some(name) = bytes_of(given, "service") else { return Ok(Ask::Own) };
    match name.contains(&b'=') {
        true => Err(refused_option(
            given,
            "service",
            "an ingress only names it: what it is, its egress says".into(),
        )),
        false => read_service_name(name)
            .map(Ask::Service)
            .map_err(|reason| refused_option(given, "service", reason)),
    }
}

/// Every `--service NAME=TARGET[,TARGET..]`.
fn services_of(given: &ArgMatches) -> Result<Vec<Service>, Refused> {
    let mut services: Vec<Service> = Vec::new();
    for text in given.get_many::<OsString>("service").unwrap_or_default() {
        let text = text.as_bytes();
        let refused = |reason: String| Refused::new(&[b"--service ", text].concat(), reason);
        let service = read_service(text).map_err(refused)?;
        if services.iter().any(|other| other.name == service.name) {
            return Err(refused("there is one of that name already".into()));
        }
        if services.len() == SERVICES_MAX {
            return Err(refused(format!("at most {SERVICES_MAX} may be given")));
        }
        services.push(service);
    }
    Ok(services)
}

/// A comma parts targets, so a path cannot contain one.
fn read_service(text: &[u8]) -> Result<Service, String> {
    const NO_TARGET: &str = "no target: write NAME=TARGET[,TARGET..]";
    let equals = text.iter().position(|&byte| byte == b'=').ok_or(NO_TARGET)?;
    let name = read_service_name(&text[..equals])?;
    let mut targets = Vec::new();
    for target in text[equals + 1..].split(|&byte| byte == b',') {
        if target.is_empty() {
            return Err(NO_TARGET.into());
        }
        targets.push(Target::parse(target).map_err(|refused| refused.to_string())?);
    }
    match targets.len() > TARGETS_MAX {
        true => Err(format!("at most {TARGETS_MAX} targets in one service")),
        false => Ok(Service { name, targets }),
    }
}

/// Whether a service, or a peer, can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=SERVICE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn read_service_name(name: &[u8]) -> Result<String, String> {
    match str::from_utf8(name) {
        Ok(text) if is_name(text) => Ok(text.into()),
        _ => Err(format!(
            "a service's name is 1 to {SERVICE_BYTES_MAX} letters, digits, `-`, `_` or `.`"
        )),
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
