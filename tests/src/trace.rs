//! strace: what system calls the program makes, and what happens when they fail.

use crate::eventually;
use crate::process::{Process, Signal};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file of our own for a trace.
pub fn trace_file() -> PathBuf {
    temporary("trace")
}

/// A path of our own in the folder for temporary files.
pub fn temporary(kind: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("seaprox-test-{}-{number}.{kind}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A strace on all threads of a running process.
pub struct Strace {
    process: Process,
    child: Child,
    file: PathBuf,
}

impl Strace {
    /// Attaches, with more arguments: `["-e", "inject=accept4:error=EMFILE:when=1"]`.
    ///
    /// # Panics
    /// strace is not installed, or may not attach (it needs root, or ptrace_scope 0).
    pub fn attach(process: Process, arguments: &[&str]) -> Strace {
        let file = trace_file();
        let pid = process.0.to_string();
        let mut child = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&file)
            .args(arguments)
            .args(["-p", &pid])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace cannot be run, install it");
        eventually("strace attaches (it needs root, or kernel.yama.ptrace_scope = 0)", || {
            assert_eq!(child.try_wait().ok(), Some(None), "strace ended: {arguments:?}");
            process.threads().iter().all(|thread| thread.field("TracerPid") != "0")
        });
        // A thread that was asleep has to be in its system call again.
        eventually("the traced program sleeps", || {
            process.threads().iter().all(|thread| !thread.field("State").starts_with('R'))
        });
        Strace { process, child, file }
    }

    /// Lets go of the process, and gives what was traced.
    pub fn detach(mut self) -> String {
        self.end();
        eventually("strace lets go", || {
            !self.process.is_alive()
                || self.process.threads().iter().all(|thread| thread.field("TracerPid") == "0")
        });
        std::fs::read_to_string(&self.file).expect("strace writes its file")
    }

    fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // A child is there until it is waited for.
            Process::child(&self.child).signal(Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Calls by name in the summary that `strace -c` prints.
pub fn calls(summary: &str) -> Vec<(String, u64)> {
    let rows = summary.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = *words.last()?;
        let count = words.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), count))
    });
    rows.collect()
}
