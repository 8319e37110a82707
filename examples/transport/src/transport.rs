//! What the engine sees of a line: a source or a dest whose one channel lends its memory.

use crate::frame::Kind;
use crate::line::{Last, Line, Phase, Role};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, Interest, RawFd, Ready, Sys, SysResult};
use seaprox::time::Instant;
use seaprox::transport::{
    Asked, Cause, Desk, Dest, Dial, Event, Lent, Room, Source, Step, Transport,
};

/// How long the far end may take to connect, in milliseconds.
const OPEN_MILLIS: u32 = 10_000;

/// The line's only channel.
const CHANNEL: Handle = Handle::channel(0);

impl Line {
    fn register<K: Sys>(&self, desk: &Desk<'_, K>) -> SysResult<()> {
        for (own, fd) in (0..).zip(self.descriptors()) {
            match self.role {
                Role::Source => desk.poller.add_source_own(fd, own)?,
                Role::Dest => desk.poller.add_dest_own(fd, own, Interest::Connection)?,
            }
        }
        Ok(())
    }

    /// What is to be told first.
    fn news(&mut self) -> Option<Event> {
        let may_come = self.is_wanted || self.is_looked_at;
        let Some(connection) = &mut self.connection else {
            let is_over = self.role == Role::Source && self.broken.is_some() && !self.has_ended;
            return is_over.then_some(Event::Ended);
        };
        let Some(side) = connection.side else {
            if self.has_ended || self.broken.is_some() {
                self.leave(Some(FailReason::Shutdown));
                return None;
            }
            let is_new = connection.phase == Phase::Offered && may_come;
            if is_new {
                connection.phase = Phase::Begun;
            }
            return is_new.then_some(Event::Opened { handle: CHANNEL, peer: Address::UNKNOWN });
        };
        match (self.role, connection.phase) {
            (Role::Dest, Phase::Answered) => return Some(Event::Dialed(side)),
            (Role::Dest, Phase::Begun) => return None,
            _ => {}
        }
        let is_reset = matches!(connection.heard, Some(Last::Reset(_)));
        let (wants_bytes, wants_room) = (connection.wants_bytes, connection.wants_room);
        let is_over = connection.heard.is_some();
        let ready = Ready {
            readable: wants_bytes && (is_over || !self.lent().is_empty()),
            writable: wants_room && (is_reset || !self.room().is_empty()),
            read_closed: false,
            hung_up: wants_bytes && is_reset,
            error: wants_bytes && is_reset,
            urgent: false,
        };
        let connection = self.connection.as_mut()?;
        connection.wants_bytes &= !ready.readable;
        connection.wants_room &= !ready.writable;
        (ready != Ready::default()).then_some(Event::Ready(side, ready))
    }
}

impl<K: Sys> Transport<K> for Line {
    /// There is no Nagle's algorithm on a line.
    const PROMPT: bool = true;
    const LENDS: bool = true;

    fn ready(&mut self, _: u32, _: RawFd, ready: Ready) {
        self.is_readable |= ready.readable || ready.hung_up || ready.error;
        self.is_stirred = true;
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        if !self.is_registered {
            self.is_registered = true;
            if self.register(desk).is_err() {
                self.give_up();
            }
        }
        self.write();
        self.is_stirred = false;
        self.hear();
        let news = self.news();
        self.is_stirred |= news.is_some();
        self.is_looked_at &= news.is_some();
        news
    }

    fn shut(&mut self, _: Handle, _: &mut Desk<'_, K>) {
        self.finish();
    }

    fn stop(&mut self, _: Handle, _: &mut Desk<'_, K>) {
        if let Some(connection) = &mut self.connection {
            connection.drops = true;
            self.is_stirred = true;
        }
    }

    fn close(&mut self, _: Handle, reason: Option<FailReason>, _: &mut Desk<'_, K>) {
        self.leave(reason);
    }

    fn bytes(&mut self, _: Handle) -> Lent<'_> {
        self.hear();
        let lent = self.lent();
        let Some(connection) = &mut self.connection else { return Lent::Drained };
        match connection.heard {
            _ if !lent.is_empty() => Lent::Bytes(self.input(lent)),
            Some(Last::End) => Lent::Ended,
            Some(Last::Reset(reason)) => Lent::Reset(reason),
            None => {
                connection.wants_bytes = true;
                Lent::Drained
            }
        }
    }

    fn consume(&mut self, _: Handle, bytes: usize) {
        Line::consume(self, bytes);
    }

    fn room(&mut self, _: Handle) -> Room<'_> {
        let is_full = Line::room(self).is_empty();
        match &mut self.connection {
            Some(connection) if !matches!(connection.heard, Some(Last::Reset(_))) => {
                connection.wants_room |= is_full;
            }
            _ => return Room::Broken,
        }
        if is_full { Room::Full } else { Room::Bytes(Line::room(self)) }
    }

    fn commit(&mut self, _: Handle, bytes: usize) {
        Line::commit(self, bytes);
    }

    fn timeout(&self) -> Option<Instant> {
        self.is_stirred.then_some(Instant::from_millis(0))
    }

    fn flush(&mut self, _: &mut Desk<'_, K>) {
        self.write();
    }

    fn is_flushed(&self) -> bool {
        Line::is_flushed(self)
    }
}

impl<K: Sys> Source<K> for Line {
    type Target = ();

    fn target(&mut self, _: Handle, side: SideKey, _: &mut Desk<'_, K>) -> Asked<()> {
        if let Some(connection) = &mut self.connection {
            connection.side = Some(side);
        }
        Asked::For(())
    }

    fn admit(&mut self, wanted: bool, _: &mut Desk<'_, K>) -> Result<(), Errno> {
        self.is_stirred |= wanted && !self.is_wanted;
        self.is_wanted = wanted;
        Ok(())
    }

    fn answer(
        &mut self,
        _: Handle,
        _: SideKey,
        outcome: Result<(), FailReason>,
        _: &mut Desk<'_, K>,
    ) -> Result<(), FailReason> {
        // One that was not reached is closed with the reason.
        if outcome.is_ok() && self.connection.is_some() {
            self.say(Kind::Opened, &[]);
        }
        Ok(())
    }

    fn look(&mut self) {
        self.is_looked_at = true;
        self.is_stirred = true;
    }

    fn end(&mut self, _: &mut Desk<'_, K>) {
        self.has_ended = true;
        self.is_stirred = true;
    }
}

impl<K: Sys, T> Dest<K, T> for Line {
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<T>) -> Step {
        let until = dial.desk.now.after(OPEN_MILLIS);
        if let Some(reason) = self.broken {
            return Step::Failed(reason);
        }
        let is_vacant = self.is_vacant();
        match (cause, &mut self.connection) {
            (Cause::Start(_), _) if is_vacant => {
                self.open(dial.side);
                Step::Wait(until)
            }
            (Cause::Start(_), _) => Step::Failed(FailReason::TableFull),
            (Cause::Own, Some(connection)) => match connection.heard {
                Some(Last::Reset(reason)) => Step::Failed(reason),
                _ => {
                    connection.phase = Phase::Flows;
                    Step::Lent(CHANNEL, Address::UNKNOWN)
                }
            },
            (Cause::Timeout, _) => Step::Failed(FailReason::TimedOut),
            _ => Step::Wait(until),
        }
    }

    fn abort(&mut self, side: SideKey, _: &[u8; 8], _: &mut Desk<'_, K>) {
        if self.connection.as_ref().is_some_and(|connection| connection.side == Some(side)) {
            self.leave(Some(FailReason::SourceGone));
        }
    }

    /// One at a time: clients wait in the backlog until the line is free. None waits for a broken line.
    fn is_open(&self) -> bool {
        self.is_vacant() || self.broken.is_some()
    }
}
