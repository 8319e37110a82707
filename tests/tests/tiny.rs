//! The smallest build, `examples/tiny`, for three machines: how large it is, that there is no
//! allocator in it, and that it relays to the byte. What is not this machine's is run by qemu-user.
//!
//! SEAPROX_TINY_TARGETS says which to build for, if not for all; the others are not tested, and
//! whoever sets it has to say so (`run-tests` does).

use seaprox_tests::bytes::pattern;
use seaprox_tests::peer::{
    End, accept, accept_within, assert_echoes, assert_ends, assert_refused, assert_rest, connect,
    end, fill, listen, loopback, reset, send_pattern, vacant_address, vacant_port,
};
use seaprox_tests::process::{Process, Signal};
use seaprox_tests::program::workspace;
use seaprox_tests::{eventually, run};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What it may take on the disk.
const BYTES_MAX: u64 = 64 * 1024;

/// What it is built to hold.
const CONNECTIONS: usize = 4;

/// A machine: its name for rustc, and for qemu.
struct Machine {
    target: &'static str,
    qemu: &'static str,
}

const X86_64: Machine = Machine { target: "x86_64-unknown-linux-musl", qemu: "qemu-x86_64" };
const I686: Machine = Machine { target: "i686-unknown-linux-musl", qemu: "qemu-i386" };
const AARCH64: Machine = Machine { target: "aarch64-unknown-linux-musl", qemu: "qemu-aarch64" };

impl Machine {
    /// Whether it is to be built for.
    fn is_wanted(&self) -> bool {
        let Ok(wanted) = std::env::var("SEAPROX_TINY_TARGETS") else { return true };
        wanted.split_whitespace().any(|name| name == self.target)
    }

    fn is_this_one(&self) -> bool {
        self.target.starts_with(std::env::consts::ARCH)
    }

    /// Builds it in a folder, which must succeed; where it is.
    fn build(
        &self,
        folder: &Path,
        (listen, target): (SocketAddr, SocketAddr),
        options: &[&str],
    ) -> PathBuf {
        let [listen, target, connections] =
            [listen.to_string(), target.to_string(), CONNECTIONS.to_string()];
        let output = cargo(folder, &["build", "--release", "--target", self.target])
            .args(options)
            .env("SEAPROX_LISTEN", listen)
            .env("SEAPROX_TARGET", target)
            .env("SEAPROX_MAX_NUM_CONNECTIONS", connections)
            .output()
            .expect("cargo can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        let name = self.target;
        assert!(output.status.success(), "{said}\n(Is it there? rustup target add {name})");
        folder.join(name).join("release/seaprox-tiny")
    }
}

/// A folder to build in, that stays for the next time: one for each test.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny").join(name)
}

/// Cargo for this program, without constants.
fn cargo(folder: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).args(["--locked", "--target-dir"]).arg(folder);
    for name in ["LISTEN", "TARGET", "MAX_NUM_CONNECTIONS", "PIPE_BYTES"] {
        command.env_remove(format!("SEAPROX_{name}"));
    }
    // Its folder says how it is linked.
    command.current_dir(workspace().join("examples/tiny"));
    command
}

/// The program, running; ended with this value.
struct Tiny(Child);

impl Tiny {
    /// Starts it with these words in front, and waits until it listens.
    #[track_caller]
    fn start(program: &Path, before: &[&str], at: SocketAddr) -> Tiny {
        let mut tiny = Tiny::spawn(program, before);
        eventually("it listens", || {
            let ended = tiny.0.try_wait().expect("it is our child");
            assert_eq!(ended, None, "{}", tiny.words());
            tiny.process().listens_on(at.port())
        });
        tiny
    }

    fn spawn(program: &Path, before: &[&str]) -> Tiny {
        let program = program.to_str().expect("a path in UTF-8");
        let words = [before, &[program]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::piped()).spawn();
        Tiny(child.unwrap_or_else(|error| panic!("{} cannot be run: {error}", words[0])))
    }

    fn process(&self) -> Process {
        Process::child(&self.0)
    }

    /// What it said, once it has ended.
    fn words(&mut self) -> String {
        let mut words = String::new();
        let stderr = self.0.stderr.as_mut().expect("it is a pipe");
        stderr.read_to_string(&mut words).expect("it speaks UTF-8");
        words
    }

    /// Waits for its end, and gives its exit code or the signal, and what it said.
    #[track_caller]
    fn ended(mut self) -> (Option<i32>, Option<i32>, String) {
        let mut status = None;
        eventually("it ends", || {
            status = self.0.try_wait().expect("it is our child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        (status.code(), status.signal(), self.words())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Small enough, and without a symbol of an allocator.
fn assert_small(program: &Path, unstripped: &Path) {
    let bytes = program.metadata().expect("it was built").len();
    assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", program.display());
    println!("{}: {bytes} bytes", program.display());

    let listing = run(&["nm", unstripped.to_str().expect("a path in UTF-8")]);
    let symbols: Vec<_> =
        listing.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let has = |name: &str| symbols.contains(&name);
    assert!(has("main") && has("__libc_start_main"), "these are not its symbols: {symbols:?}");
    let allocators =
        ["malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "brk", "sbrk"];
    let of_an_allocator = |symbol: &&&str| {
        let plain = symbol.trim_start_matches('_');
        let plain = plain.strip_prefix("libc_").unwrap_or(plain);
        allocators.contains(&plain) || plain.contains("rust_alloc") || plain.contains("mmap")
    };
    let found: Vec<_> = symbols.iter().filter(of_an_allocator).collect();
    assert!(found.is_empty(), "an allocator is in it: {found:?}");
    let headers = run(&["readelf", "-lW", unstripped.to_str().expect("a path in UTF-8")]);
    assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "it is not static: {headers}");
}

/// Streams of all lengths both ways at once, and each end's half-close.
fn assert_relays(at: SocketAddr, backend: &TcpListener) {
    for (seed, bytes) in [(1, 1), (2, 3_000), (3, 200_000), (4, 8 << 20)] {
        let mut client = connect(at);
        let mut target = accept(backend);
        let (up, down) = (2 * seed, 2 * seed + 1);
        let sent = [send_pattern(&client, up, bytes), send_pattern(&target, down, bytes)];
        std::thread::scope(|scope| {
            scope.spawn(|| assert_rest(&mut client, &pattern(down, bytes)));
            scope.spawn(|| assert_rest(&mut target, &pattern(up, bytes)));
        });
        sent.into_iter().for_each(|sent| sent.join().expect("all of it is taken"));
    }
    // Whichever ends first, the other goes on.
    for client_first in [true, false] {
        let (client, target) = (connect(at), accept(backend));
        let (mut first, mut last) = if client_first { (client, target) } else { (target, client) };
        end(&first);
        assert_ends(&mut last, End::Fin);
        let sent = send_pattern(&last, 9, 300_000);
        assert_rest(&mut first, &pattern(9, 300_000));
        sent.join().expect("all of it is taken");
    }
    let (client, mut target) = (connect(at), accept(backend));
    reset(client);
    assert_ends(&mut target, End::Rst);
    // A target that has ended and then goes in the middle of a stream: a write to it is EPIPE, but it
    // must not be SIGPIPE.
    let (mut client, target) = (connect(at), accept(backend));
    assert!(fill(&client, 5) > 0);
    end(&target);
    assert_ends(&mut client, End::Fin);
    reset(target);
    client.set_nonblocking(true).expect("a stream can be made non-blocking");
    eventually("the client is reset", || match client.write(b"more") {
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    });
}

/// It holds as many as it was built for; one more waits until there is room.
fn assert_bounded(at: SocketAddr, backend: &TcpListener) {
    let mut pairs: Vec<_> = (0..CONNECTIONS).map(|_| (connect(at), accept(backend))).collect();
    let mut late = connect(at);
    assert!(accept_within(backend, Duration::from_millis(200)).is_none(), "it holds too many");
    drop(pairs.pop());
    let target = accept(backend);
    let echo = std::thread::spawn(move || seaprox_tests::peer::echo(target));
    assert_echoes(&mut late, b"at last");
    drop(late);
    echo.join().expect("an echo ends with its client");
}

/// All of it on one machine.
fn prove(machine: &Machine, listen: SocketAddr, backend: TcpListener) {
    let target = backend.local_addr().expect("a listener has an address");
    let (folder, ends) = (folder(machine.target), (listen, target));
    let unstripped = folder.join("unstripped");
    let with_symbols = ["--config", "profile.release.strip=false"];
    let built = machine.build(&folder, ends, &with_symbols);
    std::fs::copy(built, &unstripped).expect("it was built");
    let program = machine.build(&folder, ends, &[]);
    assert_small(&program, &unstripped);

    let qemu = [machine.qemu];
    let before = if machine.is_this_one() { &[][..] } else { &qemu };
    let tiny = Tiny::start(&program, before, listen);
    assert_relays(listen, &backend);
    assert_bounded(listen, &backend);
    if machine.is_this_one() {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", tiny.process().0));
        let maps = maps.expect("it runs");
        assert!(maps.contains("[stack]") && !maps.contains("[heap]"), "it has a heap: {maps}");
    }
    drop(backend);
    assert_refused(listen, b"hello");

    tiny.process().signal(Signal::SIGTERM);
    let (code, signal, words) = tiny.ended();
    assert_eq!((code, signal), (None, Some(Signal::SIGTERM as i32)), "{words}");
    assert_eq!(words, "");
}

#[test]
fn x86_64() {
    if X86_64.is_wanted() {
        prove(&X86_64, vacant_address(), listen());
    }
}

#[test]
fn i686_from_ipv6_to_ipv4() {
    if I686.is_wanted() {
        prove(&I686, (loopback(true), vacant_port()).into(), listen());
    }
}

#[test]
fn aarch64_from_ipv4_to_ipv6() {
    if AARCH64.is_wanted() {
        let backend = TcpListener::bind((loopback(true), 0)).expect("a backend can listen");
        prove(&AARCH64, vacant_address(), backend);
    }
}

/// On the machine that this is.
#[test]
fn starts_with_little_and_says_what_is_missing() {
    let machines = [X86_64, AARCH64];
    let Some(machine) = machines.iter().find(|machine| machine.is_this_one()) else { return };
    if !machine.is_wanted() {
        return;
    }
    let (at, backend) = (vacant_address(), listen());
    let target = backend.local_addr().expect("a listener has an address");
    let program = machine.build(&folder("start"), (at, target), &[]);
    let limited = |descriptors: u32| {
        let script = format!("ulimit -n {descriptors} && exec \"$@\"");
        ["sh".to_owned(), "-c".into(), script, "sh".into()]
    };
    let run = |before: &[String]| {
        Tiny::spawn(&program, &before.iter().map(String::as_str).collect::<Vec<_>>()).ended()
    };

    let (code, _, words) = run(&limited(17));
    assert_eq!(code, Some(71), "{words}");
    assert!(words.contains("not enough descriptors"), "{words}");
    let other = TcpListener::bind(at).expect("it is vacant");
    let (code, _, words) = run(&[]);
    assert_eq!(code, Some(71), "{words}");
    assert_eq!(words, format!("seaprox-tiny: cannot listen on {at}: errno 98\n"), "EADDRINUSE");
    drop(other);

    let script = "exec \"$@\" <&- >&- 2>&-";
    let tiny = Tiny::start(&program, &["sh", "-c", script, "sh"], at);
    assert_relays(at, &backend);
    let placeholders = tiny.process().descriptors();
    let placeholders = placeholders.iter().filter(|link| link.contains("eventpoll")).count();
    assert_eq!(placeholders, 4, "three in the place of the standard streams, and its own");
    drop(tiny);

    let two = limited(20);
    let mut tiny = Tiny::start(&program, &two.each_ref().map(String::as_str), at);
    assert_relays(at, &backend);
    tiny.process().signal(Signal::SIGTERM);
    let words = "seaprox-tiny: at most 2 connections: a limit of 20 descriptors\n";
    assert_eq!(tiny.words(), words);
}

#[test]
fn constants_that_cannot_be_are_refused_in_words() {
    const LISTEN: (&str, &str) = ("SEAPROX_LISTEN", "127.0.0.1:8080");
    const TARGET: (&str, &str) = ("SEAPROX_TARGET", "[::1]:80");
    let folder = folder("constants");
    let check = |constants: &[(&str, &str)]| {
        let mut cargo = cargo(&folder, &["check"]);
        let output = cargo.envs(constants.iter().copied()).output().expect("cargo can be run");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (constants, says) in [
        (&[][..], "SEAPROX_LISTEN is not set: set it to an address and a port"),
        (&[LISTEN], "SEAPROX_TARGET is not set"),
        (&[("SEAPROX_LISTEN", "localhost:80"), TARGET], "SEAPROX_LISTEN is `localhost:80`"),
        (&[("SEAPROX_LISTEN", "127.0.0.1"), TARGET], "SEAPROX_LISTEN is `127.0.0.1`"),
        (&[LISTEN, ("SEAPROX_TARGET", "127.0.0.1:0")], "SEAPROX_TARGET is `127.0.0.1:0`"),
        (&[LISTEN, ("SEAPROX_TARGET", "::1:80")], "SEAPROX_TARGET is `::1:80`"),
        (&[LISTEN, ("SEAPROX_TARGET", LISTEN.1)], "where it listens itself"),
        (&[LISTEN, TARGET, ("SEAPROX_MAX_NUM_CONNECTIONS", "0")], "a whole number from 1 to"),
        (&[LISTEN, TARGET, ("SEAPROX_MAX_NUM_CONNECTIONS", "+4")], "CONNECTIONS is `+4`"),
        (&[LISTEN, TARGET, ("SEAPROX_MAX_NUM_CONNECTIONS", "99999999999")], "is `99999999999`"),
        (&[LISTEN, TARGET, ("SEAPROX_PIPE_BYTES", "")], "SEAPROX_PIPE_BYTES is ``"),
    ] {
        let (succeeded, said) = check(constants);
        assert!(!succeeded, "{constants:?} is taken");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.iter().any(|line| line.contains(says)), "{constants:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let (succeeded, said) = check(&[LISTEN, TARGET]);
    assert!(succeeded, "{said}");
    let bound =
        "64 connections from 127.0.0.1:8080 to [::1]:80: at most 76800 bytes of user memory";
    assert!(said.contains(bound), "the bound is not printed: {said}");
}
