//! Simulated epoll: who is registered, who is queued to be reported. Knows no object; the kernel
//! tells it of wake-ups, and answers it what is ready now.

use crate::sys::{EVENTS_MAX, Errno, Interest, RawFd, Ready, SysEvent, SysResult};
use std::collections::VecDeque;
use std::vec::Vec;

/// A set of poll bits; in a wake-up, 0 means "look for yourself" (a state change).
pub(super) type Mask = u32;
pub(super) const IN: Mask = 0x1;
pub(super) const PRI: Mask = 0x2;
pub(super) const OUT: Mask = 0x4;
pub(super) const ERR: Mask = 0x8;
pub(super) const HUP: Mask = 0x10;
pub(super) const RDHUP: Mask = 0x2000;

fn interest_mask(interest: Interest) -> Mask {
    let asked = match interest {
        Interest::Connection => IN | OUT | RDHUP | PRI,
        Interest::Muted => OUT,
        Interest::Datagrams | Interest::Listener | Interest::Doorbell => IN,
    };
    asked | ERR | HUP
}

fn edge_triggered(interest: Interest) -> bool {
    matches!(interest, Interest::Connection | Interest::Muted | Interest::Datagrams)
}

fn ready_of(mask: Mask) -> Ready {
    Ready {
        readable: mask & IN != 0,
        writable: mask & OUT != 0,
        read_closed: mask & RDHUP != 0,
        hung_up: mask & HUP != 0,
        error: mask & ERR != 0,
        urgent: mask & PRI != 0,
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    interest: Interest,
    token: u64,
    queued: bool,
    /// What a fault adds to the next report.
    spurious: Mask,
}

/// One epoll. Invariant: a descriptor is in `queue` exactly if its entry says `queued`.
#[derive(Debug)]
pub(super) struct Epoll {
    entries: Vec<Option<Entry>>,
    queue: VecDeque<RawFd>,
    /// Whoever waits in it has been interrupted so that another may run, and would have slept until
    /// then. `None`: he is awake.
    pub(super) asleep_until: Option<u64>,
}

impl Epoll {
    /// Nobody has ever waited in it.
    pub(super) fn new() -> Epoll {
        Epoll { entries: Vec::new(), queue: VecDeque::new(), asleep_until: Some(u64::MAX) }
    }

    /// Whether whoever waits in it wants to run now.
    pub(super) fn wants_to_run(&self, now_micros: u64) -> bool {
        self.asleep_until.is_none_or(|until| until <= now_micros || !self.queue.is_empty())
    }

    fn entry(&mut self, fd: RawFd) -> SysResult<&mut Entry> {
        self.entries.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::NOENT)
    }

    /// EPOLL_CTL_ADD: queues it, so that what is ready already is reported.
    pub(super) fn add(&mut self, fd: RawFd, interest: Interest, token: u64) -> SysResult<()> {
        if self.entry(fd).is_ok() {
            return Err(Errno::EXIST);
        }
        if self.entries.len() <= fd as usize {
            self.entries.resize(fd as usize + 1, None);
        }
        let entry = Entry { interest, token, queued: false, spurious: 0 };
        self.entries[fd as usize] = Some(entry);
        self.wake(fd, 0);
        Ok(())
    }

    /// EPOLL_CTL_MOD: queues it likewise; an EPOLLEXCLUSIVE entry cannot be changed.
    pub(super) fn modify(&mut self, fd: RawFd, interest: Interest, token: u64) -> SysResult<()> {
        let entry = self.entry(fd)?;
        if entry.interest == Interest::Listener || interest == Interest::Listener {
            return Err(Errno::INVAL);
        }
        (entry.interest, entry.token) = (interest, token);
        self.wake(fd, 0);
        Ok(())
    }

    /// EPOLL_CTL_DEL, or the descriptor was closed.
    pub(super) fn delete(&mut self, fd: RawFd) -> SysResult<()> {
        self.entry(fd)?;
        self.entries[fd as usize] = None;
        self.queue.retain(|&queued| queued != fd);
        Ok(())
    }

    /// Something happened to `fd`: queues its entry once, unless nobody asked for that. True if it
    /// is (now) queued.
    pub(super) fn wake(&mut self, fd: RawFd, key: Mask) -> bool {
        let Ok(entry) = self.entry(fd) else { return false };
        if key != 0 && key & interest_mask(entry.interest) == 0 {
            return false;
        }
        if !core::mem::replace(&mut entry.queued, true) {
            self.queue.push_back(fd);
        }
        true
    }

    /// A fault: reports the `n`th connection, counted from any, though nothing happened, with
    /// `mask` added to what is true.
    pub(super) fn wake_for_nothing(&mut self, n: usize, mask: Mask) {
        let Some(fd) = n.checked_rem(self.entries.len()).map(|fd| fd as RawFd) else { return };
        if let Ok(entry) = self.entry(fd)
            && edge_triggered(entry.interest)
        {
            entry.spurious = mask;
            self.wake(fd, 0);
        }
    }

    /// Reports what is queued and still ready, by what `mask_of` says now. An edge-triggered entry
    /// leaves the queue; a level-triggered one stays at its end until it is found not ready.
    pub(super) fn collect(
        &mut self,
        events: &mut [SysEvent; EVENTS_MAX],
        mut mask_of: impl FnMut(RawFd) -> Mask,
    ) -> usize {
        let mut filled = 0;
        for _ in 0..self.queue.len() {
            if filled == events.len() {
                break;
            }
            let Some(fd) = self.queue.pop_front() else { break };
            let Ok(entry) = self.entry(fd) else { continue };
            entry.queued = false;
            let true_mask = mask_of(fd);
            // Nothing is spuriously ready while it connects: the kernel would never say so.
            let spurious = core::mem::take(&mut entry.spurious);
            let mask = if true_mask & OUT != 0 { true_mask | spurious } else { true_mask };
            let reported = mask & interest_mask(entry.interest);
            if reported == 0 {
                continue;
            }
            events[filled] = SysEvent { token: entry.token, ready: ready_of(reported) };
            filled += 1;
            if !edge_triggered(entry.interest) {
                entry.queued = true;
                self.queue.push_back(fd);
            }
        }
        filled
    }
}
