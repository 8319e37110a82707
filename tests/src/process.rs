//! A running process, as /proc shows it.

pub use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

/// Makes sure that this test may have so many descriptors.
///
/// # Panics
/// The hard limit is lower.
pub fn want_descriptors(count: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    assert!(
        hard >= count,
        "this test needs {count} descriptors: raise the hard limit (ulimit -Hn)"
    );
    if soft < count {
        setrlimit(Resource::RLIMIT_NOFILE, count, hard).expect("below the hard limit");
    }
}

/// A process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub Pid);

impl Process {
    /// A child of this process.
    pub fn child(child: &std::process::Child) -> Process {
        Process(Pid::from_raw(child.id() as i32))
    }

    fn path(self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0).into()
    }

    fn text(self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Whether it runs.
    pub fn is_alive(self) -> bool {
        !matches!(self.field("status", "State").chars().next(), None | Some('Z' | 'X'))
    }

    /// Sends a signal. After SIGSTOP it stands still: kill(2) returns before each thread has heard of it.
    ///
    /// # Panics
    /// It is no more.
    pub fn signal(self, signal: Signal) {
        nix::sys::signal::kill(self.0, signal).expect("the process is no more");
        let is_stopped = |thread: &Thread| {
            let status = self.field(&format!("task/{}/status", thread.1), "State");
            !matches!(status.chars().next(), Some('R' | 'S' | 'D'))
        };
        while signal == Signal::SIGSTOP && !self.threads().iter().all(is_stopped) {
            std::thread::yield_now();
        }
    }

    /// Its program.
    pub fn program(self) -> Option<PathBuf> {
        fs::read_link(self.path("exe")).ok()
    }

    /// Its children.
    pub fn children(self) -> Vec<Process> {
        let name = format!("task/{}/children", self.0);
        let numbers = self.text(&name);
        numbers.split_whitespace().filter_map(Self::numbered).collect()
    }

    /// The process with this number, in words.
    pub fn numbered(text: &str) -> Option<Process> {
        Some(Process(Pid::from_raw(text.parse().ok()?)))
    }

    /// What its descriptors are.
    pub fn descriptors(self) -> Vec<String> {
        let Ok(folder) = self.path("fd").read_dir() else { return Vec::new() };
        let links = folder.filter_map(Result::ok).filter_map(|fd| fs::read_link(fd.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    /// How many sockets it has open.
    pub fn sockets(self) -> usize {
        self.count("socket:")
    }

    /// How many ends of pipes it has open.
    pub fn pipe_ends(self) -> usize {
        self.count("pipe:")
    }

    fn count(self, kind: &str) -> usize {
        self.descriptors().iter().filter(|link| link.starts_with(kind)).count()
    }

    /// Its threads.
    pub fn threads(self) -> Vec<Thread> {
        let Ok(folder) = self.path("task").read_dir() else { return Vec::new() };
        let names = folder.filter_map(Result::ok).map(|task| task.file_name());
        names.filter_map(|name| Some(Thread(self, name.to_str()?.parse().ok()?))).collect()
    }

    /// One field of `status`, `limits`, `smaps_rollup` ..; what stands after its name.
    pub fn field(self, file: &str, name: &str) -> String {
        let text = self.text(file);
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().unwrap_or_default().trim_start_matches(':').trim().to_owned()
    }

    fn kibibytes(self, file: &str, name: &str) -> u64 {
        let value = self.field(file, name);
        let number = value.split_whitespace().next().and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {file}: {value:?}"))
    }

    /// Bytes of memory it has touched: .bss, stacks, what was mapped. Not the program's file, of which
    /// its part grows whenever another process ends that runs the same program.
    pub fn pss_bytes(self) -> u64 {
        self.kibibytes("smaps_rollup", "Pss_Anon") * 1024
    }

    /// Bytes of its heap, thread stacks and other private mappings, touched or not.
    pub fn data_bytes(self) -> u64 {
        self.kibibytes("status", "VmData") * 1024
    }

    /// Nanoseconds of CPU its threads have used.
    pub fn cpu_nanos(self) -> u64 {
        self.threads().iter().map(|thread| thread.cpu_nanos()).sum()
    }

    /// How often its threads have gone to sleep.
    pub fn sleeps(self) -> u64 {
        self.threads().iter().map(|thread| thread.sleeps()).sum()
    }

    /// Whether all its threads sleep.
    pub fn is_asleep(self) -> bool {
        let threads = self.threads();
        !threads.is_empty() && threads.iter().all(|thread| thread.field("State").starts_with('S'))
    }

    /// The sockets of its network, in words: local and remote address, and state, in hexadecimal.
    pub fn tcp_sockets(self) -> Vec<TcpSocket> {
        let text = self.text("net/tcp") + &self.text("net/tcp6");
        text.lines().filter_map(TcpSocket::parse).collect()
    }

    /// Those that are its own.
    pub fn own_tcp_sockets(self) -> Vec<TcpSocket> {
        let own: HashSet<_> = self.descriptors().into_iter().collect();
        let mut sockets = self.tcp_sockets();
        sockets.retain(|socket| own.contains(&format!("socket:[{}]", socket.inode)));
        sockets
    }

    /// Whether it listens on this port.
    pub fn listens_on(self, port: u16) -> bool {
        let listens = |socket: &TcpSocket| socket.state == LISTEN && socket.local_port == port;
        self.own_tcp_sockets().iter().any(listens)
    }

    /// Whether it has bound this path.
    pub fn sees_unix_listener(self, path: &str) -> bool {
        self.text("net/unix").lines().any(|line| line.ends_with(&format!(" {path}")))
    }
}

/// One thread of a process.
#[derive(Clone, Copy, Debug)]
pub struct Thread(Process, i32);

impl Thread {
    /// Its number.
    pub fn id(self) -> i32 {
        self.1
    }

    /// One field of its status.
    pub fn field(self, name: &str) -> String {
        self.0.field(&format!("task/{}/status", self.1), name)
    }

    /// How often it has gone to sleep.
    pub fn sleeps(self) -> u64 {
        self.field("voluntary_ctxt_switches").parse().unwrap_or(0)
    }

    fn cpu_nanos(self) -> u64 {
        let text = self.0.text(&format!("task/{}/schedstat", self.1));
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    }
}

/// A socket's states, as the kernel numbers them (include/net/tcp_states.h).
pub const ESTABLISHED: u8 = 1;
/// It asks, and is not answered yet.
pub const SYN_SENT: u8 = 2;
/// The peer has ended, we have not.
pub const CLOSE_WAIT: u8 = 8;
/// It waits for clients.
pub const LISTEN: u8 = 10;

/// A socket's timer: it will ask the peer whether it is still there (net/ipv4/tcp_ipv4.c).
pub const KEEPALIVE: u8 = 2;

/// One line of /proc/net/tcp.
#[derive(Clone, Debug)]
pub struct TcpSocket {
    /// Its own port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// One of the states above.
    pub state: u8,
    /// What it waits for; [`KEEPALIVE`], or something more urgent.
    pub timer: u8,
    /// The number that tells it from all others.
    pub inode: u64,
}

impl TcpSocket {
    fn parse(line: &str) -> Option<TcpSocket> {
        let mut words = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(words.next()?.rsplit_once(':')?.1, 16).ok();
        let (local_port, remote_port) = (port()?, port()?);
        let state = u8::from_str_radix(words.next()?, 16).ok()?;
        // The queues stand before it.
        let timer = words.nth(1)?.split_once(':')?.0.parse().ok()?;
        // Retransmits, uid and timeout stand before it.
        let inode = words.nth(3)?.parse().ok()?;
        Some(TcpSocket { local_port, remote_port, state, timer, inode })
    }
}
