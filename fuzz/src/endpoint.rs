//! LISTEN and TARGET as the user writes them.

use crate::is_one_line;
use seaprox_cli::endpoint::{Listen, Refused, Target, UnixPath};
use std::fmt;
use std::net::SocketAddr;

/// What an endpoint is made of, as far as there are rules for it.
struct Parts<'e> {
    inet: Option<SocketAddr>,
    path: Option<&'e UnixPath>,
}

/// Whatever is a LISTEN is shown as one that means the same.
pub fn listen(bytes: &[u8]) {
    shown_and_read_again(bytes, Listen::parse, |listen| match listen {
        Listen::Unix(path) => Parts { inet: None, path: Some(path) },
        Listen::Inet(address) => Parts { inet: Some(*address), path: None },
        Listen::Everywhere { .. } | Listen::Descriptor(_) | Listen::Named(_) => {
            Parts { inet: None, path: None }
        }
    });
}

/// Whatever is a TARGET is shown as one that means the same.
pub fn target(bytes: &[u8]) {
    shown_and_read_again(bytes, Target::parse, |target| match target {
        Target::Unix(path) => Parts { inet: None, path: Some(path) },
        Target::Inet(address) => Parts { inet: Some(*address), path: None },
        Target::Name { .. } => Parts { inet: None, path: None },
    });
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
    let Parts { inet, path } = parts(&endpoint);
    // A path of bytes that no line may contain is shown escaped, which is another path.
    let escaped = path.is_some_and(|path| !is_plain(path.as_bytes()));
    assert!(parse(shown.as_bytes()).as_ref() == Ok(&endpoint) || escaped, "{endpoint:?}: {shown}");
    if let Some(address) = inet {
        assert!(address.port() > 0, "{address}");
        assert_eq!(address.ip(), address.ip().to_canonical(), "an IPv6 socket could not use it");
    }
    if let Some(path) = path.map(UnixPath::as_bytes) {
        assert_eq!(Some(path), bytes.strip_prefix(b"unix:"), "a path as it was given");
        assert!(
            (1..=107).contains(&path.len()) && !path.contains(&0),
            "unix(7) knows no such path"
        );
    }
}

fn is_plain(path: &[u8]) -> bool {
    str::from_utf8(path).is_ok_and(is_one_line)
}
