//! Whom the program becomes once everything is open: `--user NAME[:GROUP]`. Knows nothing of what is
//! open, which stays so: a port below 1024 that was bound is bound.

mod sys;

use crate::endpoint::Refused;
use crate::exit::ExitCode;
use crate::shown::Shown;
use std::ffi::CString;
use std::fmt;

/// A user and a group, as they were given: they may not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    user: Who,
    /// `None`: the user's own.
    group: Option<Who>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Number(u32),
    Name(CString),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Number(number) => number.fmt(f),
            Who::Name(name) => Shown(name.to_bytes()).fmt(f),
        }
    }
}

impl Who {
    fn parse(text: &[u8]) -> Result<Who, &'static str> {
        if !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
            // The last number means "as it is" (setresuid(2)).
            let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            return match number {
                Some(number) if number != u32::MAX => Ok(Who::Number(number)),
                _ => Err("no such number: the largest is 4294967294"),
            };
        }
        if text.is_empty() || text.contains(&b':') {
            return Err("write NAME, NAME:GROUP, or numbers: 1000:1000");
        }
        CString::new(text).map(Who::Name).map_err(|_| "a name has no NUL byte")
    }
}

/// Why the program is not who it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct CannotSwitch {
    /// Names the argument and the reason.
    pub line: String,
    /// What the caller is told.
    pub code: ExitCode,
}

impl User {
    /// Reads `NAME[:GROUP]`, each a name or a number.
    pub fn parse(text: &[u8]) -> Result<User, Refused> {
        let refused = |reason: &str| Refused::new(&[b"--user ", text].concat(), reason);
        let mut parts = text.splitn(2, |&byte| byte == b':');
        let user = Who::parse(parts.next().unwrap_or_default()).map_err(refused)?;
        let group = parts.next().map(Who::parse).transpose().map_err(refused)?;
        Ok(User { user, group })
    }

    /// Becomes that user, with that group and no other, and without any capability
    /// (capabilities(7)); there is no way back. To be called while there is no other thread.
    ///
    /// # Errors
    /// There is no such user or group, or this process may not become another.
    pub fn switch(&self) -> Result<(), CannotSwitch> {
        let (user, group) = self.numbers()?;
        sys::switch(user, group).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EPERM) => "only root may become somebody else".into(),
                _ => error.to_string(),
            };
            CannotSwitch { line: format!("--user {self}: {hint}"), code: ExitCode::of(&error) }
        })
    }

    fn numbers(&self) -> Result<(u32, u32), CannotSwitch> {
        let refused = |reason: String| CannotSwitch {
            line: format!("--user {self}: {reason}"),
            code: ExitCode::Configuration,
        };
        let (user, own_group) = match &self.user {
            Who::Number(number) => (*number, sys::group_of(*number)),
            Who::Name(name) => match sys::user_called(name) {
                Some((user, group)) => (user, Some(group)),
                None => return Err(refused(format!("there is no user {}", self.user))),
            },
        };
        let group = match &self.group {
            None => own_group.ok_or_else(|| {
                refused(format!("which group? No user has this number: write {user}:GROUP"))
            })?,
            Some(Who::Number(number)) => *number,
            Some(Who::Name(name)) => match sys::group_called(name) {
                Some(group) => group,
                None => {
                    let group = Shown(name.to_bytes());
                    return Err(refused(format!("there is no group {group}")));
                }
            },
        };
        Ok((user, group))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<User, String> {
        User::parse(text.as_bytes()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn names_and_numbers() {
        for text in ["nobody", "nobody:nogroup", "65534", "65534:0", "www-data:1000", "0:x y"] {
            assert_eq!(parsed(text).unwrap().to_string(), text);
        }
        assert_eq!(parsed("00").unwrap().user, Who::Number(0));
        for bad in ["", ":", "a:", ":a", "a:b:c", "4294967295", "99999999999", "1:4294967295"] {
            let refused = parsed(bad).unwrap_err();
            assert!(refused.starts_with(&format!("--user {bad}: ")), "{refused}");
        }
        assert!(User::parse(b"a\0b").is_err());
    }

    #[test]
    fn the_system_knows_root_and_not_everybody() {
        let numbers = |text| parsed(text).unwrap().numbers().map_err(|refused| refused.line);
        assert_eq!(numbers("root"), Ok((0, 0)));
        assert_eq!(numbers("0"), Ok((0, 0)));
        assert_eq!(numbers("root:7"), Ok((0, 7)));
        assert_eq!(numbers("4000000000:8"), Ok((4_000_000_000, 8)));
        let no_user = "--user no-such-user: there is no user no-such-user";
        assert_eq!(numbers("no-such-user"), Err(no_user.into()));
        let no_group = "--user root:no-such-group: there is no group no-such-group";
        assert_eq!(numbers("root:no-such-group"), Err(no_group.into()));
        let which =
            "--user 4000000000: which group? No user has this number: write 4000000000:GROUP";
        assert_eq!(numbers("4000000000"), Err(which.into()));
    }
}
