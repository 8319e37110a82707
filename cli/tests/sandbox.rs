//! What a confined process may do and what not, in processes of their own: this program starts itself
//! again, as a child that gives up its rights, does one thing, and says how that ended.
#![allow(unsafe_code)]

use seaprox_cli::exit;
use seaprox_cli::sandbox::{Duty, Needs, confine, narrow};
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;

const CHILD: &str = "SEAPROX_TEST_CHILD";
const PLACE: &str = "SEAPROX_TEST_PLACE";
const SIGABRT: i32 = 6;
/// By which call the C library opens files.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
const OPEN: libc::c_long = libc::SYS_open;
#[cfg(not(all(target_env = "musl", target_arch = "x86_64")))]
const OPEN: libc::c_long = libc::SYS_openat;
/// Landlock knows ports since ABI 4, and the namespace of abstract sockets since 6.
const WITH_PORTS: u32 = 4;
const WITH_SCOPES: u32 = 6;

fn main() {
    match std::env::var(CHILD) {
        Ok(what) => child(&what),
        Err(_) if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) => {
            parent();
            println!("sandbox: ok");
        }
        Err(_) => println!("sandbox: no lists of calls for this architecture"),
    }
}

/// Does one thing with fewer rights; what it prints is the result.
fn child(what: &str) {
    let place = PathBuf::from(std::env::var(PLACE).unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = place.join("own");
    let parent = i64::from(std::os::unix::process::parent_id());
    let needs = Needs {
        names: what.starts_with("resolving"),
        ports: Some(vec![port(&open)]),
        abstract_sockets: what.ends_with("abstract socket"),
        paths: vec![&own],
    };
    let fences = confine(&needs).unwrap();
    assert!(fences.seccomp, "this kernel has no seccomp: {fences}");
    // Threads can still be started: it is how a proxy starts.
    thread::spawn(|| ()).join().unwrap();
    let (duty, what) = what.split_once(' ').unwrap();
    narrow(match duty {
        "relaying" => Duty::Relaying,
        "resolving" => Duty::Resolving,
        "waiting" => Duty::Waiting { removes: true },
        // What the main thread may, until it waits.
        "starting" => Duty::Starting,
        other => panic!("{other}?"),
    });
    let result = match what {
        "abort" => std::process::abort(),
        "execve" => numbered(libc::SYS_execve, [0; 3]),
        "ptrace" => numbered(libc::SYS_ptrace, [0; 3]),
        "fork" => numbered(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]),
        "memfd_create" => numbered(libc::SYS_memfd_create, [0; 3]),
        "no such call" => numbered(1000, [0; 3]).and(numbered(1000, [0; 3])),
        "kill" => numbered(libc::SYS_kill, [parent, 0, 0]),
        "code" => map(libc::PROT_READ | libc::PROT_EXEC),
        "memory" => map(libc::PROT_READ | libc::PROT_WRITE),
        "hosts" => File::open("/etc/hosts").map(drop),
        "secret" => File::open(place.join("secret")).map(drop),
        "write" => File::create(place.join("new")).map(drop),
        "remove own" => fs::remove_file(&own),
        "remove other" => fs::remove_file(place.join("below/../../secret")),
        "connect" => TcpStream::connect(("127.0.0.1", port(&open))).map(drop),
        "connect elsewhere" if fences.landlock < WITH_PORTS => denied(),
        "connect elsewhere" => TcpStream::connect(("127.0.0.1", port(&closed))).map(drop),
        "bind" if fences.landlock < WITH_PORTS => denied(),
        "bind" => TcpListener::bind("127.0.0.1:0").map(drop),
        "datagram" => datagrams.local_addr().and_then(|at| datagrams.send_to(b"x", at)).map(drop),
        "others' abstract" if fences.landlock < WITH_SCOPES => denied_by_scope(),
        "abstract socket" | "others' abstract" => {
            UnixStream::connect_addr(&abstract_address(&place)).map(drop)
        }
        "path" => UnixStream::connect(place.join("socket")).map(drop),
        other => panic!("{other}?"),
    };
    match result {
        Ok(()) => exit::say("ok"),
        Err(error) => exit::say(error),
    }
    // Not by way of what a process does at its end, which is no part of this.
    // SAFETY: takes a number.
    unsafe { libc::_exit(0) }
}

/// What an older kernel cannot refuse counts as refused.
fn denied() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EACCES))
}

fn denied_by_scope() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

fn numbered(call: libc::c_long, arguments: [i64; 3]) -> io::Result<()> {
    let [a, b, c] = arguments;
    // SAFETY: none of the calls above reads or writes memory with these arguments, and each but
    // `kill`, which sends nothing, must not be made at all.
    match unsafe { libc::syscall(call, a, b, c) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Not by mmap(3): musl's takes EPERM for a lack of memory.
fn map(protection: i32) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever there is room.
    match unsafe { libc::syscall(libc::SYS_mmap, 0usize, 4096usize, protection, flags, -1, 0usize) }
    {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn abstract_address(place: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(place.as_os_str().as_encoded_bytes()).unwrap()
}

/// A folder of this test's, and what others have there.
struct Place {
    folder: PathBuf,
    _sockets: [UnixListener; 2],
}

impl Place {
    fn new() -> Place {
        let folder = std::env::temp_dir().join(format!("seaprox-sandbox-{}", std::process::id()));
        let below = folder.join("place");
        fs::create_dir_all(below.join("below")).unwrap();
        for file in ["secret", "place/secret", "place/own"] {
            fs::write(folder.join(file), file).unwrap();
        }
        let sockets = [
            UnixListener::bind(below.join("socket")).unwrap(),
            UnixListener::bind_addr(&abstract_address(&below)).unwrap(),
        ];
        Place { folder, _sockets: sockets }
    }

    fn run(&self, what: &str) -> (ExitStatus, String) {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        let output =
            command.env(CHILD, what).env(PLACE, self.folder.join("place")).output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn assert_says(&self, what: &str, expected: &str) {
        let (status, said) = self.run(what);
        assert!(status.success(), "{what}: {status}: {said}");
        assert_eq!(said, format!("seaprox: {expected}\n"), "{what}");
    }

    #[track_caller]
    fn assert_allowed(&self, what: &str) {
        self.assert_says(what, "ok");
    }

    /// Denied without a word: by Landlock, which is as usual as any file that may not be read.
    #[track_caller]
    fn assert_denied(&self, what: &str, errno: i32) {
        self.assert_says(what, &io::Error::from_raw_os_error(errno).to_string());
    }

    /// Not made, as if there was no such call, or it was not permitted; and one line says so.
    #[track_caller]
    fn assert_refused(&self, what: &str, call: libc::c_long, errno: i32) {
        let error = io::Error::from_raw_os_error(errno);
        let told = format!(
            "system call {call} was refused by the sandbox: if something does not work, say so, and \
             try --no-sandbox\nseaprox: {error}"
        );
        self.assert_says(what, &told);
    }

    #[track_caller]
    fn assert_ends(&self, what: &str, call: libc::c_long) {
        let (status, said) = self.run(what);
        assert_eq!(status.signal(), Some(SIGABRT), "{what}: {status}: {said}");
        let expected = format!(
            "seaprox: system call {call} is forbidden: seaprox never makes it, so this is an intruder \
             or a bug; --no-sandbox allows it\n"
        );
        assert_eq!(said, expected, "{what}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn parent() {
    let place = Place::new();
    if place.run("starting connect").1.contains("no seccomp") {
        println!("sandbox: SKIPPED: this kernel has no seccomp");
        return;
    }
    for duty in ["starting", "relaying", "resolving", "waiting"] {
        let (status, said) = place.run(&format!("{duty} abort"));
        assert_eq!((status.signal(), said.as_str()), (Some(SIGABRT), ""), "{duty}");
        place.assert_ends(&format!("{duty} execve"), libc::SYS_execve);
        place.assert_ends(&format!("{duty} ptrace"), libc::SYS_ptrace);
        place.assert_allowed(&format!("{duty} memory"));
        place.assert_allowed(&format!("{duty} connect"));
        place.assert_allowed(&format!("{duty} datagram"));
        place.assert_allowed(&format!("{duty} path"));
        place.assert_allowed(&format!("{duty} abstract socket"));
        place.assert_denied(&format!("{duty} others' abstract"), libc::EPERM);
        place.assert_denied(&format!("{duty} connect elsewhere"), libc::EACCES);
        place.assert_refused(&format!("{duty} memfd_create"), libc::SYS_memfd_create, libc::ENOSYS);
        place.assert_refused(&format!("{duty} no such call"), 1000, libc::ENOSYS);
        place.assert_refused(&format!("{duty} kill"), libc::SYS_kill, libc::EPERM);
    }
    files_and_code(&place);
}

fn files_and_code(place: &Place) {
    for duty in ["relaying", "waiting"] {
        for file in ["hosts", "secret", "write"] {
            place.assert_ends(&format!("{duty} {file}"), OPEN);
        }
        place.assert_ends(&format!("{duty} code"), libc::SYS_mmap);
        place.assert_ends(&format!("{duty} fork"), libc::SYS_clone);
    }
    place.assert_allowed("resolving hosts");
    place.assert_denied("resolving secret", libc::EACCES);
    place.assert_refused("resolving write", OPEN, libc::EPERM);
    place.assert_refused("resolving code", libc::SYS_mmap, libc::EPERM);
    place.assert_refused("resolving fork", libc::SYS_clone, libc::ENOSYS);
    place.assert_refused("relaying bind", libc::SYS_bind, libc::ENOSYS);
    place.assert_denied("resolving bind", libc::EACCES);

    place.assert_allowed("waiting remove own");
    place.assert_denied("waiting remove other", libc::EACCES);
    assert!(!place.folder.join("place/own").exists() && place.folder.join("secret").exists());
}
