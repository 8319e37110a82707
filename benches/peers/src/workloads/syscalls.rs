//! System calls of a proxy, counted by a tracer that is attached once it
//! serves, so that its start is not counted.

use std::io::{self, Read};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounting::{self, Processes};
use crate::client;
use crate::effort::Effort;
use crate::lifecycle::Owned;
use crate::metrics::{Measured, Metric};
use crate::peers;
use crate::proxy::Proxy;
use crate::sys;
use crate::wire::{Behaviour, GREETING_BYTES};

/// For the tracer to attach to every thread.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// Given to the proxy to finish before the count is taken.
const SETTLE: Duration = Duration::from_millis(50);

/// One connection at a time, so that no peer saves calls by taking several
/// events at once.
pub(crate) fn measure(proxy: &Proxy, effort: &Effort) -> Measured {
    let strace = peers::find_in_path("strace").ok_or("strace is not installed")?;
    let processes = proxy.processes().ok_or("it is no process")?;
    count(&strace, proxy, processes, effort).map_err(|error| error.to_string())
}

fn count(
    strace: &Path,
    proxy: &Proxy,
    processes: &Processes,
    effort: &Effort,
) -> io::Result<Vec<(Metric, f64)>> {
    let tracer = Tracer::attach(strace, processes)?;
    for _ in 0..effort.traced_connections {
        let stream = proxy.open_echoed(Behaviour::Short)?;
        io::copy(&mut &stream, &mut io::sink())?;
    }
    let connection_calls = tracer.finish()?;

    let stream = proxy.open_echoed(Behaviour::Echo)?;
    let tracer = Tracer::attach(strace, processes)?;
    for _ in 0..effort.traced_pairs {
        client::exchange(&stream, &[0; GREETING_BYTES])?;
    }
    let pair_calls = tracer.finish()?;

    Ok(vec![
        (Metric::CallsPerConnection, connection_calls as f64 / effort.traced_connections as f64),
        (Metric::CallsPerPair, pair_calls as f64 / effort.traced_pairs as f64),
    ])
}

/// A tracer attached to all threads of a proxy.
struct Tracer {
    process: Owned,
    summary: ChildStderr,
}

impl Tracer {
    fn attach(strace: &Path, processes: &Processes) -> io::Result<Self> {
        let pids = processes.pids();
        let mut command = Command::new(strace);
        command.args(["-f", "-c", "-q"]);
        for pid in &pids {
            command.args(["-p", &pid.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Owned::spawn(&mut command, sys::SIGINT)?;
        let summary = process
            .take_stderr()
            .ok_or_else(|| io::Error::other("strace has no standard error"))?;
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        while !pids.iter().all(|&pid| accounting::is_traced(pid)) {
            if process.has_ended() || Instant::now() > deadline {
                return Err(io::Error::other("strace may not attach"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { process, summary })
    }

    /// Detaches and returns how many calls there were.
    fn finish(mut self) -> io::Result<u64> {
        thread::sleep(SETTLE);
        drop(self.process);
        let mut summary = String::new();
        self.summary.read_to_string(&mut summary)?;
        total(&summary).ok_or_else(|| io::Error::other("strace's summary has no total"))
    }
}

/// The calls in the last line of a summary: percentage, seconds, microseconds
/// a call, calls, errors if any, "total".
fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().rfind(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_fourth_field_with_or_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let with = "100.00    0.001234           2       617        12 total\n";
        let without = "100.00    0.001234           2       617           total\n";
        assert_eq!(total(&format!("{head}{with}")), Some(617));
        assert_eq!(total(&format!("{head}{without}")), Some(617));
        assert_eq!(total(head), None);
    }
}
