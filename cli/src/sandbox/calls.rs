//! Which system calls each kind of thread may make, and on what arguments. Knows not how that is
//! enforced.
//!
//! The lists are what strace shows over all tests, with glibc and with musl, and what the sources of
//! both make beside: on errors, on older kernels, at a thread's end. A call that is on no list fails
//! as if the kernel did not have it, so that a newer C library goes on by older means; one that only
//! an intruder makes is the end.
//!
//! Invariant: what a thread may make after it has narrowed its rights, it could make before
//! ([`Duty::Starting`]), or the filters together would allow less than each of them.

use super::Duty;
use super::filter::Condition::{Has, Is, Lacks};
use super::filter::{ALWAYS, Condition, NEVER, Program, Rule, TooLong, Verdict, compile};
use libc::c_long;

/// What the kernel says of a call that it does not have.
const ABSENT: Verdict = Verdict::Refuse(libc::ENOSYS as u16);
/// A call on something that it is not for.
const DENIED: Verdict = Verdict::Refuse(libc::EPERM as u16);

/// Of any thread: what a thread is made of, memory, time, and what is done with a descriptor.
const COMMON: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same, where older calls have numbers of their own.
#[cfg(target_arch = "x86_64")]
const COMMON_OLD: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];
#[cfg(target_arch = "aarch64")]
const COMMON_OLD: &[c_long] = &[];

const RELAYING: &[c_long] = &[libc::SYS_accept4, libc::SYS_listen, libc::SYS_splice];

/// getaddrinfo(3) and the modules of nsswitch.conf(5): files, sockets of the local network and of
/// daemons on this machine.
const RESOLVING: &[c_long] = &[
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_bind,
    libc::SYS_socketpair,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_clock_getres,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcpu,
    libc::SYS_sched_getaffinity,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getppid,
];

#[cfg(target_arch = "x86_64")]
const RESOLVING_OLD: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_dup2,
];
#[cfg(target_arch = "aarch64")]
const RESOLVING_OLD: &[c_long] = &[];

/// What starting a thread takes beside; and a worker asks the scheduler for short slices.
const STARTING: &[c_long] = &[
    libc::SYS_rt_sigaction,
    libc::SYS_membarrier,
    libc::SYS_prlimit64,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
];

const WAITING: &[c_long] = &[libc::SYS_rt_sigtimedwait];

/// What looking at a path and removing it takes.
const REMOVING: &[c_long] = &[libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_unlinkat];
#[cfg(target_arch = "x86_64")]
const REMOVING_OLD: &[c_long] = &[libc::SYS_lstat, libc::SYS_unlink];
#[cfg(target_arch = "aarch64")]
const REMOVING_OLD: &[c_long] = &[];

/// What no thread of this program makes, nor any library that it calls, and an intruder first: other
/// programs, and the memory of other processes.
const HOSTILE: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
];

/// What is hostile too on a thread that opens no file and starts no other.
const FILES_AND_THREADS: &[c_long] =
    &[libc::SYS_openat, libc::SYS_openat2, libc::SYS_clone, libc::SYS_clone3];
#[cfg(target_arch = "x86_64")]
const FILES_AND_THREADS_OLD: &[c_long] =
    &[libc::SYS_open, libc::SYS_creat, libc::SYS_fork, libc::SYS_vfork];
#[cfg(target_arch = "aarch64")]
const FILES_AND_THREADS_OLD: &[c_long] = &[];

type Ways = &'static [&'static [Condition]];

/// socket(2), the family.
const SOCKETS: Ways = &[
    &[Is(0, libc::AF_INET as u32)],
    &[Is(0, libc::AF_INET6 as u32)],
    &[Is(0, libc::AF_UNIX as u32)],
];
/// And to ask the kernel for the addresses of this machine (rtnetlink(7)).
const LOOKUP_SOCKETS: Ways = &[
    &[Is(0, libc::AF_INET as u32)],
    &[Is(0, libc::AF_INET6 as u32)],
    &[Is(0, libc::AF_UNIX as u32)],
    &[Is(0, libc::AF_NETLINK as u32), Is(2, libc::NETLINK_ROUTE as u32)],
];

/// mmap(2) and mprotect(2), the protection.
const NO_CODE: Ways = &[&[Lacks(2, libc::PROT_EXEC as u32)]];
/// mmap(2), the protection and the flags: code out of a file, as a module of nsswitch.conf(5) that is
/// loaded late, and not to be written.
const CODE_OF_FILES: Ways = &[
    &[Lacks(2, libc::PROT_EXEC as u32)],
    &[Lacks(2, libc::PROT_WRITE as u32), Lacks(3, libc::MAP_ANONYMOUS as u32)],
];

/// open(2), the flags; those of openat(2) are one place further.
const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32;
#[cfg(target_arch = "x86_64")]
const OPEN_TO_READ: Ways = &[&[Lacks(1, WRITES)]];
const OPENAT_TO_READ: Ways = &[&[Lacks(2, WRITES)]];

/// ioctl(2): what is not acknowledged yet (SIOCOUTQ, tcp(7)), and a descriptor that does not block.
const CONTROLS: Ways = &[&[Is(1, libc::TIOCOUTQ as u32)], &[Is(1, libc::FIONBIO as u32)]];
/// And what waits, and the names of interfaces (netdevice(7)).
const LOOKUP_CONTROLS: Ways = &[
    &[Is(1, libc::TIOCOUTQ as u32)],
    &[Is(1, libc::FIONBIO as u32)],
    &[Is(1, libc::FIONREAD as u32)],
    &[Is(1, libc::SIOCGIFNAME as u32)],
    &[Is(1, libc::SIOCGIFINDEX as u32)],
];

/// fcntl(2): flags, and the sizes of pipes.
const FLAGS: Ways = &[
    &[Is(1, libc::F_GETFD as u32)],
    &[Is(1, libc::F_SETFD as u32)],
    &[Is(1, libc::F_GETFL as u32)],
    &[Is(1, libc::F_SETFL as u32)],
    &[Is(1, libc::F_DUPFD_CLOEXEC as u32)],
    &[Is(1, libc::F_GETPIPE_SZ as u32)],
    &[Is(1, libc::F_SETPIPE_SZ as u32)],
];

/// tkill(2), the signal: by this musl's abort(3) ends the process; whose thread it is the call does not
/// say.
const ABORT: Ways = &[&[Is(1, libc::SIGABRT as u32)]];
/// prctl(2): the name of a thread.
const NAMES: Ways = &[&[Is(0, libc::PR_SET_NAME as u32)], &[Is(0, libc::PR_GET_NAME as u32)]];
/// clone(2): a thread of this process, and no process.
const THREADS: Ways = &[&[Has(0, libc::CLONE_THREAD as u32)]];
/// seccomp(2): fewer rights.
const FILTERS: Ways = &[&[Is(0, libc::SECCOMP_SET_MODE_FILTER)]];

/// The rules of a duty, while they are put together.
struct Rules<'r>(Vec<Rule<'r>>);

impl<'r> Rules<'r> {
    fn on(&mut self, number: c_long, ways: &'r [&'r [Condition]], otherwise: Verdict) {
        self.0.push(Rule { number: number as u32, ways, otherwise });
    }

    fn all(&mut self, lists: &[&[c_long]], ways: &'r [&'r [Condition]], otherwise: Verdict) {
        let numbers = lists.iter().flat_map(|list| list.iter());
        numbers.for_each(|&number| self.on(number, ways, otherwise));
    }

    fn allow(&mut self, lists: &[&[c_long]]) {
        self.all(lists, ALWAYS, ABSENT);
    }

    fn end(&mut self, lists: &[&[c_long]]) {
        self.all(lists, NEVER, Verdict::End);
    }

    /// What looks names up.
    fn resolving(&mut self) {
        self.allow(&[RESOLVING, RESOLVING_OLD]);
        self.on(libc::SYS_socket, LOOKUP_SOCKETS, DENIED);
        self.on(libc::SYS_ioctl, LOOKUP_CONTROLS, DENIED);
        self.on(libc::SYS_prctl, NAMES, DENIED);
        self.on(libc::SYS_mmap, CODE_OF_FILES, DENIED);
        self.on(libc::SYS_mprotect, NO_CODE, DENIED);
        #[cfg(target_arch = "x86_64")]
        self.on(libc::SYS_open, OPEN_TO_READ, DENIED);
        self.on(libc::SYS_openat, OPENAT_TO_READ, DENIED);
    }

    /// What neither opens a file nor starts a thread.
    fn narrow(&mut self) {
        self.end(&[FILES_AND_THREADS, FILES_AND_THREADS_OLD]);
        self.on(libc::SYS_socket, SOCKETS, DENIED);
        self.on(libc::SYS_ioctl, CONTROLS, DENIED);
        self.on(libc::SYS_mmap, NO_CODE, Verdict::End);
        self.on(libc::SYS_mprotect, NO_CODE, Verdict::End);
    }
}

/// The filter of a duty, for this process.
pub(super) fn program(duty: Duty, process: u32) -> Result<Program, TooLong> {
    let own: &[&[Condition]] = &[&[Is(0, process)]];
    let mut rules = Rules(Vec::new());
    rules.end(&[HOSTILE]);
    rules.allow(&[COMMON, COMMON_OLD]);
    rules.on(libc::SYS_fcntl, FLAGS, DENIED);
    rules.on(libc::SYS_kill, own, DENIED);
    rules.on(libc::SYS_tgkill, own, DENIED);
    rules.on(libc::SYS_tkill, ABORT, DENIED);
    match duty {
        Duty::Starting => {
            rules.allow(&[RELAYING, STARTING, WAITING, REMOVING, REMOVING_OLD]);
            rules.resolving();
            rules.on(libc::SYS_clone, THREADS, Verdict::End);
            // Its flags are in memory, where no filter sees them; the C library goes on with clone.
            rules.on(libc::SYS_clone3, NEVER, Verdict::Lack(libc::ENOSYS as u16));
            rules.on(libc::SYS_seccomp, FILTERS, DENIED);
        }
        Duty::Relaying => {
            rules.allow(&[RELAYING]);
            rules.narrow();
        }
        Duty::Resolving => rules.resolving(),
        Duty::Waiting { removes } => {
            rules.allow(&[WAITING]);
            if removes {
                rules.allow(&[REMOVING, REMOVING_OLD]);
            }
            rules.narrow();
        }
    }
    compile(&rules.0, ABSENT)
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
