//! How a listener with keys hears who asks: of strangers nothing is kept, of a peer a knock until it has
//! shown that it is one, and only then there is a link. A part of `listener.rs`, whose invariants are kept
//! here.

use super::Accepted;
use crate::asking::Begun;
use crate::flood::Flood;
use crate::hub::{Shared, Wire};
use crate::keyed::{AnyPeers, Protection, limits};
use crate::knocks::{Knock, Knocks};
use crate::packet::{HEADER_BYTES, Header, Kind, Mode, OVERHEAD_BYTES, kind_of};
use crate::seal::Sealing;
use crate::socket::Path;
use crate::time::Micros;
use seaprox::fail::FailReason;
use seaprox_noise::responder::{Asked, Responder, Verdict};
use seaprox_proto::message::Message;

/// Room for a message that says why there is no link, without words.
const CLOSE_BYTES: usize = 8;

/// Lets peers in.
pub(super) struct Gate<'m> {
    responder: Responder,
    flood: Flood,
    peers: &'m mut dyn AnyPeers,
    knocks: &'m mut Knocks,
}

impl<'m> Gate<'m> {
    /// Whoever knocked before is forgotten. `seed`: unpredictable.
    pub(super) fn new(
        responder: Responder,
        seed: u64,
        peers: &'m mut dyn AnyPeers,
        knocks: &'m mut Knocks,
    ) -> Self {
        knocks.clear();
        Gate { responder, flood: Flood::new(seed), peers, knocks }
    }

    /// The next datagram is for the listener: takes it, but for the first packet of a link that there is
    /// from now on, which is the link's. `vacancy`: whether there is room for one, or why there is none.
    pub(super) fn hear<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        now: Micros,
        vacancy: Result<(), FailReason>,
    ) -> Option<Accepted<'m>> {
        self.knocks.expire(now);
        let accepted = match kind_of(Mode::Keyed, shared.look()?) {
            Some(Kind::Init) => {
                self.hear_init(shared, now, vacancy);
                None
            }
            _ => self.hear_packet(shared, vacancy),
        };
        shared.expected = self.knocks.indices();
        accepted
    }

    fn hear_init<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        now: Micros,
        vacancy: Result<(), FailReason>,
    ) {
        let must_prove = self.flood.count(now);
        let Some((heard, Protection::Keyed(keyed))) = shared.take_beside() else { return };
        let (path, from) = (heard.path, heard.path.peer.ip());
        if must_prove && self.flood.is_unheard(from, now) {
            return;
        }
        // Whoever comes so far has shown that its address is its own, if it has to.
        let flood = &mut self.flood;
        let known = || {
            if must_prove {
                flood.count_proven(from, now);
            }
        };
        let must_prove = must_prove.then_some(&path.peer);
        let (responder, peers) = (&mut self.responder, &mut *self.peers);
        match keyed.hear_init(responder, peers, heard.bytes, must_prove, now, known) {
            Verdict::Ignore => {}
            // What does not go is as good as lost: it will be asked for again.
            Verdict::Reply(reply) => drop(shared.send(&path, &[&reply])),
            Verdict::Asked(asked) => match asked.renews() {
                Some(index) if shared.is_link(index) => {
                    // The link answers when it has its turn.
                    if let Protection::Keyed(keyed) = &mut shared.protection {
                        let _ = keyed.put_asked(index, path, asked);
                    }
                }
                Some(_) => refuse(shared, &path, asked, FailReason::LinkDown),
                None => match vacancy {
                    Ok(()) => self.knock(shared, path, asked, now),
                    Err(reason) => refuse(shared, &path, asked, reason),
                },
            },
        }
    }

    /// A peer is told that there will be a link.
    fn knock<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        path: Path,
        asked: Asked,
        now: Micros,
    ) {
        if !limits(asked.parameters()).is_sane() {
            return refuse(shared, &path, asked, FailReason::Protocol);
        }
        let (peer, index) = (asked.peer(), shared.draw_index());
        let Some((reply, agreed)) = asked.accept(index) else { return };
        self.knocks.put(Knock { peer, path, agreed, at: now });
        let _ = shared.send(&path, &[&reply]);
    }

    /// A packet came for one who has knocked: if it is its own, there is a link.
    fn hear_packet<W: Wire>(
        &mut self,
        shared: &mut Shared<'m, W>,
        vacancy: Result<(), FailReason>,
    ) -> Option<Accepted<'m>> {
        let index = shared.look().and_then(|datagram| self.knocks.find(datagram));
        let Some(knock) = index.and_then(|index| self.knocks.take(index)) else {
            shared.pass();
            return None;
        };
        if let Err(reason) = vacancy {
            shared.pass();
            turn_away(shared, knock, reason);
            return None;
        }
        let index = knock.agreed.own_index;
        let memory = shared.begin_link_at(index)?;
        let peer = knock.peer;
        let begun = Begun {
            peer_index: knock.agreed.peer_index,
            peer: limits(&knock.agreed.parameters),
            rtt_micros: None,
            sealing: Sealing::Given(knock.agreed.keys),
        };
        // The answer went there, and was got.
        Some(Accepted { index, memory, begun, path: knock.path, peer: Some(peer) })
    }
}

/// There was room when a peer knocked, and now that it has shown who it is there is none: it is told so by
/// the only packet there ever is of this link. If that is lost, the peer finds out by the silence.
fn turn_away<W: Wire>(shared: &mut Shared<'_, W>, knock: Knock, reason: FailReason) {
    let Knock { path, agreed, .. } = knock;
    let mut out = [0; OVERHEAD_BYTES + CLOSE_BYTES];
    let (key_slot, receiver) = (agreed.keys.slot(), agreed.peer_index);
    let header = Header { mode: Mode::Keyed, key_slot, number: 0, receiver }.encode();
    let (head, rest) = out.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&header);
    let Some(bytes) = Message::close(reason, "").emit(rest) else { return };
    let (body, rest) = rest.split_at_mut(bytes);
    let tag = agreed.keys.seal_only(head, body);
    let Some(place) = rest.first_chunk_mut() else { return };
    *place = tag;
    let _ = shared.send(&path, &[&out[..OVERHEAD_BYTES + bytes]]);
}

fn refuse<W: Wire>(shared: &mut Shared<'_, W>, path: &Path, asked: Asked, reason: FailReason) {
    if let Some(reply) = asked.refuse(reason) {
        let _ = shared.send(path, &[&reply]);
    }
}
