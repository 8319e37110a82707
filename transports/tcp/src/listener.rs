//! A listening socket as a source: tcp4, tcp6 or unix. Knows nothing of where connections go.

use core::net::SocketAddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, OwnedFd, RawFd, Ready, Sys};
use seaprox::transport::{Asked, Desk, Event, Source, Transport};

/// Clients the kernel keeps waiting for us, at most; it lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a listening socket is told before it listens; connections inherit it (tcp(7), socket(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// An IPv6 address takes no IPv4 clients (IPV6_V6ONLY).
    pub v6_only: bool,
    /// SO_SNDBUF and SO_RCVBUF in bytes; `None` leaves autotuning on.
    pub buffer_bytes: Option<usize>,
}

/// Opens a socket that listens on an internet address.
///
/// # Errors
/// EADDRINUSE, EACCES (ports below 1024), EADDRNOTAVAIL, EAFNOSUPPORT (no IPv6) ...
pub fn listen(address: SocketAddr, options: ListenOptions) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Only past TIME_WAIT: two that listen on one port still exclude each other (socket(7)).
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, options.v6_only)?;
    }
    rustix::net::bind(&fd, &address)?;
    adopt_listener(&fd, options)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Opens a socket that listens on a unix path (`@name`: abstract). The path must not exist.
///
/// # Errors
/// EADDRINUSE, EACCES, ENOENT (no such folder), ENAMETOOLONG ...
pub fn listen_unix(path: &[u8], options: ListenOptions) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&fd, &seaprox::sys::unix_address(path)?)?;
    adopt_listener(&fd, options)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Gives a socket that somebody else opened what its connections are to inherit.
///
/// # Errors
/// It is no stream socket.
pub fn adopt_listener(fd: &OwnedFd, options: ListenOptions) -> Result<(), Errno> {
    if sockopt::socket_type(fd)? != SocketType::STREAM {
        return Err(Errno::PROTOTYPE);
    }
    rustix::io::ioctl_fionbio(fd, true)?;
    // Inherited it would make a close wait, or send RST where a FIN is due (socket(7)).
    sockopt::set_socket_linger(fd, None)?;
    if let Some(bytes) = options.buffer_bytes {
        sockopt::set_socket_send_buffer_size(fd, bytes)?;
        sockopt::set_socket_recv_buffer_size(fd, bytes)?;
    }
    if sockopt::socket_domain(fd)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(fd, true)?;
        crate::KEEPALIVE.set_on(fd)?;
    }
    Ok(())
}

/// What becomes of a listening socket when its source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Whoever comes from then on is refused.
    Refuse,
    /// It stays as it is: somebody else opened it, and goes on with it (socket activation). A
    /// shutdown would end it for everybody.
    Leave,
}

/// One listening socket, in one thread's epoll.
///
/// The same descriptor may be in the epoll of every thread: it is registered exclusively, so one
/// client wakes one thread, and each wake takes one client.
///
/// ```
/// use seaprox::sys::Linux;
/// use seaprox_tcp::{AtEnd, ListenOptions, Listener, listen};
/// use std::os::fd::AsRawFd;
///
/// let options = ListenOptions { v6_only: true, ..ListenOptions::default() };
/// let socket = listen("127.0.0.1:0".parse()?, options)?;
/// // It borrows the descriptor: the socket must outlive the worker that has this source.
/// let _source = Listener::new(Linux, socket.as_raw_fd(), AtEnd::Refuse);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener<K> {
    sys: K,
    fd: RawFd,
    own: u32,
    at_end: AtEnd,
    listening: bool,
    ready: bool,
}

impl<K: Sys> Listener<K> {
    /// `fd` must be listening, non-blocking, and stay open as long as this lives.
    pub fn new(sys: K, fd: RawFd, at_end: AtEnd) -> Self {
        Listener { sys, fd, own: 0, at_end, listening: false, ready: false }
    }

    /// The same, with a number among several.
    pub(crate) fn numbered(self, own: u32) -> Self {
        Listener { own, ..self }
    }
}

impl<K: Sys> Transport<K> for Listener<K> {
    /// TCP_NODELAY on the listener is inherited.
    const PROMPT: bool = true;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {
        self.ready = true;
    }

    fn poll(&mut self, _: &mut Desk<'_, K>) -> Option<Event> {
        if !core::mem::take(&mut self.ready) {
            return None;
        }
        match self.sys.accept(self.fd) {
            Ok((fd, peer)) => Some(Event::Opened { handle: Handle::descriptor(fd), peer }),
            // Another thread was faster, or the client is gone (accept(2): treat as EAGAIN).
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::PROTO | Errno::INTR) => None,
            // It does not listen any more: another thread, or another process, has shut it down.
            Err(Errno::INVAL) => Some(Event::Ended),
            // Whoever waits may still wait, so it would be reported again at once.
            Err(errno) => Some(Event::Exhausted(errno)),
        }
    }
}

impl<K: Sys> Source<K> for Listener<K> {
    type Target = ();

    fn target(&mut self, _: Handle, _: SideKey, _: &mut Desk<'_, K>) -> Asked<()> {
        Asked::For(())
    }

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        if wanted == self.listening {
            return Ok(());
        }
        match wanted {
            true => desk.poller.add_listener(self.fd, self.own)?,
            false => desk.poller.remove_listener(self.fd)?,
        }
        self.listening = wanted;
        Ok(())
    }

    fn look(&mut self) {
        self.ready = true;
    }

    fn end(&mut self, desk: &mut Desk<'_, K>) {
        let _ = self.admit(false, desk);
        if self.at_end == AtEnd::Refuse {
            desk.sys.stop_listening(self.fd);
        }
    }
}
