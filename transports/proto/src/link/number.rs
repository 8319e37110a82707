//! A channel's number in its handle: its place, its link, and the link's epoch. Knows no link.

use crate::session::Slot;
use seaprox::side::Handle;

const SLOT_BITS: u32 = 16;
const LINK_BITS: u32 = 5;
/// So that no number reaches 2^31 - 1, see [`Handle::channel`].
const EPOCHS: u32 = (1 << (31 - SLOT_BITS - LINK_BITS)) - 1;

/// Links of one transport, at most.
pub const LINKS_MAX: u32 = 1 << LINK_BITS;

/// Which of its transport's links a channel is of.
#[must_use]
pub fn link_of(channel: Handle) -> usize {
    (channel.number() >> SLOT_BITS & (LINKS_MAX - 1)) as usize
}

pub(super) const fn handle_of(link: u32, epoch: u32, slot: Slot) -> Handle {
    Handle::channel((epoch << LINK_BITS | link) << SLOT_BITS | slot.index() as u32)
}

pub(super) const fn epoch_of(channel: Handle) -> u32 {
    channel.number() >> (SLOT_BITS + LINK_BITS)
}

pub(super) const fn slot_of(channel: Handle) -> Slot {
    Slot(channel.number() & ((1 << SLOT_BITS) - 1))
}

/// A link's epoch once it has died.
pub(super) const fn epoch_after(epoch: u32) -> u32 {
    (epoch + 1) % EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_parts() {
        for (link, epoch, slot) in [(0, 0, 0), (LINKS_MAX - 1, EPOCHS - 1, 0xffff), (3, 1, 7)] {
            let handle = handle_of(link, epoch, Slot(slot));
            assert_eq!(handle.fd(), None);
            assert_eq!(link_of(handle), link as usize);
            assert_eq!((epoch_of(handle), slot_of(handle)), (epoch, Slot(slot)));
        }
        assert_eq!(epoch_after(EPOCHS - 1), 0);
    }
}
