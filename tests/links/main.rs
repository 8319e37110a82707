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

use seaprox_tests::seeds::{THREADS_MAX, every_seed};
use std::sync::{Mutex, MutexGuard};

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

/// What one thread needs; too much for a stack.
struct Memories {
    sessions: run::Memories,
    links: transports::Memories,
}

static MEMORIES: [Mutex<Memories>; THREADS_MAX] = [const {
    Mutex::new(Memories { sessions: run::Memories::new(), links: transports::Memories::new() })
}; 8];

fn memories(thread: usize) -> MutexGuard<'static, Memories> {
    MEMORIES[thread].lock().unwrap()
}

#[test]
fn every_seed_ends_well() {
    every_seed(SEEDS, include_str!("seeds.txt"), memories, |memories, seed, is_traced| {
        run::run(&mut memories.sessions, seed, is_traced)
    });
}

#[test]
fn every_seed_of_the_transports_ends_well() {
    let list = include_str!("transports/seeds.txt");
    every_seed(SEEDS, list, memories, |memories, seed, is_traced| {
        transports::run(&mut memories.links, seed, is_traced)
    });
}
