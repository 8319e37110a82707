//! What a dialer tries for a connection whose source says what it wants: the proxy's own targets, or a
//! literal address. Names are for a connector. Knows no socket.

use core::net::{IpAddr, SocketAddr};
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::wanted::{Wanted, Wish};
use seaprox_tcp::{Chosen, Names, Targets};

/// Chooses what is tried.
#[derive(Clone, Copy)]
pub(crate) struct Chooser {
    /// Whether there are targets of the proxy's own.
    pub(crate) has_targets: bool,
    /// Whether addresses may be asked for: by a proxy type, which is the embedder's and has looked at
    /// them; not by whoever is at the far end of a link.
    pub(crate) addresses: bool,
}

impl Chooser {
    fn choose(self, wanted: Wanted<'_>) -> Result<Chosen, FailReason> {
        match wanted {
            Wanted::Service(b"") if self.has_targets => Ok(Chosen::All),
            Wanted::Service(_) => Err(FailReason::NoSuchService),
            Wanted::Inet(address) => self.address(address),
            Wanted::Name(name, port) => {
                let ip = str::from_utf8(name).ok().and_then(|name| name.parse::<IpAddr>().ok());
                match ip {
                    Some(ip) => self.address((ip, port).into()),
                    None => Err(FailReason::NameResolution),
                }
            }
        }
    }

    fn address(self, address: SocketAddr) -> Result<Chosen, FailReason> {
        match self.addresses && address.port() != 0 {
            true => Ok(Chosen::Address(address)),
            false => Err(FailReason::Denied),
        }
    }
}

impl Targets<()> for Chooser {
    fn choose(&mut self, _: SideKey, (): ()) -> Result<Chosen, FailReason> {
        Ok(Chosen::All)
    }
}

impl Targets<Wish> for Chooser {
    fn choose(&mut self, _: SideKey, wish: Wish) -> Result<Chosen, FailReason> {
        Chooser::choose(*self, wish.wanted())
    }
}

impl Names for Chooser {
    fn name(&self, _: u8) -> Option<(&str, u16)> {
        None
    }

    fn forget(&mut self, _: SideKey) {}
}
