//! Sockets that keep packets whole, as carriers of links: one-to-one SCTP sockets of the kernel
//! ([`Association`]), and unix sockets of the kind SOCK_SEQPACKET ([`Seqpacket`]). Knows no message
//! and no channel.
//!
//! Both are begun, listened for and used alike ([`Socket`]), so that what is tested over the one,
//! which every kernel has, holds for the other.
#![no_std]

#[cfg(test)]
extern crate std;

mod association;
mod endpoint;
mod kernel;
mod notification;
mod seqpacket;
mod setup;
mod sys;

pub use association::Association;
pub use endpoint::{ADDRESSES_MAX, Endpoint, EndpointError};
pub use seqpacket::Seqpacket;

use core::fmt::Debug;
use core::net::SocketAddr;
use rustix::net::{SocketFlags, sockopt};
use seaprox::address::Address;
use seaprox::sys::{Errno, OwnedFd};
use seaprox_proto::carrier::Carrier;

/// What a link can have at most in flight and in the queue before it, in bytes of payload.
///
/// Short, because it is a queue nobody can overtake: a small packet waits until all before it is
/// gone, whatever the scheduler above would have preferred. Long enough, because what was sent and
/// not acknowledged is in it too: a link moves at most this much a round trip. 256 KiB is 21 ms at
/// 100 Mbit/s, and 25 MB/s at 10 ms.
///
/// Without CAP_NET_ADMIN the kernel gives at most `net.core.wmem_max`, 208 KiB by default.
pub const SEND_BUFFER_BYTES: usize = 256 << 10;

/// What the kernel keeps for a link that is not read for a moment, in bytes. A link always reads,
/// since each channel has its own credit; so this only has to bridge the time until it does, and,
/// for SCTP, to be no less than what the peer has in flight: it is the association's window.
///
/// Without CAP_NET_ADMIN the kernel gives at most `net.core.rmem_max`, 208 KiB by default.
pub const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// What a socket is told before it connects or listens; what is accepted inherits it.
///
/// ```
/// use seaprox_sctp::{Options, SEND_BUFFER_BYTES};
///
/// let options = Options { receive_buffer_bytes: 1 << 16, ..Options::new(100) };
/// assert_eq!((options.channels, options.send_buffer_bytes), (100, SEND_BUFFER_BYTES));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many channels each end may open, at most 32,767: SCTP is asked for `1 + 2 * channels`
    /// streams each way.
    pub channels: u16,
    /// SO_SNDBUF: [`SEND_BUFFER_BYTES`].
    pub send_buffer_bytes: usize,
    /// SO_RCVBUF: [`RECEIVE_BUFFER_BYTES`]. Of no meaning for SOCK_SEQPACKET, where what is not
    /// received counts as the sender's.
    pub receive_buffer_bytes: usize,
}

impl Options {
    /// The usual sizes.
    #[must_use]
    pub const fn new(channels: u16) -> Options {
        Options {
            channels,
            send_buffer_bytes: SEND_BUFFER_BYTES,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        }
    }

    /// As many streams as the channels of both ends need, and one for the link itself.
    const fn streams(&self) -> u16 {
        self.channels.saturating_mul(2).saturating_add(1)
    }
}

/// How many streams an association has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// That this end may send on.
    pub outbound: u16,
    /// That the peer may send on.
    pub inbound: u16,
}

impl Streams {
    /// How many channels each end may open on them: channel slot `n` uses the streams `1 + 2 * n`
    /// and `2 + 2 * n`, both ways.
    #[must_use]
    pub const fn channels(self) -> u16 {
        let both = if self.outbound < self.inbound { self.outbound } else { self.inbound };
        both.saturating_sub(1) / 2
    }
}

/// A carrier that is a socket: how one comes into being. Closed when dropped, in order: what was
/// sent before still arrives (SO_LINGER {1, 0} set before makes SCTP abort instead).
///
/// Once registered with an epoll it is to be received from once, whatever the epoll says. The first
/// thing received is [`Up`](seaprox_proto::carrier::Received::Up), once, on both ends and for each
/// kind of socket; after [`Gone`](seaprox_proto::carrier::Received::Gone) there is nothing else.
pub trait Socket: Carrier + Debug + Sized + Into<OwnedFd> {
    /// Where to connect to, or to listen at.
    type Endpoint: ?Sized;

    /// Begins to connect, without waiting. The descriptor becomes writable, or reports an error,
    /// when it is decided; then [`Socket::finish_connect`] says how.
    ///
    /// # Errors
    /// See [`is_missing`]; EAGAIN: the listener's queue is full, as a unix socket says at once;
    /// those of socket(2), bind(2) and connect(2).
    fn connect(endpoint: &Self::Endpoint, options: &Options) -> Result<Self, Errno>;

    /// What became of the connecting.
    ///
    /// # Errors
    /// EINPROGRESS: nothing yet; ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH ...: it failed, which is said
    /// once, and ENOTCONN from then on.
    fn finish_connect(&mut self) -> Result<(), Errno>;

    /// Opens a socket that listens, non-blocking. A unix path must not exist.
    ///
    /// # Errors
    /// See [`is_missing`]; those of socket(2), bind(2) and listen(2).
    fn listen(endpoint: &Self::Endpoint, options: &Options) -> Result<OwnedFd, Errno>;

    /// Takes the next who connected, and says where it is.
    ///
    /// # Errors
    /// EAGAIN: nobody is waiting; ECONNABORTED: it is gone again; EMFILE and such.
    fn accept(listener: &OwnedFd) -> Result<(Self, Address), Errno>;

    /// The listener takes nobody any more: whoever connects is refused, and somebody else can listen
    /// there (a path has to be removed first).
    fn stop_listening(listener: &OwnedFd);

    /// How many streams there are, once connected; 65,535 where there are none.
    ///
    /// # Errors
    /// ENOTCONN.
    fn streams(&self) -> Result<Streams, Errno>;
}

/// Whether an error of [`Socket::connect`] or [`Socket::listen`] means that this kernel has no such
/// sockets: no SCTP, or its module is not loaded.
#[must_use]
pub fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT)
}

/// Peers the kernel keeps waiting for us, at most. There are few links.
const BACKLOG: i32 = 128;

/// SO_SNDBUF: so large, or as large as this process may have it.
fn set_send_buffer(fd: &OwnedFd, bytes: usize) -> Result<(), Errno> {
    // EPERM: without CAP_NET_ADMIN the limit of the system holds.
    sockopt::set_socket_send_buffer_size_force(fd, bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, bytes))
}

/// SO_RCVBUF, alike.
fn set_receive_buffer(fd: &OwnedFd, bytes: usize) -> Result<(), Errno> {
    sockopt::set_socket_recv_buffer_size_force(fd, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, bytes))
}

/// accept4(2).
fn accept(listener: &OwnedFd) -> Result<(OwnedFd, Address), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((fd, peer.map_or(Address::UNIX, Into::into)))
}

/// Whether an error of a receiving call means that the peer, or the way to it, is gone.
fn is_end(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::NOTCONN
            | Errno::PIPE
            | Errno::TIMEDOUT
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_enough_for_the_channels_and_never_too_few() {
        for channels in [0, 1, 512, 2048, 32_767, u16::MAX] {
            let streams = Options::new(channels).streams();
            let both = Streams { outbound: streams, inbound: streams };
            assert_eq!(both.channels(), channels.min(32_767));
        }
        for (outbound, inbound, channels) in
            [(10, 65_535, 4), (65_535, 11, 5), (0, 9, 0), (1, 1, 0), (2, 3, 0), (3, 3, 1)]
        {
            assert_eq!(Streams { outbound, inbound }.channels(), channels, "{outbound} {inbound}");
        }
    }

    #[test]
    fn a_kernel_without_is_told_apart() {
        assert!(is_missing(Errno::PROTONOSUPPORT));
        assert!(is_missing(Errno::SOCKTNOSUPPORT));
        assert!(!is_missing(Errno::CONNREFUSED));
    }
}
