//! The keys of the ends, which are the same in every run, and what hubs and listeners are told of them.

use seaprox_noise::aead::Algorithm;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_udp::keyed::{Keyed, Protection};
use std::sync::LazyLock;

/// Initiators that the acceptor knows.
pub(crate) const PEERS: usize = 3;

struct Keys {
    acceptor: Identity,
    initiators: [Identity; PEERS],
    /// The acceptor, as each of them knows it.
    peers: [Peer; PEERS],
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let identity = |number| Identity::new(Secret::from_random([number; 32]));
    let acceptor = identity(100);
    let initiators = [1, 2, 3].map(identity);
    let peers = [0, 1, 2].map(|number| known(&initiators[number], &acceptor));
    Keys { acceptor, initiators, peers }
});

fn known(own: &Identity, other: &Identity) -> Peer {
    Peer::new(own, other.public(), Psk::from_random([9; 32])).expect("they are two")
}

fn keyed(own: &'static Identity, random: u64) -> Protection<'static> {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&random.to_le_bytes());
    // The one whose instructions most machines have: seeds are many.
    Protection::Keyed(Keyed::new(own, secret, Algorithm::Aes128Gcm))
}

/// Of an initiator; `random` is another one for each.
pub(crate) fn of_initiator(number: usize, random: u64) -> Protection<'static> {
    keyed(&KEYS.initiators[number], random)
}

/// Of the acceptor.
pub(crate) fn of_acceptor(random: u64) -> Protection<'static> {
    keyed(&KEYS.acceptor, random)
}

/// Whom an initiator expects at the far end.
pub(crate) fn acceptor_of(number: usize) -> &'static Peer {
    &KEYS.peers[number]
}

/// Whom the acceptor knows.
pub(crate) fn peers() -> Peers<PEERS> {
    let mut peers = Peers::new();
    for initiator in &KEYS.initiators {
        peers.add(known(&KEYS.acceptor, initiator)).expect("there is room");
    }
    peers
}

/// Somebody who is no peer and knows the acceptor, whose public key is no secret.
pub(crate) fn stranger() -> (Identity, Peer) {
    let own = Identity::new(Secret::from_random([50; 32]));
    let peer = known(&own, &KEYS.acceptor);
    (own, peer)
}
