//! What of the file system is left to the process, and which ports it may connect to (landlock(7)).
//! Knows no kind of proxy. What a kernel is too old for is not restricted.

use super::{Needs, sys};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// linux/landlock.h, LANDLOCK_ACCESS_FS_*: all that ABI 1 knows, bits 0 to 12.
const FILES_OF_ABI_1: u64 = (1 << 13) - 1;
const READ_FILE: u64 = 1 << 2;
const READ_FOLDER: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
/// Since ABI 2.
const REFER: u64 = 1 << 13;
/// Since ABI 3.
const TRUNCATE: u64 = 1 << 14;
/// Since ABI 5.
const IOCTL_DEVICE: u64 = 1 << 15;
/// LANDLOCK_ACCESS_NET_*, since ABI 4.
const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;
/// LANDLOCK_SCOPE_*, since ABI 6: unix sockets in the abstract namespace, and signals, of processes
/// that are not restricted in the same way.
const ABSTRACT_SOCKETS: u64 = 1 << 0;
const SIGNALS: u64 = 1 << 1;

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;

/// What looking names up reads: the files of /etc, what daemons put into /run, libraries and what
/// they need (hier(7)); where Nix, Guix and sssd keep theirs.
const FOLDERS: [&str; 12] = [
    "/etc",
    "/run",
    "/usr/share",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/var/lib/sss",
    "/nix/store",
    "/gnu/store",
];

/// Files that some systems keep elsewhere, under these names.
const FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// What is taken away, unless a rule gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handled {
    files: u64,
    ports: u64,
    scopes: u64,
}

impl Handled {
    /// What this ABI can take away, and the needs let go of.
    fn of(abi: u32, needs: &Needs<'_>) -> Handled {
        let since = |first: u32, right: u64| if abi >= first { right } else { 0 };
        let connect = if needs.ports.is_some() { CONNECT_TCP } else { 0 };
        let sockets = if needs.abstract_sockets { 0 } else { ABSTRACT_SOCKETS };
        Handled {
            files: FILES_OF_ABI_1 | since(2, REFER) | since(3, TRUNCATE) | since(5, IOCTL_DEVICE),
            ports: since(4, BIND_TCP | connect),
            scopes: since(6, SIGNALS | sockets),
        }
    }
}

/// Restricts this thread, and those it starts from now on, to what is needed. Gives the kernel's ABI; 0: it has
/// no Landlock, or does not let us.
///
/// # Errors
/// What landlock_restrict_self(2) and the calls before it say.
pub(super) fn restrict(needs: &Needs<'_>) -> io::Result<u32> {
    let abi = sys::landlock_abi();
    if abi == 0 {
        return Ok(0);
    }
    let Handled { files, ports, scopes } = Handled::of(abi, needs);
    let rules = sys::landlock_create(&sys::RulesetAttributes { files, ports, scopes })?;
    let allow = |path: &Path, rights: u64| match opened(path) {
        Some(file) => sys::landlock_add_path(rules.as_fd(), file.as_raw_fd(), rights),
        None => Ok(()),
    };
    if needs.names {
        for folder in FOLDERS {
            allow(folder.as_ref(), READ_FILE | READ_FOLDER)?;
        }
        for place in FILES.iter().filter_map(|file| elsewhere(file.as_ref())) {
            allow(&place, READ_FILE)?;
        }
    }
    for path in &needs.paths {
        allow(folder_of(path), REMOVE_FILE)?;
    }
    if let Some(needed) = needs.ports.as_ref().filter(|_| ports & CONNECT_TCP != 0) {
        // An answer that does not fit a datagram comes over TCP (RFC 7766 section 5).
        let dns = needs.names.then_some(DNS_PORT);
        for port in needed.iter().copied().chain(dns) {
            sys::landlock_add_port(rules.as_fd(), port, CONNECT_TCP)?;
        }
    }
    match sys::landlock_restrict(rules.as_fd()) {
        Ok(()) => Ok(abi),
        // landlock_restrict_self(2): whoever started us, and so on, has restricted us 16 times.
        Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(0),
        Err(error) => Err(error),
    }
}

/// A place in the file system, without any right there; `None`: it is not there, or not ours to see.
fn opened(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()
}

/// Where a file really is, if that is in none of the folders: its folder, since it may be replaced by
/// another one, or the file itself where that is all there is.
fn elsewhere(file: &Path) -> Option<PathBuf> {
    let place = file.canonicalize().ok()?;
    if FOLDERS.iter().any(|folder| place.starts_with(folder)) {
        return None;
    }
    let folder = folder_of(&place);
    Some(if folder == Path::new("/") { place } else { folder.into() })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_is_asked_for_what_it_knows() {
        let needs = Needs { ports: Some(Vec::new()), ..Needs::default() };
        let handled = [1, 2, 3, 4, 5, 6, 7].map(|abi| Handled::of(abi, &needs));
        let files = handled.map(|handled| handled.files);
        assert_eq!(files, [0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff]);
        assert_eq!(handled.map(|handled| handled.ports), [0, 0, 0, 3, 3, 3, 3]);
        assert_eq!(handled.map(|handled| handled.scopes), [0, 0, 0, 0, 0, 3, 3]);
    }

    #[test]
    fn what_is_needed_is_not_handled() {
        let needs = Needs { ports: None, abstract_sockets: true, ..Needs::default() };
        let handled = Handled::of(7, &needs);
        assert_eq!((handled.ports, handled.scopes), (BIND_TCP, SIGNALS));
    }

    #[test]
    fn a_folder_is_always_named() {
        for (path, folder) in [("/run/a.sock", "/run"), ("a.sock", "."), ("b/a", "b"), ("/", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_elsewhere_is_found_there() {
        let folder = std::env::temp_dir().join(format!("seaprox-landlock-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (file, link) = (folder.join("hosts"), folder.join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(elsewhere(&link), Some(folder.canonicalize().unwrap()));
        assert_eq!(elsewhere(Path::new("/etc/passwd")), None);
        assert_eq!(elsewhere(&folder.join("nothing")), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
