//! The keys of a link, and a network that does as it likes with its packets.

use crate::bytes::Bytes;
use seaprox_noise::aead::{Algorithm, Tag};
use seaprox_noise::agreed::Keys;
use seaprox_noise::keyring::{KEY_MICROS, Keyring, NUMBER_MAX, Opened};
use seaprox_noise::replay::{Replay, WINDOW};
use std::collections::BTreeSet;

#[derive(Clone)]
struct Packet {
    to_asked: bool,
    /// With which of the keys it was sealed, from 1.
    key: u8,
    slot: u8,
    number: u64,
    text: u64,
    body: [u8; 8],
    tag: Tag,
    is_own: bool,
}

#[derive(Default)]
struct World {
    asking: Keyring,
    asked: Keyring,
    now_micros: u64,
    keys: u8,
    number: u64,
    packets: u64,
    flying: Vec<Packet>,
    /// By direction, key and number.
    sealed: BTreeSet<(bool, u8, u64)>,
    /// The key that each seals with: what was installed last, and what was confirmed last.
    asking_key: u8,
    asked_key: u8,
    opened: BTreeSet<u64>,
}

impl World {
    /// Whether the one who asks has new keys.
    fn renew(&mut self, is_answered: bool) -> bool {
        if self.keys == u8::MAX / 2 {
            return false;
        }
        self.keys += 1;
        let slot = self.asking.next_slot();
        let [one, other] = [self.keys * 2, self.keys * 2 + 1].map(|key| [key; 32]);
        let ours = Keys::new(Algorithm::Aes128Gcm, slot, &one, &other);
        let theirs = Keys::new(Algorithm::Aes128Gcm, slot, &other, &one);
        let before = self.asked.slot(self.now_micros);
        let may = self.asked.may_propose(slot);
        assert_eq!(self.asked.propose(theirs, self.now_micros), may);
        assert_eq!(self.asked.slot(self.now_micros), before, "it was not confirmed");
        let is_new = may && is_answered;
        if is_new {
            self.asking.install(ours, self.now_micros);
            self.asking_key = self.keys;
            assert_eq!(self.asking.slot(self.now_micros), Some(slot));
            assert!(self.asking.owes_packet());
        }
        is_new
    }

    fn seal(&mut self, to_asked: bool, number: u64) {
        let keys = if to_asked { &mut self.asking } else { &mut self.asked };
        let slot = keys.slot(self.now_micros);
        let text = self.packets;
        self.packets += 1;
        let mut body = text.to_le_bytes();
        match keys.seal(self.now_micros, number, b"header", &mut body) {
            Ok(tag) => {
                let slot = slot.expect("it was sealed with a key");
                assert!(number <= NUMBER_MAX);
                let key = if to_asked { self.asking_key } else { self.asked_key };
                assert!(self.sealed.insert((to_asked, key, number)), "{number} twice");
                let is_own = true;
                self.flying.push(Packet { to_asked, key, slot, number, text, body, tag, is_own });
            }
            Err(_) => assert_eq!(body, text.to_le_bytes(), "it was sealed all the same"),
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        let keys = if packet.to_asked { &mut self.asked } else { &mut self.asking };
        let mut body = packet.body;
        let Packet { slot, number, ref tag, .. } = *packet;
        match keys.open(self.now_micros, slot, number, b"header", &mut body, tag) {
            Opened::No => {}
            opened => {
                assert!(packet.is_own, "it was changed");
                assert_eq!(body, packet.text.to_le_bytes());
                assert!(self.opened.insert(packet.text), "it opened twice");
                if opened == Opened::Confirmed {
                    assert!(packet.to_asked, "who asks waits for nobody");
                    assert!(packet.key > self.asked_key, "an older key");
                    self.asked_key = packet.key;
                }
            }
        }
    }
}

/// Packets that are lost, repeated, late and changed while keys are renewed, with and without an answer,
/// and end. And numbers, seen as a set sees them.
pub fn noise_keys(bytes: &[u8]) {
    replay(bytes);
    let mut world = World::default();
    world.renew(true);
    let mut bytes = Bytes(bytes);
    while !bytes.is_empty() {
        let act = bytes.byte();
        let count = world.flying.len();
        match act & 7 {
            0 | 1 => {
                let step = u64::from(bytes.byte());
                world.number += if act & 16 == 0 { 1 } else { step << (act >> 5) };
                // Now and then one that was used, or none at all.
                let number = match step {
                    255 => world.number.saturating_sub(3),
                    254 => NUMBER_MAX + 1,
                    _ => world.number,
                };
                world.seal(act & 8 == 0, number);
            }
            2 => world.now_micros += (KEY_MICROS >> 7) * u64::from(bytes.byte()),
            3 => _ = world.renew(act & 8 == 0),
            4 => {
                world.asking.expire(world.now_micros);
                world.asked.expire(world.now_micros);
            }
            5 if count > 0 => {
                let mut packet = world.flying[bytes.below(count)].clone();
                let bit = bytes.byte();
                let flip = 1 << (bit & 7);
                match bit >> 3 {
                    at @ 0..8 => packet.body[usize::from(at)] ^= flip,
                    at @ 8..24 => packet.tag[usize::from(at - 8)] ^= flip,
                    24 => packet.slot ^= 1 + (flip & 1),
                    at => packet.number ^= u64::from(flip) << (8 * (at - 25)),
                }
                packet.is_own = false;
                world.deliver(&packet);
            }
            _ if count > 0 => {
                let at = bytes.below(count);
                let packet = if act & 8 == 0 {
                    world.flying.swap_remove(at)
                } else {
                    world.flying[at].clone()
                };
                world.deliver(&packet);
            }
            _ => (),
        }
    }
    // As long as keys can be renewed, the two understand each other.
    if world.renew(true) {
        world.seal(true, NUMBER_MAX);
        let last = world.flying.pop().expect("new keys seal");
        world.deliver(&last);
        assert!(world.opened.contains(&last.text));
    }
}

fn replay(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (mut replay, mut seen) = (Replay::new(), BTreeSet::new());
    let mut at = 0_u64;
    while !bytes.is_empty() {
        let act = bytes.byte();
        let step = u64::from(bytes.byte()) << (act & 15);
        at = if act & 16 == 0 { at.saturating_add(step) } else { at.saturating_sub(step) };
        let is_old = seen.last().is_some_and(|last: &u64| at.saturating_add(WINDOW) <= *last);
        let expected = !is_old && !seen.contains(&at);
        assert_eq!(replay.is_fresh(at), expected);
        if act & 32 == 0 {
            assert_eq!(replay.mark(at), expected);
            if !is_old {
                seen.insert(at);
            }
        }
    }
}
