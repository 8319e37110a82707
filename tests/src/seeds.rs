//! Runs that are chosen by a number each, on all processors, until some have failed. Knows nothing of
//! what is run: that it went wrong is a panic.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and has it
//! show what happens.

use std::env;
use std::fmt::Debug;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Runs at once, at most.
pub const THREADS_MAX: usize = 8;

/// After so many failures no more are looked for.
const FAILED_MAX: usize = 5;

/// Runs those seeds that failed once, as `list` has them (a line each, what it found behind it), and
/// then as many others as are asked for, or else `usual`. `memory` is what thread n needs, below
/// [`THREADS_MAX`]; `run` is told whether to show what happens, and gives what went on. Gives all of
/// that together.
///
/// # Panics
/// A run panics, or the variables or the list are not as they have to be.
pub fn every_seed<M, S>(
    usual: u64,
    list: &str,
    memory: impl Fn(usize) -> M + Sync,
    run: impl Fn(&mut M, u64, bool) -> S + Sync,
) -> S
where
    S: AddAssign + Default + Debug + Send,
{
    if let Ok(seed) = env::var("SEAPROX_SEED") {
        let seed = seed.parse().expect("SEAPROX_SEED: a number");
        let summary = run(&mut memory(0), seed, true);
        println!("{summary:?}");
        return summary;
    }
    let seeds: Vec<_> = failed_once(list).into_iter().chain(asked_for(usual)).collect();
    every_run(&seeds, memory, |memory, &seed| run(memory, seed, false))
}

/// The same of runs of any kind.
///
/// # Panics
/// A run panics: what the first of them said, and which others did.
pub fn every_run<R, M, S>(
    runs: &[R],
    memory: impl Fn(usize) -> M + Sync,
    run: impl Fn(&mut M, &R) -> S + Sync,
) -> S
where
    R: Debug + Sync,
    S: AddAssign + Default + Debug + Send,
{
    let index = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(S::default());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    thread::scope(|scope| {
        for number in 0..threads {
            let (failed, total, index, memory, run) = (&failed, &total, &index, &memory, &run);
            scope.spawn(move || {
                let mut memory = memory(number);
                while failed.lock().unwrap().len() < FAILED_MAX {
                    let index = index.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(which) = runs.get(index) else { break };
                    match judge(|| run(&mut memory, which)) {
                        Ok(summary) => *total.lock().unwrap() += summary,
                        Err(what) => failed.lock().unwrap().push((index, what)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if let Some((_, first)) = failed.first() {
        let line = |what: &str| what.lines().next().unwrap_or_default().to_string();
        let lines =
            failed.iter().map(|(index, what)| format!("{:?}: {}", runs[*index], line(what)));
        panic!("{first}\n{}\nThe first is shown above.", lines.collect::<Vec<_>>().join("\n"));
    }
    let total = total.into_inner().unwrap();
    println!("{total:?}");
    total
}

/// What a run gave, or what it panicked with.
fn judge<S>(run: impl FnOnce() -> S) -> Result<S, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or(panic.downcast_ref::<&str>().map(|text| text.to_string()));
        text.unwrap_or("a panic".to_string())
    })
}

fn asked_for(usual: u64) -> Range<u64> {
    let Ok(text) = env::var("SEAPROX_SEEDS") else { return 0..usual };
    let number = |text: &str| text.parse().expect("SEAPROX_SEEDS: a number, or from..to");
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

fn failed_once(list: &str) -> Vec<u64> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = |line: &str| line.split(' ').next().and_then(|seed| seed.parse().ok());
    lines.map(|line| first(line).expect("seeds.txt: a seed, and what it found")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_fails_is_named_and_all_are_run() {
        assert_eq!(every_run(&[1, 2, 3], |_| (), |(), &run| run), 6);
        let failed = judge(|| {
            every_run(
                &[5, 6, 7],
                |_| (),
                |(), &run| {
                    assert_ne!(run, 6, "not this\nbut that");
                    run
                },
            );
        });
        let said = failed.expect_err("one has failed");
        assert!(said.contains("but that") && said.contains("\n6: assertion"), "{said}");
    }

    #[test]
    fn a_list_has_a_seed_a_line() {
        assert_eq!(failed_once("# seeds\n\n7 stood still\n12 span\n"), [7, 12]);
        assert!(judge(|| failed_once("seven")).is_err());
    }
}
