//! One end of one link: which channels there are, what each may send and receive, what is owed to
//! the far end. Input, output and time are arguments: it knows no socket and no clock.
//!
//! Messages go in by [`Session::handle`], control comes out by [`Session::emit_control`]; bytes go
//! past: what is sent is only counted ([`Session::data`]), what is received is lent to the caller,
//! who passes it on or gives it back to be kept ([`Session::store`]).
//!
//! Invariants: whatever the far end sends, nothing here panics; a slot is another channel's only
//! after both ends have said their last word and know it of each other; credit never exceeds
//! reserved chunks.

mod data;
mod emit;
mod handle;
#[cfg(any(test, feature = "sim"))]
mod invariants;
mod life;
mod rate;
mod verbs;

pub use crate::channel::Slot;
#[cfg(any(test, feature = "sim"))]
pub use invariants::Holdings;
pub(crate) use rate::Rate;
pub use verbs::Refused;

use crate::carrier::{Bounds, Order};
use crate::channel::{Channel, Flags, List, OWING, WAITING};
use crate::message::{CHANNELS_MAX, ChannelId, Hello, Target, VERSION};
use crate::pool::{CHUNK_BYTES, Pool};
use crate::ranges::{Node, Nodes};
use crate::schedule::Schedule;
use crate::window::{self, Terms, WINDOW_BYTES_MAX};
use core::net::SocketAddr;
use life::{Life, Stage};
use seaprox::fail::FailReason;
use seaprox::time::Instant;

/// A window is at most this: half of what serial numbers can tell apart, with some room.
pub(crate) const CREDIT_BYTES_MAX: u32 = 1 << 30;

/// Everything a session needs, sized at compile time: `CHANNELS` channels for each end to open, and
/// `CHUNKS` chunks of [`CHUNK_BYTES`] for what was received and waits.
///
/// All zeroes when new, so it belongs in a static, and memory is touched only as it is used.
///
/// ```
/// use seaprox_proto::session::{Config, Memory, Role};
///
/// static MEMORY: std::sync::Mutex<Memory<8, 64>> = std::sync::Mutex::new(Memory::new());
///
/// let mut memory = MEMORY.lock().unwrap();
/// let _session = memory.session(Config {
///     role: Role::Acceptor,
///     peer_channels_max: 8,
///     idle_millis: 15_000,
///     opens_per_second_max: 1000,
///     first_offset: 0,
/// });
/// assert!(Memory::<8, 64>::MEMORY_BYTES >= 64 * 4096);
/// ```
pub struct Memory<const CHANNELS: usize, const CHUNKS: usize> {
    channels: [[Channel; 2]; CHANNELS],
    chunks: [[u8; CHUNK_BYTES]; CHUNKS],
    next: [u32; CHUNKS],
    nodes: [Node; CHUNKS],
    /// Records from here on are all zeroes.
    touched: usize,
}

impl<const CHANNELS: usize, const CHUNKS: usize> Memory<CHANNELS, CHUNKS> {
    /// Bytes of it.
    pub const MEMORY_BYTES: usize = {
        assert!(CHANNELS >= 1, "at least one channel");
        assert!(CHANNELS <= CHANNELS_MAX as usize, "slots have 15 bits");
        assert!(CHUNKS < 1 << 30, "offsets have 32 bits");
        // In the usual case only one end opens channels: then half the pool is for windows to grow.
        assert!(
            CHANNELS * 2 * Self::BASE_CHUNKS <= CHUNKS,
            "the first credit of every channel either end may open needs chunks of its own"
        );
        size_of::<Self>()
    };

    /// What every channel may be sent before its window has grown.
    pub const INITIAL_CREDIT_BYTES: u32 = if CHANNELS > 512 { 4 * 1024 } else { 16 * 1024 };

    /// The chunks that takes.
    const BASE_CHUNKS: usize = Self::INITIAL_CREDIT_BYTES as usize / CHUNK_BYTES;

    /// No channels yet.
    #[allow(clippy::new_without_default)] // a default is made on the stack; this belongs in a static
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(Self::MEMORY_BYTES > 0) };
        Memory {
            channels: [[Channel::VACANT; 2]; CHANNELS],
            chunks: [[0; CHUNK_BYTES]; CHUNKS],
            next: [0; CHUNKS],
            nodes: [Node::VACANT; CHUNKS],
            touched: 0,
        }
    }

    /// A session that is down until [`Session::start`]; whatever the memory held is forgotten.
    pub fn session(&mut self, config: Config) -> Session<'_> {
        self.channels.as_flattened_mut()[..self.touched].fill(Channel::VACANT);
        self.touched = 0;
        let config = Config {
            peer_channels_max: config.peer_channels_max.min(CHANNELS as u16),
            idle_millis: config.idle_millis.max(3),
            ..config
        };
        Session {
            config,
            terms: Terms {
                initial_bytes: Self::INITIAL_CREDIT_BYTES,
                base_chunks: Self::BASE_CHUNKS as u16,
                round_trip_millis: 0,
            },
            channels: self.channels.as_flattened_mut(),
            touched: &mut self.touched,
            pool: Pool::new(&mut self.chunks, &mut self.next),
            nodes: Nodes::new(&mut self.nodes),
            life: Life::DOWN,
            lists: Lists::default(),
            carrier: Bounds { channels_max: 0, ..Bounds::ORDERED },
        }
    }
}

/// Which end of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one that connected the carrier.
    Initiator,
    /// The other.
    Acceptor,
}

/// What a session is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which end it is.
    pub role: Role,
    /// How many channels the far end may have open; lowered to what was compiled in.
    pub peer_channels_max: u16,
    /// After so many milliseconds of silence the link is dead; a third of it is the heartbeat.
    pub idle_millis: u32,
    /// How many channels a second the far end may open; more are reset.
    pub opens_per_second_max: u32,
    /// The offset of a channel's first byte. Never travels, so both ends must have the same: 0.
    pub first_offset: u32,
}

/// What a message told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard<'m> {
    /// Nothing for the caller.
    Nothing,
    /// The far end said hello: channels can be opened.
    Up,
    /// The far end opened a channel: reach the target, then [`Session::accept`], or else
    /// [`Session::close_channel`] with the reason.
    Opened {
        /// The new channel; its user is 0 as yet.
        slot: Slot,
        /// Where it is to lead: names are whatever bytes the far end sent.
        target: Target<'m>,
        /// Who is at the far end of it.
        client: Option<SocketAddr>,
        /// Something of it came before this: there may be bytes stored, or it may have ended or be
        /// broken already.
        early: bool,
    },
    /// The far end has reached the target of a channel of ours. There may be room now.
    Accepted(Slot),
    /// Bytes arrived: at once [`Session::pass`] those that are delivered, and [`Session::store`] the
    /// rest (all of them, if some are stored already).
    Bytes {
        /// Whose.
        slot: Slot,
        /// At least one.
        bytes: &'m [u8],
        /// They are the last, see [`Session::ended`] once they are delivered.
        fin: bool,
    },
    /// Bytes arrived that are stored already: a gap was closed.
    Stored(Slot),
    /// There is no memory for a message that came out of its order. It had no effect, and has to come
    /// again, with all after it.
    Refused,
    /// There is room where there was none.
    Credit(Slot),
    /// The far end has said its last word: see [`Session::ended`].
    Ended(Slot),
    /// The far end takes no more: see [`Session::is_broken`].
    Stopped(Slot),
    /// No more channels can be opened.
    Draining,
    /// The far end has closed the link. Every channel is dead.
    Closed(FailReason),
}

/// How the far end's direction of a channel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// In order.
    Fin,
    /// Broken off, and the other direction with it.
    Reset(FailReason),
}

/// The lists through the channels.
#[derive(Clone, Copy, Default)]
struct Lists {
    owing: List<OWING>,
    schedule: Schedule,
    /// Slots of ours that were used and are vacant.
    vacant: List<WAITING>,
    /// Slots of ours from here on were never used.
    fresh: u16,
    /// How many channels are open: theirs, ours.
    open: [u16; 2],
}

/// One end of a link. Everything is O(1) but where it says otherwise.
///
/// A [`Slot`] that is not (or no more) a channel's is harmless: there is no room, nothing stored,
/// and nothing happens.
pub struct Session<'m> {
    config: Config,
    terms: Terms,
    channels: &'m mut [Channel],
    touched: &'m mut usize,
    pool: Pool<'m>,
    /// Of what arrived beyond a gap.
    nodes: Nodes<'m>,
    life: Life,
    lists: Lists,
    carrier: Bounds,
}

impl Session<'_> {
    /// A carrier is up, and can do this: HELLO is owed. Everything of before is gone, all channels are
    /// vacant. O(records used since the last start).
    pub fn start(&mut self, carrier: Bounds, now: Instant) {
        self.carrier = carrier;
        self.channels[..*self.touched].fill(Channel::VACANT);
        *self.touched = 0;
        self.pool.clear();
        self.nodes.clear();
        self.lists = Lists::default();
        self.terms.round_trip_millis = 0;
        self.life = Life::begin(self.config.role, now);
        // There are enough: asserted where the memory is made.
        let reserved = self.pool.reserve(self.base_of(self.peer_channels_max()));
        debug_assert!(reserved);
    }

    /// How many channels the far end may have open.
    fn peer_channels_max(&self) -> u16 {
        self.config.peer_channels_max.min(self.carrier.channels_max)
    }

    /// Chunks of so many slots.
    fn base_of(&self, slots: u16) -> u32 {
        u32::from(slots) * u32::from(self.terms.base_chunks)
    }

    /// Whether both ends have said hello, and neither has closed the link.
    pub fn is_up(&self) -> bool {
        self.life.stage == Stage::Up
    }

    /// Whether there is any channel, of either end: one that this end opened is there until the far end
    /// has delivered all its bytes, and until its user is gone.
    pub fn has_channels(&self) -> bool {
        self.lists.open != [0, 0]
    }

    /// Whether this end is closing the link, or has.
    pub fn is_ending(&self) -> bool {
        matches!(self.life.stage, Stage::Closing | Stage::Closed)
    }

    /// What this end says of itself.
    fn hello(&self) -> Hello {
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            flags: 0,
            channels_max: self.peer_channels_max(),
            initial_credit: self.terms.initial_bytes,
            credit_max: WINDOW_BYTES_MAX,
            idle_seconds: (self.config.idle_millis / 1000).clamp(1, u16::MAX.into()) as u16,
        }
    }

    /// Whether packets keep no order.
    fn is_unordered(&self) -> bool {
        self.carrier.order == Order::Any
    }

    /// The channel of a message; `None`: it is gone, and the message came late. Where packets keep no
    /// order a channel of the far end begins with whatever comes first.
    fn find(&mut self, id: ChannelId, now: Instant) -> Result<Option<usize>, FailReason> {
        let index = self.place_of(id)?;
        let channel = &self.channels[index];
        match channel.generation.wrapping_sub(id.generation()) & 0x7fff {
            0 if channel.flags.has(Flags::LIVE) => Ok(Some(index)),
            0 if self.is_unordered() && !is_ours(index) => {
                self.occupy(index, 0, now);
                self.channels[index].flags.set(Flags::EARLY);
                Ok(Some(index))
            }
            1..0x4000 => Ok(None),
            _ => Err(FailReason::Protocol),
        }
    }

    fn place_of(&self, id: ChannelId) -> Result<usize, FailReason> {
        let is_ours = id.by_initiator() == (self.config.role == Role::Initiator);
        let limit = if is_ours { self.life.channels_max } else { self.peer_channels_max() };
        if id.slot() >= limit {
            return Err(FailReason::Protocol);
        }
        Ok(usize::from(id.slot()) * 2 + usize::from(is_ours))
    }

    fn id(&self, index: usize) -> ChannelId {
        let by_initiator = is_ours(index) == (self.config.role == Role::Initiator);
        ChannelId::new(by_initiator, self.channels[index].generation, (index / 2) as u16)
    }

    /// Whether each channel has a stream of its own.
    fn has_streams(&self) -> bool {
        self.carrier.order == Order::Streams
    }

    /// The stream on which something of this channel is to be sent.
    fn stream(&self, index: usize) -> u16 {
        if self.has_streams() { self.id(index).stream() } else { 0 }
    }

    /// Makes a vacant record a channel.
    fn occupy(&mut self, index: usize, peer_credit: u32, now: Instant) {
        *self.touched = (*self.touched).max(index + 1);
        self.lists.open[index % 2] += 1;
        let first = self.config.first_offset;
        let channel = &mut self.channels[index];
        *channel = Channel {
            flags: Flags::LIVE,
            generation: channel.generation,
            deficit: crate::schedule::QUANTUM_BYTES,
            sent: first,
            sendable: first.wrapping_add(peer_credit),
            ..Channel::VACANT
        };
        window::begin(channel, self.terms, first, now);
    }

    /// Makes a channel, whose user is gone, a vacant record.
    fn vacate(&mut self, index: usize) {
        self.drop_received(index);
        if self.channels[index].flags.has(Flags::OWING) {
            self.lists.owing.remove(self.channels, index);
        }
        let generation = (self.channels[index].generation + 1) & 0x7fff;
        self.channels[index] = Channel { generation, ..Channel::VACANT };
        self.lists.open[index % 2] -= 1;
        if is_ours(index) {
            self.lists.vacant.push_front(self.channels, index);
        }
    }

    /// Nobody will read what is there, nor what will come.
    fn drop_received(&mut self, index: usize) {
        let channel = &mut self.channels[index];
        channel.flags.set(Flags::DROPPING);
        let seen = channel.ranges.end(&self.nodes).unwrap_or(channel.received);
        channel.ranges.clear(&mut self.nodes);
        channel.queue.clear(&mut self.pool);
        // What is dropped counts as received as soon as anything behind it has come.
        let is_over = channel.flags.any(Flags::LAST_RECEIVED);
        channel.received = if is_over { channel.granted } else { seen };
        channel.consumed = channel.received;
        window::end(channel, &mut self.pool, self.terms);
    }

    /// Something is owed to the far end, or nothing more of it: puts the channel on the list, or
    /// takes it off.
    fn owe(&mut self, index: usize, add: Flags, remove: Flags) {
        let channel = &mut self.channels[index];
        channel.flags.clear(remove);
        channel.flags.set(add);
        match (channel.owes(is_ours(index)), channel.flags.has(Flags::OWING)) {
            (true, false) => {
                channel.flags.set(Flags::OWING);
                self.lists.owing.push_back(self.channels, index);
            }
            (false, true) => {
                channel.flags.clear(Flags::OWING);
                self.lists.owing.remove(self.channels, index);
            }
            _ => {}
        }
    }

    /// Ends the channel if everything was said, heard and delivered.
    fn settle(&mut self, index: usize) {
        let flags = self.channels[index].flags;
        if !flags.has(Flags::LIVE | Flags::CLOSED) {
            return;
        }
        if is_ours(index) {
            // Where packets keep no order DONE may come before the last word it presupposes.
            if flags.has(Flags::DONE_RECEIVED) && flags.any(Flags::LAST_RECEIVED) {
                self.vacate(index);
            }
        } else if flags.any(Flags::LAST_SENT) && flags.any(Flags::LAST_RECEIVED) {
            // A STOP that is owed goes before it.
            self.owe(index, Flags::OWES_DONE, Flags::default());
        }
    }
}

const fn is_ours(index: usize) -> bool {
    index % 2 == 1
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "unordered_tests.rs"]
mod unordered_tests;
