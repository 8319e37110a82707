//! The keys of a link over a carrier that keeps order within each stream and loses nothing: no message
//! says its number, both ends count. Knows neither packets nor channels. Time is in microseconds of any
//! clock that does not go back.
//!
//! ```text
//! 0x10 + key slot | what is sealed | tag16
//! ```
//!
//! The first byte is the associated data. The nonce is four zero bytes and, little-endian, how many
//! messages were sealed on this stream under this key, with the stream's number in bits 48-63.
//!
//! Invariants: a stream's keys only get newer; each stream counts from 0 under each key, so no nonce is
//! ever used twice; nothing is sealed with a key before the peer has shown that it has it. A message that
//! does not open is an attack, for nothing else loses or changes one: the link is to be closed.

use crate::aead::{Aead, Algorithm, Tag, nonce};
use crate::agreed::Keys;
use crate::keyring::{Opened, Spent};
use crate::message::{DATA, SLOT_MASK};
use crate::trio::Trio;

/// What a message spends beside what is sealed, in bytes: one before, and the tag behind.
pub const OVERHEAD_BYTES: usize = 1 + crate::aead::TAG_BYTES;

/// How far one stream is, either way. Zeroes are a stream of a new link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    sealed: Count,
    opened: Count,
}

impl Position {
    /// Nothing was sealed or opened.
    pub const NEW: Position = Position { sealed: Count::NEW, opened: Count::NEW };
}

/// Messages of a stream under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Which key; 0: none yet.
    generation: u32,
    /// There are fewer than [`crate::keyring::PACKETS_MAX`] under any key.
    messages: u32,
}

impl Count {
    const NEW: Count = Count { generation: 0, messages: 0 };

    fn nonce(self, stream: u16) -> [u8; crate::aead::NONCE_BYTES] {
        nonce(u64::from(stream) << 48 | u64::from(self.messages))
    }
}

/// What is kept beside a key.
#[derive(Debug)]
struct Use {
    /// In the order they were agreed on, from 1: at one key every two minutes, enough for 16,000 years.
    generation: u32,
    /// Streams whose last message that opened was under it.
    streams: usize,
}

/// The keys of one link. Positions are the caller's: one a stream, the same at every call, all
/// [`Position::NEW`] when the link begins. About 3 KiB.
#[derive(Debug)]
pub struct Streams {
    keys: Trio<Use>,
    generation: u32,
    owes: bool,
}

impl Streams {
    /// Without any keys.
    #[must_use]
    pub const fn new() -> Self {
        Streams { keys: Trio::new(), generation: 0, owes: false }
    }

    /// What an initiator agreed on: used from now on, on every stream. The peer uses them only once a
    /// message under them has come, so one is owed ([`Streams::owes_message`]).
    pub fn install(&mut self, keys: Keys, now_micros: u64) {
        let extra = self.next_use();
        self.keys.install(keys, extra, now_micros);
        self.owes = true;
    }

    /// What a responder agreed on: used once a message under them has come; instead of any that were
    /// agreed on since the current ones. Says whether they were taken, as [`Streams::may_propose`] does
    /// before the INIT is accepted.
    pub fn propose(&mut self, keys: Keys, now_micros: u64) -> bool {
        let extra = self.next_use();
        self.keys.propose(keys, extra, now_micros)
    }

    /// Whether keys of this slot would leave the current ones alone.
    #[must_use]
    pub fn may_propose(&self, slot: u8) -> bool {
        self.keys.may_propose(slot)
    }

    /// Where an initiator wants the next keys to be.
    #[must_use]
    pub fn next_slot(&self) -> u8 {
        self.keys.next_slot()
    }

    /// What the current keys are for.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.keys.current().map(|key| key.sealing.algorithm())
    }

    /// Seals the next message of a stream, which becomes what is sent between the byte and the tag that
    /// are returned. It has to be sent: both ends count. O(length).
    ///
    /// # Errors
    /// It may not be sealed; or there is no such stream.
    pub fn seal(
        &mut self,
        now_micros: u64,
        positions: &mut [Position],
        stream: u16,
        body: &mut [u8],
    ) -> Result<(u8, Tag), Spent> {
        let key = self.keys.sealing(now_micros).ok_or(Spent)?;
        let position = positions.get_mut(usize::from(stream)).ok_or(Spent)?;
        let count = &mut position.sealed;
        if count.generation != key.extra.generation {
            *count = Count { generation: key.extra.generation, messages: 0 };
        }
        let nonce = count.nonce(stream);
        count.messages += 1;
        key.count_sealed(body.len());
        self.owes = false;
        let first = DATA | key.slot();
        Ok((first, key.sealing.seal_in_place(&nonce, &[first], body)))
    }

    /// Opens the next message of a stream, which becomes what was sealed; `first` is the byte before it.
    /// [`Opened::No`]: the link is to be closed, and the body is any bytes. O(length).
    pub fn open(
        &mut self,
        now_micros: u64,
        positions: &mut [Position],
        stream: u16,
        first: u8,
        body: &mut [u8],
        tag: &Tag,
    ) -> Opened {
        let streams = positions.len();
        let Some(position) = positions.get_mut(usize::from(stream)) else { return Opened::No };
        if first & !SLOT_MASK != DATA {
            return Opened::No;
        }
        let found = self.keys.opening(first & SLOT_MASK, now_micros);
        let Some((key, is_next)) = found else { return Opened::No };
        let mut count = position.opened;
        let is_switch = count.generation != key.extra.generation;
        if count.generation > key.extra.generation {
            return Opened::No;
        }
        if is_switch {
            count = Count { generation: key.extra.generation, messages: 0 };
        }
        if !key.opening.open_in_place(&count.nonce(stream), &[first], body, tag) {
            return Opened::No;
        }
        count.messages = count.messages.saturating_add(1);
        position.opened = count;
        key.count_opened(body.len());
        if is_switch {
            key.extra.streams += 1;
        }
        if is_next {
            self.keys.turn();
        }
        if is_switch && self.keys.current().is_some_and(|key| key.extra.streams == streams) {
            self.keys.drop_previous();
        }
        if is_next { Opened::Confirmed } else { Opened::Yes }
    }

    /// Whether the peer waits for a message under the current keys before it uses them.
    #[must_use]
    pub const fn owes_message(&self) -> bool {
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

    /// Drops keys that are too old: with the previous ones goes what is still under way after a minute.
    pub fn expire(&mut self, now_micros: u64) {
        self.keys.expire(now_micros);
    }

    fn next_use(&mut self) -> Use {
        self.generation = self.generation.saturating_add(1);
        Use { generation: self.generation, streams: 0 }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
