//! Keys of the ends of links, in files as the program wants them, made by the program, and how ends are told of them.

use crate::program::program;
use crate::trace::temporary;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A secret key in a file of its own, and what its owner is known by. The file is in memory (memfd_create(2)), so
/// that none is left behind however this process ends.
#[derive(Debug)]
pub struct Key {
    /// Where programs that are started meanwhile find the secret.
    pub file: PathBuf,
    /// What others are told.
    pub public: String,
    /// Keeps the file.
    _open: File,
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
        let open = memfd_create(c"seaprox-test-key", MFdFlags::MFD_CLOEXEC).expect("a file");
        let mut open = File::from(open);
        open.set_permissions(Permissions::from_mode(0o600)).expect("it is ours");
        open.write_all(secret.as_bytes()).expect("there is room");
        let file = format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd()).into();
        Key { file, public, _open: open }
    }

    /// The words for an end that has this key, and whose far end has another one.
    ///
    /// # Panics
    /// Its path is not UTF-8.
    #[must_use]
    pub fn words(&self, other: &Key) -> Vec<String> {
        let file = self.file.to_str().expect("a path in UTF-8").to_owned();
        vec!["--key".into(), file, "--peer".into(), other.public.clone()]
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new()
    }
}

/// The keys of an ingress and an egress that know each other, the same in all of a test.
pub fn of_ends() -> &'static [Key; 2] {
    static ENDS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::new(), Key::new()]);
    &ENDS
}

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that clients come to.
    Ingress,
    /// The one that targets are connected by.
    Egress,
}

/// What an end of links has to be told where tests do not say how its links are protected: keys of
/// [`of_ends`]; `--insecure` if SEAPROX_TESTS_INSECURE is 1.
#[must_use]
pub fn words(which: Which) -> Vec<String> {
    match std::env::var_os("SEAPROX_TESTS_INSECURE").is_some_and(|value| value == "1") {
        true => vec!["--insecure".into()],
        false => words_of_ends(which),
    }
}

/// The same, with keys in any case.
#[must_use]
pub fn words_of_ends(which: Which) -> Vec<String> {
    let [ingress, egress] = of_ends();
    match which {
        Which::Ingress => ingress.words(egress),
        Which::Egress => egress.words(ingress),
    }
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
