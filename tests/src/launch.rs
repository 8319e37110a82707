//! Starts the program, and ends it.

use crate::keys::{self, Which};
use crate::peer::{connect, vacant_address, vacant_port};
use crate::process::{Process, Signal};
use crate::program::program;
use crate::{PATIENCE, eventually};
use std::ffi::OsString;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How the program is to be started.
pub struct Launch {
    listen: Option<String>,
    targets: Vec<String>,
    options: Vec<String>,
    wrapper: Vec<OsString>,
    stdin: Option<Stdio>,
    stderr: Option<Stdio>,
    program: PathBuf,
    threads: usize,
    /// Where the link is, if there is to be one.
    link: Option<String>,
}

/// Options that say how targets are reached: with a link they are the egress's.
const EGRESS_OPTIONS: [&str; 3] = ["--connect-timeout", "--prefer-ipv4", "--prefer-ipv6"];

impl Launch {
    /// `seaprox static`, on a vacant address, to `target`; one thread, unless said otherwise. With
    /// SEAPROX_TESTS_LINK set, to what an ingress needs before a name (`seqpacket:@`) or before a
    /// port (`sctp:127.0.0.1:`, `udp:127.0.0.1:`), an ingress and an egress take its place: whoever tests sees no
    /// difference. The ends have keys ([`keys::words`]).
    pub fn to(target: impl ToString) -> Self {
        Launch {
            listen: None,
            targets: vec![target.to_string()],
            options: vec!["--threads".into(), "1".into()],
            program: program().into(),
            threads: 1,
            link: link(),
            wrapper: Vec::new(),
            stdin: None,
            stderr: None,
        }
    }

    /// One more target, tried after those before.
    pub fn or_to(mut self, target: impl ToString) -> Self {
        self.targets.push(target.to_string());
        self
    }

    /// An option and its value; the last one of a name counts.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.extend([name.into(), value.to_string()]);
        self
    }

    /// An option without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.into());
        self
    }

    /// How many threads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self.option("--threads", threads)
    }

    /// Where to listen.
    pub fn listen(mut self, listen: impl ToString) -> Self {
        self.listen = Some(listen.to_string());
        self
    }

    /// Words in front of the command: `strace .. seaprox ..`.
    pub fn wrapped<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.wrapper.extend(words.into_iter().map(Into::into));
        self
    }

    /// Both limits of the number of descriptors.
    pub fn descriptors(self, soft: u32, hard: u32) -> Self {
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
        self.wrapped(["sh", "-c", &script, "sh"])
    }

    /// Where stderr goes, instead of to [`Proxy::stderr`].
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// What is open as stdin.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Runs a copy of the program that everybody may read.
    pub fn copied(mut self) -> Self {
        self.program = crate::trace::temporary("program");
        std::fs::copy(program(), &self.program).expect("the program can be copied");
        self
    }

    fn spawn(&mut self, listen: &str) -> Child {
        let mut words = self.wrapper.clone();
        words.push(self.program.clone().into());
        match &self.link {
            None => {
                words.extend(["static".into(), listen.into()]);
                words.extend(self.targets.iter().chain(&self.options).map(OsString::from));
            }
            Some(link) => {
                let (_, options) = self.parted_options();
                words.extend(["ingress".into(), listen.into(), link.into()]);
                let protection = keys::words(Which::Ingress);
                words.extend(protection.iter().chain(&options).map(OsString::from));
            }
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdout(Stdio::null());
        command.stdin(self.stdin.take().unwrap_or_else(Stdio::null));
        command.stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        command.spawn().unwrap_or_else(|error| panic!("{:?} cannot be run: {error}", words[0]))
    }

    /// The options of an egress, and those of its ingress.
    fn parted_options(&self) -> (Vec<String>, Vec<String>) {
        let (mut egress, mut ingress) = (Vec::new(), Vec::new());
        let mut rest = self.options.iter().peekable();
        while let Some(option) = rest.next() {
            let value = rest.next_if(|next| !next.starts_with("--"));
            let both = option == "--threads";
            let of_egress = EGRESS_OPTIONS.contains(&option.as_str());
            for (wanted, options) in [(of_egress, &mut egress), (!of_egress, &mut ingress)] {
                if wanted || both {
                    options.push(option.clone());
                    options.extend(value.cloned());
                }
            }
        }
        (egress, ingress)
    }

    /// The egress that this launch's ingress will find.
    fn start_egress(&self, link: &str) -> Egress {
        let mut command = Command::new(program());
        command.args(["egress", link]).args(&self.targets).args(keys::words(Which::Egress));
        command.args(self.parted_options().0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the egress can be run");
        let process = Process::child(&child);
        let (stderr, _) = collect(&mut child);
        let egress = Egress { child, process, stderr };
        eventually("the egress listens", || egress.stderr().contains("event=listening"));
        egress
    }

    /// Starts it, and waits until it listens and all its threads sleep.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn start(self) -> Proxy {
        let address = self.listen.as_ref().and_then(|listen| listen.parse().ok());
        self.start_at(address.unwrap_or_else(vacant_address))
    }

    /// The same where [`Launch::listen`] is given a port alone.
    #[track_caller]
    pub fn start_on(self, port: u16) -> Proxy {
        self.start_at((crate::peer::loopback(false), port).into())
    }

    #[track_caller]
    fn start_at(mut self, address: SocketAddr) -> Proxy {
        let listen = self.listen.clone().unwrap_or_else(|| address.to_string());
        let egress = self.link.clone().map(|link| self.start_egress(&link));
        let mut child = self.spawn(&listen);
        let (stderr, listener) = collect(&mut child);
        let mut proxy = Proxy {
            egress,
            process: Process::child(&child),
            child,
            address,
            stderr,
            listener,
            threads: self.threads,
        };
        eventually("the program listens", || {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                panic!("the program ended: {status}: {}", proxy.stderr());
            }
            let Some(process) = descendant(proxy.process, &self.program) else { return false };
            let listens = match listen.strip_prefix("unix:") {
                Some(path) => process.sees_unix_listener(path),
                None => listen.starts_with("fd:") || process.listens_on(proxy.address.port()),
            };
            listens.then(|| proxy.process = process).is_some()
        });
        if proxy.egress.is_some() {
            let links = self.threads;
            let up = || proxy.stderr().matches("event=\"link up\"").count() == links;
            eventually("the links are up", up);
        }
        proxy.wait_asleep();
        proxy
    }

    /// Runs it to its end: for command lines that must fail.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn run(mut self) -> (Option<i32>, String) {
        let listen = self.listen.clone().unwrap_or_else(|| vacant_address().to_string());
        let mut child = self.spawn(&listen);
        let (stderr, listener) = collect(&mut child);
        let process = Process::child(&child);
        let address = vacant_address();
        let mut proxy =
            Proxy { process, child, address, stderr, listener, threads: 0, egress: None };
        let status = proxy.wait();
        (status.code(), proxy.stderr())
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if self.program != program() {
            let _ = std::fs::remove_file(&self.program);
        }
    }
}

fn collect(child: &mut Child) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let pipe = child.stderr.take();
    let heard = said.clone();
    let listener = thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            heard.lock().expect("no holder panics").extend_from_slice(&buffer[..count]);
        }
    });
    (said, listener)
}

/// The process among this one and its children that runs the program.
fn descendant(process: Process, program: &Path) -> Option<Process> {
    let program = program.canonicalize().ok()?;
    let mut family = vec![process];
    family.extend(process.children());
    family.into_iter().find(|process| process.program().as_ref() == Some(&program))
}

/// The far end of the links of a [`Proxy`], if it has some.
struct Egress {
    child: Child,
    process: Process,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Egress {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("no holder panics")).into_owned()
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if thread::panicking() {
            eprintln!("the egress ({ended:?}) said: {}", self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert_nothing_refused(&self.stderr());
    }
}

/// Whatever a test has the program do, its own sandbox is not in the way.
fn assert_nothing_refused(stderr: &str) {
    let refused = stderr.lines().find(|line| line.starts_with("seaprox: system call "));
    assert!(refused.is_none() || thread::panicking(), "{}", refused.unwrap_or_default());
}

/// Whether the proxies of this run are two ends of a link: a link's name, of which the variable has
/// the start.
pub(crate) fn link() -> Option<String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let start = std::env::var("SEAPROX_TESTS_LINK").ok()?;
    if start.starts_with("sctp:") || start.starts_with("udp:") {
        return Some(format!("{start}{}", vacant_port()));
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Some(format!("{start}seaprox-tests-{}-{number}", std::process::id()))
}

/// A running program, ended with this value.
pub struct Proxy {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    egress: Option<Egress>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Reads its stderr to the end.
    listener: JoinHandle<()>,
    threads: usize,
}

impl Proxy {
    /// A program that was just started, once it says that it listens.
    #[track_caller]
    pub(crate) fn of_child(mut child: Child, address: SocketAddr, threads: usize) -> Proxy {
        let (stderr, listener) = collect(&mut child);
        let process = Process::child(&child);
        let mut proxy = Proxy { egress: None, process, child, address, stderr, listener, threads };
        eventually("the program listens", || {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                panic!("the program ended: {status}: {}", proxy.stderr());
            }
            proxy.stderr().contains("event=listening")
        });
        // It may be a child of what it was started by.
        let own = |process: &Process| {
            process.program().as_deref() == program().canonicalize().ok().as_deref()
        };
        proxy.process = process.children().into_iter().find(own).unwrap_or(process);
        proxy
    }

    /// One more client.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// One more client, and its backend's end.
    #[track_caller]
    pub fn pair(&self, backend: &std::net::TcpListener) -> (TcpStream, TcpStream) {
        let client = self.connect();
        (client, crate::peer::accept(backend))
    }

    /// What the status lines of its log say of each thread (signal USR1), in the threads' order.
    ///
    /// # Panics
    /// It says nothing.
    #[track_caller]
    pub fn status(&self, field: &str) -> Vec<u64> {
        let before = self.stderr().len();
        self.process.signal(Signal::SIGUSR1);
        let mut values = vec![None; self.threads];
        eventually("the program tells its status", || {
            let said = self.stderr();
            let lines = said[before..].split_inclusive('\n').filter(|line| line.ends_with('\n'));
            for line in lines.filter(|line| line.contains("event=status thread=")) {
                let number = |name: &str| {
                    let (_, value) = line.split_once(&format!(" {name}="))?;
                    value.split_whitespace().next()?.parse().ok()
                };
                if let (Some(thread), Some(value)) = (number("thread"), number(field)) {
                    values[thread as usize] = Some(value);
                }
            }
            values.iter().all(Option::is_some)
        });
        values.into_iter().flatten().collect()
    }

    /// How many connections it holds.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        self.status("connections").iter().sum()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        let said = self.stderr.lock().expect("no holder panics");
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until it has said this.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_says(&self, words: &str) {
        eventually(words, || self.stderr().contains(words));
    }

    /// Waits until it has said this so many times.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_says_times(&self, words: &str, count: usize) {
        eventually(words, || self.stderr().matches(words).count() >= count);
    }

    /// How many connections were not made, or did not end in order, for this reason (signal USR1).
    #[track_caller]
    pub fn failed(&self, reason: &str) -> u64 {
        let before = self.stderr().len();
        // The status lines of the threads come first, those of the reasons after them.
        self.status("connections");
        self.process.signal(Signal::SIGUSR1);
        eventually("it tells twice", || {
            self.stderr()[before..].matches("event=status thread=0").count() >= 2
        });
        let said = self.stderr();
        let name = format!("event=status reason={reason} count=");
        let count = said[before..].lines().find_map(|line| line.split_once(&name));
        count.map_or(0, |(_, count)| count.trim().parse().expect("a number"))
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Waits until all its threads have slept for a moment.
    #[track_caller]
    pub fn wait_asleep(&self) {
        let mut asleep = 0;
        let mut before = 0;
        eventually("the program sleeps", || {
            assert!(self.is_alive(), "the program is no more");
            let sleeps = self.process.sleeps();
            let still = self.process.is_asleep() && sleeps == before;
            asleep = if still { asleep + 1 } else { 0 };
            before = sleeps;
            asleep > 3
        });
    }

    /// Its process, and that of its egress if it is an ingress.
    pub fn processes(&self) -> impl Iterator<Item = Process> {
        [Some(self.process), self.egress.as_ref().map(|egress| egress.process)]
            .into_iter()
            .flatten()
    }

    /// Whether its bytes go through a link.
    pub fn is_linked(&self) -> bool {
        self.egress.is_some()
    }

    /// How many sockets it has open, those of its egress too.
    pub fn sockets(&self) -> usize {
        self.processes().map(|process| process.sockets()).sum()
    }

    /// Waits until it has so many sockets open.
    #[track_caller]
    pub fn wait_sockets(&self, count: usize) {
        let start = Instant::now();
        while self.sockets() != count {
            let now = self.sockets();
            assert!(self.is_alive(), "the program is no more");
            assert!(start.elapsed() < PATIENCE, "{now} sockets stay open, not {count}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        eventually("its last words arrive", || self.listener.is_finished());
        status.expect("it has ended")
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    fn end(&mut self) {
        // Both may be gone already; strace ends with the process it traces.
        let _ = nix::sys::signal::kill(self.process.0, Signal::SIGKILL);
        if self.process != Process::child(&self.child) {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if thread::panicking() {
            eprintln!("the program ({ended:?}) said: {}", self.stderr());
        }
        if ended.is_none() {
            self.end();
        }
        assert_nothing_refused(&self.stderr());
    }
}
