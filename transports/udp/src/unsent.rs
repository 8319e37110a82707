//! Datagrams of one link that were emitted and that the socket has not taken yet. Knows neither what is
//! in them nor what becomes of them on the way.
//!
//! Invariant: they leave in the order they were emitted; what a place holds is not written to before all
//! of them have left.

use crate::hub::{Shared, Wire};
use crate::reliable::Emitted;
use crate::slots::DATAGRAM_BYTES_MAX;
use crate::socket::BATCH_BYTES_MAX;
use crate::time::Micros;
use arrayvec::ArrayVec;
use seaprox::sys::Errno;

/// How soon it is tried again what the kernel had no room for.
const AGAIN_MICROS: u64 = 1_000;

/// Datagrams that are emitted before the socket is asked to take them, at most: as many of the longest as
/// are one batch ([`BATCH_BYTES_MAX`]), or each batch would leave a few for a call of their own.
const OUTGOING_MAX: usize = BATCH_BYTES_MAX / DATAGRAM_BYTES_MAX;

/// Where they lie. Not within the carrier, which is moved about and would be twice as large.
pub struct Outgoing {
    places: [[u8; DATAGRAM_BYTES_MAX]; OUTGOING_MAX],
    emitted: ArrayVec<Emitted, OUTGOING_MAX>,
    /// So many of them have left.
    left: usize,
}

impl Outgoing {
    /// Nothing; all zeroes.
    pub(crate) const fn new() -> Self {
        let places = [[0; DATAGRAM_BYTES_MAX]; OUTGOING_MAX];
        Outgoing { places, emitted: ArrayVec::new_const(), left: 0 }
    }

    fn clear(&mut self) {
        self.emitted.clear();
        self.left = 0;
    }

    /// Gives those to the socket that may go at once: the first that has not left, which is given again
    /// with what came of it, and how many they are.
    fn send<W: Wire>(
        &self,
        shared: &mut Shared<'_, W>,
    ) -> Option<(Emitted, Result<usize, Errno>, usize)> {
        let rest = self.emitted.get(self.left..)?;
        let first = *rest.first()?;
        let most = if first.is_alone() { 1 } else { OUTGOING_MAX };
        let alike = rest.iter().take(most).take_while(|other| other.is_alike(&first));
        let places = self.places.iter().skip(self.left);
        let datagrams = alike.zip(places).map(|(emitted, place)| &place[..emitted.bytes()]);
        let datagrams: ArrayVec<&[u8], OUTGOING_MAX> = datagrams.collect();
        Some((first, shared.send(&first.to(), &datagrams), datagrams.len()))
    }
}

/// Of one link, as long as it has its memory.
pub(crate) struct Unsent<'m>(Option<&'m mut Outgoing>);

impl<'m> Unsent<'m> {
    /// None, in this memory.
    pub(crate) fn new(memory: &'m mut Outgoing) -> Self {
        memory.clear();
        Unsent(Some(memory))
    }

    /// The memory again: there are none any more, and never will be.
    pub(crate) fn take_memory(&mut self) -> Option<&'m mut Outgoing> {
        self.0.take()
    }

    /// Whether all have left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|memory| memory.emitted.is_empty())
    }

    /// One more, if there is room and `emit` writes one; whether there was.
    pub(crate) fn add(
        &mut self,
        emit: impl FnOnce(&mut [u8; DATAGRAM_BYTES_MAX]) -> Option<Emitted>,
    ) -> bool {
        let Some(Outgoing { places, emitted, .. }) = &mut self.0 else { return false };
        let added = places.get_mut(emitted.len()).and_then(emit);
        emitted.extend(added);
        added.is_some()
    }

    /// Gives them to the socket; if it takes not all of them, when it is to be tried again. `too_long`: is
    /// told the length of one that it cannot send.
    pub(crate) fn send<W: Wire>(
        &mut self,
        shared: &mut Shared<'_, W>,
        now: Micros,
        mut too_long: impl FnMut(usize),
    ) -> Option<Micros> {
        let memory = self.0.as_deref_mut()?;
        while let Some((first, sent, count)) = memory.send(shared) {
            memory.left += match sent {
                Ok(sent) => sent.max(1),
                Err(Errno::AGAIN | Errno::INTR) => return Some(now.after(AGAIN_MICROS)),
                Err(Errno::MSGSIZE) => {
                    too_long(first.bytes());
                    1
                }
                // The way is blocked or gone: as good as lost on it.
                Err(_) => count,
            };
        }
        memory.clear();
        None
    }
}
