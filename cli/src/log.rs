//! Events as logfmt on stderr, one line each. A caller never waits for whoever reads stderr: it
//! puts its line into a ring of static memory, and a thread of the log's own does the writing,
//! outside the lock. A line that finds the ring full is lost, and counted where it is missing.
//! Allocates nothing after [`Log::start`].

use crate::line::Line;
use crate::sys;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A line's longest form, newline included.
pub const LINE_BYTES: usize = 512;
/// How many lines may wait for the reader of stderr.
pub const LINES_MAX: usize = 256;
/// The log thread's stack.
pub const STACK_BYTES: usize = 64 * 1024;
/// What is written at once: at most PIPE_BUF (pipe(7)), so that lines of several processes do not
/// mix.
const BATCH_BYTES: usize = 4096;

/// How much an event matters; the numbers are those of syslog(3), which journald reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something the program was asked to do failed.
    Error = 3,
    /// It goes on, but not as asked.
    Warn = 4,
    /// What an operator wants to see once.
    Info = 6,
    /// What helps to find out why.
    Debug = 7,
}

impl Level {
    /// The level of this name.
    pub fn named(name: &str) -> Option<Level> {
        [Level::Error, Level::Warn, Level::Info, Level::Debug]
            .into_iter()
            .find(|level| level.name() == name)
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// The program's log.
pub static LOG: Log = Log::new();

/// Begins a line of the program's log.
pub fn event(level: Level, name: &'static str) -> Event<'static> {
    LOG.event(level, name)
}

/// A ring of lines and the thread that writes them. All zeroes: not started, and every event is
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
    /// A log that is not started.
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

    /// Starts the thread that writes; returns when it runs, so that nothing it needs is allocated
    /// later.
    pub fn start(&'static self, options: Options) -> io::Result<()> {
        self.journald.store(options.journald, Ordering::Relaxed);
        self.fd.store(options.fd, Ordering::Relaxed);
        std::thread::Builder::new()
            .name("log".into())
            .stack_size(STACK_BYTES)
            .spawn(move || self.run())?;
        let ring = self.lock();
        let started = self.written.wait_while(ring, |ring| !ring.running);
        drop(started.unwrap_or_else(PoisonError::into_inner));
        self.level.store(options.level as u8, Ordering::Release);
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
        while ring.running && (ring.count > 0 || ring.lost > 0 || ring.writing) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.written.wait_timeout(ring, left);
            ring = waited.unwrap_or_else(PoisonError::into_inner).0;
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

    fn run(&self) {
        let mut batch = [0; BATCH_BYTES];
        let mut ring = self.lock();
        ring.running = true;
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

fn begin(line: &mut Line<LINE_BYTES>, journald: bool, level: Level) {
    // Writing to a line cannot fail.
    let _ = if journald {
        write!(line, "<{}>level={}", level as u8, level.name())
    } else {
        write!(line, "time={} level={}", Utc::now(), level.name())
    };
}

fn add_field(line: &mut Line<LINE_BYTES>, key: &str, value: impl fmt::Display) {
    let mut scan = Scan { plain: true, empty: true };
    let _ = write!(scan, "{value}");
    let quoted = scan.empty || !scan.plain;
    line.push(" ");
    line.push(key);
    line.push(if quoted { "=\"" } else { "=" });
    if line.is_cut() {
        return;
    }
    let _ = write!(Value { line, quoted }, "{value}");
    if quoted {
        line.close_quote();
    }
}

/// Whether a value can stand without quotes.
struct Scan {
    plain: bool,
    empty: bool,
}

fn is_plain(character: char) -> bool {
    !matches!(character, ' ' | '"' | '=' | '\\') && !character.is_control()
}

impl fmt::Write for Scan {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.empty &= text.is_empty();
        self.plain &= text.chars().all(is_plain);
        Ok(())
    }
}

struct Value<'b> {
    line: &'b mut Line<LINE_BYTES>,
    quoted: bool,
}

impl fmt::Write for Value<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut utf8 = [0; 4];
        for character in text.chars() {
            self.line.push(match character {
                plain if is_plain(plain) => plain.encode_utf8(&mut utf8),
                // The value was another when it was scanned.
                _ if !self.quoted => "_",
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\t' => "\\t",
                control if control.is_control() => "\\?",
                other => other.encode_utf8(&mut utf8),
            });
        }
        Ok(())
    }
}

/// A point in time as RFC 3339 writes it.
struct Utc {
    millis: u64,
}

impl Utc {
    fn now() -> Utc {
        // Before 1970 every time is shown as its first moment.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Utc { millis: since.as_millis() as u64 }
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.millis / 1000, self.millis % 1000);
        let (day, second) = (seconds / 86400, seconds % 86400);
        // Years begin in March here, so that a leap day is the last of its year; day 0 is
        // 0000-03-01, and an era of 400 years has 146097 days (the Gregorian cycle).
        let day = day + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
