//! How a source says itself what it wants, and is told in its own words what became of it: only of
//! sources that ask ([`Source::ASKS`]). Part of the worker; knows no proxy type and no byte of one.
//!
//! Invariant: while a dest is asking or parting it has no handle, and the channel of its number
//! ([`stand_in`]), of the source's transport, stands where it will be or would have been.

use crate::fail::FailReason;
use crate::relay::{End, Pumped};
use crate::share::Order;
use crate::side::{Flags, SideKey, SideKind, Stage};
use crate::sys::Sys;
use crate::time::Instant;
use crate::transport::{Asked, Desk, Dest, Lent, Notice, Observer, Source, stand_in};
use crate::worker::Worker;

/// How many times in a row a source is heard and answered; then others have their turn.
const ROUNDS_MAX: usize = 4;

impl<K, S, D, O> Worker<'_, K, S, D, O>
where
    K: Sys,
    S: Source<K>,
    D: Dest<K, S::Target>,
    O: Observer,
{
    /// A source that came has to say what it wants, and has until then.
    pub(crate) fn wait_for_word(&mut self, source: SideKey, until: Instant) {
        self.table.side_mut(source.other()).stage = Stage::Asking;
        self.timers.arm(source.connection(), until);
    }

    /// A source said something, can be told something, or its time is over.
    pub(crate) fn ask(&mut self, source: SideKey) {
        for _ in 0..ROUNDS_MAX {
            let heard = self.hear_source(source);
            let now = self.now();
            let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
            let until = match self.source.ask(source, &mut desk) {
                Asked::For(target) => return self.asked(source, target),
                Asked::Refused(reason) => return self.refuse(source, reason),
                Asked::Until(until) => until,
            };
            self.timers.arm(source.connection(), until);
            let stopped = match self.say_to(source) {
                Ok(()) => heard,
                // The event will come that says it takes more.
                Err(Pumped::Blocked) => Pumped::Drained,
                Err(stopped) => stopped,
            };
            match stopped {
                Pumped::Drained => return,
                // There was no room for more, and there is now.
                Pumped::Blocked => {}
                Pumped::Turn | Pumped::Starved => return self.put_back(source, stopped),
                Pumped::Ended | Pumped::Reset | Pumped::Broken => {
                    return self.refuse(source, FailReason::SourceGone);
                }
            }
        }
        self.put_back(source, Pumped::Turn);
    }

    /// It has said what it wants. How it was read so far says nothing of what comes now.
    fn asked(&mut self, source: SideKey, target: S::Target) {
        let (side, dest) = self.table.pair_mut(source);
        (side.bytes, side.streak) = (0, 0);
        side.flags.clear(Flags::BULK);
        dest.flags.clear(Flags::WRITABLE);
        self.dial_for(source.other(), target);
    }

    /// What its transport has to say goes before what the dest has, and what the source has said
    /// before goes first to the dest.
    pub(crate) fn let_precede(&mut self, source: SideKey) {
        for key in [source, source.other()] {
            let Lent::Bytes(bytes) = self.source.bytes(stand_in(key)) else { continue };
            let side = self.table.side_mut(key);
            side.flags.set(Flags::PRECEDED);
            if key.kind() == SideKind::Source {
                side.bytes += bytes.len() as u64;
            }
        }
    }

    /// Moves what goes before all else of `from`; how that stopped, if it did.
    pub(crate) fn precede(&mut self, from: SideKey) -> Option<Pumped> {
        let handle = self.table.handle(from.other())?;
        let (side, other) = self.table.pair_mut(from);
        let to = End::new(handle, other);
        let moved = match from.kind() {
            SideKind::Source if D::LENDS => {
                self.relay.pass_on(stand_in(from), to, (&mut self.source, &mut self.dest))
            }
            _ => self.relay.say(stand_in(from), to, &mut self.source),
        };
        if moved.is_ok() {
            side.flags.clear(Flags::PRECEDED);
        }
        moved.err()
    }

    /// Reads what a source says into the room that is lent in its dest's stead.
    fn hear_source(&mut self, source: SideKey) -> Pumped {
        let Some(handle) = self.table.handle(source) else { return Pumped::Reset };
        let (side, dest) = self.table.pair_mut(source);
        dest.flags.set(Flags::WRITABLE);
        let (from, to) = (End::new(handle, side), End::new(stand_in(source.other()), dest));
        self.relay.fill(from, to, &mut self.source)
    }

    /// Writes to a source what is said in its dest's stead.
    fn say_to(&mut self, source: SideKey) -> Result<(), Pumped> {
        let Some(handle) = self.table.handle(source) else { return Err(Pumped::Broken) };
        let to = End::new(handle, self.table.side_mut(source));
        self.relay.say(stand_in(source.other()), to, &mut self.source)
    }

    /// A source whose dest was not reached is told why, if its transport has words for that; `false` if
    /// not. Once the proxy is told to stop nobody is told anything.
    pub(crate) fn tell(&mut self, source: SideKey, reason: FailReason) -> bool {
        if reason == FailReason::SourceGone || self.table.commons.ordered() == Order::Stop {
            return false;
        }
        let Some(handle) = self.table.handle(source) else { return false };
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        let told = self.source.answer(handle, source, Err(reason), &mut desk);
        let words = self.source.bytes(stand_in(source.other()));
        if told.is_err() || !matches!(words, Lent::Bytes(_)) {
            return false;
        }
        let dest = source.other();
        self.table.set_handle(dest, None);
        self.table.side_mut(dest).stage = Stage::Parting;
        let peer = self.table.side(source).peer;
        self.table.share().counters.count_failed(reason);
        let data = self.data(source.connection());
        self.observer.notice(Notice::Refused { source: peer, reason, data });
        self.timers.arm(source.connection(), now.after(self.options.reset_flush_millis));
        self.part(source);
        true
    }

    /// Goes on with a source that is being told: its words, an end, and then what it says is read
    /// away until it has ended as well, because a close with bytes unread is a reset, which may
    /// overtake the words (RFC 9112 section 9.6).
    pub(crate) fn part(&mut self, source: SideKey) {
        let stopped = match self.say_to(source) {
            Ok(()) => {
                self.shut_source(source);
                self.hear_source(source)
            }
            Err(stopped) => stopped,
        };
        match stopped {
            Pumped::Drained | Pumped::Blocked => {}
            Pumped::Turn | Pumped::Starved => self.put_back(source, stopped),
            Pumped::Ended => self.parted(source, None),
            Pumped::Reset | Pumped::Broken => self.parted(source, Some(FailReason::Reset)),
        }
    }

    /// What is said in its dest's stead is all that it will hear.
    fn shut_source(&mut self, source: SideKey) {
        let flags = &mut self.table.side_mut(source).flags;
        if flags.has(Flags::SHUT) {
            return;
        }
        flags.set(Flags::SHUT);
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        if let Some(handle) = self.table.handle(source) {
            self.source.shut(handle, &mut desk);
        }
    }

    /// A source that was being told has had time enough.
    pub(crate) fn parting_expired(&mut self, source: SideKey) {
        let is_told = self.table.side(source).flags.has(Flags::SHUT);
        self.parted(source, (!is_told).then_some(FailReason::TimedOut));
    }

    /// A source that was refused, and told, is closed.
    pub(crate) fn parted(&mut self, source: SideKey, reason: Option<FailReason>) {
        if let Some(handle) = self.table.handle(source) {
            self.close(SideKind::Source, handle, reason);
        }
        self.vacate(source.connection());
    }
}
