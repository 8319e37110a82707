//! One end of a link over udp, as its egress has it, and a peer who has the right checksum, or the keys,
//! and says anything at all between what an honest one would.

use crate::bytes::Bytes;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Lent, Room};
use seaprox_noise::aead::{Algorithm, TAG_BYTES};
use seaprox_noise::agreed::Terms;
use seaprox_noise::initiator::{self, Clock, Ends, Initiator, Purpose};
use seaprox_noise::keyring::{Keyring, Opened};
use seaprox_noise::keys::{Identity, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_proto::link::{Link, LinkMemory, Told};
use seaprox_proto::message::{ChannelId, Hello, Message, Target};
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::Accept;
use seaprox_udp::ack;
use seaprox_udp::carrier::{Options, Udp};
use seaprox_udp::handshake::{Init, Limits, Response, session_id};
use seaprox_udp::hub::{Hub, Numbering, Wire};
use seaprox_udp::keyed::{CARRIER, Keyed, Protection};
use seaprox_udp::knocks::Knocks;
use seaprox_udp::listener::{Admitted, Listener};
use seaprox_udp::packet::{self, Header, Kind, Mode, Own, PAD, kind_of};
use seaprox_udp::reliable::Memory;
use seaprox_udp::seal::Checksum;
use seaprox_udp::socket::{Datagrams, Path, RECEIVE_BYTES};
use seaprox_udp::time::Micros;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::LazyLock;

/// Datagrams that one act may cause, at most: more is a loop.
const CAUSED_MAX: usize = 2000;

#[derive(Default)]
struct Line {
    now: Cell<u64>,
    to_end: RefCell<VecDeque<(SocketAddr, Vec<u8>)>>,
    from_end: RefCell<Vec<Vec<u8>>>,
    is_full: Cell<bool>,
}

struct LineEnd<'l>(&'l Line);

impl Wire for LineEnd<'_> {
    fn now(&self) -> Micros {
        Micros(self.0.now.get())
    }

    fn wall_micros(&self) -> u64 {
        self.0.now.get()
    }

    fn fd(&self) -> RawFd {
        3
    }

    fn send(&mut self, to: Option<&Path>, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        assert!(to.is_some() && !datagrams.is_empty());
        if self.0.is_full.get() {
            return Err(Errno::AGAIN);
        }
        let mut sent = self.0.from_end.borrow_mut();
        sent.extend(datagrams.iter().map(|bytes| bytes.to_vec()));
        assert!(sent.len() < CAUSED_MAX, "there is no end to it");
        Ok(datagrams.len())
    }

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        let (from, bytes) = self.0.to_end.borrow_mut().pop_front().ok_or(Errno::AGAIN)?;
        let buffer = &mut buffer[..bytes.len()];
        buffer.copy_from_slice(&bytes);
        Ok(Datagrams {
            path: from.into(),
            segment_bytes: bytes.len().max(1),
            bytes: buffer,
            is_ce: false,
            is_ect: false,
            is_truncated: false,
        })
    }
}

/// The carrier, whose invariants are looked at whenever a turn ends.
struct Watched<'l>(Udp<'l, LineEnd<'l>>);

impl Carrier for Watched<'_> {
    fn bounds(&self) -> Bounds {
        self.0.bounds()
    }

    fn fd(&self) -> Option<RawFd> {
        self.0.fd()
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        self.0.send(stream, packet)
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        self.0.receive(room)
    }

    fn window(&mut self) -> usize {
        self.0.window()
    }

    fn handled(&mut self, kept: bool) {
        self.0.handled(kept);
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        self.0.poll()
    }

    fn timeout(&self) -> Option<Instant> {
        self.0.timeout()
    }

    fn flush(&mut self) {
        self.0.flush();
        if let Some(reliable) = self.0.reliable() {
            reliable.invariants();
        }
    }

    fn is_flushed(&self) -> bool {
        self.0.is_flushed()
    }
}

const LIMITS: Limits = Limits { datagram_bytes_max: 1472, window: ack::WINDOW as u16 };

fn address(port: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + u16::from(port)))
}

/// The end, and the peer.
static KEYS: LazyLock<[Identity; 2]> =
    LazyLock::new(|| [1, 2].map(|number| Identity::new(Secret::from_random([number; 32]))));

fn known(own: &Identity, other: &Identity) -> seaprox_noise::keys::Peer {
    seaprox_noise::keys::Peer::new(own, other.public(), Psk::NONE).expect("they are two")
}

/// What the peer seals its packets with.
enum Seal {
    Checksum(Checksum),
    Keys(Box<Keyring>),
}

impl Seal {
    fn mode(&self) -> Mode {
        if matches!(self, Seal::Keys(_)) { Mode::Keyed } else { Mode::Insecure }
    }

    /// A datagram with these messages. Without keys that may still seal, one that does not open.
    fn datagram(&mut self, now: u64, number: u64, receiver: u32, messages: &[u8]) -> Vec<u8> {
        let key_slot = match self {
            Seal::Checksum(_) => 0,
            Seal::Keys(keys) => keys.slot(now).unwrap_or(0),
        };
        let header = Header { mode: self.mode(), key_slot, number, receiver }.encode();
        let mut body = messages.to_vec();
        let tag = match self {
            Seal::Checksum(checksum) => checksum.tag(number, &header, &body),
            Seal::Keys(keys) => {
                keys.seal(now, number, &header, &mut body).unwrap_or([0; TAG_BYTES])
            }
        };
        [&header[..], &body, &tag].concat()
    }

    /// The end sealed this.
    fn check(&mut self, now: u64, parts: &mut packet::Parts<'_>) {
        let number = parts.header.number;
        let is_right = match self {
            Seal::Checksum(checksum) => checksum.tag(number, parts.head, parts.body) == *parts.tag,
            Seal::Keys(keys) => {
                let slot = parts.header.key_slot;
                keys.open(now, slot, number, parts.head, parts.body, parts.tag) != Opened::No
            }
        };
        assert!(is_right, "a wrong tag");
    }
}

/// Whatever a peer says that has the right checksum: nothing panics or goes on for ever, invariants hold,
/// what was not received is not acknowledged, and the memory of a link that is over is another's.
pub fn udp_link(bytes: &[u8]) {
    // The last byte, so that what comes before means the same with keys.
    let is_keyed = bytes.last().is_some_and(|last| last & 1 == 1);
    let mut bytes = Bytes(bytes);
    let line = Line::default();
    line.now.set(1_000_000);
    let mut buffer = Box::new([0; RECEIVE_BYTES]);
    let mut memory = Box::new(Memory::<64, 128>::new());
    let mut link_memory = Box::new(LinkMemory::<3, 32>::new());
    let numbering = Numbering::Steered { thread: 0, threads: 1 };
    // It borrows from itself; what it holds owns nothing.
    let mut peers = ManuallyDrop::new(Peers::<1>::new());
    peers.add(known(&KEYS[0], &KEYS[1])).expect("there is room");
    let mut knocks = ManuallyDrop::new(Knocks::new());
    let (protection, admitted) = match is_keyed {
        true => {
            let keyed = Keyed::new(&KEYS[0], [3; 32], Algorithm::Aes128Gcm);
            let (peers, knocks) = (&mut *peers, &mut *knocks);
            (Protection::Keyed(keyed), Admitted::Peers { peers, knocks })
        }
        false => (Protection::Insecure, Admitted::Anybody { secret: [7; 16] }),
    };
    let hub = ManuallyDrop::new(Hub::new(&mut buffer, numbering, 5, protection));
    hub.give(memory.parts());
    hub.open(LineEnd(&line), false);
    let mut listener = Listener::new(&hub, admitted, Options::USUAL);
    let config = Config {
        role: Role::Acceptor,
        peer_channels_max: 3,
        idle_millis: 3000,
        opens_per_second_max: 100,
        first_offset: 0,
    };
    let mut link = link_memory.link(0, config);
    let mut peer = Peer::enter(is_keyed, &line, &mut listener, &mut link);
    while !bytes.is_empty() && !link.is_down() {
        peer.act(&mut bytes, &mut link, &mut listener);
        line.is_full.set(false);
        peer.look();
    }
    // The link is over at the latest when it is dead, and another can be had.
    line.to_end.borrow_mut().clear();
    let mut waits = 0;
    while !link.is_down() {
        line.now.set(line.now.get() + 1_000_000);
        peer.turn(&mut link);
        peer.look();
        waits += 1;
        assert!(waits < 10, "silence does not end it");
    }
    line.now.set(line.now.get() + 60_000_000);
    Peer::enter(is_keyed, &line, &mut listener, &mut link);
}

struct Peer<'l> {
    line: &'l Line,
    at: SocketAddr,
    index: u32,
    own_index: u32,
    seal: Seal,
    number: u64,
    sent: BTreeSet<u64>,
    /// Of the end's packets the numbers that arrived.
    heard: ack::Received,
    channels: Vec<Handle>,
}

type FuzzLink<'m, 'l> = Link<'m, Watched<'l>>;

impl<'l> Peer<'l> {
    fn enter(
        is_keyed: bool,
        line: &'l Line,
        listener: &mut Listener<'l, LineEnd<'l>>,
        link: &mut FuzzLink<'_, 'l>,
    ) -> Peer<'l> {
        let own_index = 5 + line.now.get() as u32;
        line.from_end.borrow_mut().clear();
        let mut peer = Peer {
            line,
            at: address(0),
            index: 0,
            own_index,
            seal: Seal::Checksum(Checksum::new(0)),
            number: 0,
            sent: BTreeSet::new(),
            heard: ack::Received::new(),
            channels: Vec::new(),
        };
        let (udp, at) = match is_keyed {
            true => peer.ask_with_keys(listener),
            false => peer.ask(listener),
        };
        let now = Instant::from_millis(line.now.get() / 1000);
        link.start(Watched(udp), at, now);
        line.from_end.borrow_mut().clear();
        peer
    }

    /// The link is there with the INIT.
    fn ask(&mut self, listener: &mut Listener<'l, LineEnd<'l>>) -> (Udp<'l, LineEnd<'l>>, Address) {
        let (line, own_index) = (self.line, self.own_index);
        let nonce = u64::from(own_index) + 1;
        let init = Init {
            version_min: 1,
            version_max: 1,
            sender: own_index,
            nonce,
            proof: [0; 16],
            limits: LIMITS,
        };
        line.to_end.borrow_mut().push_back((address(0), init.encode().to_vec()));
        let accepted = listener.accept(None).expect("there is a vacant link");
        let answers = line.from_end.borrow();
        let index = answers.iter().find_map(|bytes| Response::decode(bytes)).expect("it says so");
        self.index = index.sender;
        self.seal = Seal::Checksum(Checksum::new(session_id(own_index, self.index, nonce)));
        accepted
    }

    /// The link is there with the first packet that opens, and not before.
    fn ask_with_keys(
        &mut self,
        listener: &mut Listener<'l, LineEnd<'l>>,
    ) -> (Udp<'l, LineEnd<'l>>, Address) {
        let now = self.line.now.get();
        let peer = known(&KEYS[1], &KEYS[0]);
        let ends = Ends { own: &KEYS[1], peer: &peer };
        let mut parameters = [0; 16];
        parameters[..4].copy_from_slice(&[0xc0, 0x05, 0x00, 0x40]);
        let terms = Terms { carrier: CARRIER, parameters, preferred: Algorithm::Aes128Gcm };
        let (mut clock, drawn) = (Clock::new(), [now as u8; 32]);
        let mut asking = Initiator::new(self.own_index, Purpose::Link, terms, now);
        let init = asking.init(ends, &mut clock, now, now, drawn).expect("it is due");
        let mut to_end = self.line.to_end.borrow_mut();
        to_end.push_back((address(0), init.to_vec()));
        // Somebody else's who has not seen the answer, and somebody's who has no keys.
        let mut stranger = init;
        stranger[100] ^= 1;
        to_end.push_back((address(1), stranger.to_vec()));
        drop(to_end);
        assert!(listener.accept(None).is_err(), "nothing was shown yet");
        let answers = self.line.from_end.borrow();
        assert_eq!(answers.len(), 1);
        let initiator::Heard::Agreed(agreed) = asking.hear(ends, &mut clock, now, &answers[0])
        else {
            panic!("a peer is refused")
        };
        drop(answers);
        self.index = agreed.peer_index;
        let mut keys = Box::new(Keyring::new());
        keys.install(agreed.keys, now);
        self.seal = Seal::Keys(keys);
        self.send(&[packet::PROBE]);
        listener.accept(None).expect("there is a vacant link")
    }

    /// A datagram of the link.
    fn send(&mut self, messages: &[u8]) {
        let messages = &messages[..messages.len().min(1444)];
        let now = self.line.now.get();
        let datagram = self.seal.datagram(now, self.number, self.index, messages);
        self.sent.insert(self.number);
        self.number += 1;
        self.line.to_end.borrow_mut().push_back((self.at, datagram));
    }

    fn say(&mut self, message: Message<'_>) {
        let mut out = [0; 1400];
        let filled = message.emit(&mut out).expect("it fits");
        self.send(&out[..filled]);
    }

    fn act(
        &mut self,
        bytes: &mut Bytes<'_>,
        link: &mut FuzzLink<'_, 'l>,
        listener: &mut Listener<'l, LineEnd<'l>>,
    ) {
        let channel = ChannelId::new(true, u16::from(bytes.byte() & 1), bytes.below(4) as u16);
        match bytes.byte() % 16 {
            // Anything, sealed.
            0 | 1 => {
                let length = bytes.below(60);
                let body: Vec<u8> = (0..length).map(|_| bytes.byte()).collect();
                self.send(&body);
            }
            2 => {
                let length = bytes.below(60);
                let garbage = (0..length).map(|_| bytes.byte()).collect();
                self.line.to_end.borrow_mut().push_back((self.at, garbage));
            }
            3 => {
                let (credit_max, idle_seconds) = (1 << 20, 3);
                let hello = Hello {
                    version_min: 1,
                    version_max: 1,
                    flags: 0,
                    channels_max: 0,
                    initial_credit: 5000,
                    credit_max,
                    idle_seconds,
                };
                self.say(Message::Hello(hello));
            }
            4 => self.say(Message::Open {
                channel,
                credit: 3000,
                target: Target::Service(b""),
                client: None,
            }),
            5 | 6 => {
                let (offset, length) = (u32::from(bytes.byte()) * 37, 1 + bytes.below(200));
                let fin = bytes.byte() > 250;
                let bytes = &[b'x'; 256][..length];
                let offset = Some(offset);
                self.say(Message::Data { channel, fin, stopped: false, offset, bytes });
            }
            7 => self.say(Message::Credit { channel, max_offset: bytes.byte().into() }),
            8 => self.say(Message::Ping(bytes.u64())),
            // What arrived, as an honest peer says it; then it is heard at once.
            9 | 10 => {
                let mut out = [0; ack::ACK_BYTES_MAX];
                let filled = self.heard.emit(Micros(self.line.now.get()), &mut out);
                self.send(&out[..filled]);
            }
            11 => self.at = address(bytes.byte() & 3),
            12 => self.line.now.set(self.line.now.get() + 1 + u64::from(bytes.byte()).pow(2) * 10),
            13 => {
                // A number left out, or used again.
                let skips = bytes.byte();
                self.number = if skips == 0 {
                    self.number.saturating_sub(1)
                } else {
                    self.number + u64::from(skips)
                };
            }
            14 => self.line.is_full.set(true),
            _ => {
                let init = Init {
                    version_min: 1,
                    version_max: 1,
                    sender: bytes.byte().into(),
                    nonce: 3,
                    proof: [0; 16],
                    limits: LIMITS,
                };
                self.line.to_end.borrow_mut().push_back((self.at, init.encode().to_vec()));
            }
        }
        link.ready(Ready { readable: true, ..Ready::default() });
        self.turn(link);
        // There is memory for one link, which is taken, or for none that is over.
        let refused = Some(FailReason::TableFull);
        assert!(listener.accept(refused).is_err(), "nobody was wanted");
        self.use_channels(bytes, link);
        self.turn(link);
    }

    fn turn(&mut self, link: &mut FuzzLink<'_, 'l>) {
        let now = Instant::from_millis(self.line.now.get() / 1000);
        let mut told = 0;
        while let Some(told_now) = link.poll(now) {
            if let Told::Opened { channel, .. } = told_now {
                link.give_to_side(channel, SideKey::source(self.channels.len()));
                self.channels.push(channel);
            }
            told += 1;
            assert!(told < 10_000, "tells for ever");
        }
        link.end_turn();
    }

    /// The users accept, read, write and leave.
    fn use_channels(&mut self, bytes: &mut Bytes<'_>, link: &mut FuzzLink<'_, 'l>) {
        if self.channels.is_empty() {
            return;
        }
        let channel = self.channels[bytes.below(self.channels.len().min(256))];
        match bytes.byte() % 8 {
            0 => link.accept(channel),
            1 => link.shut(channel),
            2 => link.stop(channel),
            3 => {
                link.close(channel, FailReason::from_number(bytes.byte()));
                self.channels.retain(|other| *other != channel);
            }
            4 | 5 => {
                if let Lent::Bytes(lent) = link.bytes(channel) {
                    let taken = lent.len().min(1 + usize::from(bytes.byte()));
                    link.consume(channel, taken);
                }
            }
            _ => {
                if let Room::Bytes(room) = link.room(channel) {
                    let filled = room.len().min(1 + usize::from(bytes.byte()) * 16);
                    room[..filled].fill(b'y');
                    link.commit(channel, filled);
                }
            }
        }
    }

    /// What the end has sent: packets of this link, that acknowledge only what was sent to it.
    fn look(&mut self) {
        let now = Micros(self.line.now.get());
        for mut datagram in self.line.from_end.borrow_mut().drain(..) {
            assert!(datagram.len() <= 1472);
            if kind_of(self.seal.mode(), &datagram) != Some(Kind::Data) {
                continue;
            }
            let mut parts = packet::take_apart(&mut datagram).expect("it is whole");
            assert_eq!(parts.header.receiver, self.own_index);
            let number = parts.header.number;
            self.seal.check(now.0, &mut parts);
            let mut rest: &[u8] = parts.body;
            while rest.first().is_some_and(|&kind| kind != PAD) {
                let length = match Own::parse(rest).expect("its own is well made") {
                    Some((Own::Ack(ack), length)) => {
                        for range in ack.ascending() {
                            let told = range.clone().count();
                            assert_eq!(self.sent.range(range).count(), told, "was never sent");
                        }
                        length
                    }
                    Some((_, length)) => length,
                    None => seaprox_proto::message::parse(rest).expect("messages").1,
                };
                rest = &rest[length..];
            }
            self.heard.insert(number, now, true, false);
        }
    }
}
