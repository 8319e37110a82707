//! `seaprox ingress` and `seaprox egress`: the two ends of links.

mod sealing;
mod ways;

use crate::activation::Passed;
use crate::args::{Ask, EgressConfig, IngressConfig, OPENS_PER_SECOND_MAX};
use crate::bound::seats_for;
use crate::direct::known_of;
use crate::endpoint::{self, Entrance, Link, LinkHost};
use crate::exit::{ExitCode, fail};
use crate::fixed::{heard, open, when_full};
use crate::keys::Known;
use crate::limits;
use crate::listening::{LinkListening, Listening};
use crate::log::{self, Level};
use crate::memory::{LinkMemory, MAX_NUM_LINKS, MAX_NUM_PEERS, RESOLVER};
use crate::nofile;
use crate::offer::{Offer, needs_of_offer};
use crate::per_thread::OnePerThread;
use crate::proxy::{Ground, Thread};
use crate::sandbox::Needs;
use crate::sys;
use crate::talk::{self, Talk, Talking, Talks};
use seaprox::relay::PipeLimits;
use seaprox::sys::{Linux, RawFd};
use seaprox::table::Table;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::wanted::{Wanted, Wish};
use seaprox::worker::Options;
use seaprox_noise::aead;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::{Account, Accounts, Guest, LinkSource, NOBODY};
use seaprox_tcp::{AtEnd, Dialer, Listener, Listeners};
use ways::{CHANNELS, Heard, Memories, Way, carrier_options, granted};

/// How long a carrier may take to be connected and greeted, in milliseconds.
const CONNECT_MILLIS: u32 = 10_000;

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

/// What this build has of links, for `seaprox limits`.
pub fn compiled() -> limits::Links {
    limits::Links {
        links: MAX_NUM_LINKS,
        peers: MAX_NUM_PEERS,
        backend: aead::BACKEND,
        cipher: sealing::preferred().name(),
    }
}

/// What the limits of an end of links need: one descriptor a connection, no pipes.
fn wish(connections: usize, threads: usize, listeners: usize) -> nofile::Wish {
    // Of udp too there is one socket a thread.
    let links = threads * MAX_NUM_LINKS;
    nofile::Wish {
        connections,
        threads,
        listeners: listeners + links,
        pipes: PipeLimits::default(),
    }
}

/// Of so many connections, those that the links of an ingress can carry: more would only be reset,
/// instead of waiting.
fn carried(connections: usize, threads: usize) -> usize {
    connections.min(threads * usize::from(CHANNELS))
}

/// Clients in, one link a thread out; runs until told to end.
pub fn run_ingress(config: &IngressConfig) -> ExitCode {
    let common = &config.common;
    let connections = carried(common.connections_max, common.threads);
    let ground = Ground::take(common, &wish(connections, common.threads, config.entrances.len()));
    let keys = config.protection.keys(&[]);
    let passed = Passed::from_environment();
    let open = |at: &Entrance| open(&at.listen, &passed, common.socket_buffer_bytes);
    let listenings: Vec<_> = config.entrances.iter().map(open).collect();
    let clients = Clients::of(config, &listenings, ground.sizes());
    let options = Options { when_full: when_full(config.when_full), ..ground.options("ingress") };
    let dest_options = DestOptions {
        wanted: wish_of(&config.ask),
        wait_millis: config.link_wait_millis.unwrap_or(DURATION_MILLIS_MAX),
        connect_millis: common.connect_timeout_millis.unwrap_or(CONNECT_MILLIS),
        seed: std::process::id(),
    };
    let at = format!("{} for {}", shown(&config.entrances), config.link);
    let session = session_config(Role::Initiator, 0, config.link_timeout_millis);
    let links = Links::of(ground.threads, session);
    let connect = Way::of(config, keys, ground.threads);
    let paths = listenings.iter().filter_map(Listening::path).collect();
    let needs = Needs { paths, ..needs_of_link(&config.link) };
    // Nothing is refused any more: an error is one line.
    if connections < common.connections_max {
        let why = format_args!("links have {CHANNELS} channels, and each thread has one link");
        log::event(Level::Info, "fewer connections").field("why", why).send();
    }
    ground.serve(&at, &needs, move |thread, table| {
        ingress(thread, table, links, clients, connect, dest_options, options);
    })
}

/// Where the clients of an ingress come from.
#[derive(Clone, Copy)]
struct Clients {
    listeners: &'static [(RawFd, AtEnd, Talk)],
    /// How those are talked to that talk, and where it is kept what they want who wait for the link;
    /// `None`: all are plain.
    talking: Option<(Talking, OnePerThread<&'static mut [Wish]>)>,
}

impl Clients {
    /// For as long as the process lives.
    fn of(config: &IngressConfig, listenings: &[Listening], sizes: (usize, usize)) -> Clients {
        let listeners = config.entrances.iter().zip(listenings).map(|(entrance, listening)| {
            let (fd, at_end) = heard(listening);
            (fd, at_end, entrance.talk)
        });
        let talking = config.handshakes.as_ref().map(|handshakes| {
            let known = known_of(handshakes.passwords.as_deref());
            let talks = Talks::new(wish_of(&config.ask), known);
            let (connections, threads) = sizes;
            let wishes = sys::wishes(threads * seats_for(connections, threads));
            let wishes = talk::per_thread(talk::granted(wishes), connections, threads);
            (Talking::new(talks, handshakes.timeout_millis, sizes), wishes)
        });
        Clients { listeners: Vec::leak(listeners.collect()), talking }
    }

    /// The same on one thread, each listener with what `mark` makes of its clients' talk.
    fn listeners<M>(self, mark: impl Fn(Talk) -> M) -> Listeners<Linux, M> {
        let listeners = self.listeners.iter();
        Listeners::new(
            listeners.map(|&(fd, at_end, talk)| (Listener::new(Linux, fd, at_end), mark(talk))),
        )
    }
}

/// One thread of an ingress.
fn ingress(
    thread: Thread,
    table: Table<'_>,
    links: Links,
    clients: Clients,
    way: Way,
    dest_options: DestOptions,
    options: Options,
) {
    let Some(memories) = links.memories.take(thread.number) else { return };
    let link = memories[0].link(0, links.session);
    let seed = dest_options.seed.wrapping_add(thread.number as u32).wrapping_mul(0x9e37_79b9);
    let dest_options = DestOptions { seed, ..dest_options };
    let Some(connect) = way.take(thread.number) else { return };
    let Some((talking, wishes)) = clients.talking else {
        let dest = LinkDest::new(link, connect, &mut [], dest_options);
        return thread.run(table, clients.listeners(drop), dest, options);
    };
    let Some(wishes) = wishes.take(thread.number) else { return };
    let listeners = clients.listeners(|talk| talk);
    let Some(source) = talking.take(thread.number, listeners) else { return };
    thread.run(table, source, LinkDest::new(link, connect, wishes, dest_options), options);
}

/// Links in, connections out; runs until told to end.
pub fn run_egress(config: &EgressConfig) -> ExitCode {
    let common = &config.common;
    let ground = Ground::take(common, &wish(common.connections_max, common.threads, 1));
    let keys = config.protection.keys(&config.service_names());
    let peers = keys.map_or(&[][..], |keys| &keys.peers);
    let mut listening = LinkListening::open(&config.link, &carrier_options(), ground.threads)
        .unwrap_or_else(|refused| fail(refused.code, refused.line));
    let offer = Offer::of(config, peers, ground.threads);
    let session = session_config(Role::Acceptor, CHANNELS, config.link_timeout_millis);
    let links = Links::of(ground.threads, session);
    let dial_options = ground.dial_options();
    let options = ground.options("egress");
    let accept = Heard::of(config, keys, &mut listening.sockets, ground.threads);
    let paths = listening.path().into_iter().collect();
    let needs = Needs { paths, ..needs_of_offer(config, peers) };
    let names: &'static [_] = Vec::leak(peers.iter().map(|known| known.name.as_str()).collect());
    ground.serve(&config.link, &needs, move |thread, table| {
        let thread = thread.calling(names);
        let accounts = accounts(peers, table.capacity());
        egress(thread, table, links, accounts, accept, (offer, dial_options), options);
    })
}

/// What connecting to a link's far end needs. Before Linux 6.14 Landlock takes an association for
/// TCP.
fn needs_of_link(link: &Link) -> Needs<'static> {
    let is_name = |host: &LinkHost| matches!(host, LinkHost::Name(_));
    match link {
        Link::Udp { host, .. } => {
            let names = host.as_ref().is_some_and(is_name);
            Needs { names, ports: Some(Vec::new()), ..Needs::default() }
        }
        Link::Sctp { hosts, port } => {
            let names = hosts.iter().any(is_name);
            Needs { names, ports: Some(vec![*port]), ..Needs::default() }
        }
        Link::Seqpacket(path) => {
            let abstract_sockets = path.is_abstract();
            Needs { abstract_sockets, ports: Some(Vec::new()), ..Needs::default() }
        }
    }
}

/// What the peers have of a thread with so many connections.
fn accounts(peers: &[Known], connections: usize) -> Accounts<'static> {
    if peers.is_empty() {
        return Accounts::default();
    }
    let accounts = peers.iter().map(|known| Account::new(known.rights.quota)).collect();
    Accounts::new(Vec::leak(accounts), Vec::leak(vec![NOBODY; connections]))
}

/// One thread of an egress.
fn egress(
    thread: Thread,
    table: Table<'_>,
    links: Links,
    accounts: Accounts<'_>,
    heard: Heard,
    (offer, dial_options): (Offer, seaprox_tcp::DialOptions),
    options: Options,
) {
    let Some(memories) = links.memories.take(thread.number) else { return };
    let Some(chooser) = offer.take(thread.number) else { return };
    let Some(accept) = heard.take(thread.number) else { return };
    let guests = Vec::leak((0..heard.guests()).map(|_| Guest::new()).collect());
    let source = LinkSource::new(accept, memories, links.session);
    let source = source.by_accounts(accounts).receiving(guests);
    let dialer = Dialer::choosing(Linux, offer.targets, chooser, &RESOLVER, dial_options);
    thread.run(table, source, dialer, options);
}

/// What an ingress asks for.
fn wish_of(ask: &Ask) -> Wish {
    let wanted = match ask {
        Ask::Own => Wanted::Service(b""),
        Ask::Service(name) => Wanted::Service(name.as_bytes()),
        Ask::Target(endpoint::Target::Name { name, port }) => Wanted::Name(name.as_bytes(), *port),
        Ask::Target(endpoint::Target::Inet(address)) => Wanted::Inet(*address),
        Ask::Target(endpoint::Target::Unix(_)) => unreachable!("refused with the arguments"),
    };
    Wish::new(wanted).unwrap_or_else(|| unreachable!("names are shorter, or refused"))
}

/// What the links of an end are made of.
#[derive(Clone, Copy)]
struct Links {
    memories: Memories<LinkMemory>,
    session: Config,
}

impl Links {
    fn of(threads: usize, session: Config) -> Links {
        Links { memories: granted(threads, sys::link_memories(threads)), session }
    }
}

fn shown(entrances: &[Entrance]) -> String {
    entrances.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
