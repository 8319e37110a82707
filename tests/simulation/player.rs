//! A client or a backend: what it means to do, and what it did and saw. Knows no proxy.

use seaprox::sim::{FarEnd, Random, SimKernel};
use seaprox::sys::{Errno, Sys};
use seaprox::time::Instant;
use std::sync::LazyLock;

/// The largest stream.
const STREAM_BYTES_MAX: usize = 300_000;

/// Every stream is a part of this, behind its sender's number.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(7);
    (0..2 * STREAM_BYTES_MAX).map(|_| random.bits() as u8).collect()
});

/// The sender's number goes first, in so many bytes.
const HEAD_BYTES: usize = 2;

/// The stream that player `id` sends, from `from` on.
fn stream(id: usize, from: usize, bytes: usize) -> impl Iterator<Item = u8> {
    let start = id * 7919 % STREAM_BYTES_MAX;
    let head = (id as u16).to_le_bytes();
    (from..from + bytes).map(move |at| match head.get(at) {
        Some(&byte) => byte,
        None => PATTERN[start + at],
    })
}

/// What it means to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How much it sends.
    total: usize,
    /// How much of it at a time, and how long it waits in between.
    write_bytes: usize,
    gap_millis: u32,
    /// Where it sends an urgent byte, which is no part of the stream.
    urgent_at: Option<usize>,
    /// It does not read on for so long, once it has read so much.
    stall: Option<(usize, u32)>,
    /// How long it waits with its FIN.
    linger_millis: u32,
    /// It sends its FIN only after the other's.
    patient: bool,
    /// It leaves early.
    leave: Option<(When, How)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Sent(usize),
    Received(usize),
    After(u32),
}

/// How it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Reset,
    Close,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random, may_be_patient: bool) -> Plan {
        let total = match random.below(8) {
            0 => 0,
            1 | 2 => random.between(HEAD_BYTES, 64),
            3 | 4 => random.between(HEAD_BYTES, 4096),
            _ => random.scaled(STREAM_BYTES_MAX).max(HEAD_BYTES),
        };
        let write_bytes = random.scaled(1 << 16).max(total / 100).max(1);
        let few_writes = total / write_bytes < 20;
        let mut maybe =
            |times, most| if random.below(times) == 0 { random.scaled(most) } else { 0 };
        let gap_millis = if few_writes { maybe(3, 200) as u32 } else { 0 };
        let linger_millis = maybe(4, 2000) as u32;
        let stall_millis = maybe(4, 4000) as u32;
        let stall = (stall_millis > 0).then(|| (random.below(100_000), stall_millis));
        let urgent = total > 8 && random.below(12) == 0;
        let urgent_at = urgent.then(|| random.between(HEAD_BYTES, total - 1));
        let patient = may_be_patient && random.below(3) == 0;
        let when = match random.below(8) {
            0 => Some(When::Sent(random.below(total + 1))),
            1 => Some(When::Received(random.scaled(STREAM_BYTES_MAX))),
            2 => Some(When::After(random.scaled(3000) as u32)),
            _ => None,
        };
        let how = random.pick(&[How::Reset, How::Close]);
        let leave = when.map(|when| (when, how));
        Plan { total, write_bytes, gap_millis, urgent_at, stall, linger_millis, patient, leave }
    }
}

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
            if self.plan.patient && self.ended.is_some() && !self.fin_sent {
                self.send(sim, scratch, &mut stepped);
            }
        }
        self.leave_or_end(sim, &mut stepped);
        Ok(stepped)
    }

    fn send(&mut self, sim: &SimKernel<'_>, scratch: &mut Vec<u8>, stepped: &mut Stepped) {
        let now = sim.now();
        while self.sent < self.plan.total && !self.leaves(now) {
            if now < self.quiet_until {
                stepped.wake(self.quiet_until);
                return;
            }
            if self.plan.urgent_at.is_some_and(|at| at <= self.sent) && !self.urgent_sent {
                match self.end.send_urgent(sim, b'!') {
                    Ok(_) => self.urgent_sent = true,
                    Err(errno) => return self.write_failed(errno, now),
                }
            }
            let mut bytes = self.plan.write_bytes.min(self.plan.total - self.sent);
            if let Some(at) = self.plan.urgent_at
                && !self.urgent_sent
            {
                bytes = bytes.min(at - self.sent);
            }
            scratch.clear();
            scratch.extend(stream(self.id, self.sent, bytes));
            match self.end.send(sim, scratch) {
                Ok(taken) => {
                    self.sent += taken;
                    stepped.progress = true;
                    if self.plan.gap_millis > 0 {
                        self.quiet_until = now.after(self.plan.gap_millis);
                    }
                }
                Err(errno) => return self.write_failed(errno, now),
            }
        }
        if self.sent == self.plan.total && !self.fin_sent && self.ended_well() {
            if self.plan.patient && self.ended.is_none() {
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
                    self.check(scratch)?;
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
