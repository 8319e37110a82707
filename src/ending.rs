//! How connections end: FIN as FIN, RST as RST, in time, and with every byte that came before.
//! Part of the worker; knows no transport but by its verbs.
//!
//! Invariant: a connection leaves the table in exactly one place, [`Worker::finish`] or, when its
//! dest was never reached, [`Worker::refuse`].

use crate::address::Address;
use crate::completion::Outcome;
use crate::fail::FailReason;
use crate::side::{Flags, Handle, SideKey, SideKind, Stage};
use crate::sys::Sys;
use crate::time::{Instant, millis_until};
use crate::transport::{Desk, Dest, Notice, Observer, Source};
use crate::worker::Worker;

/// After how long a connection is given the options that only longer ones need.
const SETTLE_MILLIS: u32 = 1000;

/// How long apart the looks at an unacknowledged rest are, at most.
const LOOK_MILLIS_MAX: u16 = 64;

impl<'a, K, S, D, O> Worker<'a, K, S, D, O>
where
    K: Sys,
    S: Source<K>,
    D: Dest<K, S::Target>,
    O: Observer,
{
    /// All that `from` had to say has been passed on; `false` when that was the end of both.
    pub(crate) fn ended(&mut self, from: SideKey) -> bool {
        let to = from.other();
        let (side, other) = self.table.pair_mut(from);
        if other.flags.has(Flags::SHUT) {
            return true;
        }
        other.flags.set(Flags::SHUT);
        if side.flags.has(Flags::SHUT) {
            return self.finish(from.connection(), None);
        }
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        if let Some(handle) = self.table.handle(to) {
            match to.kind() {
                SideKind::Source => self.source.shut(handle, &mut desk),
                SideKind::Dest => self.dest.shut(handle, &mut desk),
            }
        }
        if let Some(millis) = self.options.half_close_millis {
            self.over_after(from.connection(), millis);
        }
        true
    }

    /// A side is in error: what it said before is still passed on, for a limited time.
    pub(crate) fn side_in_error(&mut self, key: SideKey) {
        self.over_after(key.connection(), self.options.reset_flush_millis);
    }

    /// A write to `to` failed: nobody takes the other side's bytes any more, but what `to` said
    /// before it went is still to be read; `false` when the connection is no more.
    pub(crate) fn broken(&mut self, to: SideKey) -> bool {
        let (side, other) = self.table.pair_mut(to);
        self.relay.drop_flow(other);
        side.flags.set(Flags::BROKEN.or(Flags::READABLE).or(Flags::HANGUP));
        if other.flags.has(Flags::BROKEN) {
            return self.finish(to.connection(), Some(FailReason::Reset));
        }
        self.stop_reading(to.other());
        self.side_in_error(to);
        self.pump(to)
    }

    /// Nothing more will be read from a side.
    fn stop_reading(&mut self, key: SideKey) {
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        if let Some(handle) = self.table.handle(key) {
            match key.kind() {
                SideKind::Source => self.source.stop(handle, &mut desk),
                SideKind::Dest => self.dest.stop(handle, &mut desk),
            }
        }
    }

    /// What a side rested in is given back: in order, or its peer is to see a reset.
    pub(crate) fn close(&mut self, kind: SideKind, handle: Handle, reason: Option<FailReason>) {
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        match kind {
            SideKind::Source => self.source.close(handle, reason, &mut desk),
            SideKind::Dest => self.dest.close(handle, reason, &mut desk),
        }
    }

    fn unacknowledged(&self, key: SideKey) -> usize {
        let Some(handle) = self.table.handle(key) else { return 0 };
        match key.kind() {
            SideKind::Source => self.source.unacknowledged(handle, self.sys),
            SideKind::Dest => self.dest.unacknowledged(handle, self.sys),
        }
    }

    /// `from` was reset, and all it said before has been written to the other side: as soon as that
    /// has been acknowledged the other side is reset too. `false`: the connection is no more.
    pub(crate) fn reset(&mut self, from: SideKey) -> bool {
        let waited_millis = self.waited_millis(from.connection());
        let (side, other) = self.table.pair_mut(from);
        self.relay.drop_flow(side);
        self.relay.drop_flow(other);
        other.stage = Stage::Flushing { waited_millis, next_millis: 1 };
        if let Some(handle) = self.table.handle(from) {
            self.table.set_handle(from, None);
            self.close(from.kind(), handle, Some(FailReason::Reset));
        }
        self.look_again(from.other());
        false
    }

    /// How much of the time a reset may be held back is over already: passing on what came before it
    /// and waiting for that to be acknowledged share one limit.
    fn waited_millis(&mut self, connection: usize) -> u16 {
        let now = self.now();
        let left = match self.table.stamps[connection].over {
            0 => return 0,
            over => millis_until(over, now).max(0) as u32,
        };
        self.options.reset_flush_millis.saturating_sub(left).min(u16::MAX.into()) as u16
    }

    /// Whether a side that is to be reset has acknowledged everything. No event tells of that, so
    /// it is looked at after 1, 2, 4 .. milliseconds.
    pub(crate) fn look_again(&mut self, key: SideKey) {
        let Stage::Flushing { waited_millis, next_millis } = self.table.side(key).stage else {
            return;
        };
        if self.unacknowledged(key) == 0
            || u32::from(waited_millis) >= self.options.reset_flush_millis
        {
            return self.flushed(key);
        }
        self.table.side_mut(key).stage = Stage::Flushing {
            waited_millis: waited_millis.saturating_add(next_millis),
            next_millis: (next_millis * 2).min(LOOK_MILLIS_MAX),
        };
        let at = self.now().after(u32::from(next_millis));
        self.timers.arm(key.connection(), at);
    }

    /// A side that was held back until it had acknowledged everything has, or is gone.
    pub(crate) fn flushed(&mut self, key: SideKey) {
        let why = FailReason::from_number(self.table.side(key.other()).reason);
        self.finish(key.connection(), Some(why.unwrap_or(FailReason::Reset)));
    }

    /// A dest was not reached: the source is reset, since an end in order would look like an empty
    /// answer, unless its transport has words for that. `key` is either side.
    pub(crate) fn refuse(&mut self, key: SideKey, reason: FailReason) {
        let connection = key.connection();
        let (source, dest) = (SideKey::source(connection), SideKey::dest(connection));
        let notes = match self.table.side(dest).stage {
            Stage::Connecting(dialing) => dialing.notes,
            _ => [0; 8],
        };
        let now = self.now();
        let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
        self.dest.abort(dest, &notes, &mut desk);
        if let Some(Outcome::Connected(fd)) = self.table.mailbox(connection).abort() {
            self.poller.retire(fd);
        }
        if let Some(fd) = self.table.fd(dest) {
            // It may be connected, and nobody has seen it yet: a FIN would say that all went well.
            self.poller.retire_with_reset(fd);
        }
        if S::ASKS && self.tell(source, reason) {
            return;
        }
        let peer = self.table.side(source).peer;
        let data = self.data(connection);
        let handle = self.table.handle(source);
        self.vacate(connection);
        if let Some(handle) = handle {
            self.turn_away(handle, peer, reason, data);
        }
    }

    /// Resets a source that has no connection.
    pub(crate) fn turn_away(
        &mut self,
        handle: Handle,
        source: Address,
        reason: FailReason,
        data: [u64; 2],
    ) {
        self.close(SideKind::Source, handle, Some(reason));
        self.table.share().counters.count_failed(reason);
        self.observer.notice(Notice::Refused { source, reason, data });
    }

    /// Ends a connection: in order, or with a reset for whoever is still there. Always `false`.
    pub(crate) fn finish(&mut self, connection: usize, reason: Option<FailReason>) -> bool {
        let description = self.describe(connection);
        let keys = [SideKey::source(connection), SideKey::dest(connection)];
        let [source_bytes, dest_bytes] = keys.map(|key| self.table.side(key).bytes);
        let data = self.data(connection);
        for key in keys {
            self.relay.drop_flow(self.table.side_mut(key));
            if let Some(handle) = self.table.handle(key) {
                self.close(key.kind(), handle, reason);
            }
        }
        self.vacate(connection);
        self.table.share().counters.count_closed(source_bytes + dest_bytes, reason);
        let closed = Notice::Closed { description, source_bytes, dest_bytes, reason, data };
        self.observer.notice(closed);
        false
    }

    /// The embedder's own words.
    pub(crate) fn data(&self, connection: usize) -> [u64; 2] {
        let keys = [SideKey::source(connection), SideKey::dest(connection)];
        keys.map(|key| self.table.side(key).data)
    }

    pub(crate) fn vacate(&mut self, connection: usize) {
        self.timers.disarm(connection);
        self.table.vacate(connection);
        self.source.left(SideKey::source(connection));
        self.count();
    }

    /// Told to stop: everything that runs is reset.
    pub(crate) fn stop(&mut self) {
        self.end_source();
        for connection in 0..self.table.high_water {
            // The worker ends with this turn, so no event of its batch is looked at any more.
            if !self.poller.has_room() {
                self.poller.bury();
            }
            let (source, dest) = (SideKey::source(connection), SideKey::dest(connection));
            match (self.table.side(source).stage, self.table.side(dest).stage) {
                (Stage::Idle { .. }, Stage::Idle { .. }) => {}
                (_, Stage::Connecting(_)) => self.refuse(dest, FailReason::Shutdown),
                (_, Stage::Asking) if S::ASKS => self.refuse(dest, FailReason::Shutdown),
                (_, Stage::Parting) if S::ASKS => self.parted(source, Some(FailReason::Shutdown)),
                _ => {
                    self.finish(connection, Some(FailReason::Shutdown));
                }
            }
        }
    }

    /// A byte moved.
    pub(crate) fn touch(&mut self, connection: usize) {
        if self.options.idle_millis.is_some() {
            self.table.stamps[connection].touched = self.now().stamp().get();
        }
    }

    /// Whether a side has acknowledged bytes since the last time this was asked. A slow reader of a
    /// full send buffer does so long before there is room for more, and no event tells.
    fn is_acknowledging(&mut self, connection: usize) -> bool {
        let keys = [SideKey::source(connection), SideKey::dest(connection)];
        let left = keys.map(|key| self.unacknowledged(key));
        let left = left.iter().sum::<usize>() as u32;
        let before = &mut self.table.stamps[connection].unacknowledged;
        left != 0 && left != core::mem::replace(before, left)
    }

    /// The connection must be over in `millis`, or sooner if that was said before.
    fn over_after(&mut self, connection: usize, millis: u32) {
        let now = self.now();
        let over = &mut self.table.stamps[connection].over;
        if *over == 0 || millis_until(*over, now) > millis as i32 {
            *over = now.after(millis).stamp().get();
        }
        self.arm_life(connection);
    }

    /// Arms the next deadline of a connection whose bytes flow.
    pub(crate) fn arm_life(&mut self, connection: usize) {
        let now = self.now();
        let stamps = self.table.stamps[connection];
        let settled = self.table.side(SideKey::dest(connection)).flags.has(Flags::SETTLED);
        let settle = (!settled).then(|| now.after(SETTLE_MILLIS));
        let over = (stamps.over != 0).then(|| instant_of(stamps.over, now));
        let idle =
            self.options.idle_millis.map(|millis| instant_of(stamps.touched, now).after(millis));
        match [settle, over, idle].into_iter().flatten().min() {
            Some(at) => self.timers.arm(connection, at),
            None => self.timers.disarm(connection),
        }
    }

    /// A deadline of a connection whose bytes flow has passed.
    pub(crate) fn life_expired(&mut self, connection: usize) {
        let now = self.now();
        let (source, dest) = (SideKey::source(connection), SideKey::dest(connection));
        let stamps = self.table.stamps[connection];
        if stamps.over != 0 && millis_until(stamps.over, now) <= 0 {
            let in_error = Flags::ERROR.or(Flags::BROKEN);
            let reset =
                [source, dest].into_iter().any(|key| self.table.side(key).flags.any(in_error));
            let reason = if reset { FailReason::Reset } else { FailReason::HalfClosed };
            self.finish(connection, Some(reason));
            return;
        }
        if let Some(millis) = self.options.idle_millis
            && now >= instant_of(stamps.touched, now).after(millis)
        {
            if !self.is_acknowledging(connection) {
                self.finish(connection, Some(FailReason::Idle));
                return;
            }
            self.touch(connection);
        }
        if !self.table.side(dest).flags.has(Flags::SETTLED) {
            self.table.side_mut(dest).flags.set(Flags::SETTLED);
            let mut desk = Desk { sys: self.sys, poller: &mut self.poller, now };
            if let Some(handle) = self.table.handle(dest) {
                self.dest.settle(handle, &mut desk);
            }
        }
        self.arm_life(connection);
    }
}

/// The instant a stamp stands for, which lies within 20 days of now.
fn instant_of(stamp: u32, now: Instant) -> Instant {
    let millis = now.as_millis() as i64 + i64::from(millis_until(stamp, now));
    Instant::from_millis(millis.max(0) as u64)
}
