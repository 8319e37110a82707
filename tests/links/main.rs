//! Links on a fake clock, one seed after the other: two sessions, and then links as the worker sees
//! them (`transports`). Users who stall, stop, reset and leave, packets in pieces, links that die, a
//! peer that breaks the rules, and an oracle that says what each end must have seen.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! every message. Seeds that once failed are in a `seeds.txt`, and go first.

mod contents;
mod end;
mod run;
mod story;
mod transports;
mod users;
mod wire;

use std::env;
use std::fmt::Debug;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

/// After so many failures no more are looked for.
const FAILED_MAX: usize = 5;

/// What one thread needs; too much for a stack.
struct Memories {
    sessions: run::Memories,
    links: transports::Memories,
}

static MEMORIES: [Mutex<Memories>; 8] = [const {
    Mutex::new(Memories { sessions: run::Memories::new(), links: transports::Memories::new() })
}; 8];

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("SEAPROX_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("SEAPROX_SEEDS: a number, or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// The seeds that failed once.
fn failed_once(list: &str) -> Vec<u64> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = |line: &str| line.split(' ').next().and_then(|seed| seed.parse().ok());
    lines.map(|line| first(line).expect("seeds.txt: a seed, and what it found")).collect()
}

/// What went wrong in a run, if anything did.
fn judge<S>(run: impl FnOnce() -> S) -> Result<S, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(summary) => Ok(summary),
        Err(panic) => Err(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => text.to_string(),
            _ => "a panic".to_string(),
        }),
    }
}

/// Judges the seeds on all processors, those that failed once first.
fn judge_all<S>(list: &str, run: impl Fn(&mut Memories, u64, bool) -> S + Sync)
where
    S: AddAssign + Default + Debug + Send,
{
    if let Some(seed) = env::var("SEAPROX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", run(&mut MEMORIES[0].lock().unwrap(), seed, true));
        return;
    }
    let seeds: Vec<_> = failed_once(list).into_iter().chain(seeds()).collect();
    let index = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(S::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for memories in MEMORIES.iter().take(threads) {
            let (failed, total, index, seeds, run) = (&failed, &total, &index, &seeds, &run);
            scope.spawn(move || {
                let mut memories = memories.lock().unwrap();
                while failed.lock().unwrap().len() < FAILED_MAX
                    && let Some(&seed) = seeds.get(index.fetch_add(1, Ordering::Relaxed) as usize)
                {
                    match judge(|| run(&mut memories, seed, false)) {
                        Ok(summary) => *total.lock().unwrap() += summary,
                        Err(what) => failed.lock().unwrap().push((seed, what)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    assert!(failed.is_empty(), "SEAPROX_SEED=\n{failed:#?}");
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn every_seed_ends_well() {
    judge_all(include_str!("seeds.txt"), |memories, seed, is_traced| {
        run::run(&mut memories.sessions, seed, is_traced)
    });
}

#[test]
fn every_seed_of_the_transports_ends_well() {
    judge_all(include_str!("transports/seeds.txt"), |memories, seed, is_traced| {
        transports::run(&mut memories.links, seed, is_traced)
    });
}
