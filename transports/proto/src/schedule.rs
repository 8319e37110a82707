//! Whose turn it is to send: deficit round robin (Shreedhar and Varghese, 1995) with two rings, as
//! fq_codel has them (RFC 8290 section 4.2). Knows nothing of credit and packets.
//!
//! A channel may send as long as its deficit lasts, then it waits for another quantum. Whoever comes
//! to wait with something left of its quantum is fresh, and goes before those that used theirs up:
//! so one small message never stands behind sixteen bulk transfers.
//!
//! Invariant: after [`FRESH_IN_A_ROW`] fresh ones somebody from the other ring has a turn, so
//! nobody starves however many small messages there are.

use crate::channel::{Channel, Flags, List, WAITING};

/// Bytes of a turn: about a packet.
pub const QUANTUM_BYTES: u16 = 16 * 1024;

/// After so many fresh channels one of the others has its turn.
pub const FRESH_IN_A_ROW: u8 = 8;

/// The channels that want to send.
#[derive(Clone, Copy, Default)]
pub(crate) struct Schedule {
    fresh: List<WAITING>,
    rest: List<WAITING>,
    /// Fresh ones served since one of the rest was.
    in_a_row: u8,
}

impl Schedule {
    /// Puts a channel behind the others of its kind, unless it waits already. O(1).
    pub(crate) fn push(&mut self, channels: &mut [Channel], index: usize) {
        let flags = &mut channels[index].flags;
        if flags.has(Flags::WAITING) {
            return;
        }
        flags.set(Flags::WAITING);
        if channels[index].deficit > 0 {
            channels[index].flags.set(Flags::FRESH);
            self.fresh.push_back(channels, index);
        } else {
            self.rest.push_back(channels, index);
        }
    }

    /// It wants nothing any more. O(1).
    pub(crate) fn remove(&mut self, channels: &mut [Channel], index: usize) {
        if channels[index].flags.has(Flags::WAITING) {
            let is_fresh = channels[index].flags.has(Flags::FRESH);
            let ring = if is_fresh { &mut self.fresh } else { &mut self.rest };
            ring.remove(channels, index);
            channels[index].flags.clear(Flags::WAITING | Flags::FRESH);
        }
    }

    /// Whether nobody waits. O(1).
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.first().is_none() && self.rest.first().is_none()
    }

    /// Takes out the one whose turn it is. O(1).
    pub(crate) fn pop(&mut self, channels: &mut [Channel]) -> Option<usize> {
        let rest_is_due = self.in_a_row >= FRESH_IN_A_ROW && self.rest.first().is_some();
        let fresh = self.fresh.first().filter(|_| !rest_is_due);
        let index = fresh.or(self.rest.first())?;
        self.in_a_row = if fresh.is_some() { self.in_a_row.saturating_add(1) } else { 0 };
        self.remove(channels, index);
        Some(index)
    }

    /// Everybody who waits.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn iter<'c>(&self, channels: &'c [Channel]) -> impl Iterator<Item = usize> + 'c {
        self.fresh.iter(channels).chain(self.rest.iter(channels))
    }
}

/// What a turn adds; at most two turns are kept.
pub(crate) fn add_quantum(channel: &mut Channel) {
    channel.deficit = (channel.deficit + QUANTUM_BYTES).min(2 * QUANTUM_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn turns(schedule: &mut Schedule, channels: &mut [Channel]) -> Vec<usize> {
        core::iter::from_fn(|| schedule.pop(channels)).collect()
    }

    #[test]
    fn fresh_ones_go_first_and_nobody_waits_twice() {
        let (mut channels, mut schedule) = ([Channel::VACANT; 6], Schedule::default());
        channels[4].deficit = 1;
        for index in [1, 0, 4, 1, 3, 4] {
            schedule.push(&mut channels, index);
        }
        schedule.remove(&mut channels, 0);
        schedule.remove(&mut channels, 5);
        assert!(schedule.iter(&channels).eq([4, 1, 3]));
        assert_eq!(turns(&mut schedule, &mut channels), [4, 1, 3]);
    }

    #[test]
    fn the_rest_has_its_turns_beside_many_fresh_ones() {
        let (mut channels, mut schedule) = ([Channel::VACANT; 21], Schedule::default());
        channels[..20].iter_mut().for_each(|channel| channel.deficit = 9);
        (0..21).for_each(|index| schedule.push(&mut channels, index));
        let mut since = 0;
        for _ in 0..1000 {
            let index = schedule.pop(&mut channels).unwrap();
            since = if index == 20 { 0 } else { since + 1 };
            assert!(since <= FRESH_IN_A_ROW);
            schedule.push(&mut channels, index);
        }
    }

    #[test]
    fn greedy_ones_get_the_same() {
        let (mut channels, mut schedule) = ([Channel::VACANT; 5], Schedule::default());
        let mut sent = [0u32; 5];
        (0..5).for_each(|index| schedule.push(&mut channels, index));
        for _ in 0..500 {
            let index = schedule.pop(&mut channels).unwrap();
            add_quantum(&mut channels[index]);
            // Packets of different sizes, each used as far as the deficit goes.
            let packet = 1000 * (index as u16 + 1);
            while channels[index].deficit > 0 {
                let bytes = packet.min(channels[index].deficit);
                channels[index].deficit -= bytes;
                sent[index] += u32::from(bytes);
            }
            schedule.push(&mut channels, index);
        }
        assert!(sent.iter().all(|&bytes| bytes == sent[0]), "{sent:?}");
    }
}
