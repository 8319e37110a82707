//! What bytes and last words of the far end do, in whatever order they come. On carriers that keep
//! the order each message is at the offset that is expected, and the rest is the same.

use super::handle::Part;
use super::{Heard, Session, Slot, is_ours};
use crate::channel::Flags;
use crate::message::ChannelId;
use crate::ranges::is_before;
use crate::window;
use seaprox::fail::FailReason;
use seaprox::time::Instant;

/// What became of bytes that arrived.
enum Kept<'m> {
    /// They are next, and in the caller's hands.
    Next(&'m [u8]),
    /// They are stored, and can be read, as can others perhaps that waited for them.
    Joined,
    /// They are stored behind a gap, or had been there already, or are dropped.
    Away,
    /// There is no node for them.
    Refused,
}

impl Session<'_> {
    pub(super) fn handle_data<'m>(
        &mut self,
        id: ChannelId,
        part: Part<'m>,
        now: Instant,
    ) -> Result<Heard<'m>, FailReason> {
        let is_unordered = self.is_unordered();
        let Some(index) = self.find(id, now)? else { return Ok(Heard::Nothing) };
        let channel = &mut self.channels[index];
        let is_answered = !is_ours(index) || channel.flags.has(Flags::OPENED);
        let is_late = !is_answered || channel.flags.any(Flags::LAST_RECEIVED);
        if part.offset.is_some() != is_unordered || is_late && !is_unordered {
            return Err(FailReason::Protocol);
        }
        let offset = part.offset.unwrap_or(channel.received);
        let end = offset.wrapping_add(part.bytes.len() as u32);
        if is_before(channel.granted, end) {
            let is_over = channel.flags.any(Flags::LAST_RECEIVED);
            return Err(if is_over { FailReason::Protocol } else { FailReason::CreditExceeded });
        }
        let is_copy = part.fin && self.check_end(index, Flags::FIN_RECEIVED, end)?;
        debug_assert!(
            self.channels[index].unconsumed() == self.channels[index].queue.bytes(),
            "bytes were left lying"
        );
        let kept = self.keep(index, offset, part.bytes);
        if let Kept::Refused = kept {
            return Ok(Heard::Refused);
        }
        if is_ours(index) {
            // Who sends bytes has reached the target, whenever OPENED comes.
            self.channels[index].flags.set(Flags::OPENED);
        }
        if part.stopped && !is_copy {
            // The user is told with the bytes, or of the end: STOP itself will be a copy.
            self.handle_stop(index, FailReason::Reset as u16);
        }
        let is_last = part.fin && !is_copy;
        if is_last {
            self.hear_last_word(index, Flags::FIN_RECEIVED, end);
        }
        let channel = &self.channels[index];
        let (is_whole, slot) = (channel.is_whole(), Slot(index as u32));
        let heard = match kept {
            Kept::Next(bytes) => Heard::Bytes { slot, bytes, fin: is_whole },
            Kept::Joined => self.unless_closed(index, Heard::Stored),
            _ if is_last && (is_whole || part.stopped) => self.unless_closed(index, Heard::Ended),
            _ => Heard::Nothing,
        };
        self.settle(index);
        Ok(heard)
    }

    /// Puts bytes where they belong; they are within the credit.
    fn keep<'m>(&mut self, index: usize, offset: u32, bytes: &'m [u8]) -> Kept<'m> {
        let channel = &mut self.channels[index];
        let end = offset.wrapping_add(bytes.len() as u32);
        if !is_before(channel.received, end) || bytes.is_empty() {
            return Kept::Away;
        }
        if channel.flags.has(Flags::DROPPING) {
            (channel.received, channel.consumed) = (end, end);
            return Kept::Away;
        }
        if is_before(channel.received, offset) {
            if !channel.ranges.insert(&mut self.nodes, offset, end) {
                return Kept::Refused;
            }
            let distance = offset.wrapping_sub(channel.consumed);
            channel.queue.place(&mut self.pool, distance, bytes);
            return Kept::Away;
        }
        let bytes = &bytes[channel.received.wrapping_sub(offset) as usize..];
        channel.received = end;
        if channel.ranges.is_empty() && !channel.flags.has(Flags::EARLY) {
            return Kept::Next(bytes);
        }
        channel.queue.push(&mut self.pool, bytes);
        channel.received = channel.ranges.reach(&mut self.nodes, end);
        channel.queue.join(channel.unconsumed());
        Kept::Joined
    }

    /// Whether a last word that ends at `end` is a copy of the one that was heard.
    ///
    /// # Errors
    /// It cannot be one: it is a second one, or there are bytes beyond, or were.
    pub(super) fn check_end(
        &self,
        index: usize,
        word: Flags,
        end: u32,
    ) -> Result<bool, FailReason> {
        let channel = &self.channels[index];
        if channel.flags.any(Flags::LAST_RECEIVED) {
            let is_copy = self.is_unordered() && channel.flags.has(word) && end == channel.granted;
            return if is_copy { Ok(true) } else { Err(FailReason::Protocol) };
        }
        let seen = channel.ranges.end(&self.nodes).unwrap_or(channel.received);
        // Where packets keep their order all bytes have come that it counts.
        let all_came = self.is_unordered() || word == Flags::FIN_RECEIVED || end == seen;
        if is_before(end, seen) || is_before(channel.granted, end) || !all_came {
            return Err(FailReason::Protocol);
        }
        Ok(false)
    }

    /// The far end says nothing more, so it needs no credit. (A STOP that is owed stays owed: it tells
    /// that bytes were not read.)
    pub(super) fn hear_last_word(&mut self, index: usize, word: Flags, end: u32) {
        let channel = &mut self.channels[index];
        channel.flags.set(word);
        if channel.flags.has(Flags::DROPPING) {
            (channel.received, channel.consumed) = (end, end);
        }
        window::close(channel, &mut self.pool, self.terms, end);
        self.owe(index, Flags::default(), Flags::OWES_CREDIT);
    }
}
