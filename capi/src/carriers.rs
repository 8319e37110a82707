//! Where links go to and come from: udp, SCTP, and unix sockets that keep packets whole, at literal
//! addresses. Knows no session.

use crate::addresses::{self, PATH_BYTES_MAX};
use crate::keys::{OwnKeeper, OwnSealed};
use arrayvec::ArrayVec;
use core::net::{IpAddr, SocketAddr};
use rustix::fd::{AsFd, BorrowedFd};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, OwnedFd, RawFd};
use seaprox_noise::keys::Peer;
use seaprox_proto::carrier::{Carrier, Either, Greeting};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use seaprox_sctp::{Association, Endpoint, Options, Seqpacket, Socket};
use seaprox_udp::carrier::Udp;
use seaprox_udp::hub::Hub;
use seaprox_udp::listener::Listener;
use seaprox_udp::socket::{self, THREADS_MAX, UdpSocket, listening_group};
use std::os::fd::AsRawFd;

/// What the links over udp of one thread share.
pub(crate) type UdpHub = Hub<'static, UdpSocket>;

/// One that keeps order, as it is or sealed.
type Ordered<C> = Either<C, OwnSealed<C>>;

/// Any carrier.
pub(crate) type AnyCarrier =
    Either<Udp<'static, UdpSocket>, Either<Ordered<Seqpacket>, Ordered<Association>>>;

fn over_path(carrier: Ordered<Seqpacket>) -> AnyCarrier {
    Either::Second(Either::First(carrier))
}

fn over_sctp(carrier: Ordered<Association>) -> AnyCarrier {
    Either::Second(Either::Second(carrier))
}

/// One that connects, sealed if there are keys. There is memory for one link, and no other while this one
/// is there.
fn asking<C: Carrier>(
    keeper: Option<&'static OwnKeeper>,
    carrier: Result<C, Errno>,
) -> Result<Ordered<C>, FailReason> {
    let carrier = carrier.map_err(FailReason::of_connect)?;
    match keeper {
        None => Ok(Either::First(carrier)),
        Some(keeper) => {
            OwnSealed::asking(keeper, carrier).map(Either::Second).ok_or(FailReason::TableFull)
        }
    }
}

/// One that was accepted, likewise.
fn asked<C: Carrier>(keeper: Option<&'static OwnKeeper>, carrier: C) -> Ordered<C> {
    match keeper {
        None => Either::First(carrier),
        Some(keeper) => Either::Second(OwnSealed::asked(keeper, carrier)),
    }
}

/// Where a link's far end is, or where links are listened for.
#[allow(clippy::large_enum_variant)] // there is one, and one a thread
#[derive(Clone)]
pub(crate) enum At {
    Udp(SocketAddr),
    Sctp(Endpoint),
    Seqpacket(ArrayVec<u8, PATH_BYTES_MAX>),
}

impl At {
    /// Reads it as the header says; `listening`: also `udp::PORT`, and port 0.
    ///
    /// # Errors
    /// EINVAL: it is none of these. ENAMETOOLONG.
    pub(crate) fn read(text: &[u8], listening: bool) -> Result<At, Errno> {
        let at = match text {
            [b'u', b'd', b'p', b':', at @ ..] => At::Udp(match at {
                [b':', port @ ..] if listening => addresses::everywhere(port)?,
                at => addresses::inet(at)?,
            }),
            [b's', b'c', b't', b'p', b':', hosts @ ..] => At::Sctp(endpoint(hosts)?),
            [b's', b'e', b'q', b'p', b'a', b'c', b'k', b'e', b't', b':', path @ ..] => {
                At::Seqpacket(addresses::path(path)?)
            }
            _ => return Err(Errno::INVAL),
        };
        let port = match &at {
            At::Udp(address) => address.port(),
            At::Sctp(endpoint) => endpoint.addresses().first().map_or(0, SocketAddr::port),
            At::Seqpacket(_) => 1,
        };
        if port == 0 && !listening { Err(Errno::INVAL) } else { Ok(at) }
    }
}

/// An address and a port, and further addresses of the same machine behind commas.
fn endpoint(hosts: &[u8]) -> Result<Endpoint, Errno> {
    let mut hosts = hosts.split(|byte| *byte == b',');
    let first = addresses::inet(hosts.next().unwrap_or_default())?;
    let mut all = ArrayVec::<SocketAddr, 8>::new();
    all.push(first);
    for host in hosts {
        let host = str::from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
        let address = (host.ok_or(Errno::INVAL)?, first.port()).into();
        all.try_push(address).map_err(|_| Errno::INVAL)?;
    }
    Endpoint::new(&all).map_err(|_| Errno::INVAL)
}

/// Sockets that links come in at: of udp one for each thread.
#[allow(clippy::large_enum_variant)] // there is one
pub(crate) enum Sockets {
    Udp(ArrayVec<Option<UdpSocket>, THREADS_MAX>),
    Sctp(OwnedFd),
    Seqpacket(OwnedFd),
}

impl Sockets {
    /// Opens them.
    ///
    /// # Errors
    /// What the kernel says: EADDRINUSE, EPROTONOSUPPORT (it has no SCTP) ..
    pub(crate) fn listen(at: &At, threads: u32, options: &Options) -> Result<Sockets, Errno> {
        match at {
            At::Udp(at) => {
                let group = listening_group(*at, threads as usize, &socket::Options::USUAL)?;
                Ok(Sockets::Udp(group.into_iter().map(Some).collect()))
            }
            At::Sctp(endpoint) => Association::listen(endpoint, options).map(Sockets::Sctp),
            At::Seqpacket(path) => Seqpacket::listen(path, options).map(Sockets::Seqpacket),
        }
    }

    /// One of them, to ask where it is.
    pub(crate) fn first(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Sockets::Udp(sockets) => sockets.iter().flatten().next().map(AsFd::as_fd),
            Sockets::Sctp(fd) | Sockets::Seqpacket(fd) => Some(fd.as_fd()),
        }
    }
}

/// Connects carriers.
pub(crate) struct To {
    pub(crate) at: At,
    /// Of this thread, if it is over udp.
    pub(crate) hub: Option<&'static UdpHub>,
    /// Who is to be there, if the hub has keys.
    pub(crate) expected: Option<&'static Peer>,
    /// Of this thread, if there are keys and it is not over udp.
    pub(crate) keeper: Option<&'static OwnKeeper>,
    pub(crate) options: Options,
}

impl To {
    fn carrier(&self) -> Result<AnyCarrier, FailReason> {
        match &self.at {
            At::Udp(address) => {
                let hub = self.hub.ok_or(FailReason::Other)?;
                let socket = UdpSocket::connected(*address, &socket::Options::USUAL);
                hub.open(socket.map_err(FailReason::of_connect)?, true);
                // There is memory for one link, and no other while this one is there.
                let options = seaprox_udp::carrier::Options::USUAL;
                let udp = Udp::connect(hub, self.expected, options);
                udp.map(Either::First).ok_or(FailReason::TableFull)
            }
            At::Sctp(endpoint) => {
                asking(self.keeper, Association::connect(endpoint, &self.options)).map(over_sctp)
            }
            At::Seqpacket(path) => {
                asking(self.keeper, Seqpacket::connect(path, &self.options)).map(over_path)
            }
        }
    }
}

/// What its packets go through.
fn below<C: Carrier>(carrier: &mut Ordered<C>) -> &mut C {
    match carrier {
        Either::First(carrier) => carrier,
        Either::Second(sealed) => sealed.carrier(),
    }
}

impl Connect for To {
    type Carrier = AnyCarrier;

    fn begin(&mut self) -> Begun<AnyCarrier> {
        match self.carrier() {
            Ok(carrier) => Begun::Carrier(carrier),
            Err(reason) => Begun::Failed(reason),
        }
    }

    fn finish(&mut self, carrier: &mut AnyCarrier) -> Result<bool, FailReason> {
        let finished = match carrier {
            Either::First(udp) => return udp.finish_connect(),
            Either::Second(Either::First(path)) => below(path).finish_connect(),
            Either::Second(Either::Second(sctp)) => below(sctp).finish_connect(),
        };
        match finished {
            // One that is not sealed has nothing to say first.
            Ok(()) => carrier.greet(None).map(|greeting| greeting == Greeting::Done),
            Err(Errno::INPROGRESS) => Ok(false),
            Err(errno) => Err(FailReason::of_connect(errno)),
        }
    }

    fn peer(&self) -> Address {
        match &self.at {
            At::Udp(address) => (*address).into(),
            At::Sctp(at) => at.addresses().first().map_or(Address::UNKNOWN, |at| (*at).into()),
            At::Seqpacket(_) => Address::UNIX,
        }
    }
}

/// Accepts carriers. The sockets that all threads share stay open until none of them runs.
#[allow(clippy::large_enum_variant)] // there is one a thread
pub(crate) enum From {
    Udp(Listener<'static, UdpSocket>),
    Sctp(&'static OwnedFd, Option<&'static OwnKeeper>),
    Seqpacket(&'static OwnedFd, Option<&'static OwnKeeper>),
}

impl Accept for From {
    type Carrier = AnyCarrier;

    fn fd(&self) -> RawFd {
        match self {
            From::Udp(listener) => listener.fd(),
            From::Sctp(fd, _) | From::Seqpacket(fd, _) => fd.as_raw_fd(),
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, From::Udp(_))
    }

    fn accept(&mut self, refused: Option<FailReason>) -> Result<(AnyCarrier, Address), Errno> {
        match self {
            From::Udp(listener) => {
                listener.accept(refused).map(|(carrier, peer)| (Either::First(carrier), peer))
            }
            From::Sctp(fd, keeper) => {
                let (carrier, peer) = Association::accept(fd)?;
                Ok((over_sctp(asked(*keeper, carrier)), peer))
            }
            From::Seqpacket(fd, keeper) => {
                let (carrier, peer) = Seqpacket::accept(fd)?;
                Ok((over_path(asked(*keeper, carrier)), peer))
            }
        }
    }

    fn is_waiting(&self) -> bool {
        if let From::Udp(listener) = self { listener.is_waiting() } else { false }
    }

    fn end(&mut self) {
        match self {
            From::Udp(listener) => listener.end(),
            From::Sctp(fd, _) => Association::stop_listening(fd),
            From::Seqpacket(fd, _) => Seqpacket::stop_listening(fd),
        }
    }
}
