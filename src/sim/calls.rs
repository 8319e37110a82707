//! What each system call does: [`Sys`] answered from memory.

use super::SimKernel;
use super::fault::Call;
use super::kernel::{Kernel, Object, Step};
use super::pipe::{PAGE, Pipe};
use super::poll::{self, Epoll};
use super::socket::{Owner, Stage};
use crate::address::Address;
use crate::sys::{EVENTS_MAX, Errno, Interest, Peer, RawFd, Sys, SysEvent, SysResult};
use crate::time::Instant;
use core::net::{Ipv4Addr, SocketAddr};

/// How many slots a pipe has.
const SLOTS: usize = 16;

/// What a call gives, as one number for the trace.
trait Shown {
    fn shown(&self) -> i64;
}

impl Shown for () {
    fn shown(&self) -> i64 {
        0
    }
}

impl Shown for usize {
    fn shown(&self) -> i64 {
        *self as i64
    }
}

impl Shown for RawFd {
    fn shown(&self) -> i64 {
        i64::from(*self)
    }
}

impl Shown for Address {
    fn shown(&self) -> i64 {
        i64::from(self.port())
    }
}

impl<A> Shown for (RawFd, A) {
    fn shown(&self) -> i64 {
        i64::from(self.0)
    }
}

impl<A, B> Shown for (RawFd, A, B) {
    fn shown(&self) -> i64 {
        i64::from(self.0)
    }
}

impl SimKernel<'_> {
    /// One call: the beginning, what it does unless a fault hits it, the trace.
    fn call<T: Shown>(
        &self,
        call: Call,
        fd: RawFd,
        argument: i64,
        act: impl FnOnce(&mut Kernel) -> SysResult<T>,
    ) -> SysResult<T> {
        self.call_on(call, [fd, -1], argument, act)
    }

    /// The same on two descriptors.
    fn call_on<T: Shown>(
        &self,
        call: Call,
        fds: [RawFd; 2],
        argument: i64,
        act: impl FnOnce(&mut Kernel) -> SysResult<T>,
    ) -> SysResult<T> {
        let kernel = &mut *self.kernel.borrow_mut();
        let result = kernel.enter(call, fds).and_then(|()| act(kernel));
        kernel.settle();
        kernel.record(call, fds[0], argument, result.as_ref().map(Shown::shown).map_err(|e| *e));
        result
    }

    /// A call that cannot fail.
    fn always(&self, call: Call, fd: RawFd, act: impl FnOnce(&mut Kernel)) {
        let done = self.call(call, fd, 0, |kernel| {
            act(kernel);
            Ok(())
        });
        debug_assert!(done.is_ok(), "no fault is drawn for these");
    }
}

fn inet(peer: &Peer<'_>) -> SocketAddr {
    match peer {
        Peer::Inet(address) => *address,
        Peer::Unix(_) => panic!("unix sockets are not simulated"),
    }
}

impl Sys for &SimKernel<'_> {
    fn now(self) -> Instant {
        Instant::from_millis(self.kernel.borrow().network.now_micros / 1000)
    }

    fn close(self, fd: RawFd) {
        self.always(Call::Close, fd, |kernel| kernel.close(fd));
    }

    fn epoll_create(self) -> SysResult<RawFd> {
        self.call(Call::EpollCreate, -1, 0, |kernel| {
            kernel.check_room(1)?;
            kernel.epolls.push(Epoll::new());
            Ok(kernel.open(Object::Epoll(kernel.epolls.len() - 1)))
        })
    }

    fn epoll_add(self, epoll: RawFd, fd: RawFd, interest: Interest, token: u64) -> SysResult<()> {
        self.call(Call::EpollAdd, fd, token as i64, |kernel| {
            let epoll = kernel.epoll_of(epoll);
            kernel.object(fd);
            kernel.epolls[epoll].add(fd, interest, token)?;
            if let Some(descriptor) = &mut kernel.descriptors[fd as usize] {
                descriptor.watchers.push(epoll);
            }
            Ok(())
        })
    }

    fn epoll_modify(
        self,
        epoll: RawFd,
        fd: RawFd,
        interest: Interest,
        token: u64,
    ) -> SysResult<()> {
        self.call(Call::EpollModify, fd, token as i64, |kernel| {
            let epoll = kernel.epoll_of(epoll);
            kernel.object(fd);
            kernel.epolls[epoll].modify(fd, interest, token)
        })
    }

    fn epoll_delete(self, epoll: RawFd, fd: RawFd) -> SysResult<()> {
        self.call(Call::EpollDelete, fd, 0, |kernel| {
            let epoll = kernel.epoll_of(epoll);
            kernel.object(fd);
            kernel.epolls[epoll].delete(fd)?;
            if let Some(descriptor) = &mut kernel.descriptors[fd as usize] {
                descriptor.watchers.retain(|&watcher| watcher != epoll);
            }
            Ok(())
        })
    }

    fn epoll_wait(
        self,
        epoll: RawFd,
        events: &mut [SysEvent; EVENTS_MAX],
        timeout_millis: Option<u32>,
    ) -> SysResult<usize> {
        let argument = timeout_millis.map_or(-1, i64::from);
        let deadline = {
            let kernel = &mut *self.kernel.borrow_mut();
            if let Err(errno) = kernel.enter(Call::EpollWait, [epoll, -1]) {
                kernel.record(Call::EpollWait, epoll, argument, Err(errno));
                return Err(errno);
            }
            kernel.imagine_event(epoll);
            timeout_millis.map(|millis| kernel.network.now_micros + u64::from(millis) * 1000)
        };
        loop {
            let due = self.world_due();
            let step = self.kernel.borrow_mut().wait(epoll, events, deadline, due);
            match step {
                Step::World => self.turn_world(),
                Step::Interrupted => {
                    self.kernel.borrow_mut().record(
                        Call::EpollWait,
                        epoll,
                        argument,
                        Err(Errno::INTR),
                    );
                    return Err(Errno::INTR);
                }
                Step::Return(filled) => {
                    let kernel = &mut *self.kernel.borrow_mut();
                    kernel.record(Call::EpollWait, epoll, argument, Ok(filled as i64));
                    return Ok(filled);
                }
            }
        }
    }

    fn eventfd(self) -> SysResult<RawFd> {
        self.call(Call::Eventfd, -1, 0, |kernel| {
            kernel.check_room(1)?;
            kernel.eventfds.push(0);
            Ok(kernel.open(Object::Eventfd(kernel.eventfds.len() - 1)))
        })
    }

    fn ring(self, eventfd: RawFd) {
        self.always(Call::Ring, eventfd, |kernel| {
            let Object::Eventfd(count) = kernel.object(eventfd) else {
                kernel.violation("not an eventfd", eventfd)
            };
            kernel.eventfds[count] += 1;
            kernel.wake(eventfd, poll::IN);
        });
    }

    fn hush(self, eventfd: RawFd) {
        self.always(Call::Hush, eventfd, |kernel| {
            let Object::Eventfd(count) = kernel.object(eventfd) else {
                kernel.violation("not an eventfd", eventfd)
            };
            kernel.eventfds[count] = 0;
        });
    }

    fn accept(self, listener: RawFd) -> SysResult<(RawFd, Address)> {
        let accepted = self.call(Call::Accept, listener, 0, |kernel| {
            let index = kernel.listener_of(listener);
            // The number is taken before the queue is looked at.
            kernel.check_room(1)?;
            let socket = kernel.network.accept(index, Owner::Queue)?;
            let fd = kernel.open_socket(socket);
            Ok((fd, kernel.network.sockets[socket].remote.map_or(Address::UNKNOWN, Into::into)))
        });
        if let Err(Errno::CONNABORTED | Errno::PROTO) = accepted {
            // These take the client with them.
            self.kernel.borrow_mut().abort_waiting(listener);
        }
        accepted
    }

    fn stop_listening(self, listener: RawFd) {
        self.always(Call::StopListening, listener, |kernel| {
            kernel.network.stop_listening(kernel.listener_of(listener));
            kernel.wake(listener, 0);
        });
    }

    fn socket(self, _: &Peer<'_>) -> SysResult<RawFd> {
        self.call(Call::Socket, -1, 0, |kernel| {
            kernel.check_room(1)?;
            let socket = kernel.network.socket(Owner::Nobody);
            Ok(kernel.open_socket(socket))
        })
    }

    fn connect(self, fd: RawFd, peer: &Peer<'_>) -> SysResult<()> {
        let to = inet(peer);
        self.call(Call::Connect, fd, i64::from(to.port()), |kernel| {
            kernel.network.connect(kernel.socket_of(fd), to)
        })
    }

    fn take_error(self, fd: RawFd) -> SysResult<()> {
        self.call(Call::TakeError, fd, 0, |kernel| {
            let socket = kernel.socket_of(fd);
            kernel.network.sockets[socket].error.take().map_or(Ok(()), Err)
        })
    }

    fn local_address(self, fd: RawFd) -> SysResult<Address> {
        self.call(Call::LocalAddress, fd, 0, |kernel| {
            let unbound: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
            let local = match kernel.object(fd) {
                Object::Listener(listener) => kernel.network.listeners[listener].at,
                _ => kernel.network.sockets[kernel.socket_of(fd)].local.unwrap_or(unbound),
            };
            Ok(local.into())
        })
    }

    fn peer_address(self, fd: RawFd) -> SysResult<Address> {
        self.call(Call::PeerAddress, fd, 0, |kernel| {
            let socket = &kernel.network.sockets[kernel.socket_of(fd)];
            let connected = socket.stage == Stage::Connected && !socket.has_ended();
            let remote = socket.remote.filter(|_| connected);
            remote.map(Address::from).ok_or(Errno::NOTCONN)
        })
    }

    fn set_nodelay(self, fd: RawFd) -> SysResult<()> {
        self.call(Call::SetNodelay, fd, 0, |kernel| {
            kernel.object(fd);
            Ok(())
        })
    }

    fn set_keepalive(self, fd: RawFd, idle: u32, _: u32, _: u32) -> SysResult<()> {
        self.call(Call::SetKeepalive, fd, i64::from(idle), |kernel| {
            kernel.object(fd);
            Ok(())
        })
    }

    fn set_buffers(self, fd: RawFd, bytes: usize) -> SysResult<()> {
        self.call(Call::SetBuffers, fd, bytes as i64, |kernel| {
            if let Object::Socket(socket) = kernel.object(fd) {
                let socket = &mut kernel.network.sockets[socket];
                // The kernel sets twice as much, for its own bookkeeping.
                socket.outgoing_max = (bytes * 2).max(socket.outgoing.len());
                socket.incoming_max = bytes * 2;
            }
            Ok(())
        })
    }

    fn set_nonblocking(self, fd: RawFd) -> SysResult<()> {
        self.call(Call::SetNonblocking, fd, 0, |kernel| {
            kernel.object(fd);
            Ok(())
        })
    }

    fn recv(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        self.call(Call::Recv, fd, buffer.len() as i64, |kernel| {
            kernel.recv(kernel.socket_of(fd), buffer.len(), |first, second| {
                buffer[..first.len()].copy_from_slice(first);
                buffer[first.len()..][..second.len()].copy_from_slice(second);
            })
        })
    }

    fn peek(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        self.call(Call::Peek, fd, buffer.len() as i64, |kernel| {
            let socket = kernel.socket_of(fd);
            let this = &mut kernel.network.sockets[socket];
            match this.peek(buffer) {
                0 => this.read_nothing(),
                bytes => Ok(bytes),
            }
        })
    }

    fn send(self, fd: RawFd, bytes: &[u8]) -> SysResult<usize> {
        self.call(Call::Send, fd, bytes.len() as i64, |kernel| {
            let socket = kernel.socket_of(fd);
            kernel.sent_last = Some(socket);
            let bytes_max = kernel.sendable(socket, bytes.len())?;
            kernel.send(socket, &bytes[..bytes_max])
        })
    }

    fn shutdown_write(self, fd: RawFd) -> SysResult<()> {
        self.call(Call::ShutdownWrite, fd, 0, |kernel| {
            kernel.network.shutdown_write(kernel.socket_of(fd))
        })
    }

    fn reset_on_close(self, fd: RawFd) {
        self.always(Call::ResetOnClose, fd, |kernel| {
            let socket = kernel.socket_of(fd);
            kernel.network.sockets[socket].reset_on_close = true;
        });
    }

    fn unacknowledged(self, fd: RawFd) -> SysResult<usize> {
        self.call(Call::Unacknowledged, fd, 0, |kernel| {
            let socket = kernel.socket_of(fd);
            Ok(kernel.network.sockets[socket].unacknowledged())
        })
    }

    fn pipe(self, wanted: usize) -> SysResult<(RawFd, RawFd, usize)> {
        self.call(Call::Pipe, -1, 0, |kernel| {
            kernel.check_room(2)?;
            let small = kernel.network.random.chance(kernel.faults.small_pipe_chance);
            // A user near pipe-user-pages-soft gets no large pipe, past it only two pages (pipe(7)).
            let enlarged = kernel.network.random.chance(1 << 15);
            let slots = if enlarged { wanted.div_ceil(PAGE) } else { SLOTS };
            kernel.pipes.push(Pipe::new(if small { 2 } else { slots }));
            let pipe = kernel.pipes.len() - 1;
            let read = kernel.open(Object::PipeRead(pipe));
            let write = kernel.open(Object::PipeWrite(pipe));
            Ok((read, write, kernel.pipes[pipe].capacity()))
        })
    }

    fn write_pipe(self, pipe: RawFd, bytes: &[u8]) -> SysResult<usize> {
        self.call(Call::WritePipe, pipe, bytes.len() as i64, |kernel| {
            let Object::PipeWrite(index) = kernel.object(pipe) else {
                kernel.violation("not a pipe's write end", pipe)
            };
            let mut bytes = bytes;
            if bytes.len() > PAGE && kernel.network.random.chance(kernel.faults.torn_chance) {
                let pages = bytes.len().div_ceil(PAGE) - 1;
                bytes = &bytes[..PAGE * (1 + kernel.network.random.below(pages))];
                kernel.faults.fatal += 1;
                // What is written into a pipe is what that socket did not take.
                if let Some(socket) = kernel.sent_last {
                    kernel.network.sockets[socket].spoiled = true;
                }
            }
            kernel.pipes[index].write(bytes)
        })
    }

    fn splice(self, from: RawFd, to: RawFd, bytes: usize) -> SysResult<usize> {
        self.call_on(Call::Splice, [from, to], bytes as i64, |kernel| {
            match (kernel.object(from), kernel.object(to)) {
                (Object::Socket(socket), Object::PipeWrite(pipe)) => {
                    kernel.splice_in(socket, pipe, bytes)
                }
                (Object::PipeRead(pipe), Object::Socket(socket)) => {
                    kernel.splice_out(pipe, socket, bytes)
                }
                _ => kernel.violation("a splice without a pipe and a socket", from),
            }
        })
    }
}
