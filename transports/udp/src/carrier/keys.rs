//! How the keys of a link are renewed, and how it ends without: a part of `carrier.rs`, whose invariants
//! are kept here.

use super::{Stage, Udp};
use crate::hub::{Shared, Wire};
use crate::keyed::Protection;
use crate::reliable::Reliable;
use crate::time::Micros;
use seaprox::fail::FailReason;
use seaprox_noise::keyring::Keyring;
use seaprox_proto::carrier::PeerNumber;

impl<W: Wire> Udp<'_, W> {
    /// Asks for new keys when it is time, and answers a peer who asks; a link whose keys have come to
    /// their end without others is dead: the far end has not shown for long who it is.
    pub(super) fn renew_keys(&mut self, now: Micros) {
        let Stage::Linked(reliable) = &mut self.stage else { return };
        let Some(keys) = reliable.keys() else { return };
        if keys.stop_micros().is_some_and(|at| at <= now.0) {
            self.dead = Some(FailReason::Auth);
        }
        reliable.expire_keys(now);
        let mut shared = self.hub.borrow();
        answer(&mut shared, reliable, (self.index, self.peer), now);
        if let Some(renewal) = &mut self.renewal
            && let Some(init) = renewal.init(&mut shared, reliable, self.index, now)
        {
            // What does not go is as good as lost.
            let _ = shared.send_to_peer(&init);
        }
    }

    /// When there is something to do about the keys.
    pub(super) fn keys_at(&self, reliable: &Reliable<'_>) -> Option<Micros> {
        let renewal = self.renewal.as_ref().and_then(|renewal| renewal.due_at(reliable));
        let stop = reliable.keys().and_then(Keyring::stop_micros).map(Micros);
        renewal.into_iter().chain(stop).min()
    }
}

/// Answers the peer of the link with this index, if it has asked for new keys.
fn answer<W: Wire>(
    shared: &mut Shared<'_, W>,
    reliable: &mut Reliable<'_>,
    (index, peer): (u32, Option<PeerNumber>),
    now: Micros,
) {
    let Protection::Keyed(keyed) = &mut shared.protection else { return };
    let Some((path, asked)) = keyed.take_asked(index) else { return };
    let is_its = Some(asked.peer()) == peer && asked.peer_index() == reliable.peer_index();
    let may = reliable.keys().is_some_and(|keys| keys.may_propose(asked.slot()));
    let reply = match is_its && may {
        true => asked.accept(index).map(|(reply, agreed)| {
            reliable.propose(agreed.keys, now);
            reply
        }),
        false => asked.refuse(FailReason::Protocol),
    };
    // What does not go is as good as lost: it will be asked for again.
    let _ = reply.map(|reply| shared.send(&path, &[&reply]));
}
