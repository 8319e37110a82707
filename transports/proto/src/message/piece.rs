//! DATA with an offset, cut and put together: for carriers whose datagrams are shorter than the link's
//! packets. See `wire.rs` for the layout, of which this is a part.

use super::wire::{DATA, OFFSET};
use super::{Malformed, OFFSET_HEADER_BYTES as HEADER_BYTES};

/// DATA with an offset, which is at least its header long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'m> {
    head: [u8; HEADER_BYTES],
    /// What it carries.
    pub bytes: &'m [u8],
}

impl<'m> Piece<'m> {
    /// The first message of these, if it is DATA with an offset. O(1).
    ///
    /// # Errors
    /// It is, but not whole.
    pub fn parse(rest: &'m [u8]) -> Result<Option<Piece<'m>>, Malformed> {
        if !matches!(rest, [DATA, flags, ..] if flags & OFFSET != 0) {
            return Ok(None);
        }
        let (head, rest) = rest.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let bytes = rest.get(..length).ok_or(Malformed)?;
        Ok(Some(Piece { head: *head, bytes }))
    }

    /// Bytes of the message.
    #[must_use]
    pub const fn length(&self) -> usize {
        HEADER_BYTES + self.bytes.len()
    }

    fn offset(&self) -> u32 {
        let [.., o0, o1, o2, o3] = self.head;
        u32::from_le_bytes([o0, o1, o2, o3])
    }

    /// The same with other bytes, from so many later on; what belongs to the end is left to the last.
    fn part(&self, bytes: &'m [u8], later: usize, is_last: bool) -> Piece<'m> {
        let [kind, flags, _, _, c0, c1, c2, c3, ..] = self.head;
        let flags = if is_last { flags } else { OFFSET };
        let [b0, b1] = (bytes.len() as u16).to_le_bytes();
        let [o0, o1, o2, o3] = self.offset().wrapping_add(later as u32).to_le_bytes();
        Piece { head: [kind, flags, b0, b1, c0, c1, c2, c3, o0, o1, o2, o3], bytes }
    }

    /// Two that say the same, the first with at most so many bytes.
    #[must_use]
    pub fn split(&self, bytes: usize) -> (Piece<'m>, Piece<'m>) {
        let (now, later) = self.bytes.split_at(bytes.min(self.bytes.len()));
        (self.part(now, 0, false), self.part(later, now.len(), true))
    }

    /// Writes it at the start of `out`; `None`: there is no room.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.length())?;
        out[..HEADER_BYTES].copy_from_slice(&self.head);
        out[HEADER_BYTES..].copy_from_slice(self.bytes);
        Some(self.length())
    }

    /// The header of one message that says what this one and `next` say, if there is one: `next` goes on
    /// where this one ends.
    #[must_use]
    pub fn joined(&self, next: &Piece<'_>) -> Option<[u8; HEADER_BYTES]> {
        let bytes = u16::try_from(self.bytes.len() + next.bytes.len()).ok()?;
        let expected = self.part(self.bytes, self.bytes.len(), false);
        // Of the same channel, where this one ends; and this one is not the last.
        let goes_on = next.head[4..] == expected.head[4..] && self.head[1] == OFFSET;
        let [b0, b1] = bytes.to_le_bytes();
        let mut head = self.head;
        (head[1], head[2], head[3]) = (next.head[1], b0, b1);
        goes_on.then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u8, offset: u32, bytes: &[u8]) -> std::vec::Vec<u8> {
        let [b0, b1] = (bytes.len() as u16).to_le_bytes();
        let mut message = std::vec![DATA, flags, b0, b1, 9, 8, 7, 6];
        message.extend(offset.to_le_bytes());
        message.extend(bytes);
        message
    }

    #[test]
    fn what_was_split_is_joined_again_wherever() {
        let whole = message(0b011, u32::MAX - 1, b"abcde");
        let piece = Piece::parse(&whole).unwrap().unwrap();
        for at in 0..=5 {
            let (now, later) = piece.split(at);
            assert_eq!((now.bytes, later.bytes), b"abcde".split_at(at));
            let mut out = [0; 64];
            let length = now.emit(&mut out).unwrap();
            assert_eq!(out[..length], message(0b010, u32::MAX - 1, &b"abcde"[..at]));
            assert_eq!(later.emit(&mut out[..later.length() - 1]), None);
            assert_eq!(later.emit(&mut out), Some(later.length()));
            let last = (u32::MAX - 1).wrapping_add(at as u32);
            assert_eq!(out[..later.length()], message(0b011, last, &b"abcde"[at..]));
            assert_eq!(now.joined(&later).unwrap(), whole[..HEADER_BYTES]);
            assert_eq!(later.joined(&now), None);
        }
    }

    #[test]
    fn nothing_follows_the_last_nor_another_channels() {
        let (one, end) = (message(0b010, 0, b"ab"), message(0b011, 2, b"c"));
        let mut other = message(0b010, 2, b"c");
        let pieces = [&one, &end, &other].map(|m| Piece::parse(m).unwrap().unwrap());
        assert!(pieces[0].joined(&pieces[1]).is_some() && pieces[0].joined(&pieces[2]).is_some());
        let after = message(0b010, 3, b"d");
        assert_eq!(pieces[1].joined(&Piece::parse(&after).unwrap().unwrap()), None);
        other[4] ^= 1;
        let other = Piece::parse(&other).unwrap().unwrap();
        assert_eq!(Piece::parse(&one).unwrap().unwrap().joined(&other), None);
    }

    #[test]
    fn others_are_none_and_a_part_is_an_error() {
        let whole = message(0b010, 0, b"ab");
        assert_eq!(Piece::parse(&[]), Ok(None));
        assert_eq!(Piece::parse(&[DATA, 1, 0, 0]), Ok(None));
        for cut in 2..whole.len() {
            assert_eq!(Piece::parse(&whole[..cut]), Err(Malformed));
        }
    }
}
