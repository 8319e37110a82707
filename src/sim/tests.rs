//! What Linux does and the engine may rely on, one test each. Every scenario runs twice, in the
//! simulated kernel and on the one this machine has, so that the model cannot drift from it.

use super::{Call, FarEnd, Place, SimKernel};
use crate::sys::SysResult;
use crate::sys::{EVENTS_MAX, Errno, Interest, Linux, OwnedFd, Peer, RawFd, Ready, Sys, SysEvent};
use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use rustix::fd::{AsRawFd, IntoRawFd};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, connect, getsockname, listen, send, socket_with};
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

/// Where a scenario is played: its kernel, and the far ends that the engine does not hold.
trait Ground {
    fn sys(&self) -> impl Sys;
    /// Lets arrive what is under way.
    fn settle(&self);
    fn listen(&self, backlog: usize) -> (RawFd, SocketAddr);
    fn client(&self, to: SocketAddr) -> usize;
    fn send(&self, far: usize, bytes: &[u8]) -> SysResult<usize>;
    fn send_urgent(&self, far: usize, byte: u8);
    fn recv(&self, far: usize, bytes_max: usize) -> SysResult<usize>;
    fn shutdown(&self, far: usize);
    fn close(&self, far: usize);
    fn reset(&self, far: usize);

    /// A client, and the engine's end of its connection.
    fn pair(&self) -> (usize, RawFd) {
        let (listener, at) = self.listen(8);
        let far = self.client(at);
        self.settle();
        let (fd, _) = self.sys().accept(listener).unwrap();
        self.sys().close(listener);
        (far, fd)
    }

    fn watch(&self, fd: RawFd, interest: Interest) -> RawFd {
        let epoll = self.sys().epoll_create().unwrap();
        self.sys().epoll_add(epoll, fd, interest, 7).unwrap();
        epoll
    }

    /// What a wait reports of the one descriptor, once everything has arrived; "" for nothing.
    fn report(&self, epoll: RawFd) -> String {
        self.settle();
        let mut events = [SysEvent::default(); EVENTS_MAX];
        let filled = self.sys().epoll_wait(epoll, &mut events, Some(0)).unwrap();
        assert!(filled <= 1, "an entry is queued once");
        if filled == 0 { String::new() } else { shown(events[0].ready) }
    }

    /// What is ready of it right now.
    fn mask(&self, fd: RawFd) -> String {
        let epoll = self.watch(fd, Interest::Connection);
        let mask = self.report(epoll);
        self.sys().close(epoll);
        mask
    }

    fn read(&self, fd: RawFd, bytes_max: usize) -> SysResult<usize> {
        self.sys().recv(fd, &mut vec![0; bytes_max])
    }

    /// Sends until there is no room.
    fn fill(&self, fd: RawFd) -> usize {
        let mut sent = 0;
        loop {
            self.settle();
            match self.sys().send(fd, &[b'x'; 1 << 16]) {
                Ok(bytes) => sent += bytes,
                Err(Errno::AGAIN) => return sent,
                Err(errno) => panic!("{errno:?}"),
            }
        }
    }
}

fn shown(ready: Ready) -> String {
    let names = [
        (ready.readable, "in"),
        (ready.urgent, "pri"),
        (ready.writable, "out"),
        (ready.error, "err"),
        (ready.hung_up, "hup"),
        (ready.read_closed, "rdhup"),
    ];
    let names: Vec<_> = names.iter().filter(|name| name.0).map(|name| name.1).collect();
    names.join(" ")
}

struct Simulated(SimKernel<'static>);

impl Ground for Simulated {
    fn sys(&self) -> impl Sys {
        &self.0
    }
    fn settle(&self) {
        self.0.advance(1);
    }
    fn listen(&self, backlog: usize) -> (RawFd, SocketAddr) {
        let at = ([127, 0, 0, 1], 1000 + self.0.draw(10_000) as u16).into();
        (self.0.listen(at, backlog), at)
    }
    fn client(&self, to: SocketAddr) -> usize {
        self.0.client_connect(to).0
    }
    fn send(&self, far: usize, bytes: &[u8]) -> SysResult<usize> {
        FarEnd(far).send(&self.0, bytes)
    }
    fn send_urgent(&self, far: usize, byte: u8) {
        FarEnd(far).send_urgent(&self.0, byte).unwrap();
    }
    fn recv(&self, far: usize, bytes_max: usize) -> SysResult<usize> {
        FarEnd(far).recv(&self.0, &mut Vec::new(), bytes_max)
    }
    fn shutdown(&self, far: usize) {
        FarEnd(far).shutdown(&self.0).unwrap();
    }
    fn close(&self, far: usize) {
        FarEnd(far).close(&self.0);
    }
    fn reset(&self, far: usize) {
        FarEnd(far).reset(&self.0);
    }
}

#[derive(Default)]
struct Real(RefCell<Vec<Option<OwnedFd>>>);

impl Real {
    fn fd(&self, far: usize) -> RawFd {
        self.0.borrow()[far].as_ref().unwrap().as_raw_fd()
    }
}

fn tcp(flags: SocketFlags) -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
}

impl Ground for Real {
    fn sys(&self) -> impl Sys {
        Linux
    }
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(2));
    }
    fn listen(&self, backlog: usize) -> (RawFd, SocketAddr) {
        let listener = tcp(SocketFlags::NONBLOCK);
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&listener, backlog as i32).unwrap();
        let at = getsockname(&listener).unwrap().try_into().unwrap();
        (listener.into_raw_fd(), at)
    }
    fn client(&self, to: SocketAddr) -> usize {
        let socket = tcp(SocketFlags::empty());
        connect(&socket, &to).unwrap();
        self.0.borrow_mut().push(Some(socket));
        self.0.borrow().len() - 1
    }
    fn send(&self, far: usize, bytes: &[u8]) -> SysResult<usize> {
        Linux.send(self.fd(far), bytes)
    }
    fn send_urgent(&self, far: usize, byte: u8) {
        let fars = self.0.borrow();
        send(fars[far].as_ref().unwrap(), &[byte], SendFlags::OOB).unwrap();
    }
    fn recv(&self, far: usize, bytes_max: usize) -> SysResult<usize> {
        Linux.recv(self.fd(far), &mut vec![0; bytes_max])
    }
    fn shutdown(&self, far: usize) {
        Linux.shutdown_write(self.fd(far)).unwrap();
    }
    fn close(&self, far: usize) {
        self.0.borrow_mut()[far] = None;
    }
    fn reset(&self, far: usize) {
        Linux.reset_on_close(self.fd(far));
        self.close(far);
    }
}

/// Plays the scenario on both grounds.
macro_rules! scenario {
    ($(#[$doc:meta])* fn $name:ident($ground:ident) $body:block) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            fn play($ground: &impl Ground) $body
            play(&Simulated(SimKernel::calm(1)));
            play(&Real::default());
        }
    };
}

scenario! {
    /// The unread bytes outlive an RST, then the error is said once, then it reads as ended; a send
    /// after that is a broken pipe.
    fn a_reset_is_read_after_the_bytes_and_once(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        assert_eq!(g.report(epoll), "out");
        g.send(far, b"hello").unwrap();
        g.settle();
        g.reset(far);
        assert_eq!(g.report(epoll), "in out err hup rdhup");
        assert_eq!((g.read(fd, 3), g.read(fd, 3)), (Ok(3), Ok(2)));
        assert_eq!(g.report(epoll), "", "reading is no news");
        assert_eq!(g.read(fd, 3), Err(Errno::CONNRESET));
        assert_eq!((g.read(fd, 3), g.sys().send(fd, b"x")), (Ok(0), Err(Errno::PIPE)));
        assert_eq!(g.mask(fd), "in out hup rdhup");
        assert_eq!(g.sys().shutdown_write(fd), Err(Errno::NOTCONN));
        assert_eq!(g.sys().peer_address(fd), Err(Errno::NOTCONN), "nothing is known of it");
    }
}

scenario! {
    /// A send says the reset too, and whoever looks second sees nothing of it.
    fn a_send_consumes_the_reset(g) {
        let (far, fd) = g.pair();
        g.send(far, b"hello").unwrap();
        g.settle();
        g.reset(far);
        g.settle();
        assert_eq!(g.sys().send(fd, b"x"), Err(Errno::CONNRESET));
        assert_eq!(g.sys().send(fd, b"x"), Err(Errno::PIPE));
        assert_eq!((g.read(fd, 9), g.read(fd, 9)), (Ok(5), Ok(0)));
        let (far, fd) = g.pair();
        g.reset(far);
        g.settle();
        assert_eq!((g.sys().take_error(fd), g.read(fd, 9)), (Err(Errno::CONNRESET), Ok(0)));
        assert_eq!(g.sys().take_error(fd), Ok(()));
    }
}

scenario! {
    /// After a FIN a reset cannot be read: recv says 0 for ever, only ERR, SO_ERROR and a send tell,
    /// and they call it a broken pipe.
    fn a_reset_after_a_fin_is_a_broken_pipe(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        g.report(epoll);
        g.send(far, b"ab").unwrap();
        g.shutdown(far);
        assert_eq!(g.report(epoll), "in out rdhup");
        g.reset(far);
        assert_eq!(g.report(epoll), "in out err hup rdhup");
        assert_eq!((g.read(fd, 9), g.read(fd, 9), g.read(fd, 9)), (Ok(2), Ok(0), Ok(0)));
        assert_eq!(g.mask(fd), "in out err hup rdhup", "the error stays");
        assert_eq!(g.sys().take_error(fd), Err(Errno::PIPE));
        assert_eq!(g.mask(fd), "in out hup rdhup");
    }
}

scenario! {
    /// A FIN comes behind the bytes, stays, and does not end the other direction; once both went it
    /// is a hang-up.
    fn a_fin_ends_one_direction(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        g.report(epoll);
        g.send(far, b"abc").unwrap();
        g.shutdown(far);
        assert_eq!(g.report(epoll), "in out rdhup");
        assert_eq!((g.read(fd, 9), g.read(fd, 9), g.read(fd, 9)), (Ok(3), Ok(0), Ok(0)));
        assert_eq!(g.sys().send(fd, b"reply"), Ok(5));
        g.settle();
        assert_eq!(g.recv(far, 9), Ok(5));
        g.sys().shutdown_write(fd).unwrap();
        assert_eq!(g.report(epoll), "in out hup rdhup");
        assert_eq!(g.sys().send(fd, b"x"), Err(Errno::PIPE));
        assert_eq!(g.recv(far, 9), Ok(0));
    }
}

scenario! {
    /// One's own FIN is reported as well: when it is sent and when it is acknowledged.
    fn an_own_fin_is_an_event(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        assert_eq!(g.report(epoll), "out");
        g.sys().shutdown_write(fd).unwrap();
        assert_eq!(g.report(epoll), "out");
        g.shutdown(far);
        assert_eq!(g.report(epoll), "in out hup rdhup");
    }
}

scenario! {
    /// An orderly close delivers what is unsent and then the FIN.
    fn a_close_delivers_what_is_unsent(g) {
        let (far, fd) = g.pair();
        let sent = g.fill(fd);
        g.sys().close(fd);
        let mut read = 0;
        loop {
            g.settle();
            match g.recv(far, 1 << 20) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(Errno::AGAIN) => {}
                Err(errno) => panic!("{errno:?} after {read} of {sent}"),
            }
        }
        assert_eq!(read, sent);
    }
}

scenario! {
    /// A close with unread bytes sends an RST, orderly or not.
    fn a_close_with_unread_bytes_resets(g) {
        let (far, fd) = g.pair();
        g.sys().send(fd, b"unread").unwrap();
        g.send(far, b"yy").unwrap();
        g.settle();
        g.close(far);
        assert_eq!(g.mask(fd), "in out err hup rdhup");
        assert_eq!((g.read(fd, 9), g.read(fd, 9)), (Ok(2), Err(Errno::CONNRESET)));
        assert_eq!(g.read(fd, 9), Ok(0));
    }
}

scenario! {
    /// Bytes for one who closed are answered with an RST; what he had sent before stays readable.
    fn bytes_for_a_closed_socket_reset_the_sender(g) {
        let (far, fd) = g.pair();
        g.send(far, b"bye").unwrap();
        g.close(far);
        g.settle();
        assert_eq!(g.sys().send(fd, b"x"), Ok(1), "nobody knows yet");
        assert_eq!(g.mask(fd), "in out err hup rdhup");
        assert_eq!((g.read(fd, 9), g.read(fd, 9)), (Ok(3), Ok(0)), "the FIN was first");
        assert_eq!(g.sys().send(fd, b"x"), Err(Errno::PIPE));
    }
}

scenario! {
    /// Both FINs exchanged: a close with SO_LINGER {1, 0} resets nothing any more.
    fn nothing_is_reset_after_both_fins(g) {
        let (far, fd) = g.pair();
        g.shutdown(far);
        g.settle();
        g.sys().shutdown_write(fd).unwrap();
        g.settle();
        g.sys().reset_on_close(fd);
        g.sys().close(fd);
        g.settle();
        assert_eq!((g.recv(far, 9), g.send(far, b"x")), (Ok(0), Err(Errno::PIPE)));
    }
}

scenario! {
    /// Each arrival is reported once, with all that is true; reading a part is no arrival; a MOD
    /// reports again.
    fn an_edge_is_an_arrival_or_a_modification(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("out", ""));
        for _ in 0..2 {
            g.send(far, b"a").unwrap();
            assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("in out", ""));
        }
        assert_eq!((g.read(fd, 1), g.report(epoll).as_str()), (Ok(1), ""));
        g.sys().epoll_modify(epoll, fd, Interest::Connection, 7).unwrap();
        assert_eq!(g.report(epoll), "in out");
    }
}

scenario! {
    /// A muted descriptor sleeps through bytes, but not through ends; unmuting reports what came.
    fn a_muted_socket_hears_only_of_ends(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        g.report(epoll);
        g.sys().epoll_modify(epoll, fd, Interest::Muted, 7).unwrap();
        assert_eq!(g.report(epoll), "out");
        g.send(far, b"x").unwrap();
        assert_eq!(g.report(epoll), "");
        g.sys().epoll_modify(epoll, fd, Interest::Connection, 7).unwrap();
        assert_eq!(g.report(epoll), "in out");
        g.sys().epoll_modify(epoll, fd, Interest::Muted, 7).unwrap();
        g.report(epoll);
        g.shutdown(far);
        assert_eq!(g.report(epoll), "out", "a state change, of which only this was asked for");
        g.reset(far);
        assert_eq!(g.report(epoll), "out err hup");
    }
}

scenario! {
    /// Who asked only for what comes is told once of each arrival, and never of room.
    fn room_is_not_told_to_who_did_not_ask(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Datagrams);
        assert_eq!(g.report(epoll), "");
        g.send(far, b"a").unwrap();
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("in", ""));
        g.sys().send(fd, b"x").unwrap();
        g.settle();
        assert_eq!(g.report(epoll), "");
        g.reset(far);
        assert_eq!(g.report(epoll), "in err hup");
    }
}

scenario! {
    /// Room is reported to one who found none, once, and only when a third of the buffer is free;
    /// an acknowledgement alone is no event.
    fn room_is_told_to_one_who_asked(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        g.report(epoll);
        g.sys().send(fd, b"x").unwrap();
        assert_eq!(g.report(epoll), "", "it was never without room");
        g.fill(fd);
        assert_eq!((g.report(epoll).as_str(), g.mask(fd).as_str()), ("", ""));
        let unacknowledged = g.sys().unacknowledged(fd).unwrap();
        assert!(unacknowledged > 0);
        while g.recv(far, 1 << 20).is_ok() {
            g.settle();
        }
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("out", ""));
        assert_eq!(g.sys().unacknowledged(fd), Ok(0), "what the peer has is acknowledged");
    }
}

scenario! {
    /// SIOCOUTQ counts the FIN as a byte, and an RST does not set it back.
    fn unacknowledged_outlives_a_reset(g) {
        let (far, fd) = g.pair();
        g.fill(fd);
        let before = g.sys().unacknowledged(fd).unwrap();
        g.sys().shutdown_write(fd).unwrap();
        assert_eq!(g.sys().unacknowledged(fd), Ok(before + 1));
        g.reset(far);
        g.settle();
        assert_eq!(g.sys().unacknowledged(fd), Ok(before + 1));
        assert_eq!(g.sys().take_error(fd), Err(Errno::CONNRESET));
        let (_, fd) = g.pair();
        g.sys().shutdown_write(fd).unwrap();
        // Linux may delay the acknowledgement of a FIN by 40 ms.
        let acknowledged = |_| {
            g.settle();
            g.sys().unacknowledged(fd) == Ok(0)
        };
        assert!((0..200).any(acknowledged));
    }
}

scenario! {
    /// A connect is under way, ready for nothing; then writable.
    fn a_connect_completes(g) {
        let (listener, at) = g.listen(8);
        let peer = Peer::Inet(at);
        let fd = g.sys().socket(&peer).unwrap();
        assert_eq!(g.mask(fd), "out hup", "before the connect");
        assert_eq!(g.read(fd, 9), Err(Errno::NOTCONN));
        assert_eq!(g.sys().send(fd, b"x"), Err(Errno::PIPE));
        assert_eq!(g.sys().connect(fd, &peer), Err(Errno::INPROGRESS));
        let epoll = g.watch(fd, Interest::Connection);
        assert_eq!(g.report(epoll), "out");
        assert_eq!(g.sys().take_error(fd), Ok(()));
        let (accepted, from) = g.sys().accept(listener).unwrap();
        assert_eq!(g.sys().local_address(fd), Ok(from));
        assert_eq!(g.sys().peer_address(accepted), Ok(from));
        assert_eq!(g.sys().peer_address(fd), Ok(at.into()));
        assert_eq!(g.sys().local_address(accepted), Ok(at.into()));
        assert_eq!(g.sys().local_address(listener), Ok(at.into()));
    }
}

scenario! {
    /// Nobody listens: an error, with everything that a reset has.
    fn a_connect_is_refused(g) {
        let (listener, at) = g.listen(8);
        g.sys().close(listener);
        let peer = Peer::Inet(at);
        let fd = g.sys().socket(&peer).unwrap();
        assert_eq!(g.sys().connect(fd, &peer), Err(Errno::INPROGRESS));
        assert_eq!(g.mask(fd), "in out err hup rdhup");
        assert_eq!(g.sys().take_error(fd), Err(Errno::CONNREFUSED));
        assert_eq!(g.mask(fd), "in out hup rdhup");
    }
}

scenario! {
    /// The listener's queue is full: the connect waits, ready for nothing.
    fn a_full_queue_lets_connects_wait(g) {
        let (listener, at) = g.listen(0);
        let peer = Peer::Inet(at);
        let fds = [(); 4].map(|()| {
            let fd = g.sys().socket(&peer).unwrap();
            let _ = g.sys().connect(fd, &peer);
            g.settle();
            fd
        });
        let last = fds[3];
        assert_eq!((g.mask(fds[0]).as_str(), g.mask(last).as_str()), ("out", ""));
        assert_eq!((g.read(last, 9), g.sys().send(last, b"x")), (Err(Errno::AGAIN), Err(Errno::AGAIN)));
        assert_eq!(g.sys().connect(last, &peer), Err(Errno::ALREADY));
        assert_eq!((g.sys().take_error(last), g.sys().unacknowledged(last)), (Ok(()), Ok(0)));
        assert!(g.sys().accept(listener).is_ok());
    }
}

scenario! {
    /// A client that sent and reset while it waited in the queue is accepted all the same.
    fn a_client_that_left_is_accepted(g) {
        let (listener, at) = g.listen(8);
        assert_eq!(g.sys().accept(listener).unwrap_err(), Errno::AGAIN);
        let far = g.client(at);
        g.settle();
        g.send(far, b"q").unwrap();
        g.settle();
        g.reset(far);
        g.settle();
        let (fd, _) = g.sys().accept(listener).unwrap();
        assert_eq!((g.read(fd, 9), g.read(fd, 9)), (Ok(1), Err(Errno::CONNRESET)));
    }
}

scenario! {
    /// Who waits in the queue of a listener that closes is reset.
    fn a_closing_listener_resets_its_queue(g) {
        let (listener, at) = g.listen(8);
        let far = g.client(at);
        g.settle();
        g.sys().close(listener);
        g.settle();
        assert_eq!(g.recv(far, 9), Err(Errno::CONNRESET));
    }
}

scenario! {
    /// A listener that is shut down resets its queue, refuses whoever comes, and hangs up.
    fn a_listener_stops(g) {
        let (listener, at) = g.listen(8);
        let epoll = g.watch(listener, Interest::Listener);
        let far = g.client(at);
        assert_eq!(g.report(epoll), "in");
        g.sys().stop_listening(listener);
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("hup", "hup"));
        assert_eq!(g.recv(far, 9), Err(Errno::CONNRESET));
        assert_eq!(g.sys().accept(listener).unwrap_err(), Errno::INVAL);
        let peer = Peer::Inet(at);
        let fd = g.sys().socket(&peer).unwrap();
        assert_eq!(g.sys().connect(fd, &peer), Err(Errno::INPROGRESS));
        g.settle();
        assert_eq!(g.sys().take_error(fd), Err(Errno::CONNREFUSED));
    }
}

scenario! {
    /// A shared listener is level-triggered, cannot be modified, and is taken out and put in again.
    fn an_exclusive_listener(g) {
        let (listener, at) = g.listen(8);
        let epoll = g.watch(listener, Interest::Listener);
        assert_eq!(g.report(epoll), "");
        assert_eq!(
            g.sys().epoll_modify(epoll, listener, Interest::Listener, 1),
            Err(Errno::INVAL)
        );
        assert_eq!(g.sys().epoll_add(epoll, listener, Interest::Listener, 1), Err(Errno::EXIST));
        g.client(at);
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("in", "in"));
        g.sys().epoll_delete(epoll, listener).unwrap();
        assert_eq!(g.report(epoll), "");
        assert_eq!(g.sys().epoll_delete(epoll, listener), Err(Errno::NOENT));
        g.sys().epoll_add(epoll, listener, Interest::Listener, 1).unwrap();
        assert_eq!(g.report(epoll), "in");
        g.sys().accept(listener).unwrap();
        assert_eq!(g.report(epoll), "");
    }
}

scenario! {
    /// A doorbell rings until it is hushed, and rings together are one.
    fn a_doorbell(g) {
        let bell = g.sys().eventfd().unwrap();
        let epoll = g.watch(bell, Interest::Doorbell);
        assert_eq!(g.report(epoll), "");
        g.sys().hush(bell);
        g.sys().ring(bell);
        g.sys().ring(bell);
        assert_eq!((g.report(epoll).as_str(), g.report(epoll).as_str()), ("in", "in"));
        g.sys().hush(bell);
        assert_eq!(g.report(epoll), "");
    }
}

scenario! {
    /// Closing a descriptor takes it out of its epoll.
    fn a_closed_descriptor_reports_nothing(g) {
        let (far, fd) = g.pair();
        let epoll = g.watch(fd, Interest::Connection);
        g.send(far, b"x").unwrap();
        g.settle();
        g.sys().close(fd);
        assert_eq!(g.report(epoll), "");
    }
}

scenario! {
    /// A splice says EAGAIN for an empty socket, 0 at its end, and EAGAIN again for a full pipe,
    /// which hides even the end.
    fn a_splice_and_its_eagains(g) {
        let (far, fd) = g.pair();
        let (read, write, capacity) = g.sys().pipe(65536).unwrap();
        assert_eq!(g.sys().splice(fd, write, capacity), Err(Errno::AGAIN));
        assert_eq!(g.sys().splice(read, fd, capacity), Err(Errno::AGAIN));
        g.send(far, b"abc").unwrap();
        g.settle();
        assert_eq!(g.sys().splice(fd, write, 2), Ok(2));
        g.shutdown(far);
        g.settle();
        assert_eq!(g.sys().splice(fd, write, capacity), Ok(1));
        assert_eq!(g.sys().splice(fd, write, capacity), Ok(0));
        while g.sys().write_pipe(write, &[0; 4096]).is_ok() {}
        assert_eq!(g.sys().splice(fd, write, capacity), Err(Errno::AGAIN));
        assert_eq!(g.sys().splice(read, fd, 3), Ok(3));
        g.settle();
        assert_eq!(g.recv(far, 9), Ok(3));
    }
}

scenario! {
    /// A splice from a reset socket gives the bytes, the error once, and then the end.
    fn a_splice_meets_a_reset(g) {
        let (far, fd) = g.pair();
        let (read, write, capacity) = g.sys().pipe(65536).unwrap();
        g.send(far, b"abc").unwrap();
        g.settle();
        g.reset(far);
        g.settle();
        assert_eq!(g.sys().splice(fd, write, capacity), Ok(3));
        assert_eq!(g.sys().splice(fd, write, capacity), Err(Errno::CONNRESET));
        assert_eq!(g.sys().splice(fd, write, capacity), Ok(0));
        assert_eq!(g.sys().splice(read, fd, capacity), Err(Errno::PIPE));
    }
}

scenario! {
    /// A pipe without a writer is at its end, not empty.
    fn a_pipe_without_a_writer_ends(g) {
        let (_, fd) = g.pair();
        let (read, write, _) = g.sys().pipe(65536).unwrap();
        g.sys().write_pipe(write, b"abc").unwrap();
        g.sys().close(write);
        assert_eq!((g.sys().splice(read, fd, 9), g.sys().splice(read, fd, 9)), (Ok(3), Ok(0)));
    }
}

scenario! {
    /// A write up to a page goes whole or not at all; it is added to a page written before.
    fn a_write_fills_slots(g) {
        let (_, fd) = g.pair();
        let (read, write, capacity) = g.sys().pipe(65536).unwrap();
        assert_eq!(capacity, 65_536);
        assert_eq!(g.sys().write_pipe(write, &[0; 10]), Ok(10));
        assert_eq!(g.sys().write_pipe(write, &[0; 5000]), Ok(5000));
        assert_eq!(g.sys().write_pipe(write, &[0; 200_000]), Ok(57_344));
        assert_eq!(g.sys().write_pipe(write, b"x"), Err(Errno::AGAIN));
        assert_eq!(g.sys().splice(read, fd, 900), Ok(900));
        assert_eq!(g.sys().write_pipe(write, &[0; 10]), Err(Errno::AGAIN), "no slot is free yet");
        assert_eq!(g.sys().splice(read, fd, 14), Ok(14));
        assert_eq!(g.sys().write_pipe(write, &[0; 10]), Ok(10));
        assert_eq!(g.sys().splice(read, fd, 4096), Ok(4096));
        assert_eq!(g.sys().write_pipe(write, &[0; 10_000]), Ok(4096 + 10_000 % 4096));
    }
}

scenario! {
    /// A recv stops before an urgent byte and then steps over it. A splice stops there and says
    /// EAGAIN, whatever lies behind.
    fn an_urgent_byte_stops_reads(g) {
        for splices in [false, true] {
            let (far, fd) = g.pair();
            let epoll = g.watch(fd, Interest::Connection);
            g.report(epoll);
            g.send(far, b"abc").unwrap();
            g.settle();
            g.send_urgent(far, b'U');
            g.settle();
            g.send(far, b"def").unwrap();
            assert_eq!(g.report(epoll), "in pri out");
            if splices {
                let (_, write, capacity) = g.sys().pipe(65536).unwrap();
                assert_eq!(g.sys().splice(fd, write, capacity), Ok(3));
                assert_eq!(g.sys().splice(fd, write, capacity), Err(Errno::AGAIN));
            } else {
                assert_eq!(g.read(fd, 9), Ok(3));
            }
            assert_eq!(g.mask(fd), "in pri out");
            assert_eq!((g.read(fd, 9), g.mask(fd).as_str()), (Ok(3), "out"));
        }
    }
}

scenario! {
    /// A splice that stands before an urgent byte says 0 once the FIN came, though bytes are unread.
    fn an_urgent_byte_looks_like_the_end(g) {
        let (far, fd) = g.pair();
        g.send_urgent(far, b'U');
        g.settle();
        assert_eq!(g.mask(fd), "pri out", "the byte itself cannot be read");
        g.send(far, b"def").unwrap();
        g.shutdown(far);
        g.settle();
        let (_, write, capacity) = g.sys().pipe(65536).unwrap();
        assert_eq!(g.sys().splice(fd, write, capacity), Ok(0));
        assert_eq!((g.read(fd, 9), g.read(fd, 9)), (Ok(3), Ok(0)));
    }
}

scenario! {
    /// A peek leaves the bytes, and the urgent byte that it steps over as well.
    fn a_peek_leaves_the_bytes(g) {
        let (far, fd) = g.pair();
        g.send(far, b"abc").unwrap();
        g.settle();
        let mut buffer = [0; 8];
        assert_eq!(g.sys().peek(fd, &mut buffer), Ok(3));
        assert_eq!((&buffer[..3], g.read(fd, 9)), (b"abc".as_slice(), Ok(3)));
        g.send(far, b"abc").unwrap();
        g.settle();
        g.send_urgent(far, b'U');
        g.settle();
        g.send(far, b"def").unwrap();
        g.settle();
        assert_eq!((g.sys().peek(fd, &mut buffer), g.read(fd, 3)), (Ok(3), Ok(3)));
        assert_eq!((g.sys().peek(fd, &mut buffer), &buffer[..3]), (Ok(3), b"def".as_slice()));
        assert_eq!((g.mask(fd).as_str(), g.read(fd, 3)), ("in pri out", Ok(3)));
    }
}

// What follows is the simulation's own.

fn any() -> SocketAddr {
    "10.0.0.1:80".parse().unwrap()
}

/// Starts a connect to a place; gives the descriptor.
fn connect_to(sim: &SimKernel<'_>, place: Place) -> (RawFd, SysResult<()>) {
    sim.place(any(), place);
    let fd = sim.socket(&Peer::Inet(any())).unwrap();
    (fd, Sys::connect(sim, fd, &Peer::Inet(any())))
}

#[test]
fn places_answer_as_scripted() {
    let sim = SimKernel::calm(1);
    assert_eq!(connect_to(&sim, Place::Unreachable(Errno::NETUNREACH)).1, Err(Errno::NETUNREACH));
    let (fd, begun) = connect_to(&sim, Place::Fails(Errno::HOSTUNREACH, 3000));
    assert_eq!(begun, Err(Errno::INPROGRESS));
    sim.advance(2999);
    assert_eq!(sim.take_error(fd), Ok(()));
    sim.advance(1);
    assert_eq!(sim.take_error(fd), Err(Errno::HOSTUNREACH));
    let (fd, _) = connect_to(&sim, Place::Blackhole);
    sim.advance(126_000);
    assert_eq!(sim.take_error(fd), Ok(()));
    sim.advance(1000);
    assert_eq!(sim.take_error(fd), Err(Errno::TIMEDOUT));
    let (fd, _) = connect_to(&sim, Place::Itself);
    sim.advance(1);
    assert_eq!(sim.local_address(fd), Ok(any().into()), "as its peer's");
    Sys::send(&sim, fd, b"echo").unwrap();
    sim.advance(1);
    assert_eq!(Sys::recv(&sim, fd, &mut [0; 8]), Ok(4));
    let _ = connect_to(&sim, Place::Listening(4));
    sim.advance(1);
    assert!(sim.backend_accept(any()).is_some());
    assert!(sim.backend_accept(any()).is_none());
}

/// The kernel takes the lowest free number, which is how a stale one finds a new owner; at the
/// limit it is EMFILE, for accept before the queue is looked at.
#[test]
fn descriptors_are_numbered_and_limited() {
    let sim = SimKernel::calm(1);
    let listener = sim.listen(any(), 8);
    let first = sim.eventfd().unwrap();
    let second = sim.eventfd().unwrap();
    assert_eq!((listener, first, second), (3, 4, 5));
    Sys::close(&sim, first);
    assert_eq!(sim.pipe(65536).map(|(read, write, _)| (read, write)), Ok((4, 6)));
    sim.limit_descriptors(4);
    assert_eq!(Sys::accept(&sim, listener).unwrap_err(), Errno::MFILE);
    assert_eq!((sim.pipe(65536), sim.eventfd()), (Err(Errno::MFILE), Err(Errno::MFILE)));
    assert_eq!(sim.open_descriptors(), 4);
}

#[test]
#[should_panic(expected = "a descriptor that is not open: 3")]
fn closing_twice_is_a_violation() {
    let sim = SimKernel::calm(1);
    let fd = sim.eventfd().unwrap();
    Sys::close(&sim, fd);
    Sys::close(&sim, fd);
}

/// A wait moves the clock to what happens next, or to its end; where nothing can happen, it returns.
#[test]
fn a_wait_is_where_time_passes() {
    let sim = SimKernel::calm(1);
    let epoll = sim.epoll_create().unwrap();
    let listener = sim.listen(any(), 8);
    sim.epoll_add(epoll, listener, Interest::Listener, 1).unwrap();
    let mut events = [SysEvent::default(); EVENTS_MAX];
    assert_eq!(sim.epoll_wait(epoll, &mut events, None), Ok(0));
    let before = sim.now();
    assert_eq!(sim.epoll_wait(epoll, &mut events, Some(5000)), Ok(0));
    assert_eq!(sim.now().since(before), 5000);
    sim.client_connect(any());
    assert_eq!(sim.epoll_wait(epoll, &mut events, Some(5000)), Ok(1));
    assert_eq!(sim.now().since(before), 5000);
}

/// While the engine waits, the test's world acts when it asked to, and when something reached it.
#[test]
fn the_world_acts_during_a_wait() {
    let sim = SimKernel::calm(1);
    let epoll = sim.epoll_create().unwrap();
    let listener = sim.listen(any(), 8);
    sim.epoll_add(epoll, listener, Interest::Listener, 1).unwrap();
    let begin = sim.now();
    sim.set_world(std::boxed::Box::new(move |sim| {
        if sim.now() < begin.after(300) {
            return Some(begin.after(300));
        }
        sim.client_connect(any());
        None
    }));
    let mut events = [SysEvent::default(); EVENTS_MAX];
    assert_eq!(sim.epoll_wait(epoll, &mut events, None), Ok(1));
    assert_eq!(sim.now().since(begin), 300);
}

/// Two epolls on one listener: the first that sleeps is woken, and is enough.
#[test]
fn an_exclusive_listener_wakes_one() {
    let sim = SimKernel::calm(1);
    let listener = sim.listen(any(), 8);
    let epolls = [sim.epoll_create().unwrap(), sim.epoll_create().unwrap()];
    for epoll in epolls {
        sim.epoll_add(epoll, listener, Interest::Listener, 1).unwrap();
    }
    let mut events = [SysEvent::default(); EVENTS_MAX];
    // The first may have something to do, so no time passes for the second, which sleeps.
    assert_eq!(sim.epoll_wait(epolls[1], &mut events, Some(10)), Err(Errno::INTR));
    sim.client_connect(any());
    assert_eq!(sim.epoll_wait(epolls[0], &mut events, Some(20)), Ok(1));
    assert_eq!(sim.epoll_wait(epolls[1], &mut events, Some(0)), Ok(0), "it was not woken");
}

#[test]
fn the_nth_call_fails() {
    let sim = SimKernel::calm(1);
    sim.fail_nth(Call::Eventfd, 2, Errno::NFILE);
    let made = [sim.eventfd(), sim.eventfd(), sim.eventfd()];
    assert_eq!(made, [Ok(3), Err(Errno::NFILE), Ok(4)]);
    assert!(sim.trace().contains("Eventfd(-1, 0) = "), "{}", sim.trace());
    assert_eq!((sim.fatal_faults(), sim.calls()), (1, 3));
}

/// The limits of a pipe count slots: one byte in each is full, and large ones exceed the capacity.
#[test]
fn a_splice_fills_slots_not_bytes() {
    for (slot_bytes, expected) in [(1, 16), (32_768, 65_536 + 57_344)] {
        let sim = SimKernel::calm(1);
        sim.kernel.borrow_mut().slot_bytes = (slot_bytes, slot_bytes);
        let ground = Simulated(sim);
        let (far, fd) = ground.pair();
        let (_, write, capacity) = ground.0.pipe(65536).unwrap();
        let mut spliced = 0;
        for _ in 0..2 {
            ground.send(far, &[1; 1 << 16]).unwrap();
            ground.settle();
            spliced += ground.0.splice(fd, write, capacity).unwrap_or(0);
        }
        assert_eq!(spliced, expected);
    }
}

/// The same seed is the same run; another is another.
#[test]
fn a_seed_is_a_run() {
    let run = |seed| {
        let sim = SimKernel::new(seed);
        sim.calm_down();
        let ground = Simulated(sim);
        let (listener, at) = ground.listen(8);
        let epoll = ground.watch(listener, Interest::Listener);
        let far = FarEnd(ground.client(at));
        let mut events = [SysEvent::default(); EVENTS_MAX];
        ground.0.epoll_wait(epoll, &mut events, None).unwrap();
        let (fd, _) = Sys::accept(&ground.0, listener).unwrap();
        let mut received = Vec::new();
        for round in 0..200u8 {
            let _ = far.send(&ground.0, &[round; 1000]);
            let _ = ground.0.epoll_wait(epoll, &mut events, Some(1));
            let mut buffer = [0; 700];
            if let Ok(bytes) = Sys::recv(&ground.0, fd, &mut buffer) {
                received.extend_from_slice(&buffer[..bytes]);
            }
        }
        assert!(received.is_sorted(), "in order");
        format!("{}{}", ground.0.trace(), received.len())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
