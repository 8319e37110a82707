//! `--allow PATTERN`, and what it permits.

use crate::is_one_line;
use seaprox_cli::allow::{Allowed, PATTERNS_MAX, Pattern};
use std::net::{IpAddr, SocketAddr};

/// Lines: patterns, and last what is asked for, a name or an address and a port. A pattern is shown
/// as one that reads as the same; and what is permitted is what the patterns say as they are shown,
/// read as simply as can be.
pub fn allow(bytes: &[u8]) {
    let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    let wanted = lines.pop().and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
    let mut shown = Vec::new();
    for line in lines.iter().take(PATTERNS_MAX) {
        match Pattern::parse(line) {
            Ok(pattern) => {
                shown.push(pattern.to_string());
                assert!(is_one_line(&shown[shown.len() - 1]), "{pattern:?}");
                assert_eq!(Pattern::parse(pattern.to_string().as_bytes()), Ok(pattern));
            }
            Err(refused) => assert!(is_one_line(&refused.to_string()), "{refused}"),
        }
    }
    let allowed = Allowed::parse(shown.iter().map(|pattern| pattern.as_bytes())).unwrap();
    assert_eq!(allowed.patterns().len(), shown.len());
    if let Ok(address) = wanted.parse::<SocketAddr>() {
        let ip = address.ip().to_canonical();
        let permits = shown.iter().any(|pattern| {
            let (hosts, ports) = pattern.rsplit_once(':').unwrap();
            has_address(hosts, ip) && has_port(ports, address.port())
        });
        assert_eq!(allowed.permits_address(address), permits, "{address} of {shown:?}");
    }
    if let Some((name, port)) = wanted.rsplit_once(':')
        && let Ok(port) = port.parse()
    {
        let permits = is_name(name)
            && shown.iter().any(|pattern| {
                let (hosts, ports) = pattern.rsplit_once(':').unwrap();
                has_name(hosts, name) && has_port(ports, port)
            });
        assert_eq!(allowed.permits_name(name, port), permits, "{name} of {shown:?}");
        // Whatever a resolver could take for an address.
        assert!(!permits || name.parse::<IpAddr>().is_err() && name.parse::<u64>().is_err());
    }
}

fn has_port(ports: &str, port: u16) -> bool {
    port > 0
        && ports.split(',').any(|range| match range.split_once('-') {
            Some((first, last)) => {
                (first.parse().unwrap()..=last.parse::<u16>().unwrap()).contains(&port)
            }
            None => range == "*" || range.parse() == Ok(port),
        })
}

/// Bit by bit.
fn has_address(hosts: &str, ip: IpAddr) -> bool {
    let Some((first, bits)) = hosts.split_once('/') else { return false };
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let first = octets(first.trim_matches(['[', ']']).parse().unwrap());
    let ip = octets(ip);
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    first.len() == ip.len() && (0..bits.parse().unwrap()).all(|at| bit(&first, at) == bit(&ip, at))
}

fn has_name(hosts: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match hosts.strip_prefix('*') {
        Some("") => true,
        Some(end) => name.strip_suffix(end).is_some_and(|front| !front.is_empty()),
        None => !hosts.contains('/') && name == hosts,
    }
}

/// RFC 1035 section 2.3.1, with digits and underscores anywhere, but no number last.
fn is_name(name: &str) -> bool {
    let labels: Vec<_> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let last = labels[labels.len() - 1];
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.get(..2).is_some_and(|front| front.eq_ignore_ascii_case("0x"));
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    labels.iter().all(is_label) && labels.join(".").len() <= 253 && !number
}
