//! Every process, port and file that a run makes, and their end on every way
//! out: in order, by a signal, or by a panic.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStderr, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounting;
use crate::sys::{self, Pid};

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// What is left to clean up.
static LEFT: Mutex<Left> = Mutex::new(Left { leaders: Vec::new(), folder: None });

struct Left {
    /// Leaders of process groups that were started and not yet reaped.
    leaders: Vec<Pid>,
    folder: Option<PathBuf>,
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends everything at once; for the ways out on which no destructor runs.
fn end_everything() {
    let left = left();
    for &leader in &left.leaders {
        end_strays(leader);
        sys::signal_group(leader, sys::SIGKILL);
    }
    if let Some(folder) = &left.folder {
        // Nothing more can be done about a folder that cannot be removed.
        let _ = fs::remove_dir_all(folder);
    }
}

/// Ends what descends from `leader` and has left its group, as what sshd starts
/// for a connection does. Only while the leader lives can they be told.
fn end_strays(leader: Pid) {
    for pid in accounting::family(leader) {
        if sys::group_leader(pid).is_some_and(|group| group != leader) {
            sys::signal(pid, sys::SIGKILL);
        }
    }
}

/// From now on INT, TERM, HUP and panics leave nothing behind.
pub(crate) fn guard() {
    let signals = sys::block_signals();
    thread::spawn(move || {
        let signal = signals.wait();
        end_everything();
        process::exit(128 + signal);
    });
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        end_everything();
    }));
}

/// A folder for generated files, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("seaprox-peers-{}", process::id()));
        fs::create_dir(&path)?;
        left().folder = Some(path.clone());
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing more can be done about a folder that cannot be removed.
        let _ = fs::remove_dir_all(&self.0);
        left().folder = None;
    }
}

/// A child process that leads a group of its own; dropping it ends the group,
/// and its descendants that have left the group.
pub(crate) struct Owned {
    child: Child,
    /// What asks it to end, before it is killed.
    end_signal: i32,
}

impl Owned {
    pub(crate) fn spawn(command: &mut Command, end_signal: i32) -> io::Result<Self> {
        sys::tie_to_parent(command, end_signal);
        let owned = Self { child: command.spawn()?, end_signal };
        left().leaders.push(owned.pid());
        Ok(owned)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.child.id().cast_signed()
    }

    pub(crate) fn has_ended(&self) -> bool {
        sys::has_ended(self.pid())
    }

    /// The reading end of its standard error, if that was piped.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let pid = self.pid();
        end_strays(pid);
        sys::signal_group(pid, self.end_signal);
        let deadline = Instant::now() + GRACE;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        // The leader is not reaped yet, so its number is still the group's.
        sys::signal_group(pid, sys::SIGKILL);
        let mut left = left();
        // A child that was never waited for can be.
        let _ = self.child.wait();
        left.leaders.retain(|&leader| leader != pid);
    }
}

/// A listener on a loopback port outside the ephemeral range, so that no
/// connection of the benchmark can take it, nor meet itself there.
pub(crate) fn bind_free_port() -> io::Result<TcpListener> {
    const FIRST: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ephemeral = range.split_whitespace().next().and_then(|low| low.parse().ok());
    let count = ephemeral.unwrap_or(32_768_u16).saturating_sub(FIRST).max(1);
    let offset = (process::id() % u32::from(count)) as u16;
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let port = FIRST + ((u32::from(offset) + u32::from(step)) % u32::from(count)) as u16;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    Err(io::Error::other("no free port below the ephemeral range"))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_descendant_that_left_the_group_ends_too() {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 30 & wait"]).stdout(Stdio::null()).stderr(Stdio::null());
        let owned = Owned::spawn(&mut command, sys::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let stray = loop {
            let found = accounting::family(owned.pid())
                .into_iter()
                .find(|&pid| sys::group_leader(pid).is_some_and(|group| group != owned.pid()));
            match found {
                Some(pid) => break pid,
                None => assert!(Instant::now() < deadline, "nothing left the group"),
            }
            thread::sleep(Duration::from_millis(1));
        };
        drop(owned);
        // Ended, or waited for as well, when somebody adopts orphans here.
        let is_alive = || {
            let stat = fs::read_to_string(format!("/proc/{stray}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
        };
        while is_alive() {
            assert!(Instant::now() < deadline, "it lives on");
            thread::sleep(Duration::from_millis(1));
        }
    }
}
