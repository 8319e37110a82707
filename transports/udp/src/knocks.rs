//! Who has asked for a link with keys, was answered, and has not shown yet that it has the keys: it may be
//! somebody who repeats an INIT. Knows no link, and takes none.
//!
//! Invariant: of one peer's index there is one knock at most, and none stays longer than
//! [`KNOCK_MICROS`] once anybody looks.

use crate::packet::{Kind, Mode, Parts, kind_of, take_apart};
use crate::slots::DATAGRAM_BYTES_MAX;
use crate::socket::Path;
use crate::time::Micros;
use arrayvec::ArrayVec;
use core::fmt;
use seaprox_noise::agreed::Agreed;
use seaprox_noise::peers::PeerNumber;

/// Knocks of one hub, at most: one more takes the place of the oldest.
pub const KNOCKS_MAX: usize = 16;

/// How long one is waited for, in microseconds: it has the answer after half a round trip, speaks at once,
/// and repeats what is lost.
pub const KNOCK_MICROS: u64 = 5_000_000;

/// Somebody who was answered.
pub(crate) struct Knock {
    pub(crate) peer: PeerNumber,
    /// Where the INIT came from. Who has the keys got the answer, which went there.
    pub(crate) path: Path,
    pub(crate) agreed: Agreed,
    pub(crate) at: Micros,
}

/// All of one hub's, the oldest first. About 24 KiB.
pub struct Knocks(ArrayVec<Knock, KNOCKS_MAX>);

impl Knocks {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Knocks(ArrayVec::new_const())
    }

    /// Nobody again.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// By which those who knocked know the links that they may have.
    pub(crate) fn indices(&self) -> ArrayVec<u32, KNOCKS_MAX> {
        self.0.iter().map(|knock| knock.agreed.own_index).collect()
    }

    /// One more, instead of one of the same peer and index of before, whose answer was lost.
    pub(crate) fn put(&mut self, knock: Knock) {
        let name = |knock: &Knock| (knock.peer, knock.agreed.peer_index);
        let is_again = |other: &mut Knock| name(other) == name(&knock);
        self.0.retain(|other| !is_again(other));
        if self.0.is_full() {
            drop(self.0.remove(0));
        }
        self.0.push(knock);
    }

    /// Forgets those that have not come back.
    pub(crate) fn expire(&mut self, now: Micros) {
        self.0.retain(|knock| now.since(knock.at) < KNOCK_MICROS);
    }

    /// Whose packet this is, if it opens with the keys of a knock. The packet is left as it is.
    pub(crate) fn find(&self, datagram: &[u8]) -> Option<u32> {
        let mut copy = [0; DATAGRAM_BYTES_MAX];
        let copy = copy.get_mut(..datagram.len())?;
        copy.copy_from_slice(datagram);
        kind_of(Mode::Keyed, copy).filter(|&kind| kind == Kind::Data)?;
        let Parts { header, head, body, tag } = take_apart(copy)?;
        let is_its = |knock: &&Knock| knock.agreed.own_index == header.receiver;
        let Agreed { keys, .. } = &self.0.iter().find(is_its)?.agreed;
        keys.opens(header.key_slot, header.number, head, body, tag).then_some(header.receiver)
    }

    /// Takes the one with this index out.
    pub(crate) fn take(&mut self, index: u32) -> Option<Knock> {
        let at = self.0.iter().position(|knock| knock.agreed.own_index == index)?;
        Some(self.0.remove(at))
    }
}

impl Default for Knocks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Knocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Knocks").field(&self.0.len()).finish()
    }
}
