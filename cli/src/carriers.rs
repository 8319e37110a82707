//! Where the program's links come from and go to: udp, SCTP associations, and unix sockets that keep
//! packets whole. Knows no session.

use crate::endpoint::{Link, LinkHost};
use crate::memory::{RESOLVER, UdpHub};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, OwnedFd, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use seaprox_sctp::{Association, Endpoint, Options, Seqpacket, Socket};
use seaprox_tcp::resolve::Lookup;
use seaprox_udp::carrier::Udp;
use seaprox_udp::listener::Listener;
use seaprox_udp::socket::{self, UdpSocket};
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
    pub hosts: &'static [LinkHost],
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
                LinkHost::Address(address) => *address,
                LinkHost::Name(name) => match RESOLVER.ask(name) {
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

/// Connects links over udp to a host.
#[derive(Clone, Copy)]
pub struct ToUdp {
    /// Its name or address.
    pub host: &'static LinkHost,
    /// The port.
    pub port: u16,
    /// Of this thread.
    pub hub: &'static UdpHub,
    /// How.
    pub options: seaprox_udp::carrier::Options,
    /// How many times it was tried: of a name with several addresses another each time.
    pub tries: usize,
    /// The address that was tried last.
    pub peer: Address,
}

impl ToUdp {
    fn begin(&mut self) -> Begun<Udp<'static, UdpSocket>> {
        let address = match self.host {
            LinkHost::Address(address) => *address,
            LinkHost::Name(name) => match RESOLVER.ask(name) {
                Lookup::Known(known) => (known[self.tries % known.len()], self.port).into(),
                Lookup::Waiting => return Begun::Waiting,
                Lookup::Failed(reason) => return Begun::Failed(reason),
            },
        };
        self.tries = self.tries.wrapping_add(1);
        self.peer = address.into();
        match UdpSocket::connected(address, &socket::Options::USUAL) {
            Ok(socket) => self.hub.open(socket, true),
            Err(errno) => return Begun::Failed(reason_of(errno)),
        }
        // There is memory for one link, and no other while this one is there.
        match Udp::connect(self.hub, self.options) {
            Some(carrier) => Begun::Carrier(carrier),
            None => Begun::Failed(FailReason::TableFull),
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

/// A carrier of any kind, so that the program has one worker for all.
#[allow(clippy::large_enum_variant)] // it stays where it is, in a link
pub enum AnyCarrier {
    /// Over udp.
    Udp(Udp<'static, UdpSocket>),
    /// SOCK_SEQPACKET.
    Seqpacket(Seqpacket),
    /// SCTP.
    Association(Association),
}

/// Calls the carrier that there is.
macro_rules! each {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            AnyCarrier::Udp($one) => $call,
            AnyCarrier::Seqpacket($one) => $call,
            AnyCarrier::Association($one) => $call,
        }
    };
}

impl Carrier for AnyCarrier {
    fn bounds(&self) -> Bounds {
        each!(self, carrier => carrier.bounds())
    }

    fn fd(&self) -> Option<RawFd> {
        each!(self, carrier => carrier.fd())
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        each!(self, carrier => carrier.send(stream, packet))
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        each!(self, carrier => carrier.receive(room))
    }

    fn window(&mut self) -> usize {
        each!(self, carrier => carrier.window())
    }

    fn handled(&mut self, kept: bool) {
        each!(self, carrier => carrier.handled(kept));
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        each!(self, carrier => carrier.poll())
    }

    fn timeout(&self) -> Option<Instant> {
        each!(self, carrier => carrier.timeout())
    }

    fn flush(&mut self) {
        each!(self, carrier => carrier.flush());
    }

    fn is_flushed(&self) -> bool {
        each!(self, carrier => carrier.is_flushed())
    }
}

/// Where the program's links lead.
#[derive(Clone, Copy)]
pub enum To {
    /// A host, over udp.
    Udp(ToUdp),
    /// A unix socket.
    Path(ToPath),
    /// A host.
    Hosts(ToHosts),
}

impl Connect for To {
    type Carrier = AnyCarrier;

    fn begin(&mut self) -> Begun<AnyCarrier> {
        match self {
            To::Udp(udp) => udp.begin().map(AnyCarrier::Udp),
            To::Path(path) => path.begin().map(AnyCarrier::Seqpacket),
            To::Hosts(hosts) => hosts.begin().map(AnyCarrier::Association),
        }
    }

    fn finish(&mut self, carrier: &mut AnyCarrier) -> Result<bool, FailReason> {
        let finished = match carrier {
            AnyCarrier::Udp(carrier) => return carrier.finish_connect(),
            AnyCarrier::Seqpacket(carrier) => carrier.finish_connect(),
            AnyCarrier::Association(carrier) => carrier.finish_connect(),
        };
        match finished {
            Ok(()) => Ok(true),
            Err(Errno::INPROGRESS) => Ok(false),
            Err(errno) => Err(reason_of(errno)),
        }
    }

    fn peer(&self) -> Address {
        match self {
            To::Udp(udp) => udp.peer,
            To::Path(_) => Address::UNIX,
            To::Hosts(hosts) => hosts.peer,
        }
    }
}

/// Accepts carriers.
#[allow(clippy::large_enum_variant)] // there is one a thread
pub enum From {
    /// Over udp.
    Udp(Listener<'static, UdpSocket>),
    /// From a socket that listens for them.
    Socket(FromSocket),
}

impl Accept for From {
    type Carrier = AnyCarrier;

    fn fd(&self) -> RawFd {
        match self {
            From::Udp(listener) => listener.fd(),
            From::Socket(socket) => socket.listener.as_raw_fd(),
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, From::Udp(_))
    }

    fn accept(&mut self, refused: Option<FailReason>) -> Result<(AnyCarrier, Address), Errno> {
        match self {
            From::Udp(listener) => {
                listener.accept(refused).map(|(carrier, peer)| (AnyCarrier::Udp(carrier), peer))
            }
            From::Socket(socket) => socket.accept(),
        }
    }

    fn is_waiting(&self) -> bool {
        if let From::Udp(listener) = self { listener.is_waiting() } else { false }
    }

    fn end(&mut self) {
        match self {
            From::Udp(listener) => listener.end(),
            From::Socket(socket) => socket.end(),
        }
    }
}

/// Accepts carriers from a socket that listens.
#[derive(Clone, Copy, Debug)]
pub struct FromSocket {
    /// It listens for as long as the process lives.
    pub listener: &'static OwnedFd,
    /// It is one of SCTP.
    pub is_sctp: bool,
}

impl FromSocket {
    fn accept(self) -> Result<(AnyCarrier, Address), Errno> {
        match self.is_sctp {
            true => Association::accept(self.listener)
                .map(|(carrier, peer)| (AnyCarrier::Association(carrier), peer)),
            false => Seqpacket::accept(self.listener)
                .map(|(carrier, peer)| (AnyCarrier::Seqpacket(carrier), peer)),
        }
    }

    fn end(self) {
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
        LinkHost::Address(address) => Some(*address),
        LinkHost::Name(_) => None,
    });
    let addresses: Vec<_> = addresses.collect();
    let everywhere = [SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, *port))];
    Endpoint::new(if addresses.is_empty() { &everywhere } else { &addresses }).ok()
}
