//! The round trip on one active connection, alone or beside idle ones.

use std::io;
use std::time::Instant;

use super::idle;
use crate::client;
use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::wire::{Behaviour, GREETING_BYTES};

/// Round trips that are timed together. The median of such batches is what is
/// reported: it leaves out those in which other work had the core.
const BATCH: u32 = 50;

/// The active connection alone.
pub(crate) fn round_trip(proxy: &Proxy, effort: &Effort) -> Figures {
    Ok(vec![(Metric::RoundTrip, time_round_trips(proxy, effort)?)])
}

/// The active connection beside `count` idle ones, and as a multiple of what it
/// took alone just before.
pub(crate) fn measure(proxy: &Proxy, effort: &Effort, count: usize) -> Figures {
    let alone = time_round_trips(proxy, effort)?;
    let _idle = idle::open(proxy, count)?;
    let beside = time_round_trips(proxy, effort)?;
    Ok(vec![(Metric::RoundTrip, beside), (Metric::RoundTripTimesAlone, beside / alone)])
}

/// Microseconds a round trip takes.
fn time_round_trips(proxy: &Proxy, effort: &Effort) -> io::Result<f64> {
    let stream = proxy.open_echoed(Behaviour::EchoAlone)?;
    let message = [0; GREETING_BYTES];
    let batch = || -> io::Result<f64> {
        let started = Instant::now();
        for _ in 0..BATCH {
            client::exchange(&stream, &message)?;
        }
        Ok(started.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH))
    };
    let started = Instant::now();
    while started.elapsed() < effort.warm_up {
        batch()?;
    }
    let started = Instant::now();
    let mut batches = vec![batch()?];
    while started.elapsed() < effort.window {
        batches.push(batch()?);
    }
    batches.sort_unstable_by(f64::total_cmp);
    Ok(batches[batches.len() / 2])
}
