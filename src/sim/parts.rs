//! Parts of the engine that only a worker puts together, one by one, for fuzz targets and benches,
//! which stand outside. Adds nothing to what the parts do.

use crate::side::{Flags, SideKey};
use crate::sys::RawFd;
use crate::table::Table;
use crate::time::Instant;

/// Takes a vacant connection of the table and connects both its sides, which have no descriptor
/// yet; `None` when the table is full.
pub fn occupy(table: &mut Table<'_>) -> Option<usize> {
    let connection = table.occupy()?;
    for side in [SideKey::source(connection), SideKey::dest(connection)] {
        table.side_mut(side).connect(Flags::default());
    }
    Some(connection)
}

/// Makes a connection vacant that was occupied.
pub fn vacate(table: &mut Table<'_>, connection: usize) {
    table.vacate(connection);
}

/// Gives a side of an occupied connection a descriptor, or takes it away.
pub fn set_fd(table: &mut Table<'_>, side: SideKey, fd: Option<RawFd>) {
    table.set_fd(side, fd);
}

/// One thread's deadlines.
pub struct Timers<'a>(crate::timers::Timers<'a>);

impl<'a> Timers<'a> {
    /// `deadlines` must be all zeroes.
    pub fn new(deadlines: &'a mut [u32]) -> Timers<'a> {
        Timers(crate::timers::Timers::new(deadlines))
    }

    /// Replaces the connection's deadline.
    pub fn arm(&mut self, connection: usize, at: Instant) {
        self.0.arm(connection, at);
    }

    /// What a worker does once the earliest deadline may have passed: serves those that have, and
    /// finds the next. Gives how many it served.
    pub fn expire(&mut self, now: Instant, mut serve: impl FnMut(usize)) -> usize {
        let (mut from, mut served) = (0, 0);
        while let Some(connection) = self.0.expire(from, now) {
            serve(connection);
            from = connection + 1;
            served += 1;
        }
        self.0.settle(now);
        served
    }
}
