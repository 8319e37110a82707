//! Notifications, which come in band (RFC 6458 section 6): what they mean for a link. Makes no
//! system call.
//!
//! Invariant: `filled <= HEAD_BYTES`; it is 0 unless a notification is under way.

use crate::kernel::{self, ASSOC_CHANGE_STATE_AT};
use seaprox_proto::carrier::Received;

/// What is kept of a notification: as far as the state of an association, which comes after type,
/// flags and length.
const HEAD_BYTES: usize = ASSOC_CHANGE_STATE_AT + 2;

/// A notification that is being received. It comes in pieces where there was little room: behind
/// most of a packet that is not complete.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notification {
    head: [u8; HEAD_BYTES],
    filled: usize,
}

impl Notification {
    /// Some more bytes of it; `end`: the last. Says what it means when it is whole.
    pub(crate) fn piece(&mut self, bytes: &[u8], end: bool) -> Received {
        let wanted = bytes.len().min(HEAD_BYTES - self.filled);
        self.head[self.filled..self.filled + wanted].copy_from_slice(&bytes[..wanted]);
        self.filled += wanted;
        if !end {
            return Received::Nothing;
        }
        let whole = core::mem::take(self);
        meaning(&whole.head[..whole.filled])
    }
}

/// The kernel writes its own order of bytes.
fn number(head: &[u8], at: usize) -> Option<u16> {
    let bytes = head.get(at..at + 2)?;
    Some(u16::from_ne_bytes([bytes[0], bytes[1]]))
}

fn meaning(head: &[u8]) -> Received {
    match number(head, 0) {
        Some(kernel::SCTP_ASSOC_CHANGE) => match number(head, ASSOC_CHANGE_STATE_AT) {
            Some(kernel::SCTP_COMM_UP) => Received::Up,
            Some(kernel::SCTP_RESTART) => Received::Restarted,
            Some(
                kernel::SCTP_COMM_LOST | kernel::SCTP_SHUTDOWN_COMP | kernel::SCTP_CANT_STR_ASSOC,
            ) => Received::Gone,
            _ => Received::Nothing,
        },
        // The peer takes nothing any more, or a packet will never be whole.
        Some(kernel::SCTP_SHUTDOWN_EVENT | kernel::SCTP_PARTIAL_DELIVERY_EVENT) => Received::Gone,
        _ => Received::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// As the kernel writes it: type, flags, length, then the rest.
    fn notification(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend((8 + rest.len() as u32).to_ne_bytes());
        bytes.extend(rest);
        bytes
    }

    fn change(state: u16) -> Vec<u8> {
        let mut rest = state.to_ne_bytes().to_vec();
        // Error, outbound and inbound streams, association, the ABORT that came.
        rest.extend([0; 10]);
        rest.extend([7; 100]);
        notification(0x8001, &rest)
    }

    #[test]
    fn each_means_what_it_says() {
        for (bytes, expected) in [
            (change(0), Received::Up),
            (change(1), Received::Gone),
            (change(2), Received::Restarted),
            (change(3), Received::Gone),
            (change(4), Received::Gone),
            (change(5), Received::Nothing),
            (notification(0x8002, &[0; 140]), Received::Nothing),
            (notification(0x8005, &[0; 4]), Received::Gone),
            (notification(0x8006, &[0; 16]), Received::Gone),
            (notification(0x8009, &[0; 4]), Received::Nothing),
            (vec![], Received::Nothing),
            (vec![1], Received::Nothing),
            (notification(0x8001, &[]), Received::Nothing),
        ] {
            assert_eq!(Notification::default().piece(&bytes, true), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(state in 0..6u16, cuts in prop::collection::vec(0..9usize, 0..40)) {
            let mut notification = Notification::default();
            // Twice: the second must not see the first.
            for state in [1, state] {
                let bytes = change(state);
                let mut rest = &bytes[..];
                for cut in &cuts {
                    let (piece, others) = rest.split_at(*cut.min(&rest.len()));
                    prop_assert_eq!(notification.piece(piece, false), Received::Nothing);
                    rest = others;
                }
                let whole = Notification::default().piece(&bytes, true);
                prop_assert_eq!(notification.piece(rest, true), whole);
            }
        }
    }
}
