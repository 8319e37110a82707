//! One event as one line of logfmt: its level, its time, and `key=value` in a buffer of fixed size.
//! Knows no ring and no reader.

use crate::line::Line;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line's longest form, newline included.
pub const LINE_BYTES: usize = 512;

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

/// The beginning of every line.
pub(crate) fn begin(line: &mut Line<LINE_BYTES>, journald: bool, level: Level) {
    // Writing to a line cannot fail.
    let _ = if journald {
        write!(line, "<{}>level={}", level as u8, level.name())
    } else {
        write!(line, "time={} level={}", Utc::now(), level.name())
    };
}

/// Adds ` key=value`, quoted where it needs to be.
pub(crate) fn add_field(line: &mut Line<LINE_BYTES>, key: &str, value: impl fmt::Display) {
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
#[path = "logfmt_tests.rs"]
mod tests;
