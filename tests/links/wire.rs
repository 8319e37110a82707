//! One direction of a carrier: packets in order within each stream, in pieces, late, or lost with
//! the whole link; or in no order at all, some of them twice. Knows no more of messages than a
//! carrier without order does: where one ends, and how DATA is taken apart.

use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox_proto::carrier::Order;
use seaprox_proto::message::{ChannelId, Message, parse};
use std::collections::{BTreeMap, VecDeque};

/// How it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) order: Order,
    pub(crate) delay_millis: u32,
    pub(crate) jitter_millis: u32,
    /// Of how many packets a piece arrives before the rest.
    pub(crate) pieces: u16,
    /// How many bytes may be under way.
    pub(crate) capacity_bytes: usize,
    pub(crate) disorder: Disorder,
}

/// What becomes of packets that keep no order. Chances are of 65,536.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disorder {
    /// A packet is lost, and comes late.
    pub(crate) lost: u16,
    /// It comes twice.
    pub(crate) copied: u16,
    /// A message is cut, or goes in another packet than the one before it.
    pub(crate) cut: u16,
    /// What is lost, refused or copied comes so much later, at most.
    pub(crate) later_millis: usize,
}

impl Disorder {
    pub(crate) fn draw(random: &mut Random) -> Disorder {
        let mut chance = |most: usize| match random.below(3) {
            0 => 0,
            _ => random.scaled(most / 16) as u16 * 16,
        };
        let [lost, copied, cut] = [chance(20_000), chance(20_000), chance(60_000)];
        Disorder { lost, copied, cut, later_millis: random.scaled(600) }
    }
}

struct Flight {
    at: Instant,
    packet: Vec<u8>,
    /// It is not the first of its kind.
    is_copy: bool,
}

/// A packet of which pieces have arrived already.
struct Partial {
    stream: u16,
    packet: Vec<u8>,
    taken: usize,
    at: Instant,
}

/// A piece of a packet: its stream, its bytes, and whether they complete it.
pub(crate) struct Piece {
    pub(crate) stream: u16,
    pub(crate) bytes: usize,
    pub(crate) end: bool,
}

pub(crate) struct Wire {
    weather: Weather,
    streams: BTreeMap<u16, VecDeque<Flight>>,
    /// Without order: what is under way, and what was handed over last.
    loose: Vec<Flight>,
    handed: Option<Flight>,
    partial: Option<Partial>,
    under_way: usize,
    /// What is sent vanishes, and nobody is told.
    pub(crate) is_black_hole: bool,
}

impl Wire {
    pub(crate) fn new(weather: Weather) -> Wire {
        Wire {
            weather,
            streams: BTreeMap::new(),
            loose: Vec::new(),
            handed: None,
            partial: None,
            under_way: 0,
            is_black_hole: false,
        }
    }

    fn is_loose(&self) -> bool {
        self.weather.order == Order::Any
    }

    /// Sends a packet, or says that it would block.
    pub(crate) fn send(
        &mut self,
        stream: u16,
        packet: &[u8],
        now: Instant,
        random: &mut Random,
    ) -> bool {
        if self.under_way > 0 && self.under_way + packet.len() > self.weather.capacity_bytes {
            return false;
        }
        if self.is_black_hole {
            return true;
        }
        if self.is_loose() {
            assert_eq!(stream, 0);
            for packet in apart(packet, self.weather.disorder.cut, random) {
                self.let_loose(packet, now, random);
            }
            return true;
        }
        let jitter = random.below(self.weather.jitter_millis as usize + 1) as u32;
        let queue = self.streams.entry(stream).or_default();
        let soonest = queue.back().map_or(now, |flight| flight.at);
        let at = now.after(self.weather.delay_millis + jitter).max(soonest);
        self.under_way += packet.len();
        queue.push_back(Flight { at, packet: packet.to_vec(), is_copy: false });
        true
    }

    fn let_loose(&mut self, packet: Vec<u8>, now: Instant, random: &mut Random) {
        let Weather { delay_millis, jitter_millis, disorder, .. } = self.weather;
        let jitter = random.below(jitter_millis as usize + 1) as u32;
        let mut later =
            |chance| if random.chance(chance) { random.scaled(disorder.later_millis) } else { 0 };
        let at = now.after(delay_millis + jitter + later(disorder.lost) as u32);
        self.under_way += packet.len();
        if let copied @ 1.. = later(disorder.copied) {
            let at = at.after(copied as u32);
            self.loose.push(Flight { at, packet: packet.clone(), is_copy: true });
        }
        self.loose.push(Flight { at, packet, is_copy: false });
    }

    /// The packet that was handed over last was handled: it was kept, or it comes again.
    pub(crate) fn handled(&mut self, kept: bool, now: Instant, random: &mut Random) {
        let Some(flight) = self.handed.take() else { return };
        if !kept {
            assert!(self.is_loose(), "refused, and yet it was in its order");
            let at = now.after(random.scaled(self.weather.disorder.later_millis) as u32);
            self.under_way += if flight.is_copy { 0 } else { flight.packet.len() };
            self.loose.push(Flight { at, ..flight });
        }
    }

    /// When something arrives next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        // No other packet arrives before the end of this one.
        if let Some(partial) = &self.partial {
            return Some(partial.at);
        }
        let first = self.streams.values().filter_map(|queue| queue.front());
        first.chain(&self.loose).map(|flight| flight.at).min()
    }

    /// A piece that has arrived by now.
    pub(crate) fn receive(
        &mut self,
        room: &mut [u8],
        now: Instant,
        random: &mut Random,
    ) -> Option<Piece> {
        if self.is_loose() {
            return self.receive_loose(room, now, random);
        }
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None => self.next_packet(now, random)?,
        };
        if partial.at > now {
            self.partial = Some(partial);
            return None;
        }
        let rest = &partial.packet[partial.taken..];
        let bytes = if random.chance(self.weather.pieces) {
            random.between(1, rest.len())
        } else {
            rest.len()
        };
        room[..bytes].copy_from_slice(&rest[..bytes]);
        let end = bytes == rest.len();
        partial.taken += bytes;
        self.under_way -= bytes;
        let stream = partial.stream;
        if !end {
            partial.at = now.after(random.below(4) as u32);
            self.partial = Some(partial);
        }
        Some(Piece { stream, bytes, end })
    }

    /// Of those that have arrived, any.
    fn receive_loose(
        &mut self,
        room: &mut [u8],
        now: Instant,
        random: &mut Random,
    ) -> Option<Piece> {
        assert!(self.handed.is_none(), "nobody said whether it was kept");
        let arrived: Vec<_> =
            (0..self.loose.len()).filter(|&nth| self.loose[nth].at <= now).collect();
        if arrived.is_empty() {
            return None;
        }
        let flight = self.loose.swap_remove(random.pick(&arrived));
        let bytes = flight.packet.len();
        room[..bytes].copy_from_slice(&flight.packet);
        self.under_way -= if flight.is_copy { 0 } else { bytes };
        self.handed = Some(flight);
        Some(Piece { stream: 0, bytes, end: true })
    }

    /// Of the streams on which something has arrived, any.
    fn next_packet(&mut self, now: Instant, random: &mut Random) -> Option<Partial> {
        let has_arrived = |queue: &VecDeque<Flight>| queue.front().is_some_and(|f| f.at <= now);
        let arrived = || self.streams.iter().filter(|(_, queue)| has_arrived(queue));
        let nth = random.below(arrived().count());
        let (&stream, _) = arrived().nth(nth)?;
        let queue = self.streams.get_mut(&stream)?;
        let packet = queue.pop_front()?.packet;
        if queue.is_empty() {
            self.streams.remove(&stream);
        }
        Some(Partial { stream, packet, taken: 0, at: now })
    }

    /// Whether so much has arrived that whoever was blocked is told.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way * 2 <= self.weather.capacity_bytes
    }

    /// The link is gone, with all that was under way.
    pub(crate) fn cut(&mut self) {
        *self = Wire::new(self.weather);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way == 0
    }
}

/// The messages of a packet in packets of their own, or some together; DATA cut anywhere, and put
/// together again where it fits.
fn apart(packet: &[u8], cut: u16, random: &mut Random) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = packet;
    while !rest.is_empty() {
        let (mut message, length) = parse(rest).expect("an honest sender");
        rest = &rest[length..];
        if let Message::Data { channel, offset: Some(mut offset), mut bytes, fin, stopped } =
            message
        {
            while bytes.len() > 1 && random.chance(cut) {
                let (now, later) = bytes.split_at(random.between(1, bytes.len() - 1));
                messages.push(data(channel, offset, now));
                offset = offset.wrapping_add(now.len() as u32);
                bytes = later;
            }
            message = Message::Data { channel, offset: Some(offset), bytes, fin, stopped };
        }
        messages.push(message);
    }
    let mut packets = vec![Vec::new()];
    let mut last: Option<Message<'_>> = None;
    for message in messages {
        let packet = packets.last_mut().expect("there is one");
        if let Some(before) = last
            && let Some(joined) = joined(packet, &before, &message, random)
        {
            *packet = joined;
            last = None;
            continue;
        }
        if random.chance(cut) && !packet.is_empty() {
            packets.push(Vec::new());
        }
        let packet = packets.last_mut().expect("there is one");
        let from = packet.len();
        packet.resize(from + message.length(), 0);
        message.emit(&mut packet[from..]).expect("it has room");
        last = Some(message);
    }
    packets
}

fn data(channel: ChannelId, offset: u32, bytes: &[u8]) -> Message<'_> {
    Message::Data { channel, fin: false, stopped: false, offset: Some(offset), bytes }
}

/// A packet whose last message is `before`, with `message` as a part of that; if it can be.
fn joined(
    packet: &[u8],
    before: &Message<'_>,
    message: &Message<'_>,
    random: &mut Random,
) -> Option<Vec<u8>> {
    let Message::Data { channel, fin: false, offset: Some(first), bytes, .. } = *before else {
        return None;
    };
    let Message::Data { channel: of, fin, stopped, offset: Some(next), bytes: more } = *message
    else {
        return None;
    };
    let fits = of == channel && next == first.wrapping_add(bytes.len() as u32);
    if !fits || packet.len() < before.length() || random.below(2) == 0 {
        return None;
    }
    let all = [bytes, more].concat();
    let joined = Message::Data { channel, fin, stopped, offset: Some(first), bytes: &all };
    let kept = packet.len() - before.length();
    let mut out = packet[..kept].to_vec();
    out.resize(kept + joined.length(), 0);
    joined.emit(&mut out[kept..])?;
    Some(out)
}
