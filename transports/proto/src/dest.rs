//! A link as a dest: each connection becomes a channel of it. Connects it, and again for ever when it
//! is lost. Knows neither the carrier's addresses nor where the far end goes.
//!
//! Invariants: at most one carrier is there, being connected or in the link. A side that is being
//! dialed has a channel if and only if its notes say so: it is opened, and the source waits for the
//! far end's answer.

use crate::carrier::Carrier;
use crate::link::{Link, Told};
use crate::session::Refused;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{RawFd, Ready, Sys};
use seaprox::time::{DURATION_MILLIS_MAX, Instant};
use seaprox::transport::{
    Cause, Desk, Dest, Dial, Event, Intake, Lent, Notice, Room, Step, Transport,
};
use seaprox::wanted::Wish;

/// How the carrier of a link is connected.
pub trait Connect {
    /// What moves the packets.
    type Carrier: Carrier;

    /// Begins to connect a new carrier.
    fn begin(&mut self) -> Begun<Self::Carrier>;

    /// The descriptor of a carrier that was begun is ready, or it is time ([`Carrier::timeout`]): whether
    /// it is connected now.
    ///
    /// # Errors
    /// It cannot be.
    fn finish(&mut self, carrier: &mut Self::Carrier) -> Result<bool, FailReason>;

    /// Where it leads.
    fn peer(&self) -> Address;
}

/// A carrier that is wanted.
#[derive(Debug)]
pub enum Begun<C> {
    /// It is being connected, or is connected already.
    Carrier(C),
    /// Not yet: a name is being looked up. Ask again in a moment.
    Waiting,
    /// It cannot be.
    Failed(FailReason),
}

impl<C> Begun<C> {
    /// The same, of another type.
    pub fn map<D>(self, change: impl FnOnce(C) -> D) -> Begun<D> {
        match self {
            Begun::Carrier(carrier) => Begun::Carrier(change(carrier)),
            Begun::Waiting => Begun::Waiting,
            Begun::Failed(reason) => Begun::Failed(reason),
        }
    }
}

/// How a [`LinkDest`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct DestOptions {
    /// Where the far end is to lead connections that name no target themselves.
    pub wanted: Wish,
    /// How long a down link makes clients wait before they are refused, in milliseconds.
    pub wait_millis: u32,
    /// How long connecting the carrier and the far end's hello may take, in milliseconds.
    pub connect_millis: u32,
    /// Any number: two that connect to the same far end wait differently long.
    pub seed: u32,
}

/// After how long at most a lost link is tried again (protocol.md: 1, 2, 4 .. 10 s).
const RETRY_MILLIS_MAX: u32 = 10_000;

/// After how long the first time.
const RETRY_MILLIS: u32 = 1000;

/// How often a name that is being looked up is asked for.
const LOOKUP_MILLIS: u32 = 20;

/// How soon a channel is tried again when the carrier takes nothing, in milliseconds: after 1, 2, 4 .. of
/// them. Many may wait at once, of whom each costs a look.
const ROOM_MILLIS_MAX: u32 = 32;

enum Stage<C> {
    /// Tried again then.
    Down(Instant),
    /// Given up then; `true`: its descriptor is ready.
    Connecting(C, Instant, bool),
    /// The carrier is the link's.
    Linked,
}

/// A link that connects itself.
///
/// ```
/// use seaprox_proto::dest::{Connect, DestOptions, LinkDest};
/// use seaprox_proto::link::LinkMemory;
/// use seaprox_proto::session::{Config, Role};
/// use seaprox::sys::Linux;
/// use seaprox::transport::Dest;
/// use seaprox::wanted::Wish;
///
/// /// Connections that want what the far end has of itself.
/// fn to<'m, C: Connect>(
///     memory: &'m mut LinkMemory<8, 64>,
///     connect: C,
/// ) -> impl Dest<Linux, ()> + use<'m, C> {
///     let config = Config {
///         role: Role::Initiator,
///         peer_channels_max: 0,
///         idle_millis: 15_000,
///         opens_per_second_max: 1000,
///         first_offset: 0,
///     };
///     let options = DestOptions {
///         wanted: Wish::DEFAULT,
///         wait_millis: 10_000,
///         connect_millis: 10_000,
///         seed: 1,
///     };
///     LinkDest::new(memory.link(0, config), connect, &mut [], options)
/// }
/// ```
pub struct LinkDest<'m, A: Connect> {
    link: Link<'m, A::Carrier>,
    connect: A,
    options: DestOptions,
    stage: Stage<A::Carrier>,
    /// A carrier that was not connected, open until the turn is over.
    grave: Option<A::Carrier>,
    /// Since when no channel can be opened; `None`: they can.
    down_since: Option<Instant>,
    /// Whoever comes is refused, until the link is up.
    out_of_patience: bool,
    /// Somebody came while the carrier took nothing.
    out_of_room: bool,
    /// How many times in a row it was tried.
    tries: u32,
    random: u32,
    notice: Option<Notice>,
    /// By connection, what those want that wait for the carrier.
    waiting: &'m mut [Wish],
}

impl<'m, A: Connect> LinkDest<'m, A> {
    /// A link that is down, and connects itself with the first poll.
    ///
    /// `waiting`: where it is kept what connections want while the carrier takes nothing: as many as
    /// the worker's table has, or none if all of them want what the options say. Who has no place
    /// there and would have to wait is refused ([`FailReason::TableFull`]).
    pub fn new(
        link: Link<'m, A::Carrier>,
        connect: A,
        waiting: &'m mut [Wish],
        options: DestOptions,
    ) -> Self {
        LinkDest {
            link,
            connect,
            options,
            stage: Stage::Down(Instant::from_millis(0)),
            grave: None,
            down_since: None,
            out_of_patience: false,
            out_of_room: false,
            tries: 0,
            random: options.seed | 1,
            notice: None,
            waiting,
        }
    }

    /// The next of a row of numbers (xorshift32, Marsaglia 2003).
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// It is down, and tried again after a while: twice as long as the last time, give or take a
    /// quarter, so that many do not come back at once.
    fn down(&mut self, reason: FailReason, now: Instant) {
        let doubled = RETRY_MILLIS.checked_shl(self.tries.min(8)).unwrap_or(RETRY_MILLIS_MAX);
        let pause = doubled.min(RETRY_MILLIS_MAX);
        let jitter = self.random() % (pause / 2);
        self.tries += 1;
        self.stage = Stage::Down(now.after(pause - pause / 4 + jitter));
        self.notice = Some(Notice::LinkDown { peer: self.connect.peer(), number: None, reason });
    }

    /// Whether clients are to wait or to be refused while the link is down.
    fn lose_patience(&mut self, now: Instant) {
        if self.link.is_open() || self.link.is_full() {
            self.down_since = None;
            self.out_of_patience = false;
        } else {
            let since = *self.down_since.get_or_insert(now);
            self.out_of_patience = now.since(since) >= u64::from(self.options.wait_millis);
        }
    }

    /// What becomes of clients. Who would only wait for the carrier is not accepted: all of them would
    /// ask again and again.
    fn what_of_clients(&self) -> Intake {
        if self.link.is_open() {
            let is_blocked = self.out_of_room && self.link.is_blocked();
            if is_blocked { Intake::Blocked } else { Intake::Takes }
        } else if self.link.is_full() {
            Intake::Full
        } else if self.out_of_patience {
            Intake::Refuses
        } else {
            Intake::Down
        }
    }

    /// Connects a carrier, step by step.
    fn connect<K: Sys>(&mut self, desk: &mut Desk<'_, K>) {
        let now = desk.now;
        match &mut self.stage {
            Stage::Linked => {}
            Stage::Down(at) if now < *at || !self.link.is_down() => {}
            Stage::Down(at) => match self.connect.begin() {
                Begun::Waiting => *at = now.after(LOOKUP_MILLIS),
                Begun::Failed(reason) => self.down(reason, now),
                Begun::Carrier(carrier) => {
                    let interest = carrier.interest();
                    match carrier.fd().map(|fd| desk.poller.add_dest_own(fd, 0, interest)) {
                        None | Some(Ok(())) => {
                            let until = now.after(self.options.connect_millis);
                            // Ready at once, should it be connected already.
                            self.stage = Stage::Connecting(carrier, until, true);
                        }
                        Some(Err(_)) => self.down(FailReason::OutOfDescriptors, now),
                    }
                }
            },
            Stage::Connecting(carrier, until, ready) => {
                let is_due = carrier.timeout().is_some_and(|at| at <= now);
                let finished = match core::mem::take(ready) || is_due {
                    true => self.connect.finish(carrier),
                    false => Ok(false),
                };
                let reason = match finished {
                    Ok(true) => None,
                    Ok(false) if now < *until => return,
                    Ok(false) => Some(FailReason::TimedOut),
                    Err(reason) => Some(reason),
                };
                let linked = core::mem::replace(&mut self.stage, Stage::Linked);
                let Stage::Connecting(carrier, ..) = linked else { return };
                match reason {
                    None => self.link.start(carrier, self.connect.peer(), now),
                    Some(reason) => {
                        self.grave = Some(carrier);
                        self.down(reason, now);
                    }
                }
            }
        }
    }

    /// The next step of a dial.
    fn step(&mut self, dial: &mut Dial<'_, impl Sys>, start: Option<Wish>) -> Step {
        let mut notes = Notes::load(dial.notes);
        let step = match notes.channel {
            Some(channel) => self.hear_answer(channel, dial.desk.now),
            None => self.open(dial, &mut notes, start),
        };
        if let Step::Failed(reason) = step
            && let Some(channel) = notes.channel.take()
        {
            self.link.close(channel, Some(reason));
        }
        notes.store(dial.notes);
        step
    }

    /// Opens a channel for a side, if the carrier takes that now.
    fn open(&mut self, dial: &Dial<'_, impl Sys>, notes: &mut Notes, start: Option<Wish>) -> Step {
        let place = dial.side.connection();
        let kept = self.waiting.get(place).filter(|_| notes.is_kept);
        let wish = start.or(kept.copied()).unwrap_or(self.options.wanted);
        match self.link.open(dial.side, wish.wanted(), dial.source.socket_addr()) {
            Ok(channel) if dial.awaited => {
                self.out_of_room = false;
                notes.channel = Some(channel);
                self.hear_answer(channel, dial.desk.now)
            }
            Ok(channel) => {
                self.out_of_room = false;
                Step::Lent(channel, self.link.peer())
            }
            Err(Refused::NoRoom) => {
                self.out_of_room = true;
                // What everybody wants need not be kept.
                if !notes.is_kept && wish != self.options.wanted {
                    let Some(kept) = self.waiting.get_mut(place) else {
                        return Step::Failed(FailReason::TableFull);
                    };
                    *kept = wish;
                    notes.is_kept = true;
                }
                let millis = ROOM_MILLIS_MAX.min(1 << notes.tries);
                notes.tries = (notes.tries + 1).min(ROOM_MILLIS_MAX.ilog2() as u8);
                Step::Wait(dial.desk.now.after(millis))
            }
            Err(Refused::Because(FailReason::Unreachable)) => Step::Failed(FailReason::LinkDown),
            Err(Refused::Because(reason)) => Step::Failed(reason),
        }
    }

    /// What the far end has said of a channel whose source waits for that. It says something in the
    /// end, or the link dies: how long a target may take is for the far end to decide.
    fn hear_answer(&self, channel: Handle, now: Instant) -> Step {
        match self.link.answer(channel) {
            Some(Ok(())) => Step::Lent(channel, self.link.peer()),
            Some(Err(reason)) => Step::Failed(reason),
            None => Step::Wait(now.after(DURATION_MILLIS_MAX)),
        }
    }

    /// A side that is being dialed is given up.
    fn give_up(&mut self, notes: &[u8; 8]) {
        if let Some(channel) = Notes::load(notes).channel {
            self.link.close(channel, Some(FailReason::SourceGone));
        }
    }
}

/// What is remembered of one dial between its steps. All zeroes: nothing.
#[derive(Clone, Copy, Default)]
struct Notes {
    /// It is opened, and not answered.
    channel: Option<Handle>,
    /// What it wants is kept.
    is_kept: bool,
    /// How often in a row the carrier took nothing.
    tries: u8,
}

impl Notes {
    fn load(notes: &[u8; 8]) -> Notes {
        let &[a, b, c, d, is_kept, tries, ..] = notes;
        let number = u32::from_le_bytes([a, b, c, d]).checked_sub(1);
        Notes { channel: number.map(Handle::channel), is_kept: is_kept != 0, tries }
    }

    fn store(self, notes: &mut [u8; 8]) {
        let number = self.channel.map_or(0, |channel| channel.number() + 1);
        let [a, b, c, d] = number.to_le_bytes();
        *notes = [a, b, c, d, self.is_kept.into(), self.tries, 0, 0];
    }
}

impl<K: Sys, A: Connect> Transport<K> for LinkDest<'_, A> {
    const PROMPT: bool = true;
    const LENDS: bool = true;

    fn ready(&mut self, _: u32, fd: RawFd, ready: Ready) {
        match &mut self.stage {
            Stage::Connecting(carrier, _, is_ready) if carrier.fd() == Some(fd) => *is_ready = true,
            Stage::Linked if self.link.fd() == Some(fd) => self.link.ready(ready),
            // Of a carrier that is gone.
            _ => {}
        }
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        loop {
            if let Some(notice) = self.notice.take() {
                return Some(Event::Told(notice));
            }
            match self.link.poll(desk.now) {
                Some(Told::Ready(side, ready)) => return Some(Event::Ready(side, ready)),
                Some(Told::Up) => {
                    self.tries = 0;
                    self.notice = Some(Notice::LinkUp { peer: self.link.peer(), number: None });
                }
                Some(Told::Dead(reason)) => self.down(reason, desk.now),
                // The far end may open none: its session said so, and it would have been an error.
                Some(Told::Opened { channel, .. }) => {
                    self.link.close(channel, Some(FailReason::Denied));
                }
                Some(Told::Draining) => {}
                None => {
                    self.connect(desk);
                    self.lose_patience(desk.now);
                    // Said in the next round, if there is something.
                    self.notice?;
                }
            }
        }
    }

    fn shut(&mut self, handle: Handle, _: &mut Desk<'_, K>) {
        self.link.shut(handle);
    }

    fn stop(&mut self, handle: Handle, _: &mut Desk<'_, K>) {
        self.link.stop(handle);
    }

    fn close(&mut self, handle: Handle, reason: Option<FailReason>, _: &mut Desk<'_, K>) {
        self.link.close(handle, reason);
    }

    fn unacknowledged(&self, _: Handle, _: K) -> usize {
        // What comes before a reset on a channel is delivered before it.
        0
    }

    fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        self.link.bytes(channel)
    }

    fn consume(&mut self, channel: Handle, bytes: usize) {
        self.link.consume(channel, bytes);
    }

    fn room(&mut self, channel: Handle) -> Room<'_> {
        self.link.room(channel)
    }

    fn commit(&mut self, channel: Handle, bytes: usize) {
        self.link.commit(channel, bytes);
    }

    fn timeout(&self) -> Option<Instant> {
        let at_once = Instant::from_millis(0);
        if self.notice.is_some() {
            return Some(at_once);
        }
        let stage = match &self.stage {
            Stage::Down(at) => Some(*at),
            Stage::Connecting(_, _, true) => Some(at_once),
            Stage::Connecting(carrier, until, false) => {
                Some(carrier.timeout().map_or(*until, |at| at.min(*until)))
            }
            Stage::Linked => None,
        };
        let patience = match (self.down_since, self.out_of_patience) {
            (Some(since), false) => Some(since.after(self.options.wait_millis)),
            _ => None,
        };
        // What says that patience may have ended is looked at only when there is something to do.
        [stage, patience, self.link.timeout()].into_iter().flatten().min()
    }

    fn flush(&mut self, _: &mut Desk<'_, K>) {
        self.grave = None;
        self.link.end_turn();
    }

    fn is_flushed(&self) -> bool {
        self.link.is_flushed()
    }
}

impl<K: Sys, A: Connect> Dest<K, ()> for LinkDest<'_, A> {
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<()>) -> Step {
        let _ = cause;
        self.step(dial, None)
    }

    fn abort(&mut self, _: SideKey, notes: &[u8; 8], _: &mut Desk<'_, K>) {
        self.give_up(notes);
    }

    fn is_open(&self) -> bool {
        self.what_of_clients() == Intake::Takes
    }

    fn intake(&self) -> Intake {
        self.what_of_clients()
    }
}

impl<K: Sys, A: Connect> Dest<K, Wish> for LinkDest<'_, A> {
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<Wish>) -> Step {
        self.step(dial, if let Cause::Start(wish) = cause { Some(wish) } else { None })
    }

    fn abort(&mut self, _: SideKey, notes: &[u8; 8], _: &mut Desk<'_, K>) {
        self.give_up(notes);
    }

    fn is_open(&self) -> bool {
        self.what_of_clients() == Intake::Takes
    }

    fn intake(&self) -> Intake {
        self.what_of_clients()
    }
}
