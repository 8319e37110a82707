//! `--passwords FILE`: who may connect, a line each, `NAME:PASSWORD`. Read once, at start; nothing is
//! allocated after. Knows no proxy type.

use crate::exit::ExitCode;
use crate::log::{self, Level};
use crate::shown::Shown;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// How many users there may be: all of them are looked at for each client.
pub const USERS_MAX: usize = 256;

/// How long a name or a password may be, in bytes (RFC 1929 section 2).
const BYTES_MAX: usize = 255;

/// A file of so many users that no comment makes longer.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Who may connect: everybody, or those whose passwords are known.
#[derive(Debug, Default)]
pub struct Known(Option<Vec<User>>);

#[derive(Debug)]
struct User {
    name: Box<[u8]>,
    password: Box<[u8]>,
}

/// Why it is not known who may connect.
#[derive(Debug)]
pub struct CannotRead {
    /// Names the file, the reason, and what to do; nothing that stands in it.
    pub line: String,
    /// What the caller is told.
    pub code: ExitCode,
}

impl Known {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not made of such lines.
    pub fn read(path: &Path) -> Result<Known, CannotRead> {
        let refused = |code, reason: &dyn Display| CannotRead {
            line: format!("--passwords {}: {reason}", Shown(path.as_os_str().as_bytes())),
            code,
        };
        let text = Self::bytes_of(path).map_err(|error| refused(ExitCode::of(&error), &error))?;
        Self::parse(&text).map_err(|reason| refused(ExitCode::Configuration, &reason))
    }

    fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        if file.metadata()?.mode() & 0o077 != 0 {
            log::event(Level::Warn, "others can read or write the passwords")
                .field("file", Shown(path.as_os_str().as_bytes()))
                .send();
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Empty lines, and those that begin with `#`, say nothing.
    fn parse(text: &[u8]) -> Result<Known, String> {
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("more than {FILE_BYTES_MAX} bytes"));
        }
        let mut users = Vec::new();
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let user = User::parse(line).ok_or_else(|| {
                format!("line {number} is not NAME:PASSWORD, each 1 to {BYTES_MAX} bytes")
            })?;
            if users.len() == USERS_MAX {
                return Err(format!("line {number}: at most {USERS_MAX} users"));
            }
            users.push(user);
        }
        match users.is_empty() {
            true => Err("nobody: write NAME:PASSWORD, a line each".into()),
            false => Ok(Known(Some(users))),
        }
    }
}

impl User {
    fn parse(line: &[u8]) -> Option<User> {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, password) = (&line[..colon], &line[colon + 1..]);
        let fits = |bytes: &[u8]| (1..=BYTES_MAX).contains(&bytes.len());
        (fits(name) && fits(password))
            .then(|| User { name: name.into(), password: password.into() })
    }
}

impl seaprox::passwords::Passwords for Known {
    fn asks(&self) -> bool {
        self.0.is_some()
    }

    /// Looks at all users, and at all of each that is as long: how long that takes tells no more than
    /// lengths. O(users).
    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        let Some(users) = &self.0 else { return true };
        let is_one = users.iter().fold(0, |found, user| {
            found | (user.name.ct_eq(name) & user.password.ct_eq(password)).unwrap_u8()
        });
        is_one == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seaprox::passwords::Passwords;

    #[test]
    fn those_of_the_file_and_nobody_else() {
        let known = Known::parse(b"# who\nalice:se:cret\r\n\nbob:\xff\ncarol:x").unwrap();
        assert!(known.asks());
        for (name, password, permitted) in [
            (&b"alice"[..], &b"se:cret"[..], true),
            (b"bob", b"\xff", true),
            (b"carol", b"x", true),
            (b"alice", b"x", false),
            (b"alice", b"se:cret\r", false),
            (b"Alice", b"se:cret", false),
            (b"alice:se", b"cret", false),
            (b"# who", b"", false),
            (b"", b"", false),
        ] {
            assert_eq!(known.permits(name, password), permitted, "{name:?}");
        }
        let everybody = Known::default();
        assert!(!everybody.asks() && everybody.permits(b"", b""));
    }

    #[test]
    fn what_is_no_such_file_is_refused_without_its_contents() {
        let refusal = |text: &[u8]| Known::parse(text).unwrap_err();
        for (text, line) in [
            (&b"a:b\nsecret\n"[..], 2),
            (b":secret", 1),
            (b"secret:", 1),
            (&[&b"#\n"[..], &[b'n'; 256], b":p"].concat(), 2),
            (&[&b"n:"[..], &[b'p'; 256]].concat(), 1),
        ] {
            let refused = refusal(text);
            assert!(refused.contains(&format!("line {line} ")), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(refusal(b"# only a word\n").contains("nobody"));
        assert!(refusal(&b"a:b\n".repeat(USERS_MAX + 1)).contains("line 257: at most 256"));
        assert!(refusal(&[b'#'; FILE_BYTES_MAX as usize + 1]).contains("more than"));
        assert!(Known::parse(&b"a:b\n".repeat(USERS_MAX)).is_ok());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = Known::read(Path::new("/nowhere/pass\nwords")).unwrap_err();
        assert!(refused.line.starts_with("--passwords /nowhere/pass\\nwords: "), "{refused:?}");
        assert_eq!(refused.code, ExitCode::Configuration);
    }
}
