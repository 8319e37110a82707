//! Bytes one way, from the backend to the client, over some connections.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Figures;
use crate::client;
use crate::metrics::Metric;
use crate::options::Effort;
use crate::proxy::Proxy;
use crate::sys::{self, Epoll};
use crate::wire::Behaviour;

/// The most that one call takes off a connection.
const TAKE_BYTES: usize = 1024 * 1024;

pub(crate) fn measure(proxy: &Proxy, effort: &Effort, connections: usize) -> Figures {
    let mut sink = Sink::open(proxy, connections)?;
    sink.take_for(effort.warm_up)?;
    let cpu_before = proxy.cpu_seconds();
    let started = Instant::now();
    let bytes = sink.take_for(effort.window)?;
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

/// The receiving ends, which throw everything away.
struct Sink {
    epoll: Epoll,
    streams: Vec<TcpStream>,
}

impl Sink {
    fn open(proxy: &Proxy, connections: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut streams = Vec::with_capacity(connections);
        for token in 0..connections {
            let stream = client::connect(proxy.addr)?;
            epoll.add(&stream, token, sys::READABLE)?;
            streams.push(stream);
        }
        // Only now, so that nothing piles up in buffers that a proxy would not
        // have to move while it is measured.
        for stream in &streams {
            sys::send_now(stream, &Behaviour::Source.greeting())?;
        }
        Ok(Self { epoll, streams })
    }

    /// Takes what comes for some time and returns how much it was.
    fn take_for(&mut self, time: Duration) -> io::Result<usize> {
        let started = Instant::now();
        let mut bytes = 0;
        while let Some(rest) = time.checked_sub(started.elapsed()) {
            for index in 0..self.epoll.wait(Some(rest))? {
                let stream = &self.streams[self.epoll.token(index)];
                match sys::discard_now(stream, TAKE_BYTES) {
                    Ok(0) => return Err(io::Error::other("a connection ended early")),
                    Ok(len) => bytes += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(bytes)
    }
}
