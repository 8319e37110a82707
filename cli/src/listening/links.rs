//! Opens the socket at which links come in.

use super::{Bound, CannotListen, is_abstract, past_left_over};
use crate::carriers::endpoint_of;
use crate::endpoint::{Link, UnixPath};
use crate::exit::ExitCode;
use seaprox::sys::Errno;
use seaprox_sctp::{Association, Seqpacket, Socket};
use std::os::fd::OwnedFd;

impl CannotListen {
    /// The kernel cannot carry this link.
    pub fn without_sctp(link: &Link) -> Self {
        CannotListen {
            line: format!("{link}: this kernel has no SCTP: `modprobe sctp` as root loads it"),
            code: ExitCode::Unavailable,
        }
    }
}

/// A socket at which links come in.
#[derive(Debug)]
pub struct LinkListening {
    /// The socket.
    pub fd: OwnedFd,
    path: Option<Bound>,
}

impl LinkListening {
    /// Opens it.
    pub fn open(at: &Link, options: &seaprox_sctp::Options) -> Result<LinkListening, CannotListen> {
        let opened = match at {
            Link::Seqpacket(path) => at_packet_path(path, options),
            Link::Sctp { .. } => match endpoint_of(at) {
                Some(endpoint) => Association::listen(&endpoint, options),
                None => Err(Errno::INVAL),
            },
        };
        let path = match at {
            Link::Seqpacket(path) if !is_abstract(path) => Bound::at(path),
            _ => None,
        };
        opened.map(|fd| LinkListening { fd, path }).map_err(|errno| match errno {
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
