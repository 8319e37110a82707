//! What is due when: what may be lost, what is to be asked for, what the pace lets go later. A part of
//! `reliable.rs`, whose invariants are kept here.
//!
//! Invariant: no time is named for what cannot be done then, or whoever keeps it would ask in vain and
//! at once again.

use super::{COPY_BYTES_MAX, PROBE_MICROS_MAX, PROBES, RECORDS_RESERVED, Reliable};
use crate::ack::ack_delay_micros;
use crate::time::Micros;
use seaprox_proto::carrier::WINDOW_BYTES_MIN;

impl Reliable<'_> {
    /// Whether a datagram may go that is longer than is known to get through: not before the peer was
    /// heard, as its address may be somebody else's, who did not ask for any.
    pub(super) fn may_search(&self) -> bool {
        self.counters.received > 0 && self.record_room() > 0
    }

    /// How long the peer may hold an acknowledgement back.
    pub(super) fn ack_delay(&self) -> u64 {
        ack_delay_micros(self.rtt.smoothed)
    }

    /// When it is to be asked whether an acknowledgement comes at all.
    pub(super) fn probe_at(&self) -> Option<Micros> {
        (self.sent.out() > 0).then(|| self.asked_at.after(self.probe_micros()))
    }

    /// How long the next probe waits for an answer to what was sent last.
    fn probe_micros(&self) -> u64 {
        let first = self.rtt.probe_timeout(self.ack_delay(), self.probed == 0);
        let doubled = first.checked_shl(self.probed.min(16)).unwrap_or(u64::MAX);
        doubled.min(PROBE_MICROS_MAX.max(first))
    }

    /// Whether probes are as far apart as they ever are, for want of an answer to any.
    pub fn is_unanswered(&self) -> bool {
        self.probed > 0 && self.probe_micros() >= PROBE_MICROS_MAX
    }

    /// When more may be sent, if it is only the pace that forbids it.
    fn paced_at(&self) -> Option<Micros> {
        // Without slots it is what arrives that opens the way.
        let could = self.blocked && self.slot_room() >= WINDOW_BYTES_MIN;
        let may_split = self.slots.has_aside() && self.can_split();
        let wants = could || self.slots.queued_bytes() > 0 || may_split;
        let is_open = self.sent.in_flight_bytes() < self.window_bytes() && self.record_room() > 0;
        let datagram = u32::from(self.search.datagram_bytes());
        (wants && is_open).then(|| self.pacer.next(self.pacing_rate(), datagram))
    }

    /// When [`Reliable::handle_timeout`] is to be called, and then [`Reliable::emit`].
    pub fn timeout(&self) -> Option<Micros> {
        let known = [self.lost_at, self.probe_at(), self.copy_at];
        let owed = (self.probes_owed > 0 || self.copies_below > 0).then_some(Micros(0));
        let sends = [
            owed,
            self.paced_at(),
            self.received.ack_at(self.rtt.smoothed),
            self.roaming.timeout(),
            self.search.due_at().filter(|_| self.may_search()),
        ];
        // Without a number nothing can be sent, until one is known to be lost or is given up; nor without
        // a key.
        let can_send = self.sent.room() > 0 && !self.is_mute;
        let sends = sends.into_iter().filter(|_| can_send);
        known.into_iter().chain(sends).flatten().min()
    }

    /// Time has passed: something may be lost, or to be asked for.
    pub fn handle_timeout(&mut self, now: Micros) {
        if self.lost_at.is_some_and(|at| at <= now) {
            self.detect_lost(now);
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probed = self.probed.saturating_add(1);
            self.probes_owed = PROBES;
            self.asked_at = now;
            self.give_up_oldest(now);
            if self.search.on_timeout(self.probed) {
                self.note_datagram_bytes();
            }
        }
        if self.copy_at.is_some_and(|at| at <= now) {
            self.copy_at = None;
            self.copies_below = if self.is_little() { self.sent.next() } else { 0 };
        }
    }

    /// Whoever acknowledges nothing must not use up the numbers: what asks for an acknowledgement, and
    /// what tells of arrivals, needs some.
    fn give_up_oldest(&mut self, now: Micros) {
        let Reliable { sent, slots, search, counters, .. } = self;
        sent.give_up(RECORDS_RESERVED, |number, record| {
            slots.lose(record.ticket);
            if record.is_probe {
                search.on_probe_lost(now, number);
            } else {
                counters.lost += 1;
            }
        });
    }

    /// Somebody says that the peer is gone: one packet asks for an acknowledgement, whatever the window
    /// says, as a peer that is there will send one. Once for each silence: what is sent may bring about
    /// the same word.
    pub fn ask(&mut self) {
        self.probes_owed = self.probes_owed.max(1);
    }

    /// Whether what is under way is so little that it is worth sending twice.
    pub(super) fn is_little(&self) -> bool {
        self.sent.in_flight_bytes() <= COPY_BYTES_MAX && self.slots.queued_bytes() == 0
    }
}
