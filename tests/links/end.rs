//! One end of the link: a session, its one outgoing packet, the buffer packets arrive in, and
//! what its users are told.

use crate::contents::{PATTERN_BYTES, contents};
use crate::run::{Habits, Summary};
use crate::story::{Left, Part, Story};
use crate::users::{client_of, wanted};
use crate::wire::Wire;
use seaprox::fail::FailReason;
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Order};
use seaprox_proto::demarcator::Demarcator;
use seaprox_proto::message::{Message, PACKET_BYTES, Target, parse};
use seaprox_proto::session::{Ended, Heard, Session, Slot};

/// What both ends and the oracle look at.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) habits: Habits,
    /// Faults are over: everybody wants to get done.
    pub(crate) calm: bool,
    /// The wires are black holes.
    pub(crate) is_silent: bool,
    pub(crate) is_traced: bool,
    pub(crate) stories: Vec<Story>,
    /// Of those, the ones that somebody is part of.
    pub(crate) open: Vec<usize>,
    /// In which direction what is under way goes.
    pub(crate) wires: [Wire; 2],
    pub(crate) summary: Summary,
}

impl World {
    /// Shows something of a run that is looked at.
    pub(crate) fn trace(&self, text: impl Fn() -> String) {
        if self.is_traced {
            println!("{:>8} {}", self.now.as_millis(), text());
        }
    }

    pub(crate) fn maybe(&mut self, chance: u16) -> bool {
        !self.calm && self.random.chance(chance)
    }
}

pub(crate) struct End<'m> {
    pub(crate) number: usize,
    pub(crate) session: Session<'m>,
    demarcator: Demarcator,
    buffer: Box<[u8; PACKET_BYTES]>,
    pub(crate) packet: Vec<u8>,
    pub(crate) packet_stream: u16,
    /// The carrier is gone, as far as this end knows.
    pub(crate) is_down: bool,
    /// CLOSE is owed, and then nothing more.
    pub(crate) closing: bool,
}

impl<'m> End<'m> {
    pub(crate) fn new(number: usize, session: Session<'m>) -> End<'m> {
        End {
            number,
            session,
            demarcator: Demarcator::new(),
            buffer: Box::new([0; PACKET_BYTES]),
            packet: Vec::new(),
            packet_stream: 0,
            is_down: true,
            closing: false,
        }
    }

    pub(crate) fn start(&mut self, carrier: Bounds, now: Instant) {
        assert!(self.is_down);
        self.session.start(carrier, now);
        (self.is_down, self.closing) = (false, false);
        self.demarcator = Demarcator::new();
        self.packet.clear();
    }

    /// The carrier is gone: everybody hears of it.
    pub(crate) fn die(&mut self, world: &mut World) {
        let users: Vec<_> = self.session.users().collect();
        for (slot, user) in users {
            let part = world.stories[user as usize].part(self.number);
            assert_eq!(part.slot, slot);
            assert!(part.is_here());
            part.left = Some(Left::LinkDied);
        }
        self.is_down = true;
        world.summary.deaths += 1;
    }

    /// A turn: receive, act, send. Says whether anything went on.
    pub(crate) fn turn(&mut self, world: &mut World) -> bool {
        if self.is_down {
            return false;
        }
        let received = self.receive(world);
        if self.is_down {
            return true;
        }
        if self.session.timeout().is_some_and(|at| at <= world.now)
            && self.session.handle_timeout(world.now).is_err()
        {
            assert!(world.is_silent, "given up though it was heard of");
            self.die(world);
            return true;
        }
        let acted = !self.closing && self.act(world);
        let sent = self.send(world);
        self.session.invariants();
        received || acted || sent
    }

    fn receive(&mut self, world: &mut World) -> bool {
        let mut went_on = false;
        loop {
            let room = self.demarcator.room(&mut self.buffer);
            let wire = &mut world.wires[1 - self.number];
            let Some(piece) = wire.receive(room, world.now, &mut world.random) else {
                return went_on;
            };
            went_on = true;
            let packet = self.demarcator.piece(piece.stream, piece.bytes, piece.end);
            let Some(length) = packet.expect("an honest carrier") else { continue };
            let packet = self.buffer[..length].to_vec();
            let mut rest = &packet[..];
            let mut kept = true;
            while kept && !rest.is_empty() && !self.is_down && !self.closing {
                let Ok((message, length)) = parse(rest) else { panic!("malformed: {rest:?}") };
                rest = &rest[length..];
                world.trace(|| format!("{} hears {message:?}", self.number));
                match self.session.handle(message, piece.stream, world.now) {
                    Ok(Heard::Refused) => kept = false,
                    Ok(heard) => self.hear(heard, world),
                    Err(reason) => self.object(&message, reason, world),
                }
            }
            world.summary.refused += u64::from(!kept);
            let World { wires, random, now, .. } = world;
            wires[1 - self.number].handled(kept, *now, random);
            if self.is_down || self.closing {
                return true;
            }
        }
    }

    /// The far end broke the rules: only what was forged does.
    fn object(&mut self, message: &Message<'_>, reason: FailReason, world: &mut World) {
        assert!(world.habits.forges, "{message:?}: {reason}");
        world.summary.forged += 1;
        self.session.close(reason, "rules are rules");
        self.closing = true;
    }

    fn hear(&mut self, heard: Heard<'_>, world: &mut World) {
        let end = self.number;
        let by_slot = |session: &Session<'_>, slot| session.user(slot) as usize;
        match heard {
            Heard::Nothing | Heard::Draining => {}
            Heard::Up => assert!(self.session.is_up()),
            Heard::Refused => unreachable!("it was looked for"),
            Heard::Opened { slot, target, client, early } => {
                self.be_opened(slot, target, client, world);
                if early {
                    world.summary.early += 1;
                    self.look(slot, world);
                }
            }
            Heard::Stored(slot) => {
                world.summary.joined += 1;
                self.look(slot, world);
            }
            Heard::Accepted(slot) => {
                let story = &mut world.stories[by_slot(&self.session, slot)];
                let far = story.parts[1 - end].as_ref().expect("who accepted it");
                assert!(far.answers_at.is_none(), "{}: not accepted", story.serial);
                story.part(end).accepted = true;
                self.session.wait(slot);
            }
            Heard::Bytes { slot, bytes, fin } => {
                let serial = by_slot(&self.session, slot);
                let part = world.stories[serial].part(end);
                let may_read = part.stalled_until <= world.now && part.answers_at.is_none();
                let taken = if may_read && self.session.stored(slot).is_empty() {
                    world.random.scaled(bytes.len() * 2).min(bytes.len())
                } else {
                    0
                };
                world.stories[serial].deliver(end, &bytes[..taken], world.now);
                world.summary.bytes += taken as u64;
                // Taken apart, or nothing at all: the relay may do either.
                if taken > 0 {
                    self.session.pass(slot, taken, world.now);
                }
                self.session.store(slot, &bytes[taken..]);
                let is_all = taken == bytes.len();
                if fin && is_all && world.habits.order != Order::Any {
                    assert_eq!(self.session.ended(slot), Some(Ended::Fin));
                }
                assert!(!(fin && is_all) || self.session.ended(slot).is_some());
                self.look(slot, world);
            }
            Heard::Credit(slot) => {
                assert!(self.session.room(slot) > 0);
                if world.stories[by_slot(&self.session, slot)].part(end).wants_to_send() {
                    self.session.wait(slot);
                }
            }
            Heard::Ended(slot) => self.look(slot, world),
            Heard::Stopped(slot) => {
                assert!(self.session.is_broken(slot) && self.session.room(slot) == 0);
                world.stories[by_slot(&self.session, slot)].stop(end);
            }
            Heard::Closed(reason) => {
                let drains = world.habits.drain > 0 && reason == FailReason::Shutdown;
                let Habits { forges, closes, .. } = world.habits;
                assert!(forges || closes || drains, "closed for no reason: {reason}");
                self.die(world);
            }
        }
    }

    fn be_opened(
        &mut self,
        slot: Slot,
        target: Target<'_>,
        client: Option<core::net::SocketAddr>,
        world: &mut World,
    ) {
        let Target::Name(name, port) = target else { panic!("{target:?} was never asked for") };
        let serial: usize = core::str::from_utf8(name).unwrap().parse().unwrap();
        assert_eq!((port, client), (serial as u16, Some(client_of(serial))));
        let delay = world.random.scaled(world.habits.answer_millis_max);
        let story = &mut world.stories[serial];
        assert!(story.opener != self.number && story.parts[self.number].is_none(), "opened twice");
        let mut part = Part::new(slot, world.now);
        part.answers_at = Some(world.now.after(delay as u32));
        part.wanted = wanted(&world.habits, &mut world.random);
        story.parts[self.number] = Some(part);
        self.session.set_user(slot, serial as u32);
        // The opener may have left before anybody heard of it.
        if !world.open.contains(&serial) {
            world.open.push(serial);
        }
    }

    /// Something came: perhaps it says that nobody reads, or that it was the end.
    fn look(&mut self, slot: Slot, world: &mut World) {
        let serial = self.session.user(slot) as usize;
        // Without order a last word may be what tells first.
        if world.habits.order == Order::Any && self.session.is_broken(slot) {
            world.stories[serial].be_broken(self.number);
        }
        self.look_for_end(serial, slot, world);
    }

    /// The end is told of once everything before it was read.
    pub(crate) fn look_for_end(&mut self, serial: usize, slot: Slot, world: &mut World) {
        if let Some(ended) = self.session.ended(slot) {
            assert!(self.session.stored(slot).is_empty());
            world.stories[serial].end(self.number, ended);
        }
    }

    /// Packs and sends what is owed and what is wanted, until the carrier is full or nothing is left.
    fn send(&mut self, world: &mut World) -> bool {
        let mut sent = false;
        let most = world.habits.packet_bytes_max;
        self.forge(world);
        loop {
            if let Some(stream) = self.session.owes() {
                if (!self.packet.is_empty() && stream != self.packet_stream)
                    || self.packet.len() + CONTROL_BYTES_MAX > most
                {
                    if !self.flush(world) {
                        return sent;
                    }
                    sent = true;
                }
                let packed = self.packet.len();
                self.packet.resize(most, 0);
                let bytes = self.session.emit_control(&mut self.packet[packed..], Some(stream));
                assert!(bytes > 0 && packed + bytes <= most, "{bytes} of what is owed");
                self.packet.truncate(packed + bytes);
                self.packet_stream = stream;
                continue;
            }
            if self.closing {
                // Like any carrier, what is full for too long is closed all the same.
                self.flush(world);
                self.die(world);
                return true;
            }
            if self.packet.len() + self.session.data_header_bytes() >= most {
                if !self.flush(world) {
                    return sent;
                }
                sent = true;
            }
            let Some(slot) = self.session.next_waiting() else { break };
            assert!(self.session.deficit(slot) > 0 && self.session.room(slot) > 0);
            if !self.send_of(slot, world) {
                return sent;
            }
        }
        if !self.packet.is_empty() {
            sent |= self.flush(world);
        }
        sent
    }

    /// A channel's turn; `false`: the carrier is full.
    fn send_of(&mut self, slot: Slot, world: &mut World) -> bool {
        let serial = self.session.user(slot) as usize;
        let stream = self.session.stream_of(slot);
        let most = world.habits.packet_bytes_max;
        loop {
            let part = world.stories[serial].part(self.number);
            let wanted = if part.wants_to_send() { part.wanted - part.sent } else { 0 };
            let (room, deficit) = (self.session.room(slot), self.session.deficit(slot));
            let bytes = wanted.min(room.into()) as usize;
            if bytes == 0 {
                return true;
            }
            if deficit == 0 {
                self.session.wait(slot);
                return true;
            }
            let is_anothers = !self.packet.is_empty() && self.packet_stream != stream;
            let header_bytes = self.session.data_header_bytes();
            if (is_anothers || self.packet.len() + header_bytes >= most) && !self.flush(world) {
                self.session.wait(slot);
                return false;
            }
            let fits = most - self.packet.len() - header_bytes;
            let bytes = bytes.min(deficit as usize).min(fits).min(PATTERN_BYTES);
            let part = world.stories[serial].part(self.number);
            let header = self.session.data(slot, bytes as u16);
            self.packet.extend_from_slice(header.as_bytes());
            self.packet.extend_from_slice(contents(serial, self.number, part.sent, bytes));
            self.packet_stream = stream;
            part.sent += bytes as u64;
        }
    }

    /// Sends the packet; `false`: the carrier is full.
    pub(crate) fn flush(&mut self, world: &mut World) -> bool {
        let wire = &mut world.wires[self.number];
        if self.packet.is_empty() {
            return true;
        }
        let sent = wire.send(self.packet_stream, &self.packet, world.now, &mut world.random);
        if sent {
            self.packet.clear();
            world.summary.packets += 1;
        }
        sent
    }

    /// Once in a while something that no honest end would send.
    fn forge(&mut self, world: &mut World) {
        let habits = world.habits;
        if !habits.forges || !self.session.is_up() || !self.packet.is_empty() || !world.maybe(400) {
            return;
        }
        let beyond = habits.peer_channels_max[1 - self.number].min(habits.carrier_channels);
        let channel = seaprox_proto::message::ChannelId::new(self.number == 0, 0, beyond as u16);
        let target = Target::Service(b"one too many");
        let message = Message::Open { channel, credit: 0, target, client: None };
        let mut out = [0; 64];
        let bytes = message.emit(&mut out).unwrap();
        self.packet.extend_from_slice(&out[..bytes]);
        self.packet_stream = if habits.order == Order::Streams { channel.stream() } else { 0 };
        self.flush(world);
    }

    /// Nothing is owed, nothing packed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.packet.is_empty() && self.session.owes().is_none()
    }
}

/// What any owed message of a channel needs, and the link's longest: CLOSE.
const CONTROL_BYTES_MAX: usize = 80;
