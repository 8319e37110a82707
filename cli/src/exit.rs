//! How the program ends: exit codes (the values of sysexits.h), and one line that says why. It
//! allocates nothing, so it may end a sealed process too.

use crate::line::Line;
use crate::log::LOG;
use crate::sys;
use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

/// What the exit code tells the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or drained.
    Done = 0,
    /// Failed while running.
    Failed = 1,
    /// The command line was wrong (EX_USAGE).
    Usage = 64,
    /// The kernel has no such protocol (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The system refused what it should grant (EX_OSERR).
    System = 71,
    /// Permission denied (EX_NOPERM).
    Permission = 77,
    /// What was asked for cannot be had on this machine (EX_CONFIG).
    Configuration = 78,
}

impl ExitCode {
    /// The code for a system call that failed at start.
    pub fn of(error: &io::Error) -> ExitCode {
        match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => ExitCode::Permission,
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::ESOCKTNOSUPPORT) => {
                ExitCode::Unavailable
            }
            Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENOENT | libc::ENOTDIR) => {
                ExitCode::Configuration
            }
            _ => ExitCode::System,
        }
    }
}

/// How long a dying process waits for somebody to read its last line.
const LAST_WORDS_MILLIS: u16 = 1000;

/// Writes one line to stderr, unless nobody reads there: a pipe that can be written has room for
/// a line (pipe(7), PIPE_BUF). No allocation.
pub fn say(message: impl fmt::Display) {
    let mut line = Line::<1024>::new();
    // Writing to a line cannot fail.
    let _ = write!(line, "seaprox: {message}");
    if sys::wait_writable(sys::STDERR, Some(LAST_WORDS_MILLIS)) {
        let _ = sys::write(sys::STDERR, line.end());
    }
}

/// How long the end waits for the log to be written.
const LOG_LIMIT: Duration = Duration::from_millis(500);

/// Ends the process once the log is written, or a little later if nobody reads it.
pub fn end(code: ExitCode) -> ! {
    LOG.flush(LOG_LIMIT);
    std::process::exit(i32::from(code as u8))
}

/// Ends the process with one line `seaprox: MESSAGE`, after those of the log.
pub fn fail(code: ExitCode, message: impl fmt::Display) -> ! {
    LOG.flush(LOG_LIMIT);
    say(message);
    std::process::exit(i32::from(code as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_that_the_help_lists() {
        let code = |errno| ExitCode::of(&io::Error::from_raw_os_error(errno)) as u8;
        assert_eq!(code(libc::EACCES), 77);
        assert_eq!(code(libc::EAFNOSUPPORT), 69);
        assert_eq!(code(libc::EADDRNOTAVAIL), 78);
        assert_eq!(code(libc::EADDRINUSE), 71);
    }
}
