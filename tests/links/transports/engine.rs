//! A seeded stand-in for the worker: one transport, a table of the connections it has a side of,
//! and for the other side of each somebody who sends, reads, stalls and leaves as the seed says.
//! What the worker must do in which order, it does in that order; where the worker may do either,
//! the seed says.

use super::net::{Kernel, LISTENER, Net, line_of};
use super::role::Role;
use super::story::{OPENER, Part, Story};
use super::users::{FLUSH_MILLIS, serial_of, wanted_of};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sim::{Caller, Random};
use seaprox::sys::Ready;
use seaprox::time::Instant;
use seaprox::transport::{Cause, Event, Notice};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// How the users of the connections behave. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) channels_max: usize,
    pub(super) bytes_max: usize,
    pub(super) answer_millis_max: usize,
    pub(super) stall_millis_max: usize,
    pub(super) pause_millis_max: usize,
    pub(super) open: u16,
    /// That a client waits to be told what became of its channel.
    pub(super) awaits: u16,
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
    /// Carriers are greeted before there is a link, and keys may be older than all that was heard.
    pub(super) is_sealed: bool,
    pub(super) keys_jump: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The channel is being opened; again then.
    Dialing(Instant),
    /// The target is being reached; that is decided then.
    Answering(Instant),
    Open,
}

/// A connection of which the transport has a side.
pub(super) struct Guest {
    pub(super) serial: usize,
    /// The carrier its channel goes over.
    pub(super) line: usize,
    pub(super) handle: Option<Handle>,
    pub(super) stage: Stage,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Over, whatever happens, then.
    pub(super) over_at: Option<Instant>,
    pub(super) broken: bool,
    pub(super) stalled_until: Instant,
    /// It was told of the death of its link.
    pub(super) told_dead: bool,
    /// It waits to be told what became of its channel.
    pub(super) awaited: bool,
    /// What its transport has noted while it is dialed.
    pub(super) notes: [u8; 8],
}

pub(super) struct Engine<'n, T> {
    pub(super) number: usize,
    pub(super) transport: T,
    pub(super) caller: Caller<Kernel<'n>>,
    pub(super) guests: Vec<Option<Guest>>,
    /// The carriers whose death was told.
    pub(super) down: BTreeSet<usize>,
    /// The last whose link was told to be up.
    up: Option<usize>,
    admit_at: Option<Instant>,
    paused_until: Instant,
    /// Turns in a row at one instant that did nothing, though the transport had asked for them.
    idle_turns: (Instant, u32),
}

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

    pub(super) fn key(&self, place: usize) -> SideKey {
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
    pub(super) fn acts(&self, guest: &Guest, world: &World<'_>) -> bool {
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
                Event::Told(Notice::LinkDown { peer, reason, .. }) => {
                    self.link_down(peer, reason, world)
                }
                Event::Told(Notice::LinkUp { peer, .. }) => self.up = line_of(peer),
                Event::Told(Notice::Refused { source, reason, .. }) => {
                    assert!(world.is_sealed, "nobody has to show who it is");
                    self.link_down(source, reason, world);
                }
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
        // A handshake has its own time.
        let is_greeted = world.is_sealed && self.up != Some(line);
        match reason {
            FailReason::TimedOut if is_greeted => {}
            FailReason::Auth if world.keys_jump => {}
            FailReason::Auth => assert!(net.lines[line].may_be_strange(), "both are who they are"),
            FailReason::LinkDown => assert!(!net.lines[line].is_alive(), "it is not down"),
            FailReason::TimedOut => {
                assert!(
                    net.lines[line].may_time_out(world.idle_millis),
                    "given up though heard of"
                );
            }
            FailReason::ConnectionRefused | FailReason::NameResolution => {}
            FailReason::OutOfDescriptors => {}
            FailReason::TableFull => assert!(net.lines[line].may_be_refused()),
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
        let wanted = self.transport.wanted(handle, self.key(place), &mut self.caller.desk());
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
        if let Stage::Dialing(_) = guest.stage {
            return self.dial(place, Cause::Ready(ready), world);
        }
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
}

impl Guest {
    pub(super) fn new(
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
            awaited: false,
            notes: [0; 8],
        }
    }

    /// Notes for the oracle whether it would read.
    pub(super) fn told_reads(&self, world: &mut World<'_>, end: usize) {
        let reads = self.stage == Stage::Open && self.stalled_until <= world.now;
        let part = world.stories[self.serial].part(end);
        part.reads = reads && !part.stopped;
    }
}

impl World<'_> {
    pub(super) fn draw_bytes(&mut self) -> u64 {
        match self.random.below(8) {
            0 => 0,
            1 | 2 => self.random.below(self.habits.bytes_max) as u64,
            _ => self.random.scaled(self.habits.bytes_max) as u64,
        }
    }
}
