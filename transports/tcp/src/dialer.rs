//! Reaches a dest over tcp or a unix socket: targets in order, addresses with a staggered second
//! connect (RFC 8305), names through a resolver. Knows no thread, and not which targets are tried
//! for whom (`targets.rs`); never blocks.
//!
//! Invariant: a side that is being connected has at most two connects under way: the side's own
//! descriptor, and one in `races`, which the dialer owns.

use crate::resolve::{ADDRESSES_MAX, Lookup, Resolve};
use crate::targets::{Chosen, Names, PLACES, TARGETS_MAX, Target, Targets};
use arrayvec::ArrayVec;
use core::net::SocketAddr;
use core::ops::RangeInclusive;
use seaprox::address::Address;
use seaprox::completion::Outcome;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, Interest, Peer, RawFd, Ready, Sys};
use seaprox::time::Instant;
use seaprox::transport::{Attempt, Cause, Desk, Dest, Dial, Event, Step, Transport};

/// Staggered second connects under way at the same time, a thread.
pub const RACES_MAX: usize = 16;

/// Targets with this number and above are names that the chooser keeps.
const FIRST_NAME: u8 = TARGETS_MAX as u8;

const _: () = assert!(TARGETS_MAX + PLACES <= u8::MAX as usize);

/// After how long without an answer the next address is tried as well (RFC 8305 section 5).
const STAGGER_MILLIS: u32 = 250;

/// After how long, at least, a listener whose queue was full is asked again.
const RETRY_MILLIS: u32 = 10;

/// How a dialer behaves.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// How long one target may take, names and all its addresses together, in milliseconds.
    pub connect_millis: u32,
    /// SO_SNDBUF and SO_RCVBUF in bytes; `None` leaves autotuning on.
    pub buffer_bytes: Option<usize>,
    /// The ports the kernel takes for connects (net.ipv4.ip_local_port_range): only a connect to
    /// one of them can reach itself, so only those are looked at.
    pub local_ports: RangeInclusive<u16>,
}

impl Default for DialOptions {
    fn default() -> Self {
        DialOptions { connect_millis: 10_000, buffer_bytes: None, local_ports: 0..=u16::MAX }
    }
}

/// A second connect of a side.
#[derive(Clone, Copy, Debug)]
struct Race {
    fd: RawFd,
    side: SideKey,
    peer: Address,
    /// It is ready, and the worker has not been told.
    untold: bool,
    /// It failed, or was reset.
    in_error: bool,
}

/// Connects to the first target that can be reached, of those that `P` chooses for a connection.
///
/// ```
/// use seaprox::sys::Linux;
/// use seaprox_tcp::resolve::NoNames;
/// use seaprox_tcp::{DialOptions, Dialer, Target};
///
/// // The second is tried if the first cannot be reached.
/// let targets = [Target::Inet("192.0.2.1:80".parse()?), Target::Unix(b"/run/backend")];
/// let options = DialOptions { connect_millis: 3000, ..DialOptions::default() };
/// let _dest = Dialer::new(Linux, &targets, NoNames, options);
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct Dialer<'t, K, R, P = ()> {
    sys: K,
    targets: &'t [Target<'t>],
    chooser: P,
    resolver: R,
    options: DialOptions,
    races: [Option<Race>; RACES_MAX],
}

/// What is remembered of a side between two steps.
///
/// Invariant: `target < end` while anything is under way, but the connect to an address that no
/// target stands for: then both are 0.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    /// The target being tried.
    target: u8,
    /// The next of its addresses.
    next: u8,
    /// Why the last attempt failed.
    reason: u8,
    /// One past the last target to be tried.
    end: u8,
    /// When the target is given up: low bits of the millisecond clock.
    until: u32,
}

impl Notes {
    fn load(bytes: &[u8; 8]) -> Notes {
        let [target, next, reason, end, until @ ..] = *bytes;
        Notes { target, next, reason, end, until: u32::from_le_bytes(until) }
    }

    fn store(self, bytes: &mut [u8; 8]) {
        bytes[..4].copy_from_slice(&[self.target, self.next, self.reason, self.end]);
        bytes[4..].copy_from_slice(&self.until.to_le_bytes());
    }

    fn until(&self, now: Instant) -> Instant {
        let millis = self.until.wrapping_sub(now.as_millis() as u32) as i32;
        Instant::from_millis((now.as_millis() as i64 + i64::from(millis)).max(0) as u64)
    }

    fn fail(&mut self, reason: FailReason) {
        self.reason = reason as u8;
    }
}

impl<'t, K: Sys, R: Resolve> Dialer<'t, K, R> {
    /// Tries the same targets for every connection, in order: at least one, at most
    /// [`TARGETS_MAX`].
    pub fn new(sys: K, targets: &'t [Target<'t>], resolver: R, options: DialOptions) -> Self {
        assert!(!targets.is_empty(), "1..={TARGETS_MAX} targets");
        Dialer::choosing(sys, targets, (), resolver, options)
    }
}

impl<'t, K: Sys, R: Resolve, P: Names> Dialer<'t, K, R, P> {
    /// Tries for each connection what the chooser says, of at most [`TARGETS_MAX`] targets.
    pub fn choosing(
        sys: K,
        targets: &'t [Target<'t>],
        chooser: P,
        resolver: R,
        options: DialOptions,
    ) -> Self {
        assert!(targets.len() <= TARGETS_MAX, "at most {TARGETS_MAX} targets");
        Dialer { sys, targets, chooser, resolver, options, races: [None; RACES_MAX] }
    }

    /// Begins with the first target of those that are chosen.
    fn start<T>(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes, wanted: T) -> Step
    where
        P: Targets<T>,
    {
        let targets = match self.chooser.choose(dial.side, wanted) {
            Ok(Chosen::All) => 0..self.targets.len() as u8,
            // What comes after the targets are names, which may be somebody else's.
            Ok(Chosen::Some(range)) => range.start..range.end.min(self.targets.len() as u8),
            Ok(Chosen::Name(place)) => {
                let first = FIRST_NAME.saturating_add(place);
                first..first.saturating_add(1)
            }
            Ok(Chosen::Address(address)) => return self.start_address(dial, notes, address),
            Err(reason) => return Step::Failed(reason),
        };
        (notes.target, notes.end) = (targets.start, targets.end);
        self.start_target(dial, notes)
    }

    /// Begins the only attempt there is.
    fn start_address(
        &mut self,
        dial: &mut Dial<'_, K>,
        notes: &mut Notes,
        address: SocketAddr,
    ) -> Step {
        notes.until = self.until(dial.desk.now);
        match self.attempt(dial, notes, &Peer::Inet(address)) {
            Some(step) => step,
            None => self.start_target(dial, notes),
        }
    }

    /// When a target that begins now is given up, as the notes have it.
    fn until(&self, now: Instant) -> u32 {
        now.after(self.options.connect_millis).as_millis() as u32
    }

    /// The target being tried; `None` if there is none left.
    fn target(&self, notes: &Notes) -> Option<Target<'_>> {
        if notes.target >= notes.end {
            return None;
        }
        match notes.target.checked_sub(FIRST_NAME) {
            None => self.targets.get(usize::from(notes.target)).copied(),
            Some(place) => self.chooser.name(place).map(|(name, port)| Target::Name(name, port)),
        }
    }

    /// Begins with the target of the notes.
    fn start_target(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes) -> Step {
        loop {
            // The last target's lookup may still be under way: it must not decide about this one.
            dial.revoke_ticket();
            let Some(target) = self.target(notes) else {
                let reason = FailReason::from_number(notes.reason);
                return Step::Failed(reason.unwrap_or(FailReason::Other));
            };
            notes.next = 0;
            notes.until = self.until(dial.desk.now);
            if let Target::Name(name, _) = target {
                let ticket = dial.ticket();
                match self.resolver.lookup(name, ticket) {
                    Lookup::Known(_) => {}
                    Lookup::Waiting => return Step::Wait(notes.until(dial.desk.now)),
                    Lookup::Failed(reason) => {
                        notes.fail(reason);
                        notes.target += 1;
                        continue;
                    }
                }
            }
            if let Some(step) = self.first_attempt(dial, notes) {
                return step;
            }
            notes.target += 1;
        }
    }

    /// Tries the addresses of the target, from the next on, as the side's own; `None` if none is
    /// left.
    fn first_attempt(&self, dial: &mut Dial<'_, K>, notes: &mut Notes) -> Option<Step> {
        while let Some(peer) = self.peer(notes) {
            notes.next += 1;
            if let Some(step) = self.attempt(dial, notes, &peer) {
                return Some(step);
            }
        }
        None
    }

    /// Begins a connect as the side's own; `None` if it failed at once.
    fn attempt(&self, dial: &mut Dial<'_, K>, notes: &mut Notes, peer: &Peer<'_>) -> Option<Step> {
        match self.begin(peer) {
            Ok((fd, connected)) => {
                let attempt = Attempt { fd, peer: peer.address(), registered: false };
                if !connected {
                    return Some(Step::Attempt(attempt, self.wake_at(dial.desk.now, notes)));
                }
                match self.verify(fd, attempt.peer) {
                    Ok(()) => return Some(Step::Adopted(attempt)),
                    Err(errno) => {
                        dial.desk.poller.retire(fd);
                        notes.fail(FailReason::of_connect(errno));
                    }
                }
            }
            // The listener's queue is full, which a unix socket says at once (connect(2)), where
            // tcp would send its SYN again.
            Err(Errno::AGAIN) if matches!(peer, Peer::Unix(_)) => {
                notes.next -= 1;
                notes.fail(FailReason::TimedOut);
                return Some(Step::Wait(self.again_at(dial.desk.now, notes)));
            }
            Err(errno) => notes.fail(FailReason::of_connect(errno)),
        }
        None
    }

    /// Starts a second connect for the side, if there is another address and room for it.
    fn second_attempt(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes) {
        let Some(own) = self.races.iter().position(Option::is_none) else { return };
        while let Some(peer) = self.peer(notes) {
            notes.next += 1;
            match self.begin(&peer) {
                Ok((fd, _)) => {
                    match dial.desk.poller.add_dest_own(fd, own as u32, Interest::Connection) {
                        Ok(()) => {
                            let (side, peer) = (dial.side, peer.address());
                            self.races[own] =
                                Some(Race { fd, side, peer, untold: false, in_error: false });
                            return;
                        }
                        Err(errno) => {
                            dial.desk.poller.retire(fd);
                            notes.fail(FailReason::of_connect(errno));
                        }
                    }
                }
                Err(errno) => notes.fail(FailReason::of_connect(errno)),
            }
        }
    }

    /// When the side wants a step although nothing happened: to try the next address as well, or
    /// to give the target up.
    fn wake_at(&self, now: Instant, notes: &Notes) -> Instant {
        let until = notes.until(now);
        match self.peer(notes) {
            Some(_) => until.min(now.after(STAGGER_MILLIS)),
            None => until,
        }
    }

    /// When a queue that was full is tried again: the later, the longer it has been full.
    fn again_at(&self, now: Instant, notes: &Notes) -> Instant {
        let until = notes.until(now);
        let waited = u64::from(self.options.connect_millis).saturating_sub(until.since(now));
        let pause = (waited / 2).clamp(RETRY_MILLIS.into(), STAGGER_MILLIS.into());
        until.min(now.after(pause as u32))
    }

    /// The next address of the target being tried.
    fn peer(&self, notes: &Notes) -> Option<Peer<'_>> {
        match self.target(notes)? {
            Target::Inet(address) => (notes.next == 0).then_some(Peer::Inet(address)),
            Target::Unix(path) => (notes.next == 0).then_some(Peer::Unix(path)),
            Target::Name(name, port) => {
                let addresses: ArrayVec<_, ADDRESSES_MAX> = self.resolver.addresses(name)?;
                Some(Peer::Inet((*addresses.get(usize::from(notes.next))?, port).into()))
            }
        }
    }

    /// A connect under way (`false`) or done (`true`).
    fn begin(&self, peer: &Peer<'_>) -> Result<(RawFd, bool), Errno> {
        let fd = self.sys.socket(peer)?;
        let begun = self.options.buffer_bytes.map_or(Ok(()), |b| self.sys.set_buffers(fd, b));
        match begun.and_then(|()| self.sys.connect(fd, peer)) {
            Ok(()) => Ok((fd, true)),
            Err(Errno::INPROGRESS) => Ok((fd, false)),
            Err(errno) => {
                // Never registered, so no event can be about it.
                self.sys.close(fd);
                Err(errno)
            }
        }
    }

    /// Whether a socket that says it is connected is, and not to itself (a simultaneous open with
    /// its own port, RFC 9293 section 3.5).
    fn verify(&self, fd: RawFd, peer: Address) -> Result<(), Errno> {
        if peer.socket_addr().is_none() || !self.options.local_ports.contains(&peer.port()) {
            return Ok(());
        }
        // The kernel's word for the peer, as 0.0.0.0 and [::] mean this machine (ip(7)).
        let local = self.sys.local_address(fd)?;
        let own = local.port() == peer.port() && self.sys.peer_address(fd)? == local;
        if own { Err(Errno::CONNREFUSED) } else { Ok(()) }
    }

    fn end_race(&mut self, side: SideKey, desk: &mut Desk<'_, K>) {
        if let Some(race) = self.race_of(side).and_then(|own| self.races[own].take()) {
            desk.poller.retire(race.fd);
        }
    }

    fn race_of(&self, side: SideKey) -> Option<usize> {
        self.races.iter().position(|race| race.is_some_and(|race| race.side == side))
    }

    /// The side's own connect is ready.
    fn own_ready(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes, ready: Ready) -> Step {
        let now = dial.desk.now;
        let Some(fd) = dial.fd else { return Step::Wait(self.wake_at(now, notes)) };
        if !(ready.writable || ready.error || ready.hung_up) {
            return Step::Wait(self.wake_at(now, notes));
        }
        let connected = match ready.error || ready.hung_up {
            true => self.in_error(fd),
            false => self.verify(fd, dial.peer),
        };
        match connected {
            Ok(()) => {
                self.end_race(dial.side, &mut dial.desk);
                Step::Connected
            }
            Err(errno) => {
                notes.fail(FailReason::of_connect(errno));
                self.own_failed(dial, notes, fd)
            }
        }
    }

    /// What a connect has come to whose socket is in error: `Ok` if it was made, and its peer said
    /// something before it reset it, all before anybody looked. That is still to be read, and the
    /// error after it: a peek that finds bytes leaves the error where it is (tcp(7), `sk_err`).
    fn in_error(&self, fd: RawFd) -> Result<(), Errno> {
        match self.sys.peek(fd, &mut [0]) {
            Ok(1..) => Ok(()),
            Ok(0) | Err(Errno::AGAIN) => {
                self.sys.take_error(fd)?;
                self.sys.peer_address(fd).map(|_| ())
            }
            Err(errno) => Err(errno),
        }
    }

    /// The side's own connect failed: a second one takes its place, else the next address, else the
    /// next target.
    fn own_failed(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes, fd: RawFd) -> Step {
        dial.fd = None;
        dial.desk.poller.retire(fd);
        if let Some(race) = self.race_of(dial.side).and_then(|own| self.races[own].take()) {
            let attempt = Attempt { fd: race.fd, peer: race.peer, registered: true };
            return Step::Attempt(attempt, self.wake_at(dial.desk.now, notes));
        }
        if let Some(step) = self.first_attempt(dial, notes) {
            return step;
        }
        notes.target += 1;
        self.start_target(dial, notes)
    }

    /// A second connect is ready.
    fn race_ready(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes) -> Step {
        let now = dial.desk.now;
        let Some(own) = self.race_of(dial.side) else {
            return Step::Wait(self.wake_at(now, notes));
        };
        let Some(race) = self.races[own].take() else { unreachable!("just found") };
        let connected = match race.in_error {
            true => self.in_error(race.fd),
            false => self.sys.take_error(race.fd).and_then(|()| {
                self.sys.peer_address(race.fd)?;
                self.verify(race.fd, race.peer)
            }),
        };
        match connected {
            // The event was about the connect that had this number before, earlier in the turn.
            Err(Errno::NOTCONN) => {
                self.races[own] = Some(race);
                Step::Wait(self.wake_at(now, notes))
            }
            Ok(()) => {
                if let Some(loser) = dial.fd.take() {
                    dial.desk.poller.retire(loser);
                }
                Step::Adopted(Attempt { fd: race.fd, peer: race.peer, registered: true })
            }
            Err(errno) => {
                notes.fail(FailReason::of_connect(errno));
                dial.desk.poller.retire(race.fd);
                self.second_attempt(dial, notes);
                Step::Wait(self.wake_at(now, notes))
            }
        }
    }

    /// Time for another address, or the target's time is over.
    fn timed_out(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes) -> Step {
        let now = dial.desk.now;
        if now < notes.until(now) {
            if dial.fd.is_none() {
                // Nothing is under way: a queue was full.
                if let Some(step) = self.first_attempt(dial, notes) {
                    return step;
                }
                notes.target += 1;
                return self.start_target(dial, notes);
            }
            if self.race_of(dial.side).is_none() {
                self.second_attempt(dial, notes);
            }
            return Step::Wait(self.wake_at(now, notes));
        }
        if let Some(fd) = dial.fd.take() {
            dial.desk.poller.retire(fd);
        }
        self.end_race(dial.side, &mut dial.desk);
        notes.fail(FailReason::TimedOut);
        notes.target += 1;
        self.start_target(dial, notes)
    }

    /// The resolver has answered.
    fn resolved(&mut self, dial: &mut Dial<'_, K>, notes: &mut Notes, outcome: Outcome) -> Step {
        match outcome {
            Outcome::Resolved => {
                if let Some(step) = self.first_attempt(dial, notes) {
                    return step;
                }
            }
            Outcome::Failed(reason) => notes.fail(reason),
            Outcome::Connected(fd) => {
                // The resolver connects nothing; whoever did gave us the descriptor.
                dial.desk.poller.retire(fd);
                notes.fail(FailReason::Other);
            }
        }
        notes.target += 1;
        self.start_target(dial, notes)
    }
}

impl<K: Sys, R: Resolve, P: Names> Transport<K> for Dialer<'_, K, R, P> {
    const PROMPT: bool = false;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        let race = self.races.get_mut(own as usize).and_then(Option::as_mut);
        if let Some(race) = race
            && race.fd == fd
            && (ready.writable || ready.error || ready.hung_up)
        {
            race.untold = true;
            race.in_error = ready.error || ready.hung_up;
        }
    }

    fn poll(&mut self, _: &mut Desk<'_, K>) -> Option<Event> {
        let race = self.races.iter_mut().flatten().find(|race| race.untold)?;
        race.untold = false;
        Some(Event::Dialed(race.side))
    }

    fn settle(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        let Some(fd) = handle.fd() else { return };
        let keepalive = crate::KEEPALIVE;
        // A unix socket has none.
        let _ = desk.sys.set_keepalive(
            fd,
            keepalive.idle_seconds,
            keepalive.interval_seconds,
            keepalive.count,
        );
    }
}

impl<K: Sys, R: Resolve, T, P: Targets<T>> Dest<K, T> for Dialer<'_, K, R, P> {
    fn dial(&mut self, dial: &mut Dial<'_, K>, cause: Cause<T>) -> Step {
        let mut notes = Notes::load(dial.notes);
        let step = match cause {
            Cause::Start(wanted) => self.start(dial, &mut notes, wanted),
            Cause::Ready(ready) => self.own_ready(dial, &mut notes, ready),
            Cause::Own => self.race_ready(dial, &mut notes),
            Cause::Outcome(outcome) => self.resolved(dial, &mut notes, outcome),
            Cause::Timeout => self.timed_out(dial, &mut notes),
        };
        notes.store(dial.notes);
        if matches!(step, Step::Connected | Step::Adopted(_) | Step::Failed(_)) {
            self.chooser.forget(dial.side);
        }
        step
    }

    fn abort(&mut self, side: SideKey, _: &[u8; 8], desk: &mut Desk<'_, K>) {
        self.end_race(side, desk);
        self.chooser.forget(side);
    }
}

#[cfg(test)]
#[path = "dialer_tests.rs"]
mod tests;
