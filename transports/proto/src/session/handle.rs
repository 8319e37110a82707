//! What a message of the far end does. Nothing it says is believed before it is checked.

use super::life::Stage;
use super::{CREDIT_BYTES_MAX, Config, Heard, Role, Session, Slot, is_ours};
use crate::channel::{Channel, Flags};
use crate::message::{ChannelId, Message, Target, fail_reason};
use core::net::SocketAddr;
use seaprox::fail::FailReason;
use seaprox::time::Instant;

impl Session<'_> {
    /// Takes in one message that arrived on a stream (0 if the carrier has none).
    ///
    /// # Errors
    /// The far end broke the rules: [`FailReason::Protocol`], [`FailReason::CreditExceeded`],
    /// [`FailReason::Version`]. The link is to be closed with this reason.
    pub fn handle<'m>(
        &mut self,
        message: Message<'m>,
        stream: u16,
        now: Instant,
    ) -> Result<Heard<'m>, FailReason> {
        if matches!(self.life.stage, Stage::Down | Stage::Closing | Stage::Closed) {
            return Ok(Heard::Nothing);
        }
        self.life.heard(now);
        self.check_order(&message, stream)?;
        match message {
            Message::Hello(hello) => {
                let is_up = self.handle_hello(hello, now)?;
                Ok(if is_up { Heard::Up } else { Heard::Nothing })
            }
            Message::Data { channel, fin, stopped, offset, bytes } => {
                self.handle_data(channel, Part { fin, stopped, offset, bytes }, now)
            }
            Message::Credit { channel, max_offset } => {
                let Some(index) = self.find(channel, now)? else { return Ok(Heard::Nothing) };
                self.handle_credit(index, max_offset)
            }
            Message::Open { channel, credit, target, client } => {
                self.handle_open(channel, credit, target, client, now)
            }
            Message::Opened { channel, credit } => {
                let Some(index) = self.find(channel, now)? else { return Ok(Heard::Nothing) };
                self.handle_opened(index, credit)
            }
            Message::Reset { channel, reason, final_offset } => {
                let Some(index) = self.find(channel, now)? else { return Ok(Heard::Nothing) };
                self.handle_reset(index, reason, final_offset)
            }
            Message::Stop { channel, reason } => {
                let Some(index) = self.find(channel, now)? else { return Ok(Heard::Nothing) };
                Ok(self.handle_stop(index, reason))
            }
            Message::Done { channel } => {
                let Some(index) = self.find(channel, now)? else { return Ok(Heard::Nothing) };
                self.handle_done(index)
            }
            Message::Ping(value) => Ok(self.handle_ping(value, now)),
            Message::Pong(value) => {
                self.handle_pong(value, now);
                Ok(Heard::Nothing)
            }
            Message::Goaway { .. } => {
                let is_copy = core::mem::replace(&mut self.life.peer_draining, true);
                let is_copy = is_copy && self.is_unordered();
                Ok(if is_copy { Heard::Nothing } else { Heard::Draining })
            }
            Message::Close { reason, .. } => Ok(self.handle_close(reason)),
            Message::Pad | Message::Skipped => Ok(Heard::Nothing),
        }
    }

    /// Each message on its stream, and none before hello.
    fn check_order(&self, message: &Message<'_>, stream: u16) -> Result<(), FailReason> {
        let channel = message.channel();
        let expected = channel.filter(|_| self.has_streams()).map_or(0, ChannelId::stream);
        let anywhere = matches!(message, Message::Pad | Message::Skipped);
        let greeted = match message {
            Message::Hello(_) | Message::Close { .. } => true,
            // They may overtake the acceptor's hello, which answers ours.
            Message::Ping(_) | Message::Pong(_) | Message::Goaway { .. }
                if self.is_unordered() && self.config.role == Role::Initiator =>
            {
                self.life.hello_sent
            }
            // The far end cannot know whether it may have a channel before it has our hello.
            _ => self.life.stage != Stage::Greeting && self.life.hello_sent,
        };
        if greeted && (anywhere || stream == expected) { Ok(()) } else { Err(FailReason::Protocol) }
    }

    fn handle_open<'m>(
        &mut self,
        id: ChannelId,
        credit: u32,
        target: Target<'m>,
        client: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Heard<'m>, FailReason> {
        let index = self.place_of(id)?;
        let channel = &self.channels[index];
        let is_vacant = !channel.flags.has(Flags::LIVE);
        let is_next = is_vacant && channel.generation == id.generation();
        if is_ours(index) || credit > CREDIT_BYTES_MAX {
            return Err(FailReason::Protocol);
        }
        if self.is_unordered() {
            match self.find(id, now)? {
                Some(index) if self.channels[index].flags.has(Flags::EARLY) => {}
                // A copy.
                _ => return Ok(Heard::Nothing),
            }
        } else if is_next {
            self.occupy(index, 0, now);
        } else {
            return Err(FailReason::Protocol);
        }
        let channel = &mut self.channels[index];
        channel.flags.clear(Flags::EARLY);
        raise(channel, self.config.first_offset.wrapping_add(credit))?;
        // What was owed already may be said now.
        self.owe(index, Flags::default(), Flags::default());
        let Config { opens_per_second_max, .. } = self.config;
        let refused = if !self.life.opens.count(opens_per_second_max, now) {
            Some(FailReason::TableFull)
        } else {
            self.life.draining.then_some(FailReason::Shutdown)
        };
        let slot = Slot(index as u32);
        if refused.is_some() {
            self.close_channel(slot, refused);
            return Ok(Heard::Nothing);
        }
        self.life.last_opened = id;
        Ok(Heard::Opened { slot, target, client, early: !is_vacant })
    }

    fn handle_opened(&mut self, index: usize, credit: u32) -> Result<Heard<'static>, FailReason> {
        let is_unordered = self.is_unordered();
        let channel = &mut self.channels[index];
        let is_late = channel.flags.any(Flags::OPENED | Flags::LAST_RECEIVED);
        if !is_ours(index) || is_late && !is_unordered || credit > CREDIT_BYTES_MAX {
            return Err(FailReason::Protocol);
        }
        let max = self.config.first_offset.wrapping_add(credit);
        if is_late {
            // It is a copy, or what came before has said the same.
            return self.handle_credit(index, max);
        }
        channel.flags.set(Flags::OPENED);
        raise(channel, max)?;
        Ok(self.unless_closed(index, Heard::Accepted))
    }

    fn handle_credit(&mut self, index: usize, max: u32) -> Result<Heard<'static>, FailReason> {
        let had_room = self.room_of(index) > 0;
        raise(&mut self.channels[index], max)?;
        let has_room = self.room_of(index) > 0;
        Ok(if has_room && !had_room { Heard::Credit(Slot(index as u32)) } else { Heard::Nothing })
    }

    fn handle_reset(
        &mut self,
        index: usize,
        reason: u16,
        final_offset: u32,
    ) -> Result<Heard<'static>, FailReason> {
        if self.check_end(index, Flags::RESET_RECEIVED, final_offset)? {
            return Ok(Heard::Nothing);
        }
        let channel = &mut self.channels[index];
        channel.reset_received = fail_reason(reason).unwrap_or(FailReason::Reset) as u8;
        if !channel.flags.any(Flags::LAST_SENT | Flags::OWES_RESET) {
            channel.reset_sent = channel.reset_received;
            self.owe(index, Flags::OWES_RESET, Flags::OWES_ANY);
            self.lists.schedule.remove(self.channels, index);
        }
        self.hear_last_word(index, Flags::RESET_RECEIVED, final_offset);
        self.owe(index, Flags::default(), Flags::OWES_STOP);
        let heard = self.unless_closed(index, Heard::Ended);
        self.settle(index);
        Ok(heard)
    }

    pub(super) fn handle_stop(&mut self, index: usize, reason: u16) -> Heard<'static> {
        let channel = &mut self.channels[index];
        if channel.flags.has(Flags::STOP_RECEIVED) {
            return Heard::Nothing;
        }
        channel.flags.set(Flags::STOP_RECEIVED);
        channel.stop_received = fail_reason(reason).unwrap_or(FailReason::Reset) as u8;
        // Nothing more will be sent, and the far end waits for the last word.
        if !channel.has_ended() {
            self.owe(index, Flags::OWES_FIN, Flags::default());
        }
        self.lists.schedule.remove(self.channels, index);
        self.unless_closed(index, Heard::Stopped)
    }

    fn handle_done(&mut self, index: usize) -> Result<Heard<'static>, FailReason> {
        let is_unordered = self.is_unordered();
        let flags = self.channels[index].flags;
        let in_order = flags.any(Flags::LAST_RECEIVED) && !flags.has(Flags::DONE_RECEIVED);
        if !is_ours(index) || !flags.any(Flags::LAST_SENT) || !in_order && !is_unordered {
            return Err(FailReason::Protocol);
        }
        self.owe(index, Flags::DONE_RECEIVED, Flags::OWES_ANY);
        self.settle(index);
        Ok(Heard::Nothing)
    }

    pub(super) fn unless_closed(
        &self,
        index: usize,
        heard: fn(Slot) -> Heard<'static>,
    ) -> Heard<'static> {
        let is_nobodys = self.channels[index].flags.any(Flags::CLOSED | Flags::EARLY);
        if is_nobodys { Heard::Nothing } else { heard(Slot(index as u32)) }
    }
}

/// What a DATA message says.
pub(super) struct Part<'m> {
    pub(super) fin: bool,
    pub(super) stopped: bool,
    pub(super) offset: Option<u32>,
    pub(super) bytes: &'m [u8],
}

/// The far end allows sending up to an offset; an old word of it changes nothing.
fn raise(channel: &mut Channel, max: u32) -> Result<(), FailReason> {
    if (max.wrapping_sub(channel.sendable) as i32) <= 0 {
        return Ok(());
    }
    if max.wrapping_sub(channel.sent) > CREDIT_BYTES_MAX {
        return Err(FailReason::Protocol);
    }
    channel.sendable = max;
    Ok(())
}
