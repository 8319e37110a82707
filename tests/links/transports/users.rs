//! What the users of an engine's connections do: they come, send, read, stall and leave, and each
//! thing is noted in its story.

use super::engine::{Engine, Guest, Stage, World};
use super::role::Role;
use super::story::{Left, OPENER, Part, Story};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sim::Dialed;
use seaprox::transport::{Cause, Lent, Room, Step};
use seaprox::wanted::{Wanted, Wish};
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
        let guest = Guest::new(serial, line, None, Stage::Dialing(world.now), world.now);
        let awaited = world.maybe(world.habits.awaits);
        self.guests[place] = Some(Guest { awaited, ..guest });
        self.dial(place, Cause::Start(wanted_of(serial)), world);
        Some(serial)
    }

    /// The next step of a guest that is being dialed.
    pub(super) fn dial(&mut self, place: usize, cause: Cause<Wish>, world: &mut World<'n>) {
        let side = self.key(place);
        let guest = self.guests[place].as_mut().expect("it is there");
        let (serial, awaited, source) = (guest.serial, guest.awaited, client_of(guest.serial));
        let is_opened = guest.is_opened();
        let dialed = Dialed { side, source, awaited, notes: &mut guest.notes };
        let step = self.transport.dial(&mut self.caller, dialed, cause);
        world.trace(|| format!("{} dials for {serial}: {step:?}", self.number));
        if !is_opened {
            // If it is open now, it is over this carrier.
            let line = world.net.borrow().latest(self.number).expect("there was one");
            (guest.line, world.stories[serial].line) = (line, line);
        }
        let is_down = self.down.contains(&guest.line);
        match step {
            Step::Wait(until) => guest.stage = Stage::Dialing(until),
            Step::Lent(handle, _) => {
                assert!(!is_down, "{serial}: a channel of a link that is down");
                (guest.handle, guest.stage) = (Some(handle), Stage::Open);
                if awaited {
                    world.stories[serial].be_accepted(T::END);
                }
                self.pump(place, world);
            }
            Step::Failed(reason) => {
                if is_opened {
                    world.stories[serial].reset(T::END, reason, is_down);
                }
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
                world.stories[guest.serial].part(T::END).answered = true;
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
        // Of one that is being dialed the transport is not told why it leaves.
        let gone = guest.handle.is_none().then_some(FailReason::SourceGone);
        let left = gone.or(reason).map_or(Left::InOrder, Left::Because);
        world.stories[guest.serial].leave(T::END, left);
        let (side, mut desk) = (self.key(place), self.caller.desk());
        match guest.handle {
            Some(handle) => self.transport.close(handle, reason, &mut desk),
            None => self.transport.abort(side, &guest.notes, &mut desk),
        }
    }
}

impl Guest {
    /// It is being dialed, and its channel was opened: its transport's notes say so.
    fn is_opened(&self) -> bool {
        self.notes[..4] != [0; 4]
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

pub(super) fn wanted_of(serial: usize) -> Wish {
    let name = serial.to_string();
    let wanted = if serial.is_multiple_of(2) {
        Wanted::Name(name.as_bytes(), 80)
    } else {
        Wanted::Service(name.as_bytes())
    };
    Wish::new(wanted).expect("its name is short")
}
