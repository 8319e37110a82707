//! A transparent proxy on one thread: clients that the packet filter has redirected here are connected
//! to where they were going. They say nothing for that, so it is not a handshake but a source that asks
//! the kernel (`SO_ORIGINAL_DST`, linux/netfilter_ipv4.h, and `IP6T_SO_ORIGINAL_DST`). Who came here of
//! their own accord are reset: their way would lead here again.
//!
//! ```text
//! cargo run -p seaprox-examples --bin redir -- [::]:8080
//! nft add table inet redir
//! nft add chain inet redir incoming '{ type nat hook prerouting priority dstnat; }'
//! nft add rule inet redir incoming iifname lan0 tcp dport 80 redirect to :8080
//! ```
//!
//! What this machine sends itself is not redirected by that. Whoever redirects it too (`hook output`)
//! must except this program (`meta skuid`), or it would talk to itself until its table is full.
//!
//! It ends when its stdin does, once the last connection is over.

use seaprox::Seaprox;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::share::Order;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, Linux, RawFd, Ready, Sys};
use seaprox::transport::{Asked, Desk, Event, Notice, Observer, Source, Transport};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{
    AtEnd, Chosen, DialOptions, Dialer, ListenOptions, Listener, Names, Targets, listen,
};
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const CONNECTIONS: usize = 256;

static PROXY: Seaprox<CONNECTIONS, 1> = Seaprox::new();

/// Connections that were going somewhere else.
struct Redirected(Listener<Linux>);

impl Transport<Linux> for Redirected {
    const PROMPT: bool = <Listener<Linux> as Transport<Linux>>::PROMPT;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        self.0.ready(own, fd, ready);
    }

    fn poll(&mut self, desk: &mut Desk<'_, Linux>) -> Option<Event> {
        self.0.poll(desk)
    }
}

impl Source<Linux> for Redirected {
    type Target = SocketAddr;

    fn target(&mut self, handle: Handle, _: SideKey, _: &mut Desk<'_, Linux>) -> Asked<SocketAddr> {
        match handle.fd().map(was_going_to) {
            Some(Ok(Some(address))) => Asked::For(address),
            Some(Ok(None)) => Asked::Refused(FailReason::Denied),
            Some(Err(_)) | None => Asked::Refused(FailReason::Other),
        }
    }

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, Linux>) -> Result<(), Errno> {
        self.0.admit(wanted, desk)
    }

    fn look(&mut self) {
        self.0.look();
    }

    fn end(&mut self, desk: &mut Desk<'_, Linux>) {
        self.0.end(desk);
    }
}

/// Where a connection was going before it was redirected; `None` if it was not.
#[allow(unsafe_code)]
fn was_going_to(fd: RawFd) -> Result<Option<SocketAddr>, Errno> {
    let here = Linux.local_address(fd)?;
    // SAFETY: it was accepted just now, and is not closed before the end of the turn.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // An IPv4 client of an IPv6 socket is one of IPv4 to the packet filter too.
    let original = match here.socket_addr() {
        Some(SocketAddr::V4(_)) => rustix::net::sockopt::ip_original_dst(fd).map(SocketAddr::V4),
        _ => rustix::net::sockopt::ipv6_original_dst(fd).map(SocketAddr::V6),
    };
    match original {
        Ok(address) => Ok((Address::from(address) != here).then_some(address)),
        // The kernel tracks no such connection, so it has changed nothing either.
        Err(Errno::NOENT | Errno::NOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// There, and nowhere else.
struct Straight;

impl Names for Straight {
    fn name(&self, _: u8) -> Option<(&str, u16)> {
        None
    }

    fn forget(&mut self, _: SideKey) {}
}

impl Targets<SocketAddr> for Straight {
    fn choose(&mut self, _: SideKey, address: SocketAddr) -> Result<Chosen, FailReason> {
        Ok(Chosen::Address(address))
    }
}

/// Says what happens.
struct Printer;

impl Observer for Printer {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(description) => println!("connected {description}"),
            Notice::Closed { description, source_bytes, dest_bytes, .. } => {
                println!("closed {description} {source_bytes} {dest_bytes}");
            }
            Notice::Refused { source, reason, .. } => println!("refused {source}: {reason}"),
            Notice::Exhausted(errno) => println!("nothing is accepted for a while: {errno}"),
            Notice::LinkUp { .. } | Notice::LinkDown { .. } => unreachable!("there is no link"),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let at: SocketAddr = std::env::args().nth(1).ok_or("usage: redir LISTEN")?.parse()?;
    let listener = listen(at, ListenOptions::default())?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        PROXY.commons().order(Linux, Order::Drain);
    });
    let source = Redirected(Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse));
    let dest = Dialer::choosing(Linux, &[], Straight, NoNames, DialOptions::default());
    let mut tables = PROXY.claim(1, CONNECTIONS).ok_or("claimed twice")?;
    let table = tables.next().ok_or("one table for one thread")?;
    let options = Options { proxy: "redir", ..Options::default() };
    Worker::new(Linux, table, source, dest, Printer, options)?.run()?;
    Ok(())
}
