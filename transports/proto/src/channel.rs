//! One channel's record, and the lists that lead through the records. Knows what a channel is, not
//! what may happen to it: that is the session's.
//!
//! Invariant: all zeroes is vacant and never opened, so records that were never used are pages that
//! were never touched.

use crate::pool::Queue;
use crate::ranges::Ranges;
use core::ops::BitOr;

/// A channel's place in the session: twice its slot, and 1 more if it was opened by this end.
///
/// Good until [`crate::session::Session::close_channel`]: then it may become another channel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The place, below twice the number of channels.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this end opened it.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        self.0 & 1 == 1
    }
}

/// What is known of a channel, bit by bit.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u32);

impl Flags {
    /// Somebody's: not vacant.
    pub(crate) const LIVE: Flags = Flags(1);
    /// Its user is gone.
    pub(crate) const CLOSED: Flags = Flags(1 << 1);
    /// What arrives is dropped.
    pub(crate) const DROPPING: Flags = Flags(1 << 2);
    /// OPENED was sent, or received if the channel is ours.
    pub(crate) const OPENED: Flags = Flags(1 << 3);
    pub(crate) const FIN_SENT: Flags = Flags(1 << 4);
    pub(crate) const RESET_SENT: Flags = Flags(1 << 5);
    pub(crate) const FIN_RECEIVED: Flags = Flags(1 << 6);
    pub(crate) const RESET_RECEIVED: Flags = Flags(1 << 7);
    pub(crate) const STOP_RECEIVED: Flags = Flags(1 << 8);
    pub(crate) const DONE_RECEIVED: Flags = Flags(1 << 9);
    pub(crate) const STOP_SENT: Flags = Flags(1 << 10);
    /// Of the far end, whose OPEN is still under way: nobody's as yet.
    pub(crate) const EARLY: Flags = Flags(1 << 11);
    // What is owed to the far end.
    pub(crate) const OWES_OPENED: Flags = Flags(1 << 16);
    pub(crate) const OWES_CREDIT: Flags = Flags(1 << 17);
    pub(crate) const OWES_FIN: Flags = Flags(1 << 18);
    pub(crate) const OWES_RESET: Flags = Flags(1 << 19);
    pub(crate) const OWES_STOP: Flags = Flags(1 << 20);
    pub(crate) const OWES_DONE: Flags = Flags(1 << 21);
    // Which lists it is on.
    pub(crate) const OWING: Flags = Flags(1 << 24);
    pub(crate) const WAITING: Flags = Flags(1 << 25);
    /// Waits among those that did not use up their quantum.
    pub(crate) const FRESH: Flags = Flags(1 << 26);

    /// The end's last word was said.
    pub(crate) const LAST_SENT: Flags = Flags(Self::FIN_SENT.0 | Self::RESET_SENT.0);
    /// The far end's last word was heard.
    pub(crate) const LAST_RECEIVED: Flags = Flags(Self::FIN_RECEIVED.0 | Self::RESET_RECEIVED.0);
    /// Everything that can be owed.
    pub(crate) const OWES_ANY: Flags = Flags(0x3f << 16);

    pub(crate) const fn has(self, all: Flags) -> bool {
        self.0 & all.0 == all.0
    }

    pub(crate) const fn any(self, some: Flags) -> bool {
        self.0 & some.0 != 0
    }

    pub(crate) const fn set(&mut self, flags: Flags) {
        self.0 |= flags.0;
    }

    pub(crate) const fn clear(&mut self, flags: Flags) {
        self.0 &= !flags.0;
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// A channel. Offsets are serial numbers: compared by the sign of their difference only.
#[derive(Clone, Copy)]
pub(crate) struct Channel {
    /// What the user noted.
    pub(crate) user: u32,
    pub(crate) flags: Flags,
    /// Offset of the next byte that arrives in order.
    pub(crate) received: u32,
    /// Offset of the next byte to be delivered or dropped. Those between are in the queue, or in the
    /// user's hands.
    pub(crate) consumed: u32,
    /// The first offset the far end may not send; after its last word, the end of what it sent.
    pub(crate) granted: u32,
    /// When that was last raised: milliseconds, the low 32 bits.
    pub(crate) granted_at: u32,
    /// How far `granted` is to be ahead of `consumed`.
    pub(crate) window: u32,
    pub(crate) queue: Queue,
    /// What has arrived beyond the first gap, and is in the queue too.
    pub(crate) ranges: Ranges,
    /// Offset of the next byte to be sent.
    pub(crate) sent: u32,
    /// The first offset that may not be sent.
    pub(crate) sendable: u32,
    /// Chunks reserved for what arrives.
    pub(crate) reserved: u16,
    /// Of the channel; of a vacant record, of the next channel here.
    pub(crate) generation: u16,
    /// Bytes it may send before it is others' turn.
    pub(crate) deficit: u16,
    /// Why the far end reset it.
    pub(crate) reset_received: u8,
    /// Why the far end takes nothing.
    pub(crate) stop_received: u8,
    /// What RESET is to say, or has said.
    pub(crate) reset_sent: u8,
    /// What STOP is to say, or has said.
    pub(crate) stop_sent: u8,
    pub(crate) links: [Link; 2],
}

// The figure that makes 4096 channels 320 KiB.
static_assertions::const_assert!(size_of::<Channel>() <= 80);

impl Channel {
    pub(crate) const VACANT: Channel = Channel {
        user: 0,
        flags: Flags(0),
        received: 0,
        consumed: 0,
        granted: 0,
        granted_at: 0,
        window: 0,
        queue: Queue::EMPTY,
        ranges: Ranges::NONE,
        sent: 0,
        sendable: 0,
        reserved: 0,
        generation: 0,
        deficit: 0,
        reset_received: 0,
        stop_received: 0,
        reset_sent: 0,
        stop_sent: 0,
        links: [Link { previous: 0, next: 0 }; 2],
    };

    /// Bytes that were received in order and neither delivered nor dropped.
    pub(crate) fn unconsumed(&self) -> u32 {
        self.received.wrapping_sub(self.consumed)
    }

    /// The far end has said its last word, and every byte before it has arrived.
    pub(crate) fn is_whole(&self) -> bool {
        self.flags.any(Flags::LAST_RECEIVED) && self.received == self.granted
    }

    /// Whether anything is owed that may be said now.
    pub(crate) fn owes(&self, is_ours: bool) -> bool {
        if self.flags.has(Flags::EARLY) {
            return false;
        }
        let mut owed = Flags::OWES_ANY;
        // Nothing but a refusal comes before OPENED.
        if !is_ours && !self.flags.any(Flags::OPENED | Flags::OWES_OPENED) {
            owed.clear(Flags::OWES_FIN);
        }
        self.flags.any(owed)
    }

    /// The far end hears nothing more from here, or will not.
    pub(crate) fn has_ended(&self) -> bool {
        self.flags.any(Flags::LAST_SENT | Flags::OWES_FIN | Flags::OWES_RESET)
    }
}

/// A record's neighbours on a list. Places are indices + 1; 0 is none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link {
    previous: u16,
    next: u16,
}

/// Channels that owe the far end something.
pub(crate) const OWING: usize = 0;
/// Channels that want to send; vacant ones that were used before.
pub(crate) const WAITING: usize = 1;

/// A list through the records; `WHICH` of a record's links it uses. Every operation is O(1).
///
/// Who is on which list is for the caller to know: a record is on one list of each kind at most.
#[derive(Clone, Copy, Default)]
pub(crate) struct List<const WHICH: usize> {
    first: u16,
    last: u16,
}

impl<const WHICH: usize> List<WHICH> {
    pub(crate) fn first(&self) -> Option<usize> {
        usize::from(self.first).checked_sub(1)
    }

    pub(crate) fn push_back(&mut self, channels: &mut [Channel], index: usize) {
        let place = index as u16 + 1;
        channels[index].links[WHICH] = Link { previous: self.last, next: 0 };
        match self.last {
            0 => self.first = place,
            last => channels[usize::from(last) - 1].links[WHICH].next = place,
        }
        self.last = place;
    }

    pub(crate) fn push_front(&mut self, channels: &mut [Channel], index: usize) {
        let place = index as u16 + 1;
        channels[index].links[WHICH] = Link { previous: 0, next: self.first };
        match self.first {
            0 => self.last = place,
            first => channels[usize::from(first) - 1].links[WHICH].previous = place,
        }
        self.first = place;
    }

    pub(crate) fn remove(&mut self, channels: &mut [Channel], index: usize) {
        let Link { previous, next } = core::mem::take(&mut channels[index].links[WHICH]);
        match previous {
            0 => self.first = next,
            previous => channels[usize::from(previous) - 1].links[WHICH].next = next,
        }
        match next {
            0 => self.last = previous,
            next => channels[usize::from(next) - 1].links[WHICH].previous = previous,
        }
    }

    pub(crate) fn pop(&mut self, channels: &mut [Channel]) -> Option<usize> {
        let first = self.first()?;
        self.remove(channels, first);
        Some(first)
    }

    /// Everybody on it, in order.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn iter<'c>(&self, channels: &'c [Channel]) -> impl Iterator<Item = usize> + 'c {
        core::iter::successors(self.first(), |&index| {
            usize::from(channels[index].links[WHICH].next).checked_sub(1)
        })
        .take(channels.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn a_list_is_its_model(acts in prop::collection::vec((0..4u8, 0..7usize), 0..200)) {
            let mut channels = [Channel::VACANT; 7];
            let mut list = List::<WAITING>::default();
            let mut other = List::<OWING>::default();
            (0..7).for_each(|index| other.push_back(&mut channels, index));
            let mut model = VecDeque::new();
            for (act, index) in acts {
                match act {
                    0 if !model.contains(&index) => {
                        list.push_back(&mut channels, index);
                        model.push_back(index);
                    }
                    1 if !model.contains(&index) => {
                        list.push_front(&mut channels, index);
                        model.push_front(index);
                    }
                    2 if model.contains(&index) => {
                        list.remove(&mut channels, index);
                        model.retain(|&other| other != index);
                    }
                    _ => prop_assert_eq!(list.pop(&mut channels), model.pop_front()),
                }
                prop_assert!(list.iter(&channels).eq(model.iter().copied()));
            }
            prop_assert!(other.iter(&channels).eq(0..7), "the other list is untouched");
        }
    }
}
