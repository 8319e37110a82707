//! A hostile relay for UDP between any number of clients and one server: it loses, delays,
//! reorders, copies, damages and replays datagrams as it is told at any time, from a seed. Knows
//! nothing of what they say.
//!
//! Each client has a socket of its own towards the server, as behind a NAT. Each datagram is
//! received and sent by itself: whatever the ends save by batches, they do not save here.
//! Everything it holds is bounded: [`CLIENTS_MAX`], [`HELD_BYTES_MAX`].

mod conditions;
mod counters;
mod path;
mod sockets;

pub use conditions::{Burst, Conditions, QUEUE_BYTES_MIN, Queue, WORDS, Way};
pub use counters::Counters;
pub use path::HISTORY;
pub use sockets::{CLIENTS_MAX, HELD_BYTES_MAX};

use sockets::Sockets;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A relay that runs, on a thread of its own; dropping it ends it.
pub struct Relay {
    address: SocketAddr,
    start: Instant,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the relay's thread and its owner tell each other.
#[derive(Default)]
struct Shared {
    conditions: Conditions,
    /// One more with every change.
    version: u64,
    totals: Totals,
    is_ending: bool,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// To the server.
    pub up: Counters,
    /// To the clients.
    pub down: Counters,
    /// Clients, told by their addresses, so far.
    pub clients: u64,
    /// How often one got another port towards the server.
    pub rebinds: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "up: {}", self.up)?;
        writeln!(f, "down: {}", self.down)?;
        write!(f, "clients {} rebinds {}", self.clients, self.rebinds)
    }
}

impl Relay {
    /// Listens on `listen`, whose port may be 0, for clients of `server`.
    ///
    /// # Errors
    /// There is no such socket, or no thread for it.
    pub fn start(
        listen: SocketAddr,
        server: SocketAddr,
        seed: u64,
        conditions: Conditions,
    ) -> io::Result<Relay> {
        let start = Instant::now();
        let mut sockets = Sockets::new(listen, server, seed, start)?;
        let address = sockets.address()?;
        let shared = Arc::new(Mutex::new(Shared { conditions, version: 1, ..Shared::default() }));
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("hostile-relay".into()).spawn(move || {
            sockets::be_punctual()?;
            let mut seen = 0;
            loop {
                {
                    let mut shared = lock(&theirs);
                    shared.totals = sockets.totals();
                    if shared.is_ending {
                        return Ok(());
                    }
                    if shared.version != seen {
                        seen = shared.version;
                        sockets.set(shared.conditions.clone());
                    }
                }
                sockets.turn()?;
            }
        })?;
        Ok(Relay { address, start, shared, thread: Some(thread) })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the conditions for all datagrams that it reads from now on. Those on the way stay
    /// on it. A change takes effect within 20 ms even when nothing comes.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        let mut shared = lock(&self.shared);
        change(&mut shared.conditions);
        shared.version += 1;
    }

    /// The same, in words ([`WORDS`]).
    ///
    /// # Errors
    /// A word is not understood; nothing has changed then.
    pub fn apply(&self, words: &str) -> Result<(), String> {
        let now = self.start.elapsed();
        let mut result = Ok(());
        self.set(|conditions| result = conditions.apply(words, now));
        result
    }

    /// Gives each client a new port towards the server. What still arrives at the old one is lost
    /// without a word.
    pub fn rebind(&self) {
        self.set(|conditions| conditions.rebinds += 1);
    }

    /// Everything vanishes, both ways, from `after` on for so long.
    pub fn blackout(&self, after: Duration, lasting: Duration) {
        let begin = self.start.elapsed() + after;
        self.set(|conditions| {
            conditions.both(|way, dark| way.blackout = dark, begin..begin + lasting)
        });
    }

    /// What has happened so far; of the last moment something may be missing.
    pub fn totals(&self) -> Totals {
        lock(&self.shared).totals
    }

    /// Whether it has ended by itself, for an error.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it; what is on the way is lost.
    ///
    /// # Errors
    /// It has ended before, for this reason.
    pub fn end(mut self) -> io::Result<Totals> {
        self.join()?;
        Ok(self.totals())
    }

    fn join(&mut self) -> io::Result<()> {
        lock(&self.shared).is_ending = true;
        let ended = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        ended.unwrap_or_else(|_| Err(io::Error::other("the relay panicked")))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Who wants to know calls `end`.
        let _ = self.join();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
