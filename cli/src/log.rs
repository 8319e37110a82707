//! Events as logfmt on stderr, one line each. A caller never waits for whoever reads stderr: it
//! puts its line into a ring of static memory, and a thread of the log's own does the writing,
//! outside the lock. A line that finds the ring full is lost, and counted where it is missing.
//! Allocates nothing after [`Log::start`]. Between [`Log::open`] and that there is no thread yet, and
//! lines rest in the ring: whoever waits for them writes them himself.

use crate::line::Line;
pub use crate::logfmt::{LINE_BYTES, Level};
use crate::logfmt::{add_field, begin};
use crate::sys;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines may wait for the reader of stderr.
pub const LINES_MAX: usize = 256;
/// The log thread's stack.
pub const STACK_BYTES: usize = 64 * 1024;
/// What is written at once: at most PIPE_BUF (pipe(7)), so that lines of several processes do not
/// mix.
const BATCH_BYTES: usize = 4096;

/// The program's log.
pub static LOG: Log = Log::new();

/// Begins a line of the program's log.
pub fn event(level: Level, name: &'static str) -> Event<'static> {
    LOG.event(level, name)
}

/// A ring of lines and the thread that writes them. All zeroes: not open, and every event is
/// dropped.
pub struct Log {
    /// Events up to this level are written; 0: none.
    level: AtomicU8,
    journald: AtomicBool,
    fd: AtomicI32,
    ring: Mutex<Ring>,
    filled: Condvar,
    written: Condvar,
}

/// Invariant: `first < LINES_MAX` and `count <= LINES_MAX`; `lost` lines are missing after the last
/// one in the ring, `lost_before` before the line that says so.
struct Ring {
    entries: [Entry; LINES_MAX],
    first: usize,
    count: usize,
    lost: u32,
    /// The thread runs.
    running: bool,
    /// The thread writes what it took out.
    writing: bool,
}

struct Entry {
    bytes: [u8; LINE_BYTES],
    length: u16,
    lost_before: u32,
}

/// How the log begins.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events of this level and graver ones are written.
    pub level: Level,
    /// Whether the reader is journald: lines begin with `<n>` and carry no time.
    pub journald: bool,
    /// Where lines are written.
    pub fd: i32,
}

impl Options {
    /// For stderr, whatever is connected to it.
    pub fn stderr(level: Level) -> Options {
        let variable = std::env::var("JOURNAL_STREAM").ok();
        let stderr = sys::device_and_inode(sys::STDERR);
        Options { level, journald: is_journal(variable.as_deref(), stderr), fd: sys::STDERR }
    }
}

/// systemd.exec(5): JOURNAL_STREAM is the device and inode of the journal's socket; when stderr was
/// sent elsewhere since, they differ.
fn is_journal(variable: Option<&str>, stderr: Option<(u64, u64)>) -> bool {
    let journal = variable.and_then(|text| {
        let (device, inode) = text.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    });
    journal.is_some() && journal == stderr
}

impl Log {
    /// A log that is not open.
    pub const fn new() -> Self {
        const EMPTY: Entry = Entry { bytes: [0; LINE_BYTES], length: 0, lost_before: 0 };
        Log {
            level: AtomicU8::new(0),
            journald: AtomicBool::new(false),
            fd: AtomicI32::new(0),
            ring: Mutex::new(Ring {
                entries: [EMPTY; LINES_MAX],
                first: 0,
                count: 0,
                lost: 0,
                running: false,
                writing: false,
            }),
            filled: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// From now on events are kept, until somebody writes them.
    pub fn open(&self, options: Options) {
        self.journald.store(options.journald, Ordering::Relaxed);
        self.fd.store(options.fd, Ordering::Relaxed);
        self.level.store(options.level as u8, Ordering::Release);
    }

    /// Starts the thread that writes; returns when it runs, so that nothing it needs is allocated
    /// later. It calls `prepare`, which allocates nothing, before it writes.
    pub fn start(&'static self, prepare: fn()) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("log".into()).stack_size(STACK_BYTES);
        thread.spawn(move || self.run(prepare))?;
        let ring = self.lock();
        let started = self.written.wait_while(ring, |ring| !ring.running);
        drop(started.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Whether an event of this level is written.
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Acquire)
    }

    /// Begins a line; [`Event::send`] ends it.
    pub fn event(&self, level: Level, name: &'static str) -> Event<'_> {
        let mut line = Line::new();
        let enabled = self.enabled(level);
        if enabled {
            begin(&mut line, self.journald.load(Ordering::Relaxed), level);
        }
        Event { log: self, line, enabled }.field("event", name)
    }

    /// Waits until every line is written, for at most `limit`; whether they are.
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut ring = self.lock();
        if !ring.running {
            return self.write_here(ring, deadline);
        }
        while ring.count > 0 || ring.lost > 0 || ring.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.written.wait_timeout(ring, left);
            ring = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Writes what is there, on a thread of the caller's; at most [`LINES_MAX`] batches.
    fn write_here(&self, mut ring: MutexGuard<'_, Ring>, deadline: Instant) -> bool {
        let fd = self.fd.load(Ordering::Relaxed);
        let mut batch = [0; BATCH_BYTES];
        while ring.count > 0 || ring.lost > 0 {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            // A pipe that can be written takes a whole batch (pipe(7), PIPE_BUF).
            if !sys::wait_writable(fd, Some(u16::try_from(left).unwrap_or(u16::MAX))) {
                return false;
            }
            let length = ring.take(&mut batch, self.journald.load(Ordering::Relaxed));
            write_all(fd, &batch[..length]);
        }
        true
    }

    /// No panic can poison it: they abort.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut ring = self.lock();
        if ring.put(line) && ring.count == 1 {
            drop(ring);
            self.filled.notify_one();
        }
    }

    fn run(&self, prepare: fn()) {
        let mut batch = [0; BATCH_BYTES];
        let mut ring = self.lock();
        ring.running = true;
        self.written.notify_all();
        drop(ring);
        prepare();
        ring = self.lock();
        loop {
            ring.writing = false;
            self.written.notify_all();
            let filled = self.filled.wait_while(ring, |ring| ring.count == 0 && ring.lost == 0);
            ring = filled.unwrap_or_else(PoisonError::into_inner);
            let length = ring.take(&mut batch, self.journald.load(Ordering::Relaxed));
            ring.writing = true;
            drop(ring);
            write_all(self.fd.load(Ordering::Relaxed), &batch[..length]);
            ring = self.lock();
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// Whether there was room.
    fn put(&mut self, line: &[u8]) -> bool {
        if self.count == LINES_MAX {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        let entry = &mut self.entries[(self.first + self.count) % LINES_MAX];
        entry.bytes[..line.len()].copy_from_slice(line);
        entry.length = line.len() as u16;
        entry.lost_before = std::mem::take(&mut self.lost);
        self.count += 1;
        true
    }

    /// Moves the oldest lines to `batch`, as many as fit, and says where some are missing.
    fn take(&mut self, batch: &mut [u8; BATCH_BYTES], journald: bool) -> usize {
        let mut length = 0;
        let mut add = |line: &[u8]| {
            batch[length..length + line.len()].copy_from_slice(line);
            length += line.len();
            // The line that tells of lost ones, and one more, still fit.
            BATCH_BYTES - length >= 2 * LINE_BYTES
        };
        let mut room = true;
        while room && self.count > 0 {
            let entry = &mut self.entries[self.first];
            if entry.lost_before > 0 {
                add(lost_line(entry.lost_before, journald).end());
                entry.lost_before = 0;
            }
            room = add(&entry.bytes[..usize::from(entry.length)]);
            self.first = (self.first + 1) % LINES_MAX;
            self.count -= 1;
        }
        if self.count == 0 && self.lost > 0 && room {
            add(lost_line(std::mem::take(&mut self.lost), journald).end());
        }
        length
    }
}

/// A blocked reader blocks only the log's own thread. What cannot be written at all is dropped:
/// there is nowhere to say so.
fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match sys::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares the descriptor made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sys::wait_writable(fd, None);
            }
            Err(_) => return,
        }
    }
}

/// One line on its way into the log.
pub struct Event<'l> {
    log: &'l Log,
    line: Line<LINE_BYTES>,
    enabled: bool,
}

impl Event<'_> {
    /// Adds `key=value`, quoted where it needs to be.
    pub fn field(mut self, key: &str, value: impl fmt::Display) -> Self {
        if self.enabled {
            add_field(&mut self.line, key, value);
        }
        self
    }

    /// Hands the line over; never blocks on a reader.
    pub fn send(mut self) {
        if self.enabled {
            self.log.put(self.line.end());
        }
    }
}

fn lost_line(lost: u32, journald: bool) -> Line<LINE_BYTES> {
    let mut line = Line::new();
    begin(&mut line, journald, Level::Warn);
    add_field(&mut line, "event", "log lines lost");
    add_field(&mut line, "lost", lost);
    line
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
