//! How many connections and threads a proxy has, and so which thread has which connection. C numbers
//! connections and sides over all threads: a connection's sides are twice its number and one more.
//! Knows no table.

use seaprox::side::{SideKey, SideKind};

/// As the engine splits its table (`Seaprox::tables`): thread `i` has `connections / threads`
/// connections, one more if `i < connections % threads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) threads: u32,
}

impl Shape {
    /// The number of a thread's first connection.
    fn first(self, thread: u32) -> u32 {
        thread * (self.connections / self.threads) + thread.min(self.connections % self.threads)
    }

    /// Which thread has a connection, and where; `None` if none has. O(threads).
    pub(crate) fn place(self, connection: u32) -> Option<(u32, usize)> {
        let threads = 0..self.threads;
        let thread = threads.rev().find(|thread| self.first(*thread) <= connection)?;
        (connection < self.connections)
            .then(|| (thread, (connection - self.first(thread)) as usize))
    }

    /// Which thread has a side, and where.
    pub(crate) fn side(self, side: u32) -> Option<(u32, SideKey)> {
        let (thread, place) = self.place(side >> 1)?;
        Some((thread, if side & 1 == 0 { SideKey::source(place) } else { SideKey::dest(place) }))
    }

    /// The number of a thread's connection.
    pub(crate) fn connection(self, thread: u32, place: usize) -> u32 {
        self.first(thread) + place as u32
    }

    /// The number of a thread's side.
    pub(crate) fn number(self, thread: u32, key: SideKey) -> u32 {
        self.connection(thread, key.connection()) << 1 | u32::from(key.kind() == SideKind::Dest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seaprox::Seaprox;

    #[test]
    fn threads_have_what_the_engine_gives_them() {
        let mut memory = Seaprox::<23, 5>::new();
        for (connections, threads) in [(1, 1), (5, 5), (23, 5), (7, 3), (22, 4)] {
            let shape = Shape { connections, threads };
            let tables = memory.tables(threads as usize, connections as usize);
            let mut number = 0;
            for (thread, table) in (0..).zip(tables) {
                for place in 0..table.capacity() {
                    assert_eq!(shape.place(number), Some((thread, place)));
                    assert_eq!(shape.connection(thread, place), number);
                    for key in [SideKey::source(place), SideKey::dest(place)] {
                        let side = shape.number(thread, key);
                        assert_eq!(shape.side(side), Some((thread, key)));
                        assert_eq!(side >> 1, number);
                    }
                    number += 1;
                }
            }
            assert_eq!((number, shape.place(number)), (connections, None));
            assert_eq!(shape.side(u32::MAX), None);
        }
    }
}
