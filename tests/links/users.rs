//! The users of an end's channels, who do what the seed says: open, answer, read, stall, stop, leave.

use crate::end::{End, World};
use crate::run::Habits;
use crate::story::{Left, Part, Story};
use seaprox::fail::FailReason;
use seaprox::sim::Random;
use seaprox_proto::message::Target;
use seaprox_proto::session::{Ended, Refused, Slot};

impl End<'_> {
    /// The users do what they want, or what the seed says.
    pub(crate) fn act(&mut self, world: &mut World) -> bool {
        let mut acted = false;
        let opens = world.habits.open;
        while world.stories.len() < world.habits.channels_max && world.maybe(opens) {
            if !self.open(world) {
                break;
            }
            acted = true;
        }
        let Habits { drain, closes, .. } = world.habits;
        if world.maybe(drain) {
            self.session.drain();
            // Of a far end that has not said hello it takes leave at once.
            if self.session.is_ending() {
                self.closing = true;
                return true;
            }
        }
        if closes && world.maybe(50) {
            self.session.close(FailReason::Shutdown, "that is all");
            self.closing = true;
            return true;
        }
        for nth in 0..world.open.len() {
            let serial = world.open[nth];
            let here = world.stories[serial].parts[self.number].as_ref();
            if here.is_some_and(Part::is_here) {
                acted |= self.act_as(serial, world);
            }
        }
        acted
    }

    fn open(&mut self, world: &mut World) -> bool {
        let serial = world.stories.len();
        let name = serial.to_string();
        let target = Target::Name(name.as_bytes(), serial as u16);
        let stream_is_mine = self.packet.is_empty();
        let mut out = [0; 64];
        let room = if world.random.chance(3000) { 20 } else { 64 };
        // Its packet is one of its own, as on a carrier with streams.
        if !stream_is_mine && !self.flush(world) {
            return false;
        }
        let client = Some(client_of(serial));
        let can_open = self.session.can_open();
        match self.session.open(serial as u32, target, client, &mut out[..room], world.now) {
            Ok((slot, bytes)) => {
                assert!(can_open && bytes <= room);
                let mut part = Part::new(slot, world.now);
                part.wanted = wanted(&world.habits, &mut world.random);
                let mut parts = [None, None];
                parts[self.number] = Some(part);
                world.stories.push(Story { serial, opener: self.number, parts });
                world.open.push(serial);
                self.packet.extend_from_slice(&out[..bytes]);
                self.packet_stream = self.session.stream_of(slot);
                self.session.wait(slot);
                world.summary.channels += 1;
                true
            }
            Err(Refused::NoRoom) => {
                assert!(room < 40 && can_open);
                false
            }
            Err(Refused::Because(_)) => {
                assert!(!can_open);
                false
            }
        }
    }

    /// One user's turn; it is there.
    fn act_as(&mut self, serial: usize, world: &mut World) -> bool {
        let Habits { abort, stop, leave, stall, stall_millis_max, refuse, more, .. } = world.habits;
        let now = world.now;
        let slot = world.stories[serial].part(self.number).slot;
        if world.maybe(abort) {
            self.leave(serial, Some(FailReason::Idle), world);
            return true;
        }
        if world.maybe(leave) {
            self.leave(serial, None, world);
            return true;
        }
        if world.maybe(stall) {
            let millis = world.random.scaled(stall_millis_max) as u32;
            world.stories[serial].part(self.number).stalled_until = now.after(millis);
        }
        if world.maybe(stop) {
            self.session.stop(slot, FailReason::HalfClosed);
            let part = world.stories[serial].part(self.number);
            part.cut_off();
            part.stopped = Some(FailReason::HalfClosed);
        }
        if world.maybe(more) {
            let bytes = wanted(&world.habits, &mut world.random);
            let part = world.stories[serial].part(self.number);
            if !part.finished && part.wanted - part.sent <= bytes {
                part.wanted += bytes;
                self.session.wait(slot);
            }
        }
        if let Some(at) = world.stories[serial].part(self.number).answers_at {
            if at > now && !world.calm {
                return false;
            }
            if world.maybe(refuse) {
                self.leave(serial, Some(FailReason::ConnectionRefused), world);
            } else {
                world.stories[serial].part(self.number).answers_at = None;
                self.session.accept(slot);
            }
            return true;
        }
        let read = self.read(serial, slot, world);
        self.finish_or_leave(serial, slot, world) || read
    }

    fn read(&mut self, serial: usize, slot: Slot, world: &mut World) -> bool {
        let mut left = world.random.scaled(1 << 18);
        let mut went_on = false;
        if world.stories[serial].part(self.number).stalled_until > world.now {
            return false;
        }
        while left > 0 {
            let stored = self.session.stored(slot);
            if stored.is_empty() {
                break;
            }
            let bytes = stored.len().min(left);
            world.stories[serial].deliver(self.number, &stored[..bytes], world.now);
            world.summary.bytes += bytes as u64;
            self.session.consume(slot, bytes, world.now);
            left -= bytes;
            went_on = true;
        }
        self.look_for_end(serial, slot, world);
        went_on
    }

    fn finish_or_leave(&mut self, serial: usize, slot: Slot, world: &mut World) -> bool {
        let ends = world.habits.end;
        let part = world.stories[serial].part(self.number);
        let is_cut = part.told_stopped || matches!(part.told_ended, Some(Ended::Reset(_)));
        let said_all = part.sent == part.wanted || is_cut;
        let (finished, ended) = (part.finished || is_cut, part.told_ended.is_some());
        if said_all && !finished && (world.calm || world.maybe(ends)) {
            self.session.finish(slot);
            world.stories[serial].part(self.number).finished = true;
            return true;
        }
        if finished && ended && (world.calm || world.maybe(ends)) {
            self.leave(serial, None, world);
            return true;
        }
        false
    }

    fn leave(&mut self, serial: usize, reason: Option<FailReason>, world: &mut World) {
        world.trace(|| format!("{} leaves {serial}: {reason:?}", self.number));
        let part = world.stories[serial].part(self.number);
        part.cut_off();
        part.left = Some(reason.map_or(Left::InOrder, Left::Aborted));
        self.session.close_channel(part.slot, reason);
        assert_eq!(self.session.room(part.slot), 0, "it is nobody's now");
    }
}

/// Who is said to be at the far end of a channel.
pub(crate) fn client_of(serial: usize) -> core::net::SocketAddr {
    ([10, 0, (serial >> 8) as u8, serial as u8], 1000 + serial as u16).into()
}

/// How many bytes somebody wants to send.
pub(crate) fn wanted(habits: &Habits, random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 | 2 => random.below(habits.bytes_max) as u64,
        _ => random.scaled(habits.bytes_max) as u64,
    }
}
