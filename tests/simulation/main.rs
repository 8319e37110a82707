//! The worker and the tcp transport on the simulated kernel, one seed after the other: random
//! clients and backends, faults, and an oracle that says what each of them must have seen.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! its calls and what became of everybody.

mod oracle;
mod player;
mod run;
mod world;

use run::{Run, Summary};
use seaprox::Seaprox;
use seaprox::sim::Call;
use seaprox::sys::Errno;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Few enough that a table is often full.
pub(crate) type Memory = Seaprox<16, 2>;

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

/// How many of the calls of a kind fail, each in a run of its own.
const NTH_MAX: u32 = if cfg!(debug_assertions) { 25 } else { 100 };

/// After so many failures no more are looked for.
const FAILED_MAX: usize = 5;

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("SEAPROX_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("SEAPROX_SEEDS: a number, or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// What went wrong in a run, if anything did.
fn judge(memory: &mut Memory, run: Run) -> Result<Summary, String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(memory, run))) {
        Ok(verdict) => verdict,
        Err(panic) => Err(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => text.to_string(),
            _ => "a panic".to_string(),
        }),
    }
}

/// Judges one run after the other on all processors, until `next` gives no more or some have
/// failed.
fn judge_all(next: impl Fn(u64) -> Option<Run> + Sync) -> Summary {
    let index = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut memory = Box::new(Memory::new());
                while failed.lock().unwrap().len() < FAILED_MAX
                    && let Some(run) = next(index.fetch_add(1, Ordering::Relaxed))
                {
                    match judge(&mut memory, run) {
                        Ok(summary) => *total.lock().unwrap() += summary,
                        Err(what) => failed.lock().unwrap().push((run, what)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(run, _)| run.seed);
    if let Some((_, what)) = failed.first() {
        let line = |what: &str| what.lines().next().unwrap_or_default().to_string();
        let lines = failed.iter().map(|(run, what)| format!("{run:?}: {}", line(what)));
        panic!("{what}\n{}\nThe first is shown above.", lines.collect::<Vec<_>>().join("\n"));
    }
    total.into_inner().unwrap()
}

#[test]
fn every_seed_ends_well() {
    let run = |seed| Run { seed, trace_calls: 100, failure: None };
    if let Some(seed) = env::var("SEAPROX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let run = Run { trace_calls: usize::MAX, ..run(seed) };
        match judge(&mut Box::new(Memory::new()), run) {
            Ok(summary) => println!("{summary:?}"),
            Err(what) => panic!("{what}"),
        }
        return;
    }
    let Range { start, end } = seeds();
    println!("{:?}", judge_all(|index| (start + index < end).then(|| run(start + index))));
}

/// The n-th call of each kind fails with each plausible error, for n = 1, 2, 3 ..: the proxy goes
/// on, nobody gets a wrong byte or a false FIN, and nothing leaks.
#[test]
fn every_call_may_fail() {
    let mut runs = Vec::new();
    for call in Call::ALL {
        for &errno in call.plausible_errors().iter().chain(more_errors(call)) {
            runs.extend((1..=NTH_MAX).map(|nth| Run {
                seed: u64::from(nth % 8),
                trace_calls: 200,
                failure: Some((call, nth, errno)),
            }));
        }
    }
    println!("{:?}", judge_all(|index| runs.get(index as usize).copied()));
}

/// Errors that a call gives because of what a peer did, or that only happen to others: here they
/// come from nowhere.
fn more_errors(call: Call) -> &'static [Errno] {
    use Errno as E;
    match call {
        Call::EpollModify => &[E::NOMEM],
        Call::TakeError | Call::Unacknowledged => &[E::NOBUFS],
        Call::Connect => &[E::CONNREFUSED, E::NOBUFS],
        Call::Recv | Call::Peek => &[E::CONNRESET, E::TIMEDOUT, E::INTR],
        Call::Send => &[E::CONNRESET, E::PIPE, E::AGAIN, E::INTR],
        Call::Splice => &[E::CONNRESET, E::PIPE, E::INVAL, E::INTR],
        _ => &[],
    }
}
