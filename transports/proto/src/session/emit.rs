//! What is owed to the far end, as messages. Owed is a bit, not a message in a queue: however slow
//! the carrier is, nothing piles up.

use super::life::{Owed, Stage};
use super::{Session, is_ours};
use crate::channel::Flags;
use crate::message::{ChannelId, Message};

/// The free part of a packet.
struct Packet<'o> {
    out: &'o mut [u8],
    bytes: usize,
}

impl Packet<'_> {
    /// Puts a message behind the others; `false`: there is no room, and nothing happened.
    fn put(&mut self, message: Message<'_>) -> bool {
        let bytes = message.emit(&mut self.out[self.bytes..]);
        self.bytes += bytes.unwrap_or(0);
        bytes.is_some()
    }
}

impl Session<'_> {
    /// A stream on which something is owed; 0 if it is the link's own, or the carrier has no streams.
    pub fn owes(&self) -> Option<u16> {
        match self.life.stage {
            Stage::Down | Stage::Closed => None,
            _ if self.life.owes() => Some(0),
            Stage::Closing => None,
            _ => self.lists.owing.first().map(|index| self.stream(index)),
        }
    }

    /// Puts as many of the owed messages into `out` as have room, and gives how many bytes that is.
    /// With streams: only those of that stream, `None` being the link's own; without, all of them.
    /// They count as sent. O(messages).
    pub fn emit_control(&mut self, out: &mut [u8], stream: Option<u16>) -> usize {
        let mut packet = Packet { out, bytes: 0 };
        let stream = if self.has_streams() { Some(stream.unwrap_or(0)) } else { None };
        if stream.unwrap_or(0) == 0 && !self.emit_life(&mut packet) {
            return packet.bytes;
        }
        if matches!(self.life.stage, Stage::Down | Stage::Closing | Stage::Closed) {
            return packet.bytes;
        }
        match stream {
            None => {
                while let Some(index) = self.lists.owing.first() {
                    if !self.emit_channel(index, &mut packet) {
                        break;
                    }
                }
            }
            Some(0) => {}
            Some(stream) => {
                let place = usize::from(stream - 1);
                let by_initiator = place % 2 == 1;
                let id = ChannelId::new(by_initiator, 0, (place / 2) as u16);
                if let Ok(index) = self.place_of(id)
                    && self.channels[index].flags.has(Flags::OWING)
                {
                    self.emit_channel(index, &mut packet);
                }
            }
        }
        packet.bytes
    }

    /// What belongs to the link; `false`: not all had room.
    fn emit_life(&mut self, packet: &mut Packet<'_>) -> bool {
        let hello = self.hello();
        let life = &mut self.life;
        if life.owed.hello {
            if !packet.put(Message::Hello(hello)) {
                return false;
            }
            (life.owed.hello, life.hello_sent) = (false, true);
        }
        if life.owed.close {
            let text = &life.close_text[..usize::from(life.close_text_bytes)];
            if !packet.put(Message::Close { reason: life.close_reason, text }) {
                return false;
            }
            life.stage = Stage::Closed;
            life.owed = Owed::default();
            return true;
        }
        life.owed.pong = life.owed.pong && !packet.put(Message::Pong(life.pong));
        life.owed.ping = life.owed.ping && !packet.put(Message::Ping(life.pinged.unwrap_or(0)));
        if life.owed.goaway && life.is_greeted() {
            life.owed.goaway = !packet.put(Message::Goaway { last: life.last_opened });
        }
        !life.owes()
    }

    /// What a channel owes, in the order the far end must hear it; `false`: not all had room.
    fn emit_channel(&mut self, index: usize, packet: &mut Packet<'_>) -> bool {
        let channel = self.id(index);
        // Each turn says one thing and owes it no more.
        loop {
            let record = &self.channels[index];
            let owes = |flag| record.flags.has(flag);
            let opened = is_ours(index) || owes(Flags::OPENED);
            let (message, owed, said) = if owes(Flags::OWES_OPENED) {
                let credit = self.terms.initial_bytes;
                (Message::Opened { channel, credit }, Flags::OWES_OPENED, Flags::OPENED)
            } else if owes(Flags::OWES_CREDIT) {
                let max_offset = record.granted;
                (Message::Credit { channel, max_offset }, Flags::OWES_CREDIT, Flags::default())
            } else if owes(Flags::OWES_STOP) {
                // Before FIN, or the far end might think that all is well, and leave.
                let reason = record.stop_sent.into();
                (Message::Stop { channel, reason }, Flags::OWES_STOP, Flags::STOP_SENT)
            } else if owes(Flags::OWES_RESET) {
                let reason = record.reset_sent.into();
                let message = Message::Reset { channel, reason, final_offset: record.sent };
                (message, Flags::OWES_RESET, Flags::RESET_SENT)
            } else if owes(Flags::OWES_FIN) && opened {
                let offset = self.is_unordered().then_some(record.sent);
                // STOP was sent before, and may arrive later.
                let stopped = offset.is_some() && owes(Flags::STOP_SENT);
                let message = Message::Data { channel, fin: true, stopped, offset, bytes: &[] };
                (message, Flags::OWES_FIN, Flags::FIN_SENT)
            } else if owes(Flags::OWES_DONE) {
                (Message::Done { channel }, Flags::OWES_DONE, Flags::default())
            } else {
                return true;
            };
            if !packet.put(message) {
                return false;
            }
            self.owe(index, said, owed);
            if owed == Flags::OWES_DONE {
                self.vacate(index);
                return true;
            }
            if owed == Flags::OWES_OPENED && self.room_of(index) > 0 {
                // Nothing could be sent before: whoever wanted to is to know.
                self.lists.schedule.push(self.channels, index);
            }
            self.settle(index);
        }
    }
}
