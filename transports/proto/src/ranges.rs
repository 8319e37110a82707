//! Which bytes of a channel have arrived beyond the first gap: ranges of offsets, as nodes of one
//! pool that all channels of a link share. Knows no byte and no channel.
//!
//! Invariant: the ranges of a channel go from the oldest to the newest, and between two of them at
//! least one offset is missing. So what comes last goes behind all, what closes the first gap is at the
//! front, and no message of a far end walks past more than [`WALK_MAX`] of them.

/// Ranges that are walked past to where one belongs that is neither the newest nor among the oldest, at
/// most. A path that loses a third of a window of 8 MiB makes half as many.
const WALK_MAX: u32 = 1024;

/// A range of offsets, from `start` up to `end`. All zeroes when new.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    start: u32,
    end: u32,
    /// The place of the next newer range of its ring, or of the next vacant node. A place is a node's number + 1;
    /// 0 is none.
    next: u32,
}

impl Node {
    pub(crate) const VACANT: Node = Node { start: 0, end: 0, next: 0 };
}

/// Whether offset `a` is before `b`: serial numbers, compared by the sign of their difference.
pub(crate) const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

const fn later(a: u32, b: u32) -> u32 {
    if is_before(a, b) { b } else { a }
}

/// The nodes, lent by the static memory.
pub(crate) struct Nodes<'m> {
    nodes: &'m mut [Node],
    vacant: u32,
    /// Nodes from here on were never used.
    fresh: u32,
    used: u32,
}

impl<'m> Nodes<'m> {
    /// All of them vacant, whatever the memory held.
    pub(crate) fn new(nodes: &'m mut [Node]) -> Self {
        Nodes { nodes, vacant: 0, fresh: 0, used: 0 }
    }

    /// Everything is vacant again; all ranges must be forgotten. O(1).
    pub(crate) fn clear(&mut self) {
        (self.vacant, self.fresh, self.used) = (0, 0, 0);
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    fn at(&self, place: u32) -> Node {
        self.nodes[place as usize - 1]
    }

    fn at_mut(&mut self, place: u32) -> &mut Node {
        &mut self.nodes[place as usize - 1]
    }

    fn take(&mut self, node: Node) -> Option<u32> {
        let place = if self.vacant != 0 {
            let place = self.vacant;
            self.vacant = self.at(place).next;
            place
        } else if (self.fresh as usize) < self.nodes.len() {
            self.fresh += 1;
            self.fresh
        } else {
            return None;
        };
        *self.at_mut(place) = node;
        self.used += 1;
        Some(place)
    }

    /// Gives a node back, and the place of the one that followed it.
    fn give_back(&mut self, place: u32) -> u32 {
        let vacant = self.vacant;
        let following = core::mem::replace(&mut self.at_mut(place).next, vacant);
        self.vacant = place;
        self.used -= 1;
        following
    }
}

/// One channel's ranges, in a ring: the newest is followed by the oldest. All zeroes is none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Ranges {
    newest: u32,
}

impl Ranges {
    pub(crate) const NONE: Ranges = Ranges { newest: 0 };

    pub(crate) const fn is_empty(self) -> bool {
        self.newest == 0
    }

    /// The offset after the newest.
    pub(crate) fn end(self, nodes: &Nodes<'_>) -> Option<u32> {
        (!self.is_empty()).then(|| nodes.at(self.newest).end)
    }

    /// Adds the offsets from `start` up to `end`; those that are there already are there once. `false`:
    /// there is no node, or its place is further from the oldest than is walked, and nothing happened.
    /// O(1) at the newest; else O(older ranges), [`WALK_MAX`] at most. Ranges that become one with it
    /// were each paid for by what brought them.
    #[must_use]
    pub(crate) fn insert(&mut self, nodes: &mut Nodes<'_>, start: u32, end: u32) -> bool {
        if self.end(nodes).is_none_or(|newest| is_before(newest, start)) {
            let Some(new) = Self::insert_after(nodes, self.newest, start, end) else {
                return false;
            };
            self.newest = new;
            return true;
        }
        let Some((older, place)) = self.find(nodes, start) else { return false };
        if is_before(end, nodes.at(place).start) {
            return Self::insert_after(nodes, older, start, end).is_some();
        }
        let Node { start: first, end: last, mut next } = nodes.at(place);
        let start = if is_before(start, first) { start } else { first };
        let mut end = later(last, end);
        while place != self.newest && !is_before(end, nodes.at(next).start) {
            end = later(end, nodes.at(next).end);
            if next == self.newest {
                self.newest = place;
            }
            next = nodes.give_back(next);
        }
        *nodes.at_mut(place) = Node { start, end, next };
        true
    }

    /// The oldest range that reaches `start` or is behind it, which is there, and the one before it in
    /// the ring. `None`: it is too far.
    fn find(self, nodes: &Nodes<'_>, start: u32) -> Option<(u32, u32)> {
        let newest = nodes.at(self.newest);
        if !is_before(start, newest.start) {
            // It becomes one with that, so nobody asks which is before.
            return Some((0, self.newest));
        }
        let (mut older, mut place) = (self.newest, newest.next);
        for _ in 0..WALK_MAX {
            if !is_before(nodes.at(place).end, start) {
                return Some((older, place));
            }
            (older, place) = (place, nodes.at(place).next);
        }
        None
    }

    /// A new one behind another in the ring, or the only one if that is 0.
    fn insert_after(nodes: &mut Nodes<'_>, older: u32, start: u32, end: u32) -> Option<u32> {
        let new = nodes.take(Node { start, end, next: 0 })?;
        let before = if older == 0 { new } else { older };
        let next = core::mem::replace(&mut nodes.at_mut(before).next, new);
        nodes.at_mut(new).next = if older == 0 { new } else { next };
        Some(new)
    }

    /// Everything before `offset` is there: takes away the ranges that this reaches, and gives the
    /// offset up to which everything is there then. O(ranges taken away).
    pub(crate) fn reach(&mut self, nodes: &mut Nodes<'_>, mut offset: u32) -> u32 {
        while self.newest != 0 {
            let oldest = nodes.at(nodes.at(self.newest).next);
            if is_before(offset, oldest.start) {
                break;
            }
            offset = later(offset, oldest.end);
            self.drop_oldest(nodes);
        }
        offset
    }

    /// Forgets all. O(ranges).
    pub(crate) fn clear(&mut self, nodes: &mut Nodes<'_>) {
        while self.newest != 0 {
            self.drop_oldest(nodes);
        }
    }

    /// There must be one.
    fn drop_oldest(&mut self, nodes: &mut Nodes<'_>) {
        let oldest = nodes.at(self.newest).next;
        let following = nodes.give_back(oldest);
        match oldest == self.newest {
            true => self.newest = 0,
            false => nodes.at_mut(self.newest).next = following,
        }
    }

    /// All of them, from the oldest on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn iter(self, nodes: &Nodes<'_>) -> impl Iterator<Item = (u32, u32)> {
        let next = |place: u32| nodes.at(place).next;
        let first = (self.newest != 0).then(|| next(self.newest));
        core::iter::successors(first, move |&last| (last != self.newest).then(|| next(last)))
            .take(nodes.nodes.len() + 1)
            .map(|place| (nodes.at(place).start, nodes.at(place).end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const NODES: usize = 6;
    const SPAN: usize = 64;

    /// The runs of a row of bits.
    fn runs(bits: &[bool], from: usize, first: u32) -> Vec<(u32, u32)> {
        let mut runs = Vec::new();
        let mut at = from;
        while at < bits.len() {
            let length = bits[at..].iter().take_while(|&&bit| bit).count();
            if length > 0 {
                let start = first.wrapping_add(at as u32);
                runs.push((start, start.wrapping_add(length as u32)));
            }
            at += length.max(1);
        }
        runs
    }

    /// A far end that leaves as many gaps as there are nodes makes each of its messages cost no more.
    #[test]
    fn no_message_walks_further_than_the_bound() {
        const MANY: u32 = 2 * WALK_MAX;
        let mut memory = vec![Node::VACANT; MANY as usize + 1];
        let mut nodes = Nodes::new(&mut memory);
        let mut ranges = Ranges::NONE;
        for at in 1..=MANY {
            assert!(ranges.insert(&mut nodes, 10 * at, 10 * at + 1), "behind all others");
        }
        let insert = |ranges: &mut Ranges, nodes: &mut Nodes<'_>, start: u32| {
            let used = nodes.used();
            let done = ranges.insert(nodes, start, start + 1);
            assert_eq!(nodes.used(), used + u32::from(done));
            done
        };
        assert!(
            !insert(&mut ranges, &mut nodes, 10 * (WALK_MAX + 1) + 5),
            "too far from both ends"
        );
        assert!(insert(&mut ranges, &mut nodes, 10 * WALK_MAX - 5), "within the bound");
        // Into the newest, and onto it.
        assert!(ranges.insert(&mut nodes, 10 * MANY, 10 * MANY + 9));
        assert_eq!(ranges.end(&nodes), Some(10 * MANY + 9));
        // What is next is always taken, and takes away what it reaches.
        assert_eq!(ranges.reach(&mut nodes, 10), 11);
        assert_eq!(nodes.used(), MANY);
        ranges.clear(&mut nodes);
        assert_eq!((nodes.used(), ranges.is_empty()), (0, true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2048 }))]

        /// Two channels that share the nodes, and two rows of bits.
        #[test]
        fn ranges_are_the_runs_of_a_row_of_bits(
            first in prop_oneof![Just(0), Just(u32::MAX - 20)],
            acts in prop::collection::vec((0..8u8, 0..2usize, 0..SPAN, 1..20usize), 0..60),
        ) {
            let mut memory = [Node::VACANT; NODES];
            let mut nodes = Nodes::new(&mut memory);
            let mut all = [Ranges::NONE; 2];
            let mut rows = [vec![false; SPAN], vec![false; SPAN]];
            let mut reached = [0; 2];
            for (act, i, at, length) in acts {
                let offset = |at: usize| first.wrapping_add(at as u32);
                match act {
                    0 => {
                        all[i].clear(&mut nodes);
                        rows[i].fill(false);
                        reached[i] = 0;
                    }
                    1 | 2 => {
                        // What comes in order, a little at a time.
                        let to = (reached[i] + length).min(SPAN);
                        let whole = rows[i][to..].iter().take_while(|&&bit| bit).count();
                        let reach = all[i].reach(&mut nodes, offset(to));
                        prop_assert_eq!(reach, offset(to + whole));
                        rows[i][..to].fill(true);
                        reached[i] = to + whole;
                    }
                    _ => {
                        let from = at.max(reached[i] + 1).min(SPAN);
                        let to = (from + length).min(SPAN);
                        if from >= to {
                            continue;
                        }
                        let is_full = nodes.used() as usize == NODES;
                        let mut row = rows[i].clone();
                        row[from..to].fill(true);
                        let more = runs(&row, reached[i], first).len() > runs(&rows[i], reached[i], first).len();
                        let done = all[i].insert(&mut nodes, offset(from), offset(to));
                        prop_assert_eq!(done, !(is_full && more));
                        if done {
                            rows[i] = row;
                        }
                    }
                }
                let mut used = 0;
                for i in 0..2 {
                    let expected = runs(&rows[i], reached[i], first);
                    prop_assert_eq!(all[i].iter(&nodes).collect::<Vec<_>>(), &expected[..]);
                    prop_assert_eq!(all[i].end(&nodes), expected.last().map(|run| run.1));
                    prop_assert_eq!(all[i].is_empty(), expected.is_empty());
                    used += expected.len();
                }
                prop_assert_eq!(nodes.used() as usize, used);
            }
        }
    }
}
