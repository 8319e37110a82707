//! The few system calls of the relay, answered from memory and at somebody's whim: short reads and
//! writes, no room, no memory, interrupted, ended, reset. Whatever a call leaves undone an event
//! tells of later, as epoll would. Every byte is checked when it arrives at its socket.

use crate::address::Address;
use crate::sys::{EVENTS_MAX, Errno, Interest, Peer, RawFd, Sys, SysEvent, SysResult};
use crate::time::Instant;
use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

/// Prime, so that no power of two of bytes can be lost or doubled unseen.
const PATTERN_BYTES: usize = 65_521;

/// Socket `n` is descriptor `SOCKETS_FROM + n`.
const SOCKETS_FROM: RawFd = 10;
const PIPES_FROM: RawFd = 1000;

/// What decides: so many draws from a seed, then zeroes, which always stand for good weather.
#[derive(Debug, Default)]
pub(super) struct Whims {
    state: u64,
    left: usize,
}

impl Whims {
    pub(super) fn new(seed: u64, draws: usize) -> Whims {
        Whims { state: seed, left: draws }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// A number below `end`; 0 in good weather.
    pub(super) fn below(&mut self, end: usize) -> usize {
        if self.is_over() {
            return 0;
        }
        self.left -= 1;
        // The constants of MMIX.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = self.state.wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % end
    }

    /// Of so many at most, all in good weather, and at least one.
    pub(super) fn amount(&mut self, most: usize) -> usize {
        match self.below(256) {
            0..=127 => most,
            n => (most >> (n % 18)).max(n - 127).min(most),
        }
    }

    /// True once in so many times, never in good weather.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}

/// How what a peer sends ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Fin,
    Reset,
}

/// One connected socket, and the peer behind it.
///
/// Invariant: `read <= arrived <= sends`; the end arrives last.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) sends: usize,
    pub(super) last: Last,
    arrived: usize,
    pub(super) read: usize,
    /// The end has arrived as well.
    pub(super) over: bool,
    error_told: bool,
    room: usize,
    /// A write found no room, so an event will tell when there is some.
    found_full: bool,
    /// Bytes of socket `fed_by` that were written to this one.
    pub(super) taken: usize,
    fed_by: usize,
    /// Where in the pattern this peer begins.
    seed: usize,
    spliceable: bool,
    pub(super) read_event: bool,
    pub(super) write_event: bool,
    /// Behind this byte an urgent one was sent: reads stop short there, and a splice never gets
    /// past it (tcp(7)). The urgent byte itself is not relayed.
    mark: Option<usize>,
    /// The bytes that were peeked at will be read: that cannot fail.
    peeked: bool,
}

impl Socket {
    /// Bytes that have arrived and were not read.
    pub(super) fn unread(&self) -> usize {
        self.arrived - self.read
    }

    pub(super) fn has_something(&self) -> bool {
        self.arrived > self.read || self.over
    }

    pub(super) fn has_room(&self) -> bool {
        self.room > 0 || self.is_reset()
    }

    /// The mark has arrived.
    pub(super) fn is_urgent(&self) -> bool {
        self.mark.is_some_and(|mark| mark < self.arrived)
    }

    fn is_at_mark(&self) -> bool {
        self.is_urgent() && self.mark == Some(self.read)
    }

    /// How far one read gets.
    fn reach(&self) -> usize {
        let mark = self.mark.filter(|&mark| self.is_urgent() && mark > self.read);
        mark.unwrap_or(self.arrived)
    }

    pub(super) fn is_reset(&self) -> bool {
        self.over && self.last == Last::Reset
    }

    fn arrive(&mut self, bytes: usize) {
        self.arrived = self.sends.min(self.arrived + bytes);
        self.over |= self.arrived == self.sends && bytes > 0;
        self.read_event = true;
        if self.is_reset() {
            self.write_event = true;
        }
    }

    fn make_room(&mut self, bytes: usize) {
        self.room += bytes;
        self.write_event |= core::mem::take(&mut self.found_full);
    }

    /// How many bytes a read may take.
    fn readable(&mut self) -> SysResult<usize> {
        match self.reach() - self.read {
            0 if !self.over => Err(Errno::AGAIN),
            // Said once, then it reads as ended (tcp(7)).
            0 if self.is_reset() && !core::mem::replace(&mut self.error_told, true) => {
                Err(Errno::CONNRESET)
            }
            bytes => Ok(bytes),
        }
    }

    /// How many bytes a write may bring.
    pub(super) fn writable(&mut self) -> SysResult<usize> {
        if self.is_reset() {
            return Err(Errno::PIPE);
        }
        self.found_full |= self.room == 0;
        if self.room == 0 { Err(Errno::AGAIN) } else { Ok(self.room) }
    }
}

#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    ends: u8,
}

/// What is allowed to go wrong in one case.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) interrupted: bool,
    pub(super) no_memory: bool,
    /// pipe(2) fails, or gives less than was asked for.
    pub(super) no_pipes: bool,
    pub(super) unspliceable: bool,
    /// A pipe takes less than it has room for.
    pub(super) torn: bool,
}

pub(super) struct State {
    pub(super) whims: Whims,
    pub(super) sockets: Vec<Socket>,
    faults: Faults,
    pattern: Vec<u8>,
    pipes: BTreeMap<RawFd, Pipe>,
    next_pipe: RawFd,
    /// A write to a pipe was torn: the connection cannot go on.
    pub(super) torn: bool,
}

impl State {
    fn socket(&mut self, fd: RawFd) -> &mut Socket {
        &mut self.sockets[(fd - SOCKETS_FROM) as usize]
    }

    pub(super) fn pattern(&self, socket: usize, from: usize, bytes: usize) -> &[u8] {
        let start = (self.sockets[socket].seed + from) % PATTERN_BYTES;
        &self.pattern[start..start + bytes]
    }

    /// What the peers do meanwhile.
    pub(super) fn let_peers_act(&mut self) {
        let State { whims, sockets, .. } = self;
        for socket in sockets {
            let act = whims.below(20);
            let bytes = match act % 3 {
                0 => 1 + whims.below(256),
                1 => 1 << (6 + whims.below(15)),
                _ => 1 << 20,
            };
            match act {
                12..=15 if !socket.over => socket.arrive(bytes),
                16..=19 => socket.make_room(bytes),
                _ => {}
            }
        }
    }

    /// From now on everything arrives and everybody has room.
    pub(super) fn clear_up(&mut self) {
        self.whims = Whims::default();
        for socket in &mut self.sockets {
            if !socket.over {
                socket.arrive(usize::MAX >> 1);
            }
            socket.make_room(1 << 40);
        }
    }

    /// What every call begins with.
    fn enter(&mut self, can_fail: bool) -> SysResult<()> {
        self.let_peers_act();
        if can_fail && self.faults.interrupted && self.whims.once_in(12) {
            return Err(Errno::INTR);
        }
        if can_fail && self.faults.no_memory && self.whims.once_in(20) {
            return Err(Errno::NOMEM);
        }
        Ok(())
    }

    fn take(&mut self, fd: RawFd, bytes: &[u8]) {
        self.take_in((fd - SOCKETS_FROM) as usize, bytes);
    }

    /// Bytes have come to a socket's peer.
    pub(super) fn take_in(&mut self, socket: usize, bytes: &[u8]) {
        let Socket { fed_by, taken: at, .. } = self.sockets[socket];
        assert_eq!(self.pattern(fed_by, at, bytes.len()), bytes, "not what was sent at {at}");
        let socket = &mut self.sockets[socket];
        socket.taken += bytes.len();
        socket.room -= bytes.len();
    }
}

/// A kernel of two sockets a connection; `&Kernel` is a [`Sys`].
pub(super) struct Kernel(pub(super) RefCell<State>);

impl Kernel {
    pub(super) fn new(whims: Whims, faults: Faults) -> Kernel {
        let mut bytes = Whims::new(1, PATTERN_BYTES);
        let mut pattern: Vec<u8> = (0..PATTERN_BYTES).map(|_| bytes.below(256) as u8).collect();
        // As long again as the longest read, so that a piece is one slice.
        for _ in 0..32 {
            pattern.extend_from_within(..PATTERN_BYTES);
        }
        Kernel(RefCell::new(State {
            whims,
            sockets: Vec::new(),
            faults,
            pattern,
            pipes: BTreeMap::new(),
            next_pipe: PIPES_FROM,
            torn: false,
        }))
    }

    /// Two sockets whose bytes go to each other; their numbers are those of a pair that is gone.
    pub(super) fn connect(&self, pair: usize, sends: [(usize, Last); 2]) -> [RawFd; 2] {
        let state = &mut *self.0.borrow_mut();
        let fds = [pair * 2, pair * 2 + 1];
        for (n, (sends, last)) in fds.into_iter().zip(sends) {
            let spliceable = !(state.faults.unspliceable && state.whims.once_in(2));
            let mark = state.whims.once_in(3).then(|| state.whims.amount(sends.max(1)) - 1);
            let seed = state.sockets.get(n).map_or(n * 777, |socket| socket.seed + 4099);
            let socket = Socket {
                sends,
                last,
                arrived: 0,
                read: 0,
                over: false,
                error_told: false,
                room: 0,
                found_full: false,
                taken: 0,
                fed_by: n ^ 1,
                seed,
                spliceable,
                read_event: false,
                write_event: true,
                mark,
                peeked: false,
            };
            match state.sockets.get_mut(n) {
                Some(gone) => *gone = socket,
                None => state.sockets.push(socket),
            }
        }
        fds.map(|n| SOCKETS_FROM + n as RawFd)
    }

    /// Bytes in a pipe, by its read end; `None` if it is not open.
    pub(super) fn piped(&self, read: RawFd) -> Option<usize> {
        self.0.borrow().pipes.get(&read).map(|pipe| pipe.bytes.len())
    }

    pub(super) fn open_pipes(&self) -> usize {
        self.0.borrow().pipes.len()
    }
}

/// Calls the relay does not make.
macro_rules! unused {
    ($(fn $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(self, $(_: $argument),*) $(-> $result)? {
            unreachable!("the relay knows no {}", stringify!($name))
        })*
    };
}

impl Sys for &Kernel {
    unused! {
        fn now() -> Instant;
        fn epoll_create() -> SysResult<RawFd>;
        fn epoll_add(RawFd, RawFd, Interest, u64) -> SysResult<()>;
        fn epoll_modify(RawFd, RawFd, Interest, u64) -> SysResult<()>;
        fn epoll_delete(RawFd, RawFd) -> SysResult<()>;
        fn epoll_wait(RawFd, &mut [SysEvent; EVENTS_MAX], Option<u32>) -> SysResult<usize>;
        fn eventfd() -> SysResult<RawFd>;
        fn ring(RawFd);
        fn hush(RawFd);
        fn accept(RawFd) -> SysResult<(RawFd, Address)>;
        fn stop_listening(RawFd);
        fn socket(&Peer<'_>) -> SysResult<RawFd>;
        fn connect(RawFd, &Peer<'_>) -> SysResult<()>;
        fn take_error(RawFd) -> SysResult<()>;
        fn local_address(RawFd) -> SysResult<Address>;
        fn peer_address(RawFd) -> SysResult<Address>;
        fn set_keepalive(RawFd, u32, u32, u32) -> SysResult<()>;
        fn set_buffers(RawFd, usize) -> SysResult<()>;
        fn set_nonblocking(RawFd) -> SysResult<()>;
        fn shutdown_write(RawFd) -> SysResult<()>;
        fn reset_on_close(RawFd);
        fn unacknowledged(RawFd) -> SysResult<usize>;
    }

    fn set_nodelay(self, fd: RawFd) -> SysResult<()> {
        self.0.borrow_mut().socket(fd);
        Ok(())
    }

    fn recv(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        let state = &mut *self.0.borrow_mut();
        let peeked = core::mem::take(&mut state.socket(fd).peeked);
        state.enter(!peeked)?;
        let bytes = state.socket(fd).readable()?.min(buffer.len());
        let (n, from) = ((fd - SOCKETS_FROM) as usize, state.socket(fd).read);
        buffer[..bytes].copy_from_slice(state.pattern(n, from, bytes));
        state.socket(fd).read += bytes;
        state.let_peers_act();
        Ok(bytes)
    }

    fn peek(self, fd: RawFd, buffer: &mut [u8]) -> SysResult<usize> {
        let state = &mut *self.0.borrow_mut();
        state.enter(true)?;
        let bytes = state.socket(fd).readable()?.min(buffer.len());
        let (n, from) = ((fd - SOCKETS_FROM) as usize, state.socket(fd).read);
        buffer[..bytes].copy_from_slice(state.pattern(n, from, bytes));
        state.socket(fd).peeked = true;
        Ok(bytes)
    }

    fn send(self, fd: RawFd, bytes: &[u8]) -> SysResult<usize> {
        let state = &mut *self.0.borrow_mut();
        state.enter(true)?;
        let most = state.socket(fd).writable()?.min(bytes.len());
        let sent = state.whims.amount(most);
        state.take(fd, &bytes[..sent]);
        Ok(sent)
    }

    fn pipe(self, wanted: usize) -> SysResult<(RawFd, RawFd, usize)> {
        let state = &mut *self.0.borrow_mut();
        let capacity = match state.whims.below(8) {
            5 if state.faults.no_pipes => return Err(Errno::MFILE),
            6 if state.faults.no_pipes => 8192,
            7 => wanted.min(65_536),
            _ => wanted,
        };
        let read = state.next_pipe;
        state.next_pipe += 2;
        state.pipes.insert(read, Pipe { bytes: VecDeque::new(), capacity, ends: 2 });
        Ok((read, read + 1, capacity))
    }

    fn close(self, fd: RawFd) {
        let state = &mut *self.0.borrow_mut();
        let read = fd - (fd - PIPES_FROM) % 2;
        let pipe = state.pipes.get_mut(&read).expect("a pipe that is open");
        pipe.ends -= 1;
        if pipe.ends == 0 {
            state.pipes.remove(&read);
        }
    }

    fn write_pipe(self, write: RawFd, bytes: &[u8]) -> SysResult<usize> {
        let state = &mut *self.0.borrow_mut();
        let pipe = state.pipes.get_mut(&(write - 1)).expect("a pipe that is open");
        let mut taken = bytes.len().min(pipe.capacity - pipe.bytes.len());
        if state.faults.torn && state.whims.once_in(8) {
            state.torn = true;
            taken = state.whims.below(taken);
        }
        pipe.bytes.extend(&bytes[..taken]);
        if taken == 0 { Err(Errno::NOMEM) } else { Ok(taken) }
    }

    fn splice(self, from: RawFd, to: RawFd, bytes: usize) -> SysResult<usize> {
        let state = &mut *self.0.borrow_mut();
        if to < PIPES_FROM {
            state.enter(true)?;
            let most = state.socket(to).writable()?.min(bytes);
            let pipe = state.pipes.get_mut(&from).expect("a pipe that is open");
            let moved = state.whims.amount(most.min(pipe.bytes.len()));
            let moved: Vec<u8> = pipe.bytes.drain(..moved).collect();
            assert!(!moved.is_empty(), "an empty pipe was drained");
            state.take(to, &moved);
            return Ok(moved.len());
        }
        if !state.socket(from).spliceable {
            return Err(Errno::INVAL);
        }
        state.enter(true)?;
        let most = match state.socket(from).readable()? {
            _ if state.socket(from).is_at_mark() => 0,
            readable => readable.min(bytes),
        };
        let pipe = state.pipes.get(&(to - 1)).expect("a pipe that is open");
        assert!(pipe.bytes.is_empty(), "EAGAIN would not tell which end has it");
        let most = most.min(pipe.capacity);
        let moved = if most == 0 { 0 } else { state.whims.amount(most) };
        let (n, at) = ((from - SOCKETS_FROM) as usize, state.socket(from).read);
        let bytes: Vec<u8> = state.pattern(n, at, moved).into();
        if let Some(pipe) = state.pipes.get_mut(&(to - 1)) {
            pipe.bytes.extend(bytes);
        }
        state.socket(from).read += moved;
        state.let_peers_act();
        Ok(moved)
    }
}
