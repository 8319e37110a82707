//! The tcp transport: where connections come from ([`Listener`]) and where they go ([`Dialer`]),
//! over tcp4, tcp6 and unix sockets.
//!
//! Without `std` targets are numbers; with it names are looked up on threads of their own.
#![no_std]

#[cfg(feature = "std")]
extern crate std;

mod dialer;
mod listener;
mod listeners;
#[cfg(feature = "std")]
mod lookup;
pub mod resolve;
#[cfg(feature = "std")]
pub mod resolver;
mod targets;

pub use dialer::{DialOptions, Dialer, RACES_MAX};
pub use listener::{AtEnd, ListenOptions, Listener, adopt_listener, listen, listen_unix};
pub use listeners::{LISTENERS_MAX, Listeners};
pub use targets::{
    Allow, Chosen, NAME_BYTES_MAX, Names, PLACES, Places, Service, Services, TARGETS_MAX, Target,
    Targets,
};

use core::time::Duration;
use rustix::net::sockopt;
use seaprox::sys::{Errno, OwnedFd};

/// When a silent peer is asked whether it is still there, and when it is given up.
#[derive(Clone, Copy, Debug)]
struct Keepalive {
    idle_seconds: u32,
    interval_seconds: u32,
    count: u32,
}

/// Given up after two minutes: a minute of silence, then six questions ten seconds apart.
const KEEPALIVE: Keepalive = Keepalive { idle_seconds: 60, interval_seconds: 10, count: 6 };

impl Keepalive {
    fn set_on(self, fd: &OwnedFd) -> Result<(), Errno> {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        sockopt::set_tcp_keepidle(fd, seconds(self.idle_seconds))?;
        sockopt::set_tcp_keepintvl(fd, seconds(self.interval_seconds))?;
        sockopt::set_tcp_keepcnt(fd, self.count)?;
        sockopt::set_socket_keepalive(fd, true)
    }
}
