//! Turns what a worker tells into lines of the log. Runs on the worker's thread: allocates nothing
//! and never waits.

use crate::log::{self, Event, LOG, Level};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::transport::{Notice, Observer};
use std::time::{Duration, Instant};

/// Trouble of one kind is a line at most this often; what came in between is counted in the next.
const SELDOM: Duration = Duration::from_secs(10);

/// One thread's reporter.
#[derive(Debug, Default)]
pub struct Reporter {
    connections: bool,
    names: &'static [&'static str],
    refused: Seldom,
    exhausted: Seldom,
}

impl Reporter {
    /// `connections`: whether each connection that ended, or was not made, is a line. `names`: what
    /// those are called whom this end knows, by their numbers.
    pub fn new(connections: bool, names: &'static [&'static str]) -> Self {
        Reporter { connections, names, ..Reporter::default() }
    }

    /// An event of a link, with whoever is at its far end.
    fn link(
        &self,
        level: Level,
        name: &'static str,
        peer: Address,
        number: Option<u16>,
    ) -> Event<'static> {
        let event = log::event(level, name).field("peer", peer);
        match number.and_then(|number| self.names.get(usize::from(number))) {
            Some(name) => event.field("name", name),
            None => event,
        }
    }
}

/// Lets one through, and holds the rest back for a while.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// How many were held back since the last one that was let through, if this one is.
    fn pass(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < SELDOM) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

impl Observer for Reporter {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(description) => {
                if LOG.enabled(Level::Debug) {
                    log::event(Level::Debug, "connected").field("connection", description).send();
                }
            }
            Notice::Closed { description, source_bytes, dest_bytes, reason, .. } => {
                let level = if self.connections { Level::Info } else { Level::Debug };
                if LOG.enabled(level) {
                    log::event(level, "closed")
                        .field("connection", description)
                        .field("source_bytes", source_bytes)
                        .field("dest_bytes", dest_bytes)
                        .field("reason", reason.map_or("end", FailReason::name))
                        .send();
                }
            }
            Notice::Refused { source, reason, .. } if self.connections => {
                let event = log::event(Level::Warn, "refused");
                event.field("source", source).field("reason", reason).send();
            }
            Notice::Refused { source, reason, .. } => {
                // A client that left is nobody's trouble.
                if reason != FailReason::SourceGone
                    && let Some(held_back) = self.refused.pass()
                {
                    log::event(Level::Warn, "refused")
                        .field("source", source)
                        .field("reason", reason)
                        .field("others", held_back)
                        .send();
                }
            }
            Notice::LinkUp { peer, number } => {
                self.link(Level::Info, "link up", peer, number).send();
            }
            Notice::LinkDown { peer, number, reason } => {
                self.link(Level::Warn, "link down", peer, number).field("reason", reason).send();
            }
            Notice::Exhausted(errno) => {
                if let Some(held_back) = self.exhausted.pass() {
                    log::event(Level::Warn, "nothing is accepted for a moment")
                        .field("errno", errno.raw_os_error())
                        .field("others", held_back)
                        .send();
                }
            }
        }
    }
}
