//! Proxy types on the simulated kernel, one situation at a time: what the seeds of the simulation meet
//! too seldom, or would forgive.

use seaprox::Seaprox;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Handshaking, INPUT_BYTES, Reply, Seat, Verdict};
use seaprox::side::{Handle, SideKey};
use seaprox::sim::{FarEnd, SimKernel};
use seaprox::sys::{Errno, RawFd, Ready, Sys};
use seaprox::time::Instant;
use seaprox::transport::{Cause, Desk, Dest, Dial, Event, Room, Step, Transport};
use seaprox::wanted::{Wanted, Wish};
use seaprox::worker::{Options, Worker};
use seaprox_socks5::Socks5;
use seaprox_tcp::{AtEnd, Listener};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::panic::{PanicHookInfo, set_hook};
use std::process::Command;

const HANDSHAKE_MILLIS: u32 = 60_000;

/// How much it takes at a time.
const ROOM_BYTES: usize = 7;

/// A dest that lends its memory, little and not always, and keeps what it gets.
#[derive(Default)]
struct Trickle {
    taken: RefCell<Vec<u8>>,
    ended: Cell<bool>,
}

struct ToTrickle<'t> {
    trickle: &'t Trickle,
    room: [u8; ROOM_BYTES],
    has_room: bool,
    /// Who is to be told that there is room.
    untold: Option<SideKey>,
}

impl<'t> ToTrickle<'t> {
    fn new(trickle: &'t Trickle) -> Self {
        ToTrickle { trickle, room: [0; ROOM_BYTES], has_room: false, untold: None }
    }
}

impl<K: Sys> Transport<K> for ToTrickle<'_> {
    const PROMPT: bool = true;
    const LENDS: bool = true;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, K>) -> Option<Event> {
        let ready = Ready { writable: true, ..Ready::default() };
        self.untold.take().map(|side| Event::Ready(side, ready))
    }

    fn room(&mut self, channel: Handle) -> Room<'_> {
        self.has_room = !self.has_room;
        if self.has_room {
            return Room::Bytes(&mut self.room);
        }
        self.untold = Some(SideKey::from_number(channel.number()));
        Room::Full
    }

    fn commit(&mut self, _: Handle, bytes: usize) {
        self.trickle.taken.borrow_mut().extend(&self.room[..bytes]);
    }

    fn shut(&mut self, _: Handle, _: &mut Desk<'_, K>) {
        self.trickle.ended.set(true);
    }

    fn timeout(&self) -> Option<Instant> {
        self.untold.map(|_| Instant::from_millis(0))
    }
}

impl<K: Sys> Dest<K, Wish> for ToTrickle<'_> {
    fn dial(&mut self, dial: &mut Dial<'_, K>, _: Cause<Wish>) -> Step {
        Step::Lent(Handle::channel(dial.side.number()), Address::UNKNOWN)
    }

    fn abort(&mut self, _: SideKey, _: &[u8; 8], _: &mut Desk<'_, K>) {}
}

/// One client of a proxy type, which says all this before anybody looks, and ends; gives what it and the
/// dest have heard after a while that is much shorter than anybody's patience.
fn all_at_once<H: Handshake<Origin = ()>>(handshake: H, said: &[u8]) -> (Vec<u8>, Trickle) {
    let at: SocketAddr = "10.0.0.9:80".parse().unwrap();
    let sim = &SimKernel::calm(1);
    let listener = sim.listen(at, 1);
    let client: FarEnd = sim.client_connect(at);
    sim.advance(1);
    assert_eq!(client.send(sim, said), Ok(said.len()), "more than the buffers of a calm kernel");
    client.shutdown(sim).unwrap();
    sim.advance(5);

    let trickle = Trickle::default();
    let mut memory = Box::new(Seaprox::<1, 1>::new());
    let table = memory.tables(1, 1).next().unwrap();
    let mut seats = [Seat::new(H::VACANT)];
    let source = Listener::new(sim, listener, AtEnd::Refuse);
    let source = Handshaking::new(handshake, source, &mut seats, HANDSHAKE_MILLIS);
    let (dest, options) = (ToTrickle::new(&trickle), Options::default());
    let mut worker = Worker::new(sim, table, source, dest, (), options).unwrap();
    let begin = sim.now();
    while sim.now().since(begin) < 1000 && !trickle.ended.get() {
        assert_eq!(worker.turn(), Ok(true));
        // Would nothing else happen, a wait would take no time.
        sim.advance(1);
    }
    let mut heard = Vec::new();
    assert_eq!(client.recv_all(sim, &mut heard), Err(Errno::AGAIN), "the dest has not ended");
    drop(worker);
    (heard, trickle)
}

/// What came with the request is the dest's first, though that lends its memory and has room now and
/// then only; what was still in the kernel comes behind, and the end.
#[test]
fn early_bytes_go_into_memory_that_is_lent() {
    let hello = [&[5, 1, 0][..], &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]].concat();
    for early_bytes in [0, 1, ROOM_BYTES, 300, INPUT_BYTES - 13, INPUT_BYTES, 5000] {
        let early: Vec<u8> = (0..early_bytes).map(|n| n as u8).collect();
        let (heard, dest) = all_at_once(Socks5(()), &[&hello[..], &early].concat());
        assert_eq!(heard, [&[5, 0][..], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat());
        assert!(*dest.taken.borrow() == early && dest.ended.get(), "of {early_bytes} bytes");
    }
}

/// Wants so many bytes, and keeps none.
struct Swallow {
    bytes: usize,
}

impl Handshake for Swallow {
    type Origin = ();
    type State = usize;
    const VACANT: usize = 0;

    fn begin(&mut self, (): ()) -> usize {
        self.bytes
    }

    fn hear<'v>(
        &'v mut self,
        left: &'v mut usize,
        input: &mut &'v [u8],
        _: &mut Reply,
    ) -> Verdict<'v> {
        let (swallowed, rest) = input.split_at(input.len().min(*left));
        *left -= swallowed.len();
        *input = rest;
        if *left > 0 { Verdict::More } else { Verdict::Connect(Wanted::Service(b"")) }
    }

    fn answer(&mut self, _: &mut usize, outcome: Result<(), FailReason>, reply: &mut Reply) {
        assert_eq!(outcome, Ok(()));
        reply.say(b"thanks");
    }
}

/// A message many times as long as a seat: others have their turn in between, but nobody has to knock
/// again.
#[test]
fn a_long_message_is_heard_to_its_end() {
    for bytes in [INPUT_BYTES, 4 * INPUT_BYTES, 4 * INPUT_BYTES + 1, 60_000] {
        let said = [&vec![b'x'; bytes][..], b"for the dest"].concat();
        let (heard, dest) = all_at_once(Swallow { bytes }, &said);
        assert_eq!(heard, b"thanks", "after {bytes} bytes");
        assert_eq!(*dest.taken.borrow(), b"for the dest");
    }
}

/// A bug that clients can find.
struct Bomb;

impl Handshake for Bomb {
    type Origin = ();
    type State = ();
    const VACANT: () = ();

    fn begin(&mut self, (): ()) {}

    fn hear<'v>(&'v mut self, (): &'v mut (), input: &mut &'v [u8], _: &mut Reply) -> Verdict<'v> {
        // There is none at first.
        if input.is_empty() {
            Verdict::More
        } else {
            panic!("{} bytes\nof many lines", input.len())
        }
    }

    fn answer(&mut self, (): &mut (), _: Result<(), FailReason>, _: &mut Reply) {}
}

/// As docs/embedding.md has it.
fn end(bug: &PanicHookInfo<'_>) {
    match bug.location() {
        Some(at) => eprintln!("my-proxy: a bug at {at}"),
        None => eprintln!("my-proxy: a bug"),
    }
    std::process::abort();
}

/// A proxy type that panics ends the process with one line; in a process of its own, which is this test
/// once more.
#[test]
fn a_panic_ends_the_process_with_one_line() {
    const INSIDE: &str = "SEAPROX_TEST_PANICS";
    const OWN_NAME: &str = "a_panic_ends_the_process_with_one_line";
    if std::env::var_os(INSIDE).is_some() {
        set_hook(Box::new(end));
        all_at_once(Bomb, b"boo");
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("a test has a file"));
    let output = again.args([OWN_NAME, "--exact", "--nocapture"]).env(INSIDE, "").output();
    let output = output.expect("it can be run again");
    const SIGABRT: i32 = 6;
    assert_eq!(output.status.signal(), Some(SIGABRT));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let at = concat!("my-proxy: a bug at ", file!(), ":");
    assert!(said.starts_with(at) && said.lines().count() == 1, "{said}");
}
