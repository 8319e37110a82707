//! One end of a link, told anything at all by its peer while its users do anything at all.

use crate::bytes::Bytes;
use seaprox::fail::FailReason;
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Order};
use seaprox_proto::message::{ChannelId, Hello, Message, Target, parse};
use seaprox_proto::session::{Config, Ended, Heard, Memory, Refused, Role, Session, Slot};
use std::collections::BTreeMap;

type Small = Memory<3, 32>;

const SLOTS: usize = 6;

/// Whatever the peer says and the users do: nothing panics, the session's invariants hold, the peer is
/// never believed to have credit it was not told of, bytes are read in order however they came, and
/// what is said is made of messages of the stream it is said on.
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
        order: match (shape & 64 != 0, shape & 2 != 0) {
            (true, _) => Order::Any,
            (false, true) => Order::Streams,
            (false, false) => Order::One,
        },
        now: Instant::from_millis(u64::from(shape)),
        said: BTreeMap::new(),
        readers: [None; SLOTS],
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
    /// What the peer has said of each channel.
    said: BTreeMap<u32, Said>,
    /// Who reads at each slot.
    readers: [Option<Reader>; SLOTS],
}

/// Of one channel: offsets count from the first.
struct Said {
    /// The peer was told that it may send up to here.
    limit: u32,
    /// Which bytes have come.
    there: Vec<bool>,
}

impl Said {
    /// How many bytes have come without a gap.
    fn row(&self) -> usize {
        self.there.iter().take_while(|&&is| is).count()
    }
}

#[derive(Clone, Copy)]
struct Reader {
    channel: ChannelId,
    /// How many bytes were delivered.
    read: usize,
    stopped: bool,
}

/// The byte of a channel at a place.
fn value(channel: ChannelId, at: usize) -> u8 {
    (at ^ at >> 8) as u8 ^ channel.0 as u8
}

impl Office<'_> {
    fn start(&mut self) {
        self.session.start(Bounds { order: self.order, ..Bounds::ORDERED }, self.now);
        self.said.clear();
        self.readers = [None; SLOTS];
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
                self.reader(slot).stopped = true;
            }),
            12 => slot.map_or((), |slot| {
                let reason = FailReason::from_number(bytes.byte());
                self.session.close_channel(slot, reason);
                self.readers[slot.index()] = None;
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
                let waiting = self.waiting(slot);
                self.reader(slot).read += count.min(waiting);
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
                let Ok((Message::Open { channel, .. }, _)) = parse(&out) else { panic!("{out:?}") };
                self.readers[slot.index()] = Some(Reader { channel, read: 0, stopped: false });
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
                Message::Open { channel, credit, .. } => {
                    self.said.insert(channel.0, Said { limit: credit, there: Vec::new() });
                }
                Message::Opened { channel, credit } => self.grant(channel, credit),
                Message::Credit { channel, max_offset } => {
                    self.grant(channel, max_offset.wrapping_sub(first));
                }
                Message::Data { offset, .. } => {
                    assert_eq!(offset.is_some(), self.order == Order::Any);
                }
                Message::Done { channel } => {
                    self.said.remove(&channel.0);
                }
                _ => {}
            }
        }
    }

    /// The peer is told that it may send so many bytes.
    fn grant(&mut self, channel: ChannelId, limit: u32) {
        let said = self.said(channel);
        said.limit = said.limit.max(limit);
    }

    /// What the peer has said of a channel that it may have opened.
    fn said(&mut self, channel: ChannelId) -> &mut Said {
        let hello = || Said { limit: Small::INITIAL_CREDIT_BYTES, there: Vec::new() };
        self.said.entry(channel.0).or_insert_with(hello)
    }

    fn reader(&mut self, slot: Slot) -> &mut Reader {
        self.readers[slot.index()].as_mut().expect("somebody reads")
    }

    /// How many bytes a slot has stored, if the session is right.
    fn waiting(&self, slot: Slot) -> usize {
        let reader = self.readers[slot.index()].expect("somebody reads");
        let row = self.said.get(&reader.channel.0).map_or(0, Said::row);
        if reader.stopped { 0 } else { row - reader.read }
    }

    /// The peer says something: any bytes, or a message that is likely to mean something.
    fn be_told(&mut self, bytes: &mut Bytes<'_>) {
        let kind = bytes.byte();
        let channel = ChannelId::new(kind & 0x80 != 0, bytes.byte().into(), bytes.below(4) as u16);
        let number = u32::from(bytes.byte()) << bytes.below(20);
        let offset = self.config.first_offset.wrapping_add(number);
        let length = (number as usize).min(20_000);
        let row = self.said.get(&channel.0).map_or(0, Said::row);
        // Without order anywhere; most often it is near what is wanted next.
        let at = match (self.order == Order::Any).then(|| bytes.byte()) {
            None => row,
            Some(near @ ..0x80) => row + usize::from(near) * 16,
            Some(near @ 0x80..0xc0) => row.saturating_sub(usize::from(near - 0x80) * 16),
            Some(far) => usize::from(far) << bytes.below(20),
        };
        let data: Vec<u8> = (at..at + length).map(|at| value(channel, at)).collect();
        let place = self.config.first_offset.wrapping_add(at as u32);
        let place = (self.order == Order::Any).then_some(place);
        let data =
            |fin, stopped| Message::Data { channel, fin, stopped, offset: place, bytes: &data };
        let reason = number as u16;
        let message = match kind & 15 {
            0 => Message::Open {
                channel,
                credit: number,
                target: Target::Service(b""),
                client: None,
            },
            1 | 2 => data(false, false),
            3 => data(true, place.is_some() && kind & 0x20 != 0),
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
        let stream = if self.order == Order::Streams && message.channel().is_some() {
            channel.stream()
        } else {
            0
        };
        self.hear(message, if kind & 0x40 == 0 { stream } else { 3 });
    }

    /// Up to where the peer has sent of a channel so far.
    fn sent(&self, channel: ChannelId) -> u32 {
        let sent = self.said.get(&channel.0).map_or(0, |said| said.there.len());
        self.config.first_offset.wrapping_add(sent as u32)
    }

    fn hear(&mut self, message: Message<'_>, stream: u16) {
        let now = self.now;
        let told = self.session.owes().is_none();
        let heard = self.session.handle(message, stream, now);
        if !matches!(heard, Err(_) | Ok(Heard::Refused)) {
            self.note_bytes(&message, told);
        }
        match heard {
            Ok(Heard::Opened { slot, early, .. }) => {
                let Message::Open { channel, .. } = message else { panic!("{message:?}") };
                assert!(!slot.is_ours() && self.session.user(slot) == 0);
                assert!(!early || self.order == Order::Any);
                self.said(channel);
                let reader = Reader { channel, read: 0, stopped: false };
                assert!(self.readers[slot.index()].replace(reader).is_none(), "two at a slot");
            }
            Ok(Heard::Bytes { slot, bytes, fin }) => {
                let Message::Data { channel, .. } = message else { panic!("{message:?}") };
                // They are the last of those that have come in a row.
                let row = self.said(channel).row();
                let first = row - bytes.len();
                assert!(bytes.iter().zip(first..).all(|(&byte, at)| byte == value(channel, at)));
                let stored = self.session.stored(slot).len();
                let passed = if stored == 0 { bytes.len() / 2 } else { 0 };
                if passed > 0 {
                    assert_eq!(self.reader(slot).read, first, "others come first");
                    self.reader(slot).read += passed;
                    self.session.pass(slot, passed, now);
                }
                self.session.store(slot, &bytes[passed..]);
                assert!(!fin || self.session.ended(slot).is_none(), "bytes come before the end");
            }
            Ok(Heard::Stored(slot)) => assert!(!self.session.stored(slot).is_empty()),
            Ok(Heard::Refused) => assert_eq!(self.order, Order::Any),
            Ok(Heard::Credit(slot)) => assert!(self.session.room(slot) > 0),
            Ok(Heard::Ended(slot)) if self.session.stored(slot).is_empty() => {
                // Whoever was reset knows at once, and may still have to wait for bytes.
                assert!(self.session.ended(slot).is_some() || self.session.is_broken(slot));
            }
            Ok(Heard::Stopped(slot)) => assert!(self.session.is_broken(slot)),
            Ok(Heard::Up) => assert!(self.session.is_up()),
            Ok(Heard::Closed(_)) => assert!(!self.session.is_up()),
            Ok(Heard::Nothing | Heard::Accepted(_) | Heard::Ended(_) | Heard::Draining) => {}
            Err(reason) => {
                self.session.close(reason, "no");
                assert!(!self.session.is_up() && !self.session.can_open());
            }
        }
    }

    /// Bytes that the session has taken count as sent, whatever became of them.
    fn note_bytes(&mut self, message: &Message<'_>, told: bool) {
        let Message::Data { channel, offset, bytes, .. } = *message else { return };
        let first = self.config.first_offset;
        let reader = self.readers.iter().flatten().find(|reader| reader.channel == channel);
        let (is_read, stopped) = (reader.is_some(), reader.is_none_or(|reader| reader.stopped));
        let is_early = self.order == Order::Any && channel.by_initiator() != self.is_initiator();
        if !is_read && !is_early || self.session.is_ending() {
            return;
        }
        let said = self.said(channel);
        let at = match offset {
            Some(offset) => offset.wrapping_sub(first) as usize,
            None => said.row(),
        };
        let end = at + bytes.len();
        if at > 1 << 30 || end <= said.row() {
            return;
        }
        // It may have been granted, and not have been told yet, or never: nobody reads any more.
        assert!(end <= said.limit as usize || !told || stopped, "{end} of {}", said.limit);
        if end <= 1 << 22 {
            said.there.resize(said.there.len().max(end), false);
            said.there[at..end].fill(true);
        }
    }

    fn is_initiator(&self) -> bool {
        self.config.role == Role::Initiator
    }

    /// What everybody can read is what was sent, as far as there is no gap.
    fn check(&self) {
        for (slot, _) in self.session.users() {
            let reader = self.readers[slot.index()].expect("somebody reads");
            let stored = self.session.stored(slot);
            assert_eq!(stored.is_empty(), self.waiting(slot) == 0);
            assert!(stored.len() <= self.waiting(slot));
            let mut places = stored.iter().zip(reader.read..);
            assert!(places.all(|(&byte, at)| byte == value(reader.channel, at)));
            if let Some(Ended::Reset(_)) = self.session.ended(slot) {
                assert!(self.session.is_broken(slot) && self.session.room(slot) == 0);
            }
        }
    }
}
