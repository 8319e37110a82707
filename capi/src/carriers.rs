//! Where links go to and come from: udp, SCTP, and unix sockets that keep packets whole, at literal
//! addresses. Knows no session.

use crate::addresses::{self, PATH_BYTES_MAX};
use arrayvec::ArrayVec;
use core::net::{IpAddr, SocketAddr};
use rustix::fd::{AsFd, BorrowedFd};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, OwnedFd, RawFd};
use seaprox_proto::carrier::Either;
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

/// Any carrier.
pub(crate) type AnyCarrier = Either<Udp<'static, UdpSocket>, Either<Seqpacket, Association>>;

fn over_path(carrier: Seqpacket) -> AnyCarrier {
    Either::Second(Either::First(carrier))
}

fn over_sctp(carrier: Association) -> AnyCarrier {
    Either::Second(Either::Second(carrier))
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
    at: At,
    /// Of this thread, if it is over udp.
    hub: Option<&'static UdpHub>,
    options: Options,
    udp: seaprox_udp::carrier::Options,
}

impl To {
    pub(crate) fn new(at: At, hub: Option<&'static UdpHub>, options: Options) -> Self {
        To { at, hub, options, udp: seaprox_udp::carrier::Options::USUAL }
    }

    fn carrier(&self) -> Result<AnyCarrier, FailReason> {
        match &self.at {
            At::Udp(address) => {
                let hub = self.hub.ok_or(FailReason::Other)?;
                let socket = UdpSocket::connected(*address, &socket::Options::USUAL);
                hub.open(socket.map_err(FailReason::of_connect)?, true);
                // There is memory for one link, and no other while this one is there.
                Udp::connect(hub, None, self.udp).map(Either::First).ok_or(FailReason::TableFull)
            }
            At::Sctp(endpoint) => Association::connect(endpoint, &self.options)
                .map(over_sctp)
                .map_err(FailReason::of_connect),
            At::Seqpacket(path) => Seqpacket::connect(path, &self.options)
                .map(over_path)
                .map_err(FailReason::of_connect),
        }
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
            Either::Second(Either::First(path)) => path.finish_connect(),
            Either::Second(Either::Second(sctp)) => sctp.finish_connect(),
        };
        match finished {
            Ok(()) => Ok(true),
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
    Sctp(&'static OwnedFd),
    Seqpacket(&'static OwnedFd),
}

impl Accept for From {
    type Carrier = AnyCarrier;

    fn fd(&self) -> RawFd {
        match self {
            From::Udp(listener) => listener.fd(),
            From::Sctp(fd) | From::Seqpacket(fd) => fd.as_raw_fd(),
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
            From::Sctp(fd) => {
                Association::accept(fd).map(|(carrier, peer)| (over_sctp(carrier), peer))
            }
            From::Seqpacket(fd) => {
                Seqpacket::accept(fd).map(|(carrier, peer)| (over_path(carrier), peer))
            }
        }
    }

    fn is_waiting(&self) -> bool {
        if let From::Udp(listener) = self { listener.is_waiting() } else { false }
    }

    fn end(&mut self) {
        match self {
            From::Udp(listener) => listener.end(),
            From::Sctp(fd) => Association::stop_listening(fd),
            From::Seqpacket(fd) => Seqpacket::stop_listening(fd),
        }
    }
}
