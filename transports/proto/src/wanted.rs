//! Where a channel is to lead, as a value that outlives the packet that said so.

use crate::message::{NAME_BYTES_MAX, Target};

/// Where a channel is to lead, as a value of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    kind: Kind,
    port: u16,
    length: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    V4,
    V6,
    Name,
}

impl Wanted {
    /// The far end's default target.
    pub const DEFAULT: Wanted =
        Wanted { kind: Kind::Service, port: 0, length: 0, bytes: [0; NAME_BYTES_MAX] };

    /// Copies a target; of a name that is longer than a name can be, what fits.
    #[must_use]
    pub fn new(target: Target<'_>) -> Wanted {
        let (kind, bytes, port): (_, &[u8], _) = match &target {
            Target::Service(name) => (Kind::Service, name, 0),
            Target::V4(ip, port) => (Kind::V4, ip, *port),
            Target::V6(ip, port) => (Kind::V6, ip, *port),
            Target::Name(name, port) => (Kind::Name, name, *port),
        };
        let length = bytes.len().min(NAME_BYTES_MAX);
        let mut wanted = Wanted { kind, port, length: length as u8, ..Wanted::DEFAULT };
        wanted.bytes[..length].copy_from_slice(&bytes[..length]);
        wanted
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        let bytes = &self.bytes[..usize::from(self.length)];
        match self.kind {
            Kind::Service => Target::Service(bytes),
            Kind::Name => Target::Name(bytes, self.port),
            Kind::V4 => {
                let [a, b, c, d, ..] = self.bytes;
                Target::V4([a, b, c, d], self.port)
            }
            Kind::V6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&self.bytes[..16]);
                Target::V6(ip, self.port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_the_same() {
        for target in [
            Target::Service(b""),
            Target::Service(b"web"),
            Target::V4([1, 2, 3, 4], 80),
            Target::V6([7; 16], 65535),
            Target::Name(&[b'x'; NAME_BYTES_MAX], 443),
        ] {
            assert_eq!(Wanted::new(target).target(), target);
        }
    }
}
