//! What it takes to start a process: where its program lies, its command, and what
//! it is to do.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One process to be started.
pub(crate) struct Launch {
    pub(crate) command: Command,
    /// The file that appears once the next process may be started; none when
    /// that one waits by itself.
    pub(crate) ready: Option<PathBuf>,
    /// Whether it is the relay between the ends: nothing that it uses counts.
    pub(crate) is_relay: bool,
}

impl Launch {
    pub(super) fn of(command: Command) -> Self {
        Self { command, ready: None, is_relay: false }
    }

    pub(super) fn ready_with(command: Command, file: PathBuf) -> Self {
        Self { ready: Some(file), ..Self::of(command) }
    }
}

/// What a proxy is to do, and with how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) open_files: u64,
    pub(crate) seaprox_args: &'a [String],
    pub(crate) folder: &'a Path,
    /// What the relay between the ends is to do, in its words; no relay
    /// without.
    pub(crate) path: Option<&'a str>,
}

impl Route<'_> {
    pub(super) fn write(&self, kind: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{kind}-{}.conf", self.listen.port()));
        fs::write(&path, text)?;
        Ok(path)
    }
}

pub(super) fn beside_this(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.parent()?.join(name);
    is_program(&path).then_some(path)
}

/// Looks in PATH, and where servers lie that are not in every user's PATH.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(OsStr::new(&path))
        .chain(servers)
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

pub(super) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
