//! Bad days: signals, drains, a log that nobody reads, and being stopped.

use seaprox_tests::bytes::pattern;
use seaprox_tests::eventually;
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    End, accept, assert_echoes, assert_ends, assert_refused, assert_rest, echo, end, listen,
    read_bytes, read_to_end, reset, send_pattern, serve, vacant_address,
};
use seaprox_tests::process::Signal;
use seaprox_tests::trace::temporary;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

fn proxy(options: &[&str]) -> (Proxy, TcpListener) {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap()).threads(2);
    (options.iter().fold(launch, |launch, option| launch.flag(option)).start(), backend)
}

/// Nobody listens any more.
#[track_caller]
fn assert_closed(proxy: &Proxy) {
    let port = proxy.address.port();
    eventually("it stops listening", || !proxy.process.listens_on(port));
    let error = TcpStream::connect(proxy.address).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// TERM and INT: accept nothing more, finish what runs, exit 0.
#[test]
fn a_drain_finishes_what_runs() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut proxy, backend) = proxy(&[]);
        let (mut client, mut server) = proxy.pair(&backend);
        let (mut bulk_client, bulk_server) = proxy.pair(&backend);
        client.write_all(b"before").unwrap();
        assert_eq!(read_bytes(&server, 6), b"before");
        proxy.process.signal(signal);
        assert_closed(&proxy);
        let send = send_pattern(&bulk_server, 1, 5_000_000);
        assert_rest(&mut bulk_client, &pattern(1, 5_000_000));
        send.join().unwrap();
        drop((bulk_client, bulk_server));
        thread::sleep(Duration::from_millis(200));
        assert!(proxy.is_alive(), "it did not wait");
        server.write_all(b"after").unwrap();
        assert_eq!(read_bytes(&client, 5), b"after");
        drop(server);
        assert_rest(&mut client, b"");
        drop(client);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    }
}

/// With nothing to finish it is over at once.
#[test]
fn a_drain_of_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut proxy, _backend) = proxy(&[]);
        proxy.process.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    }
}

/// Clients that the kernel has accepted before the signal are served.
#[test]
fn a_drain_takes_what_is_queued() {
    let (mut proxy, backend) = proxy(&[]);
    proxy.process.signal(Signal::SIGSTOP);
    let mut clients: Vec<_> = (0..40).map(|_| proxy.connect()).collect();
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.signal(Signal::SIGCONT);
    for _ in &clients {
        let mut server = accept(&backend);
        server.write_all(b"welcome").unwrap();
    }
    for client in &mut clients {
        assert_rest(client, b"welcome");
    }
    drop(clients);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

/// The same behind a full table: they are taken as others leave.
#[test]
fn a_drain_takes_what_is_queued_at_a_full_table() {
    let (mut proxy, backend) = proxy(&["--max-connections", "4"]);
    let first: Vec<_> = (0..4).map(|_| proxy.pair(&backend)).collect();
    let queued: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    proxy.process.signal(Signal::SIGTERM);
    thread::sleep(Duration::from_millis(200));
    drop(first);
    let clients: Vec<_> = queued
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                assert_eq!(read_bytes(&client, 7), b"welcome");
                end(&client);
                assert_ends(&mut client, End::Fin);
            })
        })
        .collect();
    for _ in &clients {
        let mut server = accept(&backend);
        server.write_all(b"welcome").unwrap();
        thread::spawn(move || drop(read_to_end(&mut server)));
    }
    for client in clients {
        client.join().expect("each is served");
    }
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

/// A second signal ends it now: what is left is reset.
#[test]
fn a_second_signal_ends_it_now() {
    for (first, second) in [(Signal::SIGTERM, Signal::SIGTERM), (Signal::SIGINT, Signal::SIGTERM)] {
        let (mut proxy, backend) = proxy(&["--drain", "10m"]);
        let mut pairs: Vec<_> = (0..5).map(|_| proxy.pair(&backend)).collect();
        proxy.process.signal(first);
        assert_closed(&proxy);
        proxy.process.signal(second);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
        for (client, server) in &mut pairs {
            assert_ends(client, End::Rst);
            assert_ends(server, End::Rst);
        }
    }
}

/// At the deadline the rest is reset, and counted in one line.
#[test]
fn a_drain_has_a_deadline() {
    let (mut proxy, backend) = proxy(&["--drain", "700ms"]);
    let mut pairs: Vec<_> = (0..7).map(|_| proxy.pair(&backend)).collect();
    let start = Instant::now();
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
    assert!(start.elapsed() > Duration::from_millis(650), "after {:?}", start.elapsed());
    for (client, server) in &mut pairs {
        assert_ends(client, End::Rst);
        assert_ends(server, End::Rst);
    }
    let stderr = proxy.stderr();
    let resets: Vec<_> = stderr.lines().filter(|line| line.contains("resetting")).collect();
    assert!(resets.len() == 1 && resets[0].contains("connections=7"), "{stderr}");
}

/// A drain that waits for connects and lookups that never come to an end, too.
#[test]
fn a_drain_with_a_connect_under_way() {
    let blackhole = seaprox_tests::peer::Blackhole::new();
    let launch = Launch::to(blackhole.address()).option("--drain", "300ms");
    let mut proxy = launch.option("--connect-timeout", "10m").start();
    let mut client = proxy.connect();
    let clean = proxy.sockets();
    eventually("a connect is under way", || proxy.sockets() >= clean);
    proxy.process.signal(Signal::SIGTERM);
    assert_ends(&mut client, End::Rst);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
}

/// `--drain 0s` resets at once, `--drain off` waits for the last one.
#[test]
fn a_drain_of_no_time_and_of_all_time() {
    let (mut hasty, backend) = proxy(&["--drain", "0s"]);
    let (mut client, mut server) = hasty.pair(&backend);
    hasty.process.signal(Signal::SIGTERM);
    assert_eq!(hasty.wait().code(), Some(0), "{}", hasty.stderr());
    assert_ends(&mut client, End::Rst);
    assert_ends(&mut server, End::Rst);

    let (mut patient, backend) = proxy(&["--drain", "off"]);
    let (client, server) = patient.pair(&backend);
    patient.process.signal(Signal::SIGTERM);
    assert_closed(&patient);
    thread::sleep(Duration::from_millis(300));
    assert!(patient.is_alive(), "it did not wait");
    drop((client, server));
    assert_eq!(patient.wait().code(), Some(0), "{}", patient.stderr());
}

/// The service manager is told when clients are accepted, and when the end begins.
#[test]
fn the_service_manager_is_told() {
    let path = temporary("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(seaprox_tests::PATIENCE)).unwrap();
    let hears = |word: &str| {
        let mut message = [0; 500];
        let length = manager.recv(&mut message).expect("a message");
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        assert!(text.lines().any(|line| line == word), "{text}");
    };
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let mut proxy = Launch::to(serve(echo)).wrapped(["env", &variable]).start();
    hears("READY=1");
    proxy.process.signal(Signal::SIGTERM);
    hears("STOPPING=1");
    assert_eq!(proxy.wait().code(), Some(0));
    let _ = std::fs::remove_file(path);
}

/// A unix socket's path goes with the program that made it.
#[test]
fn the_path_is_removed_at_the_end() {
    let path = temporary("socket");
    let listen = format!("unix:{}", path.display());
    let mut proxy = Launch::to(serve(echo)).listen(listen).start();
    assert!(path.exists());
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(!path.exists(), "it is still there");
}

/// HUP, USR1 and PIPE disturb nothing; USR1 says what runs.
#[test]
fn other_signals_disturb_nothing() {
    let (mut proxy, backend) = proxy(&[]);
    let (mut client, server) = proxy.pair(&backend);
    thread::spawn(move || echo(server));
    for _ in 0..20 {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGUSR2] {
            proxy.process.signal(signal);
        }
        assert_echoes(&mut client, b"undisturbed");
    }
    assert_eq!(proxy.connections(), 1);
    drop(client);
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0));
}

/// Stopped for a while and continued: everything is still there.
#[test]
fn stopped_and_continued() {
    let (proxy, backend) = proxy(&["--idle-timeout", "10m"]);
    let (mut client, server) = proxy.pair(&backend);
    for round in 0..5 {
        proxy.process.signal(Signal::SIGSTOP);
        client.write_all(&pattern(round, 50_000)).unwrap();
        let late = proxy.connect();
        thread::sleep(Duration::from_millis(50));
        proxy.process.signal(Signal::SIGCONT);
        assert_eq!(read_bytes(&server, 50_000), pattern(round, 50_000));
        drop(late);
        drop(accept(&backend));
    }
}

/// A pipe that nobody reads, filled to the brim.
fn blocked_pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    seaprox_tests::peer::fill_pipe(&writer);
    (reader, writer)
}

/// nginx 1.22 stands still when nobody reads its stderr. This one goes on, drops lines, and ends
/// when told to.
#[test]
fn a_blocked_log_does_not_block_the_service() {
    let (reader, writer) = blocked_pipe();
    let launch = Launch::to(serve(echo)).stderr(writer.try_clone().unwrap());
    let mut proxy = launch.flag("--log-connections").option("--log", "debug").start();
    drop(writer);
    for round in 0..2000 {
        let mut client = proxy.connect();
        assert_echoes(&mut client, b"hello");
        if round % 3 == 0 {
            reset(client);
        }
        if round % 100 == 0 {
            proxy.process.signal(Signal::SIGUSR1);
        }
    }
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0));
    drop(reader);
}

/// The reader of the log goes away while the program runs.
#[test]
fn a_log_that_is_closed_does_not_end_the_service() {
    let (reader, writer) = std::io::pipe().unwrap();
    let launch = Launch::to(serve(echo)).stderr(OwnedFd::from(writer));
    let mut proxy = launch.flag("--log-connections").start();
    assert_echoes(&mut proxy.connect(), b"hello");
    drop(reader);
    for _ in 0..200 {
        assert_echoes(&mut proxy.connect(), b"hello");
    }
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0));
}

/// `--log-connections`: a line for each that came, who it was and where it went, how much went
/// through, and why it ended.
#[test]
fn connections_are_logged() {
    let backend = listen();
    let target = backend.local_addr().unwrap();
    let proxy = Launch::to(target).flag("--log-connections").start();
    let (mut client, mut server) = proxy.pair(&backend);
    let source = client.local_addr().unwrap();
    client.write_all(b"four").unwrap();
    assert_eq!(read_bytes(&server, 4), b"four");
    server.write_all(b"seven..").unwrap();
    drop(server);
    assert_rest(&mut client, b"seven..");
    drop(client);
    let description = format!("static[ipv4[{source}]->ipv4[{target}]]");
    eventually("its end is logged", || {
        let stderr = proxy.stderr();
        let mut lines = stderr.lines().filter(|line| line.contains(&description));
        lines.any(|line| {
            let parts = ["event=closed", "source_bytes=4", "dest_bytes=7", "reason=end"];
            parts.iter().all(|part| line.contains(part))
        })
    });
    let (client, mut server) = proxy.pair(&backend);
    reset(client);
    assert_ends(&mut server, End::Rst);
    proxy.wait_says("reason=reset");

    let refusing = Launch::to(vacant_address()).flag("--log-connections").start();
    assert_refused(refusing.address, b"hello");
    refusing.wait_says("reason=connection-refused");
}

/// A storm of refusals without `--log-connections` is not a storm of lines.
#[test]
fn trouble_is_not_a_storm_of_lines() {
    let proxy = Launch::to(vacant_address()).start();
    (0..200).for_each(|_| assert_refused(proxy.address, b"hello"));
    proxy.wait_says("event=refused");
    assert!(proxy.stderr().lines().count() < 10, "{}", proxy.stderr());
}

/// The levels say no more than they promise.
#[test]
fn the_log_has_levels() {
    for (level, says) in [("error", false), ("warn", true), ("info", true)] {
        let proxy = Launch::to(vacant_address()).option("--log", level).start();
        assert_refused(proxy.address, b"hello");
        if says {
            proxy.wait_says("level=warn");
        }
        if level == "info" {
            proxy.wait_says("level=info");
        }
        let stderr = proxy.stderr();
        assert_eq!(stderr.contains("level=info"), level == "info", "{level}: {stderr}");
        assert!(says || stderr.is_empty(), "{level}: {stderr}");
    }
}

/// Clients that keep coming do not keep a full proxy from ending.
#[test]
fn a_drain_ends_though_clients_keep_coming() {
    let (mut proxy, backend) =
        proxy(&["--max-connections", "1", "--threads", "1", "--drain", "off"]);
    let address = proxy.address;
    let ended = std::sync::atomic::AtomicBool::new(false);
    let serves = thread::spawn(move || {
        for stream in backend.incoming() {
            drop(stream);
        }
    });
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Ok(mut client) = std::net::TcpStream::connect(address) {
                        let _ = std::io::Read::read(&mut client, &mut [0]);
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        proxy.process.signal(Signal::SIGTERM);
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.stderr());
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop(serves);
}
