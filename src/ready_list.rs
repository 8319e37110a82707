//! The sides that stopped though they could go on: a first-in-first-out list through the sides
//! themselves. The kernel will not tell of them again, so the worker serves them before it blocks.
//!
//! Invariant: a side is on the list exactly if its QUEUED flag is set, also when it was vacated in
//! the meantime: then it is dropped when its turn comes.

use crate::side::{Flags, Side, SideKey};

/// Places are slots + 1; 0 is none.
#[derive(Default)]
pub(crate) struct ReadyList {
    first: u32,
    last: u32,
}

impl ReadyList {
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// The side that stands last now.
    pub(crate) fn last(&self) -> Option<SideKey> {
        self.last.checked_sub(1).map(SideKey)
    }

    /// Puts a side at the end, unless it is on the list. O(1).
    pub(crate) fn push(&mut self, sides: &mut [Side], key: SideKey) {
        let side = &mut sides[key.slot()];
        if side.flags.has(Flags::QUEUED) {
            return;
        }
        side.flags.set(Flags::QUEUED);
        side.next_ready = 0;
        match self.last() {
            Some(last) => sides[last.slot()].next_ready = key.0 + 1,
            None => self.first = key.0 + 1,
        }
        self.last = key.0 + 1;
    }

    /// Takes the first side off. O(1).
    pub(crate) fn pop(&mut self, sides: &mut [Side]) -> Option<SideKey> {
        let key = SideKey(self.first.checked_sub(1)?);
        let side = &mut sides[key.slot()];
        side.flags.clear(Flags::QUEUED);
        self.first = core::mem::take(&mut side.next_ready);
        if self.first == 0 {
            self.last = 0;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SIDES: u32 = 9;

    #[derive(Clone, Debug)]
    enum Action {
        Push(u32),
        Pop,
        Vacate(usize),
    }

    proptest! {
        #[test]
        fn a_list_is_a_queue_without_doubles(
            actions in prop::collection::vec(
                prop_oneof![
                    3 => (0..SIDES).prop_map(Action::Push),
                    2 => Just(Action::Pop),
                    1 => (0..SIDES as usize).prop_map(Action::Vacate),
                ],
                0..200,
            ),
        ) {
            let mut sides = [Side::IDLE; SIDES as usize];
            let mut list = ReadyList::default();
            let mut model = VecDeque::new();
            for action in actions {
                match action {
                    Action::Push(slot) => {
                        list.push(&mut sides, SideKey(slot));
                        if !model.contains(&SideKey(slot)) {
                            model.push_back(SideKey(slot));
                        }
                    }
                    Action::Pop => prop_assert_eq!(list.pop(&mut sides), model.pop_front()),
                    Action::Vacate(slot) => sides[slot].vacate(),
                }
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(list.last(), model.back().copied());
                for slot in 0..SIDES {
                    let queued = sides[slot as usize].flags.has(Flags::QUEUED);
                    prop_assert_eq!(queued, model.contains(&SideKey(slot)));
                }
            }
        }
    }

    #[test]
    fn first_in_first_out_and_each_once() {
        let mut sides = [Side::IDLE; 6];
        let mut list = ReadyList::default();
        assert_eq!(list.pop(&mut sides), None);
        for slot in [3, 1, 3, 5] {
            list.push(&mut sides, SideKey(slot));
        }
        sides[1].vacate();
        assert_eq!(list.last(), Some(SideKey(5)));
        assert_eq!(list.pop(&mut sides), Some(SideKey(3)));
        list.push(&mut sides, SideKey(3));
        for expected in [1, 5, 3] {
            assert_eq!(list.pop(&mut sides), Some(SideKey(expected)));
        }
        assert!(list.is_empty() && list.pop(&mut sides).is_none());
    }
}
