//! `seaprox ingress` and `seaprox egress`: the two ends of links.

use crate::activation::Passed;
use crate::allow::Allowed;
use crate::args::{Ask, EgressConfig, IngressConfig};
use crate::bound::{LINKS, link_channels};
use crate::carriers::{self, To, ToHosts, ToPath};
use crate::endpoint::{self, Link, Listen, SctpHost};
use crate::exit::{ExitCode, fail};
use crate::fixed::{heard, leak_targets, open, when_full};
use crate::listening::{CannotListen, LinkListening};
use crate::memory::{LinkMemory, MAX_NUM_CONNECTIONS, NUM_THREADS, RESOLVER};
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
        Link::Seqpacket(path) => {
            To::Path(ToPath { path: Vec::leak(path.as_bytes().to_vec()), options: carrier })
        }
        Link::Sctp { hosts, port } => {
            check_sctp(&config.link);
            ground.resolve(hosts.iter().any(|host| matches!(host, SctpHost::Name(_))));
            To::Hosts(ToHosts {
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
    connect: To,
    dest_options: DestOptions,
    options: Options,
) {
    let Some((memories, _)) = links.memories.take(thread.number) else { return };
    let listeners = listeners.iter().map(|&(fd, at_end)| Listener::new(Linux, fd, at_end));
    let link = memories[0].link(0, links.session);
    let seed = dest_options.seed.wrapping_add(thread.number as u32).wrapping_mul(0x9e37_79b9);
    let dest = LinkDest::new(link, connect, DestOptions { seed, ..dest_options });
    thread.run(table, Listeners::new(listeners), dest, options);
}

/// Links in, connections out; runs until told to end.
pub fn run_egress(config: &EgressConfig) -> ExitCode {
    let common = &config.common;
    let ground = Ground::take(common, &wish(common.connections_max, common.threads, 1));
    let listening = LinkListening::open(&config.link, &carrier_options())
        .unwrap_or_else(|refused| fail(refused.code, refused.line));
    let offer = Offer::of(config);
    let session = session_config(Role::Acceptor, CHANNELS, config.link_timeout_millis);
    let links = Links { memories: Memories::ask(ground.threads), session };
    let names = offer.targets.iter().any(|target| matches!(target, Target::Name(..)));
    ground.resolve(names || !config.allowed.patterns().is_empty());
    let dial_options = ground.dial_options();
    let options = ground.options("egress");
    // The process's own, until it ends.
    let listener = listening.fd.try_clone().unwrap_or_else(|error| {
        fail(ExitCode::of(&error), format_args!("{}: {error}", config.link))
    });
    let listener: &'static OwnedFd = Box::leak(Box::new(listener));
    let accept = carriers::From { listener, is_sctp: matches!(config.link, Link::Sctp { .. }) };
    ground.serve(&config.link, move |thread, table| {
        egress(thread, table, links, accept, offer, dial_options, options);
    })
}

/// One thread of an egress.
fn egress(
    thread: Thread,
    table: Table<'_>,
    links: Links,
    accept: carriers::From,
    offer: Offer,
    dial_options: seaprox_tcp::DialOptions,
    options: Options,
) {
    let Some((memories, places)) = links.memories.take(thread.number) else { return };
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
struct Memories(&'static [Mutex<Option<Own>>]);

impl Memories {
    /// Asks the system for them; without, the program ends.
    fn ask(threads: usize) -> Memories {
        let memories = sys::link_memories(threads).unwrap_or_else(|error| {
            let bytes = threads * size_of::<[LinkMemory; LINKS]>();
            fail(ExitCode::System, format_args!("links: no {bytes} bytes of memory: {error}"))
        });
        let places = Vec::leak((0..threads).map(|_| Places::new()).collect());
        Memories(Vec::leak(
            memories.iter_mut().zip(places).map(|own| Mutex::new(Some(own))).collect(),
        ))
    }

    fn take(self, thread: usize) -> Option<Own> {
        // No panic can poison it: they abort.
        self.0.get(thread)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn shown(listens: &[Listen]) -> String {
    listens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
