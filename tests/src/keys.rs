//! Keys of the ends of links, in files as the program wants them, made by the program.

use crate::program::program;
use crate::trace::temporary;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A secret key in a file of its own, and what its owner is known by. The file is gone with it.
#[derive(Debug)]
pub struct Key {
    /// Where the secret is.
    pub file: PathBuf,
    /// What others are told.
    pub public: String,
}

impl Key {
    /// Nobody else's.
    ///
    /// # Panics
    /// The program makes none.
    #[must_use]
    pub fn new() -> Key {
        let secret = printed("genkey", "");
        let public = printed("pubkey", &secret).trim().to_owned();
        Key { file: file_with(&secret), public }
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// The keys of an ingress and an egress that know each other, the same in all of a test.
pub fn of_ends() -> &'static [Key; 2] {
    static ENDS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::new(), Key::new()]);
    &ENDS
}

/// A preshared key in a file.
///
/// # Panics
/// The program makes none.
pub fn psk() -> PathBuf {
    file_with(&printed("genpsk", ""))
}

fn printed(verb: &str, stdin: &str) -> String {
    let mut command = Command::new(program());
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let mut pipe = child.stdin.take().expect("it is piped");
    pipe.write_all(stdin.as_bytes()).expect("it reads, or needs nothing");
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{verb}: {}", output.status);
    String::from_utf8(output.stdout).expect("base64")
}

/// A file that nobody else may read.
fn file_with(text: &str) -> PathBuf {
    let path = temporary("key");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).expect("a file");
    file.write_all(text.as_bytes()).expect("there is room");
    path
}
