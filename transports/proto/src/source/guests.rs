//! Who has connected, and has not shown yet who it is: in places of their own, so that strangers hold no
//! link. Knows neither keys nor links.
//!
//! Invariants: no guest stays longer than [`GUEST_MILLIS`]. Once all places are taken a stranger has to
//! leave, of those who have most of them; so there is a place in the next turn. A carrier that has left
//! is open until the turn is over, so that no event is about a younger one.

use crate::carrier::{Carrier, Greeting};
use core::mem;
use core::net::IpAddr;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::RawFd;
use seaprox::time::Instant;

/// How long a guest may stay, in milliseconds: a handshake takes a round trip and a half.
pub const GUEST_MILLIS: u32 = 5_000;

/// A place for somebody who has connected and has to show who it is before there is a link.
pub struct Guest<C> {
    state: State<C>,
}

enum State<C> {
    Vacant,
    Here(Here<C>),
    /// It has left, or has become a link.
    Over {
        /// `None`: a link.
        carrier: Option<C>,
        /// A link is set aside for it until the turn is over.
        is_answered: bool,
    },
}

struct Here<C> {
    carrier: C,
    peer: Address,
    until: Instant,
    greeting: Greeting,
    /// Something may have come.
    is_ready: bool,
}

impl<C: Carrier> Here<C> {
    /// When it wants to be polled.
    fn timeout(&self) -> Instant {
        let own =
            if self.is_ready { Some(Instant::from_millis(0)) } else { self.carrier.timeout() };
        own.map_or(self.until, |at| at.min(self.until))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.timeout() <= now
    }
}

impl<C> Guest<C> {
    /// Nobody.
    #[allow(clippy::new_without_default)] // there is no use for a place by itself
    #[must_use]
    pub const fn new() -> Self {
        Guest { state: State::Vacant }
    }

    fn here(&self) -> Option<&Here<C>> {
        if let State::Here(here) = &self.state { Some(here) } else { None }
    }

    /// How many links are set aside.
    fn set_aside(&self) -> usize {
        let is_answered = match &self.state {
            State::Vacant => false,
            State::Here(here) => here.greeting == Greeting::Answered,
            State::Over { is_answered, .. } => *is_answered,
        };
        usize::from(is_answered)
    }
}

/// What became of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It has shown who it is: [`Guests::take`].
    Known(usize),
    /// There will be no link with it.
    Refused {
        /// Who it was, as far as is known.
        peer: Address,
        /// Why.
        reason: FailReason,
    },
}

/// All places.
pub(super) struct Guests<'m, C>(pub(super) &'m mut [Guest<C>]);

impl<C: Carrier> Guests<'_, C> {
    /// Whether nobody can come in this turn, though there are places. O(places), as all else here.
    pub(super) fn is_full(&self) -> bool {
        !self.0.is_empty() && !self.0.iter().any(|guest| matches!(guest.state, State::Vacant))
    }

    /// Whether nobody can come before one of those who are here becomes a link, or leaves.
    pub(super) fn is_blocked(&self) -> bool {
        let is_answered =
            |guest: &Guest<C>| guest.here().is_some_and(|here| here.greeting == Greeting::Answered);
        !self.0.is_empty() && self.0.iter().all(is_answered)
    }

    /// How many links are set aside for those who were answered.
    pub(super) fn set_aside(&self) -> usize {
        self.0.iter().map(Guest::set_aside).sum()
    }

    /// Somebody comes; says in which place. `None`: there is none.
    pub(super) fn add(
        &mut self,
        carrier: C,
        peer: Address,
        greeting: Greeting,
        now: Instant,
    ) -> Option<usize> {
        let place = self.0.iter().position(|guest| matches!(guest.state, State::Vacant))?;
        let until = now.after(GUEST_MILLIS);
        self.0[place].state = State::Here(Here { carrier, peer, until, greeting, is_ready: false });
        Some(place)
    }

    /// A descriptor is ready.
    pub(super) fn ready(&mut self, place: usize, fd: RawFd) {
        if let Some(guest) = self.0.get_mut(place)
            && let State::Here(here) = &mut guest.state
            && here.carrier.fd() == Some(fd)
        {
            here.is_ready = true;
        }
    }

    /// What became of the next one of whom anything became. `vacant`: so many links are.
    pub(super) fn poll(&mut self, vacant: usize, now: Instant) -> Option<Left> {
        for place in 0..self.0.len() {
            if !self.0[place].here().is_some_and(|here| here.is_due(now)) {
                continue;
            }
            // Beside those that are set aside for others.
            let refused = (vacant <= self.set_aside()).then_some(FailReason::TableFull);
            let State::Here(here) = &mut self.0[place].state else { continue };
            here.is_ready = false;
            let is_stranger = here.greeting == Greeting::Stranger;
            match here.carrier.greet(refused.filter(|_| is_stranger)) {
                Ok(Greeting::Done) => return Some(Left::Known(place)),
                Ok(greeting) if here.until > now => here.greeting = greeting,
                Ok(_) => return self.leave(place, FailReason::TimedOut),
                Err(reason) => return self.leave(place, reason),
            }
        }
        if self.has_place_soon() {
            return None;
        }
        self.crowd().and_then(|place| self.leave(place, FailReason::TableFull))
    }

    /// There is a place, or one in the next turn.
    fn has_place_soon(&self) -> bool {
        self.0.iter().any(|guest| guest.here().is_none())
    }

    /// The stranger that has been here longest, of those who came from the address that most strangers
    /// have come from: who floods the places loses those of its own. O(places^2).
    fn crowd(&self) -> Option<usize> {
        let is_stranger = |here: &&Here<C>| here.greeting == Greeting::Stranger;
        let strangers = || self.0.iter().filter_map(Guest::here).filter(is_stranger);
        let is_one = |(place, guest): (usize, &Guest<C>)| {
            let here = guest.here()?;
            let from = ip_of(here.peer);
            let alike = strangers().filter(|other| ip_of(other.peer) == from).count();
            is_stranger(&here).then_some((alike, core::cmp::Reverse(here.until), place))
        };
        self.0.iter().enumerate().filter_map(is_one).max().map(|(_, _, place)| place)
    }

    /// A guest leaves.
    fn leave(&mut self, place: usize, reason: FailReason) -> Option<Left> {
        let is_answered = self.0[place].set_aside() > 0;
        let over = State::Over { carrier: None, is_answered };
        let State::Here(here) = mem::replace(&mut self.0[place].state, over) else { return None };
        let (carrier, peer) = (Some(here.carrier), here.peer);
        self.0[place].state = State::Over { carrier, is_answered };
        Some(Left::Refused { peer, reason })
    }

    /// A guest becomes a link.
    pub(super) fn take(&mut self, place: usize) -> Option<(C, Address)> {
        let over = State::Over { carrier: None, is_answered: false };
        match mem::replace(&mut self.0[place].state, over) {
            State::Here(here) => Some((here.carrier, here.peer)),
            State::Vacant | State::Over { .. } => None,
        }
    }

    /// What was taken becomes none after all.
    pub(super) fn give_up(&mut self, place: usize, carrier: C) {
        self.0[place].state = State::Over { carrier: Some(carrier), is_answered: true };
    }

    /// Nobody is wanted any more.
    pub(super) fn end(&mut self) {
        for place in 0..self.0.len() {
            self.leave(place, FailReason::Shutdown);
        }
    }

    /// When they want to be polled.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.0.iter().filter_map(Guest::here).map(Here::timeout).min()
    }

    /// The turn is over: those who have left are gone.
    pub(super) fn flush(&mut self) {
        for guest in &mut *self.0 {
            if let State::Over { carrier, .. } = &mut guest.state {
                // The last words to it may not have gone.
                carrier.iter_mut().for_each(Carrier::flush);
                guest.state = State::Vacant;
            }
        }
    }
}

/// Where somebody is; a unix socket is nowhere.
fn ip_of(peer: Address) -> Option<IpAddr> {
    peer.socket_addr().map(|address| address.ip())
}
