//! The seam to whatever moves packets between two seaprox: a socket, or a simulated one. Knows no
//! message. Every call is non-blocking.
//!
//! Invariant: a packet is sent and received whole, once and unchanged, and packets of one stream
//! arrive in the order they were sent in; or the carrier says that it is gone.

use crate::message::{CHANNELS_MAX, PACKET_BYTES};
use seaprox::sys::{Errno, RawFd};

/// What a carrier can do, once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Whether packets travel on streams that are not ordered among each other (SCTP); then a
    /// packet is of one stream. Without streams there is only stream 0.
    pub streams: bool,
    /// How many channels each end may open: there may be fewer streams than were asked for.
    pub channels_max: u16,
    /// The longest packet that is to be sent, in bytes: at most [`PACKET_BYTES`], and enough for any
    /// control message.
    pub sent_bytes_max: usize,
}

impl Bounds {
    /// Of one stream for everything.
    pub const ORDERED: Bounds =
        Bounds { streams: false, channels_max: CHANNELS_MAX, sent_bytes_max: PACKET_BYTES };
}

/// Moves packets.
pub trait Carrier {
    /// What it can do; asked once, when it is connected.
    fn bounds(&self) -> Bounds;

    /// The descriptor, to be registered edge-triggered for reading and writing.
    fn fd(&self) -> RawFd;

    /// Sends a whole packet on a stream, or nothing.
    ///
    /// # Errors
    /// EAGAIN: there is no room now; the descriptor will become writable. Any other: the carrier is
    /// of no more use.
    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno>;

    /// Receives the next piece of a packet into `room`, which has room for the rest of a packet of
    /// the greatest size: see [`Demarcator::room`](crate::demarcator::Demarcator::room).
    ///
    /// # Errors
    /// EAGAIN: there is nothing now; the descriptor will become readable. Any other: the carrier is
    /// of no more use.
    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno>;
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
