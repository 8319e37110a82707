//! Who asks for a link, with keys or without. Knows neither when to give up nor the socket.
//!
//! Invariant: with keys nothing but the peer's word ends an attempt, other than that the versions differ,
//! which somebody on the way can make up, who could as well let nothing through.

use crate::handshake::{self, Limits};
use crate::hub::{Shared, Wire};
use crate::keyed::{Protection, limits};
use crate::packet::INIT_BYTES;
use crate::seal::{Checksum, Sealing};
use crate::time::Micros;
use seaprox::fail::FailReason;
use seaprox_noise::initiator::{self, Purpose};
use seaprox_noise::keys::Peer;

/// A link that there is from now on.
pub(crate) struct Begun {
    /// By which the peer knows it.
    pub(crate) peer_index: u32,
    /// What the peer can take.
    pub(crate) peer: Limits,
    /// How long the handshake took, if that was a round trip.
    pub(crate) rtt_micros: Option<u64>,
    pub(crate) sealing: Sealing,
}

impl From<handshake::Agreed> for Begun {
    fn from(agreed: handshake::Agreed) -> Begun {
        Begun {
            peer_index: agreed.peer_index,
            peer: agreed.peer,
            rtt_micros: agreed.rtt_micros,
            sealing: Sealing::Checksum(Checksum::new(agreed.session)),
        }
    }
}

/// What a datagram was to the one who asks.
#[expect(clippy::large_enum_variant, reason = "there is no heap for keys")]
pub(crate) enum Heard {
    /// Nothing that ends the attempt.
    Nothing,
    /// There is a link.
    Begun(Begun),
    /// There will be none.
    Refused(FailReason),
}

/// One attempt.
#[expect(clippy::large_enum_variant, reason = "there is no heap for the larger")]
pub(crate) enum Asking<'m> {
    Insecure(handshake::Initiator),
    Keyed(initiator::Initiator, &'m Peer),
}

impl<'m> Asking<'m> {
    /// For the link that has this index here, with the peer of whom the keys are known. `None`: there are
    /// keys at one of the two only.
    pub(crate) fn new<W: Wire>(
        shared: &mut Shared<'m, W>,
        index: u32,
        peer: Option<&'m Peer>,
    ) -> Option<Self> {
        let (now, nonce) = (shared.now(), shared.random());
        match (&shared.protection, peer) {
            (Protection::Insecure, None) => {
                let initiator = handshake::Initiator::new(index, nonce, Limits::OWN, now);
                Some(Asking::Insecure(initiator))
            }
            (Protection::Keyed(keyed), Some(peer)) => {
                let terms = keyed.terms();
                let initiator = initiator::Initiator::new(index, Purpose::Link, terms, now.0);
                Some(Asking::Keyed(initiator, peer))
            }
            (Protection::Insecure, Some(_)) | (Protection::Keyed(_), None) => None,
        }
    }

    /// Who is asked, if its keys are known.
    pub(crate) const fn peer(&self) -> Option<&'m Peer> {
        match self {
            Asking::Insecure(_) => None,
            Asking::Keyed(_, peer) => Some(peer),
        }
    }

    /// When an INIT is to be sent; `None`: no more.
    pub(crate) fn due_at(&self) -> Option<Micros> {
        match self {
            Asking::Insecure(initiator) => initiator.due_at(),
            Asking::Keyed(initiator, _) => initiator.due_micros().map(Micros),
        }
    }

    /// The INIT to be sent now, if one is due. It counts as sent.
    pub(crate) fn init<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        now: Micros,
    ) -> Option<[u8; INIT_BYTES]> {
        match self {
            Asking::Insecure(initiator) => initiator.init(now),
            Asking::Keyed(initiator, peer) => shared.init(initiator, peer, now),
        }
    }

    /// A datagram came from where the INITs go.
    pub(crate) fn hear(
        &mut self,
        protection: &mut Protection<'m>,
        now: Micros,
        datagram: &[u8],
    ) -> Heard {
        match (self, protection) {
            (Asking::Insecure(initiator), _) => match initiator.hear(now, datagram) {
                handshake::Heard::Accepted(agreed) => Heard::Begun(agreed.into()),
                handshake::Heard::Refused(reason) => Heard::Refused(reason),
                handshake::Heard::Ignored | handshake::Heard::Proof => Heard::Nothing,
            },
            (Asking::Keyed(initiator, peer), Protection::Keyed(keyed)) => {
                match keyed.hear(initiator, peer, now, datagram) {
                    initiator::Heard::Agreed(agreed) => agreed_or_refused(agreed),
                    initiator::Heard::Refused(reason) => Heard::Refused(reason),
                    initiator::Heard::Ignored
                    | initiator::Heard::Again
                    | initiator::Heard::Unproven => Heard::Nothing,
                }
            }
            (Asking::Keyed(..), Protection::Insecure) => Heard::Nothing,
        }
    }
}

fn agreed_or_refused(agreed: seaprox_noise::agreed::Agreed) -> Heard {
    let peer = limits(&agreed.parameters);
    if !peer.is_sane() {
        return Heard::Refused(FailReason::Protocol);
    }
    Heard::Begun(Begun {
        peer_index: agreed.peer_index,
        peer,
        rtt_micros: agreed.rtt_micros,
        sealing: Sealing::Asked(agreed.keys),
    })
}
