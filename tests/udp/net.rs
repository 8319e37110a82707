//! The network between two ends of links over udp, on a fake clock: one bottleneck each way, for all
//! links together, and the sockets at its ends. Knows no message.

#[path = "../links/transports/net/kernel.rs"]
mod kernel;
mod road;

pub(crate) use kernel::Kernel;
pub(crate) use road::{Road, Weather};

use seaprox::address::Address;
use seaprox::sim::Random;
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_udp::hub::Wire;
use seaprox_udp::socket::{Datagrams, Path};
use seaprox_udp::time::Micros;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

pub(crate) const LISTENER: RawFd = 10;
const CARRIERS_FROM: RawFd = 100;

/// What a socket holds, in bytes.
const SOCKET_BYTES: usize = 4 << 20;

/// A path that was dark is given so long to be found again, in microseconds.
const FOUND_MICROS: u64 = 3_000_000;

/// What goes wrong at the ends. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The kernel has no memory.
    pub(crate) no_memory: u16,
    /// A socket takes nothing, or not all.
    pub(crate) full: u16,
    /// Datagrams in one batch, at most.
    pub(crate) batch: usize,
}

/// A datagram on its way, or in a socket.
struct Datagram {
    /// The line it is of.
    line: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    is_ce: bool,
    is_whole: bool,
}

/// Datagrams that arrived and were not received.
#[derive(Default)]
struct Inbox {
    waiting: VecDeque<Datagram>,
    bytes: usize,
    /// An event tells of the next.
    is_armed: bool,
}

impl Inbox {
    fn put(&mut self, datagram: Datagram) {
        if self.bytes + datagram.bytes.len() <= SOCKET_BYTES {
            self.bytes += datagram.bytes.len();
            self.waiting.push_back(datagram);
        }
    }
}

/// One end of a line.
#[derive(Default)]
pub(crate) struct Here {
    /// The number its descriptor was registered with.
    own: Option<u32>,
    /// The carrier is there no more.
    pub(crate) dropped: bool,
    /// When it last took something whole that came over the line.
    heard_at: Micros,
}

impl Here {
    /// Is registered anew.
    fn renumber(&mut self, own: u32) {
        self.own = Some(own);
    }
}

/// A connected socket and what it leads to, from the beginning of its connecting on.
pub(crate) struct Line {
    here: [Here; 2],
    initiator: usize,
    /// As the far end sees it; another one when the port is rewritten.
    pub(crate) address: SocketAddr,
    inbox: Inbox,
    is_open: bool,
    begun_at: Micros,
    pub(crate) accepted_at: Option<Instant>,
    /// The initiator knows of the link.
    pub(crate) is_linked: bool,
    /// What is sent vanishes, for ever.
    pub(crate) is_silent: bool,
    /// What the far end's host said.
    said: Option<Errno>,
    now: Micros,
    dark_until: Micros,
}

impl Line {
    /// Both ends hold it, and it carries.
    pub(crate) fn is_alive(&self) -> bool {
        let is_dark = self.now < self.dark_until.after(FOUND_MICROS);
        let is_held = self.is_open && !self.here.iter().any(|here| here.dropped);
        is_held && self.accepted_at.is_some() && !self.is_silent && !is_dark
    }

    /// An initiator may be told that there is no vacant link. Perhaps since its own question of before,
    /// which was refused and came again, has taken the place that became vacant in between.
    pub(crate) fn may_be_refused(&self) -> bool {
        // With keys also when there was room as it knocked, and none when it had shown who it is.
        !self.is_linked || self.accepted_at.is_none()
    }

    /// An end may find that the other is not who it is to be: datagrams that are not its are dropped.
    pub(crate) fn may_be_strange(&self) -> bool {
        false
    }

    /// An end may take it for dead: nothing came through for long, or it never was a link.
    pub(crate) fn may_time_out(&self, idle_millis: u32) -> bool {
        let idle = u64::from(idle_millis) * 1000;
        let is_young = self.now.since(self.begun_at) < idle;
        let unheard = |here: &Here| here.dropped || self.now.since(here.heard_at) >= idle / 3;
        let was_dark = self.now.since(self.dark_until) < idle;
        self.is_silent || is_young || was_dark || self.here.iter().any(unheard)
    }
}

/// All that both ends and everybody see of the network.
pub(crate) struct Net {
    pub(crate) now: Micros,
    pub(crate) random: Random,
    pub(crate) calm: bool,
    pub(crate) faults: Faults,
    /// By who sends: initiators, the acceptor.
    pub(crate) roads: [Road; 2],
    pub(crate) lines: Vec<Line>,
    is_listening: bool,
    /// There is somebody at the acceptor's address.
    pub(crate) is_bound: bool,
    inbox: Inbox,
    flying: BTreeMap<(Micros, u64), (usize, Datagram)>,
    serial: u64,
    /// What was sent to whom nobody has a line for.
    pub(crate) to_strangers: Vec<(SocketAddr, Vec<u8>)>,
    /// Datagrams that were sent.
    pub(crate) packets: u64,
    /// Something happened since it was last looked at.
    pub(crate) went_on: bool,
    /// Somebody on the way keeps what ends send, on which line and by which end.
    pub(crate) tap: Option<Vec<(usize, usize, Vec<u8>)>>,
    /// Somebody on the way lets nothing through that begins with this byte, so many times.
    pub(crate) withheld: Option<(u8, u32)>,
}

/// Where the acceptor is.
pub(crate) fn acceptor_address() -> SocketAddr {
    SocketAddr::from(([10, 2, 0, 1], 7000))
}

impl Net {
    pub(crate) fn new(now: Micros, seed: u64, faults: Faults, weather: [Weather; 2]) -> Net {
        Net {
            now,
            random: Random::new(seed),
            calm: false,
            faults,
            roads: weather.map(Road::new),
            lines: Vec::new(),
            is_listening: false,
            is_bound: true,
            inbox: Inbox { is_armed: true, ..Inbox::default() },
            flying: BTreeMap::new(),
            serial: 0,
            to_strangers: Vec::new(),
            packets: 0,
            went_on: false,
            tap: None,
            withheld: None,
        }
    }

    fn maybe(&mut self, chance: u16) -> bool {
        !self.calm && self.random.chance(chance)
    }

    /// Time goes on: what has arrived by then is in the sockets.
    pub(crate) fn advance(&mut self, now: Micros) {
        self.now = now;
        while let Some(first) = self.flying.first_entry()
            && first.key().0 <= now
        {
            let (end, datagram) = first.remove();
            let line = &mut self.lines[datagram.line];
            match end {
                1 if self.is_bound => self.inbox.put(datagram),
                1 => line.said = Some(Errno::CONNREFUSED),
                // Nobody translates the port of before any more.
                _ if line.is_open && datagram.to == line.address => line.inbox.put(datagram),
                _ => {}
            }
        }
        for line in &mut self.lines {
            (line.now, line.dark_until) =
                (now, self.roads[0].dark_until.max(self.roads[1].dark_until));
        }
    }

    /// A datagram goes onto its way.
    pub(crate) fn launch(&mut self, end: usize, line: usize, from: SocketAddr, bytes: &[u8]) {
        self.packets += 1;
        self.went_on = true;
        if self.lines[line].is_silent {
            return;
        }
        if let Some(tap) = &mut self.tap {
            tap.push((line, end, bytes.to_vec()));
        }
        if let Some((first, times @ 1..)) = &mut self.withheld
            && bytes[0] == *first
        {
            *times -= 1;
            return;
        }
        let to = self.lines[line].address;
        for _ in 0..=u32::from(self.maybe(self.roads[end].weather.copied)) {
            let Net { roads, random, calm, now, .. } = self;
            let Some(sent) = roads[end].send(bytes, *now, *calm, random) else { continue };
            self.serial += 1;
            let datagram = Datagram {
                line,
                from,
                to,
                is_whole: sent.bytes == bytes,
                bytes: sent.bytes,
                is_ce: sent.is_ce,
            };
            self.flying.insert((sent.arrives_at, self.serial), (1 - end, datagram));
        }
    }

    /// Something from a stranger arrives at the acceptor.
    pub(crate) fn forge(&mut self, from: SocketAddr, bytes: &[u8]) {
        let (bytes, is_ce, is_whole) = (bytes.to_vec(), false, false);
        let (line, to) = (usize::MAX, acceptor_address());
        self.inbox.put(Datagram { line, from, to, bytes, is_ce, is_whole });
    }

    /// The same at an initiator, as if it came from the acceptor.
    pub(crate) fn forge_back(&mut self, line: usize, bytes: &[u8]) {
        let (bytes, is_ce, is_whole) = (bytes.to_vec(), false, false);
        let (from, to) = (acceptor_address(), self.lines[line].address);
        let datagram = Datagram { line, from, to, bytes, is_ce, is_whole };
        if self.lines[line].is_open {
            self.lines[line].inbox.put(datagram);
        }
    }

    pub(crate) fn listener_is_ready(&self) -> bool {
        self.is_listening && !self.inbox.waiting.is_empty()
    }

    fn ready(&self, line: usize) -> bool {
        let line = &self.lines[line];
        line.here[0].own.is_some()
            && line.is_open
            && (line.inbox.is_armed && !line.inbox.waiting.is_empty() || line.said.is_some())
    }

    /// Whether an end has something to hear.
    pub(crate) fn has_event(&self, end: usize, initiator: usize) -> bool {
        end == 0 && self.latest(initiator).is_some_and(|line| self.ready(line))
    }

    /// What epoll has to tell an initiator, once: as it does edge-triggered, and no more than that.
    pub(crate) fn event(&mut self, end: usize, initiator: usize) -> Option<(u32, RawFd, Ready)> {
        let line = self.latest(initiator).filter(|&line| end == 0 && self.ready(line))?;
        let here = &mut self.lines[line];
        here.inbox.is_armed = false;
        // As POLLERR, which is told once for each time.
        let error = here.said.is_some_and(|_| here.inbox.waiting.is_empty());
        let own = here.here[0].own?;
        let ready = Ready { readable: true, error, ..Ready::default() };
        if error {
            here.here[0].own = None;
        }
        Some((own, fd_of(line), ready))
    }

    /// Nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flying.is_empty() && self.inbox.waiting.is_empty()
    }

    /// When something arrives next.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// The last line of an initiator.
    pub(crate) fn latest(&self, initiator: usize) -> Option<usize> {
        self.lines.iter().rposition(|line| line.initiator == initiator)
    }

    pub(crate) fn begin(&mut self, initiator: usize) -> usize {
        let number = self.lines.len();
        let inbox = Inbox { is_armed: true, ..Inbox::default() };
        let here = || Here { heard_at: self.now, ..Here::default() };
        self.lines.push(Line {
            here: [here(), here()],
            initiator,
            address: SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 7)),
            inbox,
            is_open: true,
            begun_at: self.now,
            accepted_at: None,
            is_linked: false,
            is_silent: false,
            said: None,
            now: self.now,
            dark_until: Micros(0),
        });
        number
    }

    /// The acceptor has a link over it.
    pub(crate) fn accept(&mut self, line: usize) {
        let now = self.now;
        let Some(line) = self.lines.get_mut(line) else { return };
        line.accepted_at = Some(Instant::from_millis(now.0 / 1000));
        line.here[1].dropped = false;
        self.went_on = true;
    }

    /// One end of a line is over.
    pub(crate) fn drop_end(&mut self, line: usize, end: usize) {
        if let Some(line) = self.lines.get_mut(line) {
            line.here[end].dropped = true;
        }
    }

    /// The port of a line is another one from now on.
    pub(crate) fn rebind(&mut self, line: usize) {
        let address = &mut self.lines[line].address;
        address.set_port(address.port() % 60_000 + 1);
    }

    /// What is dark is not from now on.
    pub(crate) fn lighten(&mut self) {
        let now = self.now;
        self.roads.iter_mut().for_each(|road| road.dark_until = road.dark_until.min(now));
    }

    /// Nothing gets through in either direction until then.
    pub(crate) fn darken(&mut self, until: Micros) {
        self.roads.iter_mut().for_each(|road| road.dark_until = until);
    }

    /// The acceptor's process ends, or one begins.
    pub(crate) fn bind(&mut self, is_bound: bool) {
        (self.is_bound, self.is_listening) = (is_bound, false);
        self.inbox = Inbox { is_armed: true, ..Inbox::default() };
    }
}

/// The descriptor of a line.
pub(crate) const fn fd_of(line: usize) -> RawFd {
    CARRIERS_FROM + line as RawFd * 2
}

/// The line an address names.
pub(crate) fn line_of(address: Address) -> Option<usize> {
    match address.socket_addr()? {
        SocketAddr::V4(v4) => {
            let [_, net, high, low] = v4.ip().octets();
            (net == 1).then_some(usize::from(high) << 8 | usize::from(low))
        }
        SocketAddr::V6(_) => None,
    }
}

/// A socket: a line's, or the acceptor's.
pub(crate) struct SimWire<'n> {
    pub(crate) net: &'n RefCell<Net>,
    pub(crate) line: Option<usize>,
}

impl Drop for SimWire<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line {
            let line = &mut self.net.borrow_mut().lines[line];
            (line.is_open, line.here[0].own) = (false, None);
            (line.here[0].dropped, line.inbox) = (true, Inbox::default());
        }
    }
}

impl Wire for SimWire<'_> {
    fn now(&self) -> Micros {
        self.net.borrow().now
    }

    /// The simulation begins in 2020.
    fn wall_micros(&self) -> u64 {
        self.net.borrow().now.0 + 1_577_836_800_000_000
    }

    fn fd(&self) -> RawFd {
        self.line.map_or(LISTENER, fd_of)
    }

    fn send(&mut self, to: Option<&Path>, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        assert!(!datagrams.is_empty() && to.is_none() == self.line.is_some());
        let mut count = datagrams.len();
        if net.maybe(net.faults.full) {
            count = net.random.below(count + 1);
            if count == 0 {
                return Err(net.random.pick(&[Errno::AGAIN, Errno::NOBUFS]));
            }
        }
        for &bytes in &datagrams[..count] {
            match (self.line, to) {
                (Some(line), _) => net.launch(0, line, net.lines[line].address, bytes),
                (None, Some(path)) => {
                    let Some(line) = line_of(path.peer.into()) else {
                        net.to_strangers.push((path.peer, bytes.to_vec()));
                        continue;
                    };
                    // Nobody else was heard of.
                    if net.lines[line].address == path.peer {
                        net.launch(1, line, acceptor_address(), bytes);
                    }
                }
                (None, None) => unreachable!(),
            }
        }
        Ok(count)
    }

    fn take_heard(&mut self) -> Option<Errno> {
        self.line.and_then(|line| self.net.borrow_mut().lines[line].said.take())
    }

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        let net = &mut *self.net.borrow_mut();
        let most = net.random.between(1, net.faults.batch.max(1));
        let end = usize::from(self.line.is_none());
        let inbox = match self.line {
            Some(line) => &mut net.lines[line].inbox,
            None => &mut net.inbox,
        };
        let Some(first) = inbox.waiting.front() else {
            inbox.is_armed = true;
            return Err(Errno::AGAIN);
        };
        // As UDP_GRO does: of one flow, of one length but for the last, marked alike.
        let (from, is_ce, segment_bytes) = (first.from, first.is_ce, first.bytes.len());
        let (mut filled, mut count) = (0, 0);
        let mut heard = None;
        while count < most
            && let Some(next) = inbox.waiting.front()
        {
            let bytes = next.bytes.len();
            let is_alike = next.from == from && next.is_ce == is_ce && bytes <= segment_bytes;
            if !is_alike || filled + bytes > buffer.len() {
                break;
            }
            buffer[filled..filled + bytes].copy_from_slice(&next.bytes);
            if next.is_whole {
                heard = Some(next.line);
            }
            filled += bytes;
            count += 1;
            inbox_pop(inbox, bytes);
            if bytes < segment_bytes {
                break;
            }
        }
        if let Some(line) = heard {
            net.lines[line].here[end].heard_at = net.now;
        }
        net.went_on = true;
        Ok(Datagrams {
            path: from.into(),
            bytes: &mut buffer[..filled],
            segment_bytes: segment_bytes.max(1),
            is_ce,
            is_ect: true,
            is_truncated: false,
        })
    }
}

fn inbox_pop(inbox: &mut Inbox, bytes: usize) {
    inbox.waiting.pop_front();
    inbox.bytes -= bytes;
}
