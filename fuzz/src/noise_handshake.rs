//! Two ends that agree on keys, and a network between them that does as it likes.

use crate::bytes::Bytes;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use seaprox::fail::FailReason;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::agreed::{Agreed, Terms};
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator, Purpose};
use seaprox_noise::keyring::{Keyring, Opened};
use seaprox_noise::keys::{Identity, Peer, Psk, Public, Secret};
use seaprox_noise::message::{INIT_BYTES, Kind, RESPONSE_BYTES, index_of, kind_of};
use seaprox_noise::peers::Peers;
use seaprox_noise::responder::{Responder, Verdict};
use std::net::SocketAddr;

/// A handshake takes half a millisecond: more would be too slow to be of use.
const STEPS_MAX: usize = 24;

const INDEX: u32 = 0xa1;

/// A datagram on its way, and whether it is as it was sent, up to `mac2`, which is looked at under load
/// alone.
#[derive(Clone)]
struct Flying {
    bytes: Vec<u8>,
    is_own: bool,
}

struct World {
    alice: Identity,
    bob: Identity,
    bob_as_peer: Peer,
    peers: Peers<1>,
    clock: Clock,
    asking: Initiator,
    hearing: Responder,
    now_micros: u64,
    draws: u64,
    flying: Vec<Flying>,
    taken: Vec<Vec<u8>>,
    theirs: Vec<Agreed>,
}

const fn terms(preferred: Algorithm) -> Terms {
    Terms { carrier: 1, parameters: [5; 16], preferred }
}

fn peers(own: &Identity, public: Public) -> Peers<1> {
    let mut peers = Peers::new();
    let peer = Peer::new(own, public, Psk::NONE).expect("two keys");
    peers.add(peer).expect("the first");
    peers
}

impl World {
    fn new(first: u8) -> World {
        let [alice, bob] = [1, 2].map(|key| Identity::new(Secret::from_random([key; 32])));
        let preferred = Algorithm::preferred(first & 1 == 0);
        let terms = terms(preferred);
        World {
            bob_as_peer: Peer::new(&alice, bob.public(), Psk::NONE).expect("two keys"),
            peers: peers(&bob, alice.public()),
            clock: Clock::new(),
            asking: Initiator::new(INDEX, Purpose::Link, terms, 0),
            hearing: Responder::new(&bob, [7; 32], terms),
            now_micros: 0,
            draws: 0,
            flying: Vec::new(),
            taken: Vec::new(),
            theirs: Vec::new(),
            alice,
            bob,
        }
    }

    fn draw(&mut self) -> [u8; 32] {
        self.draws += 1;
        let mut random = [0x77; 32];
        random[8..16].copy_from_slice(&self.draws.to_le_bytes());
        random
    }

    /// As if it had started anew: it has forgotten every clock.
    fn restart(&mut self) {
        self.peers = peers(&self.bob, self.alice.public());
        self.taken.clear();
    }

    fn ask(&mut self, wall_micros: u64) {
        let random = self.draw();
        let ends = Ends { own: &self.alice, peer: &self.bob_as_peer };
        let now = self.now_micros;
        let is_due = self.asking.due_micros().is_some_and(|due| due <= now);
        let init = self.asking.init(ends, &mut self.clock, now, wall_micros, random);
        assert_eq!(init.is_some(), is_due);
        if let Some(init) = init {
            assert!(self.asking.due_micros().is_some_and(|due| due > now));
            assert_eq!((kind_of(&init), index_of(&init)), (Some(Kind::Init), Some(INDEX)));
            self.flying.push(Flying { bytes: init.to_vec(), is_own: true });
        }
    }

    fn hear_init(&mut self, datagram: &Flying, must_prove: bool, act: u8) {
        let random = self.draw();
        let from = SocketAddr::from(([192, 0, 2, 1], 7000));
        let from = must_prove.then_some(&from);
        let bytes = &datagram.bytes[..];
        let verdict = self.hearing.hear_init(
            &self.bob,
            &mut self.peers,
            bytes,
            from,
            self.now_micros,
            || random,
        );
        let reply = match verdict {
            Verdict::Ignore => return,
            Verdict::Reply(reply) => reply,
            Verdict::Asked(asked) => {
                assert!(datagram.is_own, "{bytes:02x?} was never sent");
                assert_eq!((asked.peer(), asked.peer_index()), (0, INDEX));
                let noise = bytes[..INIT_BYTES - 32].to_vec();
                assert!(!self.taken.contains(&noise), "taken twice");
                self.taken.push(noise);
                if act & 7 == 7 {
                    asked.refuse(FailReason::TableFull).expect("good keys")
                } else {
                    let (reply, agreed) =
                        asked.accept(self.theirs.len() as u32).expect("good keys");
                    self.theirs.push(agreed);
                    reply
                }
            }
        };
        assert!(reply.len() <= bytes.len(), "{bytes:02x?} is amplified");
        assert_eq!(index_of(&reply), index_of(bytes), "another is answered");
        self.flying.push(Flying { bytes: reply.to_vec(), is_own: datagram.is_own });
    }

    /// Whether the handshake is over.
    fn hear(&mut self, datagram: &Flying) -> bool {
        let ends = Ends { own: &self.alice, peer: &self.bob_as_peer };
        let was_over = self.asking.due_micros().is_none();
        let heard = self.asking.hear(ends, &mut self.clock, self.now_micros, &datagram.bytes);
        let is_response = datagram.bytes.len() == RESPONSE_BYTES;
        match heard {
            Heard::Ignored => false,
            Heard::Again => {
                assert!(!was_over);
                assert_eq!(self.asking.due_micros(), Some(self.now_micros));
                false
            }
            Heard::Unproven => {
                assert!(is_response && !was_over);
                false
            }
            Heard::Refused(reason) => {
                assert!(datagram.is_own && !was_over, "{reason} was made up");
                assert_eq!((reason, is_response), (FailReason::TableFull, true));
                assert_eq!(self.asking.due_micros(), None);
                true
            }
            Heard::Agreed(agreed) => {
                assert!(datagram.is_own && !was_over, "keys were made up");
                assert_eq!(self.asking.due_micros(), None);
                self.agree(agreed);
                true
            }
        }
    }

    /// What one seals the other opens, and no other of those who accepted.
    fn agree(&mut self, ours: Agreed) {
        let index = ours.peer_index as usize;
        let mut here = Keyring::new();
        here.install(ours.keys, 0);
        let mut body = *b"body";
        let tag = here.seal(0, 9, b"header", &mut body).expect("new keys");
        for (at, theirs) in self.theirs.drain(..).enumerate() {
            assert_eq!((theirs.own_index as usize, theirs.peer_index), (at, INDEX));
            let mut there = Keyring::new();
            assert!(there.propose(theirs.keys, 0));
            let mut body = body;
            let opened = there.open(0, 0, 9, b"header", &mut body, &tag);
            let expected = if at == index { Opened::Confirmed } else { Opened::No };
            assert_eq!(opened, expected);
            assert!(at != index || &body == b"body");
        }
    }
}

/// Changes a bit, and makes `mac1` right again, as who knows the receiver's public key can.
fn alter(datagram: &mut Flying, receivers: &[u8; 32], place: u8, bit: u8, remac: bool) {
    let end = match kind_of(&datagram.bytes) {
        Some(Kind::Init) => INIT_BYTES - 32,
        Some(Kind::Response) => RESPONSE_BYTES - 16,
        _ => datagram.bytes.len(),
    };
    let at = usize::from(place) % end;
    datagram.bytes[at] ^= 1 << (bit & 7);
    datagram.is_own = false;
    if remac && end + 16 <= datagram.bytes.len() {
        let key = Blake2s256::new().chain_update(b"seaprox mac1    ").chain_update(receivers);
        let mut mac = Blake2sMac::<U16>::new_from_slice(&key.finalize()).expect("32 bytes");
        Mac::update(&mut mac, &datagram.bytes[..end]);
        datagram.bytes[end..end + 16].copy_from_slice(&mac.finalize().into_bytes());
    }
}

/// A handshake whose datagrams are lost, repeated, late, changed, with an end that restarts, is under
/// load or does not know the time; and one more datagram that is just these bytes.
pub fn noise_handshake(bytes: &[u8]) {
    let mut world = World::new(bytes.first().copied().unwrap_or(0));
    world.ask(1_000_000);
    let stranger = Flying { bytes: bytes.to_vec(), is_own: false };
    world.hear_init(&stranger, false, 0);
    assert!(!world.hear(&stranger));
    let mut bytes = Bytes(bytes);
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        let act = bytes.byte();
        let count = world.flying.len();
        match act & 7 {
            0 => {
                world.now_micros += u64::from(bytes.byte()) << 12 << (act >> 3 & 15);
                world.ask(u64::from(act >> 7) << 40);
            }
            1 => world.restart(),
            2 if count > 0 => drop(world.flying.swap_remove(bytes.below(count))),
            3 | 4 if count > 0 => {
                let at = bytes.below(count);
                let mut altered = world.flying[at].clone();
                let is_init = altered.bytes.len() == INIT_BYTES;
                let receiver = if is_init { &world.bob } else { &world.alice }.public();
                let (place, bit) = (bytes.byte(), bytes.byte());
                alter(&mut altered, receiver.bytes(), place, bit, act & 8 == 0);
                world.flying.push(altered);
            }
            _ if count > 0 => {
                let at = bytes.below(count);
                let datagram =
                    if act & 8 == 0 { world.flying.remove(at) } else { world.flying[at].clone() };
                world.hear_init(&datagram, act & 16 != 0, act >> 5);
                if world.hear(&datagram) {
                    break;
                }
            }
            _ => (),
        }
    }
}
