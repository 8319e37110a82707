//! One direction of a carrier: packets in order within each stream, in pieces, late, or lost with
//! the whole link. Knows no message.

use seaprox::sim::Random;
use seaprox::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// How it carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) delay_millis: u32,
    pub(crate) jitter_millis: u32,
    /// Of how many packets a piece arrives before the rest.
    pub(crate) pieces: u16,
    /// How many bytes may be under way.
    pub(crate) capacity_bytes: usize,
}

struct Flight {
    at: Instant,
    packet: Vec<u8>,
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
            partial: None,
            under_way: 0,
            is_black_hole: false,
        }
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
        let jitter = random.below(self.weather.jitter_millis as usize + 1) as u32;
        let queue = self.streams.entry(stream).or_default();
        let soonest = queue.back().map_or(now, |flight| flight.at);
        let at = now.after(self.weather.delay_millis + jitter).max(soonest);
        self.under_way += packet.len();
        queue.push_back(Flight { at, packet: packet.to_vec() });
        true
    }

    /// When something arrives next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        // No other packet arrives before the end of this one.
        if let Some(partial) = &self.partial {
            return Some(partial.at);
        }
        self.streams.values().filter_map(|queue| queue.front()).map(|flight| flight.at).min()
    }

    /// A piece that has arrived by now.
    pub(crate) fn receive(
        &mut self,
        room: &mut [u8],
        now: Instant,
        random: &mut Random,
    ) -> Option<Piece> {
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
