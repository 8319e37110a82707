//! What it costs to look through the deadlines of every connection: nothing has passed, or some have.
//!
//! ```text
//! cargo bench -p seaprox-benches --bench timers
//! ```

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seaprox::sim::{Random, parts};
use seaprox::time::Instant;
use std::hint::black_box;

const CONNECTIONS: usize = 8192;

/// How far ahead deadlines lie.
const AHEAD_MILLIS: u32 = 60_000;

/// Arms a deadline of every connection, in no order.
fn arm<'d>(deadlines: &'d mut [u32], now: Instant) -> parts::Timers<'d> {
    let mut random = Random::new(1);
    deadlines.fill(0);
    let connections = deadlines.len();
    let mut timers = parts::Timers::new(deadlines);
    for connection in 0..connections {
        timers.arm(connection, now.after(1 + random.below(AHEAD_MILLIS as usize) as u32));
    }
    timers
}

fn timers(criterion: &mut Criterion) {
    let now = Instant::from_millis(1000);
    let mut group = criterion.benchmark_group("timers");
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    let mut deadlines = vec![0; CONNECTIONS];
    let mut armed = arm(&mut deadlines, now);
    group.bench_function("scan, nothing has passed", |bencher| {
        bencher.iter(|| {
            let served = armed.expire(black_box(now), |connection| {
                black_box(connection);
            });
            assert!(served == 0);
        });
    });
    group.bench_function("scan, one of a hundred has passed and is armed again", |bencher| {
        let mut now = now;
        let mut passed = Vec::with_capacity(CONNECTIONS);
        bencher.iter(|| {
            now = now.after(AHEAD_MILLIS / 100);
            armed.expire(black_box(now), |connection| passed.push(connection));
            for connection in passed.drain(..) {
                armed.arm(connection, now.after(AHEAD_MILLIS));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, timers);
criterion_main!(benches);
