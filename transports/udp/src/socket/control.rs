//! Control messages (cmsg(3)) as bytes: what a datagram is sent with, and what the kernel says of
//! one received. Makes no system call.
//!
//! Invariant: whatever is in the room, reading it ends and stays inside.

use core::ffi::c_int;
use core::mem::offset_of;

/// Room for all that is asked for: UDP_GRO and IP_TOS or IPV6_TCLASS, of 24 bytes each, and
/// IPV6_PKTINFO, of 40.
const ROOM: usize = 128;

const HEADER: usize = size_of::<libc::cmsghdr>();
const LEVEL: usize = offset_of!(libc::cmsghdr, cmsg_level);
const KIND: usize = offset_of!(libc::cmsghdr, cmsg_type);

// The kernel's header: a length of the machine's word, and two numbers, with nothing after them.
static_assertions::const_assert_eq!(LEVEL, size_of::<usize>());
static_assertions::const_assert_eq!(KIND, LEVEL + size_of::<c_int>());
static_assertions::const_assert_eq!(HEADER, KIND + size_of::<c_int>());
// CMSG_DATA is just behind it only where that is aligned.
static_assertions::const_assert_eq!(HEADER % size_of::<usize>(), 0);

/// CMSG_ALIGN.
const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(size_of::<usize>())
}

/// Control messages, one after the other.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control {
    room: [u8; ROOM],
    length: usize,
}

impl Control {
    /// None.
    pub(crate) const fn new() -> Control {
        Control { room: [0; ROOM], length: 0 }
    }

    /// One more, unless there is no room for it.
    pub(crate) fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let length = HEADER + data.len();
        let end = self.length.saturating_add(aligned(length));
        let Some(room) = self.room.get_mut(self.length..end) else {
            return;
        };
        room[..LEVEL].copy_from_slice(&length.to_ne_bytes());
        room[LEVEL..KIND].copy_from_slice(&level.to_ne_bytes());
        room[KIND..HEADER].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER..length].copy_from_slice(data);
        room[length..].fill(0);
        self.length = end;
    }

    /// What was pushed or received.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    /// For the kernel to write to.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    /// So much of it was written.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.min(ROOM);
    }

    /// Each: level, kind, data. O(bytes); ends at the first that is none.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (c_int, c_int, &[u8])> {
        let mut rest = self.bytes();
        core::iter::from_fn(move || {
            let length = usize::from_ne_bytes(*rest.first_chunk()?);
            let level = c_int::from_ne_bytes(*rest.get(LEVEL..)?.first_chunk()?);
            let kind = c_int::from_ne_bytes(*rest.get(KIND..)?.first_chunk()?);
            let data = rest.get(HEADER..length)?;
            rest = rest.get(aligned(length)..).unwrap_or_default();
            Some((level, kind, data))
        })
    }
}

/// A number of the kernel's: IP_TOS has one byte, the others four.
pub(crate) fn number(data: &[u8]) -> u32 {
    match *data {
        [byte] => u32::from(byte),
        [a, b, c, d, ..] => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn what_is_pushed_is_read() {
        let mut control = Control::new();
        control.push(17, 103, &1452u16.to_ne_bytes());
        control.push(41, 50, &[7; 20]);
        let read: Vec<_> = control.messages().collect();
        assert_eq!(read, [(17, 103, &1452u16.to_ne_bytes()[..]), (41, 50, &[7; 20][..])]);
        assert_eq!(control.bytes().len(), 2 * HEADER + aligned(2) + aligned(20));
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let mut control = Control::new();
        for _ in 0..9 {
            control.push(1, 2, &[3; 20]);
        }
        assert_eq!(control.messages().count(), ROOM / (HEADER + aligned(20)));
    }

    #[test]
    fn numbers_have_two_widths() {
        assert_eq!((number(&[3]), number(&7u32.to_ne_bytes()), number(&[])), (3, 7, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes: [u8; 32], length in 0usize..300, first in 0usize..64) {
            let mut control = Control::new();
            for chunk in control.room().chunks_mut(32) {
                chunk.copy_from_slice(&bytes);
            }
            control.room()[..8].copy_from_slice(&(first as u64).to_le_bytes());
            control.set_length(length);
            prop_assert!(control.messages().count() <= ROOM / HEADER);
        }
    }
}
