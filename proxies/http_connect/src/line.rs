//! One line of a request's header, as RFC 9112 and RFC 9110 say it is to be read. Knows not which line
//! may come when.

use crate::status::Status;
use base64ct::{Base64, Encoding};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use seaprox::handshake::INPUT_BYTES;
use seaprox::wanted::{Wanted, Wish};

/// Credentials, decoded: three bytes for four characters of a line.
const CREDENTIALS_BYTES_MAX: usize = INPUT_BYTES / 4 * 3;

/// What a request line asks for.
pub(crate) struct Request {
    pub(crate) wish: Wish,
    /// It is HTTP/1.0.
    pub(crate) is_old: bool,
}

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Host,
    /// Proxy-Authorization.
    Password,
    Other,
}

/// A field.
pub(crate) struct Field<'l> {
    pub(crate) line: Line,
    /// Without the whitespace around it.
    pub(crate) value: &'l [u8],
}

/// A byte of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether what has come of a request line may be the beginning of one that is answered kindly.
pub(crate) fn check_method(part: &[u8]) -> Result<(), Status> {
    let method = part.split(|&byte| byte == b' ').next().unwrap_or_default();
    let is_whole = method.len() < part.len();
    // An empty line may be on its way.
    if part == b"\r" || part.is_empty() {
        return Ok(());
    }
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Status::BadRequest);
    }
    if is_whole && method != b"CONNECT" { Err(Status::MethodNotAllowed) } else { Ok(()) }
}

/// `CONNECT host:port HTTP/1.1` (RFC 9112 sections 3 and 3.2.3): one space between them.
pub(crate) fn request(line: &[u8]) -> Result<Request, Status> {
    check_method(line)?;
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    let (Some(target), Some(version), None) = (words.next(), words.next(), words.next()) else {
        return Err(Status::BadRequest);
    };
    let is_old = match version {
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => false,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Status::VersionNotSupported);
        }
        _ => return Err(Status::BadRequest),
    };
    let wish = authority(target).and_then(Wish::new).ok_or(Status::BadRequest)?;
    Ok(Request { wish, is_old })
}

/// `host:port` (RFC 3986 section 3.2, without what comes before an `@`); the port is there, and not 0.
fn authority(target: &[u8]) -> Option<Wanted<'_>> {
    let colon = target.iter().rposition(|&byte| byte == b':')?;
    let (host, port) = (&target[..colon], &target[colon + 1..]);
    let is_number = matches!(port, [_, ..] if port.iter().all(u8::is_ascii_digit));
    let port: u16 = str::from_utf8(port).ok().filter(|_| is_number)?.parse().ok()?;
    if port == 0 {
        return None;
    }
    if let [b'[', ip @ .., b']'] = host {
        let ip: Ipv6Addr = str::from_utf8(ip).ok()?.parse().ok()?;
        return Some(Wanted::Inet(SocketAddr::from((ip, port))));
    }
    let is_host = !host.is_empty() && host.iter().all(|&byte| is_unreserved(byte));
    let host = str::from_utf8(host).ok().filter(|_| is_host)?;
    Some(match host.parse::<Ipv4Addr>() {
        Ok(ip) => Wanted::Inet(SocketAddr::from((ip, port))),
        Err(_) => Wanted::Name(host.as_bytes(), port),
    })
}

/// A byte of a name that stands for itself (RFC 3986 section 2.3). What is escaped or set apart by others
/// is in no name that could be looked up.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A field's name and value (RFC 9112 section 5). There is no space before the colon, and a line that
/// begins with one would go on with the line before: neither is let pass.
pub(crate) fn field(line: &[u8]) -> Result<Field<'_>, Status> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Status::BadRequest)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Status::BadRequest);
    }
    check_value(value)?;
    let line = if name.eq_ignore_ascii_case(b"host") {
        Line::Host
    } else if name.eq_ignore_ascii_case(b"proxy-authorization") {
        Line::Password
    } else {
        Line::Other
    };
    Ok(Field { line, value: value.trim_ascii() })
}

/// A value has no control characters but tabs (RFC 9110 section 5.5): a CR or NUL might end it for
/// somebody else.
pub(crate) fn check_value(value: &[u8]) -> Result<(), Status> {
    match value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control()) {
        true => Ok(()),
        false => Err(Status::BadRequest),
    }
}

/// What may stand in Host: a host and perhaps a port, or nothing (RFC 9110 section 7.2). It is the request
/// line that counts.
pub(crate) fn check_host(value: &[u8]) -> Result<(), Status> {
    let allowed = |&byte: &u8| is_unreserved(byte) || b"[]:%!$&'()*+;=".contains(&byte);
    if value.iter().all(allowed) { Ok(()) } else { Err(Status::BadRequest) }
}

/// Whether `Basic` credentials (RFC 7617 section 2) are permitted: a name, a colon, a password.
pub(crate) fn credentials(value: &[u8], permits: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let Some((scheme, encoded)) = value.split_at_checked(b"Basic ".len()) else { return false };
    let mut room = [0; CREDENTIALS_BYTES_MAX];
    let Ok(decoded) = Base64::decode(encoded.trim_ascii_start(), &mut room) else { return false };
    let Some(colon) = decoded.iter().position(|&byte| byte == b':') else { return false };
    scheme.eq_ignore_ascii_case(b"Basic ") && permits(&decoded[..colon], &decoded[colon + 1..])
}
