//! Whole ends: workers on threads of their own, with a link between them, a client's side and a target's.

use crate::keys::{Clock, PEERS};
use crate::tap::{Tap, Wire};
use seaprox::Seaprox;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::share::{Commons, Order};
use seaprox::side::SideKey;
use seaprox::sys::{Errno, Linux, OwnedFd, RawFd};
use seaprox::transport::{Dest, Notice, Observer, Source};
use seaprox::wanted::Wish;
use seaprox::worker::{self, Worker};
use seaprox_proto::carrier::{Carrier, Greeting};
use seaprox_proto::dest::{Begun, Connect, DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::{Accept, Guest, LinkSource};
use seaprox_sctp::{Options, Seqpacket, Socket};
use seaprox_sealed::{Keeper, Sealed};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, Chosen, DialOptions, Dialer, Listener, Names, Target, Targets};
use seaprox_tests::eventually;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Channels of a link, and connections of an end.
const CHANNELS: usize = 64;

/// Links that an egress holds.
pub(crate) const LINKS: usize = 2;

/// Who may be there and not have shown who they are.
pub(crate) const GUESTS: usize = 8;

const OPTIONS: Options = Options::new(CHANNELS as u16);

type House = &'static Keeper<'static, Clock, PEERS>;

/// A name in the abstract namespace.
pub(crate) fn vacant_name() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("@seaprox-house-{}-{number}", std::process::id())
}

pub(crate) fn listener(name: &str) -> OwnedFd {
    Seqpacket::listen(name.as_bytes(), &OPTIONS).expect("a vacant name")
}

pub(crate) fn try_socket(name: &str) -> Result<Seqpacket, Errno> {
    Seqpacket::connect(name.as_bytes(), &OPTIONS)
}

pub(crate) fn socket(name: &str) -> Seqpacket {
    try_socket(name).expect("there is a listener")
}

/// With keys.
pub(crate) struct SealedTo {
    pub(crate) house: House,
    pub(crate) name: String,
    pub(crate) wire: Wire,
}

impl Connect for SealedTo {
    type Carrier = Sealed<'static, 'static, Tap, Clock, PEERS>;

    fn begin(&mut self) -> Begun<Self::Carrier> {
        let Ok(socket) = Seqpacket::connect(self.name.as_bytes(), &OPTIONS) else {
            return Begun::Failed(FailReason::ConnectionRefused);
        };
        let tap = Tap { socket, wire: self.wire.clone() };
        Sealed::asking(self.house, tap).map_or(Begun::Failed(FailReason::TableFull), Begun::Carrier)
    }

    fn finish(&mut self, carrier: &mut Self::Carrier) -> Result<bool, FailReason> {
        let connected = carrier.carrier().socket.finish_connect();
        connected.map_err(FailReason::of_connect)?;
        carrier.greet(None).map(|greeting| greeting == Greeting::Done)
    }

    fn peer(&self) -> Address {
        Address::UNIX
    }
}

/// Without.
pub(crate) struct PlainTo(pub(crate) String);

impl Connect for PlainTo {
    type Carrier = Seqpacket;

    fn begin(&mut self) -> Begun<Seqpacket> {
        let connected = Seqpacket::connect(self.0.as_bytes(), &OPTIONS);
        connected.map_or(Begun::Failed(FailReason::ConnectionRefused), Begun::Carrier)
    }

    fn finish(&mut self, carrier: &mut Seqpacket) -> Result<bool, FailReason> {
        carrier.finish_connect().map(|()| true).map_err(FailReason::of_connect)
    }

    fn peer(&self) -> Address {
        Address::UNIX
    }
}

/// With keys.
pub(crate) struct SealedFrom {
    pub(crate) house: House,
    pub(crate) listener: OwnedFd,
    pub(crate) wire: Wire,
}

impl Accept for SealedFrom {
    type Carrier = Sealed<'static, 'static, Tap, Clock, PEERS>;

    fn fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    fn accept(&mut self, _: Option<FailReason>) -> Result<(Self::Carrier, Address), Errno> {
        let (socket, peer) = Seqpacket::accept(&self.listener)?;
        Ok((Sealed::asked(self.house, Tap { socket, wire: self.wire.clone() }), peer))
    }

    fn end(&mut self) {
        Seqpacket::stop_listening(&self.listener);
    }
}

/// Without.
pub(crate) struct PlainFrom(pub(crate) OwnedFd);

impl Accept for PlainFrom {
    type Carrier = Seqpacket;

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn accept(&mut self, _: Option<FailReason>) -> Result<(Seqpacket, Address), Errno> {
        Seqpacket::accept(&self.0)
    }

    fn end(&mut self) {
        Seqpacket::stop_listening(&self.0);
    }
}

/// Whatever is asked for, all targets.
struct All;

impl Targets<Wish> for All {
    fn choose(&mut self, _: SideKey, _: Wish) -> Result<Chosen, FailReason> {
        Ok(Chosen::All)
    }
}

impl Names for All {
    fn name(&self, _: u8) -> Option<(&str, u16)> {
        None
    }

    fn forget(&mut self, _: SideKey) {}
}

/// What a worker told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Notice>>>);

impl Observer for Notes {
    fn notice(&mut self, notice: Notice) {
        self.0.lock().expect("no holder panics").push(notice);
    }
}

/// A worker.
pub(crate) struct Party {
    commons: Commons<'static>,
    notes: Notes,
    thread: Option<JoinHandle<()>>,
}

impl Party {
    fn start<S, D>(make: impl FnOnce() -> (S, D) + Send + 'static) -> Party
    where
        S: Source<Linux>,
        D: Dest<Linux, S::Target>,
    {
        let table: &'static Seaprox<CHANNELS, 1> = Box::leak(Box::new(Seaprox::new()));
        let tables = table.claim(1, CHANNELS).expect("claimed for the first time");
        let commons = table.commons();
        let notes = Notes::default();
        let observer = notes.clone();
        let thread = thread::Builder::new().stack_size(16 << 20).spawn(move || {
            let (source, dest) = make();
            let options = worker::Options { proxy: "sealed", ..worker::Options::default() };
            let table = { tables }.next().expect("one thread's table");
            let worker = Worker::new(Linux, table, source, dest, observer, options);
            worker.expect("an epoll").run().expect("the kernel lets it wait");
        });
        Party { commons, notes, thread: Some(thread.expect("a thread")) }
    }

    /// Links out, to wherever `connect` leads; gives where clients connect.
    pub(crate) fn ingress<C: Connect + 'static>(
        connect: impl FnOnce() -> C + Send + 'static,
    ) -> (Party, SocketAddr) {
        let clients = TcpListener::bind("127.0.0.1:0").expect("a port");
        clients.set_nonblocking(true).expect("it is a socket");
        let address = clients.local_addr().expect("it is bound");
        let house = Party::start(move || {
            let memory: &'static mut LinkMemory<CHANNELS, 1200> =
                Box::leak(Box::new(LinkMemory::new()));
            let fd = Box::leak(Box::new(clients)).as_raw_fd();
            let options = DestOptions {
                wanted: Wish::DEFAULT,
                wait_millis: 30_000,
                connect_millis: 3000,
                seed: 1,
            };
            let dest =
                LinkDest::new(memory.link(0, config(Role::Initiator)), connect(), &mut [], options);
            (Listener::new(Linux, fd, AtEnd::Refuse), dest)
        });
        (house, address)
    }

    /// Links in, from wherever `accept` has them; connections go to `to`.
    pub(crate) fn egress<A: Accept + 'static>(
        accept: impl FnOnce() -> A + Send + 'static,
        to: SocketAddr,
    ) -> Party {
        Party::start(move || {
            let memories: &'static mut [LinkMemory<CHANNELS, 1200>; LINKS] =
                Box::leak(Box::new([const { LinkMemory::new() }; LINKS]));
            let guests = Vec::leak((0..GUESTS).map(|_| Guest::new()).collect());
            let source = LinkSource::new(accept(), memories, config(Role::Acceptor));
            let targets = Box::leak(Box::new([Target::Inet(to)]));
            let dialer = Dialer::choosing(Linux, targets, All, NoNames, DialOptions::default());
            (source.receiving(guests), dialer)
        })
    }

    pub(crate) fn count(&self, counts: impl Fn(&Notice) -> bool) -> usize {
        self.notes.0.lock().expect("no holder panics").iter().filter(|told| counts(told)).count()
    }

    pub(crate) fn links_up(&self) -> usize {
        self.count(|notice| matches!(notice, Notice::LinkUp { .. }))
    }

    /// How many links were not made for this reason, or are down for it.
    pub(crate) fn without_link(&self, why: FailReason) -> usize {
        self.count(|notice| match notice {
            Notice::Refused { reason, .. } | Notice::LinkDown { reason, .. } => *reason == why,
            _ => false,
        })
    }

    pub(crate) fn wait_without_link(&self, why: FailReason) {
        eventually(why.name(), || self.without_link(why) > 0);
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{:?}", self.notes.0.lock());
        }
        self.commons.order(Linux, Order::Stop);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "it panicked");
    }
}

fn config(role: Role) -> Config {
    Config {
        role,
        peer_channels_max: if role == Role::Acceptor { CHANNELS as u16 } else { 0 },
        idle_millis: 15_000,
        opens_per_second_max: 10_000,
        first_offset: 0,
    }
}
