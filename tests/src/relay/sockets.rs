//! The sockets of a relay, and what is on its way between them. Knows the conditions only as what
//! it hands to the two paths.

use super::Totals;
use super::conditions::Conditions;
use super::path::{Passing, Path};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

/// Clients that are remembered at a time. What others send is refused.
pub const CLIENTS_MAX: usize = 1024;

/// Bytes on the way at a time, both ways together. What comes on top is refused.
pub const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The longest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Read from one socket at a time, so that what is due is not late for it: some 50 us.
const READ_AT_ONCE: usize = 32;

/// Asked of the kernel for each socket; it gives what it may.
const SOCKET_BYTES: usize = 8 * 1024 * 1024;

/// Old ports that are kept: what arrives there is neither read nor answered.
const OLD_PORTS: usize = 16;

/// While datagrams are held, turns begin so far apart at least. To wake up for each of them takes
/// three times the CPU, which the ends need themselves.
const GRAIN: u64 = 50_000;

/// How long the owner of a relay waits for its thread at most.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// What goes out so much later than it should counts as late.
const LATE: u64 = 100_000;

/// Buffers that are kept for the next datagrams.
const SPARE_MAX: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

struct Client {
    address: SocketAddr,
    /// Connected to the server.
    socket: UdpSocket,
    /// When it gets another, if they change regularly.
    rebind_at: u64,
}

/// Ordered by when it is due, and then as it came.
struct Held {
    passing: Passing,
    sequence: u64,
    direction: Direction,
}

impl Held {
    fn key(&self) -> (u64, u64) {
        (self.passing.due, self.sequence)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is on its way, the first one first.
#[derive(Default)]
struct Holding {
    heap: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    sequence: u64,
}

impl Holding {
    /// Whether there was room.
    fn push(&mut self, direction: Direction, passing: Passing) -> bool {
        let cost = cost(&passing);
        if self.bytes + cost > HELD_BYTES_MAX {
            return false;
        }
        self.bytes += cost;
        self.sequence += 1;
        self.heap.push(Reverse(Held { passing, sequence: self.sequence, direction }));
        true
    }

    fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|held| held.0.passing.due)
    }

    fn pop_due(&mut self, now: u64) -> Option<Held> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(held) = self.heap.pop()?;
        self.bytes -= cost(&held.passing);
        Some(held)
    }
}

/// Bytes that it takes: even an empty one takes some.
fn cost(passing: &Passing) -> usize {
    passing.bytes.len() + size_of::<Held>()
}

pub(super) struct Sockets {
    front: UdpSocket,
    server: SocketAddr,
    clients: Vec<Client>,
    numbers: HashMap<SocketAddr, usize>,
    old: VecDeque<UdpSocket>,
    conditions: Conditions,
    /// IP and UDP headers of a datagram.
    headers: usize,
    up: Path,
    down: Path,
    holding: Holding,
    spare: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    rebinds: u64,
    /// When the last turn began to read.
    last_turn: u64,
    /// Whether something came or went in it.
    is_busy: bool,
    start: Instant,
}

impl Sockets {
    pub(super) fn new(
        listen: SocketAddr,
        server: SocketAddr,
        seed: u64,
        start: Instant,
    ) -> io::Result<Self> {
        let front = UdpSocket::bind(listen)?;
        prepare(&front)?;
        Ok(Self {
            front,
            server,
            clients: Vec::new(),
            numbers: HashMap::new(),
            old: VecDeque::new(),
            conditions: Conditions::default(),
            headers: if listen.is_ipv4() { 20 + 8 } else { 40 + 8 },
            up: Path::new(seed),
            // Another one, and the same each time.
            down: Path::new(!seed),
            holding: Holding::default(),
            spare: Vec::new(),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            rebinds: 0,
            last_turn: 0,
            is_busy: false,
            start,
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.front.local_addr()
    }

    pub(super) fn totals(&self) -> Totals {
        let (up, down) = (self.up.counters, self.down.counters);
        Totals { up, down, clients: self.clients.len() as u64, rebinds: self.rebinds }
    }

    /// From the next datagram on.
    pub(super) fn set(&mut self, conditions: Conditions) {
        let now = self.now();
        let every = conditions.rebind_every;
        let at = if every.is_zero() { u64::MAX } else { now + every.as_nanos() as u64 };
        let changed = every != self.conditions.rebind_every;
        let at_once = conditions.rebinds > self.conditions.rebinds;
        self.conditions = conditions;
        for number in 0..self.clients.len() {
            if changed {
                self.clients[number].rebind_at = at;
            }
            if at_once {
                self.rebind(number);
            }
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Waits for a datagram, or until one is due, or [`SLEEP_MAX`]; then reads what there is, and
    /// sends what is due.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let wait = match self.holding.next_due() {
            // More will come and go at once: look again in a while.
            Some(_) if self.is_busy => {
                let early = (self.last_turn + GRAIN).saturating_sub(self.now());
                if early > 0 {
                    thread::sleep(Duration::from_nanos(early));
                }
                Duration::ZERO
            }
            Some(due) => SLEEP_MAX.min(Duration::from_nanos(due.saturating_sub(self.now()))),
            None => SLEEP_MAX,
        };
        let held = self.holding.heap.len();
        let readable = self.wait(wait)?;
        self.last_turn = self.now();
        self.is_busy = !readable.is_empty();
        for place in readable {
            match place.checked_sub(1) {
                None => self.read_clients()?,
                Some(number) => self.read_server(number)?,
            }
            self.send_due();
        }
        self.send_due();
        self.is_busy |= self.holding.heap.len() < held;
        Ok(())
    }

    /// The places of those that can be read: the front is 0, client n is n + 1.
    fn wait(&self, time: Duration) -> io::Result<Vec<usize>> {
        let mut fds = Vec::with_capacity(1 + self.clients.len());
        fds.push(PollFd::new(self.front.as_fd(), PollFlags::POLLIN));
        let sockets = self.clients.iter().map(|client| client.socket.as_fd());
        fds.extend(sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match ppoll(&mut fds, Some(TimeSpec::from_duration(time)), None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        Ok((0..fds.len()).filter(|&place| fds[place].any().unwrap_or(true)).collect())
    }

    fn read_clients(&mut self) -> io::Result<()> {
        for _ in 0..READ_AT_ONCE {
            let (length, address) = match self.front.recv_from(&mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match self.client(address)? {
                Some(number) => {
                    if self.now() >= self.clients[number].rebind_at {
                        self.rebind(number);
                    }
                    self.pass(Direction::Up, number, length);
                }
                None => self.up.counters.refused += 1,
            }
        }
        Ok(())
    }

    fn read_server(&mut self, number: usize) -> io::Result<()> {
        for _ in 0..READ_AT_ONCE {
            match self.clients[number].socket.recv(&mut self.buffer) {
                Ok(length) => self.pass(Direction::Down, number, length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The server is not there, or was not. Reading this has cleared it.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The number of the client at `address`, which may be new.
    fn client(&mut self, address: SocketAddr) -> io::Result<Option<usize>> {
        if let Some(&number) = self.numbers.get(&address) {
            return Ok(Some(number));
        }
        if self.clients.len() == CLIENTS_MAX {
            return Ok(None);
        }
        let every = self.conditions.rebind_every;
        let rebind_at =
            if every.is_zero() { u64::MAX } else { self.now() + every.as_nanos() as u64 };
        let socket = towards(self.server)?;
        let number = self.clients.len();
        self.clients.push(Client { address, socket, rebind_at });
        self.numbers.insert(address, number);
        Ok(Some(number))
    }

    /// Another port towards the server. One that cannot be had is had the next time.
    fn rebind(&mut self, number: usize) {
        let Ok(socket) = towards(self.server) else { return };
        let now = self.now();
        let client = &mut self.clients[number];
        let every = self.conditions.rebind_every;
        client.rebind_at = if every.is_zero() { u64::MAX } else { now + every.as_nanos() as u64 };
        let old = std::mem::replace(&mut client.socket, socket);
        self.rebinds += 1;
        if self.old.len() == OLD_PORTS {
            self.old.pop_front();
        }
        self.old.push_back(old);
    }

    /// What the path makes of the first bytes of the buffer.
    fn pass(&mut self, direction: Direction, client: usize, length: usize) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&self.buffer[..length]);
        let now = self.now();
        let measure = (self.headers, self.conditions.round_trip());
        let (path, way) = match direction {
            Direction::Up => (&mut self.up, &self.conditions.up),
            Direction::Down => (&mut self.down, &self.conditions.down),
        };
        let mut refused = 0;
        let holding = &mut self.holding;
        path.pass(now, way, measure, client, bytes, |passing| {
            refused += u64::from(!holding.push(direction, passing));
        });
        path.counters.refused += refused;
    }

    fn send_due(&mut self) {
        let mut now = self.now();
        while let Some(held) = self.holding.pop_due(now) {
            let Held { passing, direction, .. } = held;
            let client = &self.clients[passing.client];
            let (sent, counters) = match direction {
                Direction::Up => (send(&client.socket, &passing.bytes), &mut self.up.counters),
                Direction::Down => {
                    let sent = self.front.send_to(&passing.bytes, client.address);
                    (sent, &mut self.down.counters)
                }
            };
            let lateness = now.saturating_sub(passing.due);
            counters.late += u64::from(lateness > LATE);
            counters.latest_us = counters.latest_us.max(lateness / 1000);
            match sent {
                Ok(length) => {
                    counters.sent += 1;
                    counters.sent_bytes += length as u64;
                }
                Err(_) => counters.refused += 1,
            }
            if self.spare.len() < SPARE_MAX {
                self.spare.push(passing.bytes);
            }
            now = self.now();
        }
    }
}

/// Lets the calling thread wake up when it should; by default the kernel adds 50 us.
pub(super) fn be_punctual() -> io::Result<()> {
    Ok(prctl::set_timerslack(1)?)
}

/// An error of an earlier datagram that the server's host has refused comes instead of sending.
fn send(socket: &UdpSocket, bytes: &[u8]) -> io::Result<usize> {
    match socket.send(bytes) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => socket.send(bytes),
        sent => sent,
    }
}

fn towards(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    prepare(&socket)?;
    socket.connect(server)?;
    Ok(socket)
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Beyond the limit for who may; up to it for all others.
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BYTES).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &SOCKET_BYTES)?;
    }
    Ok(setsockopt(socket, sockopt::SndBuf, &SOCKET_BYTES)?)
}
