//! Which packets arrived, and the message that tells the peer. Knows neither what was in them nor
//! what the peer makes of it.
//!
//! Invariant of [`Received`]: of the [`WINDOW`] numbers up to the largest, exactly those that arrived
//! have their bit, each at its number modulo the window; all from `run_start` to the largest that are
//! in the window have it, and the number before `run_start` has not.

use crate::packet::{ACK, Malformed, NUMBER_MAX};
use crate::time::Micros;
use core::ops::RangeInclusive;

/// So many packet numbers up to the largest are remembered one by one; those before are too old,
/// whether they arrived or not.
pub const WINDOW: u64 = 16_384;

/// What an end must remember like that at least, to be spoken with: fewer would be used up by a few
/// lost packets.
pub const WINDOW_MIN: u64 = 256;

/// The ranges of one ACK, at most.
pub const RANGES_MAX: usize = 32;

/// The bytes of an ACK, at most.
pub const ACK_BYTES_MAX: usize = FIRST_BYTES + RANGE_BYTES * (RANGES_MAX - 1);

/// The unit of the delay in an ACK, in microseconds: the greatest that can be said is a second.
pub const DELAY_UNIT_MICROS: u64 = 16;

/// After how long an ACK is due though only one packet wants it.
pub const ACK_DELAY_MICROS: u64 = 5_000;

/// The same where round trips are shorter than [`ACK_DELAY_MICROS`].
pub const ACK_DELAY_SHORT_MICROS: u64 = 1_000;

/// How long an ACK is held back where a round trip takes so long, in microseconds.
#[must_use]
pub const fn ack_delay_micros(smoothed_rtt_micros: u64) -> u64 {
    if smoothed_rtt_micros < ACK_DELAY_MICROS { ACK_DELAY_SHORT_MICROS } else { ACK_DELAY_MICROS }
}

/// So many packets that want an ACK are not kept waiting for more (RFC 9000 section 13.2.2).
const ELICITING_MAX: u32 = 2;

/// The bytes of an ACK of one range.
const FIRST_BYTES: usize = 14;
/// The bytes of each further range.
const RANGE_BYTES: usize = 4;
const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / WORD_BITS) as usize;

// A number's place stays its place when numbers wrap around the ring; lengths and gaps fit 16 bits.
const _: () = assert!(WINDOW.is_power_of_two() && WINDOW >= WORD_BITS && WINDOW <= 1 << 16);

/// What a packet number is to those that arrived before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It did not arrive before.
    New,
    /// It did.
    Duplicate,
    /// Nobody knows any more, or it is no packet number: the packet is not to be used.
    TooOld,
}

/// The packet numbers that arrived. 2 KiB and a little; all zeroes when new.
#[derive(Debug)]
pub struct Received {
    bits: [u64; WORDS],
    /// The largest that arrived and one more; 0: none did.
    next: u64,
    /// Where the unbroken run of numbers that ends with the largest begins.
    run_start: u64,
    /// What is below, the peer knows of: it need not be told again.
    told_below: u64,
    largest_at: Micros,
    /// Packets that want an ACK, since the last one was written.
    eliciting: u32,
    /// When the first of them came.
    eliciting_since: Micros,
    /// One of them tells the peer more the sooner it knows.
    is_urgent: bool,
    /// Something arrived since the last ACK was written.
    has_news: bool,
    ce: u16,
}

impl Default for Received {
    fn default() -> Self {
        Self::new()
    }
}

impl Received {
    /// Nothing arrived yet.
    #[must_use]
    pub const fn new() -> Self {
        Received {
            bits: [0; WORDS],
            next: 0,
            run_start: 0,
            told_below: 0,
            largest_at: Micros(0),
            eliciting: 0,
            eliciting_since: Micros(0),
            is_urgent: false,
            has_news: false,
            ce: 0,
        }
    }

    /// What this number would be; changes nothing. O(1).
    #[inline]
    #[must_use]
    pub const fn look(&self, number: u64) -> Arrival {
        if number >= self.next {
            return if number <= NUMBER_MAX { Arrival::New } else { Arrival::TooOld };
        }
        if number < self.bottom() {
            return Arrival::TooOld;
        }
        match self.bits[Self::word(number)] >> (number % WORD_BITS) & 1 {
            0 => Arrival::New,
            _ => Arrival::Duplicate,
        }
    }

    /// A packet arrived, was opened and can be used: if it is new, it will be acknowledged.
    /// `eliciting`: it holds anything but ACK, PATH_CHALLENGE, PATH_RESPONSE and PAD; `ce`: the
    /// network marked it (RFC 3168).
    /// Only [`Arrival::New`] changes anything. O(1) in order; at most O([`WINDOW`] / 64) words else.
    #[inline]
    pub fn insert(&mut self, number: u64, now: Micros, eliciting: bool, ce: bool) -> Arrival {
        let arrival = self.look(number);
        if arrival != Arrival::New {
            return arrival;
        }
        let is_in_order = number == self.next;
        if number >= self.next {
            self.advance(number);
            self.largest_at = now;
        } else {
            self.fill(number);
        }
        self.has_news = true;
        self.ce = self.ce.wrapping_add(ce.into());
        if eliciting {
            if self.eliciting == 0 {
                self.eliciting_since = now;
            }
            self.eliciting = self.eliciting.saturating_add(1);
            self.is_urgent |= !is_in_order || ce;
        }
        Arrival::New
    }

    /// A new largest number: all between the last one and this are missing.
    #[inline]
    fn advance(&mut self, number: u64) {
        if number != self.next {
            self.forget_before(number);
            self.run_start = number;
        }
        // What had this place before is out of the window now.
        self.bits[Self::word(number)] |= 1 << (number % WORD_BITS);
        self.next = number + 1;
    }

    /// Empties the places of all numbers from `next` until before this one.
    fn forget_before(&mut self, number: u64) {
        if number - self.next >= WINDOW {
            self.bits = [0; WORDS];
            return;
        }
        let mut at = self.next;
        while at < number {
            let bit = at % WORD_BITS;
            let count = (WORD_BITS - bit).min(number - at);
            self.bits[Self::word(at)] &= !(u64::MAX >> (WORD_BITS - count) << bit);
            at += count;
        }
    }

    /// A number below the largest that was missing.
    fn fill(&mut self, number: u64) {
        self.bits[Self::word(number)] |= 1 << (number % WORD_BITS);
        // It may have been given up already: the peer is told all the same.
        self.told_below = self.told_below.min(number);
        if number + 1 == self.run_start {
            let length = self.run(number, self.bottom(), true);
            self.run_start = number + 1 - length;
        }
    }

    /// The peer has an ACK of ours whose largest number was this one: what that ACK told or could
    /// have told is not told again (RFC 9000 section 13.2.4), so ACKs stay short although what was
    /// lost stays missing for ever.
    pub fn confirm(&mut self, largest: u64) {
        let below = largest.saturating_add(1).min(self.next);
        self.told_below = self.told_below.max(below);
    }

    /// When an ACK is due; `None`: no packet wants one. It is in the past at the end of a turn when
    /// two want one, and whenever one came out of order or marked: send it at once then. Ask at the
    /// end of a turn, so that one ACK tells of a whole batch. O(1).
    #[inline]
    #[must_use]
    pub const fn ack_at(&self, smoothed_rtt_micros: u64) -> Option<Micros> {
        if self.eliciting == 0 {
            return None;
        }
        let is_due = self.is_urgent || self.eliciting >= ELICITING_MAX;
        let delay = if is_due { 0 } else { ack_delay_micros(smoothed_rtt_micros) };
        Some(self.eliciting_since.after(delay))
    }

    /// Whether an ACK would tell what the last one did not, be it wanted or not: one that rides with
    /// other messages costs no packet.
    #[inline]
    #[must_use]
    pub const fn has_news(&self) -> bool {
        self.has_news
    }

    /// The largest number that arrived.
    #[must_use]
    pub const fn largest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// When the largest number arrived; 0 if none did.
    #[must_use]
    pub const fn largest_at(&self) -> Micros {
        self.largest_at
    }

    /// How many packets came marked by the network, modulo 2^16.
    #[must_use]
    pub const fn ce_count(&self) -> u16 {
        self.ce
    }

    /// Writes an ACK at the start of `out` and gives its bytes: as many ranges as there is room for,
    /// the newest first, at most [`RANGES_MAX`]. 0: nothing arrived yet, or there is no room for one
    /// range; then nothing was written, and what was due still is. O(ranges) words, and at most
    /// O([`WINDOW`] / 64).
    pub fn emit(&mut self, now: Micros, out: &mut [u8]) -> usize {
        let (Some(largest), Some((first, rest))) =
            (self.largest(), out.split_first_chunk_mut::<FIRST_BYTES>())
        else {
            return 0;
        };
        let bottom = self.bottom().max(self.told_below.min(largest));
        let mut low = self.run_start.max(bottom);
        let first_length = (largest - low) as u16;
        let mut ranges = 1;
        let (places, _) = rest.as_chunks_mut::<RANGE_BYTES>();
        for place in places.iter_mut().take(RANGES_MAX - 1) {
            // All from `low` up is told; below it is a gap, if it is not the bottom.
            let Some(above) = low.checked_sub(1).filter(|&above| above >= bottom) else { break };
            let gap = self.run(above, bottom, false);
            let Some(top) = above.checked_sub(gap).filter(|&top| top >= bottom) else { break };
            let length = self.run(top, bottom, true);
            low = top + 1 - length;
            let [g0, g1] = ((gap - 1) as u16).to_le_bytes();
            let [l0, l1] = ((length - 1) as u16).to_le_bytes();
            *place = [g0, g1, l0, l1];
            ranges += 1;
        }
        let delay = now.since(self.largest_at) / DELAY_UNIT_MICROS;
        let [d0, d1] = u16::try_from(delay).unwrap_or(u16::MAX).to_le_bytes();
        let [n0, n1, n2, n3, n4, n5, _, _] = largest.to_le_bytes();
        let [c0, c1] = self.ce.to_le_bytes();
        let [f0, f1] = first_length.to_le_bytes();
        *first = [ACK, ranges as u8, d0, d1, n0, n1, n2, n3, n4, n5, c0, c1, f0, f1];
        self.eliciting = 0;
        self.is_urgent = false;
        self.has_news = false;
        FIRST_BYTES + RANGE_BYTES * (ranges - 1)
    }

    /// The lowest number in the window.
    const fn bottom(&self) -> u64 {
        self.next.saturating_sub(WINDOW)
    }

    const fn word(number: u64) -> usize {
        (number / WORD_BITS) as usize % WORDS
    }

    /// How many numbers from `top` downward, none below `bottom`, all arrived, or all did not.
    /// Both are in the window.
    fn run(&self, top: u64, bottom: u64, arrived: bool) -> u64 {
        let most = top + 1 - bottom;
        let mut count = 0;
        while count < most {
            let at = top - count;
            let below = WORD_BITS - 1 - at % WORD_BITS;
            let word = self.bits[Self::word(at)];
            let alike = if arrived { word } else { !word };
            let run = u64::from((alike << below).leading_ones());
            count += run;
            if run < WORD_BITS - below {
                break;
            }
        }
        count.min(most)
    }
}

/// The message that tells which packets arrived. Its numbers may be any: those that were never sent
/// are for who sent them to refuse.
///
/// ```text
/// 0x02, ranges (1..=32), delay u16 | largest u48, marked u16 | first length u16 | (gap u16, length u16)..
/// ```
///
/// The first range is `largest - length ..= largest`; then `gap + 1` numbers are missing and
/// `length + 1` arrived, and so on down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'m> {
    /// The largest number that arrived.
    pub largest: u64,
    /// How long ago that was when this was written, in microseconds.
    pub delay_micros: u64,
    /// How many packets came marked by the network, modulo 2^16.
    pub ce_count: u16,
    /// The lowest number told, and that of the newest range.
    smallest: u64,
    first: u64,
    /// Checked: no range goes below 0.
    rest: &'m [[u8; RANGE_BYTES]],
}

impl<'m> Ack<'m> {
    /// The ACK at the start of these bytes, and its length in bytes. O(ranges).
    ///
    /// # Errors
    /// It is none, or not whole, or a range goes below 0.
    pub fn parse(bytes: &'m [u8]) -> Result<(Self, usize), Malformed> {
        let (first, rest) = bytes.split_first_chunk::<FIRST_BYTES>().ok_or(Malformed)?;
        let &[kind, ranges, d0, d1, n0, n1, n2, n3, n4, n5, c0, c1, f0, f1] = first;
        let ranges = usize::from(ranges);
        if kind != ACK || ranges == 0 || ranges > RANGES_MAX {
            return Err(Malformed);
        }
        let bytes = RANGE_BYTES * (ranges - 1);
        let (rest, _) = rest.get(..bytes).ok_or(Malformed)?.as_chunks::<RANGE_BYTES>();
        let largest = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, 0, 0]);
        let length = u64::from(u16::from_le_bytes([f0, f1]));
        let first = largest.checked_sub(length).ok_or(Malformed)?;
        let smallest = rest.iter().try_fold(first, |low, range| {
            let (gap, length) = Self::split(range);
            low.checked_sub(gap + length).ok_or(Malformed)
        })?;
        let delay_micros = u64::from(u16::from_le_bytes([d0, d1])) * DELAY_UNIT_MICROS;
        let ce_count = u16::from_le_bytes([c0, c1]);
        Ok((Ack { largest, delay_micros, ce_count, smallest, first, rest }, FIRST_BYTES + bytes))
    }

    /// How far below the range before it this one's top is, and how far its bottom below that.
    const fn split(&[g0, g1, l0, l1]: &[u8; RANGE_BYTES]) -> (u64, u64) {
        (u16::from_le_bytes([g0, g1]) as u64 + 2, u16::from_le_bytes([l0, l1]) as u64)
    }

    /// The smallest number it tells of.
    #[must_use]
    pub const fn smallest(&self) -> u64 {
        self.smallest
    }

    /// The ranges, that with the smallest number first: as packets were sent.
    pub fn ascending(&self) -> impl Iterator<Item = RangeInclusive<u64>> + use<'m> {
        let mut low = self.smallest;
        let rest = self.rest.iter().rev().map(move |range| {
            let (gap, length) = Self::split(range);
            let bottom = low;
            low += length + gap;
            bottom..=bottom + length
        });
        rest.chain(core::iter::once(self.first..=self.largest))
    }

    /// The ranges, that with the largest number first: as they are written.
    pub fn descending(&self) -> impl Iterator<Item = RangeInclusive<u64>> + use<'m> {
        let mut low = self.first;
        let rest = self.rest.iter().map(move |range| {
            let (gap, length) = Self::split(range);
            let top = low - gap;
            low = top - length;
            low..=top
        });
        core::iter::once(self.first..=self.largest).chain(rest)
    }
}

#[cfg(test)]
mod tests;
