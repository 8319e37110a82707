//! What the program needs of the C library, and what it owes the system at its start and its end.
//! Knows nothing of the proxy.

use core::fmt::{self, Write as _};
use core::panic::PanicInfo;
use rustix::event::epoll;
use rustix::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where words go.
const STDERR: i32 = 2;

/// Takes the numbers 0, 1 and 2 if they are not open, so that no connection gets one of them: the
/// engine's tables take 0 for vacant, and a panic would write to a client.
///
/// # Errors
/// There are no descriptors at all.
pub(crate) fn take_standard_descriptors() -> rustix::io::Result<()> {
    loop {
        // Reads and writes of an epoll fail (EINVAL), as those of what is closed would.
        let placeholder = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if placeholder.as_raw_fd() > STDERR {
            return Ok(());
        }
        // Kept open for as long as the process lives.
        let _ = placeholder.into_raw_fd();
    }
}

/// A peer that left is an error of the call, not the end of the program: splice(2) has no flag that
/// says so.
#[allow(unsafe_code)]
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is no function, so nothing of ours runs in a signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// How many descriptors may be open once the limit was raised to `wanted`, as far as the system
/// lets it.
pub(crate) fn raise_descriptors(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let soft = current.unwrap_or(u64::MAX);
    let limit = wanted.min(maximum.unwrap_or(u64::MAX));
    if soft >= limit
        || setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).is_err()
    {
        return soft;
    }
    limit
}

/// Writes one line to stderr.
pub(crate) fn say(message: fmt::Arguments<'_>) {
    // What cannot be told is not told.
    let _ = writeln!(Stderr, "seaprox-tiny: {message}");
}

/// Each piece goes out as it comes: there is no buffer to bound.
struct Stderr;

impl fmt::Write for Stderr {
    #[allow(unsafe_code)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: it is open: `take_standard_descriptors` comes first, and nobody closes it.
        let stderr = unsafe { BorrowedFd::borrow_raw(STDERR) };
        rustix::io::write(stderr, text.as_bytes()).map(|_| ()).map_err(|_| fmt::Error)
    }
}

/// A bug: one line, and the process ends, before it does anything wrong.
#[panic_handler]
#[allow(unsafe_code)]
fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => say(format_args!("a bug at {}:{}", at.file(), at.line())),
        None => say(format_args!("a bug")),
    }
    // SAFETY: abort(3) takes nothing and does not return.
    unsafe { libc::abort() }
}

/// Asked for by the precompiled `core`, whose own profile unwinds; without optimization the linker
/// wants to see it. Nothing here unwinds, so nobody calls it.
// SAFETY: std, which has one of this name, is not part of the program.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
