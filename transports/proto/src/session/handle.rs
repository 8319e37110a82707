//! What a message of the far end does. Nothing it says is believed before it is checked.

use super::life::Stage;
use super::{CREDIT_BYTES_MAX, Config, Heard, Session, Slot, is_ours};
use crate::channel::{Channel, Flags};
use crate::message::{ChannelId, Message, Target, fail_reason};
use crate::window;
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
                self.handle_hello(hello, now)?;
                Ok(if self.is_up() { Heard::Up } else { Heard::Nothing })
            }
            Message::Data { channel, fin, bytes } => self.handle_data(channel, fin, bytes),
            Message::Credit { channel, max_offset } => self.handle_credit(channel, max_offset),
            Message::Open { channel, credit, target, client } => {
                self.handle_open(channel, credit, target, client, now)
            }
            Message::Opened { channel, credit } => self.handle_opened(channel, credit),
            Message::Reset { channel, reason, final_offset } => {
                self.handle_reset(channel, reason, final_offset)
            }
            Message::Stop { channel, reason } => self.handle_stop(channel, reason),
            Message::Done { channel } => self.handle_done(channel),
            Message::Ping(value) => Ok(self.handle_ping(value)),
            Message::Pong(value) => {
                self.handle_pong(value, now);
                Ok(Heard::Nothing)
            }
            Message::Goaway { .. } => {
                self.life.peer_draining = true;
                Ok(Heard::Draining)
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
        let is_next = !channel.flags.has(Flags::LIVE) && channel.generation == id.generation();
        if is_ours(index) || !is_next || credit > CREDIT_BYTES_MAX {
            return Err(FailReason::Protocol);
        }
        self.occupy(index, credit, now);
        let Config { opens_per_second_max, .. } = self.config;
        let refused = if !self.life.count_open(opens_per_second_max, now) {
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
        Ok(Heard::Opened { slot, target, client })
    }

    fn handle_opened(&mut self, id: ChannelId, credit: u32) -> Result<Heard<'static>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let channel = &mut self.channels[index];
        let is_late = channel.flags.any(Flags::OPENED | Flags::LAST_RECEIVED);
        if !is_ours(index) || is_late || credit > CREDIT_BYTES_MAX {
            return Err(FailReason::Protocol);
        }
        channel.flags.set(Flags::OPENED);
        raise(channel, self.config.first_offset.wrapping_add(credit))?;
        Ok(self.unless_closed(index, Heard::Accepted))
    }

    fn handle_credit(&mut self, id: ChannelId, max: u32) -> Result<Heard<'static>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let had_room = self.room_of(index) > 0;
        raise(&mut self.channels[index], max)?;
        let has_room = self.room_of(index) > 0;
        Ok(if has_room && !had_room { Heard::Credit(Slot(index as u32)) } else { Heard::Nothing })
    }

    fn handle_data<'m>(
        &mut self,
        id: ChannelId,
        fin: bool,
        bytes: &'m [u8],
    ) -> Result<Heard<'m>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let channel = &mut self.channels[index];
        let too_early = is_ours(index) && !channel.flags.has(Flags::OPENED);
        if too_early || channel.flags.any(Flags::LAST_RECEIVED) {
            return Err(FailReason::Protocol);
        }
        if bytes.len() > channel.granted.wrapping_sub(channel.received) as usize {
            return Err(FailReason::CreditExceeded);
        }
        debug_assert!(channel.unconsumed() == channel.queue.bytes(), "bytes were left lying");
        channel.received = channel.received.wrapping_add(bytes.len() as u32);
        let is_dropped = channel.flags.has(Flags::DROPPING);
        if is_dropped {
            channel.consumed = channel.received;
        }
        if fin {
            self.hear_last_word(index, Flags::FIN_RECEIVED);
        }
        if is_dropped || bytes.is_empty() {
            let heard = if fin { self.unless_closed(index, Heard::Ended) } else { Heard::Nothing };
            self.settle(index);
            return Ok(heard);
        }
        Ok(Heard::Bytes { slot: Slot(index as u32), bytes, fin })
    }

    fn handle_reset(
        &mut self,
        id: ChannelId,
        reason: u16,
        final_offset: u32,
    ) -> Result<Heard<'static>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let channel = &mut self.channels[index];
        if channel.flags.any(Flags::LAST_RECEIVED) || final_offset != channel.received {
            return Err(FailReason::Protocol);
        }
        channel.reset_received = fail_reason(reason).unwrap_or(FailReason::Reset) as u8;
        if !channel.flags.any(Flags::LAST_SENT | Flags::OWES_RESET) {
            channel.reset_sent = channel.reset_received;
            self.owe(index, Flags::OWES_RESET, Flags::OWES_ANY);
            self.lists.schedule.remove(self.channels, index);
        }
        self.hear_last_word(index, Flags::RESET_RECEIVED);
        self.owe(index, Flags::default(), Flags::OWES_STOP);
        let heard = self.unless_closed(index, Heard::Ended);
        self.settle(index);
        Ok(heard)
    }

    /// The far end says nothing more, so it needs no credit. (A STOP that is owed stays owed: it tells
    /// that bytes were not read.)
    fn hear_last_word(&mut self, index: usize, word: Flags) {
        let channel = &mut self.channels[index];
        channel.flags.set(word);
        window::close(channel, &mut self.pool, self.terms);
        self.owe(index, Flags::default(), Flags::OWES_CREDIT);
    }

    fn handle_stop(&mut self, id: ChannelId, reason: u16) -> Result<Heard<'static>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let channel = &mut self.channels[index];
        if channel.flags.has(Flags::STOP_RECEIVED) {
            return Ok(Heard::Nothing);
        }
        channel.flags.set(Flags::STOP_RECEIVED);
        channel.stop_received = fail_reason(reason).unwrap_or(FailReason::Reset) as u8;
        // Nothing more will be sent, and the far end waits for the last word.
        if !channel.has_ended() {
            self.owe(index, Flags::OWES_FIN, Flags::default());
        }
        self.lists.schedule.remove(self.channels, index);
        Ok(self.unless_closed(index, Heard::Stopped))
    }

    fn handle_done(&mut self, id: ChannelId) -> Result<Heard<'static>, FailReason> {
        let Some(index) = self.find(id)? else { return Ok(Heard::Nothing) };
        let flags = self.channels[index].flags;
        let both = flags.any(Flags::LAST_SENT) && flags.any(Flags::LAST_RECEIVED);
        if !is_ours(index) || !both || flags.has(Flags::DONE_RECEIVED) {
            return Err(FailReason::Protocol);
        }
        self.owe(index, Flags::DONE_RECEIVED, Flags::OWES_ANY);
        self.settle(index);
        Ok(Heard::Nothing)
    }

    fn unless_closed(&self, index: usize, heard: fn(Slot) -> Heard<'static>) -> Heard<'static> {
        let is_closed = self.channels[index].flags.has(Flags::CLOSED);
        if is_closed { Heard::Nothing } else { heard(Slot(index as u32)) }
    }
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
