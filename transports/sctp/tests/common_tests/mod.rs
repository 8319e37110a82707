//! What the tests of both kinds of socket share: waiting, pairs, whole packets, and the checks that
//! hold for either.

use rustix::event::{Timespec, epoll};
use rustix::fd::BorrowedFd;
use seaprox::sys::{Errno, OwnedFd};
use seaprox_proto::carrier::Received;
use seaprox_proto::demarcator::Demarcator;
use seaprox_proto::message::PACKET_BYTES;
use seaprox_sctp::{Options, Socket};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One descriptor, edge-triggered as the engine registers it.
pub(crate) struct Edges(OwnedFd);

impl Edges {
    #[allow(unsafe_code)]
    pub(crate) fn of<S: Socket>(carrier: &S) -> Edges {
        // SAFETY: the carrier, which is lent, keeps it open.
        Edges::of_fd(unsafe { BorrowedFd::borrow_raw(carrier.fd().unwrap()) })
    }

    pub(crate) fn of_fd(fd: impl rustix::fd::AsFd) -> Edges {
        use epoll::EventFlags as F;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = F::IN | F::OUT | F::RDHUP | F::ET;
        epoll::add(&epoll, fd, epoll::EventData::new_u64(0), flags).unwrap();
        Edges(epoll)
    }

    /// What the next event says; `None` after so long without one.
    pub(crate) fn wait(&self, patience: Duration) -> Option<epoll::EventFlags> {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        let timeout =
            Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        let count = epoll::wait(&self.0, &mut events[..], Some(&timeout)).unwrap();
        (count > 0).then_some(events[0].flags)
    }
}

/// One end: a carrier, registered, and what is needed to make packets of its pieces.
pub(crate) struct End<S: Socket> {
    pub(crate) carrier: S,
    pub(crate) edges: Edges,
    demarcator: Demarcator,
    buffer: Box<[u8; PACKET_BYTES]>,
}

/// What a whole step of an end gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Packet(u16, Vec<u8>),
    Up,
    Restarted,
    Gone,
}

impl<S: Socket> End<S> {
    pub(crate) fn new(carrier: S) -> Self {
        let (edges, demarcator) = (Edges::of(&carrier), Demarcator::new());
        End { carrier, edges, demarcator, buffer: Box::new([0; PACKET_BYTES]) }
    }

    /// What has come already.
    pub(crate) fn try_hear(&mut self) -> Result<Heard, Errno> {
        loop {
            let room = self.demarcator.room(&mut self.buffer);
            match self.carrier.receive(room)? {
                Received::Piece { stream, bytes, end } => {
                    let whole = self.demarcator.piece(stream, bytes, end);
                    if let Some(length) = whole.expect("pieces of packets") {
                        return Ok(Heard::Packet(stream, self.buffer[..length].to_vec()));
                    }
                }
                Received::Up => return Ok(Heard::Up),
                Received::Restarted => return Ok(Heard::Restarted),
                Received::Gone => return Ok(Heard::Gone),
                Received::Nothing => {}
            }
        }
    }

    /// Waits, by edges only, for what comes next.
    pub(crate) fn hear_within(&mut self, patience: Duration) -> Option<Heard> {
        let until = Instant::now() + patience;
        loop {
            match self.try_hear() {
                Ok(heard) => return Some(heard),
                Err(Errno::AGAIN) => {}
                Err(errno) => panic!("{errno:?}"),
            }
            let left = until.checked_duration_since(Instant::now())?;
            self.edges.wait(left)?;
        }
    }

    pub(crate) fn hear(&mut self) -> Heard {
        self.hear_within(PATIENCE).expect("something is heard")
    }

    /// Sends, waiting, by edges only, where there is no room.
    pub(crate) fn send(&mut self, stream: u16, packet: &[u8]) {
        loop {
            match self.carrier.send(stream, packet) {
                Ok(()) => return,
                Err(Errno::AGAIN) => {
                    assert!(self.edges.wait(PATIENCE).is_some(), "it never becomes writable");
                }
                Err(errno) => panic!("{errno:?}"),
            }
        }
    }
}

/// Waits until a connect is decided.
pub(crate) fn decided<S: Socket>(carrier: &mut S) -> Result<(), Errno> {
    let edges = Edges::of(carrier);
    let until = Instant::now() + PATIENCE;
    loop {
        match carrier.finish_connect() {
            Err(Errno::INPROGRESS) => {}
            decided => return decided,
        }
        edges.wait(until.checked_duration_since(Instant::now()).expect("it is decided"));
    }
}

/// A connected pair, the connecting end first. Both have heard that they are up.
pub(crate) fn pair<S: Socket>(
    listener: &OwnedFd,
    endpoint: &S::Endpoint,
    options: &Options,
) -> (End<S>, End<S>) {
    let mut connecting = S::connect(endpoint, options).expect("connecting begins");
    assert_eq!(decided(&mut connecting), Ok(()));
    let accepted = accepted::<S>(listener);
    let mut ends = (End::new(connecting), End::new(accepted));
    assert_eq!((ends.0.hear(), ends.1.hear()), (Heard::Up, Heard::Up));
    ends
}

/// Who has connected.
pub(crate) fn accepted<S: Socket>(listener: &OwnedFd) -> S {
    let edges = Edges::of_fd(listener);
    loop {
        match S::accept(listener) {
            Ok((accepted, _)) => return accepted,
            Err(Errno::AGAIN) => assert!(edges.wait(PATIENCE).is_some(), "nobody came"),
            Err(errno) => panic!("{errno:?}"),
        }
    }
}

/// A packet that is unlike any other.
pub(crate) fn packet(number: u32, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    number.to_le_bytes().into_iter().chain(std::iter::repeat_with(&mut next)).take(length).collect()
}

/// Lengths of every kind, the greatest included.
pub(crate) fn length(number: u32) -> usize {
    match number % 5 {
        0 => PACKET_BYTES,
        1 => 1,
        2 => 1 + (number as usize * 7919) % PACKET_BYTES,
        3 => 4 + number as usize % 60,
        _ => PACKET_BYTES - 1 - number as usize % 3_000,
    }
}

/// Packets one way, on one stream, the receiver reading only when the sender cannot go on.
pub(crate) fn carries_whole_packets_in_order<S: Socket>(
    from: &mut End<S>,
    to: &mut End<S>,
    stream: u16,
    count: u32,
) {
    let (mut sent, mut heard, mut waits) = (0, 0, 0);
    while heard < count {
        while sent < count {
            match from.carrier.send(stream, &packet(sent, length(sent))) {
                Ok(()) => sent += 1,
                Err(Errno::AGAIN) => break,
                Err(errno) => panic!("{errno:?}"),
            }
        }
        waits += u32::from(sent < count);
        match to.hear() {
            Heard::Packet(on, bytes) => {
                assert_eq!(on, stream);
                assert!(bytes == packet(heard, length(heard)), "packet {heard} is another");
                heard += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(count <= 100 || waits > 0, "it was never full");
}

/// Fills one end; gives how many bytes it took.
pub(crate) fn fill<S: Socket>(end: &mut End<S>, stream: u16, length: usize) -> usize {
    let bytes = packet(1, length);
    for taken in 0..1_000_000 {
        match end.carrier.send(stream, &bytes) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return taken * length,
            Err(errno) => panic!("{errno:?}"),
        }
    }
    panic!("it is never full");
}

/// Full, no edge; read empty, an edge, and room again. More than once.
pub(crate) fn says_when_there_is_room_again<S: Socket>(from: &mut End<S>, to: &mut End<S>) {
    for _ in 0..3 {
        let taken = fill(from, 0, PACKET_BYTES);
        assert!(taken >= 2 * PACKET_BYTES, "{taken} bytes are too little");
        // What is on its way may still arrive and make some room.
        while from.edges.wait(Duration::from_millis(300)).is_some() {
            fill(from, 0, PACKET_BYTES);
        }
        assert_eq!(from.carrier.send(0, &[1]), Err(Errno::AGAIN));
        assert!(matches!(to.hear(), Heard::Packet(0, _)));
        while to.hear_within(Duration::from_millis(300)).is_some() {}
        let flags = from.edges.wait(PATIENCE).expect("an edge");
        assert!(flags.contains(epoll::EventFlags::OUT), "{flags:?}");
        assert_eq!(from.carrier.send(0, b"again"), Ok(()));
        assert_eq!(to.hear(), Heard::Packet(0, b"again".to_vec()));
    }
}

/// What was sent before the end is received before it; then the end, for ever.
pub(crate) fn ends_in_order<S: Socket>(from: End<S>, mut to: End<S>) {
    let mut from = from;
    for number in 0..5 {
        from.send(0, &packet(number, length(number)));
    }
    drop(from);
    for number in 0..5 {
        assert_eq!(to.hear(), Heard::Packet(0, packet(number, length(number))));
    }
    for _ in 0..3 {
        assert_eq!(to.hear(), Heard::Gone);
    }
    let errno = to.carrier.send(0, b"x").expect_err("nobody takes it");
    assert!([Errno::PIPE, Errno::CONNRESET, Errno::NOTCONN].contains(&errno), "{errno:?}");
}
