//! `--allow PATTERN`: what is connected to when somebody else names a target. Plain data; nothing
//! is allocated once it is read. Knows no resolver and no socket.
//!
//! A name is permitted as it is spelt, and then whatever it resolves to: who permits a name trusts
//! whoever answers for it, also with addresses inside. An address is permitted by ranges only, and
//! a name never by a range, as it would have to be looked up to know. What a resolver would take for
//! an address (`127.1`) is no name.

use crate::endpoint::{Refused, check_name, is_meant_as_address};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How many patterns there may be.
pub const PATTERNS_MAX: usize = 64;

/// How many ports and ranges of ports one pattern may list.
pub const RANGES_MAX: usize = 8;

type Read<T> = Result<T, String>;

/// What may be connected to: what any of the patterns permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    patterns: Vec<Pattern>,
}

impl Allowed {
    /// Reads patterns, at most [`PATTERNS_MAX`], or says which is none.
    pub fn parse<'p>(patterns: impl IntoIterator<Item = &'p [u8]>) -> Result<Allowed, Refused> {
        let mut allowed = Allowed::default();
        for text in patterns {
            let pattern = Pattern::parse(text)?;
            if allowed.patterns.len() == PATTERNS_MAX {
                return Err(Refused::new(text, format!("at most {PATTERNS_MAX} patterns")));
            }
            allowed.patterns.push(pattern);
        }
        Ok(allowed)
    }

    /// Every name, and every address.
    pub fn everything() -> Allowed {
        let hosts = [
            Hosts::AnyName,
            Hosts::V4(Ipv4Addr::UNSPECIFIED, 0),
            Hosts::V6(Ipv6Addr::UNSPECIFIED, 0),
        ];
        let mut ports = Ports { ranges: [(0, 0); RANGES_MAX], count: 1 };
        ports.ranges[0] = ALL_PORTS;
        Allowed { patterns: hosts.map(|hosts| Pattern { hosts, ports }).into() }
    }

    /// The patterns, as they were given.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether this name may be looked up, and whatever it leads to be connected to.
    /// O(patterns * length).
    pub fn permits_name(&self, name: &str, port: u16) -> bool {
        check_name(name).is_ok()
            && !is_meant_as_address(name)
            && self
                .patterns
                .iter()
                .any(|pattern| pattern.ports.contains(port) && pattern.hosts.contains_name(name))
    }

    /// Whether this address may be connected to. O(patterns).
    pub fn permits_address(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.patterns.iter().any(|pattern| {
            pattern.ports.contains(address.port()) && pattern.hosts.contains_address(ip)
        })
    }
}

impl seaprox_tcp::Allow for Allowed {
    fn permits_name(&self, name: &str, port: u16) -> bool {
        Allowed::permits_name(self, name, port)
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        Allowed::permits_address(self, address)
    }
}

/// Some names or addresses, and ports of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    hosts: Hosts,
    ports: Ports,
}

/// Invariant: names are in lower case, without a final dot; no bit of an address is set behind its
/// prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// `*`
    AnyName,
    /// `example.org`
    Name(Box<str>),
    /// `*.example.org`: what ends so, and is longer. Kept with the dot in front.
    Below(Box<str>),
    /// `10.0.0.0/8`
    V4(Ipv4Addr, u8),
    /// `[2001:db8::]/32`
    V6(Ipv6Addr, u8),
}

impl Pattern {
    /// Reads a pattern, or says why not.
    pub fn parse(text: &[u8]) -> Result<Pattern, Refused> {
        Self::read(text).map_err(|reason| Refused::new(text, reason))
    }

    fn read(text: &[u8]) -> Read<Pattern> {
        let text = str::from_utf8(text).map_err(|_| "not UTF-8")?;
        if text.contains("://") {
            return Err("a URL: write NAME:PORTS, without what is before and after".into());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (ip, rest) = rest.split_once(']').ok_or("no `]`: write [ADDRESS]/BITS:PORTS")?;
            let (bits, ports) = match rest.split_once(':') {
                Some((bits, ports)) => (bits, Some(ports)),
                None => (rest, None),
            };
            return Ok(Pattern { hosts: Hosts::read_v6(ip, bits)?, ports: Ports::read(ports)? });
        }
        let (host, ports) = match text.split_once(':') {
            Some((_, ports)) if ports.contains(':') => {
                return Err("an IPv6 address goes in brackets: write [ADDRESS]/BITS:PORTS".into());
            }
            Some((host, ports)) => (host, Some(ports)),
            None => (text, None),
        };
        Ok(Pattern { hosts: Hosts::read(host)?, ports: Ports::read(ports)? })
    }
}

impl Hosts {
    fn read(host: &str) -> Read<Hosts> {
        let (ip, bits) = match host.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (host, None),
        };
        if let Ok(ip) = ip.parse::<Ipv4Addr>() {
            let bits = bits.map_or(Ok(32), |bits| read_bits(bits, 32))?;
            let first = ip & Ipv4Addr::from_bits(!mask(bits, 32) as u32);
            return match first == ip {
                true => Ok(Hosts::V4(ip, bits)),
                false => Err(format!("bits are set behind the first {bits}: write {first}/{bits}")),
            };
        }
        if is_meant_as_address(ip) || bits.is_some() && !ip.contains('*') {
            return Err("not an IPv4 address: four numbers from 0 to 255, like 10.0.0.0/8".into());
        }
        if host.is_empty() {
            return Err("no name: write * for every name".into());
        }
        if host == "*" {
            return Ok(Hosts::AnyName);
        }
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.contains('*') {
            return Err("a * stands alone, or at the front: *.example.org".into());
        }
        check_name(name)?;
        let plain = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        Ok(match plain.strip_prefix('*') {
            Some(end) => Hosts::Below(end.into()),
            None => Hosts::Name(plain.into()),
        })
    }

    fn read_v6(ip: &str, bits: &str) -> Read<Hosts> {
        if ip.contains('%') {
            return Err("a pattern has no interface: write the address without %...".into());
        }
        let ip: Ipv6Addr = match ip.parse() {
            Ok(ip) => ip,
            Err(_) if ip.contains('/') => {
                return Err("write the bits after the `]`: [ADDRESS]/BITS".into());
            }
            Err(_) => return Err("not an IPv6 address between the brackets".into()),
        };
        if let Some(v4) = ip.to_ipv4_mapped() {
            return Err(format!("an IPv4 address is matched as one: write {v4}"));
        }
        let bits = match bits.strip_prefix('/') {
            Some(bits) => read_bits(bits, 128)?,
            None if bits.is_empty() => 128,
            None => return Err("after the `]` come /BITS and :PORTS".into()),
        };
        let first = ip & Ipv6Addr::from_bits(!mask(bits, 128));
        match first == ip {
            true => Ok(Hosts::V6(ip, bits)),
            false => Err(format!("bits are set behind the first {bits}: write [{first}]/{bits}")),
        }
    }

    /// `name` has passed [`check_name`].
    fn contains_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
        match self {
            Hosts::AnyName => true,
            Hosts::Name(own) => name.eq_ignore_ascii_case(own.as_bytes()),
            // No name begins with the dot, so it is longer.
            Hosts::Below(end) => name
                .len()
                .checked_sub(end.len())
                .is_some_and(|front| name[front..].eq_ignore_ascii_case(end.as_bytes())),
            Hosts::V4(..) | Hosts::V6(..) => false,
        }
    }

    fn contains_address(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Hosts::V4(first, bits), IpAddr::V4(ip)) => {
                (ip.to_bits() ^ first.to_bits()) & !(mask(*bits, 32) as u32) == 0
            }
            (Hosts::V6(first, bits), IpAddr::V6(ip)) => {
                (ip.to_bits() ^ first.to_bits()) & !mask(*bits, 128) == 0
            }
            _ => false,
        }
    }
}

/// The bits behind a prefix, of so many in all.
fn mask(prefix: u8, bits: u8) -> u128 {
    let behind = u32::from(bits - prefix);
    if behind == 128 { u128::MAX } else { (1 << behind) - 1 }
}

fn read_bits(text: &str, most: u8) -> Read<u8> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u8>() {
        Ok(bits) if all_digits && bits <= most => Ok(bits),
        _ => Err(format!("after the / comes a number of bits, 0 to {most}")),
    }
}

/// Ports, in ranges. Invariant: each begins at 1 or above, and not behind its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    ranges: [(u16, u16); RANGES_MAX],
    count: usize,
}

const ALL_PORTS: (u16, u16) = (1, u16::MAX);

impl Ports {
    /// `80,443,8000-8099`, or `*`; `None` is every port as well.
    fn read(text: Option<&str>) -> Read<Ports> {
        const HOW: &str = "ports are like 443, 80-90, 80,443 or *, each 1 to 65535";
        let mut ports = Ports { ranges: [(0, 0); RANGES_MAX], count: 0 };
        for item in text.unwrap_or("*").split(',') {
            let (first, last) = match item.split_once('-') {
                _ if item == "*" => ALL_PORTS,
                Some((first, last)) => (read_port(first).ok_or(HOW)?, read_port(last).ok_or(HOW)?),
                None => (read_port(item).ok_or(HOW)?, read_port(item).ok_or(HOW)?),
            };
            if first > last {
                return Err(format!("ports {first} to {last} are none: write {last}-{first}"));
            }
            let Some(range) = ports.ranges.get_mut(ports.count) else {
                return Err(format!("at most {RANGES_MAX} ports or ranges of them in one pattern"));
            };
            *range = (first, last);
            ports.count += 1;
        }
        Ok(ports)
    }

    fn contains(&self, port: u16) -> bool {
        self.ranges[..self.count].iter().any(|&(first, last)| (first..=last).contains(&port))
    }
}

fn read_port(text: &str) -> Option<u16> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| all_digits && port > 0)
}

/// In full: `10.0.0.1/32:*` of `10.0.0.1`.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::AnyName => f.write_str("*"),
            Hosts::Name(name) => f.write_str(name),
            Hosts::Below(end) => write!(f, "*{end}"),
            Hosts::V4(ip, bits) => write!(f, "{ip}/{bits}"),
            Hosts::V6(ip, bits) => write!(f, "[{ip}]/{bits}"),
        }?;
        for (index, &range) in self.ports.ranges[..self.ports.count].iter().enumerate() {
            f.write_str(if index == 0 { ":" } else { "," })?;
            match range {
                ALL_PORTS => f.write_str("*"),
                (first, last) if first == last => write!(f, "{first}"),
                (first, last) => write!(f, "{first}-{last}"),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "allow_tests.rs"]
mod tests;
