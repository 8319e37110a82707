//! A one-to-one SCTP socket (RFC 6458 section 4) with its one association, as a carrier. Knows no
//! option's value.
//!
//! Invariant: once it `is_gone`, nothing is received but that.

use crate::endpoint::{Endpoint, packed};
use crate::kernel::{self, Status};
use crate::notification::Notification;
use crate::{BACKLOG, Options, Socket, Streams, set_receive_buffer, set_send_buffer, setup, sys};
use rustix::fd::{AsFd, AsRawFd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, sockopt};
use seaprox::address::Address;
use seaprox::sys::{Errno, OwnedFd, RawFd};
use seaprox_proto::carrier::{Bounds, Carrier, Order, Received};

/// An SCTP socket that connects, or is connected.
#[derive(Debug)]
pub struct Association {
    fd: OwnedFd,
    notification: Notification,
    is_gone: bool,
}

impl From<Association> for OwnedFd {
    fn from(association: Association) -> OwnedFd {
        association.fd
    }
}

/// A socket of the endpoint's family, with all it has to know before it connects or listens.
fn socket(endpoint: &Endpoint, options: &Options) -> Result<OwnedFd, Errno> {
    let is_ipv6 = endpoint.is_ipv6();
    let family = if is_ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol = Some(ipproto::SCTP);
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, protocol)?;
    if is_ipv6 {
        // net.ipv6.bindv6only may say otherwise, and addresses of both kinds may be wanted.
        sockopt::set_ipv6_v6only(&fd, false)?;
    }
    set_send_buffer(&fd, options.send_buffer_bytes)?;
    set_receive_buffer(&fd, options.receive_buffer_bytes)?;
    setup::prepare(fd.as_fd(), options)?;
    Ok(fd)
}

/// A socket that may connect.
pub(crate) fn unconnected(endpoint: &Endpoint, options: &Options) -> Result<OwnedFd, Errno> {
    let fd = socket(endpoint, options)?;
    if let Some(port) = endpoint.udp_port() {
        setup::set_udp_port(fd.as_fd(), port)?;
    }
    if !endpoint.local().is_empty() {
        let local = packed(endpoint.local());
        sys::set_bytes(fd.as_fd(), kernel::SCTP_SOCKOPT_BINDX_ADD, &local)?;
    }
    Ok(fd)
}

impl Association {
    fn new(fd: OwnedFd) -> Association {
        Association { fd, notification: Notification::default(), is_gone: false }
    }

    /// # Errors
    /// ENOTCONN: there is no association yet, or not any more.
    fn status(&self) -> Result<Status, Errno> {
        let status = sys::get(self.fd.as_fd(), libc::SCTP_STATUS, Status::default());
        status.map_err(|errno| if errno == Errno::INVAL { Errno::NOTCONN } else { errno })
    }

    /// Whether anything waits to be received: the news of the association, good or bad, is first.
    fn has_news(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(rustix::net::recv(&self.fd, &mut [0; 1], flags), Err(Errno::AGAIN))
    }

    fn gone(&mut self) -> Received {
        self.is_gone = true;
        Received::Gone
    }
}

impl Socket for Association {
    type Endpoint = Endpoint;

    fn connect(endpoint: &Endpoint, options: &Options) -> Result<Association, Errno> {
        let fd = unconnected(endpoint, options)?;
        let peer = packed(endpoint.addresses());
        match sys::set_bytes(fd.as_fd(), kernel::SCTP_SOCKOPT_CONNECTX, &peer) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Association::new(fd)),
            Err(errno) => Err(errno),
        }
    }

    fn finish_connect(&mut self) -> Result<(), Errno> {
        if self.is_gone {
            return Err(Errno::NOTCONN);
        }
        if let Err(errno) = sockopt::socket_error(&self.fd)? {
            self.is_gone = true;
            return Err(errno);
        }
        match self.status() {
            Ok(_) => Ok(()),
            // The kernel says the same while it connects.
            Err(Errno::NOTCONN) if !self.has_news() => Err(Errno::INPROGRESS),
            Err(errno) => Err(errno),
        }
    }

    fn listen(endpoint: &Endpoint, options: &Options) -> Result<OwnedFd, Errno> {
        let fd = socket(endpoint, options)?;
        // Past associations that a program before this one has not ended yet; two that listen still
        // exclude each other.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        let addresses = packed(endpoint.addresses());
        sys::set_bytes(fd.as_fd(), kernel::SCTP_SOCKOPT_BINDX_ADD, &addresses)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(fd)
    }

    fn accept(listener: &OwnedFd) -> Result<(Association, Address), Errno> {
        let (fd, peer) = crate::accept(listener)?;
        Ok((Association::new(fd), peer))
    }

    /// By a backlog of 0, which ends listening (net/sctp/socket.c, sctp_inet_listen).
    fn stop_listening(listener: &OwnedFd) {
        // Whoever shares it may have done the same.
        let _ = rustix::net::listen(listener, 0);
    }

    fn streams(&self) -> Result<Streams, Errno> {
        let status = self.status()?;
        Ok(Streams { outbound: status.outstrms, inbound: status.instrms })
    }
}

impl Carrier for Association {
    fn bounds(&self) -> Bounds {
        Bounds {
            order: Order::Streams,
            // Without an association there are none, and it ends soon.
            channels_max: self.streams().map_or(0, Streams::channels),
            // While one is sent nothing else is: without interleaving (RFC 8260) a long one would
            // hold up all other streams.
            sent_bytes_max: 16_384,
        }
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        sys::send(self.fd.as_fd(), stream, packet).map(|sent| debug_assert_eq!(sent, packet.len()))
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        if self.is_gone {
            return Ok(Received::Gone);
        }
        if room.is_empty() {
            // 0 bytes would look like the end.
            return Err(Errno::MSGSIZE);
        }
        let message = match sys::receive(self.fd.as_fd(), room) {
            Ok(message) => message,
            Err(errno) if crate::is_end(errno) => return Ok(self.gone()),
            Err(errno) => return Err(errno),
        };
        let bytes = message.bytes;
        if message.notification {
            let meaning = self.notification.piece(&room[..bytes.min(room.len())], message.end);
            self.is_gone = meaning == Received::Gone;
            return Ok(meaning);
        }
        match message.stream {
            _ if bytes == 0 => Ok(self.gone()),
            Some(stream) => Ok(Received::Piece { stream, bytes, end: message.end }),
            // The kernel was told to say it.
            None => Err(Errno::PROTO),
        }
    }
}
