//! One end of a link, told anything at all by its peer while its users do anything at all.

use crate::bytes::Bytes;
use seaprox::fail::FailReason;
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Order};
use seaprox_proto::message::{ChannelId, Hello, Message, Target, parse};
use seaprox_proto::session::{Config, Ended, Heard, Memory, Refused, Role, Session, Slot};
use std::collections::{BTreeMap, VecDeque};

type Small = Memory<3, 32>;

const SLOTS: usize = 6;

/// Whatever the peer says and the users do: nothing panics, the session's invariants hold, the peer is
/// never believed to have credit it was not told of, bytes are kept as they came, and what is said
/// is made of messages of the stream it is said on.
pub fn session(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let shape = bytes.byte();
    let config = Config {
        role: if shape & 1 == 0 { Role::Initiator } else { Role::Acceptor },
        peer_channels_max: u16::from(shape >> 2 & 3),
        idle_millis: 3000,
        opens_per_second_max: 5,
        first_offset: if shape & 16 == 0 { 0 } else { u32::MAX - 1000 },
    };
    let mut memory = Box::new(Small::new());
    let mut office = Office {
        session: memory.session(config),
        config,
        order: if shape & 2 != 0 { Order::Streams } else { Order::One },
        now: Instant::from_millis(u64::from(shape)),
        limits: BTreeMap::new(),
        waiting: std::array::from_fn(|_| VecDeque::new()),
        next_byte: 0,
    };
    office.start();
    // Half of the inputs need not find out how to say hello.
    if shape & 32 != 0 {
        office.greet();
    }
    while !bytes.is_empty() {
        office.act(&mut bytes);
        office.session.invariants();
        office.check();
    }
}

struct Office<'m> {
    session: Session<'m>,
    config: Config,
    order: Order,
    now: Instant,
    /// Of each channel, the offset up to which the peer was told it may send, and what it has sent.
    limits: BTreeMap<u32, (u32, u32)>,
    /// Of each slot, the bytes that were stored.
    waiting: [VecDeque<u8>; SLOTS],
    next_byte: u8,
}

impl Office<'_> {
    fn start(&mut self) {
        self.session.start(Bounds { order: self.order, ..Bounds::ORDERED }, self.now);
        self.limits.clear();
        self.waiting.iter_mut().for_each(VecDeque::clear);
    }

    fn greet(&mut self) {
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            flags: 0,
            channels_max: 2,
            initial_credit: 500,
            credit_max: 1 << 20,
            idle_seconds: 3,
        };
        self.emit(200, 0);
        self.hear(Message::Hello(hello), 0);
        self.emit(200, 0);
        self.hear(Message::Ping(0), 0);
    }

    fn act(&mut self, bytes: &mut Bytes<'_>) {
        let act = bytes.byte();
        let slot = self.slot(bytes.below(SLOTS + 1));
        match act % 20 {
            0..=5 => self.be_told(bytes),
            6 => {
                let (room, stream) = (bytes.below(200), bytes.byte().into());
                self.emit(room, stream);
            }
            7 => {
                if let Some(stream) = self.session.owes() {
                    assert!(self.emit(80, stream) > 0, "owes, and says nothing");
                }
            }
            8 => self.open(bytes.below(60)),
            9 => slot.map_or((), |slot| self.session.accept(slot)),
            10 => slot.map_or((), |slot| self.session.finish(slot)),
            11 => slot.map_or((), |slot| {
                self.session.stop(slot, FailReason::Other);
                self.waiting[slot.index()].clear();
            }),
            12 => slot.map_or((), |slot| {
                let reason = FailReason::from_number(bytes.byte());
                self.session.close_channel(slot, reason);
                self.waiting[slot.index()].clear();
            }),
            13 => slot.map_or((), |slot| self.session.wait(slot)),
            14 => {
                if let Some(slot) = self.session.next_waiting() {
                    assert!(self.session.room(slot) > 0 && self.session.deficit(slot) > 0);
                }
            }
            15 => slot.map_or((), |slot| {
                let sent = self.session.room(slot).min(u32::from(bytes.byte()) * 256) as u16;
                if sent > 0 {
                    self.session.data(slot, sent);
                }
            }),
            16 | 17 => slot.map_or((), |slot| {
                let count = bytes.below(256) * 64;
                let waiting = &mut self.waiting[slot.index()];
                waiting.drain(..count.min(waiting.len()));
                self.session.consume(slot, count, self.now);
            }),
            18 => {
                self.now = self.now.after(u32::from(bytes.byte()) * 8);
                if self.session.timeout().is_some_and(|at| at <= self.now)
                    && self.session.handle_timeout(self.now).is_err()
                {
                    assert!(!self.session.is_up());
                }
            }
            _ => match bytes.byte() {
                0..8 => self.start(),
                8..16 => self.session.drain(),
                16..24 => self.session.close(FailReason::Shutdown, "is that so? \u{00e4}\u{1f980}"),
                _ => {}
            },
        }
    }

    /// A slot by its number; there is one number that none has.
    fn slot(&self, index: usize) -> Option<Slot> {
        self.session.users().map(|(slot, _)| slot).find(|slot| slot.index() == index)
    }

    fn open(&mut self, room: usize) {
        let mut out = vec![0; room];
        let can_open = self.session.can_open();
        let target = Target::Name(b"example.org", 443);
        match self.session.open(7, target, None, &mut out, self.now) {
            Ok((slot, bytes)) => {
                assert!(can_open && self.session.user(slot) == 7);
                self.note_said(&out[..bytes], self.session.stream_of(slot));
            }
            Err(Refused::NoRoom) => assert!(can_open && room < 32),
            Err(Refused::Because(_)) => assert!(!can_open),
        }
    }

    fn emit(&mut self, room: usize, stream: u16) -> usize {
        let mut out = vec![0xee; room];
        let bytes = self.session.emit_control(&mut out, Some(stream));
        assert!(out[bytes..].iter().all(|&byte| byte == 0xee), "more is written than is said");
        self.note_said(&out[..bytes], stream);
        bytes
    }

    /// What was said is messages, and all of them of one stream.
    fn note_said(&mut self, mut rest: &[u8], stream: u16) {
        let first = self.config.first_offset;
        while !rest.is_empty() {
            let (message, length) = parse(rest).expect("a message");
            rest = &rest[length..];
            let own = message.channel().map_or(0, ChannelId::stream);
            assert!(self.order != Order::Streams || own == stream, "{message:?} on {stream}");
            match message {
                Message::Open { channel, credit, .. } | Message::Opened { channel, credit } => {
                    let (limit, _) = self.limits.entry(channel.0).or_insert((first, first));
                    *limit = first.wrapping_add(credit);
                }
                Message::Credit { channel, max_offset } => {
                    // Of a channel that was opened by the peer, and not accepted yet.
                    let hello = first.wrapping_add(Small::INITIAL_CREDIT_BYTES);
                    self.limits.entry(channel.0).or_insert((hello, first)).0 = max_offset;
                }
                Message::Done { channel } => {
                    self.limits.remove(&channel.0);
                }
                _ => {}
            }
        }
    }

    /// The peer says something: any bytes, or a message that is likely to mean something.
    fn be_told(&mut self, bytes: &mut Bytes<'_>) {
        let kind = bytes.byte();
        let channel = ChannelId::new(kind & 0x80 != 0, bytes.byte().into(), bytes.below(4) as u16);
        let number = u32::from(bytes.byte()) << bytes.below(20);
        let offset = self.config.first_offset.wrapping_add(number);
        let length = (number as usize).min(20_000);
        let data: Vec<u8> = (0..length).map(|at| self.next_byte.wrapping_add(at as u8)).collect();
        let reason = number as u16;
        let message = match kind & 15 {
            0 => Message::Open {
                channel,
                credit: number,
                target: Target::Service(b""),
                client: None,
            },
            1 | 2 => Message::Data { channel, fin: false, bytes: &data },
            3 => Message::Data { channel, fin: true, bytes: &data },
            4 => Message::Opened { channel, credit: number },
            5 => Message::Credit { channel, max_offset: offset },
            // One that is right, or nothing after a first guess would ever be reset.
            6 => Message::Reset { channel, reason, final_offset: self.sent(channel) },
            7 => Message::Reset { channel, reason, final_offset: offset },
            8 => Message::Stop { channel, reason },
            9 => Message::Done { channel },
            10 => Message::Ping(number.into()),
            11 => Message::Pong(bytes.u64()),
            12 => Message::Goaway { last: channel },
            13 => Message::Close { reason, text: b"so long" },
            _ => {
                let any: Vec<u8> = (0..24).map(|_| bytes.byte()).collect();
                if let Ok((message, _)) = parse(&any) {
                    self.hear(message, u16::from(kind >> 4));
                }
                return;
            }
        };
        let stream =
            if self.order == Order::Streams && message.channel().is_some() { channel.stream() } else { 0 };
        self.hear(message, if kind & 0x40 == 0 { stream } else { 3 });
    }

    /// What the peer has sent of a channel so far.
    fn sent(&self, channel: ChannelId) -> u32 {
        self.limits.get(&channel.0).map_or(self.config.first_offset, |(_, sent)| *sent)
    }

    fn hear(&mut self, message: Message<'_>, stream: u16) {
        let now = self.now;
        let told = self.session.owes().is_none();
        match self.session.handle(message, stream, now) {
            Ok(Heard::Opened { slot, .. }) => {
                let Message::Open { channel, .. } = message else { panic!("{message:?}") };
                let first = self.config.first_offset;
                let hello = first.wrapping_add(Small::INITIAL_CREDIT_BYTES);
                self.limits.insert(channel.0, (hello, first));
                assert!(!slot.is_ours() && self.session.user(slot) == 0);
                assert!(self.waiting[slot.index()].is_empty());
            }
            Ok(Heard::Bytes { slot, bytes, fin }) => {
                let Message::Data { channel, .. } = message else { panic!("{message:?}") };
                let (limit, sent) = self.limits.get_mut(&channel.0).expect("it was opened");
                *sent = sent.wrapping_add(bytes.len() as u32);
                // It may have been granted, and not have been told yet.
                let ahead = sent.wrapping_sub(*limit) as i32;
                assert!(ahead <= 0 || !told, "{ahead} bytes beyond the credit");
                self.next_byte = self.next_byte.wrapping_add(bytes.len() as u8);
                let waiting = &mut self.waiting[slot.index()];
                let passed = if waiting.is_empty() { bytes.len() / 2 } else { 0 };
                if passed > 0 {
                    self.session.pass(slot, passed, now);
                }
                self.session.store(slot, &bytes[passed..]);
                waiting.extend(&bytes[passed..]);
                assert!(!fin || self.session.ended(slot).is_none(), "bytes come before the end");
            }
            Ok(Heard::Credit(slot)) => assert!(self.session.room(slot) > 0),
            Ok(Heard::Ended(slot)) if self.waiting[slot.index()].is_empty() => {
                assert!(self.session.ended(slot).is_some());
            }
            Ok(Heard::Stopped(slot)) => assert!(self.session.is_broken(slot)),
            Ok(Heard::Up) => assert!(self.session.is_up()),
            Ok(Heard::Closed(_)) => assert!(!self.session.is_up()),
            Ok(_) => self.count_dropped(message),
            Err(reason) => {
                self.session.close(reason, "no");
                assert!(!self.session.is_up() && !self.session.can_open());
            }
        }
    }

    /// Bytes that are dropped count as sent all the same.
    fn count_dropped(&mut self, message: Message<'_>) {
        if let Message::Data { channel, bytes, .. } = message
            && let Some((_, sent)) = self.limits.get_mut(&channel.0)
        {
            *sent = sent.wrapping_add(bytes.len() as u32);
        }
    }

    /// Everybody's stored bytes are those that came.
    fn check(&self) {
        for (slot, _) in self.session.users() {
            let waiting = &self.waiting[slot.index()];
            let stored = self.session.stored(slot);
            assert_eq!(stored.is_empty(), waiting.is_empty());
            assert!(stored.iter().eq(waiting.iter().take(stored.len())));
            if let Some(Ended::Reset(_)) = self.session.ended(slot) {
                assert!(self.session.is_broken(slot) && self.session.room(slot) == 0);
            }
        }
    }
}
