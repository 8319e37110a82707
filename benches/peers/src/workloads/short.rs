//! Connections of one request and one reply, 64 at once. The backend closes
//! first, so that no client or proxy runs out of ephemeral ports.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::sys::{self, Epoll};
use crate::wire::{Behaviour, GREETING_BYTES};
use crate::{client, socks5};

const AT_ONCE: usize = 64;

/// Connections before counting starts.
const WARM_UP: usize = 200;

/// How long to wait for any event of the connections under way.
const STALL: Duration = Duration::from_secs(5);

/// Given to the proxy to finish with connections the client is done with.
const SETTLE: Duration = Duration::from_millis(10);

pub(crate) fn measure(proxy: &Proxy, effort: &Effort) -> Figures {
    let mut crowd = Crowd::new(proxy)?;
    crowd.run(effort.window, WARM_UP)?;
    thread::sleep(SETTLE);
    let cpu_before = proxy.cpu_seconds();
    let started = Instant::now();
    let connections = crowd.run(effort.window, effort.short_connections_max)? as f64;
    let elapsed = started.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let mut figures = vec![(Metric::ConnectionsPerSecond, connections / elapsed)];
    if let (Some(before), Some(after)) = (cpu_before, proxy.cpu_seconds()) {
        figures.push((Metric::CpuPerConnection, (after - before) * 1e6 / connections));
    }
    Ok(figures)
}

struct Visit {
    stream: TcpStream,
    step: Step,
    received: usize,
}

/// What a client waits for.
#[derive(Clone, Copy)]
enum Step {
    /// To be told which method to use, and then whether it is connected, by a
    /// proxy that talks SOCKS.
    Method,
    Connected,
    /// Its reply, and the end.
    Reply,
}

struct Crowd<'a> {
    proxy: &'a Proxy,
    epoll: Epoll,
    visits: [Option<Visit>; AT_ONCE],
}

impl<'a> Crowd<'a> {
    fn new(proxy: &'a Proxy) -> io::Result<Self> {
        Ok(Self { proxy, epoll: Epoll::new()?, visits: [const { None }; AT_ONCE] })
    }

    /// Starts connections until the time or their number is used up, finishes
    /// what is under way, and returns how many were finished.
    fn run(&mut self, time: Duration, connections_max: usize) -> io::Result<usize> {
        let started_at = Instant::now();
        let mut started = AT_ONCE.min(connections_max);
        for token in 0..started {
            self.start(token)?;
        }
        let mut finished = 0;
        while finished < started {
            let count = self.epoll.wait(Some(STALL))?;
            if count == 0 {
                return Err(io::Error::other("connections stalled"));
            }
            for index in 0..count {
                let token = self.epoll.token(index);
                if !self.advance(token)? {
                    continue;
                }
                finished += 1;
                if started < connections_max && started_at.elapsed() < time {
                    started += 1;
                    self.start(token)?;
                }
            }
        }
        Ok(finished)
    }

    fn start(&mut self, token: usize) -> io::Result<()> {
        let stream = client::connect(self.proxy.addr)?;
        let step = match self.proxy.asked_for {
            Some(_) => {
                sys::send_now(&stream, &socks5::GREETING)?;
                Step::Method
            }
            None => {
                sys::send_now(&stream, &Behaviour::Short.greeting())?;
                Step::Reply
            }
        };
        self.epoll.add(&stream, token, sys::READABLE)?;
        self.visits[token] = Some(Visit { stream, step, received: 0 });
        Ok(())
    }

    /// Receives what there is; true when the connection has come to its end.
    fn advance(&mut self, token: usize) -> io::Result<bool> {
        let Some(visit) = &mut self.visits[token] else {
            return Ok(false);
        };
        let mut buffer = [0; 2 * GREETING_BYTES];
        loop {
            match sys::recv_now(&visit.stream, &mut buffer) {
                Ok(0) if visit.received == GREETING_BYTES => {
                    self.visits[token] = None;
                    return Ok(true);
                }
                Ok(len @ 1..) if visit.goes_on(&buffer[..len], self.proxy)? => {}
                Ok(0) => return Err(io::Error::other("a reply was lost")),
                Ok(len) => visit.received += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Visit {
    /// What a proxy that talks SOCKS says before the reply, and what is said to
    /// that. It comes whole: it is a few bytes, alone on their way.
    fn goes_on(&mut self, heard: &[u8], proxy: &Proxy) -> io::Result<bool> {
        match (self.step, proxy.asked_for) {
            (Step::Method, Some(to)) if heard == socks5::METHOD => {
                sys::send_now(&self.stream, &socks5::request(to)?)?;
                self.step = Step::Connected;
            }
            (Step::Connected, _) if socks5::is_success(heard) => {
                sys::send_now(&self.stream, &Behaviour::Short.greeting())?;
                self.step = Step::Reply;
            }
            (Step::Reply, _) => return Ok(false),
            _ => return Err(io::Error::other(format!("refused: {heard:?}"))),
        }
        Ok(true)
    }
}
