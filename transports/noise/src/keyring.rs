//! The keys of a link over a carrier that loses, repeats and reorders: each packet says its number and
//! which key opens it. Knows neither header nor messages. Time is in microseconds of any clock that does
//! not go back.
//!
//! Invariants: no number is sealed twice with a key; no packet is opened twice; nothing is sealed with a
//! key before the peer has shown that it has it, by a RESPONSE or by a packet.

use crate::aead::{Aead, Algorithm, Tag, nonce};
use crate::agreed::Keys;
use crate::replay::Replay;
use crate::trio::Trio;

pub use crate::trio::{
    KEY_MICROS, LONG_PACKETS_MAX, LONG_PACKETS_RENEW, PACKETS_MAX, PACKETS_RENEW, RENEW_MICROS,
    SHORT_BYTES,
};

/// The greatest packet number.
pub const NUMBER_MAX: u64 = (1 << 48) - 1;

/// There is no key that may seal this: none at all yet, or it is too old, or has done its share, or the
/// number was used. Nothing was sealed. Without new keys the link is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is nobody's, or it came before.
    No,
    /// It is the peer's, and its body is what it was.
    Yes,
    /// Likewise, and it is the first with new keys: from now on they are used here too. For a link that
    /// had none it is the proof that there is somebody.
    Confirmed,
}

/// What a key has seen and sealed.
#[derive(Debug)]
struct Seen {
    replay: Replay,
    /// Lower numbers are not sealed any more.
    number: u64,
}

/// The keys of one link. About 10 KiB.
#[derive(Debug)]
pub struct Keyring {
    keys: Trio<Seen>,
    owes: bool,
}

impl Keyring {
    /// Without any.
    #[must_use]
    pub const fn new() -> Self {
        Keyring { keys: Trio::new(), owes: false }
    }

    /// What an initiator agreed on: used from now on. The peer uses them only once a packet of them
    /// has come, so one is owed ([`Keyring::owes_packet`]).
    pub fn install(&mut self, keys: Keys, now_micros: u64) {
        self.keys.install(keys, Seen { replay: Replay::new(), number: 0 }, now_micros);
        self.owes = true;
    }

    /// What a responder agreed on: used once a packet of them has come; instead of any that were agreed
    /// on since the current ones. Says whether they were taken, as [`Keyring::may_propose`] does before
    /// the INIT is accepted.
    pub fn propose(&mut self, keys: Keys, now_micros: u64) -> bool {
        self.keys.propose(keys, Seen { replay: Replay::new(), number: 0 }, now_micros)
    }

    /// Whether keys of this slot would leave the current ones alone; else refuse with
    /// [`seaprox::fail::FailReason::Protocol`].
    #[must_use]
    pub fn may_propose(&self, slot: u8) -> bool {
        self.keys.may_propose(slot)
    }

    /// Where an initiator wants the next keys to be.
    #[must_use]
    pub fn next_slot(&self) -> u8 {
        self.keys.next_slot()
    }

    /// Which key seals now: what the header says. `None`: nothing can be sealed.
    #[inline]
    #[must_use]
    pub fn slot(&mut self, now_micros: u64) -> Option<u8> {
        self.keys.sealing(now_micros).map(|key| key.slot())
    }

    /// What the current keys are for.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.keys.current().map(|key| key.sealing.algorithm())
    }

    /// Seals a body, which becomes what is sent, with the key that [`Keyring::slot`] says, and returns
    /// its tag. The numbers of a link ascend; there may be gaps. O(length).
    ///
    /// # Errors
    /// It may not be sealed.
    #[inline]
    pub fn seal(
        &mut self,
        now_micros: u64,
        number: u64,
        header: &[u8],
        body: &mut [u8],
    ) -> Result<Tag, Spent> {
        let key = self.keys.sealing(now_micros).ok_or(Spent)?;
        if number < key.extra.number || number > NUMBER_MAX {
            return Err(Spent);
        }
        key.extra.number = number + 1;
        key.count_sealed(body.len());
        self.owes = false;
        Ok(key.sealing.seal_in_place(&nonce(number), header, body))
    }

    /// Opens a body, which becomes what was sealed if the peer did that, and is any bytes else.
    /// O(length).
    #[inline]
    pub fn open(
        &mut self,
        now_micros: u64,
        slot: u8,
        number: u64,
        header: &[u8],
        body: &mut [u8],
        tag: &Tag,
    ) -> Opened {
        let Some((key, is_next)) = self.keys.opening(slot, now_micros) else { return Opened::No };
        // Before anything is computed: a repeat costs nothing.
        let is_fresh = key.extra.replay.is_fresh(number) && number <= NUMBER_MAX;
        if !is_fresh || !key.opening.open_in_place(&nonce(number), header, body, tag) {
            return Opened::No;
        }
        key.extra.replay.mark(number);
        key.count_opened(body.len());
        if !is_next {
            return Opened::Yes;
        }
        self.keys.turn();
        Opened::Confirmed
    }

    /// Whether the peer waits for a packet with the current keys before it uses them.
    #[must_use]
    pub const fn owes_packet(&self) -> bool {
        self.owes
    }

    /// When whoever asked for the link is to ask for new keys; 0: they are overdue.
    #[must_use]
    pub fn renew_micros(&self) -> Option<u64> {
        self.keys.renew_micros()
    }

    /// When nothing can be sealed any more, if there are no new keys by then.
    #[must_use]
    pub fn stop_micros(&self) -> Option<u64> {
        self.keys.stop_micros()
    }

    /// Drops keys that are too old. To be called now and then, or they stay in memory though
    /// nothing uses them.
    pub fn expire(&mut self, now_micros: u64) {
        self.keys.expire(now_micros);
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(crate) mod tests;
