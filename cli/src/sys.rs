//! The system calls the program makes beside the engine's, each wrapped so that its caller needs
//! no `unsafe`. Knows nothing of why they are made.
#![allow(unsafe_code)]

#[cfg(feature = "links")]
use crate::memory::{LinkMemory, MAX_NUM_LINKS, UdpMemory};
use crate::talk::Seat;
#[cfg(feature = "links")]
use seaprox::wanted::Wish;
use std::alloc::Layout;
use std::ffi::CStr;
use std::io;
use std::time::Duration;

/// The memory of links, for so many threads, as zeroes that the kernel gives page by page when they
/// are touched (malloc(3): calloc of much maps it). Never given back.
#[cfg(feature = "links")]
pub fn link_memories(threads: usize) -> io::Result<&'static mut [[LinkMemory; MAX_NUM_LINKS]]> {
    // SAFETY: all zeroes is a `LinkMemory` (its documentation).
    unsafe { zeroes(threads) }
}

/// The same for links over udp.
#[cfg(feature = "links")]
pub fn udp_memories(threads: usize) -> io::Result<&'static mut [[UdpMemory; MAX_NUM_LINKS]]> {
    // SAFETY: all zeroes is a `UdpMemory` (its documentation).
    unsafe { zeroes(threads) }
}

/// So many seats for clients of proxy types, likewise.
pub fn seats(count: usize) -> io::Result<&'static mut [Seat]> {
    // SAFETY: all zeroes is nobody's seat (its documentation), as it is `State::Plain`, whose
    // representation is named.
    unsafe { zeroes(count) }
}

/// So many wishes, likewise.
#[cfg(feature = "links")]
pub fn wishes(count: usize) -> io::Result<&'static mut [Wish]> {
    // SAFETY: all zeroes is a `Wish` (its documentation).
    unsafe { zeroes(count) }
}

/// So many values of nothing but zeroes.
///
/// # Safety
/// All zeroes is a value of the type.
unsafe fn zeroes<T>(count: usize) -> io::Result<&'static mut [T]> {
    let layout = Layout::array::<T>(count).map_err(io::Error::other)?;
    if layout.size() == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the size is not 0. What is given is zeroes, suitably aligned, and nobody else's; the
    // caller knows that these are `count` values.
    unsafe {
        let values = std::alloc::alloc_zeroed(layout).cast::<T>();
        if values.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(std::slice::from_raw_parts_mut(values, count))
    }
}

/// Unpredictable bytes, at most 256 of them (getrandom(2): those are never fewer than asked for, once
/// the kernel has any).
#[cfg(feature = "links")]
pub fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    const { assert!(BYTES <= 256) };
    let mut bytes = [0; BYTES];
    // SAFETY: writes at most `BYTES` bytes to `bytes`.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), BYTES, 0) };
    if got == BYTES as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// The number of the network interface of this name (if_nametoindex(3)).
pub fn interface_number(name: &CStr) -> Option<u32> {
    // SAFETY: reads a string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        number => Some(number),
    }
}

/// Whether a network interface has this number (if_indextoname(3)).
pub fn interface_exists(number: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: writes at most IF_NAMESIZE bytes.
    !unsafe { libc::if_indextoname(number, name.as_mut_ptr()) }.is_null()
}

/// An integer option of a socket (getsockopt(2)).
fn socket_option(fd: i32, option: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut bytes = size_of_val(&value) as libc::socklen_t;
    // SAFETY: writes at most `bytes` bytes to `value`; a bad descriptor is an error.
    let done = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut bytes)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Whether this descriptor is a stream socket that listens (socket(7): SO_TYPE, SO_ACCEPTCONN).
pub fn is_listener(fd: i32) -> io::Result<bool> {
    Ok(socket_option(fd, libc::SO_TYPE)? == libc::SOCK_STREAM
        && socket_option(fd, libc::SO_ACCEPTCONN)? == 1)
}

/// Standard error.
pub const STDERR: i32 = 2;

/// Writes what the descriptor takes (write(2)); blocks as it does. No allocation.
pub fn write(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: reads `bytes.len()` bytes; a bad descriptor is an error.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Waits until the descriptor can be written, for ever if `None` (poll(2)). No allocation.
pub fn wait_writable(fd: i32, timeout_millis: Option<u16>) -> bool {
    let mut wait = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut wait, 1, timeout_millis.map_or(-1, i32::from)) };
    ready == 1
}

/// The device and inode of an open descriptor (fstat(2)).
pub fn device_and_inode(fd: i32) -> Option<(u64, u64)> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the whole struct when it gives 0.
    let status = unsafe {
        if libc::fstat(fd, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    // On 32-bit machines the fields are narrower.
    #[allow(clippy::useless_conversion)]
    Some((u64::from(status.st_dev), u64::from(status.st_ino)))
}

/// A set of signals (sigsetops(3)).
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of these signals.
    pub fn of(signals: &[i32]) -> SignalSet {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset fills the whole set; sigaddset refuses what is no signal.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            signals.iter().for_each(|signal| {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            });
            SignalSet(set.assume_init())
        }
    }

    /// Blocks them in this thread and those it starts from now on (pthread_sigmask(3)).
    pub fn block(&self) -> io::Result<()> {
        // SAFETY: reads the set; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &self.0, std::ptr::null_mut()) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Takes one of them that is pending, or waits for one, for at most `limit` (sigtimedwait(2)).
    /// They must be blocked. `None`: the time is over, or something else woke the thread.
    pub fn wait(&self, limit: Option<Duration>) -> Option<i32> {
        let timeout = limit.map(|limit| {
            // SAFETY: a timespec is plain numbers; zeroes are one. (Where its fields have padding
            // they cannot be named all.)
            let mut timeout: libc::timespec = unsafe { std::mem::zeroed() };
            timeout.tv_sec = limit.as_secs().try_into().unwrap_or(libc::time_t::MAX);
            timeout.tv_nsec = limit.subsec_nanos() as _;
            timeout
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: reads the set and the time, both outlive the call; a null time waits for ever
        // on Linux, and no siginfo is asked for.
        let signal = unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), timeout) };
        (signal > 0).then_some(signal)
    }
}

/// Ignores a signal in the whole process (signal(2)).
pub fn ignore(signal: i32) {
    // SAFETY: installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends a signal to this process: the thread that waits for it takes it (kill(2)).
pub fn signal_self(signal: i32) {
    // SAFETY: getpid cannot fail, and kill touches no memory.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// Soft and hard limit of open descriptors (getrlimit(2), RLIMIT_NOFILE).
pub fn descriptor_limits() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        // On 32-bit machines the fields are narrower.
        #[allow(clippy::useless_conversion)]
        0 => Ok((u64::from(limit.rlim_cur), u64::from(limit.rlim_max))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This process leaves no core dump from now on, and nobody but root may look into it (prctl(2),
/// PR_SET_DUMPABLE; core(5), which may give dumps to a program whatever the limit).
#[cfg(feature = "links")]
pub fn forbid_dumps() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: takes numbers only.
    let is_hidden = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } == 0;
    // SAFETY: reads the struct.
    match is_hidden && unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) } == 0 {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

/// Sets the soft limit of open descriptors; above the hard one it is an error (setrlimit(2)).
pub fn set_descriptor_limits(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft as _, rlim_max: hard as _ };
    // SAFETY: reads the struct.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks for this thread's time in short slices: whoever wakes with a shorter slice than the running
/// thread's need not wait for the end of that one's (sched(7); kernel/sched/fair.c, PREEMPT_SHORT, from
/// Linux 6.12 on; before, the kernel takes no notice). Its share of the processor stays what it is.
/// A thread that is not scheduled by shares stays as it is.
pub fn shorten_slice(slice: Duration) {
    let Some(mut wanted) = scheduling() else { return };
    wanted.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: reads as many bytes of the struct as it says it has. It is a wish: refused, all is as
    // it was.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

/// How this thread is scheduled, if by shares (sched_getattr(2)).
fn scheduling() -> Option<libc::sched_attr> {
    // SAFETY: zeroes are a value of a struct of integers.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of_val(&attr) as u32;
    // SAFETY: writes at most `size` bytes to the struct.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, attr.size, 0) };
    let by_shares =
        [libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&attr.sched_policy.cast_signed());
    (got == 0 && by_shares).then_some(attr)
}

/// The bytes of a page (sysconf(3)).
pub fn page_bytes() -> u64 {
    // SAFETY: touches no memory.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Takes a descriptor over that was open when the program started.
pub fn own(fd: i32) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the environment or the user says it is ours, and nothing else in the program holds
    // it; that it is open was checked by the caller, and if not, calls fail with EBADF.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_slice_is_granted_where_the_kernel_knows_of_it() {
        let Some(before) = scheduling() else { return };
        shorten_slice(Duration::from_micros(100));
        let after = scheduling().expect("as before");
        // Linux before 6.12 says 0, and goes on saying it.
        let expected = if before.sched_runtime == 0 { 0 } else { 100_000 };
        assert_eq!(after.sched_runtime, expected);
        assert_eq!(
            (after.sched_nice, after.sched_policy),
            (before.sched_nice, before.sched_policy)
        );
    }
}
