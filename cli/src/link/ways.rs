//! How the links of an end go out or come in: sockets, memory and keys, of which each thread takes its own.
//! Knows neither session nor target.

use super::sealing::{Sealing, peers, preferred};
use crate::args::{EgressConfig, IngressConfig};
use crate::bound::link_channels;
use crate::carriers::{self, FromSocket, To, ToHosts, ToPath, ToUdp};
use crate::endpoint::{Link, LinkHost};
use crate::exit::{ExitCode, fail};
use crate::keys::Keys;
use crate::listening::{CannotListen, LinkSockets};
use crate::memory::{
    GUESTS, MAX_NUM_CONNECTIONS, MAX_NUM_LINKS, MAX_NUM_PEERS, NUM_THREADS, UdpHub, UdpMemory,
};
use crate::per_thread::OnePerThread;
use crate::sys;
use seaprox::address::Address;
use seaprox_noise::peers::Peers;
use seaprox_sctp::{Association, Endpoint, Socket};
use seaprox_sealed::Kind;
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::hub::Numbering;
use seaprox_udp::keyed::{Keyed, Protection};
use seaprox_udp::knocks::Knocks;
use seaprox_udp::listener::{Admitted, Listener as UdpListener};
use seaprox_udp::socket::{RECEIVE_BYTES, UdpSocket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Channels of a link, each end's.
pub(super) const CHANNELS: u16 = link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) as u16;

/// What every carrier is told.
pub(super) const fn carrier_options() -> seaprox_sctp::Options {
    seaprox_sctp::Options::new(CHANNELS)
}

/// How the links of an ingress go.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// Over udp, with memory and a hub for each thread.
    Udp {
        memories: Memories<UdpMemory>,
        host: &'static LinkHost,
        port: u16,
        options: seaprox_udp::carrier::Options,
        /// `None`: there are none.
        keys: Option<&'static Keys>,
        /// The number of the first thread's link: the far end's threads are to have equally many.
        first: u32,
    },
    /// To a path.
    Path(ToPath, Option<Sealing>),
    /// To a host with SCTP.
    Hosts(ToHosts, Option<Sealing>),
}

impl Way {
    /// For as long as the process lives; without what it needs the program ends.
    pub(super) fn of(config: &IngressConfig, keys: Option<&'static Keys>, threads: usize) -> Way {
        let carrier = carrier_options();
        let sealing = |kind| keys.map(|keys| Sealing::new(keys, kind, threads, 1));
        match &config.link {
            Link::Udp { host: None, .. } => unreachable!("refused with the arguments"),
            Link::Udp { host: Some(host), port } => Way::Udp {
                memories: granted(threads, sys::udp_memories(threads)),
                host: Box::leak(Box::new(host.clone())),
                port: *port,
                options: udp_options(config.congestion),
                keys,
                first: u32::from_ne_bytes(random()) / 2,
            },
            Link::Seqpacket(path) => {
                let path = Vec::leak(path.as_bytes().to_vec());
                Way::Path(ToPath { path, options: carrier }, sealing(Kind::Seqpacket))
            }
            Link::Sctp { hosts, port } => {
                check_sctp(&config.link);
                let to = ToHosts {
                    hosts: Vec::leak(hosts.clone()),
                    port: *port,
                    udp_port: config.sctp_udp_port,
                    options: carrier,
                    tries: 0,
                    peer: Address::UNKNOWN,
                };
                Way::Hosts(to, sealing(Kind::Sctp))
            }
        }
    }

    /// A thread's; `None`: it has taken it before.
    pub(super) fn take(self, thread: usize) -> Option<To> {
        match self {
            Way::Udp { memories, host, port, options, keys, first } => {
                let numbering = Numbering::Steering(first.wrapping_add(thread as u32));
                let hub = hub(numbering, keys, memories.take(thread)?.first_mut());
                let expected = match keys {
                    None => None,
                    Some(keys) => Some(&keys.peers.first()?.peer),
                };
                let (tries, peer) = (0, Address::UNKNOWN);
                Some(To::Udp(ToUdp { host, port, hub, expected, options, tries, peer }))
            }
            Way::Path(path, None) => Some(To::Path(path, None)),
            Way::Path(path, Some(sealing)) => {
                sealing.asking(thread).map(|keeper| To::Path(path, Some(keeper)))
            }
            Way::Hosts(hosts, None) => Some(To::Hosts(hosts, None)),
            Way::Hosts(hosts, Some(sealing)) => {
                sealing.asking(thread).map(|keeper| To::Hosts(hosts, Some(keeper)))
            }
        }
    }
}

/// Where the links of an egress come in.
#[derive(Clone, Copy)]
pub(super) enum Heard {
    /// A socket, memory and a hub for each thread.
    Udp {
        memories: Memories<UdpMemory>,
        sockets: OnePerThread<UdpSocket>,
        secret: [u8; 16],
        options: seaprox_udp::carrier::Options,
        /// `None`: there are none.
        keys: Option<&'static Keys>,
        /// If there are, who may come in, and who wants to.
        doors: OnePerThread<Door>,
    },
    /// One socket for all threads.
    Socket {
        listener: &'static OwnedFd,
        is_sctp: bool,
        /// `None`: there are no keys.
        sealing: Option<Sealing>,
    },
}

impl Heard {
    /// For as long as the process lives; without what it needs the program ends.
    pub(super) fn of(
        config: &EgressConfig,
        keys: Option<&'static Keys>,
        sockets: &mut LinkSockets,
        threads: usize,
    ) -> Heard {
        match sockets {
            LinkSockets::One(fd) => {
                // The process's own, until it ends.
                let listener = fd.try_clone().unwrap_or_else(|error| {
                    fail(ExitCode::of(&error), format_args!("{}: {error}", config.link))
                });
                let listener: &'static OwnedFd = Box::leak(Box::new(listener));
                let is_sctp = matches!(config.link, Link::Sctp { .. });
                let kind = if is_sctp { Kind::Sctp } else { Kind::Seqpacket };
                let sealing = keys.map(|keys| Sealing::new(keys, kind, threads, MAX_NUM_LINKS));
                Heard::Socket { listener, is_sctp, sealing }
            }
            LinkSockets::Udp(sockets) => {
                sockets.iter().for_each(carriers::warn_if_capped);
                Heard::Udp {
                    memories: granted(threads, sys::udp_memories(threads)),
                    sockets: OnePerThread::of(std::mem::take(sockets).into_iter()),
                    secret: random(),
                    options: udp_options(config.congestion),
                    keys,
                    doors: OnePerThread::of(keys.into_iter().flat_map(|keys| doors(keys, threads))),
                }
            }
        }
    }

    /// In how many places those wait on each thread who have not shown yet who they are: over udp they
    /// knock at the hub.
    pub(super) fn guests(self) -> usize {
        if matches!(self, Heard::Socket { sealing: Some(_), .. }) { GUESTS } else { 0 }
    }

    /// A thread's; `None`: it has taken it before.
    pub(super) fn take(self, thread: usize) -> Option<carriers::From> {
        match self {
            Heard::Udp { memories, sockets, secret, options, keys, doors } => {
                let (thread_number, threads) = (thread as u32, sockets.threads() as u32);
                let numbering = Numbering::Steered { thread: thread_number, threads };
                let hub = hub(numbering, keys, memories.take(thread)?);
                hub.open(sockets.take(thread)?, false);
                let admitted = match keys {
                    None => Admitted::Anybody { secret },
                    Some(_) => {
                        let Door { peers, knocks } = doors.take(thread)?;
                        Admitted::Peers { peers, knocks }
                    }
                };
                Some(carriers::From::Udp(UdpListener::new(hub, admitted, options)))
            }
            Heard::Socket { listener, is_sctp, sealing } => {
                let keeper = match sealing {
                    None => None,
                    Some(sealing) => Some(sealing.answering(thread)?),
                };
                Some(carriers::From::Socket(FromSocket { listener, is_sctp, keeper }))
            }
        }
    }
}

/// Who may come in on a thread whose links are over udp, and who wants to.
pub(super) struct Door {
    peers: &'static mut Peers<MAX_NUM_PEERS>,
    knocks: &'static mut Knocks,
}

/// Of so many threads, for as long as the process lives. Made by the thread that starts them, whose stack
/// is large enough for all that is moved.
fn doors(keys: &Keys, threads: usize) -> impl Iterator<Item = Door> {
    (0..threads).map(|_| Door {
        peers: Box::leak(Box::new(peers(keys))),
        knocks: Box::leak(Box::new(Knocks::new())),
    })
}

/// What the links of one thread share, for as long as the process lives.
fn hub(
    numbering: Numbering,
    keys: Option<&'static Keys>,
    memories: impl IntoIterator<Item = &'static mut UdpMemory>,
) -> &'static UdpHub {
    let seed = u64::from_ne_bytes(random());
    // Not by way of the stack, which is not much larger.
    let buffer: Box<[u8; RECEIVE_BYTES]> =
        vec![0; RECEIVE_BYTES].try_into().unwrap_or_else(|_| unreachable!("it is as long"));
    let protection = match keys {
        None => Protection::Insecure,
        Some(keys) => Protection::Keyed(Keyed::new(&keys.identity, random(), preferred())),
    };
    let hub = UdpHub::new(Box::leak(buffer), numbering, seed, protection);
    let hub: &'static UdpHub = Box::leak(Box::new(hub));
    memories.into_iter().for_each(|memory| hub.give(memory.parts()));
    hub
}

fn udp_options(congestion: Algorithm) -> seaprox_udp::carrier::Options {
    seaprox_udp::carrier::Options { algorithm: congestion, ..seaprox_udp::carrier::Options::USUAL }
}

fn random<const BYTES: usize>() -> [u8; BYTES] {
    sys::random().unwrap_or_else(|error| fail(ExitCode::System, format_args!("getrandom: {error}")))
}

/// What links of every thread are made of.
pub(super) type Memories<T> = OnePerThread<&'static mut [T; MAX_NUM_LINKS]>;

/// Takes the memory that the system was asked for; without, the program ends.
pub(super) fn granted<T>(
    threads: usize,
    asked: io::Result<&'static mut [[T; MAX_NUM_LINKS]]>,
) -> Memories<T> {
    let memories = asked.unwrap_or_else(|error| {
        let bytes = threads * size_of::<[T; MAX_NUM_LINKS]>();
        fail(ExitCode::System, format_args!("links: no {bytes} bytes of memory: {error}"))
    });
    OnePerThread::of(memories.iter_mut())
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
