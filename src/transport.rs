//! The contract between the engine and a transport. A transport brings sides into being and ends
//! them; moving bytes is not its business. Knows no table.
//!
//! A [`Source`] tells of connections that came, a [`Dest`] reaches where they go. Everything is
//! driven by the worker: [`Transport::ready`] when a descriptor of the transport's own is ready,
//! then [`Transport::poll`] until it gives `None`.

use crate::address::Address;
use crate::completion::{Mailbox, Outcome, Ticket};
use crate::fail::FailReason;
use crate::poller::Poller;
use crate::side::{Description, Handle, SideKey};
use crate::sys::{Errno, RawFd, Ready, Sys};
use crate::time::Instant;

/// What a transport may use while it is called.
pub struct Desk<'t, K: Sys> {
    /// The kernel.
    pub sys: K,
    /// Where descriptors are registered, and retired.
    pub poller: &'t mut Poller<K>,
    /// When the turn began.
    pub now: Instant,
}

/// What a transport tells of.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A source came. It is the engine's now.
    Opened {
        /// Its descriptor, non-blocking, or its channel.
        handle: Handle,
        /// Who it is.
        peer: Address,
    },
    /// Nothing more can be taken for want of descriptors, buffers or memory; the engine asks again
    /// a little later.
    Exhausted(Errno),
    /// The source gives nothing any more, and never will.
    Ended,
    /// Something happened to a dest that is being connected: it wants [`Cause::Own`].
    Dialed(SideKey),
    /// A side whose channel this transport lends can go on.
    Ready(SideKey, Ready),
    /// For the observer.
    Told(Notice),
}

/// What a channel has to read.
#[derive(Debug, PartialEq, Eq)]
pub enum Lent<'t> {
    /// These bytes, at least one, are next; [`Transport::consume`] says how many were taken.
    Bytes(&'t [u8]),
    /// Nothing now; [`Event::Ready`] will say when there is.
    Drained,
    /// The far end has ended in order, and all it sent has been read.
    Ended,
    /// The far end has reset the channel, and all it sent before has been read.
    Reset(FailReason),
}

/// Where bytes for a channel are to be put.
#[derive(Debug, PartialEq, Eq)]
pub enum Room<'t> {
    /// Here, at least one; [`Transport::commit`] says how many were put.
    Bytes(&'t mut [u8]),
    /// Nowhere now; [`Event::Ready`] will say when there is room.
    Full,
    /// Nobody will read them.
    Broken,
}

/// A way to carry bytes.
pub trait Transport<K: Sys> {
    /// Whether small writes to its descriptors go out at once without further ado.
    const PROMPT: bool;

    /// Whether its sides are channels whose bytes rest in memory that it lends, rather than
    /// descriptors whose bytes rest in the kernel.
    const LENDS: bool = false;

    /// One of its own descriptors is ready: its number, and the descriptor it had when the kernel
    /// told, since the number may be another's by now.
    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready);

    /// What there is to tell; called until it gives `None`.
    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event>;

    /// Nothing more will be written to this side: its peer is to see an end (FIN).
    fn shut(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        if let Some(fd) = handle.fd() {
            // ENOTCONN: the peer was faster, and its end is still to be read.
            let _ = desk.sys.shutdown_write(fd);
        }
    }

    /// Nothing more will be read from this side.
    fn stop(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        let _ = (handle, desk);
    }

    /// The side is over: in order, or its peer is to see a reset. Called once for each side that
    /// came or was connected.
    fn close(&mut self, handle: Handle, reason: Option<FailReason>, desk: &mut Desk<'_, K>) {
        match (handle.fd(), reason) {
            (Some(fd), None) => desk.poller.retire(fd),
            (Some(fd), Some(_)) => desk.poller.retire_with_reset(fd),
            (None, _) => {}
        }
    }

    /// Bytes that were written to this side and would be lost by a reset.
    fn unacknowledged(&self, handle: Handle, sys: K) -> usize {
        handle.fd().map_or(0, |fd| sys.unacknowledged(fd).unwrap_or(0))
    }

    /// What a channel has to read; asking changes nothing.
    fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        let _ = channel;
        Lent::Drained
    }

    /// So many of the bytes that were lent have been passed on.
    fn consume(&mut self, channel: Handle, bytes: usize) {
        let _ = (channel, bytes);
    }

    /// Where bytes for a channel are to be put. Whoever is told that there is no room is told when
    /// there is, in turn with all others who were.
    fn room(&mut self, channel: Handle) -> Room<'_> {
        let _ = channel;
        Room::Full
    }

    /// So many bytes have been put into the room that was lent last.
    fn commit(&mut self, channel: Handle, bytes: usize) {
        let _ = (channel, bytes);
    }

    /// When it wants to be polled although no descriptor of its own may be ready; an instant that
    /// has passed if there is something to tell.
    fn timeout(&self) -> Option<Instant> {
        None
    }

    /// The turn is over: what was collected during it goes out now.
    fn flush(&mut self, desk: &mut Desk<'_, K>) {
        let _ = desk;
    }

    /// Whether nothing waits to go out; the worker does not end before.
    fn is_flushed(&self) -> bool {
        true
    }

    /// Options that only connections of some length need, set a second after the start.
    fn settle(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        let _ = (handle, desk);
    }
}

/// What a source wants of the dest, as far as it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<T> {
    /// To be connected to this.
    For(T),
    /// It has not said yet: it is asked again when it has said more, or then.
    Until(Instant),
    /// Nothing that it can have: it is refused.
    Refused(FailReason),
}

/// Where connections come from.
///
/// Most know at once what a connection is to be connected to. One that [`ASKS`](Self::ASKS) reads it
/// from the connection itself, and answers it in words of its own; its connections are descriptors.
/// What it reads and says goes through channels of its own, [`stand_in`]: the one of the dest side
/// stands where the dest will be, so it has [`Transport::room`] for what the source says and
/// [`Transport::bytes`] that are for the source; the one of the source side has the bytes that
/// came behind, which are the first for the dest. Only the worker moves them.
pub trait Source<K: Sys>: Transport<K> {
    /// What a connection of this source is to be connected to.
    type Target;

    /// Whether something may have to be read from a connection before its target is known.
    const ASKS: bool = false;

    /// The target of a connection that came, which is this side from now on; asked before the source
    /// is polled again.
    fn target(
        &mut self,
        handle: Handle,
        side: SideKey,
        desk: &mut Desk<'_, K>,
    ) -> Asked<Self::Target>;

    /// The same once more, after [`Asked::Until`].
    fn ask(&mut self, side: SideKey, desk: &mut Desk<'_, K>) -> Asked<Self::Target> {
        let _ = (side, desk);
        Asked::Refused(FailReason::Other)
    }

    /// Whether a connection waits to be told what becomes of its dest, before it says anything to it;
    /// asked, of a source that [`ASKS`](Self::ASKS), once its target is known.
    fn waits(&self, side: SideKey) -> bool {
        let _ = side;
        Self::ASKS
    }

    /// Whether connections are wanted now. Said again and again; only a change matters.
    ///
    /// # Errors
    /// The kernel could not register the listener; the engine asks again a little later.
    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno>;

    /// What became of the dest of a connection that came; told once, before any byte flows back.
    /// Of a dest that was not reached only a source that [`ASKS`](Self::ASKS) is told.
    ///
    /// # Errors
    /// It cannot be told, and is reset.
    fn answer(
        &mut self,
        handle: Handle,
        side: SideKey,
        outcome: Result<(), FailReason>,
        desk: &mut Desk<'_, K>,
    ) -> Result<(), FailReason> {
        let _ = (handle, side, outcome, desk);
        Ok(())
    }

    /// The connection of this side is over, to the last byte, and its place is vacant. Told once for each
    /// whose target was asked for, however that went.
    fn left(&mut self, side: SideKey) {
        let _ = side;
    }

    /// Connections may be waiting although nothing said so: [`Transport::poll`] is to find out.
    fn look(&mut self);

    /// No connection will be wanted any more: whoever comes from now on is to be refused.
    fn end(&mut self, desk: &mut Desk<'_, K>);
}

/// The channel of a source that asks which speaks in the place of this side.
#[must_use]
pub const fn stand_in(side: SideKey) -> Handle {
    Handle::channel(side.number())
}

/// Why a dest's connecting goes on.
#[derive(Clone, Copy, Debug)]
pub enum Cause<T> {
    /// It begins.
    Start(T),
    /// The side's descriptor is ready.
    Ready(Ready),
    /// A descriptor of the transport's own told something: see [`Event::Dialed`].
    Own,
    /// The ticket was completed.
    Outcome(Outcome),
    /// The instant given with the last step has passed.
    Timeout,
}

/// How far a dest is after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is to be done until something happens, or until then.
    Wait(Instant),
    /// The side has this descriptor from now on; it is being connected, and wants another step
    /// then. What the side had before was retired by the transport.
    Attempt(Attempt, Instant),
    /// The side's descriptor is connected.
    Connected,
    /// The side has this descriptor from now on, and it is connected. What the side had before was
    /// retired by the transport.
    Adopted(Attempt),
    /// The side has this channel from now on, which leads there, and bytes can flow.
    Lent(Handle, Address),
    /// The dest cannot be reached.
    Failed(FailReason),
}

/// A descriptor that becomes a side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The descriptor, non-blocking.
    pub fd: RawFd,
    /// Where it leads.
    pub peer: Address,
    /// Whether it is registered already, as the transport's own.
    pub registered: bool,
}

/// One dest on its way to being connected.
pub struct Dial<'t, K: Sys> {
    /// What may be used.
    pub desk: Desk<'t, K>,
    /// Which side it will be.
    pub side: SideKey,
    /// The side's descriptor of the last [`Step::Attempt`], if it has one; whoever retires it takes
    /// it out, or it would be closed twice.
    pub fd: Option<RawFd>,
    /// Where that leads.
    pub peer: Address,
    /// Who is to be connected.
    pub source: Address,
    /// The source waits to be told whether it was connected ([`Source::waits`]): a dest that lends
    /// channels is to know before it says [`Step::Lent`].
    pub awaited: bool,
    /// The transport's notes between two steps; all zeroes at the start.
    pub notes: &'t mut [u8; 8],
    pub(crate) mailbox: &'t Mailbox,
    /// With the generation of the last ticket the worker gave out.
    pub(crate) ticket: Ticket,
    /// The generation of the ticket that was given out for this side.
    pub(crate) generation: &'t mut u32,
}

impl<K: Sys> Dial<'_, K> {
    /// A new ticket, with which any thread can complete this dest, once. The one before it is
    /// stale from now on, and an outcome it brought just now is dropped.
    pub fn ticket(&mut self) -> Ticket {
        self.revoke_ticket();
        self.ticket.generation = Mailbox::next_generation(self.ticket.generation);
        *self.generation = self.ticket.generation;
        self.mailbox.await_outcome(self.ticket.generation);
        self.ticket
    }

    /// Nobody waits for the ticket any more; an outcome that came just now is dropped.
    pub fn revoke_ticket(&mut self) {
        if let Some(Outcome::Connected(fd)) = self.mailbox.abort() {
            self.desk.poller.retire(fd);
        }
    }
}

/// What a dest does with another connection. Threads tell each other, so that none is left to one
/// whose dest can do less for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Intake {
    /// It connects it.
    Takes = 0,
    /// Nothing for a moment: the client waits in the backlog.
    Blocked = 1,
    /// Nothing until another connection ends: as for a full table, [`WhenFull`](crate::WhenFull) says
    /// what becomes of the client.
    Full = 2,
    /// Nothing, and nobody knows for how long: the client waits.
    Down = 3,
    /// The same, and clients have waited long enough: they are taken and fail, unless another
    /// thread's dest can have them.
    Refuses = 4,
}

impl Intake {
    pub(crate) fn is_down(self) -> bool {
        self >= Intake::Down
    }
}

/// Where connections go.
pub trait Dest<K: Sys, T>: Transport<K> {
    /// Takes the next step in connecting a side. Never blocks.
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<T>) -> Step;

    /// The side is given up: whatever the transport holds for it besides the side's own descriptor
    /// is to be retired. `notes`: as its last step left them, all zeroes if there was none.
    fn abort(&mut self, side: SideKey, notes: &[u8; 8], desk: &mut Desk<'_, K>);

    /// Whether connections can be made at all. While not, nothing is accepted: clients wait in the
    /// backlog.
    fn is_open(&self) -> bool {
        true
    }

    /// The same in more words, for a dest that has several reasons to be shut.
    fn intake(&self) -> Intake {
        if self.is_open() { Intake::Takes } else { Intake::Blocked }
    }
}

/// One of these is all the worker needs to tell what happened.
#[derive(Clone, Copy, Debug)]
pub enum Notice {
    /// A dest was reached.
    Connected(Description),
    /// A connection ended.
    Closed {
        /// Which.
        description: Description,
        /// Bytes read from the source.
        source_bytes: u64,
        /// Bytes read from the dest.
        dest_bytes: u64,
        /// Why, if not in order.
        reason: Option<FailReason>,
        /// The embedder's own words, the source's and the dest's.
        data: [u64; 2],
    },
    /// A connection was not made: the dest could not be reached, or the table is full. Or a link was not,
    /// with somebody who has not shown who it is.
    Refused {
        /// Who came.
        source: Address,
        /// Why.
        reason: FailReason,
        /// The embedder's own words, the source's and the dest's.
        data: [u64; 2],
    },
    /// Nothing is accepted for a while.
    Exhausted(Errno),
    /// A link to another seaprox is up.
    LinkUp {
        /// Who is at its far end.
        peer: Address,
        /// Which of those it is that this end knows, if it knows any.
        number: Option<u16>,
    },
    /// A link is down, or could not be made; its channels are reset.
    LinkDown {
        /// Who was at its far end, or was to be.
        peer: Address,
        /// Which of those it is that this end knows, if it knows any.
        number: Option<u16>,
        /// Why.
        reason: FailReason,
    },
}

/// Is told what happens, on the worker's thread: it must not block.
pub trait Observer {
    /// Something happened.
    fn notice(&mut self, notice: Notice);
}

/// Nobody wants to know.
impl Observer for () {
    fn notice(&mut self, _: Notice) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seaprox;
    use crate::sys::Linux;

    #[test]
    #[cfg_attr(miri, ignore = "real system calls")]
    fn a_new_ticket_closes_what_the_one_before_brought() {
        let mut memory = Seaprox::<1, 1>::new();
        let table = memory.tables(1, 1).next().unwrap();
        let mut poller = Poller::new(Linux).unwrap();
        let (read, write, _) = Linux.pipe(4096).unwrap();
        let mut dial = Dial {
            desk: Desk { sys: Linux, poller: &mut poller, now: Linux.now() },
            side: SideKey::dest(0),
            fd: None,
            peer: Address::UNKNOWN,
            source: Address::UNKNOWN,
            notes: &mut [0; 8],
            mailbox: table.mailbox(0),
            ticket: table.ticket(0, 0),
            generation: &mut 0,
            awaited: false,
        };
        let old = dial.ticket();
        let connected = Outcome::Connected(write);
        assert!(table.commons().complete(Linux, old, connected).is_ok());
        let new = dial.ticket();
        assert!(table.commons().complete(Linux, old, connected).is_err());
        poller.bury();
        // Had the write end been forgotten, this would be EAGAIN.
        let (other_read, other_write, _) = Linux.pipe(4096).unwrap();
        assert_eq!(Linux.splice(read, other_write, 1), Ok(0));
        assert!(table.commons().complete(Linux, new, Outcome::Resolved).is_ok());
        [read, other_read, other_write].into_iter().for_each(|fd| Linux.close(fd));
    }
}
