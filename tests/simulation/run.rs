//! One seed: draws the circumstances, turns the workers until everybody is gone, and judges.

use crate::Memory;
use crate::circumstances::{Circumstances, GOOD, OTHER, PROXY, at};
use crate::front::{FORBIDDEN_PORT, Kind, PASSWORD, USER};
use crate::oracle::{self, Excuses};
use crate::rounds::Rounds;
use crate::talk::Told as Answer;
use crate::world::{Resolver, World};
use core::cell::{Cell, RefCell};
use core::net::SocketAddr;
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::Order;
use seaprox::sim::{Call, Place, Random, SimKernel};
use seaprox::sys::{Errno, RawFd, Sys, SysResult};
use seaprox::table::Table;
use seaprox::transport::{Dest, Notice, Observer, Source};
use seaprox::worker::Worker;
use seaprox_socks5::{Passwords, Socks5};
use seaprox_tcp::{Allow, AtEnd, DialOptions, Dialer, Listener, Places, Service, Services};
use std::ops::AddAssign;

/// How long a client may take to say what it wants.
const HANDSHAKE_MILLIS: u32 = 5000;

/// Connections of one thread, at most.
const SEATS: usize = 16;

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
    /// Clients that talked first: how many were let in, and how many were told that they are not.
    pub(crate) let_in: u64,
    pub(crate) turned_down: u64,
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
        self.let_in += other.let_in;
        self.turned_down += other.turned_down;
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

type SimWorker<'a, 's, 'w, S, D> = Worker<'a, &'s SimKernel<'w>, S, D, &'s Told>;

/// Which run it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// How many calls a failed run shows.
    pub(crate) trace_calls: usize,
    /// Nothing goes wrong but this, the n-th call of a kind.
    pub(crate) failure: Option<(Call, u32, Errno)>,
    /// What stands in front of the listener then.
    pub(crate) front: Option<Kind>,
}

/// The only one there is.
#[derive(Clone, Copy)]
struct User {
    is_asked: bool,
}

impl Passwords for User {
    fn asks(&self) -> bool {
        self.is_asked
    }

    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        (name, password) == (USER, PASSWORD)
    }
}

/// All but one port.
struct AllButOne;

impl Allow for AllButOne {
    fn permits_name(&self, _: &str, port: u16) -> bool {
        port != FORBIDDEN_PORT
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        address.port() != FORBIDDEN_PORT
    }
}

pub(crate) fn run(memory: &mut Memory, run: Run) -> Result<Summary, String> {
    let mut random = Random::new(run.seed ^ 0x5ea);
    let circumstances = match run.failure {
        Some(_) => Circumstances::calm(run.front),
        None => Circumstances::draw(&mut random),
    };
    let tables: Vec<_> = memory.tables(circumstances.threads, circumstances.connections).collect();
    let backends = [at(GOOD), at(OTHER)];
    let front = circumstances.front();
    let world = World::new(tables[0].commons(), random, at(PROXY), backends, front);
    let world = RefCell::new(world);
    let sim = SimKernel::new(run.seed);
    sim.trace_calls(run.trace_calls);
    if let Some((call, nth, errno)) = run.failure {
        sim.calm_down();
        sim.fail_nth(call, nth, errno);
    }
    let told = Told::default();
    let stage = Stage { sim: &sim, circumstances: &circumstances, world: &world, told: &told };
    let result = match circumstances.front {
        None => stage.play(tables),
        Some(Kind::Socks { passwords }) => {
            stage.play_behind(Socks5(User { is_asked: passwords }), tables)
        }
        Some(Kind::Rounds) => stage.play_behind(Rounds, tables),
    };
    result.map_err(|what| format!("{what}\n{run:?}\n{circumstances:?}\n{}", sim.trace()))
}

/// All that a run needs but its workers.
#[derive(Clone, Copy)]
struct Stage<'s, 'w, 'a> {
    sim: &'s SimKernel<'w>,
    circumstances: &'s Circumstances,
    world: &'w RefCell<World<'a>>,
    told: &'s Told,
}

impl<'s, 'w, 'a> Stage<'s, 'w, 'a> {
    fn resolver(&self) -> Resolver<'w, 'a, 's> {
        Resolver { names: &self.circumstances.names, world: self.world, sim: self.sim }
    }

    fn dial_options() -> DialOptions {
        DialOptions { connect_millis: 5000, ..DialOptions::default() }
    }

    fn listener(&self, fd: RawFd) -> Listener<&'s SimKernel<'w>> {
        Listener::new(self.sim, fd, AtEnd::Refuse)
    }

    /// Everybody who comes is connected to the same targets.
    fn play(self, tables: Vec<Table<'a>>) -> Result<Summary, String> {
        let Stage { sim, circumstances, told, .. } = self;
        let targets = &circumstances.targets;
        let fd = self.set_up();
        turn_until_over(self, tables, |table| {
            let dest = Dialer::new(sim, targets, self.resolver(), Stage::dial_options());
            Worker::new(sim, table, self.listener(fd), dest, told, circumstances.options)
        })
    }

    /// Everybody says first where to.
    fn play_behind<H>(self, handshake: H, tables: Vec<Table<'a>>) -> Result<Summary, String>
    where
        H: Handshake<Origin = ()> + Copy,
    {
        let Stage { sim, circumstances, told, .. } = self;
        let targets = &circumstances.targets;
        let services = [Service { name: b"", targets: 0..targets.len() as u8 }];
        let seats = || (0..SEATS).map(|_| Seat::new(H::VACANT)).collect::<Vec<_>>();
        let mut memory: Vec<_> =
            tables.iter().map(|_| (seats(), Box::new(Places::new()))).collect();
        let mut memory = memory.iter_mut();
        let fd = self.set_up();
        turn_until_over(self, tables, |table| {
            let (seats, places) = memory.next().expect("as much as there are tables");
            let source = Handshaking::new(handshake, self.listener(fd), seats, HANDSHAKE_MILLIS);
            let chooser = Services::new(&services, AllButOne, places);
            let options = Stage::dial_options();
            let dest = Dialer::choosing(sim, targets, chooser, self.resolver(), options);
            Worker::new(sim, table, source, dest, told, circumstances.options)
        })
    }

    /// Makes the places that are met, and the listener.
    fn set_up(&self) -> RawFd {
        let Stage { sim, circumstances, world, .. } = self;
        let listener = sim.listen(at(PROXY), circumstances.backlog);
        for backend in [GOOD, OTHER] {
            sim.place(at(backend), Place::Listening(circumstances.backlog));
        }
        circumstances.bad.iter().for_each(|&(address, place)| sim.place(address, place));
        sim.limit_descriptors(circumstances.descriptors_max);
        world.borrow_mut().begin(sim.now(), circumstances.clients, circumstances.order);
        listener
    }
}

fn turn_until_over<'s, 'w, 'a, S, D>(
    Stage { sim, circumstances, world, told }: Stage<'s, 'w, 'a>,
    tables: Vec<Table<'a>>,
    mut worker_on: impl FnMut(Table<'a>) -> SysResult<SimWorker<'a, 's, 'w, S, D>>,
) -> Result<Summary, String>
where
    S: Source<&'s SimKernel<'w>>,
    D: Dest<&'s SimKernel<'w>, S::Target>,
{
    let begin = sim.now();
    let commons = tables[0].commons();
    let mut workers = Vec::new();
    for table in tables {
        match worker_on(table) {
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
        anything: sim.fatal_faults() > 0 || circumstances.descriptors_max < 1024,
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
        let_in: count_told(&world, |told| told == Answer::Connected),
        turned_down: count_told(&world, |told| told != Answer::Connected),
    })
}

fn occupied<'s, 'w, S, D>(workers: &[SimWorker<'_, 's, 'w, S, D>]) -> usize
where
    S: Source<&'s SimKernel<'w>>,
    D: Dest<&'s SimKernel<'w>, S::Target>,
{
    workers.iter().map(|worker| worker.table().occupied()).sum()
}

/// How many clients were told such a thing before bytes flowed.
fn count_told(world: &World<'_>, is_such: impl Fn(Answer) -> bool) -> u64 {
    let told = world.players.iter().filter_map(|player| player.talk.as_ref()?.told);
    told.filter(|&told| is_such(told)).count() as u64
}

/// Nothing but the listener is open once the workers are gone.
fn check_descriptors(sim: &SimKernel<'_>) -> Result<(), String> {
    match sim.open_descriptors() {
        1 => Ok(()),
        open => Err(format!("{} descriptors leaked", open - 1)),
    }
}
