//! Reaching a dest by a callback of the embedder's: it may look names up and connect on any thread,
//! in any way, and then completes the ticket it was given. (Reaching one in the program is the
//! business of a transport, such as the dialer of seaprox-tcp.) Knows no thread and no name.

use crate::address::Address;
use crate::completion::{Outcome, Ticket};
use crate::fail::FailReason;
use crate::side::SideKey;
use crate::sys::{Errno, RawFd, Ready, Sys};
use crate::time::Instant;
use crate::transport::{Attempt, Cause, Desk, Dest, Dial, Event, Step, Transport};

/// A dest that somebody else connects.
///
/// For each connection `connect` is called once, on the worker's thread, with a ticket and the
/// source's target; it must not block. Whoever has connected, or failed to, calls
/// [`crate::share::Commons::complete`] with the ticket. A socket whose connect(2) is under way will do
/// as well: the worker waits for it. After `timeout_millis`, for both together, the connection is
/// given up; a completion that comes later is told that it is stale and keeps its descriptor.
///
/// ```
/// use seaprox::completion::Ticket;
/// use seaprox::connector::External;
/// use seaprox::sys::Linux;
/// use seaprox::transport::Dest;
/// use std::sync::mpsc;
///
/// // Whoever receives connects, and completes the ticket.
/// let (wishes, _connector) = mpsc::channel();
/// let dest = External::new(move |ticket: Ticket, _: ()| wishes.send(ticket).unwrap(), 10_000);
/// fn is_a_dest(_: impl Dest<Linux, ()>) {}
/// is_a_dest(dest);
/// ```
#[derive(Debug)]
pub struct External<F> {
    connect: F,
    timeout_millis: u32,
}

impl<F> External<F> {
    /// `timeout_millis`: how long a completion is awaited.
    pub const fn new(connect: F, timeout_millis: u32) -> Self {
        External { connect, timeout_millis }
    }
}

impl<K: Sys, F> Transport<K> for External<F> {
    const PROMPT: bool = false;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, K>) -> Option<Event> {
        None
    }
}

impl<K: Sys, T, F: FnMut(Ticket, T)> Dest<K, T> for External<F> {
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<T>) -> Step {
        match cause {
            Cause::Start(target) => {
                let until = dial.desk.now.after(self.timeout_millis);
                *dial.notes = until.as_millis().to_le_bytes();
                let ticket = dial.ticket();
                (self.connect)(ticket, target);
                Step::Wait(until)
            }
            Cause::Outcome(Outcome::Connected(fd)) => adopt(dial, fd),
            Cause::Outcome(Outcome::Failed(reason)) => Step::Failed(reason),
            Cause::Outcome(Outcome::Resolved) => Step::Failed(FailReason::Other),
            Cause::Timeout => Step::Failed(FailReason::TimedOut),
            Cause::Ready(ready) => finish(dial, ready),
            // Nothing of this dest's own is registered.
            Cause::Own => Step::Wait(until(dial)),
        }
    }

    fn abort(&mut self, _: SideKey, _: &[u8; 8], _: &mut Desk<'_, K>) {}
}

/// When a dest is given up.
fn until<K: Sys>(dial: &Dial<'_, K>) -> Instant {
    Instant::from_millis(u64::from_le_bytes(*dial.notes))
}

/// Takes a descriptor over that somebody else opened.
fn adopt<K: Sys>(dial: &mut Dial<'_, K>, fd: RawFd) -> Step {
    /// The standard descriptors are the process's, never a dest.
    const STANDARD_MAX: RawFd = 2;
    if fd <= STANDARD_MAX {
        return Step::Failed(FailReason::Other);
    }
    let sys = dial.desk.sys;
    match sys.set_nonblocking(fd) {
        Ok(()) => {}
        // Never open, so not ours: the number will be somebody's by the end of the turn.
        Err(Errno::BADF) => return Step::Failed(FailReason::Other),
        Err(_) => {
            dial.desk.poller.retire(fd);
            return Step::Failed(FailReason::Other);
        }
    }
    let peer = match sys.peer_address(fd) {
        Err(Errno::NOTCONN) => match sys.peek(fd, &mut [0]) {
            Err(Errno::AGAIN) => {
                let attempt = Attempt { fd, peer: Address::UNKNOWN, registered: false };
                return Step::Attempt(attempt, until(dial));
            }
            // It is over already, and something before the end is to be read.
            Ok(_) => Ok(Address::UNKNOWN),
            // A peek that finds nothing takes the error along (tcp(7), `sk_err`); one that never was
            // connected has ENOTCONN.
            Err(errno) => Err(errno),
        },
        Ok(peer) if reached_itself(sys, fd, peer) => Err(Errno::CONNREFUSED),
        peer => Ok(peer.unwrap_or(Address::UNKNOWN)),
    };
    match peer {
        Ok(peer) => Step::Adopted(Attempt { fd, peer, registered: false }),
        Err(errno) => {
            dial.desk.poller.retire_with_reset(fd);
            Step::Failed(FailReason::of_connect(errno))
        }
    }
}

/// The connect of a descriptor that was taken over while it was under way has come to something.
fn finish<K: Sys>(dial: &mut Dial<'_, K>, ready: Ready) -> Step {
    let Some(fd) = dial.fd.filter(|_| ready.writable || ready.error || ready.hung_up) else {
        return Step::Wait(until(dial));
    };
    let sys = dial.desk.sys;
    let in_error = ready.error || ready.hung_up;
    let connected = match in_error.then(|| sys.peek(fd, &mut [0])) {
        // Its peer said something before it reset it, all before anybody looked: that is read first.
        Some(Ok(1..)) => Ok(Address::UNKNOWN),
        // A peek that finds nothing takes the error along (tcp(7), `sk_err`).
        Some(Err(errno)) if errno != Errno::AGAIN => Err(errno),
        Some(_) | None => sys.take_error(fd).and_then(|()| sys.peer_address(fd)),
    };
    match connected {
        Ok(peer) if reached_itself(sys, fd, peer) => Step::Failed(FailReason::ConnectionRefused),
        Ok(peer) => Step::Adopted(Attempt { fd, peer, registered: true }),
        Err(errno) => Step::Failed(FailReason::of_connect(errno)),
    }
}

/// Whether a socket is connected to itself: a simultaneous open with its own port (RFC 9293 section
/// 3.5), which is nobody.
fn reached_itself<K: Sys>(sys: K, fd: RawFd, peer: Address) -> bool {
    peer.port() != 0 && sys.local_address(fd) == Ok(peer)
}
