//! One end of a link over UDP, without its socket: what is given to be sent arrives at least once, as
//! long as anything does. Input, output and time are arguments.
//!
//! A *slot* holds the messages of one datagram until they have arrived; a *packet* is one attempt, with
//! a number of its own. What is lost goes again, byte for byte, in a new packet, so an acknowledgement
//! is always of one attempt, and no number is used twice.
//!
//! Invariants: what the peer is told has arrived has been taken by the link ([`Reliable::handled`]);
//! bytes in flight exceed the window only by probes, copies and one datagram; nothing the peer says
//! makes it panic, and what was never sent is not acknowledged.

mod hear;
mod send;

pub use hear::Broken;
pub use send::{Emitted, NotPushed};

use crate::ack::{ACK_DELAY_MICROS, ACK_DELAY_SHORT_MICROS, Received};
use crate::congestion::{Algorithm, Congestion};
use crate::mtu::Search;
use crate::pacer::Pacer;
use crate::packet::OVERHEAD_BYTES;
use crate::roaming::Roaming;
use crate::rtt::{GRANULARITY_MICROS, Rtt};
use crate::seal::Seal;
use crate::sent::{Record, Sent};
use crate::slots::{DATAGRAM_BYTES_MAX, Note, Slots, Ticket};
use crate::socket::Path;
use crate::time::Micros;
use arrayvec::ArrayVec;
use seaprox_proto::carrier::WINDOW_BYTES_MIN;
use seaprox_proto::message::OFFSET_HEADER_BYTES;

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

/// Slots that are left for what becomes several when the path becomes narrower.
const VACANT_MIN: usize = 8;

/// Datagrams whose numbers are free for acknowledgements and probes though no more can be sent.
const RECORDS_RESERVED: usize = 64;

/// Everything one end needs: `SLOTS` datagrams that were sent and have not arrived, `RECORDS` packets
/// whose fate is not known. All zeroes when new, so it belongs in a static, and memory is touched only
/// as it is used.
pub struct Memory<const SLOTS: usize, const RECORDS: usize> {
    slots: [[u8; DATAGRAM_BYTES_MAX]; SLOTS],
    notes: [Note; SLOTS],
    records: [Record; RECORDS],
    received: Received,
    scratch: [u8; DATAGRAM_BYTES_MAX],
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
            slots: [[0; DATAGRAM_BYTES_MAX]; SLOTS],
            notes: [Note::VACANT; SLOTS],
            records: [Record::VACANT; RECORDS],
            received: Received::new(),
            scratch: [0; DATAGRAM_BYTES_MAX],
        }
    }
}

impl<const SLOTS: usize, const RECORDS: usize> Memory<SLOTS, RECORDS> {
    /// All of it, for one link at a time.
    pub fn slices(&mut self) -> Slices<'_> {
        Slices {
            slots: &mut self.slots,
            notes: &mut self.notes,
            records: &mut self.records,
            received: &mut self.received,
            scratch: &mut self.scratch,
        }
    }
}

/// The memory of one end, whatever its sizes.
pub struct Slices<'m> {
    slots: &'m mut [[u8; DATAGRAM_BYTES_MAX]],
    notes: &'m mut [Note],
    records: &'m mut [Record],
    received: &'m mut Received,
    scratch: &'m mut [u8; DATAGRAM_BYTES_MAX],
}

/// What two ends have agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// By which the peer knows the link.
    pub peer_index: u32,
    /// Where the peer is.
    pub path: Path,
    /// The longest datagram both take, in bytes.
    pub datagram_bytes_max: u16,
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
pub struct Reliable<'m, S> {
    seal: S,
    peer_index: u32,
    slots: Slots<'m>,
    sent: Sent<'m>,
    received: &'m mut Received,
    /// Where datagrams are put together that are no slot's.
    scratch: &'m mut [u8; DATAGRAM_BYTES_MAX],
    /// Where the last of them goes.
    scratch_path: Path,
    pending: ArrayVec<Pending, PENDING_MAX>,
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

impl<'m, S: Seal> Reliable<'m, S> {
    /// Begins with these terms; whatever the memory held is forgotten. O(slots + records).
    pub fn new(memory: Slices<'m>, seal: S, terms: &Terms, now: Micros) -> Reliable<'m, S> {
        *memory.received = Received::new();
        let search = Search::new(terms.datagram_bytes_max.min(DATAGRAM_BYTES_MAX as u16), now);
        Reliable {
            seal,
            peer_index: terms.peer_index,
            slots: Slots::new(memory.slots, memory.notes),
            sent: Sent::new(memory.records),
            received: memory.received,
            scratch: memory.scratch,
            scratch_path: terms.path,
            pending: ArrayVec::new(),
            rtt: Rtt::UNKNOWN,
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
        Slices { slots, notes, records, received: self.received, scratch: self.scratch }
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Where the peer is.
    pub fn path(&self) -> Path {
        self.roaming.path()
    }

    /// The smoothed round trip, in microseconds; `None`: nothing has been acknowledged.
    pub fn round_trip_micros(&self) -> Option<u64> {
        (!self.rtt.is_unknown()).then_some(self.rtt.smoothed)
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
        let payload = self.payload_bytes();
        let datagrams = flight.min(paced).div_ceil(u64::from(self.search.datagram_bytes()));
        let bytes = match flight.min(paced) {
            0 => 0,
            // What fills one datagram; each further one has a header of its own.
            _ => (payload + (datagrams as usize - 1) * (payload - OFFSET_HEADER_BYTES))
                .min(self.slot_room()),
        };
        self.blocked = bytes < WINDOW_BYTES_MIN;
        bytes
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

    /// How long the peer may hold an acknowledgement back.
    fn ack_delay(&self) -> u64 {
        if self.rtt.smoothed < ACK_DELAY_MICROS { ACK_DELAY_SHORT_MICROS } else { ACK_DELAY_MICROS }
    }

    /// When it is to be asked whether an acknowledgement comes at all.
    fn probe_at(&self) -> Option<Micros> {
        (self.sent.out() > 0).then(|| {
            let first = self.rtt.probe_timeout(self.ack_delay(), self.probed == 0);
            let doubled = first.checked_shl(self.probed.min(16)).unwrap_or(u64::MAX);
            self.asked_at.after(doubled.min(PROBE_MICROS_MAX.max(first)))
        })
    }

    /// When more may be sent, if it is only the pace that forbids it.
    fn paced_at(&self) -> Option<Micros> {
        // Without slots it is what arrives that opens the way.
        let could = self.blocked && self.slot_room() >= WINDOW_BYTES_MIN;
        let wants = could || self.slots.queued_bytes() > 0;
        let is_open = self.sent.in_flight_bytes() < self.window_bytes() && self.record_room() > 0;
        let datagram = u32::from(self.search.datagram_bytes());
        (wants && is_open).then(|| self.pacer.next(self.pacing_rate(), datagram))
    }

    /// When [`Reliable::handle_timeout`] is to be called, and then [`Reliable::emit`].
    pub fn timeout(&self) -> Option<Micros> {
        let owed = (self.probes_owed > 0 || self.copies_below > 0).then_some(Micros(0));
        let waits = [
            owed,
            self.lost_at,
            self.probe_at(),
            self.copy_at,
            self.paced_at(),
            self.received.ack_at(self.rtt.smoothed),
            self.roaming.timeout(),
            self.search.due_at().filter(|_| self.record_room() > 0),
        ];
        waits.into_iter().flatten().min()
    }

    /// Time has passed: something may be lost, or to be asked for.
    pub fn handle_timeout(&mut self, now: Micros) {
        if self.lost_at.is_some_and(|at| at <= now) {
            self.detect_lost(now);
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probed = self.probed.saturating_add(1);
            self.probes_owed = PROBES;
            self.asked_at = now;
            if self.search.on_timeout(self.probed) {
                self.note_datagram_bytes();
            }
        }
        if self.copy_at.is_some_and(|at| at <= now) {
            self.copy_at = None;
            self.copies_below = if self.is_little() { self.sent.next() } else { 0 };
        }
    }

    /// Whether what is under way is so little that it is worth sending twice.
    fn is_little(&self) -> bool {
        self.sent.in_flight_bytes() <= COPY_BYTES_MAX && self.slots.queued_bytes() == 0
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
