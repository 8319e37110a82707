//! The limits hold exactly, in total over all threads, and being at one disturbs nobody.

use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    End, accept, accept_within, assert_echoes, assert_ends, assert_refused, echo, end, listen,
    patient, read_bytes, read_to_end, serve,
};
use seaprox_tests::trace::Strace;
use seaprox_tests::{eventually, run};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Long enough for one to be served that should not be.
const MOMENT: Duration = Duration::from_millis(150);

/// Clients that have said hello, and the backend's ends of those who are served.
struct Crowd {
    clients: Vec<TcpStream>,
    served: Vec<(u8, TcpStream)>,
}

impl Crowd {
    fn new(proxy: &Proxy, count: u8) -> Self {
        let greet = |name: u8| {
            let mut client = proxy.connect();
            client.write_all(&[name]).unwrap();
            client
        };
        Crowd { clients: (0..count).map(greet).collect(), served: Vec::new() }
    }

    /// Lets the backend take so many, and sees that no other comes.
    fn take(&mut self, backend: &TcpListener, count: usize) {
        for _ in 0..count {
            let mut server = accept(backend);
            let name = read_bytes(&server, 1);
            server.write_all(&name).unwrap();
            let client = &mut self.clients[usize::from(name[0])];
            assert_eq!(read_bytes(client, 1), name);
            self.served.push((name[0], server));
        }
        assert!(accept_within(backend, MOMENT).is_none(), "more than the limit are served");
    }

    /// One of those who are served leaves.
    fn let_one_go(&mut self) {
        let (name, server) = self.served.remove(0);
        let client = &mut self.clients[usize::from(name)];
        end(&server);
        assert_eq!(read_to_end(client).1, End::Fin);
        end(client);
    }
}

/// `--max-connections N` with N + 5 clients: N are served, and of those who wait in the backlog
/// one more for each that leaves (haproxy 82c9789ac: exceeded by the number of threads, and the
/// listener not armed again).
fn assert_exact(threads: usize, limit: usize) {
    let backend = listen();
    let launch = Launch::to(backend.local_addr().unwrap()).threads(threads);
    let proxy = launch.option("--max-connections", limit).start();
    let clean = proxy.sockets();
    for _ in 0..2 {
        let mut crowd = Crowd::new(&proxy, limit as u8 + 5);
        crowd.take(&backend, limit);
        assert_eq!(proxy.sockets(), clean + 2 * limit);
        for _ in 0..5 {
            crowd.let_one_go();
            crowd.take(&backend, 1);
        }
        drop(crowd);
        proxy.wait_sockets(clean);
    }
}

#[test]
fn the_limit_is_exact_with_one_thread() {
    assert_exact(1, 7);
    assert_exact(1, 1);
}

#[test]
fn the_limit_is_exact_with_two_threads() {
    assert_exact(2, 9);
    assert_exact(2, 2);
}

#[test]
fn the_limit_is_exact_with_four_threads() {
    assert_exact(4, 10);
    assert_exact(4, 4);
}

/// `--when-full refuse`: who comes to a full table is reset, whichever thread takes the call, and
/// nobody who was there is disturbed.
#[test]
fn a_full_table_refuses_if_told_so() {
    for threads in [1, 2, 4] {
        let backend = listen();
        let launch = Launch::to(backend.local_addr().unwrap()).threads(threads);
        let options = launch.option("--max-connections", 9).option("--when-full", "refuse");
        let proxy = options.start();
        let clean = proxy.sockets();
        for _ in 0..3 {
            let mut crowd = Crowd::new(&proxy, 9);
            crowd.take(&backend, 9);
            (0..20).for_each(|_| assert_refused(proxy.address, b"too many"));
            for (client, (_, server)) in crowd.clients.iter_mut().zip(&mut crowd.served) {
                client.write_all(b"x").unwrap();
                server.write_all(b"y").unwrap();
            }
            assert_eq!(proxy.sockets(), clean + 18);
            crowd.let_one_go();
            proxy.wait_sockets(clean + 16);
            let (mut client, server) = proxy.pair(&backend);
            client.write_all(b"z").unwrap();
            assert_eq!(read_bytes(&server, 1), b"z");
            drop((crowd, client, server));
            proxy.wait_sockets(clean);
        }
    }
}

/// A table that is full again and again while clients come and go loses none of them.
#[test]
fn nobody_is_forgotten_at_a_full_table() {
    for threads in [1, 2, 4] {
        let launch = Launch::to(serve(echo)).threads(threads);
        let proxy = launch.option("--max-connections", 6).start();
        let clean = proxy.sockets();
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    for _ in 0..12 {
                        let mut client = proxy.connect();
                        assert_echoes(&mut client, b"may I?");
                        end(&client);
                        assert_ends(&mut client, End::Fin);
                    }
                });
            }
        });
        proxy.wait_sockets(clean);
    }
}

/// Connections spread over the threads within 20 % of even, however they come.
#[test]
fn connections_spread_over_the_threads() {
    for threads in [2, 4] {
        let proxy = Launch::to(serve(echo)).threads(threads).start();
        let assert_even = |how: &str| {
            let counts = proxy.status("connections");
            let even = counts.iter().sum::<u64>() as f64 / threads as f64;
            assert!(
                counts.iter().all(|&count| (count as f64 - even).abs() <= 0.2 * even),
                "{how}: {counts:?}"
            );
        };
        let one_by_one: Vec<_> = (0..80)
            .map(|_| {
                let mut client = proxy.connect();
                assert_echoes(&mut client, b"hello");
                client
            })
            .collect();
        assert_even("one by one");
        let busy: Vec<_> = thread::scope(|scope| {
            let lanes = [(); 8].map(|()| {
                scope.spawn(|| {
                    (0..20)
                        .map(|_| {
                            let mut client = proxy.connect();
                            (0..20).for_each(|_| assert_echoes(&mut client, b"hello"));
                            client
                        })
                        .collect::<Vec<_>>()
                })
            });
            lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
        });
        assert_even("under load");
        drop((one_by_one, busy));
        eventually("all are gone", || proxy.connections() == 0);
        let burst: Vec<_> = (0..200).map(|_| proxy.connect()).collect();
        eventually("all are there", || proxy.connections() == 200);
        assert_even("in a burst");
        drop(burst);
    }
}

/// accept fails for want of descriptors or memory (libuv#690, bun#32705: 98,000 calls in 10 s): the
/// program waits a moment, says so once, and goes on.
#[test]
fn exhaustion_in_accept_does_not_spin() {
    for errno in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        let proxy = Launch::to(serve(echo)).threads(2).start();
        let inject = format!("inject=accept4:error={errno}");
        let strace = Strace::attach(proxy.process, &["-e", "trace=accept4", "-e", &inject]);
        let cpu = proxy.process.cpu_nanos();
        let mut waiting: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
        thread::sleep(Duration::from_secs(1));
        let cpu = proxy.process.cpu_nanos() - cpu;
        let calls = strace.detach().lines().filter(|line| line.contains("INJECTED")).count();
        assert!((2..100).contains(&calls), "{errno}: {calls} calls in a second");
        assert!(cpu < 300_000_000, "{errno}: {cpu} ns of CPU");
        assert!(proxy.stderr().lines().count() < 8, "{}", proxy.stderr());
        for client in &mut waiting {
            assert_echoes(client, b"at last");
        }
    }
}

/// The process has no descriptor left, in earnest: at accept for some, at connect for others.
#[test]
fn the_last_descriptor() {
    let proxy = Launch::to(serve(echo)).threads(2).start();
    assert_echoes(&mut proxy.connect(), b"hello");
    eventually("it is idle", || proxy.connections() == 0);
    let pid = proxy.process.0.to_string();
    let idle = proxy.process.descriptors().len();
    for free in 0..6 {
        let nofile = format!("--nofile={}:20000", idle + free);
        run(&["prlimit", "--pid", &pid, &nofile]);
        let cpu = proxy.process.cpu_nanos();
        let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(proxy.address)).collect();
        thread::sleep(Duration::from_millis(400));
        assert!(proxy.process.cpu_nanos() - cpu < 200_000_000, "it spins");
        run(&["prlimit", "--pid", &pid, "--nofile=20000:20000"]);
        // Each is served now, or was reset for want of a descriptor to its target.
        for client in clients.into_iter().flatten() {
            let mut client = patient(client);
            let mut answer = [0; 4];
            if client.write_all(b"ping").is_ok() && client.read_exact(&mut answer).is_ok() {
                assert_eq!(&answer, b"ping");
            }
        }
        assert_echoes(&mut proxy.connect(), b"fine again");
        eventually("no slot is lost", || proxy.connections() == 0);
    }
}
