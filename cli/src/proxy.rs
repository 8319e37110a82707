//! `seaprox static`: opens, starts, seals, and then waits for signals until the workers have ended.

use crate::activation::Passed;
use crate::args::{self, Config};
use crate::bound::{NAMES, RESOLVER_THREADS, WORKER_STACK_BYTES};
use crate::endpoint::{self, Listen};
use crate::exit::{ExitCode, fail};
use crate::listening::Listening;
use crate::log::{self, LOG, Level};
use crate::memory::{MAX_NUM_CONNECTIONS, PROXY, RESOLVER};
use crate::nofile::{self, Plan, Wish};
use crate::notify::{Notifier, State};
use crate::reporter::Reporter;
use crate::seal;
use crate::signals::{self, Signal, Signals};
use seaprox::fail::FailReason;
use seaprox::relay::PipeLimits;
use seaprox::share::{Order, Share};
use seaprox::sys::Linux;
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolver::{self, Resolver};
use seaprox_tcp::{AtEnd, DialOptions, Dialer, Listener, Target};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Workers that have ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);
/// One of them could not go on.
static FAILED: AtomicBool = AtomicBool::new(false);

/// A worker of this program.
type StaticWorker<'a> = Worker<
    'a,
    Linux,
    Listener<Linux>,
    Dialer<'static, Linux, &'static Resolver<NAMES, MAX_NUM_CONNECTIONS>>,
    Reporter,
>;

/// What the limits of a configuration need.
pub fn wish(connections: usize, threads: usize) -> Wish {
    let pipes = nofile::pipes_for(connections, nofile::pipe_user_pages_soft());
    Wish { connections, threads, listeners: 1, pipes }
}

/// Runs until told to end.
pub fn run(config: &Config) -> ExitCode {
    // Before any thread is started: they inherit what is blocked.
    let signals = granted("signals", Signals::block());
    granted("log", LOG.start(log::Options::stderr(config.common.log)));
    let wish = wish(config.common.connections_max, config.common.threads);
    let plan = granted("descriptors", nofile::raise(&wish));
    if plan.connections == 0 {
        let limit = plan.limit;
        let why = format_args!("descriptors: a limit of {limit} is too low for one connection");
        fail(ExitCode::System, why);
    }
    if let Some(lowered) = plan.warning(&wish) {
        log::event(Level::Warn, "fewer connections").field("why", lowered).send();
    }
    let listening = Listening::open(
        &config.listen,
        &Passed::from_environment(),
        config.common.socket_buffer_bytes,
    )
    .unwrap_or_else(|refused| fail(refused.code, refused.line));
    let notifier = Notifier::from_environment();
    let threads = config.common.threads.min(plan.connections);
    start(config, &plan, threads, &listening);
    announce(&config.listen, &plan, threads);
    notifier.tell(State::Ready);
    wait(config, &signals, &notifier, threads);
    drop(listening);
    if PROXY.commons().ordered() == Order::Run {
        log::event(Level::Error, "the listener was shut down by somebody else").send();
        return ExitCode::Failed;
    }
    if FAILED.load(Ordering::Acquire) { ExitCode::Failed } else { ExitCode::Done }
}

/// What the system grants at start; if not, the program ends.
fn granted<T>(what: &str, result: io::Result<T>) -> T {
    result.unwrap_or_else(|error| fail(ExitCode::of(&error), format_args!("{what}: {error}")))
}

/// Starts the threads; from here on nothing allocates.
fn start(config: &Config, plan: &Plan, threads: usize, listening: &Listening) {
    let targets: &'static [Target<'static>] =
        Vec::leak(config.targets.iter().map(target_of).collect());
    if targets.iter().any(|target| matches!(target, Target::Name(..))) {
        let options =
            resolver::Options { threads: RESOLVER_THREADS, prefer_ipv4: config.common.prefer_ipv4 };
        granted("resolver", RESOLVER.start(PROXY.commons(), options));
    }
    let dial_options = DialOptions {
        connect_millis: config.common.connect_timeout_millis.unwrap_or(DURATION_MILLIS_MAX),
        buffer_bytes: config.common.socket_buffer_bytes,
        local_ports: local_ports(),
    };
    let options = Options {
        proxy: "static",
        idle_millis: config.common.idle_timeout_millis,
        half_close_millis: config.common.half_close_timeout_millis,
        when_full: match config.when_full {
            args::WhenFull::Wait => seaprox::WhenFull::Wait,
            args::WhenFull::Refuse => seaprox::WhenFull::Refuse,
        },
        pipes: PipeLimits { large: plan.pipes.large / threads, small: plan.pipes.small / threads },
        ..Options::default()
    };
    let fd = listening.fd.as_raw_fd();
    let at_end = if listening.adopted { AtEnd::Leave } else { AtEnd::Refuse };
    let connections = config.common.log_connections;
    // Leaked, as the threads outlive this function: once a process.
    let gate: &'static Gate = Box::leak(Box::new(Gate::new(threads)));
    let Some(tables) = PROXY.claim(threads, plan.connections) else {
        unreachable!("the table is claimed once, here")
    };
    for (number, table) in tables.enumerate() {
        let dial_options = dial_options.clone();
        let spawned = std::thread::Builder::new()
            .name(format!("seaprox-{number}"))
            .stack_size(WORKER_STACK_BYTES)
            .spawn(move || {
                let listener = Listener::new(Linux, fd, at_end);
                let dialer = Dialer::new(Linux, targets, &RESOLVER, dial_options);
                let reporter = Reporter::new(connections);
                match Worker::new(Linux, table, listener, dialer, reporter, options) {
                    Ok(worker) => work(worker, gate),
                    Err(errno) => {
                        let error = io::Error::from_raw_os_error(errno.raw_os_error());
                        fail(ExitCode::System, format_args!("worker {number}: {error}"))
                    }
                }
            });
        granted("worker", spawned);
    }
    gate.started.wait();
    seal::seal();
    gate.sealed.wait();
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

fn work(mut worker: StaticWorker<'_>, gate: &Gate) {
    gate.started.wait();
    gate.sealed.wait();
    if let Err(errno) = worker.run() {
        FAILED.store(true, Ordering::Release);
        log::event(Level::Error, "a worker cannot go on")
            .field("errno", errno.raw_os_error())
            .send();
        PROXY.commons().order(Linux, Order::Stop);
    }
    ENDED.fetch_add(1, Ordering::AcqRel);
    signals::worker_ended();
}

/// Serves signals until every worker has ended.
fn wait(config: &Config, signals: &Signals, notifier: &Notifier, threads: usize) {
    let commons = PROXY.commons();
    let mut deadline = None;
    while ENDED.load(Ordering::Acquire) < threads {
        match signals.wait(deadline) {
            Some(Signal::End) if commons.ordered() == Order::Run => {
                notifier.tell(State::Stopping);
                let open = total(Share::occupied);
                log::event(Level::Info, "draining").field("connections", open).send();
                deadline = config
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

fn total(number: impl Fn(&Share) -> u32) -> u32 {
    PROXY.commons().shares().iter().map(number).sum()
}

fn announce(listen: &Listen, plan: &Plan, threads: usize) {
    log::event(Level::Info, "listening")
        .field("at", listen)
        .field("connections_max", plan.connections)
        .field("threads", threads)
        .send();
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

/// A target as the dialer wants it. Leaks the text: once a process.
fn target_of(target: &endpoint::Target) -> Target<'static> {
    match target {
        endpoint::Target::Name { name, port } => {
            Target::Name(Box::leak(name.clone().into_boxed_str()), *port)
        }
        endpoint::Target::Inet(address) => Target::Inet(*address),
        endpoint::Target::Unix(path) => {
            Target::Unix(Box::leak(path.as_bytes().to_vec().into_boxed_slice()))
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
