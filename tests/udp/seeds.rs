//! By seed: one or two initiators and an acceptor of one or two links, with users who come, send, read,
//! stall and leave as they please, and a network of which each fault has a probability that is drawn
//! itself. All comes to rest, and every channel had its bytes in order, or a reason at both ends.

mod circumstances;

use crate::carriers::{Acceptor, Connector, SimHub};
use crate::engine::{Engine, World};
use crate::keys;
use crate::net::Net;
use crate::story::{Left, Part, Story};
use circumstances::Circumstances;
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox::wanted::Wish;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::Role;
use seaprox_proto::source::LinkSource;
use seaprox_tests::seeds::{THREADS_MAX, every_seed};
use seaprox_udp::carrier::Options;
use seaprox_udp::hub::{Hub, Numbering};
use seaprox_udp::keyed::Protection;
use seaprox_udp::knocks::Knocks;
use seaprox_udp::listener::Admitted;
use seaprox_udp::reliable::Memory;
use seaprox_udp::socket::RECEIVE_BYTES;
use seaprox_udp::time::Micros;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::AddAssign;
use std::sync::Mutex;

const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 10_000 };

/// With a path that is there, and somebody who wants to read what another wants to send, for so long
/// nothing may stand still.
const STUCK_MILLIS: u64 = 10_000;

/// When faults are over, everybody is done after so long.
const REST_MILLIS: u32 = 300_000;

/// So many rounds at one instant: somebody spins.
const SPIN_ROUNDS: u32 = 20_000;

/// Links of the acceptor, at most.
const LINKS: usize = 2;

/// What went on, to see that the seeds do something.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    runs: u64,
    channels: u64,
    bytes: u64,
    datagrams: u64,
    deaths: u64,
    rounds: u64,
    simulated_seconds: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.runs += other.runs;
        self.channels += other.channels;
        self.bytes += other.bytes;
        self.datagrams += other.datagrams;
        self.deaths += other.deaths;
        self.rounds += other.rounds;
        self.simulated_seconds += other.simulated_seconds;
    }
}

/// Connections of an initiator, at most.
const SIDES_MAX: usize = 12;

/// All that one end of a link uses.
struct End<const CHANNELS: usize, const CHUNKS: usize, const SLOTS: usize, const RECORDS: usize> {
    link: [LinkMemory<CHANNELS, CHUNKS>; LINKS],
    udp: [Memory<SLOTS, RECORDS>; LINKS],
    buffers: [[u8; RECEIVE_BYTES]; LINKS],
}

impl<const A: usize, const B: usize, const C: usize, const D: usize> End<A, B, C, D> {
    const fn new() -> Self {
        End {
            link: [const { LinkMemory::new() }; LINKS],
            udp: [const { Memory::new() }; LINKS],
            buffers: [[0; RECEIVE_BYTES]; LINKS],
        }
    }
}

/// What one thread needs: little, and much.
struct Memories {
    tight: [End<6, 52, 64, 128>; 2],
    wide: [End<8, 1200, 512, 1024>; 2],
}

static MEMORIES: [Mutex<Memories>; THREADS_MAX] = [const {
    Mutex::new(Memories { tight: [const { End::new() }; 2], wide: [const { End::new() }; 2] })
}; 8];

fn run(memories: &mut Memories, seed: u64, is_traced: bool) -> Summary {
    let mut random = Random::new(seed);
    let circumstances = Circumstances::draw(&mut random);
    if is_traced {
        println!("{circumstances:#?}");
    }
    // Every other one has keys; all else is drawn as without.
    let is_sealed = seed % 2 == 1;
    let start = (random, circumstances, is_sealed, is_traced);
    match (circumstances.links == 1, circumstances.is_tight) {
        (true, true) => run_in::<1, _, _, _, _>(&mut memories.tight, start),
        (true, false) => run_in::<1, _, _, _, _>(&mut memories.wide, start),
        (false, true) => run_in::<LINKS, _, _, _, _>(&mut memories.tight, start),
        (false, false) => run_in::<LINKS, _, _, _, _>(&mut memories.wide, start),
    }
}

fn run_in<const N: usize, const A: usize, const B: usize, const C: usize, const D: usize>(
    [near, far]: &mut [End<A, B, C, D>; 2],
    (mut random, circumstances, is_sealed, is_traced): (Random, Circumstances, bool, bool),
) -> Summary {
    let Circumstances { habits, faults, weather, idle_millis, .. } = circumstances;
    let start = Micros(random.below(1 << 32) as u64);
    let net = RefCell::new(Net::new(start, random.bits(), faults, weather));
    let options = Options { algorithm: circumstances.algorithm, ..Options::USUAL };
    let near_buffers = near.buffers.iter_mut();
    // They borrow from themselves, and so are never dropped: they own nothing.
    let mut number = 0;
    let near_hubs: Vec<_> = near_buffers
        .map(|buffer| {
            let random = random.bits();
            let protection = match is_sealed {
                true => keys::of_initiator(number as usize, random),
                false => Protection::Insecure,
            };
            number += 1;
            ManuallyDrop::new(Hub::new(buffer, Numbering::Steering(number), random, protection))
        })
        .collect();
    let near_hubs = ManuallyDrop::new(near_hubs);
    let [far_buffer, _] = &mut far.buffers;
    let numbering = Numbering::Steered { thread: 0, threads: 1 };
    let far_random = random.bits();
    let mut peers = ManuallyDrop::new(keys::peers());
    let mut knocks = ManuallyDrop::new(Knocks::new());
    let (protection, admitted) = match is_sealed {
        true => {
            let (peers, knocks) = (&mut *peers, &mut *knocks);
            (keys::of_acceptor(far_random), Admitted::Peers { peers, knocks })
        }
        false => (Protection::Insecure, Admitted::Anybody { secret: [7; 16] }),
    };
    let far_hub: ManuallyDrop<SimHub<'_>> =
        ManuallyDrop::new(Hub::new(far_buffer, numbering, far_random, protection));
    near_hubs.iter().zip(&mut near.udp).for_each(|(hub, memory)| hub.give(memory.parts()));
    far.udp.iter_mut().take(N).for_each(|memory| far_hub.give(memory.parts()));
    let world = World {
        net: &net,
        now: Instant::from_millis(start.0 / 1000),
        calm: false,
        is_traced,
        random,
        habits,
        idle_millis,
        is_sealed: false,
        keys_jump: false,
        refuses: false,
        stories: Vec::new(),
        bytes: 0,
        deaths: 0,
    };
    let mut wishes = [const { [Wish::DEFAULT; SIDES_MAX] }; LINKS];
    let [initiator, acceptor] =
        [Role::Initiator, Role::Acceptor].map(|role| circumstances.config(role));
    let links = near.link.iter_mut().take(circumstances.initiators).zip(&mut wishes);
    let initiators = links.zip(near_hubs.iter()).enumerate().map(|(number, (link, hub))| {
        let (memory, wishes) = link;
        let dest_options = DestOptions {
            wanted: Wish::DEFAULT,
            wait_millis: circumstances.wait_millis,
            connect_millis: 5000,
            seed: number as u32,
        };
        let peer = is_sealed.then(|| keys::acceptor_of(number));
        let connector = Connector { net: &net, hub, peer, options, initiator: number, line: None };
        let dest = LinkDest::new(memory.link(0, initiator), connector, wishes, dest_options);
        Engine::new(number, dest, &world, circumstances.sides[0])
    });
    let initiators = initiators.collect();
    let memories = far.link.first_chunk_mut::<N>().expect("at most so many");
    let source =
        LinkSource::new(Acceptor::new(&net, &far_hub, admitted, options), memories, acceptor);
    let acceptor = Engine::new(LINKS, source, &world, circumstances.sides[1]);
    let mut run =
        Run { initiators, acceptor, world, circumstances, start, rounds_here: 0, rounds: 0 };
    while !run.round() {}
    run.fill();
    let datagrams = net.borrow().packets;
    Summary {
        runs: 1,
        channels: run.world.stories.len() as u64,
        bytes: run.world.bytes,
        datagrams,
        deaths: run.world.deaths,
        rounds: run.rounds,
        simulated_seconds: net.borrow().now.since(start) / 1_000_000,
    }
}

struct Run<'n, const N: usize> {
    initiators: Vec<Engine<'n, LinkDest<'n, Connector<'n>>>>,
    acceptor: Engine<'n, LinkSource<'n, Acceptor<'n>, N>>,
    world: World<'n>,
    circumstances: Circumstances,
    start: Micros,
    /// Rounds since time went on.
    rounds_here: u32,
    rounds: u64,
}

impl<const N: usize> Run<'_, N> {
    fn calm_at(&self) -> Micros {
        self.start.after(u64::from(self.circumstances.wild_millis) * 1000)
    }

    /// Lets everybody have a turn who has reason to; says whether all has come to rest.
    fn round(&mut self) -> bool {
        let calm_at = self.calm_at();
        let world = &mut self.world;
        self.rounds += 1;
        {
            let net = &mut *world.net.borrow_mut();
            net.calm = net.now >= calm_at;
            if net.calm && !world.calm {
                net.lighten();
            }
            world.calm = net.calm;
            world.now = Instant::from_millis(net.now.0 / 1000);
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
        let limit = calm_at.after(u64::from(REST_MILLIS) * 1000);
        assert!(self.world.net.borrow().now < limit, "does not come to rest");
        if self.is_at_rest() {
            return true;
        }
        self.rounds_here += 1;
        assert!(self.rounds_here < SPIN_ROUNDS, "spins");
        if !went_on {
            self.pass_time();
        } else if self.world.random.below(3) == 0 {
            // A turn takes time.
            let micros = self.world.random.scaled(1000) as u64;
            self.advance(micros);
        }
        false
    }

    fn advance(&mut self, micros: u64) {
        let net = &mut *self.world.net.borrow_mut();
        let now = net.now.after(micros);
        net.advance(now);
        self.rounds_here = 0;
    }

    /// Paths go dark for a while or for ever, are narrowed, or rewritten.
    fn fate(&mut self) {
        let world = &mut self.world;
        let Circumstances { rewritten, darkened, dark_millis_max, narrowed, .. } =
            self.circumstances;
        let [dies, rewritten, darkened, narrowed] =
            [world.habits.die, rewritten, darkened, narrowed].map(|chance| world.maybe(chance));
        let net = &mut *world.net.borrow_mut();
        let alive: Vec<_> =
            (0..net.lines.len()).filter(|&line| net.lines[line].is_alive()).collect();
        if !alive.is_empty() {
            let line = net.random.pick(&alive);
            if dies {
                net.lines[line].is_silent = true;
                world.trace(|| format!("line {line} dies"));
            }
            if rewritten {
                net.rebind(line);
                world.trace(|| format!("line {line} is rewritten"));
            }
        }
        if darkened {
            let millis = net.random.scaled(dark_millis_max);
            net.darken(net.now.after(millis as u64 * 1000));
            world.trace(|| format!("dark for {millis} ms"));
        }
        if narrowed {
            let (end, longest) = (net.random.below(2), net.random.pick(&[1472, 1252, 572]));
            net.roads[end].weather.longest = longest;
            world.trace(|| format!("{longest} bytes at most"));
        }
    }

    fn watch(&mut self) {
        let net = self.world.net.borrow();
        for story in self.world.stories.iter_mut().filter(|story| !story.is_over()) {
            story.watch(self.world.now, net.lines[story.line].is_alive(), STUCK_MILLIS);
        }
    }

    fn is_at_rest(&self) -> bool {
        let world = &self.world;
        let over = world.stories.iter().all(Story::is_over);
        let open = self.initiators.iter().all(|initiator| initiator.is_open(world));
        let woken = self.initiators.iter().any(|initiator| initiator.is_woken(world));
        let flushed = self.acceptor.is_flushed() && self.initiators.iter().all(Engine::is_flushed);
        let quiet = flushed && world.net.borrow().is_quiet();
        world.calm && over && open && quiet && !woken && !self.acceptor.is_woken(world)
    }

    /// To the next instant at which something may happen.
    fn pass_time(&mut self) {
        let initiators = self.initiators.iter().flat_map(Engine::next_at);
        let engines = initiators.chain(self.acceptor.next_at());
        let world = &mut self.world;
        let next = engines.filter(|&at| at > world.now).min();
        let now = world.net.borrow().now;
        let next = next.map(|at| Micros(at.as_millis() * 1000));
        let next = next.into_iter().chain(world.net.borrow().next_at()).min();
        let occasion = now.after(world.random.scaled(100_000) as u64);
        let next = match next {
            Some(next) if world.calm => next,
            Some(next) => next.min(occasion),
            None => occasion,
        };
        self.advance(next.since(now));
    }

    /// Everything has come to rest: every channel is vacant again, at both ends, so as many can be
    /// opened as there are.
    fn fill(&mut self) {
        let channels = usize::from(self.circumstances.channels).min(self.circumstances.sides[0]);
        let from = self.world.stories.len();
        for initiator in &mut self.initiators {
            for _ in 0..channels {
                let opened = initiator.open(1, &mut self.world);
                assert!(opened.is_some(), "all are gone");
            }
            initiator.turn(&mut self.world);
        }
        while !self.round() {}
        let room = self.circumstances.sides[1];
        let new = &self.world.stories[from..];
        let refused = new.iter().filter(|story| story.refused.is_some()).count();
        let expected = (channels * self.initiators.len()).saturating_sub(room);
        assert!(refused <= expected, "{refused} of {} had no room for {room}", new.len());
        for story in new.iter().filter(|story| story.refused.is_none()) {
            let in_order = |part: &Part| part.left == Some(Left::InOrder);
            assert!(story.parts.iter().flatten().all(in_order), "{story:?}");
        }
    }
}

#[test]
fn every_seed_ends_well() {
    let memories = |thread: usize| MEMORIES[thread].lock().unwrap();
    every_seed(SEEDS, include_str!("seeds.txt"), memories, |memories, seed, is_traced| {
        run(memories, seed, is_traced)
    });
}
