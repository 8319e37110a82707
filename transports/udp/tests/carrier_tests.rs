//! Carriers of two ends, on sockets of the loopback and on a wire of which a test says what it does.

use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox::time::Instant;
use seaprox_proto::carrier::{Carrier, Received};
use seaprox_proto::message::{Message, PACKET_BYTES, parse};
use seaprox_proto::source::Accept;
use seaprox_udp::carrier::{Options, Udp};
use seaprox_udp::hub::{Hub, Numbering, Wire};
use seaprox_udp::keyed::Protection;
use seaprox_udp::listener::{Admitted, Listener};
use seaprox_udp::reliable::Memory;
use seaprox_udp::socket::{Datagrams, Path, RECEIVE_BYTES};
use seaprox_udp::time::Micros;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

#[path = "carrier_tests/full_tests.rs"]
mod full_tests;
#[path = "carrier_tests/keyed_tests.rs"]
mod keyed_tests;
#[path = "carrier_tests/moved_tests.rs"]
mod moved_tests;
#[path = "carrier_tests/refused_tests.rs"]
mod refused_tests;
#[path = "carrier_tests/source_tests.rs"]
mod source_tests;
#[path = "carrier_tests/stranger_tests.rs"]
mod stranger_tests;

/// So much passes on the wire between a call that waits and the next.
const STEP_MICROS: u64 = 100;

/// A hub with memory for one link, for as long as the test runs.
fn hub<W: Wire>(numbering: Numbering) -> &'static Hub<'static, W> {
    protected_hub(numbering, Protection::Insecure)
}

fn protected_hub<W: Wire>(
    numbering: Numbering,
    protection: Protection<'static>,
) -> &'static Hub<'static, W> {
    let buffer: &'static mut [u8; RECEIVE_BYTES] =
        vec![0; RECEIVE_BYTES].leak().try_into().unwrap();
    let memory = Box::leak(Box::new(Memory::<256, 512>::new()));
    let hub = Box::leak(Box::new(Hub::new(buffer, numbering, 7, protection)));
    hub.give(memory.parts());
    hub
}

const STEERED: Numbering = Numbering::Steered { thread: 0, threads: 1 };
const STEERING: Numbering = Numbering::Steering(1);

const ANYBODY: Admitted<'static> = Admitted::Anybody { secret: [3; 16] };

/// What a carrier received, as PINGs; it has taken all of it.
fn pings<W: Wire>(carrier: &mut Udp<'_, W>) -> Vec<u64> {
    let mut room = vec![0; PACKET_BYTES];
    let mut all = Vec::new();
    loop {
        match carrier.receive(&mut room) {
            Ok(Received::Piece { bytes, .. }) => {
                let mut rest = &room[..bytes];
                while !rest.is_empty() {
                    let (message, length) = parse(rest).expect("it is whole");
                    let Message::Ping(number) = message else { panic!("{message:?}") };
                    all.push(number);
                    rest = &rest[length..];
                }
                carrier.handled(true);
            }
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return all,
            Err(errno) => panic!("{errno}"),
        }
    }
}

fn ping<W: Wire>(carrier: &mut Udp<'_, W>, number: u64) {
    let mut packet = [0; 16];
    let bytes = Message::Ping(number).emit(&mut packet).expect("there is room");
    carrier.send(0, &packet[..bytes]).expect("there is a slot");
}

fn patiently<T>(mut get: impl FnMut() -> Option<T>) -> T {
    for _ in 0..10_000 {
        if let Some(got) = get() {
            return got;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it does not come");
}

/// What lies between two ends, and what is to happen there.
#[derive(Default)]
struct Between {
    now: u64,
    /// What is on its way to each end.
    to: [VecDeque<Vec<u8>>; 2],
    /// Whether the socket of the end that asks takes nothing.
    is_full: bool,
    /// What its sends fail with.
    fault: Option<Errno>,
    /// Whether all it sends is lost.
    is_dark: bool,
    /// When it looked for another way.
    reconnects: Vec<u64>,
    /// How often it was asked to.
    sends: u32,
    receives: u32,
    /// What arrives at the acceptor's socket before all else, again and again.
    flood: Option<Vec<u8>>,
    /// What the network says to the end that asks.
    heard: Option<Errno>,
    /// What was sent to either end and begins with this byte is lost, so many times.
    lost: Option<(usize, u8, u32)>,
    /// All that was sent, and to which end, whatever became of it.
    sent: Vec<(usize, Vec<u8>)>,
}

/// An end of it: 0 asks, 1 listens.
struct Toy {
    between: Rc<RefCell<Between>>,
    end: usize,
    fd: RawFd,
}

fn toy_address(end: usize) -> SocketAddr {
    ([10, 0, 0, 1 + end as u8], 7000).into()
}

impl Wire for Toy {
    fn now(&self) -> Micros {
        Micros(self.between.borrow().now)
    }

    fn wall_micros(&self) -> u64 {
        self.between.borrow().now
    }

    fn fd(&self) -> RawFd {
        self.fd
    }

    fn send(&mut self, _: Option<&Path>, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        let between = &mut *self.between.borrow_mut();
        if self.end == 0 {
            between.sends += 1;
            if between.is_full {
                return Err(Errno::AGAIN);
            }
            between.fault.map_or(Ok(()), Err)?;
            if between.is_dark {
                return Ok(datagrams.len());
            }
        }
        let to = 1 - self.end;
        for bytes in datagrams {
            between.sent.push((to, bytes.to_vec()));
            match &mut between.lost {
                Some((end, first, times @ 1..)) if (*end, *first) == (to, bytes[0]) => *times -= 1,
                _ => between.to[to].push_back(bytes.to_vec()),
            }
        }
        Ok(datagrams.len())
    }

    fn reconnect(&mut self) -> Result<(), Errno> {
        let between = &mut *self.between.borrow_mut();
        between.reconnects.push(between.now);
        Ok(())
    }

    fn take_heard(&mut self) -> Option<Errno> {
        if self.end == 0 { self.between.borrow_mut().heard.take() } else { None }
    }

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        let between = &mut *self.between.borrow_mut();
        between.receives += 1;
        assert!(between.receives < 10_000, "it goes on for ever");
        let flood = between.flood.clone().filter(|_| self.end == 1);
        let bytes = flood.or_else(|| between.to[self.end].pop_front()).ok_or(Errno::AGAIN)?;
        let buffer = &mut buffer[..bytes.len()];
        buffer.copy_from_slice(&bytes);
        Ok(Datagrams {
            path: toy_address(1 - self.end).into(),
            segment_bytes: bytes.len().max(1),
            bytes: buffer,
            is_ce: false,
            is_ect: false,
            is_truncated: false,
        })
    }
}

/// Two carriers that are linked, on a toy wire.
struct Pair {
    between: Rc<RefCell<Between>>,
    asker: Udp<'static, Toy>,
    acceptor: Udp<'static, Toy>,
    listener: Listener<'static, Toy>,
}

impl Pair {
    fn linked() -> Pair {
        let between = Rc::new(RefCell::new(Between { now: 5_000_000, ..Between::default() }));
        let [near, far] = [hub(STEERING), hub(STEERED)];
        near.open(Toy { between: between.clone(), end: 0, fd: 3 }, true);
        far.open(Toy { between: between.clone(), end: 1, fd: 3 }, false);
        let mut listener = Listener::new(far, ANYBODY, Options::USUAL);
        let mut asker = Udp::connect(near, None, Options::USUAL).expect("there is memory");
        assert_eq!(asker.finish_connect(), Ok(false));
        let (acceptor, _) = listener.accept(None).expect("it was asked for");
        assert_eq!(asker.finish_connect(), Ok(true));
        Pair { between, asker, acceptor, listener }
    }

    /// Nothing happens until the end that asked wants a turn.
    fn wait(&mut self) {
        let at = self.asker.timeout().expect("it waits for something");
        let between = &mut *self.between.borrow_mut();
        assert!(at > Instant::from_millis(between.now / 1000), "it does not wait at all");
        between.now = at.as_millis() * 1000;
    }

    /// Both ends have a turn; what the acceptor received.
    fn turn(&mut self) -> Result<Vec<u64>, FailReason> {
        self.between.borrow_mut().receives = 0;
        let acceptor = turn(&mut self.acceptor)?;
        turn(&mut self.asker)?;
        Ok(acceptor)
    }

    /// Time passes, and both ends have turns, for so many microseconds; what the acceptor received.
    fn run(&mut self, micros: u64) -> Result<Vec<u64>, FailReason> {
        let until = self.between.borrow().now + micros;
        let mut all = Vec::new();
        while self.between.borrow().now < until {
            self.between.borrow_mut().now += STEP_MICROS;
            all.extend(self.turn()?);
        }
        Ok(all)
    }
}

fn turn(carrier: &mut Udp<'static, Toy>) -> Result<Vec<u64>, FailReason> {
    let all = pings(carrier);
    carrier.poll()?;
    carrier.flush();
    Ok(all)
}

#[test]
fn what_is_sent_arrives() {
    let mut pair = Pair::linked();
    ping(&mut pair.asker, 5);
    assert_eq!(pair.run(50_000), Ok(vec![5]));
    assert!(pair.asker.is_flushed());
}
