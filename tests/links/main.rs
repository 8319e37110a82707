//! Two sessions on a fake clock, one seed after the other: users who stall, stop, reset and leave,
//! packets in pieces, links that die, a peer that breaks the rules, and an oracle that says what
//! each end must have seen.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! every message. Seeds that once failed are in `seeds.txt`, and go first.

mod end;
mod run;
mod story;
mod users;
mod wire;

use run::{Memories, Summary};
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

/// After so many failures no more are looked for.
const FAILED_MAX: usize = 5;

/// One set of sessions a thread; too much for a stack.
static MEMORIES: [Mutex<Memories>; 8] = [const { Mutex::new(Memories::new()) }; 8];

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("SEAPROX_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("SEAPROX_SEEDS: a number, or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// The seeds that failed once.
fn failed_once() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = |line: &str| line.split(' ').next().and_then(|seed| seed.parse().ok());
    lines.map(|line| first(line).expect("seeds.txt: a seed, and what it found")).collect()
}

/// What went wrong in a run, if anything did.
fn judge(memories: &mut Memories, seed: u64) -> Result<Summary, String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(memories, seed, false))) {
        Ok(summary) => Ok(summary),
        Err(panic) => Err(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => text.to_string(),
            _ => "a panic".to_string(),
        }),
    }
}

#[test]
fn every_seed_ends_well() {
    if let Some(seed) = env::var("SEAPROX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        println!("{:?}", run::run(&mut MEMORIES[0].lock().unwrap(), seed, true));
        return;
    }
    let seeds: Vec<_> = failed_once().into_iter().chain(seeds()).collect();
    let index = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for memories in MEMORIES.iter().take(threads) {
            let (failed, total, index, seeds) = (&failed, &total, &index, &seeds);
            scope.spawn(move || {
                let mut memories = memories.lock().unwrap();
                while failed.lock().unwrap().len() < FAILED_MAX
                    && let Some(&seed) = seeds.get(index.fetch_add(1, Ordering::Relaxed) as usize)
                {
                    match judge(&mut memories, seed) {
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
