//! Listening sockets that were open when the program started (sd_listen_fds(3)): which descriptor
//! `fd:3` or `fd:NAME` means. Knows nothing of who opened them.

use crate::endpoint::Refused;
use crate::sys;

/// sd_listen_fds(3), SD_LISTEN_FDS_START.
const FIRST: i32 = 3;

/// The names of the descriptors passed to this process, from the first on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    names: Vec<String>,
}

impl Passed {
    /// What LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say.
    pub fn from_environment() -> Passed {
        let variable = |name| std::env::var_os(name)?.into_string().ok();
        Self::read(
            std::process::id(),
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        )
    }

    /// The variables are for the process LISTEN_PID names only: children inherit them too.
    fn read(own: u32, pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Passed {
        if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
            return Passed::default();
        }
        let count: u16 = count.and_then(|count| count.parse().ok()).unwrap_or(0);
        let mut names = names.unwrap_or("").split(':');
        // sd_listen_fds_with_names(3): one without a name is called `unknown`.
        let name = |_| names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").into();
        Passed { names: (0..count).map(name).collect() }
    }

    /// The descriptor called `name`.
    pub fn find(&self, name: &str) -> Result<i32, Refused> {
        let argument = format!("fd:{name}");
        let refused = |reason: String| Err(Refused::new(argument.as_bytes(), reason));
        let mut found = (FIRST..).zip(&self.names).filter(|(_, other)| *other == name);
        match (found.next(), found.next()) {
            (Some((fd, _)), None) => Ok(fd),
            (Some((fd, _)), Some(_)) => refused(format!(
                "LISTEN_FDNAMES has it more than once: write fd:{fd} for the first"
            )),
            _ if self.names.is_empty() => refused(
                "no descriptors were passed to this process (LISTEN_PID, LISTEN_FDS): write \
                 fd:3 if one is open all the same"
                    .into(),
            ),
            _ => refused(format!("LISTEN_FDNAMES has only {}", self.names.join(", "))),
        }
    }
}

/// Refuses a descriptor that clients cannot be accepted from.
pub fn check_listener(fd: i32) -> Result<(), Refused> {
    let argument = format!("fd:{fd}");
    match sys::is_listener(fd) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refused::new(
            argument.as_bytes(),
            "the socket does not listen: it must be a stream socket after listen(2)",
        )),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            Err(Refused::new(argument.as_bytes(), "not open: was it passed to this process?"))
        }
        Err(_) => Err(Refused::new(argument.as_bytes(), "not a socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn names_count_from_three() {
        let passed = Passed::read(7, Some("7"), Some("3"), Some("web:admin"));
        assert_eq!(passed.find("web"), Ok(3));
        assert_eq!(passed.find("admin"), Ok(4));
        assert_eq!(passed.find("unknown"), Ok(5));
        let refused = passed.find("x").unwrap_err().to_string();
        assert_eq!(refused, "fd:x: LISTEN_FDNAMES has only web, admin, unknown");
    }

    #[test]
    fn what_is_not_for_this_process_is_not_taken() {
        for (pid, count) in [(Some("8"), Some("1")), (None, Some("1")), (Some("7"), Some("-1"))] {
            let passed = Passed::read(7, pid, count, Some("web"));
            assert!(passed.find("web").unwrap_err().to_string().contains("no descriptors"));
        }
        let twice = Passed::read(7, Some("7"), Some("2"), Some("web:web"));
        assert!(twice.find("web").unwrap_err().to_string().contains("write fd:3"));
    }

    #[test]
    fn only_a_listener_is_accepted_from() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check_listener(listener.as_raw_fd()), Ok(()));
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let reason = |fd| check_listener(fd).unwrap_err().to_string();
        assert!(reason(datagrams.as_raw_fd()).contains("does not listen"));
        assert!(reason(file.as_raw_fd()).contains("not a socket"));
        assert!(reason(i32::MAX).contains("not open"));
    }
}
