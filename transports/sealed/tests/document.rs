//! docs/protocol.md and the code say the same of sealed packets: from the secrets that are written there
//! the code makes the packets that are written there, and every number is the one that is compiled in.

#[allow(dead_code)] // of messages nothing is shown here
#[path = "../../proto/tests/described/mod.rs"]
mod described;

use described::{DOCUMENT, block, cells, examples};
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox::time::Instant;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keyring;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::message;
use seaprox_noise::peers::Peers;
use seaprox_noise::streams::OVERHEAD_BYTES;
use seaprox_proto::carrier::{Bounds, Carrier, Greeting, Order, Received};
use seaprox_proto::message::PACKET_BYTES;
use seaprox_proto::source::GUEST_MILLIS;
use seaprox_sealed::{Keeper, Kind, Memory, Outside, Sealed};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// What is written under this description.
fn given(description: &str) -> Vec<u8> {
    let lines = block("sealed-exchange");
    let mut found = examples(&lines).into_iter().filter(|(other, _)| *other == description);
    found.next().unwrap_or_else(|| panic!("there is no {description}")).1
}

fn secret(description: &str) -> [u8; 32] {
    given(description).try_into().unwrap_or_else(|_| panic!("{description} is not 32 bytes"))
}

/// As the document writes bytes.
fn written(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| {
        let bytes: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("    {}\n", bytes.join(" "))
    });
    lines.collect()
}

/// Packets that are under way, and their streams.
type Way = Rc<RefCell<VecDeque<(u16, Vec<u8>)>>>;

/// One end's packets to the other, and those that have come.
#[derive(Clone, Default)]
struct Tube {
    out: Way,
    back: Way,
}

impl Carrier for Tube {
    fn bounds(&self) -> Bounds {
        Bounds { order: Order::Streams, channels_max: 2, sent_bytes_max: 16_384 }
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        self.out.borrow_mut().push_back((stream, packet.to_vec()));
        Ok(())
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        let (stream, packet) = self.back.borrow_mut().pop_front().ok_or(Errno::AGAIN)?;
        room[..packet.len()].copy_from_slice(&packet);
        Ok(Received::Piece { stream, bytes: packet.len(), end: true })
    }
}

/// The world as the document has it: what is drawn, one after the other, and the time.
#[derive(Clone)]
struct Told {
    drawn: Rc<RefCell<VecDeque<[u8; 32]>>>,
    millis: Rc<Cell<u64>>,
}

impl Outside for Told {
    fn now(&self) -> Instant {
        Instant::from_millis(self.millis.get())
    }

    fn wall_micros(&self) -> u64 {
        1_600_000_000_000_000 + self.millis.get() * 1000
    }

    fn random(&self) -> Result<[u8; 32], Errno> {
        self.drawn.borrow_mut().pop_front().ok_or(Errno::IO)
    }
}

fn index(index: u32) -> [u8; 32] {
    let mut drawn = [0; 32];
    drawn[..4].copy_from_slice(&index.to_le_bytes());
    drawn
}

/// Takes the only packet that an end has sent: its stream is this, and it is what is written there.
fn check(description: &str, stream: u16, tube: &Tube) -> Vec<u8> {
    let (of, packet) = tube.out.borrow_mut().pop_front().expect("it was sent");
    assert_eq!(of, stream, "{description}");
    assert_eq!(written(&given(description)), written(&packet), "{description}");
    packet
}

#[test]
fn the_code_speaks_the_exchange() {
    let mut memories = [const { Memory::<5>::new() }; 2];
    let millis = Rc::new(Cell::new(0));
    let told = |drawn: &[[u8; 32]]| {
        let drawn = Rc::new(RefCell::new(drawn.iter().copied().collect()));
        Told { drawn, millis: millis.clone() }
    };
    let [asks, own] = ["secret of the initiator", "secret of the acceptor"]
        .map(|of| Identity::new(Secret::from_random(secret(of))));
    for (identity, of) in [(&asks, "initiator"), (&own, "acceptor")] {
        let public = format!("public key of the {of}");
        assert_eq!(given(&public), identity.public().bytes());
    }
    let psk = Psk::from_random(secret("psk"));
    let peer = Peer::new(&asks, own.public(), psk.clone()).unwrap();
    let mut peers = Peers::<1>::new();
    peers.add(Peer::new(&own, asks.public(), psk).unwrap()).unwrap();
    let (kind, preferred) = (Kind::Sctp, Algorithm::Aes128Gcm);
    let near_drawn = ["first INIT", "second INIT"].map(|of| secret(&format!("drawn for the {of}")));
    let near_told = told(&[index(0x00af_c815), near_drawn[0], near_drawn[1]]);
    let near = Keeper::<_, 1>::asking(&asks, &peer, kind, preferred, near_told);
    let far_drawn =
        ["first RESPONSE", "second RESPONSE"].map(|of| secret(&format!("drawn for the {of}")));
    // What it would make cookies of, if it gave any.
    let far_told = told(&[[0; 32], far_drawn[0], index(0x7c0d_e4b3), far_drawn[1]]);
    let far = Keeper::answering(&own, peers, kind, preferred, far_told).unwrap();
    let [one, other] = memories.each_mut();
    near.give(one.seat());
    far.give(other.seat());
    let near_tube = Tube::default();
    let far_tube = Tube { out: near_tube.back.clone(), back: near_tube.out.clone() };
    let deliver = |from: &Tube, packet: (u16, Vec<u8>)| from.out.borrow_mut().push_back(packet);

    let mut asking = Sealed::asking(&near, near_tube.clone()).expect("a seat");
    let mut asked = Sealed::asked(&far, far_tube.clone());
    assert_eq!(asking.greet(None), Ok(Greeting::Stranger));
    let init = check("INIT, stream 0", 0, &near_tube);
    deliver(&near_tube, (0, init));
    assert_eq!(asked.greet(None), Ok(Greeting::Answered));
    let response = check("RESPONSE, stream 0", 0, &far_tube);
    deliver(&far_tube, (0, response));
    assert_eq!(asking.greet(None), Ok(Greeting::Done));
    let proof = check("that the initiator is there, stream 0", 0, &near_tube);
    deliver(&near_tube, (0, proof));
    assert_eq!(asked.greet(None), Ok(Greeting::Done));

    let say = |end: &mut Sealed<'_, '_, Tube, Told, 1>, stream, name: &str, tube: &Tube| {
        let packet = given(&format!("the packet of {name}"));
        assert_eq!(end.send(stream, &packet), Ok(()));
        let sealed = check(&format!("{name}, stream {stream}, sealed"), stream, tube);
        (packet, sealed)
    };
    let hear = |end: &mut Sealed<'_, '_, Tube, Told, 1>, stream, said: (Vec<u8>, Vec<u8>)| {
        let (packet, mut sealed) = said;
        let opened = end.open(stream, &mut sealed).unwrap();
        assert_eq!(sealed[opened], packet);
    };
    let said = say(&mut asking, 0, "the initiator's HELLO", &near_tube);
    hear(&mut asked, 0, said);
    let said = say(&mut asked, 0, "the acceptor's HELLO", &far_tube);
    hear(&mut asking, 0, said);
    for name in ["an OPEN", "a DATA"] {
        let said = say(&mut asking, 2, name, &near_tube);
        hear(&mut asked, 2, said);
    }

    millis.set(120_000);
    asking.poll().unwrap();
    let mut init = check("INIT after 120 s, stream 0", 0, &near_tube);
    assert_eq!(asked.open(0, &mut init), Ok(0..0));
    asked.poll().unwrap();
    let mut response = check("RESPONSE to it, stream 0", 0, &far_tube);
    let said = say(&mut asked, 2, "a CREDIT", &far_tube);
    hear(&mut asking, 2, said);
    assert_eq!(asking.open(0, &mut response), Ok(0..0));
    let said = say(&mut asking, 2, "the last DATA", &near_tube);
    hear(&mut asked, 2, said);
    let said = say(&mut asked, 2, "a DONE", &far_tube);
    hear(&mut asking, 2, said);
    let late = asked.open(2, &mut given("a DATA, stream 2, sealed"));
    assert_eq!(late, Err(FailReason::Auth), "its stream goes on with other keys");
}

#[test]
fn every_number_is_the_one_that_is_compiled_in() {
    let rows = DOCUMENT.lines().skip_while(|line| !line.starts_with("| of sealed packets"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.map(|row| (cells(row)[0], cells(row)[1].replace(',', ""))).collect();
    let numbers: Vec<_> = [
        ("the number of SCTP among carriers", Kind::Sctp as u64),
        ("the number of SOCK_SEQPACKET among carriers", Kind::Seqpacket as u64),
        ("bytes of INIT", message::INIT_BYTES as u64),
        ("bytes of RESPONSE", message::RESPONSE_BYTES as u64),
        ("bytes of VERSIONS", message::VERSIONS_BYTES as u64),
        ("bytes beside what is sealed", OVERHEAD_BYTES as u64),
        ("bytes of a packet of the link", (PACKET_BYTES - OVERHEAD_BYTES) as u64),
        ("milliseconds until a link has begun", u64::from(GUEST_MILLIS)),
        ("seconds until keys are renewed", keyring::RENEW_MICROS / 1_000_000),
        ("seconds until keys are of no use", keyring::KEY_MICROS / 1_000_000),
        ("packets until keys are renewed", keyring::PACKETS_RENEW),
        ("packets of a key", keyring::PACKETS_MAX),
        ("bytes of a long packet, at least", keyring::SHORT_BYTES as u64 + 1),
        ("packets until keys are renewed, if one was long", keyring::LONG_PACKETS_RENEW),
        ("packets of a key, if one was long", keyring::LONG_PACKETS_MAX),
    ]
    .map(|(what, number)| (what, number.to_string()))
    .into();
    assert_eq!(rows, numbers);
}
