//! What the process gives up once everything is open: what a proxy does from then on needs few
//! rights, and whoever breaks into it is to find no more. Knows no kind of proxy.
//!
//! Three fences, each as far as the kernel has it: no rights by running programs (no_new_privs), no
//! files and ports but what is needed (Landlock), no system calls but those on a list (seccomp), one list
//! for each [`Duty`]. All of it is put up in the main thread, before there is another: Landlock binds
//! a thread and those it starts. Each thread then narrows its own list.
//!
//! A call that is not allowed is a line on stderr, once for each, and fails as if the kernel did not have
//! it; one that only an intruder makes is the end of the process. Neither is silent, and a C library
//! that is newer than the lists goes on by older means.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter;
mod landlock;
mod sys;

use std::fmt;
use std::io;
use std::path::Path;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use with_filters::narrow;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use without_filters::narrow;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// The main thread, until all others run.
    Starting,
    /// Moves bytes, or writes the log: opens sockets, and no file.
    Relaying,
    /// Looks names up: may read files.
    Resolving,
    /// The main thread, once all others run: waits for signals, and may remove the paths of sockets
    /// if it is to.
    Waiting {
        /// There are such paths.
        removes: bool,
    },
}

/// What a proxy will still do once everything is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs<'n> {
    /// It looks names up.
    pub names: bool,
    /// It connects over TCP to these ports only, beside that of DNS; `None`: to any.
    pub ports: Option<Vec<u16>>,
    /// It connects to unix sockets in the abstract namespace.
    pub abstract_sockets: bool,
    /// It removes these paths at its end.
    pub paths: Vec<&'n Path>,
}

/// Which fences there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fences {
    /// The version of Landlock's interface; 0: none.
    pub landlock: u32,
    /// System calls are filtered.
    pub seccomp: bool,
}

impl Fences {
    /// Whether this kernel lacks something that a usual one has: Landlock knows ports since Linux 6.7.
    pub fn is_low(self) -> bool {
        const WITH_PORTS: u32 = 4;
        self.landlock < WITH_PORTS || !self.seccomp
    }
}

impl fmt::Display for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock {
            0 => f.write_str("no landlock")?,
            abi => write!(f, "landlock {abi}")?,
        }
        f.write_str(if self.seccomp { ", seccomp" } else { ", no seccomp" })
    }
}

/// Gives up, for this thread and all it starts from now on, what is not needed. To be called once,
/// while there is no other thread.
///
/// # Errors
/// The kernel has the fence and does not put it up.
pub fn confine(needs: &Needs<'_>) -> io::Result<Fences> {
    sys::gain_nothing()?;
    let landlock = landlock::restrict(needs)?;
    Ok(Fences { landlock, seccomp: filter_calls()? })
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use with_filters::{filter_calls, refused};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use without_filters::filter_calls;

/// Where there are lists of calls.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod with_filters {
    use super::filter::Program;
    use super::{Duty, calls, sys};
    use crate::exit::{self, ExitCode};
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// What threads add to the filter that the process has, once it has one. Made in time: a thread's
    /// own stack is small.
    static FILTERS: OnceLock<Vec<(Duty, Program)>> = OnceLock::new();

    const NARROWED: [Duty; 4] = [
        Duty::Relaying,
        Duty::Resolving,
        Duty::Waiting { removes: false },
        Duty::Waiting { removes: true },
    ];

    /// Narrows the rights of this thread to those of its duty. Nothing happens in a process that has
    /// not been confined. If the kernel refuses, the program ends. No allocation.
    pub fn narrow(duty: Duty) {
        let filters = FILTERS.get().map_or(&[][..], |filters| filters.as_slice());
        let own = filters.iter().find(|(other, _)| *other == duty);
        if let Some(Err(error)) = own.map(|(_, program)| sys::install(program)) {
            exit::fail(ExitCode::System, format_args!("sandbox: {duty:?}: {error}"));
        }
    }

    fn program(duty: Duty) -> io::Result<Program> {
        calls::program(duty, std::process::id())
            .map_err(|too_long| io::Error::other(format!("{duty:?}: {too_long:?}")))
    }

    /// Whether the kernel filters from now on.
    pub(super) fn filter_calls() -> io::Result<bool> {
        let filters = NARROWED.iter().map(|&duty| Ok((duty, program(duty)?)));
        let filters = filters.collect::<io::Result<Vec<_>>>()?;
        sys::catch_refusals()?;
        match sys::install(&program(Duty::Starting)?) {
            Ok(()) => {
                let _ = FILTERS.set(filters);
                Ok(true)
            }
            // seccomp(2): not built in, or hidden by what we run in.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls that were told of, a bit each; those above share the last one.
    static TOLD: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

    /// Says that a call was not made, in the place of that call: by no lock and no allocation, and
    /// with calls that every list has. `errno` 0 is the end.
    pub(super) fn refused(number: u32, errno: i32) {
        if errno == 0 {
            exit::say(format_args!(
                "system call {number} is forbidden: seaprox never makes it, so this is an intruder or a \
                 bug; --no-sandbox allows it"
            ));
            std::process::abort();
        }
        let bit = (number as usize).min(TOLD.len() * 64 - 1);
        let told = TOLD[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        if told & (1 << (bit % 64)) == 0 {
            exit::say(format_args!(
                "system call {number} was refused by the sandbox: if something does not work, say so, \
                 and try --no-sandbox"
            ));
        }
    }
}

/// Where there are none.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod without_filters {
    use super::Duty;

    /// There is no list of calls for this architecture.
    pub fn narrow(_: Duty) {}

    pub(super) fn filter_calls() -> std::io::Result<bool> {
        Ok(false)
    }
}
