//! LINK as the user writes it: where the other end of a link is, or where this end waits for it. Knows
//! no socket and no protocol but its name.

use super::{Host, Read, Refused, UnixPath, check_name, read_host_port};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How many hosts a multihomed end may have.
pub const LINK_HOSTS_MAX: usize = 8;

const KINDS: &str = "write udp:HOST:PORT, sctp:HOST:PORT, or seqpacket:/path on one machine";

/// One end of a link. Invariant: at most [`LINK_HOSTS_MAX`] hosts, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// `sctp:HOST:PORT[,HOST..]`: several hosts are one end (multihoming).
    Sctp {
        /// None stands for every address of this machine, `sctp::7000`.
        hosts: Vec<LinkHost>,
        /// 1..=65535, the same for every host.
        port: u16,
    },
    /// `udp:HOST:PORT`.
    Udp {
        /// None stands for every address of this machine, `udp::7000`.
        host: Option<LinkHost>,
        /// 1..=65535.
        port: u16,
    },
    /// `seqpacket:/path`, `seqpacket:@abstract`: a unix socket (SOCK_SEQPACKET).
    Seqpacket(UnixPath),
}

/// One of the hosts of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkHost {
    /// A host name in its ASCII form, 1..=254 bytes with its final dot.
    Name(String),
    /// An address, with the link's port.
    Address(SocketAddr),
}

impl Link {
    /// Reads a LINK, or says why not.
    pub fn parse(text: &[u8]) -> Result<Link, Refused> {
        Self::read(text).map_err(|reason| Refused::new(text, reason))
    }

    fn read(text: &[u8]) -> Read<Link> {
        if let Some(path) = text.strip_prefix(b"seqpacket:") {
            return UnixPath::read("seqpacket", path).map(Link::Seqpacket);
        }
        if let Some(hosts) = text.strip_prefix(b"sctp:") {
            return read_sctp(str::from_utf8(hosts).map_err(|_| "not UTF-8")?);
        }
        if let Some(host) = text.strip_prefix(b"udp:") {
            return read_udp(str::from_utf8(host).map_err(|_| "not UTF-8")?);
        }
        Err(format!("not a link: {KINDS}"))
    }

    /// Refuses what cannot be connected to.
    pub fn check_peer(&self) -> Result<(), Refused> {
        let Some((kind, hosts, port)) = self.hosts() else { return Ok(()) };
        if hosts.is_empty() {
            return Err(
                self.refused(format!("no host: write {kind}:NAME:{port}, where the egress is"))
            );
        }
        match hosts.iter().find(|host| host.is_unspecified()) {
            Some(host) => Err(self.refused(format!("{host} is nobody's address"))),
            None => Ok(()),
        }
    }

    /// Refuses what cannot be listened on.
    pub fn check_local(&self) -> Result<(), Refused> {
        let Some((kind, hosts, port)) = self.hosts() else { return Ok(()) };
        if hosts.iter().any(|host| matches!(host, LinkHost::Name(_))) {
            return Err(self.refused(format!(
                "a name cannot be listened on: write addresses, like {kind}:127.0.0.1:{port}, or \
                 {kind}::{port} for every one"
            )));
        }
        match hosts.iter().find(|host| host.is_unspecified()) {
            Some(every) if hosts.len() > 1 => {
                Err(self.refused(format!("{every} is every address already: write it alone")))
            }
            _ => Ok(()),
        }
    }

    /// What it is called, its hosts and their port; `None`: it is a path.
    fn hosts(&self) -> Option<(&'static str, &[LinkHost], u16)> {
        match self {
            Link::Sctp { hosts, port } => Some(("sctp", hosts, *port)),
            Link::Udp { host, port } => Some(("udp", host.as_slice(), *port)),
            Link::Seqpacket(_) => None,
        }
    }

    fn refused(&self, reason: String) -> Refused {
        Refused::new(self.to_string().as_bytes(), reason)
    }
}

impl LinkHost {
    fn read(host: Host<'_>) -> Read<LinkHost> {
        match host {
            Host::Empty => Err("nothing between two commas".into()),
            Host::Number(address) => Ok(LinkHost::Address(address)),
            Host::Name(name) => {
                check_name(name)?;
                Ok(LinkHost::Name(name.into()))
            }
        }
    }

    fn is_unspecified(&self) -> bool {
        matches!(self, LinkHost::Address(address) if address.ip().is_unspecified())
    }
}

fn read_udp(text: &str) -> Read<Link> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("no host: write udp::{text} or udp:127.0.0.1:{text}"));
    }
    if text.contains(',') {
        return Err("udp has one host: several are one end with sctp".into());
    }
    match read_host_port(text.as_bytes())? {
        (Host::Name("*"), port) => Err(format!("write udp::{port} for every address")),
        (Host::Empty, port) => Ok(Link::Udp { host: None, port }),
        (host, port) => Ok(Link::Udp { host: Some(LinkHost::read(host)?), port }),
    }
}

fn read_sctp(text: &str) -> Read<Link> {
    let (first, others) = match text.split_once(',') {
        Some((first, others)) => (first, Some(others)),
        None => (text, None),
    };
    if !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("no host: write sctp::{first} or sctp:127.0.0.1:{first}"));
    }
    let (host, port) = match read_host_port(first.as_bytes())? {
        (Host::Name("*"), port) => return Err(format!("write sctp::{port} for every address")),
        (Host::Empty, port) => {
            return match others {
                None => Ok(Link::Sctp { hosts: Vec::new(), port }),
                Some(_) => Err(format!("sctp::{port} is every address already: write it alone")),
            };
        }
        (host, port) => (LinkHost::read(host)?, port),
    };
    let mut hosts = vec![host];
    for text in others.into_iter().flat_map(|others| others.split(',')) {
        let host = read_other(text, port)?;
        if hosts.contains(&host) {
            return Err(format!("{host} is there twice"));
        }
        if hosts.len() == LINK_HOSTS_MAX {
            return Err(format!("at most {LINK_HOSTS_MAX} hosts are one end of a link"));
        }
        hosts.push(host);
    }
    Ok(Link::Sctp { hosts, port })
}

/// A host after the first, which has the port for all of them.
fn read_other(text: &str, port: u16) -> Read<LinkHost> {
    if text.is_empty() {
        return LinkHost::read(Host::Empty);
    }
    let bare = text.rsplit_once(']').map_or(text, |(_, behind)| behind);
    if bare.matches(':').count() == 1 {
        return Err(format!(
            "only the first host has a port, which is all the others' too: {port}"
        ));
    }
    let whole = format!("{text}:{port}");
    LinkHost::read(read_host_port(whole.as_bytes())?.0)
}

/// As it is written on the command line, a path that no line may contain escaped.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, port) = match self {
            Link::Seqpacket(path) => return write!(f, "seqpacket:{path}"),
            Link::Udp { host: None, port } => return write!(f, "udp::{port}"),
            Link::Udp { host: Some(host), port } => return write!(f, "udp:{host}:{port}"),
            Link::Sctp { hosts, port } => (hosts, port),
        };
        let Some((first, others)) = hosts.split_first() else { return write!(f, "sctp::{port}") };
        write!(f, "sctp:{first}:{port}")?;
        others.iter().try_for_each(|other| write!(f, ",{other}"))
    }
}

/// Without the port.
impl fmt::Display for LinkHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkHost::Name(name) => f.write_str(name),
            LinkHost::Address(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                write!(f, "[{}%{}]", v6.ip(), v6.scope_id())
            }
            LinkHost::Address(address) => match address.ip() {
                IpAddr::V4(ip) => write!(f, "{ip}"),
                IpAddr::V6(ip) => write!(f, "[{ip}]"),
            },
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
