//! The address at the far end of a side, in 24 bytes. Knows how it is written, nothing of sockets.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The kind of an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// Not known (yet).
    Unknown = 0,
    /// IPv4.
    Ipv4 = 4,
    /// IPv6.
    Ipv6 = 6,
    /// A unix socket: its path is not kept here.
    Unix = 1,
}

/// The address at the far end of a side. All zeroes is "not known".
///
/// ```
/// use core::net::SocketAddr;
/// use seaprox::address::{Address, Family};
///
/// let at: SocketAddr = "[::ffff:192.0.2.1]:80".parse()?;
/// let address = Address::from(at);
/// assert_eq!((address.family(), address.port()), (Family::Ipv4, 80));
/// assert_eq!(address.to_string(), "ipv4[192.0.2.1:80]");
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    ip: [u8; 16],
    scope_id: u32,
    port: u16,
    family: Family,
}

static_assertions::assert_eq_size!(Address, [u8; 24]);

impl Address {
    /// Not known (yet).
    pub const UNKNOWN: Address =
        Address { ip: [0; 16], scope_id: 0, port: 0, family: Family::Unknown };

    /// The far end of a unix socket.
    pub const UNIX: Address = Address { family: Family::Unix, ..Address::UNKNOWN };

    /// Which kind of address this is.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The port, 0 where there is none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host, another port.
    pub const fn with_port(self, port: u16) -> Address {
        Address { port, ..self }
    }

    /// The internet address, unless it is of another kind.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.family {
            Family::Ipv4 => {
                let [a, b, c, d, ..] = self.ip;
                Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), self.port).into())
            }
            Family::Ipv6 => {
                let ip = Ipv6Addr::from(self.ip);
                Some(SocketAddrV6::new(ip, self.port, 0, self.scope_id).into())
            }
            Family::Unknown | Family::Unix => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(from: SocketAddr) -> Address {
        let mut address = Address { port: from.port(), ..Address::UNKNOWN };
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => {
                address.family = Family::Ipv4;
                address.ip[..4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                address.family = Family::Ipv6;
                address.ip = ip.octets();
                if let SocketAddr::V6(v6) = from {
                    address.scope_id = v6.scope_id();
                }
            }
        }
        address
    }
}

/// `ipv4[1.2.3.4:80]`, `ipv6[[::1]:80]`, `unix` or `unknown`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.family, self.socket_addr()) {
            (Family::Ipv4, Some(address)) => write!(f, "ipv4[{address}]"),
            (_, Some(address)) => write!(f, "ipv6[{address}]"),
            (Family::Unix, _) => f.write_str("unix"),
            _ => f.write_str("unknown"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn shown_as_the_description_shows_them() {
        let shown = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap()).to_string();
        assert_eq!(shown("1.2.3.4:3234"), "ipv4[1.2.3.4:3234]");
        assert_eq!(shown("[::1]:80"), "ipv6[[::1]:80]");
        assert_eq!(shown("[::ffff:1.2.3.4]:80"), "ipv4[1.2.3.4:80]", "a v4 client of a v6 socket");
        assert_eq!(shown("[fe80::1%3]:80"), "ipv6[[fe80::1%3]:80]");
        assert_eq!(Address::UNIX.to_string(), "unix");
        assert_eq!(Address::UNKNOWN.to_string(), "unknown");
    }
}
