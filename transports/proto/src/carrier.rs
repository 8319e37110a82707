//! The seam to whatever moves packets between two seaprox: a socket, or a simulated one. Knows no
//! message. Every call is non-blocking.
//!
//! Invariant: a packet arrives as it was sent, in the [`Order`] that was said, or the carrier says
//! that it is gone.

use crate::message::{CHANNELS_MAX, PACKET_BYTES};
use core::ops::Range;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, RawFd, Ready};
use seaprox::time::Instant;

/// In which order packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were sent, once each: there is one stream, 0 (SOCK_SEQPACKET).
    One,
    /// As they were sent within a stream, once each; a packet is of one stream (SCTP).
    Streams,
    /// In any, and perhaps more than once; none is lost. The messages of a packet may arrive in other
    /// packets than they were sent in, and bytes of a channel in other pieces. There is one stream,
    /// 0 (UDP).
    Any,
}

/// What a carrier can do, once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In which order packets arrive.
    pub order: Order,
    /// How many channels each end may open: there may be fewer streams than were asked for.
    pub channels_max: u16,
    /// The longest packet that is to be sent, in bytes: at most [`PACKET_BYTES`], and at least
    /// [`WINDOW_BYTES_MIN`].
    pub sent_bytes_max: usize,
}

impl Bounds {
    /// Of one stream for everything.
    pub const ORDERED: Bounds =
        Bounds { order: Order::One, channels_max: CHANNELS_MAX, sent_bytes_max: PACKET_BYTES };
}

/// With a smaller window nothing is sent: enough for any control message.
pub const WINDOW_BYTES_MIN: usize = 512;

/// How far both ends of a carrier know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Whoever is there has not said who it is.
    Stranger,
    /// It has, and was answered; but it may be somebody who repeats what another has said. A link is set
    /// aside for it.
    Answered,
    /// A link can begin.
    Done,
}

/// Which of those that this end knows somebody is.
pub type PeerNumber = u16;

/// Moves packets. What has a default is for carriers that are more than a socket: that repeat what
/// was lost and hold back what the network cannot take yet.
pub trait Carrier {
    /// What it can do; asked once, when it is connected.
    fn bounds(&self) -> Bounds;

    /// The descriptor, to be registered as [`Carrier::interest`] says. `None`: it has none of its own,
    /// many share their listener's ([`crate::source::Accept::is_shared`]).
    fn fd(&self) -> Option<RawFd>;

    /// Who has shown to be at its far end; asked once, when it is connected. `None`: nobody has to.
    fn peer(&self) -> Option<PeerNumber> {
        None
    }

    /// What the descriptor is to be registered for, edge-triggered. If not for writing,
    /// [`Carrier::timeout`] and [`Carrier::poll`] say when there is room.
    fn interest(&self) -> Interest {
        Interest::Connection
    }

    /// Goes on with what has to be said before a link can begin, with all that has come for it. Asked of a
    /// carrier that was accepted: at once, then whenever its descriptor is ready, until it is done. `refused`:
    /// there is no link for whoever says who it is now, which it is told.
    ///
    /// # Errors
    /// There will be no link, and why.
    fn greet(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        let _ = refused;
        Ok(Greeting::Done)
    }

    /// Sends a whole packet on a stream, or nothing.
    ///
    /// # Errors
    /// EAGAIN: there is no room now; the descriptor will become writable, or [`Carrier::poll`] will say
    /// so. Any other: the carrier is of no more use.
    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno>;

    /// Receives the next piece of a packet into `room`, which has room for the rest of a packet of
    /// the greatest size: see [`Demarcator::room`](crate::demarcator::Demarcator::room).
    ///
    /// # Errors
    /// EAGAIN: there is nothing now; the descriptor will become readable, or [`Carrier::poll`] will say
    /// so. EINTR: there may be something, but it is others' turn. Any other: the carrier is of no more
    /// use.
    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno>;

    /// A packet of this stream has been received whole: opens it, in place, and says where the messages in
    /// it are; nowhere, if it was for the carrier alone. Said once for each packet, in the order in which
    /// they were received.
    ///
    /// # Errors
    /// It is not the peer's, or not as it was sent: the carrier is of no more use, and why.
    fn open(&mut self, stream: u16, packet: &mut [u8]) -> Result<Range<usize>, FailReason> {
        let _ = stream;
        Ok(0..packet.len())
    }

    /// How many bytes may be sent now. Asked when a packet is begun, which is then kept within it;
    /// less than [`WINDOW_BYTES_MIN`] is as EAGAIN from [`Carrier::send`].
    fn window(&mut self) -> usize {
        usize::MAX
    }

    /// The packet that was received last has been read. `kept`: it need not come again; else it is to be
    /// as if it had been lost. Said once for each packet with messages, before the next is received.
    fn handled(&mut self, kept: bool) {
        let _ = kept;
    }

    /// Does what time and arrivals ask for; says whether there is room to send or something to
    /// receive now. Called at least once in each turn in which the link has a turn, and again after
    /// packets were received.
    ///
    /// # Errors
    /// The carrier is of no more use, and why.
    fn poll(&mut self) -> Result<Ready, FailReason> {
        Ok(Ready::default())
    }

    /// When it wants to be polled, though nothing may have arrived. While it is being connected:
    /// when [`crate::dest::Connect::finish`] is to be called.
    fn timeout(&self) -> Option<Instant> {
        None
    }

    /// The turn is over: what it owes by itself (acknowledgements) goes out now. Also said before a
    /// carrier that is of no more use is dropped.
    fn flush(&mut self) {}

    /// Whether all that was sent has arrived, as far as can be known.
    fn is_flushed(&self) -> bool {
        true
    }
}

/// What a carrier received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes of a packet.
    Piece {
        /// The stream the packet is of.
        stream: u16,
        /// How many bytes were put at the start of the room.
        bytes: usize,
        /// They complete the packet. Said with its last bytes, never after them: a room that is full
        /// without an end means that the packet is larger.
        end: bool,
    },
    /// The association is up.
    Up,
    /// The peer has restarted, and every channel of before is dead.
    Restarted,
    /// The association is lost, shut down or aborted.
    Gone,
    /// Something that needs no answer; receive again.
    Nothing,
}

/// One of two kinds of carrier, and so one of many.
#[allow(clippy::large_enum_variant)] // it stays where it is, in a link
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first kind.
    First(A),
    /// The second.
    Second(B),
}

/// Asks the carrier that there is.
macro_rules! each {
    ($self:expr, $carrier:ident => $call:expr) => {
        match $self {
            Either::First($carrier) => $call,
            Either::Second($carrier) => $call,
        }
    };
}

impl<A: Carrier, B: Carrier> Carrier for Either<A, B> {
    fn bounds(&self) -> Bounds {
        each!(self, carrier => carrier.bounds())
    }

    fn fd(&self) -> Option<RawFd> {
        each!(self, carrier => carrier.fd())
    }

    fn peer(&self) -> Option<PeerNumber> {
        each!(self, carrier => carrier.peer())
    }

    fn interest(&self) -> Interest {
        each!(self, carrier => carrier.interest())
    }

    fn greet(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        each!(self, carrier => carrier.greet(refused))
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        each!(self, carrier => carrier.send(stream, packet))
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        each!(self, carrier => carrier.receive(room))
    }

    fn open(&mut self, stream: u16, packet: &mut [u8]) -> Result<Range<usize>, FailReason> {
        each!(self, carrier => carrier.open(stream, packet))
    }

    fn window(&mut self) -> usize {
        each!(self, carrier => carrier.window())
    }

    fn handled(&mut self, kept: bool) {
        each!(self, carrier => carrier.handled(kept));
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        each!(self, carrier => carrier.poll())
    }

    fn timeout(&self) -> Option<Instant> {
        each!(self, carrier => carrier.timeout())
    }

    fn flush(&mut self) {
        each!(self, carrier => carrier.flush());
    }

    fn is_flushed(&self) -> bool {
        each!(self, carrier => carrier.is_flushed())
    }
}
