//! The system calls that std has no name for, each behind a safe function.
//! All `unsafe` of the benchmark is here.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

pub(crate) use libc::{EPOLLIN as READABLE, EPOLLOUT as WRITABLE, SIGINT, SIGKILL, SIGTERM};

/// A process, or the group it leads, as the kernel numbers them.
pub(crate) type Pid = libc::pid_t;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A level-triggered epoll instance and the events of its last wait.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self {
            // SAFETY: the kernel has just handed out this descriptor to us alone.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            events: Vec::with_capacity(512),
        })
    }

    pub(crate) fn add(&self, fd: &impl AsRawFd, token: usize, interest: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), token, interest)
    }

    pub(crate) fn modify(&self, fd: &impl AsRawFd, token: usize, interest: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), token, interest)
    }

    pub(crate) fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, 0)
    }

    fn control(&self, op: i32, fd: RawFd, token: usize, interest: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.cast_unsigned(), u64: token as u64 };
        // SAFETY: `event` lives across the call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits and returns how many events there are; `None` waits for ever.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let millis =
            timeout.map_or(-1, |timeout| timeout.as_millis().min(i32::MAX as u128) as libc::c_int);
        self.events.clear();
        let room = self.events.spare_capacity_mut();
        // SAFETY: the kernel writes at most `room.len()` events into `room`.
        let count = check(unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                room.as_mut_ptr().cast(),
                room.len() as libc::c_int,
                millis,
            )
        });
        let count = match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other? as usize,
        };
        // SAFETY: the kernel initialised the first `count` events.
        unsafe { self.events.set_len(count) };
        Ok(count)
    }

    /// The token of event number `index` of the last wait.
    pub(crate) fn token(&self, index: usize) -> usize {
        self.events[index].u64 as usize
    }
}

/// Receives what is there, never waiting.
pub(crate) fn recv_now(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    check_len(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// Takes up to `len` bytes off the receive queue of a TCP socket without
/// copying them anywhere, never waiting.
pub(crate) fn discard_now(fd: &impl AsRawFd, len: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket drops the bytes and writes to no buffer.
    check_len(unsafe {
        libc::recv(fd.as_raw_fd(), ptr::null_mut(), len, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
    })
}

/// Sends what fits, never waiting.
pub(crate) fn send_now(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel only reads `bytes`.
    check_len(unsafe {
        libc::send(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
}

/// Lets a listener's queue hold what the kernel allows; std's is 128.
pub(crate) fn widen_backlog(listener: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::listen(listener.as_raw_fd(), 4096) })?;
    Ok(())
}

/// Moves the process to a network namespace of its own.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    Ok(())
}

/// The same, with a user namespace that allows it.
pub(crate) fn unshare_user_and_network() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) })?;
    Ok(())
}

/// The numbers of the user and the group this process acts as.
pub(crate) fn user_and_group() -> (u32, u32) {
    // SAFETY: neither takes a pointer nor can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Brings up the loopback device, which is down in a new network namespace.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// Raises the soft limit of open files to the hard one, which the processes
/// started later inherit, and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_max)
}

/// The set of CPUs a thread may run on, to be put back later.
pub(crate) struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// What the calling thread has now.
    pub(crate) fn current() -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid, empty cpu_set_t.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes at most the size given.
        check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
        Ok(Self(set))
    }

    /// The last CPU of the set.
    pub(crate) fn last_core(&self) -> io::Result<usize> {
        (0..libc::CPU_SETSIZE as usize)
            // SAFETY: the index is below CPU_SETSIZE.
            .rfind(|&core| unsafe { libc::CPU_ISSET(core, &self.0) })
            .ok_or_else(|| io::Error::other("no CPU is allowed"))
    }

    /// One core only.
    pub(crate) fn one(core: usize) -> Self {
        // SAFETY: all-zero bytes are a valid, empty cpu_set_t.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: CPU_SET checks the index against the size of the set.
        unsafe { libc::CPU_SET(core, &mut set) };
        Self(set)
    }

    /// Applies to the calling thread and to what it starts from now on.
    pub(crate) fn apply(&self) -> io::Result<()> {
        // SAFETY: the kernel reads one cpu_set_t of the size given.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) })?;
        Ok(())
    }
}

/// Makes the process of `command` lead a group of its own, with no signal
/// blocked, and receive `death_signal` when the calling thread ends, however it
/// ends.
pub(crate) fn tie_to_parent(command: &mut Command, death_signal: libc::c_int) {
    command.process_group(0);
    // SAFETY: the closure makes async-signal-safe calls only, on a set of its own.
    unsafe {
        command.pre_exec(move || {
            let mut none: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            check(libc::prctl(libc::PR_SET_PDEATHSIG, death_signal))?;
            Ok(())
        });
    }
}

/// Signals every process of the group that `leader` leads.
pub(crate) fn signal_group(leader: Pid, signal: libc::c_int) {
    // SAFETY: takes no pointer. A group that is gone already is no error here.
    unsafe { libc::kill(-leader, signal) };
}

/// Signals one process. One that is gone already is no error here.
pub(crate) fn signal(pid: Pid, signal: libc::c_int) {
    // SAFETY: takes no pointer.
    unsafe { libc::kill(pid, signal) };
}

/// The leader of the group that a process is in; none when it is gone.
pub(crate) fn group_leader(pid: Pid) -> Option<Pid> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::getpgid(pid) }).ok()
}

/// Whether a child has ended. It is not reaped, so its number stays taken.
pub(crate) fn has_ended(child: Pid) -> bool {
    // SAFETY: all-zero bytes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one siginfo_t.
    let result = unsafe {
        libc::waitid(
            libc::P_PID,
            child.cast_unsigned(),
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    // SAFETY: waitid fills in the pid, or leaves the zero of a child still running.
    result < 0 || unsafe { info.si_pid() } != 0
}

/// Keeps INT, TERM and HUP from the calling thread and those it starts.
pub(crate) fn block_signals() -> SignalSet {
    // SAFETY: all-zero bytes are a valid sigset_t to be emptied first; every
    // pointer is to that set.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        SignalSet(set)
    }
}

/// Signals blocked by [`block_signals`].
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// Waits for one of them.
    pub(crate) fn wait(&self) -> libc::c_int {
        let mut signal = 0;
        // SAFETY: both pointers are to live values.
        unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        signal
    }
}

/// User and system time of all threads a process has and had, to the
/// nanosecond; none when there is no such process.
pub(crate) fn process_cpu(pid: Pid) -> Option<Duration> {
    /// The kernel's number for "time the scheduler counted".
    const CPUCLOCK_SCHED: libc::clockid_t = 2;
    let clock = (!pid << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then(|| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_nanos(time.tv_nsec as u64)
    })
}

/// How many ticks of `/proc/PID/stat` make a second.
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: takes no pointer.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}
