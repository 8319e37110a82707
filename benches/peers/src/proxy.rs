//! A proxy that runs: how it is started, and what it has used so far.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounting::Processes;
use crate::client;
use crate::lifecycle::{self, Owned};
use crate::peers::{Installed, Route};
use crate::sys;
use crate::wire::Behaviour;

/// How long a proxy may take to accept its first connection.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How often that is tried.
const START_POLL: Duration = Duration::from_micros(50);

/// What every proxy of a run gets.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) threads: usize,
    pub(crate) open_files: u64,
    pub(crate) seaprox_args: &'a [String],
    pub(crate) folder: &'a Path,
}

/// A proxy in front of a backend, or, for `direct`, the backend itself.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    pub(crate) program_bytes: Option<u64>,
    running: Option<Process>,
}

struct Process {
    processes: Processes,
    startup: Startup,
    /// Dropped with it, which ends the proxy.
    _owned: Owned,
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
        let route = Route {
            listen,
            target,
            threads: setting.threads,
            open_files: setting.open_files,
            seaprox_args: setting.seaprox_args,
            folder: setting.folder,
        };
        let Some(mut command) = installed.command(&route)? else {
            return Ok(Self { addr: target, program_bytes: None, running: None });
        };
        let log = setting.folder.join(format!("{}-{}.log", peer.name(), listen.port()));
        command.stderr(Stdio::from(File::create(&log)?));
        let started = Instant::now();
        let owned = Owned::spawn(&mut command, sys::SIGTERM)?;
        let first = first_connection(listen, &owned, started, &log)?;
        let connect = started.elapsed();
        client::exchange(&first, &Behaviour::Echo.greeting())?;
        let startup = Startup { connect, reply: started.elapsed() };
        Ok(Self {
            addr: listen,
            program_bytes: installed.program_bytes(),
            running: Some(Process {
                processes: Processes::of(owned.pid(), peer.forks()),
                startup,
                _owned: owned,
            }),
        })
    }

    /// None for `direct`.
    pub(crate) fn startup(&self) -> Option<Startup> {
        self.running.as_ref().map(|process| process.startup)
    }

    /// None for `direct`.
    pub(crate) fn processes(&self) -> Option<&Processes> {
        self.running.as_ref().map(|process| &process.processes)
    }

    /// CPU seconds of the proxy so far; none for `direct`.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        self.processes().map(Processes::cpu_seconds)
    }
}

/// Connects again and again until it works.
fn first_connection(
    addr: SocketAddr,
    owned: &Owned,
    started: Instant,
    log: &Path,
) -> io::Result<TcpStream> {
    loop {
        match client::connect(addr) {
            Ok(stream) => return Ok(stream),
            Err(error) if started.elapsed() > START_TIMEOUT => return Err(error),
            Err(_) if owned.has_ended() => {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it ended without a word");
                return Err(io::Error::other(last.to_owned()));
            }
            Err(_) => thread::sleep(START_POLL),
        }
    }
}
