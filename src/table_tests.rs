use super::*;
use crate::Seaprox;
use crate::side::{Flags, SideState};
use proptest::prelude::*;
use std::vec::Vec;

/// Not a multiple of what one step of the scan compares.
const CONNECTIONS: usize = 71;

/// What is done to a table, and to its model.
#[derive(Clone, Debug)]
enum Action {
    Occupy,
    /// The n-th of those occupied.
    Vacate(usize),
    /// Of the n-th occupied connection's sides one gets a descriptor, or loses it.
    SetFd(usize, bool, Option<RawFd>),
    Find(RawFd, usize),
}

/// Few numbers, so that most are held by some side, and the greatest there is.
fn any_fd() -> impl Strategy<Value = RawFd> {
    prop_oneof![9 => 0..64, 1 => Just(RawFd::MAX)]
}

fn any_action() -> impl Strategy<Value = Action> {
    let nth = 0..CONNECTIONS;
    prop_oneof![
        4 => Just(Action::Occupy),
        2 => nth.clone().prop_map(Action::Vacate),
        4 => (nth, any::<bool>(), proptest::option::weighted(0.8, any_fd()))
            .prop_map(|(nth, dest, fd)| Action::SetFd(nth, dest, fd)),
        // Hints beyond the table too: the kernel gives back whatever was registered.
        4 => (any_fd(), 0..CONNECTIONS * 2 + 9).prop_map(|(fd, hint)| Action::Find(fd, hint)),
    ]
}

/// The table as anybody would write it who has no need of speed.
struct Model {
    fds: Vec<Option<RawFd>>,
    occupied: Vec<usize>,
}

impl Model {
    fn find(&self, fd: RawFd, hint: usize) -> Option<usize> {
        let holds = |slot: &usize| self.fds.get(*slot) == Some(&Some(fd));
        Some(hint).filter(holds).or_else(|| (0..self.fds.len()).find(holds))
    }
}

fn key(connection: usize, dest: bool) -> SideKey {
    if dest { SideKey::dest(connection) } else { SideKey::source(connection) }
}

fn act(table: &mut Table<'_>, model: &mut Model, action: Action) {
    let nth =
        |model: &Model, n: usize| model.occupied.get(n % model.occupied.len().max(1)).copied();
    match action {
        Action::Occupy => {
            let connection = table.occupy();
            assert_eq!(connection.is_none(), model.occupied.len() == table.capacity());
            if let Some(connection) = connection {
                assert!(!model.occupied.contains(&connection), "given out twice");
                for side in [key(connection, false), key(connection, true)] {
                    assert_eq!(table.side(side).state(), SideState::Idle);
                    table.side_mut(side).connect(Flags::default());
                }
                model.occupied.push(connection);
            }
        }
        Action::Vacate(n) => {
            if let Some(connection) = nth(model, n) {
                table.vacate(connection);
                model.occupied.retain(|&other| other != connection);
                model.fds[connection * 2..][..2].fill(None);
            }
        }
        Action::SetFd(n, dest, fd) => {
            if let Some(connection) = nth(model, n) {
                table.set_fd(key(connection, dest), fd);
                model.fds[connection * 2 + usize::from(dest)] = fd;
            }
        }
        Action::Find(fd, hint) => {
            let found = table.find(fd, SideKey(hint as u32)).map(SideKey::slot);
            assert_eq!(found, model.find(fd, hint));
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_its_model(
        connections in 1..=CONNECTIONS,
        actions in prop::collection::vec(any_action(), 0..400),
    ) {
        let mut memory = Seaprox::<CONNECTIONS, 1>::new();
        let mut table = memory.tables(1, connections).next().unwrap();
        let mut model =
            Model { fds: std::vec![None; connections * 2], occupied: Vec::new() };
        for action in actions {
            act(&mut table, &mut model, action);
            prop_assert_eq!(table.occupied(), model.occupied.len());
            prop_assert_eq!(table.is_full(), model.occupied.len() == connections);
            for (slot, &fd) in model.fds.iter().enumerate() {
                prop_assert_eq!(table.fd(SideKey(slot as u32)), fd);
            }
            table.invariants();
        }
    }

    /// The scan compares many keys at a time: whichever of them it is, and in whichever step.
    #[test]
    fn the_scan_finds_the_first(keys in prop::collection::vec(0..40u32, 0..500), key in 0..40u32) {
        prop_assert_eq!(scan(&keys, key), keys.iter().position(|&other| other == key));
    }

    #[test]
    fn the_scan_finds_the_only_one(length in 1..700usize, at in 0..700usize) {
        let mut keys = std::vec![0; length];
        keys[at % length] = 7;
        prop_assert_eq!(scan(&keys, 7), Some(at % length));
        prop_assert_eq!(scan(&keys, 8), None);
    }

    #[test]
    fn a_side_and_its_other_side(connection in 0..CONNECTIONS, dest in any::<bool>()) {
        let mut memory = Seaprox::<CONNECTIONS, 1>::new();
        let mut table = memory.tables(1, CONNECTIONS).next().unwrap();
        let from = key(connection, dest);
        table.side_mut(from).data = 1;
        table.side_mut(from.other()).data = 2;
        let (side, other) = table.pair_mut(from);
        prop_assert_eq!((side.data, other.data), (1, 2));
    }
}

/// For every number of threads and of connections, also those that were not compiled in.
#[test]
fn the_split_is_exact_and_even() {
    // Each is a table to fill with zeroes, which Miri does byte by byte.
    let step = if cfg!(miri) { 13 } else { 1 };
    const THREADS: usize = 4;
    let mut memory = Seaprox::<CONNECTIONS, THREADS>::new();
    for (threads, connections) in (0..THREADS + 3)
        .flat_map(|threads| (0..CONNECTIONS + 9).step_by(step).map(move |c| (threads, c)))
    {
        let tables: Vec<_> = memory.tables(threads, connections).collect();
        let threads = threads.clamp(1, THREADS);
        let connections = connections.clamp(threads, CONNECTIONS);
        let capacities: Vec<_> = tables.iter().map(Table::capacity).collect();
        assert_eq!(capacities.len(), threads);
        assert_eq!(capacities.iter().sum::<usize>(), connections);
        assert!(capacities.iter().max().unwrap() - capacities.iter().min().unwrap() <= 1);
        let numbers = |t: &Table<'_>| t.ticket(0, 1).mailbox()..t.ticket(t.capacity(), 1).mailbox();
        let mailboxes: Vec<_> = tables.iter().flat_map(numbers).collect();
        assert_eq!(mailboxes, (0..connections).collect::<Vec<_>>(), "each has its own");
        for (table, &capacity) in tables.iter().zip(&capacities) {
            let (first, own) = (table.ticket(0, 1).mailbox(), table.mailbox(0));
            assert!(core::ptr::eq(own, &table.commons.mailboxes[first]));
            assert_eq!(table.sides.len(), capacity * 2);
            assert_eq!((table.stamps.len(), table.deadlines.len()), (capacity, capacity));
            assert_eq!(table.buffer.len(), BUFFER_BYTES);
            assert_eq!(table.share().limit() as usize, capacity);
        }
    }
}
