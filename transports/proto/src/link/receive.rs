//! How a link receives: packets become messages, and messages what the link tells. A part of
//! `link.rs`, whose invariants are kept here.

use super::{ERROR, Incoming, Link, READABLE, STARVED_MILLIS, Told, WRITABLE};
use crate::carrier::{Carrier, Received};
use crate::message::{is_keyed, parse};
use crate::session::{Heard, Session, Slot};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Ready};
use seaprox::time::Instant;
use seaprox::wanted::Wish;

/// What a message was.
enum Read {
    /// Heard, and the user of the link may have to be told.
    Told(Option<Told>),
    /// Without effect: it has to come again.
    Refused,
}

/// What a side is to look at when something has come for it.
fn news(session: &Session<'_>, slot: Slot) -> Ready {
    match (session.is_over(slot), session.is_broken(slot)) {
        (true, _) => ERROR,
        (false, true) => Ready { writable: true, ..READABLE },
        (false, false) => READABLE,
    }
}

impl<C: Carrier> Link<'_, C> {
    /// What of the current packet nobody has taken waits in the channel's chunks from now on.
    pub(super) fn keep_current(&mut self) {
        if let Some((slot, range)) = self.incoming.current.take() {
            self.session.store(slot, &self.incoming.buffer[range]);
        }
    }

    /// Hears what there is; then it may be time to ask for more, or to give up. In this order, as this
    /// end may be the one that stood still.
    pub(super) fn listen_in_time(&mut self, now: Instant) -> Result<Option<Told>, FailReason> {
        loop {
            if let Some(told) = self.listen()? {
                return Ok(Some(told));
            }
            if !self.poll_carrier()? {
                break;
            }
        }
        self.session.handle_timeout(now)?;
        Ok(None)
    }

    /// Lets the carrier do what it has to, once a turn and after each packet; whether there may be more
    /// to hear then.
    fn poll_carrier(&mut self) -> Result<bool, FailReason> {
        if core::mem::replace(&mut self.is_polled, true) {
            return Ok(false);
        }
        let Some(carrier) = &mut self.carrier else { return Err(FailReason::LinkDown) };
        let ready = carrier.poll()?;
        self.note(ready);
        Ok(self.readable && self.budget > 0)
    }

    /// Reads messages, and receives packets, until one tells something.
    fn listen(&mut self) -> Result<Option<Told>, FailReason> {
        loop {
            while !self.incoming.unread.is_empty() {
                let (told, kept) = match self.read_message()? {
                    Read::Refused => {
                        self.incoming.unread = 0..0;
                        (None, false)
                    }
                    Read::Told(told) => (told, true),
                };
                if self.incoming.unread.is_empty()
                    && let Some(carrier) = &mut self.carrier
                {
                    carrier.handled(kept);
                }
                if told.is_some() {
                    return Ok(told);
                }
            }
            if !self.readable || self.budget == 0 {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    /// Reads the next message of the packet; what it tells the user of the link.
    fn read_message(&mut self) -> Result<Read, FailReason> {
        let Incoming { buffer, stream, unread, current, .. } = &mut self.incoming;
        let (message, length) = parse(&buffer[unread.clone()]).map_err(|_| FailReason::Protocol)?;
        unread.start += length;
        let (slot, ready) = match self.session.handle(message, *stream, self.now)? {
            Heard::Nothing => return Ok(Read::Told(None)),
            Heard::Refused => return Ok(Read::Refused),
            Heard::Up => return Ok(Read::Told(Some(Told::Up))),
            Heard::Opened { slot, target, client, early } => {
                self.early = early.then_some(slot);
                // No name on the wire is longer than a wish's can be.
                self.wanted = Wish::new(target.into()).ok_or(FailReason::Protocol)?;
                let client = client.map_or(Address::UNKNOWN, Address::from);
                let channel = self.handle_of(slot);
                return Ok(Read::Told(Some(Told::Opened { channel, client })));
            }
            Heard::Bytes { slot, bytes, .. } => {
                // They are the last of the message.
                let range = unread.start - bytes.len()..unread.start;
                let ready = news(&self.session, slot);
                if self.session.stored(slot).is_empty() {
                    *current = Some((slot, range));
                } else {
                    self.session.store(slot, bytes);
                    if ready == READABLE {
                        // That was told.
                        return Ok(Read::Told(None));
                    }
                }
                (slot, ready)
            }
            Heard::Stopped(slot) if self.session.is_over(slot) => (slot, ERROR),
            Heard::Accepted(slot) | Heard::Credit(slot) | Heard::Stopped(slot) => (slot, WRITABLE),
            Heard::Ended(slot) | Heard::Stored(slot) => (slot, news(&self.session, slot)),
            Heard::Draining => return Ok(Read::Told(Some(Told::Draining))),
            Heard::Closed(reason) => {
                self.dead = Some(reason);
                return Err(reason);
            }
        };
        Ok(Read::Told(self.side_of(slot).map(|side| Told::Ready(side, ready))))
    }

    /// What came of a channel before its OPEN, now that it has a side.
    pub(super) fn tell_early(&mut self) -> Option<Told> {
        let slot = self.early.take()?;
        let ready = news(&self.session, slot);
        self.side_of(slot).map(|side| Told::Ready(side, ready))
    }

    /// Receives a piece of a packet.
    fn receive(&mut self) -> Result<(), FailReason> {
        let Incoming { buffer, demarcator, stream, unread, .. } = &mut self.incoming;
        let Some(carrier) = &mut self.carrier else { return Err(FailReason::LinkDown) };
        self.budget -= 1;
        let received = carrier.receive(demarcator.room(buffer));
        if received.is_ok() {
            (self.has_received, self.is_polled) = (true, false);
        }
        match received {
            Ok(Received::Piece { stream: of, bytes, end }) => {
                if let Some(whole) =
                    demarcator.piece(of, bytes, end).map_err(|_| FailReason::Protocol)?
                {
                    *stream = of;
                    *unread = carrier.open(of, &mut buffer[..whole])?;
                    if self.session.is_greeting() && is_keyed(&buffer[unread.clone()]) {
                        return Err(FailReason::Auth);
                    }
                }
                Ok(())
            }
            Ok(Received::Up | Received::Nothing) => Ok(()),
            Ok(Received::Restarted | Received::Gone) => Err(FailReason::LinkDown),
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(())
            }
            Err(Errno::INTR) => {
                self.budget = 0;
                Ok(())
            }
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                self.readable = false;
                self.starved_until = Some(self.now.after(STARVED_MILLIS));
                Ok(())
            }
            Err(Errno::MSGSIZE) => Err(FailReason::Protocol),
            Err(_) => Err(FailReason::LinkDown),
        }
    }
}
