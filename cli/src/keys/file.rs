//! Files that keys are kept in: where they are, whether others can read them, and what is in them.
//! Knows no key.
//!
//! Invariant: what was read is overwritten when it is dropped, and is in no message.

use crate::exit::ExitCode;
use crate::shown::Shown;
use seaprox_noise::keys::{Psk, TEXT_BYTES};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key, and blanks and a line's end behind it.
const ROOM_BYTES: usize = TEXT_BYTES + 20;

/// The longest list of peers, in bytes: that many lines of some length.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// Who else may do this with a file (inode(7)): those of its group, and all others.
const GROUP_AND_OTHERS: u32 = 0o077;
const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o007;

/// The text of a key, without what stands behind it.
pub(super) struct KeyText {
    bytes: Zeroizing<[u8; ROOM_BYTES]>,
    length: usize,
}

impl KeyText {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads to the end what has to be one key. No allocation.
pub(super) fn read_text(from: &mut impl Read) -> io::Result<KeyText> {
    let mut text = KeyText { bytes: Zeroizing::new([0; ROOM_BYTES]), length: 0 };
    loop {
        match from.read(&mut text.bytes[text.length..]) {
            Ok(0) if text.length == ROOM_BYTES => {
                return Err(io::Error::other("more than a key, which is one line"));
            }
            Ok(0) => break,
            Ok(count) => text.length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.length = text.as_bytes().trim_ascii_end().len();
    Ok(text)
}

/// Why a file is of no use, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) reason: String,
    pub(super) code: ExitCode,
}

impl Unusable {
    pub(super) fn because(reason: impl fmt::Display) -> Unusable {
        Unusable { reason: reason.to_string(), code: ExitCode::Configuration }
    }
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".into(),
            io::ErrorKind::PermissionDenied => "this user may not read it".into(),
            _ => error.to_string(),
        };
        Unusable { reason, code: ExitCode::of(&error) }
    }
}

/// What a file is for, and so what others must not be able to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// A secret: neither read nor write.
    Secret,
    /// A list of who is let in: not write.
    List,
}

/// Where files are found.
pub(super) struct Files {
    /// What the service manager hands over (systemd.exec(5), LoadCredential=).
    credentials: Option<PathBuf>,
}

impl Files {
    pub(super) fn from_environment() -> Files {
        Files { credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }

    /// The key in a file.
    pub(super) fn key(&self, name: &OsStr) -> Result<KeyText, Unusable> {
        Ok(read_text(&mut self.open(name, Use::Secret)?)?)
    }

    /// All of a list.
    pub(super) fn list(&self, name: &OsStr) -> Result<Vec<u8>, Unusable> {
        let mut list = Vec::new();
        self.open(name, Use::List)?.take(LIST_BYTES_MAX + 1).read_to_end(&mut list)?;
        match list.len() as u64 > LIST_BYTES_MAX {
            true => Err(Unusable::because(format_args!("more than {LIST_BYTES_MAX} bytes"))),
            false => Ok(list),
        }
    }

    fn open(&self, name: &OsStr, purpose: Use) -> Result<File, Unusable> {
        if let Some(path) = self.as_credential(name) {
            match File::open(&path) {
                Ok(file) => return check(file, &path, purpose, true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        check(File::open(name)?, Path::new(name), purpose, false)
    }

    /// Where a name without a folder is looked for first.
    fn as_credential(&self, name: &OsStr) -> Option<PathBuf> {
        let is_bare = !name.is_empty() && !name.as_bytes().contains(&b'/');
        self.credentials.as_ref().filter(|_| is_bare).map(|folder| folder.join(name))
    }
}

/// Whether a file may be used. The service manager lets a service's user read a credential by an
/// ACL, whose mask stands where else the group's rights do (acl(5)), and lets nobody else into the folder.
fn check(file: File, path: &Path, purpose: Use, is_credential: bool) -> Result<File, Unusable> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(Unusable::because("neither a file nor a pipe"));
    }
    let (forbidden, what, mode) = match purpose {
        Use::Secret => (GROUP_AND_OTHERS, "others can read or change it", "600"),
        Use::List => (GROUP_AND_OTHERS_WRITE, "others can change it", "go-w"),
    };
    let forbidden = if is_credential { forbidden & OTHERS } else { forbidden };
    match rights_of(&metadata) & forbidden {
        0 => Ok(file),
        _ => {
            let path = Shown(path.as_os_str().as_bytes());
            Err(Unusable::because(format_args!("{what}: `chmod {mode} {path}`")))
        }
    }
}

fn rights_of(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777
}

/// Whether this is a key where the name of a file should be. It is not to be shown then.
pub(crate) fn is_key(name: &OsStr) -> bool {
    Psk::from_base64(name.as_bytes()).is_ok()
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(super) mod tests;
