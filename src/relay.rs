//! The one place where bytes move from side to side. Between two descriptors small messages go by
//! recv and send through one buffer a thread; once a side is bulk its bytes go by splice through a
//! pooled pipe and never enter user space. What a short write leaves over goes into a pipe too, so no
//! connection has a buffer of its own. A channel's bytes rest in memory that its transport lends: that
//! is filled and drained by the calls themselves (`lent.rs`). Knows two sides and what they rest in;
//! no table, no epoll.
//!
//! Invariants: a side is read only when everything read from it before has been written, so bytes
//! keep their order; a pipe goes back to the pool only when empty.

use crate::side::{Flags, Flow, Handle, Pipe, Side, Stage};
use crate::sys::{Errno, RawFd, Sys};
use crate::table::BUFFER_BYTES;
use crate::transport::Transport;
use heapless::Vec;

/// A read at least this large speaks for splicing, a smaller one for copying.
pub const BULK_READ_BYTES: usize = 16 * 1024;

/// This many reads in a row that speak for the other way of moving bytes change it.
const STREAK_MAX: u8 = 2;

/// Capacity of a large pipe. Every splice out of a socket ends with an acknowledgement that opens the
/// sender's window, and what that costs outweighs the bytes: 256 KiB instead of 64 halve the CPU
/// time of a byte, 1 MiB gains little more and leaves pipes for a quarter of the connections.
pub const LARGE_PIPE_BYTES: usize = 256 * 1024;

/// Capacity of a small pipe, the kernel's default (pipe(7)), and the least that is of use: what a
/// short write leaves over of a whole buffer must fit.
pub const SMALL_PIPE_BYTES: usize = BUFFER_BYTES;

/// How many bytes one splice asks for. A pipe counts slots, not bytes, so it may take more than its
/// nominal capacity where the network gives large fragments.
const SPLICE_BYTES: usize = 1024 * 1024;

/// After about this many bytes of one direction others have their turn.
pub const TURN_BYTES: usize = 512 * 1024;

/// Pipes of one thread, at most.
pub const PIPES_MAX: usize = 1024;

/// How many pipes one thread may hold open, in use and in the pool, of either size. Each is two
/// descriptors, and kernel memory up to its capacity while bytes are in it. None at all is in order:
/// then everything is copied.
///
/// ```
/// use seaprox::relay::PipeLimits;
///
/// let limits = PipeLimits::of(64, 4 << 20);
/// assert!(limits.pipes() <= 2 * 64 && limits.bytes() <= 4 << 20);
/// assert_eq!(limits.at_most(3).pipes(), 3);
/// assert_eq!(PipeLimits::of(64, 0), PipeLimits::default(), "everything is copied");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeLimits {
    /// Pipes of [`LARGE_PIPE_BYTES`].
    pub large: usize,
    /// Pipes of [`SMALL_PIPE_BYTES`].
    pub small: usize,
}

impl PipeLimits {
    /// For so many connections (a pipe for each direction) and so many bytes of kernel memory: half
    /// of it for large pipes, the rest for small ones.
    pub const fn of(connections: usize, bytes: usize) -> PipeLimits {
        let wanted = connections * 2;
        let large = min(wanted, bytes / 2 / LARGE_PIPE_BYTES);
        let small = min(wanted - large, (bytes - large * LARGE_PIPE_BYTES) / SMALL_PIPE_BYTES);
        PipeLimits { large, small }.at_most(PIPES_MAX)
    }

    /// The same, but only so many pipes; large ones stay longest.
    pub const fn at_most(self, pipes: usize) -> PipeLimits {
        let large = min(self.large, pipes);
        PipeLimits { large, small: min(self.small, pipes - large) }
    }

    /// How many pipes it is.
    pub const fn pipes(&self) -> usize {
        self.large + self.small
    }

    /// Kernel memory they may take.
    pub const fn bytes(&self) -> usize {
        self.large * LARGE_PIPE_BYTES + self.small * SMALL_PIPE_BYTES
    }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// How many times a pipe is asked for in vain before the kernel is asked again.
const PIPE_RETRY_AFTER: u16 = 256;

/// How a direction stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Nothing more is to be read now.
    Drained,
    /// The other side takes nothing more now.
    Blocked,
    /// There may be more, but it is others' turn.
    Turn,
    /// The end was read, and all before it was written.
    Ended,
    /// The kernel is out of memory for a moment.
    Starved,
    /// The side that was read is reset; all that came before has been written.
    Reset,
    /// The side that was written to takes nothing, and never will.
    Broken,
}

/// The bytes' way through one thread: the buffer and the pipes.
pub(crate) struct Relay<'a, K: Sys> {
    sys: K,
    buffer: &'a mut [u8],
    pipes: Pipes<K>,
}

/// One end of a direction: what its bytes rest in and what is known of it.
pub(crate) struct End<'s> {
    pub(crate) handle: Handle,
    /// The descriptor, or nothing of use for a channel.
    pub(crate) fd: RawFd,
    pub(crate) side: &'s mut Side,
}

impl<'s> End<'s> {
    pub(crate) fn new(handle: Handle, side: &'s mut Side) -> End<'s> {
        End { handle, fd: handle.fd().unwrap_or(-1), side }
    }

    fn flow(&mut self) -> &mut Flow {
        match &mut self.side.stage {
            Stage::Connected(flow) => flow,
            stage => unreachable!("bytes of a side that is {stage:?}"),
        }
    }
}

impl<'a, K: Sys> Relay<'a, K> {
    pub(crate) fn new(sys: K, buffer: &'a mut [u8], limits: PipeLimits) -> Self {
        Relay { sys, buffer, pipes: Pipes::new(sys, limits.at_most(PIPES_MAX)) }
    }

    /// Moves bytes from one side to the other until something stops it. Both must be connected.
    #[inline]
    pub(crate) fn pump<F: Transport<K>, T: Transport<K>>(
        &mut self,
        from: End<'_>,
        to: End<'_>,
        (source, dest): (&mut F, &mut T),
    ) -> Pumped {
        match (F::LENDS, T::LENDS) {
            (false, false) => self.pump_kernel(from, to),
            (false, true) => self.fill(from, to, dest),
            (true, false) => self.drain(from, to, source),
            (true, true) => self.carry(from, to, source, dest),
        }
    }

    /// From descriptor to descriptor.
    #[inline]
    fn pump_kernel(&mut self, mut from: End<'_>, mut to: End<'_>) -> Pumped {
        let stopped = self.pump_until_stopped(&mut from, &mut to);
        let flow = from.flow();
        if flow.bytes == 0
            && let Some(pipe) = flow.pipe.take()
        {
            self.pipes.give_back(pipe);
        }
        stopped
    }

    fn pump_until_stopped(&mut self, from: &mut End<'_>, to: &mut End<'_>) -> Pumped {
        let mut moved = 0;
        loop {
            if from.flow().bytes > 0 {
                if let Err(stopped) = self.drain_pipe(from, to) {
                    return stopped;
                }
                continue;
            }
            if let Some(stopped) = stops(from.side, to.side, moved >= TURN_BYTES) {
                return stopped;
            }
            let read = match self.pipe_for_bulk(from) {
                Some(pipe) => self.splice_in(from, pipe),
                None if from.flow().pipe.is_some() || self.pipes.stock() => self.copy(from, to),
                None => self.copy_what_fits(from, to),
            };
            match read {
                Ok(bytes) => {
                    moved += bytes;
                    from.side.bytes += bytes as u64;
                }
                Err(stopped) => return stopped,
            }
        }
    }

    /// The pipe to splice into, if the side is bulk and one can be had.
    fn pipe_for_bulk(&mut self, from: &mut End<'_>) -> Option<Pipe> {
        // A splice stops at an urgent byte and never gets past it.
        if !from.side.flags.has(Flags::BULK) || from.side.flags.has(Flags::URGENT) {
            return None;
        }
        let flow = from.flow();
        if flow.pipe.is_none() {
            flow.pipe = self.pipes.take();
        }
        flow.pipe
    }

    /// Socket to pipe. The pipe is empty, so EAGAIN can only mean that the socket is.
    fn splice_in(&mut self, from: &mut End<'_>, pipe: Pipe) -> Result<usize, Pumped> {
        match self.sys.splice(from.fd, pipe.write(), SPLICE_BYTES) {
            // The end, or an urgent byte that nobody has told of yet with more behind it: a recv
            // knows.
            Ok(0) => {
                from.side.flags.clear(Flags::BULK);
                Ok(0)
            }
            Ok(bytes) => {
                from.flow().bytes = bytes as u32;
                weigh(from.side, bytes < BULK_READ_BYTES);
                Ok(bytes)
            }
            Err(Errno::INVAL) => {
                from.side.flags.set(Flags::UNSPLICEABLE);
                from.side.flags.clear(Flags::BULK);
                Ok(0)
            }
            Err(errno) => self.read_failed(from, errno),
        }
    }

    /// Pipe to socket.
    fn drain_pipe(&mut self, from: &mut End<'_>, to: &mut End<'_>) -> Result<(), Pumped> {
        if !to.side.flags.has(Flags::WRITABLE) {
            return Err(Pumped::Blocked);
        }
        let flow = from.flow();
        let Some(pipe) = flow.pipe else { unreachable!("{flow:?}: bytes without a pipe") };
        self.be_prompt(to, flow.bytes as usize);
        match self.sys.splice(pipe.read(), to.fd, flow.bytes as usize) {
            Ok(0) | Err(Errno::INTR) => Ok(()),
            Ok(bytes) => {
                flow.bytes -= bytes as u32;
                Ok(())
            }
            Err(errno) => Err(write_failed(to, errno)),
        }
    }

    /// The small way: one read, one write, and the rest into a pipe, of which one is in stock.
    fn copy(&mut self, from: &mut End<'_>, to: &mut End<'_>) -> Result<usize, Pumped> {
        let bytes = match self.sys.recv(from.fd, &mut self.buffer[..]) {
            Ok(bytes) => bytes,
            Err(errno) => return self.read_failed(from, errno),
        };
        self.weigh_copy(from, bytes);
        if bytes == 0 {
            return Ok(0);
        }
        self.be_prompt(to, bytes);
        let sent = match self.sys.send(to.fd, &self.buffer[..bytes]) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => {
                to.side.flags.clear(Flags::WRITABLE);
                0
            }
            Err(Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => 0,
            Err(errno) => return Err(write_failed(to, errno)),
        };
        if sent < bytes {
            let flow = from.flow();
            let Some(pipe) = flow.pipe.or_else(|| self.pipes.take()) else {
                unreachable!("a pipe is in stock")
            };
            flow.pipe = Some(pipe);
            let kept = self.sys.write_pipe(pipe.write(), &self.buffer[sent..bytes]).unwrap_or(0);
            // Counted even if they are not all: they must not be the next client's.
            flow.bytes = kept as u32;
            if kept < bytes - sent {
                // An empty pipe takes what it has capacity for (pipe(7)), unless there is no memory
                // for it; then bytes are lost and the connection cannot go on.
                return Err(Pumped::Reset);
            }
        }
        Ok(bytes)
    }

    /// Without a pipe: only what the other side takes leaves the socket.
    fn copy_what_fits(&mut self, from: &mut End<'_>, to: &mut End<'_>) -> Result<usize, Pumped> {
        let bytes = match self.sys.peek(from.fd, &mut self.buffer[..]) {
            Ok(bytes) => bytes,
            Err(errno) => return self.read_failed(from, errno),
        };
        if bytes == 0 {
            self.weigh_copy(from, 0);
            return Ok(0);
        }
        self.be_prompt(to, bytes);
        let sent = match self.sys.send(to.fd, &self.buffer[..bytes]) {
            Ok(sent) => sent,
            Err(errno) => return Err(write_failed(to, errno)),
        };
        match self.sys.recv(from.fd, &mut self.buffer[..sent]) {
            Ok(gone) if gone == sent => {}
            // What was peeked at can be read; should it not, bytes would be doubled.
            _ => return Err(Pumped::Reset),
        }
        if sent == bytes {
            self.weigh_copy(from, bytes);
        }
        Ok(sent)
    }

    /// What a read into the whole buffer says of the side.
    fn weigh_copy(&self, from: &mut End<'_>, bytes: usize) {
        note_read(from, bytes, BUFFER_BYTES);
        if bytes > 0 {
            weigh(from.side, bytes >= BULK_READ_BYTES);
        }
    }

    fn read_failed(&self, from: &mut End<'_>, errno: Errno) -> Result<usize, Pumped> {
        match errno {
            Errno::AGAIN => {
                from.side.flags.clear(Flags::READABLE);
                Ok(0)
            }
            Errno::INTR => Ok(0),
            Errno::NOMEM | Errno::NOBUFS => Err(Pumped::Starved),
            _ => Err(Pumped::Reset),
        }
    }

    /// Nagle's algorithm delays only a small segment behind an unacknowledged one (RFC 896), so a
    /// single small write needs no TCP_NODELAY: that call is kept for the second.
    fn be_prompt(&self, to: &mut End<'_>, bytes: usize) {
        /// Surely within one segment (RFC 9293 section 3.7.1, default MSS).
        const SMALL_BYTES: usize = 536;
        let flags = &mut to.side.flags;
        if flags.has(Flags::PROMPT) {
            return;
        }
        if flags.has(Flags::WRITTEN) || bytes > SMALL_BYTES {
            flags.set(Flags::PROMPT);
            // Without it small writes wait for an acknowledgement, which is slow, not wrong.
            let _ = self.sys.set_nodelay(to.fd);
        }
        flags.set(Flags::WRITTEN);
    }

    /// Ends a direction: a pipe with bytes in it is closed, or its bytes would be the next
    /// client's.
    pub(crate) fn drop_flow(&mut self, side: &mut Side) {
        if let Stage::Connected(flow) = &mut side.stage
            && let Some(pipe) = flow.pipe.take()
        {
            match core::mem::take(&mut flow.bytes) {
                0 => self.pipes.give_back(pipe),
                _ => self.pipes.destroy(pipe),
            }
        }
    }
}

/// What a read of so many bytes, where more would have been taken, says of the side.
fn note_read(from: &mut End<'_>, bytes: usize, asked: usize) {
    let unix = from.side.is_unix();
    let flags = &mut from.side.flags;
    if bytes == 0 {
        flags.set(Flags::ENDED);
        return;
    }
    if bytes < asked && !flags.has(Flags::URGENT) && !unix {
        // A short read has emptied the socket (a unix one stops wherever descriptors were
        // passed along, unix(7)). If its end had been seen before, in order, then
        // the end is all that is left. (A muted side is not told of urgent data.)
        if !flags.any(Flags::HANGUP.or(Flags::ERROR)) {
            flags.clear(Flags::READABLE);
        } else if !flags.any(Flags::ERROR.or(Flags::BROKEN).or(Flags::MUTED)) {
            flags.set(Flags::ENDED);
        }
    }
}

/// What stops a direction before anything is read, if something does.
#[inline]
fn stops(from: &Side, to: &Side, turn_is_over: bool) -> Option<Pumped> {
    if from.flags.has(Flags::ENDED) {
        return Some(if from.flags.has(Flags::BROKEN) { Pumped::Reset } else { Pumped::Ended });
    }
    if !from.flags.has(Flags::READABLE) {
        return Some(Pumped::Drained);
    }
    if !to.flags.has(Flags::WRITABLE) {
        return Some(Pumped::Blocked);
    }
    turn_is_over.then_some(Pumped::Turn)
}

fn write_failed(to: &mut End<'_>, errno: Errno) -> Pumped {
    match errno {
        Errno::AGAIN => {
            to.side.flags.clear(Flags::WRITABLE);
            Pumped::Blocked
        }
        Errno::INTR => Pumped::Turn,
        Errno::NOMEM | Errno::NOBUFS => Pumped::Starved,
        _ => Pumped::Broken,
    }
}

/// Two reads in a row that speak against the present way of moving bytes change it.
fn weigh(side: &mut Side, against: bool) {
    side.streak = if against { side.streak + 1 } else { 0 };
    if side.streak == STREAK_MAX {
        side.streak = 0;
        if side.flags.has(Flags::BULK) {
            side.flags.clear(Flags::BULK);
        } else if !side.flags.has(Flags::UNSPLICEABLE) {
            side.flags.set(Flags::BULK);
        }
    }
}

/// The pipes of one thread: empty ones, and the right to open more.
///
/// Invariant: every pipe in `empty` is empty and holds at least 64 KiB; `open` does not pass `limits`.
struct Pipes<K: Sys> {
    sys: K,
    empty: Vec<Pipe, PIPES_MAX>,
    open: PipeLimits,
    limits: PipeLimits,
    /// How many more times the kernel is not asked.
    refused: u16,
}

impl<K: Sys> Pipes<K> {
    fn new(sys: K, limits: PipeLimits) -> Self {
        Pipes { sys, empty: Vec::new(), open: PipeLimits::default(), limits, refused: 0 }
    }

    /// Makes sure that one can be taken; `false` when none can be had now.
    fn stock(&mut self) -> bool {
        if !self.empty.is_empty() {
            return true;
        }
        if self.refused > 0 {
            self.refused -= 1;
            return false;
        }
        let large = self.open.large < self.limits.large;
        if !large && self.open.small == self.limits.small {
            return false;
        }
        let capacity = if large { LARGE_PIPE_BYTES } else { SMALL_PIPE_BYTES };
        match self.sys.pipe(capacity) {
            Ok((read, write, capacity)) if capacity >= SMALL_PIPE_BYTES => {
                // Counted as asked for, should the kernel have given less.
                *self.count(large) += 1;
                Pipe::new(read, write, large).is_some_and(|pipe| self.empty.push(pipe).is_ok())
            }
            // A user past pipe-user-pages-soft gets pipes of two pages (pipe(7)).
            Ok((read, write, _)) => {
                self.sys.close(read);
                self.sys.close(write);
                self.refused = PIPE_RETRY_AFTER;
                false
            }
            Err(_) => {
                self.refused = PIPE_RETRY_AFTER;
                false
            }
        }
    }

    fn count(&mut self, large: bool) -> &mut usize {
        if large { &mut self.open.large } else { &mut self.open.small }
    }

    fn take(&mut self) -> Option<Pipe> {
        if self.stock() { self.empty.pop() } else { None }
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.empty.push(pipe).is_err() {
            unreachable!("more pipes came back than were opened");
        }
    }

    fn destroy(&mut self, pipe: Pipe) {
        self.sys.close(pipe.read());
        self.sys.close(pipe.write());
        *self.count(pipe.is_large()) -= 1;
    }
}

impl<K: Sys> Drop for Pipes<K> {
    fn drop(&mut self) {
        while let Some(pipe) = self.empty.pop() {
            self.destroy(pipe);
        }
    }
}

mod lent;
mod said;

#[cfg(test)]
#[path = "relay_tests/mod.rs"]
mod tests;
