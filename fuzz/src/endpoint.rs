//! LISTEN, TARGET and LINK as the user writes them.

use crate::is_one_line;
use seaprox_cli::endpoint::{LINK_HOSTS_MAX, Link, LinkHost, Listen, Refused, Target, UnixPath};
use std::fmt;
use std::net::SocketAddr;

/// What an endpoint is made of, as far as there are rules for it.
struct Parts<'e> {
    inet: Option<SocketAddr>,
    path: Option<&'e UnixPath>,
    /// What stands before the path.
    kind: &'static str,
}

/// Whatever is a LISTEN is shown as one that means the same.
pub fn listen(bytes: &[u8]) {
    shown_and_read_again(bytes, Listen::parse, |listen| match listen {
        Listen::Unix(path) => Parts { inet: None, path: Some(path), kind: "unix:" },
        Listen::Inet(address) => Parts { inet: Some(*address), path: None, kind: "" },
        Listen::Everywhere { .. } | Listen::Descriptor(_) | Listen::Named(_) => {
            Parts { inet: None, path: None, kind: "" }
        }
    });
}

/// Whatever is a TARGET is shown as one that means the same.
pub fn target(bytes: &[u8]) {
    shown_and_read_again(bytes, Target::parse, |target| match target {
        Target::Unix(path) => Parts { inet: None, path: Some(path), kind: "unix:" },
        Target::Inet(address) => Parts { inet: Some(*address), path: None, kind: "" },
        Target::Name { .. } => Parts { inet: None, path: None, kind: "" },
    });
}

/// Whatever is a LINK is shown as one that means the same.
pub fn link(bytes: &[u8]) {
    shown_and_read_again(bytes, Link::parse, |link| match link {
        Link::Seqpacket(path) => Parts { inet: None, path: Some(path), kind: "seqpacket:" },
        Link::Udp { host, port } => {
            assert!(*port > 0);
            let inet = match host {
                Some(LinkHost::Address(address)) => Some(*address),
                Some(LinkHost::Name(_)) | None => None,
            };
            assert!(inet.is_none_or(|address| address.port() == *port), "{inet:?}");
            Parts { inet, path: None, kind: "" }
        }
        Link::Sctp { hosts, port } => {
            assert!(*port > 0 && hosts.len() <= LINK_HOSTS_MAX, "{hosts:?}");
            let mut others = hosts.iter();
            while let Some(host) = others.next() {
                assert!(!others.as_slice().contains(host), "{host} is there twice");
            }
            let mut addresses = hosts.iter().filter_map(|host| match host {
                LinkHost::Address(address) => Some(*address),
                LinkHost::Name(_) => None,
            });
            assert!(addresses.clone().all(|address| address.port() == *port), "{hosts:?}");
            Parts { inet: addresses.next_back(), path: None, kind: "" }
        }
    });
    if let Ok(link) = Link::parse(bytes) {
        for refused in [link.check_peer(), link.check_local()].into_iter().filter_map(Result::err) {
            assert!(is_one_line(&refused.to_string()), "{refused}");
        }
    }
}

fn shown_and_read_again<E: fmt::Debug + fmt::Display + PartialEq>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<E, Refused>,
    parts: impl for<'e> Fn(&'e E) -> Parts<'e>,
) {
    let endpoint = match parse(bytes) {
        Ok(endpoint) => endpoint,
        Err(refused) => {
            assert!(is_one_line(&refused.to_string()), "{refused}");
            assert!(is_one_line(refused.reason()), "{refused}");
            return;
        }
    };
    let shown = endpoint.to_string();
    assert!(is_one_line(&shown), "{shown:?}");
    let Parts { inet, path, kind } = parts(&endpoint);
    // A path of bytes that no line may contain is shown escaped, which is another path.
    let escaped = path.is_some_and(|path| !is_plain(path.as_bytes()));
    assert!(parse(shown.as_bytes()).as_ref() == Ok(&endpoint) || escaped, "{endpoint:?}: {shown}");
    if let Some(address) = inet {
        assert!(address.port() > 0, "{address}");
        assert_eq!(address.ip(), address.ip().to_canonical(), "an IPv6 socket could not use it");
    }
    if let Some(path) = path.map(UnixPath::as_bytes) {
        assert_eq!(Some(path), bytes.strip_prefix(kind.as_bytes()), "a path as it was given");
        assert!(
            (1..=107).contains(&path.len()) && !path.contains(&0),
            "unix(7) knows no such path"
        );
    }
}

fn is_plain(path: &[u8]) -> bool {
    str::from_utf8(path).is_ok_and(is_one_line)
}
