//! What becomes of one channel, seen from above: who sent what, who was told what. The oracle of
//! the run: each thing an end is told is judged at once against what the other end did.

use crate::contents::contents;
use seaprox::fail::FailReason;
use seaprox::time::Instant;
use seaprox_proto::session::{Ended, Slot};

/// How an end's part in a channel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It closed the channel in order.
    InOrder,
    /// It broke the channel off.
    Aborted(FailReason),
    /// The link died.
    LinkDied,
}

/// One end's part in a channel.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) slot: Slot,
    /// How many bytes it wants to send, how many it has sent.
    pub(crate) wanted: u64,
    pub(crate) sent: u64,
    /// It said that nothing follows.
    pub(crate) finished: bool,
    pub(crate) received: u64,
    /// Reads nothing until then.
    pub(crate) stalled_until: Instant,
    /// Will answer the OPEN then; `None`: has, or opened the channel itself.
    pub(crate) answers_at: Option<Instant>,
    /// The opener knows that the target was reached.
    pub(crate) accepted: bool,
    pub(crate) stopped: Option<FailReason>,
    /// What it was told.
    pub(crate) told_ended: Option<Ended>,
    pub(crate) told_stopped: bool,
    pub(crate) left: Option<Left>,
    /// It has cut the far end's direction off; and whether it had said its own last word before.
    pub(crate) cut: Option<bool>,
    /// When its reading last went on, or there was nothing to read.
    pub(crate) went_on_at: Instant,
}

impl Part {
    pub(crate) fn new(slot: Slot, now: Instant) -> Part {
        Part {
            slot,
            wanted: 0,
            sent: 0,
            finished: false,
            received: 0,
            stalled_until: now,
            answers_at: None,
            accepted: false,
            stopped: None,
            told_ended: None,
            told_stopped: false,
            left: None,
            cut: None,
            went_on_at: now,
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        self.left.is_none()
    }

    /// It would send if it were let.
    pub(crate) fn wants_to_send(&self) -> bool {
        let is_cut = self.told_stopped || matches!(self.told_ended, Some(Ended::Reset(_)));
        let may_send = self.is_here() && self.answers_at.is_none() && !self.finished && !is_cut;
        may_send && self.sent < self.wanted
    }

    /// It reads no more, though the end of the far end's direction did not come, or was not reached.
    pub(crate) fn cut_off(&mut self) {
        if self.told_ended.is_none() && self.cut.is_none() {
            self.cut = Some(self.finished || self.told_stopped);
        }
    }

    /// Why the far end may be told of a reset.
    fn aborted(&self) -> Option<FailReason> {
        match self.left {
            Some(Left::Aborted(reason)) => Some(reason),
            _ => None,
        }
    }
}

/// A channel: what its two ends made of it, by the number of the end.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) serial: usize,
    pub(crate) opener: usize,
    pub(crate) parts: [Option<Part>; 2],
}

impl Story {
    pub(crate) fn part(&mut self, end: usize) -> &mut Part {
        self.parts[end].as_mut().expect("it is part of the story")
    }

    /// Bytes were delivered at an end: they are what the other sent, in order.
    pub(crate) fn deliver(&mut self, end: usize, bytes: &[u8], now: Instant) {
        let serial = self.serial;
        let sent = self.parts[1 - end].as_ref().map_or(0, |part| part.sent);
        let part = self.part(end);
        assert!(part.is_here(), "{serial}: bytes for one who is gone");
        assert!(part.stopped.is_none(), "{serial}: bytes for one who stopped them");
        assert!(part.told_ended.is_none(), "{serial}: bytes after the end");
        assert!(part.received + bytes.len() as u64 <= sent, "{serial}: bytes from nowhere");
        let expected = contents(serial, 1 - end, part.received, bytes.len());
        assert!(bytes == expected, "{serial}: other bytes than were sent");
        part.received += bytes.len() as u64;
        part.went_on_at = now;
    }

    /// An end was told that the other's direction has ended, and everything before it delivered.
    pub(crate) fn end(&mut self, end: usize, ended: Ended) {
        let serial = self.serial;
        let far = self.parts[1 - end].clone();
        let part = self.part(end);
        if part.told_ended.is_some() {
            assert_eq!(part.told_ended, Some(ended), "{serial}: two ends");
            return;
        }
        part.told_ended = Some(ended);
        let sent = far.as_ref().map_or(0, |far| far.sent);
        if part.stopped.is_none() {
            assert_eq!(part.received, sent, "{serial}: bytes are missing before {ended:?}");
        }
        match (ended, far) {
            (Ended::Fin, Some(far)) => {
                let left = matches!(far.left, Some(Left::InOrder));
                let answered = part.stopped.is_some();
                assert!(far.finished || left || answered, "{serial}: a FIN that nobody sent");
            }
            (Ended::Reset(reason), Some(far)) => {
                // Who leaves before it has answered cannot leave in order.
                let unanswered = far.left.is_some() && far.answers_at.is_some();
                let why = far.aborted().or(unanswered.then_some(FailReason::Reset));
                assert_eq!(why, Some(reason), "{serial}: a reset for another reason");
            }
            (Ended::Reset(reason), None) => {
                // Before any user heard of it: too many at once, or the far end drains.
                let refused = matches!(reason, FailReason::TableFull | FailReason::Shutdown);
                assert!(refused, "{serial}: refused for {reason}");
            }
            (Ended::Fin, None) => panic!("{serial}: a FIN of nobody"),
        }
    }

    /// An end was told that the other takes no more.
    pub(crate) fn stop(&mut self, end: usize) {
        let serial = self.serial;
        let cut = self.parts[1 - end].as_ref().is_some_and(|far| far.cut.is_some());
        assert!(cut, "{serial}: nobody stopped it");
        self.part(end).told_stopped = true;
    }

    /// An end found that the other takes no more: it stopped, or has left for a reason.
    pub(crate) fn be_broken(&mut self, end: usize) {
        let far = self.parts[1 - end].as_ref();
        let is_cut = far.is_some_and(|far| far.cut.is_some());
        let is_gone = far.is_none_or(|far| far.left.is_some());
        assert!(is_cut || is_gone, "{}: nobody broke it", self.serial);
        self.part(end).told_stopped |= is_cut;
    }

    /// Notes what goes on at an end, and that nothing stands still.
    pub(crate) fn watch(&mut self, end: usize, now: Instant, may_go_on: bool, stuck_millis: u64) {
        let serial = self.serial;
        let Some(far) = &self.parts[1 - end] else { return };
        let (sent, wants, gone) = (far.sent, far.wants_to_send(), !far.is_here());
        let finished = far.finished;
        let Some(part) = &mut self.parts[end] else { return };
        let reads = part.is_here() && part.stopped.is_none() && part.told_ended.is_none();
        let ready = part.answers_at.is_none() && part.stalled_until <= now;
        let is_due = sent > part.received || wants || finished || gone;
        if !(may_go_on && reads && ready && is_due) {
            part.went_on_at = now;
        }
        let stood = now.since(part.went_on_at);
        assert!(stood <= stuck_millis, "{serial}: stands still at {end} for {stood} ms");
    }

    /// Both ends are gone: whoever lost bytes cut them off, and the other knows.
    pub(crate) fn judge(&self) {
        let serial = self.serial;
        let dead = self.parts.iter().flatten().any(|part| part.left == Some(Left::LinkDied));
        for end in 0..2 {
            let (Some(part), far) = (&self.parts[end], &self.parts[1 - end]) else { continue };
            assert!(!part.is_here(), "{serial}: somebody is still there");
            let sent = far.as_ref().map_or(0, |far| far.sent);
            if part.received == sent || dead {
                continue;
            }
            let Some(cut) = part.cut else {
                panic!("{serial}: bytes are missing at {end}, and nobody cut them off")
            };
            let far = far.as_ref().expect("it sent something");
            // One who has heard the last word does not wait for what comes later, and one who cuts
            // off itself does not wait at all.
            let is_excused = cut || far.cut.is_some() || matches!(far.left, Some(Left::Aborted(_)));
            let knows = far.told_stopped || matches!(far.told_ended, Some(Ended::Reset(_)));
            assert!(knows || is_excused, "{serial}: {} does not know", 1 - end);
        }
    }
}
