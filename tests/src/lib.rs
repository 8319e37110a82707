//! What the tests of the real program have in common: the program, started and watched from
//! outside, and peers on both sides of it. Knows nothing of the program's inside.
//!
//! Every wait ends: what does not happen within [`PATIENCE`] fails the test. Only processes that a
//! test started are ended, by their number.

pub mod bytes;
pub mod ends;
pub mod example;
pub mod exchange;
pub mod keys;
pub mod launch;
pub mod namespace;
pub mod peer;
pub mod process;
pub mod program;
pub mod relay;
pub mod seeds;
pub mod talk;
pub mod tap;
pub mod trace;

use std::time::{Duration, Instant};

/// How long anything may take that should take no time at all: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So many bytes, or as many as move in the same time where all is emulated (tests/vm).
pub fn bulk(bytes: usize) -> usize {
    if std::env::var_os("SEAPROX_VM").is_some() { bytes / 4 } else { bytes }
}

/// Waits until `happened`, looking every few milliseconds.
///
/// # Panics
/// It does not happen.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command that must succeed, and gives what it said.
///
/// # Panics
/// It is not installed, or failed.
pub fn run(command: &[&str]) -> String {
    let (name, arguments) = command.split_first().expect("a command");
    let output = std::process::Command::new(name)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be run, install it: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
