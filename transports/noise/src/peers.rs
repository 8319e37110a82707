//! Whom a responder answers: everybody else meets silence. Knows neither services nor limits; those
//! are found under the same number elsewhere.
//!
//! Invariant: the clock of a peer never goes back, so no INIT is taken twice.

use crate::keys::{Peer, Public};

/// Which peer of a [`Peers`]: the first that was added is 0.
pub type PeerNumber = u16;

/// Why a peer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// There are as many as there is room for.
    Full,
    /// It is there already.
    Twice,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    /// Of the newest authentic INIT.
    clock: Option<u64>,
}

/// At most `N` peers, and what their clocks showed.
///
/// ```
/// use seaprox_noise::keys::{Identity, KeyError, Peer, Psk, Secret};
/// use seaprox_noise::peers::{PeerError, Peers};
///
/// let own = Identity::new(Secret::from_random([1; 32]));
/// let theirs = Secret::from_random([2; 32]).public();
/// let peer = Peer::new(&own, theirs, Psk::NONE)?;
/// let mut peers = Peers::<4>::new();
/// assert_eq!(peers.add(peer.clone()), Ok(0));
/// assert_eq!(peers.add(peer), Err(PeerError::Twice));
/// assert_eq!((peers.count(), peers.public(0)), (1, Some(theirs)));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Debug)]
pub struct Peers<const N: usize> {
    entries: [Option<Entry>; N],
}

impl<const N: usize> Peers<N> {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N > 0 && N <= PeerNumber::MAX as usize) };
        Peers { entries: [const { None }; N] }
    }

    /// Adds one, and says which number it has. O(N).
    ///
    /// # Errors
    /// There is no room, or it is there.
    pub fn add(&mut self, peer: Peer) -> Result<PeerNumber, PeerError> {
        if self.find(peer.public().bytes()).is_some() {
            return Err(PeerError::Twice);
        }
        let vacant = self.entries.iter().position(Option::is_none).ok_or(PeerError::Full)?;
        if let Some(entry) = self.entries.get_mut(vacant) {
            *entry = Some(Entry { peer, clock: None });
        }
        Ok(vacant as PeerNumber)
    }

    /// Whose number it is.
    #[must_use]
    pub fn public(&self, number: PeerNumber) -> Option<Public> {
        self.entry(number).map(|entry| entry.peer.public())
    }

    /// How many there are. O(N).
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    /// Public keys are no secret, so neither is how long this takes. O(N).
    pub(crate) fn find(&self, public: &[u8; 32]) -> Option<PeerNumber> {
        let is_it = |entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.peer.public().bytes() == public)
        };
        self.entries.iter().position(is_it).map(|at| at as PeerNumber)
    }

    pub(crate) fn peer(&self, number: PeerNumber) -> Option<&Peer> {
        self.entry(number).map(|entry| &entry.peer)
    }

    /// The newest clock that was seen of a peer.
    pub(crate) fn clock(&self, number: PeerNumber) -> Option<u64> {
        self.entry(number).and_then(|entry| entry.clock)
    }

    /// A clock that is not older than any was seen.
    pub(crate) fn saw(&mut self, number: PeerNumber, clock: u64) {
        if let Some(Some(entry)) = self.entries.get_mut(usize::from(number)) {
            entry.clock = entry.clock.max(Some(clock));
        }
    }

    fn entry(&self, number: PeerNumber) -> Option<&Entry> {
        self.entries.get(usize::from(number)).and_then(Option::as_ref)
    }
}

impl<const N: usize> Default for Peers<N> {
    fn default() -> Self {
        Self::new()
    }
}
