use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

const MS: u64 = 1_000;

/// Searches on a path that carries so much and loses nothing, until there is nothing to be done.
fn settled(limit: u16, carries: u16) -> (Search, Micros) {
    let mut search = Search::new(limit, Micros(0));
    let mut now = Micros(0);
    for number in 0..40 {
        let Some(due) = search.due_at().filter(|due| due.since(now) < RAISE_MICROS / 2) else {
            break;
        };
        now = now.max(due);
        let bytes = search.probe_due(now).unwrap();
        search.on_probe_sent(number, bytes);
        assert_eq!(search.due_at(), None, "one at a time");
        now = now.after(20 * MS);
        if bytes <= carries {
            assert!(search.on_probe_acked(now, number));
            search.on_acked(now, number, bytes);
        } else {
            search.on_probe_lost(now, number);
        }
    }
    (search, now)
}

#[test]
fn it_finds_the_greatest_step_that_is_carried() {
    for (limit, carries, found) in [
        (1472, 1472, 1472),
        (1472, 1471, 1452),
        (1472, 1400, 1392),
        (1472, 1252, 1232),
        (1452, 9000, 1452),
        (1500, 9000, 1472),
        (65_507, 9000, 8972),
        (65_507, 5000, 4052),
        (1000, 1472, 1000),
        (0, 1472, LOWEST_BYTES),
    ] {
        let (search, _) = settled(limit, carries);
        assert_eq!(search.datagram_bytes(), found, "{carries} of {limit}");
    }
}

#[test]
fn three_lost_probes_end_a_search_for_ten_minutes() {
    let mut search = Search::new(1472, Micros(0));
    let mut now = Micros(0);
    for number in 0..3 {
        assert_eq!(search.probe_due(now), Some(1392));
        search.on_probe_sent(number, 1392);
        assert_eq!(search.probe_due(now), None);
        now = now.after(100 * MS);
        search.on_probe_lost(now, number);
        if number < 2 {
            assert_eq!(search.due_at(), Some(now.after(RETRY_MICROS)));
            assert_eq!(search.probe_due(now), None);
            now = now.after(RETRY_MICROS);
        }
    }
    assert_eq!(search.due_at(), Some(now.after(600_000 * MS)));
    assert_eq!(search.probe_due(now.after(599_999 * MS)), None);
    assert_eq!(search.probe_due(now.after(600_000 * MS)), Some(1392));
}

#[test]
fn only_the_probe_under_way_is_an_answer() {
    let mut search = Search::new(1472, Micros(0));
    search.on_probe_sent(7, 1392);
    assert!(!search.on_probe_acked(Micros(1), 6));
    search.on_probe_lost(Micros(1), 8);
    assert_eq!(search.due_at(), None, "it still is under way");
    assert!(search.on_probe_acked(Micros(1), 7));
    assert!(!search.on_probe_acked(Micros(1), 7));
    assert_eq!(search.datagram_bytes(), 1392);
}

#[test]
fn long_packets_that_vanish_are_a_black_hole() {
    let (mut search, now) = settled(1472, 1472);
    let lost = |search: &mut Search, number, at: Micros| {
        search.on_lost(at.after(30 * MS), number, 1472, at)
    };
    search.on_acked(now, 100, 1472);
    // All of one flight are one time.
    for number in 101..200 {
        assert!(!lost(&mut search, number, now));
    }
    assert!(!lost(&mut search, 201, now.after(40 * MS)));
    assert!(lost(&mut search, 202, now.after(80 * MS)));
    assert_eq!(search.datagram_bytes(), 1232);
    // What was sent before is no evidence against what is sent now.
    for round in 0..10 {
        assert!(!lost(&mut search, 203 + round, now.after(50 * MS * round)));
    }
    let falls: Vec<_> = (0..4)
        .map(|round| {
            let sent_at = now.after(1_000 * MS + 50 * MS * round);
            search.on_lost(sent_at.after(40 * MS), 300 + round, 1232, sent_at)
        })
        .collect();
    assert_eq!(falls, [false, false, true, false]);
    assert_eq!(search.datagram_bytes(), LOWEST_BYTES);
    for round in 0..10 {
        let at = now.after(9_000 * MS + 50 * MS * round);
        assert!(!search.on_lost(at, 400 + round, 548, at), "there is nothing below");
    }
}

#[test]
fn one_long_packet_that_comes_through_ends_suspicion() {
    let (mut search, now) = settled(1472, 1472);
    let mut at = now;
    for round in 0..20 {
        let number = 100 + 10 * round;
        at = at.after(50 * MS);
        // A later long one was acknowledged by the same ACK: it was not the length.
        search.on_acked(at, number + 1, 1472);
        assert!(!search.on_lost(at, number, 1472, at));
        // Or it comes through a round later.
        at = at.after(50 * MS);
        assert!(!search.on_lost(at, number + 5, 1472, at));
        at = at.after(50 * MS);
        assert!(!search.on_lost(at, number + 6, 1472, at));
        search.on_acked(at, number + 7, 1233);
    }
    // What is short is no evidence, neither lost nor acknowledged.
    for round in 0..20 {
        at = at.after(50 * MS);
        assert!(!search.on_lost(at, 500 + round, 548, at));
    }
    assert_eq!(search.datagram_bytes(), 1472);
}

#[test]
fn what_is_halfway_and_vanishes_is_too_long_as_well() {
    let (mut search, now) = settled(1472, 1472);
    // Nothing longer is sent, as nobody has so much to say; what is short comes through.
    let mut falls = 0;
    for round in 0..4 {
        let at = now.after(50 * MS * (round + 1));
        search.on_acked(at, 100 + 10 * round, 60);
        falls += u32::from(search.on_lost(at, 99 + 10 * round, 900, at));
    }
    assert_eq!((falls, search.datagram_bytes()), (1, LOWEST_BYTES));
    // Of the longest, which also are longer than that, less is learnt.
    let (mut search, now) = settled(1472, 1472);
    for round in 0..3 {
        let at = now.after(50 * MS * (round + 1));
        let falls = search.on_lost(at, 99 + 10 * round, 1472, at);
        assert_eq!(falls, round == 2);
    }
    assert_eq!(search.datagram_bytes(), BASE_BYTES);
}

#[test]
fn timeouts_in_a_row_make_it_fall_and_it_waits_for_life() {
    let (mut search, now) = settled(1472, 1472);
    let falls: Vec<_> = (1..=9).map(|count| search.on_timeout(count)).collect();
    assert_eq!(falls, [false, false, true, false, false, true, false, false, false]);
    assert_eq!(search.datagram_bytes(), LOWEST_BYTES);
    assert_eq!(search.due_at(), None, "the path is dead");
    let now = now.after(20_000 * MS);
    search.on_acked(now, 900, 60);
    assert_eq!(search.due_at(), Some(now.after(SETTLE_MICROS)));
    assert_eq!(search.probe_due(now.after(SETTLE_MICROS)), Some(1232));
}

#[test]
fn a_probe_lost_on_a_dead_path_is_no_answer() {
    let mut search = Search::new(1472, Micros(0));
    assert!(!search.on_timeout(1));
    let mut now = Micros(0);
    for number in 0..10 {
        search.on_probe_sent(number, 1392);
        search.on_probe_lost(now, number);
        now = now.after(RETRY_MICROS);
        assert_eq!(search.due_at(), Some(now));
    }
    // It lives again, and then it is one.
    search.on_acked(now, 10, 60);
    for number in 11..14 {
        search.on_probe_sent(number, 1392);
        search.on_probe_lost(now, number);
    }
    assert_eq!(search.due_at(), Some(now.after(RAISE_MICROS)));
}

#[test]
fn what_the_socket_refuses_is_not_sent_again() {
    let (mut search, now) = settled(1472, 1472);
    assert!(search.on_too_long(now, 1472));
    assert_eq!(search.datagram_bytes(), 1452);
    assert_eq!(search.due_at(), Some(now.after(RAISE_MICROS)));
    assert!(search.on_too_long(now, 1300));
    assert_eq!(search.datagram_bytes(), 1232);
    assert!(!search.on_too_long(now, 1472), "long ago");
    assert!(search.on_too_long(now, 600));
    assert!(!search.on_too_long(now, 1));
    assert_eq!(search.datagram_bytes(), LOWEST_BYTES);
    // What fits after all, and what was sent long ago, do not put off a search.
    let mut search = Search::new(9000, Micros(0));
    assert!(search.on_timeout(3));
    search.on_acked(Micros(0), 1, 60);
    assert!(!search.on_too_long(Micros(0), 1472));
    assert_eq!(search.due_at(), Some(Micros(SETTLE_MICROS)));
    // A probe that cannot even be sent needs no second try.
    let mut search = Search::new(9000, Micros(0));
    search.on_probe_sent(1, 1392);
    assert!(!search.on_too_long(Micros(5), 1392));
    assert_eq!(search.due_at(), Some(Micros(5).after(RAISE_MICROS)));
    assert_eq!(search.datagram_bytes(), 1232);
}

#[test]
fn a_probe_that_was_under_way_at_a_fall_raises_nothing() {
    let mut search = Search::new(1472, Micros(0));
    search.on_probe_sent(5, 1392);
    assert!(search.on_timeout(3));
    assert!(!search.on_probe_acked(Micros(9), 5));
    assert_eq!(search.datagram_bytes(), LOWEST_BYTES);
}

#[derive(Clone, Copy)]
struct Sent {
    number: u64,
    bytes: u16,
    at: u64,
    is_probe: bool,
    /// When its acknowledgement arrives.
    acked_at: Option<u64>,
}

/// A sender with 64 packets in flight, on a path of 20 ms that carries `carries` at any time.
struct Model<C> {
    search: Search,
    carries: C,
    loss_percent: u64,
    seed: u64,
    sent: VecDeque<Sent>,
    next: u64,
    timeouts: u32,
    heard_at: u64,
    /// Of long packets that came through: when the last did, and the longest pause so far.
    through_at: u64,
    pause: u64,
}

impl<C: Fn(u64) -> u16> Model<C> {
    fn new(carries: C, loss_percent: u64, seed: u64) -> Self {
        Model {
            search: Search::new(1472, Micros(0)),
            carries,
            loss_percent,
            seed: seed | 1,
            sent: VecDeque::new(),
            next: 0,
            timeouts: 0,
            heard_at: 0,
            through_at: 0,
            pause: 0,
        }
    }

    fn send(&mut self, now: u64, bytes: u16, is_probe: bool) {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let is_lost = self.seed % 100 < self.loss_percent || bytes > (self.carries)(now);
        let acked_at = (!is_lost).then_some(now + 20);
        self.sent.push_back(Sent { number: self.next, bytes, at: now, is_probe, acked_at });
        self.next += 1;
    }

    /// One millisecond.
    fn tick(&mut self, now: u64) {
        let at = Micros(now * MS);
        let mut largest = None;
        for sent in self.sent.iter().filter(|sent| sent.acked_at == Some(now)) {
            if sent.is_probe {
                self.search.on_probe_acked(at, sent.number);
            }
            self.search.on_acked(at, sent.number, sent.bytes);
            largest = Some(sent.number);
            if sent.bytes >= LOWEST_BYTES {
                self.pause = self.pause.max(now - self.through_at);
                self.through_at = now;
            }
        }
        if let Some(largest) = largest {
            self.heard_at = now;
            self.timeouts = 0;
            for sent in &self.sent {
                if sent.acked_at.is_none() && sent.number + 3 <= largest {
                    if sent.is_probe {
                        self.search.on_probe_lost(at, sent.number);
                    } else {
                        let sent_at = Micros(sent.at * MS);
                        let _ = self.search.on_lost(at, sent.number, sent.bytes, sent_at);
                    }
                }
            }
            self.sent.retain(|sent| match sent.acked_at {
                Some(acked_at) => acked_at > now,
                None => sent.number + 3 > largest,
            });
        }
        if let Some(bytes) = self.search.probe_due(at) {
            self.search.on_probe_sent(self.next, bytes);
            self.send(now, bytes, true);
        }
        if !self.sent.is_empty() && now - self.heard_at >= 60 << self.timeouts.min(6) {
            self.timeouts += 1;
            self.heard_at = now;
            let _ = self.search.on_timeout(self.timeouts);
            self.send(now, 40, false);
            self.send(now, self.search.datagram_bytes(), false);
        } else if self.sent.len() < 64 {
            self.send(now, self.search.datagram_bytes(), false);
            if now.is_multiple_of(10) {
                self.send(now, 40, false);
            }
        }
    }
}

/// The path carries less and less, then more again, and no ICMP says so.
#[test]
fn a_path_that_shrinks_and_grows_is_followed() {
    for (loss, seed) in [(0, 1), (1, 2), (10, 3)] {
        let carries = |now| match now {
            0..10_000 => 1472,
            10_000..20_000 => 1252,
            20_000..30_000 => 572,
            _ => 1472,
        };
        let mut model = Model::new(carries, loss, seed);
        for now in 0..700_000 {
            model.tick(now);
            let bytes = model.search.datagram_bytes();
            match now {
                9_000 => assert_eq!(bytes, 1472),
                // As long as a few timeouts: nothing long is sent any more that does not fit.
                13_000..20_000 => assert_eq!(bytes, 1232, "at {now} ms, {loss} % loss"),
                23_000..30_000 => assert_eq!(bytes, 548, "at {now} ms, {loss} % loss"),
                _ => {}
            }
        }
        assert_eq!(model.search.datagram_bytes(), 1472, "after the next search, {loss} % loss");
        assert!(model.pause < 1_500, "nothing came through for {} ms", model.pause);
    }
}

/// A path that is dark for a while carries as much as before.
#[test]
fn a_flap_is_overcome() {
    for dark in [100, 2_000, 20_000] {
        let carries = |now| if (5_000..5_000 + dark).contains(&now) { 0 } else { 1472 };
        let mut model = Model::new(carries, 0, 1);
        for now in 0..5_000 + dark + 10_000 {
            model.tick(now);
        }
        assert_eq!(model.search.datagram_bytes(), 1472, "{dark} ms");
    }
}

/// Loss that has nothing to do with length does not make it fall.
#[test]
fn random_loss_is_no_black_hole() {
    for seed in 1..9 {
        let mut model = Model::new(|_| 1472, 10, seed);
        let mut least = u16::MAX;
        for now in 0..30_000 {
            model.tick(now);
            if now > 5_000 {
                least = least.min(model.search.datagram_bytes());
            }
        }
        assert_eq!(least, 1472, "seed {seed}");
    }
}

proptest! {
    /// Whatever is told of, in any order: the invariant holds.
    #[test]
    fn sizes_stay_within_bounds(
        limit: u16,
        acts in prop::collection::vec((0..7u8, 0..20u64, any::<u16>(), any::<u32>()), 0..200),
    ) {
        let mut search = Search::new(limit, Micros(0));
        let mut now = Micros(0);
        for (act, number, bytes, time) in acts {
            now = now.after(time.into());
            let before = search.datagram_bytes();
            let due = search.probe_due(now);
            let mut may_rise = false;
            match act {
                0 => if let Some(bytes) = due {
                    search.on_probe_sent(number, bytes);
                },
                1 => may_rise = search.on_probe_acked(now, number),
                2 => search.on_probe_lost(now, number),
                3 => search.on_acked(now, number, bytes),
                4 => { let _ = search.on_lost(now, number, before, now); }
                5 => { let _ = search.on_timeout(time % 10); }
                _ => { let _ = search.on_too_long(now, bytes); }
            }
            let after = search.datagram_bytes();
            prop_assert!((LOWEST_BYTES..=limit.max(LOWEST_BYTES)).contains(&after));
            prop_assert_eq!(after > before, may_rise);
            if let Some(due) = search.probe_due(now) {
                prop_assert!(due > after && due <= limit);
            }
        }
    }
}
