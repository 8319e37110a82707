//! Up to three keys of a link: the previous one, with which packets may still be under way, the current,
//! and the next, which the peer has not shown yet that it has. Knows neither packets nor streams.
//!
//! Invariants: there is at most one key a slot of the wire; sealed is with the current key alone, at
//! most [`Limits::stop`] times, never after [`KEY_MICROS`]. A key that is replaced or too old is dropped,
//! and so overwritten.

use crate::aead::Cipher;
use crate::agreed::Keys;
use crate::message::SLOT_MASK;

/// A key is renewed after so long, as WireGuard's are.
pub const RENEW_MICROS: u64 = 120_000_000;

/// And is of no use after this, so that what was said cannot be read by who steals the memory later.
pub const KEY_MICROS: u64 = 180_000_000;

/// A key is renewed after so many packets of at most [`SHORT_BYTES`], either way.
pub const PACKETS_RENEW: u64 = 1 << 27;

/// And seals no more than these: with 2^28 of them AES-GCM is told from noise with a chance below 2^-57
/// (RFC 9001, appendix B.1.1).
pub const PACKETS_MAX: u64 = 1 << 28;

/// The same for longer packets, up to 64 KiB: renewed.
pub const LONG_PACKETS_RENEW: u64 = 1 << 22;

/// And the most, by the same source.
pub const LONG_PACKETS_MAX: u64 = 1 << 23;

/// What [`PACKETS_MAX`] is for: longer packets make a key one for long packets.
pub const SHORT_BYTES: usize = 2 << 10;

const PLACES: usize = 3;

/// A key, and what its user keeps beside it.
#[derive(Debug)]
pub(crate) struct Key<E> {
    slot: u8,
    pub(crate) sealing: Cipher,
    pub(crate) opening: Cipher,
    born_micros: u64,
    sealed: u64,
    opened: u64,
    is_long: bool,
    pub(crate) extra: E,
}

impl<E> Key<E> {
    const fn is_alive(&self, now_micros: u64) -> bool {
        now_micros.saturating_sub(self.born_micros) < KEY_MICROS
    }

    const fn renew_after(&self) -> u64 {
        if self.is_long { LONG_PACKETS_RENEW } else { PACKETS_RENEW }
    }

    const fn is_spent(&self) -> bool {
        self.sealed >= if self.is_long { LONG_PACKETS_MAX } else { PACKETS_MAX }
    }

    /// Which it is on the wire.
    pub(crate) const fn slot(&self) -> u8 {
        self.slot
    }

    /// Something of this length was sealed.
    #[inline]
    pub(crate) const fn count_sealed(&mut self, bytes: usize) {
        self.sealed += 1;
        self.is_long |= bytes > SHORT_BYTES;
    }

    /// Something of this length opened.
    #[inline]
    pub(crate) const fn count_opened(&mut self, bytes: usize) {
        self.opened += 1;
        self.is_long |= bytes > SHORT_BYTES;
    }
}

/// Up to three keys.
#[derive(Debug)]
pub(crate) struct Trio<E> {
    places: [Option<Key<E>>; PLACES],
    /// Where the current one is; the next is behind it, and the previous behind that.
    current: usize,
}

impl<E> Trio<E> {
    pub(crate) const fn new() -> Self {
        Trio { places: [const { None }; PLACES], current: 0 }
    }

    /// The peer has these keys, for it made them: they are the current ones now.
    pub(crate) fn install(&mut self, keys: Keys, extra: E, now_micros: u64) {
        self.put_next(keys, extra, now_micros);
        self.turn();
    }

    /// The peer may have these keys: they are the next ones, instead of any that were. Says whether that
    /// is so: it is not if they would take the slot of the current ones.
    pub(crate) fn propose(&mut self, keys: Keys, extra: E, now_micros: u64) -> bool {
        let may = self.may_propose(keys.slot);
        if may {
            self.put_next(keys, extra, now_micros);
        }
        may
    }

    fn put_next(&mut self, keys: Keys, extra: E, now_micros: u64) {
        let Keys { slot, sealing, opening } = keys;
        for place in &mut self.places {
            let _ = place.take_if(|key| key.slot == slot);
        }
        let next = self.next_place();
        if let Some(place) = self.places.get_mut(next) {
            let (born_micros, sealed, opened) = (now_micros, 0, 0);
            let is_long = false;
            let key = Key { slot, sealing, opening, born_micros, sealed, opened, is_long, extra };
            *place = Some(key);
        }
    }

    /// The next becomes the current one, the current the previous, and the previous is gone.
    pub(crate) fn turn(&mut self) {
        self.current = self.next_place();
        let next = self.next_place();
        if let Some(place) = self.places.get_mut(next) {
            *place = None;
        }
    }

    /// The slot that the next keys will be in.
    pub(crate) fn next_slot(&self) -> u8 {
        self.current().map_or(0, |key| (key.slot + 1) & SLOT_MASK)
    }

    /// Whether keys can be proposed for this slot: that of the current ones stays theirs.
    pub(crate) fn may_propose(&self, slot: u8) -> bool {
        slot <= SLOT_MASK && self.current().is_none_or(|key| key.slot != slot)
    }

    /// What seals, if anything does.
    pub(crate) fn current(&self) -> Option<&Key<E>> {
        self.places.get(self.current).and_then(Option::as_ref)
    }

    /// What can seal now.
    #[inline]
    pub(crate) fn sealing(&mut self, now_micros: u64) -> Option<&mut Key<E>> {
        let key = self.places.get_mut(self.current).and_then(Option::as_mut);
        key.filter(|key| key.is_alive(now_micros) && !key.is_spent())
    }

    /// What can open a packet of this slot now, and whether it is the next key.
    #[inline]
    pub(crate) fn opening(&mut self, slot: u8, now_micros: u64) -> Option<(&mut Key<E>, bool)> {
        let next = self.next_place();
        let mut places = self.places.iter_mut().enumerate();
        places.find_map(|(at, place)| {
            let key = place.as_mut()?;
            (key.slot == slot && key.is_alive(now_micros)).then_some((key, at == next))
        })
    }

    /// Drops the previous key: nothing of it is under way any more.
    pub(crate) fn drop_previous(&mut self) {
        let previous = (self.current + PLACES - 1) % PLACES;
        if let Some(place) = self.places.get_mut(previous) {
            *place = None;
        }
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now_micros: u64) {
        for place in &mut self.places {
            let _ = place.take_if(|key| !key.is_alive(now_micros));
        }
    }

    /// When the current key is to be renewed, for its age or for what it has done.
    pub(crate) fn renew_micros(&self) -> Option<u64> {
        let key = self.current()?;
        let is_due = key.sealed.max(key.opened) >= key.renew_after();
        Some(if is_due { 0 } else { key.born_micros.saturating_add(RENEW_MICROS) })
    }

    /// When the current key ends.
    pub(crate) fn stop_micros(&self) -> Option<u64> {
        self.current().map(|key| key.born_micros.saturating_add(KEY_MICROS))
    }

    fn next_place(&self) -> usize {
        (self.current + 1) % PLACES
    }

    /// Whether there is a key of this slot.
    #[cfg(test)]
    pub(crate) fn has_slot(&self, slot: u8) -> bool {
        self.places.iter().flatten().any(|key| key.slot == slot)
    }

    /// As if the current key had sealed so many.
    #[cfg(test)]
    pub(crate) fn pretend_sealed(&mut self, packets: u64) {
        if let Some(Some(key)) = self.places.get_mut(self.current) {
            key.sealed = packets;
        }
    }

    /// As if the current key had opened so many.
    #[cfg(test)]
    pub(crate) fn pretend_opened(&mut self, packets: u64) {
        if let Some(Some(key)) = self.places.get_mut(self.current) {
            key.opened = packets;
        }
    }
}
