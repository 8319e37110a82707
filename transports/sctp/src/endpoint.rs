//! Where an association leads or is listened for: several addresses of one host, with one port
//! (multihoming, RFC 9260 section 6.4). Knows no names, and makes no system call.
//!
//! Invariant: 1 to [`ADDRESSES_MAX`] addresses, none twice; an unspecified one is alone; all have
//! one port. The local ones are as many or none, and of port 0 where they are not given one.

use arrayvec::ArrayVec;
use core::fmt;
use core::net::SocketAddr;

/// Addresses of one end, at most.
pub const ADDRESSES_MAX: usize = 8;

/// What there is at most of a list as the kernel wants it.
pub(crate) const PACKED_BYTES_MAX: usize = ADDRESSES_MAX * SOCKADDR_IN6_BYTES;

const SOCKADDR_IN_BYTES: usize = size_of::<libc::sockaddr_in>();
const SOCKADDR_IN6_BYTES: usize = size_of::<libc::sockaddr_in6>();
static_assertions::const_assert_eq!(SOCKADDR_IN_BYTES, 16);
static_assertions::const_assert_eq!(SOCKADDR_IN6_BYTES, 28);

/// The addresses of one end.
pub(crate) type Addresses = ArrayVec<SocketAddr, ADDRESSES_MAX>;

/// Where an association leads to, or where it is listened for.
///
/// ```
/// use seaprox_sctp::{Endpoint, EndpointError};
///
/// let [one, other] = ["192.0.2.1:7000".parse()?, "198.51.100.1:7000".parse()?];
/// let endpoint = Endpoint::new(&[one, other]).unwrap().through_udp(9899);
/// assert_eq!(endpoint.addresses(), [one, other]);
/// assert_eq!(Endpoint::new(&[one, one]), Err(EndpointError::Twice));
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    addresses: Addresses,
    local: Addresses,
    udp_port: u16,
}

/// Why a list of addresses is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// There is none.
    Empty,
    /// There are more than [`ADDRESSES_MAX`].
    TooMany,
    /// They are not all of one port.
    Ports,
    /// One is there twice.
    Twice,
    /// `0.0.0.0` or `::`, which are all addresses, and others beside.
    Unspecified,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::Empty => f.write_str("no address"),
            EndpointError::TooMany => write!(f, "more than {ADDRESSES_MAX} addresses"),
            EndpointError::Ports => f.write_str("addresses with different ports"),
            EndpointError::Twice => f.write_str("an address that is there twice"),
            EndpointError::Unspecified => f.write_str("0.0.0.0 or :: beside other addresses"),
        }
    }
}

impl core::error::Error for EndpointError {}

impl Endpoint {
    /// The addresses of the peer, in the order they are tried in; or those to listen at.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn new(addresses: &[SocketAddr]) -> Result<Endpoint, EndpointError> {
        if addresses.is_empty() {
            return Err(EndpointError::Empty);
        }
        Ok(Endpoint { addresses: checked(addresses)?, local: Addresses::new(), udp_port: 0 })
    }

    /// The addresses of this end that the peer is told of when connecting, port 0 for any. Without,
    /// the kernel tells the peer all that this host has, which is more than can be reached where
    /// there are virtual networks. Of no meaning for listening.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn from_local(self, local: &[SocketAddr]) -> Result<Endpoint, EndpointError> {
        Ok(Endpoint { local: checked(local)?, ..self })
    }

    /// Connects through UDP (RFC 6951), to that UDP port of the peer. Both kernels must listen for
    /// it: sysctl net.sctp.udp_port, of which 9899 is usual. A listener needs only the sysctl: it
    /// answers on the port a peer comes from.
    #[must_use]
    pub fn through_udp(self, port: u16) -> Endpoint {
        Endpoint { udp_port: port, ..self }
    }

    /// The addresses of the peer, or those to listen at.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses to connect from; none for all.
    pub(crate) fn local(&self) -> &[SocketAddr] {
        &self.local
    }

    /// The UDP port of the peer, unless SCTP goes over IP itself.
    pub(crate) fn udp_port(&self) -> Option<u16> {
        (self.udp_port != 0).then_some(self.udp_port)
    }

    /// Whether a socket of IPv6 is needed, which takes addresses of IPv4 too (RFC 6458 section 3).
    pub(crate) fn is_ipv6(&self) -> bool {
        self.addresses.iter().chain(&self.local).any(SocketAddr::is_ipv6)
    }
}

fn checked(list: &[SocketAddr]) -> Result<Addresses, EndpointError> {
    let addresses = Addresses::try_from(list).map_err(|_| EndpointError::TooMany)?;
    for (at, address) in addresses.iter().enumerate() {
        let before = &addresses[..at];
        if before.iter().any(|other| other.port() != address.port()) {
            return Err(EndpointError::Ports);
        }
        if before.iter().any(|other| other.ip() == address.ip()) {
            return Err(EndpointError::Twice);
        }
        if addresses.len() > 1 && address.ip().is_unspecified() {
            return Err(EndpointError::Unspecified);
        }
    }
    Ok(addresses)
}

/// As SCTP_SOCKOPT_BINDX_ADD and SCTP_SOCKOPT_CONNECTX want them: one sockaddr after another, each
/// as long as its family has it.
pub(crate) fn packed(addresses: &[SocketAddr]) -> ArrayVec<u8, PACKED_BYTES_MAX> {
    let mut bytes = ArrayVec::new();
    // The bound on the list is the bound on the bytes.
    let mut put = |part: &[u8]| bytes.try_extend_from_slice(part).expect("8 addresses at most");
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        put(&(family as libc::sa_family_t).to_ne_bytes());
        put(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => {
                put(&address.ip().octets());
                put(&[0; 8]);
            }
            SocketAddr::V6(address) => {
                put(&address.flowinfo().to_ne_bytes());
                put(&address.ip().octets());
                put(&address.scope_id().to_ne_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn list(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn an_endpoint_is_one_host_with_one_port() {
        let good = list(&["10.1.0.1:7000", "10.2.0.1:7000", "[fd00::1]:7000"]);
        let endpoint = Endpoint::new(&good).unwrap();
        assert_eq!(endpoint.addresses(), good);
        assert!(endpoint.is_ipv6());
        assert!(!Endpoint::new(&good[..2]).unwrap().is_ipv6());
        let from = Endpoint::new(&good[..1]).unwrap().from_local(&list(&["[::1]:0"])).unwrap();
        assert!(from.is_ipv6() && from.udp_port().is_none());
        assert_eq!(from.through_udp(9899).udp_port(), Some(9899));
        for (bad, error) in [
            (&[][..], EndpointError::Empty),
            (&["1.1.1.1:1", "1.1.1.2:2"], EndpointError::Ports),
            (&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.1:1"], EndpointError::Twice),
            (&["1.1.1.1:1", "[::]:1"], EndpointError::Unspecified),
            (&["0.0.0.0:1", "1.1.1.1:1"], EndpointError::Unspecified),
            (&["1.1.1.1:1"; 9], EndpointError::TooMany),
        ] {
            assert_eq!(Endpoint::new(&list(bad)), Err(error));
            assert!(!error.to_string().is_empty());
        }
        assert!(Endpoint::new(&list(&["0.0.0.0:1"])).is_ok());
        let local = Endpoint::new(&good).unwrap().from_local(&list(&["0.0.0.0:0", "1.1.1.1:0"]));
        assert_eq!(local, Err(EndpointError::Unspecified));
    }

    #[test]
    fn the_kernel_sees_one_sockaddr_after_another() {
        let packed = packed(&list(&["1.2.3.4:258", "[fd00::1%9]:772"]));
        let family = |at: usize| u16::from_ne_bytes([packed[at], packed[at + 1]]);
        assert_eq!(packed.len(), 16 + 28);
        assert_eq!(i32::from(family(0)), libc::AF_INET);
        assert_eq!(packed[2..8], [1, 2, 1, 2, 3, 4]);
        assert_eq!(packed[8..16], [0; 8]);
        assert_eq!(i32::from(family(16)), libc::AF_INET6);
        assert_eq!(packed[18..24], [3, 4, 0, 0, 0, 0]);
        assert_eq!(packed[24..40], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(packed[40..44], 9u32.to_ne_bytes());
        let many: Vec<_> =
            (1..=8).map(|n| SocketAddr::from(([n, 0, 0, 0, 0, 0, 0, 1], 7))).collect();
        assert_eq!(super::packed(&many).len(), PACKED_BYTES_MAX);
    }
}
