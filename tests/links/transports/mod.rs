//! Links as the worker sees them: one or two [`LinkDest`]s and a [`LinkSource`] on simulated
//! carriers, each driven by a stand-in for the worker. One seed: draws the circumstances, lets all
//! live, and sees them come to rest.

mod carried;
mod engine;
mod net;
mod role;
mod story;
mod users;
mod waiting;

use crate::wire::{Disorder, Weather};
use carried::{STREAMS, house};
use engine::{Engine, Habits, World};
use net::{Acceptor, Connector, Faults, Net};
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox::wanted::Wish;
use seaprox_proto::carrier::Order;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::{Guest, LinkSource};
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

/// Who may be at the acceptor and not have shown who they are.
const GUESTS: usize = 3;

/// How far the time of keys jumps, at most: a third of what is left of them when they are renewed.
const JUMP_MILLIS_MAX: usize = 20_000;

/// And not again before so much time has passed.
const JUMP_PAUSE_MILLIS: u64 = 1500;

/// What went on, to see that the seeds do something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    runs: u64,
    channels: u64,
    bytes: u64,
    packets: u64,
    deaths: u64,
    rounds: u64,
    /// Runs with keys, the answers to those who asked for some, and packets that were meddled with.
    sealed: u64,
    answers: u64,
    meddled: u64,
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
        self.sealed += other.sealed;
        self.answers += other.answers;
        self.meddled += other.meddled;
        self.simulated_seconds += other.simulated_seconds;
    }
}

/// Connections of an initiator, at most.
const SIDES_MAX: usize = 12;

/// What happens where carriers are sealed. Chances are of 65,536, each time there is an occasion.
#[derive(Clone, Copy, Debug)]
struct Sealing {
    /// All keys are suddenly older.
    jump: u16,
    /// A bit of a packet is another.
    meddled: u16,
    /// Drawn for the keys.
    seed: u64,
}

impl Sealing {
    /// Of a row of its own, so that those without keys are as they were.
    fn draw(random: &mut Random) -> Option<Sealing> {
        let mut chance = |most: usize| match random.below(2) {
            0 => 0,
            _ => random.scaled(most) as u16,
        };
        let (jump, meddled) = (chance(20_000), chance(4000));
        (random.below(4) == 0).then_some(Sealing { jump, meddled, seed: random.bits() })
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
    sealing: Option<Sealing>,
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
            faults: Faults {
                full,
                full_millis_max: random.scaled(500),
                no_memory,
                lost,
                refused,
                connect_millis_max: random.scaled(3000),
                meddled: 0,
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
            sides: [random.between(1, SIDES_MAX), random.between(1, 16)],
            idle_millis: random.between(3000, 15_000) as u32,
            opens_per_second_max: random.pick(&[1, 1000, 1000, 1000]),
            wait_millis: random.pick(&[0, 300, 5000, 1_000_000]),
            wild_millis: random.between(100, 15_000) as u32,
            sealing: None,
        }
    }

    /// The same with keys, perhaps.
    fn sealed(self, random: &mut Random) -> Circumstances {
        let sealing = Sealing::draw(random).filter(|_| self.order != Order::Any);
        let meddled = sealing.map_or(0, |sealing| sealing.meddled);
        Circumstances { sealing, faults: Faults { meddled, ..self.faults }, ..self }
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
    seats: Seats,
}

/// Of the initiators, and of the acceptor.
type Seats = [[seaprox_sealed::Memory<STREAMS>; LINKS]; 2];

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
        let seats = [const { [const { seaprox_sealed::Memory::new() }; LINKS] }; 2];
        Memories { tight: Links::new(), wide: Links::new(), seats }
    }
}

/// Runs a seed; panics if something is not as it must be.
pub(crate) fn run(memories: &mut Memories, seed: u64, is_traced: bool) -> Summary {
    let mut random = Random::new(seed);
    let circumstances = Circumstances::draw(&mut random);
    let circumstances = circumstances.sealed(&mut Random::new(!seed));
    if is_traced {
        println!("{circumstances:#?}");
    }
    let Memories { tight, wide, seats } = memories;
    let start = (random, circumstances, is_traced, seats);
    let shared = circumstances.order == Order::Any;
    match (shared, circumstances.links == 1, circumstances.is_tight) {
        (true, true, true) => run_in::<true, 1, _, _>(tight, start),
        (true, true, false) => run_in::<true, 1, _, _>(wide, start),
        (true, false, true) => run_in::<true, LINKS, _, _>(tight, start),
        (true, false, false) => run_in::<true, LINKS, _, _>(wide, start),
        (false, true, true) => run_in::<false, 1, _, _>(tight, start),
        (false, true, false) => run_in::<false, 1, _, _>(wide, start),
        (false, false, true) => run_in::<false, LINKS, _, _>(tight, start),
        (false, false, false) => run_in::<false, LINKS, _, _>(wide, start),
    }
}

fn run_in<const SHARED: bool, const N: usize, const CHANNELS: usize, const CHUNKS: usize>(
    memories: &mut Links<CHANNELS, CHUNKS>,
    (mut random, circumstances, is_traced, seats): (Random, Circumstances, bool, &mut Seats),
) -> Summary {
    let Circumstances { habits, faults, weather, idle_millis, .. } = circumstances;
    let start = Instant::from_millis(random.below(1 << 20) as u64);
    let net = RefCell::new(Net::new(start, random.bits(), faults, weather));
    net.borrow_mut().is_sealed = circumstances.sealing.is_some();
    let [asking, answering] = seats;
    let seed = |nth| circumstances.sealing.map(|sealing| sealing.seed.wrapping_add(nth));
    let asking = asking.iter_mut().enumerate().map(|(number, memory)| {
        let seats = std::slice::from_mut(memory);
        seed(1 + number as u64).map(|seed| house(&net, Some(number), seats, seed))
    });
    let asking: Vec<_> = asking.collect();
    let links = &mut answering[..circumstances.links];
    let answering = seed(0).map(|seed| house(&net, None, links, seed));
    let world = World {
        net: &net,
        now: start,
        calm: false,
        is_traced,
        random,
        habits,
        idle_millis,
        is_sealed: circumstances.sealing.is_some(),
        keys_jump: circumstances.sealing.is_some_and(|sealing| sealing.jump > 0),
        refuses: circumstances.opens_per_second_max == 1,
        stories: Vec::new(),
        bytes: 0,
        deaths: 0,
    };
    let [initiator, acceptor] =
        [Role::Initiator, Role::Acceptor].map(|role| circumstances.config(role));
    let links = memories.initiators.iter_mut().take(circumstances.initiators);
    let mut wishes = [const { [Wish::DEFAULT; SIDES_MAX] }; LINKS];
    let initiators = links.zip(&mut wishes).enumerate().map(|(number, (memory, wishes))| {
        let options = DestOptions {
            wanted: Wish::DEFAULT,
            wait_millis: circumstances.wait_millis,
            connect_millis: 2000,
            seed: number as u32,
        };
        let connector = Connector::<SHARED>::new(&net, number, asking[number].as_ref());
        let dest = LinkDest::new(memory.link(0, initiator), connector, wishes, options);
        Engine::new(number, dest, &world, circumstances.sides[0])
    });
    let initiators = initiators.collect();
    let memories = memories.acceptor.first_chunk_mut::<N>().expect("at most so many");
    let accept = Acceptor::<SHARED> { net: &net, house: answering.as_ref() };
    let mut guests: [_; GUESTS] = std::array::from_fn(|_| Guest::new());
    let source = LinkSource::new(accept, memories, acceptor).receiving(&mut guests);
    let acceptor = Engine::new(LINKS, source, &world, circumstances.sides[1]);
    let mut run = Run {
        initiators,
        acceptor,
        world,
        circumstances,
        start,
        jumped_at: start,
        rounds_here: 0,
        rounds: 0,
    };
    while !run.round() {}
    run.fill();
    let Net { packets, answers, meddled, .. } = *net.borrow();
    Summary {
        runs: 1,
        channels: run.world.stories.len() as u64,
        bytes: run.world.bytes,
        packets,
        deaths: run.world.deaths,
        rounds: run.rounds,
        sealed: u64::from(circumstances.sealing.is_some()),
        answers,
        meddled,
        simulated_seconds: run.world.now.since(start) / 1000,
    }
}

type Initiator<'n, 's, 'm, const SHARED: bool> =
    Engine<'n, LinkDest<'m, Connector<'n, 's, SHARED>>>;

struct Run<'n: 'm, 's: 'n, 'm, const SHARED: bool, const N: usize> {
    initiators: Vec<Initiator<'n, 's, 'm, SHARED>>,
    acceptor: Engine<'n, LinkSource<'m, Acceptor<'n, 's, SHARED>, N>>,
    world: World<'n>,
    circumstances: Circumstances,
    start: Instant,
    /// When keys were made older.
    jumped_at: Instant,
    /// Rounds since time went on.
    rounds_here: u32,
    rounds: u64,
}

impl<const SHARED: bool, const N: usize> Run<'_, '_, '_, SHARED, N> {
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
        // What was under way has arrived before the next one.
        let has_settled = world.now.since(self.jumped_at) >= JUMP_PAUSE_MILLIS;
        let sealing = self.circumstances.sealing;
        if has_settled && sealing.is_some_and(|sealing| world.maybe(sealing.jump)) {
            self.jumped_at = world.now;
            let millis = world.random.below(JUMP_MILLIS_MAX) as u64;
            world.net.borrow_mut().ahead_millis += millis;
            world.trace(|| format!("keys are {millis} ms older"));
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
