use super::*;
use crate::initiator::{Clock, Ends, Heard, Initiator, Purpose};
use crate::keys::Peer;
use crate::message::{INIT_BYTES, index_of};
use proptest::prelude::*;
use std::vec::Vec;

const WALL: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;
const TERMS: Terms =
    Terms { carrier: 1, parameters: *b"what is told...!", preferred: Algorithm::Aes128Gcm };

fn identity(number: u8) -> Identity {
    Identity::new(Secret::from_random([number; 32]))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two ends without a network.
struct World {
    alice: Identity,
    bob: Identity,
    bob_as_peer: Peer,
    peers: Peers<4>,
    clock: Clock,
    asking: Initiator,
    hearing: Responder,
    now: u64,
    wall: u64,
    drawn: u64,
}

fn world() -> World {
    world_with(&Psk::NONE, &Psk::NONE, TERMS, TERMS)
}

fn world_with(alices: &Psk, bobs: &Psk, alice_terms: Terms, bob_terms: Terms) -> World {
    let (alice, bob) = (identity(1), identity(2));
    let mut peers = Peers::new();
    peers.add(Peer::new(&bob, identity(9).public(), Psk::NONE).unwrap()).unwrap();
    peers.add(Peer::new(&bob, alice.public(), bobs.clone()).unwrap()).unwrap();
    let hearing = Responder::new(&bob, [7; 32], bob_terms);
    World {
        bob_as_peer: Peer::new(&alice, bob.public(), alices.clone()).unwrap(),
        asking: Initiator::new(0xa1, Purpose::Link, alice_terms, 0),
        clock: Clock::new(),
        now: 0,
        wall: WALL,
        drawn: 0,
        alice,
        bob,
        peers,
        hearing,
    }
}

impl World {
    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut random = [0; 32];
        put(&mut random, 5, &self.drawn.to_le_bytes());
        random
    }

    /// The next INIT, as soon as it is due.
    fn init(&mut self) -> [u8; INIT_BYTES] {
        self.now = self.now.max(self.asking.due_micros().unwrap());
        let random = self.draw();
        let ends = Ends { own: &self.alice, peer: &self.bob_as_peer };
        let wall = self.wall + self.now;
        self.asking.init(ends, &mut self.clock, self.now, wall, random).unwrap()
    }

    fn hear_init(&mut self, init: &[u8]) -> Verdict {
        self.hear_init_from(init, None)
    }

    fn hear_init_from(&mut self, init: &[u8], from: Option<&SocketAddr>) -> Verdict {
        let random = self.draw();
        self.hearing.hear_init(&self.bob, &mut self.peers, init, from, self.now, || random)
    }

    fn hear(&mut self, answer: &[u8]) -> Heard {
        let ends = Ends { own: &self.alice, peer: &self.bob_as_peer };
        self.asking.hear(ends, &mut self.clock, self.now, answer)
    }

    fn asked(&mut self, init: &[u8]) -> Asked {
        match self.hear_init(init) {
            Verdict::Asked(asked) => asked,
            other => panic!("{other:?}"),
        }
    }

    fn both(&mut self) -> (Agreed, Agreed) {
        let init = self.init();
        let (reply, there) = self.asked(&init).accept(0xb2).unwrap();
        match self.hear(&reply) {
            Heard::Agreed(here) => (here, there),
            other => panic!("{other:?}"),
        }
    }
}

fn reply(verdict: Verdict) -> Reply {
    match verdict {
        Verdict::Reply(reply) => reply,
        other => panic!("{other:?} is no reply"),
    }
}

/// What one seals the other opens, in both directions, and nobody else.
fn are_same(one: &Keys, other: &Keys) -> bool {
    use crate::aead::{Aead, Cipher, nonce};
    let opens = |seal: &Cipher, open: &Cipher| {
        let mut body = *b"body";
        let tag = seal.seal_in_place(&nonce(3), b"ad", &mut body);
        open.open_in_place(&nonce(3), b"ad", &mut body, &tag)
    };
    let both = opens(&one.sealing, &other.opening);
    assert_eq!(both, opens(&other.sealing, &one.opening));
    assert!(!opens(&one.sealing, &one.opening), "the two directions have one key");
    both
}

#[test]
fn both_ends_agree() {
    let parameters = *b"0123456789abcdef";
    let other = Terms { parameters, ..TERMS };
    for psk in [Psk::NONE, Psk::from_random([8; 32])] {
        let mut world = world_with(&psk, &psk, TERMS, other);
        let init = world.init();
        world.now += 30_000;
        let asked = world.asked(&init);
        assert_eq!((asked.peer(), asked.peer_index()), (1, 0xa1));
        assert_eq!((asked.renews(), asked.slot()), (None, 0));
        assert_eq!(asked.parameters(), &TERMS.parameters);
        let (reply, there) = asked.accept(0xb2).unwrap();
        assert_eq!((reply.len(), init.len()), (RESPONSE_BYTES, INIT_BYTES));
        assert_eq!((index_of(&init), index_of(&reply)), (Some(0xa1), Some(0xa1)));
        let Heard::Agreed(here) = world.hear(&reply) else { panic!("a good RESPONSE") };
        assert_eq!((here.own_index, here.peer_index), (0xa1, 0xb2));
        assert_eq!((there.own_index, there.peer_index), (0xb2, 0xa1));
        assert_eq!((here.version, there.version), (VERSION, VERSION));
        assert_eq!((here.parameters, there.parameters), (parameters, TERMS.parameters));
        assert_eq!((here.rtt_micros, there.rtt_micros), (Some(30_000), None));
        assert!(are_same(&here.keys, &there.keys));
        // And then nothing more.
        assert_eq!(world.asking.due_micros(), None);
        assert!(matches!(world.hear(&reply), Heard::Ignored));
    }
}

#[test]
fn every_handshake_has_keys_of_its_own() {
    let (one, _) = world().both();
    let mut world = world();
    world.drawn = 100;
    let (other, there) = world.both();
    assert!(are_same(&other.keys, &there.keys));
    assert!(!are_same(&one.keys, &there.keys));
}

#[test]
fn the_algorithm_is_aes_where_both_have_it() {
    let (aes, chacha) = (Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305);
    for (here, there, chosen) in
        [(aes, aes, aes), (aes, chacha, chacha), (chacha, aes, chacha), (chacha, chacha, chacha)]
    {
        let terms = |preferred| Terms { preferred, ..TERMS };
        let mut world = world_with(&Psk::NONE, &Psk::NONE, terms(here), terms(there));
        let (one, other) = world.both();
        assert_eq!((one.keys.algorithm(), other.keys.algorithm()), (chosen, chosen));
        assert!(are_same(&one.keys, &other.keys));
    }
    assert_eq!((Algorithm::preferred(true), Algorithm::preferred(false)), (aes, chacha));
}

#[test]
fn refusals_tell_why() {
    for reason in FailReason::ALL {
        let mut world = world();
        let init = world.init();
        let reply = world.asked(&init).refuse(reason).unwrap();
        assert_eq!(reply.len(), RESPONSE_BYTES);
        match world.hear(&reply) {
            Heard::Refused(heard) => assert_eq!(heard, reason),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.asking.due_micros(), None);
    }
}

#[test]
fn strangers_meet_silence() {
    // One who does not know whom it asks.
    let mut world = world();
    world.bob_as_peer = Peer::new(&world.alice, identity(3).public(), Psk::NONE).unwrap();
    let init = world.init();
    assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    // One who is no peer.
    let mut world = self::world();
    world.alice = identity(4);
    let init = world.init();
    assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    // One who says that it is somebody else.
    let mut world = self::world();
    let other = identity(5);
    let secret = Secret::from_random(*other.secret().bytes());
    world.alice = Identity::with(secret, world.alice.public());
    let init = world.init();
    assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    // And one over another carrier.
    let terms = Terms { carrier: 2, ..TERMS };
    let mut world = world_with(&Psk::NONE, &Psk::NONE, terms, TERMS);
    let init = world.init();
    assert!(matches!(world.hear_init(&init), Verdict::Ignore));
}

#[test]
fn another_psk_agrees_on_nothing() {
    let (one, other) = (Psk::from_random([1; 32]), Psk::from_random([2; 32]));
    for (here, there) in [(&one, &other), (&one, &Psk::NONE), (&Psk::NONE, &other)] {
        let mut world = world_with(here, there, TERMS, TERMS);
        let init = world.init();
        let (reply, _) = world.asked(&init).accept(0xb2).unwrap();
        assert!(matches!(world.hear(&reply), Heard::Unproven));
        assert!(world.asking.due_micros().is_some(), "it goes on");
    }
}

#[test]
fn whoever_made_the_answer_up_changes_nothing() {
    let mut world = world();
    let init = world.init();
    let (reply, there) = world.asked(&init).accept(0xb2).unwrap();
    // Who knows the public keys can make it look right from outside.
    for byte in HEAD_BYTES..RESPONSE_NOISE_END {
        let mut forged = reply.clone();
        forged[byte] ^= 0x10;
        let key = mac::key(Label::Mac1, world.alice.public().bytes());
        let mac1 = mac::mac(&key, &[&forged[..RESPONSE_NOISE_END]]);
        put(&mut forged, RESPONSE_NOISE_END, &mac1);
        assert!(matches!(world.hear(&forged), Heard::Unproven), "byte {byte}");
    }
    let Heard::Agreed(here) = world.hear(&reply) else { panic!("a good RESPONSE") };
    assert!(are_same(&here.keys, &there.keys));
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut world = world();
    let init = world.init();
    // mac2 is looked at under load alone.
    for bit in 0..(INIT_BYTES - MAC_BYTES) * 8 {
        let mut bytes = init;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(world.hear_init(&bytes), Verdict::Ignore), "bit {bit} of INIT");
    }
    // Nor does it pass if who flips it knows the public key: but for the versions, which tell that.
    for bit in (0..INIT_NOISE_END * 8).filter(|bit| !(8..24).contains(bit)) {
        let mut bytes = init;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let key = mac::key(Label::Mac1, world.bob.public().bytes());
        let mac1 = mac::mac(&key, &[&bytes[..INIT_NOISE_END]]);
        put(&mut bytes, INIT_NOISE_END, &mac1);
        assert!(matches!(world.hear_init(&bytes), Verdict::Ignore), "bit {bit} of INIT");
    }
    let (response, _) = world.asked(&init).accept(0xb2).unwrap();
    let from = address("192.0.2.1:7000");
    let cookie = reply(world.hear_init_from(&init, Some(&from)));
    let mut other = init;
    (other[1], other[2]) = (2, 3);
    let key = mac::key(Label::Mac1, world.bob.public().bytes());
    let mac1 = mac::mac(&key, &[&other[..INIT_NOISE_END]]);
    put(&mut other, INIT_NOISE_END, &mac1);
    let versions = reply(world.hear_init(&other));
    for answer in [&response, &cookie, &versions] {
        for bit in 0..answer.len() * 8 {
            let mut bytes = answer.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(world.hear(&bytes), Heard::Ignored), "bit {bit} of {:#x}", answer[0]);
        }
    }
    assert!(matches!(world.hear(&response), Heard::Agreed(_)));
}

#[test]
fn no_other_length_is_anything() {
    let mut world = world();
    let init = world.init();
    let (response, _) = self::world().asked(&self::world().init()).accept(0xb2).unwrap();
    for sample in [&init[..], &response] {
        let mut bytes = sample.to_vec();
        bytes.resize(1500, 0);
        for length in (0..1500).filter(|&length| length != sample.len()) {
            assert!(matches!(world.hear_init(&bytes[..length]), Verdict::Ignore));
            assert!(matches!(world.hear(&bytes[..length]), Heard::Ignored));
        }
    }
    for first in 0..=u8::MAX {
        for length in 0..1500 {
            let mut bytes = [0; 1500];
            bytes[0] = first;
            bytes[4] = 0xa1;
            assert!(matches!(world.hear_init(&bytes[..length]), Verdict::Ignore));
            assert!(matches!(world.hear(&bytes[..length]), Heard::Ignored));
        }
    }
}

#[test]
fn versions_that_are_not_spoken_are_told() {
    let mut world = world();
    let mut init = world.init();
    let remac = |world: &World, init: &mut [u8; INIT_BYTES]| {
        let key = mac::key(Label::Mac1, world.bob.public().bytes());
        let mac1 = mac::mac(&key, &[&init[..INIT_NOISE_END]]);
        put(init, INIT_NOISE_END, &mac1);
    };
    for (min, max) in [(0, 0), (2, 2), (2, u8::MAX), (2, 1)] {
        (init[1], init[2]) = (min, max);
        remac(&world, &mut init);
        let answer = reply(world.hear_init(&init));
        assert_eq!(answer.len(), VERSIONS_BYTES);
        assert_eq!(answer[..4], [4, VERSION, VERSION, 0]);
    }
    // They were changed on the way: nobody believes it, for they are in the prologue.
    for (min, max) in [(0, 1), (1, 2), (0, u8::MAX)] {
        (init[1], init[2]) = (min, max);
        remac(&world, &mut init);
        assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    }
    // What an end says that speaks others only.
    let mut world = self::world();
    let init = world.init();
    let answer = |world: &World, min, max, mac1: &[u8]| {
        let mut bytes = [0; VERSIONS_BYTES];
        put(&mut bytes, 0, &head(Kind::Versions, min, max, 0xa1));
        let key = mac::key(Label::Versions, world.bob.public().bytes());
        let tag = mac::mac(&key, &[&bytes[..16], mac1]);
        put(&mut bytes, 16, &tag);
        bytes
    };
    let mac1 = &init[INIT_NOISE_END..][..MAC_BYTES];
    let ours = answer(&world, 1, 4, mac1);
    assert!(matches!(world.hear(&ours), Heard::Ignored));
    let another = answer(&world, 2, 4, &[0; 16]);
    assert!(matches!(world.hear(&another), Heard::Ignored));
    let good = answer(&world, 2, 4, mac1);
    assert!(matches!(world.hear(&good), Heard::Refused(FailReason::Version)));
}

#[test]
fn a_repeat_is_taken_once() {
    let mut world = world();
    let init = world.init();
    assert!(matches!(world.hear_init(&init), Verdict::Asked(_)));
    for seconds in [0, 1, 1000] {
        world.now = seconds * SECOND;
        assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    }
    // After a later one it is told that it is late, and nothing else happens.
    world.now = 0;
    let later = world.init();
    assert!(matches!(world.hear_init(&later), Verdict::Asked(_)));
    let late = reply(world.hear_init(&init));
    assert_eq!(late.len(), RESPONSE_BYTES);
    // Which is no answer to the newest INIT.
    assert!(matches!(world.hear(&late), Heard::Unproven));
    assert!(matches!(world.hear_init(&later), Verdict::Ignore));
    // Who starts anew has forgotten, and whoever repeats gets a RESPONSE it can do nothing with.
    let mut peers = Peers::new();
    peers.add(Peer::new(&world.bob, world.alice.public(), Psk::NONE).unwrap()).unwrap();
    world.peers = peers;
    assert!(matches!(world.hear_init(&init), Verdict::Asked(_)));
    assert!(matches!(world.hear_init(&init), Verdict::Ignore));
    assert!(matches!(world.hear_init(&later), Verdict::Asked(_)), "the peer is not locked out");
}

/// Routers start without knowing the time.
#[test]
fn a_clock_that_is_behind_catches_up() {
    let mut world = world();
    world.both();
    world.asking = Initiator::new(0xa3, Purpose::Link, TERMS, world.now);
    (world.clock, world.wall) = (Clock::new(), 0);
    let init = world.init();
    let behind = reply(world.hear_init(&init));
    assert!(matches!(world.hear(&behind), Heard::Again));
    assert_eq!(world.asking.due_micros(), Some(world.now), "at once");
    assert!(matches!(world.hear(&behind), Heard::Ignored), "once");
    let (here, there) = world.both();
    assert!(are_same(&here.keys, &there.keys));
    // The next attempt goes on from there.
    world.asking = Initiator::new(0xa4, Purpose::Link, TERMS, world.now);
    world.both();
}

#[test]
fn under_load_an_address_is_shown_first() {
    let from = address("192.0.2.1:7000");
    let elsewhere = [address("192.0.2.1:7001"), address("192.0.2.2:7000"), address("[::1]:7000")];
    let mut world = world();
    let init = world.init();
    let cookie = reply(world.hear_init_from(&init, Some(&from)));
    assert_eq!(cookie.len(), COOKIE_BYTES);
    let again = reply(world.hear_init_from(&init, Some(&from)));
    assert_ne!(cookie, again, "no nonce is used twice");
    // Of another INIT it is no answer.
    let mut other = self::world();
    other.drawn = 77;
    other.init();
    assert!(matches!(other.hear(&cookie), Heard::Ignored));
    assert!(matches!(world.hear(&cookie), Heard::Again));
    let init = world.init();
    for from in &elsewhere {
        assert_eq!(reply(world.hear_init_from(&init, Some(from))).len(), COOKIE_BYTES);
    }
    let mut flipped = init;
    flipped[INIT_BYTES - 1] ^= 1;
    assert_eq!(reply(world.hear_init_from(&flipped, Some(&from))).len(), COOKIE_BYTES);
    // By another secret, and when the secret has changed twice.
    let mut restarted = Responder::new(&world.bob, [6; 32], TERMS);
    let mut hear = |hearing: &mut Responder, now| {
        hearing.hear_init(&world.bob, &mut world.peers, &init, Some(&from), now, || [1; 32])
    };
    assert!(matches!(hear(&mut restarted, 0), Verdict::Reply(_)));
    assert!(matches!(hear(&mut world.hearing, 2 * COOKIE_MICROS), Verdict::Reply(_)));
    assert!(matches!(hear(&mut world.hearing, 2 * COOKIE_MICROS - 1), Verdict::Asked(_)));
}

#[test]
fn cookies_make_nobody_faster_than_twice() {
    let from = address("192.0.2.1:7000");
    let mut world = world();
    let mut sent = Vec::new();
    for _ in 0..20 {
        let init = world.init();
        sent.push(world.now / 1000);
        // Its cookie is never good enough.
        world.hearing = Responder::new(&world.bob, [sent.len() as u8; 32], TERMS);
        let cookie = reply(world.hear_init_from(&init, Some(&from)));
        world.hear(&cookie);
    }
    assert_eq!(sent[..10], [0, 0, 250, 250, 750, 750, 1750, 1750, 3750, 3750], "{sent:?}");
    assert!(sent.windows(3).skip(8).all(|three| three[2] - three[0] >= 1000), "{sent:?}");
}

#[test]
fn a_cookie_is_forgotten_when_it_is_old() {
    let from = address("192.0.2.1:7000");
    let mut world = world();
    let init = world.init();
    let cookie = reply(world.hear_init_from(&init, Some(&from)));
    assert!(matches!(world.hear(&cookie), Heard::Again));
    assert_ne!(world.init()[INIT_BYTES - MAC_BYTES..], [0; MAC_BYTES]);
    world.now = COOKIE_MICROS;
    assert_eq!(world.init()[INIT_BYTES - MAC_BYTES..], [0; MAC_BYTES]);
}

#[test]
fn it_asks_again_and_ever_more_slowly() {
    let mut world = world();
    let mut times = Vec::new();
    let mut inits = Vec::new();
    for _ in 0..8 {
        inits.push(world.init());
        times.push(world.now / 1000);
    }
    assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 11_750, 15_750]);
    let random = [3; 32];
    let ends = Ends { own: &world.alice, peer: &world.bob_as_peer };
    let now = world.now;
    assert!(world.asking.init(ends, &mut world.clock, now, now, random).is_none(), "not yet");
    // Only the newest can be answered.
    let last = inits.pop().unwrap();
    for init in inits {
        let (late, _) = world.asked(&init).accept(1).unwrap();
        assert!(matches!(world.hear(&late), Heard::Unproven));
    }
    let (good, _) = world.asked(&last).accept(1).unwrap();
    assert!(matches!(world.hear(&good), Heard::Agreed(_)));
}

#[test]
fn renewals_say_of_which_link() {
    let mut world = world();
    let purpose = Purpose::Renewal { peer_index: 0xb2, slot: 3 };
    world.asking = Initiator::new(0xa1, purpose, TERMS, 0);
    let init = world.init();
    let asked = world.asked(&init);
    assert_eq!((asked.renews(), asked.slot()), (Some(0xb2), 3));
    let (reply, there) = asked.accept(0xb2).unwrap();
    let Heard::Agreed(here) = world.hear(&reply) else { panic!("a good RESPONSE") };
    assert_eq!((here.keys.slot(), there.keys.slot()), (3, 3));
    assert!(are_same(&here.keys, &there.keys));
}

#[test]
fn an_offer_of_nothing_known_is_refused() {
    let offer = Offer {
        clock: 1,
        parameters: [0; 16],
        algorithms: 0b1111_1001,
        preferred: 3,
        slot: 0,
        renews: None,
    };
    for preferred in [Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305] {
        assert_eq!(offer.choose(preferred), None);
        for only in [Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305] {
            let offer = Offer { algorithms: 0b1111_1001 | 1 << only as u8, ..offer };
            assert_eq!(offer.choose(preferred), Some(only));
        }
    }
}

#[test]
fn there_are_so_many_peers_and_each_once() {
    use crate::peers::PeerError;
    let own = identity(1);
    let peer = |number| Peer::new(&own, identity(number).public(), Psk::NONE).unwrap();
    let mut peers = Peers::<3>::new();
    assert_eq!(peers.add(peer(2)), Ok(0));
    assert_eq!(peers.add(peer(2)), Err(PeerError::Twice));
    assert_eq!(peers.add(peer(3)), Ok(1));
    assert_eq!(peers.add(peer(4)), Ok(2));
    assert_eq!(peers.add(peer(5)), Err(PeerError::Full));
    assert_eq!(peers.count(), 3);
    assert_eq!(peers.public(2), Some(identity(4).public()));
    assert_eq!(peers.public(3), None);
    peers.saw(1, 5);
    peers.saw(1, 4);
    assert_eq!((peers.clock(0), peers.clock(1), peers.clock(9)), (None, Some(5), None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the network does to the datagrams: at quiet both have the same keys, and no INIT was
    /// taken twice.
    #[test]
    fn any_network_ends_in_agreement(
        faults in proptest::collection::vec((0..4u8, any::<prop::sample::Index>(), 0..600_000u64), 0..24),
    ) {
        let mut world = world();
        let mut flying: Vec<(bool, Vec<u8>)> = Vec::new();
        let mut theirs = Vec::new();
        let mut ours = None;
        let mut taken = Vec::new();
        let mut faults = faults.into_iter();
        for step in 0..400 {
            if ours.is_some() {
                break;
            }
            if world.asking.due_micros().is_some_and(|due| due <= world.now) {
                let init = world.init().to_vec();
                flying.push((true, init));
            }
            // Lost, repeated, or overtaken; in the end all is well.
            let at = match faults.next() {
                Some((fault, at, later)) if !flying.is_empty() => {
                    world.now += later;
                    let at = at.index(flying.len());
                    match fault {
                        0 => {
                            flying.swap_remove(at);
                            continue;
                        }
                        1 => {
                            let again = flying[at].clone();
                            flying.push(again);
                            at
                        }
                        _ => at,
                    }
                }
                _ => 0,
            };
            if flying.is_empty() {
                world.now = world.asking.due_micros().unwrap();
                continue;
            }
            let (is_init, bytes) = flying.remove(at);
            if !is_init {
                if let Heard::Agreed(agreed) = world.hear(&bytes) {
                    ours = Some(agreed);
                }
                continue;
            }
            match world.hear_init(&bytes) {
                Verdict::Ignore => (),
                Verdict::Reply(reply) => flying.push((false, reply.to_vec())),
                Verdict::Asked(asked) => {
                    prop_assert!(!taken.contains(&bytes), "taken twice");
                    taken.push(bytes);
                    let (reply, agreed) = asked.accept(step).unwrap();
                    flying.push((false, reply.to_vec()));
                    theirs.push(agreed);
                }
            }
        }
        let ours = ours.expect("in the end both agree");
        let same = theirs.iter().filter(|theirs| are_same(&ours.keys, &theirs.keys));
        let indices: Vec<_> = same.map(|theirs| theirs.own_index).collect();
        prop_assert_eq!(indices, [ours.peer_index]);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..5u8) {
        let mut world = world();
        world.init();
        let lengths = [0, INIT_BYTES, RESPONSE_BYTES, COOKIE_BYTES, VERSIONS_BYTES];
        let mut bytes = bytes;
        if kind > 0 {
            bytes.resize(lengths[usize::from(kind)], 0x5a);
            bytes[0] = kind;
            bytes[4..8].copy_from_slice(&[0xa1, 0, 0, 0]);
        }
        prop_assert!(matches!(world.hear_init(&bytes), Verdict::Ignore));
        prop_assert!(matches!(world.hear(&bytes), Heard::Ignored));
    }
}
