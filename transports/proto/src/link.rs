//! A link: a session on a carrier, with the one packet that is being sent and the one that is being
//! received. It lends both to the relay: bytes are read straight into the message that carries them,
//! and written straight from the packet that brought them. Knows no epoll and no table.
//!
//! Invariants: `packet[..filled]` is whole messages, of one stream if the carrier has streams;
//! nothing is added to it while `blocked`. Nothing is received while messages of the last packet are
//! unread, or bytes of it neither passed on nor stored. A handle of before the link died is of another
//! epoch, and leads nowhere.

mod number;
mod receive;
mod send;

pub use number::{LINKS_MAX, link_of};

use crate::carrier::{Bounds, Carrier, Order};
use crate::demarcator::Demarcator;
use crate::message::{OFFSET_HEADER_BYTES, PACKET_BYTES};
use crate::session::{Config, Ended, Memory, Refused, Session, Slot};
use core::net::SocketAddr;
use core::ops::Range;
use number::{epoch_after, epoch_of, slot_of};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{RawFd, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Lent, Room};
use seaprox::wanted::{Wanted, Wish};

/// How many packets are received in one turn: then it is others' turn.
const PACKETS_PER_TURN: u32 = 32;

/// After how long it is tried again what the kernel had no memory for: no event tells.
const STARVED_MILLIS: u32 = 10;

/// How long a carrier that repeats what was lost is waited for when the link was closed.
const LINGER_MILLIS: u32 = 1000;

/// A packet with less room than this goes out rather than being filled further.
const ROOM_BYTES_MIN: usize = OFFSET_HEADER_BYTES + 512;

/// All that one link ever uses. All zeroes: it belongs in a static, and pages of it are touched only
/// as they are used.
///
/// ```
/// use seaprox_proto::link::LinkMemory;
///
/// type Memory = LinkMemory<8, 64>;
///
/// // Each of a source's links has one.
/// static MEMORIES: std::sync::Mutex<[Memory; 2]> =
///     std::sync::Mutex::new([const { Memory::new() }; 2]);
/// assert_eq!(Memory::MEMORY_BYTES, size_of::<Memory>());
/// # assert_eq!(MEMORIES.lock().unwrap().len(), 2);
/// ```
pub struct LinkMemory<const CHANNELS: usize, const CHUNKS: usize> {
    session: Memory<CHANNELS, CHUNKS>,
    outgoing: [u8; PACKET_BYTES],
    incoming: [u8; PACKET_BYTES],
}

impl<const CHANNELS: usize, const CHUNKS: usize> LinkMemory<CHANNELS, CHUNKS> {
    /// Bytes of it.
    pub const MEMORY_BYTES: usize = Memory::<CHANNELS, CHUNKS>::MEMORY_BYTES + 2 * PACKET_BYTES;

    /// A link's memory, vacant.
    #[allow(clippy::new_without_default)] // a default is made on the stack; this belongs in a static
    #[must_use]
    pub const fn new() -> Self {
        LinkMemory {
            session: Memory::new(),
            outgoing: [0; PACKET_BYTES],
            incoming: [0; PACKET_BYTES],
        }
    }

    /// The link, down. `number`: which of its transport's it is, below [`LINKS_MAX`].
    pub fn link<C: Carrier>(&mut self, number: u32, config: Config) -> Link<'_, C> {
        debug_assert!(number < LINKS_MAX);
        Link {
            session: self.session.session(config),
            number,
            epoch: 0,
            carrier: None,
            bounds: Bounds::ORDERED,
            grave: None,
            peer: Address::UNKNOWN,
            untold: None,
            outgoing: Outgoing {
                packet: &mut self.outgoing,
                filled: 0,
                limit: 0,
                stream: 0,
                blocked: false,
            },
            incoming: Incoming {
                buffer: &mut self.incoming,
                demarcator: Demarcator::new(),
                stream: 0,
                unread: 0..0,
                current: None,
            },
            budget: PACKETS_PER_TURN,
            readable: false,
            has_received: false,
            is_polled: false,
            starved_until: None,
            lingers_until: None,
            dead: None,
            wanted: Wish::DEFAULT,
            early: None,
            now: Instant::from_millis(0),
        }
    }
}

/// The packet that is being put together.
struct Outgoing<'m> {
    packet: &'m mut [u8; PACKET_BYTES],
    filled: usize,
    /// It is to be no longer than this.
    limit: usize,
    stream: u16,
    /// The carrier did not take it.
    blocked: bool,
}

/// The packet that is being read.
struct Incoming<'m> {
    buffer: &'m mut [u8; PACKET_BYTES],
    demarcator: Demarcator,
    stream: u16,
    /// The messages of it that were not read yet.
    unread: Range<usize>,
    /// Bytes of it that belong to a channel and were not passed on yet.
    current: Option<(Slot, Range<usize>)>,
}

/// What a link tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Both ends have said hello.
    Up,
    /// The far end has opened a channel; [`Link::wanted`] says where it is to lead.
    Opened {
        /// Which.
        channel: Handle,
        /// Who is at the far end of it.
        client: Address,
    },
    /// A side can go on.
    Ready(SideKey, Ready),
    /// No channel can be opened any more.
    Draining,
    /// The link is dead: what it has to tell after this is that each of its sides is.
    Dead(FailReason),
}

/// A session on a carrier.
pub struct Link<'m, C: Carrier> {
    session: Session<'m>,
    number: u32,
    /// How many times it died.
    epoch: u32,
    carrier: Option<C>,
    bounds: Bounds,
    /// A carrier that is of no more use, open until the turn is over.
    grave: Option<C>,
    peer: Address,
    /// It is dead, and the sides of channels from here on were not told.
    untold: Option<usize>,
    outgoing: Outgoing<'m>,
    incoming: Incoming<'m>,
    /// How many packets may still be received in this turn.
    budget: u32,
    /// The carrier may have something.
    readable: bool,
    /// Something came since [`Link::has_received`].
    has_received: bool,
    /// The carrier was polled since the turn began, or since something came.
    is_polled: bool,
    /// The kernel had no memory: both ways are tried again then.
    starved_until: Option<Instant>,
    /// The session is closed; what it sent may arrive until then.
    lingers_until: Option<Instant>,
    /// Why the link is dead, which the next poll tells.
    dead: Option<FailReason>,
    /// Where the channel that was opened last is to lead.
    wanted: Wish,
    /// That channel, if more is known of it than that it was opened.
    early: Option<Slot>,
    now: Instant,
}

const READABLE: Ready = ready(true, false, false);
const WRITABLE: Ready = ready(false, true, false);
const ERROR: Ready = ready(true, true, true);

const fn ready(readable: bool, writable: bool, error: bool) -> Ready {
    Ready { readable, writable, read_closed: error, hung_up: error, error, urgent: false }
}

impl<'m, C: Carrier> Link<'m, C> {
    /// The carrier is up, and leads to `peer`.
    pub fn start(&mut self, carrier: C, peer: Address, now: Instant) {
        debug_assert!(self.is_down() && self.outgoing.filled == 0);
        self.bounds = carrier.bounds();
        self.session.start(self.bounds, now);
        self.carrier = Some(carrier);
        self.peer = peer;
        self.incoming.demarcator = Demarcator::new();
        self.readable = true;
        self.is_polled = false;
        self.starved_until = None;
        self.lingers_until = None;
        self.now = now;
    }

    /// Whether it can be started: it has no carrier, and every side of before was told.
    pub fn is_down(&self) -> bool {
        self.carrier.is_none() && self.grave.is_none() && self.untold.is_none()
    }

    /// Whether channels can be opened.
    pub fn is_open(&self) -> bool {
        self.carrier.is_some() && self.session.can_open()
    }

    /// Whether channels could be opened, if as many were not open as may be.
    pub fn is_full(&self) -> bool {
        self.carrier.is_some() && self.session.is_full()
    }

    /// Whether the carrier takes nothing now.
    pub fn is_blocked(&self) -> bool {
        self.outgoing.blocked
    }

    /// Who is at the far end, or was.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// The carrier's descriptor, while there is one.
    pub fn fd(&self) -> Option<RawFd> {
        self.carrier.as_ref().and_then(Carrier::fd)
    }

    /// Whether there is a carrier.
    pub fn has_carrier(&self) -> bool {
        self.carrier.is_some()
    }

    /// Whether anything came since this was asked last.
    pub fn has_received(&mut self) -> bool {
        core::mem::take(&mut self.has_received)
    }

    /// Where the channel that was opened last is to lead.
    pub fn wanted(&self) -> Wish {
        self.wanted
    }

    /// The far end is to open no more channels. One that may not open any yet is not waited for.
    pub fn drain(&mut self) {
        match self.session.is_up() || self.session.has_channels() {
            true => self.session.drain(),
            false => self.session.close(FailReason::Shutdown, FailReason::Shutdown.name()),
        }
    }

    /// It has just been started, and is not wanted: the far end is told why.
    pub fn refuse(&mut self, reason: FailReason) {
        self.session.close(reason, reason.name());
    }

    fn handle_of(&self, slot: Slot) -> Handle {
        number::handle_of(self.number, self.epoch, slot)
    }

    /// `None`: the channel died with the link.
    fn slot_of(&self, channel: Handle) -> Option<Slot> {
        (self.carrier.is_some() && epoch_of(channel) == self.epoch).then_some(slot_of(channel))
    }

    /// The side of a channel, if the engine has made it one.
    fn side_of(&self, slot: Slot) -> Option<SideKey> {
        self.session.user(slot).checked_sub(1).map(SideKey::from_number)
    }

    /// The channel that was opened by the far end is this side from now on.
    pub fn give_to_side(&mut self, channel: Handle, side: SideKey) {
        if let Some(slot) = self.slot_of(channel) {
            self.session.set_user(slot, side.number() + 1);
        }
    }

    /// The carrier's descriptor is ready.
    pub fn ready(&mut self, ready: Ready) {
        self.is_polled = false;
        self.note(ready);
    }

    /// The carrier may have something, or may take something.
    fn note(&mut self, ready: Ready) {
        let over = ready.error || ready.hung_up || ready.read_closed;
        self.readable |= ready.readable || over;
        if ready.writable || over {
            self.outgoing.blocked = false;
        }
    }

    /// When it wants to be polled; an instant that has passed if there is something to do.
    pub fn timeout(&self) -> Option<Instant> {
        let at_once = Some(Instant::from_millis(0));
        if self.untold.is_some() {
            return at_once;
        }
        let carrier = self.carrier.as_ref()?;
        let reads = self.readable || !self.incoming.unread.is_empty();
        let writes = !self.outgoing.blocked && self.session.somebody_waits();
        let tells = self.early.is_some() || self.incoming.current.is_some();
        if reads || writes || tells || self.dead.is_some() {
            return at_once;
        }
        let own = [self.session.timeout(), self.starved_until, self.lingers_until];
        own.into_iter().chain([carrier.timeout()]).flatten().min()
    }

    /// What there is to tell; called until it gives `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Told> {
        self.now = now;
        if self.untold.is_some() {
            return self.tell_the_dead();
        }
        self.keep_current();
        self.carrier.as_ref()?;
        if self.starved_until.is_some_and(|at| at <= now) {
            self.starved_until = None;
            self.readable = true;
            self.outgoing.blocked = false;
        }
        if let Some(told) = self.tell_early() {
            return Some(told);
        }
        let told = match self.dead {
            Some(reason) => Err(reason),
            None => self.listen_in_time(now),
        };
        match told {
            Ok(Some(told)) => return Some(told),
            Ok(None) => {}
            Err(reason) => return Some(self.die(reason)),
        }
        while !self.outgoing.blocked
            && let Some(slot) = self.session.next_waiting()
        {
            if let Some(side) = self.side_of(slot) {
                return Some(Told::Ready(side, WRITABLE));
            }
        }
        None
    }

    /// Everybody whose channel died with the link.
    fn tell_the_dead(&mut self) -> Option<Told> {
        while let Some((slot, user)) = self.untold.and_then(|from| self.session.next_user(from)) {
            self.untold = Some(slot.index() + 1);
            if let Some(side) = user.checked_sub(1) {
                return Some(Told::Ready(SideKey::from_number(side), ERROR));
            }
        }
        self.untold = None;
        None
    }

    /// The link is over: the far end is told why, if that can still be sent.
    fn die(&mut self, reason: FailReason) -> Told {
        let lingers = self.lingers_until.is_some();
        if !matches!(reason, FailReason::LinkDown | FailReason::TimedOut) && self.dead.is_none() {
            self.session.close(reason, reason.name());
            self.outgoing.blocked = false;
            self.flush();
        }
        let reason = if lingers { FailReason::Shutdown } else { reason };
        self.grave = self.carrier.take();
        self.epoch = epoch_after(self.epoch);
        self.untold = Some(0);
        self.dead = None;
        self.outgoing.filled = 0;
        self.outgoing.blocked = false;
        self.incoming.unread = 0..0;
        self.incoming.current = None;
        self.early = None;
        self.readable = false;
        Told::Dead(reason)
    }

    /// The turn is over: the next may receive as much again, and sends what is there now.
    pub fn end_turn(&mut self) {
        self.budget = PACKETS_PER_TURN;
        self.is_polled = false;
        if let Some(mut grave) = self.grave.take() {
            grave.flush();
        }
        if self.session.is_left() {
            self.session.close(FailReason::Shutdown, FailReason::Shutdown.name());
        }
        self.flush();
        let Some(carrier) = &mut self.carrier else { return };
        carrier.flush();
        if self.session.is_closed() {
            let until = *self.lingers_until.get_or_insert(self.now.after(LINGER_MILLIS));
            if carrier.is_flushed() || self.now >= until {
                // If the carrier has not taken CLOSE its end says the same.
                self.dead.get_or_insert(FailReason::Shutdown);
            }
        }
    }

    /// Whether everything has gone out, and, of channels that this end opened, has arrived.
    pub fn is_flushed(&self) -> bool {
        let is_quiet = self.outgoing.filled == 0 && self.session.owes().is_none();
        let is_over = is_quiet && !self.session.has_channels();
        self.carrier.as_ref().is_none_or(|carrier| is_over && carrier.is_flushed())
    }

    /// Opens a channel for a side; see [`Session::open`].
    ///
    /// # Errors
    /// [`Refused::NoRoom`] if the carrier takes nothing now.
    pub fn open(
        &mut self,
        side: SideKey,
        wanted: Wanted<'_>,
        client: Option<SocketAddr>,
    ) -> Result<Handle, Refused> {
        if self.carrier.is_none() || self.dead.is_some() {
            // The session does not know yet, and what it says now would come before the next hello.
            return Err(Refused::Because(FailReason::Unreachable));
        }
        // On a stream that is not known before: in a packet of its own.
        if self.bounds.order == Order::Streams && !self.send() {
            return Err(Refused::NoRoom);
        }
        loop {
            if self.outgoing.blocked || !self.begin() {
                return Err(Refused::NoRoom);
            }
            let out = &mut self.outgoing.packet[self.outgoing.filled..self.outgoing.limit];
            match self.session.open(side.number() + 1, wanted.into(), client, out, self.now) {
                Ok((slot, bytes)) => {
                    self.outgoing.filled += bytes;
                    self.outgoing.stream = self.session.stream_of(slot);
                    return Ok(self.handle_of(slot));
                }
                Err(Refused::NoRoom) if self.outgoing.filled > 0 => {
                    if !self.send() {
                        return Err(Refused::NoRoom);
                    }
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// What the far end has answered to a channel that this end opened: its target was reached, or was
    /// not. `None`: nothing as yet. A side is told ([`Told::Ready`]) when that may have changed.
    pub fn answer(&self, channel: Handle) -> Option<Result<(), FailReason>> {
        match self.slot_of(channel) {
            Some(slot) => self.session.answer(slot),
            None => Some(Err(FailReason::LinkDown)),
        }
    }

    /// The target of a channel that the far end opened was reached.
    pub fn accept(&mut self, channel: Handle) {
        if let Some(slot) = self.slot_of(channel) {
            self.session.accept(slot);
        }
    }

    /// Nothing more will be sent on a channel.
    pub fn shut(&mut self, channel: Handle) {
        if let Some(slot) = self.slot_of(channel) {
            self.session.finish(slot);
        }
    }

    /// Nothing more will be read from a channel.
    pub fn stop(&mut self, channel: Handle) {
        if let Some(slot) = self.slot_of(channel) {
            self.session.stop(slot, FailReason::Reset);
        }
    }

    /// The side of a channel is over.
    pub fn close(&mut self, channel: Handle, reason: Option<FailReason>) {
        if let Some(slot) = self.slot_of(channel) {
            self.session.close_channel(slot, reason);
        } else if self.untold.is_some() && epoch_after(epoch_of(channel)) == self.epoch {
            // The side may be another connection's when it is this channel's turn to be told.
            self.session.set_user(slot_of(channel), 0);
        }
    }

    /// What a channel has to read.
    pub fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        let Some(slot) = self.slot_of(channel) else {
            return Lent::Reset(FailReason::LinkDown);
        };
        if !self.session.stored(slot).is_empty() {
            return Lent::Bytes(self.session.stored(slot));
        }
        if let Some((current, range)) = &self.incoming.current
            && *current == slot
            && !range.is_empty()
        {
            return Lent::Bytes(&self.incoming.buffer[range.clone()]);
        }
        match self.session.ended(slot) {
            Some(Ended::Fin) => Lent::Ended,
            Some(Ended::Reset(reason)) => Lent::Reset(reason),
            None => Lent::Drained,
        }
    }

    /// So many of them were passed on.
    pub fn consume(&mut self, channel: Handle, bytes: usize) {
        let Some(slot) = self.slot_of(channel) else { return };
        if !self.session.stored(slot).is_empty() {
            return self.session.consume(slot, bytes, self.now);
        }
        if let Some((current, range)) = &mut self.incoming.current
            && *current == slot
        {
            let bytes = bytes.min(range.len());
            range.start += bytes;
            self.session.pass(slot, bytes, self.now);
        }
    }

    /// Where bytes for a channel are to be put.
    pub fn room(&mut self, channel: Handle) -> Room<'_> {
        let Some(slot) = self.slot_of(channel).filter(|&slot| !self.session.is_broken(slot)) else {
            return Room::Broken;
        };
        let credit = self.session.room(slot) as usize;
        if credit == 0 {
            // More credit is told of.
            return Room::Full;
        }
        let turn = match self.session.somebody_waits() {
            true => self.session.deficit(slot) as usize,
            false => self.bounds.sent_bytes_max,
        };
        let stream = self.session.stream_of(slot);
        if turn == 0 || !self.make_room(stream, ROOM_BYTES_MIN) {
            self.session.wait(slot);
            return Room::Full;
        }
        let start = self.outgoing.filled + self.session.data_header_bytes();
        let bytes = credit.min(turn).min(self.outgoing.limit - start);
        Room::Bytes(&mut self.outgoing.packet[start..start + bytes])
    }

    /// So many bytes were put there.
    pub fn commit(&mut self, channel: Handle, bytes: usize) {
        let Some(slot) = self.slot_of(channel) else { return };
        let header = self.session.data(slot, bytes as u16);
        let (filled, header) = (self.outgoing.filled, header.as_bytes());
        self.outgoing.stream = self.session.stream_of(slot);
        self.outgoing.packet[filled..filled + header.len()].copy_from_slice(header);
        self.outgoing.filled += header.len() + bytes;
        if self.outgoing.limit - self.outgoing.filled < ROOM_BYTES_MIN {
            self.send();
        }
    }
}

/// The far end is told that nobody is here any more, if the carrier takes it: it would wait for a word
/// of this one until the link counts as dead.
impl<C: Carrier> Drop for Link<'_, C> {
    fn drop(&mut self) {
        if self.carrier.is_some() && self.dead.is_none() && !self.session.is_closed() {
            self.session.close(FailReason::Shutdown, FailReason::Shutdown.name());
            self.outgoing.blocked = false;
            self.flush();
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
