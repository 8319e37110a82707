//! One end of a link over udp, as its egress has it, and a peer who has the right checksum and says
//! anything at all between what an honest one would.

use crate::bytes::Bytes;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Lent, Room};
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_proto::link::{Link, LinkMemory, Told};
use seaprox_proto::message::{ChannelId, Hello, Message, Target};
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::Accept;
use seaprox_udp::ack;
use seaprox_udp::carrier::{Options, Udp};
use seaprox_udp::handshake::{Init, Limits, Response, session_id};
use seaprox_udp::hub::{Hub, Numbering, Wire};
use seaprox_udp::listener::Listener;
use seaprox_udp::packet::{self, Header, Kind, Own, PAD, kind_of};
use seaprox_udp::reliable::Memory;
use seaprox_udp::seal::{Checksum, Seal};
use seaprox_udp::socket::{Datagrams, Path, RECEIVE_BYTES};
use seaprox_udp::time::Micros;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::mem::ManuallyDrop;
use std::net::SocketAddr;

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

/// Whatever a peer says that has the right checksum: nothing panics or goes on for ever, invariants hold,
/// what was not received is not acknowledged, and the memory of a link that is over is another's.
pub fn udp_link(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let line = Line::default();
    line.now.set(1_000_000);
    let mut buffer = Box::new([0; RECEIVE_BYTES]);
    let mut memory = Box::new(Memory::<64, 128>::new());
    let mut link_memory = Box::new(LinkMemory::<3, 32>::new());
    let numbering = Numbering::Steered { thread: 0, threads: 1 };
    // It borrows from itself; what it holds owns nothing.
    let hub = ManuallyDrop::new(Hub::new(&mut buffer, numbering, 5));
    hub.give(memory.slices());
    hub.open(LineEnd(&line), false);
    let mut listener = Listener::new(&hub, [7; 16], Options::USUAL);
    let config = Config {
        role: Role::Acceptor,
        peer_channels_max: 3,
        idle_millis: 3000,
        opens_per_second_max: 100,
        first_offset: 0,
    };
    let mut link = link_memory.link(0, config);
    let mut peer = Peer::enter(&line, &mut listener, &mut link);
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
    Peer::enter(&line, &mut listener, &mut link);
}

struct Peer<'l> {
    line: &'l Line,
    at: SocketAddr,
    index: u32,
    own_index: u32,
    seal: Checksum,
    number: u64,
    sent: BTreeSet<u64>,
    /// Of the end's packets the numbers that arrived.
    heard: ack::Received,
    channels: Vec<Handle>,
}

type FuzzLink<'m, 'l> = Link<'m, Watched<'l>>;

impl<'l> Peer<'l> {
    fn enter(
        line: &'l Line,
        listener: &mut Listener<'l, LineEnd<'l>>,
        link: &mut FuzzLink<'_, 'l>,
    ) -> Peer<'l> {
        let own_index = 5 + line.now.get() as u32;
        let nonce = u64::from(own_index) + 1;
        let init = Init {
            version_min: 1,
            version_max: 1,
            sender: own_index,
            nonce,
            proof: [0; 16],
            limits: LIMITS,
        };
        line.from_end.borrow_mut().clear();
        line.to_end.borrow_mut().push_back((address(0), init.encode().to_vec()));
        let (udp, at) = listener.accept(None).expect("there is a vacant link");
        let answers = line.from_end.borrow();
        let index = answers.iter().find_map(|bytes| Response::decode(bytes)).expect("it says so");
        let index = index.sender;
        drop(answers);
        let now = Instant::from_millis(line.now.get() / 1000);
        link.start(Watched(udp), at, now);
        let seal = Checksum::new(session_id(own_index, index, nonce));
        line.from_end.borrow_mut().clear();
        Peer {
            line,
            at: address(0),
            index,
            own_index,
            seal,
            number: 0,
            sent: BTreeSet::new(),
            heard: ack::Received::new(),
            channels: Vec::new(),
        }
    }

    /// A datagram of the link.
    fn send(&mut self, messages: &[u8]) {
        let header = Header { key_slot: 0, number: self.number, receiver: self.index }.encode();
        let mut body = messages[..messages.len().min(1444)].to_vec();
        let tag = self.seal.seal(self.number, &header, &mut body);
        self.sent.insert(self.number);
        self.number += 1;
        let datagram = [&header[..], &body, &tag].concat();
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
            if kind_of(&datagram) != Some(Kind::Data) {
                continue;
            }
            let parts = packet::take_apart(&mut datagram).expect("it is whole");
            assert_eq!(parts.header.receiver, self.own_index);
            let number = parts.header.number;
            assert!(self.seal.open(number, parts.head, parts.body, parts.tag), "a wrong tag");
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
