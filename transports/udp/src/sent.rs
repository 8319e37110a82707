//! Packets that were sent: which of them arrived, and which are lost (RFC 9002 section 6). Knows
//! neither messages nor windows.
//!
//! Invariants: no packet below `lowest` is out; `next - lowest` never exceeds `span`, which is no more
//! than there are records, so no record of a packet that is out is overwritten, and no more than the
//! peer tells apart; `in_flight_bytes` is the sum of those that are out.

use crate::ack::WINDOW_MIN;
use crate::congestion::Stamp;
use crate::slots::Ticket;
use crate::time::Micros;

/// A packet is lost when one sent so many later arrived (RFC 9002 section 6.1.1) ...
const REORDERING_PACKETS: u64 = 3;

/// ... or later than that, on a path that has shown to reorder: at most so many.
const REORDERING_PACKETS_MAX: u64 = 256;

/// Packets that were taken for lost are watched for as long as no packet so many later has arrived.
const WATCHED_PACKETS: u64 = 512;

/// Of a packet that was never sent.
const NO_STAMP: Stamp = Stamp { delivered: 0, delivered_at: 0, first_sent_at: 0, flight: 0 };

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Never sent, or asks for no acknowledgement.
    #[default]
    None,
    Out,
    Lost,
    Acknowledged,
}

/// A packet that was sent and asks to be acknowledged. All zeroes is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// The low 32 bits of the microseconds.
    sent_at: u32,
    /// What it carries; none if it is only to be acknowledged.
    pub(crate) ticket: Ticket,
    pub(crate) stamp: Stamp,
    /// One more than the low 32 bits of the largest number that it told the peer of; 0: it told of none.
    pub(crate) told: u32,
    /// Of the datagram.
    pub(crate) bytes: u16,
    /// It is longer than is known to get through: its loss says nothing about the network's load.
    pub(crate) is_probe: bool,
    state: State,
}

impl Record {
    pub(crate) const VACANT: Record = Record {
        sent_at: 0,
        ticket: Ticket::NONE,
        stamp: NO_STAMP,
        told: 0,
        bytes: 0,
        is_probe: false,
        state: State::None,
    };

    pub(crate) fn new(now: Micros, ticket: Ticket, bytes: usize, stamp: Stamp) -> Record {
        let sent_at = now.0 as u32;
        Record { sent_at, ticket, stamp, bytes: bytes as u16, state: State::Out, ..Record::VACANT }
    }

    pub(crate) fn age(&self, now: Micros) -> u64 {
        u64::from((now.0 as u32).wrapping_sub(self.sent_at))
    }

    pub(crate) fn sent_at(&self, now: Micros) -> Micros {
        Micros(now.0.saturating_sub(self.age(now)))
    }
}

/// An acknowledgement of a packet that was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NeverSent;

/// The packets of one link, newest last.
pub(crate) struct Sent<'m> {
    records: &'m mut [Record],
    /// Numbers whose fate may be unknown at a time.
    span: u64,
    next: u64,
    lowest: u64,
    largest_acknowledged: Option<u64>,
    in_flight_bytes: u64,
    /// How many are out.
    out: u32,
    /// So many later ones have to arrive.
    threshold: u64,
    /// The largest one that was taken for lost.
    last_lost: u64,
}

impl<'m> Sent<'m> {
    /// None yet. `window`: how many numbers up to the largest the peer tells apart; one that is further
    /// below it would be dropped, whatever was in it. O(records).
    pub(crate) fn new(records: &'m mut [Record], window: u64) -> Sent<'m> {
        debug_assert!(records.len().is_power_of_two());
        records.fill(Record::VACANT);
        Sent {
            span: window.max(WINDOW_MIN).min(records.len() as u64),
            records,
            next: 0,
            lowest: 0,
            largest_acknowledged: None,
            in_flight_bytes: 0,
            out: 0,
            threshold: REORDERING_PACKETS,
            last_lost: 0,
        }
    }

    pub(crate) fn into_slice(self) -> &'m mut [Record] {
        self.records
    }

    fn at(&self, number: u64) -> usize {
        number as usize & (self.records.len() - 1)
    }

    /// The number of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// How many packets are out.
    pub(crate) fn out(&self) -> u32 {
        self.out
    }

    /// How many more can be sent before the oldest one's fate is known.
    pub(crate) fn room(&self) -> usize {
        (self.span - (self.next - self.lowest)) as usize
    }

    /// One is sent, that asks to be acknowledged; there must be room.
    pub(crate) fn add(&mut self, record: Record) {
        let at = self.at(self.next);
        debug_assert!(self.room() > 0 && self.records[at].state != State::Out);
        self.in_flight_bytes += u64::from(record.bytes);
        self.out += 1;
        self.records[at] = record;
        self.next += 1;
    }

    /// The newest one told the peer of arrivals up to this number.
    pub(crate) fn note_told(&mut self, largest: Option<u64>) {
        let at = self.at(self.next.wrapping_sub(1));
        self.records[at].told = largest.map_or(0, |largest| (largest as u32).wrapping_add(1));
    }

    /// One is sent that asks for nothing.
    pub(crate) fn skip(&mut self) {
        let at = self.at(self.next);
        self.records[at] = Record::VACANT;
        if self.lowest == self.next {
            self.lowest += 1;
        }
        self.next += 1;
    }

    /// Those that are out, oldest first. O(packets since the oldest one).
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = &Record> {
        let all = (self.lowest..self.next).map(|number| &self.records[self.at(number)]);
        all.filter(|record| record.state == State::Out)
    }

    /// The oldest one from a number on that is out and holds something: its number and what. O(packets
    /// passed).
    pub(crate) fn first_from(&self, number: u64) -> Option<(u64, Ticket)> {
        let all = (number.max(self.lowest)..self.next).map(|n| (n, &self.records[self.at(n)]));
        let mut holds = all.filter(|(_, r)| r.state == State::Out && r.ticket != Ticket::NONE);
        holds.next().map(|(number, record)| (number, record.ticket))
    }

    /// Packets `first..=last` have arrived: tells of each that was out, or taken for lost, oldest first.
    /// O(packets since the oldest that is out).
    ///
    /// # Errors
    /// One of them was never sent.
    pub(crate) fn acknowledge(
        &mut self,
        first: u64,
        last: u64,
        mut each: impl FnMut(u64, &Record, bool),
    ) -> Result<(), NeverSent> {
        if last >= self.next {
            return Err(NeverSent);
        }
        self.largest_acknowledged = Some(self.largest_acknowledged.map_or(last, |l| l.max(last)));
        let watched = match self.last_lost + WATCHED_PACKETS >= last {
            true => last.saturating_sub(WATCHED_PACKETS),
            false => self.lowest,
        };
        let kept = self.next.saturating_sub(self.records.len() as u64);
        for number in first.max(watched.min(self.lowest)).max(kept)..=last {
            let at = self.at(number);
            let record = &mut self.records[at];
            match record.state {
                State::Out => {
                    record.state = State::Acknowledged;
                    self.in_flight_bytes -= u64::from(record.bytes);
                    self.out -= 1;
                    each(number, record, false);
                }
                State::Lost => {
                    // It was only late.
                    record.state = State::Acknowledged;
                    each(number, record, true);
                    let late = self.largest_acknowledged.unwrap_or(last).saturating_sub(number);
                    self.threshold = self.threshold.max(late + 1).min(REORDERING_PACKETS_MAX);
                }
                State::None | State::Acknowledged => {}
            }
        }
        self.advance();
        Ok(())
    }

    /// Gives up the oldest, until so many more can be sent: tells of each that was out. They may arrive
    /// all the same. O(packets given up).
    pub(crate) fn give_up(&mut self, room: usize, mut each: impl FnMut(u64, &Record)) {
        while self.room() < room && self.lowest < self.next {
            let number = self.lowest;
            let at = self.at(number);
            let record = &mut self.records[at];
            if record.state == State::Out {
                record.state = State::Lost;
                self.in_flight_bytes -= u64::from(record.bytes);
                self.out -= 1;
                self.last_lost = self.last_lost.max(number);
                each(number, record);
            }
            self.lowest += 1;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.lowest < self.next && self.records[self.at(self.lowest)].state != State::Out {
            self.lowest += 1;
        }
    }

    /// Finds out which packets are lost, that were sent before one that arrived, and tells of each, oldest
    /// first. Gives when the next one will be, if nothing arrives. O(packets since the oldest that is
    /// out).
    pub(crate) fn detect_lost(
        &mut self,
        now: Micros,
        loss_delay: u64,
        mut each: impl FnMut(u64, &Record),
    ) -> Option<Micros> {
        let largest = self.largest_acknowledged?;
        let mut next_loss = None;
        for number in self.lowest..largest {
            let at = self.at(number);
            let record = &mut self.records[at];
            if record.state != State::Out {
                continue;
            }
            let age = record.age(now);
            if largest - number < self.threshold && age < loss_delay {
                // Those that follow were sent later.
                next_loss = Some(now.after(loss_delay - age));
                break;
            }
            record.state = State::Lost;
            self.in_flight_bytes -= u64::from(record.bytes);
            self.out -= 1;
            self.last_lost = number;
            each(number, record);
        }
        self.advance();
        next_loss
    }

    /// What the invariants say. O(records).
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn invariants(&self) {
        let out = || self.records.iter().filter(|record| record.state == State::Out);
        assert_eq!(out().count(), self.out as usize);
        assert_eq!(out().map(|record| u64::from(record.bytes)).sum::<u64>(), self.in_flight_bytes);
        assert_eq!(self.outstanding().count(), self.out as usize);
        assert!(self.lowest <= self.next && self.next - self.lowest <= self.span);
        assert!(self.largest_acknowledged.is_none_or(|largest| largest < self.next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const RECORDS: usize = 64;

    fn sent() -> Sent<'static> {
        Sent::new(std::vec![Record::VACANT; RECORDS].leak(), u64::MAX)
    }

    fn send(sent: &mut Sent<'_>, at: u64) {
        sent.add(Record::new(Micros(at), Ticket::NONE, 100, NO_STAMP));
    }

    fn acknowledge(sent: &mut Sent<'_>, first: u64, last: u64) -> Vec<(u64, bool)> {
        let mut told = Vec::new();
        sent.acknowledge(first, last, |number, _, late| told.push((number, late))).unwrap();
        sent.invariants();
        told
    }

    fn lost(sent: &mut Sent<'_>, at: u64, delay: u64) -> (Vec<u64>, Option<Micros>) {
        let mut told = Vec::new();
        let next = sent.detect_lost(Micros(at), delay, |number, _| told.push(number));
        sent.invariants();
        (told, next)
    }

    #[test]
    fn three_later_ones_or_time_make_one_lost() {
        let mut sent = sent();
        (0..6).for_each(|at| send(&mut sent, at * 10));
        assert_eq!(lost(&mut sent, 100, 1), (std::vec![], None), "nothing arrived");
        assert_eq!(acknowledge(&mut sent, 2, 3), [(2, false), (3, false)]);
        // 0 by packets, 1 by time: both when that has come.
        assert_eq!(lost(&mut sent, 60, 100), (std::vec![0], Some(Micros(110))));
        assert_eq!(lost(&mut sent, 110, 100), (std::vec![1], None));
        assert_eq!((sent.out(), sent.in_flight_bytes()), (2, 200));
        assert_eq!(sent.outstanding().next().unwrap().age(Micros(50)), 10);
    }

    #[test]
    fn one_that_was_only_late_is_told_and_makes_patient() {
        let mut sent = sent();
        (0..20).for_each(|_| send(&mut sent, 0));
        assert_eq!(acknowledge(&mut sent, 9, 9).len(), 1);
        assert_eq!(lost(&mut sent, 0, 100).0, (0..7).collect::<Vec<_>>());
        assert_eq!(acknowledge(&mut sent, 0, 8)[..2], [(0, true), (1, true)]);
        assert_eq!(acknowledge(&mut sent, 19, 19), [(19, false)]);
        assert_eq!(lost(&mut sent, 0, 100).0, []);
        assert_eq!(acknowledge(&mut sent, 0, 9), []);
    }

    #[test]
    fn what_was_not_sent_is_not_acknowledged() {
        let mut sent = sent();
        send(&mut sent, 0);
        sent.skip();
        assert_eq!(sent.acknowledge(0, 2, |_, _, _| panic!()), Err(NeverSent));
        assert_eq!(acknowledge(&mut sent, 0, 1), [(0, false)]);
        assert_eq!(sent.room(), RECORDS);
    }

    #[test]
    fn numbers_go_no_further_than_the_peers_window() {
        for (window, span) in [(0, 256), (256, 256), (300, 300), (16_384, 1024)] {
            let mut sent = Sent::new(std::vec![Record::VACANT; 1024].leak(), window);
            while sent.room() > 0 {
                send(&mut sent, 0);
            }
            assert_eq!(sent.next(), span, "of {window}");
            acknowledge(&mut sent, 1, span - 1);
            assert_eq!(sent.room(), 0, "the peer may still hear the first");
            acknowledge(&mut sent, 0, 0);
            assert_eq!(sent.room() as u64, span);
        }
    }

    #[test]
    fn the_oldest_are_given_up_for_new_ones() {
        let mut sent = sent();
        (0..RECORDS as u64).for_each(|at| send(&mut sent, at));
        assert_eq!(acknowledge(&mut sent, 1, 1), [(1, false)]);
        let mut told = Vec::new();
        sent.give_up(3, |number, _| told.push(number));
        sent.invariants();
        assert_eq!((told, sent.room(), sent.out()), (std::vec![0, 2], 3, RECORDS as u32 - 3));
        assert_eq!(acknowledge(&mut sent, 0, 2), [(0, true), (2, true)], "they were only late");
        sent.give_up(1000, |_, _| ());
        sent.invariants();
        assert_eq!((sent.room(), sent.out()), (RECORDS, 0), "there are no more to be given up");
    }

    #[test]
    fn ages_survive_the_wrap_of_32_bits() {
        let late = u64::from(u32::MAX) - 5;
        let record = Record::new(Micros(late), Ticket::NONE, 1, NO_STAMP);
        assert_eq!(record.age(Micros(late + 20)), 20);
        assert_eq!(record.sent_at(Micros(late + 20)), Micros(late));
    }

    #[test]
    fn acknowledgements_in_any_order_are_those_of_a_map() {
        let mut random = 1u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let mut sent = sent();
            let mut model = BTreeMap::new();
            for at in 0..400 {
                match draw(4) {
                    0 | 1 if sent.room() > 0 => {
                        model.insert(sent.next(), true);
                        send(&mut sent, at);
                    }
                    2 if sent.room() > 0 => sent.skip(),
                    _ if sent.next() > 0 => {
                        let last = draw(sent.next());
                        let first = last - draw(last.min(9) + 1);
                        for (number, late) in acknowledge(&mut sent, first, last) {
                            assert!((first..=last).contains(&number));
                            assert_eq!(model.remove(&number), Some(!late));
                        }
                        assert!(model.range(first..=last).all(|(_, out)| !out));
                        let delay = 20 + draw(40);
                        for number in lost(&mut sent, at, delay).0 {
                            assert_eq!(model.insert(number, false), Some(true));
                        }
                    }
                    _ => {}
                }
                assert_eq!(sent.out() as usize, model.values().filter(|out| **out).count());
            }
        }
    }
}
