//! The other end of a connection, which the test plays: a client, or a backend.

use super::SimKernel;
use super::kernel::Kernel;
use super::socket::Stage;
use crate::sys::{Errno, SysResult};
use std::vec::Vec;

/// A client's or a backend's end of a connection. Plain data; the calls take the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FarEnd(pub(super) usize);

impl FarEnd {
    fn on<T>(self, sim: &SimKernel<'_>, act: impl FnOnce(&mut Kernel, usize) -> T) -> T {
        let kernel = &mut *sim.kernel.borrow_mut();
        let result = act(kernel, self.0);
        kernel.settle();
        result
    }

    /// Whether the handshake is still under way.
    pub fn connecting(self, sim: &SimKernel<'_>) -> bool {
        self.on(sim, |kernel, socket| kernel.network.sockets[socket].stage == Stage::Connecting)
    }

    /// send(2).
    pub fn send(self, sim: &SimKernel<'_>, bytes: &[u8]) -> SysResult<usize> {
        self.on(sim, |kernel, socket| kernel.send(socket, bytes))
    }

    /// send(2) of one byte with MSG_OOB. One at a time: a second would push the first back into
    /// the stream.
    pub fn send_urgent(self, sim: &SimKernel<'_>, byte: u8) -> SysResult<usize> {
        self.on(sim, |kernel, socket| {
            let sent = kernel.send(socket, &[byte])?;
            let this = &mut kernel.network.sockets[socket];
            assert_eq!(this.outgoing_urgent, None, "an urgent byte is on its way already");
            this.outgoing_urgent = Some(this.outgoing.len() - 1);
            Ok(sent)
        })
    }

    /// recv(2) of at most `bytes_max`, appended to `into`.
    pub fn recv(
        self,
        sim: &SimKernel<'_>,
        into: &mut Vec<u8>,
        bytes_max: usize,
    ) -> SysResult<usize> {
        self.on(sim, |kernel, socket| {
            kernel.recv(socket, bytes_max, |first, second| {
                into.extend_from_slice(first);
                into.extend_from_slice(second);
            })
        })
    }

    /// Everything that can be read now, and how reading ended: EAGAIN, an end (0), or an error.
    pub fn recv_all(self, sim: &SimKernel<'_>, into: &mut Vec<u8>) -> SysResult<()> {
        while self.recv(sim, into, 1 << 20)? > 0 {}
        Ok(())
    }

    /// shutdown(2), SHUT_WR.
    pub fn shutdown(self, sim: &SimKernel<'_>) -> SysResult<()> {
        self.on(sim, |kernel, socket| kernel.network.shutdown_write(socket))
    }

    /// SIOCOUTQ: what the peer's kernel does not have yet.
    pub fn unacknowledged(self, sim: &SimKernel<'_>) -> usize {
        self.on(sim, |kernel, socket| kernel.network.sockets[socket].unacknowledged())
    }

    /// close(2): a FIN, or an RST if bytes lie unread. Gives whether it was an RST.
    pub fn close(self, sim: &SimKernel<'_>) -> bool {
        self.on(sim, |kernel, socket| kernel.network.close(socket))
    }

    /// close(2) with SO_LINGER {1, 0}: an RST.
    pub fn reset(self, sim: &SimKernel<'_>) {
        self.on(sim, |kernel, socket| {
            kernel.network.sockets[socket].reset_on_close = true;
            kernel.network.close(socket);
        });
    }

    /// The network to this end breaks: both ends get `errno` instead of a FIN or an RST.
    pub fn break_off(self, sim: &SimKernel<'_>, errno: Errno) {
        self.on(sim, |kernel, socket| kernel.network.break_off(socket, errno));
    }

    /// Whether a fault hit a call on the engine's end of it, or the network between: it may end at
    /// any time, by no fault of the engine.
    pub fn spoiled(self, sim: &SimKernel<'_>) -> bool {
        self.on(sim, |kernel, socket| {
            let sockets = &kernel.network.sockets;
            let this = &sockets[socket];
            this.spoiled || this.peer.is_some_and(|peer| sockets[peer].spoiled)
        })
    }
}
