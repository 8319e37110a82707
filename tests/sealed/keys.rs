//! Who is who, and the world outside: a clock that a test moves.

use seaprox::sys::Errno;
use seaprox::time::Instant;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_sealed::{Keeper, Kind, Memory, Outside, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many may ask, at most.
pub(crate) const PEERS: usize = 4;

pub(crate) type House = Keeper<'static, Clock, PEERS>;

/// The clock of this machine, and how far it is ahead.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn forward(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Outside for Clock {
    fn now(&self) -> Instant {
        Instant::from_millis(System.now().as_millis() + self.0.load(Ordering::Relaxed))
    }

    fn wall_micros(&self) -> u64 {
        System.wall_micros() + self.0.load(Ordering::Relaxed) * 1000
    }

    fn random(&self) -> Result<[u8; 32], Errno> {
        System.random()
    }
}

pub(crate) fn identity(number: u8) -> &'static Identity {
    Box::leak(Box::new(Identity::new(Secret::from_random([number; 32]))))
}

pub(crate) fn psk(number: u8) -> Psk {
    Psk::from_random([number; 32])
}

fn seat(house: &House) {
    let memory: &'static mut Memory<1> = Box::leak(Box::new(Memory::new()));
    house.give(memory.seat());
}

/// The end that is `own`, and asks `peer`.
pub(crate) fn asking(own: u8, peer: &Identity, psk: Psk, clock: &Clock) -> &'static House {
    asking_kind(Kind::Seqpacket, own, peer, psk, clock)
}

/// As if it were over another carrier.
pub(crate) fn asking_kind(
    kind: Kind,
    own: u8,
    peer: &Identity,
    psk: Psk,
    clock: &Clock,
) -> &'static House {
    let own = identity(own);
    let peer = Box::leak(Box::new(Peer::new(own, peer.public(), psk).expect("another")));
    let preferred = Algorithm::Aes128Gcm;
    let house = Keeper::asking(own, peer, kind, preferred, clock.clone());
    seat(&house);
    Box::leak(Box::new(house))
}

/// The end that is `own`, and answers these, with so many links.
pub(crate) fn answering(
    own: &'static Identity,
    peers: &[(&Identity, Psk)],
    links: usize,
    clock: &Clock,
) -> &'static House {
    let mut known = Peers::new();
    for (peer, psk) in peers {
        known.add(Peer::new(own, peer.public(), psk.clone()).expect("another")).expect("room");
    }
    let preferred = Algorithm::Aes128Gcm;
    let house = Keeper::answering(own, known, Kind::Seqpacket, preferred, clock.clone());
    let house = house.expect("chance");
    (0..links).for_each(|_| seat(&house));
    Box::leak(Box::new(house))
}
