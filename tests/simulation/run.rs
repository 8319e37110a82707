//! One seed: draws the circumstances, turns the workers until everybody is gone, and judges.

use crate::Memory;
use crate::oracle::{self, Excuses};
use crate::world::{Names, Resolver, World, addresses};
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use seaprox::WhenFull;
use seaprox::fail::FailReason;
use seaprox::relay::PipeLimits;
use seaprox::share::Order;
use seaprox::sim::{Call, Place, Random, SimKernel};
use seaprox::sys::{Errno, Sys};
use seaprox::table::Table;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::{AtEnd, DialOptions, Dialer, Listener, Target};
use std::ops::AddAssign;

const PROXY: &str = "10.0.0.9:8080";
const GOOD: &str = "10.0.0.1:80";

/// Nothing went on for so long: something is stuck.
const STUCK_MILLIS: u64 = 60_000;

/// Clients waited for so long though there was room: nobody listens any more. A worker that lacks
/// something tries again ten times a second.
const UNHEARD_MILLIS: u64 = 3000;

/// So many turns in which nothing went on: the worker spins.
const SPIN_TURNS: u64 = 20_000;

/// What went on, to see that the seeds do something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) runs: u64,
    pub(crate) players: u64,
    pub(crate) bytes: u64,
    pub(crate) calls: u64,
    pub(crate) turns: u64,
    pub(crate) refused: u64,
    pub(crate) fatal_faults: u64,
    pub(crate) simulated_seconds: u64,
    /// The call that was to fail was never made.
    pub(crate) unfailed: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.runs += other.runs;
        self.players += other.players;
        self.bytes += other.bytes;
        self.calls += other.calls;
        self.turns += other.turns;
        self.refused += other.refused;
        self.fatal_faults += other.fatal_faults;
        self.simulated_seconds += other.simulated_seconds;
        self.unfailed += other.unfailed;
    }
}

/// The circumstances.
#[derive(Clone, Debug)]
struct Circumstances {
    threads: usize,
    connections: usize,
    clients: usize,
    descriptors_max: usize,
    backlog: usize,
    options: Options,
    targets: Vec<Target<'static>>,
    names: Names,
    bad: [(SocketAddr, Place); 2],
    order: Option<(Order, u32)>,
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Circumstances {
    fn draw(random: &mut Random) -> Circumstances {
        let (good, bad) = (at(GOOD), [at("10.0.0.2:80"), at("[fd00::3]:80")]);
        let bad = bad.map(|address| {
            let place = match random.below(5) {
                0 => Place::Refused,
                1 => Place::Blackhole,
                2 => Place::Unreachable(random.pick(&[Errno::NETUNREACH, Errno::ADDRNOTAVAIL])),
                3 => Place::Fails(Errno::HOSTUNREACH, random.scaled(3000) as u32),
                _ => Place::Itself,
            };
            (address, place)
        });
        let name = Target::Name("name", 80);
        let [first, second] = bad.map(|(address, _)| Target::Inet(address));
        let (targets, known): (Vec<_>, Vec<_>) = match random.below(8) {
            0 => (vec![first, Target::Inet(good)], vec![]),
            1 => (vec![first, second], vec![]),
            2 => (vec![name], vec![bad[1].0, good]),
            3 => (vec![name], vec![bad[0].0, bad[1].0, good]),
            4 => (vec![name, Target::Inet(good)], vec![]),
            _ => (vec![Target::Inet(good)], vec![]),
        };
        let lookup_millis = [None, Some(random.scaled(2000) as u32)][random.below(2)];
        let names = Names { addresses: addresses(&known), lookup_millis, fails: known.is_empty() };
        let mut maybe = |times: usize| random.below(times) == 0;
        let (few_descriptors, impatient, refuses) = (maybe(8), maybe(16), maybe(6));
        let order = if maybe(10) { Some(Order::Drain) } else { maybe(20).then_some(Order::Stop) };
        let order = order.map(|order| (order, random.scaled(6000) as u32));
        let options = Options {
            idle_millis: impatient.then_some(3000),
            half_close_millis: impatient.then_some(2000),
            when_full: if refuses { WhenFull::Refuse } else { WhenFull::Wait },
            pipes: random.pick(&[
                PipeLimits { large: 0, small: 0 },
                PipeLimits { large: 1, small: 0 },
                PipeLimits { large: 1, small: 2 },
                PipeLimits { large: 128, small: 512 },
            ]),
            ..Options::default()
        };
        let threads = random.between(1, 2);
        Circumstances {
            threads,
            connections: random.between(threads, 16),
            clients: random.scaled(24),
            descriptors_max: if few_descriptors { random.between(12, 30) } else { 1024 },
            backlog: random.scaled(16),
            options,
            targets,
            names,
            bad,
            order,
        }
    }

    /// Room for everybody, and a target with three addresses of which two are bad, so that every
    /// kind of call is made.
    fn calm() -> Circumstances {
        let bad = [(at("10.0.0.2:80"), Place::Refused), (at("[fd00::3]:80"), Place::Blackhole)];
        let known = [bad[0].0, bad[1].0, at(GOOD)];
        Circumstances {
            threads: 1,
            connections: 16,
            clients: 10,
            descriptors_max: 1024,
            backlog: 16,
            options: Options { pipes: PipeLimits { large: 1, small: 2 }, ..Options::default() },
            targets: vec![Target::Name("name", 80)],
            names: Names { addresses: addresses(&known), lookup_millis: Some(20), fails: false },
            bad,
            order: None,
        }
    }

    /// Why a client may be refused in these circumstances.
    fn plausible_reasons(&self, fatal_faults: bool) -> impl Iterator<Item = FailReason> {
        use FailReason as R;
        let reachable =
            self.targets.contains(&Target::Inet(at(GOOD))) || !self.names.addresses.is_empty();
        let anything = fatal_faults || !reachable || self.descriptors_max < 1024;
        let refuses = self.options.when_full == WhenFull::Refuse;
        let draining = self.order.is_some();
        R::ALL.into_iter().filter(move |&reason| match reason {
            // A backend's queue may be full, or time may fly.
            R::TimedOut => true,
            R::TableFull => refuses,
            R::Shutdown => draining,
            _ => anything,
        })
    }
}

/// Counts what the workers tell, and checks that each connection is told of once.
#[derive(Default)]
struct Told {
    connected: Cell<u64>,
    closed: Cell<u64>,
}

impl Observer for &Told {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(_) => self.connected.update(|n| n + 1),
            Notice::Closed { .. } => self.closed.update(|n| n + 1),
            Notice::Refused { .. } | Notice::Exhausted(_) => {}
            Notice::LinkUp { .. } | Notice::LinkDown { .. } => {}
        }
        assert!(self.closed <= self.connected, "more ended than began");
    }
}

/// Which run it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// How many calls a failed run shows.
    pub(crate) trace_calls: usize,
    /// Nothing goes wrong but this, the n-th call of a kind.
    pub(crate) failure: Option<(Call, u32, Errno)>,
}

pub(crate) fn run(memory: &mut Memory, run: Run) -> Result<Summary, String> {
    let mut random = Random::new(run.seed ^ 0x5ea);
    let circumstances = match run.failure {
        Some(_) => Circumstances::calm(),
        None => Circumstances::draw(&mut random),
    };
    let tables: Vec<_> = memory.tables(circumstances.threads, circumstances.connections).collect();
    let world = World::new(tables[0].commons(), random, (at(PROXY), at(GOOD)));
    let world = RefCell::new(world);
    let sim = SimKernel::new(run.seed);
    sim.trace_calls(run.trace_calls);
    if let Some((call, nth, errno)) = run.failure {
        sim.calm_down();
        sim.fail_nth(call, nth, errno);
    }
    let result = turn_until_over(&sim, tables, &circumstances, &world);
    result.map_err(|what| format!("{what}\n{run:?}\n{circumstances:?}\n{}", sim.trace()))
}

fn turn_until_over<'w, 'a>(
    sim: &SimKernel<'w>,
    tables: Vec<Table<'a>>,
    circumstances: &Circumstances,
    world: &'w RefCell<World<'a>>,
) -> Result<Summary, String> {
    let listener = sim.listen(at(PROXY), circumstances.backlog);
    sim.place(at(GOOD), Place::Listening(circumstances.backlog));
    circumstances.bad.iter().for_each(|&(address, place)| sim.place(address, place));
    sim.limit_descriptors(circumstances.descriptors_max);
    let begin = sim.now();
    world.borrow_mut().begin(begin, circumstances.clients, circumstances.order);
    let commons = tables[0].commons();
    let told = Told::default();
    let mut workers = Vec::new();
    for table in tables {
        let resolver = Resolver { names: &circumstances.names, world, sim };
        let dial_options = DialOptions { connect_millis: 5000, ..DialOptions::default() };
        let dialer = Dialer::new(sim, &circumstances.targets, resolver, dial_options);
        let source = Listener::new(sim, listener, AtEnd::Refuse);
        match Worker::new(sim, table, source, dialer, &told, circumstances.options) {
            Ok(worker) => workers.push(worker),
            // A fault at the start: there is no proxy, and nothing may be left of it.
            Err(_) => {
                drop(workers);
                return check_descriptors(sim).map(|()| Summary::default());
            }
        }
    }
    sim.set_world(Box::new(|sim| world.borrow_mut().act(sim)));
    let mut turns = 0;
    let mut ending = false;
    let mut unheard_millis = 0;
    let mut turned_at = begin;
    let mut quiet = (0, 0);
    let occupied = |workers: &[Worker<'_, _, _, _, _>]| -> usize {
        workers.iter().map(|worker| worker.table().occupied()).sum()
    };
    while !workers.is_empty() {
        let mut failed = None;
        workers.retain_mut(|worker| {
            let runs = worker.turn().unwrap_or_else(|errno| {
                failed = Some(errno);
                false
            });
            worker.table().invariants();
            runs
        });
        if let Some(errno) = failed {
            return Err(format!("a turn failed: {errno}"));
        }
        turns += 1;
        let world = world.borrow();
        if let Some(wrong) = &world.wrong {
            return Err(wrong.clone());
        }
        if world.is_over() && occupied(&workers) == 0 && !ending {
            sim.calm_down();
            commons.order(sim, Order::Drain);
            (ending, quiet.0) = (true, turns);
        }
        let room = workers.iter().any(|worker| !worker.table().is_full());
        let excused = circumstances.order.is_some() || circumstances.descriptors_max < 1024;
        // Time in which the process stood still does not count.
        let passed = sim.now().since(turned_at).min(UNHEARD_MILLIS / 10);
        turned_at = sim.now();
        unheard_millis += passed;
        if sim.waiting_clients(at(PROXY)) == 0 || !room || excused {
            unheard_millis = 0;
        } else if unheard_millis > UNHEARD_MILLIS {
            return Err("clients wait, and there is room".into());
        }
        if world.progress != quiet.1 {
            quiet = (turns, world.progress);
        }
        let stuck = sim.now().since(world.progress_at) > STUCK_MILLIS && !ending;
        if stuck || turns - quiet.0 > SPIN_TURNS {
            let who: Vec<_> = world.players.iter().filter(|player| !player.done).collect();
            let what = if stuck { "stuck" } else { "spinning" };
            return Err(format!("{what} with {} connections and {who:#?}", occupied(&workers)));
        }
    }
    // The proxy has ended; others may still have to hear of it.
    while !world.borrow().is_over() && sim.now().since(world.borrow().progress_at) < STUCK_MILLIS {
        sim.advance(10);
        world.borrow_mut().act(sim);
    }
    let failed = |reason: FailReason| {
        commons.shares().iter().map(|s| s.counters.failed(reason)).sum::<u64>()
    };
    let refused = circumstances.plausible_reasons(sim.fatal_faults() > 0).map(failed).sum();
    drop(workers);
    check_descriptors(sim)?;
    let world = world.borrow();
    let excuses = Excuses {
        // Told to end, the proxy lets the kernel refuse them.
        refused: if circumstances.order.is_some() { u64::MAX } else { refused },
        cut_off: matches!(circumstances.order, Some((Order::Stop, _)))
            || circumstances.options.idle_millis.is_some(),
        reset_flush_millis: circumstances.options.reset_flush_millis.into(),
    };
    oracle::judge(&world, sim, excuses).map_err(|what| {
        let reasons = FailReason::ALL.map(|reason| (reason, failed(reason)));
        let reasons: Vec<_> = reasons.into_iter().filter(|(_, times)| *times > 0).collect();
        format!("{what}\nthe proxy's reasons: {reasons:?}")
    })?;
    let (connected, closed) = (told.connected.get(), told.closed.get());
    if connected != closed {
        return Err(format!("{connected} connections began, {closed} ended"));
    }
    Ok(Summary {
        runs: 1,
        players: world.players.len() as u64,
        bytes: world.players.iter().map(|player| player.received as u64).sum(),
        calls: sim.calls(),
        turns,
        refused,
        fatal_faults: sim.fatal_faults(),
        simulated_seconds: sim.now().since(begin) / 1000,
        unfailed: u64::from(sim.awaits_failure()),
    })
}

/// Nothing but the listener is open once the workers are gone.
fn check_descriptors(sim: &SimKernel<'_>) -> Result<(), String> {
    match sim.open_descriptors() {
        1 => Ok(()),
        open => Err(format!("{} descriptors leaked", open - 1)),
    }
}
