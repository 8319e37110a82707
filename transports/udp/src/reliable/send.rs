//! How datagrams go out: what was given is taken apart into slots, and slots become packets, as far as
//! window and pace allow. A part of `reliable.rs`, whose invariants are kept here.

use super::{COPY_AFTER_MICROS, Reliable, VACANT_MIN};
use crate::ack::{ACK_BYTES_MAX, Received};
use crate::packet::{
    self, HEADER_BYTES, Header, NUMBER_MAX, OVERHEAD_BYTES, PAD, PATH_BYTES, PROBE,
};
use crate::seal::TAG_BYTES;
use crate::sent::Record;
use crate::slots::{DATAGRAM_BYTES_MAX, MESSAGES_BYTES_MAX, Ticket};
use crate::socket::Path;
use crate::split::{Malformed, Split};
use crate::time::Micros;
use arrayvec::ArrayVec;

/// Where a datagram is written to.
type Out = [u8; DATAGRAM_BYTES_MAX];

/// A datagram that is to be sent now.
#[derive(Clone, Copy, Debug)]
pub struct Emitted {
    to: Path,
    bytes: u16,
    is_alone: bool,
}

impl Emitted {
    /// Its length in bytes: the first so many that were written are it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.into()
    }

    /// Where it goes.
    #[must_use]
    pub fn to(&self) -> Path {
        self.to
    }

    /// Whether it is to be given to the kernel without others: it may be too long.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether the two may be given to the kernel together.
    pub(crate) fn is_alike(&self, other: &Emitted) -> bool {
        self.to == other.to && self.is_alone == other.is_alone
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPushed {
    /// There are not enough slots.
    Full,
    /// It is not whole messages, or one of them does not fit a datagram.
    Malformed,
}

impl Reliable<'_> {
    /// Takes a packet of messages, to be sent as datagrams: a long DATA in several pieces. `emit` then
    /// gives them. O(bytes).
    ///
    /// # Errors
    /// See [`NotPushed`]; then nothing happened.
    pub fn push(&mut self, packet: &[u8]) -> Result<(), NotPushed> {
        // Datagrams may have become shorter since the window was asked for.
        self.take_apart(packet, VACANT_MIN)
    }

    /// The same, so that so many slots are left, unless it ends the link.
    fn take_apart(&mut self, packet: &[u8], left: usize) -> Result<(), NotPushed> {
        let mut split = Split::new(packet, self.payload_bytes());
        let mut taken = ArrayVec::<(Ticket, usize), 128>::new();
        while !split.is_done() {
            let ticket = if taken.is_full() { None } else { self.slots.take() };
            let Some(ticket) = ticket else { return self.give_back(&taken, NotPushed::Full) };
            match split.fill(self.slots.body_mut(ticket)) {
                Ok(bytes) => taken.push((ticket, bytes)),
                Err(Malformed) => {
                    self.slots.give_back(ticket);
                    return self.give_back(&taken, NotPushed::Malformed);
                }
            }
        }
        if self.slots.vacant() < left && !split.saw_close() {
            return self.give_back(&taken, NotPushed::Full);
        }
        for &(ticket, bytes) in &taken {
            self.slots.queue(ticket, bytes);
        }
        if split.saw_close()
            && let Some(&(ticket, _)) = taken.last()
        {
            self.last_words = Some(ticket);
        }
        Ok(())
    }

    fn give_back(&mut self, taken: &[(Ticket, usize)], why: NotPushed) -> Result<(), NotPushed> {
        // It will be said when there is room.
        self.blocked |= why == NotPushed::Full;
        taken.iter().for_each(|&(ticket, _)| self.slots.give_back(ticket));
        Err(why)
    }

    /// Writes the next datagram that is to be sent now, if any; it counts as sent. O(bytes).
    pub fn emit(&mut self, now: Micros, out: &mut Out) -> Option<Emitted> {
        if !self.can_send(now) {
            return None;
        }
        if let Some((to, value)) = self.roaming.take_response() {
            return self.emit_own(packet::path_response(value), to, now, out);
        }
        if let Some((to, value)) = self.roaming.take_challenge(now, self.rtt.smoothed) {
            return self.emit_own(packet::path_challenge(value), to, now, out);
        }
        if self.probes_owed > 0 {
            return self.emit_probe(now, out);
        }
        if self.copies_below > 0
            && let Some(emitted) = self.emit_copy(now, out)
        {
            return Some(emitted);
        }
        if self.may_search()
            && let Some(bytes) = self.search.probe_due(now)
        {
            return self.emit_search(bytes, now, out);
        }
        self.split_aside();
        // Of those that are too long now, some may have to wait until what they become has room.
        for _ in 0..=self.slots.used() {
            if !self.may_send(now) {
                break;
            }
            let Some((ticket, is_repeated)) = self.slots.next() else { break };
            if self.slots.body_bytes(ticket) > self.payload_bytes() {
                self.split_again(ticket);
                continue;
            }
            self.counters.repeated += u64::from(is_repeated);
            let emitted = self.emit_slot(ticket, now, out);
            // Where round trips are shorter, the answer is awaited instead.
            let is_far = self.rtt.smoothed >= COPY_AFTER_MICROS;
            self.copy_at = (is_far && self.is_little()).then(|| now.after(COPY_AFTER_MICROS));
            return emitted;
        }
        None
    }

    /// Whether there is a number for a packet, and a key.
    fn can_send(&mut self, now: Micros) -> bool {
        self.is_mute = self.seal.slot(now).is_none() || self.sent.next() > NUMBER_MAX;
        !self.is_mute && self.sent.room() > 0
    }

    /// An acknowledgement, if one is due: at the end of a turn, as it may have gone with something else.
    pub fn emit_acknowledgement(&mut self, now: Micros, out: &mut Out) -> Option<Emitted> {
        self.received.ack_at(self.rtt.smoothed).filter(|&at| at <= now)?;
        if !self.can_send(now) {
            return None;
        }
        let room = &mut out[HEADER_BYTES..HEADER_BYTES + ACK_BYTES_MAX];
        let bytes = self.received.emit(now, room);
        if bytes == 0 {
            return None;
        }
        let emitted = self.close(out, bytes, self.roaming.path(), now)?;
        self.sent.skip();
        Some(emitted)
    }

    /// There is nothing to send although there could be: what arrives says nothing of what the path can
    /// take. To be said at the end of a turn.
    pub fn note_idle(&mut self) {
        let in_flight = self.sent.in_flight_bytes();
        if !self.blocked && self.slots.queued_bytes() == 0 && in_flight < self.window_bytes() {
            self.congestion.on_app_limited(in_flight);
        }
    }

    /// The link is given up: what says so goes out once more, as nobody will wait for an
    /// acknowledgement. `None`: it says nothing, or has arrived.
    pub fn emit_last_words(&mut self, now: Micros, out: &mut Out) -> Option<Emitted> {
        let ticket = self.last_words?;
        if !self.can_send(now) || !self.slots.copy(ticket) {
            return None;
        }
        self.emit_slot(ticket, now, out)
    }

    fn may_send(&mut self, now: Micros) -> bool {
        if self.slots.queued_bytes() == 0 || self.record_room() == 0 {
            return false;
        }
        if self.last_words.is_some() {
            return true;
        }
        self.sent.in_flight_bytes() < self.window_bytes() && self.pacing(now) > 0
    }

    /// What a slot holds, as a packet, with an acknowledgement behind it if one fits and says anything.
    fn emit_slot(&mut self, ticket: Ticket, now: Micros, out: &mut Out) -> Option<Emitted> {
        let limit = self.payload_bytes().min(MESSAGES_BYTES_MAX);
        let messages = self.slots.messages(ticket);
        let bytes = messages.len();
        out[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(messages);
        let (bytes, told) = add_ack(self.received, out, bytes, limit, now);
        let emitted = self.close(out, bytes, self.roaming.path(), now)?;
        self.note_sent(ticket, emitted.bytes(), now, false);
        self.sent.note_told(told);
        Some(emitted)
    }

    fn note_sent(&mut self, ticket: Ticket, bytes: usize, now: Micros, is_probe: bool) {
        let stamp = self.congestion.on_sent(now, bytes as u32, self.sent.in_flight_bytes());
        self.pacer.spend(bytes as u64);
        let mut record = Record::new(now, ticket, bytes, stamp);
        record.is_probe = is_probe;
        self.sent.add(record);
        self.asked_at = now;
    }

    /// Something that asks for an acknowledgement: what has been under way longest, or what waits, or
    /// nothing at all.
    fn emit_probe(&mut self, now: Micros, out: &mut Out) -> Option<Emitted> {
        self.probes_owed -= 1;
        self.counters.probes += 1;
        let skipped = usize::from(super::PROBES - 1 - self.probes_owed.min(super::PROBES - 1));
        let holds = self.sent.outstanding().filter(|record| record.ticket != Ticket::NONE);
        let ticket = holds.map(|record| record.ticket).nth(skipped);
        // A short one among them tells whether it is the length.
        let is_short = self.probed > 1 && self.probes_owed == 0;
        if let Some(ticket) = ticket.filter(|_| !is_short)
            && self.slots.body_bytes(ticket) <= self.payload_bytes()
            && self.slots.copy(ticket)
        {
            return self.emit_slot(ticket, now, out);
        }
        out[HEADER_BYTES] = PROBE;
        let emitted = self.close(out, 1, self.roaming.path(), now)?;
        self.note_sent(Ticket::NONE, emitted.bytes(), now, false);
        Some(emitted)
    }

    /// What is under way and was not sent twice yet, once more; `None`: that is all.
    fn emit_copy(&mut self, now: Micros, out: &mut Out) -> Option<Emitted> {
        while let Some((number, ticket)) = self.sent.first_from(self.copied)
            && number < self.copies_below
        {
            self.copied = number + 1;
            if self.record_room() > 0 && self.slots.copy(ticket) {
                self.counters.probes += 1;
                return self.emit_slot(ticket, now, out);
            }
        }
        // Copies are not copied.
        (self.copied, self.copies_below) = (self.sent.next(), 0);
        None
    }

    /// A datagram longer than is known to get through.
    fn emit_search(&mut self, datagram_bytes: u16, now: Micros, out: &mut Out) -> Option<Emitted> {
        let bytes = usize::from(datagram_bytes) - OVERHEAD_BYTES;
        let body = &mut out[HEADER_BYTES..HEADER_BYTES + bytes];
        body.fill(PAD);
        body[0] = PROBE;
        let emitted = self.close(out, bytes, self.roaming.path(), now)?;
        self.search.on_probe_sent(self.sent.next(), datagram_bytes);
        self.note_sent(Ticket::NONE, emitted.bytes(), now, true);
        Some(Emitted { is_alone: true, ..emitted })
    }

    /// One of the carrier's own messages, alone, that nobody acknowledges.
    fn emit_own(
        &mut self,
        own: [u8; PATH_BYTES],
        to: Path,
        now: Micros,
        out: &mut Out,
    ) -> Option<Emitted> {
        out[HEADER_BYTES..HEADER_BYTES + PATH_BYTES].copy_from_slice(&own);
        let emitted = self.close(out, PATH_BYTES, to, now)?;
        self.sent.skip();
        Some(emitted)
    }

    /// Puts a header before so many bytes of messages, seals them, and puts the tag behind. `None`: there
    /// is no key, and what was written is not to be sent; not after [`Reliable::can_send`].
    fn close(&mut self, out: &mut Out, bytes: usize, to: Path, now: Micros) -> Option<Emitted> {
        let (mode, key_slot) = (self.seal.mode(), self.seal.slot(now)?);
        let (number, receiver) = (self.sent.next(), self.peer_index);
        let header = Header { mode, key_slot, number, receiver }.encode();
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        let (body, rest) = rest.split_at_mut(bytes);
        head.copy_from_slice(&header);
        let tag = self.seal.seal(now, number, head, body)?;
        rest[..TAG_BYTES].copy_from_slice(&tag);
        Some(Emitted { to, bytes: (bytes + OVERHEAD_BYTES) as u16, is_alone: false })
    }

    /// A slot that is longer than the path takes any more becomes several, or is set aside until there
    /// are slots for it; `false`: that.
    fn split_again(&mut self, ticket: Ticket) -> bool {
        let messages = self.slots.messages(ticket);
        let bytes = messages.len();
        let mut copy = [0; MESSAGES_BYTES_MAX];
        copy[..bytes].copy_from_slice(messages);
        let is_split = self.can_split() && self.take_apart(&copy[..bytes], 0).is_ok();
        match is_split {
            true => self.slots.acknowledge(ticket),
            false => self.slots.set_aside(ticket),
        }
        is_split
    }

    /// Whether there are slots for what the longest one becomes: no message but DATA is longer than half
    /// a datagram, so each of them takes more than that.
    pub(super) fn can_split(&self) -> bool {
        self.slots.vacant() >= MESSAGES_BYTES_MAX.div_ceil(self.payload_bytes() / 2)
    }

    /// Those that were set aside become several, as far as there are slots. O(slots that do).
    fn split_aside(&mut self) {
        while self.slots.has_aside() && self.can_split() {
            let Some(ticket) = self.slots.take_aside() else { return };
            if self.slots.body_bytes(ticket) <= self.payload_bytes() {
                // The path has become wider again.
                self.slots.lose(ticket);
            } else if !self.split_again(ticket) {
                return;
            }
        }
    }
}

/// Adds an acknowledgement behind so many bytes of messages, if one fits and says anything: how many bytes
/// they are then, and the largest number it tells of.
fn add_ack(
    received: &mut Received,
    out: &mut Out,
    bytes: usize,
    limit: usize,
    now: Micros,
) -> (usize, Option<u64>) {
    if !received.has_news() || bytes >= limit {
        return (bytes, None);
    }
    let ack_bytes = received.emit(now, &mut out[HEADER_BYTES + bytes..HEADER_BYTES + limit]);
    (bytes + ack_bytes, received.largest().filter(|_| ack_bytes > 0))
}
