//! One seed: draws the circumstances, lets the two ends live, and sees them come to rest.

use crate::end::{End, World};
use crate::story::{Part, Story};
use crate::wire::{Disorder, Weather, Wire};
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Order};
use seaprox_proto::message::CHANNELS_MAX;
use seaprox_proto::session::{Config, Holdings, Memory, Role, Session};
use std::ops::AddAssign;

/// With a path up, and somebody who wants to read what another wants to send, for so long nothing
/// may stand still.
const STUCK_MILLIS: u64 = 10_000;

/// When faults are over, everybody is done after so long.
const REST_MILLIS: u32 = 300_000;

/// So many turns at one instant: somebody spins.
const SPIN_TURNS: u32 = 10_000;

/// What went on, to see that the seeds do something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) runs: u64,
    pub(crate) channels: u64,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) deaths: u64,
    pub(crate) forged: u64,
    /// Packets that had to come again.
    pub(crate) refused: u64,
    /// Channels of which something came before their OPEN.
    pub(crate) early: u64,
    /// Times that a gap was closed.
    pub(crate) joined: u64,
    pub(crate) turns: u64,
    pub(crate) simulated_seconds: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.runs += other.runs;
        self.channels += other.channels;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.deaths += other.deaths;
        self.forged += other.forged;
        self.refused += other.refused;
        self.early += other.early;
        self.joined += other.joined;
        self.turns += other.turns;
        self.simulated_seconds += other.simulated_seconds;
    }
}

/// How everybody behaves. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) order: Order,
    pub(crate) peer_channels_max: [usize; 2],
    /// How many channels of each end the carrier has streams for.
    pub(crate) carrier_channels: usize,
    pub(crate) channels_max: usize,
    pub(crate) packet_bytes_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) answer_millis_max: usize,
    pub(crate) stall_millis_max: usize,
    pub(crate) open: u16,
    pub(crate) abort: u16,
    pub(crate) stop: u16,
    pub(crate) leave: u16,
    pub(crate) stall: u16,
    pub(crate) refuse: u16,
    pub(crate) more: u16,
    pub(crate) end: u16,
    pub(crate) drain: u16,
    pub(crate) die: u16,
    /// An end sends what no honest one would.
    pub(crate) forges: bool,
    pub(crate) closes: bool,
}

/// The circumstances.
#[derive(Clone, Copy, Debug)]
struct Circumstances {
    habits: Habits,
    weather: Weather,
    idle_millis: u32,
    opens_per_second_max: u32,
    first_offset: u32,
    /// How long faults happen.
    wild_millis: u32,
    shape: usize,
}

impl Habits {
    /// What the carrier can do.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            order: self.order,
            channels_max: self.carrier_channels as u16,
            sent_bytes_max: self.packet_bytes_max,
        }
    }
}

impl Circumstances {
    fn draw(random: &mut Random) -> Circumstances {
        // Each chance is itself drawn: often none, sometimes rare, sometimes frequent.
        let mut chance = |most: usize| match random.below(3) {
            0 => 0,
            _ => random.scaled(most / 16) as u16 * 16,
        };
        let [abort, stop, leave] = [chance(3000), chance(3000), chance(3000)];
        let [stall, refuse, more] = [chance(10_000), chance(40_000), chance(20_000)];
        let [drain, die, pieces] = [chance(100), chance(800), chance(60_000)];
        let end = 1000 + chance(60_000);
        let open = 1000 + chance(60_000);
        let shape = random.below(4).min(2);
        let slots = [6, 8, 12][shape];
        let mut slots_max = || [0, 1, random.between(1, slots), slots][random.below(4)];
        let peer_channels_max = match (slots_max(), slots_max()) {
            (0, 0) => [1, 1],
            (first, second) => [first, second],
        };
        let order = random.pick(&[Order::One, Order::Streams, Order::Any, Order::Any]);
        let near_wrap = u32::MAX - random.below(1 << 16) as u32;
        Circumstances {
            habits: Habits {
                order,
                peer_channels_max,
                carrier_channels: random.pick(&[1, 3, 20, CHANNELS_MAX as usize]),
                channels_max: random.between(1, 100),
                packet_bytes_max: random.pick(&[100, 128, 700, 4096, 16_384, 16_384]),
                bytes_max: random.scaled(1 << 20),
                answer_millis_max: random.scaled(3000),
                stall_millis_max: random.scaled(8000),
                open,
                abort,
                stop,
                leave,
                stall,
                refuse,
                more,
                end,
                drain,
                die,
                forges: random.below(12) == 0,
                closes: random.below(12) == 0,
            },
            weather: Weather {
                order,
                delay_millis: random.scaled(100) as u32 - 1,
                jitter_millis: random.scaled(64) as u32 - 1,
                pieces,
                capacity_bytes: random.between(16, 128) << 10,
                disorder: Disorder::draw(random),
            },
            idle_millis: random.between(3000, 15_000) as u32,
            opens_per_second_max: random.pick(&[1, 3, 1000, 1000]),
            first_offset: if random.below(2) == 0 { 0 } else { near_wrap },
            wild_millis: random.between(100, 15_000) as u32,
            shape,
        }
    }
}

/// Where the sessions live: few chunks, many, and channels with a small first credit.
pub(crate) struct Memories {
    tight: [Memory<6, 52>; 2],
    wide: [Memory<8, 1200>; 2],
    many: [Memory<520, 1064>; 2],
}

impl Memories {
    pub(crate) const fn new() -> Memories {
        Memories {
            tight: [const { Memory::new() }; 2],
            wide: [const { Memory::new() }; 2],
            many: [const { Memory::new() }; 2],
        }
    }
}

fn sessions<'m, const CHANNELS: usize, const CHUNKS: usize>(
    [first, second]: &'m mut [Memory<CHANNELS, CHUNKS>; 2],
    configs: [Config; 2],
) -> [Session<'m>; 2] {
    [first.session(configs[0]), second.session(configs[1])]
}

/// Runs a seed; panics if something is not as it must be.
pub(crate) fn run(memories: &mut Memories, seed: u64, is_traced: bool) -> Summary {
    let mut random = Random::new(seed);
    let circumstances = Circumstances::draw(&mut random);
    if is_traced {
        println!("{circumstances:#?}");
    }
    let Circumstances { habits, weather, .. } = circumstances;
    let configs = [Role::Initiator, Role::Acceptor].map(|role| Config {
        role,
        peer_channels_max: habits.peer_channels_max[role as usize] as u16,
        idle_millis: circumstances.idle_millis,
        opens_per_second_max: circumstances.opens_per_second_max,
        first_offset: circumstances.first_offset,
    });
    let [first, second] = match circumstances.shape {
        0 => sessions(&mut memories.tight, configs),
        1 => sessions(&mut memories.wide, configs),
        _ => sessions(&mut memories.many, configs),
    };
    let now = Instant::from_millis(random.below(1 << 20) as u64);
    let mut run = Run {
        ends: [End::new(0, first), End::new(1, second)],
        world: World {
            now,
            random,
            habits,
            calm: false,
            is_silent: false,
            is_traced,
            stories: Vec::new(),
            open: Vec::new(),
            wires: [Wire::new(weather), Wire::new(weather)],
            summary: Summary { runs: 1, ..Summary::default() },
        },
        calm_at: now.after(circumstances.wild_millis),
        starts_at: now,
        silent_since: now,
        idle_millis: circumstances.idle_millis,
        spins: 0,
    };
    while !run.turn() {}
    run.judge();
    run.world.summary.simulated_seconds = run.world.now.since(now) / 1000;
    run.world.summary
}

struct Run<'m> {
    ends: [End<'m>; 2],
    world: World,
    calm_at: Instant,
    /// When the next link is made, if there is none.
    starts_at: Instant,
    silent_since: Instant,
    idle_millis: u32,
    /// Turns since time went on.
    spins: u32,
}

impl Run<'_> {
    /// Lets both ends have their turn; says whether everything has come to rest.
    fn turn(&mut self) -> bool {
        let world = &mut self.world;
        world.summary.turns += 1;
        world.calm = world.now >= self.calm_at;
        let first = world.random.below(2);
        let mut went_on = false;
        for nth in [first, 1 - first] {
            went_on |= self.ends[nth].turn(world);
        }
        went_on |= self.fate();
        self.watch();
        if self.is_over() {
            return true;
        }
        self.spins += 1;
        assert!(self.spins < SPIN_TURNS, "spins");
        if !went_on {
            self.pass_time();
        } else if self.world.random.below(3) == 0 {
            // A turn takes time.
            self.world.now = self.world.now.after(1);
            self.spins = 0;
        }
        false
    }

    /// Links die, and are made anew. Says whether that happened.
    fn fate(&mut self) -> bool {
        let world = &mut self.world;
        let die = if world.calm { 0 } else { world.habits.die };
        match [self.ends[0].is_down, self.ends[1].is_down] {
            [true, true] if world.now < self.starts_at => false,
            [true, true] => {
                world.trace(|| "a new link".into());
                world.wires.iter_mut().for_each(Wire::cut);
                world.is_silent = false;
                self.ends.iter_mut().for_each(|end| end.start(world.habits.bounds(), world.now));
                true
            }
            [false, false] if !world.is_silent && world.random.chance(die) => {
                world.trace(|| "the link dies".into());
                self.starts_at = world.now.after(world.random.scaled(3000) as u32);
                self.silent_since = world.now;
                match world.random.below(4) {
                    0 => self.ends.iter_mut().for_each(|end| end.die(world)),
                    // Only one end is told.
                    1 => self.ends[world.random.below(2)].die(world),
                    // Nobody is told.
                    _ => {}
                }
                world.wires.iter_mut().for_each(Wire::cut);
                world.wires.iter_mut().for_each(|wire| wire.is_black_hole = true);
                world.is_silent = true;
                true
            }
            [first, second] if first != second && !world.is_silent => {
                // The carrier was closed: the other end is told once it has read everything.
                let down = usize::from(second);
                let is_told = world.wires[down].is_empty();
                if is_told {
                    self.starts_at = world.now.after(world.random.scaled(3000) as u32);
                    self.ends[1 - down].die(world);
                }
                is_told
            }
            _ => {
                let silent = if world.is_silent { world.now.since(self.silent_since) } else { 0 };
                assert!(silent <= u64::from(self.idle_millis) + 1000, "nobody noticed");
                false
            }
        }
    }

    fn watch(&mut self) {
        let up = self.ends.iter().all(|end| !end.is_down && end.session.is_up());
        let world = &mut self.world;
        for &serial in &world.open {
            let story = &mut world.stories[serial];
            for end in 0..2 {
                story.watch(end, world.now, up && !world.is_silent, STUCK_MILLIS);
            }
        }
        let stories = &world.stories;
        let is_here = |serial: &usize| stories[*serial].parts.iter().flatten().any(Part::is_here);
        world.open.retain(is_here);
    }

    fn is_over(&self) -> bool {
        let world = &self.world;
        let limit = self.calm_at.after(REST_MILLIS);
        assert!(world.now < limit, "does not come to rest: {:?}", world.open);
        let up = self.ends.iter().all(|end| !end.is_down && end.session.is_up() && end.is_quiet());
        let at_rest = world.open.is_empty() && world.wires.iter().all(Wire::is_empty);
        world.calm && up && at_rest && !world.is_silent
    }

    /// To the next instant at which something may happen.
    fn pass_time(&mut self) {
        let world = &mut self.world;
        let parts = world.open.iter().flat_map(|&serial| world.stories[serial].parts.iter());
        let parts = parts.flatten().filter(|part| part.is_here());
        let users = parts.flat_map(|part| [Some(part.stalled_until), part.answers_at]);
        let arrivals = world.wires.iter().map(Wire::next_at);
        let timeouts = self.ends.iter().filter(|end| !end.is_down).map(|end| end.session.timeout());
        let next = users.chain(arrivals).chain(timeouts).chain([Some(self.starts_at)]);
        let next = next.flatten().filter(|&at| at > world.now).min();
        let occasion = world.now.after(world.random.scaled(100) as u32);
        world.now = match next {
            Some(next) if world.calm => next,
            Some(next) => next.min(occasion),
            None => occasion,
        };
        self.spins = 0;
    }

    /// Everything has come to rest: nothing is left, and everybody knows what they must.
    fn judge(&self) {
        let nothing =
            Holdings { channels: 0, chunks: 0, ranges: 0, reserved: 0, owing: 0, waiting: 0 };
        for end in &self.ends {
            assert_eq!(end.session.holdings(), nothing, "at {}", end.number);
        }
        self.world.stories.iter().for_each(Story::judge);
    }
}
