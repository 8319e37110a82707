//! What the users of an engine's connections do: they come, send, read, stall and leave, and each
//! thing is noted in its story.

use super::engine::{Engine, Guest, Stage, World};
use super::role::Role;
use super::story::{Left, OPENER, Part, Story};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::transport::{Cause, Lent, Room, Step};
use seaprox_proto::message::Target;
use seaprox_proto::wanted::Wanted;
use std::net::SocketAddr;

/// That a side in error may still be read.
pub(super) const FLUSH_MILLIS: u32 = 1000;

impl<'n, T: Role<'n>> Engine<'n, T> {
    /// Everybody does what they want, or what the seed says.
    pub(super) fn act(&mut self, world: &mut World<'n>) -> bool {
        let mut acted = self.open_some(world);
        for place in 0..self.guests.len() {
            let Some(guest) = &self.guests[place] else { continue };
            if guest.stage == Stage::Open && world.maybe(world.habits.stall) {
                let millis = world.random.scaled(world.habits.stall_millis_max) as u32;
                self.guest(place).stalled_until = world.now.after(millis);
            }
            if world.maybe(world.habits.abort) {
                self.finish(place, Some(FailReason::Idle), world);
                acted = true;
                continue;
            }
            let guest = self.guest(place);
            guest.told_reads(world, T::END);
            if self.acts(self.guests[place].as_ref().expect("it is there"), world) {
                self.act_as(place, world);
                acted = true;
            }
        }
        acted
    }

    fn guest(&mut self, place: usize) -> &mut Guest {
        self.guests[place].as_mut().expect("it is there")
    }

    fn open_some(&mut self, world: &mut World<'n>) -> bool {
        let mut opened = false;
        while T::END == OPENER
            && self.transport.is_open()
            && world.stories.len() < world.habits.channels_max
            && world.maybe(world.habits.open)
        {
            let wanted = world.draw_bytes();
            if self.open(wanted, world).is_none() {
                break;
            }
            opened = true;
        }
        opened
    }

    /// A client comes, with so many bytes to send.
    pub(super) fn open(&mut self, wanted: u64, world: &mut World<'n>) -> Option<usize> {
        let place = self.guests.iter().position(Option::is_none)?;
        let serial = world.stories.len();
        // Until the channel is there, it is the link's last carrier that it would go over.
        let line = world.net.borrow().latest(self.number)?;
        let part = Part::new(wanted, world.now);
        world.stories.push(Story::new(serial, line, part, world));
        self.guests[place] =
            Some(Guest::new(serial, line, None, Stage::Dialing(world.now), world.now));
        self.dial(place, Cause::Start(wanted_of(serial)), world);
        Some(serial)
    }

    fn dial(&mut self, place: usize, cause: Cause<Wanted>, world: &mut World<'n>) {
        let serial = self.guest(place).serial;
        let at = (self.key(place), client_of(serial));
        let step = self.transport.dial(&mut self.caller, at, cause);
        world.trace(|| format!("{} dials for {serial}: {step:?}", self.number));
        let line = world.net.borrow().latest(self.number).expect("there was one");
        match step {
            Step::Wait(until) => self.guest(place).stage = Stage::Dialing(until),
            Step::Lent(handle, _) => {
                assert!(!self.down.contains(&line), "{serial}: a channel of a link that is down");
                world.stories[serial].line = line;
                let guest = self.guest(place);
                (guest.line, guest.handle, guest.stage) = (line, Some(handle), Stage::Open);
                self.pump(place, world);
            }
            Step::Failed(reason) => {
                self.finish(place, Some(reason), world);
            }
            step => unreachable!("{step:?}"),
        }
    }

    fn act_as(&mut self, place: usize, world: &mut World<'n>) {
        let guest = self.guest(place);
        if guest.over_at.is_some_and(|at| at <= world.now) {
            return self.finish(place, Some(FailReason::Reset), world);
        }
        match guest.stage {
            Stage::Dialing(_) => self.dial(place, Cause::Timeout, world),
            Stage::Answering(_) if world.maybe(world.habits.refuse) => {
                self.finish(place, Some(FailReason::ConnectionRefused), world);
            }
            Stage::Answering(_) => {
                guest.stage = Stage::Open;
                if let Some(handle) = guest.handle {
                    self.transport.answer(handle, &mut self.caller.desk());
                }
                self.pump(place, world);
            }
            Stage::Open => {
                if world.maybe(world.habits.stop) {
                    self.stop(place, world);
                }
                self.pump(place, world);
            }
        }
    }

    /// A write to the other side failed: what comes from the channel is nobody's any more.
    fn stop(&mut self, place: usize, world: &mut World<'n>) {
        let guest = self.guests[place].as_mut().expect("it is there");
        let part = world.stories[guest.serial].part(T::END);
        if let Some(handle) = guest.handle
            && !part.stopped
            && !part.told_end
        {
            part.stopped = true;
            guest.over_at = guest.over_at.or(Some(world.now.after(FLUSH_MILLIS)));
            self.transport.stop(handle, &mut self.caller.desk());
        }
    }

    /// Moves bytes both ways.
    pub(super) fn pump(&mut self, place: usize, world: &mut World<'n>) {
        let inwards_first = world.random.below(2) == 0;
        for inwards in [inwards_first, !inwards_first] {
            if self.guests[place].is_none() {
                return;
            }
            if inwards { self.pump_in(place, world) } else { self.pump_out(place, world) }
        }
    }

    fn pump_in(&mut self, place: usize, world: &mut World<'n>) {
        let mut left = world.random.scaled(1 << 17);
        loop {
            let guest = self.guests[place].as_mut().expect("it is there");
            let story = &mut world.stories[guest.serial];
            let part = story.part(T::END);
            if !guest.readable || part.stopped || part.told_end || guest.stalled_until > world.now {
                return;
            }
            let Some(handle) = guest.handle else { return };
            match self.transport.bytes(handle) {
                Lent::Bytes(bytes) => {
                    assert!(!bytes.is_empty());
                    let taken = bytes.len().min(left);
                    story.deliver(T::END, &bytes[..taken], world.now);
                    self.transport.consume(handle, taken);
                    world.bytes += taken as u64;
                    left -= taken;
                    if left == 0 {
                        return;
                    }
                }
                Lent::Drained => guest.readable = false,
                Lent::Ended => {
                    story.end(T::END);
                    let is_finished = story.part(T::END).finished;
                    if guest.broken || is_finished {
                        let reason = guest.broken.then_some(FailReason::Reset);
                        return self.finish(place, reason, world);
                    }
                }
                Lent::Reset(reason) => {
                    story.reset(T::END, reason, self.down.contains(&guest.line));
                    return self.finish(place, Some(FailReason::Reset), world);
                }
            }
        }
    }

    fn pump_out(&mut self, place: usize, world: &mut World<'n>) {
        let mut left = world.random.scaled(1 << 17);
        loop {
            let guest = self.guests[place].as_mut().expect("it is there");
            let story = &mut world.stories[guest.serial];
            let part = story.part(T::END);
            let Some(handle) = guest.handle else { return };
            if guest.broken || part.finished {
                return;
            }
            if part.sent == part.wanted {
                return self.finish_sending(place, world);
            }
            if !guest.writable || left == 0 {
                return;
            }
            match self.transport.room(handle) {
                Room::Bytes(room) => {
                    let most = room.len().min(left);
                    let bytes = story.send(T::END, &mut room[..most]);
                    self.transport.commit(handle, bytes);
                    left -= bytes;
                }
                Room::Full => guest.writable = false,
                Room::Broken => {
                    story.error(T::END, self.down.contains(&guest.line));
                    story.part(T::END).told_broken = true;
                    (guest.broken, guest.readable) = (true, true);
                    guest.over_at = guest.over_at.or(Some(world.now.after(FLUSH_MILLIS)));
                    if story.part(T::END).told_end || story.part(T::END).stopped {
                        return self.finish(place, Some(FailReason::Reset), world);
                    }
                    return self.pump_in(place, world);
                }
            }
        }
    }

    /// It has sent all; that nothing follows it may say now, or later.
    fn finish_sending(&mut self, place: usize, world: &mut World<'n>) {
        if !world.calm && !world.random.chance(world.habits.end) {
            return;
        }
        let guest = self.guests[place].as_mut().expect("it is there");
        let part = world.stories[guest.serial].part(T::END);
        if part.told_end {
            return self.finish(place, None, world);
        }
        part.finished = true;
        if let Some(handle) = guest.handle {
            self.transport.shut(handle, &mut self.caller.desk());
        }
    }

    /// The connection is over.
    pub(super) fn finish(
        &mut self,
        place: usize,
        reason: Option<FailReason>,
        world: &mut World<'n>,
    ) {
        let guest = self.guests[place].take().expect("it is there");
        world.trace(|| format!("{}: {} leaves: {reason:?}", self.number, guest.serial));
        let left = reason.map_or(Left::InOrder, Left::Because);
        world.stories[guest.serial].leave(T::END, left);
        match guest.handle {
            Some(handle) => self.transport.close(handle, reason, &mut self.caller.desk()),
            None => self.transport.abort(self.key(place), &mut self.caller.desk()),
        }
    }
}

/// Who is at the opener's end of a channel, and where it is to lead: both say its serial number.
pub(super) fn client_of(serial: usize) -> Address {
    SocketAddr::from(([10, 0, (serial >> 8) as u8, serial as u8], 1)).into()
}

pub(super) fn serial_of(client: Address) -> usize {
    let Some(SocketAddr::V4(v4)) = client.socket_addr() else { panic!("a client of no serial") };
    let [_, _, high, low] = v4.ip().octets();
    usize::from(high) << 8 | usize::from(low)
}

pub(super) fn wanted_of(serial: usize) -> Wanted {
    let name = serial.to_string();
    Wanted::new(if serial.is_multiple_of(2) {
        Target::Name(name.as_bytes(), 80)
    } else {
        Target::Service(name.as_bytes())
    })
}
