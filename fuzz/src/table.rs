//! One thread's table: occupied and vacated, descriptors given, moved and looked up.

use crate::bytes::Bytes;
use seaprox::Seaprox;
use seaprox::side::{SideKey, SideState};
use seaprox::sim::parts;
use seaprox::sys::RawFd;
use seaprox::table::Table;

/// Several steps of the scan, and a rest.
const CONNECTIONS: usize = 71;

/// Whatever is done with a table, it is what its model is.
pub fn table(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let connections = 1 + bytes.below(CONNECTIONS);
    let mut memory = Seaprox::<CONNECTIONS, 1>::new();
    let mut tables = memory.tables(1, connections);
    let Some(table) = tables.next() else { unreachable!("one thread, one table") };
    assert!(tables.next().is_none() && table.capacity() == connections);
    let mut office = Office { table, fds: vec![None; connections * 2], occupied: Vec::new() };
    while !bytes.is_empty() {
        office.act(&mut bytes);
        assert_eq!(office.table.occupied(), office.occupied.len());
        assert_eq!(office.table.is_full(), office.occupied.len() == connections);
        office.table.invariants();
    }
    for (slot, &fd) in office.fds.iter().enumerate() {
        assert_eq!(office.table.fd(side(slot)), fd, "slot {slot}");
    }
}

fn side(slot: usize) -> SideKey {
    if slot.is_multiple_of(2) { SideKey::source(slot / 2) } else { SideKey::dest(slot / 2) }
}

/// A table and its model.
struct Office<'t> {
    table: Table<'t>,
    /// Of each slot.
    fds: Vec<Option<RawFd>>,
    occupied: Vec<usize>,
}

impl Office<'_> {
    fn act(&mut self, bytes: &mut Bytes<'_>) {
        let act = bytes.byte();
        match act % 8 {
            0..=2 => self.occupy(),
            3 if !self.occupied.is_empty() => {
                let nth = bytes.below(self.occupied.len());
                let connection = self.occupied.swap_remove(nth);
                parts::vacate(&mut self.table, connection);
                self.fds[connection * 2..][..2].fill(None);
                assert_eq!(self.table.side(SideKey::source(connection)).state(), SideState::Idle);
            }
            4 | 5 if !self.occupied.is_empty() => {
                let connection = self.occupied[bytes.below(self.occupied.len())];
                let slot = connection * 2 + usize::from(act >> 7);
                let fd = (act & 0x40 == 0).then(|| any_fd(bytes));
                parts::set_fd(&mut self.table, side(slot), fd);
                self.fds[slot] = fd;
            }
            // Hints beyond the table too: the kernel gives back whatever was registered.
            _ => self.find(any_fd(bytes), usize::from(bytes.byte())),
        }
    }

    fn occupy(&mut self) {
        let connection = parts::occupy(&mut self.table);
        assert_eq!(connection.is_none(), self.occupied.len() == self.table.capacity());
        if let Some(connection) = connection {
            assert!(connection < self.table.capacity() && !self.occupied.contains(&connection));
            self.occupied.push(connection);
        }
    }

    /// The hint if it is right, else the first.
    fn find(&self, fd: RawFd, hint: usize) {
        let holds = |slot: &usize| self.fds.get(*slot) == Some(&Some(fd));
        let expected = Some(hint).filter(holds).or_else(|| (0..self.fds.len()).find(holds));
        assert_eq!(self.table.find(fd, side(hint)), expected.map(side));
    }
}

/// Few numbers, so that most are held by some side, and the greatest there is.
fn any_fd(bytes: &mut Bytes<'_>) -> RawFd {
    match bytes.byte() {
        255 => RawFd::MAX,
        byte => RawFd::from(byte % 64),
    }
}
