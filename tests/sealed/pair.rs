//! Two links on a pair of sockets, each with a tap, driven by hand: nothing happens but what a test does.

use crate::keys::{self, Clock, House, PEERS};
use crate::tap::{Tap, Wire};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::Ready;
use seaprox::transport::{Lent, Room};
use seaprox::wanted::Wanted;
use seaprox_proto::carrier::{Carrier, Greeting};
use seaprox_proto::link::{Link, LinkMemory, Told};
use seaprox_proto::session::{Config, Role};
use seaprox_sctp::{Options, Seqpacket, Socket};
use seaprox_sealed::{Outside, Sealed};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) type Carried = Sealed<'static, 'static, Tap, Clock, PEERS>;

const IDLE_MILLIS: u32 = 3_600_000;

/// Two sockets that are connected: the one that asked, the other.
pub(crate) fn sockets() -> [Tap; 2] {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("@seaprox-sealed-{}-{number}", std::process::id());
    let options = Options::new(8);
    let listener = Seqpacket::listen(name.as_bytes(), &options).expect("a vacant name");
    let near = Seqpacket::connect(name.as_bytes(), &options).expect("there is a listener");
    let (far, _) = Seqpacket::accept(&listener).expect("it has connected");
    [near, far].map(|socket| Tap { socket, wire: Wire::default() })
}

/// Both carriers of a pair, whatever became of them.
pub(crate) struct Greeted {
    pub(crate) carriers: [Carried; 2],
    pub(crate) outcomes: [Result<Greeting, FailReason>; 2],
    pub(crate) wires: [Wire; 2],
}

/// Lets two ends greet each other, until nothing more comes of it.
pub(crate) fn greet(near: &'static House, far: &'static House, taps: [Tap; 2]) -> Greeted {
    let wires = [taps[0].wire.clone(), taps[1].wire.clone()];
    let [one, other] = taps;
    let mut carriers =
        [Sealed::asking(near, one).expect("there is a seat"), Sealed::asked(far, other)];
    let mut outcomes = [Ok(Greeting::Stranger); 2];
    for _ in 0..4 {
        for (carrier, outcome) in carriers.iter_mut().zip(&mut outcomes) {
            if matches!(outcome, Ok(Greeting::Stranger | Greeting::Answered)) {
                *outcome = carrier.greet(None);
            }
        }
    }
    Greeted { carriers, outcomes, wires }
}

/// Where two links live.
pub(crate) struct Memories(Box<[LinkMemory<8, 64>; 2]>);

impl Memories {
    pub(crate) fn new() -> Memories {
        Memories(Box::new([const { LinkMemory::new() }; 2]))
    }
}

/// One end.
pub(crate) struct End<'m> {
    pub(crate) link: Link<'m, Carried>,
    /// By connection.
    pub(crate) channels: Vec<Handle>,
    /// What came on each.
    pub(crate) heard: Vec<Vec<u8>>,
    /// Why it is dead.
    pub(crate) dead: Option<FailReason>,
}

impl<'m> End<'m> {
    fn new(role: Role, memory: &'m mut LinkMemory<8, 64>) -> End<'m> {
        let config = Config {
            role,
            peer_channels_max: if role == Role::Acceptor { 8 } else { 0 },
            idle_millis: IDLE_MILLIS,
            opens_per_second_max: 1000,
            first_offset: 0,
        };
        let link = memory.link(0, config);
        End { link, channels: Vec::new(), heard: Vec::new(), dead: None }
    }

    /// A turn in which the socket is ready for everything.
    pub(crate) fn turn(&mut self, clock: &Clock) {
        let ready = Ready { readable: true, writable: true, ..Ready::default() };
        self.link.ready(ready);
        while let Some(told) = self.link.poll(clock.now()) {
            match told {
                Told::Opened { channel, .. } => {
                    let side = SideKey::source(self.channels.len());
                    self.link.give_to_side(channel, side);
                    self.link.accept(channel);
                    self.channels.push(channel);
                    self.heard.push(Vec::new());
                }
                Told::Ready(side, _) => self.read(side.connection()),
                Told::Dead(reason) => self.dead = Some(reason),
                Told::Up | Told::Draining => {}
            }
        }
        self.link.end_turn();
    }

    fn read(&mut self, connection: usize) {
        let channel = self.channels[connection];
        while let Lent::Bytes(bytes) = self.link.bytes(channel) {
            let count = bytes.len();
            self.heard[connection].extend_from_slice(bytes);
            self.link.consume(channel, count);
        }
    }

    /// Puts as much of this into a channel as it takes; says how much.
    pub(crate) fn say(&mut self, connection: usize, bytes: &[u8]) -> usize {
        let channel = self.channels[connection];
        match self.link.room(channel) {
            Room::Bytes(room) => {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                self.link.commit(channel, count);
                count
            }
            Room::Full | Room::Broken => 0,
        }
    }
}

/// Two ends, the one that asked first.
pub(crate) struct Pair<'m> {
    pub(crate) ends: [End<'m>; 2],
    pub(crate) wires: [Wire; 2],
    pub(crate) clock: Clock,
}

impl<'m> Pair<'m> {
    pub(crate) fn new(memories: &'m mut Memories) -> Pair<'m> {
        let clock = Clock::default();
        let own = keys::identity(2);
        let asks = keys::identity(1);
        let near = keys::asking(1, own, keys::psk(9), &clock);
        let far = keys::answering(own, &[(asks, keys::psk(9))], 1, &clock);
        let Greeted { carriers, outcomes, wires } = greet(near, far, sockets());
        assert_eq!(outcomes, [Ok(Greeting::Done); 2]);
        assert_eq!(carriers.each_ref().map(Sealed::peer), [None, Some(0)]);
        let [one, other] = &mut *memories.0;
        let mut ends = [End::new(Role::Initiator, one), End::new(Role::Acceptor, other)];
        for (end, carrier) in ends.iter_mut().zip(carriers) {
            end.link.start(carrier, Address::UNIX, clock.now());
        }
        let mut pair = Pair { ends, wires, clock };
        pair.turns(3);
        assert!(pair.ends[0].link.is_open(), "the link is up");
        pair
    }

    /// Some turns of both.
    pub(crate) fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            for end in &mut self.ends {
                end.turn(&self.clock);
            }
        }
    }

    /// Opens so many channels.
    pub(crate) fn open(&mut self, channels: usize) {
        let near = &mut self.ends[0];
        for connection in 0..channels {
            let side = SideKey::dest(near.channels.len());
            let channel = near.link.open(side, Wanted::Service(b"echo"), None);
            near.channels.push(channel.unwrap_or_else(|_| panic!("channel {connection}")));
            near.heard.push(Vec::new());
        }
        let known = near.channels.len();
        self.turns(2);
        assert_eq!(self.ends[1].channels.len(), known, "the far end knows them");
    }

    /// Says this on channels of one end, in turns, until all has been heard at the other.
    pub(crate) fn exchange(&mut self, from: usize, texts: &[&[u8]]) {
        let mut said = vec![0; texts.len()];
        let before: Vec<_> = self.ends[1 - from].heard.iter().map(Vec::len).collect();
        for _ in 0..100_000 {
            for (connection, text) in texts.iter().enumerate() {
                said[connection] += self.ends[from].say(connection, &text[said[connection]..]);
            }
            self.turns(1);
            let heard = &self.ends[1 - from].heard;
            let is_all = |(connection, text): (usize, &&[u8])| {
                heard[connection].len() - before[connection] == text.len()
            };
            if texts.iter().enumerate().all(is_all) {
                break;
            }
        }
        for (connection, text) in texts.iter().enumerate() {
            let heard = &self.ends[1 - from].heard[connection][before[connection]..];
            assert!(heard == *text, "channel {connection}: {} of {}", heard.len(), text.len());
        }
    }

    pub(crate) fn dead(&self) -> [Option<FailReason>; 2] {
        self.ends.each_ref().map(|end| end.dead)
    }
}
