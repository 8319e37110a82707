//! A proxy or tunnel that runs: how it is started, and what it has used so far.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounting::Processes;
use crate::client;
use crate::effort::Threads;
use crate::lifecycle::{self, Owned};
use crate::peers::{Installed, Launch, Peer, Route};
use crate::wire::Behaviour;
use crate::{socks5, sys};

/// How long a proxy may take to accept its first connection.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How often that is tried.
const START_POLL: Duration = Duration::from_micros(50);

/// What every proxy of a run gets.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) threads: Threads,
    pub(crate) open_files: u64,
    pub(crate) seaprox_args: &'a [String],
    pub(crate) folder: &'a Path,
    /// What the relay between the ends of a tunnel does; no relay without.
    pub(crate) path: Option<&'a str>,
}

/// A proxy in front of a backend, or, for `direct`, the backend itself.
pub(crate) struct Proxy {
    pub(crate) peer: Peer,
    pub(crate) addr: SocketAddr,
    /// Where its clients have to say that they want to go, in SOCKS 5.
    pub(crate) asked_for: Option<SocketAddr>,
    pub(crate) program_bytes: Option<u64>,
    running: Option<Running>,
}

struct Running {
    processes: Processes,
    startup: Startup,
    /// Dropped with it, which ends the proxy: what clients connect to first.
    started: Vec<Started>,
}

/// One process of it.
struct Started {
    owned: Owned,
    log: PathBuf,
    is_relay: bool,
}

/// How long after its start a proxy served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Startup {
    /// Until a connection to it was accepted, by its kernel's queue at least.
    pub(crate) connect: Duration,
    /// Until the first bytes had come back through it.
    pub(crate) reply: Duration,
}

impl Proxy {
    /// Starts `installed` in front of `target` and waits until it serves. It
    /// runs where the calling thread may.
    pub(crate) fn start(
        installed: &Installed,
        target: SocketAddr,
        setting: &Setting<'_>,
    ) -> Result<Self, String> {
        Self::try_start(installed, target, setting)
            .map_err(|error| format!("does not start: {error}"))
    }

    fn try_start(
        installed: &Installed,
        target: SocketAddr,
        setting: &Setting<'_>,
    ) -> io::Result<Self> {
        let peer = installed.peer;
        let listen = lifecycle::bind_free_port()?.local_addr()?;
        let Threads { proxy, tunnel_end } = setting.threads;
        let route = Route {
            listen,
            target,
            threads: if peer.is_tunnel() { tunnel_end } else { proxy },
            open_files: setting.open_files,
            seaprox_args: setting.seaprox_args,
            folder: setting.folder,
            path: setting.path,
        };
        let launches = installed.launches(&route)?;
        if launches.is_empty() {
            let (asked_for, program_bytes) = (None, None);
            return Ok(Self { peer, addr: target, asked_for, program_bytes, running: None });
        }
        let begun = Instant::now();
        let mut started = Vec::with_capacity(launches.len());
        for (number, launch) in launches.into_iter().enumerate() {
            let log = format!("{}-{}-{number}.log", peer.name(), listen.port());
            start_one(launch, setting.folder.join(log), begun, &mut started)?;
        }
        let first = keep_trying(begun, &started, || client::connect(listen))?;
        let connect = begun.elapsed();
        let asked_for = peer.talks_socks5().then_some(target);
        asked_for
            .map_or(Ok(()), |to| socks5::set_up(&first, to))
            .map_err(|error| last_word(&started).unwrap_or(error))?;
        client::exchange(&first, &Behaviour::Echo.greeting())
            .map_err(|error| last_word(&started).unwrap_or(error))?;
        let startup = Startup { connect, reply: begun.elapsed() };
        let counted = started.iter().filter(|process| !process.is_relay);
        let pids = counted.map(|process| process.owned.pid()).collect();
        started.reverse();
        Ok(Self {
            peer,
            addr: listen,
            asked_for,
            program_bytes: installed.program_bytes(),
            running: Some(Running {
                processes: Processes::of(pids, peer.forks()),
                startup,
                started,
            }),
        })
    }

    /// A connection through it to the backend.
    pub(crate) fn open(&self) -> io::Result<TcpStream> {
        let stream = client::connect(self.addr)?;
        self.asked_for.map_or(Ok(()), |to| socks5::set_up(&stream, to))?;
        Ok(stream)
    }

    /// The same, and the greeting has come back once.
    pub(crate) fn open_echoed(&self, behaviour: Behaviour) -> io::Result<TcpStream> {
        let stream = self.open()?;
        client::exchange(&stream, &behaviour.greeting())?;
        Ok(stream)
    }

    /// What a process of it that has ended said last; none while all run.
    pub(crate) fn last_word(&self) -> Option<io::Error> {
        last_word(&self.running.as_ref()?.started)
    }

    /// None for `direct`.
    pub(crate) fn startup(&self) -> Option<Startup> {
        self.running.as_ref().map(|running| running.startup)
    }

    /// None for `direct`.
    pub(crate) fn processes(&self) -> Option<&Processes> {
        self.running.as_ref().map(|running| &running.processes)
    }

    /// CPU seconds of the proxy so far; none for `direct`.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.processes().map(Processes::cpu_seconds)
    }
}

/// Starts one more process and waits until the next one may be.
fn start_one(
    launch: Launch,
    log: PathBuf,
    begun: Instant,
    started: &mut Vec<Started>,
) -> io::Result<()> {
    let Launch { mut command, ready, is_relay } = launch;
    command.stderr(Stdio::from(File::create(&log)?));
    started.push(Started { owned: Owned::spawn(&mut command, sys::SIGTERM)?, log, is_relay });
    match ready {
        Some(file) => keep_trying(begun, started, || fs::metadata(&file).map(drop)),
        None => Ok(()),
    }
}

/// Again and again until it works, while all that was started runs.
fn keep_trying<T>(
    begun: Instant,
    started: &[Started],
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if begun.elapsed() > START_TIMEOUT {
            return Err(error);
        }
        if let Some(error) = last_word(started) {
            return Err(error);
        }
        thread::sleep(START_POLL);
    }
}

/// What a process that has ended said last; none while all run.
fn last_word(started: &[Started]) -> Option<io::Error> {
    let ended = started.iter().find(|process| process.owned.has_ended())?;
    let said = fs::read_to_string(&ended.log).unwrap_or_default();
    let last = said.lines().last().unwrap_or("it ended without a word");
    Some(io::Error::other(last.to_owned()))
}
