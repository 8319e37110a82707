//! Where clients come from and where their bytes go, as the user writes it. Any bytes may come in:
//! what is no endpoint is refused with the reason and what to write instead. Knows no socket.

#[cfg(feature = "links")]
mod entrance;
#[cfg(feature = "links")]
mod link;

#[cfg(feature = "links")]
pub use entrance::Entrance;
#[cfg(feature = "links")]
pub use link::{LINK_HOSTS_MAX, Link, LinkHost};

use crate::shown::{Shown, write_whole};
use crate::sys;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name's longest form in text (RFC 1035 section 2.3.4: 255 octets on the wire, less the first
/// length and the root).
const NAME_BYTES_MAX: usize = 253;
/// RFC 1035 section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;
/// unix(7): `sun_path` has 108 bytes, and a path ends in NUL.
const PATH_BYTES_MAX: usize = 107;
/// sd_listen_fds(3).
const DESCRIPTOR_NAME_BYTES_MAX: usize = 255;

/// Text that is not what it should be: which, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    argument: String,
    reason: String,
}

impl Refused {
    /// `argument` is refused for `reason`.
    pub fn new(argument: &[u8], reason: impl Into<String>) -> Self {
        Refused { argument: Shown(argument).to_string(), reason: reason.into() }
    }

    /// The same of an option's value.
    pub(crate) fn of_option(self, option: &str) -> Self {
        Refused { argument: format!("{option} {}", self.argument), reason: self.reason }
    }

    /// Why, and what to do, without the argument.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.argument, self.reason)
    }
}

/// What may go wrong inside: the reason alone.
type Read<T> = Result<T, String>;

/// Where clients come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `:8080`: every address, IPv6 and IPv4 through one socket, or IPv4 where there is no IPv6.
    Everywhere {
        /// 1..=65535.
        port: u16,
    },
    /// `127.0.0.1:8080`, or `[::]:8080`, which is IPv6 only.
    Inet(SocketAddr),
    /// `unix:/path`, `unix:@abstract`.
    Unix(UnixPath),
    /// `fd:3`: a listening socket that was open when the program started.
    Descriptor(i32),
    /// `fd:NAME`: the one that LISTEN_FDNAMES calls so (sd_listen_fds(3)).
    Named(String),
}

/// Where a client's bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `example.org:80`, looked up for each connection.
    Name {
        /// A host name in its ASCII form, 1..=254 bytes with its final dot.
        name: String,
        /// 1..=65535.
        port: u16,
    },
    /// `1.2.3.4:80`, `[::1]:80`, `[fe80::1%eth0]:80`.
    Inet(SocketAddr),
    /// `unix:/path`, `unix:@abstract`.
    Unix(UnixPath),
}

/// The path of a unix socket; one that begins with `@` is in the abstract namespace (unix(7)).
/// Invariant: 1 ..= 107 bytes, none of them NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPath(Box<[u8]>);

impl UnixPath {
    /// The path as the system takes it, the `@` in front of an abstract one.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is a name in the abstract namespace, and no file.
    pub fn is_abstract(&self) -> bool {
        self.0.starts_with(b"@")
    }

    /// As a path of the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// `kind`: what stands before the path.
    fn read(kind: &str, path: &[u8]) -> Read<UnixPath> {
        match path {
            [] => Err(format!("no path: write {kind}:/path")),
            [b'@'] => Err(format!("no name after the @: write {kind}:@name")),
            _ if path.contains(&0) => Err("a path cannot contain a NUL byte".into()),
            _ if path.len() > PATH_BYTES_MAX => {
                Err(format!("the path is too long: at most {PATH_BYTES_MAX} bytes"))
            }
            _ => Ok(UnixPath(path.into())),
        }
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_whole(f, &self.0)
    }
}

impl Listen {
    /// Reads a LISTEN, or says why not.
    pub fn parse(text: &[u8]) -> Result<Listen, Refused> {
        Self::read(text).map_err(|reason| Refused::new(text, reason))
    }

    fn read(text: &[u8]) -> Read<Listen> {
        if let Some(path) = text.strip_prefix(b"unix:") {
            return UnixPath::read("unix", path).map(Listen::Unix);
        }
        if let Some(which) = text.strip_prefix(b"fd:") {
            return Self::read_descriptor(which);
        }
        for talk in ["socks5:", "http:"] {
            let rest = text.strip_prefix(talk.as_bytes());
            if rest.is_some_and(|rest| !rest.starts_with(b"//")) {
                return Err(format!(
                    "{talk} stands once, before a LISTEN of an ingress; `seaprox {} LISTEN` connects \
                     clients itself",
                    talk.trim_end_matches(':')
                ));
            }
        }
        let (host, port) = read_host_port(text)?;
        match host {
            Host::Empty => Ok(Listen::Everywhere { port }),
            Host::Number(address) => Ok(Listen::Inet(address)),
            Host::Name("*") => Err(format!("write :{port} to listen on every address")),
            Host::Name(_) => Err(format!(
                "a name cannot be listened on: write an address, like 127.0.0.1:{port} or \
                 [::1]:{port}, or :{port} for every one"
            )),
        }
    }

    fn read_descriptor(which: &[u8]) -> Read<Listen> {
        if !which.is_empty() && which.iter().all(u8::is_ascii_digit) {
            let number = read_number(which).and_then(|number| i32::try_from(number).ok());
            return match number {
                Some(0..=2) => {
                    Err("descriptors 0, 1 and 2 are the standard streams: write fd:3".into())
                }
                Some(number) => Ok(Listen::Descriptor(number)),
                None => Err("no descriptor has so large a number".into()),
            };
        }
        // sd_listen_fds(3): any ASCII but control characters and ':'.
        let allowed = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b':';
        if which.is_empty() {
            Err("no descriptor: write fd:3, or fd:NAME as in LISTEN_FDNAMES".into())
        } else if which.len() > DESCRIPTOR_NAME_BYTES_MAX || !which.iter().all(allowed) {
            Err("not a name of LISTEN_FDNAMES: at most 255 ASCII characters, no `:`".into())
        } else {
            Ok(Listen::Named(String::from_utf8_lossy(which).into_owned()))
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Everywhere { port } => write!(f, ":{port}"),
            Listen::Inet(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{path}"),
            Listen::Descriptor(number) => write!(f, "fd:{number}"),
            Listen::Named(name) => write!(f, "fd:{name}"),
        }
    }
}

impl Target {
    /// Reads a TARGET, or says why not.
    pub fn parse(text: &[u8]) -> Result<Target, Refused> {
        Self::read(text).map_err(|reason| Refused::new(text, reason))
    }

    fn read(text: &[u8]) -> Read<Target> {
        if let Some(path) = text.strip_prefix(b"unix:") {
            return UnixPath::read("unix", path).map(Target::Unix);
        }
        if text.starts_with(b"fd:") {
            return Err("a target is NAME:PORT, ADDRESS:PORT or unix:/path".into());
        }
        let (host, port) = read_host_port(text)?;
        match host {
            Host::Empty => Err(format!("no host: write NAME:{port} or 127.0.0.1:{port}")),
            Host::Number(address) => Ok(Target::Inet(address)),
            Host::Name(name) => {
                check_name(name)?;
                Ok(Target::Name { name: name.into(), port })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Name { name, port } => write!(f, "{name}:{port}"),
            Target::Inet(address) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

enum Host<'t> {
    Empty,
    Number(SocketAddr),
    Name(&'t str),
}

fn read_host_port(text: &[u8]) -> Read<(Host<'_>, u16)> {
    let text = str::from_utf8(text).map_err(|_| "not UTF-8")?;
    if text.is_empty() {
        return Err("empty: write HOST:PORT".into());
    }
    if text.contains("://") {
        return Err("a URL: write HOST:PORT, without what is before and after".into());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("no `]`: write [ADDRESS]:PORT")?;
        let port = port.strip_prefix(':').ok_or("no port: write [ADDRESS]:PORT")?;
        let (ip, scope_id) = read_ipv6(host)?;
        return Ok((Host::Number(canonical(ip, read_port(port)?, scope_id)), read_port(port)?));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let is_port = text.bytes().all(|byte| byte.is_ascii_digit());
        return Err(if is_port {
            format!("no host: write :{text} or 127.0.0.1:{text}")
        } else {
            format!("no port: write {}:PORT", Shown(text.as_bytes()))
        });
    };
    if host.contains(':') {
        return Err("an IPv6 address goes in brackets: write [ADDRESS]:PORT".into());
    }
    let port = read_port(port)?;
    if host.is_empty() {
        return Ok((Host::Empty, port));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok((Host::Number(SocketAddr::from((ip, port))), port));
    }
    if is_meant_as_address(host) {
        return Err("not an IPv4 address: four numbers from 0 to 255, like 127.0.0.1".into());
    }
    Ok((Host::Name(host), port))
}

fn read_port(port: &str) -> Read<u16> {
    const RANGE: &str = "a port is 1 to 65535";
    if port.is_empty() {
        return Err(format!("no port after the `:`: {RANGE}"));
    }
    match read_number(port.as_bytes()) {
        Some(number @ 1..=65535) => Ok(number as u16),
        _ => Err(format!("port {}: {RANGE}", Shown(port.as_bytes()))),
    }
}

/// Digits only: no sign, no space, nothing empty.
fn read_number(digits: &[u8]) -> Option<u32> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
}

fn read_ipv6(host: &str) -> Read<(Ipv6Addr, u32)> {
    let (ip, scope) = match host.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (host, None),
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| match ip.parse::<Ipv4Addr>() {
        Ok(_) => "an IPv4 address goes without brackets: write ADDRESS:PORT",
        Err(_) => "not an IPv6 address between the brackets",
    })?;
    let Some(scope) = scope else { return Ok((ip, 0)) };
    let unknown = || format!("no interface `{}`: `ip link` lists them", Shown(scope.as_bytes()));
    let number = match read_number(scope.as_bytes()) {
        Some(number) => Some(number).filter(|number| sys::interface_exists(*number)),
        None => CString::new(scope).ok().and_then(|scope| sys::interface_number(&scope)),
    };
    Ok((ip, number.ok_or_else(unknown)?))
}

/// An IPv4 address written as an IPv6 one is IPv4: an IPv6-only socket could not use it.
fn canonical(ip: Ipv6Addr, port: u16, scope_id: u32) -> SocketAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, port)),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope_id).into(),
    }
}

/// The resolver would take 1.2.3 and 0x7f.1 for addresses (inet_aton(3)), and no top-level domain is
/// a number: so what ends in one, with or without a final dot, was meant as an address.
pub(crate) fn is_meant_as_address(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or("").as_bytes();
    let digits = last.iter().all(u8::is_ascii_digit);
    let hexadecimal = matches!(last, [b'0', b'x' | b'X', ..]);
    !last.is_empty() && (digits || hexadecimal)
}

/// Why a resolver may not be asked for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadName {
    NotAscii,
    Contains(u8),
    TooLong,
    NothingBetweenDots,
    LongPart,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadName::NotAscii => f.write_str("a name is written in its ASCII form, `xn--...`"),
            BadName::Contains(bad) => write!(f, "no name contains `{}`", Shown(&[*bad])),
            BadName::TooLong => {
                write!(f, "the name is too long: at most {NAME_BYTES_MAX} characters")
            }
            BadName::NothingBetweenDots => f.write_str("nothing between two dots of the name"),
            BadName::LongPart => write!(
                f,
                "a part of the name is too long: at most {LABEL_BYTES_MAX} characters between dots"
            ),
        }
    }
}

impl From<BadName> for String {
    fn from(bad: BadName) -> String {
        bad.to_string()
    }
}

/// Whether a resolver may be asked for this name. Underscores are common in private zones. Allocates
/// nothing.
pub(crate) fn check_name(name: &str) -> Result<(), BadName> {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_ascii() {
        return Err(BadName::NotAscii);
    }
    if let Some(bad) = name.bytes().find(|byte| !allowed(*byte)) {
        return Err(BadName::Contains(bad));
    }
    if labels.len() > NAME_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    if labels.split('.').any(str::is_empty) {
        return Err(BadName::NothingBetweenDots);
    }
    if labels.split('.').any(|label| label.len() > LABEL_BYTES_MAX) {
        return Err(BadName::LongPart);
    }
    Ok(())
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
