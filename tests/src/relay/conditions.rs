//! What a hostile relay does to datagrams, each way by itself, and the words that say so. Knows no
//! socket and no clock.
//!
//! The words are `NAME=VALUE`, separated by commas or blanks; without a prefix they are for both
//! ways, after `up.` (to the server) or `down.` for one. See [`WORDS`].

use std::ops::Range;
use std::time::Duration;

/// The words that [`Conditions::apply`] understands.
pub const WORDS: &str = "\
  loss=1%              a datagram vanishes, each by itself
  burst=1%/25%[/90%]   Gilbert: a good spell ends, a bad one ends, loss in a bad one (100%)
  delay=10ms           on the way; rtt=20ms is half of it each way
  jitter=2ms           more of it, from none to so much; nobody overtakes
  reorder=25%/5ms      held back by so much, and overtaken
  duplicate=10%        sent twice
  corrupt=1%           a bit flips, or a byte becomes another
  truncate=1%          its end is cut off
  replay=1%            an old one is sent once more behind it
  rate=400M            bits a second of UDP payload; 0: without limit
  queue=64k            bytes that wait for that rate, the rest is dropped; or 1bdp; or 0: all may
  mtu=1280             larger IP packets vanish without a word; 0: none
  blackout=[1s+]2s     everything vanishes, from now or later, for so long
  rebind=500ms         a new port towards the server so often; 0: never; now: at once
";

/// What happens on both ways, and to the ports between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// To the server.
    pub up: Way,
    /// To the clients.
    pub down: Way,
    /// How often each client gets a new port towards the server; zero: never.
    pub rebind_every: Duration,
    /// So many times each client got a new port at once: one more is one more time.
    pub rebinds: u64,
}

/// What happens to datagrams on one way. Probabilities are from 0 to 1, each datagram's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Way {
    /// It vanishes behind the bottleneck.
    pub loss: f64,
    /// It vanishes there together with its neighbours.
    pub burst: Burst,
    /// How long it is on the way.
    pub delay: Duration,
    /// As much longer as this at most, evenly; the order stays.
    pub jitter: Duration,
    /// It is held back by `reorder_by`, and overtaken by others.
    pub reorder: f64,
    /// So long.
    pub reorder_by: Duration,
    /// It arrives twice.
    pub duplicate: f64,
    /// One bit flips, or one byte becomes another.
    pub corrupt: f64,
    /// It keeps only its beginning, maybe nothing.
    pub truncate: f64,
    /// One of the last [`super::HISTORY`] arrives again behind it.
    pub replay: f64,
    /// Of the bottleneck that all clients share: bits of UDP payload a second; zero: without limit.
    pub rate: u64,
    /// What waits for it.
    pub queue: Queue,
    /// The largest IP packet that passes, headers counted; zero: all.
    pub mtu: usize,
    /// While everything vanishes, since the start of the relay.
    pub blackout: Range<Duration>,
}

/// Gilbert and Elliott: bad spells, in which datagrams are lost. The expected length of a bad one
/// is `1 / leave` datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Burst {
    /// That a datagram begins a bad spell.
    pub enter: f64,
    /// That a datagram ends it.
    pub leave: f64,
    /// That a datagram in it is lost.
    pub loss: f64,
}

/// The bytes that wait for the bottleneck; what does not fit is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Queue {
    /// All of them.
    #[default]
    Endless,
    /// So many.
    Bytes(u64),
    /// So many times what fits on the path there and back, but [`QUEUE_BYTES_MIN`] at least.
    PathTimes(f64),
}

/// The least that [`Queue::PathTimes`] gives: a burst must fit where the delay is nothing.
pub const QUEUE_BYTES_MIN: u64 = 64 * 1024;

impl Conditions {
    /// Changes what `words` say, all or, if one is not understood, nothing. `now` is the time
    /// since the start of the relay.
    ///
    /// # Errors
    /// The word that is not understood.
    pub fn apply(&mut self, words: &str, now: Duration) -> Result<(), String> {
        let mut changed = self.clone();
        let words = words.split(|c: char| c == ',' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            changed.apply_one(word, now).ok_or_else(|| format!("not understood: {word}"))?;
        }
        *self = changed;
        Ok(())
    }

    fn apply_one(&mut self, word: &str, now: Duration) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "rebind" if value == "now" => self.rebinds += 1,
            "rebind" => self.rebind_every = duration(value)?,
            "rtt" => self.both(|way, half| way.delay = half, duration(value)? / 2),
            _ => {
                if let Some(name) = name.strip_prefix("up.") {
                    self.up.apply(name, value, now)?;
                } else if let Some(name) = name.strip_prefix("down.") {
                    self.down.apply(name, value, now)?;
                } else {
                    self.up.apply(name, value, now)?;
                    self.down.apply(name, value, now)?;
                }
            }
        }
        Some(())
    }

    /// Sets the same on both ways.
    pub fn both<T: Clone>(&mut self, set: impl Fn(&mut Way, T), value: T) {
        set(&mut self.up, value.clone());
        set(&mut self.down, value);
    }

    /// The time there and back, without jitter and queues.
    pub fn round_trip(&self) -> Duration {
        self.up.delay + self.down.delay
    }
}

impl Way {
    fn apply(&mut self, name: &str, value: &str, now: Duration) -> Option<()> {
        match name {
            "loss" => self.loss = probability(value)?,
            "burst" => self.burst = burst(value)?,
            "delay" => self.delay = duration(value)?,
            "jitter" => self.jitter = duration(value)?,
            "reorder" => {
                let (share, by) = value.split_once('/')?;
                (self.reorder, self.reorder_by) = (probability(share)?, duration(by)?);
            }
            "duplicate" => self.duplicate = probability(value)?,
            "corrupt" => self.corrupt = probability(value)?,
            "truncate" => self.truncate = probability(value)?,
            "replay" => self.replay = probability(value)?,
            "rate" => self.rate = amount(value, 1000)?,
            "queue" => self.queue = queue(value)?,
            "mtu" => self.mtu = value.parse().ok()?,
            "blackout" => {
                let (after, lasting) = value.split_once('+').unwrap_or(("0s", value));
                let begin = now + duration(after)?;
                self.blackout = begin..begin + duration(lasting)?;
            }
            _ => return None,
        }
        Some(())
    }
}

fn probability(text: &str) -> Option<f64> {
    let value: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

fn burst(text: &str) -> Option<Burst> {
    let mut values = text.split('/').map(probability);
    let (enter, leave) = (values.next()??, values.next()??);
    let loss = values.next().unwrap_or(Some(1.0))?;
    values.next().is_none().then_some(Burst { enter, leave, loss })
}

fn queue(text: &str) -> Option<Queue> {
    if let Some(times) = text.strip_suffix("bdp") {
        let times: f64 = times.parse().ok()?;
        return (times > 0.0 && times.is_finite()).then_some(Queue::PathTimes(times));
    }
    match amount(text, 1024)? {
        0 => Some(Queue::Endless),
        bytes => Some(Queue::Bytes(bytes)),
    }
}

/// The longest time that can be said: more is a slip of the pen, and sums of times stay in range.
const DURATION_MAX_SECONDS: f64 = 1e6;

/// `2s`, `10ms`, `50us`; a number alone is nothing but zero.
fn duration(text: &str) -> Option<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = units
        .into_iter()
        .find_map(|(unit, size)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * size))
        .or((text == "0").then_some(0.0))?;
    (0.0..=DURATION_MAX_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A number with `k`, `M` or `G` behind it, whose size is a power of `kilo`.
fn amount(text: &str, kilo: u64) -> Option<u64> {
    let (digits, power) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 1),
        'M' => (&text[..text.len() - 1], 2),
        'G' => (&text[..text.len() - 1], 3),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(kilo.pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Result<Conditions, String> {
        let mut conditions = Conditions::default();
        conditions.apply(words, Duration::from_secs(10))?;
        Ok(conditions)
    }

    #[test]
    fn every_word_says_what_it_says() {
        let both = of("loss=1%,burst=1%/0.25/90% delay=10ms,jitter=500us,reorder=25%/5ms,\
                       duplicate=10%,corrupt=2%,truncate=3%,replay=4%,rate=400M,queue=1bdp,\
                       mtu=1280,blackout=1s+2s,rebind=500ms,rebind=now")
        .unwrap();
        let ms = Duration::from_millis;
        let way = Way {
            loss: 0.01,
            burst: Burst { enter: 0.01, leave: 0.25, loss: 0.9 },
            delay: ms(10),
            jitter: Duration::from_micros(500),
            reorder: 0.25,
            reorder_by: ms(5),
            duplicate: 0.1,
            corrupt: 0.02,
            truncate: 0.03,
            replay: 0.04,
            rate: 400_000_000,
            queue: Queue::PathTimes(1.0),
            mtu: 1280,
            blackout: ms(11_000)..ms(13_000),
        };
        let expected = Conditions { up: way.clone(), down: way, rebind_every: ms(500), rebinds: 1 };
        assert_eq!(both, expected);
    }

    #[test]
    fn one_way_leaves_the_other_alone() {
        let one = of("up.loss=0.5,rtt=20ms,down.queue=64k,down.blackout=3s").unwrap();
        assert_eq!((one.up.loss, one.down.loss), (0.5, 0.0));
        assert_eq!(one.round_trip(), Duration::from_millis(20));
        assert_eq!((one.up.queue, one.down.queue), (Queue::Endless, Queue::Bytes(65_536)));
        assert!(one.up.blackout.is_empty());
        assert_eq!(one.down.blackout, Duration::from_secs(10)..Duration::from_secs(13));
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        for bad in ["loss=101%", "loss=x", "loss", "lose=1%", "delay=10", "delay=-1s", "delay=1e9s"]
        {
            let mut conditions = of("loss=2%").unwrap();
            let words = format!("delay=5ms,{bad}");
            assert!(conditions.apply(&words, Duration::ZERO).unwrap_err().contains(bad));
            assert_eq!(conditions, of("loss=2%").unwrap(), "{bad}");
        }
        for bad in
            ["reorder=1%", "burst=1%", "burst=1%/1%/1%/1%", "rate=1T", "queue=-1bdp", "rate="]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
