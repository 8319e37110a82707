//! What lies between sockets: the agenda of things that will happen, the bytes, FINs and RSTs that
//! travel, the handshakes and the places they lead to. Knows no descriptor table and no epoll: it
//! leaves wake-ups behind for the kernel to pass on.

use super::poll::{ERR, HUP, IN, Mask, OUT, PRI};
use super::random::Random;
use super::socket::{Owner, Socket, Stage, WriteEnd};
use super::weather::Weather;
use crate::sys::{Errno, RawFd, SysResult};
use core::cmp::Reverse;
use core::net::{Ipv4Addr, SocketAddr};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::vec::Vec;

/// What a connect to an address meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A backend listens, played by the test; this many clients wait in its queue at most.
    Listening(usize),
    /// Nobody listens: refused after a round trip.
    Refused,
    /// Nothing ever answers: timed out after two minutes, as Linux does.
    Blackhole,
    /// The connect itself fails with this errno.
    Unreachable(Errno),
    /// The connect fails with this errno after so many milliseconds.
    Fails(Errno, u32),
    /// The socket meets itself: a local port in the ephemeral range that nobody listens at.
    Itself,
}

/// When the kernel gives up a connect that nothing answers (tcp_syn_retries of 6).
const CONNECT_TIMEOUT_MICROS: u64 = 127_000_000;
/// When it asks again where a listener's queue was full.
const CONNECT_AGAIN_MICROS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A socket's SYN reaches its address.
    Handshake(usize),
    /// Some of what a socket sent reaches its peer.
    Deliver(usize),
    /// An RST reaches a socket.
    Reset(usize),
    /// A socket's connect, or its connection, fails with this errno.
    Fail(usize, i32),
    /// The kernel has memory again for a socket that wants to send.
    Room(usize),
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) queue: VecDeque<usize>,
    backlog: usize,
    pub(super) at: SocketAddr,
    listening: bool,
    pub(super) owner: Owner,
}

impl Listener {
    pub(super) fn mask(&self) -> Mask {
        match (self.listening, self.queue.is_empty()) {
            (true, true) => 0,
            (true, false) => IN,
            (false, _) => OUT | HUP,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Spot {
    Listener(usize),
    Scripted(Place),
}

/// Invariant: a connected socket with something to deliver is on the agenda, or its peer's buffer
/// is full and the peer's next read puts it there.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) now_micros: u64,
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) sockets: Vec<Socket>,
    pub(super) listeners: Vec<Listener>,
    /// What the engine's descriptors must be told.
    pub(super) wakes: Vec<(RawFd, Mask)>,
    /// The far ends that something reached.
    pub(super) news: VecDeque<usize>,
    /// Something reached a far end since the world was last called.
    pub(super) untold: bool,
    spots: BTreeMap<SocketAddr, Spot>,
    agenda: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    order: u64,
    ports: u16,
}

impl Network {
    pub(super) fn new(now_micros: u64, random: Random, weather: Weather) -> Network {
        Network {
            now_micros,
            random,
            weather,
            sockets: Vec::new(),
            listeners: Vec::new(),
            wakes: Vec::new(),
            news: VecDeque::new(),
            untold: false,
            spots: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            order: 0,
            ports: 0,
        }
    }

    /// When the next thing happens.
    pub(super) fn next_micros(&self) -> Option<u64> {
        self.agenda.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets happen what is due.
    pub(super) fn run(&mut self) {
        while let Some(&Reverse((at, _, happening))) = self.agenda.peek()
            && at <= self.now_micros
        {
            self.agenda.pop();
            match happening {
                Happening::Handshake(socket) => self.handshake(socket),
                Happening::Deliver(socket) => self.deliver(socket),
                Happening::Reset(socket) => self.reset_arrives(socket),
                Happening::Fail(socket, errno) => {
                    if self.sockets[socket].stage != Stage::Over {
                        self.fail(socket, Errno::from_raw_os_error(errno));
                    }
                }
                Happening::Room(socket) => self.tell_room(socket),
            }
        }
    }

    fn happens_after(&mut self, micros: u64, happening: Happening) {
        self.order += 1;
        self.agenda.push(Reverse((self.now_micros + micros, self.order, happening)));
    }

    fn happens(&mut self, happening: Happening) {
        let micros = self.random.between(1, self.weather.latency_micros_max);
        self.happens_after(micros as u64, happening);
    }

    fn wake(&mut self, owner: Owner, key: Mask) {
        match owner {
            Owner::Descriptor(fd) => self.wakes.push((fd, key)),
            Owner::FarEnd => self.untold = true,
            Owner::Queue | Owner::Nobody => {}
        }
    }

    fn wake_socket(&mut self, socket: usize, key: Mask) {
        let this = &mut self.sockets[socket];
        if this.owner == Owner::FarEnd && !core::mem::replace(&mut this.told, true) {
            self.news.push_back(socket);
        }
        self.wake(self.sockets[socket].owner, key);
    }

    pub(super) fn socket(&mut self, owner: Owner) -> usize {
        let (least, most) = self.weather.buffer_bytes;
        let send = self.random.scaled(most).max(least);
        let receive = self.random.scaled(most).max(least);
        self.sockets.push(Socket::new(owner, send, receive));
        self.sockets.len() - 1
    }

    pub(super) fn listen(&mut self, at: SocketAddr, backlog: usize, owner: Owner) {
        self.listeners.push(Listener {
            queue: VecDeque::new(),
            backlog,
            at,
            listening: true,
            owner,
        });
        self.spots.insert(at, Spot::Listener(self.listeners.len() - 1));
    }

    pub(super) fn script(&mut self, at: SocketAddr, place: Place) {
        if let Place::Listening(backlog) = place {
            return self.listen(at, backlog, Owner::FarEnd);
        }
        self.spots.insert(at, Spot::Scripted(place));
    }

    pub(super) fn listener_at(&self, at: SocketAddr) -> Option<usize> {
        match self.spots.get(&at) {
            Some(&Spot::Listener(listener)) => Some(listener),
            _ => None,
        }
    }

    /// Its last descriptor is closed.
    pub(super) fn close_listener(&mut self, listener: usize) {
        self.listeners[listener].owner = Owner::Nobody;
        self.stop_listening(listener);
    }

    /// It listens no more: who waits in its queue is reset, who comes is refused.
    pub(super) fn stop_listening(&mut self, listener: usize) {
        self.listeners[listener].listening = false;
        while let Some(socket) = self.listeners[listener].queue.pop_front() {
            self.sockets[socket].reset_on_close = true;
            self.close(socket);
        }
    }

    /// Gives the first of the queue to `owner`, who may find it reset already.
    pub(super) fn accept(&mut self, listener: usize, owner: Owner) -> SysResult<usize> {
        let this = &mut self.listeners[listener];
        let none = if this.listening { Errno::AGAIN } else { Errno::INVAL };
        let socket = this.queue.pop_front().ok_or(none)?;
        self.sockets[socket].owner = owner;
        Ok(socket)
    }

    pub(super) fn connect(&mut self, socket: usize, to: SocketAddr) -> SysResult<()> {
        match self.sockets[socket].stage {
            Stage::Fresh => {}
            Stage::Connecting => return Err(Errno::ALREADY),
            Stage::Connected => return Err(Errno::ISCONN),
            Stage::Over => return Err(Errno::CONNABORTED),
        }
        let spot = self.spots.get(&to).copied().unwrap_or(Spot::Scripted(Place::Refused));
        if let Spot::Scripted(Place::Unreachable(errno)) = spot {
            return Err(errno);
        }
        self.ports = (self.ports + 1) % 28_000;
        let local = match spot {
            Spot::Scripted(Place::Itself) => to,
            _ => (Ipv4Addr::LOCALHOST, 32_768 + self.ports).into(),
        };
        let this = &mut self.sockets[socket];
        (this.local, this.remote, this.stage) = (Some(local), Some(to), Stage::Connecting);
        match spot {
            Spot::Scripted(Place::Blackhole) => self.happens_after(
                CONNECT_TIMEOUT_MICROS,
                Happening::Fail(socket, Errno::TIMEDOUT.raw_os_error()),
            ),
            Spot::Scripted(Place::Fails(errno, millis)) => self.happens_after(
                u64::from(millis) * 1000,
                Happening::Fail(socket, errno.raw_os_error()),
            ),
            Spot::Listener(listener)
                if self.has_room(listener)
                    && self.random.chance(self.weather.connect_at_once_chance) =>
            {
                self.meet(socket, listener);
                return Ok(());
            }
            _ => self.happens(Happening::Handshake(socket)),
        }
        Err(Errno::INPROGRESS)
    }

    /// The queue holds one more than was asked for (sk_acceptq_is_full).
    fn has_room(&self, listener: usize) -> bool {
        let listener = &self.listeners[listener];
        listener.listening && listener.queue.len() <= listener.backlog
    }

    fn handshake(&mut self, socket: usize) {
        if self.sockets[socket].stage != Stage::Connecting {
            return;
        }
        let Some(to) = self.sockets[socket].remote else { return };
        match self.spots.get(&to) {
            Some(&Spot::Listener(listener)) if self.has_room(listener) => {
                self.meet(socket, listener);
            }
            Some(&Spot::Listener(listener)) if self.listeners[listener].listening => {
                self.happens_after(CONNECT_AGAIN_MICROS, Happening::Handshake(socket));
            }
            Some(Spot::Scripted(Place::Itself)) => {
                let this = &mut self.sockets[socket];
                (this.stage, this.peer) = (Stage::Connected, Some(socket));
                self.wake_socket(socket, 0);
            }
            _ => self.fail(socket, Errno::CONNREFUSED),
        }
    }

    /// The handshake is through: the peer exists, whether it is ever accepted or not.
    fn meet(&mut self, socket: usize, listener: usize) {
        let peer = self.socket(Owner::Queue);
        let (local, remote) = (self.sockets[socket].local, self.sockets[socket].remote);
        let this = &mut self.sockets[peer];
        (this.stage, this.peer) = (Stage::Connected, Some(socket));
        (this.local, this.remote) = (remote, local);
        let this = &mut self.sockets[socket];
        (this.stage, this.peer) = (Stage::Connected, Some(peer));
        self.listeners[listener].queue.push_back(peer);
        self.wake(self.listeners[listener].owner, IN);
        self.wake_socket(socket, 0);
    }

    /// Puts what a socket has to deliver on the agenda, unless it is there already.
    pub(super) fn send_on(&mut self, socket: usize) {
        let this = &mut self.sockets[socket];
        let pending = !this.outgoing.is_empty() || this.write_end == WriteEnd::Queued;
        if pending && this.stage == Stage::Connected && !this.delivering {
            this.delivering = true;
            self.happens(Happening::Deliver(socket));
        }
    }

    /// A socket was read: its peer may have waited for the room.
    pub(super) fn was_read(&mut self, socket: usize) {
        if let Some(peer) = self.sockets[socket].peer {
            self.send_on(peer);
        }
    }

    fn deliver(&mut self, from: usize) {
        self.sockets[from].delivering = false;
        let Some(to) = self.sockets[from].peer else { return };
        if self.sockets[from].stage != Stage::Connected {
            return;
        }
        if self.random.chance(self.weather.loss_chance) {
            let errno = self.random.pick(&[Errno::TIMEDOUT, Errno::HOSTUNREACH]);
            return self.break_off(from, errno);
        }
        let receiver = &self.sockets[to];
        let deaf = receiver.owner == Owner::Nobody;
        if receiver.stage == Stage::Over || (deaf && !self.sockets[from].outgoing.is_empty()) {
            // Bytes for one who closed: an RST answers them, and what he had to send is gone.
            if self.sockets[to].stage != Stage::Over {
                self.sockets[to].end(None);
            }
            return self.reset_arrives(from);
        }
        let waiting = self.sockets[from].outgoing.len();
        let moved = self.move_bytes(from, to);
        let last = moved == waiting;
        if last && self.sockets[from].write_end == WriteEnd::Queued {
            if moved == 0 || self.random.chance(self.weather.joined_fin_chance) {
                self.sockets[from].write_end = WriteEnd::Delivered;
                self.sockets[to].read_end = true;
                self.wake_socket(to, 0);
                // The FIN's acknowledgement is a state change of its own.
                self.wake_socket(from, 0);
            } else {
                self.send_on(from);
            }
        } else if moved > 0 {
            self.send_on(from);
        }
    }

    /// Moves the next chunk, as far as the receiver has room.
    fn move_bytes(&mut self, from: usize, to: usize) -> usize {
        let room = self.sockets[to].incoming_max.saturating_sub(self.sockets[to].incoming.len());
        let most = self.sockets[from].outgoing.len().min(room);
        if most == 0 {
            return 0;
        }
        let (least_chunk, most_chunk) = self.weather.chunk_bytes;
        let bytes = self.random.scaled(most_chunk).max(least_chunk).min(most);
        // Taken out and put back, for a socket may be its own peer.
        let mut outgoing = core::mem::take(&mut self.sockets[from].outgoing);
        let receiver = &mut self.sockets[to];
        let before = receiver.incoming.len();
        let halves = super::socket::front(&outgoing, bytes);
        receiver.incoming.extend(halves.0);
        receiver.incoming.extend(halves.1);
        outgoing.drain(..bytes);
        let sender = &mut self.sockets[from];
        sender.outgoing = outgoing;
        let (urgent, later) = match sender.outgoing_urgent {
            Some(at) if at < bytes => (Some(before + at), None),
            Some(at) => (None, Some(at - bytes)),
            None => (None, None),
        };
        sender.outgoing_urgent = later;
        if urgent.is_some() {
            self.sockets[to].urgent = urgent;
        }
        self.wake_socket(to, IN | PRI);
        self.tell_room(from);
        bytes
    }

    /// Room is told once, and only to one who had found none.
    fn tell_room(&mut self, socket: usize) {
        let this = &mut self.sockets[socket];
        if this.no_space && this.writable() {
            this.no_space = false;
            self.wake_socket(socket, OUT);
        }
    }

    /// A send that could have taken more says so, as when memory is short: room is told later.
    pub(super) fn want_room(&mut self, socket: usize) {
        self.sockets[socket].no_space = true;
        self.happens(Happening::Room(socket));
    }

    fn reset_arrives(&mut self, socket: usize) {
        let this = &self.sockets[socket];
        match this.stage {
            Stage::Over | Stage::Fresh => {}
            Stage::Connecting => self.fail(socket, Errno::CONNREFUSED),
            Stage::Connected if this.has_ended() => {}
            // In CLOSE_WAIT the error is a broken pipe.
            Stage::Connected if this.read_end && this.write_end == WriteEnd::Open => {
                self.fail(socket, Errno::PIPE);
            }
            Stage::Connected => self.fail(socket, Errno::CONNRESET),
        }
    }

    fn fail(&mut self, socket: usize, errno: Errno) {
        self.sockets[socket].end(Some(errno));
        self.wake_socket(socket, ERR);
        self.wake_socket(socket, 0);
    }

    /// The network between two sockets breaks for good.
    pub(super) fn break_off(&mut self, socket: usize, errno: Errno) {
        let peer = self.sockets[socket].peer;
        for end in [Some(socket), peer].into_iter().flatten() {
            if self.sockets[end].stage != Stage::Over {
                self.sockets[end].spoiled = true;
                self.fail(end, errno);
            }
        }
    }

    pub(super) fn shutdown_write(&mut self, socket: usize) -> SysResult<()> {
        let this = &mut self.sockets[socket];
        if this.stage != Stage::Connected || this.has_ended() {
            return Err(Errno::NOTCONN);
        }
        if this.write_end == WriteEnd::Open {
            this.write_end = WriteEnd::Queued;
            self.send_on(socket);
        }
        self.wake_socket(socket, 0);
        Ok(())
    }

    /// The last close: a FIN behind what is unsent, or an RST instead of it if that was asked for
    /// or if bytes lie unread. Gives whether it was an RST.
    pub(super) fn close(&mut self, socket: usize) -> bool {
        let this = &mut self.sockets[socket];
        this.owner = Owner::Nobody;
        let unread = !this.incoming.is_empty();
        this.incoming = VecDeque::new();
        if this.stage != Stage::Connected {
            this.end(None);
            return false;
        }
        // Once both FINs are on their way there is nothing left to reset, but for unsent bytes.
        let ending = this.read_end && this.write_end != WriteEnd::Open;
        let abort = this.reset_on_close && !(ending && this.outgoing.is_empty());
        if !unread && !abort {
            if this.write_end == WriteEnd::Open {
                this.write_end = WriteEnd::Queued;
            }
            self.send_on(socket);
            return false;
        }
        let Some(peer) = this.peer else { return false };
        // What had left already still arrives before the RST.
        if !self.sockets[socket].outgoing.is_empty()
            && self.sockets[peer].owner != Owner::Nobody
            && self.sockets[peer].stage == Stage::Connected
            && self.random.below(2) == 0
        {
            self.move_bytes(socket, peer);
        }
        self.sockets[socket].end(None);
        self.happens(Happening::Reset(peer));
        true
    }
}
