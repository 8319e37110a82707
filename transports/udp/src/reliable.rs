//! One end of a link over UDP, without its socket: what is given to be sent arrives at least once, as
//! long as anything does. Input, output and time are arguments.
//!
//! A *slot* holds the messages of one datagram until they have arrived; a *packet* is one attempt, with
//! a number of its own. What is lost goes again, byte for byte, in a new packet, so an acknowledgement
//! is always of one attempt, and no number is used twice.
//!
//! Invariants: what the peer is told has arrived has been taken by the link (`Reliable::handled`);
//! bytes in flight exceed the window only by probes, copies and one datagram; nothing the peer says
//! makes it panic, and what was never sent is not acknowledged.

mod due;
mod hear;
mod send;

pub use hear::Broken;
pub use send::{Emitted, NotPushed};

use crate::ack::Received;
use crate::congestion::{Algorithm, Congestion};
use crate::handshake::Limits;
use crate::mtu::Search;
use crate::pacer::Pacer;
use crate::packet::OVERHEAD_BYTES;
use crate::roaming::Roaming;
use crate::rtt::{GRANULARITY_MICROS, Rtt};
use crate::seal::{Seal, Sealing};
use crate::sent::{Record, Sent};
use crate::slots::{MESSAGES_BYTES_MAX, Note, Slots, Ticket};
use crate::socket::Path;
use crate::time::Micros;
use crate::unsent::Outgoing;
use arrayvec::ArrayVec;
use core::mem::MaybeUninit;
use seaprox_noise::agreed::Keys;
use seaprox_noise::keyring::Keyring;
use seaprox_proto::carrier::WINDOW_BYTES_MIN;
use seaprox_proto::message::{OFFSET_HEADER_BYTES, PACKET_BYTES};

/// Between two probes for an acknowledgement at most so long passes, in microseconds: a path that is
/// back is found that soon.
const PROBE_MICROS_MAX: u64 = 1_000_000;

/// Packets that ask for an acknowledgement when none came for long, each time.
const PROBES: u8 = 2;

/// When so little is under way that no later packet will tell of a loss, it is sent once more after so
/// many microseconds: a lost request or answer then costs that, not a round trip.
const COPY_AFTER_MICROS: u64 = 2_000;

/// How much is so little: one datagram of this many bytes, or a few small ones.
const COPY_BYTES_MAX: u64 = 1_200;

/// The least window (RFC 9002 section 7.2, kMinimumWindow).
const LEAST_DATAGRAMS: u64 = 2;

/// Packets that were heard and that the link has not taken yet, at most.
const PENDING_MAX: usize = 64;

/// Slots that are left for what becomes several when the path becomes narrower: the longest datagram
/// becomes no more, on the narrowest path.
const VACANT_MIN: usize = 8;

const _: () = {
    let narrowest = crate::mtu::LOWEST_BYTES as usize - OVERHEAD_BYTES;
    assert!(VACANT_MIN >= MESSAGES_BYTES_MAX.div_ceil(narrowest / 2));
};

/// Datagrams whose numbers are free for acknowledgements and probes though no more can be sent.
const RECORDS_RESERVED: usize = 64;

/// Everything one end needs: `SLOTS` datagrams that were sent and have not arrived, `RECORDS` packets
/// whose fate is not known. All zeroes when new, so it belongs in a static, and memory is touched only
/// as it is used.
pub struct Memory<const SLOTS: usize, const RECORDS: usize> {
    slots: [[u8; MESSAGES_BYTES_MAX]; SLOTS],
    notes: [Note; SLOTS],
    records: [Record; RECORDS],
    received: Received,
    pending: ArrayVec<Pending, PENDING_MAX>,
    /// Written to before it is first used: nobody says what one without keys looks like.
    keyring: MaybeUninit<Keyring>,
    outgoing: Outgoing,
}

impl<const SLOTS: usize, const RECORDS: usize> Memory<SLOTS, RECORDS> {
    /// Bytes of it.
    pub const MEMORY_BYTES: usize = {
        assert!(SLOTS >= 64 && SLOTS < u16::MAX as usize, "from 64 slots on, below 65,535");
        assert!(RECORDS.is_power_of_two(), "packets are found by the low bits of their number");
        assert!(RECORDS >= 2 * SLOTS, "a slot may be sent several times before one arrives");
        size_of::<Self>()
    };

    /// Nothing sent, nothing received.
    #[allow(clippy::new_without_default)] // a default is made on the stack; this belongs in a static
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(Self::MEMORY_BYTES > 0) };
        Memory {
            slots: [[0; MESSAGES_BYTES_MAX]; SLOTS],
            notes: [Note::VACANT; SLOTS],
            records: [Record::VACANT; RECORDS],
            received: Received::new(),
            pending: ArrayVec::new_const(),
            keyring: MaybeUninit::zeroed(),
            outgoing: Outgoing::new(),
        }
    }
}

impl<const SLOTS: usize, const RECORDS: usize> Memory<SLOTS, RECORDS> {
    /// All of it, for one link at a time.
    pub fn parts(&mut self) -> Parts<'_> {
        let slices = Slices {
            slots: &mut self.slots,
            notes: &mut self.notes,
            records: &mut self.records,
            received: &mut self.received,
            pending: &mut self.pending,
            keyring: self.keyring.write(Keyring::new()),
        };
        Parts { slices, outgoing: &mut self.outgoing }
    }
}

/// The memory of one end, whatever its sizes.
pub struct Parts<'m> {
    /// For [`Reliable`].
    pub slices: Slices<'m>,
    /// Where it writes datagrams to.
    pub outgoing: &'m mut Outgoing,
}

/// What a [`Reliable`] keeps all it knows in, whatever its sizes.
pub struct Slices<'m> {
    slots: &'m mut [[u8; MESSAGES_BYTES_MAX]],
    notes: &'m mut [Note],
    records: &'m mut [Record],
    received: &'m mut Received,
    pending: &'m mut ArrayVec<Pending, PENDING_MAX>,
    keyring: &'m mut Keyring,
}

/// What two ends have agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// By which the peer knows the link.
    pub peer_index: u32,
    /// Where the peer is.
    pub path: Path,
    /// What the peer can take.
    pub peer: Limits,
    /// How long the handshake took, in microseconds, if that was one round trip: better than a guess.
    pub rtt_micros: Option<u64>,
    /// What may be under way at most, in bytes: what the peer's socket can hold.
    pub flight_bytes_max: u64,
    /// How much of it is.
    pub algorithm: Algorithm,
    /// Unpredictable.
    pub random: u64,
}

/// What happened to datagrams, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sent, of any kind.
    pub sent: u64,
    /// Sent again because they were lost.
    pub repeated: u64,
    /// Sent to ask for an acknowledgement, or as copies.
    pub probes: u64,
    /// Taken for lost.
    pub lost: u64,
    /// Taken for lost, and arrived after all.
    pub late: u64,
    /// Received and used.
    pub received: u64,
    /// Received again, or much too late.
    pub duplicates: u64,
    /// Received and not whole, or not the peer's.
    pub corrupt: u64,
}

/// A packet that was heard.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    is_eliciting: bool,
    is_ce: bool,
}

/// One end of a link.
pub struct Reliable<'m> {
    seal: Seal<'m>,
    /// There was no key that may seal: nothing can be sent, and so nothing is due, until there is one.
    is_mute: bool,
    peer_index: u32,
    slots: Slots<'m>,
    sent: Sent<'m>,
    received: &'m mut Received,
    pending: &'m mut ArrayVec<Pending, PENDING_MAX>,
    rtt: Rtt,
    congestion: Congestion,
    pacer: Pacer,
    search: Search,
    roaming: Roaming,
    flight_bytes_max: u64,
    /// The link wanted to send and was told to wait.
    blocked: bool,
    /// When the next packet will be lost, if nothing arrives.
    lost_at: Option<Micros>,
    /// When a packet was last sent that asks to be acknowledged.
    asked_at: Micros,
    /// How often in a row that was in vain.
    probed: u32,
    probes_owed: u8,
    /// When what is under way is to be sent once more.
    copy_at: Option<Micros>,
    /// Packets below are not.
    copied: u64,
    /// Packets below are to be; 0: none.
    copies_below: u64,
    /// The peer's count of marked packets.
    ce_count: u16,
    /// The slot that says that the link ends: it goes whatever the window says.
    last_words: Option<Ticket>,
    counters: Counters,
}

impl<'m> Reliable<'m> {
    /// Begins with these terms; whatever the memory held is forgotten. O(slots + records).
    pub fn new(memory: Slices<'m>, sealing: Sealing, terms: &Terms, now: Micros) -> Reliable<'m> {
        *memory.received = Received::new();
        memory.pending.clear();
        let longest = terms.peer.datagram_bytes_max.min(Limits::OWN.datagram_bytes_max);
        let search = Search::new(longest, now);
        Reliable {
            seal: Seal::new(memory.keyring, sealing, now),
            is_mute: false,
            peer_index: terms.peer_index,
            slots: Slots::new(memory.slots, memory.notes),
            sent: Sent::new(memory.records, terms.peer.window.into()),
            received: memory.received,
            pending: memory.pending,
            rtt: Rtt::begin(terms.rtt_micros),
            congestion: Congestion::new(terms.algorithm, search.datagram_bytes().into(), now),
            pacer: Pacer::new(now),
            search,
            roaming: Roaming::new(terms.path, terms.random),
            flight_bytes_max: terms.flight_bytes_max,
            blocked: false,
            lost_at: None,
            asked_at: now,
            probed: 0,
            probes_owed: 0,
            copy_at: None,
            copied: 0,
            copies_below: 0,
            ce_count: 0,
            last_words: None,
            counters: Counters::default(),
        }
    }

    /// Its memory, for another link.
    pub fn into_slices(self) -> Slices<'m> {
        let (slots, notes) = self.slots.into_slices();
        let records = self.sent.into_slice();
        let Reliable { received, pending, seal, .. } = self;
        Slices { slots, notes, records, received, pending, keyring: seal.into_keyring() }
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        // Each has a number of its own, whatever is in it.
        Counters { sent: self.sent.next(), ..self.counters }
    }

    /// The link's keys; `None`: it has none.
    pub fn keys(&self) -> Option<&Keyring> {
        self.seal.keys()
    }

    /// New keys that the peer was asked for and has: they are used from now on, and a packet goes at once
    /// that shows so.
    pub fn install(&mut self, keys: Keys, now: Micros) {
        if let Some(keyring) = self.seal.keys_mut() {
            keyring.install(keys, now.0);
            self.is_mute = false;
            self.ask();
        }
    }

    /// New keys that the peer has asked for: they are used once it has shown that it has them. Whether it
    /// may ask for these [`Keyring::may_propose`] says.
    pub fn propose(&mut self, keys: Keys, now: Micros) {
        if let Some(keyring) = self.seal.keys_mut() {
            let _ = keyring.propose(keys, now.0);
        }
    }

    /// Keys that are too old are overwritten; to be called now and then.
    pub fn expire_keys(&mut self, now: Micros) {
        if let Some(keyring) = self.seal.keys_mut() {
            keyring.expire(now.0);
        }
    }

    /// By which the peer knows the link.
    pub fn peer_index(&self) -> u32 {
        self.peer_index
    }

    /// Where the peer is.
    pub fn path(&self) -> Path {
        self.roaming.path()
    }

    /// The longest datagram that is sent now, in bytes.
    pub fn datagram_bytes(&self) -> u16 {
        self.search.datagram_bytes()
    }

    /// Bytes of datagrams that wait to be sent.
    pub fn queued_bytes(&self) -> u64 {
        self.slots.queued_bytes()
    }

    /// Bytes under way.
    pub fn in_flight_bytes(&self) -> u64 {
        self.sent.in_flight_bytes()
    }

    /// Whether everything that was given to be sent has arrived.
    pub fn is_flushed(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes that may be under way.
    fn window_bytes(&self) -> u64 {
        self.congestion.window_bytes().min(self.flight_bytes_max)
    }

    /// Bytes of messages a datagram takes.
    fn payload_bytes(&self) -> usize {
        usize::from(self.search.datagram_bytes()) - OVERHEAD_BYTES
    }

    fn pacing(&mut self, now: Micros) -> u64 {
        let datagram = u32::from(self.search.datagram_bytes());
        self.pacer.budget(now, self.pacing_rate(), datagram)
    }

    /// Bytes per second: no less than the least window in a round trip, whatever was seen of a path
    /// that was dark.
    fn pacing_rate(&self) -> u64 {
        let least = LEAST_DATAGRAMS * u64::from(self.search.datagram_bytes()) * 1_000_000;
        self.congestion.pacing_rate().max(least / self.rtt.smoothed.max(GRANULARITY_MICROS))
    }

    /// How many bytes of messages may be given to [`Reliable::push`] now, as part of one packet: what is
    /// pushed goes out at once. Less than [`WINDOW_BYTES_MIN`]: none, and [`Reliable::is_open`] or the
    /// timeout will say when there may be some.
    pub fn window(&mut self, now: Micros) -> usize {
        let queued = self.slots.queued_bytes();
        let flight = self.window_bytes().saturating_sub(self.sent.in_flight_bytes() + queued);
        let paced = self.pacing(now).saturating_sub(queued);
        let datagrams = flight.min(paced).div_ceil(u64::from(self.search.datagram_bytes()));
        let bytes = match datagrams.checked_sub(1) {
            None => 0,
            Some(further) => self.filled_by(further).min(self.slot_room()),
        };
        self.blocked = bytes < WINDOW_BYTES_MIN;
        bytes
    }

    /// Bytes of one packet that fill a datagram and so many further ones, each with a header of its own.
    /// No more than a packet may have: what is left of the last datagram would go out as it is.
    fn filled_by(&self, further: u64) -> usize {
        let payload = self.payload_bytes();
        let each = payload - OFFSET_HEADER_BYTES;
        payload + each * further.min(((PACKET_BYTES - payload) / each) as u64) as usize
    }

    /// Bytes of messages for which there are slots, however badly they fill them: no message but DATA is
    /// longer than half a datagram, so each takes at least a third.
    fn slot_room(&self) -> usize {
        let vacant = self.slots.vacant().saturating_sub(VACANT_MIN).min(self.record_room());
        vacant * (self.payload_bytes() / 3)
    }

    fn record_room(&self) -> usize {
        self.sent.room().saturating_sub(RECORDS_RESERVED)
    }

    /// Whether the link, that was told to wait, may send now; said once.
    pub fn is_open(&mut self, now: Micros) -> bool {
        self.blocked && self.window(now) >= WINDOW_BYTES_MIN
    }

    /// The path takes longer or shorter datagrams from now on.
    fn note_datagram_bytes(&mut self) {
        self.congestion.on_datagram_bytes(self.search.datagram_bytes().into());
    }

    /// The socket refused a datagram of this length (EMSGSIZE): what it held is as good as lost.
    pub fn handle_too_long(&mut self, bytes: usize, now: Micros) {
        if self.search.on_too_long(now, bytes as u16) {
            self.note_datagram_bytes();
        }
    }

    /// What the invariants say. O(slots + records).
    #[cfg(any(test, feature = "sim"))]
    pub fn invariants(&self) {
        self.sent.invariants();
        self.slots.invariants();
        let unresolved = self.sent.outstanding().filter(|record| record.ticket != Ticket::NONE);
        assert!(self.slots.is_empty() || unresolved.count() > 0 || self.slots.queued_bytes() > 0);
    }
}

#[cfg(test)]
mod tests;
