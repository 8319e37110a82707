//! A client or a backend: what it did and saw of what it means to do. Knows no proxy.

use crate::plan::{HEAD_BYTES, How, Plan, STREAM_BYTES_MAX, When, stream};
use crate::talk::{Talk, Told};
use seaprox::sim::{FarEnd, Random, SimKernel};
use seaprox::sys::{Errno, Sys};
use seaprox::time::Instant;

/// How the stream from the other end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Fin,
    Error(Errno),
}

/// How it left early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// By an RST, asked for or because bytes lay unread.
    pub(crate) reset: bool,
    pub(crate) at: Instant,
    /// The proxy's kernel had everything it had sent.
    pub(crate) clean: bool,
}

#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) id: usize,
    pub(crate) end: FarEnd,
    pub(crate) plan: Plan,
    /// What goes before its stream.
    pub(crate) talk: Option<Talk>,
    /// Where a backend listened.
    pub(crate) place: usize,
    born: Instant,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    head: [u8; HEAD_BYTES],
    /// Its FIN is on its way.
    pub(crate) fin_sent: bool,
    pub(crate) ended: Option<(Ended, Instant)>,
    pub(crate) left: Option<Left>,
    pub(crate) done: bool,
    quiet_until: Instant,
    deaf_until: Instant,
    stalled: bool,
    urgent_sent: bool,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stepped {
    pub(crate) progress: bool,
    /// When it wants another, though nothing reaches it.
    pub(crate) again_at: Option<Instant>,
}

impl Player {
    pub(crate) fn new(id: usize, end: FarEnd, plan: Plan, born: Instant) -> Player {
        Player {
            id,
            end,
            plan,
            talk: None,
            place: 0,
            born,
            sent: 0,
            received: 0,
            head: [0; HEAD_BYTES],
            fin_sent: false,
            ended: None,
            left: None,
            done: false,
            quiet_until: born,
            deaf_until: born,
            stalled: false,
            urgent_sent: false,
        }
    }

    /// The same, for a client that has something to say first; now and then it leaves in the midst.
    pub(crate) fn talking(mut self, talk: Option<Talk>, random: &mut Random) -> Player {
        if let Some(talk) = &talk
            && random.below(12) == 0
        {
            let said = When::Said(random.below(talk.bytes() + 1));
            self.plan.leave = Some((said, How::draw(random)));
        }
        Player { talk, ..self }
    }

    /// The same, for a backend.
    pub(crate) fn at(self, place: usize) -> Player {
        Player { place, ..self }
    }

    /// Whether it was refused, and told so.
    pub(crate) fn is_refused(&self) -> bool {
        let told = self.talk.as_ref().and_then(|talk| talk.told);
        matches!(told, Some(Told::Refused(_)))
    }

    /// Whose stream it received, once that can be known.
    pub(crate) fn peer_id(&self) -> Option<usize> {
        (self.received >= HEAD_BYTES).then(|| u16::from_le_bytes(self.head).into())
    }

    /// Does what it can do now.
    pub(crate) fn step(
        &mut self,
        sim: &SimKernel<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Stepped, String> {
        let mut stepped = Stepped::default();
        if self.done {
            return Ok(stepped);
        }
        if !self.end.connecting(sim) {
            self.send(sim, scratch, &mut stepped);
            self.receive(sim, scratch, &mut stepped)?;
            let heard = self.talk.is_some() && stepped.progress;
            if heard || self.plan.patient && self.ended.is_some() && !self.fin_sent {
                self.send(sim, scratch, &mut stepped);
            }
        }
        self.leave_or_end(sim, &mut stepped);
        Ok(stepped)
    }

    /// Whether it has said all that goes before its stream, and may go on.
    fn is_through(&self) -> bool {
        self.talk.as_ref().is_none_or(|talk| talk.is_through(talk.said))
    }

    fn has_given_up(&self) -> bool {
        self.talk.as_ref().is_some_and(Talk::has_given_up)
    }

    /// What it says next, and how much of that goes before its stream.
    fn next_words(&self, words: &mut Vec<u8>) -> usize {
        words.clear();
        if let Some(talk) = &self.talk
            && talk.said < talk.bytes()
        {
            let next = talk.next();
            words.extend(&next[..next.len().min(talk.write_bytes)]);
            if words.len() == talk.write_bytes || !talk.is_through(talk.said + words.len()) {
                return words.len();
            }
        } else if !self.is_through() {
            return 0;
        }
        let before = words.len();
        let mut bytes = self.plan.write_bytes.min(self.plan.total - self.sent);
        if let Some(at) = self.plan.urgent_at
            && !self.urgent_sent
        {
            bytes = bytes.min(at - self.sent);
        }
        words.extend(stream(self.id, self.sent, bytes));
        before
    }

    fn has_more(&self) -> bool {
        let talking = self.talk.as_ref().is_some_and(|talk| talk.said < talk.bytes());
        !self.has_given_up() && (talking || self.sent < self.plan.total)
    }

    fn send(&mut self, sim: &SimKernel<'_>, scratch: &mut Vec<u8>, stepped: &mut Stepped) {
        let now = sim.now();
        while self.has_more() && !self.leaves(now) {
            if now < self.quiet_until {
                stepped.wake(self.quiet_until);
                return;
            }
            let is_urgent = self.plan.urgent_at.is_some_and(|at| at <= self.sent);
            if is_urgent && !self.urgent_sent && self.is_through() {
                match self.end.send_urgent(sim, b'!') {
                    Ok(_) => self.urgent_sent = true,
                    Err(errno) => return self.write_failed(errno, now),
                }
            }
            let before = self.next_words(scratch);
            if scratch.is_empty() {
                // It waits to be told something.
                return;
            }
            match self.end.send(sim, scratch) {
                Ok(taken) => {
                    let said = taken.min(before);
                    if let Some(talk) = &mut self.talk {
                        talk.said += said;
                    }
                    self.sent += taken - said;
                    stepped.progress = true;
                    if self.plan.gap_millis > 0 {
                        self.quiet_until = now.after(self.plan.gap_millis);
                    }
                }
                Err(errno) => return self.write_failed(errno, now),
            }
        }
        let has_sent_all = self.sent == self.plan.total && self.is_through();
        if (has_sent_all || self.has_given_up()) && !self.fin_sent && self.ended_well() {
            if self.plan.patient && self.ended.is_none() && !self.has_given_up() {
                return;
            }
            let at = self.quiet_until.after(self.plan.linger_millis);
            if now < at {
                return stepped.wake(at);
            }
            match self.end.shutdown(sim) {
                Ok(()) => self.fin_sent = true,
                Err(errno) => self.write_failed(errno, now),
            }
        }
    }

    fn ended_well(&self) -> bool {
        !matches!(self.ended, Some((Ended::Error(_), _)))
    }

    fn write_failed(&mut self, errno: Errno, now: Instant) {
        if errno != Errno::AGAIN && self.ended_well() {
            self.ended = Some((Ended::Error(errno), now));
        }
    }

    fn receive(
        &mut self,
        sim: &SimKernel<'_>,
        scratch: &mut Vec<u8>,
        stepped: &mut Stepped,
    ) -> Result<(), String> {
        let now = sim.now();
        loop {
            if let Some((at, millis)) = self.plan.stall
                && self.received >= at
                && !self.stalled
            {
                self.stalled = true;
                self.deaf_until = now.after(millis);
            }
            if now < self.deaf_until {
                stepped.wake(self.deaf_until);
                return Ok(());
            }
            scratch.clear();
            match self.end.recv(sim, scratch, 20_000) {
                Ok(0) => {
                    if self.ended.is_none() {
                        stepped.progress = true;
                        self.ended = Some((Ended::Fin, now));
                    }
                    return Ok(());
                }
                Ok(_) => {
                    stepped.progress = true;
                    self.hear(scratch)?;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => {
                    stepped.progress = true;
                    if self.ended.is_none() {
                        self.ended = Some((Ended::Error(errno), now));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// What goes before the other's stream, and that.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        let before = self.talk.as_mut().map_or(Ok(0), |talk| talk.hear(bytes));
        let before = before.map_err(|what| format!("{} {what}", self.id))?;
        match &bytes[before..] {
            [] => Ok(()),
            _ if self.is_refused() => Err(format!("{} is told more than a refusal", self.id)),
            stream => self.check(stream),
        }
    }

    /// Every byte in order, and of one sender.
    fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        for (at, &byte) in (self.received..HEAD_BYTES).zip(bytes) {
            self.head[at] = byte;
        }
        let from = self.received;
        self.received += bytes.len();
        let Some(peer) = self.peer_id() else { return Ok(()) };
        if self.received > STREAM_BYTES_MAX {
            return Err(format!("{} got {} bytes", self.id, self.received));
        }
        if !stream(peer, from, bytes.len()).eq(bytes.iter().copied()) {
            let wrong = stream(peer, from, bytes.len()).zip(bytes).position(|(a, b)| a != *b);
            let at = from + wrong.unwrap_or(0);
            return Err(format!("{} got a wrong byte at {at} of {peer}'s stream", self.id));
        }
        Ok(())
    }

    fn leaves(&self, now: Instant) -> bool {
        match self.plan.leave {
            Some((When::Said(bytes), _)) => {
                self.talk.as_ref().is_none_or(|talk| talk.said >= bytes)
            }
            Some((When::Sent(bytes), _)) => self.sent >= bytes,
            Some((When::Received(bytes), _)) => self.received >= bytes,
            Some((When::After(millis), _)) => now >= self.born.after(millis),
            None => false,
        }
    }

    fn leave_or_end(&mut self, sim: &SimKernel<'_>, stepped: &mut Stepped) {
        let now = sim.now();
        let over = match self.ended {
            Some((Ended::Error(_), _)) => now >= self.deaf_until,
            Some((Ended::Fin, _)) => self.fin_sent,
            None => false,
        };
        if over {
            self.end.close(sim);
            (self.done, stepped.progress) = (true, true);
            return;
        }
        let Some((when, how)) = self.plan.leave else { return };
        if !self.leaves(now) {
            if let When::After(millis) = when {
                stepped.wake(self.born.after(millis));
            }
            return;
        }
        let clean = self.end.unacknowledged(sim) == 0;
        let reset = match how {
            How::Reset => {
                self.end.reset(sim);
                true
            }
            How::Close => self.end.close(sim),
        };
        self.fin_sent |= !reset;
        self.left = Some(Left { reset, at: now, clean });
        (self.done, stepped.progress) = (true, true);
    }
}

impl Stepped {
    fn wake(&mut self, at: Instant) {
        self.again_at = Some(self.again_at.map_or(at, |other| other.min(at)));
    }
}
