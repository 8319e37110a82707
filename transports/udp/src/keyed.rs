//! What links with keys need besides their own: who this end is, and what its handshakes draw and show.
//! Knows no link.
//!
//! Invariant: whatever is not asked for in so many words is refused: a hub with keys hears nobody without,
//! and one without keys nobody with.

use crate::handshake::Limits;
use crate::packet::{INIT_BYTES, Mode};
use crate::socket::Path;
use crate::time::Micros;
use arrayvec::ArrayVec;
use core::fmt;
use core::net::SocketAddr;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::agreed::Terms;
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator};
use seaprox_noise::keys::{Identity, Peer};
use seaprox_noise::message::{PARAMETERS_BYTES, Parameters};
use seaprox_noise::peers::Peers;
use seaprox_noise::random::Random;
use seaprox_noise::responder::{Asked, Responder, Verdict};

/// The number of this carrier in the handshake: no INIT of another is good for this one.
pub const CARRIER: u8 = 1;

/// Links that were asked for new keys and have not had their turn since, at most: who is one too many
/// asks again.
const ASKED_MAX: usize = 4;

/// Whether the links of a hub are sealed with keys; both ends say the same, or they never hear of each
/// other.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a thread, and no heap")]
pub enum Protection<'m> {
    /// They are not: anybody on the way can read, change and end them.
    Insecure,
    /// They are.
    Keyed(Keyed<'m>),
}

impl Protection<'_> {
    pub(crate) const fn mode(&self) -> Mode {
        match self {
            Protection::Insecure => Mode::Insecure,
            Protection::Keyed(_) => Mode::Keyed,
        }
    }
}

/// Who this end is, and what its handshakes draw and show for as long as the program runs.
///
/// ```
/// use seaprox_noise::aead::Algorithm;
/// use seaprox_noise::keys::{Identity, Secret};
/// use seaprox_udp::keyed::{Keyed, Protection};
///
/// let own = Identity::new(Secret::from_random([1; 32]));
/// // The second secret is the hub's, and drawn at random as well.
/// let _protection = Protection::Keyed(Keyed::new(&own, [2; 32], Algorithm::Aes128Gcm));
/// ```
pub struct Keyed<'m> {
    own: &'m Identity,
    random: Random,
    clock: Clock,
    terms: Terms,
    /// The time since 1970 when CLOCK_MONOTONIC was 0: a clock that is set while the program runs moves
    /// nothing.
    epoch_micros: Option<u64>,
    /// Links whose peers want new keys, and where the answers go.
    asked: ArrayVec<(u32, Path, Asked), ASKED_MAX>,
}

impl<'m> Keyed<'m> {
    /// `secret`: drawn at random when the program started, for this hub alone. `preferred`: the algorithm
    /// that is fast here, see [`Algorithm::preferred`].
    #[must_use]
    pub fn new(own: &'m Identity, secret: [u8; 32], preferred: Algorithm) -> Self {
        let terms = Terms { carrier: CARRIER, parameters: parameters(Limits::OWN), preferred };
        Keyed {
            own,
            random: Random::new(secret),
            clock: Clock::new(),
            terms,
            epoch_micros: None,
            asked: ArrayVec::new(),
        }
    }

    pub(crate) const fn terms(&self) -> Terms {
        self.terms
    }

    /// Who is asked for links by this end's keys.
    pub(crate) fn responder(&mut self) -> Responder {
        Responder::new(self.own, self.random.draw(), self.terms)
    }

    /// See [`Responder::hear_init`].
    pub(crate) fn hear_init(
        &mut self,
        responder: &mut Responder,
        peers: &mut dyn AnyPeers,
        datagram: &[u8],
        must_prove: Option<&SocketAddr>,
        now: Micros,
        known: impl FnOnce(),
    ) -> Verdict {
        let random = &mut self.random;
        let mut known = Some(known);
        let mut draw = || {
            if let Some(known) = known.take() {
                known();
            }
            random.draw()
        };
        peers.hear_init(responder, self.own, datagram, must_prove, now, &mut draw)
    }

    /// See [`Initiator::init`]. `wall_micros`: the time since 1970 is only asked for once.
    pub(crate) fn init(
        &mut self,
        initiator: &mut Initiator,
        peer: &Peer,
        now: Micros,
        wall_micros: impl FnOnce() -> u64,
    ) -> Option<[u8; INIT_BYTES]> {
        initiator.due_micros().filter(|&due| due <= now.0)?;
        let epoch = *self.epoch_micros.get_or_insert_with(|| wall_micros().saturating_sub(now.0));
        let ends = Ends { own: self.own, peer };
        let wall = epoch.saturating_add(now.0);
        initiator.init(ends, &mut self.clock, now.0, wall, self.random.draw())
    }

    /// See [`Initiator::hear`].
    pub(crate) fn hear(
        &mut self,
        initiator: &mut Initiator,
        peer: &Peer,
        now: Micros,
        datagram: &[u8],
    ) -> Heard {
        initiator.hear(Ends { own: self.own, peer }, &mut self.clock, now.0, datagram)
    }

    /// The peer of a link wants new keys for it. Whether there was room to say so; who asks again
    /// takes the place of before.
    pub(crate) fn put_asked(&mut self, index: u32, path: Path, asked: Asked) -> bool {
        self.asked.retain(|(other, ..)| *other != index);
        self.asked.try_push((index, path, asked)).is_ok()
    }

    /// Whether this link's peer wants new keys, and where the answer goes.
    pub(crate) fn take_asked(&mut self, index: u32) -> Option<(Path, Asked)> {
        let at = self.asked.iter().position(|(other, ..)| *other == index)?;
        let (_, path, asked) = self.asked.remove(at);
        Some((path, asked))
    }
}

impl fmt::Debug for Keyed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("own", &self.own.public()).finish_non_exhaustive()
    }
}

/// What an end can take, as the handshake tells it: as in a handshake without keys, and zeroes.
pub(crate) const fn parameters(limits: Limits) -> Parameters {
    let mut parameters = [0; PARAMETERS_BYTES];
    [parameters[0], parameters[1], parameters[2], parameters[3]] = limits.bytes();
    parameters
}

/// What the peer can take. The zeroes are not looked at.
pub(crate) const fn limits(&[d0, d1, w0, w1, ..]: &Parameters) -> Limits {
    Limits::of([d0, d1, w0, w1])
}

/// A table of peers, whatever its size.
pub trait AnyPeers {
    /// See [`Responder::hear_init`].
    fn hear_init(
        &mut self,
        responder: &mut Responder,
        own: &Identity,
        datagram: &[u8],
        must_prove: Option<&SocketAddr>,
        now: Micros,
        random: &mut dyn FnMut() -> [u8; 32],
    ) -> Verdict;
}

impl<const N: usize> AnyPeers for Peers<N> {
    fn hear_init(
        &mut self,
        responder: &mut Responder,
        own: &Identity,
        datagram: &[u8],
        must_prove: Option<&SocketAddr>,
        now: Micros,
        random: &mut dyn FnMut() -> [u8; 32],
    ) -> Verdict {
        responder.hear_init(own, self, datagram, must_prove, now.0, random)
    }
}
