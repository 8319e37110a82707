//! How a dest is reached, or not, and what happens to the client meanwhile.

use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::eventually;
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::namespace::Namespace;
use seaprox_tests::peer::{
    Blackhole, End, accept, accept_within, assert_echoes, assert_ends, assert_refused, assert_rest,
    connect, connect_from, echo, end, listen, read_bytes, read_to_end, reset, serve,
    vacant_address, vacant_port, wait_acknowledged,
};
use seaprox_tests::process::{SYN_SENT, Signal};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Sockets in the middle of a connect to this port.
fn connects_to(proxy: &Proxy, port: u16) -> usize {
    let asks = proxy.process.tcp_sockets().into_iter();
    asks.filter(|socket| socket.state == SYN_SENT && socket.remote_port == port).count()
}

/// A dest that refuses is RST to the client: a FIN would look like an empty answer.
#[test]
fn a_refused_dest_resets_the_client() {
    let proxy = Launch::to(vacant_address()).threads(2).start();
    let clean = proxy.sockets();
    for round in 0..50 {
        assert_refused(proxy.address, &b"hello"[round % 6..]);
    }
    proxy.wait_sockets(clean);
}

/// Many at once, so that several are refused in one turn.
#[test]
fn many_refused_at_once() {
    let proxy = Launch::to(vacant_address()).threads(2).start();
    let clean = proxy.sockets();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| (0..20).for_each(|_| assert_refused(proxy.address, b"hello")));
        }
    });
    proxy.wait_sockets(clean);
}

/// A dest that says nothing is given up after the connect timeout, and not before.
#[test]
fn a_silent_dest_times_out() {
    let blackhole = Blackhole::new();
    let proxy = Launch::to(blackhole.address()).option("--connect-timeout", "700ms").start();
    let clean = proxy.sockets();
    let mut client = proxy.connect();
    client.write_all(b"anybody there?").unwrap();
    let start = Instant::now();
    assert_ends(&mut client, End::Rst);
    assert!(start.elapsed() > Duration::from_millis(500), "after {:?}", start.elapsed());
    proxy.wait_sockets(clean);
}

/// What a client says while its dest is being connected is kept, and a dest that answers late is
/// used.
#[test]
fn early_bytes_are_kept() {
    let blackhole = Blackhole::new();
    let proxy = Launch::to(blackhole.address()).start();
    let mut client = proxy.connect();
    let early = pattern(1, 20_000);
    client.write_all(&early).unwrap();
    eventually("a connect is under way", || connects_to(&proxy, blackhole.address().port()) == 1);
    let mut server = blackhole.open();
    assert_same(&read_bytes(&server, early.len()), &early, "the early bytes");
    server.write_all(b"at last").unwrap();
    drop(server);
    assert_rest(&mut client, b"at last");
}

/// A client that has said all and ended while its dest is being connected (`printf .. | nc -N`)
/// wants its answer: bytes and FIN are passed on.
#[test]
fn an_early_fin_is_passed_on() {
    let blackhole = Blackhole::new();
    let proxy = Launch::to(blackhole.address()).start();
    let clean = proxy.sockets();
    let mut client = proxy.connect();
    client.write_all(b"question").unwrap();
    end(&client);
    eventually("a connect is under way", || connects_to(&proxy, blackhole.address().port()) == 1);
    let mut server = blackhole.open();
    assert_rest(&mut server, b"question");
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_rest(&mut client, b"answer");
    proxy.wait_sockets(clean);
}

/// A dest that is connected, answers and resets before the program has looked even once was reached:
/// what it said arrives, and then the reset.
#[test]
fn a_reset_before_anybody_looked_follows_its_bytes() {
    let answer = pattern(2, 30_000);
    for asks in [false, true] {
        let blackhole = Blackhole::new();
        let proxy = Launch::to(blackhole.address()).start();
        let clean = proxy.sockets();
        let mut client = proxy.connect();
        if asks {
            client.write_all(b"question").unwrap();
        }
        let port = blackhole.address().port();
        eventually("a connect is under way", || connects_to(&proxy, port) == 1);
        proxy.processes().for_each(|process| process.signal(Signal::SIGSTOP));
        let mut server = blackhole.open();
        server.write_all(&answer).unwrap();
        wait_acknowledged(&server);
        reset(server);
        proxy.processes().for_each(|process| process.signal(Signal::SIGCONT));
        let (bytes, ended) = read_to_end(&mut client);
        assert_same(&bytes, &answer, "what it said");
        assert_eq!(ended, End::Rst);
        proxy.wait_sockets(clean);
        assert_eq!(proxy.failed("connection-refused"), 0);
    }
}

/// A client that is gone before anybody saw that its dest was connected: the dest sees a reset, not an
/// end that all went well.
#[test]
fn a_client_that_resets_while_its_dest_is_connected_resets_it() {
    let blackhole = Blackhole::new();
    let proxy = Launch::to(blackhole.address()).start();
    let clean = proxy.sockets();
    let client = proxy.connect();
    let port = blackhole.address().port();
    eventually("a connect is under way", || connects_to(&proxy, port) == 1);
    proxy.processes().for_each(|process| process.signal(Signal::SIGSTOP));
    // In this order, so that the program hears of the client first.
    reset(client);
    let mut server = blackhole.open();
    proxy.processes().for_each(|process| process.signal(Signal::SIGCONT));
    assert_ends(&mut server, End::Rst);
    proxy.wait_sockets(clean);
}

/// One that says nothing before it resets has refused, and the next one is tried.
#[test]
fn a_reset_before_anybody_looked_is_a_refusal_without_bytes() {
    let (blackhole, next) = (Blackhole::new(), listen());
    let proxy = Launch::to(blackhole.address()).or_to(next.local_addr().unwrap()).start();
    let mut client = proxy.connect();
    let port = blackhole.address().port();
    eventually("a connect is under way", || connects_to(&proxy, port) == 1);
    proxy.processes().for_each(|process| process.signal(Signal::SIGSTOP));
    reset(blackhole.open());
    proxy.processes().for_each(|process| process.signal(Signal::SIGCONT));
    let mut server = accept(&next);
    server.write_all(b"here").unwrap();
    drop(server);
    assert_rest(&mut client, b"here");
}

/// The client resets while its dest is being connected: the connect is given up at once, not when
/// its time is over.
#[test]
fn a_connect_is_aborted_when_its_client_resets() {
    let blackhole = Blackhole::new();
    let proxy = Launch::to(blackhole.address()).option("--connect-timeout", "10m").start();
    let clean = proxy.sockets();
    for round in 0..20 {
        let mut client = proxy.connect();
        if round % 2 == 0 {
            client.write_all(b"never mind").unwrap();
        }
        if round % 3 == 0 {
            end(&client);
        }
        proxy.wait_sockets(clean + 2);
        reset(client);
        proxy.wait_sockets(clean);
    }
    assert_eq!(connects_to(&proxy, blackhole.address().port()), 0);
}

/// The first target that can be reached gets the connection, whatever is wrong with those before.
#[test]
fn targets_are_tried_in_order() {
    let silent = Blackhole::new();
    let (first, second) = (listen(), listen());
    let proxy = Launch::to(vacant_address())
        .or_to(silent.address())
        .or_to("[2001:db8::1]:9")
        .or_to("unix:/nonexistent/socket")
        .or_to(first.local_addr().unwrap())
        .or_to(second.local_addr().unwrap())
        .option("--connect-timeout", "300ms")
        .start();
    let clean = proxy.sockets();
    for _ in 0..3 {
        let (client, server) = proxy.pair(&first);
        drop((client, server));
    }
    assert!(accept_within(&second, Duration::ZERO).is_none(), "the second was not needed");
    drop(first);
    proxy.pair(&second);
    drop(second);
    assert_refused(proxy.address, b"");
    proxy.wait_sockets(clean);
}

/// A connect to a closed port in the ephemeral range can reach itself (tokio#3405: 1 to 9 in 60
/// tries through every peer): the client would get its own words back. Here the range is so small
/// that it has to.
#[test]
fn nobody_is_connected_to_itself() {
    let mut network = Namespace::new();
    let wrapper = network.wrapper("127.0.0.1 localhost\n");
    network.within(|| {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(range, "40000 40015").unwrap();
        // The premise: without the check it happens. (Not at the same ports as below, which it
        // leaves in TIME_WAIT.)
        let mut itself = 0;
        for port in [40_000, 40_002, 40_004, 40_006] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            itself += (0..20).filter(|_| TcpStream::connect(address).is_ok()).count();
        }
        assert!(itself > 0, "this kernel does not do it");
        for target in [40_008, 40_010, 40_012, 40_014] {
            let proxy = Launch::to(SocketAddr::from((Ipv4Addr::LOCALHOST, target)))
                .wrapped(wrapper.clone())
                .start();
            let SocketAddr::V4(front) = proxy.address else { panic!("its own address is IPv4") };
            let clean = proxy.sockets();
            for _ in 0..20 {
                // From a port of our own choice, as the range is small.
                assert_ends(&mut connect_from(30_000, front), End::Rst);
            }
            proxy.wait_sockets(clean);
        }
    });
}

/// Connects that reached themselves on purpose: the port that the kernel tries first (an even one)
/// is the target's own.
#[test]
fn a_connect_that_must_reach_itself_is_refused() {
    // 0.0.0.0 is this machine too, under another name than the kernel's. Each in a network of its
    // own, where the port is not in TIME_WAIT yet.
    for target in ["127.0.0.1:40000", "0.0.0.0:40000"] {
        let mut network = seaprox_tests::namespace::Namespace::new();
        let wrapper = network.wrapper("127.0.0.1 localhost\n");
        network.within(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
            let proxy = Launch::to(target).wrapped(wrapper).start();
            let SocketAddr::V4(front) = proxy.address else { panic!("its own address is IPv4") };
            let clean = proxy.sockets();
            for _ in 0..20 {
                // From a port of our own choice, as the range is small.
                let mut client = connect_from(30_000, front);
                assert_ends(&mut client, End::Rst);
            }
            proxy.wait_sockets(clean);
        });
    }
}

#[test]
fn a_unix_socket_as_listener_and_as_target() {
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};
    let paths = ["a", "b"].map(seaprox_tests::trace::temporary);
    let [front, back] = paths.each_ref().map(|path| path.to_str().unwrap());
    let backend = UnixListener::bind(back).unwrap();
    thread::spawn(move || {
        for stream in backend.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = Vec::new();
                stream.read_to_end(&mut request).unwrap();
                stream.write_all(&request).unwrap();
            });
        }
    });
    let proxy = Launch::to(format!("unix:{back}")).listen(format!("unix:{front}")).start();
    let clean = proxy.sockets();
    for (seed, length) in [0, 1, 70_000, 3_000_000].into_iter().enumerate() {
        let mut client = UnixStream::connect(front).unwrap();
        client.set_read_timeout(Some(seaprox_tests::PATIENCE)).unwrap();
        let request = pattern(seed as u64, length);
        client.write_all(&request).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_same(&answer, &request, "through two unix sockets");
    }
    proxy.wait_sockets(clean);
    drop(proxy);
    for path in &paths {
        let _ = std::fs::remove_file(path);
    }
}

/// A read of a unix socket stops where a descriptor was passed along: what is behind it is neither
/// forgotten nor taken for the end. (The descriptor itself stays behind: it is no byte.)
#[test]
fn bytes_behind_a_passed_descriptor() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{IoSlice, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    let backend = listen();
    let path = seaprox_tests::trace::temporary("fds");
    let front = format!("unix:{}", path.display());
    let proxy = Launch::to(backend.local_addr().unwrap()).listen(front).start();
    for ends in [false, true] {
        // Both messages must be there before the first is read.
        proxy.process.signal(Signal::SIGSTOP);
        let mut client = UnixStream::connect(&path).unwrap();
        let passed = [backend.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&passed)];
        let bytes = [IoSlice::new(b"before")];
        sendmsg::<()>(client.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None).unwrap();
        client.write_all(b"behind").unwrap();
        if ends {
            client.shutdown(std::net::Shutdown::Write).unwrap();
        }
        proxy.process.signal(Signal::SIGCONT);
        let mut server = accept(&backend);
        assert_eq!(read_bytes(&server, 12), b"beforebehind");
        server.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
    drop(proxy);
    let _ = std::fs::remove_file(path);
}

/// A unix socket whose queue is full says so at once; the clients wait, as they would with tcp.
#[test]
fn a_unix_target_whose_queue_is_full() {
    use std::os::unix::net::UnixListener;
    let path = seaprox_tests::trace::temporary("queue");
    let backend = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&backend, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let proxy = Launch::to(format!("unix:{}", path.display())).start();
    let mut clients: Vec<_> = (0..12).map(|_| proxy.connect()).collect();
    thread::sleep(Duration::from_millis(100));
    thread::spawn(move || {
        for stream in backend.incoming() {
            stream.unwrap().write_all(b"at last").unwrap();
        }
    });
    for client in &mut clients {
        assert_rest(client, b"at last");
    }
    drop(proxy);
    let _ = std::fs::remove_file(path);
}

/// A socket that was opened for the program (socket activation), by number and by name.
#[test]
fn a_listener_that_is_open_already() {
    let target = serve(echo);
    for (listen, variables) in
        [("fd:3", ""), ("fd:web", "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web ")]
    {
        let address = vacant_address();
        // Only the standard descriptors survive exec, so the socket comes as stdin.
        let script = format!("exec 3<&0 0</dev/null; {variables}exec \"$@\"");
        let listener = TcpListener::bind(address).unwrap();
        let proxy = Launch::to(target)
            .listen(listen)
            .stdin(std::os::fd::OwnedFd::from(listener))
            .wrapped(["sh", "-c", &script, "sh"])
            .start();
        assert_echoes(&mut connect(address), b"through a socket that was open");
        drop(proxy);
    }
}

/// IPv6 in front, IPv4 behind, and the other way round.
#[test]
fn families_mix() {
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let v4 = listen();
    let port = vacant_port();
    for (front, backend) in [(format!("[::1]:{port}"), &v4), (vacant_address().to_string(), &v6)] {
        let proxy = Launch::to(backend.local_addr().unwrap()).listen(front).start();
        let mut client = proxy.connect();
        let server = accept(backend);
        thread::spawn(move || echo(server));
        assert_echoes(&mut client, b"hello");
    }
}

/// `:PORT` takes clients of both families.
#[test]
fn a_port_alone_takes_both_families() {
    let target = serve(echo);
    let port = vacant_port();
    let proxy = Launch::to(target).listen(format!(":{port}")).start_on(port);
    for v6 in [false, true] {
        let address = (seaprox_tests::peer::loopback(v6), port).into();
        assert_echoes(&mut connect(address), b"hello");
    }
    drop(proxy);
    // And `[::]` is IPv6 only.
    let proxy = Launch::to(target).listen(format!("[::]:{port}")).start_on(port);
    assert_echoes(&mut connect((seaprox_tests::peer::loopback(true), port).into()), b"hello");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "IPv4 on [::]");
    drop(proxy);
}
