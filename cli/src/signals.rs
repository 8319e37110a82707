//! What the operator tells a running program. The signals are blocked in every thread, so none
//! interrupts a worker; the main thread alone waits for them. Knows not what is done about one.

use crate::sys::{self, SignalSet};
use std::io;
use std::time::{Duration, Instant};

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: end in order; once more: end now.
    End,
    /// HUP: look names up again.
    LookUpAgain,
    /// USR1: write what runs to the log.
    Status,
    /// USR2, from one of our own threads ([`worker_ended`]): a worker has ended. Anybody may send
    /// it, so it only means "look".
    WorkerEnded,
}

const HANDLED: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// The right to wait for signals: they are blocked.
pub struct Signals {
    handled: SignalSet,
}

impl Signals {
    /// Blocks them in this thread and in those it starts: call it before any is started. SIGPIPE
    /// is ignored: a peer that left is an error of the call, not the end of the program.
    pub fn block() -> io::Result<Signals> {
        let handled = SignalSet::of(&HANDLED);
        handled.block()?;
        sys::ignore(libc::SIGPIPE);
        Ok(Signals { handled })
    }

    /// Waits for the next one, until `deadline` if there is one. No allocation.
    pub fn wait(&self, deadline: Option<Instant>) -> Option<Signal> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let signal = match self.handled.wait(left) {
                Some(libc::SIGTERM | libc::SIGINT) => Signal::End,
                Some(libc::SIGHUP) => Signal::LookUpAgain,
                Some(libc::SIGUSR1) => Signal::Status,
                Some(libc::SIGUSR2) => Signal::WorkerEnded,
                // sigtimedwait(2) is not restarted after SIGSTOP and SIGCONT.
                _ if left.is_none_or(|left| left > Duration::ZERO) => continue,
                _ => return None,
            };
            return Some(signal);
        }
    }
}

/// Tells the thread that waits for signals that a worker ended. From any thread.
pub fn worker_ended() {
    sys::signal_self(libc::SIGUSR2);
}
