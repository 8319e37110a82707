//! How datagrams go out: what was given is taken apart into slots, and slots become packets, as far as
//! window and pace allow. A part of `reliable.rs`, whose invariants are kept here.

use super::{COPY_AFTER_MICROS, Reliable, VACANT_MIN};
use crate::ack::{ACK_BYTES_MAX, Received};
use crate::packet::{self, HEADER_BYTES, Header, OVERHEAD_BYTES, PAD, PATH_BYTES, PROBE};
use crate::seal::{Seal, TAG_BYTES};
use crate::sent::Record;
use crate::slots::{DATAGRAM_BYTES_MAX, Ticket};
use crate::socket::Path;
use crate::split::{Malformed, Split};
use crate::time::Micros;
use arrayvec::ArrayVec;

/// A datagram that is to be sent now.
#[derive(Clone, Copy, Debug)]
pub struct Emitted {
    /// Of a slot; `None`: the scratch one, good until the next is emitted.
    slot: Option<u16>,
    bytes: u16,
}

impl Emitted {
    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.into()
    }

    /// Whether the next one may be emitted before this one is sent.
    #[must_use]
    pub fn may_wait(&self) -> bool {
        self.slot.is_some()
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

impl<S: Seal> Reliable<'_, S> {
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
        loop {
            if split.is_done() {
                break;
            }
            if taken.is_full() || self.slots.vacant() == 0 {
                return self.give_back(&taken, NotPushed::Full);
            }
            let Some(ticket) = self.slots.take() else { break };
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

    /// The next datagram that is to be sent now, if any; it counts as sent. O(bytes).
    pub fn emit(&mut self, now: Micros) -> Option<Emitted> {
        if let Some((to, value)) = self.roaming.take_response() {
            return Some(self.emit_own(packet::path_response(value), to));
        }
        if let Some((to, value)) = self.roaming.take_challenge(now, self.rtt.smoothed) {
            return Some(self.emit_own(packet::path_challenge(value), to));
        }
        if self.probes_owed > 0 {
            return Some(self.emit_probe(now));
        }
        if self.copies_below > 0
            && let Some(emitted) = self.emit_copy(now)
        {
            return Some(emitted);
        }
        if self.record_room() > 0
            && let Some(bytes) = self.search.probe_due(now)
        {
            return Some(self.emit_search(bytes, now));
        }
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
            let emitted = self.emit_slot(ticket, now);
            // Where round trips are shorter, the answer is awaited instead.
            let is_far = self.rtt.smoothed >= COPY_AFTER_MICROS;
            self.copy_at = (is_far && self.is_little()).then(|| now.after(COPY_AFTER_MICROS));
            return Some(emitted);
        }
        None
    }

    /// An acknowledgement, if one is due: at the end of a turn, as it may have gone with something else.
    pub fn emit_acknowledgement(&mut self, now: Micros) -> Option<Emitted> {
        self.received.ack_at(self.rtt.smoothed).filter(|&at| at <= now)?;
        if self.sent.room() == 0 {
            return None;
        }
        let room = &mut self.scratch[HEADER_BYTES..HEADER_BYTES + ACK_BYTES_MAX];
        let bytes = self.received.emit(now, room);
        if bytes == 0 {
            return None;
        }
        let bytes = self.close_scratch(bytes);
        self.sent.skip();
        Some(self.scratch_to(self.roaming.path(), bytes))
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
    pub fn emit_last_words(&mut self, now: Micros) -> Option<Emitted> {
        let ticket = self.last_words?;
        (self.sent.room() > 0 && self.slots.copy(ticket)).then(|| self.emit_slot(ticket, now))
    }

    fn scratch_to(&mut self, to: Path, bytes: u16) -> Emitted {
        self.scratch_path = to;
        Emitted { slot: None, bytes }
    }

    /// Where a datagram goes that was emitted.
    pub fn destination(&self, emitted: &Emitted) -> Path {
        match emitted.slot {
            Some(_) => self.roaming.path(),
            None => self.scratch_path,
        }
    }

    /// The bytes of a datagram that was emitted.
    pub fn datagram(&self, emitted: &Emitted) -> &[u8] {
        let bytes = match emitted.slot {
            Some(index) => self.slots.datagram(usize::from(index)),
            None => self.scratch,
        };
        &bytes[..emitted.bytes()]
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
    fn emit_slot(&mut self, ticket: Ticket, now: Micros) -> Emitted {
        let index = ticket.index().unwrap_or(0);
        let bytes = self.slots.body_bytes(ticket);
        let limit = self.body_limit();
        let datagram = self.slots.datagram_mut(index);
        let (bytes, told) = add_ack(self.received, datagram, bytes, limit, now);
        close(datagram, bytes, self.sent.next(), self.peer_index, &mut self.seal);
        let bytes = bytes + OVERHEAD_BYTES;
        self.note_sent(ticket, bytes, now, false);
        self.sent.note_told(told);
        Emitted { slot: Some(index as u16), bytes: bytes as u16 }
    }

    /// The same of a slot that is out: what was emitted of it may not have been sent yet, so it stays as
    /// it is.
    fn emit_again(&mut self, ticket: Ticket, now: Micros) -> Emitted {
        let limit = self.body_limit();
        let messages = self.slots.messages(ticket);
        let bytes = messages.len();
        self.scratch[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(messages);
        let (bytes, told) = add_ack(self.received, self.scratch, bytes, limit, now);
        let bytes = self.close_scratch(bytes);
        // Counted by what follows.
        self.counters.sent -= 1;
        self.note_sent(ticket, bytes.into(), now, false);
        self.sent.note_told(told);
        self.scratch_to(self.roaming.path(), bytes)
    }

    fn body_limit(&self) -> usize {
        self.payload_bytes().min(DATAGRAM_BYTES_MAX - OVERHEAD_BYTES)
    }

    fn note_sent(&mut self, ticket: Ticket, bytes: usize, now: Micros, is_probe: bool) {
        let stamp = self.congestion.on_sent(now, bytes as u32, self.sent.in_flight_bytes());
        self.pacer.spend(bytes as u64);
        let mut record = Record::new(now, ticket, bytes, stamp);
        record.is_probe = is_probe;
        self.sent.add(record);
        self.asked_at = now;
        self.counters.sent += 1;
    }

    /// Something that asks for an acknowledgement: what has been under way longest, or what waits, or
    /// nothing at all.
    fn emit_probe(&mut self, now: Micros) -> Emitted {
        self.probes_owed -= 1;
        self.counters.probes += 1;
        let skipped = usize::from(super::PROBES - 1 - self.probes_owed.min(super::PROBES - 1));
        let holds = self.sent.outstanding().filter(|record| record.ticket != Ticket::NONE);
        let ticket = holds.map(|record| record.ticket).nth(skipped);
        // A short one among them tells whether it is the length.
        let is_short = self.probed > 1 && self.probes_owed == 0;
        if self.sent.room() > 1
            && let Some(ticket) = ticket.filter(|_| !is_short)
            && self.slots.body_bytes(ticket) <= self.payload_bytes()
            && self.slots.copy(ticket)
        {
            return self.emit_again(ticket, now);
        }
        self.scratch[HEADER_BYTES] = PROBE;
        let bytes = self.close_scratch(1);
        if self.sent.room() > 1 {
            self.note_sent(Ticket::NONE, bytes.into(), now, false);
        } else {
            self.sent.skip();
        }
        self.scratch_to(self.roaming.path(), bytes)
    }

    /// What is under way and was not sent twice yet, once more; `None`: that is all.
    fn emit_copy(&mut self, now: Micros) -> Option<Emitted> {
        while let Some((number, ticket)) = self.sent.first_from(self.copied)
            && number < self.copies_below
        {
            self.copied = number + 1;
            if self.record_room() > 0 && self.slots.copy(ticket) {
                self.counters.probes += 1;
                return Some(self.emit_again(ticket, now));
            }
        }
        // Copies are not copied.
        (self.copied, self.copies_below) = (self.sent.next(), 0);
        None
    }

    /// A datagram longer than is known to get through.
    fn emit_search(&mut self, datagram_bytes: u16, now: Micros) -> Emitted {
        let bytes = usize::from(datagram_bytes) - OVERHEAD_BYTES;
        let body = &mut self.scratch[HEADER_BYTES..HEADER_BYTES + bytes];
        body.fill(PAD);
        body[0] = PROBE;
        let bytes = self.close_scratch(bytes);
        self.search.on_probe_sent(self.sent.next(), datagram_bytes);
        self.note_sent(Ticket::NONE, bytes.into(), now, true);
        self.scratch_to(self.roaming.path(), bytes)
    }

    /// One of the carrier's own messages, alone, that nobody acknowledges.
    fn emit_own(&mut self, own: [u8; PATH_BYTES], to: Path) -> Emitted {
        self.scratch[HEADER_BYTES..HEADER_BYTES + PATH_BYTES].copy_from_slice(&own);
        let bytes = self.close_scratch(PATH_BYTES);
        self.sent.skip();
        self.scratch_to(to, bytes)
    }

    fn close_scratch(&mut self, bytes: usize) -> u16 {
        self.counters.sent += 1;
        close(self.scratch, bytes, self.sent.next(), self.peer_index, &mut self.seal);
        (bytes + OVERHEAD_BYTES) as u16
    }

    /// A slot that is longer than the path takes any more becomes several; or goes behind the others, until
    /// there are slots for it.
    fn split_again(&mut self, ticket: Ticket) {
        let messages = self.slots.messages(ticket);
        let bytes = messages.len();
        if self.slots.vacant() < bytes.div_ceil(self.payload_bytes() / 2) {
            return self.slots.postpone(ticket);
        }
        let mut copy = [0; DATAGRAM_BYTES_MAX];
        copy[..bytes].copy_from_slice(messages);
        match self.take_apart(&copy[..bytes], 0) {
            Ok(()) => self.slots.acknowledge(ticket),
            Err(_) => self.slots.postpone(ticket),
        }
    }
}

/// Adds an acknowledgement behind so many bytes of messages, if one fits and says anything: how many bytes
/// they are then, and the largest number it tells of.
fn add_ack(
    received: &mut Received,
    datagram: &mut [u8; DATAGRAM_BYTES_MAX],
    bytes: usize,
    limit: usize,
    now: Micros,
) -> (usize, Option<u64>) {
    if !received.has_news() || bytes >= limit {
        return (bytes, None);
    }
    let ack_bytes = received.emit(now, &mut datagram[HEADER_BYTES + bytes..HEADER_BYTES + limit]);
    (bytes + ack_bytes, received.largest().filter(|_| ack_bytes > 0))
}

/// Puts a header before the body and a tag behind it.
fn close<S: Seal>(
    datagram: &mut [u8; DATAGRAM_BYTES_MAX],
    bytes: usize,
    number: u64,
    receiver: u32,
    seal: &mut S,
) {
    let header = Header { key_slot: 0, number, receiver }.encode();
    let (head, rest) = datagram.split_at_mut(HEADER_BYTES);
    let (body, rest) = rest.split_at_mut(bytes);
    head.copy_from_slice(&header);
    let tag = seal.seal(number, head, body);
    rest[..TAG_BYTES].copy_from_slice(&tag);
}
