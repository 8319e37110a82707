//! What it costs to seal and open a packet of 1200 bytes, and to agree on the keys for it.
//!
//! ```text
//! cargo bench -p seaprox-benches --bench ciphers
//! cargo bench -p seaprox-benches --bench ciphers --features seaprox-noise/ring
//! ```

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seaprox_noise::aead::{Aead, Algorithm, Cipher, nonce};
use seaprox_noise::agreed::Terms;
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator, Purpose};
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_noise::responder::{Responder, Verdict};
use std::hint::black_box;

const PACKET_BYTES: usize = 1200;

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal and open 1200 bytes");
    group.throughput(Throughput::Bytes(PACKET_BYTES as u64));
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::ChaCha20Poly1305] {
        let cipher = Cipher::new(algorithm, &[7; 32]);
        let mut body = [0; PACKET_BYTES];
        let mut number = 0;
        group.bench_function(algorithm.name(), |b| {
            b.iter(|| {
                number += 1;
                let nonce = nonce(number);
                let tag = cipher.seal_in_place(&nonce, &[1; 12], &mut body);
                assert!(cipher.open_in_place(&nonce, &[1; 12], black_box(&mut body), &tag));
            });
        });
    }
}

/// Both ends, so half of it is one end's.
fn handshake(c: &mut Criterion) {
    let [alice, bob] = [1, 2].map(|key| Identity::new(Secret::from_random([key; 32])));
    let known = Peer::new(&alice, bob.public(), Psk::NONE).expect("two keys");
    let terms = Terms { carrier: 1, parameters: [0; 16], preferred: Algorithm::Aes128Gcm };
    let ends = Ends { own: &alice, peer: &known };
    let mut peers = Peers::<1>::new();
    peers.add(Peer::new(&bob, alice.public(), Psk::NONE).expect("two keys")).expect("one peer");
    let mut hearing = Responder::new(&bob, [3; 32], terms);
    let mut clock = Clock::new();
    c.bench_function("a handshake, both ends", |b| {
        b.iter(|| {
            let mut asking = Initiator::new(1, Purpose::Link, terms, 0);
            let init = asking.init(ends, &mut clock, 0, 0, [4; 32]).expect("due");
            let Verdict::Asked(asked) =
                hearing.hear_init(&bob, &mut peers, &init, None, 0, || [5; 32])
            else {
                panic!("a good INIT");
            };
            let (reply, theirs) = asked.accept(2).expect("good keys");
            let Heard::Agreed(ours) = asking.hear(ends, &mut clock, 0, &reply) else {
                panic!("a good RESPONSE");
            };
            black_box((ours, theirs));
        });
    });
}

criterion_group!(benches, packets, handshake);
criterion_main!(benches);
