//! epoll, and the end of descriptors. Each entry carries its descriptor and a place: a slot of the
//! table, or a number of the transport's own. Nothing else in the engine knows how epoll behaves.
//!
//! Invariant: a descriptor retired during a turn stays open until `Poller::bury` at the turn's
//! end, so no event of the turn's batch can be about a younger descriptor of the same number.

use crate::side::SideKey;
use crate::sys::{EVENTS_MAX, Interest, RawFd, Ready, Sys, SysEvent, SysResult};
use arrayvec::ArrayVec;

/// How many descriptors one turn may retire. A turn stops taking up work when fewer than
/// [`RETIRED_PER_STEP`] more would fit.
pub(crate) const RETIRED_MAX: usize = 1024;

/// How many descriptors one step of a turn (one event, one deadline, one outcome) retires at most:
/// both sides, a second connect, a failed attempt, and an outcome that came too late.
pub(crate) const RETIRED_PER_STEP: usize = 5;

static_assertions::const_assert!(EVENTS_MAX * RETIRED_PER_STEP < RETIRED_MAX);

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A side of the table.
    Side(SideKey),
    /// A descriptor of the source transport's own, by its number there.
    Source(u32),
    /// A descriptor of the dest transport's own, by its number there.
    Dest(u32),
    /// This thread's doorbell.
    Doorbell,
}

const SOURCE_BIT: u32 = 1 << 31;
const DEST_BIT: u32 = 1 << 30;
const DOORBELL: u32 = u32::MAX;

impl Place {
    const fn number(self) -> u32 {
        match self {
            Place::Side(key) => key.0,
            Place::Source(own) => SOURCE_BIT | own,
            Place::Dest(own) => DEST_BIT | own,
            Place::Doorbell => DOORBELL,
        }
    }

    const fn from_number(number: u32) -> Place {
        match number {
            DOORBELL => Place::Doorbell,
            n if n & SOURCE_BIT != 0 => Place::Source(n & !SOURCE_BIT),
            n if n & DEST_BIT != 0 => Place::Dest(n & !DEST_BIT),
            n => Place::Side(SideKey(n)),
        }
    }
}

const fn token(fd: RawFd, place: Place) -> u64 {
    (place.number() as u64) << 32 | fd as u32 as u64
}

/// One thread's epoll, its doorbell, the batch of events of this turn, and what is to be closed.
pub struct Poller<K: Sys> {
    sys: K,
    epoll: RawFd,
    doorbell: RawFd,
    events: [SysEvent; EVENTS_MAX],
    retired: ArrayVec<RawFd, RETIRED_MAX>,
}

impl<K: Sys> Poller<K> {
    /// Opens an epoll and a doorbell.
    pub(crate) fn new(sys: K) -> SysResult<Self> {
        let epoll = sys.epoll_create()?;
        let doorbell = sys.eventfd().inspect_err(|_| sys.close(epoll))?;
        let poller = Poller {
            sys,
            epoll,
            doorbell,
            events: [SysEvent::default(); EVENTS_MAX],
            retired: ArrayVec::new(),
        };
        poller.add(doorbell, Interest::Doorbell, Place::Doorbell)?;
        Ok(poller)
    }

    /// The epoll itself: readable when something registered with it is ready (epoll(7)).
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll
    }

    pub(crate) fn doorbell(&self) -> RawFd {
        self.doorbell
    }

    /// Blocks until something is ready, `timeout_millis` passed (`None`: for ever), or a signal
    /// came; gives the number of events.
    pub(crate) fn wait(&mut self, timeout_millis: Option<u32>) -> SysResult<usize> {
        match self.sys.epoll_wait(self.epoll, &mut self.events, timeout_millis) {
            Err(crate::sys::Errno::INTR) => Ok(0),
            other => other,
        }
    }

    /// One event of the last wait.
    #[inline]
    pub(crate) fn event(&self, index: usize) -> (RawFd, Place, Ready) {
        let SysEvent { token, ready } = self.events[index];
        (token as u32 as RawFd, Place::from_number((token >> 32) as u32), ready)
    }

    /// The doorbell was heard.
    pub(crate) fn hush(&self) {
        self.sys.hush(self.doorbell);
    }

    fn add(&self, fd: RawFd, interest: Interest, place: Place) -> SysResult<()> {
        self.sys.epoll_add(self.epoll, fd, interest, token(fd, place))
    }

    /// Registers a side's descriptor, once for its life.
    pub(crate) fn add_side(&self, fd: RawFd, side: SideKey) -> SysResult<()> {
        self.add(fd, Interest::Connection, Place::Side(side))
    }

    /// A descriptor that was registered as the dest transport's own belongs to a side now.
    pub(crate) fn give_to_side(&self, fd: RawFd, side: SideKey) -> SysResult<()> {
        self.modify_side(fd, side, Interest::Connection)
    }

    /// Registers a descriptor as the dest transport's own, such as a second connect.
    pub fn add_dest_own(&self, fd: RawFd, own: u32, interest: Interest) -> SysResult<()> {
        self.add(fd, interest, Place::Dest(own))
    }

    /// Registers a descriptor as the source transport's own, such as a link's.
    pub fn add_source_own(&self, fd: RawFd, own: u32) -> SysResult<()> {
        self.add(fd, Interest::Connection, Place::Source(own))
    }

    /// A descriptor of the source transport's own has another number from now on; what is ready is
    /// reported anew.
    pub fn renumber_source_own(&self, fd: RawFd, own: u32) -> SysResult<()> {
        let token = token(fd, Place::Source(own));
        self.sys.epoll_modify(self.epoll, fd, Interest::Connection, token)
    }

    /// Registers a listener as the source transport's own; a waiting client is reported at once.
    pub fn add_listener(&self, fd: RawFd, own: u32) -> SysResult<()> {
        self.add(fd, Interest::Listener, Place::Source(own))
    }

    /// Takes a listener out: an exclusive entry cannot be modified (epoll_ctl(2), EINVAL).
    pub fn remove_listener(&self, fd: RawFd) -> SysResult<()> {
        self.sys.epoll_delete(self.epoll, fd)
    }

    /// Whether a side's bytes are reported; when they are again, what is ready is reported anew.
    pub(crate) fn mute(&self, fd: RawFd, side: SideKey, muted: bool) -> SysResult<()> {
        self.modify_side(fd, side, if muted { Interest::Muted } else { Interest::Connection })
    }

    fn modify_side(&self, fd: RawFd, side: SideKey, interest: Interest) -> SysResult<()> {
        self.sys.epoll_modify(self.epoll, fd, interest, token(fd, Place::Side(side)))
    }

    /// Closes a descriptor at the end of the turn.
    pub fn retire(&mut self, fd: RawFd) {
        if self.retired.is_full() {
            debug_assert!(false, "a turn took up more work than it may");
            self.bury();
        }
        self.retired.push(fd);
    }

    /// Closes a descriptor at the end of the turn, with an RST (RFC 9293 section 3.10.7).
    pub fn retire_with_reset(&mut self, fd: RawFd) {
        self.sys.reset_on_close(fd);
        self.retire(fd);
    }

    /// Whether one more step of work fits into this turn.
    pub(crate) fn has_room(&self) -> bool {
        self.retired.remaining_capacity() >= RETIRED_PER_STEP
    }

    /// Closes what was retired.
    pub(crate) fn bury(&mut self) {
        for fd in self.retired.drain(..) {
            self.sys.close(fd);
        }
    }
}

impl<K: Sys> Drop for Poller<K> {
    fn drop(&mut self) {
        self.bury();
        self.sys.close(self.doorbell);
        self.sys.close(self.epoll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_descriptor_and_place() {
        for place in [
            Place::Side(SideKey(0)),
            Place::Side(SideKey((1 << 29) - 1)),
            Place::Source(0),
            Place::Dest(15),
            Place::Doorbell,
        ] {
            let token = token(1234, place);
            assert_eq!(token as u32, 1234);
            assert_eq!(Place::from_number((token >> 32) as u32), place);
        }
    }
}
