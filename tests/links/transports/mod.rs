//! Links as the worker sees them: one or two [`LinkDest`]s and a [`LinkSource`] on simulated
//! carriers, each driven by a stand-in for the worker. One seed: draws the circumstances, lets all
//! live, and sees them come to rest.

mod engine;
mod net;
mod role;
mod story;
mod users;
mod waiting;

use crate::wire::{Disorder, Weather};
use engine::{Engine, Habits, World};
use net::{Acceptor, Connector, Faults, Net};
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox_proto::carrier::Order;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_proto::wanted::Wanted;
use std::cell::RefCell;
use std::ops::AddAssign;

/// With a carrier that carries, and somebody who wants to read what another wants to send, for so
/// long nothing may stand still.
const STUCK_MILLIS: u64 = 10_000;

/// When faults are over, everybody is done after so long.
const REST_MILLIS: u32 = 300_000;

/// So many rounds at one instant: somebody spins.
const SPIN_ROUNDS: u32 = 20_000;

/// Links of the acceptor, at most.
const LINKS: usize = 2;

/// What went on, to see that the seeds do something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    runs: u64,
    channels: u64,
    bytes: u64,
    packets: u64,
    deaths: u64,
    rounds: u64,
    simulated_seconds: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.runs += other.runs;
        self.channels += other.channels;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.deaths += other.deaths;
        self.rounds += other.rounds;
        self.simulated_seconds += other.simulated_seconds;
    }
}

#[derive(Clone, Copy, Debug)]
struct Circumstances {
    habits: Habits,
    faults: Faults,
    weather: Weather,
    /// Of the acceptor, and initiators at most.
    links: usize,
    initiators: usize,
    order: Order,
    is_tight: bool,
    /// Of the acceptor's links.
    channels: u16,
    /// Places in the tables: of each initiator, of the acceptor.
    sides: [usize; 2],
    idle_millis: u32,
    opens_per_second_max: u32,
    wait_millis: u32,
    wild_millis: u32,
}

impl Circumstances {
    fn draw(random: &mut Random) -> Circumstances {
        // Each chance is itself drawn: often none, sometimes rare, sometimes frequent.
        let mut chance = |most: usize| match random.below(3) {
            0 => 0,
            _ => random.scaled(most / 16) as u16 * 16,
        };
        let [abort, stop, stall, refuse] =
            [chance(3000), chance(3000), chance(10_000), chance(40_000)];
        let [pause, die, pieces, lazy] =
            [chance(3000), chance(800), chance(60_000), chance(60_000)];
        let [full, no_memory, lost] = [chance(10_000), chance(3000), chance(500)];
        let refused = chance(30_000);
        let (open, end) = (1000 + chance(60_000), 1000 + chance(60_000));
        let links = random.between(1, LINKS);
        let order = random.pick(&[Order::One, Order::Streams, Order::Any, Order::Any]);
        let is_tight = random.below(2) == 0;
        let channels = random.between(1, if is_tight { 6 } else { 8 });
        Circumstances {
            habits: Habits {
                channels_max: random.between(1, 60),
                bytes_max: random.scaled(1 << 19),
                answer_millis_max: random.scaled(3000),
                stall_millis_max: random.scaled(5000),
                pause_millis_max: random.scaled(1000),
                told_max: random.pick(&[1, 2, 5, 128, 128]),
                open,
                abort,
                stop,
                stall,
                pause,
                refuse,
                end,
                lazy,
                die,
            },
            faults: Faults {
                full,
                full_millis_max: random.scaled(500),
                no_memory,
                lost,
                refused,
                connect_millis_max: random.scaled(3000),
            },
            weather: Weather {
                order,
                delay_millis: random.scaled(100) as u32 - 1,
                jitter_millis: random.scaled(64) as u32 - 1,
                pieces,
                capacity_bytes: random.between(40, 128) << 10,
                disorder: Disorder::draw(random),
            },
            links,
            initiators: random.between(1, links),
            order,
            is_tight,
            channels: channels as u16,
            sides: [random.between(1, 12), random.between(1, 16)],
            idle_millis: random.between(3000, 15_000) as u32,
            opens_per_second_max: random.pick(&[1, 1000, 1000, 1000]),
            wait_millis: random.pick(&[0, 300, 5000, 1_000_000]),
            wild_millis: random.between(100, 15_000) as u32,
        }
    }

    fn config(&self, role: Role) -> Config {
        Config {
            role,
            peer_channels_max: if role == Role::Acceptor { self.channels } else { 0 },
            idle_millis: self.idle_millis,
            opens_per_second_max: self.opens_per_second_max,
            first_offset: 0,
        }
    }
}

/// Where the links live: few chunks, and many.
pub(crate) struct Memories {
    tight: Links<6, 52>,
    wide: Links<8, 1200>,
}

struct Links<const CHANNELS: usize, const CHUNKS: usize> {
    initiators: [LinkMemory<CHANNELS, CHUNKS>; LINKS],
    acceptor: [LinkMemory<CHANNELS, CHUNKS>; LINKS],
}

impl<const CHANNELS: usize, const CHUNKS: usize> Links<CHANNELS, CHUNKS> {
    const fn new() -> Self {
        Links {
            initiators: [const { LinkMemory::new() }; LINKS],
            acceptor: [const { LinkMemory::new() }; LINKS],
        }
    }
}

impl Memories {
    pub(crate) const fn new() -> Memories {
        Memories { tight: Links::new(), wide: Links::new() }
    }
}

/// Runs a seed; panics if something is not as it must be.
pub(crate) fn run(memories: &mut Memories, seed: u64, is_traced: bool) -> Summary {
    let mut random = Random::new(seed);
    let circumstances = Circumstances::draw(&mut random);
    if is_traced {
        println!("{circumstances:#?}");
    }
    let start = (random, circumstances, is_traced);
    let shared = circumstances.order == Order::Any;
    match (shared, circumstances.links == 1, circumstances.is_tight) {
        (true, true, true) => run_in::<true, 1, _, _>(&mut memories.tight, start),
        (true, true, false) => run_in::<true, 1, _, _>(&mut memories.wide, start),
        (true, false, true) => run_in::<true, LINKS, _, _>(&mut memories.tight, start),
        (true, false, false) => run_in::<true, LINKS, _, _>(&mut memories.wide, start),
        (false, true, true) => run_in::<false, 1, _, _>(&mut memories.tight, start),
        (false, true, false) => run_in::<false, 1, _, _>(&mut memories.wide, start),
        (false, false, true) => run_in::<false, LINKS, _, _>(&mut memories.tight, start),
        (false, false, false) => run_in::<false, LINKS, _, _>(&mut memories.wide, start),
    }
}

fn run_in<const SHARED: bool, const N: usize, const CHANNELS: usize, const CHUNKS: usize>(
    memories: &mut Links<CHANNELS, CHUNKS>,
    (mut random, circumstances, is_traced): (Random, Circumstances, bool),
) -> Summary {
    let Circumstances { habits, faults, weather, idle_millis, .. } = circumstances;
    let start = Instant::from_millis(random.below(1 << 20) as u64);
    let net = RefCell::new(Net::new(start, random.bits(), faults, weather));
    let world = World {
        net: &net,
        now: start,
        calm: false,
        is_traced,
        random,
        habits,
        idle_millis,
        refuses: circumstances.opens_per_second_max == 1,
        stories: Vec::new(),
        bytes: 0,
        deaths: 0,
    };
    let [initiator, acceptor] =
        [Role::Initiator, Role::Acceptor].map(|role| circumstances.config(role));
    let links = memories.initiators.iter_mut().take(circumstances.initiators);
    let initiators = links.enumerate().map(|(number, memory)| {
        let options = DestOptions {
            wanted: Wanted::DEFAULT,
            wait_millis: circumstances.wait_millis,
            connect_millis: 2000,
            seed: number as u32,
        };
        let connector = Connector::<SHARED>::new(&net, number);
        let dest = LinkDest::new(memory.link(0, initiator), connector, options);
        Engine::new(number, dest, &world, circumstances.sides[0])
    });
    let initiators = initiators.collect();
    let memories = memories.acceptor.first_chunk_mut::<N>().expect("at most so many");
    let source = LinkSource::new(Acceptor::<SHARED>(&net), memories, acceptor);
    let acceptor = Engine::new(LINKS, source, &world, circumstances.sides[1]);
    let mut run =
        Run { initiators, acceptor, world, circumstances, start, rounds_here: 0, rounds: 0 };
    while !run.round() {}
    run.fill();
    let packets = net.borrow().packets;
    Summary {
        runs: 1,
        channels: run.world.stories.len() as u64,
        bytes: run.world.bytes,
        packets,
        deaths: run.world.deaths,
        rounds: run.rounds,
        simulated_seconds: run.world.now.since(start) / 1000,
    }
}

type Initiator<'n, 'm, const SHARED: bool> = Engine<'n, LinkDest<'m, Connector<'n, SHARED>>>;

struct Run<'n, 'm, const SHARED: bool, const N: usize> {
    initiators: Vec<Initiator<'n, 'm, SHARED>>,
    acceptor: Engine<'n, LinkSource<'m, Acceptor<'n, SHARED>, N>>,
    world: World<'n>,
    circumstances: Circumstances,
    start: Instant,
    /// Rounds since time went on.
    rounds_here: u32,
    rounds: u64,
}

impl<const SHARED: bool, const N: usize> Run<'_, '_, SHARED, N> {
    /// Lets everybody have a turn who has reason to; says whether all has come to rest.
    fn round(&mut self) -> bool {
        let calm_at = self.start.after(self.circumstances.wild_millis);
        let world = &mut self.world;
        self.rounds += 1;
        world.calm = world.now >= calm_at;
        {
            let net = &mut *world.net.borrow_mut();
            (net.now, net.calm) = (world.now, world.calm);
        }
        let mut went_on = false;
        let parties = self.initiators.len() + 1;
        let first = world.random.below(parties);
        for nth in 0..parties {
            // In the wild time somebody may do something of their own accord.
            let occasion = world.maybe(8000);
            match self.initiators.get_mut((first + nth) % parties) {
                Some(initiator) if initiator.wants_turn(world) || occasion => {
                    initiator.turn(world);
                    went_on = true;
                }
                Some(_) => {}
                None if self.acceptor.wants_turn(world) || occasion => {
                    self.acceptor.turn(world);
                    went_on = true;
                }
                None => {}
            }
        }
        self.fate();
        self.watch();
        let limit = calm_at.after(REST_MILLIS);
        assert!(self.world.now < limit, "does not come to rest");
        if self.is_at_rest() {
            return true;
        }
        self.rounds_here += 1;
        assert!(self.rounds_here < SPIN_ROUNDS, "spins");
        if !went_on {
            self.pass_time();
        } else if self.world.random.below(3) == 0 {
            // A turn takes time.
            self.world.now = self.world.now.after(1);
            self.rounds_here = 0;
        }
        false
    }

    /// Carriers die.
    fn fate(&mut self) {
        let world = &mut self.world;
        if world.maybe(world.habits.die) {
            let net = &mut *world.net.borrow_mut();
            let alive: Vec<_> =
                (0..net.lines.len()).filter(|&line| net.lines[line].is_alive()).collect();
            if !alive.is_empty() {
                let line = net.random.pick(&alive);
                net.kill(line);
                world.trace(|| format!("carrier {line} dies"));
            }
        }
    }

    fn watch(&mut self) {
        let net = self.world.net.borrow();
        for story in &mut self.world.stories {
            if !story.is_over() {
                story.watch(self.world.now, net.lines[story.line].is_alive(), STUCK_MILLIS);
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let world = &self.world;
        let over = world.stories.iter().all(|story| story.is_over());
        let open = self.initiators.iter().all(|initiator| initiator.is_open(world));
        let woken = self.initiators.iter().any(|initiator| initiator.is_woken(world));
        let flushed = self.acceptor.is_flushed() && self.initiators.iter().all(Engine::is_flushed);
        let quiet = flushed && world.net.borrow().is_quiet();
        world.calm && over && open && quiet && !woken && !self.acceptor.is_woken(world)
    }

    /// To the next instant at which something may happen.
    fn pass_time(&mut self) {
        let world = &mut self.world;
        let initiators = self.initiators.iter().flat_map(Engine::next_at);
        let engines = initiators.chain(self.acceptor.next_at());
        let next = engines.filter(|&at| at > world.now).min();
        let next = next.into_iter().chain(world.net.borrow().next_at()).min();
        let occasion = world.now.after(world.random.scaled(100) as u32);
        world.now = match next {
            Some(next) if world.calm => next,
            Some(next) => next.min(occasion),
            None => occasion,
        };
        self.rounds_here = 0;
    }

    /// Everything has come to rest: every channel is vacant again, at both ends, so as many can be
    /// opened as there are.
    fn fill(&mut self) {
        let channels = usize::from(self.circumstances.channels).min(self.circumstances.sides[0]);
        if self.circumstances.opens_per_second_max == 1 {
            return;
        }
        let from = self.world.stories.len();
        for initiator in &mut self.initiators {
            for _ in 0..channels {
                let opened = initiator.open(1, &mut self.world);
                assert!(opened.is_some(), "all are gone");
            }
            initiator.turn(&mut self.world);
        }
        let until = self.world.now.after(REST_MILLIS);
        while !self.round() {
            assert!(self.world.now < until);
        }
        let room = self.circumstances.sides[1];
        let refused = |story: &&story::Story| story.refused.is_some();
        let new = &self.world.stories[from..];
        let refused = new.iter().filter(refused).count();
        let expected = (channels * self.initiators.len()).saturating_sub(room);
        assert!(refused <= expected, "{refused} of {} had no room for {room}", new.len());
        for story in new.iter().filter(|story| story.refused.is_none()) {
            let in_order = |part: &story::Part| part.left == Some(story::Left::InOrder);
            assert!(story.parts.iter().flatten().all(in_order), "{story:?}");
        }
    }
}
