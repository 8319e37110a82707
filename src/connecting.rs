//! How connections begin: a source comes, its dest is reached step by step. Part of the worker; knows
//! no transport but by its verbs.
//!
//! Invariant: from [`Worker::dial_for`] until [`Worker::connected`] or [`Worker::refuse`] the source is
//! connected and the dest connecting, and nothing is read from the source.

use crate::address::Address;
use crate::fail::FailReason;
use crate::side::{Dialing, Flags, Handle, SideKey, Stage};
use crate::sys::Sys;
use crate::transport::{Asked, Attempt, Cause, Desk, Dest, Dial, Notice, Observer, Source, Step};
use crate::worker::Worker;

impl<K, S, D, O> Worker<'_, K, S, D, O>
where
    K: Sys,
    S: Source<K>,
    D: Dest<K, S::Target>,
    O: Observer,
{
    /// A source came.
    pub(crate) fn opened(&mut self, handle: Handle, peer: Address) {
        let share = self.table.share();
        share.counters.count_accepted();
        let Some(connection) = self.table.occupy() else {
            return self.turn_away(handle, peer, FailReason::TableFull, [0; 2]);
        };
        let source = SideKey::source(connection);
        if let Some(fd) = handle.fd()
            && let Err(errno) = self.poller.add_side(fd, source)
        {
            self.table.vacate(connection);
            self.exhausted(errno);
            self.poller.retire_with_reset(fd);
            return;
        }
        self.count();
        self.table.set_handle(source, Some(handle));
        let prompt = if S::PROMPT { Flags::PROMPT } else { Flags::default() };
        let side = self.table.side_mut(source);
        side.peer = peer;
        side.connect(prompt.or(Flags::WRITABLE));
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        match self.source.target(handle, source, &mut desk) {
            Asked::For(target) => self.dial_for(source.other(), target),
            Asked::Until(until) if S::ASKS => self.wait_for_word(source, until),
            Asked::Until(_) => self.refuse(source, FailReason::Other),
            Asked::Refused(reason) => self.refuse(source, reason),
        }
    }

    /// It is known what a source is to be connected to.
    pub(crate) fn dial_for(&mut self, dest: SideKey, target: S::Target) {
        self.table.side_mut(dest).stage = Stage::Connecting(Dialing::default());
        self.dial(dest, Cause::Start(target));
    }

    /// The next step in reaching a dest.
    pub(crate) fn dial(&mut self, key: SideKey, cause: Cause<S::Target>) {
        let connection = key.connection();
        let now = self.now();
        let Stage::Connecting(mut dialing) = self.table.side(key).stage else {
            return;
        };
        let mut dial = Dial {
            desk: Desk { sys: self.sys, poller: &mut self.poller, now },
            side: key,
            fd: self.table.fd(key),
            peer: self.table.side(key).peer,
            source: self.table.side(key.other()).peer,
            awaited: S::ASKS && self.source.waits(key.other()),
            notes: &mut dialing.notes,
            mailbox: self.table.mailbox(connection),
            ticket: self.table.ticket(connection, self.generation),
            generation: &mut dialing.generation,
        };
        let step = self.dest.dial(&mut dial, cause);
        self.generation = dial.ticket.generation;
        let fd = dial.fd;
        self.table.set_fd(key, fd);
        self.table.side_mut(key).stage = Stage::Connecting(dialing);
        match step {
            Step::Wait(until) => self.timers.arm(connection, until),
            Step::Attempt(attempt, until) => {
                if self.take_over(key, attempt) {
                    self.timers.arm(connection, until);
                }
            }
            Step::Connected => self.connected(key),
            Step::Adopted(attempt) => {
                if self.take_over(key, attempt) {
                    self.connected(key);
                }
            }
            Step::Lent(channel, peer) => {
                self.table.set_handle(key, Some(channel));
                self.table.side_mut(key).peer = peer;
                self.connected(key);
            }
            Step::Failed(reason) => self.refuse(key, reason),
        }
    }

    /// A dest's descriptor is the side's from now on; `false` when the kernel cannot watch it.
    fn take_over(&mut self, key: SideKey, attempt: Attempt) -> bool {
        self.table.set_fd(key, Some(attempt.fd));
        let side = self.table.side_mut(key);
        side.peer = attempt.peer;
        side.flags.clear(Flags::SAID_BY_EVENTS);
        let watched = match attempt.registered {
            true => self.poller.give_to_side(attempt.fd, key),
            false => self.poller.add_side(attempt.fd, key),
        };
        if watched.is_err() {
            self.refuse(key, FailReason::OutOfDescriptors);
        }
        watched.is_ok()
    }

    /// A dest was reached: bytes flow from now on.
    fn connected(&mut self, key: SideKey) {
        let prompt = if D::PROMPT { Flags::PROMPT } else { Flags::default() };
        self.table.side_mut(key).connect(prompt.or(Flags::WRITABLE));
        self.table.share().counters.count_connected();
        let told = if S::LENDS || S::ASKS { self.answer(key.other()) } else { Ok(()) };
        self.observer.notice(Notice::Connected(self.describe(key.connection())));
        if let Err(reason) = told {
            self.finish(key.connection(), Some(reason));
            return;
        }
        self.touch(key.connection());
        self.arm_life(key.connection());
        // Reset before anybody has looked, with bytes to be read before that.
        if self.table.side(key).flags.has(Flags::ERROR) {
            self.side_in_error(key);
        }
        self.drive(key.other());
    }

    /// The source is told that its dest was reached.
    fn answer(&mut self, source: SideKey) -> Result<(), FailReason> {
        let Some(handle) = self.table.handle(source) else { return Ok(()) };
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        self.source.answer(handle, source, Ok(()), &mut desk)?;
        if S::ASKS {
            self.let_precede(source);
        }
        Ok(())
    }
}
