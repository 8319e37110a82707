//! The carriers of a run and a kernel that watches them: packets in pieces and late, no room at any
//! time and room again, carriers that die with both ends told, one, or none. Knows no message.
//!
//! As epoll does edge-triggered, and no more than that: whoever was told EAGAIN is told once when
//! that is over, and nobody else is.

mod kernel;
mod ways;

pub(crate) use kernel::Kernel;
pub(crate) use ways::{Acceptor, Connector};

use crate::wire::{Weather, Wire};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sim::Random;
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::message::RESPONSE_BYTES;
use seaprox_proto::carrier::{Bounds, Carrier, Order, Received, WINDOW_BYTES_MIN};
use seaprox_proto::message::PACKET_BYTES;
use std::cell::RefCell;
use std::net::SocketAddr;

pub(crate) const LISTENER: RawFd = 10;
const CARRIERS_FROM: RawFd = 100;

/// What goes wrong. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Nothing is taken for up to so long.
    pub(crate) full: u16,
    pub(crate) full_millis_max: usize,
    /// A call is interrupted, or the kernel has no memory.
    pub(crate) no_memory: u16,
    /// A carrier takes nothing any more, and nothing tells of that but the call itself.
    pub(crate) lost: u16,
    /// A carrier is not to be had.
    pub(crate) refused: u16,
    pub(crate) connect_millis_max: usize,
    /// Carriers are sealed, and somebody is in between: a bit of a packet is another.
    pub(crate) meddled: u16,
}

/// One end of a carrier.
#[derive(Default)]
struct Here {
    /// The number it was registered with.
    own: Option<u32>,
    said_up: bool,
    restarted: bool,
    dropped: bool,
    /// The carrier is lost, as far as this end can know.
    gone: bool,
    gone_told: bool,
    fresh: bool,
    wants_read: bool,
    wants_write: bool,
    full_until: Option<Instant>,
    /// Without order: when it wants to be polled, since nothing could be sent.
    poll_at: Option<Instant>,
}

impl Here {
    /// Is registered anew.
    fn renumber(&mut self, own: u32) {
        (self.own, self.fresh, self.gone_told) = (Some(own), true, false);
    }

    /// Nothing is taken: an event tells when that is over, or without order a poll.
    fn blocked<const SHARED: bool>(&mut self, now: Instant) {
        match SHARED {
            true => self.poll_at = Some(self.full_until.unwrap_or(now).max(now.after(1))),
            false => self.wants_write = true,
        }
    }
}

/// A carrier, from the beginning of its connecting on.
pub(crate) struct Line {
    /// By who sends: the initiator, the acceptor.
    wires: [Wire; 2],
    here: [Here; 2],
    initiator: usize,
    begun_at: Instant,
    connected_at: Instant,
    is_refused: bool,
    is_lost: bool,
    pub(crate) accepted_at: Option<Instant>,
    /// Whoever wants to be accepted asks again then.
    asks_at: Instant,
    /// What is sent vanishes, and nobody is told.
    pub(crate) is_silent: bool,
    /// Something else was sent than was to be.
    is_meddled: bool,
    is_sealed: bool,
}

impl Line {
    /// Both ends hold it, and it carries.
    pub(crate) fn is_alive(&self) -> bool {
        let lost = |here: &Here| here.dropped || here.gone || here.restarted;
        let is_up = self.accepted_at.is_some() && !self.is_lost;
        !self.is_silent && is_up && !self.here.iter().any(lost)
    }

    /// An end may take it for dead: nothing came through for long, or no hello in the 5 s that it waits for
    /// one, of which the way here takes 0.2 s at most.
    pub(crate) fn may_time_out(&self, idle_millis: u32) -> bool {
        let late_after = u64::from(idle_millis / 3).min(4_800);
        let late = self.accepted_at.is_none_or(|at| at.since(self.begun_at) >= late_after);
        self.is_silent || late
    }

    /// An initiator may be told that there is no vacant link: with keys, by who has accepted it.
    pub(crate) fn may_be_refused(&self) -> bool {
        self.is_sealed || self.accepted_at.is_none()
    }

    /// An end may find that the other is not who it is to be.
    pub(crate) fn may_be_strange(&self) -> bool {
        self.is_meddled
    }

    fn arrived(&self, end: usize, now: Instant) -> bool {
        self.wires[1 - end].next_at().is_some_and(|at| at <= now)
    }

    /// The far end is gone, and all it sent was received.
    fn is_over(&self, end: usize) -> bool {
        let closed = self.here[1 - end].dropped && !self.is_silent;
        self.here[end].gone || closed && self.wires[1 - end].is_empty()
    }
}

/// All that both ends and everybody see of the carriers.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) calm: bool,
    pub(crate) faults: Faults,
    weather: Weather,
    pub(crate) lines: Vec<Line>,
    is_listening: bool,
    /// What came through the one socket of all carriers of the acceptor, for the line that it is for,
    /// or for who accepts that: everybody else finds nothing.
    held: Option<usize>,
    pub(crate) packets: u64,
    /// Of those, the ones that answer who asks for keys, and those that were meddled with.
    pub(crate) answers: u64,
    pub(crate) meddled: u64,
    pub(crate) is_sealed: bool,
    /// How far the time by which keys grow old is ahead of `now`.
    pub(crate) ahead_millis: u64,
    /// Something happened since it was last looked at.
    pub(crate) went_on: bool,
}

impl Net {
    pub(crate) fn new(now: Instant, seed: u64, faults: Faults, weather: Weather) -> Net {
        Net {
            now,
            random: Random::new(seed),
            calm: false,
            faults,
            weather,
            lines: Vec::new(),
            is_listening: false,
            held: None,
            packets: 0,
            answers: 0,
            meddled: 0,
            is_sealed: false,
            ahead_millis: 0,
            went_on: false,
        }
    }

    /// Now, for keys.
    pub(crate) fn key_time(&self) -> Instant {
        Instant::from_millis(self.now.as_millis() + self.ahead_millis)
    }

    fn maybe(&mut self, chance: u16) -> bool {
        !self.calm && self.random.chance(chance)
    }

    fn no_memory(&mut self) -> Result<(), Errno> {
        match self.maybe(self.faults.no_memory) {
            true => Err(self.random.pick(&[Errno::INTR, Errno::NOBUFS, Errno::NOMEM])),
            false => Ok(()),
        }
    }

    /// Who waits to be accepted.
    fn waiting(&self) -> Option<usize> {
        let waits = |line: &Line| {
            line.accepted_at.is_none() && !line.is_refused && line.asks_at <= self.now
        };
        self.lines.iter().position(waits)
    }

    pub(crate) fn listener_is_ready(&self) -> bool {
        self.is_listening
            && (self.waiting().is_some() || self.shares() && self.next_line().is_some())
    }

    /// Whether the carriers of the acceptor have one socket.
    fn shares(&self) -> bool {
        self.weather.order == Order::Any
    }

    /// The line that what comes next through the one socket is for.
    fn next_line(&self) -> Option<usize> {
        let here = |line: &Line| line.accepted_at.is_some() && !line.here[1].dropped;
        let arrived = |line: &Line| here(line) && line.arrived(1, self.now);
        self.lines.iter().rposition(arrived).or(self.waiting())
    }

    /// Whether the next that comes through the one socket is for this line; if not, it is held for
    /// whose it is.
    fn is_for(&mut self, line: usize) -> bool {
        self.held = self.held.or(self.next_line());
        let is_mine = self.held == Some(line);
        if is_mine {
            self.held = None;
        }
        is_mine
    }

    /// What epoll has to tell one of the ends, once.
    pub(crate) fn event(&mut self, end: usize, initiator: usize) -> Option<(u32, RawFd, Ready)> {
        let ready = (0..self.lines.len()).find_map(|number| {
            let line = &self.lines[number];
            let is_theirs = end == 1 || line.initiator == initiator;
            let own = line.here[end].own.filter(|_| is_theirs)?;
            self.ready(number, end).map(|ready| (number, own, ready))
        });
        let (number, own, ready) = ready?;
        let here = &mut self.lines[number].here[end];
        here.fresh = false;
        here.wants_read &= !ready.readable;
        here.wants_write &= !ready.writable;
        here.gone_told |= ready.hung_up;
        Some((own, fd_of(number, end), ready))
    }

    fn ready(&self, number: usize, end: usize) -> Option<Ready> {
        let line = &self.lines[number];
        let here = &line.here[end];
        if line.connected_at > self.now || here.dropped {
            return None;
        }
        let over = (line.is_over(end) || line.is_refused) && !here.gone_told;
        let is_full = here.full_until.is_some_and(|at| at > self.now);
        let room = !is_full && line.wires[end].has_room();
        let arrived = line.arrived(end, self.now) || here.restarted;
        let readable = over || arrived && (here.wants_read || here.fresh);
        let writable = over || room && (here.wants_write || here.fresh);
        let ready =
            Ready { readable, writable, hung_up: over, read_closed: over, ..Ready::default() };
        (readable || writable).then_some(ready)
    }

    /// Whether an end has something to hear.
    pub(crate) fn has_event(&self, end: usize, initiator: usize) -> bool {
        let is_theirs = |line: &Line| end == 1 || line.initiator == initiator;
        let mut lines = self.lines.iter().enumerate();
        lines.any(|(number, line)| {
            is_theirs(line) && line.here[end].own.is_some() && self.ready(number, end).is_some()
        })
    }

    /// Nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut alive = self.lines.iter().filter(|line| line.is_alive());
        alive.all(|line| line.wires.iter().all(Wire::is_empty))
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let lines = self.lines.iter().filter(|line| line.here.iter().any(|here| !here.dropped));
        let instants = lines.flat_map(|line| {
            let full = line.here.iter().map(|here| here.full_until);
            let arrivals = line.wires.iter().map(Wire::next_at);
            let asks = [Some(line.connected_at), Some(line.asks_at)];
            full.chain(arrivals).chain(asks)
        });
        instants.flatten().filter(|&at| at > self.now).min()
    }

    /// A carrier dies: both ends are told, or one, or none; or it is another that begins anew.
    pub(crate) fn kill(&mut self, number: usize) {
        let how = self.random.below(5);
        let told = self.random.below(2);
        let line = &mut self.lines[number];
        match how {
            0 => line.here.iter_mut().for_each(|here| here.gone = true),
            1 => line.here[told].gone = true,
            2 => line.here.iter_mut().for_each(|here| here.restarted = true),
            // What is under way still arrives.
            3 => return line.here[told].gone = true,
            _ => {}
        }
        line.wires.iter_mut().for_each(Wire::cut);
        line.wires.iter_mut().for_each(|wire| wire.is_black_hole = true);
        line.is_silent = true;
    }

    /// The last carrier of an initiator.
    pub(crate) fn latest(&self, initiator: usize) -> Option<usize> {
        self.lines.iter().rposition(|line| line.initiator == initiator)
    }

    fn begin(&mut self, initiator: usize) -> usize {
        let (now, most) = (self.now, self.faults.connect_millis_max);
        let millis = if self.calm { 1 } else { self.random.scaled(most) as u32 - 1 };
        let is_refused = self.maybe(self.faults.refused);
        let fresh = || Here { fresh: !self.shares(), ..Here::default() };
        let here = [fresh(), fresh()];
        self.lines.push(Line {
            wires: [Wire::new(self.weather), Wire::new(self.weather)],
            here,
            initiator,
            begun_at: now,
            connected_at: now.after(millis),
            is_refused,
            is_lost: false,
            accepted_at: None,
            asks_at: now.after(millis),
            is_silent: false,
            is_meddled: false,
            is_sealed: self.is_sealed,
        });
        self.lines.len() - 1
    }
}

/// The descriptor of one end of a line.
pub(crate) const fn fd_of(line: usize, end: usize) -> RawFd {
    CARRIERS_FROM + (line * 2 + end) as RawFd
}

/// The address by which both ends name a line.
pub(crate) fn address_of(line: usize) -> Address {
    SocketAddr::from(([10, 1, (line >> 8) as u8, line as u8], 7)).into()
}

/// The line an address names.
pub(crate) fn line_of(address: Address) -> Option<usize> {
    match address.socket_addr()? {
        SocketAddr::V4(v4) => {
            Some(usize::from(v4.ip().octets()[2]) << 8 | usize::from(v4.ip().octets()[3]))
        }
        SocketAddr::V6(_) => None,
    }
}

/// The longest packet a line takes.
const SENT_BYTES_MAX: usize = PACKET_BYTES / 2;

/// One end's hold on a line.
pub(crate) struct Hold<'n, const SHARED: bool> {
    net: &'n RefCell<Net>,
    line: usize,
    end: usize,
}

impl<'n, const SHARED: bool> Hold<'n, SHARED> {
    pub(crate) fn net(&self) -> &'n RefCell<Net> {
        self.net
    }
}

impl<const SHARED: bool> Drop for Hold<'_, SHARED> {
    fn drop(&mut self) {
        let net = &mut *self.net.borrow_mut();
        let here = &mut net.lines[self.line].here[self.end];
        (here.dropped, here.own) = (true, None);
        if self.end == 1 {
            net.held = net.held.filter(|&line| line != self.line);
        }
    }
}

impl<const SHARED: bool> Carrier for Hold<'_, SHARED> {
    fn bounds(&self) -> Bounds {
        let order = self.net.borrow().weather.order;
        Bounds { order, sent_bytes_max: SENT_BYTES_MAX, ..Bounds::ORDERED }
    }

    fn fd(&self) -> Option<RawFd> {
        (!SHARED || self.end == 0).then_some(fd_of(self.line, self.end))
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        let net = &mut *self.net.borrow_mut();
        assert!(!packet.is_empty() && packet.len() <= SENT_BYTES_MAX);
        net.no_memory()?;
        if net.maybe(net.faults.lost) {
            net.lines[self.line].is_lost = true;
            return Err(Errno::IO);
        }
        let now = net.now;
        let stalls = net.maybe(net.faults.full);
        let until = stalls.then(|| now.after(net.random.scaled(net.faults.full_millis_max) as u32));
        let meddled = net.faults.meddled > 0 && net.maybe(net.faults.meddled);
        let Net { lines, random, .. } = net;
        let line = &mut lines[self.line];
        if line.here[self.end].gone || line.here[1 - self.end].dropped && !line.is_silent {
            return Err(Errno::PIPE);
        }
        let here = &mut line.here[self.end];
        here.full_until = here.full_until.filter(|&at| at > now).or(until);
        let mut packet = packet.to_vec();
        if meddled {
            let bit = random.below(packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        if here.full_until.is_some() || !line.wires[self.end].send(stream, &packet, now, random) {
            here.blocked::<SHARED>(now);
            return Err(Errno::AGAIN);
        }
        line.is_meddled |= meddled;
        net.packets += 1;
        net.meddled += u64::from(meddled);
        net.answers += u64::from(packet.len() == RESPONSE_BYTES && packet[0] == 0x02);
        net.went_on = true;
        Ok(())
    }

    fn window(&mut self) -> usize {
        let net = &mut *self.net.borrow_mut();
        if !SHARED {
            return usize::MAX;
        }
        if net.maybe(net.faults.full) {
            let until = net.now.after(net.random.scaled(net.faults.full_millis_max) as u32);
            let here = &mut net.lines[self.line].here[self.end];
            here.full_until = Some(until);
            here.blocked::<SHARED>(net.now);
            return WINDOW_BYTES_MIN - 1;
        }
        net.random.pick(&[WINDOW_BYTES_MIN, 5000, usize::MAX])
    }

    fn handled(&mut self, kept: bool) {
        let net = &mut *self.net.borrow_mut();
        net.lines[self.line].wires[1 - self.end].handled(kept, net.now, &mut net.random);
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        let net = &mut *self.net.borrow_mut();
        let line = &mut net.lines[self.line];
        if SHARED && (line.is_over(self.end) || line.here[self.end].restarted) {
            return Err(FailReason::LinkDown);
        }
        let has_room = line.wires[self.end].has_room();
        let here = &mut line.here[self.end];
        let is_full = here.full_until.is_some_and(|at| at > net.now);
        if here.poll_at.is_none_or(|at| at > net.now) {
            return Ok(Ready::default());
        }
        here.poll_at = (is_full || !has_room).then(|| net.now.after(1));
        Ok(Ready { writable: here.poll_at.is_none(), ..Ready::default() })
    }

    fn timeout(&self) -> Option<Instant> {
        let net = self.net.borrow();
        let line = &net.lines[self.line];
        let here = &line.here[self.end];
        if !SHARED {
            return None;
        }
        match here.said_up {
            false if self.end == 0 => Some(line.connected_at),
            _ if line.is_over(self.end) || here.restarted => Some(net.now),
            _ => here.poll_at,
        }
    }

    fn is_flushed(&self) -> bool {
        let line = &self.net.borrow().lines[self.line];
        !SHARED || !line.is_alive() || line.wires[self.end].is_empty()
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        let net = &mut *self.net.borrow_mut();
        net.no_memory()?;
        if SHARED && self.end == 1 && net.lines[self.line].here[1].said_up && !net.is_for(self.line)
        {
            return Err(Errno::AGAIN);
        }
        let Net { lines, random, now, went_on, .. } = net;
        let line = &mut lines[self.line];
        let here = &mut line.here[self.end];
        if !core::mem::replace(&mut here.said_up, true) {
            return Ok(Received::Up);
        }
        if here.restarted {
            return Ok(Received::Restarted);
        }
        if let Some(piece) = line.wires[1 - self.end].receive(room, *now, random) {
            *went_on = true;
            return Ok(Received::Piece {
                stream: piece.stream,
                bytes: piece.bytes,
                end: piece.end,
            });
        }
        if line.is_over(self.end) {
            return Ok(Received::Gone);
        }
        line.here[self.end].wants_read = true;
        Err(Errno::AGAIN)
    }
}
