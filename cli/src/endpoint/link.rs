//! LINK as the user writes it: where the other end of a link is, or where this end waits for it. Knows
//! no socket and no protocol but its name.

use super::{Host, Read, Refused, UnixPath, check_name, read_host_port};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// How many hosts a multihomed end may have.
pub const LINK_HOSTS_MAX: usize = 8;

const KINDS: &str = "write sctp:HOST:PORT, or seqpacket:/path on one machine";

/// One end of a link. Invariant: at most [`LINK_HOSTS_MAX`] hosts, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// `sctp:HOST:PORT[,HOST..]`: several hosts are one end (multihoming).
    Sctp {
        /// None stands for every address of this machine, `sctp::7000`.
        hosts: Vec<SctpHost>,
        /// 1..=65535, the same for every host.
        port: u16,
    },
    /// `seqpacket:/path`, `seqpacket:@abstract`: a unix socket (SOCK_SEQPACKET).
    Seqpacket(UnixPath),
}

/// One of the hosts of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SctpHost {
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
        if text.starts_with(b"udp:") {
            return Err(format!("links over udp are not in this version yet: {KINDS}"));
        }
        Err(format!("not a link: {KINDS}"))
    }

    /// Refuses what cannot be connected to.
    pub fn check_peer(&self) -> Result<(), Refused> {
        let Link::Sctp { hosts, port } = self else { return Ok(()) };
        if hosts.is_empty() {
            return Err(
                self.refused(format!("no host: write sctp:NAME:{port}, where the egress is"))
            );
        }
        match hosts.iter().find(|host| host.is_unspecified()) {
            Some(host) => Err(self.refused(format!("{host} is nobody's address"))),
            None => Ok(()),
        }
    }

    /// Refuses what cannot be listened on.
    pub fn check_local(&self) -> Result<(), Refused> {
        let Link::Sctp { hosts, port } = self else { return Ok(()) };
        if hosts.iter().any(|host| matches!(host, SctpHost::Name(_))) {
            return Err(self.refused(format!(
                "a name cannot be listened on: write addresses, like sctp:127.0.0.1:{port}, or \
                 sctp::{port} for every one"
            )));
        }
        match hosts.iter().find(|host| host.is_unspecified()) {
            Some(every) if hosts.len() > 1 => {
                Err(self.refused(format!("{every} is every address already: write it alone")))
            }
            _ => Ok(()),
        }
    }

    fn refused(&self, reason: String) -> Refused {
        Refused::new(self.to_string().as_bytes(), reason)
    }
}

impl SctpHost {
    fn read(host: Host<'_>) -> Read<SctpHost> {
        match host {
            Host::Empty => Err("nothing between two commas".into()),
            Host::Number(address) => Ok(SctpHost::Address(address)),
            Host::Name(name) => {
                check_name(name)?;
                Ok(SctpHost::Name(name.into()))
            }
        }
    }

    fn is_unspecified(&self) -> bool {
        matches!(self, SctpHost::Address(address) if address.ip().is_unspecified())
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
        (host, port) => (SctpHost::read(host)?, port),
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
fn read_other(text: &str, port: u16) -> Read<SctpHost> {
    if text.is_empty() {
        return SctpHost::read(Host::Empty);
    }
    let bare = text.rsplit_once(']').map_or(text, |(_, behind)| behind);
    if bare.matches(':').count() == 1 {
        return Err(format!(
            "only the first host has a port, which is all the others' too: {port}"
        ));
    }
    let whole = format!("{text}:{port}");
    SctpHost::read(read_host_port(whole.as_bytes())?.0)
}

/// As it is written on the command line, a path that no line may contain escaped.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, port) = match self {
            Link::Seqpacket(path) => return write!(f, "seqpacket:{path}"),
            Link::Sctp { hosts, port } => (hosts, port),
        };
        let Some((first, others)) = hosts.split_first() else { return write!(f, "sctp::{port}") };
        write!(f, "sctp:{first}:{port}")?;
        others.iter().try_for_each(|other| write!(f, ",{other}"))
    }
}

/// Without the port.
impl fmt::Display for SctpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SctpHost::Name(name) => f.write_str(name),
            SctpHost::Address(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                write!(f, "[{}%{}]", v6.ip(), v6.scope_id())
            }
            SctpHost::Address(address) => match address.ip() {
                IpAddr::V4(ip) => write!(f, "{ip}"),
                IpAddr::V6(ip) => write!(f, "[{ip}]"),
            },
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
