//! What it costs to find the side of an event: at its hint, and by a scan of every key because the
//! hint is stale.
//!
//! ```text
//! cargo bench -p seaprox-benches --bench lookup
//! ```

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seaprox::Seaprox;
use seaprox::side::SideKey;
use seaprox::sim::{Random, parts};
use seaprox::sys::RawFd;
use seaprox::table::Table;
use std::hint::black_box;

static SMALL: Seaprox<64, 1> = Seaprox::new();
static MIDDLE: Seaprox<1024, 1> = Seaprox::new();
static DEFAULT: Seaprox<8192, 1> = Seaprox::new();
static LARGE: Seaprox<65_536, 1> = Seaprox::new();

/// The first descriptor a busy process gives to a connection, about.
const FD_FIRST: RawFd = 16;

/// How many different events are looked up in turn: more than a branch predictor knows by heart.
const EVENTS: usize = 1 << 12;

/// A table whose every side has a descriptor.
fn full<const CONNECTIONS: usize>(memory: &'static Seaprox<CONNECTIONS, 1>) -> Table<'static> {
    let mut tables = memory.claim(1, CONNECTIONS).expect("claimed once");
    let mut table = tables.next().expect("one thread");
    while let Some(connection) = parts::occupy(&mut table) {
        for side in [SideKey::source(connection), SideKey::dest(connection)] {
            parts::set_fd(&mut table, side, Some(fd_of(side)));
        }
    }
    table
}

fn fd_of(side: SideKey) -> RawFd {
    let dest = side == SideKey::dest(side.connection());
    FD_FIRST + (side.connection() * 2 + usize::from(dest)) as RawFd
}

/// Events as they come: of any side, in no order.
fn events(table: &Table<'_>) -> Vec<(RawFd, SideKey)> {
    let mut random = Random::new(1);
    let mut draw = || {
        let connection = random.below(table.capacity());
        let side = match random.below(2) {
            0 => SideKey::source(connection),
            _ => SideKey::dest(connection),
        };
        (fd_of(side), side)
    };
    (0..EVENTS).map(|_| draw()).collect()
}

fn lookup(criterion: &mut Criterion) {
    let tables = [full(&SMALL), full(&MIDDLE), full(&DEFAULT), full(&LARGE)];
    let mut group = criterion.benchmark_group("lookup");
    for table in &tables {
        let connections = table.capacity();
        let events = events(table);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("hint hit, any side", connections), |bencher| {
            let mut events = events.iter().cycle();
            bencher.iter(|| {
                let &(fd, hint) = black_box(events.next().expect("endless"));
                let found = table.find(fd, hint);
                assert!(found == Some(hint));
                found
            });
        });
        let side = SideKey::dest(connections / 2);
        group.bench_function(BenchmarkId::new("hint hit, one side", connections), |bencher| {
            bencher.iter(|| table.find(black_box(fd_of(side)), black_box(side)));
        });
        group.throughput(Throughput::Elements(connections as u64 * 2));
        let last = SideKey::dest(connections - 1);
        group.bench_function(BenchmarkId::new("scan to the last key", connections), |bencher| {
            bencher.iter(|| {
                let found = table.find(black_box(fd_of(last)), black_box(SideKey::source(0)));
                assert!(found == Some(last));
                found
            });
        });
        let nobody = FD_FIRST + connections as RawFd * 2;
        group.bench_function(BenchmarkId::new("scan for nobody", connections), |bencher| {
            bencher.iter(|| {
                let found = table.find(black_box(nobody), black_box(SideKey::source(0)));
                assert!(found.is_none());
                found
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
