//! The seam to the kernel: every system call the engine makes, one method each. [`Linux`] makes
//! them; the simulated kernel of the `sim` feature answers them from memory, with seeded faults,
//! so that tests drive the very code that runs in earnest.
//!
//! Descriptors are plain numbers here because a table of zeroes must mean "vacant"; whoever holds
//! one in a table owns it. Every call is non-blocking but [`Sys::epoll_wait`].

use crate::address::Address;
use crate::time::Instant;
use core::ffi::c_int;
use core::net::SocketAddr;
use core::time::Duration;
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::fd::{AsRawFd, BorrowedFd, IntoRawFd};
pub use rustix::fd::{OwnedFd, RawFd};
pub use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};
use rustix::pipe::{PipeFlags, SpliceFlags};

/// What a system call gives.
pub type SysResult<T> = Result<T, Errno>;

/// Where a socket connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'p> {
    /// An internet address and port.
    Inet(SocketAddr),
    /// A unix socket's path; a leading `@` means the abstract namespace.
    Unix(&'p [u8]),
}

impl Peer<'_> {
    /// As a side keeps it.
    pub fn address(&self) -> Address {
        match self {
            Peer::Inet(address) => (*address).into(),
            Peer::Unix(_) => Address::UNIX,
        }
    }
}

/// What a descriptor is registered for with epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Both directions and the hang-up, edge-triggered: a connection's descriptor.
    Connection,
    /// Only room to write, edge-triggered: a connection whose bytes nobody can take now. The
    /// kernel still reports errors and full hang-ups.
    Muted,
    /// Readable, edge-triggered: a socket of datagrams, which says that it is writable whenever one
    /// has left the machine. Who found it full asks again by itself.
    Datagrams,
    /// Readable, level-triggered, only one waiting thread is woken: a shared listener.
    Listener,
    /// Readable, level-triggered: a doorbell.
    Doorbell,
}

/// What epoll says of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ready {
    /// Bytes, a waiting client, or an end can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The peer will send nothing more (EPOLLRDHUP).
    pub read_closed: bool,
    /// Both directions are over (EPOLLHUP): after a reset, or once each end has sent its FIN.
    pub hung_up: bool,
    /// The socket holds an error (EPOLLERR).
    pub error: bool,
    /// Urgent data waits (EPOLLPRI), at which reads stop short.
    pub urgent: bool,
}

/// What was registered with a descriptor, and what is ready: one entry of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SysEvent {
    /// The word given at registration.
    pub token: u64,
    /// What is ready.
    pub ready: Ready,
}

/// How many events one wait takes at most.
pub const EVENTS_MAX: usize = 128;

/// The system calls of the engine. `Copy`, because every part of a worker holds one.
///
/// A descriptor passed in must be open and the caller's.
pub trait Sys: Copy {
    /// CLOCK_MONOTONIC (clock_gettime(2), no kernel entry on common machines).
    fn now(self) -> Instant;
    /// close(2).
    fn close(self, fd: RawFd);
    /// epoll_create1(2).
    fn epoll_create(self) -> SysResult<RawFd>;
    /// EPOLL_CTL_ADD (epoll_ctl(2)); reports what is ready already at the next wait.
    fn epoll_add(self, epoll: RawFd, fd: RawFd, interest: Interest, token: u64) -> SysResult<()>;
    /// EPOLL_CTL_MOD; reports again what is ready, and is EINVAL on a [`Interest::Listener`].
    fn epoll_modify(self, epoll: RawFd, fd: RawFd, interest: Interest, token: u64)
    -> SysResult<()>;
    /// EPOLL_CTL_DEL.
    fn epoll_delete(self, epoll: RawFd, fd: RawFd) -> SysResult<()>;
    /// epoll_wait(2): blocks for `timeout_millis`, for ever if `None`; gives how many of `events`
    /// are filled.
    fn epoll_wait(
        self,
        epoll: RawFd,
        events: &mut [SysEvent; EVENTS_MAX],
        timeout_millis: Option<u32>,
    ) -> SysResult<usize>;
    /// eventfd(2) with count 0.
    fn eventfd(self) -> SysResult<RawFd>;
    /// Writes 1 to an eventfd: a doorbell rings.
    fn ring(self, eventfd: RawFd);
    /// Reads an eventfd back to 0.
    fn hush(self, eventfd: RawFd);
    /// accept4(2).
    fn accept(self, listener: RawFd) -> SysResult<(RawFd, Address)>;
    /// shutdown(2) of a listener: whoever comes from now on is refused.
    fn stop_listening(self, listener: RawFd);
    /// socket(2), SOCK_STREAM, of the family of `peer`.
    fn socket(self, peer: &Peer<'_>) -> SysResult<RawFd>;
    /// connect(2); EINPROGRESS is an error like any other here.
    fn connect(self, fd: RawFd, peer: &Peer<'_>) -> SysResult<()>;
    /// SO_ERROR (socket(7)): takes the socket's pending error.
    fn take_error(self, fd: RawFd) -> SysResult<()>;
    /// getsockname(2).
    fn local_address(self, fd: RawFd) -> SysResult<Address>;
    /// getpeername(2).
    fn peer_address(self, fd: RawFd) -> SysResult<Address>;
    /// TCP_NODELAY on (tcp(7)).
    fn set_nodelay(self, fd: RawFd) -> SysResult<()>;
    /// SO_KEEPALIVE with its times in seconds (tcp(7)).
    fn set_keepalive(self, fd: RawFd, idle: u32, interval: u32, count: u32) -> SysResult<()>;
    /// SO_SNDBUF and SO_RCVBUF (socket(7)); ends autotuning.
    fn set_buffers(self, fd: RawFd, bytes: usize) -> SysResult<()>;
    /// O_NONBLOCK on, for a descriptor somebody else opened.
    fn set_nonblocking(self, fd: RawFd) -> SysResult<()>;
    /// recv(2); 0 is the end.
    fn recv(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize>;
    /// recv(2) with MSG_PEEK: the bytes stay.
    fn peek(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize>;
    /// send(2) with MSG_NOSIGNAL.
    fn send(self, fd: RawFd, bytes: &[u8]) -> SysResult<usize>;
    /// shutdown(2), SHUT_WR: a FIN after what was sent.
    fn shutdown_write(self, fd: RawFd) -> SysResult<()>;
    /// SO_LINGER {1, 0} (socket(7)): the close that follows sends RST and drops what is unsent.
    fn reset_on_close(self, fd: RawFd);
    /// SIOCOUTQ (tcp(7)): bytes sent but not acknowledged by the peer.
    fn unacknowledged(self, fd: RawFd) -> SysResult<usize>;
    /// pipe2(2), and F_SETPIPE_SZ if the default is not `capacity` bytes: read end, write end, and
    /// the capacity it has, which may be less.
    fn pipe(self, capacity: usize) -> SysResult<(RawFd, RawFd, usize)>;
    /// write(2) to a pipe.
    fn write_pipe(self, pipe: RawFd, bytes: &[u8]) -> SysResult<usize>;
    /// splice(2) from a socket into a pipe, or from a pipe into a socket.
    fn splice(self, from: RawFd, to: RawFd, bytes: usize) -> SysResult<usize>;
}

/// The kernel this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// A number as rustix wants to see it.
#[allow(unsafe_code)]
pub(crate) fn borrow<'f>(fd: RawFd) -> BorrowedFd<'f> {
    debug_assert!(fd >= 0, "a vacant descriptor reached a system call");
    // SAFETY: the contract of `Sys`: the descriptor is open and the caller's, who closes it only by
    // `Sys::close`, never while a call runs. A stale number gives EBADF, not unsoundness: no memory
    // hangs on it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn flags_of(interest: Interest) -> epoll::EventFlags {
    use epoll::EventFlags as F;
    match interest {
        Interest::Connection => F::IN | F::OUT | F::RDHUP | F::PRI | F::ET,
        Interest::Muted => F::OUT | F::ET,
        Interest::Datagrams => F::IN | F::ET,
        Interest::Listener => F::IN | F::EXCLUSIVE,
        Interest::Doorbell => F::IN,
    }
}

fn ready_of(flags: epoll::EventFlags) -> Ready {
    use epoll::EventFlags as F;
    Ready {
        readable: flags.intersects(F::IN),
        writable: flags.intersects(F::OUT),
        read_closed: flags.intersects(F::RDHUP),
        hung_up: flags.intersects(F::HUP),
        error: flags.intersects(F::ERR),
        urgent: flags.intersects(F::PRI),
    }
}

/// The address of a unix socket; a leading `@` means the abstract namespace (unix(7)).
///
/// # Errors
/// ENAMETOOLONG.
pub fn unix_address(path: &[u8]) -> SysResult<rustix::net::SocketAddrUnix> {
    match path {
        [b'@', name @ ..] => rustix::net::SocketAddrUnix::new_abstract_name(name),
        path => rustix::net::SocketAddrUnix::new(path),
    }
}

impl Sys for Linux {
    fn now(self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Instant::from_millis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
    }

    #[allow(unsafe_code)]
    fn close(self, fd: RawFd) {
        debug_assert!(fd > 2, "a standard descriptor is not ours to close");
        // SAFETY: the caller owns the descriptor and forgets it with this call.
        unsafe { rustix::io::close(fd) }
    }

    fn epoll_create(self) -> SysResult<RawFd> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(IntoRawFd::into_raw_fd)
    }

    fn epoll_add(self, epoll: RawFd, fd: RawFd, interest: Interest, token: u64) -> SysResult<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(borrow(epoll), borrow(fd), data, flags_of(interest))
    }

    fn epoll_modify(
        self,
        epoll: RawFd,
        fd: RawFd,
        interest: Interest,
        token: u64,
    ) -> SysResult<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(borrow(epoll), borrow(fd), data, flags_of(interest))
    }

    fn epoll_delete(self, epoll: RawFd, fd: RawFd) -> SysResult<()> {
        epoll::delete(borrow(epoll), borrow(fd))
    }

    fn epoll_wait(
        self,
        epoll: RawFd,
        events: &mut [SysEvent; EVENTS_MAX],
        timeout_millis: Option<u32>,
    ) -> SysResult<usize> {
        let mut raw = [const { core::mem::MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let timeout = timeout_millis.map(|millis| Timespec {
            tv_sec: i64::from(millis / 1000),
            tv_nsec: i64::from(millis % 1000 * 1_000_000),
        });
        let (filled, _) = epoll::wait(borrow(epoll), &mut raw, timeout.as_ref())?;
        for (event, raw) in events.iter_mut().zip(filled.iter()) {
            *event = SysEvent { token: raw.data.u64(), ready: ready_of(raw.flags) };
        }
        Ok(filled.len())
    }

    fn eventfd(self) -> SysResult<RawFd> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(IntoRawFd::into_raw_fd)
    }

    fn ring(self, eventfd: RawFd) {
        // EAGAIN: the counter is full, so the bell is ringing already.
        let _ = rustix::io::write(borrow(eventfd), &1u64.to_ne_bytes());
    }

    fn hush(self, eventfd: RawFd) {
        let mut count = [0u8; 8];
        // EAGAIN: nobody rang.
        let _ = rustix::io::read(borrow(eventfd), &mut count);
    }

    fn accept(self, listener: RawFd) -> SysResult<(RawFd, Address)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, peer) = rustix::net::acceptfrom_with(borrow(listener), flags)?;
        let peer = match peer.map(SocketAddr::try_from) {
            Some(Ok(address)) => address.into(),
            _ => Address::UNIX,
        };
        Ok((fd.into_raw_fd(), peer))
    }

    fn stop_listening(self, listener: RawFd) {
        // ENOTCONN: another thread was faster.
        let _ = rustix::net::shutdown(borrow(listener), Shutdown::Read);
    }

    fn socket(self, peer: &Peer<'_>) -> SysResult<RawFd> {
        let family = match peer {
            Peer::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
            Peer::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
            Peer::Unix(_) => AddressFamily::UNIX,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map(IntoRawFd::into_raw_fd)
    }

    fn connect(self, fd: RawFd, peer: &Peer<'_>) -> SysResult<()> {
        match peer {
            Peer::Inet(address) => rustix::net::connect(borrow(fd), address),
            Peer::Unix(path) => rustix::net::connect(borrow(fd), &unix_address(path)?),
        }
    }

    fn take_error(self, fd: RawFd) -> SysResult<()> {
        sockopt::socket_error(borrow(fd))?
    }

    fn local_address(self, fd: RawFd) -> SysResult<Address> {
        let local = rustix::net::getsockname(borrow(fd))?;
        Ok(SocketAddr::try_from(local).map_or(Address::UNIX, Into::into))
    }

    fn peer_address(self, fd: RawFd) -> SysResult<Address> {
        let peer = rustix::net::getpeername(borrow(fd))?.map(SocketAddr::try_from);
        Ok(peer.and_then(Result::ok).map_or(Address::UNIX, Into::into))
    }

    fn set_nodelay(self, fd: RawFd) -> SysResult<()> {
        sockopt::set_tcp_nodelay(borrow(fd), true)
    }

    fn set_keepalive(self, fd: RawFd, idle: u32, interval: u32, count: u32) -> SysResult<()> {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        sockopt::set_tcp_keepidle(borrow(fd), seconds(idle))?;
        sockopt::set_tcp_keepintvl(borrow(fd), seconds(interval))?;
        sockopt::set_tcp_keepcnt(borrow(fd), count)?;
        sockopt::set_socket_keepalive(borrow(fd), true)
    }

    fn set_buffers(self, fd: RawFd, bytes: usize) -> SysResult<()> {
        sockopt::set_socket_send_buffer_size(borrow(fd), bytes)?;
        sockopt::set_socket_recv_buffer_size(borrow(fd), bytes)
    }

    fn set_nonblocking(self, fd: RawFd) -> SysResult<()> {
        rustix::io::ioctl_fionbio(borrow(fd), true)
    }

    fn recv(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        rustix::net::recv(borrow(fd), buffer, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes)
    }

    fn peek(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        rustix::net::recv(borrow(fd), buffer, flags).map(|(_, bytes)| bytes)
    }

    fn send(self, fd: RawFd, bytes: &[u8]) -> SysResult<usize> {
        rustix::net::send(borrow(fd), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    fn shutdown_write(self, fd: RawFd) -> SysResult<()> {
        rustix::net::shutdown(borrow(fd), Shutdown::Write)
    }

    fn reset_on_close(self, fd: RawFd) {
        // It fails on sockets that know no linger: those have no RST either.
        let _ = sockopt::set_socket_linger(borrow(fd), Some(Duration::ZERO));
    }

    #[allow(unsafe_code)]
    fn unacknowledged(self, fd: RawFd) -> SysResult<usize> {
        /// SIOCOUTQ is TIOCOUTQ (linux/sockios.h, asm-generic/ioctls.h).
        const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
        // SAFETY: SIOCOUTQ writes one int (tcp(7)).
        let bytes = unsafe {
            let getter = rustix::ioctl::Getter::<SIOCOUTQ, c_int>::new();
            rustix::ioctl::ioctl(borrow(fd), getter)?
        };
        Ok(bytes.max(0) as usize)
    }

    fn pipe(self, wanted: usize) -> SysResult<(RawFd, RawFd, usize)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut capacity = rustix::pipe::fcntl_getpipe_size(&write)?;
        if capacity < wanted {
            // EPERM: the user has as many pages in pipes as he may (pipe(7)).
            capacity = rustix::pipe::fcntl_setpipe_size(&write, wanted).unwrap_or(capacity);
        }
        debug_assert!(read.as_raw_fd() > 2);
        Ok((read.into_raw_fd(), write.into_raw_fd(), capacity))
    }

    fn write_pipe(self, pipe: RawFd, bytes: &[u8]) -> SysResult<usize> {
        rustix::io::write(borrow(pipe), bytes)
    }

    fn splice(self, from: RawFd, to: RawFd, bytes: usize) -> SysResult<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        rustix::pipe::splice(borrow(from), None, borrow(to), None, bytes, flags)
    }
}
