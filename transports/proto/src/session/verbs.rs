//! What the user of a channel may do with it.

use super::life::Stage;
use super::{Ended, Session, Slot, is_ours};
use crate::channel::{Channel, Flags};
use crate::message::{
    ChannelId, DATA_HEADER_BYTES, DataHeader, Message, OFFSET_HEADER_BYTES, Target, data_header,
};
use crate::{schedule, window};
use core::net::SocketAddr;
use seaprox::fail::FailReason;
use seaprox::time::Instant;

/// Why a channel was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// OPEN does not fit into what is left of the packet: with an empty one it will.
    NoRoom,
    /// [`FailReason::Unreachable`]: the link is down. [`FailReason::Shutdown`]: an end is draining.
    /// [`FailReason::TableFull`]: as many are open as may be. [`FailReason::NoSuchService`]: the
    /// name is longer than a name can be.
    Because(FailReason),
}

impl Session<'_> {
    /// The record of a channel whose user is there.
    fn record(&self, slot: Slot) -> Option<&Channel> {
        let channel = self.channels.get(slot.index())?;
        let flags = channel.flags;
        (flags.has(Flags::LIVE) && !flags.any(Flags::CLOSED | Flags::EARLY)).then_some(channel)
    }

    fn index(&self, slot: Slot) -> Option<usize> {
        self.record(slot).map(|_| slot.index())
    }

    /// Whether a channel can be opened now.
    pub fn can_open(&self) -> bool {
        self.why_not_open().is_none()
    }

    /// Whether none can be opened only because as many are open as may be.
    pub fn is_full(&self) -> bool {
        self.why_not_open() == Some(FailReason::TableFull)
    }

    fn why_not_open(&self) -> Option<FailReason> {
        if self.life.stage != Stage::Up {
            Some(FailReason::Unreachable)
        } else if self.life.draining || self.life.peer_draining {
            Some(FailReason::Shutdown)
        } else if self.lists.open[1] >= self.life.channels_max {
            Some(FailReason::TableFull)
        } else {
            None
        }
    }

    /// Opens a channel. OPEN is put into `out`, a packet for the channel's stream, at once; bytes may
    /// follow it as far as there is room.
    ///
    /// # Errors
    /// See [`Refused`]; then nothing happened.
    pub fn open(
        &mut self,
        user: u32,
        target: Target<'_>,
        client: Option<SocketAddr>,
        out: &mut [u8],
        now: Instant,
    ) -> Result<(Slot, usize), Refused> {
        if let Some(reason) = self.why_not_open() {
            return Err(Refused::Because(reason));
        }
        if let Target::Service(name) | Target::Name(name, _) = target
            && name.len() > crate::message::NAME_BYTES_MAX
        {
            return Err(Refused::Because(FailReason::NoSuchService));
        }
        let fresh = usize::from(self.lists.fresh) * 2 + 1;
        let index = self.lists.vacant.first().unwrap_or(fresh);
        let credit = self.terms.initial_bytes;
        let message = Message::Open { channel: self.id(index), credit, target, client };
        let Some(bytes) = message.emit(out) else { return Err(Refused::NoRoom) };
        match self.lists.vacant.pop(self.channels) {
            Some(_) => {}
            None => self.lists.fresh += 1,
        }
        self.occupy(index, self.life.peer_initial_credit, now);
        self.channels[index].user = user;
        Ok((Slot(index as u32), bytes))
    }

    /// The target of the far end's channel was reached: OPENED is owed. There is no room before it was
    /// emitted; then the channel waits to be told so.
    pub fn accept(&mut self, slot: Slot) {
        if let Some(index) = self.index(slot) {
            let flags = self.channels[index].flags;
            let is_known = flags.any(Flags::OPENED | Flags::LAST_SENT | Flags::OWES_RESET);
            if !is_ours(index) && !is_known {
                self.owe(index, Flags::OWES_OPENED, Flags::default());
            }
        }
    }

    /// What the far end has answered to the OPEN of a channel of ours: that its target was reached,
    /// or why it was not. `None`: nothing as yet.
    pub fn answer(&self, slot: Slot) -> Option<Result<(), FailReason>> {
        let channel = self.record(slot)?;
        match channel.flags.has(Flags::OPENED) {
            true => Some(Ok(())),
            false => FailReason::from_number(channel.reset_received).map(Err),
        }
    }

    /// What the user noted; 0 at first.
    pub fn user(&self, slot: Slot) -> u32 {
        self.record(slot).map_or(0, |channel| channel.user)
    }

    /// Notes something for the user.
    pub fn set_user(&mut self, slot: Slot, user: u32) {
        if let Some(index) = self.index(slot) {
            self.channels[index].user = user;
        }
    }

    /// Everybody's channel, and what they noted. O(records used since the start).
    pub fn users(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        let slots = (0..*self.touched).map(|index| Slot(index as u32));
        slots.filter_map(|slot| self.record(slot).map(|channel| (slot, channel.user)))
    }

    /// The first channel from a place on that has a user, and what that noted. O(records passed).
    pub fn next_user(&self, from: usize) -> Option<(Slot, u32)> {
        let mut slots = (from..*self.touched).map(|index| Slot(index as u32));
        slots.find_map(|slot| self.record(slot).map(|channel| (slot, channel.user)))
    }

    /// The stream on which the channel's packets travel; 0 if the carrier has none.
    pub fn stream_of(&self, slot: Slot) -> u16 {
        self.index(slot).map_or(0, |index| self.stream(index))
    }

    /// How many bytes may be sent on the channel now.
    pub fn room(&self, slot: Slot) -> u32 {
        self.index(slot).map_or(0, |index| self.room_of(index))
    }

    pub(super) fn room_of(&self, index: usize) -> u32 {
        let channel = &self.channels[index];
        let may_send = is_ours(index) || channel.flags.has(Flags::OPENED);
        let is_over =
            channel.has_ended() || channel.flags.any(Flags::STOP_RECEIVED | Flags::CLOSED);
        if may_send && !is_over { channel.sendable.wrapping_sub(channel.sent) } else { 0 }
    }

    /// Whether nobody takes what is sent: the far end has stopped or reset the channel.
    pub fn is_broken(&self, slot: Slot) -> bool {
        self.broken(slot).is_some()
    }

    /// Whether the far end neither takes nor says any more: it reset the channel, or has stopped it
    /// after its FIN, and all it said before has arrived.
    pub fn is_over(&self, slot: Slot) -> bool {
        self.is_broken(slot) && self.record(slot).is_some_and(Channel::is_whole)
    }

    /// Why nobody takes what is sent.
    pub fn broken(&self, slot: Slot) -> Option<FailReason> {
        let channel = self.record(slot)?;
        FailReason::from_number(channel.reset_received)
            .or(FailReason::from_number(channel.stop_received))
    }

    /// So many bytes are being sent, at most [`Session::room`]: counts them, and gives the DATA header
    /// that goes before them.
    pub fn data(&mut self, slot: Slot, bytes: u16) -> DataHeader {
        debug_assert!(u32::from(bytes) <= self.room(slot), "more than there is room");
        let is_unordered = self.is_unordered();
        match self.index(slot) {
            Some(index) => {
                let channel = &mut self.channels[index];
                let offset = is_unordered.then_some(channel.sent);
                channel.sent = channel.sent.wrapping_add(bytes.into());
                channel.deficit = channel.deficit.saturating_sub(bytes);
                data_header(self.id(index), offset, bytes)
            }
            None => data_header(ChannelId(0), is_unordered.then_some(0), 0),
        }
    }

    /// How long the header of [`Session::data`] is on this carrier.
    pub fn data_header_bytes(&self) -> usize {
        if self.is_unordered() { OFFSET_HEADER_BYTES } else { DATA_HEADER_BYTES }
    }

    /// Nothing more will be sent on the channel: FIN is owed.
    pub fn finish(&mut self, slot: Slot) {
        if let Some(index) = self.index(slot) {
            self.finish_at(index);
        }
    }

    fn finish_at(&mut self, index: usize) {
        if !self.channels[index].has_ended() {
            self.owe(index, Flags::OWES_FIN, Flags::default());
            self.lists.schedule.remove(self.channels, index);
        }
    }

    /// Nothing more will be read: STOP is owed, and what is there or still arrives is dropped.
    pub fn stop(&mut self, slot: Slot, reason: FailReason) {
        if let Some(index) = self.index(slot) {
            self.stop_at(index, reason);
        }
    }

    fn stop_at(&mut self, index: usize, reason: FailReason) {
        let channel = &self.channels[index];
        // After FIN the credit ends where the bytes do.
        let is_unread = channel.consumed != channel.granted;
        self.drop_received(index);
        let channel = &mut self.channels[index];
        let is_over =
            Flags::STOP_SENT | Flags::RESET_RECEIVED | Flags::RESET_SENT | Flags::OWES_RESET;
        // After FIN there is nothing to stop, but the far end is to know if it was not read.
        let is_read = channel.flags.has(Flags::FIN_RECEIVED) && !is_unread;
        let is_pointless = is_read || channel.flags.any(is_over | Flags::DONE_RECEIVED);
        let stop = if is_pointless { Flags::default() } else { Flags::OWES_STOP };
        if stop == Flags::OWES_STOP {
            channel.stop_sent = reason as u8;
        }
        self.owe(index, stop, Flags::OWES_CREDIT);
    }

    /// The channel's user is gone. `None`: in order, what was sent before is the end; else both
    /// directions break off, RESET is owed, or STOP if FIN was sent. What was received and not read
    /// is dropped, and the far end is told (STOP). The slot is not the caller's any more; it becomes
    /// vacant when the far end knows.
    pub fn close_channel(&mut self, slot: Slot, reason: Option<FailReason>) {
        let Some(index) = self.index(slot) else { return };
        let flags = self.channels[index].flags;
        // In order is not possible for a channel whose target was never reached.
        let is_answered =
            is_ours(index) || flags.any(Flags::OPENED | Flags::OWES_OPENED | Flags::OWES_RESET);
        let reason = if is_answered { reason } else { reason.or(Some(FailReason::Reset)) };
        self.lists.schedule.remove(self.channels, index);
        match reason {
            Some(reason) if !flags.any(Flags::LAST_SENT | Flags::OWES_RESET) => {
                self.drop_received(index);
                self.channels[index].reset_sent = reason as u8;
                self.owe(index, Flags::OWES_RESET, Flags::OWES_ANY);
            }
            _ => {
                self.finish_at(index);
                self.stop_at(index, reason.unwrap_or(FailReason::Reset));
            }
        }
        self.channels[index].flags.set(Flags::CLOSED);
        self.settle(index);
    }

    /// Keeps bytes that arrived and were not delivered; there is always room, it was reserved when the
    /// credit was granted. O(bytes).
    pub fn store(&mut self, slot: Slot, bytes: &[u8]) {
        if let Some(index) = self.index(slot) {
            let channel = &mut self.channels[index];
            // Nothing is in hand any more if the user stopped the channel in the meantime.
            let in_hand = channel.unconsumed() - channel.queue.bytes();
            let bytes = &bytes[..bytes.len().min(in_hand as usize)];
            channel.queue.push(&mut self.pool, bytes);
        }
    }

    /// The oldest of the stored bytes, as many as lie in one piece; none if none are stored.
    pub fn stored(&self, slot: Slot) -> &[u8] {
        self.record(slot).map_or(&[], |channel| channel.queue.front(&self.pool))
    }

    /// So many of the stored bytes were delivered. O(bytes).
    pub fn consume(&mut self, slot: Slot, bytes: usize, now: Instant) {
        if let Some(index) = self.index(slot) {
            let channel = &mut self.channels[index];
            let bytes = bytes.min(channel.queue.bytes() as usize) as u32;
            let popped = channel.queue.pop(&mut self.pool, bytes);
            self.advance(index, popped, now);
        }
    }

    /// So many of the bytes that arrived just now were delivered; none may be stored.
    pub fn pass(&mut self, slot: Slot, bytes: usize, now: Instant) {
        if let Some(index) = self.index(slot) {
            let channel = &self.channels[index];
            debug_assert!(channel.queue.bytes() == 0, "others come first");
            let in_hand = channel.unconsumed() - channel.queue.bytes();
            self.advance(index, bytes.min(in_hand as usize) as u32, now);
        }
    }

    fn advance(&mut self, index: usize, bytes: u32, now: Instant) {
        let channel = &mut self.channels[index];
        channel.consumed = channel.consumed.wrapping_add(bytes);
        if window::advance(channel, &mut self.pool, self.terms, now) {
            self.owe(index, Flags::OWES_CREDIT, Flags::default());
        }
    }

    /// How the far end's direction ended, once everything before the end was delivered.
    pub fn ended(&self, slot: Slot) -> Option<Ended> {
        let channel = self.record(slot)?;
        if channel.unconsumed() > 0 || !channel.is_whole() {
            None
        } else if channel.flags.has(Flags::RESET_RECEIVED) {
            let reason = FailReason::from_number(channel.reset_received);
            Some(Ended::Reset(reason.unwrap_or(FailReason::Reset)))
        } else {
            channel.flags.has(Flags::FIN_RECEIVED).then_some(Ended::Fin)
        }
    }

    /// The channel could send if there were room in the packet, or if its turn came.
    pub fn wait(&mut self, slot: Slot) {
        if let Some(index) = self.index(slot) {
            self.lists.schedule.push(self.channels, index);
        }
    }

    /// The channel whose turn it is, with a quantum more to send; it waits no longer. Channels that
    /// have no credit are left out: [`super::Heard::Credit`] tells of them. Amortized O(1).
    pub fn next_waiting(&mut self) -> Option<Slot> {
        while let Some(index) = self.lists.schedule.pop(self.channels) {
            if self.room_of(index) > 0 {
                schedule::add_quantum(&mut self.channels[index]);
                return Some(Slot(index as u32));
            }
        }
        None
    }

    /// Whether any channel waits for its turn.
    pub fn somebody_waits(&self) -> bool {
        !self.lists.schedule.is_empty()
    }

    /// How many bytes the channel may send before it is others' turn; at 0 it is to wait.
    pub fn deficit(&self, slot: Slot) -> u32 {
        self.record(slot).map_or(0, |channel| channel.deficit.into())
    }
}
