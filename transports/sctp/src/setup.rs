//! What an SCTP socket is told before it connects or listens, and why: the kernel's defaults are
//! for telephone exchanges. Knows no endpoint.
//!
//! Each option is of the socket, and of the associations it will have (RFC 6458 section 8.1).

use crate::kernel::{self, AssocParams, AssocValue, Event, PathParams, RtoInfo, SackInfo};
use crate::{Options, sys};
use rustix::fd::BorrowedFd;
use seaprox::sys::Errno;

/// The time after which something unacknowledged is sent again follows the round trip, but the
/// default, a second at least, would make each loss one second of silence.
const RTO_MIN_MILLIS: u32 = 100;
/// No longer: with 60 s, the default, a path that is back would be found after a minute.
const RTO_MAX_MILLIS: u32 = 1_000;
/// Before a round trip was measured.
const RTO_INITIAL_MILLIS: u32 = 500;

/// A path is given up, and another used if there is one, after so many timeouts and one more: less
/// than three seconds.
const PATH_RETRIES: u16 = 2;
/// How long a path is idle until it is asked whether it still leads anywhere.
const HEARTBEAT_MILLIS: u32 = 1_000;

/// The peer is dead after so many timeouts and one more without a word from it on any path. Each
/// is [`RTO_MAX_MILLIS`] at most: with bytes under way on one path it takes 12 s. Heartbeats count
/// too, so it is about 7 s on two paths; with nothing under way it is 11 s on two and 26 s on one. It
/// is not less, since a network that is away for a few seconds is no dead peer, and timeouts also
/// count while one path is given up for another, until that answers.
const PEER_RETRIES: u16 = 14;

/// A connect is given up after so many attempts, each [`RTO_MAX_MILLIS`] at most: 8 s, with each of
/// 8 addresses tried once.
const CONNECT_ATTEMPTS: u16 = 8;

/// An acknowledgement is held back so long at most, in hope of a second packet. The default of
/// 200 ms is more than [`RTO_MIN_MILLIS`]: what is alone would be sent twice.
const SACK_MILLIS: u32 = 10;
/// Or until so many packets have come.
const SACK_PACKETS: u32 = 2;

/// Of what a link is told.
///
/// SEND_FAILED is not among it. Nothing of a link is ever given up while its association lives, and
/// when that ends, or is restarted, the end is told of anyway; it would only bring back every byte
/// that was under way, and take the place of what is to be read.
const EVENTS: [u16; 3] =
    [kernel::SCTP_ASSOC_CHANGE, kernel::SCTP_SHUTDOWN_EVENT, kernel::SCTP_PARTIAL_DELIVERY_EVENT];

/// Tells a socket all of it.
///
/// # Errors
/// ENOPROTOOPT: a kernel before 5.0.
pub(crate) fn prepare(fd: BorrowedFd<'_>, options: &Options) -> Result<(), Errno> {
    set_times(fd)?;
    let init = libc::sctp_initmsg {
        sinit_num_ostreams: options.streams(),
        sinit_max_instreams: options.streams(),
        sinit_max_attempts: CONNECT_ATTEMPTS,
        sinit_max_init_timeo: RTO_MAX_MILLIS as u16,
    };
    sys::set(fd, libc::SCTP_INITMSG, &init)?;
    // A link puts together what is small itself.
    sys::set(fd, libc::SCTP_NODELAY, &1)?;
    // One message at a time is partial: one buffer is enough to put it together.
    sys::set(fd, libc::SCTP_FRAGMENT_INTERLEAVE, &0)?;
    sys::set(fd, libc::SCTP_RECVRCVINFO, &1)?;
    for kind in EVENTS {
        sys::set(fd, kernel::SCTP_EVENT, &Event { kind, on: 1, ..Event::default() })?;
    }
    // Better with, but a kernel that does not know how is good enough: without turns (before 4.15)
    // messages are sent in the order they were given in.
    let turns = AssocValue { value: kernel::SCTP_SS_RR, ..AssocValue::default() };
    let _ = sys::set(fd, kernel::SCTP_STREAM_SCHEDULER, &turns);
    // A peer may not skip messages either (RFC 3758), as a carrier loses none.
    let _ = sys::set(fd, kernel::SCTP_PR_SUPPORTED, &AssocValue::default());
    Ok(())
}

fn set_times(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let rto = RtoInfo {
        initial: RTO_INITIAL_MILLIS,
        max: RTO_MAX_MILLIS,
        min: RTO_MIN_MILLIS,
        ..RtoInfo::default()
    };
    sys::set(fd, libc::SCTP_RTOINFO, &rto)?;
    let peer = AssocParams { asocmaxrxt: PEER_RETRIES, ..AssocParams::default() };
    sys::set(fd, libc::SCTP_ASSOCINFO, &peer)?;
    let path = PathParams {
        hbinterval: HEARTBEAT_MILLIS,
        pathmaxrxt: PATH_RETRIES,
        flags: kernel::SPP_HB_ENABLE,
        ..sys::zeroes()
    };
    sys::set(fd, libc::SCTP_PEER_ADDR_PARAMS, &path)?;
    let sack = SackInfo { delay: SACK_MILLIS, freq: SACK_PACKETS, ..SackInfo::default() };
    sys::set(fd, libc::SCTP_DELAYED_SACK, &sack)
}

/// Connects through UDP, to that port of every address of the peer (RFC 6951).
///
/// # Errors
/// ENOPROTOOPT: a kernel before 5.11.
pub(crate) fn set_udp_port(fd: BorrowedFd<'_>, port: u16) -> Result<(), Errno> {
    let udp = kernel::UdpEncaps { port: port.to_be(), ..sys::zeroes() };
    sys::set(fd, kernel::SCTP_REMOTE_UDP_ENCAPS_PORT, &udp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Association, Endpoint, Socket, is_missing};
    use core::fmt::Debug;
    use rustix::fd::AsFd;
    use seaprox::sys::OwnedFd;
    use std::net::{Ipv4Addr, SocketAddr};

    fn told<T: sys::Plain + PartialEq + Debug>(fd: BorrowedFd<'_>, option: i32, asked: T) -> T {
        sys::get(fd, option, asked).unwrap()
    }

    fn is_told(fd: &OwnedFd) {
        let fd = fd.as_fd();
        let rto = told(fd, libc::SCTP_RTOINFO, RtoInfo::default());
        assert_eq!((rto.initial, rto.min, rto.max), (500, 100, 1_000));
        let peer = told(fd, libc::SCTP_ASSOCINFO, AssocParams::default());
        assert_eq!(peer.asocmaxrxt, PEER_RETRIES);
        let path: PathParams = told(fd, libc::SCTP_PEER_ADDR_PARAMS, sys::zeroes());
        assert_eq!(({ path.hbinterval }, { path.pathmaxrxt }, path.flags & 3), (1_000, 2, 1));
        let sack = told(fd, libc::SCTP_DELAYED_SACK, SackInfo::default());
        assert_eq!(
            ((10..=20).contains(&sack.delay), sack.freq),
            (true, 2),
            "rounded to ticks: {sack:?}"
        );
        assert_eq!(told(fd, libc::SCTP_NODELAY, 0), 1);
        assert_eq!(told(fd, libc::SCTP_FRAGMENT_INTERLEAVE, 7), 0);
        assert_eq!(told(fd, libc::SCTP_RECVRCVINFO, 0), 1);
        for kind in 0x8001..=0x800d {
            let event = told(fd, kernel::SCTP_EVENT, Event { kind, ..Event::default() });
            assert_eq!(event.on, u8::from(EVENTS.contains(&kind)), "{kind:#x}");
        }
        let turns = told(fd, kernel::SCTP_STREAM_SCHEDULER, AssocValue::default());
        assert_eq!(turns.value, kernel::SCTP_SS_RR);
    }

    /// Connected by a socket that was told nothing.
    fn plain(endpoint: &Endpoint) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketType, ipproto};
        let plain =
            rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP))
                .unwrap();
        let offers = told(plain.as_fd(), kernel::SCTP_PR_SUPPORTED, AssocValue::default());
        assert_eq!(offers.value, 1, "this kernel skips nothing by itself");
        rustix::net::connect(&plain, &endpoint.addresses()[0]).unwrap();
        plain
    }

    /// What was told is what the kernel says, of the association as of the socket: nothing is out
    /// of place in a structure, and what is accepted inherits all of it.
    #[test]
    #[cfg_attr(miri, ignore = "real system calls")]
    fn the_kernel_says_what_it_was_told() {
        let any = Endpoint::new(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).unwrap();
        let options = Options::new(100);
        let listener = match Association::listen(&any, &options) {
            Err(errno) if is_missing(errno) => {
                assert!(std::env::var_os("SEAPROX_REQUIRE_SCTP").is_none(), "no SCTP");
                std::println!("skipped: this kernel has no SCTP");
                return;
            }
            listener => listener.unwrap(),
        };
        let address = rustix::net::getsockname(&listener).unwrap();
        let endpoint = Endpoint::new(&[SocketAddr::try_from(address).unwrap()]).unwrap();
        let mut connected = Association::connect(&endpoint, &options).unwrap();
        let accepted = (0..1_000).find_map(|_| {
            std::thread::sleep(core::time::Duration::from_millis(10));
            Association::accept(&listener).ok()
        });
        connected.finish_connect().unwrap();
        let init: libc::sctp_initmsg =
            sys::get(listener.as_fd(), libc::SCTP_INITMSG, sys::zeroes()).unwrap();
        assert_eq!((init.sinit_num_ostreams, init.sinit_max_instreams), (201, 201));
        assert_eq!((init.sinit_max_attempts, init.sinit_max_init_timeo), (8, 1_000));
        let connected = OwnedFd::from(connected);
        for fd in [&listener, &connected, &accepted.unwrap().0.into()] {
            is_told(fd);
        }
        // Neither way: what was connected has not offered it, nor does the listener to one that does.
        let plain = plain(&endpoint);
        for fd in [&connected, &plain] {
            let skips = told(fd.as_fd(), kernel::SCTP_PR_SUPPORTED, AssocValue::default());
            assert_eq!(skips.value, 0);
        }
        let udp = crate::association::unconnected(&endpoint.through_udp(9_899), &options).unwrap();
        let port: kernel::UdpEncaps =
            sys::get(udp.as_fd(), kernel::SCTP_REMOTE_UDP_ENCAPS_PORT, sys::zeroes()).unwrap();
        assert_eq!(port.port, 9_899u16.to_be());
    }
}
