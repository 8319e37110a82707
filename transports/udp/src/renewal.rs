//! New keys for a link that goes on, as the end that asked for the link asks for them. Knows no socket.
//!
//! Invariants: there is one attempt at a time, and none before the keys want it. Nothing that comes but
//! the peer's word that the link is gone ends it: what else there is to say is said again.

use crate::hub::{Shared, Wire};
use crate::keyed::Protection;
use crate::packet::INIT_BYTES;
use crate::reliable::Reliable;
use crate::time::Micros;
use seaprox::fail::FailReason;
use seaprox_noise::initiator::{Heard, Initiator, Purpose};
use seaprox_noise::keys::Peer;

/// After an attempt that was refused the next one waits so long, in microseconds.
const PAUSE_MICROS: u64 = 1_000_000;

/// Of one link.
pub(crate) struct Renewal<'m> {
    peer: &'m Peer,
    attempt: Option<Initiator>,
    /// No attempt begins before.
    pause_until: Micros,
}

impl<'m> Renewal<'m> {
    /// With the peer of the link; nothing is due as yet.
    pub(crate) const fn new(peer: &'m Peer) -> Self {
        Renewal { peer, attempt: None, pause_until: Micros(0) }
    }

    /// When there is something to do.
    pub(crate) fn due_at(&self, reliable: &Reliable<'_>) -> Option<Micros> {
        match &self.attempt {
            Some(attempt) => attempt.due_micros().map(Micros),
            None => reliable.keys()?.renew_micros().map(|at| Micros(at).max(self.pause_until)),
        }
    }

    /// The INIT to be sent now, if one is due, for the link that has this index here.
    pub(crate) fn init<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        reliable: &Reliable<'_>,
        index: u32,
        now: Micros,
    ) -> Option<[u8; INIT_BYTES]> {
        self.due_at(reliable).filter(|&at| at <= now)?;
        if self.attempt.is_none() {
            let Protection::Keyed(keyed) = &shared.protection else { return None };
            let (peer_index, slot) = (reliable.peer_index(), reliable.keys()?.next_slot());
            let purpose = Purpose::Renewal { peer_index, slot };
            self.attempt = Some(Initiator::new(index, purpose, keyed.terms(), now.0));
        }
        shared.init(self.attempt.as_mut()?, self.peer, now)
    }

    /// A datagram came that is none of data.
    ///
    /// # Errors
    /// The peer has no such link.
    pub(crate) fn hear(
        &mut self,
        protection: &mut Protection<'m>,
        reliable: &mut Reliable<'_>,
        now: Micros,
        datagram: &[u8],
    ) -> Result<(), FailReason> {
        let (Some(attempt), Protection::Keyed(keyed)) = (&mut self.attempt, protection) else {
            return Ok(());
        };
        match keyed.hear(attempt, self.peer, now, datagram) {
            Heard::Agreed(agreed) => {
                self.attempt = None;
                reliable.install(agreed.keys, now);
            }
            Heard::Refused(FailReason::LinkDown) => return Err(FailReason::LinkDown),
            Heard::Refused(_) => {
                self.attempt = None;
                self.pause_until = now.after(PAUSE_MICROS);
            }
            Heard::Ignored | Heard::Again | Heard::Unproven => {}
        }
        Ok(())
    }
}
