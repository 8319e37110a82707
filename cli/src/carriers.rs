//! Where the program's links come from and go to: udp, SCTP associations, and unix sockets that keep
//! packets whole. Knows no session.

use crate::endpoint::{LINK_HOSTS_MAX, Link, LinkHost};
use crate::log::{self, Level};
use crate::memory::{MAX_NUM_PEERS, RESOLVER, UdpHub};
use arrayvec::ArrayVec;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, OwnedFd, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::keys::Peer;
use seaprox_proto::carrier::{Bounds, Carrier, Greeting, PeerNumber, Received};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use seaprox_sctp::{Association, Endpoint, Options, Seqpacket, Socket};
use seaprox_sealed::System;
use seaprox_tcp::resolve::Lookup;
use seaprox_udp::carrier::Udp;
use seaprox_udp::listener::Listener;
use seaprox_udp::socket::{self, UdpSocket};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Once;

/// Who this end of sealed links is, of one thread.
pub type Keeper = seaprox_sealed::Keeper<'static, System, MAX_NUM_PEERS>;

/// A carrier whose packets are sealed.
pub type Sealed<C> = seaprox_sealed::Sealed<'static, 'static, C, System, MAX_NUM_PEERS>;

/// Seals a carrier that was begun.
fn sealed<C: Carrier>(begun: Begun<C>, keeper: &'static Keeper) -> Begun<Sealed<C>> {
    match begun {
        // There is memory for one link, and no other while this one is there.
        Begun::Carrier(carrier) => Sealed::asking(keeper, carrier)
            .map_or(Begun::Failed(FailReason::TableFull), Begun::Carrier),
        Begun::Waiting => Begun::Waiting,
        Begun::Failed(reason) => Begun::Failed(reason),
    }
}

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
            Err(errno) => Begun::Failed(FailReason::of_connect(errno)),
        }
    }
}

/// The address of a host for the link's next try; `None`: its name is being looked up.
fn address_of(host: &LinkHost, port: u16, tries: usize) -> Result<Option<SocketAddr>, FailReason> {
    match host {
        LinkHost::Address(address) => Ok(Some(*address)),
        LinkHost::Name(name) => match RESOLVER.ask(name) {
            Lookup::Known(known) => Ok(Some((known[tries % known.len()], port).into())),
            Lookup::Waiting => Ok(None),
            Lookup::Failed(reason) => Err(reason),
        },
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
    /// The addresses to connect to now; `None`: not all are known yet.
    fn addresses(&self) -> Result<Option<ArrayVec<SocketAddr, LINK_HOSTS_MAX>>, FailReason> {
        let mut addresses = ArrayVec::new();
        for host in self.hosts {
            let Some(address) = address_of(host, self.port, self.tries)? else { return Ok(None) };
            // Two names of one address are one; more hosts were refused at start.
            if !addresses.contains(&address) && !addresses.is_full() {
                addresses.push(address);
            }
        }
        Ok(Some(addresses))
    }

    fn begin(&mut self) -> Begun<Association> {
        let addresses = match self.addresses() {
            Ok(Some(addresses)) => addresses,
            Ok(None) => return Begun::Waiting,
            Err(reason) => return Begun::Failed(reason),
        };
        self.tries = self.tries.wrapping_add(1);
        self.peer = addresses.first().map_or(Address::UNKNOWN, |&first| first.into());
        let Ok(endpoint) = Endpoint::new(&addresses) else {
            return Begun::Failed(FailReason::Other);
        };
        let endpoint = endpoint.through_udp(self.udp_port.unwrap_or(0));
        match Association::connect(&endpoint, &self.options) {
            Ok(carrier) => Begun::Carrier(carrier),
            Err(errno) => Begun::Failed(FailReason::of_connect(errno)),
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
    /// Who is to be there, if the hub has keys.
    pub expected: Option<&'static Peer>,
    /// How.
    pub options: seaprox_udp::carrier::Options,
    /// How many times it was tried: of a name with several addresses another each time.
    pub tries: usize,
    /// The address that was tried last.
    pub peer: Address,
}

impl ToUdp {
    fn begin(&mut self) -> Begun<Udp<'static, UdpSocket>> {
        let address = match address_of(self.host, self.port, self.tries) {
            Ok(Some(address)) => address,
            Ok(None) => return Begun::Waiting,
            Err(reason) => return Begun::Failed(reason),
        };
        self.tries = self.tries.wrapping_add(1);
        self.peer = address.into();
        match UdpSocket::connected(address, &socket::Options::USUAL) {
            Ok(socket) => {
                warn_if_capped(&socket);
                self.hub.open(socket, true);
            }
            Err(errno) => return Begun::Failed(FailReason::of_connect(errno)),
        }
        // There is memory for one link, and no other while this one is there.
        match Udp::connect(self.hub, self.expected, self.options) {
            Some(carrier) => Begun::Carrier(carrier),
            None => Begun::Failed(FailReason::TableFull),
        }
    }
}

/// Says so, once, if the kernel holds less for us than it was asked to.
pub fn warn_if_capped(socket: &UdpSocket) {
    static SAID: Once = Once::new();
    if let Some(capped) = socket.capped() {
        SAID.call_once(|| {
            log::event(Level::Warn, "udp socket buffers are smaller than wanted")
                .field("wanted_bytes", capped.wanted_bytes)
                .field("got_bytes", capped.got_bytes)
                .field("raise", capped.limit)
                .send();
        });
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
    /// SOCK_SEQPACKET, sealed.
    SealedSeqpacket(Sealed<Seqpacket>),
    /// SCTP, sealed.
    SealedAssociation(Sealed<Association>),
}

/// Calls the carrier that there is.
macro_rules! each {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            AnyCarrier::Udp($one) => $call,
            AnyCarrier::Seqpacket($one) => $call,
            AnyCarrier::Association($one) => $call,
            AnyCarrier::SealedSeqpacket($one) => $call,
            AnyCarrier::SealedAssociation($one) => $call,
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

    fn peer(&self) -> Option<PeerNumber> {
        match self {
            AnyCarrier::Seqpacket(_) | AnyCarrier::Association(_) => None,
            AnyCarrier::Udp(udp) => udp.peer(),
            AnyCarrier::SealedSeqpacket(sealed) => sealed.peer(),
            AnyCarrier::SealedAssociation(sealed) => sealed.peer(),
        }
    }

    fn interest(&self) -> Interest {
        each!(self, carrier => carrier.interest())
    }

    fn greet(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        each!(self, carrier => carrier.greet(refused))
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        each!(self, carrier => carrier.send(stream, packet))
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        each!(self, carrier => carrier.receive(room))
    }

    fn open(&mut self, stream: u16, packet: &mut [u8]) -> Result<Range<usize>, FailReason> {
        each!(self, carrier => carrier.open(stream, packet))
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
    /// A unix socket; sealed, if there are keys.
    Path(ToPath, Option<&'static Keeper>),
    /// A host; sealed, if there are keys.
    Hosts(ToHosts, Option<&'static Keeper>),
}

impl Connect for To {
    type Carrier = AnyCarrier;

    fn begin(&mut self) -> Begun<AnyCarrier> {
        match self {
            To::Udp(udp) => udp.begin().map(AnyCarrier::Udp),
            To::Path(path, None) => path.begin().map(AnyCarrier::Seqpacket),
            To::Path(path, Some(keeper)) => {
                sealed(path.begin(), keeper).map(AnyCarrier::SealedSeqpacket)
            }
            To::Hosts(hosts, None) => hosts.begin().map(AnyCarrier::Association),
            To::Hosts(hosts, Some(keeper)) => {
                sealed(hosts.begin(), keeper).map(AnyCarrier::SealedAssociation)
            }
        }
    }

    fn finish(&mut self, carrier: &mut AnyCarrier) -> Result<bool, FailReason> {
        let finished = match carrier {
            AnyCarrier::Udp(carrier) => return carrier.finish_connect(),
            AnyCarrier::Seqpacket(carrier) => carrier.finish_connect(),
            AnyCarrier::Association(carrier) => carrier.finish_connect(),
            AnyCarrier::SealedSeqpacket(sealed) => sealed.carrier().finish_connect(),
            AnyCarrier::SealedAssociation(sealed) => sealed.carrier().finish_connect(),
        };
        match finished {
            // A carrier that is not sealed has nothing to say first.
            Ok(()) => carrier.greet(None).map(|greeting| greeting == Greeting::Done),
            Err(Errno::INPROGRESS) => Ok(false),
            Err(errno) => Err(FailReason::of_connect(errno)),
        }
    }

    fn peer(&self) -> Address {
        match self {
            To::Udp(udp) => udp.peer,
            To::Path(..) => Address::UNIX,
            To::Hosts(hosts, _) => hosts.peer,
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
#[derive(Clone, Copy)]
pub struct FromSocket {
    /// It listens for as long as the process lives.
    pub listener: &'static OwnedFd,
    /// It is one of SCTP.
    pub is_sctp: bool,
    /// What is accepted is sealed; `None`: there are no keys.
    pub keeper: Option<&'static Keeper>,
}

impl FromSocket {
    fn accept(self) -> Result<(AnyCarrier, Address), Errno> {
        Ok(if self.is_sctp {
            let (carrier, peer) = Association::accept(self.listener)?;
            match self.keeper {
                None => (AnyCarrier::Association(carrier), peer),
                Some(keeper) => {
                    (AnyCarrier::SealedAssociation(Sealed::asked(keeper, carrier)), peer)
                }
            }
        } else {
            let (carrier, peer) = Seqpacket::accept(self.listener)?;
            match self.keeper {
                None => (AnyCarrier::Seqpacket(carrier), peer),
                Some(keeper) => (AnyCarrier::SealedSeqpacket(Sealed::asked(keeper, carrier)), peer),
            }
        })
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
