//! The worker and the tcp transport on the simulated kernel, one seed after the other: random
//! clients and backends, faults, and an oracle that says what each of them must have seen.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! its calls and what became of everybody.

mod oracle;
mod player;
mod run;
mod world;

use seaprox::Seaprox;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Few enough that a table is often full.
pub(crate) type Memory = Seaprox<16, 2>;

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("SEAPROX_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().expect("SEAPROX_SEEDS: a number, or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

/// Runs one seed; what went wrong, if anything did.
fn judge(memory: &mut Memory, seed: u64, trace_calls: usize) -> Result<run::Summary, String> {
    match catch_unwind(AssertUnwindSafe(|| run::run(memory, seed, trace_calls))) {
        Ok(verdict) => verdict,
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
        match judge(&mut Box::new(Memory::new()), seed, usize::MAX) {
            Ok(summary) => println!("{summary:?}"),
            Err(what) => panic!("seed {seed}: {what}"),
        }
        return;
    }
    let Range { start, end } = seeds();
    let next = AtomicU64::new(start);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(run::Summary::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut memory = Box::new(Memory::new());
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match judge(&mut memory, seed, 100) {
                        Ok(summary) => *total.lock().unwrap() += summary,
                        Err(what) => failed.lock().unwrap().push((seed, what)),
                    }
                }
            });
        }
    });
    println!("{:?}", total.lock().unwrap());
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if let Some((seed, what)) = failed.first() {
        let line = |what: &String| what.lines().next().unwrap_or_default().to_string();
        let lines: Vec<_> =
            failed.iter().map(|(seed, what)| format!("{seed}: {}", line(what))).collect();
        let lines = lines.join("\n");
        panic!("{what}\n{lines}\nSEAPROX_SEED={seed} runs the first, which is shown above");
    }
}
