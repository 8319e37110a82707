//! Opens what LISTEN names, and says in one line why it cannot be.

use crate::activation::{Passed, check_listener};
use crate::endpoint::{Listen, UnixPath};
use crate::exit::ExitCode;
use seaprox::sys::{Errno, Linux, Peer, Sys};
use seaprox_tcp::{ListenOptions, adopt_listener, listen, listen_unix};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
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
    fn because(listen: &Listen, errno: Errno) -> Self {
        let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
        let reason = match errno {
            Errno::ADDRINUSE => "address in use (does another program listen there?)".into(),
            Errno::ACCESS => match listen {
                Listen::Unix(_) => "permission denied (may this user write to the folder?)".into(),
                _ => "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".into(),
            },
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
    let found = as_path(path).symlink_metadata().ok()?;
    Some((found.dev(), found.ino()))
}

impl Listening {
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
            Listen::Unix(path) if !is_abstract(path) => Bound::at(path),
            _ => None,
        };
        match opened {
            Ok(fd) => Ok(Listening { fd, path, adopted: false }),
            Err(errno) => Err(CannotListen::because(at, errno)),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // While this program drained, the next one may have bound a socket of its own there.
        if let Some(bound) = &self.path
            && file_at(&bound.path) == Some(bound.file)
        {
            // Somebody else may have removed it: then nothing is left to do.
            let _ = std::fs::remove_file(as_path(&bound.path));
        }
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
    match listen_unix(path.as_bytes(), options) {
        Err(Errno::ADDRINUSE) if is_left_over(path) => {
            std::fs::remove_file(as_path(path)).map_err(|_| Errno::ADDRINUSE)?;
            listen_unix(path.as_bytes(), options)
        }
        other => other,
    }
}

/// A socket at which nobody listens (unix(7), ECONNREFUSED; a file that is no socket refuses in the
/// same way, and is not ours to remove).
fn is_left_over(path: &UnixPath) -> bool {
    let is_socket =
        |path: &Path| path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    !is_abstract(path) && is_socket(as_path(path)) && nobody_listens(path)
}

/// Does not wait: a full backlog (EAGAIN) is somebody's.
fn nobody_listens(path: &UnixPath) -> bool {
    let peer = Peer::Unix(path.as_bytes());
    let Ok(fd) = Linux.socket(&peer) else { return false };
    let refused = Linux.connect(fd, &peer) == Err(Errno::CONNREFUSED);
    Linux.close(fd);
    refused
}

fn is_abstract(path: &UnixPath) -> bool {
    path.as_bytes().starts_with(b"@")
}

fn as_path(path: &UnixPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

/// One that was open when the program started.
fn adopt(at: &Listen, fd: i32, options: ListenOptions) -> Result<Listening, CannotListen> {
    check_listener(fd).map_err(|refused| CannotListen {
        line: refused.to_string(),
        code: ExitCode::Configuration,
    })?;
    let fd = crate::sys::own(fd);
    adopt_listener(&fd, options).map_err(|errno| CannotListen::because(at, errno))?;
    Ok(Listening { fd, adopted: true, path: None })
}
