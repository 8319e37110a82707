//! Opens what LISTEN names, and says in one line why it cannot be.

#[cfg(feature = "links")]
mod links;

#[cfg(feature = "links")]
pub use links::{LinkListening, LinkSockets};

use crate::activation::{Passed, check_listener};
use crate::endpoint::{Listen, UnixPath};
use crate::exit::ExitCode;
use seaprox::sys::{Errno, Linux, Peer, Sys};
use seaprox_tcp::{ListenOptions, adopt_listener, listen, listen_unix};
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Why nothing listens: the line for the user, and the exit code.
#[derive(Debug)]
pub struct CannotListen {
    /// Names the argument, the reason, and what to do.
    pub line: String,
    /// What the caller is told.
    pub code: ExitCode,
}

impl CannotListen {
    fn because(listen: &dyn Display, is_path: bool, errno: Errno) -> Self {
        let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
        let reason = match errno {
            Errno::ADDRINUSE => "address in use (does another program listen there?)".into(),
            Errno::ACCESS if is_path => {
                "permission denied (may this user write to the folder?)".into()
            }
            Errno::ACCESS => {
                "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".into()
            }
            Errno::ADDRNOTAVAIL => "no interface of this machine has that address".into(),
            Errno::AFNOSUPPORT => "this kernel has no such address family".into(),
            Errno::PROTOTYPE => "not a stream socket".into(),
            Errno::NOENT => "no such folder".into(),
            _ => describe(&error),
        };
        CannotListen {
            line: format!("{listen}: cannot listen: {reason}"),
            code: ExitCode::of(&error),
        }
    }
}

/// The system's words, without the number that std adds.
fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A listening socket; a unix path is removed again with it.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub fd: OwnedFd,
    /// Somebody else opened it, and may go on with it when this program has ended.
    pub adopted: bool,
    path: Option<Bound>,
}

/// A path, and the device and inode of the socket that was bound to it.
#[derive(Debug)]
struct Bound {
    path: UnixPath,
    file: (u64, u64),
}

impl Bound {
    fn at(path: &UnixPath) -> Option<Bound> {
        Some(Bound { path: path.clone(), file: file_at(path)? })
    }
}

fn file_at(path: &UnixPath) -> Option<(u64, u64)> {
    let found = path.as_path().symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

impl Listening {
    /// The path that is removed with it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref().map(|bound| bound.path.as_path())
    }

    /// Opens it.
    pub fn open(
        at: &Listen,
        passed: &Passed,
        buffer_bytes: Option<usize>,
    ) -> Result<Listening, CannotListen> {
        let options = ListenOptions { v6_only: true, buffer_bytes };
        let opened = match at {
            Listen::Everywhere { port } => everywhere(*port, options),
            Listen::Inet(address) => listen(*address, options),
            Listen::Unix(path) => at_path(path, options),
            Listen::Descriptor(fd) => return adopt(at, *fd, options),
            Listen::Named(name) => {
                let fd = passed.find(name).map_err(|refused| CannotListen {
                    line: refused.to_string(),
                    code: ExitCode::Configuration,
                })?;
                return adopt(at, fd, options);
            }
        };
        // A failed bind leaves somebody else's socket there, but then nothing is kept.
        let path = match at {
            Listen::Unix(path) if !path.is_abstract() => Bound::at(path),
            _ => None,
        };
        match opened {
            Ok(fd) => Ok(Listening { fd, path, adopted: false }),
            Err(errno) => Err(CannotListen::because(at, matches!(at, Listen::Unix(_)), errno)),
        }
    }
}

impl Bound {
    /// Removes it, unless it is somebody else's: while this program drained, the next one may have
    /// bound a socket of its own there.
    fn remove(&self) {
        if file_at(&self.path) == Some(self.file) {
            // Somebody else may have removed it: then nothing is left to do.
            let _ = std::fs::remove_file(self.path.as_path());
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.path.iter().for_each(Bound::remove);
    }
}

/// Every address: one IPv6 socket that takes IPv4 too, or IPv4 alone where there is no IPv6.
fn everywhere(port: u16, options: ListenOptions) -> Result<OwnedFd, Errno> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match listen(both, ListenOptions { v6_only: false, ..options }) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), options)
        }
        other => other,
    }
}

/// A path; what an ended program has left there is removed first.
fn at_path(path: &UnixPath, options: ListenOptions) -> Result<OwnedFd, Errno> {
    let listen = || listen_unix(path.as_bytes(), options);
    past_left_over(path, listen, || {
        let peer = Peer::Unix(path.as_bytes());
        let fd = Linux.socket(&peer)?;
        let connected = Linux.connect(fd, &peer);
        Linux.close(fd);
        connected
    })
}

/// Listens at a path, once more if the first time a socket was there at which nobody listens
/// (unix(7), ECONNREFUSED; a file that is no socket refuses in the same way, and is not ours to
/// remove). Does not wait: a full backlog (EAGAIN) is somebody's.
fn past_left_over(
    path: &UnixPath,
    listen: impl Fn() -> Result<OwnedFd, Errno>,
    connect: impl Fn() -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let is_socket =
        |path: &Path| path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    match listen() {
        Err(Errno::ADDRINUSE)
            if !path.is_abstract()
                && is_socket(path.as_path())
                && connect() == Err(Errno::CONNREFUSED) =>
        {
            std::fs::remove_file(path.as_path()).map_err(|_| Errno::ADDRINUSE)?;
            listen()
        }
        other => other,
    }
}

/// One that was open when the program started.
fn adopt(at: &Listen, fd: i32, options: ListenOptions) -> Result<Listening, CannotListen> {
    check_listener(fd).map_err(|refused| CannotListen {
        line: refused.to_string(),
        code: ExitCode::Configuration,
    })?;
    let fd = crate::sys::own(fd);
    adopt_listener(&fd, options).map_err(|errno| CannotListen::because(at, false, errno))?;
    Ok(Listening { fd, adopted: true, path: None })
}
