//! What a handshake ends with, and what an end brings to it. Knows nothing of how it goes.

use crate::aead::{Aead, Algorithm, Cipher, Tag, nonce};
use crate::keyring::NUMBER_MAX;
use crate::keys::KEY_BYTES;
use crate::message::{Parameters, SLOT_MASK};
use crate::suite::{Handshake, split};

/// What an end brings to every handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which carrier this is, the same number at both ends: no handshake of one is good for another.
    pub carrier: u8,
    /// What the peer is told.
    pub parameters: Parameters,
    /// The algorithm that is fast here: [`Algorithm::preferred`].
    pub preferred: Algorithm,
}

/// What two ends agreed on.
#[derive(Debug)]
pub struct Agreed {
    /// The version they speak.
    pub version: u8,
    /// What the peer puts into its packets.
    pub own_index: u32,
    /// What this end puts into its packets.
    pub peer_index: u32,
    /// What the peer told.
    pub parameters: Parameters,
    /// How long the answer took, in microseconds; only the end that asked knows.
    pub rtt_micros: Option<u64>,
    /// For [`crate::keyring::Keyring`] or [`crate::streams::Streams`].
    pub keys: Keys,
}

/// What two ends seal and open with from now on.
#[derive(Debug)]
pub struct Keys {
    pub(crate) slot: u8,
    pub(crate) sealing: Cipher,
    pub(crate) opening: Cipher,
}

impl Keys {
    /// Of keys that two ends have from elsewhere, who seals with one and opens with the other, and in no
    /// other slot or link with either: for simulations, where a handshake would take most of the time.
    /// Of the slot only two bits count.
    #[must_use]
    pub fn new(
        algorithm: Algorithm,
        slot: u8,
        sealing: &[u8; KEY_BYTES],
        opening: &[u8; KEY_BYTES],
    ) -> Keys {
        let cipher = |key| Cipher::new(algorithm, key);
        Keys { slot: slot & SLOT_MASK, sealing: cipher(sealing), opening: cipher(opening) }
    }

    /// Which of the receiver's keys they are, 0..=3.
    #[must_use]
    pub const fn slot(&self) -> u8 {
        self.slot
    }

    /// What was chosen.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.sealing.algorithm()
    }

    /// Whether the peer sealed this body with them: it has shown that it has them. The body is what was
    /// sealed then, and any bytes else. For who keeps nothing for a peer before that; the keys are as
    /// they were, and what opened here opens again. O(length).
    #[must_use]
    pub fn opens(&self, slot: u8, number: u64, header: &[u8], body: &mut [u8], tag: &Tag) -> bool {
        slot == self.slot
            && number <= NUMBER_MAX
            && self.opening.open_in_place(&nonce(number), header, body, tag)
    }

    /// Seals a body, which becomes what is sent, and returns its tag; the header says that its number is
    /// 0. It is the only thing that is ever sealed with them: for who has nothing else to say. O(length).
    #[must_use]
    pub fn seal_only(self, header: &[u8], body: &mut [u8]) -> Tag {
        self.sealing.seal_in_place(&nonce(0), header, body)
    }

    /// Of a handshake that is done.
    pub(crate) fn of(
        handshake: &Handshake,
        algorithm: Algorithm,
        slot: u8,
        is_initiator: bool,
    ) -> Keys {
        let (initiators, responders) = split(handshake);
        let (sealing, opening) = match is_initiator {
            true => (initiators, responders),
            false => (responders, initiators),
        };
        Keys::new(algorithm, slot, sealing.bytes(), opening.bytes())
    }
}
