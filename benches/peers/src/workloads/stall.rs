//! What bulk connections lose while one more has a client that never reads.

use std::io;

use super::bulk::Sink;
use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::sys;
use crate::wire::Behaviour;

/// The rate of `bulk` connections beside the stalled one, against what it is
/// without it, before and after: so that a drift of the machine cancels out.
pub(crate) fn measure(proxy: &Proxy, effort: &Effort, bulk: usize) -> Figures {
    let mut sink = Sink::open(proxy, bulk)?;
    sink.take_for(effort.warm_up)?;
    // A few percent are to be told from nothing.
    let window = effort.long_window / 2;
    let before = sink.rate_for(window)?;
    let stalled = proxy.open()?;
    sys::send_now(&stalled, &Behaviour::Source.greeting())?;
    // Until everything on the way to the stalled client is full.
    sink.take_for(effort.window)?;
    let beside = sink.rate_for(window)?;
    drop(stalled);
    sink.take_for(effort.warm_up)?;
    let after = sink.rate_for(window)?;
    let without = f64::midpoint(before, after);
    if without == 0.0 {
        return Err(io::Error::other("no byte came through"));
    }
    Ok(vec![
        (Metric::GigabytesPerSecond, beside / 1e9),
        (Metric::LostToStall, (1.0 - beside / without) * 100.0),
    ])
}
