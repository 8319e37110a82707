//! Where the program's links come from and go to: SCTP associations and unix sockets that keep
//! packets whole. Knows no session.

use crate::endpoint::{Link, SctpHost};
use crate::memory::RESOLVER;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, OwnedFd, RawFd};
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use seaprox_sctp::{Association, Endpoint, Options, Seqpacket, Socket};
use seaprox_tcp::resolve::Lookup;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// Connects unix sockets to a path.
#[derive(Clone, Copy, Debug)]
pub struct ToPath {
    /// The path; a leading `@` means the abstract namespace.
    pub path: &'static [u8],
    /// How.
    pub options: Options,
}

impl ToPath {
    fn begin(&self) -> Begun<Seqpacket> {
        match Seqpacket::connect(self.path, &self.options) {
            Ok(carrier) => Begun::Carrier(carrier),
            Err(errno) => Begun::Failed(reason_of(errno)),
        }
    }
}

/// Connects associations to a host with one or several addresses.
#[derive(Clone, Copy, Debug)]
pub struct ToHosts {
    /// Its names and addresses.
    pub hosts: &'static [SctpHost],
    /// The port.
    pub port: u16,
    /// Its udp port, if SCTP is to go inside udp.
    pub udp_port: Option<u16>,
    /// How.
    pub options: Options,
    /// How many times it was tried: of a name with several addresses another each time, as they
    /// may be different machines'.
    pub tries: usize,
    /// The first address that was tried last.
    pub peer: Address,
}

impl ToHosts {
    /// The addresses to connect to now.
    fn addresses(&self) -> Result<arrayvec::ArrayVec<SocketAddr, 8>, Begun<Association>> {
        let mut addresses = arrayvec::ArrayVec::new();
        for host in self.hosts {
            let address = match host {
                SctpHost::Address(address) => *address,
                SctpHost::Name(name) => match RESOLVER.ask(name) {
                    Lookup::Known(known) => (known[self.tries % known.len()], self.port).into(),
                    Lookup::Waiting => return Err(Begun::Waiting),
                    Lookup::Failed(reason) => return Err(Begun::Failed(reason)),
                },
            };
            // Two names of one address are one; more than 8 hosts were refused at start.
            if !addresses.contains(&address) && !addresses.is_full() {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }
}

impl ToHosts {
    fn begin(&mut self) -> Begun<Association> {
        let addresses = match self.addresses() {
            Ok(addresses) => addresses,
            Err(not_yet) => return not_yet,
        };
        self.tries = self.tries.wrapping_add(1);
        self.peer = addresses.first().map_or(Address::UNKNOWN, |&first| first.into());
        let Ok(endpoint) = Endpoint::new(&addresses) else {
            return Begun::Failed(FailReason::Other);
        };
        let endpoint = endpoint.through_udp(self.udp_port.unwrap_or(0));
        match Association::connect(&endpoint, &self.options) {
            Ok(carrier) => Begun::Carrier(carrier),
            Err(errno) => Begun::Failed(reason_of(errno)),
        }
    }
}

/// Why a carrier could not be had, as the log says it.
fn reason_of(errno: Errno) -> FailReason {
    match errno {
        // No socket at that path is nobody who listens.
        Errno::CONNREFUSED | Errno::NOENT => FailReason::ConnectionRefused,
        Errno::AGAIN | Errno::TIMEDOUT => FailReason::TimedOut,
        Errno::HOSTUNREACH | Errno::NETUNREACH => FailReason::Unreachable,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => FailReason::OutOfDescriptors,
        Errno::ACCESS | Errno::PERM => FailReason::Denied,
        _ => FailReason::Other,
    }
}

/// A carrier of either kind, so that the program has one worker for both.
#[derive(Debug)]
pub enum AnyCarrier {
    /// SOCK_SEQPACKET.
    Seqpacket(Seqpacket),
    /// SCTP.
    Association(Association),
}

impl Carrier for AnyCarrier {
    fn bounds(&self) -> Bounds {
        match self {
            AnyCarrier::Seqpacket(carrier) => carrier.bounds(),
            AnyCarrier::Association(carrier) => carrier.bounds(),
        }
    }

    fn fd(&self) -> Option<RawFd> {
        match self {
            AnyCarrier::Seqpacket(carrier) => carrier.fd(),
            AnyCarrier::Association(carrier) => carrier.fd(),
        }
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        match self {
            AnyCarrier::Seqpacket(carrier) => carrier.send(stream, packet),
            AnyCarrier::Association(carrier) => carrier.send(stream, packet),
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        match self {
            AnyCarrier::Seqpacket(carrier) => carrier.receive(room),
            AnyCarrier::Association(carrier) => carrier.receive(room),
        }
    }
}

/// Where the program's links lead.
#[derive(Clone, Copy, Debug)]
pub enum To {
    /// A unix socket.
    Path(ToPath),
    /// A host.
    Hosts(ToHosts),
}

impl Connect for To {
    type Carrier = AnyCarrier;

    fn begin(&mut self) -> Begun<AnyCarrier> {
        match self {
            To::Path(path) => path.begin().map(AnyCarrier::Seqpacket),
            To::Hosts(hosts) => hosts.begin().map(AnyCarrier::Association),
        }
    }

    fn finish(&mut self, carrier: &mut AnyCarrier) -> Result<bool, Errno> {
        let finished = match carrier {
            AnyCarrier::Seqpacket(carrier) => carrier.finish_connect(),
            AnyCarrier::Association(carrier) => carrier.finish_connect(),
        };
        match finished {
            Ok(()) => Ok(true),
            Err(Errno::INPROGRESS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn peer(&self) -> Address {
        match self {
            To::Path(_) => Address::UNIX,
            To::Hosts(hosts) => hosts.peer,
        }
    }
}

/// Accepts carriers from a socket that listens.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// It listens for as long as the process lives.
    pub listener: &'static OwnedFd,
    /// It is one of SCTP.
    pub is_sctp: bool,
}

impl Accept for From {
    type Carrier = AnyCarrier;

    fn fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    fn accept(&mut self, _: Option<FailReason>) -> Result<(AnyCarrier, Address), Errno> {
        match self.is_sctp {
            true => Association::accept(self.listener)
                .map(|(carrier, peer)| (AnyCarrier::Association(carrier), peer)),
            false => Seqpacket::accept(self.listener)
                .map(|(carrier, peer)| (AnyCarrier::Seqpacket(carrier), peer)),
        }
    }

    fn end(&mut self) {
        match self.is_sctp {
            true => Association::stop_listening(self.listener),
            false => Seqpacket::stop_listening(self.listener),
        }
    }
}

/// The endpoint to listen at.
pub fn endpoint_of(link: &Link) -> Option<Endpoint> {
    let Link::Sctp { hosts, port } = link else { return None };
    let addresses = hosts.iter().filter_map(|host| match host {
        SctpHost::Address(address) => Some(*address),
        SctpHost::Name(_) => None,
    });
    let addresses: Vec<_> = addresses.collect();
    let everywhere = [SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, *port))];
    Endpoint::new(if addresses.is_empty() { &everywhere } else { &addresses }).ok()
}
