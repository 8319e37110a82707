//! The exchange of a link with keys: from the secrets that are written there the code makes the datagrams
//! that are written there.

use super::{DOCUMENT, WAY_MICROS, block, examples, path, terms, written};
use seaprox_noise::aead::Algorithm;
use seaprox_noise::agreed::{Agreed, Terms};
use seaprox_noise::initiator::{Clock, Ends, Heard, Initiator, Purpose};
use seaprox_noise::keyring::{Keyring, Opened};
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_noise::responder::{Responder, Verdict};
use seaprox_udp::handshake::Limits;
use seaprox_udp::keyed::CARRIER;
use seaprox_udp::packet::{Header, Mode, OVERHEAD_BYTES, take_apart};
use seaprox_udp::reliable::{Memory, Reliable};
use seaprox_udp::seal::Sealing;
use seaprox_udp::slots::DATAGRAM_BYTES_MAX;
use seaprox_udp::time::Micros;

const INITIATOR_INDEX: u32 = 0x00af_c815;
const ACCEPTOR_INDEX: u32 = 0x7c0d_e4b3;
const CLOCK: u64 = 1_600_000_000_000_000;

/// What is written under this description.
fn given(description: &str) -> Vec<u8> {
    let lines = block("keyed-exchange");
    let mut found = examples(&lines).into_iter().filter(|(other, _)| *other == description);
    found.next().unwrap_or_else(|| panic!("there is no {description}")).1
}

fn secret(description: &str) -> [u8; 32] {
    given(description).try_into().unwrap_or_else(|_| panic!("{description} is not 32 bytes"))
}

/// That it is what is written there.
fn check(description: &str, bytes: &[u8]) {
    assert_eq!(written(&given(description)), written(bytes), "{description}");
}

struct Both {
    initiator: Identity,
    acceptor: Identity,
    psk: Psk,
}

impl Both {
    fn new() -> Both {
        let identity = |of| Identity::new(Secret::from_random(secret(of)));
        Both {
            initiator: identity("secret of the initiator"),
            acceptor: identity("secret of the acceptor"),
            psk: Psk::from_random(secret("psk")),
        }
    }

    fn terms() -> Terms {
        let mut parameters = [0; 16];
        parameters[..2].copy_from_slice(&Limits::OWN.datagram_bytes_max.to_le_bytes());
        parameters[2..4].copy_from_slice(&Limits::OWN.window.to_le_bytes());
        Terms { carrier: CARRIER, parameters, preferred: Algorithm::Aes128Gcm }
    }

    /// Handshakes as the document has it; what each end has then.
    fn agree(&self) -> (Agreed, Agreed) {
        let peer = Peer::new(&self.initiator, self.acceptor.public(), self.psk.clone()).unwrap();
        let ends = Ends { own: &self.initiator, peer: &peer };
        let mut peers = Peers::<1>::new();
        let known = Peer::new(&self.acceptor, self.initiator.public(), self.psk.clone());
        peers.add(known.unwrap()).unwrap();
        let mut responder = Responder::new(
            &self.acceptor,
            secret("drawn by the acceptor at its start"),
            Both::terms(),
        );
        let mut initiator = Initiator::new(INITIATOR_INDEX, Purpose::Link, Both::terms(), 0);
        let mut clock = Clock::new();
        let drawn = secret("ephemeral secret of the first INIT");
        let init = initiator.init(ends, &mut clock, 0, CLOCK, drawn).expect("it is due");
        check("INIT at 0", &init);
        let from = path().peer;
        let asked =
            responder.hear_init(&self.acceptor, &mut peers, &init, Some(&from), WAY_MICROS, || {
                panic!("nobody has shown its address")
            });
        let Verdict::Reply(cookie) = asked else { panic!("no COOKIE") };
        check("COOKIE", &cookie);
        let now = 2 * WAY_MICROS;
        assert!(matches!(initiator.hear(ends, &mut clock, now, &cookie), Heard::Again));
        let drawn = secret("ephemeral secret of the second INIT");
        let init = initiator.init(ends, &mut clock, now, CLOCK + now, drawn).expect("it is due");
        check("INIT at 20000", &init);
        let drawn = secret("ephemeral secret of RESPONSE");
        let now = 3 * WAY_MICROS;
        let verdict =
            responder.hear_init(&self.acceptor, &mut peers, &init, Some(&from), now, || drawn);
        let Verdict::Asked(asked) = verdict else { panic!("a peer is refused") };
        let (response, theirs) = asked.accept(ACCEPTOR_INDEX).expect("good keys");
        check("RESPONSE", &response);
        let Heard::Agreed(ours) = initiator.hear(ends, &mut clock, 4 * WAY_MICROS, &response)
        else {
            panic!("no link")
        };
        (ours, theirs)
    }
}

#[test]
fn the_exchange_with_keys_is_what_the_code_says() {
    assert!(DOCUMENT.contains("from 127.0.0.1, port 1"), "where the proof of the address is of");
    let both = Both::new();
    check("public key of the initiator", both.initiator.public().bytes());
    check("public key of the acceptor", both.acceptor.public().bytes());
    let (ours, theirs) = both.agree();
    assert_eq!(ours.keys.algorithm(), Algorithm::Aes128Gcm);
    // The initiator's first word, as a link says it.
    let now = Micros(4 * WAY_MICROS);
    let mut memory = Memory::<64, 128>::new();
    let terms = terms(ours.peer_index, Limits::OWN);
    let sealing = Sealing::Asked(ours.keys);
    let mut link = Reliable::new(memory.parts().slices, sealing, &terms, now);
    let messages = given("messages of the initiator's first DATA");
    link.push(&messages).unwrap();
    let mut out = [0; DATAGRAM_BYTES_MAX];
    let emitted = link.emit(now, &mut out).expect("it has the keys");
    let datagram = &mut out[..emitted.bytes()];
    check("the initiator's first DATA", datagram);
    // It opens at the acceptor, which has the keys from then on, and answers.
    let mut keys = Keyring::new();
    assert!(keys.propose(theirs.keys, now.0));
    let parts = take_apart(datagram).unwrap();
    let Header { key_slot, number, .. } = parts.header;
    let opened = keys.open(now.0, key_slot, number, parts.head, parts.body, parts.tag);
    assert_eq!((opened, &*parts.body), (Opened::Confirmed, &messages[..]));
    let header = Header { mode: Mode::Keyed, key_slot, number: 0, receiver: INITIATOR_INDEX };
    let mut body = given("messages of the acceptor's first DATA");
    let bytes = body.len() + OVERHEAD_BYTES;
    let tag = keys.seal(now.0, 0, &header.encode(), &mut body).unwrap();
    let answer = [&header.encode()[..], &body, &tag].concat();
    assert_eq!(answer.len(), bytes);
    check("the acceptor's first DATA", &answer);
}
