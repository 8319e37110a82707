//! A request and its reply, again and again, on 64 connections at once.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::sys::{self, Epoll};
use crate::wire::Behaviour;

const CONNECTIONS: usize = 64;

pub(crate) fn measure(proxy: &Proxy, effort: &Effort, message_bytes: usize) -> Figures {
    let mut players = Players::open(proxy, message_bytes)?;
    players.play_for(effort.warm_up)?;
    players.latencies.clear();
    let cpu_before = proxy.cpu_seconds();
    let started = Instant::now();
    players.play_for(effort.window)?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu_after = proxy.cpu_seconds();
    let requests = players.latencies.len() as f64;
    let mut figures = vec![(Metric::RequestsPerSecond, requests / elapsed)];
    figures.extend(percentiles(&mut players.latencies)?);
    if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
        figures.push((Metric::CpuPerRequest, (after - before) * 1e6 / requests));
    }
    Ok(figures)
}

/// The middle and the tail of latencies, which are left sorted.
pub(super) fn percentiles(latencies: &mut [Duration]) -> io::Result<[(Metric, f64); 2]> {
    latencies.sort_unstable();
    let last =
        latencies.len().checked_sub(1).ok_or_else(|| io::Error::other("no reply came through"))?;
    let microseconds = |percent: usize| latencies[last * percent / 100].as_secs_f64() * 1e6;
    Ok([(Metric::LatencyHalf, microseconds(50)), (Metric::LatencyTail, microseconds(99))])
}

struct Player {
    stream: TcpStream,
    sent_at: Instant,
    received: usize,
}

struct Players {
    epoll: Epoll,
    players: Vec<Player>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    latencies: Vec<Duration>,
}

impl Players {
    /// Opens the connections and sends the first request on each.
    fn open(proxy: &Proxy, message_bytes: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let message = vec![0; message_bytes];
        let mut players = Vec::with_capacity(CONNECTIONS);
        for token in 0..CONNECTIONS {
            let stream = proxy.open_echoed(Behaviour::Echo)?;
            epoll.add(&stream, token, sys::READABLE)?;
            players.push(Player { stream, sent_at: Instant::now(), received: 0 });
        }
        for player in &mut players {
            player.send(&message)?;
        }
        Ok(Self {
            epoll,
            players,
            message,
            buffer: vec![0; 64 * 1024],
            latencies: Vec::with_capacity(1 << 20),
        })
    }

    fn play_for(&mut self, time: Duration) -> io::Result<()> {
        let started = Instant::now();
        while let Some(rest) = time.checked_sub(started.elapsed()) {
            for index in 0..self.epoll.wait(Some(rest))? {
                let player = &mut self.players[self.epoll.token(index)];
                if let Some(latency) = player.receive(self.message.len(), &mut self.buffer)? {
                    self.latencies.push(latency);
                    player.send(&self.message)?;
                }
            }
        }
        Ok(())
    }
}

impl Player {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.sent_at = Instant::now();
        self.received = 0;
        if sys::send_now(&self.stream, message)? == message.len() {
            Ok(())
        } else {
            Err(io::Error::other("a request did not fit the socket"))
        }
    }

    /// Receives once, and returns the latency when the reply is complete.
    fn receive(&mut self, expected: usize, buffer: &mut [u8]) -> io::Result<Option<Duration>> {
        match sys::recv_now(&self.stream, buffer) {
            Ok(0) => return Err(io::Error::other("a connection ended early")),
            Ok(len) => self.received += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok((self.received >= expected).then(|| self.sent_at.elapsed()))
    }
}
