//! What a seed decides before anything happens.

use super::{LINKS, SIDES_MAX};
use crate::engine::Habits;
use crate::net::{Faults, Weather};
use seaprox::sim::Random;
use seaprox_proto::session::{Config, Role};
use seaprox_udp::congestion::Algorithm;

#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) habits: Habits,
    pub(super) faults: Faults,
    pub(super) weather: [Weather; 2],
    pub(super) algorithm: Algorithm,
    /// Of the acceptor, and initiators at most.
    pub(super) links: usize,
    pub(super) initiators: usize,
    pub(super) is_tight: bool,
    /// Of the acceptor's links.
    pub(super) channels: u16,
    /// Places in the tables: of each initiator, of the acceptor.
    pub(super) sides: [usize; 2],
    pub(super) idle_millis: u32,
    pub(super) wait_millis: u32,
    pub(super) wild_millis: u32,
    /// That a path is another one from now on, each round.
    pub(super) rewritten: u16,
    pub(super) darkened: u16,
    pub(super) dark_millis_max: usize,
    pub(super) narrowed: u16,
}

/// Each chance is itself drawn: often none, sometimes rare, sometimes frequent.
fn chance(random: &mut Random, most: usize) -> u16 {
    match random.below(3) {
        0 => 0,
        _ => random.scaled(most / 16) as u16 * 16,
    }
}

fn weather(random: &mut Random) -> Weather {
    let rate = random.pick(&[0, 0, 1_000_000, 12_500_000]);
    let queue_bytes = 3000 + random.scaled(1 << 20) as u64;
    Weather {
        rate,
        queue_bytes,
        marked_bytes: random.pick(&[0, queue_bytes / 2]),
        delay_micros: random.scaled(100_000) as u64 - 1,
        jitter_micros: random.scaled(30_000) as u64 - 1,
        lost: chance(random, 10_000),
        burst: chance(random, 300),
        burst_micros: random.scaled(200_000) as u64,
        late: chance(random, 16_000),
        late_micros: random.scaled(50_000) as u64,
        copied: chance(random, 10_000),
        corrupted: chance(random, 3000),
        cut: chance(random, 3000),
        longest: random.pick(&[1472, 1472, 1472, 1252, 572]),
    }
}

impl Circumstances {
    pub(super) fn draw(random: &mut Random) -> Circumstances {
        let mut draw = |most: usize| chance(random, most);
        let [abort, stop, stall, refuse] = [draw(3000), draw(3000), draw(10_000), draw(40_000)];
        let [pause, die, lazy] = [draw(3000), draw(300), draw(60_000)];
        let [no_memory, full] = [draw(3000), draw(10_000)];
        let [rewritten, darkened, narrowed] = [draw(300), draw(200), draw(200)];
        let (open, end) = (1000 + draw(60_000), 1000 + draw(60_000));
        let links = random.between(1, LINKS);
        let is_tight = random.below(2) == 0;
        Circumstances {
            habits: Habits {
                channels_max: random.between(1, 24),
                bytes_max: random.scaled(1 << 17),
                answer_millis_max: random.scaled(1000),
                stall_millis_max: random.scaled(3000),
                pause_millis_max: random.scaled(300),
                told_max: random.pick(&[1, 5, 128, 128]),
                open,
                awaits: random.pick(&[0, 0, 30_000, u16::MAX]),
                abort,
                stop,
                stall,
                pause,
                refuse,
                end,
                lazy,
                die,
            },
            faults: Faults { no_memory, full, batch: random.scaled(64) },
            weather: [weather(random), weather(random)],
            algorithm: random.pick(&Algorithm::ALL),
            links,
            initiators: random.between(1, links),
            is_tight,
            channels: random.between(1, if is_tight { 6 } else { 8 }) as u16,
            sides: [random.between(1, SIDES_MAX), random.between(1, 16)],
            idle_millis: random.between(6000, 15_000) as u32,
            wait_millis: random.pick(&[0, 300, 5000, 1_000_000]),
            wild_millis: random.between(100, 8000) as u32,
            rewritten,
            darkened,
            dark_millis_max: random.scaled(20_000),
            narrowed,
        }
    }

    pub(super) fn config(&self, role: Role) -> Config {
        Config {
            role,
            peer_channels_max: if role == Role::Acceptor { self.channels } else { 0 },
            idle_millis: self.idle_millis,
            opens_per_second_max: 1000,
            first_offset: 0,
        }
    }
}
