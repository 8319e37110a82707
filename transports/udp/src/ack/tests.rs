use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

const RTT: u64 = 20_000;

fn emitted(received: &mut Received, now: Micros) -> Vec<u8> {
    let mut out = [0xee; ACK_BYTES_MAX];
    let length = received.emit(now, &mut out);
    out[..length].to_vec()
}

fn ranges(received: &mut Received) -> Vec<RangeInclusive<u64>> {
    let bytes = emitted(received, Micros(0));
    Ack::parse(&bytes).map_or(Vec::new(), |(ack, _)| ack.ascending().collect())
}

fn with(numbers: impl IntoIterator<Item = u64>) -> Received {
    let mut received = Received::new();
    for number in numbers {
        assert_eq!(received.insert(number, Micros(0), true, false), Arrival::New);
    }
    received
}

#[test]
fn an_ack_is_these_bytes() {
    let mut received = with([]);
    for number in [0, 1, 2, 10, 11, 0x0605_0403_0201, 0x0605_0403_0202] {
        received.insert(number, Micros(1_000), true, number == 10);
    }
    let bytes = emitted(&mut received, Micros(1_000 + 16 * 0x0203));
    let head = [2, 1, 3, 2, 2, 2, 3, 4, 5, 6, 1, 0, 1, 0];
    assert_eq!(bytes, head, "one range: the others are too old");

    let mut received = with([0, 1, 2, 10, 12, 13]);
    let bytes = emitted(&mut received, Micros(0));
    let head = [2, 3, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let rest = [0, 0, 0, 0, 6, 0, 2, 0];
    assert_eq!(bytes, [&head[..], &rest].concat());
    let (ack, length) = Ack::parse(&bytes).unwrap();
    assert_eq!((ack.largest, ack.smallest(), length), (13, 0, 22));
    assert!(ack.ascending().eq([0..=2, 10..=10, 12..=13]));
    assert!(ack.descending().eq([12..=13, 10..=10, 0..=2]));
}

#[test]
fn what_is_no_ack_is_refused() {
    let mut received = with([0, 1, 2, 10, 12, 13]);
    let good = emitted(&mut received, Micros(0));
    for cut in 0..good.len() {
        assert_eq!(Ack::parse(&good[..cut]), Err(Malformed), "{cut} bytes");
    }
    let changed = |at: usize, to: u8| {
        let mut bytes = vec![0; 14 + 4 * 255];
        bytes[..good.len()].copy_from_slice(&good);
        bytes[at] = to;
        Ack::parse(&bytes).is_ok()
    };
    assert!(changed(0, 2));
    assert!(!changed(0, 3), "another kind");
    assert!(!changed(1, 0), "no range");
    assert!(!changed(12, 14), "the first range below 0");
    assert!(changed(12, 1));
    assert!(!changed(18, 7), "a gap below 0");
    assert!(!changed(20, 3), "a length below 0");
    assert!(!changed(4, 12), "all one too low");
}

#[test]
fn more_ranges_than_an_end_tells_are_refused() {
    for ranges in 0..=u8::MAX {
        // All are there, and none is below 0.
        let mut bytes = [0; FIRST_BYTES + RANGE_BYTES * 255];
        bytes[..6].copy_from_slice(&[2, ranges, 0, 0, 0, 16]);
        assert_eq!(Ack::parse(&bytes).is_ok(), (1..=32).contains(&ranges), "{ranges} ranges");
    }
}

#[test]
fn an_ack_of_greatest_numbers_is_read() {
    let mut bytes = [0xff; ACK_BYTES_MAX];
    bytes[..2].copy_from_slice(&[2, 32]);
    let (ack, length) = Ack::parse(&bytes).unwrap();
    assert_eq!((ack.largest, length), (NUMBER_MAX, ACK_BYTES_MAX));
    assert_eq!(ack.smallest(), NUMBER_MAX - 65_535 - 31 * (65_535 + 65_537));
    assert_eq!(ack.delay_micros, 65_535 * 16);
    assert_eq!(ack.ascending().count(), RANGES_MAX);
}

#[test]
fn the_last_number_and_no_greater_one() {
    let mut received = Received::new();
    assert_eq!(received.insert(NUMBER_MAX + 1, Micros(0), true, false), Arrival::TooOld);
    assert_eq!(received.insert(u64::MAX, Micros(0), true, false), Arrival::TooOld);
    assert_eq!(received.ack_at(RTT), None);
    assert_eq!(received.insert(NUMBER_MAX, Micros(0), true, false), Arrival::New);
    assert_eq!(received.insert(NUMBER_MAX, Micros(0), true, false), Arrival::Duplicate);
    assert_eq!(received.insert(0, Micros(0), true, false), Arrival::TooOld);
    assert_eq!(ranges(&mut received), [NUMBER_MAX..=NUMBER_MAX]);
}

#[test]
fn a_window_is_remembered_and_no_more() {
    let mut received = with([0, WINDOW]);
    assert_eq!(received.look(0), Arrival::TooOld);
    assert_eq!(received.look(1), Arrival::New);
    assert_eq!(received.insert(1, Micros(0), true, false), Arrival::New);
    assert_eq!(received.look(1), Arrival::Duplicate);
    assert_eq!(ranges(&mut received), [1..=1, WINDOW..=WINDOW]);
    // The place of a number that fell out is empty for who comes there.
    let mut received = with(0..WINDOW);
    received.insert(WINDOW + 100, Micros(0), true, false);
    for number in WINDOW..WINDOW + 100 {
        assert_eq!(received.look(number), Arrival::New, "{number}");
    }
    assert_eq!(ranges(&mut received), [101..=WINDOW - 1, WINDOW + 100..=WINDOW + 100]);
}

#[test]
fn a_jump_forgets_all() {
    for jump in [WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW, 1 << 40] {
        let mut received = with(0..WINDOW);
        let number = WINDOW - 1 + jump;
        received.insert(number, Micros(0), true, false);
        assert_eq!(received.look(number), Arrival::Duplicate);
        let bottom = number + 1 - WINDOW;
        let kept: u64 = (bottom..number)
            .filter(|&number| received.look(number) == Arrival::Duplicate)
            .count() as u64;
        assert_eq!(kept, WINDOW.saturating_sub(jump).min(WINDOW), "a jump of {jump}");
    }
}

#[test]
fn at_most_so_many_ranges_the_newest() {
    let mut received = with((0..200).map(|number| number * 2));
    let told = ranges(&mut received);
    assert_eq!(told.len(), RANGES_MAX);
    assert_eq!(told.last(), Some(&(398..=398)));
    assert_eq!(told.first(), Some(&(336..=336)));
}

#[test]
fn as_many_ranges_as_there_is_room_for() {
    for room in 0..60 {
        let mut received = with([0, 2, 4, 6]);
        let mut out = [0xee; 60];
        let length = received.emit(Micros(0), &mut out[..room]);
        let expected = [0, 14, 18, 22, 26][match room {
            0..14 => 0,
            _ => (1 + (room - 14) / 4).min(4),
        }];
        assert_eq!(length, expected, "room for {room}");
        assert!(out[length..].iter().all(|&byte| byte == 0xee));
        assert_eq!(received.ack_at(RTT).is_some(), length == 0, "what was not said is still due");
        assert_eq!(received.has_news(), length == 0);
    }
}

#[test]
fn nothing_arrived_is_no_ack() {
    let mut received = Received::new();
    assert_eq!(emitted(&mut received, Micros(5)), []);
    assert_eq!((received.largest(), received.has_news()), (None, false));
}

/// So that a table of links that was never used is no page of memory.
#[test]
fn new_is_zero() {
    let received = Received::new();
    assert!(received.bits.iter().all(|&word| word == 0));
    let Received { bits: _, next, run_start, told_below, largest_at, .. } = received;
    assert_eq!((next, run_start, told_below, largest_at.0), (0, 0, 0, 0));
    assert!(!received.is_urgent && !received.has_news);
    assert_eq!((received.eliciting, received.eliciting_since.0, received.ce), (0, 0, 0));
}

#[test]
fn one_packet_waits_two_do_not() {
    let mut received = Received::new();
    received.insert(0, Micros(100), true, false);
    assert_eq!(received.ack_at(RTT), Some(Micros(5_100)));
    assert_eq!(received.ack_at(4_999), Some(Micros(1_100)));
    assert_eq!(received.ack_at(5_000), Some(Micros(5_100)));
    received.insert(1, Micros(200), true, false);
    assert_eq!(received.ack_at(RTT), Some(Micros(100)));
    emitted(&mut received, Micros(300));
    assert_eq!(received.ack_at(RTT), None);
    received.insert(2, Micros(400), true, false);
    assert_eq!(received.ack_at(RTT), Some(Micros(5_400)));
}

#[test]
fn an_ack_alone_wants_none() {
    let mut received = Received::new();
    received.insert(0, Micros(100), false, false);
    received.insert(2, Micros(100), false, true);
    assert_eq!(received.ack_at(RTT), None);
    assert!(received.has_news());
    received.insert(3, Micros(200), true, false);
    assert_eq!(received.ack_at(RTT), Some(Micros(5_200)));
}

#[test]
fn what_is_out_of_order_or_marked_is_told_at_once() {
    for (number, ce) in [(3, false), (1, false), (2, true)] {
        let mut received = with([0]);
        received.insert(1, Micros(0), true, false);
        emitted(&mut received, Micros(0));
        if number == 1 {
            // Late: it was missing.
            received = with([0, 2]);
            emitted(&mut received, Micros(0));
        }
        received.insert(number, Micros(700), true, ce);
        assert_eq!(received.ack_at(RTT), Some(Micros(700)), "{number}");
        emitted(&mut received, Micros(800));
        let next = received.largest().unwrap() + 1;
        received.insert(next, Micros(900), true, false);
        assert_eq!(received.ack_at(RTT), Some(Micros(5_900)), "only once");
    }
}

#[test]
fn marks_are_counted_once_each() {
    let mut received = Received::new();
    received.insert(0, Micros(0), true, true);
    received.insert(0, Micros(0), true, true);
    received.insert(1, Micros(0), true, false);
    assert_eq!(received.ce_count(), 1);
    received.ce = u16::MAX;
    received.insert(2, Micros(0), true, true);
    assert_eq!(received.ce_count(), 0);
}

#[test]
fn the_delay_is_since_the_largest() {
    let mut received = Received::new();
    received.insert(5, Micros(1_000), true, false);
    received.insert(3, Micros(2_000), true, false);
    let bytes = emitted(&mut received, Micros(3_600));
    assert_eq!(Ack::parse(&bytes).unwrap().0.delay_micros, 2_600 / 16 * 16);
    let bytes = emitted(&mut received, Micros(u64::MAX));
    assert_eq!(Ack::parse(&bytes).unwrap().0.delay_micros, 65_535 * 16);
    let bytes = emitted(&mut received, Micros(0));
    assert_eq!(Ack::parse(&bytes).unwrap().0.delay_micros, 0);
}

#[test]
fn what_the_peer_knows_is_not_told_again() {
    let mut received = with([0, 1, 3, 5, 6]);
    received.confirm(3);
    assert_eq!(ranges(&mut received), [5..=6]);
    received.confirm(6);
    assert_eq!(ranges(&mut received), [6..=6], "an ACK names at least the largest");
    received.confirm(u64::MAX);
    received.insert(7, Micros(0), true, false);
    received.insert(8, Micros(0), true, false);
    assert_eq!(ranges(&mut received), [7..=8], "nobody knows what did not arrive yet");
    assert_eq!(received.look(1), Arrival::Duplicate, "and yet it is known");
    // A late one is told, though the peer was told it was missing.
    received.insert(2, Micros(0), true, false);
    assert_eq!(ranges(&mut received), [2..=3, 5..=8]);
}

/// As anybody would keep it.
#[derive(Default)]
struct Model {
    arrived: BTreeSet<u64>,
    told_below: u64,
}

impl Model {
    fn bottom(&self) -> u64 {
        self.arrived.last().map_or(0, |largest| (largest + 1).saturating_sub(WINDOW))
    }

    fn look(&self, number: u64) -> Arrival {
        match () {
            () if number < self.bottom() => Arrival::TooOld,
            () if self.arrived.contains(&number) => Arrival::Duplicate,
            () => Arrival::New,
        }
    }

    fn insert(&mut self, number: u64) -> Arrival {
        let arrival = self.look(number);
        if arrival == Arrival::New {
            if self.arrived.last().is_some_and(|&largest| number < largest) {
                self.told_below = self.told_below.min(number);
            }
            self.arrived.insert(number);
            let bottom = self.bottom();
            self.arrived = self.arrived.split_off(&bottom);
        }
        arrival
    }

    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        let Some(&largest) = self.arrived.last() else { return Vec::new() };
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for &number in self.arrived.range(self.told_below.min(largest)..) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
                _ => ranges.push(number..=number),
            }
        }
        ranges.split_off(ranges.len().saturating_sub(RANGES_MAX))
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Numbers in order.
    Run(u16),
    /// Some numbers are skipped.
    Skip(u64),
    /// One so far below the largest.
    Late(u64),
    Emit,
    /// The peer confirms the largest of so many ACKs ago.
    Confirm(usize),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..200u16).prop_map(Act::Run),
        1 => (200..20_000u16).prop_map(Act::Run),
        4 => (1..5u64).prop_map(Act::Skip),
        1 => (1..3 * WINDOW).prop_map(Act::Skip),
        1 => (0..1u64 << 40).prop_map(Act::Skip),
        8 => (0..100u64).prop_map(Act::Late),
        2 => (0..2 * WINDOW).prop_map(Act::Late),
        4 => Just(Act::Emit),
        1 => (0..4usize).prop_map(Act::Confirm),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn it_is_what_its_model_is(acts in prop::collection::vec(acts(), 1..60), first in 0..3u64) {
        let mut received = Received::new();
        let mut model = Model::default();
        let mut next = first * (WINDOW - 1);
        let mut told = Vec::new();
        for act in acts {
            match act {
                Act::Run(count) => for _ in 0..count {
                    prop_assert_eq!(received.look(next), model.look(next));
                    let arrival = received.insert(next, Micros(0), true, false);
                    prop_assert_eq!(arrival, model.insert(next));
                    next += 1;
                },
                Act::Skip(count) => next += count,
                Act::Late(below) => {
                    let number = next.saturating_sub(below);
                    let arrival = received.insert(number, Micros(0), true, false);
                    prop_assert_eq!(arrival, model.insert(number));
                    next = next.max(number + 1);
                }
                Act::Emit => {
                    prop_assert_eq!(ranges(&mut received), model.ranges());
                    told.extend(received.largest());
                }
                Act::Confirm(ago) => if let Some(&largest) = told.iter().rev().nth(ago) {
                    received.confirm(largest);
                    model.told_below = model.told_below.max(largest + 1);
                },
            }
            prop_assert_eq!(received.largest(), model.arrived.last().copied());
        }
        prop_assert_eq!(ranges(&mut received), model.ranges());
        for number in next.saturating_sub(WINDOW + 3)..next + 3 {
            prop_assert_eq!(received.look(number), model.look(number));
        }
    }

    /// Any bytes at all: what is read is ranges that ascend with gaps between, one way as the other.
    #[test]
    fn any_bytes_are_sane_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..160), small: bool) {
        if let [kind, ranges, ..] = &mut bytes[..] {
            *kind = ACK;
            *ranges %= 34;
        }
        if small {
            // Gaps and lengths such that they often fit.
            for (at, byte) in bytes.iter_mut().enumerate().skip(12) {
                *byte = if at % 2 == 1 { 0 } else { *byte & 0x3f };
            }
        }
        if let Ok((ack, length)) = Ack::parse(&bytes) {
            prop_assert!(length <= bytes.len() && length <= ACK_BYTES_MAX);
            let up: Vec<_> = ack.ascending().collect();
            let mut down: Vec<_> = ack.descending().collect();
            down.reverse();
            prop_assert_eq!(&up, &down);
            prop_assert_eq!(up.len(), usize::from(bytes[1]));
            prop_assert!(up.iter().all(|range| range.start() <= range.end()));
            prop_assert!(up.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
            prop_assert_eq!(up[0].start(), &ack.smallest());
            prop_assert_eq!(up.last().unwrap().end(), &ack.largest);
        }
    }
}
