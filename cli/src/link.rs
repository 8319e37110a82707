//! `seaprox ingress` and `seaprox egress`: the two ends of links.

use crate::activation::Passed;
use crate::allow::Allowed;
use crate::args::{Ask, EgressConfig, IngressConfig};
use crate::bound::{LINKS, link_channels};
use crate::carriers::{self, FromSocket, To, ToHosts, ToPath, ToUdp};
use crate::endpoint::{self, Link, LinkHost, Listen};
use crate::exit::{ExitCode, fail};
use crate::fixed::{heard, leak_targets, open, when_full};
use crate::listening::{CannotListen, LinkListening, LinkSockets};
use crate::log::{self, Level};
use crate::memory::{LinkMemory, MAX_NUM_CONNECTIONS, NUM_THREADS, RESOLVER, UdpHub, UdpMemory};
use crate::nofile::Wish;
use crate::proxy::{Ground, Thread};
use crate::sys;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::relay::PipeLimits;
use seaprox::side::SideKey;
use seaprox::sys::Linux;
use seaprox::table::Table;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::worker::Options;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::message;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_proto::wanted::Wanted;
use seaprox_sctp::{Association, Endpoint, Socket};
use seaprox_tcp::{
    Chosen, Dialer, Listener, Listeners, Names, Places, Service, Services, Target, Targets,
};
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::hub::Numbering;
use seaprox_udp::listener::Listener as UdpListener;
use seaprox_udp::socket::{RECEIVE_BYTES, UdpSocket};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// How long a carrier may take to be connected and greeted, in milliseconds.
const CONNECT_MILLIS: u32 = 10_000;

/// Channels an ingress may open in a second: more than one machine accepts on one thread.
const OPENS_PER_SECOND_MAX: u32 = 200_000;

/// Channels of a link, each end's.
const CHANNELS: u16 = link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) as u16;

/// What every carrier is told.
const fn carrier_options() -> seaprox_sctp::Options {
    seaprox_sctp::Options::new(CHANNELS)
}

fn session_config(role: Role, peer_channels_max: u16, idle_millis: u32) -> Config {
    Config {
        role,
        // The carrier knows better.
        peer_channels_max,
        idle_millis,
        opens_per_second_max: OPENS_PER_SECOND_MAX,
        first_offset: 0,
    }
}

/// What the limits of an end of links need: one descriptor a connection, no pipes.
fn wish(connections: usize, threads: usize, listeners: usize) -> Wish {
    // Of udp too there is one socket a thread.
    let links = threads * LINKS;
    Wish { connections, threads, listeners: listeners + links, pipes: PipeLimits::default() }
}

/// Clients in, one link a thread out; runs until told to end.
pub fn run_ingress(config: &IngressConfig) -> ExitCode {
    let common = &config.common;
    let wish = wish(common.connections_max, common.threads, config.listens.len());
    let ground = Ground::take(common, &wish);
    let passed = Passed::from_environment();
    let open = |at| open(at, &passed, common.socket_buffer_bytes);
    let listenings: Vec<_> = config.listens.iter().map(open).collect();
    let listeners: &'static [_] = Vec::leak(listenings.iter().map(heard).collect());
    let options = Options { when_full: when_full(config.when_full), ..ground.options("ingress") };
    let dest_options = DestOptions {
        wanted: wanted_of(&config.ask),
        wait_millis: config.link_wait_millis.unwrap_or(DURATION_MILLIS_MAX),
        connect_millis: common.connect_timeout_millis.unwrap_or(CONNECT_MILLIS),
        seed: std::process::id(),
    };
    let at = format!("{} for {}", shown(&config.listens), config.link);
    let carrier = carrier_options();
    let session = session_config(Role::Initiator, 0, config.link_timeout_millis);
    let links = Links { memories: Memories::ask(ground.threads), session };
    let connect = match &config.link {
        Link::Udp { host: None, .. } => unreachable!("refused with the arguments"),
        Link::Udp { host: Some(host), port } => {
            ground.resolve(matches!(host, LinkHost::Name(_)));
            Way::Udp {
                memories: UdpMemories::ask(ground.threads),
                host: Box::leak(Box::new(host.clone())),
                port: *port,
                options: udp_options(config.congestion),
                first: u32::from_ne_bytes(random()) / 2,
            }
        }
        Link::Seqpacket(path) => {
            let path = Vec::leak(path.as_bytes().to_vec());
            Way::Path(ToPath { path, options: carrier })
        }
        Link::Sctp { hosts, port } => {
            check_sctp(&config.link);
            ground.resolve(hosts.iter().any(|host| matches!(host, LinkHost::Name(_))));
            Way::Hosts(ToHosts {
                hosts: Vec::leak(hosts.clone()),
                port: *port,
                udp_port: config.sctp_udp_port,
                options: carrier,
                tries: 0,
                peer: Address::UNKNOWN,
            })
        }
    };
    ground.serve(&at, move |thread, table| {
        ingress(thread, table, links, listeners, connect, dest_options, options);
    })
}

/// One thread of an ingress.
fn ingress(
    thread: Thread,
    table: Table<'_>,
    links: Links,
    listeners: &[(seaprox::sys::RawFd, seaprox_tcp::AtEnd)],
    way: Way,
    dest_options: DestOptions,
    options: Options,
) {
    let Some((memories, _)) = links.memories.take(thread.number) else { return };
    let listeners = listeners.iter().map(|&(fd, at_end)| Listener::new(Linux, fd, at_end));
    let link = memories[0].link(0, links.session);
    let seed = dest_options.seed.wrapping_add(thread.number as u32).wrapping_mul(0x9e37_79b9);
    let Some(connect) = way.take(thread.number) else { return };
    let dest = LinkDest::new(link, connect, DestOptions { seed, ..dest_options });
    thread.run(table, Listeners::new(listeners), dest, options);
}

/// Links in, connections out; runs until told to end.
pub fn run_egress(config: &EgressConfig) -> ExitCode {
    let common = &config.common;
    let ground = Ground::take(common, &wish(common.connections_max, common.threads, 1));
    let mut listening = LinkListening::open(&config.link, &carrier_options(), ground.threads)
        .unwrap_or_else(|refused| fail(refused.code, refused.line));
    let offer = Offer::of(config);
    let session = session_config(Role::Acceptor, CHANNELS, config.link_timeout_millis);
    let links = Links { memories: Memories::ask(ground.threads), session };
    let names = offer.targets.iter().any(|target| matches!(target, Target::Name(..)));
    ground.resolve(names || !config.allowed.patterns().is_empty());
    let dial_options = ground.dial_options();
    let options = ground.options("egress");
    let accept = match &mut listening.sockets {
        LinkSockets::One(fd) => {
            // The process's own, until it ends.
            let listener = fd.try_clone().unwrap_or_else(|error| {
                fail(ExitCode::of(&error), format_args!("{}: {error}", config.link))
            });
            let listener: &'static OwnedFd = Box::leak(Box::new(listener));
            let is_sctp = matches!(config.link, Link::Sctp { .. });
            Heard::Socket(FromSocket { listener, is_sctp })
        }
        LinkSockets::Udp(sockets) => {
            warn_if_capped(sockets.iter());
            Heard::Udp {
                memories: UdpMemories::ask(ground.threads),
                sockets: OnePerThread::of(std::mem::take(sockets).into_iter()),
                secret: random(),
                options: udp_options(config.congestion),
            }
        }
    };
    ground.serve(&config.link, move |thread, table| {
        egress(thread, table, links, accept, offer, dial_options, options);
    })
}

/// One thread of an egress.
fn egress(
    thread: Thread,
    table: Table<'_>,
    links: Links,
    heard: Heard,
    offer: Offer,
    dial_options: seaprox_tcp::DialOptions,
    options: Options,
) {
    let Some((memories, places)) = links.memories.take(thread.number) else { return };
    let Some(accept) = heard.take(thread.number) else { return };
    let source = LinkSource::new(accept, memories, links.session);
    let chooser = Chooser(Services::new(offer.services, offer.allowed, places));
    let dialer = Dialer::choosing(Linux, offer.targets, chooser, &RESOLVER, dial_options);
    thread.run(table, source, dialer, options);
}

/// What ingresses can ask an egress for.
#[derive(Clone, Copy)]
struct Offer {
    targets: &'static [Target<'static>],
    services: &'static [Service<'static>],
    allowed: &'static Allowed,
}

impl Offer {
    /// For as long as the process lives.
    fn of(config: &EgressConfig) -> Offer {
        let mut targets = config.targets.clone();
        let mut services = Vec::new();
        let mut offer = |name: &str, range: Range<usize>| {
            let name: &'static str = Box::leak(name.into());
            // There are at most 128 targets, as the arguments' reader has made sure.
            let targets = range.start as u8..range.end as u8;
            services.push(Service { name: name.as_bytes(), targets });
        };
        if !targets.is_empty() {
            offer("", 0..targets.len());
        }
        for service in &config.services {
            let start = targets.len();
            targets.extend(service.targets.iter().cloned());
            offer(&service.name, start..targets.len());
        }
        Offer {
            targets: leak_targets(&targets),
            services: Vec::leak(services),
            allowed: Box::leak(Box::new(config.allowed.clone())),
        }
    }
}

/// Chooses among what is offered by what the wire says.
struct Chooser<'p>(Services<'p, &'static Allowed>);

impl Targets<Wanted> for Chooser<'_> {
    fn choose(&mut self, side: SideKey, wanted: Wanted) -> Result<Chosen, FailReason> {
        use seaprox_tcp::Wanted as Asked;
        let asked = match wanted.target() {
            message::Target::Service(name) => Asked::Service(name),
            message::Target::V4(ip, port) => Asked::Inet((ip, port).into()),
            message::Target::V6(ip, port) => Asked::Inet((ip, port).into()),
            message::Target::Name(name, port) => Asked::Name(name, port),
        };
        self.0.choose(side, asked)
    }
}

impl Names for Chooser<'_> {
    fn name(&self, place: u8) -> Option<(&str, u16)> {
        self.0.name(place)
    }

    fn forget(&mut self, side: SideKey) {
        self.0.forget(side);
    }
}

/// What an ingress asks for, as the wire says it.
fn wanted_of(ask: &Ask) -> Wanted {
    Wanted::new(match ask {
        Ask::Own => message::Target::Service(b""),
        Ask::Service(name) => message::Target::Service(name.as_bytes()),
        Ask::Target(endpoint::Target::Name { name, port }) => {
            message::Target::Name(name.as_bytes(), *port)
        }
        Ask::Target(endpoint::Target::Inet(SocketAddr::V4(v4))) => {
            message::Target::V4(v4.ip().octets(), v4.port())
        }
        Ask::Target(endpoint::Target::Inet(SocketAddr::V6(v6))) => {
            message::Target::V6(v6.ip().octets(), v6.port())
        }
        Ask::Target(endpoint::Target::Unix(_)) => unreachable!("refused with the arguments"),
    })
}

/// Ends the program if the kernel has no SCTP: it would be tried for ever.
fn check_sctp(link: &Link) {
    let anywhere = [SocketAddr::from(([127, 0, 0, 1], 0))];
    let probe = Endpoint::new(&anywhere).map(|at| Association::listen(&at, &carrier_options()));
    if let Ok(Err(errno)) = probe
        && seaprox_sctp::is_missing(errno)
    {
        let refused = CannotListen::without_sctp(link);
        fail(refused.code, refused.line);
    }
}

/// How the links of an ingress go.
#[derive(Clone, Copy)]
enum Way {
    /// Over udp, with memory and a hub for each thread.
    Udp {
        memories: UdpMemories,
        host: &'static LinkHost,
        port: u16,
        options: seaprox_udp::carrier::Options,
        /// The number of the first thread's link: the far end's threads are to have equally many.
        first: u32,
    },
    /// To a path.
    Path(ToPath),
    /// To a host with SCTP.
    Hosts(ToHosts),
}

impl Way {
    /// A thread's; `None`: it has taken it before.
    fn take(self, thread: usize) -> Option<To> {
        match self {
            Way::Udp { memories, host, port, options, first } => {
                let numbering = Numbering::Steering(first.wrapping_add(thread as u32));
                let hub = hub(numbering, memories.take(thread)?.first_mut());
                let (tries, peer) = (0, Address::UNKNOWN);
                Some(To::Udp(ToUdp { host, port, hub, options, tries, peer }))
            }
            Way::Path(path) => Some(To::Path(path)),
            Way::Hosts(hosts) => Some(To::Hosts(hosts)),
        }
    }
}

/// Where the links of an egress come in.
#[derive(Clone, Copy)]
enum Heard {
    /// A socket, memory and a hub for each thread.
    Udp {
        memories: UdpMemories,
        sockets: OnePerThread<UdpSocket>,
        secret: [u8; 16],
        options: seaprox_udp::carrier::Options,
    },
    /// One socket for all threads.
    Socket(FromSocket),
}

impl Heard {
    /// A thread's; `None`: it has taken it before.
    fn take(self, thread: usize) -> Option<carriers::From> {
        match self {
            Heard::Udp { memories, sockets, secret, options } => {
                let (thread_number, threads) = (thread as u32, sockets.0.len() as u32);
                let numbering = Numbering::Steered { thread: thread_number, threads };
                let hub = hub(numbering, memories.take(thread)?);
                hub.open(sockets.take(thread)?, false);
                Some(carriers::From::Udp(UdpListener::new(hub, secret, options)))
            }
            Heard::Socket(socket) => Some(carriers::From::Socket(socket)),
        }
    }
}

/// What the links of one thread share, for as long as the process lives.
fn hub(
    numbering: Numbering,
    memories: impl IntoIterator<Item = &'static mut UdpMemory>,
) -> &'static UdpHub {
    let seed = u64::from_ne_bytes(random());
    // Not by way of the stack, which is not much larger.
    let buffer: Box<[u8; RECEIVE_BYTES]> =
        vec![0; RECEIVE_BYTES].try_into().unwrap_or_else(|_| unreachable!("it is as long"));
    let hub = UdpHub::new(Box::leak(buffer), numbering, seed);
    let hub: &'static UdpHub = Box::leak(Box::new(hub));
    memories.into_iter().for_each(|memory| hub.give(memory.slices()));
    hub
}

fn udp_options(congestion: Algorithm) -> seaprox_udp::carrier::Options {
    seaprox_udp::carrier::Options { algorithm: congestion, ..seaprox_udp::carrier::Options::USUAL }
}

/// Says so once if the kernel holds less for us than it was asked to.
fn warn_if_capped<'s>(sockets: impl Iterator<Item = &'s UdpSocket>) {
    if let Some(capped) = sockets.filter_map(UdpSocket::capped).next() {
        log::event(Level::Warn, "udp socket buffers are smaller than wanted")
            .field("wanted_bytes", capped.wanted_bytes)
            .field("got_bytes", capped.got_bytes)
            .field("raise", capped.limit)
            .send();
    }
}

fn random<const BYTES: usize>() -> [u8; BYTES] {
    sys::random().unwrap_or_else(|error| fail(ExitCode::System, format_args!("getrandom: {error}")))
}

/// What every thread has one of; each takes its own, once.
struct OnePerThread<T: 'static>(&'static [Mutex<Option<T>>]);

impl<T> Clone for OnePerThread<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OnePerThread<T> {}

impl<T> OnePerThread<T> {
    fn of(all: impl Iterator<Item = T>) -> Self {
        OnePerThread(Vec::leak(all.map(|one| Mutex::new(Some(one))).collect()))
    }

    fn take(self, thread: usize) -> Option<T> {
        // No panic can poison it: they abort.
        self.0.get(thread)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The memory of links over udp.
#[derive(Clone, Copy)]
struct UdpMemories(OnePerThread<&'static mut [UdpMemory; LINKS]>);

impl UdpMemories {
    /// Asks the system for them; without, the program ends.
    fn ask(threads: usize) -> UdpMemories {
        let memories = sys::udp_memories(threads).unwrap_or_else(|error| {
            let bytes = threads * size_of::<[UdpMemory; LINKS]>();
            fail(ExitCode::System, format_args!("links: no {bytes} bytes of memory: {error}"))
        });
        UdpMemories(OnePerThread::of(memories.iter_mut()))
    }

    fn take(self, thread: usize) -> Option<&'static mut [UdpMemory; LINKS]> {
        self.0.take(thread)
    }
}

/// What one thread has for its links: their memory, and where the names lie that are asked for.
type Own = (&'static mut [LinkMemory; LINKS], &'static mut Places);

/// What the links of an end are made of.
#[derive(Clone, Copy)]
struct Links {
    memories: Memories,
    session: Config,
}

/// What every thread has for its links; each takes its own, once.
#[derive(Clone, Copy)]
struct Memories(OnePerThread<Own>);

impl Memories {
    /// Asks the system for them; without, the program ends.
    fn ask(threads: usize) -> Memories {
        let memories = sys::link_memories(threads).unwrap_or_else(|error| {
            let bytes = threads * size_of::<[LinkMemory; LINKS]>();
            fail(ExitCode::System, format_args!("links: no {bytes} bytes of memory: {error}"))
        });
        let places = Vec::leak((0..threads).map(|_| Places::new()).collect());
        Memories(OnePerThread::of(memories.iter_mut().zip(places)))
    }

    fn take(self, thread: usize) -> Option<Own> {
        self.0.take(thread)
    }
}

fn shown(listens: &[Listen]) -> String {
    listens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
