//! A bottleneck with a drop-tail queue between senders that detect loss as RFC 9002 does, without its
//! bugs: time goes in ticks, everything else by seed. Lost bytes are not sent again; what is counted is
//! what arrives.

use super::super::*;
use crate::pacer::Pacer;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

pub(in crate::congestion) const DATAGRAM: u32 = 1_200;

/// Bytes per second of so many megabits.
pub(in crate::congestion) const fn mbit(megabits: u64) -> u64 {
    megabits * 125_000
}

#[derive(Clone, Copy)]
pub(in crate::congestion) struct Link {
    /// Bytes per second.
    pub(in crate::congestion) rate: u64,
    pub(in crate::congestion) queue_bytes: u64,
    pub(in crate::congestion) one_way_micros: u64,
    /// Packets of a million that are lost after the queue.
    pub(in crate::congestion) loss_ppm: u64,
    /// The way there takes up to so much longer, in order all the same.
    pub(in crate::congestion) jitter_micros: u64,
    pub(in crate::congestion) tick_micros: u64,
    /// An acknowledgement for so many packets, or after so long.
    pub(in crate::congestion) ack_packets: usize,
    pub(in crate::congestion) ack_micros: u64,
    /// The receiver stands still for so long, so often.
    pub(in crate::congestion) pause_micros: u64,
    pub(in crate::congestion) pause_every_micros: u64,
}

impl Link {
    /// With a queue of so many hundredths of what fills it.
    pub(in crate::congestion) const fn new(
        rate: u64,
        rtt_millis: u64,
        queue_hundredths: u64,
    ) -> Link {
        Link {
            rate,
            queue_bytes: rate * rtt_millis / 1_000 * queue_hundredths / 100,
            one_way_micros: rtt_millis * 500,
            loss_ppm: 0,
            jitter_micros: 0,
            tick_micros: 100,
            ack_packets: 2,
            ack_micros: 1_000,
            pause_micros: 0,
            pause_every_micros: 1,
        }
    }
}

#[derive(Clone, Copy)]
pub(in crate::congestion) enum Source {
    /// Always more.
    Bulk,
    /// So many bytes, so often.
    Every { bytes: u64, micros: u64 },
}

struct Sent {
    sent_at: u64,
    stamp: Stamp,
    open: bool,
}

pub(in crate::congestion) struct Flow {
    pub(in crate::congestion) congestion: Congestion,
    pub(in crate::congestion) source: Source,
    pacer: Pacer,
    /// It has a pacer and heeds it.
    pub(in crate::congestion) is_paced: bool,
    starts_at: u64,
    /// Bytes there are to send, when they are not endless.
    waiting: u64,
    filled_at: u64,
    first: u64,
    sent: VecDeque<Sent>,
    pub(in crate::congestion) in_flight: u64,
    rtt_smoothed: u64,
    rtt_variance: u64,
    rtt_min: u64,
    heard_at: u64,
    probes: u32,
    arriving: VecDeque<(u64, u64)>,
    pending: Vec<u64>,
    pending_from: u64,
    acks: VecDeque<(u64, Vec<u64>)>,
    /// Bytes that arrived, and what of them was taken.
    arrived: u64,
    taken: u64,
    pub(in crate::congestion) lost_packets: u64,
    pub(in crate::congestion) sent_packets: u64,
    pub(in crate::congestion) flight_max: u64,
}

impl Flow {
    fn new(algorithm: Algorithm, source: Source, starts_at: u64) -> Flow {
        Flow {
            congestion: Congestion::new(algorithm, DATAGRAM, Micros(starts_at)),
            source,
            pacer: Pacer::new(Micros(starts_at)),
            is_paced: true,
            starts_at,
            waiting: 0,
            filled_at: starts_at,
            first: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            rtt_smoothed: 0,
            rtt_variance: 0,
            rtt_min: u64::MAX,
            heard_at: starts_at,
            probes: 0,
            arriving: VecDeque::new(),
            pending: Vec::new(),
            pending_from: 0,
            acks: VecDeque::new(),
            arrived: 0,
            taken: 0,
            lost_packets: 0,
            sent_packets: 0,
            flight_max: 0,
        }
    }

    fn probe_timeout(&self) -> u64 {
        if self.rtt_smoothed == 0 {
            return 1_000_000;
        }
        self.rtt_smoothed + (4 * self.rtt_variance).max(1_000) + 25_000
    }

    fn measure(&mut self, rtt: u64) {
        self.rtt_min = self.rtt_min.min(rtt);
        if self.rtt_smoothed == 0 {
            self.rtt_smoothed = rtt;
            self.rtt_variance = rtt / 2;
        } else {
            let off = self.rtt_smoothed.abs_diff(rtt);
            self.rtt_variance = (3 * self.rtt_variance + off) / 4;
            self.rtt_smoothed = (7 * self.rtt_smoothed + rtt) / 8;
        }
    }

    fn on_ack(&mut self, now: u64, numbers: &[u64]) {
        let Some(&largest) = numbers.last() else { return };
        self.heard_at = now;
        self.probes = 0;
        let mut largest_sent_at = 0;
        for number in numbers {
            let sent = &mut self.sent[(number - self.first) as usize];
            assert!(sent.open, "a queue keeps the order, so nothing is lost wrongly");
            sent.open = false;
            largest_sent_at = sent.sent_at;
            let packet =
                AckedPacket { bytes: DATAGRAM, sent_at: Micros(sent.sent_at), stamp: sent.stamp };
            self.in_flight -= u64::from(DATAGRAM);
            self.congestion.on_acked(Micros(now), &packet);
        }
        self.measure(now - largest_sent_at);
        self.lose(now, largest);
        self.congestion.on_ack_end(
            Micros(now),
            &AckEnd {
                rtt_latest: Some(now - largest_sent_at),
                rtt_min: self.rtt_min,
                rtt_smoothed: self.rtt_smoothed,
                in_flight: self.in_flight,
                largest_acked_sent_at: Micros(largest_sent_at),
            },
        );
    }

    /// Three packets after it arrived: it did not (RFC 9002 section 6.1.1).
    fn lose(&mut self, now: u64, largest: u64) {
        let (mut bytes, mut from, mut last, mut span) = (0, None, 0, 0);
        while self.first + 3 <= largest {
            let sent = self.sent.pop_front().unwrap();
            self.first += 1;
            if sent.open {
                bytes += u64::from(DATAGRAM);
                self.lost_packets += 1;
                last = sent.sent_at;
                span = span.max(last - *from.get_or_insert(last));
            } else {
                from = None;
            }
        }
        if bytes > 0 {
            self.in_flight -= bytes;
            let lost = Lost {
                bytes,
                largest_lost_sent_at: Micros(last),
                persistent: span > 3 * self.probe_timeout(),
            };
            self.congestion.on_lost(Micros(now), &lost);
        }
    }

    /// How many packets leave now.
    fn send(&mut self, now: u64) -> u64 {
        if now < self.starts_at {
            return 0;
        }
        if let Source::Every { bytes, micros } = self.source
            && now - self.filled_at >= micros
        {
            self.filled_at = now;
            self.waiting = bytes;
        }
        let size = u64::from(DATAGRAM);
        let rate = self.congestion.pacing_rate();
        let mut budget = match self.is_paced {
            true => self.pacer.budget(Micros(now), rate, DATAGRAM),
            false => u64::MAX,
        };
        let mut packets = 0;
        let window = self.congestion.window_bytes();
        while budget > 0 && self.in_flight + size <= window {
            match self.source {
                Source::Every { .. } if self.waiting == 0 => {
                    self.congestion.on_app_limited(self.in_flight);
                    break;
                }
                Source::Every { .. } => self.waiting = self.waiting.saturating_sub(size),
                Source::Bulk => {}
            }
            self.send_one(now);
            budget = budget.saturating_sub(size);
            packets += 1;
        }
        let timeout = self.probe_timeout() << self.probes.min(6);
        let last = self.sent.back().map_or(0, |sent| sent.sent_at).max(self.heard_at);
        if packets == 0 && self.in_flight > 0 && now > last + timeout {
            self.probes += 1;
            self.send_one(now);
            packets = 1;
        }
        packets
    }

    fn send_one(&mut self, now: u64) {
        let stamp = self.congestion.on_sent(Micros(now), DATAGRAM, self.in_flight);
        self.sent.push_back(Sent { sent_at: now, stamp, open: true });
        self.in_flight += u64::from(DATAGRAM);
        self.flight_max = self.flight_max.max(self.in_flight);
        self.pacer.spend(u64::from(DATAGRAM));
        self.sent_packets += 1;
    }
}

struct Queued {
    flow: usize,
    number: u64,
    at: u64,
}

pub(in crate::congestion) struct Network {
    pub(in crate::congestion) link: Link,
    pub(in crate::congestion) flows: Vec<Flow>,
    pub(in crate::congestion) now: u64,
    /// Nothing leaves the queue.
    pub(in crate::congestion) is_stalled: bool,
    queue: VecDeque<Queued>,
    /// Millionths of bytes that may leave.
    credit: u64,
    seed: u64,
    /// Packets by tenths of milliseconds they waited.
    waits: Vec<u64>,
}

impl Network {
    pub(in crate::congestion) fn new(link: Link, seed: u64) -> Network {
        Network {
            link,
            flows: Vec::new(),
            now: 1_000_000,
            is_stalled: false,
            queue: VecDeque::new(),
            credit: 0,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            waits: vec![0; 20_000],
        }
    }

    /// A sender that begins after so many milliseconds.
    pub(in crate::congestion) fn add(
        &mut self,
        algorithm: Algorithm,
        source: Source,
        after_millis: u64,
    ) {
        self.flows.push(Flow::new(algorithm, source, self.now + after_millis * 1_000));
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    pub(in crate::congestion) fn run(&mut self, millis: u64) {
        let end = self.now + millis * 1_000;
        while self.now < end {
            self.now += self.link.tick_micros;
            self.serve();
            for index in 0..self.flows.len() {
                self.receive(index);
                self.wake(index);
            }
        }
    }

    fn serve(&mut self) {
        if self.is_stalled {
            return;
        }
        let size = u64::from(DATAGRAM) * 1_000_000;
        self.credit += self.link.rate * self.link.tick_micros;
        while self.credit >= size {
            let Some(packet) = self.queue.pop_front() else {
                self.credit = size;
                break;
            };
            self.credit -= size;
            let wait = ((self.now - packet.at) / 100) as usize;
            let last = self.waits.len() - 1;
            self.waits[wait.min(last)] += 1;
            if self.link.loss_ppm > 0 && self.random() % 1_000_000 < self.link.loss_ppm {
                continue;
            }
            let mut at = self.now + self.link.one_way_micros;
            if self.link.jitter_micros > 0 {
                at += self.random() % self.link.jitter_micros;
                let last = self.flows[packet.flow].arriving.back();
                at = at.max(last.map_or(0, |(last, _)| *last));
            }
            self.flows[packet.flow].arriving.push_back((at, packet.number));
        }
    }

    fn receive(&mut self, index: usize) {
        let (now, link) = (self.now, self.link);
        if now % link.pause_every_micros < link.pause_micros {
            return;
        }
        let flow = &mut self.flows[index];
        while let Some(&(at, number)) = flow.arriving.front()
            && at <= now
        {
            flow.arriving.pop_front();
            flow.arrived += u64::from(DATAGRAM);
            if flow.pending.is_empty() {
                flow.pending_from = now;
            }
            flow.pending.push(number);
            if flow.pending.len() >= link.ack_packets {
                let numbers = core::mem::take(&mut flow.pending);
                flow.acks.push_back((now + link.one_way_micros, numbers));
            }
        }
        if !flow.pending.is_empty() && now >= flow.pending_from + link.ack_micros {
            let numbers = core::mem::take(&mut flow.pending);
            flow.acks.push_back((now + link.one_way_micros, numbers));
        }
    }

    /// A sender is woken by acknowledgements, and by its timer each millisecond.
    fn wake(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let mut woken = now % 1_000 < self.link.tick_micros;
        while let Some((at, _)) = flow.acks.front()
            && *at <= now
        {
            let (_, numbers) = flow.acks.pop_front().unwrap();
            flow.on_ack(now, &numbers);
            woken = true;
        }
        if !woken {
            return;
        }
        let number = flow.first + flow.sent.len() as u64;
        for number in number..number + flow.send(now) {
            if (self.queue.len() as u64 + 1) * u64::from(DATAGRAM)
                <= self.link.queue_bytes.max(2_400)
            {
                self.queue.push_back(Queued { flow: index, number, at: now });
            }
        }
    }

    /// What has arrived of a flow since this was last asked, in bytes.
    pub(in crate::congestion) fn take(&mut self, index: usize) -> u64 {
        let flow = &mut self.flows[index];
        let more = flow.arrived - flow.taken;
        flow.taken = flow.arrived;
        more
    }

    /// Forgets what was measured.
    pub(in crate::congestion) fn reset(&mut self) {
        self.waits.fill(0);
        for flow in &mut self.flows {
            flow.taken = flow.arrived;
            flow.flight_max = 0;
            flow.lost_packets = 0;
            flow.sent_packets = 0;
        }
    }

    /// So long, at most, waited so many hundredths of all packets; in tenths of milliseconds.
    pub(in crate::congestion) fn wait(&self, hundredths: u64) -> u64 {
        let all: u64 = self.waits.iter().sum();
        let mut seen = 0;
        let at = self.waits.iter().position(|count| {
            seen += count;
            seen * 100 >= all * hundredths
        });
        at.unwrap_or(0) as u64
    }
}
