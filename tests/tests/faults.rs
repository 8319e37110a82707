//! The n-th system call of each kind fails with each plausible error: the program survives, the
//! next connections are served, and no descriptor and no slot is lost.

use seaprox_tests::bytes::pattern;
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    accept, accept_within, assert_echoes, assert_rest, echo, end, listen, patient, reset,
    send_pattern, serve, vacant_address,
};
use seaprox_tests::trace::Strace;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// A call, and what may happen to it (its manual page, less what only our own bugs cause).
type Fault = (&'static str, &'static [&'static str]);

const ARRIVING: [Fault; 3] = [
    ("accept4", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR", "EPERM"]),
    ("/^epoll_p?wait2?$", &["EINTR"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
];

const CONNECTING: [Fault; 4] = [
    ("socket", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EAFNOSUPPORT", "EACCES"]),
    (
        "connect",
        &[
            "ECONNREFUSED",
            "ETIMEDOUT",
            "ENETUNREACH",
            "EADDRNOTAVAIL",
            "EAGAIN",
            "ENOBUFS",
            "EPERM",
        ],
    ),
    ("getsockname", &["ENOBUFS"]),
    // A look at why a connect failed.
    ("recvfrom", &["ENOBUFS"]),
];

const READING: [Fault; 3] = [
    ("recvfrom", &["EINTR", "ENOMEM", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH"]),
    ("pipe2", &["EMFILE", "ENFILE", "EPERM"]),
    ("fcntl", &["EPERM"]),
];

const MOVING: [Fault; 2] = [
    ("splice", &["EINTR", "ENOMEM", "ECONNRESET", "EPIPE", "EINVAL"]),
    ("sendto", &["EINTR", "ENOMEM", "ENOBUFS", "EPIPE", "ECONNRESET", "EHOSTUNREACH"]),
];

const ENDING: [Fault; 4] = [
    ("shutdown", &["ENOTCONN", "ENOBUFS"]),
    ("setsockopt", &["ENOMEM", "EINVAL", "ENOPROTOOPT"]),
    ("ioctl", &["EINVAL"]),
    ("write", &["EAGAIN", "EINTR", "EIO"]),
];

/// A step that a fault has made impossible takes no longer than this.
const STEP: Duration = Duration::from_millis(150);

fn quick(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(STEP)).unwrap();
    stream.set_write_timeout(Some(STEP)).unwrap();
    stream
}

/// Reads until the end, an error, or nothing comes.
fn drain(stream: &mut TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// A connection's life: a few words, bulk into a reader that stands still for a moment, an end.
/// Every step may fail.
fn live(proxy: &Proxy, backend: &TcpListener, how: usize) {
    let Ok(client) = TcpStream::connect(proxy.address) else { return };
    let mut client = quick(client);
    let _ = client.write_all(b"request");
    let Some(server) = accept_within(backend, STEP) else { return };
    let mut server = quick(server);
    let _ = server.read(&mut [0; 7]);
    let _ = server.write_all(b"response");
    let _ = client.read(&mut [0; 8]);
    // More than the kernel holds for one connection.
    let bulk = vec![how as u8; 256 * 1024];
    server.set_nonblocking(true).unwrap();
    for _ in 0..60 {
        if server.write_all(&bulk).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    server.set_nonblocking(false).unwrap();
    match how % 4 {
        0 => {
            let _ = client.write_all(b"thanks");
            reset(client);
            drain(&mut server);
        }
        1 => {
            reset(server);
            drain(&mut client);
        }
        2 => {
            drain(&mut client);
            let _ = client.shutdown(std::net::Shutdown::Write);
            drain(&mut server);
        }
        _ => {
            let _ = server.shutdown(std::net::Shutdown::Write);
            drain(&mut client);
        }
    }
}

/// What must hold after every fault.
fn assert_sound(proxy: &Proxy, backend: &TcpListener, clean: usize, what: &str) {
    assert!(proxy.is_alive(), "{what}: the program is no more");
    proxy.wait_sockets(clean);
    // Whoever was connected to the backend and given up there.
    while accept_within(backend, Duration::ZERO).is_some() {}
    let mut pairs: Vec<_> = (0..TABLE).map(|_| proxy.pair(backend)).collect();
    for (seed, (client, server)) in pairs.iter_mut().enumerate() {
        let send = send_pattern(server, seed as u64, 50_000);
        assert_rest(client, &pattern(seed as u64, 50_000));
        send.join().expect("all is taken");
    }
    drop(pairs);
    proxy.wait_sockets(clean);
    // A pipe that was lost would be two more for each fault.
    assert!(proxy.process.pipe_ends() <= 40, "{what}: pipes are lost");
}

const TABLE: usize = 3;

/// Fails the n-th call for each n and each error, on programs of their own for each error.
fn assert_survives(faults: &[Fault]) {
    let errors: Vec<_> = faults
        .iter()
        .flat_map(|(call, errors)| errors.iter().map(move |error| (*call, *error)))
        .collect();
    let errors = Mutex::new(errors.into_iter());
    let next = || errors.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((call, error)) = next() {
                    survives(call, error);
                }
            });
        }
    });
}

fn survives(call: &str, error: &str) {
    let backend = TcpListener::bind((seaprox_tests::peer::own_ip(), 0)).unwrap();
    let target = backend.local_addr().unwrap();
    let launch = match call {
        // Something to look at.
        "recvfrom" if error == "ENOBUFS" => Launch::to(vacant_address()).or_to(target),
        // The log; the doorbell has a test of its own.
        "write" => Launch::to(target).threads(2).flag("--log-connections"),
        _ => Launch::to(target),
    };
    let proxy = launch.option("--max-connections", TABLE).start();
    let clean = proxy.sockets();
    let mut injected = 0;
    for nth in 1..=6 {
        let what = format!("{call} number {nth} fails with {error}");
        let inject = format!("inject={call}:error={error}:when={nth}");
        let strace =
            Strace::attach(proxy.process, &["-e", &format!("trace={call}"), "-e", &inject]);
        // A connection lives through some of these; the others come with the next.
        for how in nth..nth + 3 {
            live(&proxy, &backend, how);
        }
        injected += usize::from(strace.detach().contains("INJECTED"));
        assert_sound(&proxy, &backend, clean, &what);
    }
    // Some calls are rare: a second doorbell, a sixth pipe.
    assert!(injected >= 1, "{call} was never called");
}

#[test]
fn faults_while_clients_arrive() {
    assert_survives(&ARRIVING);
}

#[test]
fn faults_while_connecting() {
    assert_survives(&CONNECTING);
}

#[test]
fn faults_while_reading() {
    assert_survives(&READING);
}

#[test]
fn faults_while_moving_bytes() {
    assert_survives(&MOVING);
}

#[test]
fn faults_while_ending() {
    assert_survives(&ENDING);
}

/// A client that may be refused.
fn try_echo(address: std::net::SocketAddr) {
    let Ok(client) = TcpStream::connect(address) else { return };
    let mut client = quick(client);
    if client.write_all(b"hello").is_ok() {
        let _ = client.read(&mut [0; 5]);
    }
}

/// The threads' doorbells fail: whoever is not woken now is woken by the next.
#[test]
fn faults_of_the_doorbell() {
    let target = serve(echo);
    for (call, error) in [("read", "EAGAIN"), ("read", "EINTR"), ("write", "EAGAIN")] {
        let launch = Launch::to(target).threads(2).option("--max-connections", 4);
        // A thread that has room again tells the others, who then stop refusing.
        let proxy = launch.option("--when-full", "refuse").option("--log", "error").start();
        let clean = proxy.sockets();
        let crowd = || {
            thread::scope(|scope| {
                for _ in 0..12 {
                    scope.spawn(|| (0..5).for_each(|_| try_echo(proxy.address)));
                }
            });
            proxy.wait_sockets(clean);
            let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
            for client in &mut clients {
                assert_echoes(client, b"all four");
            }
            drop(clients);
            proxy.wait_sockets(clean);
        };
        let mut injected = 0;
        for nth in 1..=4 {
            let inject = format!("inject={call}:error={error}:when={nth}");
            let trace = format!("trace={call}");
            let strace = Strace::attach(proxy.process, &["-e", &trace, "-e", &inject]);
            crowd();
            injected += usize::from(strace.detach().contains("INJECTED"));
            crowd();
        }
        // How often a doorbell rings depends on who comes when.
        assert!(injected >= 1, "{call} was never called");
    }
}

/// What is no more than a moment's weakness costs no connection and no byte, however often.
#[test]
fn weak_moments_cost_nothing() {
    let backend = listen();
    for (call, errors) in [
        ("recvfrom", &["EINTR", "ENOMEM", "ENOBUFS"][..]),
        ("sendto", &["EINTR", "ENOMEM", "ENOBUFS"]),
        ("splice", &["EINTR", "ENOMEM", "ENOBUFS"]),
        ("/^epoll_p?wait2?$", &["EINTR"]),
        ("accept4", &["EINTR", "ECONNABORTED", "ENOMEM"]),
        ("pipe2", &["EMFILE", "EPERM"]),
    ] {
        for error in errors {
            let proxy = Launch::to(backend.local_addr().unwrap()).start();
            let clean = proxy.sockets();
            let inject = format!("inject={call}:error={error}:when=1+3");
            let trace = format!("trace={call}");
            let strace = Strace::attach(proxy.process, &["-e", &trace, "-e", &inject]);
            for seed in 0..3 {
                let client = proxy.connect();
                let server = accept(&backend);
                let (mut client, mut server) = (patient(client), patient(server));
                for _ in 0..5 {
                    client.write_all(b"ping").unwrap();
                    server.read_exact(&mut [0; 4]).unwrap();
                }
                let up = send_pattern(&client, seed, 400_000);
                let down = send_pattern(&server, seed + 9, 2_000_000);
                // Back-pressure, so that short writes happen.
                thread::sleep(Duration::from_millis(30));
                let reads = thread::spawn(move || {
                    assert_rest(&mut server, &pattern(seed, 400_000));
                    server
                });
                assert_rest(&mut client, &pattern(seed + 9, 2_000_000));
                reads.join().unwrap_or_else(|_| panic!("{call} {error}"));
                up.join().unwrap();
                down.join().unwrap();
            }
            assert!(strace.detach().contains("INJECTED"), "{call} was never called");
            proxy.wait_sockets(clean);
        }
    }
}

/// splice that never works (EINVAL) is copying.
#[test]
fn without_splice_bytes_are_copied() {
    let backend = listen();
    let proxy = Launch::to(backend.local_addr().unwrap()).start();
    let inject = ["-e", "trace=splice", "-e", "inject=splice:error=EINVAL"];
    let strace = Strace::attach(proxy.process, &inject);
    let (mut client, server) = proxy.pair(&backend);
    let send = send_pattern(&server, 1, 3_000_000);
    assert_rest(&mut client, &pattern(1, 3_000_000));
    send.join().unwrap();
    end(&client);
    assert!(strace.detach().contains("INJECTED"));
}

/// The program cannot start its epoll, its doorbell or its threads: one line, and code 71.
#[test]
fn faults_at_the_start() {
    for inject in [
        "epoll_create1:error=EMFILE",
        "eventfd2:error=EMFILE",
        "eventfd2:error=ENOMEM",
        "clone3:error=EAGAIN",
        "socket:error=ENOBUFS",
        "listen:error=EADDRINUSE",
    ] {
        let inject = format!("inject={inject}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let (code, stderr) = Launch::to(vacant_address()).wrapped(strace).run();
        assert_eq!(code, Some(71), "{inject}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.starts_with("seaprox: "), "{stderr}");
    }
}
