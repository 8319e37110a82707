//! One blocking lookup by the system's own resolver: /etc/hosts, nsswitch, DNS, whatever the
//! machine is set up to ask. Knows no cache and no thread. std's lookup collects into a `Vec`;
//! this one goes through the system's list where it lies, so only libc allocates.

use crate::resolve::{ADDRESSES_MAX, Addresses};
use arrayvec::ArrayVec;
use core::ffi::CStr;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Looks up a name and gives its addresses in the order to try them; none when there is none.
pub(crate) fn look_up(name: &CStr, prefer_ipv4: bool) -> Addresses {
    let (mut ipv4, mut ipv6) = (Family::new(), Family::new());
    each_address(name, |address| {
        let family = if address.is_ipv4() { &mut ipv4 } else { &mut ipv6 };
        if !family.contains(&address) {
            // What does not fit is not worth trying any more.
            let _ = family.try_push(address);
        }
    });
    let (first, second) = if prefer_ipv4 { (ipv4, ipv6) } else { (ipv6, ipv4) };
    interleave(&first, &second)
}

type Family = ArrayVec<IpAddr, ADDRESSES_MAX>;

/// The families take turns, so that one that does not work costs one stagger and not one for each
/// of its addresses (RFC 8305 section 4); within a family the order is the system's (RFC 6724).
fn interleave(first: &[IpAddr], second: &[IpAddr]) -> Addresses {
    let mut addresses = Addresses::new();
    for index in 0..first.len().max(second.len()) {
        for family in [first, second] {
            if let Some(address) = family.get(index) {
                let _ = addresses.try_push(*address);
            }
        }
    }
    addresses
}

/// Calls `each` for every address of `name`, in the system's order (getaddrinfo(3)). A failure, for
/// whatever reason, is no address.
#[allow(unsafe_code)]
fn each_address(name: &CStr, mut each: impl FnMut(IpAddr)) {
    // SAFETY: an addrinfo of zeroes is the hint "anything": family 0 is AF_UNSPEC, no pointer set.
    let mut hints: libc::addrinfo = unsafe { core::mem::zeroed() };
    hints.ai_family = libc::AF_UNSPEC;
    // Else every address comes once for each type of socket.
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list: *mut libc::addrinfo = core::ptr::null_mut();
    // SAFETY: reads a string that ends in NUL and the hints; writes `list` when it gives 0.
    let failed = unsafe { libc::getaddrinfo(name.as_ptr(), core::ptr::null(), &hints, &mut list) };
    if failed != 0 {
        return;
    }
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: the list is well formed until it is freed below, and each `ai_addr` is as long as
        // its family says, and aligned for it.
        unsafe {
            match (*entry).ai_family {
                libc::AF_INET => {
                    let address = (*entry).ai_addr.cast::<libc::sockaddr_in>();
                    each(Ipv4Addr::from((*address).sin_addr.s_addr.to_ne_bytes()).into());
                }
                libc::AF_INET6 => {
                    let address = (*entry).ai_addr.cast::<libc::sockaddr_in6>();
                    each(Ipv6Addr::from((*address).sin6_addr.s6_addr).into());
                }
                _ => {}
            }
            entry = (*entry).ai_next;
        }
    }
    // SAFETY: the list came from getaddrinfo and is not used any more.
    unsafe { libc::freeaddrinfo(list) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn numbers(ipv4: bool, range: core::ops::Range<u8>) -> Vec<IpAddr> {
        let address = |n: u8| match ipv4 {
            true => Ipv4Addr::new(10, 0, 0, n).into(),
            false => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into(),
        };
        range.map(address).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let (v6, v4) = (numbers(false, 0..2), numbers(true, 0..4));
        let expected = [v6[0], v4[0], v6[1], v4[1], v4[2], v4[3]];
        assert_eq!(interleave(&v6, &v4).as_slice(), expected);
        assert_eq!(interleave(&[], &v4).as_slice(), v4);
        assert_eq!(interleave(&v6, &[]).as_slice(), v6);
        assert!(interleave(&[], &[]).is_empty());
        let both = interleave(&numbers(false, 0..16), &numbers(true, 0..16));
        assert_eq!(both.len(), ADDRESSES_MAX);
        assert_eq!(both.iter().filter(|address| address.is_ipv4()).count(), ADDRESSES_MAX / 2);
    }

    #[test]
    fn the_system_knows_localhost_and_numbers() {
        let local = look_up(c"localhost", true);
        assert!(!local.is_empty() && local.iter().all(IpAddr::is_loopback), "{local:?}");
        let preferred = |address: &&IpAddr| address.is_ipv4();
        assert!(local.iter().find(preferred).is_none_or(|_| local[0].is_ipv4()), "{local:?}");
        let mut once = local.to_vec();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), local.len(), "{local:?}");
        assert_eq!(look_up(c"10.1.2.3", false).as_slice(), [IpAddr::from([10, 1, 2, 3])]);
        assert!(look_up(c"no name has spaces", false).is_empty());
        assert!(look_up(c"", false).is_empty());
    }
}
