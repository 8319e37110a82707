//! What becomes of one channel between two engines, seen from above: the oracle. Each thing an end
//! is told is judged at once against what the other end did.

use super::engine::World;
use crate::contents::contents;
use seaprox::fail::FailReason;
use seaprox::time::Instant;

/// The end that opens channels, and the other.
pub(super) const OPENER: usize = 0;

/// How an end's part is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    InOrder,
    Because(FailReason),
}

/// One end's part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) wanted: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// It said that nothing follows.
    pub(super) finished: bool,
    /// It reads no more.
    pub(super) stopped: bool,
    /// It was told that nothing follows.
    pub(super) told_end: bool,
    /// It was told that nobody reads.
    pub(super) told_broken: bool,
    /// It may read now, and its target was reached.
    pub(super) reads: bool,
    /// Its target was reached, which the opener may know.
    pub(super) answered: bool,
    pub(super) left: Option<Left>,
    /// When it last received something, or there was nothing to receive.
    went_on_at: Instant,
}

impl Part {
    pub(super) fn new(wanted: u64, now: Instant) -> Part {
        Part {
            wanted,
            sent: 0,
            received: 0,
            finished: false,
            stopped: false,
            told_end: false,
            told_broken: false,
            reads: false,
            answered: false,
            left: None,
            went_on_at: now,
        }
    }

    fn is_here(&self) -> bool {
        self.left.is_none()
    }
}

/// A channel: what its two ends made of it.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) serial: usize,
    /// The carrier it goes over.
    pub(super) line: usize,
    pub(super) parts: [Option<Part>; 2],
    /// Before any user hears of it at the far end it is, or may be.
    pub(super) refused: Option<FailReason>,
    opened_at: Instant,
}

impl Story {
    pub(super) fn new(serial: usize, line: usize, opener: Part, world: &World<'_>) -> Story {
        Story {
            serial,
            line,
            parts: [Some(opener), None],
            refused: world.refuses.then_some(FailReason::TableFull),
            opened_at: world.now,
        }
    }

    pub(super) fn part(&mut self, end: usize) -> &mut Part {
        self.parts[end].as_mut().expect("it is part of the story")
    }

    /// An end puts so many bytes into the room it was lent.
    pub(super) fn send(&mut self, end: usize, room: &mut [u8]) -> usize {
        let serial = self.serial;
        let part = self.part(end);
        assert!(part.is_here() && !part.finished, "{serial}: room for one who is gone");
        let bytes = ((part.wanted - part.sent) as usize).min(room.len());
        room[..bytes].copy_from_slice(contents(serial, end, part.sent, bytes));
        part.sent += bytes as u64;
        bytes
    }

    /// Bytes were delivered at an end.
    pub(super) fn deliver(&mut self, end: usize, bytes: &[u8], now: Instant) {
        let serial = self.serial;
        let sent = self.parts[1 - end].as_ref().map_or(0, |part| part.sent);
        let part = self.part(end);
        assert!(part.is_here() && !part.stopped, "{serial}: bytes for one who reads no more");
        assert!(!part.told_end, "{serial}: bytes after the end");
        assert!(part.received + bytes.len() as u64 <= sent, "{serial}: bytes from nowhere");
        let expected = contents(serial, 1 - end, part.received, bytes.len());
        assert!(bytes == expected, "{serial}: other bytes than were sent");
        part.received += bytes.len() as u64;
        part.went_on_at = now;
    }

    /// An end was told that the other has ended in order.
    pub(super) fn end(&mut self, end: usize) {
        let serial = self.serial;
        let far = self.parts[1 - end].clone().expect("who ended");
        let part = self.part(end);
        let answered = part.stopped;
        assert!(far.finished || answered, "{serial}: an end that nobody said");
        assert!(part.received == far.sent || answered, "{serial}: an end before the last byte");
        part.told_end = true;
    }

    /// An end was told that the channel is reset; `is_down`: it was told that the link is down.
    pub(super) fn reset(&mut self, end: usize, reason: FailReason, is_down: bool) {
        let serial = self.serial;
        if reason == FailReason::LinkDown {
            return assert!(is_down, "{serial}: the link is not down at {end}");
        }
        assert!(!is_down, "{serial}: {reason}, but the link is down");
        let why = match &self.parts[1 - end] {
            Some(far) => far.left,
            None => self.refused.map(Left::Because),
        };
        assert_eq!(why, Some(Left::Because(reason)), "{serial}: at {end}");
    }

    /// An end was told that the target was reached.
    pub(super) fn be_accepted(&self, end: usize) {
        let answered = self.parts[1 - end].as_ref().is_some_and(|far| far.answered);
        assert!(answered, "{}: nobody was reached", self.serial);
    }

    /// An end was told that something is wrong with the channel, or that nobody reads.
    pub(super) fn error(&mut self, end: usize, is_down: bool) {
        let serial = self.serial;
        let far = self.parts[1 - end].as_ref();
        let far = far.is_some_and(|far| far.left.is_some() || far.stopped);
        assert!(is_down || far || self.refused.is_some(), "{serial}: nothing is wrong at {end}");
    }

    /// An end leaves.
    pub(super) fn leave(&mut self, end: usize, left: Left) {
        let serial = self.serial;
        let part = self.part(end);
        assert!(part.is_here(), "{serial}: leaves twice");
        if left == Left::InOrder {
            assert!(part.told_end && !part.stopped, "{serial}: leaves before the end");
            part.finished = true;
        }
        part.left = Some(left);
        part.reads = false;
    }

    pub(super) fn is_over(&self) -> bool {
        !self.parts.iter().flatten().any(Part::is_here)
    }

    /// Notes what goes on, and that nothing stands still while its carrier carries.
    pub(super) fn watch(&mut self, now: Instant, is_alive: bool, stuck_millis: u64) {
        let serial = self.serial;
        if !is_alive {
            self.opened_at = now;
        }
        let opener_is_here = self.parts[OPENER].as_ref().is_some_and(Part::is_here);
        if opener_is_here && self.parts[1 - OPENER].is_none() {
            // Refused or not, it must hear of it.
            let stood = now.since(self.opened_at);
            assert!(stood <= stuck_millis, "{serial}: nobody answered for {stood} ms");
        }
        for end in 0..2 {
            let Some(far) = self.parts[1 - end].as_ref() else { continue };
            let may_send = far.reads || far.told_end;
            let wants = may_send && !far.told_broken && far.sent < far.wanted && far.is_here();
            let (sent, over) = (far.sent, far.finished || !far.is_here());
            let Some(part) = &mut self.parts[end] else { continue };
            let is_due = sent > part.received || wants || over;
            if !(is_alive && part.reads && !part.told_end && is_due) {
                part.went_on_at = now;
            }
            let stood = now.since(part.went_on_at);
            assert!(stood <= stuck_millis, "{serial}: stands still at {end} for {stood} ms");
        }
    }
}
