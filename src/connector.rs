//! Reaching a dest by a callback of the embedder's: it may look names up and connect on any thread,
//! in any way, and then completes the ticket it was given. (Reaching one in the program is the
//! business of a transport, such as the dialer of seaprox-tcp.) Knows no thread and no name.

use crate::address::Address;
use crate::completion::{Outcome, Ticket};
use crate::fail::FailReason;
use crate::side::SideKey;
use crate::sys::{Errno, RawFd, Ready, Sys};
use crate::transport::{Attempt, Cause, Desk, Dest, Dial, Event, Step, Transport};

/// A dest that somebody else connects.
///
/// For each connection `connect` is called once, on the worker's thread, with a ticket and the
/// source's target; it must not block. Whoever has connected, or failed to, calls
/// [`crate::share::Commons::complete`] with the ticket. After `timeout_millis` the connection is
/// given up; a completion that comes later is told that it is stale and keeps its descriptor.
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
        let give_up_at = dial.desk.now.after(self.timeout_millis);
        match cause {
            Cause::Start(target) => {
                let ticket = dial.ticket();
                (self.connect)(ticket, target);
                Step::Wait(give_up_at)
            }
            Cause::Outcome(Outcome::Connected(fd)) => adopt(dial, fd),
            Cause::Outcome(Outcome::Failed(reason)) => Step::Failed(reason),
            Cause::Outcome(Outcome::Resolved) => Step::Failed(FailReason::Other),
            Cause::Timeout => Step::Failed(FailReason::TimedOut),
            // Nothing of this dest is registered.
            Cause::Ready(_) | Cause::Own => Step::Wait(give_up_at),
        }
    }

    fn abort(&mut self, _: SideKey, _: &mut Desk<'_, K>) {}
}

/// Takes a descriptor over that somebody else opened.
fn adopt<K: Sys>(dial: &mut Dial<'_, K>, fd: RawFd) -> Step {
    /// The standard descriptors are the process's, never a dest.
    const STANDARD_MAX: RawFd = 2;
    if fd <= STANDARD_MAX {
        return Step::Failed(FailReason::Other);
    }
    match dial.desk.sys.set_nonblocking(fd) {
        Ok(()) => {}
        // Never open, so not ours: the number will be somebody's by the end of the turn.
        Err(Errno::BADF) => return Step::Failed(FailReason::Other),
        Err(_) => {
            dial.desk.poller.retire(fd);
            return Step::Failed(FailReason::Other);
        }
    }
    let peer = dial.desk.sys.peer_address(fd).unwrap_or(Address::UNKNOWN);
    Step::Adopted(Attempt { fd, peer, registered: false })
}
