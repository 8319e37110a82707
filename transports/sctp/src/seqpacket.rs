//! A unix socket of the kind SOCK_SEQPACKET (unix(7)) as a carrier: one stream, packets whole and in
//! order, on this machine. Makes every system call through rustix.
//!
//! Invariant: once it `is_gone`, nothing is received but that.

use crate::{BACKLOG, Options, Socket, Streams, set_send_buffer};
use rustix::fd::AsRawFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};
use seaprox::address::Address;
use seaprox::sys::{Errno, OwnedFd, RawFd, unix_address};
use seaprox_proto::carrier::{Bounds, Carrier, Received};

/// A SOCK_SEQPACKET unix socket that is connected.
///
/// ```
/// use seaprox_proto::carrier::Carrier;
/// use seaprox_sctp::{Options, Seqpacket, Socket};
///
/// let path = format!("@seaprox-doc-{}", std::process::id());
/// let listener = Seqpacket::listen(path.as_bytes(), &Options::new(8))?;
/// let mut near = Seqpacket::connect(path.as_bytes(), &Options::new(8))?;
/// near.finish_connect()?;
/// let (mut far, _) = Seqpacket::accept(&listener)?;
/// near.send(0, b"a packet")?;
/// let mut room = [0; 64];
/// far.receive(&mut room)?; // that it is up
/// far.receive(&mut room)?;
/// assert_eq!(&room[..8], b"a packet");
/// # Ok::<(), seaprox::sys::Errno>(())
/// ```
#[derive(Debug)]
pub struct Seqpacket {
    fd: OwnedFd,
    said_up: bool,
    is_gone: bool,
}

impl From<Seqpacket> for OwnedFd {
    fn from(seqpacket: Seqpacket) -> OwnedFd {
        seqpacket.fd
    }
}

fn socket(options: &Options) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let kind = SocketType::SEQPACKET;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    set_send_buffer(&fd, options.send_buffer_bytes)?;
    Ok(fd)
}

impl Seqpacket {
    fn new(fd: OwnedFd) -> Seqpacket {
        Seqpacket { fd, said_up: false, is_gone: false }
    }
}

impl Socket for Seqpacket {
    /// A path; a leading `@` means the abstract namespace.
    type Endpoint = [u8];

    fn connect(path: &[u8], options: &Options) -> Result<Seqpacket, Errno> {
        let address = unix_address(path)?;
        let fd = socket(options)?;
        rustix::net::connect(&fd, &address)?;
        Ok(Seqpacket::new(fd))
    }

    /// It was decided at once.
    fn finish_connect(&mut self) -> Result<(), Errno> {
        sockopt::socket_error(&self.fd)?
    }

    fn listen(path: &[u8], options: &Options) -> Result<OwnedFd, Errno> {
        let address = unix_address(path)?;
        let fd = socket(options)?;
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(fd)
    }

    fn accept(listener: &OwnedFd) -> Result<(Seqpacket, Address), Errno> {
        let (fd, peer) = crate::accept(listener)?;
        // Not inherited. The kernel tells twice what it was told (socket(7)).
        set_send_buffer(&fd, sockopt::socket_send_buffer_size(listener)? / 2)?;
        Ok((Seqpacket::new(fd), peer))
    }

    /// By shutdown(2): connects are refused from then on (net/unix/af_unix.c).
    fn stop_listening(listener: &OwnedFd) {
        // Whoever shares it may have done the same.
        let _ = rustix::net::shutdown(listener, Shutdown::Both);
    }

    fn streams(&self) -> Result<Streams, Errno> {
        Ok(Streams { outbound: u16::MAX, inbound: u16::MAX })
    }
}

impl Carrier for Seqpacket {
    /// Long packets: each costs a call at both ends. Half as long ones cost a quarter more CPU time a
    /// byte, longer ones gain nothing.
    fn bounds(&self) -> Bounds {
        Bounds::ORDERED
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }

    fn send(&mut self, _: u16, packet: &[u8]) -> Result<(), Errno> {
        if packet.is_empty() {
            // The peer would take it for the end.
            return Ok(());
        }
        let sent = rustix::net::send(&self.fd, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        debug_assert_eq!(sent, packet.len());
        Ok(())
    }

    /// A packet larger than the room comes as a piece without an end, and then the carrier is gone:
    /// the kernel has dropped the rest.
    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        if self.is_gone {
            return Ok(Received::Gone);
        }
        if !core::mem::replace(&mut self.said_up, true) {
            return Ok(Received::Up);
        }
        if room.is_empty() {
            return Err(Errno::MSGSIZE);
        }
        // With MSG_TRUNC: its true length.
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (bytes, length) = match rustix::net::recv(&self.fd, room, flags) {
            Ok(got) => got,
            Err(errno) if crate::is_end(errno) => (0, 0),
            Err(errno) => return Err(errno),
        };
        self.is_gone = length == 0 || length > bytes;
        match length {
            0 => Ok(Received::Gone),
            _ => Ok(Received::Piece { stream: 0, bytes, end: length == bytes }),
        }
    }
}
