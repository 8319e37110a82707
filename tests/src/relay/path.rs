//! What one way does to each datagram, from a seed: whether and when it arrives, how often, and
//! what is left of it. Knows no socket; time is a number it is given.
//!
//! Each datagram draws the same numbers, whatever the conditions are: with the same seed the same
//! ones are lost when something else is switched on or off.

use super::conditions::{QUEUE_BYTES_MIN, Queue, Way};
use super::counters::Counters;
use crate::bytes::Numbers;
use std::collections::VecDeque;
use std::time::Duration;

/// Of so many datagrams of each way one may be replayed.
pub const HISTORY: usize = 256;

/// One way through the relay. Times are nanoseconds since the start of the relay.
pub(super) struct Path {
    numbers: Numbers,
    in_bad_spell: bool,
    /// When the bottleneck has sent what waits for it.
    busy_until: u64,
    /// When the last one arrives that was not held back.
    last_due: u64,
    history: VecDeque<(usize, Vec<u8>)>,
    pub(super) counters: Counters,
}

/// A datagram on its way: of which client, and when it arrives.
pub(super) struct Passing {
    pub(super) due: u64,
    pub(super) client: usize,
    pub(super) bytes: Vec<u8>,
}

/// What one datagram draws.
struct Draws {
    loss: f64,
    spell: f64,
    spell_loss: f64,
    jitter: f64,
    reorder: f64,
    duplicate: f64,
    corrupt: f64,
    corrupt_how: u64,
    truncate: f64,
    truncate_to: f64,
    replay: f64,
    replay_which: f64,
}

impl Draws {
    fn new(numbers: &mut Numbers) -> Self {
        Self {
            loss: unit(numbers),
            spell: unit(numbers),
            spell_loss: unit(numbers),
            jitter: unit(numbers),
            reorder: unit(numbers),
            duplicate: unit(numbers),
            corrupt: unit(numbers),
            corrupt_how: numbers.next(),
            truncate: unit(numbers),
            truncate_to: unit(numbers),
            replay: unit(numbers),
            replay_which: unit(numbers),
        }
    }
}

/// From 0 to below 1.
fn unit(numbers: &mut Numbers) -> f64 {
    (numbers.next() >> 11) as f64 / (1_u64 << 53) as f64
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a drawn number below 1 falls among so many.
fn pick(drawn: f64, count: usize) -> usize {
    ((drawn * count as f64) as usize).min(count.saturating_sub(1))
}

impl Path {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            numbers: Numbers::new(seed),
            in_bad_spell: false,
            busy_until: 0,
            last_due: 0,
            history: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What becomes of `bytes`, which came from or for `client`. `headers` is what IP and UDP add;
    /// `round_trip` what a queue may be measured in. Whatever arrives is handed to `out`.
    pub(super) fn pass(
        &mut self,
        now: u64,
        way: &Way,
        (headers, round_trip): (usize, Duration),
        client: usize,
        mut bytes: Vec<u8>,
        mut out: impl FnMut(Passing),
    ) {
        let draws = Draws::new(&mut self.numbers);
        self.counters.received += 1;
        let Some(sent) = self.bottleneck(now, way, headers, round_trip, bytes.len()) else {
            return;
        };
        if self.is_lost(way, &draws) {
            self.counters.lost += 1;
            return;
        }
        let due = self.arrival(sent, way, &draws);
        let replayed = (draws.replay < way.replay && !self.history.is_empty())
            .then(|| self.history[pick(draws.replay_which, self.history.len())].clone());
        if way.replay > 0.0 {
            self.remember(client, &bytes);
        }
        self.damage(way, &draws, &mut bytes);
        let twice = draws.duplicate < way.duplicate;
        let copy = twice.then(|| bytes.clone());
        out(Passing { due, client, bytes });
        if let Some(bytes) = copy {
            self.counters.duplicated += 1;
            out(Passing { due, client, bytes });
        }
        if let Some((client, bytes)) = replayed {
            self.counters.replayed += 1;
            out(Passing { due, client, bytes });
        }
    }

    /// When it has left the bottleneck, if it gets there and finds room.
    fn bottleneck(
        &mut self,
        now: u64,
        way: &Way,
        headers: usize,
        round_trip: Duration,
        length: usize,
    ) -> Option<u64> {
        if way.blackout.contains(&Duration::from_nanos(now)) {
            self.counters.in_blackout += 1;
            return None;
        }
        if way.mtu != 0 && length + headers > way.mtu {
            self.counters.too_large += 1;
            return None;
        }
        if way.rate == 0 {
            return Some(now);
        }
        let begin = self.busy_until.max(now);
        let bits_to_nanos =
            |bits: u64| (u128::from(bits) * 1_000_000_000 / u128::from(way.rate)) as u64;
        let waiting = (u128::from(begin - now) * u128::from(way.rate) / 8_000_000_000) as u64;
        let room = match way.queue {
            Queue::Endless => u64::MAX,
            Queue::Bytes(bytes) => bytes,
            Queue::PathTimes(times) => {
                let on_path = way.rate as f64 / 8.0 * round_trip.as_secs_f64();
                QUEUE_BYTES_MIN.max((times * on_path) as u64)
            }
        };
        // What is being sent at this moment counts as waiting; a lone one always passes.
        if waiting > 0 && waiting + length as u64 > room {
            self.counters.queue_full += 1;
            return None;
        }
        self.busy_until = begin.saturating_add(bits_to_nanos(length as u64 * 8));
        Some(self.busy_until)
    }

    fn is_lost(&mut self, way: &Way, draws: &Draws) -> bool {
        let turns = if self.in_bad_spell { way.burst.leave } else { way.burst.enter };
        if draws.spell < turns {
            self.in_bad_spell = !self.in_bad_spell;
        }
        // A spell of conditions that are no more ends with them.
        self.in_bad_spell &= way.burst.enter > 0.0;
        draws.loss < way.loss || (self.in_bad_spell && draws.spell_loss < way.burst.loss)
    }

    fn arrival(&mut self, sent: u64, way: &Way, draws: &Draws) -> u64 {
        let jitter = (draws.jitter * nanos(way.jitter) as f64) as u64;
        let due = sent.saturating_add(nanos(way.delay) + jitter).max(self.last_due);
        if draws.reorder < way.reorder {
            self.counters.held_back += 1;
            return due.saturating_add(nanos(way.reorder_by));
        }
        self.last_due = due;
        due
    }

    fn remember(&mut self, client: usize, bytes: &[u8]) {
        let mut kept = match self.history.len() {
            HISTORY => self.history.pop_front().map(|(_, kept)| kept).unwrap_or_default(),
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(bytes);
        self.history.push_back((client, kept));
    }

    fn damage(&mut self, way: &Way, draws: &Draws, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if draws.corrupt < way.corrupt {
            self.counters.corrupted += 1;
            let how = draws.corrupt_how;
            let place = (how >> 16) as usize % bytes.len();
            // Every value but zero: what is called corrupted is another datagram.
            let change = if how & 1 == 0 { 1 << (how >> 1 & 7) } else { (how >> 1) as u8 | 1 };
            bytes[place] ^= change;
        }
        if draws.truncate < way.truncate {
            self.counters.truncated += 1;
            bytes.truncate(pick(draws.truncate_to, bytes.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::{Burst, Conditions};
    use super::*;

    const MS: u64 = 1_000_000;

    /// Sends `count` datagrams of `length` bytes, one each `gap`, and gives what arrives: when,
    /// of which number, and the bytes, in the order of sending.
    fn send(
        seed: u64,
        words: &str,
        count: u32,
        length: usize,
        gap: u64,
    ) -> (Vec<(u64, u32, Vec<u8>)>, Counters) {
        let mut conditions = Conditions::default();
        conditions.apply(words, Duration::ZERO).unwrap();
        let mut path = Path::new(seed);
        let mut arrived = Vec::new();
        for number in 0..count {
            let mut bytes = vec![0x55; length];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let measure = (28, conditions.round_trip());
            path.pass(u64::from(number) * gap, &conditions.up, measure, 0, bytes, |passing| {
                arrived.push((passing.due, number, passing.bytes));
            });
        }
        (arrived, path.counters)
    }

    fn numbers(seed: u64, words: &str) -> Vec<u32> {
        send(seed, words, 2000, 100, MS).0.into_iter().map(|(_, number, _)| number).collect()
    }

    #[test]
    fn the_same_seed_loses_the_same_ones_whatever_else_happens() {
        let lossy = numbers(7, "loss=10%");
        assert!((1700..1900).contains(&lossy.len()), "{}", lossy.len());
        assert_eq!(numbers(7, "loss=10%,corrupt=50%,reorder=20%/5ms,jitter=3ms"), lossy);
        assert_ne!(numbers(8, "loss=10%"), lossy);
        // More loss loses those, and more.
        let more = numbers(7, "loss=20%");
        assert!(more.iter().all(|number| lossy.contains(number)));
    }

    #[test]
    fn bad_spells_are_as_long_and_as_frequent_as_they_should_be() {
        let count = 100_000;
        let (arrived, counters) = send(3, "burst=1%/25%", count, 100, MS);
        // In the long run enter / (enter + leave) of all are bad: 3.85 %; the spells make the
        // deviation larger than that of single losses: 0.15 %.
        let share = counters.lost as f64 / f64::from(count);
        assert!((0.032..0.045).contains(&share), "{share}");
        let mut gaps = 0;
        let mut last = None;
        for (_, number, _) in &arrived {
            if last.is_some_and(|last: u32| number - last > 1) {
                gaps += 1;
            }
            last = Some(*number);
        }
        let length = counters.lost as f64 / f64::from(gaps);
        assert!((3.6..4.4).contains(&length), "{length}");
        let (_, halved) = send(3, "burst=1%/25%/50%", count, 100, MS);
        let ratio = halved.lost as f64 / counters.lost as f64;
        assert!((0.45..0.55).contains(&ratio), "{ratio}");
    }

    #[test]
    fn jitter_delays_but_never_reorders_and_reordering_does() {
        let (arrived, _) = send(5, "delay=10ms,jitter=5ms", 2000, 100, MS);
        assert!(arrived.is_sorted_by_key(|(due, _, _)| *due));
        let delays = arrived.iter().map(|(due, number, _)| due - u64::from(*number) * MS);
        assert!(delays.clone().all(|delay| (10 * MS..15 * MS).contains(&delay)));
        // Those that wait for one before them are later than evenly spread ones, 12.5 ms.
        let mean = delays.sum::<u64>() / 2000;
        assert!((12_500_000..14_000_000).contains(&mean), "{mean}");

        let (arrived, counters) = send(5, "delay=10ms,reorder=25%/5ms", 2000, 100, MS);
        let (held, others): (Vec<_>, Vec<_>) =
            arrived.iter().partition(|(due, number, _)| *due > u64::from(*number) * MS + 10 * MS);
        assert_eq!(held.len() as u64, counters.held_back);
        assert!((430..570).contains(&held.len()), "{}", held.len());
        assert!(held.iter().all(|(due, number, _)| *due == u64::from(*number) * MS + 15 * MS));
        assert_eq!(others.len() + held.len(), 2000);
    }

    #[test]
    fn damage_is_one_place_or_the_end() {
        let (arrived, counters) = send(9, "corrupt=20%", 2000, 100, MS);
        let mut changed = 0;
        for (_, number, bytes) in &arrived {
            let mut sent = vec![0x55; 100];
            sent[..4].copy_from_slice(&number.to_be_bytes());
            match bytes.iter().zip(&sent).filter(|(got, sent)| got != sent).count() {
                0 => {}
                1 => changed += 1,
                more => panic!("{more} bytes of {number} changed"),
            }
        }
        assert_eq!(changed, counters.corrupted);
        assert!((330..470).contains(&changed), "{changed}");

        let (arrived, counters) = send(9, "truncate=20%", 2000, 100, MS);
        let short = arrived.iter().filter(|(_, _, bytes)| bytes.len() < 100).count() as u64;
        assert_eq!((arrived.len(), short), (2000, counters.truncated));
        assert!((330..470).contains(&short), "{short}");
    }

    #[test]
    fn a_copy_follows_and_a_replay_is_an_old_one() {
        let (arrived, counters) = send(4, "duplicate=10%", 2000, 100, MS);
        assert_eq!(arrived.len() as u64, 2000 + counters.duplicated);
        assert!((150..250).contains(&counters.duplicated), "{}", counters.duplicated);

        let (arrived, counters) = send(4, "replay=10%", 2000, 100, MS);
        assert_eq!(arrived.len() as u64, 2000 + counters.replayed);
        assert!((150..250).contains(&counters.replayed), "{}", counters.replayed);
        let number_in = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let old = arrived.iter().filter(|(_, number, bytes)| number_in(bytes) != *number);
        assert_eq!(old.clone().count() as u64, counters.replayed);
        assert!(old.clone().all(|(_, number, bytes)| {
            (1..=HISTORY as u32).contains(&(number - number_in(bytes)))
        }));
    }

    #[test]
    fn the_bottleneck_has_its_rate_and_its_queue() {
        // 1000 bytes a millisecond are 8 Mbit/s, through 4 Mbit/s: half of them pass.
        let words = "rate=4M,queue=10k,delay=5ms";
        let (arrived, counters) = send(1, words, 4000, 1000, MS);
        let share = arrived.len() as f64 / 4000.0;
        assert!((0.5..0.51).contains(&share), "{share}");
        assert_eq!(counters.queue_full, 4000 - arrived.len() as u64);
        // Each waits for at most 10 KiB and itself: 20.5 ms, and 5 ms on the way.
        let waits = arrived.iter().map(|(due, number, _)| due - u64::from(*number) * MS);
        assert!(waits.clone().max().unwrap() <= 25_500_000);
        assert!(waits.clone().min().unwrap() == 7_000_000);
        // One path of 10 ms at 400 Mbit/s holds 500,000 bytes.
        let (arrived, _) = send(1, "rate=400M,queue=1bdp,delay=5ms", 1000, 1000, 0);
        assert_eq!(arrived.len(), 500);
        // Nothing is dropped without a limit.
        assert_eq!(send(1, "rate=400M,delay=5ms", 1000, 1000, 0).0.len(), 1000);
    }

    #[test]
    fn large_ones_vanish_and_in_the_dark_all_do() {
        assert_eq!(send(1, "mtu=1280", 10, 1252, MS).0.len(), 10);
        let (arrived, counters) = send(1, "mtu=1280", 10, 1253, MS);
        assert_eq!((arrived.len(), counters.too_large), (0, 10));

        let (arrived, counters) = send(1, "blackout=10ms+20ms", 100, 100, MS);
        assert_eq!((arrived.len(), counters.in_blackout), (80, 20));
        assert!(arrived.iter().all(|(_, number, _)| !(10..30).contains(number)));
    }

    #[test]
    fn a_bad_spell_ends_with_its_conditions() {
        let mut path = Path::new(1);
        let mut arrived = 0;
        let mut pass = |way: &Way| {
            path.pass(0, way, (28, Duration::ZERO), 0, vec![0; 10], |_| arrived += 1);
        };
        let burst = Burst { enter: 1.0, leave: 0.0, loss: 1.0 };
        pass(&Way { burst, ..Way::default() });
        pass(&Way::default());
        assert_eq!(arrived, 1);
    }
}
