//! A seeded stand-in for the worker: one transport, a table of the connections it has a side of,
//! and for the other side of each somebody who sends, reads, stalls and leaves as the seed says.
//! What the worker must do in which order, it does in that order; where the worker may do either,
//! the seed says.

use super::net::{Connector, Kernel, LISTENER, Net, line_of};
use super::story::{Left, OPENER, Part, Story};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sim::{Caller, Random};
use seaprox::sys::{Errno, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Cause, Desk, Dest, Event, Lent, Notice, Room, Source, Step, Transport};
use seaprox_proto::dest::LinkDest;
use seaprox_proto::message::Target;
use seaprox_proto::source::{Accept, LinkSource};
use seaprox_proto::wanted::Wanted;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// How the users of the connections behave. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) channels_max: usize,
    pub(super) bytes_max: usize,
    pub(super) answer_millis_max: usize,
    pub(super) stall_millis_max: usize,
    pub(super) pause_millis_max: usize,
    pub(super) open: u16,
    pub(super) abort: u16,
    pub(super) stop: u16,
    pub(super) stall: u16,
    pub(super) pause: u16,
    pub(super) refuse: u16,
    pub(super) end: u16,
    pub(super) lazy: u16,
    pub(super) die: u16,
    /// How many events are heard in one turn.
    pub(super) told_max: usize,
}

/// What all engines look at.
pub(super) struct World<'n> {
    pub(super) net: &'n RefCell<Net>,
    pub(super) now: Instant,
    pub(super) calm: bool,
    pub(super) is_traced: bool,
    pub(super) random: Random,
    pub(super) habits: Habits,
    pub(super) idle_millis: u32,
    /// Channels are refused before anybody hears of them: too many in a second.
    pub(super) refuses: bool,
    pub(super) stories: Vec<Story>,
    pub(super) bytes: u64,
    pub(super) deaths: u64,
}

impl World<'_> {
    pub(super) fn maybe(&mut self, chance: u16) -> bool {
        !self.calm && self.random.chance(chance)
    }

    pub(super) fn trace(&self, text: impl Fn() -> String) {
        if self.is_traced {
            println!("{:>8} {}", self.now.as_millis(), text());
        }
    }
}

/// What the worker asks of a transport that is either a source or a dest.
pub(super) trait Role<'n>: Transport<Kernel<'n>> {
    const END: usize;
    fn is_open(&self) -> bool;
    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        at: (SideKey, Address),
        cause: Cause<Wanted>,
    ) -> Step;
    fn abort(&mut self, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>);
    fn wanted(&mut self, handle: Handle, side: SideKey) -> Wanted;
    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>);
    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno>;
}

impl<'n, const STREAMS: bool> Role<'n> for LinkDest<'_, Connector<'n, STREAMS>> {
    const END: usize = OPENER;

    fn is_open(&self) -> bool {
        Dest::<Kernel<'n>, Wanted>::is_open(self)
    }

    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        (side, client): (SideKey, Address),
        cause: Cause<Wanted>,
    ) -> Step {
        caller.dial(self, side, client, cause)
    }

    fn abort(&mut self, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>) {
        Dest::<Kernel<'n>, Wanted>::abort(self, side, desk);
    }

    fn wanted(&mut self, _: Handle, _: SideKey) -> Wanted {
        unreachable!("nothing comes from a dest")
    }

    fn answer(&mut self, _: Handle, _: &mut Desk<'_, Kernel<'n>>) {}

    fn admit(&mut self, _: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno> {
        Ok(())
    }
}

impl<'n, A: Accept, const LINKS: usize> Role<'n> for LinkSource<'_, A, LINKS> {
    const END: usize = 1 - OPENER;

    fn is_open(&self) -> bool {
        false
    }

    fn dial(
        &mut self,
        _: &mut Caller<Kernel<'n>>,
        _: (SideKey, Address),
        _: Cause<Wanted>,
    ) -> Step {
        unreachable!("nothing goes to a source")
    }

    fn abort(&mut self, _: SideKey, _: &mut Desk<'_, Kernel<'n>>) {}

    fn wanted(&mut self, handle: Handle, side: SideKey) -> Wanted {
        Source::<Kernel<'n>>::target(self, handle, side)
    }

    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>) {
        Source::answer(self, handle, desk);
    }

    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno> {
        Source::admit(self, true, desk)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The channel is being opened; again then.
    Dialing(Instant),
    /// The target is being reached; that is decided then.
    Answering(Instant),
    Open,
}

/// A connection of which the transport has a side.
struct Guest {
    serial: usize,
    /// The carrier its channel goes over.
    line: usize,
    handle: Option<Handle>,
    stage: Stage,
    readable: bool,
    writable: bool,
    /// Over, whatever happens, then.
    over_at: Option<Instant>,
    broken: bool,
    stalled_until: Instant,
    /// It was told of the death of its link.
    told_dead: bool,
}

pub(super) struct Engine<'n, T> {
    number: usize,
    transport: T,
    caller: Caller<Kernel<'n>>,
    guests: Vec<Option<Guest>>,
    /// The carriers whose death was told.
    down: BTreeSet<usize>,
    /// The last whose link was told to be up.
    up: Option<usize>,
    admit_at: Option<Instant>,
    paused_until: Instant,
    /// Turns in a row at one instant that did nothing, though the transport had asked for them.
    idle_turns: (Instant, u32),
}

/// The reset that a side's error may be held back for.
const FLUSH_MILLIS: u32 = 1000;

impl<'n, T: Role<'n>> Engine<'n, T> {
    pub(super) fn new(number: usize, transport: T, world: &World<'n>, sides: usize) -> Self {
        let caller = Caller::new(Kernel(world.net), world.now).expect("it always gives one");
        Engine {
            number,
            transport,
            caller,
            guests: (0..sides).map(|_| None).collect(),
            down: BTreeSet::new(),
            up: None,
            admit_at: Some(world.now),
            paused_until: world.now,
            idle_turns: (world.now, 0),
        }
    }

    /// Whether a link is up whose carrier carries, and channels can be opened.
    pub(super) fn is_open(&self, world: &World<'_>) -> bool {
        let alive =
            |line: usize| !self.down.contains(&line) && world.net.borrow().lines[line].is_alive();
        self.up.is_some_and(alive) && self.transport.is_open()
    }

    /// Nothing is to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.transport.is_flushed()
    }

    fn key(&self, place: usize) -> SideKey {
        if T::END == OPENER { SideKey::dest(place) } else { SideKey::source(place) }
    }

    fn is_due(&self, world: &World<'_>) -> bool {
        self.transport.timeout().is_some_and(|at| at <= world.now)
    }

    /// Whether something wakes the worker.
    pub(super) fn wants_turn(&self, world: &World<'_>) -> bool {
        self.paused_until <= world.now && self.is_woken(world)
    }

    /// Whether something would wake the worker, were it not busy.
    pub(super) fn is_woken(&self, world: &World<'_>) -> bool {
        let now = world.now;
        let net = world.net.borrow();
        let listens = T::END != OPENER && net.listener_is_ready();
        let told = listens || net.has_event(T::END, self.number);
        let acts = |guest: &Guest| self.acts(guest, world);
        let admits = self.admit_at.is_some_and(|at| at <= now);
        told || admits || self.is_due(world) || self.guests.iter().flatten().any(acts)
    }

    /// Whether a guest would do something.
    fn acts(&self, guest: &Guest, world: &World<'_>) -> bool {
        let now = world.now;
        if guest.over_at.is_some_and(|at| at <= now) {
            return true;
        }
        let part = world.stories[guest.serial].parts[T::END].as_ref().expect("a guest has a part");
        match guest.stage {
            Stage::Dialing(at) | Stage::Answering(at) => at <= now,
            Stage::Open => {
                let reads = guest.readable && !part.stopped && !part.told_end;
                let writes = guest.writable && !guest.broken && part.sent < part.wanted;
                let ends = !part.finished && !guest.broken && part.sent == part.wanted;
                reads && guest.stalled_until <= now || writes || ends
            }
        }
    }

    /// When something happens next that is not the carriers'.
    pub(super) fn next_at(&self) -> impl Iterator<Item = Instant> {
        let guests = self.guests.iter().flatten().flat_map(|guest| {
            let at = match guest.stage {
                Stage::Dialing(at) | Stage::Answering(at) => at,
                Stage::Open => guest.stalled_until,
            };
            [Some(at), guest.over_at]
        });
        let own = [self.admit_at, self.transport.timeout(), Some(self.paused_until)];
        guests.chain(own).flatten()
    }

    /// One turn, as the worker takes it.
    pub(super) fn turn(&mut self, world: &mut World<'n>) {
        world.trace(|| format!("{} turns", self.number));
        self.caller.now = world.now;
        world.net.borrow_mut().went_on = false;
        let was_due = self.is_due(world);
        let mut acted = self.admit(world);
        acted |= self.hear(world);
        let first = world.maybe(20_000);
        if first {
            acted |= self.act(world);
        }
        if self.is_due(world) {
            acted |= self.listen(world);
        }
        acted |= self.act(world);
        self.transport.flush(&mut self.caller.desk());
        self.caller.end_turn();
        self.check_told(world);
        let is_idle = was_due && !acted && !world.net.borrow().went_on && self.is_due(world);
        self.idle_turns = match self.idle_turns {
            (at, turns) if is_idle && at == world.now => (at, turns + 1),
            _ => (world.now, 0),
        };
        assert!(self.idle_turns.1 < 100, "{} spins", self.number);
        if world.maybe(world.habits.pause) {
            let millis = world.random.scaled(world.habits.pause_millis_max) as u32;
            self.paused_until = world.now.after(millis);
        }
    }

    /// Everybody was told of a death before there was nothing more to tell.
    fn check_told(&self, world: &World<'_>) {
        for guest in self.guests.iter().flatten() {
            let untold =
                guest.handle.is_some() && self.down.contains(&guest.line) && !guest.told_dead;
            assert!(
                !untold || self.is_due(world),
                "{}: never told that the link died",
                guest.serial
            );
        }
    }

    fn admit(&mut self, world: &mut World<'n>) -> bool {
        if self.admit_at.is_none_or(|at| at > world.now) {
            return false;
        }
        self.admit_at = None;
        if self.transport.admit(&mut self.caller.desk()).is_err() {
            self.admit_at = Some(world.now.after(100));
        }
        true
    }

    /// What epoll says.
    fn hear(&mut self, world: &mut World<'n>) -> bool {
        let mut heard = false;
        if T::END != OPENER && world.net.borrow().listener_is_ready() {
            let ready = Ready { readable: true, ..Ready::default() };
            self.transport.ready(0, LISTENER, ready);
            heard = true;
        }
        loop {
            let event = world.net.borrow_mut().event(T::END, self.number);
            let Some((own, fd, ready)) = event else { return heard };
            world.trace(|| format!("{}: {fd} {ready:?}", self.number));
            self.transport.ready(own, fd, ready);
            heard = true;
        }
    }

    /// What the transport has to tell.
    fn listen(&mut self, world: &mut World<'n>) -> bool {
        for told in 0..world.habits.told_max {
            let Some(event) = self.transport.poll(&mut self.caller.desk()) else { return told > 0 };
            world.trace(|| format!("{} is told {event:?}", self.number));
            match event {
                Event::Opened { handle, peer } => self.opened(handle, peer, world),
                Event::Ready(side, ready) => self.side_ready(side, ready, world),
                Event::Told(Notice::LinkDown { peer, reason }) => {
                    self.link_down(peer, reason, world)
                }
                Event::Told(Notice::LinkUp { peer }) => self.up = line_of(peer),
                Event::Told(notice) => unreachable!("{notice:?}"),
                Event::Exhausted(_) => self.admit_at = Some(world.now.after(100)),
                Event::Ended | Event::Dialed(_) => unreachable!("{event:?}"),
            }
        }
        true
    }

    fn link_down(&mut self, peer: Address, reason: FailReason, world: &mut World<'n>) {
        let Some(line) = line_of(peer) else { return };
        let net = world.net.borrow();
        match reason {
            FailReason::LinkDown => assert!(!net.lines[line].is_alive(), "it is not down"),
            FailReason::TimedOut => {
                assert!(
                    net.lines[line].may_time_out(world.idle_millis),
                    "given up though heard of"
                );
            }
            FailReason::ConnectionRefused | FailReason::NameResolution => {}
            FailReason::OutOfDescriptors => {}
            _ => panic!("honest ends, and yet: {reason}"),
        }
        self.down.insert(line);
        world.deaths += 1;
    }

    fn opened(&mut self, handle: Handle, client: Address, world: &mut World<'n>) {
        let serial = serial_of(client);
        let story = &mut world.stories[serial];
        assert!(story.parts[T::END].is_none(), "opened twice");
        let Some(place) = self.guests.iter().position(Option::is_none) else {
            story.refused = Some(FailReason::TableFull);
            let mut desk = self.caller.desk();
            return self.transport.close(handle, Some(FailReason::TableFull), &mut desk);
        };
        let line = story.line;
        let wanted = self.transport.wanted(handle, self.key(place));
        assert_eq!(wanted, wanted_of(serial), "{serial} is to lead elsewhere");
        let millis = world.random.scaled(world.habits.answer_millis_max) as u32;
        let part = Part::new(world.draw_bytes(), world.now);
        world.stories[serial].parts[T::END] = Some(part);
        let stage = Stage::Answering(world.now.after(millis));
        self.guests[place] = Some(Guest::new(serial, line, Some(handle), stage, world.now));
    }

    fn side_ready(&mut self, side: SideKey, ready: Ready, world: &mut World<'n>) {
        let place = side.connection();
        assert!(side == self.key(place), "a side of the other kind");
        let Some(Some(guest)) = self.guests.get_mut(place) else {
            // Somebody who has left already; the worker does not mind.
            return;
        };
        guest.readable |= ready.readable || ready.error;
        guest.writable |= ready.writable || ready.error;
        if ready.error {
            let is_down = self.down.contains(&guest.line);
            world.stories[guest.serial].error(T::END, is_down);
            assert!(!(is_down && guest.told_dead), "{}: told twice", guest.serial);
            guest.told_dead |= is_down;
            if let Stage::Answering(_) = guest.stage {
                return self.finish(place, Some(FailReason::SourceGone), world);
            }
            guest.over_at = guest.over_at.or(Some(world.now.after(FLUSH_MILLIS)));
        }
        if guest.stage == Stage::Open && !world.maybe(world.habits.lazy) {
            self.pump(place, world);
        }
    }

    /// Everybody does what they want, or what the seed says.
    fn act(&mut self, world: &mut World<'n>) -> bool {
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
    fn pump(&mut self, place: usize, world: &mut World<'n>) {
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

impl Guest {
    fn new(
        serial: usize,
        line: usize,
        handle: Option<Handle>,
        stage: Stage,
        now: Instant,
    ) -> Guest {
        Guest {
            serial,
            line,
            handle,
            stage,
            readable: false,
            writable: true,
            over_at: None,
            broken: false,
            stalled_until: now,
            told_dead: false,
        }
    }

    /// Notes for the oracle whether it would read.
    fn told_reads(&self, world: &mut World<'_>, end: usize) {
        let reads = self.stage == Stage::Open && self.stalled_until <= world.now;
        let part = world.stories[self.serial].part(end);
        part.reads = reads && !part.stopped;
    }
}

/// Who is at the opener's end of a channel, and where it is to lead: both say its serial number.
fn client_of(serial: usize) -> Address {
    SocketAddr::from(([10, 0, (serial >> 8) as u8, serial as u8], 1)).into()
}

fn serial_of(client: Address) -> usize {
    let Some(SocketAddr::V4(v4)) = client.socket_addr() else { panic!("a client of no serial") };
    let [_, _, high, low] = v4.ip().octets();
    usize::from(high) << 8 | usize::from(low)
}

fn wanted_of(serial: usize) -> Wanted {
    let name = serial.to_string();
    Wanted::new(if serial % 2 == 0 {
        Target::Name(name.as_bytes(), 80)
    } else {
        Target::Service(name.as_bytes())
    })
}

impl World<'_> {
    fn draw_bytes(&mut self) -> u64 {
        match self.random.below(8) {
            0 => 0,
            1 | 2 => self.random.below(self.habits.bytes_max) as u64,
            _ => self.random.scaled(self.habits.bytes_max) as u64,
        }
    }
}
