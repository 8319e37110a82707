//! UDP sockets that send and receive in batches: many datagrams a system call, by UDP_SEGMENT and
//! UDP_GRO (udp(7)), with ECN and without fragments. Knows nothing of what is in a datagram, but
//! where the number is by which the threads of a listening port share them ([`listening_group`]).
//!
//! Invariant: a call here never waits, and never loses an error that is of a datagram of its own.

pub(crate) mod address;
pub(crate) mod control;
mod steering;

pub use steering::thread_of;

use crate::sys;
use address::Name;
use arrayvec::ArrayVec;
use control::Control;
use core::ffi::c_int;
use core::net::{IpAddr, SocketAddr};
use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, SOL_UDP};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use seaprox::sys::{Errno, OwnedFd};

/// Segments of one [`UdpSocket::send`], at most: UDP_MAX_SEGMENTS of net/ipv4/udp.c, before 6.9.
pub const SEGMENTS_MAX: usize = sys::PIECES_MAX;

/// Bytes of one [`UdpSocket::send`], at most, and of one datagram: 64 KiB less the headers of IPv4
/// and UDP.
pub const BATCH_BYTES_MAX: usize = 65_507;

/// A buffer for [`UdpSocket::receive`] into which everything fits.
pub const RECEIVE_BYTES: usize = 64 << 10;

/// Sockets of one [`listening_group`], at most.
pub const THREADS_MAX: usize = 64;

/// Not congestion experienced, and whoever would drop a packet for being congested may say so
/// instead (RFC 3168 section 5: ECT(0)).
const ECT0: c_int = 0b10;
/// Somebody on the way is congested.
const CE: u32 = 0b11;

/// What a socket is told before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// SO_RCVBUF, without the kernel's doubling. It has to hold what peers send until we get round
    /// to it, counted with the kernel's own memory for each packet: what does not fit is lost.
    pub receive_buffer_bytes: usize,
    /// SO_SNDBUF, likewise: what was given to the kernel and has not left this machine.
    pub send_buffer_bytes: usize,
    /// Whether to use UDP_SEGMENT if the kernel has it. A faulty driver is a reason not to.
    pub segmentation: bool,
    /// Whether to use UDP_GRO if the kernel has it.
    pub coalescing: bool,
    /// Whether to mark what is sent as ECN-capable, ECT(0).
    pub ecn: bool,
}

impl Options {
    /// The usual: everything, and buffers of 4 MiB (160 ms at 200 Mbit/s) and 1 MiB.
    pub const USUAL: Options = Options {
        receive_buffer_bytes: 4 << 20,
        send_buffer_bytes: 1 << 20,
        segmentation: true,
        coalescing: true,
        ecn: true,
    };
}

impl Default for Options {
    fn default() -> Options {
        Options::USUAL
    }
}

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other end. IPv4 is always as such, also on a socket of IPv6.
    pub peer: SocketAddr,
    /// Our address, where it is not obvious: a peer only hears what comes from the address it sends
    /// to, and a machine may have several. Known of what a socket that listens at an unspecified
    /// address receives. Sending fails, with EINVAL or ENETUNREACH, once the machine has it no more.
    pub local: Option<IpAddr>,
}

impl From<SocketAddr> for Path {
    fn from(peer: SocketAddr) -> Path {
        Path { peer, local: None }
    }
}

/// What one [`UdpSocket::receive`] gave: datagrams of one peer, in the order they came.
#[derive(Debug)]
pub struct Datagrams<'b> {
    /// Where they are from, and which address they were sent to.
    pub path: Path,
    /// All of them, one behind the other, at the start of the buffer given. None for a datagram
    /// without bytes.
    pub bytes: &'b mut [u8],
    /// Bytes of each, but of the last, which may be shorter. Above 0.
    pub segment_bytes: usize,
    /// Congestion experienced (RFC 3168), by each of them.
    pub is_ce: bool,
    /// Sent as ECN-capable, or congestion experienced: the path leaves ECN alone.
    pub is_ect: bool,
    /// The buffer was too small and the end is missing: the last datagram here, and any beyond it.
    pub is_truncated: bool,
}

impl Datagrams<'_> {
    /// Each datagram.
    pub fn segments(&mut self) -> core::slice::ChunksMut<'_, u8> {
        self.bytes.chunks_mut(self.segment_bytes)
    }
}

/// A buffer that the kernel made smaller than it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capped {
    /// Bytes that were asked for.
    pub wanted_bytes: usize,
    /// Bytes there are.
    pub got_bytes: usize,
    /// What the system's administrator would have to raise (sysctl(8)).
    pub limit: &'static str,
}

/// A UDP socket, non-blocking. Closed when dropped.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    options: Options,
    is_v6: bool,
    /// The only peer, if it is for one.
    peer: Option<SocketAddr>,
    /// UDP_SEGMENT, until it is refused.
    segments: bool,
    /// UDP_GRO.
    coalesces: bool,
    heard: Option<Errno>,
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> OwnedFd {
        socket.fd
    }
}

impl UdpSocket {
    /// Opens a socket for one peer: nobody else's datagrams arrive, and ICMP errors do
    /// ([`UdpSocket::take_heard`]). Does not wait, and says nothing to the peer.
    ///
    /// # Errors
    /// ENETUNREACH: no route; EMFILE and such.
    pub fn connected(to: SocketAddr, options: &Options) -> Result<UdpSocket, Errno> {
        let to = address::canonical(to);
        let mut socket = UdpSocket::open(to.is_ipv6(), options)?;
        socket.peer = Some(to);
        rustix::net::connect(&socket.fd, &to)?;
        Ok(socket)
    }

    /// Takes another address and port of this machine for a socket of one peer, as the kernel finds best
    /// now: that which it had may be the machine's no more. Of another socket this does nothing.
    ///
    /// # Errors
    /// ENETUNREACH: no route. Until the next time that succeeds the socket sends nothing, and may
    /// receive from anybody.
    pub fn reconnect(&mut self) -> Result<(), Errno> {
        let Some(peer) = self.peer else { return Ok(()) };
        // Or it would keep its address.
        rustix::net::connect_unspec(&self.fd)?;
        rustix::net::connect(&self.fd, &peer)
    }

    /// Opens a socket at an address that is nobody else's, for any peers: `[::]` is for IPv4 too.
    ///
    /// # Errors
    /// EADDRINUSE: also if whoever has the port would share it; EADDRNOTAVAIL, EACCES; EMFILE and
    /// such.
    pub fn listening(at: SocketAddr, options: &Options) -> Result<UdpSocket, Errno> {
        let socket = UdpSocket::unbound(at, options)?;
        rustix::net::bind(&socket.fd, &at)?;
        Ok(socket)
    }

    fn unbound(at: SocketAddr, options: &Options) -> Result<UdpSocket, Errno> {
        let socket = UdpSocket::open(at.is_ipv6(), options)?;
        if at.ip().is_unspecified() {
            let option = match at {
                SocketAddr::V4(_) => (IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            socket.set(option, 1)?;
        }
        Ok(socket)
    }

    fn open(is_v6: bool, options: &Options) -> Result<UdpSocket, Errno> {
        let family = if is_v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        let mut socket = UdpSocket {
            fd,
            options: *options,
            is_v6,
            peer: None,
            segments: false,
            coalesces: false,
            heard: None,
        };
        if is_v6 {
            socket.set((IPPROTO_IPV6, libc::IPV6_V6ONLY), 0)?;
            // Never in fragments, and the kernel believes no ICMP message about how large a
            // datagram may be: who sends finds out, and nobody else can say so.
            socket.set((IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER), libc::IPV6_PMTUDISC_PROBE)?;
            socket.set((IPPROTO_IPV6, libc::IPV6_RECVTCLASS), 1)?;
        }
        // Of a socket of IPv6 these are for peers of IPv4.
        socket.set((IPPROTO_IP, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_PROBE)?;
        socket.set((IPPROTO_IP, libc::IP_RECVTOS), 1)?;
        socket.set_ecn(options.ecn)?;
        // A kernel before 4.18 takes no notice of UDP_SEGMENT with a message: it would send all
        // segments as one datagram. But it refuses the option.
        socket.segments =
            options.segmentation && socket.set((SOL_UDP, libc::UDP_SEGMENT), 0).is_ok();
        socket.coalesces = options.coalescing && socket.set((SOL_UDP, libc::UDP_GRO), 1).is_ok();
        // EPERM: without CAP_NET_ADMIN the limit of the system holds.
        sockopt::set_socket_recv_buffer_size_force(&socket.fd, options.receive_buffer_bytes)
            .or_else(|_| {
                sockopt::set_socket_recv_buffer_size(&socket.fd, options.receive_buffer_bytes)
            })?;
        sockopt::set_socket_send_buffer_size_force(&socket.fd, options.send_buffer_bytes).or_else(
            |_| sockopt::set_socket_send_buffer_size(&socket.fd, options.send_buffer_bytes),
        )?;
        Ok(socket)
    }

    fn set(&self, option: (c_int, c_int), value: c_int) -> Result<(), Errno> {
        sys::set(self.fd.as_fd(), option, value)
    }

    /// From now on marks what is sent as ECN-capable, ECT(0), or not: a path may turn out to drop
    /// what is marked, or to take the mark away. Of all peers of the socket.
    ///
    /// # Errors
    /// None that are known.
    pub fn set_ecn(&mut self, on: bool) -> Result<(), Errno> {
        let mark = if on { ECT0 } else { 0 };
        if self.is_v6 {
            self.set((IPPROTO_IPV6, libc::IPV6_TCLASS), mark)?;
        }
        self.set((IPPROTO_IP, libc::IP_TOS), mark)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// None that are known.
    pub fn local(&self) -> Result<SocketAddr, Errno> {
        let address = rustix::net::getsockname(&self.fd)?;
        SocketAddr::try_from(address).map(address::canonical).map_err(|_| Errno::AFNOSUPPORT)
    }

    /// Whether a batch is one system call to send: the kernel has UDP_SEGMENT and did not refuse it.
    #[must_use]
    pub const fn is_segmenting(&self) -> bool {
        self.segments
    }

    /// Whether a batch is one system call to receive.
    #[must_use]
    pub const fn is_coalescing(&self) -> bool {
        self.coalesces
    }

    /// A buffer that is smaller than it was to be, for a warning; first of all that to receive.
    #[must_use]
    pub fn capped(&self) -> Option<Capped> {
        let check = |wanted_bytes, told: Result<usize, Errno>, limit| {
            // The kernel tells twice what it was told (socket(7)).
            let got_bytes = told.ok()? / 2;
            (got_bytes < wanted_bytes).then_some(Capped { wanted_bytes, got_bytes, limit })
        };
        let receive = sockopt::socket_recv_buffer_size(&self.fd);
        let send = sockopt::socket_send_buffer_size(&self.fd);
        check(self.options.receive_buffer_bytes, receive, "net.core.rmem_max")
            .or_else(|| check(self.options.send_buffer_bytes, send, "net.core.wmem_max"))
    }

    /// The last error that was not of the call it was told in, once: what ICMP says of something
    /// sent before, to a connected socket only. ECONNREFUSED: nobody listens there. Anybody who
    /// knows both ports can say so.
    pub fn take_heard(&mut self) -> Option<Errno> {
        self.heard.take()
    }

    /// Sends the first of the segments, each a datagram, as one batch: as many as are of the same
    /// length, and then one that is shorter; at most [`SEGMENTS_MAX`] and [`BATCH_BYTES_MAX`]. Says
    /// how many; 0 only if there are none. `to` is for a socket that is not connected.
    ///
    /// Where UDP_SEGMENT is refused, sends them one by one, from then on.
    ///
    /// # Errors
    /// Nothing was sent then. EAGAIN: the socket's buffer is full. EMSGSIZE: a segment is larger
    /// than the next wire takes. ENOBUFS: the kernel lacks memory, as good as lost on the way.
    /// ENETUNREACH, EPERM and such: this peer cannot be reached. An error of something sent before
    /// is none: [`UdpSocket::take_heard`].
    pub fn send(&mut self, to: Option<&Path>, segments: &[&[u8]]) -> Result<usize, Errno> {
        let batch = &segments[..batch_of(segments)];
        let Some(first) = batch.first() else {
            return Ok(0);
        };
        let mut control = Control::new();
        if let Some(local) = to.and_then(|path| path.local) {
            address::push_local(&mut control, local, self.is_v6);
        }
        let name = to.map(|path| Name::of(&path.peer, self.is_v6));
        let each = |socket: &UdpSocket, control: &Control| {
            sys::send_each(socket.fd.as_fd(), name.as_ref(), control, batch)
        };
        if !self.segments || batch.len() == 1 {
            return self.twice(|socket| each(socket, &control));
        }
        let mut segmented = control.clone();
        // At most BATCH_BYTES_MAX.
        segmented.push(SOL_UDP, libc::UDP_SEGMENT, &(first.len() as u16).to_ne_bytes());
        match self.twice(|socket| {
            sys::send(socket.fd.as_fd(), name.as_ref(), &segmented, batch).map(|_| batch.len())
        }) {
            Err(errno) if may_refuse_segments(errno) => {
                let sent = each(self, &control);
                self.segments = sent.is_err();
                sent
            }
            sent => sent,
        }
    }

    /// Receives a batch into the buffer, which should have [`RECEIVE_BYTES`].
    ///
    /// # Errors
    /// EAGAIN: there is nothing. An error of something sent before is none:
    /// [`UdpSocket::take_heard`].
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        let (mut name, mut control) = (Name::new(), Control::new());
        let message =
            self.twice(|socket| sys::receive(socket.fd.as_fd(), &mut name, &mut control, buffer))?;
        let bytes = buffer.get_mut(..message.bytes).unwrap_or_default();
        let mut path = Path::from(name.address().ok_or(Errno::AFNOSUPPORT)?);
        let (mut segment_bytes, mut ecn) = (bytes.len(), 0);
        for (level, kind, data) in control.messages() {
            match (level, kind) {
                (SOL_UDP, libc::UDP_GRO) => segment_bytes = control::number(data) as usize,
                (IPPROTO_IP, libc::IP_TOS) | (IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    ecn = control::number(data) & CE;
                }
                (IPPROTO_IP, libc::IP_PKTINFO) => path.local = address::local_of(false, data),
                (IPPROTO_IPV6, libc::IPV6_PKTINFO) => path.local = address::local_of(true, data),
                _ => {}
            }
        }
        Ok(Datagrams {
            path,
            bytes,
            segment_bytes: segment_bytes.max(1),
            is_ce: ecn == CE,
            is_ect: ecn != 0,
            is_truncated: message.is_truncated,
        })
    }

    /// Makes a call, and once more if it fails. The kernel tells an error that ICMP brought in
    /// whatever call comes next, once, and does not do what was asked (sock_error in
    /// include/net/sock.h). What fails again is of the call itself.
    fn twice<T>(
        &mut self,
        mut call: impl FnMut(&UdpSocket) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let first = match call(self) {
            Err(errno) if errno != Errno::AGAIN => errno,
            done => return done,
        };
        let second = call(self);
        if matches!(second, Ok(_) | Err(Errno::AGAIN)) {
            self.heard = Some(first);
        }
        second
    }
}

/// How many of the segments make one batch.
fn batch_of(segments: &[&[u8]]) -> usize {
    let Some(first) = segments.first() else {
        return 0;
    };
    let (length, mut bytes, mut count) = (first.len(), first.len(), 1);
    while count < segments.len().min(SEGMENTS_MAX) {
        let next = segments[count].len();
        let was_last = segments[count - 1].len() < length;
        // A datagram without bytes cannot be part of one.
        if was_last || next > length || next == 0 || bytes + next > BATCH_BYTES_MAX {
            break;
        }
        bytes += next;
        count += 1;
    }
    count
}

/// Whether an error may mean that UDP_SEGMENT is not possible: EIO, no checksum offload, or IPsec;
/// EINVAL, one of several other reasons, and before 6.14 a segment that is too large for the wire;
/// the others, security modules and such. Only if it works without was it that.
fn may_refuse_segments(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::INVAL | Errno::NOPROTOOPT | Errno::OPNOTSUPP)
}

/// Opens a socket for each thread at one address that is nobody else's, in the order of the threads.
/// The kernel gives each datagram to the thread whose number is the index in it, a number of 32 bits,
/// little endian, at byte 4, modulo the number of threads ([`thread_of`]), wherever it is from.
///
/// They are to be closed all together: without one of them another gets what was that one's. A thread
/// still has to check whose index it is. What came while the sockets were opened one by one may be in
/// any of them; the kernel coalesces what came from one port without a look at its index; and what is
/// too short for an index is the first thread's.
///
/// No instance of this program gets a port that another has, and there is no moment in which two of
/// them could: the first socket is bound while it shares with nobody, and agrees to share afterwards.
/// A program of the same user that opens a socket with SO_REUSEPORT, without having asked whether
/// somebody is there, is let in by the kernel all the same; it gets nothing, unless it also replaces
/// the steering.
///
/// # Errors
/// EINVAL: no threads, or more than [`THREADS_MAX`]; EADDRINUSE: somebody has the port; those of
/// [`UdpSocket::listening`]. For more than one thread also, before anything is bound, ENOPROTOOPT or
/// EPERM: no steering here (a kernel before 4.5, or a sandbox). Then one thread is still possible,
/// and nothing less would be right: without it links would break whenever an address changes.
pub fn listening_group(
    at: SocketAddr,
    threads: usize,
    options: &Options,
) -> Result<ArrayVec<UdpSocket, THREADS_MAX>, Errno> {
    let mut group = ArrayVec::new();
    if threads == 0 || threads > THREADS_MAX {
        return Err(Errno::INVAL);
    }
    if threads == 1 {
        group.push(UdpSocket::listening(at, options)?);
        return Ok(group);
    }
    let share = (SOL_SOCKET, libc::SO_REUSEPORT);
    let first = UdpSocket::unbound(at, options)?;
    // The steering makes a group of the socket, for which it has to share; the others will join it
    // (reuseport_attach_prog and reuseport_add_sock in net/core/sock_reuseport.c).
    first.set(share, 1)?;
    sys::set_steering(first.fd.as_fd(), &steering::program(threads as u32))?;
    first.set(share, 0)?;
    rustix::net::bind(&first.fd, &at)?;
    first.set(share, 1)?;
    // With the port that the kernel chose, if it was to choose.
    let mut all_at = at;
    all_at.set_port(first.local()?.port());
    group.push(first);
    while group.len() < threads {
        let next = UdpSocket::unbound(all_at, options)?;
        next.set(share, 1)?;
        rustix::net::bind(&next.fd, &all_at)?;
        group.push(next);
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_one_length_and_a_shorter_one() {
        let batch = |lengths: &[usize]| {
            let bytes = [0; BATCH_BYTES_MAX];
            let segments: std::vec::Vec<_> =
                lengths.iter().map(|&length| &bytes[..length]).collect();
            batch_of(&segments)
        };
        assert_eq!(batch(&[]), 0);
        assert_eq!(batch(&[0, 0]), 1);
        assert_eq!(batch(&[5, 0]), 1);
        assert_eq!(batch(&[5, 5, 6]), 2);
        assert_eq!(batch(&[5, 5, 3, 3]), 3);
        assert_eq!(batch(&[5, 5, 3, 5]), 3);
        assert_eq!(batch(&[1; 65]), SEGMENTS_MAX);
        assert_eq!(batch(&[1452; 64]), 45);
        assert_eq!(batch(&[BATCH_BYTES_MAX, 1]), 1);
    }
}
