//! The controllers against the formulae of their RFCs: the tables were computed with floats elsewhere.

use super::super::*;
use proptest::prelude::*;
use std::vec::Vec;

const SIZE: u64 = 1_200;
const RTT: u64 = 50_000;

/// A controller, and a sender that always fills the window.
struct Sender {
    congestion: Congestion,
    now: u64,
    sent: Vec<(u64, Stamp)>,
}

impl Sender {
    fn new(algorithm: Algorithm) -> Sender {
        let congestion = Congestion::new(algorithm, SIZE as u32, Micros(1_000_000));
        Sender { congestion, now: 1_000_000, sent: Vec::new() }
    }

    fn window(&self) -> u64 {
        self.congestion.window_bytes()
    }

    fn fill(&mut self) {
        while (self.sent.len() as u64 + 1) * SIZE <= self.window() {
            let flight = self.sent.len() as u64 * SIZE;
            let stamp = self.congestion.on_sent(Micros(self.now), SIZE as u32, flight);
            self.sent.push((self.now, stamp));
        }
    }

    /// All that is under way arrives after a round trip of so long, in acknowledgements of two.
    fn round(&mut self, rtt: u64) {
        // As long as before: that changes nothing, however often it is said.
        self.congestion.on_datagram_bytes(SIZE as u32);
        self.fill();
        self.now += rtt;
        let mut rest = core::mem::take(&mut self.sent);
        while !rest.is_empty() {
            let two: Vec<_> = rest.drain(..rest.len().min(2)).collect();
            for (sent_at, stamp) in &two {
                let packet =
                    AckedPacket { bytes: SIZE as u32, sent_at: Micros(*sent_at), stamp: *stamp };
                self.congestion.on_acked(Micros(self.now), &packet);
            }
            self.end_ack(rtt, rest.len() as u64 * SIZE, two.last().unwrap().0);
        }
    }

    fn end_ack(&mut self, rtt: u64, in_flight: u64, sent_at: u64) {
        self.congestion.on_ack_end(
            Micros(self.now),
            &AckEnd {
                rtt_latest: Some(rtt),
                rtt_min: RTT,
                rtt_smoothed: rtt,
                in_flight,
                largest_acked_sent_at: Micros(sent_at),
            },
        );
    }

    fn lose(&mut self, persistent: bool) {
        let lost = Lost { bytes: SIZE, largest_lost_sent_at: Micros(self.now), persistent };
        self.congestion.on_lost(Micros(self.now), &lost);
    }

    /// Slow start up to a window of so much.
    fn grow_to(&mut self, bytes: u64) {
        while self.window() < bytes {
            self.round(RTT);
        }
    }
}

#[test]
fn a_window_begins_with_ten_datagrams_and_doubles() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut sender = Sender::new(algorithm);
        for doubled in [1, 2, 4, 8, 16] {
            assert_eq!(sender.window(), 10 * SIZE * doubled, "{}", algorithm.name());
            sender.round(RTT);
        }
    }
    assert_eq!(Sender::new(Algorithm::Bbr).window(), 10 * SIZE);
}

#[test]
fn reno_halves_and_then_adds_one_datagram_a_round() {
    let mut sender = Sender::new(Algorithm::NewReno);
    sender.grow_to(80 * SIZE);
    sender.now += 1;
    sender.lose(false);
    assert_eq!(sender.window(), 40 * SIZE);
    // The flight from before the loss is answered for, whatever becomes of it.
    sender.lose(false);
    assert_eq!(sender.window(), 40 * SIZE);
    for round in 0..30 {
        sender.now += 1;
        sender.round(RTT);
        let due = (40 + round + 1) * SIZE;
        assert!(sender.window().abs_diff(due) <= SIZE, "{} in round {round}", sender.window());
    }
    sender.lose(false);
    assert!(sender.window().abs_diff(35 * SIZE) <= SIZE);
}

#[test]
fn cubic_keeps_seven_tenths_and_follows_the_curve() {
    let mut sender = Sender::new(Algorithm::Cubic);
    // Exactly 100 datagrams: the table is for that.
    sender.grow_to(160 * SIZE);
    sender.lose(false);
    assert_eq!(sender.window(), 112 * SIZE);
    // W(t) = 0.4 * 1200 * (t - K)^3 + 192 000, K = cbrt(160 * 0.3 / 0.4) = 4.932 s; in bytes.
    let table = [
        (1_000, 162_811),
        (2_000, 179_896),
        (3_000, 188_536),
        (4_000, 191_611),
        (5_000, 192_000),
        (6_000, 192_584),
        (7_000, 196_243),
        (8_000, 205_856),
        (10_000, 254_466),
    ];
    // An acknowledgement of all each 10 ms: Reno would be slower than the curve by far at 300 ms.
    let start = sender.now + 300_000;
    let mut due = table.iter().peekable();
    while let Some((millis, bytes)) = due.peek() {
        sender.now += 1;
        sender.round(300_000);
        if sender.now >= start + millis * 1_000 {
            let elapsed = sender.now - start;
            // It aims a round trip ahead, and gets there in one.
            let least = curve(192_000.0, 4.932_424_15, elapsed);
            let most = curve(192_000.0, 4.932_424_15, elapsed + 600_000) + 2 * SIZE;
            let window = sender.window();
            assert!((least..=most).contains(&window), "{least} {window} {most} after {elapsed}");
            let same = curve(192_000.0, 4.932_424_15, millis * 1_000);
            assert!(same.abs_diff(*bytes) <= 2, "{same} at {millis}");
            due.next();
        }
    }
}

/// W_cubic, in floats.
fn curve(top: f64, k: f64, micros: u64) -> u64 {
    let span = micros as f64 / 1e6 - k;
    (0.4 * 1_200.0 * span * span * span + top) as u64
}

#[test]
fn cubic_is_no_slower_than_reno_on_a_short_path() {
    let mut sender = Sender::new(Algorithm::Cubic);
    sender.grow_to(40 * SIZE);
    sender.lose(false);
    let start = sender.window();
    let rounds = 100;
    for _ in 0..rounds {
        sender.now += 1;
        sender.round(1_000);
    }
    // 9/17 of a datagram a round until the old window, one a round from there: 28 + 23 * 9/17 is 40.
    let due = start + rounds * SIZE * 9 / 17;
    assert!(sender.window() >= due - 2 * SIZE, "{} for {due}", sender.window());
    assert!(sender.window() <= start + rounds * SIZE, "{}", sender.window());
}

#[test]
fn cubic_leaves_room_when_it_had_to_shrink_further() {
    let mut sender = Sender::new(Algorithm::Cubic);
    sender.grow_to(160 * SIZE);
    sender.lose(false);
    sender.now += 1;
    sender.round(RTT);
    sender.now += 1;
    let before = sender.window();
    assert!(before < 160 * SIZE);
    sender.lose(false);
    // The new top is 0.85 of it: the curve is flat there.
    let mut steps = Vec::new();
    for _ in 0..40 {
        sender.now += 1;
        let from = sender.window();
        sender.round(300_000);
        steps.push((sender.window() - from, from));
    }
    let flattest = steps.iter().min().unwrap();
    assert!(flattest.1.abs_diff(before * 85 / 100) < before / 20, "{flattest:?} of {before}");
}

#[test]
fn a_rising_round_trip_ends_slow_start() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut sender = Sender::new(algorithm);
        for _ in 0..4 {
            sender.now += 1;
            sender.round(RTT);
        }
        let mut last = sender.window();
        let mut growth = Vec::new();
        for _ in 0..8 {
            sender.now += 1;
            sender.round(RTT + RTT / 6);
            growth.push(sender.window() * 100 / last);
            last = sender.window();
        }
        // It doubles until the rise is seen, then a quarter as fast for five rounds, then as after a loss.
        assert!(growth[0] >= 120, "{growth:?}");
        assert!(growth[1..4].iter().all(|percent| (120..=130).contains(percent)), "{growth:?}");
        assert!(growth[6..].iter().all(|percent| *percent <= 105), "{growth:?}");
    }
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        for after_loss in [false, true] {
            let mut sender = Sender::new(algorithm);
            sender.grow_to(40 * SIZE);
            if after_loss {
                sender.lose(false);
            }
            let before = sender.window();
            for _ in 0..1_000 {
                sender.now += 1_000;
                let stamp = sender.congestion.on_sent(Micros(sender.now), SIZE as u32, 0);
                sender.sent.push((sender.now, stamp));
                sender.congestion.on_app_limited(SIZE);
                let sent_at = sender.now;
                sender.now += RTT;
                sender.sent.clear();
                let packet = AckedPacket { bytes: SIZE as u32, sent_at: Micros(sent_at), stamp };
                sender.congestion.on_acked(Micros(sender.now), &packet);
                sender.end_ack(RTT, 0, sent_at);
            }
            // The rounds before still count as used.
            assert!(sender.window() <= before + 2 * SIZE, "{} {}", sender.window(), before);
            // And the time was none for the curve.
            sender.now += 1;
            sender.round(RTT);
            assert!(sender.window() <= before * 2 + 2 * SIZE);
            assert!(!after_loss || sender.window() <= before + 4 * SIZE, "{}", sender.window());
        }
    }
}

#[test]
fn a_path_that_was_gone_begins_with_two_datagrams() {
    for algorithm in Algorithm::ALL {
        let mut sender = Sender::new(algorithm);
        sender.grow_to(60 * SIZE);
        sender.lose(true);
        assert_eq!(sender.window(), 2 * SIZE, "{}", algorithm.name());
        sender.now += 1;
        sender.round(RTT);
        assert!(sender.window() >= 4 * SIZE, "{}", algorithm.name());
    }
}

#[test]
fn a_mark_is_a_loss_to_the_window() {
    for (algorithm, left) in [(Algorithm::NewReno, 50), (Algorithm::Cubic, 70)] {
        let mut sender = Sender::new(algorithm);
        sender.grow_to(40 * SIZE);
        let before = sender.window();
        sender.congestion.on_ce(Micros(sender.now), Micros(sender.now));
        assert_eq!(sender.window(), before * left / 100);
        sender.congestion.on_ce(Micros(sender.now + 5), Micros(sender.now));
        assert_eq!(sender.window(), before * left / 100, "once a round");
    }
}

#[test]
fn pacing_is_the_window_in_a_round_trip_and_some() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut sender = Sender::new(algorithm);
        sender.round(RTT);
        assert_eq!(sender.congestion.pacing_rate(), sender.window() * 2 * 20);
        sender.lose(false);
        assert_eq!(sender.congestion.pacing_rate(), sender.window() * 5 / 4 * 20);
    }
}

#[test]
fn a_window_never_falls_below_two_datagrams() {
    for algorithm in Algorithm::ALL {
        let mut sender = Sender::new(algorithm);
        for step in 0..50u64 {
            sender.now += 1 + step;
            sender.lose(step % 2 == 0);
            sender.congestion.on_ce(Micros(sender.now + 1), Micros(sender.now + 1));
            assert!(sender.window() >= 2 * SIZE, "{}", algorithm.name());
            assert!(sender.congestion.pacing_rate() > 0);
        }
        sender.congestion.on_datagram_bytes(9_000);
        assert!(sender.window() >= 2 * 9_000, "{}", algorithm.name());
    }
}

/// Anything, in any order.
#[derive(Clone, Debug)]
enum Call {
    Sent(u64, u32, u64),
    Acked(u64, u32, u64, [u32; 4]),
    End(u64, Option<u64>, u64, u64),
    Lost(u64, u64, bool),
    Ce(u64, u64),
    AppLimited(u64),
    Datagram(u32),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000u64, any::<u64>(), Just(u64::MAX), Just(0)]
}

fn call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![0..65_536u32, any::<u32>()];
    prop_oneof![
        (number(), size.clone(), number()).prop_map(|(a, b, c)| Call::Sent(a, b, c)),
        (number(), size.clone(), number(), any::<[u32; 4]>())
            .prop_map(|(a, b, c, d)| Call::Acked(a, b, c, d)),
        (number(), proptest::option::of(number()), number(), number())
            .prop_map(|(a, b, c, d)| Call::End(a, b, c, d)),
        (number(), number(), any::<bool>()).prop_map(|(a, b, c)| Call::Lost(a, b, c)),
        (number(), number()).prop_map(|(a, b)| Call::Ce(a, b)),
        number().prop_map(Call::AppLimited),
        size.prop_map(Call::Datagram),
    ]
}

fn make(congestion: &mut Congestion, call: Call) {
    match call {
        Call::Sent(now, bytes, before) => {
            congestion.on_sent(Micros(now), bytes, before);
        }
        Call::Acked(now, bytes, sent_at, [delivered, delivered_at, first_sent_at, flight]) => {
            let stamp = Stamp { delivered, delivered_at, first_sent_at, flight };
            let packet = AckedPacket { bytes, sent_at: Micros(sent_at), stamp };
            congestion.on_acked(Micros(now), &packet);
        }
        Call::End(now, rtt_latest, rtt, in_flight) => congestion.on_ack_end(
            Micros(now),
            &AckEnd {
                rtt_latest,
                rtt_min: rtt,
                rtt_smoothed: rtt,
                in_flight,
                largest_acked_sent_at: Micros(now),
            },
        ),
        Call::Lost(now, bytes, persistent) => {
            let largest_lost_sent_at = Micros(now / 2);
            let lost = Lost { bytes, largest_lost_sent_at, persistent };
            congestion.on_lost(Micros(now), &lost);
        }
        Call::Ce(now, sent_at) => congestion.on_ce(Micros(now), Micros(sent_at)),
        Call::AppLimited(in_flight) => congestion.on_app_limited(in_flight),
        Call::Datagram(bytes) => congestion.on_datagram_bytes(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// No order and no number makes it panic, or forget its least.
    #[test]
    fn nothing_it_is_told_breaks_it(calls in proptest::collection::vec(call(), 0..200)) {
        for algorithm in Algorithm::ALL {
            let mut congestion = Congestion::new(algorithm, 1_200, Micros(0));
            let mut datagram = 1_200;
            for call in calls.clone() {
                if let Call::Datagram(bytes) = call {
                    datagram = u64::from(bytes.max(1));
                }
                make(&mut congestion, call);
                prop_assert!(congestion.window_bytes() >= datagram * WINDOW_DATAGRAMS_MIN);
                prop_assert!(congestion.pacing_rate() > 0);
            }
        }
    }
}
