//! Nothing is allocated after the start: no call that changes the address space is made by any
//! thread, and the sealed allocator, which would have ended the program, has not.

use seaprox_tests::ends::{egress, ingress, vacant_link};
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    End, assert_ends, assert_refused, end, patient, read_to_end, reset, serve, vacant_address,
};
use seaprox_tests::process::Signal;
use seaprox_tests::trace::trace_file;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

const LANES: usize = 16;

/// Runs under a strace that sees the address space change, the accepts and the connects.
fn traced(launch: Launch) -> (Proxy, PathBuf) {
    let trace = trace_file();
    (launch.wrapped(strace(&trace)).start(), trace)
}

fn strace(trace: &Path) -> [&str; 8] {
    let calls = "trace=brk,mmap,munmap,mremap,accept4,connect";
    let trace = trace.to_str().unwrap();
    ["strace", "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", trace]
}

/// The calls that changed the address space after the first client was taken, each after the
/// number of its thread.
fn changes(trace: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut lines = text.lines().skip_while(|line| !taken(line));
    assert!(lines.next().is_some(), "no client was taken:\n{text}");
    lines
        .filter(|line| !line.contains("accept4") && !line.contains("connect"))
        .map(str::to_owned)
        .collect()
}

/// A client was accepted, or what comes over a link is connected. (The C library asks a daemon at a
/// path for names, before there is a client.)
fn taken(line: &str) -> bool {
    line.contains("connect(") && line.contains("AF_INET")
        || line.contains("accept4")
            && line.rsplit_once("= ").is_some_and(|(_, fd)| fd.parse::<u32>().is_ok())
}

/// Ends in the way it is told to with the first byte.
fn backend(mut stream: TcpStream) {
    let mut how = [0];
    if stream.read_exact(&mut how).is_err() {
        return;
    }
    match how[0] {
        b'e' => {
            let _ = stream.write_all(b"echo");
            let _ = read_to_end(&mut stream);
        }
        b'b' => {
            let _ = stream.write_all(&[7; 200_000]);
        }
        b'r' => reset(stream),
        _ => {
            let _ = read_to_end(&mut stream);
            let _ = stream.write_all(b"late");
        }
    }
}

/// One connection of each kind in turn.
fn visit(address: SocketAddr, number: usize) {
    let Ok(client) = TcpStream::connect(address) else { return };
    let mut client = patient(client);
    let how = b"ebrhc"[number % 5];
    if client.write_all(&[how]).is_err() {
        return;
    }
    match how {
        b'e' => {
            let mut answer = [0; 4];
            client.read_exact(&mut answer).expect("an answer");
        }
        b'b' => {
            let (bytes, _) = read_to_end(&mut client);
            assert_eq!(bytes.len(), 200_000);
        }
        b'h' => {
            end(&client);
            let (bytes, ended) = read_to_end(&mut client);
            assert_eq!((&bytes[..], ended), (&b"late"[..], End::Fin));
        }
        b'r' => assert_ends(&mut client, End::Rst),
        _ => reset(client),
    }
}

/// Ten thousand connections in `LANES` lanes.
fn crowd(per_lane: usize, visit: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for lane in 0..LANES {
            let visit = &visit;
            scope.spawn(move || (0..per_lane).for_each(|round| visit(lane + round)));
        }
    });
}

fn assert_still_sealed(mut proxy: Proxy) {
    proxy.process.signal(Signal::SIGUSR1);
    proxy.process.signal(Signal::SIGHUP);
    proxy.wait_asleep();
    let said = proxy.stderr();
    proxy.process.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0), "{said}");
}

/// Ten thousand connections with answers, bulk, half-closes and resets from both ends.
#[test]
fn ten_thousand_connections_allocate_nothing() {
    let launch = Launch::to(serve(backend)).threads(2).flag("--log-connections");
    let (proxy, trace) = traced(launch.option("--idle-timeout", "1m"));
    let data = proxy.process.data_bytes();
    let clean = proxy.sockets();
    crowd(8_000 / LANES, |number| visit(proxy.address, number));
    proxy.wait_sockets(clean);
    assert_eq!(changes(&trace), [""; 0]);
    assert_eq!(proxy.process.data_bytes(), data);
    assert_still_sealed(proxy);
    let _ = std::fs::remove_file(trace);
}

/// The same over a link, with refusals by the egress, and with links that come and go.
#[test]
fn neither_end_of_a_link_allocates() {
    let link = vacant_link();
    let traces = [trace_file(), trace_file()];
    let egress = egress(&link).to(serve(backend)).threads(2).wrapped(strace(&traces[0]));
    let offer = format!("nobody={}", vacant_address());
    let egress = egress.option("--service", offer).option("--link-timeout", "1m").start();
    let ingress_of =
        |trace| ingress(&link).flag("--log-connections").wrapped(strace(trace)).start();
    let main = ingress_of(&traces[1]);
    main.wait_says("event=\"link up\"");
    let ends = [&egress, &main];
    let data = ends.map(|end| end.process.data_bytes());
    let clean = main.sockets();
    for service in ["nobody", "no-such", "nobody"] {
        let mut refused = ingress(&link).option("--service", service).start();
        refused.wait_says("event=\"link up\"");
        crowd(2_000 / LANES / 3, |number| {
            visit(main.address, number);
            assert_refused(refused.address, b"hello");
        });
        // Whoever is killed over udp says nothing, and its link stays until it counts as dead.
        refused.process.signal(Signal::SIGTERM);
        refused.wait();
    }
    main.wait_sockets(clean);
    for trace in &traces {
        assert_eq!(changes(trace), [""; 0]);
    }
    assert_eq!(ends.map(|end| end.process.data_bytes()), data);
    assert_still_sealed(main);
    assert_still_sealed(egress);
    traces.iter().for_each(|trace| drop(std::fs::remove_file(trace)));
}

#[test]
fn refusals_allocate_nothing() {
    let (proxy, trace) = traced(Launch::to(vacant_address()).threads(2));
    crowd(2_000 / LANES, |_| assert_refused(proxy.address, b"hello"));
    assert_eq!(changes(&trace), [""; 0]);
    assert_still_sealed(proxy);
    let _ = std::fs::remove_file(trace);
}

/// With names the resolver's threads alone may use libc's malloc, which the seal cannot see.
#[test]
fn lookups_allocate_on_the_resolvers_threads_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    seaprox_tests::peer::serve_on(listener, backend);
    let (proxy, trace) = traced(Launch::to(format!("localhost:{port}")).threads(2));
    for round in 0..20 {
        crowd(10, |number| visit(proxy.address, number + round));
        proxy.process.signal(Signal::SIGHUP);
    }
    let workers: Vec<_> = proxy.process.threads().into_iter().filter(is_worker).collect();
    assert_eq!(workers.len(), 3, "the main thread and two workers");
    for change in changes(&trace) {
        let worker = workers.iter().find(|worker| change.starts_with(&format!("{} ", worker.id())));
        assert!(worker.is_none(), "{change}");
    }
    assert_still_sealed(proxy);
    let _ = std::fs::remove_file(trace);
}

/// The main thread, or one that relays.
fn is_worker(thread: &seaprox_tests::process::Thread) -> bool {
    let name = thread.field("Name");
    let number = name.strip_prefix("seaprox-");
    name == "seaprox" || number.is_some_and(|number| number.parse::<usize>().is_ok())
}
