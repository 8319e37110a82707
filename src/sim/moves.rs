//! How bytes get into and out of sockets and pipes: send, recv and splice, of either end.

use super::kernel::Kernel;
use super::network::Network;
use super::pipe::PAGE;
use crate::sys::{Errno, SysResult};

impl Kernel {
    /// send(2), by either end.
    pub(super) fn send(&mut self, socket: usize, bytes: &[u8]) -> SysResult<usize> {
        let taken = self.network.sockets[socket].accept_bytes(bytes.len())?;
        self.network.sockets[socket].outgoing.extend(&bytes[..taken]);
        self.network.send_on(socket);
        Ok(taken)
    }

    /// recv(2), by either end: what can be read goes to `sink` in two halves.
    pub(super) fn recv(
        &mut self,
        socket: usize,
        bytes_max: usize,
        sink: impl FnOnce(&[u8], &[u8]),
    ) -> SysResult<usize> {
        let this = &mut self.network.sockets[socket];
        this.step_over();
        let bytes = this.readable_bytes().min(bytes_max);
        if bytes == 0 && bytes_max > 0 {
            return this.read_nothing();
        }
        let (first, second) = this.unread(bytes);
        sink(first, second);
        this.consume(bytes);
        self.network.was_read(socket);
        Ok(bytes)
    }

    /// How many of `bytes` a send is allowed to take: fewer than there is room for when memory is
    /// short, and then room is told later.
    pub(super) fn sendable(&mut self, socket: usize, bytes: usize) -> SysResult<usize> {
        let random = &mut self.network.random;
        let full = random.chance(self.faults.full_chance);
        let short = random.chance(self.faults.short_chance);
        if !full && !short {
            return Ok(bytes);
        }
        // An error goes before a lack of room.
        self.network.sockets[socket].accept_bytes(0)?;
        self.network.want_room(socket);
        if full { Err(Errno::AGAIN) } else { Ok(self.network.random.scaled(bytes).min(bytes)) }
    }

    /// From a socket into a pipe: slot by slot, until the pipe or the socket has no more.
    pub(super) fn splice_in(
        &mut self,
        socket: usize,
        pipe: usize,
        bytes: usize,
    ) -> SysResult<usize> {
        // A full pipe is found out first: even at the socket's end it says EAGAIN.
        let slots_free = self.pipes[pipe].slots_free();
        if slots_free == 0 {
            return Err(Errno::AGAIN);
        }
        let bytes = bytes.min(slots_free * PAGE);
        let mut moved = 0;
        while moved < bytes && self.pipes[pipe].slots_free() > 0 {
            let Kernel { network: Network { sockets, random, .. }, pipes, .. } = self;
            let this = &mut sockets[socket];
            let fragment = random.scaled(self.slot_bytes.1).max(self.slot_bytes.0);
            let chunk = this.readable_bytes().min(fragment).min(bytes - moved);
            if chunk == 0 {
                break;
            }
            pipes[pipe].fill_slot(this.unread(chunk));
            this.consume(chunk);
            moved += chunk;
            if random.chance(self.faults.short_chance) {
                break;
            }
        }
        if moved == 0 {
            return self.network.sockets[socket].read_nothing();
        }
        self.network.was_read(socket);
        Ok(moved)
    }

    /// From a pipe into a socket.
    pub(super) fn splice_out(
        &mut self,
        pipe: usize,
        socket: usize,
        bytes: usize,
    ) -> SysResult<usize> {
        let bytes = bytes.min(self.pipes[pipe].len());
        if bytes == 0 {
            return if self.pipes[pipe].ends == 2 { Err(Errno::AGAIN) } else { Ok(0) };
        }
        let bytes = self.sendable(socket, bytes)?;
        let taken = self.network.sockets[socket].accept_bytes(bytes)?;
        let (first, second) = self.pipes[pipe].unread(taken);
        let outgoing = &mut self.network.sockets[socket].outgoing;
        outgoing.extend(first);
        outgoing.extend(second);
        self.pipes[pipe].consume(taken);
        self.network.send_on(socket);
        Ok(taken)
    }
}
