//! What every proxy of this program has in common: it takes what the system grants, opens, gives up
//! what it does not need any more, starts its threads, seals the heap, and waits for signals until
//! the threads have ended. Knows neither what connections come from nor what they go to.

use crate::args::Common;
use crate::bound::RESOLVER_THREADS;
use crate::exit::{ExitCode, fail};
use crate::log::{self, LOG, Level};
use crate::memory::{PROXY, RESOLVER, WORKER_STACK_BYTES};
use crate::nofile::{self, Plan, Wish};
use crate::notify::{Notifier, State};
use crate::reporter::Reporter;
use crate::sandbox::{self, Duty, Needs};
use crate::seal;
use crate::signals::{self, Signal, Signals};
use crate::sys;
use seaprox::fail::FailReason;
use seaprox::relay::PipeLimits;
use seaprox::share::{Order, Share};
use seaprox::sys::{Linux, Sys};
use seaprox::table::Table;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::transport::{Dest, Source};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::DialOptions;
use seaprox_tcp::resolver;
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a worker asks the scheduler for at a time: the least there is (kernel/sched/syscalls.c,
/// `__setparam_fair`). A turn is shorter, and whoever waits for bytes should not wait for the 3 ms of
/// somebody who computes.
const SLICE: Duration = Duration::from_micros(100);

/// Workers that have ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);
/// One of them could not go on.
static FAILED: AtomicBool = AtomicBool::new(false);

/// What the limits of a configuration need that relays from socket to socket.
pub fn wish(connections: usize, threads: usize) -> Wish {
    let pipes = nofile::pipes_for(connections, nofile::pipe_user_pages_soft());
    Wish { connections, threads, listeners: 1, pipes }
}

/// What a proxy runs on.
pub(crate) struct Ground<'c> {
    common: &'c Common,
    signals: Signals,
    notifier: Notifier,
    plan: Plan,
    /// How many threads relay.
    pub(crate) threads: usize,
}

impl<'c> Ground<'c> {
    /// Takes what the system grants; without enough of it the program ends. No thread may have been
    /// started, nor may be before [`Ground::serve`]: they inherit what is blocked and given up.
    pub(crate) fn take(common: &'c Common, wish: &Wish) -> Ground<'c> {
        let signals = granted("signals", Signals::block());
        LOG.open(log::Options::stderr(common.log));
        // The first look at the clock is a look for the vDSO, for which rustix asks for heap, and may
        // open a file, where the kernel (before Linux 6.4) has no PR_GET_AUXV.
        let _ = Linux.now();
        let plan = granted("descriptors", nofile::raise(wish));
        if plan.connections == 0 {
            let limit = plan.limit;
            let why = format_args!("descriptors: a limit of {limit} is too low for one connection");
            fail(ExitCode::System, why);
        }
        if let Some(lowered) = plan.warning(wish) {
            log::event(Level::Warn, "fewer connections").field("why", lowered).send();
        }
        let threads = common.threads.min(plan.connections);
        Ground { common, signals, notifier: Notifier::from_environment(), plan, threads }
    }

    /// Becomes who it is to be, and gives up what is not needed any more, now that everything is open.
    fn give_up(&self, needs: &Needs<'_>) {
        if let Some(user) = &self.common.user {
            user.switch().unwrap_or_else(|refused| fail(refused.code, refused.line));
        }
        if needs.names {
            // The C library's modules are there before files and calls are fewer.
            resolver::load();
        }
        if !self.common.sandbox {
            log::event(Level::Info, "no sandbox").send();
            return;
        }
        let fences = granted("sandbox", sandbox::confine(needs));
        let level = if fences.is_low() { Level::Info } else { Level::Debug };
        log::event(level, "sandbox").field("with", fences).send();
    }

    /// Starts the threads that look names up.
    fn resolve(&self) {
        let options = resolver::Options {
            threads: RESOLVER_THREADS,
            prefer_ipv4: self.common.prefer_ipv4,
            prepare: || sandbox::narrow(Duty::Resolving),
        };
        granted("resolver", RESOLVER.start(PROXY.commons(), options));
    }

    /// How many connections there are, and on how many threads.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.plan.connections, self.threads)
    }

    /// How a worker behaves, but for what its proxy says itself.
    pub(crate) fn options(&self, proxy: &'static str) -> Options {
        let Plan { pipes, .. } = self.plan;
        Options {
            proxy,
            idle_millis: self.common.idle_timeout_millis,
            half_close_millis: self.common.half_close_timeout_millis,
            pipes: PipeLimits {
                large: pipes.large / self.threads,
                small: pipes.small / self.threads,
            },
            ..Options::default()
        }
    }

    /// How dests are dialed.
    pub(crate) fn dial_options(&self) -> DialOptions {
        DialOptions {
            connect_millis: self.common.connect_timeout_millis.unwrap_or(DURATION_MILLIS_MAX),
            buffer_bytes: self.common.socket_buffer_bytes,
            local_ports: local_ports(),
        }
    }

    /// Gives up what is not among the `needs`, and starts a thread for each table, which `run`s a
    /// worker on it; from here on nothing allocates. Then serves until told to end, and `at` says where.
    pub(crate) fn serve<F>(&self, at: &dyn Display, needs: &Needs<'_>, run: F) -> ExitCode
    where
        F: FnOnce(Thread, Table<'static>) + Clone + Send + 'static,
    {
        self.give_up(needs);
        granted("log", LOG.start(|| sandbox::narrow(Duty::Relaying)));
        if needs.names {
            self.resolve();
        }
        // Leaked, as the threads outlive this function: once a process.
        let gate: &'static Gate = Box::leak(Box::new(Gate::new(self.threads)));
        let Some(tables) = PROXY.claim(self.threads, self.plan.connections) else {
            unreachable!("the table is claimed once, here")
        };
        for (number, table) in tables.enumerate() {
            let run = run.clone();
            let connections = self.common.log_connections;
            let thread = Thread { number, connections, names: &[], gate };
            let spawned = std::thread::Builder::new()
                .name(format!("seaprox-{number}"))
                .stack_size(WORKER_STACK_BYTES)
                .spawn(move || run(thread, table));
            granted("worker", spawned);
        }
        gate.started.wait();
        seal::seal();
        gate.sealed.wait();
        sandbox::narrow(Duty::Waiting { removes: !needs.paths.is_empty() });
        log::event(Level::Info, "listening")
            .field("at", at)
            .field("connections_max", self.plan.connections)
            .field("threads", self.threads)
            .send();
        self.notifier.tell(State::Ready);
        self.wait();
        if PROXY.commons().ordered() == Order::Run {
            log::event(Level::Error, "the listener was shut down by somebody else").send();
            return ExitCode::Failed;
        }
        if FAILED.load(Ordering::Acquire) { ExitCode::Failed } else { ExitCode::Done }
    }

    /// Serves signals until every worker has ended.
    fn wait(&self) {
        let commons = PROXY.commons();
        let mut deadline = None;
        while ENDED.load(Ordering::Acquire) < self.threads {
            match self.signals.wait(deadline) {
                Some(Signal::End) if commons.ordered() == Order::Run => {
                    self.notifier.tell(State::Stopping);
                    let open = total(Share::occupied);
                    log::event(Level::Info, "draining").field("connections", open).send();
                    deadline = self
                        .common
                        .drain_millis
                        .map(|millis| Instant::now() + Duration::from_millis(u64::from(millis)));
                    commons.order(Linux, Order::Drain);
                }
                Some(Signal::End) | None => {
                    if commons.ordered() < Order::Stop {
                        let open = total(Share::occupied);
                        log::event(Level::Warn, "resetting").field("connections", open).send();
                    }
                    commons.order(Linux, Order::Stop);
                    deadline = None;
                }
                Some(Signal::LookUpAgain) => RESOLVER.flush(),
                Some(Signal::Status) => status(),
                Some(Signal::WorkerEnded) => {}
            }
        }
    }
}

/// What a worker's thread is told.
pub(crate) struct Thread {
    /// Which of them it is.
    pub(crate) number: usize,
    connections: bool,
    names: &'static [&'static str],
    gate: &'static Gate,
}

impl Thread {
    /// In the log those whom this end knows are called so, by their numbers.
    #[cfg(feature = "links")]
    pub(crate) fn calling(self, names: &'static [&'static str]) -> Thread {
        Thread { names, ..self }
    }

    /// Runs a worker to its end, on the thread it was made for.
    pub(crate) fn run<S, D>(self, table: Table<'_>, source: S, dest: D, options: Options)
    where
        S: Source<Linux>,
        D: Dest<Linux, S::Target>,
    {
        sys::shorten_slice(SLICE);
        let reporter = Reporter::new(self.connections, self.names);
        let mut worker =
            Worker::new(Linux, table, source, dest, reporter, options).unwrap_or_else(|errno| {
                let error = io::Error::from_raw_os_error(errno.raw_os_error());
                fail(ExitCode::System, format_args!("worker {}: {error}", self.number))
            });
        // What it needed to begin it has.
        sandbox::narrow(Duty::Relaying);
        self.gate.started.wait();
        self.gate.sealed.wait();
        if let Err(errno) = worker.run() {
            FAILED.store(true, Ordering::Release);
            log::event(Level::Error, "a worker cannot go on")
                .field("errno", errno.raw_os_error())
                .send();
            PROXY.commons().order(Linux, Order::Stop);
        }
        // Its links say goodbye, and the process waits for nothing after that.
        drop(worker);
        ENDED.fetch_add(1, Ordering::AcqRel);
        signals::worker_ended();
    }
}

/// What the system grants at start; if not, the program ends.
fn granted<T>(what: &str, result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| fail(ExitCode::of(&error), format_args!("{what}: {error}")))
}

/// Where the workers wait until all have started, and then until the heap is sealed: starting a
/// thread allocates.
struct Gate {
    started: Barrier,
    sealed: Barrier,
}

impl Gate {
    fn new(threads: usize) -> Self {
        Gate { started: Barrier::new(threads + 1), sealed: Barrier::new(threads + 1) }
    }
}

fn total(number: impl Fn(&Share) -> u32) -> u32 {
    PROXY.commons().shares().iter().map(number).sum()
}

/// What runs and what happened, a line for each thread and one for each reason.
fn status() {
    let commons = PROXY.commons();
    for (number, share) in commons.shares().iter().enumerate().filter(|(_, s)| s.limit() > 0) {
        log::event(Level::Info, "status")
            .field("thread", number)
            .field("connections", share.occupied())
            .field("connections_max", share.limit())
            .field("accepted", share.counters.accepted())
            .field("connected", share.counters.connected())
            .field("closed", share.counters.closed())
            .field("bytes", share.counters.bytes())
            .send();
    }
    for reason in FailReason::ALL {
        let count: u64 = commons.shares().iter().map(|s| s.counters.failed(reason)).sum();
        if count > 0 {
            log::event(Level::Info, "status").field("reason", reason).field("count", count).send();
        }
    }
}

/// The ports the kernel takes for connects (ip(7), ip_local_port_range); all, if it does not say.
fn local_ports() -> RangeInclusive<u16> {
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 0..=u16::MAX,
    }
}
