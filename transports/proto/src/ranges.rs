//! Which bytes of a channel have arrived beyond the first gap: ranges of offsets, as nodes of one
//! pool that all channels of a link share. Knows no byte and no channel.
//!
//! Invariant: the ranges of a channel go from the newest to the oldest, and between two of them at
//! least one offset is missing.

/// A range of offsets, from `start` up to `end`. All zeroes when new.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    start: u32,
    end: u32,
    /// The place of the next older range, or of the next vacant node. A place is a node's number + 1;
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

/// One channel's ranges. All zeroes is none.
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
    /// there is no node, and nothing happened. O(newer ranges).
    #[must_use]
    pub(crate) fn insert(&mut self, nodes: &mut Nodes<'_>, start: u32, end: u32) -> bool {
        let (mut newer, mut place) = (0, self.newest);
        while place != 0 && is_before(end, nodes.at(place).start) {
            (newer, place) = (place, nodes.at(place).next);
        }
        if place == 0 || is_before(nodes.at(place).end, start) {
            let Some(new) = nodes.take(Node { start, end, next: place }) else { return false };
            self.link(nodes, newer, new);
            return true;
        }
        let Node { start: first, end: last, mut next } = nodes.at(place);
        let mut start = if is_before(start, first) { start } else { first };
        while next != 0 && !is_before(nodes.at(next).end, start) {
            let older = nodes.at(next).start;
            start = if is_before(older, start) { older } else { start };
            next = nodes.give_back(next);
        }
        *nodes.at_mut(place) = Node { start, end: later(last, end), next };
        true
    }

    fn link(&mut self, nodes: &mut Nodes<'_>, newer: u32, place: u32) {
        match newer {
            0 => self.newest = place,
            newer => nodes.at_mut(newer).next = place,
        }
    }

    /// Everything before `offset` is there: takes away the ranges that this reaches, and gives the
    /// offset up to which everything is there then. O(ranges).
    pub(crate) fn reach(&mut self, nodes: &mut Nodes<'_>, offset: u32) -> u32 {
        let (mut newer, mut place) = (0, self.newest);
        while place != 0 && is_before(offset, nodes.at(place).start) {
            (newer, place) = (place, nodes.at(place).next);
        }
        if place == 0 {
            return offset;
        }
        let offset = later(offset, nodes.at(place).end);
        self.link(nodes, newer, 0);
        while place != 0 {
            place = nodes.give_back(place);
        }
        offset
    }

    /// Forgets all. O(ranges).
    pub(crate) fn clear(&mut self, nodes: &mut Nodes<'_>) {
        while self.newest != 0 {
            self.newest = nodes.give_back(self.newest);
        }
    }

    /// All of them, from the newest on.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn iter(self, nodes: &Nodes<'_>) -> impl Iterator<Item = (u32, u32)> {
        let node = |place: u32| (place != 0).then(|| nodes.at(place));
        core::iter::successors(node(self.newest), move |last| node(last.next))
            .take(nodes.nodes.len() + 1)
            .map(|node| (node.start, node.end))
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

    /// The runs of a row of bits, the last first.
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
        runs.reverse();
        runs
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
                    prop_assert_eq!(all[i].end(&nodes), expected.first().map(|run| run.1));
                    prop_assert_eq!(all[i].is_empty(), expected.is_empty());
                    used += expected.len();
                }
                prop_assert_eq!(nodes.used() as usize, used);
            }
        }
    }
}
