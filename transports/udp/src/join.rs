//! Messages of several datagrams, put together as one packet for the link: DATA that continues DATA
//! becomes one message, so what came in pieces is passed on in one.
//!
//! Invariant: `out[..filled]` is whole messages; `last` is where the last of them begins, if it is DATA.

use seaprox_proto::message::{self, Malformed, Piece};

/// A packet that is being put together.
pub(crate) struct Join<'o> {
    out: &'o mut [u8],
    filled: usize,
    last: Option<usize>,
}

impl<'o> Join<'o> {
    /// An empty one, into which so many bytes fit.
    pub(crate) fn new(out: &'o mut [u8]) -> Join<'o> {
        Join { out, filled: 0, last: None }
    }

    /// Bytes of it.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.filled
    }

    /// Bytes that still fit.
    #[must_use]
    pub(crate) fn room(&self) -> usize {
        self.out.len() - self.filled
    }

    /// Adds the first message of these bytes, for which there must be room, and gives how long it was.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn add(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let Some(piece) = Piece::parse(rest)? else {
            let (_, length) = message::parse(rest)?;
            self.last = None;
            return self.append(&rest[..length]);
        };
        let before = self.last.map(|last| &self.out[last..self.filled]);
        let before = before.and_then(|before| Piece::parse(before).ok().flatten());
        if let Some(joined) = before.and_then(|before| before.joined(&piece))
            && let Some(last) = self.last
        {
            self.append(piece.bytes)?;
            self.out[last..last + joined.len()].copy_from_slice(&joined);
        } else {
            self.last = Some(self.filled);
            self.append(&rest[..piece.length()])?;
        }
        Ok(piece.length())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let room = self.out.get_mut(self.filled..self.filled + bytes.len()).ok_or(Malformed)?;
        room.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(bytes.len())
    }
}
