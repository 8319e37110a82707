//! What must hold of a session at any time. For tests: it panics where it does not.

use super::{Session, is_ours};
use crate::channel::{Channel, Flags};
use crate::pool::chunks_for;
use crate::ranges::is_before;

/// What a session holds, for a test to see that at quiet it is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holdings {
    /// Channels that are not vacant.
    pub channels: usize,
    /// Chunks with bytes in them, or with gaps between bytes.
    pub chunks: u32,
    /// Ranges of bytes beyond a gap.
    pub ranges: u32,
    /// Chunks reserved beyond the first credit of every slot.
    pub reserved: u32,
    /// Channels that owe the far end something.
    pub owing: usize,
    /// Channels that wait for their turn.
    pub waiting: usize,
}

impl Session<'_> {
    /// What the session holds. O(records used).
    pub fn holdings(&self) -> Holdings {
        let live = self.channels[..*self.touched].iter().filter(|c| c.flags.has(Flags::LIVE));
        let slots = self.peer_channels_max() + self.life.channels_max;
        Holdings {
            channels: live.count(),
            chunks: self.pool.used(),
            ranges: self.nodes.used(),
            reserved: self.pool.reserved() - self.base_of(slots),
            owing: self.lists.owing.iter(self.channels).count(),
            waiting: self.lists.schedule.iter(self.channels).count(),
        }
    }

    /// Panics where something does not hold that must. O(records used).
    pub fn invariants(&self) {
        let used = &self.channels[..*self.touched];
        let live = |index: &usize| used[*index].flags.has(Flags::LIVE);
        let mut reserved = 0;
        let mut chunks = 0;
        let mut ranges = 0;
        let mut open = [0; 2];
        for (index, channel) in used.iter().enumerate() {
            if !live(&index) {
                assert!(
                    !channel.flags.any(Flags::LIVE | Flags::OWES_ANY | Flags::OWING),
                    "vacant {index}"
                );
                assert!(channel.queue.span() == 0 && channel.reserved == 0, "vacant {index}");
                assert!(channel.ranges.is_empty(), "vacant {index}");
                continue;
            }
            open[index % 2] += 1;
            reserved += u32::from(channel.reserved);
            chunks += channel.queue.chunks();
            ranges += channel.ranges.iter(&self.nodes).count();
            self.check_channel(index, channel);
        }
        assert_eq!(open, self.lists.open);
        let slots = [self.peer_channels_max(), self.life.channels_max];
        let vacant = slots.iter().zip(open).map(|(slots, open)| slots - open).sum();
        if self.life.stage != super::Stage::Down {
            assert_eq!(self.pool.reserved(), reserved + self.base_of(vacant), "reserved chunks");
        }
        assert_eq!(self.pool.used(), chunks, "chunks in use");
        assert_eq!(self.nodes.used() as usize, ranges, "nodes in use");
        assert!(chunks <= self.pool.reserved() && self.pool.reserved() <= self.pool.len());
        let listed = self.lists.owing.iter(self.channels).inspect(|index| assert!(live(index)));
        let owing = used.iter().filter(|channel| channel.flags.has(Flags::OWING)).count();
        assert_eq!(listed.count(), owing, "the list of those that owe");
        let listed = self.lists.schedule.iter(self.channels).inspect(|index| assert!(live(index)));
        let waiting = used.iter().filter(|channel| channel.flags.has(Flags::WAITING)).count();
        assert_eq!(listed.count(), waiting, "the list of those that wait");
        let listed = self.lists.vacant.iter(self.channels).inspect(|index| assert!(!live(index)));
        assert_eq!(listed.count() + usize::from(open[1]), usize::from(self.lists.fresh));
    }

    fn check_channel(&self, index: usize, channel: &Channel) {
        let flags = channel.flags;
        assert_eq!(flags.has(Flags::OWING), channel.owes(is_ours(index)), "owing {index}");
        assert!(channel.reserved >= self.terms.base_chunks, "{index} lacks its first credit");
        assert!(channel.queue.bytes() <= channel.unconsumed(), "{index} keeps too much");
        assert!((channel.granted.wrapping_sub(channel.received) as i32) >= 0, "{index}: credit");
        assert!(
            (channel.sendable.wrapping_sub(channel.sent) as i32) >= 0,
            "{index}: sent too much"
        );
        if flags.has(Flags::DROPPING) {
            assert_eq!(channel.unconsumed(), 0, "{index} keeps what is to be dropped");
        } else {
            let bytes = channel.granted.wrapping_sub(channel.consumed);
            let needed = chunks_for(channel.queue.skipped(), bytes);
            assert!(needed <= channel.reserved.into(), "{index}: credit without chunks");
        }
        self.check_ranges(index, channel);
        if flags.has(Flags::EARLY) {
            assert!(self.is_unordered() && !is_ours(index), "{index} comes early");
            assert!(channel.user == 0 && !flags.has(Flags::CLOSED), "{index} is nobody's as yet");
        }
        if flags.has(Flags::CLOSED) {
            assert!(flags.has(Flags::DROPPING) && !flags.has(Flags::WAITING), "{index} is closed");
            assert!(channel.has_ended(), "{index} is closed and goes on");
        }
        assert!(!(flags.has(Flags::OWES_FIN) && flags.any(Flags::LAST_SENT)), "{index}: FIN twice");
        assert!(!(flags.has(Flags::OWES_FIN | Flags::OWES_RESET)), "{index}: FIN and RESET");
        assert!(!flags.has(Flags::FIN_SENT | Flags::RESET_SENT), "{index}: two last words");
        let both = Flags::FIN_RECEIVED | Flags::RESET_RECEIVED;
        assert!(!flags.has(both), "{index}: two last words of the far end");
    }

    /// What has arrived beyond the first gap: within the credit, apart from each other, and stored.
    fn check_ranges(&self, index: usize, channel: &Channel) {
        let mut older = channel.received;
        for (start, end) in channel.ranges.iter(&self.nodes) {
            assert!(is_before(start, end) && is_before(older, start), "{index}: {start}..{end}");
            older = end;
        }
        if channel.ranges.is_empty() {
            assert_eq!(channel.queue.span(), channel.queue.bytes(), "{index}: bytes beyond no gap");
            return;
        }
        assert!(self.is_unordered() && !channel.flags.has(Flags::DROPPING), "{index} has ranges");
        assert!(!is_before(channel.granted, older), "{index}: beyond the credit");
        assert_eq!(channel.queue.bytes(), channel.unconsumed(), "{index}: stored before the gap");
        let end = channel.ranges.end(&self.nodes).unwrap_or(channel.received);
        assert_eq!(channel.queue.span(), end.wrapping_sub(channel.consumed), "{index}: stored");
    }
}
