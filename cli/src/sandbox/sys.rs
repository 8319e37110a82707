//! The system calls that take rights away: prctl(2), seccomp(2), landlock(7), and the signal that
//! tells of a call that was not allowed. Knows nothing of which rights.
//!
//! Invariant: a pointer given to the kernel is to memory that lives until the call returns, of the
//! length given with it; the kernel keeps none.
#![allow(unsafe_code)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use filters::{catch_refusals, install};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// From now on this process, and whatever it starts, gains no right by running a program (prctl(2),
/// PR_SET_NO_NEW_PRIVS): without that the kernel takes no filter from it.
pub(super) fn gain_nothing() -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct landlock_ruleset_attr` (linux/landlock.h), as of ABI 6.
#[repr(C)]
pub(super) struct RulesetAttributes {
    /// `handled_access_fs`.
    pub(super) files: u64,
    /// `handled_access_net`.
    pub(super) ports: u64,
    /// `scoped`.
    pub(super) scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    rights: u64,
    folder: i32,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPort {
    rights: u64,
    port: u64,
}

const _: () = assert!(size_of::<RulesetAttributes>() == 24);
const _: () = assert!(size_of::<PathBeneath>() == 12 && size_of::<NetPort>() == 16);

/// LANDLOCK_CREATE_RULESET_VERSION.
const VERSION: u32 = 1;
/// LANDLOCK_RULE_PATH_BENEATH and LANDLOCK_RULE_NET_PORT.
const PATH_BENEATH: u32 = 1;
const NET_PORT: u32 = 2;
const NO_FLAGS: u32 = 0;

fn number_of(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The version of Landlock (landlock_create_ruleset(2)); 0: none, or not for us.
pub(super) fn landlock_abi() -> u32 {
    let nothing = std::ptr::null::<RulesetAttributes>();
    // SAFETY: no memory is given.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// landlock_create_ruleset(2). What an older ABI does not know has to be 0.
pub(super) fn landlock_create(attributes: &RulesetAttributes) -> io::Result<OwnedFd> {
    let bytes = size_of::<RulesetAttributes>();
    // SAFETY: the kernel reads as many bytes as there are.
    let fd = number_of(unsafe {
        let attributes = std::ptr::from_ref(attributes);
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes, bytes, NO_FLAGS)
    })?;
    // SAFETY: a new descriptor, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// landlock_add_rule(2): these rights in a folder and all below it, or on a file.
pub(super) fn landlock_add_path(
    rules: BorrowedFd<'_>,
    place: RawFd,
    rights: u64,
) -> io::Result<()> {
    let rule = PathBeneath { rights, folder: place };
    // SAFETY: the structure of this kind of rule.
    unsafe { landlock_add(rules, PATH_BENEATH, &rule) }
}

/// landlock_add_rule(2): these rights on a port.
pub(super) fn landlock_add_port(rules: BorrowedFd<'_>, port: u16, rights: u64) -> io::Result<()> {
    let rule = NetPort { rights, port: port.into() };
    // SAFETY: the structure of this kind of rule.
    unsafe { landlock_add(rules, NET_PORT, &rule) }
}

/// # Safety
/// `rule` is of the structure that this kind of rule takes.
unsafe fn landlock_add<T>(rules: BorrowedFd<'_>, kind: u32, rule: &T) -> io::Result<()> {
    let (fd, rule) = (rules.as_raw_fd(), std::ptr::from_ref(rule));
    // SAFETY: the kernel reads what the caller answers for.
    number_of(unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, kind, rule, NO_FLAGS) })?;
    Ok(())
}

/// landlock_restrict_self(2).
pub(super) fn landlock_restrict(rules: BorrowedFd<'_>) -> io::Result<()> {
    let fd = rules.as_raw_fd();
    // SAFETY: takes numbers only.
    number_of(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, NO_FLAGS) })?;
    Ok(())
}

/// Where there are lists of calls.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filters {
    use super::number_of;
    use libc::{c_int, c_void};
    use std::io;
    use std::mem::zeroed;

    /// SYS_SECCOMP (asm-generic/siginfo.h): the `si_code` of a call that a filter did not allow.
    const OF_A_FILTER: c_int = 1;

    /// Adds a filter to this thread, and those it starts from now on (seccomp(2)). Of the mitigations
    /// against speculation only those are wanted that the whole machine has: nobody else's code runs
    /// in this process, and before Linux 5.16 a filter made every system call dearer.
    pub(in super::super) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
        match add(program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
            // Linux before 4.17 has no such flag.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => add(program, 0),
            other => other,
        }
    }

    fn add(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the kernel copies the instructions, of which there are `len`.
        number_of(unsafe {
            libc::syscall(libc::SYS_seccomp, mode, flags as u32, std::ptr::from_ref(&program))
        })?;
        Ok(())
    }

    /// Has [`super::super::refused`] called for each call that a filter does not allow (sigaction(2), SIGSYS).
    pub(in super::super) fn catch_refusals() -> io::Result<()> {
        // SAFETY: numbers and a mask of bits, for which zeroes are a value: an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = caught as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler is of the type that SA_SIGINFO wants, and does only what signal-safety(7)
        // lets it do.
        let done = unsafe { libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Runs on the thread that made the call, in its place.
    extern "C" fn caught(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel gives both to a handler with SA_SIGINFO, and nobody else has them.
        let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
        // Anybody may send a signal; it is of no call.
        if info.si_code == OF_A_FILTER {
            super::super::refused(call_of(context), info.si_errno);
            give(context, -info.si_errno);
        }
    }

    /// The number of the call that was not made: the kernel has put the registers back.
    #[cfg(target_arch = "x86_64")]
    fn call_of(context: &libc::ucontext_t) -> u32 {
        context.uc_mcontext.gregs[libc::REG_RAX as usize] as u32
    }

    #[cfg(target_arch = "aarch64")]
    fn call_of(context: &libc::ucontext_t) -> u32 {
        context.uc_mcontext.regs[8] as u32
    }

    /// What the call seems to have returned.
    #[cfg(target_arch = "x86_64")]
    fn give(context: &mut libc::ucontext_t, result: c_int) {
        context.uc_mcontext.gregs[libc::REG_RAX as usize] = result.into();
    }

    #[cfg(target_arch = "aarch64")]
    fn give(context: &mut libc::ucontext_t, result: c_int) {
        context.uc_mcontext.regs[0] = i64::from(result) as u64;
    }
}
