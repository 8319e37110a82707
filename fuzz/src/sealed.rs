//! Two ends of sealed links on a carrier that keeps order within each stream, and somebody in between who
//! changes, drops, repeats and adds what they like; time that passes, and a carrier that is full.

use crate::bytes::Bytes;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox::time::Instant;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::message::kind_of;
use seaprox_noise::peers::Peers;
use seaprox_proto::carrier::{Bounds, Carrier, Greeting, Order, Received};
use seaprox_sealed::{Keeper, Kind, Memory, Outside, Sealed};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// A handshake takes half a millisecond: more would be too slow to be of use.
const STEPS_MAX: usize = 96;

const STREAMS: usize = 3;

/// Time passes in steps of so many milliseconds, 255 at once at most: 40 s of the 60 that keys have left
/// when they are renewed.
const STEP_MILLIS: u64 = 160;

/// With packets that are under way for longer, keys may end before others are there.
const SLOW_MILLIS: u64 = 15_000;

/// A packet that is under way.
type Flying = (u16, Vec<u8>);

/// What two ends and whoever is in between see of one direction.
#[derive(Default)]
struct Way {
    flying: VecDeque<Flying>,
    arrived: VecDeque<Flying>,
    is_full: bool,
    /// All that was ever sent.
    seen: BTreeSet<Vec<u8>>,
}

/// One end's carrier.
struct Tube {
    out: Rc<RefCell<Way>>,
    back: Rc<RefCell<Way>>,
}

impl Carrier for Tube {
    fn bounds(&self) -> Bounds {
        Bounds { order: Order::Streams, channels_max: 9, sent_bytes_max: 16_384 }
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        let out = &mut *self.out.borrow_mut();
        if out.is_full {
            return Err(Errno::AGAIN);
        }
        assert!(out.seen.insert(packet.to_vec()), "a packet as one before: {packet:02x?}");
        out.flying.push_back((stream, packet.to_vec()));
        Ok(())
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        let arrived = self.back.borrow_mut().arrived.pop_front();
        let (stream, packet) = arrived.ok_or(Errno::AGAIN)?;
        let bytes = packet.len().min(room.len());
        room[..bytes].copy_from_slice(&packet[..bytes]);
        Ok(Received::Piece { stream, bytes, end: bytes == packet.len() })
    }
}

/// The time, and numbers that are never the same.
#[derive(Clone)]
struct Told {
    millis: Rc<Cell<u64>>,
    draws: Rc<Cell<u64>>,
}

impl Outside for Told {
    fn now(&self) -> Instant {
        Instant::from_millis(self.millis.get())
    }

    fn wall_micros(&self) -> u64 {
        self.millis.get() * 1000
    }

    fn random(&self) -> Result<[u8; 32], Errno> {
        self.draws.set(self.draws.get() + 1);
        let mut random = [0x77; 32];
        random[8..16].copy_from_slice(&self.draws.get().to_le_bytes());
        Ok(random)
    }
}

type House<'m> = Keeper<'m, Told, 1>;

/// A link, or what is to be one.
struct Attempt<'k, 'm> {
    ends: [Sealed<'k, 'm, Tube, Told, 1>; 2],
    greetings: [Greeting; 2],
    ways: [Rc<RefCell<Way>>; 2],
    /// What was said, by who said it and on which stream, and was not heard.
    said: [[VecDeque<Vec<u8>>; STREAMS]; 2],
    words: u64,
    /// Nobody has meddled.
    is_honest: bool,
    /// Since when something is under way, and for how long anything ever was.
    busy_since: Option<u64>,
    longest_millis: u64,
}

impl<'k, 'm> Attempt<'k, 'm> {
    fn new(near: &'k House<'m>, far: &'k House<'m>) -> Self {
        let ways = [Rc::new(RefCell::new(Way::default())), Rc::new(RefCell::new(Way::default()))];
        let tube = |end: usize| Tube { out: ways[end].clone(), back: ways[1 - end].clone() };
        let asking = Sealed::asking(near, tube(0)).expect("the last one gave its seat back");
        Attempt {
            ends: [asking, Sealed::asked(far, tube(1))],
            greetings: [Greeting::Stranger; 2],
            ways,
            said: Default::default(),
            words: 0,
            is_honest: true,
            busy_since: None,
            longest_millis: 0,
        }
    }

    fn is_up(&self, end: usize) -> bool {
        self.greetings[end] == Greeting::Done
    }

    /// Goes on greeting.
    fn greet(&mut self, end: usize) -> Result<(), FailReason> {
        if !self.is_up(end) {
            self.greetings[end] = self.ends[end].greet(None)?;
        }
        // Who was asked knows by the other's packet that it is there.
        assert!(!self.is_up(1) || self.is_up(0), "a link with nobody");
        Ok(())
    }

    /// Says something of this length on a stream.
    fn say(&mut self, end: usize, stream: u16, length: usize) {
        // Of a link that has just begun only HELLO is said, until the other has said it.
        let may_speak = self.is_up(end) && (stream == 0 || self.is_up(1 - end));
        if !may_speak || self.ends[end].window() < 512 {
            return;
        }
        self.words += 1;
        let mut packet = self.words.to_le_bytes().to_vec();
        packet.resize(8 + length, 0x5a);
        match self.ends[end].send(stream, &packet) {
            Ok(()) => self.said[end][usize::from(stream)].push_back(packet),
            Err(errno) => assert_eq!(errno, Errno::AGAIN),
        }
    }

    /// The next packet of a stream arrives.
    fn deliver(&mut self, from: usize, stream: u16) -> Result<(), FailReason> {
        let end = 1 - from;
        {
            let way = &mut *self.ways[from].borrow_mut();
            let next = way.flying.iter().position(|&(of, _)| of == stream);
            let Some(packet) = next.and_then(|at| way.flying.remove(at)) else { return Ok(()) };
            way.arrived.push_back(packet);
        }
        if !self.is_up(end) {
            return self.greet(end);
        }
        let mut room = vec![0; 32_768];
        let received = self.ends[end].receive(&mut room);
        let Ok(Received::Piece { stream, bytes, end: true }) = received else {
            // Longer than any packet.
            return Err(FailReason::Protocol);
        };
        let is_handshake = kind_of(&room[..bytes]).is_some();
        let opened = self.ends[end].open(stream, &mut room[..bytes])?;
        let opened = &room[opened];
        if opened.is_empty() {
            return Ok(());
        }
        assert!(!is_handshake);
        let expected = self.said[from][usize::from(stream)].pop_front();
        assert_eq!(expected.as_deref(), Some(opened), "on stream {stream}");
        Ok(())
    }

    fn poll(&mut self, end: usize) -> Result<(), FailReason> {
        if !self.is_up(end) {
            return self.greet(end);
        }
        self.ends[end].poll()?;
        self.ends[end].flush();
        let way = self.ways[end].borrow();
        assert!(way.is_full || self.ends[end].is_flushed(), "something was left");
        Ok(())
    }

    /// Notes how long something is under way, or waits.
    fn watch(&mut self, now: u64) {
        let is_empty = |way: &Rc<RefCell<Way>>| way.borrow().flying.is_empty();
        if self.ways.iter().all(is_empty) && self.ends.iter().all(Carrier::is_flushed) {
            self.busy_since = None;
        } else {
            let since = *self.busy_since.get_or_insert(now);
            self.longest_millis = self.longest_millis.max(now - since);
        }
    }
}

/// Runs what the bytes say.
pub fn sealed(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let [asks, own] = [1, 2].map(|key| Identity::new(Secret::from_random([key; 32])));
    let peer = Peer::new(&asks, own.public(), Psk::NONE).expect("two keys");
    let mut peers = Peers::new();
    peers.add(Peer::new(&own, asks.public(), Psk::NONE).expect("two keys")).expect("the first");
    let mut memories = [const { Memory::<STREAMS>::new() }; 2];
    let told = Told { millis: Rc::new(Cell::new(1000)), draws: Rc::default() };
    let preferred = Algorithm::preferred(bytes.byte() & 1 == 0);
    let near = Keeper::asking(&asks, &peer, Kind::Sctp, preferred, told.clone());
    let far = Keeper::answering(&own, peers, Kind::Sctp, preferred, told.clone());
    let far = far.expect("there is chance");
    let [one, other] = memories.each_mut();
    near.give(one.seat());
    far.give(other.seat());
    let mut attempt = Attempt::new(&near, &far);
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        let outcome = step(&mut attempt, &mut bytes, &told.millis);
        attempt.watch(told.millis.get());
        if let Err(reason) = outcome {
            let is_slow = attempt.longest_millis >= SLOW_MILLIS && reason == FailReason::Auth;
            assert!(!attempt.is_honest || is_slow, "honest, and yet {reason}");
            drop(attempt);
            attempt = Attempt::new(&near, &far);
        }
    }
}

fn step(
    attempt: &mut Attempt<'_, '_>,
    bytes: &mut Bytes<'_>,
    millis: &Cell<u64>,
) -> Result<(), FailReason> {
    let what = bytes.byte();
    let end = usize::from(what >> 7);
    let stream = (what >> 4 & 3) as u16 % STREAMS as u16;
    match what & 15 {
        0..=2 => attempt.say(end, stream, usize::from(bytes.byte())),
        3..=6 => attempt.deliver(end, stream)?,
        7 | 8 => attempt.poll(end)?,
        9 => {
            millis.set(millis.get() + u64::from(bytes.byte()) * STEP_MILLIS);
            attempt.poll(0)?;
            attempt.poll(1)?;
        }
        10 => {
            let is_full = &mut attempt.ways[end].borrow_mut().is_full;
            *is_full = !*is_full;
        }
        _ => meddle(attempt, what, end, bytes),
    }
    Ok(())
}

/// Somebody in between does something to what is under way.
fn meddle(attempt: &mut Attempt<'_, '_>, what: u8, end: usize, bytes: &mut Bytes<'_>) {
    let way = &mut *attempt.ways[end].borrow_mut();
    let count = way.flying.len();
    let at = if count > 0 { bytes.below(count) } else { 0 };
    match (what & 15, way.flying.get_mut(at)) {
        (11, Some((_, packet))) if !packet.is_empty() => {
            let bit = (bytes.u64() % (packet.len() as u64 * 8)) as usize;
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        (12, Some(_)) => drop(way.flying.remove(at)),
        (13, Some(packet)) => {
            let copy = packet.clone();
            way.flying.insert(at, copy);
        }
        (14, Some((_, packet))) => packet.truncate(bytes.byte().into()),
        _ => {
            let length = usize::from(bytes.byte());
            let packet = (0..length).map(|_| bytes.byte()).collect();
            way.flying.insert(at, (bytes.byte().into(), packet));
        }
    }
    attempt.is_honest = false;
}
