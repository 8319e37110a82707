//! What somebody may send who is no honest end: outside of any link, and inside of one, with the right
//! checksum. Nothing panics, what each takes is bounded by what there is for one link, and the link
//! beside goes on as if nobody were there.

use crate::net::Weather;
use crate::world::{Setup, World};
use seaprox::sim::Random;
use seaprox_proto::message::{ChannelId, Hello, Message, Target};
use seaprox_udp::ack::{Received, WINDOW};
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::handshake::{Init, Limits, Response, session_id};
use seaprox_udp::packet::{Header, Mode};
use seaprox_udp::seal::Checksum;
use seaprox_udp::time::Micros;
use std::net::SocketAddr;

const SECOND: u64 = 1_000_000;

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 3, (number >> 8) as u8, number as u8], 1 + (number >> 16) as u16))
}

/// An honest link with a stream on it.
fn streaming() -> World<2> {
    streaming_in(Mode::Insecure)
}

fn streaming_in(mode: Mode) -> World<2> {
    let weather = Weather { rate: 12_500_000, queue_bytes: 250_000, ..Weather::calm(10_000) };
    let algorithms = vec![Algorithm::Bbr];
    let mut world = World::new(&Setup {
        weather: [weather; 2],
        algorithms,
        seed: 1,
        is_sealed: mode == Mode::Keyed,
    });
    world.connect();
    world.run(6 * SECOND);
    let now = world.now();
    world.initiators[0].open(u64::MAX, now);
    world.run(SECOND);
    world
}

fn received(world: &World<2>) -> u64 {
    world.egress.as_ref().expect("it is there").sides.iter().map(|side| side.received).sum()
}

/// Runs a flood of so many datagrams each millisecond for a second; the stream must not mind.
fn flood(world: &mut World<2>, mut datagrams: impl FnMut(usize) -> Vec<(SocketAddr, Vec<u8>)>) {
    let before = received(world);
    for millisecond in 0..1000 {
        for (from, bytes) in datagrams(millisecond) {
            world.net.borrow_mut().forge(from, &bytes);
        }
        world.run(1000);
    }
    let rate = received(world) - before;
    assert!(rate >= 9_000_000, "{rate} bytes in a second beside the flood");
    assert_eq!(world.initiators[0].notices.len(), 1, "the honest link stays up");
}

/// Somebody with a link of their own, who keeps no rule on it.
struct Stranger {
    at: SocketAddr,
    index: u32,
    seal: Checksum,
    number: u64,
}

const LIMITS: Limits = Limits { datagram_bytes_max: 1472, window: WINDOW as u16 };

fn init(number: u32, nonce: u64) -> Init {
    let proof = [0; 16];
    Init { version_min: 1, version_max: 1, sender: number, nonce, proof, limits: LIMITS }
}

impl Stranger {
    fn enter(world: &mut World<2>) -> Stranger {
        let (at, init) = (address(1), init(77, 99));
        world.net.borrow_mut().forge(at, &init.encode());
        world.run(1000);
        let net = world.net.borrow();
        let answers = net.to_strangers.iter().filter(|(to, _)| *to == at);
        let response = answers.filter_map(|(_, bytes)| Response::decode(bytes)).next();
        let index = response.filter(|response| response.refused.is_none()).expect("a link").sender;
        let seal = Checksum::new(session_id(init.sender, index, init.nonce));
        Stranger { at, index, seal, number: 0 }
    }

    /// A datagram of the link, with the right tag.
    fn datagram(&mut self, messages: &[u8]) -> (SocketAddr, Vec<u8>) {
        let (mode, number, receiver) = (Mode::Insecure, self.number, self.index);
        let header = Header { mode, key_slot: 0, number, receiver }.encode();
        let tag = self.seal.tag(number, &header, messages);
        self.number += 1;
        (self.at, [&header[..], messages, &tag].concat())
    }

    fn says(&mut self, messages: &[Message<'_>]) -> (SocketAddr, Vec<u8>) {
        let mut packet = [0; 1400];
        let mut filled = 0;
        for message in messages {
            filled += message.emit(&mut packet[filled..]).expect("they fit");
        }
        self.datagram(&packet[..filled])
    }

    fn greet(&mut self, world: &mut World<2>) {
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            flags: 0,
            channels_max: 0,
            initial_credit: 16_384,
            credit_max: 8 << 20,
            idle_seconds: 15,
        };
        let (at, bytes) = self.says(&[Message::Hello(hello)]);
        world.net.borrow_mut().forge(at, &bytes);
        world.run(1000);
    }

    fn open(&mut self, slot: u16, generation: u16) -> (SocketAddr, Vec<u8>) {
        self.says(&[Message::Open {
            channel: ChannelId::new(true, generation, slot),
            credit: 16_384,
            target: Target::Service(b""),
            client: None,
        }])
    }
}

/// Whether the acceptor has room for another link.
fn has_room(world: &mut World<2>) -> bool {
    let at = address(5000);
    world.net.borrow_mut().to_strangers.clear();
    world.net.borrow_mut().forge(at, &init(5, 6).encode());
    world.run(SECOND);
    let net = world.net.borrow();
    let responses = net.to_strangers.iter().filter_map(|(_, bytes)| Response::decode(bytes));
    responses.filter(|response| response.nonce == 6).any(|response| response.refused.is_none())
}

#[test]
fn garbage_is_nobodys() {
    for mode in [Mode::Insecure, Mode::Keyed] {
        garbage_is_nobodys_in(mode);
    }
}

fn garbage_is_nobodys_in(mode: Mode) {
    let mut world = streaming_in(mode);
    let mut random = Random::new(3);
    flood(&mut world, |_| {
        let mut garbage = |_| {
            let mut bytes: Vec<u8> = (0..random.below(1500)).map(|_| random.bits() as u8).collect();
            // Half of it begins as what it is not.
            if let Some(first) = bytes.first_mut().filter(|_| random.below(2) == 0) {
                *first = random.pick(&[0x21, 0x22, 0x23, 0x24, 0x30, 1, 2, 3, 4, 0x10]);
            }
            (address(random.below(1 << 20)), bytes)
        };
        (0..20).map(&mut garbage).collect()
    });
    assert!(world.net.borrow().to_strangers.is_empty(), "garbage is not answered");
    assert_eq!(has_room(&mut world), mode == Mode::Insecure, "with keys, for peers alone");
}

/// Good INITs of links without keys, and packets that say that the link ends, where there are keys.
#[test]
fn who_has_no_keys_is_not_heard_where_there_are_some() {
    let mut world = streaming_in(Mode::Keyed);
    let mut closed = [0; 64];
    let close = Message::close(seaprox::fail::FailReason::Shutdown, "no more");
    let bytes = close.emit(&mut closed).expect("it fits");
    let index = {
        world.net.borrow_mut().tap = Some(Vec::new());
        world.run(10_000);
        let kept = world.net.borrow_mut().tap.take().unwrap_or_default();
        let (_, _, packet) = kept.iter().find(|(_, end, _)| *end == 0).expect("a packet");
        u32::from_le_bytes(packet[4..8].try_into().unwrap())
    };
    // The right index, the address of the peer, and any number.
    let at = world.net.borrow().lines[0].address;
    let seal = Checksum::new(0);
    flood(&mut world, |millisecond| {
        let mut stranger = Stranger { at, index, seal, number: 1 << 30 | millisecond as u64 };
        let ask = init(millisecond as u32, 3).encode().to_vec();
        vec![stranger.datagram(&closed[..bytes]), (address(millisecond), ask)]
    });
    assert!(world.net.borrow().to_strangers.is_empty(), "nobody is answered");
}

/// INITs of who knows the acceptor's public key, and is no peer.
#[test]
fn who_asks_without_end_has_to_show_its_address_and_others_come_in() {
    use crate::keys;
    use seaprox_noise::agreed::Terms;
    use seaprox_noise::initiator::{Clock, Ends, Initiator, Purpose};
    let mut world = streaming_in(Mode::Keyed);
    let (own, peer) = keys::stranger();
    let ends = Ends { own: &own, peer: &peer };
    let preferred = seaprox_noise::aead::Algorithm::Aes128Gcm;
    let terms = Terms { carrier: seaprox_udp::keyed::CARRIER, parameters: [0; 16], preferred };
    let mut clock = Clock::new();
    let mut number = 0;
    let mut ask = || {
        number += 1;
        let mut initiator = Initiator::new(number as u32, Purpose::Link, terms, 0);
        let drawn = [number as u8; 32];
        let init = initiator.init(ends, &mut clock, 0, 0, drawn).expect("it is due");
        (address(number), init.to_vec())
    };
    flood(&mut world, |_| (0..5).map(|_| ask()).collect());
    let answers = std::mem::take(&mut world.net.borrow_mut().to_strangers);
    assert!(answers.len() > 4000, "{}", answers.len());
    assert!(answers.iter().all(|(_, bytes)| bytes[0] == 3), "cookies, and no answer to the first");
    // A peer comes in though the flood goes on.
    world.restart_initiator(0);
    let until = world.micros() + 20 * SECOND;
    while !world.initiators[0].is_open() {
        assert!(world.micros() < until, "no link within 20 s");
        let (from, init) = ask();
        world.net.borrow_mut().forge(from, &init);
        world.run(10_000);
    }
}

#[test]
fn links_that_are_asked_for_and_left_take_no_more_than_there_are() {
    let mut world = streaming();
    flood(&mut world, |millisecond| {
        let ask = |n| {
            let number = millisecond * 20 + n;
            (address(number), init(number as u32, number as u64).encode().to_vec())
        };
        (0..20).map(ask).collect()
    });
    let net = world.net.borrow();
    let (asked, answered) = (20_000, net.to_strangers.len());
    assert!(answered <= asked + 100, "{answered} answers");
    drop(net);
    // Once those who never came are dead there is room again.
    world.run(20 * SECOND);
    assert!(has_room(&mut world));
}

#[test]
fn channels_without_number_are_refused() {
    let mut world = streaming();
    let mut stranger = Stranger::enter(&mut world);
    stranger.greet(&mut world);
    flood(&mut world, |millisecond| {
        (0..20)
            .map(|n| stranger.open((millisecond * 20 + n) as u16 % 64, 1 + millisecond as u16 / 50))
            .collect()
    });
    let egress = world.egress.as_ref().expect("it is there");
    let open = egress.sides.iter().filter(|side| side.over.is_none()).count();
    assert!(open <= 65, "{open} channels");
}

#[test]
fn single_bytes_all_over_a_window_take_no_more_than_the_window() {
    let mut world = streaming();
    let mut stranger = Stranger::enter(&mut world);
    stranger.greet(&mut world);
    for slot in 0..32 {
        let (at, bytes) = stranger.open(slot, 0);
        world.net.borrow_mut().forge(at, &bytes);
    }
    world.run(1000);
    let mut random = Random::new(4);
    flood(&mut world, |_| {
        let mut datagram = |_| {
            let mut messages = Vec::new();
            for _ in 0..40 {
                messages.push(Message::Data {
                    channel: ChannelId::new(true, 0, random.below(32) as u16),
                    fin: false,
                    stopped: false,
                    // The first byte never comes, so nothing can be passed on.
                    offset: Some(1 + random.below(16_000) as u32),
                    bytes: b"x",
                });
            }
            stranger.says(&messages)
        };
        (0..10).map(&mut datagram).collect()
    });
}

#[test]
fn who_acknowledges_what_was_never_sent_loses_the_link() {
    let mut world = streaming();
    let mut stranger = Stranger::enter(&mut world);
    stranger.greet(&mut world);
    let mut received = Received::new();
    received.insert(1 << 40, Micros(0), true, false);
    let mut ack = [0; 64];
    let bytes = received.emit(Micros(0), &mut ack);
    flood(&mut world, |_| (0..10).map(|_| stranger.datagram(&ack[..bytes])).collect());
    assert!(has_room(&mut world), "the link is closed");
}
