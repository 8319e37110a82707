//! One way through the network: a bottleneck with a drop-tail queue, and whatever else happens to
//! datagrams. Knows no address.

use seaprox::sim::Random;
use seaprox_udp::time::Micros;

/// What the network adds to a datagram: IPv4 and UDP.
const HEADER_BYTES: u64 = 28;

/// How it is. Chances are of 65,536, for each datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Bytes per second, headers included; 0: no bottleneck.
    pub(crate) rate: u64,
    /// What waits at most.
    pub(crate) queue_bytes: u64,
    /// Datagrams are marked when more waits than this; 0: never.
    pub(crate) marked_bytes: u64,
    pub(crate) delay_micros: u64,
    /// Up to so much more, in order all the same.
    pub(crate) jitter_micros: u64,
    pub(crate) lost: u16,
    /// With it all are lost for up to so long.
    pub(crate) burst: u16,
    pub(crate) burst_micros: u64,
    /// Overtaken by what comes up to so much later.
    pub(crate) late: u16,
    pub(crate) late_micros: u64,
    pub(crate) copied: u16,
    pub(crate) corrupted: u16,
    pub(crate) cut: u16,
    /// The longest datagram, in bytes of UDP payload.
    pub(crate) longest: usize,
}

impl Weather {
    /// No bottleneck, no loss.
    pub(crate) const fn calm(delay_micros: u64) -> Weather {
        Weather {
            rate: 0,
            queue_bytes: 0,
            marked_bytes: 0,
            delay_micros,
            jitter_micros: 0,
            lost: 0,
            burst: 0,
            burst_micros: 0,
            late: 0,
            late_micros: 0,
            copied: 0,
            corrupted: 0,
            cut: 0,
            longest: 1472,
        }
    }
}

/// A datagram that was not lost.
pub(crate) struct Sent {
    pub(crate) arrives_at: Micros,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_ce: bool,
}

/// The way there.
pub(crate) struct Road {
    pub(crate) weather: Weather,
    pub(crate) dark_until: Micros,
    /// Until when the bottleneck is busy, in nanoseconds.
    busy_until: u64,
    /// What is not late arrives in this order.
    last_at: Micros,
    loses_until: Micros,
    /// How long datagrams waited in the queue, in microseconds.
    pub(crate) waits: Vec<u32>,
    /// Bytes that got through the bottleneck, headers included.
    pub(crate) carried: u64,
    /// Datagrams that found the queue full.
    pub(crate) dropped: u64,
}

impl Road {
    pub(crate) fn new(weather: Weather) -> Road {
        Road {
            weather,
            dark_until: Micros(0),
            busy_until: 0,
            last_at: Micros(0),
            loses_until: Micros(0),
            waits: Vec::new(),
            carried: 0,
            dropped: 0,
        }
    }

    /// Passes the bottleneck: when it has, or `None` if there was no room.
    fn queue(&mut self, bytes: u64, now: Micros) -> Option<(u64, bool)> {
        let Weather { rate, queue_bytes, marked_bytes, .. } = self.weather;
        let now_nanos = now.0 * 1000;
        if rate == 0 {
            return Some((now_nanos, false));
        }
        let wait = self.busy_until.saturating_sub(now_nanos);
        let waiting = wait as u128 * rate as u128 / 1_000_000_000;
        if waiting as u64 + bytes > queue_bytes.max(3000) {
            self.dropped += 1;
            return None;
        }
        self.carried += bytes;
        self.waits.push((wait / 1000) as u32);
        self.busy_until = self.busy_until.max(now_nanos) + bytes * 1_000_000_000 / rate;
        Some((self.busy_until, marked_bytes > 0 && waiting as u64 > marked_bytes))
    }

    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        now: Micros,
        is_calm: bool,
        random: &mut Random,
    ) -> Option<Sent> {
        let weather = self.weather;
        if now < self.dark_until || bytes.len() > weather.longest {
            return None;
        }
        let (left_at, is_ce) = self.queue(bytes.len() as u64 + HEADER_BYTES, now)?;
        let mut maybe = |chance: u16| !is_calm && random.chance(chance);
        if now < self.loses_until && !is_calm {
            return None;
        }
        let [burst, lost, late, corrupted, cut] =
            [weather.burst, weather.lost, weather.late, weather.corrupted, weather.cut]
                .map(&mut maybe);
        if burst {
            self.loses_until = now.after(random.below(weather.burst_micros.max(1) as usize) as u64);
        }
        if burst || lost {
            return None;
        }
        let mut at = Micros(left_at.div_ceil(1000)).after(weather.delay_micros);
        if weather.jitter_micros > 0 && !is_calm {
            at = at.after(random.below(weather.jitter_micros as usize + 1) as u64);
        }
        if late {
            at = at.after(1 + random.below(weather.late_micros.max(1) as usize) as u64);
        } else {
            at = at.max(self.last_at);
            self.last_at = at;
        }
        let mut bytes = bytes.to_vec();
        if corrupted && !bytes.is_empty() {
            for _ in 0..random.between(1, 3) {
                let place = random.below(bytes.len());
                bytes[place] ^= 1 << random.below(8);
            }
        }
        if cut {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        Some(Sent { arrives_at: at, bytes, is_ce })
    }
}
