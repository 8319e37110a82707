//! Addresses of sockets as the kernel writes them (ip(7), ipv6(7)), and the local address of a
//! datagram. Makes no system call.
//!
//! Invariant: outside of here an IPv4 address is one, and never IPv6 with IPv4 inside.

use crate::socket::control::Control;
use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use libc::{in_pktinfo, in6_pktinfo, sockaddr_in, sockaddr_in6};

const V4: usize = size_of::<sockaddr_in>();
const V6: usize = size_of::<sockaddr_in6>();
const PORT: usize = 2;

static_assertions::const_assert_eq!(size_of::<libc::sa_family_t>(), PORT);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in, sin_family), 0);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in, sin_port), PORT);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in, sin_addr), 4);
static_assertions::const_assert_eq!(V4, 16);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in6, sin6_family), 0);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in6, sin6_port), PORT);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in6, sin6_flowinfo), 4);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in6, sin6_addr), 8);
static_assertions::const_assert_eq!(offset_of!(sockaddr_in6, sin6_scope_id), 24);
static_assertions::const_assert_eq!(V6, 28);
// What is asked of IP_PKTINFO is the address to answer from, in the middle.
static_assertions::const_assert_eq!(offset_of!(in_pktinfo, ipi_spec_dst), 4);
static_assertions::const_assert_eq!(size_of::<in_pktinfo>(), 12);
static_assertions::const_assert_eq!(offset_of!(in6_pktinfo, ipi6_addr), 0);
static_assertions::const_assert_eq!(size_of::<in6_pktinfo>(), 20);

/// A sockaddr of IPv4 or IPv6.
#[derive(Debug)]
#[repr(C, align(4))]
pub(crate) struct Name {
    room: [u8; V6],
    length: usize,
}

impl Name {
    /// None.
    pub(crate) const fn new() -> Name {
        Name { room: [0; V6], length: 0 }
    }

    /// An address, for a socket of IPv6 or of IPv4.
    pub(crate) fn of(address: &SocketAddr, for_v6: bool) -> Name {
        let mut name = Name::new();
        let address = match address {
            SocketAddr::V4(v4) if for_v6 => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            address => *address,
        };
        name.room[PORT..4].copy_from_slice(&address.port().to_be_bytes());
        let family = match address {
            SocketAddr::V4(v4) => {
                name.room[4..8].copy_from_slice(&v4.ip().octets());
                name.length = V4;
                libc::AF_INET
            }
            SocketAddr::V6(v6) => {
                name.room[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                name.room[8..24].copy_from_slice(&v6.ip().octets());
                name.room[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
                name.length = V6;
                libc::AF_INET6
            }
        };
        name.room[..PORT].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        name
    }

    /// The address; none if it is of neither kind. Without its flow label, which is not where the
    /// peer is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let bytes = self.bytes();
        let family = i32::from(libc::sa_family_t::from_ne_bytes(*bytes.first_chunk()?));
        let port = u16::from_be_bytes(*bytes.get(PORT..)?.first_chunk()?);
        match family {
            libc::AF_INET => {
                let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
                Some(SocketAddr::from((ip, port)))
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
                let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
                Some(canonical(SocketAddrV6::new(ip, port, 0, scope).into()))
            }
            _ => None,
        }
    }

    /// The sockaddr.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    /// For the kernel to write to.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    /// So much of it was written.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.min(V6);
    }
}

/// IPv4 as such, where it is inside of IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        address => address,
    }
}

/// The local address of what was received, as IP_PKTINFO or IPV6_PKTINFO says it. None if it would
/// not do to send from: IPv6 of one wire only is no address without the wire's number, which the
/// peer's has.
pub(crate) fn local_of(v6: bool, data: &[u8]) -> Option<IpAddr> {
    if !v6 {
        let ip: [u8; 4] = *data.get(4..)?.first_chunk()?;
        return usable(Ipv4Addr::from(ip).into());
    }
    let ip = Ipv6Addr::from(*data.first_chunk::<16>()?);
    if ip.is_unicast_link_local() {
        return None;
    }
    usable(ip.to_canonical())
}

fn usable(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
}

/// Tells the kernel to send from that address.
pub(crate) fn push_local(control: &mut Control, local: IpAddr, for_v6: bool) {
    match local {
        IpAddr::V4(v4) if !for_v6 => {
            let mut info = [0; size_of::<in_pktinfo>()];
            info[4..8].copy_from_slice(&v4.octets());
            control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        local => {
            let v6 = match local {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let mut info = [0; size_of::<in6_pktinfo>()];
            info[..16].copy_from_slice(&v6.octets());
            control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        let texts = ["192.0.2.7:9", "[2001:db8::7]:65535", "[fe80::1%3]:1", "0.0.0.0:0", "[::]:0"];
        for text in texts {
            let address: SocketAddr = text.parse().unwrap();
            for for_v6 in [true, address.is_ipv6()] {
                let name = Name::of(&address, for_v6);
                assert_eq!(name.bytes().len(), if for_v6 { V6 } else { V4 });
                assert_eq!(name.address(), Some(address), "{for_v6}");
            }
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        for length in 0..=V6 {
            let mut name = Name::of(&"[2001:db8::7]:5".parse().unwrap(), true);
            name.set_length(length);
            assert_eq!(name.address().is_some(), length == V6);
        }
        assert_eq!(Name::new().address(), None);
    }

    #[test]
    fn local_addresses_go_both_ways() {
        for (text, for_v6) in [("192.0.2.1", false), ("192.0.2.1", true), ("2001:db8::1", true)] {
            let local: IpAddr = text.parse().unwrap();
            let mut control = Control::new();
            push_local(&mut control, local, for_v6);
            let (level, _, data) = control.messages().next().unwrap();
            assert_eq!(level == libc::IPPROTO_IPV6, for_v6);
            assert_eq!(local_of(for_v6, data), Some(local));
        }
        for none in [[0; 16], "fe80::1".parse::<Ipv6Addr>().unwrap().octets()] {
            assert_eq!(local_of(true, &none), None);
        }
        assert_eq!((local_of(false, &[0; 12]), local_of(true, &[1; 8])), (None, None));
    }
}
