//! The worker and the tcp transport on the simulated kernel, one seed after the other: random
//! clients and backends, proxy types in front of half of them, faults, and an oracle that says what
//! each of them must have seen.
//!
//! `SEAPROX_SEEDS` is how many seeds are run (also `from..to`); `SEAPROX_SEED` runs one, and shows
//! its calls and what became of everybody.

mod circumstances;
mod front;
mod oracle;
mod plan;
mod player;
mod rounds;
mod run;
mod talk;
mod world;

use front::Kind;
use run::{Run, Summary};
use seaprox::Seaprox;
use seaprox::sim::Call;
use seaprox::sys::Errno;
use seaprox_tests::seeds::{every_run, every_seed};

/// Few enough that a table is often full.
pub(crate) type Memory = Seaprox<16, 2>;

const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

/// How many of the calls of a kind fail, each in a run of its own.
const NTH_MAX: u32 = if cfg!(debug_assertions) { 25 } else { 100 };

fn memory(_: usize) -> Box<Memory> {
    Box::new(Memory::new())
}

fn judge(memory: &mut Memory, run: Run) -> Summary {
    run::run(memory, run).unwrap_or_else(|what| panic!("{what}"))
}

#[test]
fn every_seed_ends_well() {
    let all = every_seed(SEEDS, "", memory, |memory, seed, is_traced| {
        let trace_calls = if is_traced { usize::MAX } else { 100 };
        judge(memory, Run { seed, trace_calls, failure: None, front: None })
    });
    // A refusal may be lost when a client is slow or goes on; most are not.
    let is_told = all.let_in > all.runs && all.turned_down > all.runs;
    assert!(is_told || all.runs < 100, "who talks is told nothing: {all:?}");
}

/// The n-th call of each kind fails with each plausible error, for n = 1, 2, 3 ..: the proxy goes
/// on, nobody gets a wrong byte or a false FIN, and nothing leaks.
#[test]
fn every_call_may_fail() {
    let mut runs = Vec::new();
    let fronts = [None, Some(Kind::Socks { passwords: true }), Some(Kind::Rounds)];
    for call in Call::ALL {
        for (&errno, front) in errors_of(call).flat_map(|errno| fronts.map(|front| (errno, front)))
        {
            // What proxy types change is how a source is read and written.
            let all = front.is_none() || matches!(call, Call::Recv | Call::Send);
            let nth_max = if all { NTH_MAX } else { NTH_MAX / 4 };
            runs.extend((1..=nth_max).map(|nth| Run {
                seed: u64::from(nth % 8),
                trace_calls: 200,
                failure: Some((call, nth, errno)),
                front,
            }));
        }
    }
    every_run(&runs, memory, |memory, &run| judge(memory, run));
}

fn errors_of(call: Call) -> impl Iterator<Item = &'static Errno> {
    call.plausible_errors().iter().chain(more_errors(call))
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
