//! One end of a connection. Knows what it remembers, and nothing of how bytes move or where it is
//! stored.

use crate::address::{Address, Family};
use crate::sys::RawFd;
use core::fmt;
use core::num::NonZero;

/// Which end of a connection a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideKind {
    /// Who came to us.
    Source,
    /// Whom we went to.
    Dest,
}

/// How far a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideState {
    /// Nobody is there.
    Idle,
    /// The dest is being reached.
    Connecting,
    /// Bytes can flow.
    Connected,
}

/// A side's place in its thread's table: even is a source, odd its dest, half of it the connection.
///
/// ```
/// use seaprox::side::{SideKey, SideKind};
///
/// let source = SideKey::source(7);
/// assert_eq!((source.connection(), source.kind()), (7, SideKind::Source));
/// assert_eq!(source.other(), SideKey::dest(7));
/// assert_eq!(SideKey::from_number(source.number()), source);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SideKey(pub(crate) u32);

impl SideKey {
    /// The source side of a connection.
    pub const fn source(connection: usize) -> SideKey {
        SideKey((connection as u32) << 1)
    }

    /// The dest side of a connection.
    pub const fn dest(connection: usize) -> SideKey {
        SideKey((connection as u32) << 1 | 1)
    }

    /// Which end this is.
    pub const fn kind(self) -> SideKind {
        if self.0 & 1 == 0 { SideKind::Source } else { SideKind::Dest }
    }

    /// The other end of the same connection.
    pub const fn other(self) -> SideKey {
        SideKey(self.0 ^ 1)
    }

    /// The connection's place in its thread's table.
    pub const fn connection(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// The key as a number, to be kept by a transport.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The key with this number.
    pub const fn from_number(number: u32) -> SideKey {
        SideKey(number)
    }

    pub(crate) const fn slot(self) -> usize {
        self.0 as usize
    }
}

/// What a side's bytes rest in: a descriptor, or a channel of a transport that lends its memory.
///
/// ```
/// use seaprox::side::Handle;
///
/// assert_eq!(Handle::descriptor(3).fd(), Some(3));
/// let channel = Handle::channel(3);
/// assert_eq!((channel.fd(), channel.number()), (None, 3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(NonZero<u32>);

/// Above this are channels, which are no descriptors and are never looked up as such.
const DESCRIPTOR_MAX: u32 = 1 << 31;

impl Handle {
    /// A descriptor; it must not be negative.
    pub const fn descriptor(fd: RawFd) -> Handle {
        Handle::of(fd as u32 + 1)
    }

    /// A channel, numbered by its transport; below 2^31 - 1.
    pub const fn channel(number: u32) -> Handle {
        Handle::of(DESCRIPTOR_MAX + 1 + number)
    }

    const fn of(word: u32) -> Handle {
        match NonZero::new(word) {
            Some(word) => Handle(word),
            None => panic!("a descriptor is not negative"),
        }
    }

    /// The descriptor, unless it is a channel.
    pub const fn fd(self) -> Option<RawFd> {
        if self.0.get() <= DESCRIPTOR_MAX { Some((self.0.get() - 1) as RawFd) } else { None }
    }

    /// The channel's number; of no use for a descriptor.
    pub const fn number(self) -> u32 {
        self.0.get().wrapping_sub(DESCRIPTOR_MAX + 1)
    }

    /// As the table keeps it, where 0 is none.
    pub(crate) const fn word(self) -> u32 {
        self.0.get()
    }

    pub(crate) const fn from_word(word: u32) -> Option<Handle> {
        match NonZero::new(word) {
            Some(word) => Some(Handle(word)),
            None => None,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fd() {
            Some(fd) => write!(f, "fd {fd}"),
            None => write!(f, "channel {}", self.number()),
        }
    }
}

/// What a side knows of its descriptor and of its direction; a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    /// The kernel may have bytes: only EAGAIN or a short read says otherwise.
    pub(crate) const READABLE: Flags = Flags(1 << 0);
    /// The kernel may take bytes: only EAGAIN says otherwise.
    pub(crate) const WRITABLE: Flags = Flags(1 << 1);
    /// A hang-up was seen: a short read is no proof that nothing more is to be read.
    pub(crate) const HANGUP: Flags = Flags(1 << 2);
    /// The hang-up was an error, so the end must be read from the kernel itself.
    pub(crate) const ERROR: Flags = Flags(1 << 3);
    /// Urgent data was seen: reads stop short at its mark.
    pub(crate) const URGENT: Flags = Flags(1 << 4);
    /// The end was read from this side.
    pub(crate) const ENDED: Flags = Flags(1 << 5);
    /// The other side's end was passed on to this side: nothing more will be written to it.
    pub(crate) const SHUT: Flags = Flags(1 << 6);
    /// A write to this side failed: it takes nothing more, and how it ended is still to be read.
    pub(crate) const BROKEN: Flags = Flags(1 << 7);
    /// epoll was told to be silent about this side's bytes.
    pub(crate) const MUTED: Flags = Flags(1 << 8);
    /// On the ready list.
    pub(crate) const QUEUED: Flags = Flags(1 << 9);
    /// Its reads are large: bytes go by splice.
    pub(crate) const BULK: Flags = Flags(1 << 10);
    /// splice does not work on this descriptor.
    pub(crate) const UNSPLICEABLE: Flags = Flags(1 << 11);
    /// Small writes are not delayed (TCP_NODELAY), or the socket has no such delay.
    pub(crate) const PROMPT: Flags = Flags(1 << 12);
    /// Something was written to this side.
    pub(crate) const WRITTEN: Flags = Flags(1 << 13);
    /// The options a connection needs only when it lives longer are set.
    pub(crate) const SETTLED: Flags = Flags(1 << 14);
    /// The source's transport has bytes that go before all others of this side.
    pub(crate) const PRECEDED: Flags = Flags(1 << 15);

    /// All that an event of the descriptor says.
    pub(crate) const SAID_BY_EVENTS: Flags = Flags(
        Self::READABLE.0 | Self::WRITABLE.0 | Self::HANGUP.0 | Self::ERROR.0 | Self::URGENT.0,
    );

    pub(crate) const fn has(self, bits: Flags) -> bool {
        self.0 & bits.0 == bits.0
    }

    pub(crate) const fn any(self, bits: Flags) -> bool {
        self.0 & bits.0 != 0
    }

    pub(crate) const fn or(self, bits: Flags) -> Flags {
        Flags(self.0 | bits.0)
    }

    pub(crate) fn set(&mut self, bits: Flags) {
        self.0 |= bits.0;
    }

    pub(crate) fn clear(&mut self, bits: Flags) {
        self.0 &= !bits.0;
    }
}

/// The two ends of a pipe, and which of the two sizes it has. Never 0, so that none at all is all
/// zeroes; the sign of the write end tells a large one, as there is no other room in a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pipe {
    read: NonZero<RawFd>,
    write: NonZero<RawFd>,
}

static_assertions::assert_eq_size!(Option<Pipe>, [RawFd; 2]);

impl Pipe {
    /// `None` for descriptor 0, which is no pipe of ours.
    pub(crate) fn new(read: RawFd, write: RawFd, large: bool) -> Option<Pipe> {
        let write = if large { -write } else { write };
        Some(Pipe { read: NonZero::new(read)?, write: NonZero::new(write)? })
    }

    pub(crate) fn read(self) -> RawFd {
        self.read.get()
    }

    pub(crate) fn write(self) -> RawFd {
        self.write.get().abs()
    }

    pub(crate) fn is_large(self) -> bool {
        self.write.get() < 0
    }
}

/// Where the bytes rest that were read from a side and not yet written to the other.
///
/// Invariant: `bytes > 0` implies `pipe.is_some()`; between two turns the reverse holds as well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) pipe: Option<Pipe>,
    pub(crate) bytes: u32,
}

/// How far the connecting of a dest is: the dest transport's own notes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialing {
    /// The generation of the ticket that was given out, 0 if none was.
    pub(crate) generation: u32,
    /// Whatever the transport must remember between two steps.
    pub notes: [u8; 8],
}

/// What a side is doing. The representation is named so that idle is all zeroes: left to itself the
/// compiler hides the variant in a niche, and the table lands in the program's file.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Nothing; on a source side the next vacant connection + 1.
    Idle { next_vacant: u32 },
    /// On a dest side: the source has not said yet what it wants.
    Asking,
    /// On a dest side: it was not reached, and the source is being told so.
    Parting,
    /// Its transport is reaching it.
    Connecting(Dialing),
    /// Bytes flow.
    Connected(Flow),
    /// The other side was reset: as soon as this one has acknowledged everything, it is reset too.
    Flushing { waited_millis: u16, next_millis: u16 },
}

/// One end of a connection. All zeroes: idle.
#[derive(Clone, Copy)]
pub struct Side {
    /// The embedder's own word.
    pub data: u64,
    pub(crate) bytes: u64,
    pub(crate) peer: Address,
    pub(crate) stage: Stage,
    pub(crate) next_ready: u32,
    pub(crate) flags: Flags,
    /// Reads in a row that speak for changing between copying and splicing.
    pub(crate) streak: u8,
    /// Why the far end reset this side, where its transport can tell; 0 if not.
    pub(crate) reason: u8,
}

static_assertions::const_assert!(size_of::<Side>() <= 64);

impl Side {
    pub(crate) const IDLE: Side = Side {
        data: 0,
        bytes: 0,
        peer: Address::UNKNOWN,
        stage: Stage::Idle { next_vacant: 0 },
        next_ready: 0,
        flags: Flags(0),
        streak: 0,
        reason: 0,
    };

    /// How far this side is.
    pub fn state(&self) -> SideState {
        match self.stage {
            Stage::Idle { .. } | Stage::Parting => SideState::Idle,
            Stage::Asking | Stage::Connecting(_) => SideState::Connecting,
            Stage::Connected(_) | Stage::Flushing { .. } => SideState::Connected,
        }
    }

    /// Bytes read from this side so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The address at the far end, as it was at accept or connect.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// A unix socket hangs up as soon as its peer has closed, in order or not.
    pub(crate) fn is_unix(&self) -> bool {
        self.peer.family() == Family::Unix
    }

    /// Whether there is, or may be, something to move from this side.
    #[inline]
    pub(crate) fn wants_pumping(&self) -> bool {
        match &self.stage {
            Stage::Connected(flow) => {
                let something = Flags::READABLE.or(Flags::ENDED).or(Flags::PRECEDED);
                self.flags.any(something) || flow.bytes > 0
            }
            _ => false,
        }
    }

    /// Idle again, but for its place on the ready list, which only the list itself gives up.
    pub(crate) fn vacate(&mut self) {
        let (next_ready, queued) = (self.next_ready, self.flags.has(Flags::QUEUED));
        *self = Side { next_ready, ..Side::IDLE };
        if queued {
            self.flags.set(Flags::QUEUED);
        }
    }

    /// Connected from now on.
    pub(crate) fn connect(&mut self, flags: Flags) {
        self.flags.set(flags);
        self.stage = Stage::Connected(Flow::default());
    }
}

/// A connection in words, like `static[ipv4[1.2.3.4:3234]->ipv6[[::1]:80]]`; put together when
/// shown, from the addresses kept since accept and connect.
///
/// ```
/// use seaprox::address::Address;
/// use seaprox::side::Description;
///
/// let (source, dest) = (Address::UNIX, Address::UNKNOWN);
/// let description = Description { proxy: "static", source, dest };
/// assert_eq!(description.to_string(), "static[unix->unknown]");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The kind of proxy.
    pub proxy: &'static str,
    /// Who came.
    pub source: Address,
    /// Where it went.
    pub dest: Address,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}->{}]", self.proxy, self.source, self.dest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use std::string::ToString;

    #[test]
    fn the_other_side_is_one_bit_away() {
        let source = SideKey::source(7);
        assert_eq!((source.kind(), source.connection()), (SideKind::Source, 7));
        assert_eq!(source.other(), SideKey::dest(7));
        assert_eq!(source.other().kind(), SideKind::Dest);
        assert_eq!(source.other().other(), source);
    }

    #[test]
    fn a_handle_is_a_descriptor_or_a_channel() {
        for fd in [0, 3, RawFd::MAX] {
            assert_eq!(Handle::descriptor(fd).fd(), Some(fd));
        }
        for number in [0, 7, (u32::MAX >> 1) - 1] {
            let channel = Handle::channel(number);
            assert_eq!((channel.fd(), channel.number()), (None, number));
            assert_eq!(Handle::from_word(channel.word()), Some(channel));
        }
        assert_eq!(Handle::from_word(0), None);
    }

    #[test]
    fn described_as_the_user_wrote_it() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap().into();
        let description = Description {
            proxy: "static",
            source: address("1.2.3.4:3234"),
            dest: address("[::1]:80"),
        };
        assert_eq!(description.to_string(), "static[ipv4[1.2.3.4:3234]->ipv6[[::1]:80]]");
    }

    #[test]
    fn a_vacated_side_keeps_its_place_on_the_ready_list() {
        let mut side = Side { next_ready: 9, bytes: 3, ..Side::IDLE };
        side.flags.set(Flags::QUEUED.or(Flags::ENDED));
        side.vacate();
        assert!(side.flags == Flags::QUEUED && side.next_ready == 9 && side.bytes == 0);
    }
}
