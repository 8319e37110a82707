//! Two ends and a path between them that loses, delays, repeats and breaks, on a fake clock.

mod edges;

use super::*;
use crate::join::Join;
use crate::packet::HEADER_BYTES;
use crate::seal::Checksum;
use crate::slots::DATAGRAM_BYTES_MAX;
use core::net::{Ipv4Addr, SocketAddr};
use seaprox_proto::message::{Message, Piece};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const SLOTS: usize = 256;

const CHECKSUM: Checksum = Checksum::new(9);
const SEALING: Sealing = Sealing::Checksum(CHECKSUM);

fn address(port: u16) -> Path {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).into()
}

struct End {
    reliable: Link,
    here: Path,
    /// The PINGs and bytes of DATA that came, and how many came again.
    pings: BTreeSet<u64>,
    /// By offset; `None`: has not come.
    bytes: Vec<Option<u8>>,
    again: u32,
    /// Datagrams it has sent, as they are counted here.
    emitted: u64,
}

type Link = Reliable<'static>;

/// The header of a datagram to the first end.
fn head(number: u64) -> [u8; HEADER_BYTES] {
    let mode = crate::packet::Mode::Insecure;
    crate::packet::Header { mode, key_slot: 0, number, receiver: 2 }.encode()
}

/// The next datagram that an end sends now, and where to.
fn emit(link: &mut Link, now: Micros) -> Option<(Path, Vec<u8>)> {
    written(|out| link.emit(now, out))
}

/// Likewise, if it is no other that is asked for.
fn written(
    emit: impl FnOnce(&mut [u8; DATAGRAM_BYTES_MAX]) -> Option<Emitted>,
) -> Option<(Path, Vec<u8>)> {
    let mut out = [0xff; DATAGRAM_BYTES_MAX];
    emit(&mut out).map(|emitted| (emitted.to(), out[..emitted.bytes()].to_vec()))
}

/// What the path does, in 1/1000 of datagrams.
#[derive(Clone, Copy)]
struct Weather {
    loss: u64,
    repeat: u64,
    corrupt: u64,
    delay: u64,
    jitter: u64,
    longest: usize,
}

const CALM: Weather =
    Weather { loss: 0, repeat: 0, corrupt: 0, delay: 10_000, jitter: 0, longest: 1472 };

struct Pair {
    ends: [End; 2],
    /// By when they arrive, in order of sending: at which end, from where, and what.
    flying: BTreeMap<(Micros, u64), (usize, Path, Vec<u8>)>,
    now: Micros,
    random: u64,
    weather: Weather,
    sent: u64,
}

impl Pair {
    fn new(weather: Weather, algorithm: Algorithm, seed: u64) -> Pair {
        Pair::agreed(weather, seed, |peer| Terms {
            peer_index: u32::from(peer),
            path: address(peer),
            peer: Limits::OWN,
            rtt_micros: None,
            flight_bytes_max: 1 << 20,
            algorithm,
            random: seed,
        })
    }

    /// On other terms; they are made of the peer's port.
    fn agreed(weather: Weather, seed: u64, terms: impl Fn(u16) -> Terms) -> Pair {
        let end = |at: u16, peer: u16| {
            let memory = Box::leak(Box::new(Memory::<SLOTS, 1024>::new()));
            let terms = terms(peer);
            let now = Micros(1_000_000);
            let reliable = Reliable::new(memory.parts().slices, SEALING, &terms, now);
            let here = address(at);
            End { reliable, here, pings: BTreeSet::new(), bytes: Vec::new(), again: 0, emitted: 0 }
        };
        Pair {
            ends: [end(1, 2), end(2, 1)],
            flying: BTreeMap::new(),
            now: Micros(1_000_000),
            random: seed,
            weather,
            sent: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.random >> 33) % below
    }

    /// What an end wants to send goes onto the path.
    fn send(&mut self, at: usize, is_end_of_turn: bool) {
        loop {
            let now = self.now;
            let end = &mut self.ends[at].reliable;
            let emitted = match emit(end, now) {
                None if is_end_of_turn => written(|out| end.emit_acknowledgement(now, out)),
                emitted => emitted,
            };
            let Some((to, bytes)) = emitted else { break };
            let to = usize::from(to.peer.port() == 2);
            let here = self.ends[at].here;
            self.ends[at].emitted += 1;
            let weather = self.weather;
            let copies = 1 + u64::from(self.draw(1000) < weather.repeat);
            for _ in 0..copies {
                let mut bytes = bytes.clone();
                if self.draw(1000) < weather.loss || bytes.len() > weather.longest {
                    continue;
                }
                if self.draw(1000) < weather.corrupt {
                    let place = self.draw(bytes.len() as u64) as usize;
                    bytes[place] ^= 1 << self.draw(8);
                }
                let delay = weather.delay + self.draw(weather.jitter + 1);
                self.sent += 1;
                self.flying.insert((self.now.after(delay), self.sent), (to, here, bytes));
            }
        }
        if is_end_of_turn {
            self.ends[at].reliable.note_idle();
        }
        if self.draw(64) == 0 {
            self.ends[at].reliable.invariants();
        }
    }

    fn hear(&mut self, at: usize, from: Path, mut bytes: Vec<u8>, is_kept: bool) {
        let end = &mut self.ends[at];
        let mut out = [0; 4096];
        let mut join = Join::new(&mut out);
        end.reliable.hear(&mut bytes, false, from, self.now, &mut join).unwrap();
        let filled = join.bytes();
        end.reliable.handled(is_kept, self.now);
        let mut rest = &out[..filled];
        while is_kept && !rest.is_empty() {
            if let Some(piece) = Piece::parse(rest).unwrap() {
                let offset = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
                let until = offset + piece.bytes.len();
                end.bytes.resize(until.max(end.bytes.len()), None);
                for (place, byte) in end.bytes[offset..until].iter_mut().zip(piece.bytes) {
                    end.again += u32::from(place.replace(*byte).is_some());
                }
                rest = &rest[piece.length()..];
                continue;
            }
            let (message, length) = seaprox_proto::message::parse(rest).unwrap();
            if let Message::Ping(value) = message {
                end.again += u32::from(!end.pings.insert(value));
            }
            rest = &rest[length..];
        }
    }

    /// The next thing happens; `false`: nothing will.
    fn step(&mut self) -> bool {
        let timeouts = [0, 1].map(|at| self.ends[at].reliable.timeout());
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let Some(next) = timeouts.into_iter().flatten().chain(arrival).min() else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (at, from, bytes) = entry.remove();
            let is_kept = self.draw(1000) >= self.weather.loss / 4;
            self.hear(at, from, bytes, is_kept);
        }
        for at in [0, 1] {
            if self.ends[at].reliable.timeout().is_some_and(|timeout| timeout <= self.now) {
                self.ends[at].reliable.handle_timeout(self.now);
            }
            self.send(at, true);
            // Nobody waits for that here, but it is to be asked.
            let now = self.now;
            self.ends[at].reliable.is_open(now);
        }
        true
    }

    /// Each hears of the other, and finds out how long datagrams may be.
    fn meet(&mut self) {
        self.ends.iter_mut().for_each(|end| end.reliable.ask());
        self.run_until(Micros(2_000_000));
        self.ends.iter_mut().for_each(|end| end.reliable.counters.probes = 0);
    }

    fn run_until(&mut self, at: Micros) {
        let mut steps = 0;
        while self.now < at {
            if !self.step() {
                self.now = at;
            }
            steps += 1;
            assert!(steps < 500_000, "it spins at {:?}", self.now);
        }
    }

    /// Sends as many bytes of DATA from the first end as it takes in so long; gives how many.
    fn stream(&mut self, micros: u64) -> u32 {
        let until = self.now.after(micros);
        let mut offset = 0u32;
        let mut steps = 0;
        while self.now < until {
            steps += 1;
            assert!(steps < 500_000, "it spins at {:?}", self.now);
            let now = self.now;
            let window = self.ends[0].reliable.window(now);
            if window >= WINDOW_BYTES_MIN {
                let bytes = (window - 12).min(20_000);
                let mut message = std::vec![1, 2, bytes as u8, (bytes >> 8) as u8, 7, 0, 0, 0];
                message.extend(offset.to_le_bytes());
                message.extend((offset..offset + bytes as u32).map(|at| (at % 251) as u8));
                self.ends[0].reliable.push(&message).unwrap();
                offset += bytes as u32;
                self.send(0, false);
            } else {
                self.step();
            }
        }
        let mut patience = 0;
        while !self.ends[0].reliable.is_flushed() {
            assert!(self.step());
            patience += 1;
            assert!(patience < 1_000_000, "it never arrives");
        }
        assert_eq!(self.ends[1].bytes.len(), offset as usize);
        let expected = (0..offset).map(|at| Some((at % 251) as u8));
        assert!(self.ends[1].bytes.iter().copied().eq(expected));
        offset
    }
}

fn pings(values: core::ops::Range<u64>) -> Vec<u8> {
    let mut packet = std::vec![0; 12 * (values.end - values.start) as usize];
    let mut filled = 0;
    for value in values {
        filled += Message::Ping(value).emit(&mut packet[filled..]).unwrap();
    }
    packet
}

#[test]
fn on_a_calm_path_everything_arrives_once_and_then_all_is_quiet() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 1);
    pair.ends[0].reliable.push(&pings(0..300)).unwrap();
    pair.send(0, true);
    pair.run_until(Micros(5_000_000));
    let [a, b] = &pair.ends;
    assert_eq!((b.pings.len(), b.again, a.reliable.counters().lost), (300, 0, 0));
    assert!(a.reliable.is_flushed() && b.reliable.is_flushed());
    assert_eq!(a.reliable.datagram_bytes(), 1472);
    let sent = [0, 1].map(|at| pair.ends[at].reliable.counters().sent);
    pair.run_until(Micros(500_000_000));
    assert_eq!(sent, [0, 1].map(|at| pair.ends[at].reliable.counters().sent), "nothing to say");
}

#[test]
fn whatever_the_weather_everything_arrives() {
    for seed in 0..if cfg!(miri) { 1 } else { 60 } {
        let mut pair = Pair::new(CALM, Algorithm::ALL[seed as usize % 3], seed);
        pair.weather = Weather {
            loss: pair.draw(300),
            repeat: pair.draw(200),
            corrupt: pair.draw(100),
            delay: pair.draw(50_000),
            jitter: pair.draw(30_000),
            longest: 1472,
        };
        for round in 0..20 {
            for at in [0, 1] {
                pair.ends[at].reliable.push(&pings(round * 100..round * 100 + 100)).unwrap();
                pair.send(at, true);
            }
            let pause = pair.draw(100_000);
            pair.run_until(pair.now.after(pause));
        }
        let begun = pair.now;
        while !pair.ends.iter().all(|end| end.reliable.is_flushed()) {
            assert!(pair.step());
            assert!(pair.now.since(begun) < 30_000_000, "seed {seed} is stuck");
        }
        for end in &pair.ends {
            assert_eq!(end.pings.len(), 2000, "seed {seed}");
        }
    }
}

#[test]
fn a_stream_fills_the_path_and_arrives_whole() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 3);
    let bytes = pair.stream(2_000_000);
    // 256 slots in a round trip of 20 ms are 18 MB/s.
    assert!(bytes > 20_000_000, "{bytes} bytes in 2 s");
    assert_eq!(pair.ends[1].again, 0);
}

#[test]
fn a_stream_survives_loss_and_a_path_that_becomes_narrow() {
    let mut pair = Pair::new(Weather { loss: 20, ..CALM }, Algorithm::NewReno, 4);
    pair.meet();
    let weather = pair.weather;
    for longest in [1472, 1252, 600] {
        pair.weather = Weather { longest, ..weather };
        pair.ends[1].bytes.clear();
        pair.stream(500_000);
        let bytes = pair.ends[0].reliable.datagram_bytes();
        assert!(usize::from(bytes) <= longest, "{bytes} bytes on a path of {longest}");
    }
}

#[test]
fn with_every_slot_full_of_long_datagrams_a_narrow_path_is_still_found() {
    for seed in 0..20 {
        let mut pair = Pair::new(CALM, Algorithm::NewReno, seed);
        pair.meet();
        let mut pushed = 0u64;
        while pair.ends[0].reliable.push(&pings(pushed * 119..pushed * 119 + 119)).is_ok() {
            pushed += 1;
            let pause = pair.draw(2_000);
            pair.weather.loss = 1000;
            pair.run_until(pair.now.after(pause));
        }
        assert!(pushed >= 50, "{pushed}");
        pair.weather = Weather { longest: 548, loss: 20, ..CALM };
        let begun = pair.now;
        while !pair.ends[0].reliable.is_flushed() {
            assert!(pair.step() && pair.now.since(begun) < 30_000_000, "seed {seed} is stuck");
        }
        assert_eq!(pair.ends[1].pings.len() as u64, pushed * 119);
    }
}

#[test]
fn a_lost_request_costs_milliseconds_not_a_round_trip() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 5);
    pair.meet();
    pair.ends[0].reliable.push(&pings(0..1)).unwrap();
    pair.send(0, true);
    pair.run_until(Micros(3_000_000));
    pair.weather.loss = 1000;
    pair.ends[0].reliable.push(&pings(1..2)).unwrap();
    pair.send(0, true);
    pair.weather.loss = 0;
    let begun = pair.now;
    while !pair.ends[1].pings.contains(&1) {
        pair.step();
    }
    let late = pair.now.since(begun);
    assert!(late <= CALM.delay + COPY_AFTER_MICROS, "{late} us");
    pair.run_until(Micros(9_000_000));
    assert_eq!(pair.ends[0].reliable.counters().probes, 2, "one copy each");
}

#[test]
fn of_a_few_small_packets_each_is_sent_once_more_and_no_oftener() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 5);
    pair.meet();
    for value in 0..5 {
        pair.ends[0].reliable.push(&pings(value..value + 1)).unwrap();
        pair.send(0, true);
    }
    pair.run_until(Micros(9_000_000));
    assert_eq!(pair.ends[0].reliable.counters().probes, 5);
    assert_eq!(pair.ends[1].reliable.counters().duplicates, 0);
}

#[test]
fn a_copy_leaves_alone_what_was_emitted_and_waits_for_the_socket() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 5);
    pair.meet();
    // The first carries an acknowledgement, the copy does not.
    pair.ends[1].reliable.push(&pings(7..8)).unwrap();
    pair.send(1, true);
    pair.run_until(pair.now.after(CALM.delay));
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    end.push(&pings(0..1)).unwrap();
    let (_, first) = emit(end, now).unwrap();
    let later = now.after(COPY_AFTER_MICROS);
    end.handle_timeout(later);
    let (_, copy) = emit(end, later).unwrap();
    assert_ne!(first.len(), copy.len());
    for bytes in [first, copy] {
        pair.hear(1, address(1), bytes, true);
    }
    assert_eq!(pair.ends[1].reliable.counters().corrupt, 0);
}

#[test]
fn a_message_as_long_as_the_window_fills_whole_datagrams() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 5);
    pair.meet();
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    let window = end.window(now);
    let bytes = window - OFFSET_HEADER_BYTES;
    let mut message = std::vec![1, 2, bytes as u8, (bytes >> 8) as u8, 7, 0, 0, 0];
    message.resize(window, 0);
    end.push(&message).unwrap();
    let sent: Vec<usize> = core::iter::from_fn(|| emit(end, now)).map(|(_, e)| e.len()).collect();
    assert!(sent.len() > 1 && sent.iter().all(|&bytes| bytes == 1472), "{sent:?}");
}

#[test]
fn a_dark_path_is_asked_again_and_again_and_found() {
    let mut pair = Pair::new(CALM, Algorithm::Bbr, 6);
    pair.stream(300_000);
    pair.weather.loss = 1000;
    let values = pings(0..10);
    pair.ends[0].reliable.push(&values).unwrap();
    pair.send(0, true);
    let sent = pair.ends[0].reliable.counters().sent;
    pair.run_until(pair.now.after(10_000_000));
    let asked = pair.ends[0].reliable.counters().sent - sent;
    assert!((16..60).contains(&asked), "{asked} datagrams in 10 s");
    pair.weather.loss = 0;
    let back = pair.now;
    while pair.ends[1].pings.len() < 10 {
        pair.step();
    }
    assert!(pair.now.since(back) <= PROBE_MICROS_MAX + CALM.delay);
}

/// An end that mostly hears: what it says is credit now and then, while its peer's bytes fill the queue
/// that its own few go through.
#[test]
fn the_path_is_not_taken_for_slow_because_little_was_said() {
    let mut pair = Pair::new(CALM, Algorithm::Bbr, 11);
    pair.stream(2_000_000);
    let before = pair.ends[0].reliable.pacing_rate();
    assert!(before > 5_000_000, "{before} bytes/s");
    pair.weather.delay = 3 * CALM.delay;
    for value in 0..400 {
        pair.ends[0].reliable.push(&pings(value..value + 1)).unwrap();
        pair.send(0, true);
        pair.run_until(pair.now.after(5_000));
    }
    let after = pair.ends[0].reliable.pacing_rate();
    assert!(after > before / 4, "{before} bytes/s became {after}");
}

#[test]
fn the_peer_may_be_somewhere_else() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 7);
    pair.ends[0].reliable.push(&pings(0..1)).unwrap();
    pair.send(0, true);
    pair.run_until(pair.now.after(100_000));
    pair.ends[0].here = address(77);
    pair.ends[0].reliable.push(&pings(1..2)).unwrap();
    pair.send(0, true);
    pair.run_until(pair.now.after(100_000));
    assert_eq!(pair.ends[1].reliable.path(), address(77));
    assert!(pair.ends[0].reliable.is_flushed());
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 8);
    let mut out = [0; 100];
    let mut other = Received::new();
    other.insert(1_000_000, Micros(5), true, false);
    let bytes = other.emit(Micros(5), &mut out[12..]);
    let header = head(0);
    out[..12].copy_from_slice(&header);
    let tag = CHECKSUM.tag(0, &header, &out[12..12 + bytes]);
    out[12 + bytes..28 + bytes].copy_from_slice(&tag);
    let mut joined = [0; 2000];
    let mut join = Join::new(&mut joined);
    let reliable = &mut pair.ends[1].reliable;
    let heard = reliable.hear(&mut out[..28 + bytes], false, address(1), Micros(9), &mut join);
    assert_eq!(heard, Err(Broken));
}

#[test]
fn a_packet_that_is_no_messages_is_not_taken() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 9);
    let reliable = &mut pair.ends[0].reliable;
    assert_eq!(reliable.push(&[3, 0]), Err(NotPushed::Malformed));
    assert_eq!(reliable.push(&[0x70; 40]), Err(NotPushed::Malformed));
    assert!(reliable.is_flushed());
    let packet = pings(0..2000);
    let mut pushed = 0;
    while reliable.push(&packet).is_ok() {
        pushed += 1;
    }
    assert!(pushed >= 5, "{pushed}");
    reliable.invariants();
}
