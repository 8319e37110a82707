//! What a connection costs: calls, memory, descriptors, and nothing at all while it is idle.

use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    assert_echoes, echo, end, listen, read_bytes, serve, serve_on, vacant_address,
};
use seaprox_tests::process::want_descriptors;
use seaprox_tests::trace::{Strace, calls};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// So many connections that have each seen one message there and back.
fn idle_connections(
    proxy: &Proxy,
    backend: &TcpListener,
    count: usize,
) -> Vec<(TcpStream, TcpStream)> {
    let connect = |_| {
        let (mut client, mut server) = proxy.pair(backend);
        client.write_all(b"hello").unwrap();
        assert_eq!(read_bytes(&server, 5), b"hello");
        server.write_all(b"hello").unwrap();
        assert_eq!(read_bytes(&client, 5), b"hello");
        (client, server)
    };
    (0..count).map(connect).collect()
}

/// With no timer armed and no traffic no thread wakes up.
#[test]
fn idle_connections_wake_nobody() {
    let backend = listen();
    let proxy = Launch::to(backend.local_addr().unwrap()).threads(2).start();
    let connections = idle_connections(&proxy, &backend, 200);
    // The options that only longer connections need are set after a second.
    thread::sleep(Duration::from_millis(2500));
    let (sleeps, cpu) = (proxy.process.sleeps(), proxy.process.cpu_nanos());
    thread::sleep(Duration::from_secs(10));
    assert_eq!(proxy.process.sleeps() - sleeps, 0, "wake-ups in 10 s");
    assert_eq!(proxy.process.cpu_nanos() - cpu, 0, "CPU in 10 s");
    drop(connections);
}

/// An idle connection costs at most 160 bytes of memory that the program touches, two descriptors,
/// and no pipe.
#[test]
fn idle_connections_cost_little_memory() {
    const CONNECTIONS: usize = 4_000;
    want_descriptors(2 * CONNECTIONS as u64 + 1000);
    let backend = listen();
    let proxy = Launch::to(backend.local_addr().unwrap()).start();
    // What the first connections touch is not theirs: stacks, code.
    drop(idle_connections(&proxy, &backend, 3));
    proxy.wait_sockets(1);
    let descriptors = proxy.process.descriptors().len();
    let (pss, data) = (proxy.process.pss_bytes(), proxy.process.data_bytes());
    let connections = idle_connections(&proxy, &backend, CONNECTIONS);
    thread::sleep(Duration::from_millis(1500));
    proxy.wait_asleep();
    let each = proxy.process.pss_bytes().saturating_sub(pss) as f64 / CONNECTIONS as f64;
    assert!(each <= 160.0, "{each} bytes a connection");
    assert_eq!(proxy.process.data_bytes(), data, "memory was mapped");
    assert_eq!(proxy.process.descriptors().len(), descriptors + 2 * CONNECTIONS);
    drop(connections);
}

/// All calls of a run, and how many of them for each of `count`.
#[track_caller]
fn assert_at_most(summary: &str, count: u64, each: u64, spare: u64) {
    let all = calls(summary);
    let total: u64 = all.iter().map(|(_, calls)| calls).sum();
    assert!(total > count, "nothing was counted: {summary}");
    let most = count * each + spare;
    assert!(total <= most, "{:.2} calls each: {all:?}", total as f64 / count as f64);
}

/// A short connection costs at most 18 system calls (haproxy 21, tokio 30) when many come at once,
/// and one wait for each of its events when it is alone.
#[test]
fn calls_of_a_short_connection() {
    const CONNECTIONS: u64 = 320;
    // A port that the kernel does not choose for connects, as any service has.
    let listener = TcpListener::bind(vacant_address()).unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, echo);
    let proxy = Launch::to(address).start();
    let clean = proxy.sockets();
    let visit = |half_close: bool| {
        let mut client = proxy.connect();
        assert_echoes(&mut client, b"request");
        if half_close {
            end(&client);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    };
    for half_close in [false, true] {
        let strace = Strace::attach(proxy.process, &["-c"]);
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| (0..CONNECTIONS / 32).for_each(|_| visit(half_close)));
            }
        });
        proxy.wait_sockets(clean);
        assert_at_most(&strace.detach(), CONNECTIONS, 18, 20);

        let strace = Strace::attach(proxy.process, &["-c"]);
        for _ in 0..50 {
            visit(half_close);
            proxy.wait_sockets(clean);
        }
        assert_at_most(&strace.detach(), 50, 20, 20);
    }
}

/// A request and its response cost at most 6.
#[test]
fn calls_of_a_request() {
    const REQUESTS: u64 = 300;
    let proxy = Launch::to(serve(echo)).start();
    let mut client = proxy.connect();
    (0..10).for_each(|_| assert_echoes(&mut client, &[1; 64]));
    thread::sleep(Duration::from_millis(1500));
    let strace = Strace::attach(proxy.process, &["-c"]);
    (0..REQUESTS).for_each(|_| assert_echoes(&mut client, &[2; 64]));
    assert_at_most(&strace.detach(), REQUESTS, 6, 20);
}
