//! The turn: wait, hear what is ready, move bytes, keep time, close. Read it top to bottom; bytes
//! move in `relay.rs`, beginnings are in `connecting.rs`, ends in `ending.rs`.
//!
//! A turn takes up a bounded amount of work and blocks only when nothing is left to do: what was
//! stopped though it could go on is on the ready list. Descriptors are closed at its end.

use crate::admission::{Admission, WhenFull};
use crate::completion::Outcome;
use crate::fail::FailReason;
use crate::poller::{Place, Poller};
use crate::ready_list::ReadyList;
use crate::relay::{End, PIPES_MAX, PipeLimits, Pumped, Relay};
use crate::share::Order;
use crate::side::{Flags, Handle, Side, SideKey, SideKind, Stage};
use crate::sys::{EVENTS_MAX, Errno, RawFd, Ready, Sys, SysResult};
use crate::table::Table;
use crate::time::Instant;
use crate::timers::Timers;
use crate::transport::{Cause, Desk, Dest, Event, Intake, Notice, Observer, Source};

/// How many events a transport may tell of at once.
const TOLD_MAX: usize = 128;

/// How many clients are taken at most once the proxy drains: as many as a backlog may hold by
/// default since Linux 5.4 (listen(2), net.core.somaxconn). More cannot have been queued before; who
/// comes later must not keep the proxy from ending.
const DRAIN_MAX: usize = 4096;

/// For how many turns deadlines may wait because more events do.
const FULL_BATCHES_MAX: u32 = 256;

/// How long the worker waits before it tries again what the kernel had no memory for.
const STARVED_MILLIS: u32 = 10;

/// What an unprivileged user may have in pipes (pipe(7), pipe-user-pages-soft: 16,384 pages).
const PIPE_BYTES: usize = 64 * 1024 * 1024;

/// How a worker behaves.
///
/// ```
/// use seaprox::worker::Options;
///
/// let options = Options { idle_millis: Some(60_000), ..Options::default() };
/// assert_eq!((options.proxy, options.half_close_millis), ("static", None));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How descriptions begin.
    pub proxy: &'static str,
    /// After how long without a byte a connection is reset, in milliseconds.
    pub idle_millis: Option<u32>,
    /// How long one direction may go on when the other has ended, in milliseconds.
    pub half_close_millis: Option<u32>,
    /// How long a reset is held back for bytes that came before it, in milliseconds.
    pub reset_flush_millis: u32,
    /// What becomes of clients when the table is full.
    pub when_full: WhenFull,
    /// Pipes this thread may hold open.
    pub pipes: PipeLimits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            proxy: "static",
            idle_millis: None,
            half_close_millis: None,
            reset_flush_millis: 1000,
            when_full: WhenFull::Wait,
            pipes: PipeLimits::of(PIPES_MAX, PIPE_BYTES),
        }
    }
}

/// One thread: its table, its epoll, where connections come from and where they go.
///
/// ```
/// use seaprox::Seaprox;
/// use seaprox::share::Order;
/// use seaprox::sys::{Linux, SysResult};
/// use seaprox::transport::{Dest, Source};
/// use seaprox::worker::{Options, Worker};
///
/// static PROXY: Seaprox<64, 1> = Seaprox::new();
///
/// /// Relays from `source` to `dest` until somebody says [`Order::Drain`] or [`Order::Stop`].
/// fn relay<S: Source<Linux>>(source: S, dest: impl Dest<Linux, S::Target>) -> SysResult<()> {
///     let Some(table) = PROXY.claim(1, 64).and_then(|mut tables| tables.next()) else {
///         return Ok(());
///     };
///     Worker::new(Linux, table, source, dest, (), Options::default())?.run()
/// }
/// ```
pub struct Worker<'a, K: Sys, S, D, O> {
    pub(crate) sys: K,
    pub(crate) table: Table<'a>,
    pub(crate) relay: Relay<'a, K>,
    pub(crate) timers: Timers<'a>,
    pub(crate) poller: Poller<K>,
    pub(crate) source: S,
    pub(crate) dest: D,
    pub(crate) observer: O,
    pub(crate) options: Options,
    pub(crate) admission: Admission<'a>,
    ready_list: ReadyList,
    /// The generation of the last ticket.
    pub(crate) generation: u32,
    /// The clock, as far as this turn has looked at it.
    pub(crate) clock: Option<Instant>,
    /// Outcomes, or other threads' changes, may wait to be seen.
    rung: bool,
    /// The kernel had no memory in the last turn.
    starved: bool,
    /// Whether connections are wanted may have changed.
    pub(crate) admission_stale: bool,
    /// Turns in a row that found as many events as they can take.
    full_batches: u32,
    /// Clients that may still be taken while the proxy drains.
    drain_left: usize,
    /// The source takes nothing any more.
    source_ended: bool,
    /// What the dest did with connections when it was last asked.
    pub(crate) intake: Intake,
}

impl<'a, K, S, D, O> Worker<'a, K, S, D, O>
where
    K: Sys,
    S: Source<K>,
    D: Dest<K, S::Target>,
    O: Observer,
{
    /// A worker on its table.
    ///
    /// # Errors
    /// The kernel gave no epoll or no eventfd.
    pub fn new(
        sys: K,
        mut table: Table<'a>,
        source: S,
        dest: D,
        observer: O,
        options: Options,
    ) -> SysResult<Self> {
        let poller = Poller::new(sys)?;
        table.share().set_doorbell(poller.doorbell());
        Ok(Worker {
            sys,
            relay: Relay::new(sys, core::mem::take(&mut table.buffer), options.pipes),
            timers: Timers::new(core::mem::take(&mut table.deadlines)),
            admission: Admission::new(table.commons.shares, table.thread, options.when_full),
            table,
            poller,
            source,
            dest,
            observer,
            options,
            ready_list: ReadyList::default(),
            generation: 0,
            clock: None,
            rung: true,
            starved: false,
            admission_stale: true,
            full_batches: 0,
            drain_left: DRAIN_MAX,
            source_ended: false,
            intake: Intake::Takes,
        })
    }

    /// Turns until the proxy was told to end and nothing is left.
    ///
    /// # Errors
    /// The kernel refuses to wait: nothing can be done any more.
    pub fn run(&mut self) -> SysResult<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn; blocks only if there is nothing to do. `false`: told to end, and nothing is left.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn turn(&mut self) -> SysResult<bool> {
        self.turn_within(None)
    }

    /// One turn that blocks for `limit_millis` at most, 0: not at all.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn turn_within(&mut self, limit_millis: Option<u32>) -> SysResult<bool> {
        self.admit();
        let patience = [self.patience(), limit_millis].into_iter().flatten().min();
        self.starved = false;
        self.clock = None;
        let events = self.poller.wait(patience)?;
        for index in 0..events {
            let (fd, place, ready) = self.poller.event(index);
            self.hear(fd, place, ready);
        }
        self.serve_transports();
        self.serve_ready_list();
        // After a standstill (SIGSTOP, a busy host) deadlines have passed of connections whose bytes
        // wait to be told of: those come first.
        self.full_batches = if events == EVENTS_MAX { self.full_batches + 1 } else { 0 };
        if self.full_batches == 0 || self.full_batches > FULL_BATCHES_MAX {
            self.full_batches = 0;
            self.expire();
        }
        if self.rung {
            self.heed();
        }
        // Told to stop it waits for no far end: that may not be there any more.
        let flushed = self.flush() || self.table.commons.ordered() == Order::Stop;
        self.poller.bury();
        Ok(!(self.source_ended && self.table.occupied() == 0 && flushed))
    }

    /// The table, to look at.
    pub fn table(&self) -> &Table<'a> {
        &self.table
    }

    /// How long the worker may block, in milliseconds; `None`: until something happens.
    pub(crate) fn patience(&mut self) -> Option<u32> {
        if self.starved {
            return Some(STARVED_MILLIS);
        }
        if self.rung || !self.ready_list.is_empty() {
            return Some(0);
        }
        let deadlines = [
            self.timers.next(),
            self.admission.retry_at(),
            self.source.timeout(),
            self.dest.timeout(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        self.clock = None;
        Some(next.since(self.now()).min(u64::from(u32::MAX)) as u32)
    }

    /// The time of this turn: the clock is read only in turns that want it.
    pub(crate) fn now(&mut self) -> Instant {
        *self.clock.get_or_insert_with(|| self.sys.now())
    }

    /// Says whether connections are wanted.
    fn admit(&mut self) {
        if self.admission.retry_at().is_some_and(|at| at <= self.now()) {
            self.admission.try_again();
            self.admission_stale = true;
            self.rung = true;
        }
        let intake = self.dest.intake();
        let before = core::mem::replace(&mut self.intake, intake);
        // Once its source has ended it is down to the others, whatever its dest could do.
        if before != intake && !self.source_ended {
            self.admission_stale = true;
            let sys = self.sys;
            self.admission.dest_changed(before, intake, |share| share.ring(sys));
        }
        if !core::mem::take(&mut self.admission_stale) {
            return;
        }
        let wanted = self.table.commons.ordered() == Order::Run
            && !self.source_ended
            && self.admission.wanted(intake);
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        if let Err(errno) = self.source.admit(wanted, &mut desk) {
            self.exhausted(errno);
        }
    }

    /// One event.
    #[inline]
    fn hear(&mut self, fd: RawFd, place: Place, ready: Ready) {
        match place {
            Place::Side(hint) => {
                if let Some(side) = self.table.find(fd, hint) {
                    self.side_ready(side, ready);
                }
            }
            Place::Source(own) => {
                self.source.ready(own, fd, ready);
                if !S::LENDS {
                    self.listen_to_source();
                }
            }
            Place::Dest(own) => {
                self.dest.ready(own, fd, ready);
                if !D::LENDS {
                    self.listen_to_dest();
                }
            }
            Place::Doorbell => {
                self.poller.hush();
                self.table.share().heard();
                self.rung = true;
            }
        }
    }

    /// Hears what transports have to tell that lend channels (many sides a descriptor, so not before
    /// the batch is done), and those whose time has come.
    fn serve_transports(&mut self) {
        if let Some(at) = self.source.timeout()
            && at <= self.now()
        {
            self.listen_to_source();
        }
        if let Some(at) = self.dest.timeout()
            && at <= self.now()
        {
            self.listen_to_dest();
        }
    }

    /// What transports have collected during the turn goes out; whether that was all of it.
    fn flush(&mut self) -> bool {
        if S::LENDS || D::LENDS {
            let now = self.now();
            let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
            self.source.flush(&mut desk);
            self.dest.flush(&mut desk);
        }
        self.source.is_flushed() && self.dest.is_flushed()
    }

    /// A side's descriptor or channel is ready.
    #[inline]
    fn side_ready(&mut self, key: SideKey, ready: Ready) {
        let (side, other) = self.table.pair_mut(key);
        match side.stage {
            Stage::Connected(_) => {
                note(side, ready);
                let gone = ready.error || ready.hung_up && !side.is_unix();
                match other.stage {
                    Stage::Connecting(_) if gone => self.refuse(key, FailReason::SourceGone),
                    Stage::Asking if S::ASKS && gone => self.refuse(key, FailReason::SourceGone),
                    Stage::Asking if S::ASKS => self.ask(key),
                    Stage::Parting if S::ASKS => self.part(key),
                    Stage::Connected(_) => {
                        if ready.error {
                            self.side_in_error(key);
                        }
                        self.drive(key);
                    }
                    _ => {}
                }
            }
            Stage::Connecting(_) => {
                // The event that says "connected" may say "readable" too, and never again.
                note(side, ready);
                self.dial(key, Cause::Ready(ready));
            }
            // Both FINs are a hang-up too, with bytes still on their way.
            Stage::Flushing { .. }
                if ready.error || ready.hung_up && !side.flags.has(Flags::SHUT) =>
            {
                self.flushed(key);
            }
            Stage::Flushing { .. } | Stage::Idle { .. } | Stage::Asking | Stage::Parting => {}
        }
    }

    /// Moves bytes both ways, as far as they go, what came from `key` first.
    pub(crate) fn drive(&mut self, key: SideKey) {
        if self.pump(key) {
            self.pump(key.other());
        }
    }

    /// Moves bytes one way, as far as they go; `false` when the connection is no more.
    #[inline]
    pub(crate) fn pump(&mut self, from: SideKey) -> bool {
        let (Some(handle), Some(other_handle)) =
            (self.table.handle(from), self.table.handle(from.other()))
        else {
            return false;
        };
        let (side, other) = self.table.pair_mut(from);
        if !side.wants_pumping() || other.flags.has(Flags::BROKEN) {
            return true;
        }
        if S::ASKS
            && side.flags.has(Flags::PRECEDED)
            && let Some(stopped) = self.precede(from)
        {
            return self.stopped(from, handle, stopped);
        }
        let (side, other) = self.table.pair_mut(from);
        let before = side.bytes;
        let (one, another) = (End::new(handle, side), End::new(other_handle, other));
        let stopped = match from.kind() {
            SideKind::Source => self.relay.pump(one, another, (&mut self.source, &mut self.dest)),
            SideKind::Dest => self.relay.pump(one, another, (&mut self.dest, &mut self.source)),
        };
        if self.options.idle_millis.is_some() && self.table.side(from).bytes != before {
            self.touch(from.connection());
        }
        self.stopped(from, handle, stopped)
    }

    /// What follows when a direction stopped; `false` when the connection is no more.
    fn stopped(&mut self, from: SideKey, handle: Handle, stopped: Pumped) -> bool {
        let flags = self.table.side(from).flags;
        match stopped {
            // Every segment that arrives would wake the thread for nothing.
            Pumped::Blocked if flags.has(Flags::BULK) && !flags.has(Flags::MUTED) => {
                self.mute(from, handle, true);
            }
            Pumped::Drained if flags.has(Flags::MUTED) => self.mute(from, handle, false),
            Pumped::Blocked | Pumped::Drained => {}
            Pumped::Turn | Pumped::Starved => self.put_back(from, stopped),
            Pumped::Ended => return self.ended(from),
            Pumped::Reset => return self.reset(from),
            Pumped::Broken => return self.broken(from.other()),
        }
        true
    }

    /// A side can go on, when others have had their turn or the kernel has memory again.
    pub(crate) fn put_back(&mut self, side: SideKey, stopped: Pumped) {
        self.starved |= stopped == Pumped::Starved;
        self.ready_list.push(self.table.sides, side);
    }

    fn mute(&mut self, side: SideKey, handle: Handle, muted: bool) {
        let Some(fd) = handle.fd() else { return };
        if self.poller.mute(fd, side, muted).is_err() {
            // Not told: it stays as it was. While muted that would be for ever, so it is tried
            // again; not muted costs wake-ups only.
            if !muted {
                self.starved = true;
                self.ready_list.push(self.table.sides, side);
            }
            return;
        }
        let flags = &mut self.table.side_mut(side).flags;
        if muted { flags.set(Flags::MUTED) } else { flags.clear(Flags::MUTED) }
    }

    /// Goes on with the sides that had to stop; each once.
    fn serve_ready_list(&mut self) {
        let last = self.ready_list.last();
        while self.poller.has_room()
            && let Some(key) = self.ready_list.pop(self.table.sides)
        {
            match (self.table.side(key).stage, self.table.side(key.other()).stage) {
                (Stage::Connected(_), Stage::Connected(_)) => {
                    self.pump(key);
                }
                (Stage::Connected(_), Stage::Asking) if S::ASKS => self.ask(key),
                (Stage::Connected(_), Stage::Parting) if S::ASKS => self.part(key),
                _ => {}
            }
            if Some(key) == last {
                break;
            }
        }
    }

    /// Takes what the source has.
    fn listen_to_source(&mut self) -> usize {
        for told in 0..TOLD_MAX {
            if S::LENDS && !self.poller.has_room() {
                return told;
            }
            let now = self.now();
            let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
            match self.source.poll(&mut desk) {
                Some(Event::Opened { handle, peer }) => self.opened(handle, peer),
                Some(Event::Ready(side, ready)) => self.side_ready(side, ready),
                Some(Event::Told(notice)) => self.observer.notice(notice),
                Some(Event::Exhausted(errno)) => self.exhausted(errno),
                Some(Event::Ended) => self.end_source(),
                Some(Event::Dialed(_)) | None => return told,
            }
        }
        TOLD_MAX
    }

    /// Takes what the dest has to tell.
    fn listen_to_dest(&mut self) {
        for _ in 0..TOLD_MAX {
            if D::LENDS && !self.poller.has_room() {
                return;
            }
            let now = self.now();
            let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
            match self.dest.poll(&mut desk) {
                Some(Event::Dialed(side)) => self.dial(side, Cause::Own),
                Some(Event::Ready(side, ready)) => self.side_ready(side, ready),
                Some(Event::Told(notice)) => self.observer.notice(notice),
                Some(Event::Exhausted(errno)) => self.exhausted(errno),
                Some(Event::Opened { .. } | Event::Ended) | None => return,
            }
        }
    }

    /// The kernel ran out of something.
    pub(crate) fn exhausted(&mut self, errno: Errno) {
        let now = self.now();
        self.admission.back_off(now);
        self.admission_stale = true;
        self.table.share().counters.count_failed(FailReason::OutOfDescriptors);
        self.observer.notice(Notice::Exhausted(errno));
    }

    /// Serves the deadlines that have passed.
    fn expire(&mut self) {
        if self.timers.next().is_none() {
            return;
        }
        let now = self.now();
        if !self.timers.is_due(now) {
            return;
        }
        let mut from = 0;
        while self.poller.has_room()
            && let Some(connection) = self.timers.expire(from, now)
        {
            from = connection + 1;
            let dest = SideKey::dest(connection);
            match self.table.side(dest).stage {
                Stage::Connecting(_) => self.dial(dest, Cause::Timeout),
                Stage::Asking if S::ASKS => self.ask(dest.other()),
                Stage::Parting if S::ASKS => self.parting_expired(dest.other()),
                Stage::Flushing { .. } => self.look_again(dest),
                _ => match self.table.side(dest.other()).stage {
                    Stage::Flushing { .. } => self.look_again(dest.other()),
                    _ => self.life_expired(connection),
                },
            }
        }
        self.timers.settle(now);
    }

    /// The doorbell was heard: outcomes, orders, other threads' changes.
    fn heed(&mut self) {
        self.rung = false;
        self.admission_stale = true;
        for connection in 0..self.table.high_water {
            if !self.poller.has_room() {
                self.rung = true;
                return;
            }
            let dest = SideKey::dest(connection);
            let Some(outcome) = self.table.mailbox(connection).take() else { continue };
            match (self.table.side(dest).stage, outcome) {
                (Stage::Connecting(_), outcome) => self.dial(dest, Cause::Outcome(outcome)),
                (_, Outcome::Connected(fd)) => self.poller.retire(fd),
                _ => {}
            }
        }
        match self.table.commons.ordered() {
            Order::Run => {}
            Order::Drain if !self.source_ended => self.take_what_is_queued(),
            Order::Drain => {}
            Order::Stop => self.stop(),
        }
    }

    /// The proxy drains: who waits in the backlog already is still served, as far as there is room.
    fn take_what_is_queued(&mut self) {
        if self.intake.is_down() && self.admission.another_can() {
            // Again when that one has taken them, or cannot any more.
            return;
        }
        while self.poller.has_room() {
            if self.table.is_full() || self.admission.retry_at().is_some() {
                // Again when a connection has ended, or the pause is over.
                return;
            }
            self.source.look();
            let taken = self.listen_to_source();
            self.drain_left = self.drain_left.saturating_sub(taken);
            if taken == 0 || self.drain_left == 0 {
                self.end_source();
            }
            if self.source_ended {
                return;
            }
        }
        self.rung = true;
    }

    pub(crate) fn end_source(&mut self) {
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        self.source.end(&mut desk);
        self.source_ended = true;
        let (sys, before) = (self.sys, self.intake);
        self.admission.dest_changed(before, Intake::Refuses, |share| share.ring(sys));
    }

    /// The number of connections changed.
    pub(crate) fn count(&mut self) {
        let sys = self.sys;
        self.admission.count(self.table.occupied(), |share| share.ring(sys));
        self.admission_stale = true;
        if self.table.commons.ordered() == Order::Drain && !self.source_ended {
            self.rung = true;
        }
    }
}

impl<K: Sys, S, D, O> Drop for Worker<'_, K, S, D, O> {
    /// Nobody may ring a doorbell that is gone: its number will be somebody else's.
    fn drop(&mut self) {
        self.table.share().take_doorbell();
    }
}

/// What an event says, in the side's own bits.
fn note(side: &mut Side, ready: Ready) {
    let flags = &mut side.flags;
    let over = ready.hung_up || ready.error;
    if ready.readable || ready.read_closed || over {
        flags.set(Flags::READABLE);
    }
    if ready.writable || over {
        flags.set(Flags::WRITABLE);
    }
    if ready.read_closed || over {
        flags.set(Flags::HANGUP);
    }
    if ready.error {
        flags.set(Flags::ERROR);
    }
    if ready.urgent {
        flags.set(Flags::URGENT);
    }
}
