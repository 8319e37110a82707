//! Opens the sockets at which links come in.

use super::{Bound, CannotListen, past_left_over};
use crate::carriers::endpoint_of;
use crate::endpoint::{Link, LinkHost, UnixPath};
use crate::exit::ExitCode;
use seaprox::sys::Errno;
use seaprox_sctp::{Association, Seqpacket, Socket};
use seaprox_udp::socket::{self, UdpSocket};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

impl CannotListen {
    /// The kernel cannot carry this link.
    pub fn without_sctp(link: &Link) -> Self {
        CannotListen {
            line: format!("{link}: this kernel has no SCTP: `modprobe sctp` as root loads it"),
            code: ExitCode::Unavailable,
        }
    }
}

/// Where links come in.
#[derive(Debug)]
pub struct LinkListening {
    /// What listens.
    pub sockets: LinkSockets,
    path: Option<Bound>,
}

/// What listens for links.
#[derive(Debug)]
pub enum LinkSockets {
    /// One socket for all threads.
    One(OwnedFd),
    /// One for each thread.
    Udp(Vec<UdpSocket>),
}

impl LinkListening {
    /// The path that is removed with it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|bound| bound.path.as_path())
    }

    /// Opens it, for so many threads.
    pub fn open(
        at: &Link,
        options: &seaprox_sctp::Options,
        threads: usize,
    ) -> Result<LinkListening, CannotListen> {
        let opened = match at {
            Link::Seqpacket(path) => at_packet_path(path, options).map(LinkSockets::One),
            Link::Sctp { .. } => match endpoint_of(at) {
                Some(endpoint) => Association::listen(&endpoint, options).map(LinkSockets::One),
                None => Err(Errno::INVAL),
            },
            Link::Udp { host, port } => at_udp(host.as_ref(), *port, threads),
        };
        let path = match at {
            Link::Seqpacket(path) if !path.is_abstract() => Bound::at(path),
            _ => None,
        };
        opened.map(|sockets| LinkListening { sockets, path }).map_err(|errno| match errno {
            errno if seaprox_sctp::is_missing(errno) => CannotListen::without_sctp(at),
            errno => CannotListen::because(at, matches!(at, Link::Seqpacket(_)), errno),
        })
    }
}

impl Drop for LinkListening {
    fn drop(&mut self) {
        self.path.iter().for_each(Bound::remove);
    }
}

/// A path where packets stay whole, for links.
fn at_packet_path(path: &UnixPath, options: &seaprox_sctp::Options) -> Result<OwnedFd, Errno> {
    let listen = || Seqpacket::listen(path.as_bytes(), options);
    past_left_over(path, listen, || Seqpacket::connect(path.as_bytes(), options).map(drop))
}

/// Sockets of one udp port; every address is IPv6 and IPv4, or IPv4 alone where there is no IPv6.
fn at_udp(host: Option<&LinkHost>, port: u16, threads: usize) -> Result<LinkSockets, Errno> {
    let options = socket::Options::USUAL;
    let group = |at| socket::listening_group(at, threads, &options);
    let sockets = match host {
        Some(LinkHost::Address(at)) => group(*at),
        Some(LinkHost::Name(_)) => Err(Errno::INVAL),
        None => match group(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                group(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            other => other,
        },
    };
    sockets.map(|sockets| LinkSockets::Udp(sockets.into_iter().collect()))
}
