//! Addresses and other words as C writes and reads them. Knows no socket but to ask for its address.

use arrayvec::{ArrayString, ArrayVec};
use core::fmt::{self, Write as _};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use rustix::fd::BorrowedFd;
use seaprox::sys::{Errno, OwnedFd, Peer};
use seaprox_tcp::ListenOptions;

/// The longest path of a unix socket (unix(7), sun_path).
pub(crate) const PATH_BYTES_MAX: usize = 107;

/// Where a socket is, as a value of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An internet address.
    Inet(SocketAddr),
    /// A path; a leading `@` means the abstract namespace.
    Unix(ArrayVec<u8, PATH_BYTES_MAX>),
}

impl Place {
    /// `1.2.3.4:80`, `[::1]:80` or `unix:/path`: no names, which somebody would have to look up.
    ///
    /// # Errors
    /// EINVAL: none of these, or port 0. ENAMETOOLONG.
    pub(crate) fn read(text: &[u8]) -> Result<Place, Errno> {
        match unix(text) {
            Some(path) => path.map(Place::Unix),
            None => match inet(text)? {
                address if address.port() == 0 => Err(Errno::INVAL),
                address => Ok(Place::Inet(address)),
            },
        }
    }

    /// As the kernel wants it.
    pub(crate) fn peer(&self) -> Peer<'_> {
        match self {
            Place::Inet(address) => Peer::Inet(*address),
            Place::Unix(path) => Peer::Unix(path),
        }
    }
}

fn unix(text: &[u8]) -> Option<Result<ArrayVec<u8, PATH_BYTES_MAX>, Errno>> {
    text.strip_prefix(b"unix:").map(path)
}

/// A path of a unix socket.
///
/// # Errors
/// EINVAL: it is empty. ENAMETOOLONG.
pub(crate) fn path(text: &[u8]) -> Result<ArrayVec<u8, PATH_BYTES_MAX>, Errno> {
    match text {
        b"" | b"@" => Err(Errno::INVAL),
        path => ArrayVec::try_from(path).map_err(|_| Errno::NAMETOOLONG),
    }
}

/// Every address of this machine, and this port.
///
/// # Errors
/// EINVAL: it is no port.
pub(crate) fn everywhere(port: &[u8]) -> Result<SocketAddr, Errno> {
    let port = str::from_utf8(port).ok().filter(|port| !port.starts_with('+'));
    let port: u16 = port.and_then(|port| port.parse().ok()).ok_or(Errno::INVAL)?;
    Ok((Ipv6Addr::UNSPECIFIED, port).into())
}

/// An address and a port.
///
/// # Errors
/// EINVAL: it is none.
pub(crate) fn inet(text: &[u8]) -> Result<SocketAddr, Errno> {
    let text = str::from_utf8(text).map_err(|_| Errno::INVAL)?;
    text.parse().map_err(|_| Errno::INVAL)
}

/// Opens a listener: what [`Place::read`] reads, also with port 0, and `:80`, which is every address
/// of this machine.
///
/// # Errors
/// EINVAL, ENAMETOOLONG, or what the kernel says: EADDRINUSE, EACCES ..
pub(crate) fn listen(text: &[u8], buffer_bytes: Option<usize>) -> Result<OwnedFd, Errno> {
    let options = |v6_only| ListenOptions { v6_only, buffer_bytes };
    if let Some(path) = unix(text) {
        return seaprox_tcp::listen_unix(&path?, options(false));
    }
    let Some(port) = text.strip_prefix(b":") else {
        return seaprox_tcp::listen(inet(text)?, options(true));
    };
    let everywhere = everywhere(port)?;
    match seaprox_tcp::listen(everywhere, options(false)) {
        // There is no IPv6 here.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            let port = everywhere.port();
            seaprox_tcp::listen((Ipv4Addr::UNSPECIFIED, port).into(), options(true))
        }
        other => other,
    }
}

/// Where a socket is (getsockname(2)), in the words that `listen` reads; `unix` alone of a path.
pub(crate) fn place_of(socket: BorrowedFd<'_>) -> Result<impl fmt::Display, Errno> {
    let local = rustix::net::getsockname(socket)?;
    let mut words = ArrayString::<128>::new();
    // No address is as long.
    let _ = match SocketAddr::try_from(local) {
        Ok(address) => write!(words, "{address}"),
        Err(_) => write!(words, "unix"),
    };
    Ok(words)
}

/// Puts words into a caller's room, which it has filled with zeroes, always with a zero at the end.
///
/// # Errors
/// ENOSPC: some of them had no room.
pub(crate) fn put(room: &mut [u8], words: impl fmt::Display) -> Result<(), Errno> {
    let Some((_, room)) = room.split_last_mut() else { return Err(Errno::INVAL) };
    write!(Cut(room), "{words}").map_err(|_| Errno::NOSPC)
}

/// What is left of a caller's room.
struct Cut<'r>(&'r mut [u8]);

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(self.0.len());
        let (now, later) = core::mem::take(&mut self.0).split_at_mut(fits);
        now.copy_from_slice(&text.as_bytes()[..fits]);
        self.0 = later;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_literal() {
        let inet = |text: &str| Ok(Place::Inet(text.parse().unwrap()));
        assert_eq!(Place::read(b"1.2.3.4:80"), inet("1.2.3.4:80"));
        assert_eq!(Place::read(b"[::1]:80"), inet("[::1]:80"));
        let path = |text: &[u8]| Ok(Place::Unix(text.try_into().unwrap()));
        assert_eq!(Place::read(b"unix:/tmp/\xff"), path(b"/tmp/\xff"));
        assert_eq!(Place::read(b"unix:@name"), path(b"@name"));
        for none in [
            "",
            ":80",
            "1.2.3.4",
            "1.2.3.4:0",
            "a:80",
            "1.2.3.4:65536",
            "unix:",
            "unix:@",
            "::1:80",
        ] {
            assert_eq!(Place::read(none.as_bytes()), Err(Errno::INVAL), "{none}");
        }
        let long = [b"unix:/".as_slice(), &[b'x'; PATH_BYTES_MAX]].concat();
        assert_eq!(Place::read(&long), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn words_are_cut_and_always_end() {
        let mut room = [0xff; 8];
        room.fill(0);
        assert_eq!(put(&mut room, "1234567"), Ok(()));
        assert_eq!(&room, b"1234567\0");
        room.fill(0);
        assert_eq!(put(&mut room, format_args!("{}-{}", 12345, 678)), Err(Errno::NOSPC));
        assert_eq!(&room, b"12345-6\0");
        assert_eq!(put(&mut [0], ""), Ok(()));
        assert_eq!(put(&mut [0], "x"), Err(Errno::NOSPC));
    }
}
