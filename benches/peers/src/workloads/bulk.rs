//! Bytes one way, from the backend to the client, over some connections.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::sys::{self, Epoll};
use crate::wire::Behaviour;

/// The most that one call takes off a connection.
const TAKE_BYTES: usize = 1024 * 1024;

pub(crate) fn measure(proxy: &Proxy, effort: &Effort, connections: usize) -> Figures {
    let mut sink = Sink::open(proxy, connections)?;
    sink.take_for(effort.warm_up)?;
    measure_sink(proxy, &mut sink, effort.window)
}

/// The same for longer, with how evenly the connections were served.
pub(crate) fn measure_shares(proxy: &Proxy, effort: &Effort, connections: usize) -> Figures {
    let mut sink = Sink::open(proxy, connections)?;
    sink.take_for(effort.warm_up)?;
    let mut figures = measure_sink(proxy, &mut sink, effort.long_window)?;
    let starved = sink.taken.iter().filter(|&&bytes| bytes == 0).count();
    figures.push((Metric::JainIndex, jain_index(&sink.taken)));
    figures.push((Metric::Starved, starved as f64));
    Ok(figures)
}

/// One connection over a path, which may be slow: in megabytes, and for longer,
/// once its congestion control has had time to learn the path.
pub(crate) fn measure_path(proxy: &Proxy, effort: &Effort) -> Figures {
    let mut sink = Sink::open(proxy, 1)?;
    sink.take_for(effort.path_warm_up)?;
    let mut figures = measure_sink(proxy, &mut sink, effort.long_window)?;
    for (metric, value) in &mut figures {
        if *metric == Metric::GigabytesPerSecond {
            (*metric, *value) = (Metric::MegabytesPerSecond, *value * 1000.0);
        }
    }
    Ok(figures)
}

fn measure_sink(proxy: &Proxy, sink: &mut Sink, window: Duration) -> Figures {
    let cpu_before = proxy.cpu_seconds();
    let started = Instant::now();
    let bytes = sink.take_for(window)?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu_after = proxy.cpu_seconds();
    if bytes == 0 {
        return Err(io::Error::other("no byte came through"));
    }
    let gigabytes = bytes as f64 / 1e9;
    let mut figures = vec![(Metric::GigabytesPerSecond, gigabytes / elapsed)];
    if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
        figures.push((Metric::CpuPerGigabyte, (after - before) / gigabytes));
    }
    Ok(figures)
}

/// Of bytes that are not all zero: the square of their sum over their number
/// times the sum of their squares.
fn jain_index(shares: &[usize]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let of_squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    sum.powi(2) / (shares.len() as f64 * of_squares)
}

/// The receiving ends, which throw everything away.
pub(super) struct Sink {
    epoll: Epoll,
    streams: Vec<TcpStream>,
    /// Bytes of each since the last start of taking.
    taken: Vec<usize>,
}

impl Sink {
    /// Opens them and has the backend send on all without end.
    pub(super) fn open(proxy: &Proxy, connections: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut streams = Vec::with_capacity(connections);
        for token in 0..connections {
            let stream = proxy.open()?;
            epoll.add(&stream, token, sys::READABLE)?;
            streams.push(stream);
        }
        // Only now, so that nothing piles up in buffers that a proxy would not
        // have to move while it is measured.
        for stream in &streams {
            sys::send_now(stream, &Behaviour::Source.greeting())?;
        }
        Ok(Self { epoll, streams, taken: vec![0; connections] })
    }

    /// Takes what comes for some time and returns how much it was.
    pub(super) fn take_for(&mut self, time: Duration) -> io::Result<usize> {
        let started = Instant::now();
        self.taken.fill(0);
        while let Some(rest) = time.checked_sub(started.elapsed()) {
            for index in 0..self.epoll.wait(Some(rest))? {
                let token = self.epoll.token(index);
                match sys::discard_now(&self.streams[token], TAKE_BYTES) {
                    Ok(0) => return Err(io::Error::other("a connection ended early")),
                    Ok(len) => self.taken[token] += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.taken.iter().sum())
    }

    /// The rate at which it takes, in bytes a second.
    pub(super) fn rate_for(&mut self, time: Duration) -> io::Result<f64> {
        let started = Instant::now();
        let bytes = self.take_for(time)?;
        Ok(bytes as f64 / started.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_fair_and_one_taker_is_not() {
        assert_eq!(jain_index(&[7, 7, 7, 7]), 1.0);
        assert_eq!(jain_index(&[0, 9, 0, 0]), 0.25);
        assert_eq!(jain_index(&[1, 3]), 0.8);
    }
}
