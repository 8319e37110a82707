//! The messages two seaprox send each other. What each means is in docs/protocol.md. Refuses to
//! know which may come when: that is the session's.
//!
//! Invariant: nothing here was checked against anything; every number and name may be the peer's.

mod piece;
mod wire;

pub use piece::Piece;
pub use wire::{DataHeader, data_header, parse};

use core::fmt;
use core::net::SocketAddr;
use seaprox::fail::FailReason;
use seaprox::wanted::{self, Wanted};

/// The greatest packet, in bytes, on any carrier.
pub const PACKET_BYTES: usize = 32_768;

/// The version of the protocol that is spoken here.
pub const VERSION: u8 = 1;

/// The bytes of DATA before its payload, without an offset.
pub const DATA_HEADER_BYTES: usize = 8;

/// The bytes of DATA before its payload, with an offset.
pub const OFFSET_HEADER_BYTES: usize = 12;

/// How many channels either end may have opened at a time, at most; slots are below this.
pub const CHANNELS_MAX: u16 = 32_767;

/// The longest service or host name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

static_assertions::const_assert!(NAME_BYTES_MAX <= wanted::NAME_BYTES_MAX);

/// The longest text of CLOSE, in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// Whether a packet is what an end with keys says first, to one without: the kind and the length of INIT
/// (docs/protocol.md, "With keys"). No HELLO begins so, which is all that may be said instead.
#[must_use]
pub fn is_keyed(packet: &[u8]) -> bool {
    packet.len() == 184 && packet.first() == Some(&0x01)
}

/// These bytes are no message: the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed message")
    }
}

impl core::error::Error for Malformed {}

/// Which channel: who opened it, its slot among that end's channels, and which of all the channels
/// that were ever there. Any number may come from the peer.
///
/// ```
/// use seaprox_proto::message::ChannelId;
///
/// let id = ChannelId::new(true, 3, 7);
/// assert_eq!((id.by_initiator(), id.generation(), id.slot()), (true, 3, 7));
/// assert_eq!(id.stream(), 16);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId(pub u32);

impl ChannelId {
    /// The generation is taken modulo 2^15.
    #[must_use]
    pub const fn new(by_initiator: bool, generation: u16, slot: u16) -> Self {
        let generation = (generation & 0x7fff) as u32;
        ChannelId((by_initiator as u32) << 31 | generation << 16 | slot as u32)
    }

    /// Whether the initiator of the link opened it: the end that connected the carrier.
    #[must_use]
    pub const fn by_initiator(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Which of the channels that were in this slot, modulo 2^15.
    #[must_use]
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16 & 0x7fff
    }

    /// Its place among the channels of the end that opened it.
    #[must_use]
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }

    /// The stream its messages travel on, if the carrier has streams. Different for every slot below
    /// [`CHANNELS_MAX`] and each opener, and never 0; no channel has a slot beyond.
    #[must_use]
    pub const fn stream(self) -> u16 {
        (self.0 as u16).wrapping_mul(2).wrapping_add(1 + self.by_initiator() as u16)
    }
}

/// Where a channel is to lead. Names are any bytes whatever: who uses one checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'m> {
    /// What the far end calls so; empty: its default. At most [`NAME_BYTES_MAX`] bytes.
    Service(&'m [u8]),
    /// An IPv4 address and a port.
    V4([u8; 4], u16),
    /// An IPv6 address and a port.
    V6([u8; 16], u16),
    /// A host name of at most [`NAME_BYTES_MAX`] bytes, and a port.
    Name(&'m [u8], u16),
}

/// Scope and flow label of an IPv6 address are left out: they are this host's affair.
impl<'m> From<Wanted<'m>> for Target<'m> {
    fn from(wanted: Wanted<'m>) -> Self {
        match wanted {
            Wanted::Service(name) => Target::Service(name),
            Wanted::Name(name, port) => Target::Name(name, port),
            Wanted::Inet(SocketAddr::V4(v4)) => Target::V4(v4.ip().octets(), v4.port()),
            Wanted::Inet(SocketAddr::V6(v6)) => Target::V6(v6.ip().octets(), v6.port()),
        }
    }
}

impl<'m> From<Target<'m>> for Wanted<'m> {
    fn from(target: Target<'m>) -> Self {
        match target {
            Target::Service(name) => Wanted::Service(name),
            Target::Name(name, port) => Wanted::Name(name, port),
            Target::V4(ip, port) => Wanted::Inet((ip, port).into()),
            Target::V6(ip, port) => Wanted::Inet((ip, port).into()),
        }
    }
}

/// What an end says of itself before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest version it speaks.
    pub version_min: u8,
    /// The highest version it speaks.
    pub version_max: u8,
    /// None is known yet; unknown ones mean nothing.
    pub flags: u8,
    /// How many channels the receiver of this may have open at a time; 0: none.
    pub channels_max: u16,
    /// How many bytes the receiver of this may send on a channel it opens, before it is answered.
    pub initial_credit: u32,
    /// The most credit, in bytes, a channel will ever have.
    pub credit_max: u32,
    /// After how many seconds of silence it takes the link for dead.
    pub idle_seconds: u16,
}

impl Hello {
    /// The version two ends will speak: the highest that both do.
    #[must_use]
    pub fn version_with(&self, other: &Hello) -> Option<u8> {
        let version = self.version_max.min(other.version_max);
        (version >= self.version_min && version >= other.version_min).then_some(version)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'m> {
    /// Nothing: one byte.
    Pad,
    /// The first message of each end, on stream 0.
    Hello(Hello),
    /// Bytes of a channel; `fin`: they are its last.
    Data {
        /// Whose.
        channel: ChannelId,
        /// Nothing follows.
        fin: bool,
        /// The sender has said STOP too, which may be under way still. Only with `fin` and an offset.
        stopped: bool,
        /// The offset of the first byte, or of what would follow if there is none. Said if and only if
        /// the carrier keeps no order.
        offset: Option<u32>,
        /// At most `u16::MAX` of them; less, so that the message fits a packet.
        bytes: &'m [u8],
    },
    /// The receiver may send on up to this offset.
    Credit {
        /// On which channel.
        channel: ChannelId,
        /// The first offset that may not be sent, a serial number.
        max_offset: u32,
    },
    /// A new channel.
    Open {
        /// Its id, chosen by the sender.
        channel: ChannelId,
        /// How many bytes the receiver may send on it at first.
        credit: u32,
        /// Where it is to lead.
        target: Target<'m>,
        /// Who is at this end of it. A flow label and a scope are this host's affair, and not sent.
        client: Option<SocketAddr>,
    },
    /// The channel's target was reached.
    Opened {
        /// Which.
        channel: ChannelId,
        /// How many bytes, from its first on, the receiver may send on it.
        credit: u32,
    },
    /// Both directions of the channel end now.
    Reset {
        /// Which.
        channel: ChannelId,
        /// Why: see [`fail_reason`].
        reason: u16,
        /// Up to which offset its sender has sent.
        final_offset: u32,
    },
    /// The sender reads no more of this channel.
    Stop {
        /// Which.
        channel: ChannelId,
        /// Why: see [`fail_reason`].
        reason: u16,
    },
    /// The sender, which did not open the channel, has forgotten it: its slot is free.
    Done {
        /// Which.
        channel: ChannelId,
    },
    /// Is answered by a PONG with the same value.
    Ping(u64),
    /// Answers a PING.
    Pong(u64),
    /// The link ends, nothing follows.
    Close {
        /// Why: see [`fail_reason`].
        reason: u16,
        /// In words: UTF-8 of at most [`TEXT_BYTES_MAX`] bytes if the peer is honest.
        text: &'m [u8],
    },
    /// The sender takes no more channels, and has taken none after this one.
    Goaway {
        /// The channel it took last; all bits set if none.
        last: ChannelId,
    },
    /// A message of a kind that is not known and need not be.
    Skipped,
}

/// The reason with this number on the wire; an unknown number is [`FailReason::Other`], 0 is none.
#[must_use]
pub const fn fail_reason(number: u16) -> Option<FailReason> {
    FailReason::from_number(if number > 0xff { 0xff } else { number as u8 })
}

impl<'m> Message<'m> {
    /// CLOSE, its text cut to what fits, between two characters.
    #[must_use]
    pub fn close(reason: FailReason, text: &'m str) -> Self {
        let fits = |&end: &usize| text.is_char_boundary(end);
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(fits).unwrap_or(0);
        Message::Close { reason: reason as u16, text: &text.as_bytes()[..end] }
    }

    /// The channel it is about, on whose stream it travels; `None`: it is about the link.
    #[must_use]
    pub fn channel(&self) -> Option<ChannelId> {
        match *self {
            Message::Data { channel, .. }
            | Message::Credit { channel, .. }
            | Message::Open { channel, .. }
            | Message::Opened { channel, .. }
            | Message::Reset { channel, .. }
            | Message::Stop { channel, .. }
            | Message::Done { channel } => Some(channel),
            Message::Pad
            | Message::Hello(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Close { .. }
            | Message::Goaway { .. }
            | Message::Skipped => None,
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
