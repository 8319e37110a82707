//! One end of a simulated TCP connection, alone: what it holds, what its calls answer and what
//! epoll would say of it. Knows neither its peer nor time; [`super::network`] moves the bytes.

use super::poll::{ERR, HUP, IN, Mask, OUT, PRI, RDHUP};
use crate::sys::{Errno, RawFd, SysResult};
use core::net::SocketAddr;
use std::collections::VecDeque;

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Made, and told nothing.
    Fresh,
    /// SYN_SENT.
    Connecting,
    /// From the handshake until a reset, a failure or the last close, half-closes included.
    Connected,
    /// Reset, failed, or closed by a reset of its own (TCP_CLOSE).
    Over,
}

/// Who would notice that something happened to a socket or listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The engine, by this descriptor.
    Descriptor(RawFd),
    /// The test, which plays the client or the backend.
    FarEnd,
    /// A listener's queue: nobody has accepted it yet.
    Queue,
    /// It was closed; what it still has to send goes out (an orphan).
    Nobody,
}

/// What became of the write direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// It is open.
    Open,
    /// A FIN waits behind the bytes.
    Queued,
    /// The peer has the FIN and has acknowledged it.
    Delivered,
}

/// Invariant: `outgoing.len() <= outgoing_max`, `urgent < incoming.len()` where there is one.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stage: Stage,
    pub(super) owner: Owner,
    pub(super) peer: Option<usize>,
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: Option<SocketAddr>,
    /// Sent, and not yet received by the peer: unsent and in flight are one.
    pub(super) outgoing: VecDeque<u8>,
    pub(super) outgoing_max: usize,
    pub(super) incoming: VecDeque<u8>,
    pub(super) incoming_max: usize,
    pub(super) write_end: WriteEnd,
    /// The peer's FIN is here (SOCK_DONE).
    pub(super) read_end: bool,
    pub(super) error: Option<Errno>,
    /// A send or a poll found no room, so that room will be told (SOCK_NOSPACE).
    pub(super) no_space: bool,
    /// A delivery of `outgoing` is on the agenda.
    pub(super) delivering: bool,
    /// It is among the news of the far ends.
    pub(super) told: bool,
    pub(super) reset_on_close: bool,
    /// What SIOCOUTQ still says after a reset purged the queue: the kernel does not reset it.
    pub(super) stale_outgoing: usize,
    /// Where in `incoming` the urgent byte lies.
    pub(super) urgent: Option<usize>,
    /// Where in `outgoing` it lies before.
    pub(super) outgoing_urgent: Option<usize>,
    /// A fault hit a call on it, or its network: it may end at any time.
    pub(super) spoiled: bool,
}

impl Socket {
    pub(super) fn new(owner: Owner, outgoing_max: usize, incoming_max: usize) -> Socket {
        Socket {
            stage: Stage::Fresh,
            owner,
            peer: None,
            local: None,
            remote: None,
            outgoing: VecDeque::new(),
            outgoing_max,
            incoming: VecDeque::new(),
            incoming_max,
            write_end: WriteEnd::Open,
            read_end: false,
            error: None,
            no_space: false,
            delivering: false,
            told: false,
            reset_on_close: false,
            stale_outgoing: 0,
            urgent: None,
            outgoing_urgent: None,
            spoiled: false,
        }
    }

    /// Reset or failed: the error is kept for one report, the unread bytes stay readable, the
    /// unsent ones are gone.
    pub(super) fn end(&mut self, error: Option<Errno>) {
        self.stale_outgoing = self.unacknowledged();
        self.stage = Stage::Over;
        self.error = error;
        self.outgoing = VecDeque::new();
        self.outgoing_urgent = None;
        if self.owner == Owner::Nobody {
            self.incoming = VecDeque::new();
        }
    }

    /// Both FINs are through: nothing is left of the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.read_end && self.write_end == WriteEnd::Delivered
    }

    /// SIOCOUTQ: the FIN counts as a byte.
    pub(super) fn unacknowledged(&self) -> usize {
        match self.stage {
            Stage::Over => self.stale_outgoing,
            _ => self.outgoing.len() + usize::from(self.write_end == WriteEnd::Queued),
        }
    }

    /// Room is told only when a third of the buffer is free (sk_stream_is_writeable), though a send
    /// takes any room.
    pub(super) fn writable(&self) -> bool {
        self.outgoing.len() * 3 <= self.outgoing_max * 2
    }

    /// tcp_poll. It remembers that somebody asked for room in vain.
    pub(super) fn mask(&mut self) -> Mask {
        let over = self.stage == Stage::Over;
        let write_shut = over || self.write_end != WriteEnd::Open;
        let read_shut = over || self.read_end;
        let mut mask = 0;
        if self.error.is_some() {
            mask |= ERR;
        }
        if (write_shut && read_shut) || self.stage == Stage::Fresh {
            mask |= HUP;
        }
        if read_shut {
            mask |= IN | RDHUP;
        }
        if self.stage == Stage::Connecting {
            return mask;
        }
        if self.incoming.len() > usize::from(self.urgent == Some(0)) {
            mask |= IN;
        }
        if self.urgent.is_some() {
            mask |= PRI;
        }
        if write_shut || self.writable() {
            mask |= OUT;
        } else {
            self.no_space = true;
        }
        mask
    }

    /// How many bytes a read may take before it must stop: at the urgent byte. A splice that stands
    /// there finds nothing, whatever lies behind.
    pub(super) fn readable_bytes(&self) -> usize {
        self.urgent.unwrap_or(self.incoming.len())
    }

    /// A recv that begins at the urgent byte steps over it first.
    pub(super) fn step_over(&mut self) {
        if self.urgent == Some(0) {
            self.urgent = None;
            self.incoming.pop_front();
        }
    }

    /// A peek does so too, and leaves it where it is.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> usize {
        let (skipped, end) = match self.urgent {
            Some(0) => (1, self.incoming.len()),
            mark => (0, mark.unwrap_or(self.incoming.len())),
        };
        let peeked = self.incoming.range(skipped..end).zip(&mut *buffer);
        peeked.map(|(byte, into)| *into = *byte).count()
    }

    /// The first `bytes` unread ones, in the two halves of the ring.
    pub(super) fn unread(&self, bytes: usize) -> (&[u8], &[u8]) {
        front(&self.incoming, bytes)
    }

    /// Takes `bytes` unread bytes off.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.incoming.drain(..bytes);
        self.urgent = self.urgent.map(|at| at - bytes);
    }

    /// What a read says that found no bytes. A FIN goes before an error, which then stays pending;
    /// an error is said once; a reset socket reads as ended afterwards.
    pub(super) fn read_nothing(&mut self) -> SysResult<usize> {
        if self.read_end {
            return Ok(0);
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.stage {
            Stage::Over => Ok(0),
            Stage::Fresh => Err(Errno::NOTCONN),
            Stage::Connecting | Stage::Connected => Err(Errno::AGAIN),
        }
    }

    /// How many of `bytes` a send takes. It takes the pending error too, if there is one; without
    /// room for all it will be told of room.
    pub(super) fn accept_bytes(&mut self, bytes: usize) -> SysResult<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.stage {
            Stage::Connecting => return Err(Errno::AGAIN),
            Stage::Connected if self.write_end == WriteEnd::Open => {}
            _ => return Err(Errno::PIPE),
        }
        let room = self.outgoing_max - self.outgoing.len();
        if room < bytes {
            self.no_space = true;
        }
        if room == 0 && bytes > 0 { Err(Errno::AGAIN) } else { Ok(room.min(bytes)) }
    }
}

/// The first `bytes` of a ring in its two halves.
pub(super) fn front(ring: &VecDeque<u8>, bytes: usize) -> (&[u8], &[u8]) {
    let (first, second) = ring.as_slices();
    let split = first.len().min(bytes);
    (&first[..split], &second[..bytes - split])
}
