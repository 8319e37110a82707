//! What a source says it wants, in the words that all proxy types and all dests share: a service, an
//! address, a name. Knows no protocol that says so, and not who may have what.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest name of a host or of a service, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// What a source that lets its clients choose wants. The bytes come from outside.
///
/// ```
/// use seaprox::wanted::Wanted;
///
/// let a_page = Wanted::Name(b"example.org", 80);
/// let an_address = Wanted::Inet("[2001:db8::1]:443".parse().expect("it is one"));
/// let what_the_far_end_has = Wanted::Service(b"");
/// # assert!(a_page != an_address && an_address != what_the_far_end_has);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'w> {
    /// What the service of this name leads to; the empty name is that of the dest's own targets.
    Service(&'w [u8]),
    /// This address.
    Inet(SocketAddr),
    /// Whatever this name leads to, and a port.
    Name(&'w [u8], u16),
}

/// The same as a value of its own, which outlives what said it. All zeroes is [`Wish::DEFAULT`].
///
/// ```
/// use seaprox::wanted::{Wanted, Wish};
///
/// let wish = Wish::new(Wanted::Name(b"example.org", 80)).expect("a name is shorter");
/// assert_eq!(wish.wanted(), Wanted::Name(b"example.org", 80));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    kind: Kind,
    length: u8,
    port: u16,
    peer: Option<u16>,
    bytes: [u8; NAME_BYTES_MAX],
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Service = 0,
    V4,
    V6,
    Name,
}

impl Wish {
    /// The dest's own targets.
    pub const DEFAULT: Wish =
        Wish { kind: Kind::Service, length: 0, port: 0, peer: None, bytes: [0; NAME_BYTES_MAX] };

    /// Copies what is wanted; `None` if its name is longer than [`NAME_BYTES_MAX`]. Of an IPv6
    /// address neither scope nor flow label is kept: those are this host's affair.
    #[must_use]
    pub fn new(wanted: Wanted<'_>) -> Option<Wish> {
        let of = |kind, bytes: &[u8], port| {
            let mut wish =
                Wish { kind, length: u8::try_from(bytes.len()).ok()?, port, ..Wish::DEFAULT };
            wish.bytes[..bytes.len()].copy_from_slice(bytes);
            Some(wish)
        };
        match wanted {
            Wanted::Service(name) => of(Kind::Service, name, 0),
            Wanted::Name(name, port) => of(Kind::Name, name, port),
            Wanted::Inet(SocketAddr::V4(v4)) => of(Kind::V4, &v4.ip().octets(), v4.port()),
            Wanted::Inet(SocketAddr::V6(v6)) => of(Kind::V6, &v6.ip().octets(), v6.port()),
        }
    }

    /// The same, of one of those that its source knows, by a number.
    #[must_use]
    pub const fn by(self, peer: Option<u16>) -> Wish {
        Wish { peer, ..self }
    }

    /// Whose it is; `None`: its source knows nobody.
    #[must_use]
    pub const fn peer(&self) -> Option<u16> {
        self.peer
    }

    /// What is wanted.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        let bytes = &self.bytes[..usize::from(self.length)];
        match self.kind {
            Kind::Service => Wanted::Service(bytes),
            Kind::Name => Wanted::Name(bytes, self.port),
            Kind::V4 => {
                let [a, b, c, d, ..] = self.bytes;
                Wanted::Inet((Ipv4Addr::new(a, b, c, d), self.port).into())
            }
            Kind::V6 => {
                let (ip, _) = self.bytes.as_chunks::<16>();
                Wanted::Inet((Ipv6Addr::from(ip[0]), self.port).into())
            }
        }
    }
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wanted().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_the_same() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for wanted in [
            Wanted::Service(b""),
            Wanted::Service(b"web"),
            Wanted::Inet(address("1.2.3.4:80")),
            Wanted::Inet(address("[2001:db8::7]:65535")),
            Wanted::Name(&[b'x'; NAME_BYTES_MAX], 443),
        ] {
            let wish = Wish::new(wanted).expect("a name is shorter");
            assert_eq!((wish.wanted(), wish.peer()), (wanted, None));
            let wish = wish.by(Some(7));
            assert_eq!((wish.wanted(), wish.peer()), (wanted, Some(7)));
        }
        assert_eq!(Wish::new(Wanted::Name(&[b'x'; NAME_BYTES_MAX + 1], 443)), None);
    }
}
