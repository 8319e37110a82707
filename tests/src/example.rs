//! A program of examples/, running. They end when their stdin does, and say on stdout what happens.

use crate::eventually;
use crate::process::Process;
use crate::program::example;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running example; ended with this value.
pub struct Example {
    child: Child,
    /// What it has said so far.
    lines: Arc<Mutex<Vec<String>>>,
}

impl Example {
    /// Starts it, with these words in front, and waits until it listens on the port.
    ///
    /// # Panics
    /// It cannot be built or run, or does not listen in time.
    pub fn start(before: &[String], name: &str, arguments: &[&str], port: u16) -> Example {
        let path = example(name);
        let mut words: Vec<&str> = before.iter().map(String::as_str).collect();
        words.push(path.to_str().expect("a path in UTF-8"));
        words.extend(arguments);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                said.lock().expect("nobody panics with it").push(line);
            }
        });
        let mut example = Example { child, lines };
        eventually("it listens", || {
            let ended = example.child.try_wait().expect("it is our child");
            assert_eq!(ended, None, "it has ended");
            example.process().listens_on(port)
        });
        example
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::child(&self.child)
    }

    /// Waits until it has said a line that begins and ends like this.
    ///
    /// # Panics
    /// It does not in time.
    pub fn wait_says(&self, begins: &str, ends: &str) {
        let is_such = |line: &String| line.starts_with(begins) && line.ends_with(ends);
        eventually(&format!("it says {begins} .. {ends}"), || {
            self.lines.lock().expect("nobody panics with it").iter().any(is_such)
        });
    }

    /// Ends its stdin, and waits until it has ended in order.
    ///
    /// # Panics
    /// It does not.
    pub fn finish(mut self) {
        drop(self.child.stdin.take());
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
