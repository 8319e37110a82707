//! A small request and its reply, one after the other on one connection, while
//! bulk data flows on others.

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::bulk::Sink;
use super::pingpong::percentiles;
use crate::client;
use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::wire::{Behaviour, GREETING_BYTES};

/// The rate of the bulk data is told beside the latencies, so that it is seen
/// when the one is bought with the other.
pub(crate) fn measure(proxy: &Proxy, effort: &Effort, bulk: usize) -> Figures {
    // Answered by a thread of its own, and taken by one here: of what the ping
    // waits for only the tunnel is shared with the bulk data.
    let stream = proxy.open_echoed(Behaviour::EchoAlone)?;
    let mut sink = Sink::open(proxy, bulk)?;
    let Effort { warm_up, long_window, .. } = *effort;
    thread::scope(|scope| {
        let taker = scope.spawn(move || {
            sink.take_for(warm_up)?;
            sink.rate_for(long_window)
        });
        let pinged = ping_for(&stream, warm_up).and_then(|_| ping_for(&stream, long_window));
        let rate =
            taker.join().map_err(|_| io::Error::other("the bulk data's taker panicked"))??;
        let mut figures = vec![(Metric::GigabytesPerSecond, rate / 1e9)];
        figures.extend(percentiles(&mut pinged?)?);
        Ok(figures)
    })
}

/// On one connection over a path, with nothing beside it.
pub(crate) fn measure_path(proxy: &Proxy, effort: &Effort) -> Figures {
    let stream = proxy.open_echoed(Behaviour::EchoAlone)?;
    ping_for(&stream, effort.warm_up)?;
    Ok(percentiles(&mut ping_for(&stream, effort.path_ping_window)?)?.into())
}

fn ping_for(stream: &TcpStream, time: Duration) -> io::Result<Vec<Duration>> {
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < time {
        let sent_at = Instant::now();
        client::exchange(stream, &[0; GREETING_BYTES])?;
        latencies.push(sent_at.elapsed());
    }
    Ok(latencies)
}
