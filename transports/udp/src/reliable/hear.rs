//! How datagrams come in: each is opened, what is the carrier's own is heard, and the rest put together
//! for the link. A part of `reliable.rs`, whose invariants are kept here.

use super::{Pending, Reliable};
use crate::ack::{ACK_DELAY_MICROS, Ack, Arrival};
use crate::congestion::{AckEnd, AckedPacket, Lost};
use crate::join::Join;
use crate::packet::{self, Own, PAD, Parts};
use crate::slots::MESSAGES_BYTES_MAX;
use crate::socket::Path;
use crate::time::Micros;
use seaprox_noise::keyring::Opened;

/// The peer broke the rules: the link is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Reliable<'_> {
    /// Whether another datagram can be heard before [`Reliable::handled`] is said.
    pub(crate) fn can_hear(&self) -> bool {
        !self.pending.is_full()
    }

    /// Takes in one datagram that was sent to this link; messages for the link are added to `join`. What
    /// was not the peer's, or is not whole, or longer than it may be, or came before, changes nothing;
    /// neither does what there is no room for, and comes again: none is missing while `join` has
    /// [`MESSAGES_BYTES_MAX`] and [`Reliable::can_hear`] says so. O(bytes).
    ///
    /// # Errors
    /// See [`Broken`].
    pub(crate) fn hear(
        &mut self,
        datagram: &mut [u8],
        is_ce: bool,
        from: Path,
        now: Micros,
        join: &mut Join<'_>,
    ) -> Result<(), Broken> {
        let parts = packet::take_apart(datagram);
        let is_ours = |parts: &Parts<'_>| parts.header.mode == self.seal.mode();
        let Some(Parts { header, head, body, tag }) = parts.filter(is_ours) else {
            self.counters.corrupt += 1;
            return Ok(());
        };
        // A body becomes no longer by being joined to what is there.
        let has_room = !self.pending.is_full() && body.len() <= join.room();
        if body.len() > MESSAGES_BYTES_MAX || !has_room {
            return Ok(());
        }
        let number = header.number;
        // Keys know which numbers have opened, and open none twice. That is not the same: what the link had
        // no room for has opened and did not arrive, and nobody may send it again to seem to be elsewhere.
        // Neither costs a hundredth of opening.
        if self.received.look(number) != Arrival::New {
            self.counters.duplicates += 1;
            return Ok(());
        }
        match self.seal.open(now, header.key_slot, number, head, body, tag) {
            Opened::No => {
                self.counters.corrupt += 1;
                return Ok(());
            }
            Opened::Yes | Opened::Confirmed => {}
        }
        self.counters.received += 1;
        if self.received.largest().is_none_or(|largest| number > largest) {
            self.roaming.came_from(from, now);
        }
        let is_eliciting = self.hear_messages(body, from, now, join)?;
        self.pending.push(Pending { number, is_eliciting, is_ce });
        Ok(())
    }

    /// Whether the packet asks to be acknowledged.
    fn hear_messages(
        &mut self,
        body: &[u8],
        from: Path,
        now: Micros,
        join: &mut Join<'_>,
    ) -> Result<bool, Broken> {
        let mut rest = body;
        let mut is_eliciting = false;
        while let Some(&kind) = rest.first() {
            if kind == PAD {
                break;
            }
            match Own::parse(rest).map_err(|_| Broken)? {
                Some((own, bytes)) => {
                    rest = &rest[bytes..];
                    match own {
                        Own::Ack(ack) => self.hear_ack(&ack, now)?,
                        Own::PathChallenge(value) => self.roaming.challenged(from, value),
                        Own::PathResponse(value) => {
                            if self.roaming.answered(value) {
                                // What is under way may never arrive.
                                self.probes_owed = super::PROBES;
                            }
                        }
                        Own::Probe => is_eliciting = true,
                    }
                }
                None => {
                    is_eliciting = true;
                    rest = &rest[join.add(rest).map_err(|_| Broken)?..];
                }
            }
        }
        Ok(is_eliciting)
    }

    /// The link has taken what was heard since the last time, or has not: then it is to come again.
    pub(crate) fn handled(&mut self, kept: bool, now: Micros) {
        for pending in self.pending.drain(..) {
            if kept || !pending.is_eliciting {
                self.received.insert(pending.number, now, pending.is_eliciting, pending.is_ce);
            }
        }
    }

    fn hear_ack(&mut self, ack: &Ack<'_>, now: Micros) -> Result<(), Broken> {
        if ack.largest >= self.sent.next() {
            return Err(Broken);
        }
        let Reliable { sent, slots, congestion, search, counters, received, .. } = self;
        let (mut newest, mut is_longer) = (None, false);
        for range in ack.ascending() {
            let each = |number, record: &crate::sent::Record, is_late: bool| {
                slots.acknowledge(record.ticket);
                if record.told != 0
                    && let Some(largest) = received.largest()
                {
                    let told = record.told.wrapping_sub(1);
                    received.confirm(largest - u64::from((largest as u32).wrapping_sub(told)));
                }
                if is_late {
                    counters.late += 1;
                    return;
                }
                let sent_at = record.sent_at(now);
                newest = Some((number, sent_at));
                let bytes = u32::from(record.bytes);
                congestion.on_acked(now, &AckedPacket { bytes, sent_at, stamp: record.stamp });
                search.on_acked(now, number, record.bytes);
                if record.is_probe {
                    is_longer |= search.on_probe_acked(now, number);
                }
            };
            sent.acknowledge(*range.start(), *range.end(), each).map_err(|_| Broken)?;
        }
        let Some((number, sent_at)) = newest else { return Ok(()) };
        let mut latest = None;
        if number == ack.largest {
            let delay = ack.delay_micros.min(self.ack_delay());
            self.rtt.sample(now.since(sent_at), delay);
            latest = Some(self.rtt.latest);
        }
        self.probed = 0;
        // The count wraps; an ACK that was overtaken says an older one.
        if ack.ce_count.wrapping_sub(self.ce_count) as i16 > 0 {
            self.ce_count = ack.ce_count;
            self.congestion.on_ce(now, sent_at);
        }
        self.detect_lost(now);
        self.congestion.on_ack_end(
            now,
            &AckEnd {
                rtt_latest: latest,
                rtt_min: self.rtt.min,
                rtt_smoothed: self.rtt.smoothed,
                in_flight: self.sent.in_flight_bytes(),
                largest_acked_sent_at: sent_at,
            },
        );
        if is_longer {
            self.note_datagram_bytes();
        }
        Ok(())
    }

    /// Finds out what is lost, and tells the controller, but of probes of the path's width.
    pub(super) fn detect_lost(&mut self, now: Micros) {
        let Reliable { sent, slots, search, counters, .. } = self;
        let (mut bytes, mut last, mut previous, mut is_shorter) = (0, now, u64::MAX, false);
        // When the first of those was sent that were lost without a gap, and the longest such time.
        let (mut first, mut longest) = (now, 0);
        self.lost_at = sent.detect_lost(now, self.rtt.loss_delay(), |number, record| {
            slots.lose(record.ticket);
            if record.is_probe {
                search.on_probe_lost(now, number);
                return;
            }
            last = record.sent_at(now);
            is_shorter |= search.on_lost(now, number, record.bytes, last);
            counters.lost += 1;
            bytes += u64::from(record.bytes);
            if previous.wrapping_add(1) != number {
                first = last;
            }
            longest = last.since(first).max(longest);
            previous = number;
        });
        if bytes > 0 {
            // RFC 9002 section 7.6.1.
            let timeout = self.rtt.probe_timeout(ACK_DELAY_MICROS, false);
            let lost =
                Lost { bytes, largest_lost_sent_at: last, persistent: longest > 3 * timeout };
            self.congestion.on_lost(now, &lost);
        }
        if is_shorter {
            self.note_datagram_bytes();
        }
    }
}
