//! What the sealed carriers of one thread share: who this end is, whom it asks or answers, and the memory
//! of links that are not there. Knows no packet.
//!
//! Invariants: of a stranger nothing is kept; of a peer only what its clock showed. A seat that is vacant
//! has no keys.

use arrayvec::ArrayVec;
use core::cell::RefCell;
use seaprox::fail::FailReason;
use seaprox::sys::Errno;
use seaprox::time::Instant;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::agreed::Terms;
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator};
use seaprox_noise::keys::{Identity, Peer};
use seaprox_noise::message::{INIT_BYTES, PARAMETERS_BYTES};
use seaprox_noise::peers::Peers;
use seaprox_noise::responder::{Responder, Verdict};
use seaprox_noise::streams::{Position, Streams};
use seaprox_proto::link::LINKS_MAX;
use seaprox_proto::message::PACKET_BYTES;

/// What is asked of the world outside.
pub trait Outside {
    /// Now, on the clock of whoever polls the link.
    fn now(&self) -> Instant;

    /// Microseconds since 1970, as far as is known.
    fn wall_micros(&self) -> u64;

    /// 32 bytes that nobody knows, drawn for this call.
    ///
    /// # Errors
    /// There are none: no handshake is begun or answered.
    fn random(&self) -> Result<[u8; 32], Errno>;
}

/// Which carrier is sealed, the same at both ends: no handshake of one is good for another. A number for
/// ever; 1 is UDP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Kernel SCTP.
    Sctp = 2,
    /// Unix sockets of the kind SOCK_SEQPACKET.
    Seqpacket = 3,
}

/// What one sealed link uses, for at most so many streams: one for the link itself, and two for each
/// channel that either end may open; one where there is but one.
pub struct Memory<const STREAMS: usize> {
    keys: Streams,
    positions: [Position; STREAMS],
    packet: [u8; PACKET_BYTES],
}

impl<const STREAMS: usize> Memory<STREAMS> {
    /// Bytes of it.
    pub const MEMORY_BYTES: usize = {
        assert!(STREAMS >= 1, "the link itself has a stream");
        assert!(STREAMS <= 65_535, "a stream's number has 16 bits");
        size_of::<Self>()
    };

    /// Of no link.
    #[allow(clippy::new_without_default)] // a default is made on the stack; this is too large for some
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(Self::MEMORY_BYTES > 0) };
        Memory {
            keys: Streams::new(),
            positions: [Position::NEW; STREAMS],
            packet: [0; PACKET_BYTES],
        }
    }

    /// To be given to a [`Keeper`].
    pub fn seat(&mut self) -> Seat<'_> {
        let Memory { keys, positions, packet } = self;
        Seat { keys, positions, packet }
    }
}

/// The memory of one sealed link. What it is lies where it is: keys are never moved, so that no copy is
/// left behind.
pub struct Seat<'m> {
    pub(crate) keys: &'m mut Streams,
    /// Of each stream, as far as there are any.
    pub(crate) positions: &'m mut [Position],
    /// The packet that is sealed, or was and has not gone out.
    pub(crate) packet: &'m mut [u8; PACKET_BYTES],
}

impl<'m> Seat<'m> {
    /// Of parts that lie where their owner has them, as memory of zeroes cannot be a [`Memory`]: whatever is in
    /// them is overwritten when there is a link. As many streams as `positions`, see [`Memory`].
    pub fn of(
        keys: &'m mut Streams,
        positions: &'m mut [Position],
        packet: &'m mut [u8; PACKET_BYTES],
    ) -> Self {
        Seat { keys, positions, packet }
    }
}

/// What this end does.
enum Role<'m, const PEERS: usize> {
    Asks { peer: &'m Peer, clock: Clock },
    Answers { responder: Responder, peers: Peers<PEERS> },
}

/// All of it, one for each thread. `PEERS`: so many may ask for links, at most.
///
/// ```
/// use seaprox_noise::aead::Algorithm;
/// use seaprox_noise::keys::{Identity, KeyError, Peer, Psk, Secret};
/// use seaprox_sealed::{Keeper, Kind, Memory, System};
///
/// let own = Identity::new(Secret::from_random([1; 32]));
/// let peer = Peer::new(&own, Secret::from_random([2; 32]).public(), Psk::NONE)?;
/// let mut memory = Memory::<1>::new();
/// let keeper: Keeper<System, 1> =
///     Keeper::asking(&own, &peer, Kind::Seqpacket, Algorithm::Aes128Gcm, System);
/// keeper.give(memory.seat());
/// # Ok::<(), KeyError>(())
/// ```
pub struct Keeper<'m, O, const PEERS: usize> {
    own: &'m Identity,
    terms: Terms,
    role: RefCell<Role<'m, PEERS>>,
    is_initiator: bool,
    vacant: RefCell<ArrayVec<Seat<'m>, { LINKS_MAX as usize }>>,
    outside: O,
}

impl<'m, O: Outside, const PEERS: usize> Keeper<'m, O, PEERS> {
    /// Of links that ask this peer. `preferred`: which cipher is fast on this machine,
    /// [`Algorithm::preferred`].
    #[must_use]
    pub fn asking(
        own: &'m Identity,
        peer: &'m Peer,
        kind: Kind,
        preferred: Algorithm,
        outside: O,
    ) -> Self {
        let role = Role::Asks { peer, clock: Clock::new() };
        Keeper::new(own, terms(kind, preferred), role, outside)
    }

    /// Of links that these peers ask for. What their clocks showed is known to this thread alone.
    ///
    /// # Errors
    /// Those of [`Outside::random`].
    pub fn answering(
        own: &'m Identity,
        peers: Peers<PEERS>,
        kind: Kind,
        preferred: Algorithm,
        outside: O,
    ) -> Result<Self, Errno> {
        let terms = terms(kind, preferred);
        // Nobody is asked for a cookie where connections show where one is.
        let responder = Responder::new(own, outside.random()?, terms);
        Ok(Keeper::new(own, terms, Role::Answers { responder, peers }, outside))
    }

    fn new(own: &'m Identity, terms: Terms, role: Role<'m, PEERS>, outside: O) -> Self {
        let is_initiator = matches!(role, Role::Asks { .. });
        let (role, vacant) = (RefCell::new(role), RefCell::new(ArrayVec::new()));
        Keeper { own, terms, role, is_initiator, vacant, outside }
    }

    /// Memory for one more link; more than [`LINKS_MAX`] are of no use.
    pub fn give(&self, seat: Seat<'m>) {
        *seat.keys = Streams::new();
        let _ = self.vacant.borrow_mut().try_push(seat);
    }

    pub(crate) fn take(&self) -> Option<Seat<'m>> {
        self.vacant.borrow_mut().pop()
    }

    pub(crate) const fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    pub(crate) const fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) fn now(&self) -> Instant {
        self.outside.now()
    }

    /// An index that is as good as any.
    pub(crate) fn index(&self) -> Result<u32, FailReason> {
        let [i0, i1, i2, i3, ..] = self.random()?;
        Ok(u32::from_le_bytes([i0, i1, i2, i3]))
    }

    fn random(&self) -> Result<[u8; 32], FailReason> {
        self.outside.random().map_err(|_| FailReason::Other)
    }

    /// The INIT that is due.
    ///
    /// # Errors
    /// There is no chance to be had, or none is due.
    pub(crate) fn init(
        &self,
        asking: &mut Initiator,
        now_micros: u64,
    ) -> Result<[u8; INIT_BYTES], FailReason> {
        let Role::Asks { peer, clock } = &mut *self.role.borrow_mut() else {
            return Err(FailReason::Other);
        };
        let ends = Ends { own: self.own, peer };
        let (wall_micros, random) = (self.outside.wall_micros(), self.random()?);
        asking.init(ends, clock, now_micros, wall_micros, random).ok_or(FailReason::Other)
    }

    /// What an answer says.
    pub(crate) fn hear(&self, asking: &mut Initiator, now_micros: u64, packet: &[u8]) -> Heard {
        match &mut *self.role.borrow_mut() {
            Role::Asks { peer, clock } => {
                asking.hear(Ends { own: self.own, peer }, clock, now_micros, packet)
            }
            Role::Answers { .. } => Heard::Ignored,
        }
    }

    /// What is to be done about what may be an INIT.
    ///
    /// # Errors
    /// There is no chance to be had.
    pub(crate) fn hear_init(&self, packet: &[u8], now_micros: u64) -> Result<Verdict, FailReason> {
        let random = self.random()?;
        match &mut *self.role.borrow_mut() {
            Role::Answers { responder, peers } => {
                Ok(responder.hear_init(self.own, peers, packet, None, now_micros, || random))
            }
            Role::Asks { .. } => Ok(Verdict::Ignore),
        }
    }
}

/// There is nothing that these carriers have to tell each other.
const fn terms(kind: Kind, preferred: Algorithm) -> Terms {
    Terms { carrier: kind as u8, parameters: [0; PARAMETERS_BYTES], preferred }
}
