//! Clients and a backend with a line between them: two workers, each on a thread of its own, joined by two
//! pipes or by a terminal. Every byte arrives, an end as an end and a reset as a reset.

use rustix::fd::OwnedFd;
use rustix::net::sockopt::set_socket_linger;
use seaprox::Seaprox;
use seaprox::fail::FailReason;
use seaprox::share::Order;
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_line::{Line, Role, serve};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, DialOptions, Dialer, ListenOptions, Listener, Target, listen};
use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{iter, thread};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the two ends of a line read from and write to.
type Ends = [(OwnedFd, OwnedFd); 2];

fn pipes() -> Ends {
    let [(one_in, one_out), (other_in, other_out)] =
        [(); 2].map(|()| rustix::pipe::pipe().unwrap());
    [(one_in, other_out), (other_in, one_out)]
}

/// A terminal that passes every byte on as it is, like a serial line.
fn terminal() -> Ends {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let name = ptsname(&near, Vec::new()).unwrap();
    let far = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let far = OwnedFd::from(far);
    let mut modes = tcgetattr(&far).unwrap();
    modes.make_raw();
    tcsetattr(&far, OptionalActions::Now, &modes).unwrap();
    [near, far].map(|end| (end.try_clone().unwrap(), end))
}

/// Where clients connect, and where they arrive.
struct Peers {
    at: SocketAddr,
    backend: TcpListener,
}

impl Peers {
    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.at).unwrap())
    }

    fn accept(&self) -> TcpStream {
        patient(self.backend.accept().unwrap().0)
    }

    /// A client, and who it is connected to.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.connect();
        (client, self.accept())
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Has both ends serve while `test` runs; then each drains.
fn over([near, far]: Ends, test: impl FnOnce(&Peers)) {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = backend.local_addr().unwrap();
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
    let at = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let (end, ended) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut memory = Seaprox::<4, 1>::new();
            let clients = Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse);
            let line = Line::new(Role::Dest, near.0, near.1).unwrap();
            let table = memory.tables(1, 4).next().unwrap();
            let mut worker =
                Worker::new(Linux, table, clients, line, (), Options::default()).unwrap();
            serve(&mut worker, ended.as_fd()).unwrap();
        });
        scope.spawn(|| {
            let mut memory = Seaprox::<4, 1>::new();
            let line = Line::new(Role::Source, far.0, far.1).unwrap();
            let targets = [Target::Inet(target)];
            let dialer = Dialer::new(Linux, &targets, NoNames, DialOptions::default());
            let table = memory.tables(1, 4).next().unwrap();
            let mut worker =
                Worker::new(Linux, table, line, dialer, (), Options::default()).unwrap();
            // Ends when the line does.
            serve(&mut worker, ended.as_fd()).unwrap();
        });
        test(&Peers { at, backend });
        drop(end);
    });
}

/// Bytes without a period that a buffer could have.
fn pattern(seed: u64) -> impl Iterator<Item = u8> {
    let next =
        move |state: &u64| Some(state.wrapping_mul(6364136223846793005).wrapping_add(seed | 1));
    iter::successors(Some(seed), next).map(|state| (state >> 56) as u8)
}

fn send(mut stream: &TcpStream, seed: u64, count: usize) {
    let bytes: Vec<u8> = pattern(seed).take(count).collect();
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

fn assert_hears(mut stream: &TcpStream, seed: u64, count: usize) {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), count);
    assert!(heard.into_iter().eq(pattern(seed).take(count)), "other bytes");
}

fn assert_ends(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

const BULK: usize = 300_000;

fn every_byte_both_ways(peers: &Peers) {
    for seed in 0..3 {
        let (client, server) = peers.pair();
        thread::scope(|scope| {
            scope.spawn(|| send(&client, seed, BULK));
            scope.spawn(|| send(&server, seed + 7, BULK / 3));
            scope.spawn(|| assert_hears(&client, seed + 7, BULK / 3));
            assert_hears(&server, seed, BULK);
        });
    }
}

/// One direction has ended, and the other goes on.
fn half_closed(peers: &Peers) {
    let (client, server) = peers.pair();
    client.shutdown(Shutdown::Write).unwrap();
    assert_ends(&server);
    send(&server, 5, 10_000);
    assert_hears(&client, 5, 10_000);

    let (client, server) = peers.pair();
    server.shutdown(Shutdown::Write).unwrap();
    assert_ends(&client);
    send(&client, 6, 10_000);
    assert_hears(&server, 6, 10_000);
}

/// With what came before it; and the line is good for the next one.
fn resets(peers: &Peers) {
    for (seed, by_client) in [(1, true), (2, false), (3, true), (4, false)] {
        let (client, server) = peers.pair();
        let (mut one, other) = if by_client { (client, server) } else { (server, client) };
        let bytes: Vec<u8> = pattern(seed).take(2000).collect();
        one.write_all(&bytes).unwrap();
        let mut heard = vec![0; bytes.len()];
        (&other).read_exact(&mut heard).unwrap();
        assert_eq!(heard, bytes);
        reset(one);
        assert_reset(&other);
    }
    // Also one that nobody reads from, with the line full of its bytes.
    let (mut client, server) = peers.pair();
    client.set_nonblocking(true).unwrap();
    while client.write(&[1; 4096]).is_ok() {}
    thread::sleep(Duration::from_millis(50));
    reset(client);
    let mut last = Vec::new();
    let error = (&server).read_to_end(&mut last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(last.iter().all(|byte| *byte == 1));
}

/// Clients wait their turn.
fn one_at_a_time(peers: &Peers) {
    let (client, server) = peers.pair();
    let waiting: Vec<_> = (0..3).map(|_| peers.connect()).collect();
    send(&client, 8, 1000);
    assert_hears(&server, 8, 1000);
    send(&server, 9, 1000);
    assert_hears(&client, 9, 1000);
    for client in waiting {
        send(&client, 10, 1000);
        let server = peers.accept();
        assert_hears(&server, 10, 1000);
        server.shutdown(Shutdown::Write).unwrap();
        assert_ends(&client);
    }
}

fn everything(peers: &Peers) {
    every_byte_both_ways(peers);
    half_closed(peers);
    resets(peers);
    one_at_a_time(peers);
}

#[test]
fn over_pipes() {
    over(pipes(), everything);
}

#[test]
fn over_a_terminal() {
    over(terminal(), everything);
}

/// Whoever is not reached is told by a reset.
#[test]
fn nobody_is_there() {
    over(pipes(), |peers| {
        // Its port is somebody else's for as long as this lives: a bound socket that does not listen.
        let gone = peers.backend.try_clone().unwrap();
        rustix::net::shutdown(&gone, rustix::net::Shutdown::Both).unwrap();
        for _ in 0..3 {
            assert_reset(&peers.connect());
        }
    });
}

/// Why connections were not made.
#[derive(Default)]
struct Told(RefCell<Vec<FailReason>>);

impl Observer for &Told {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Refused { reason, .. } => self.0.borrow_mut().push(reason),
            other => panic!("{other:?}"),
        }
    }
}

/// A line is broken by its far end's leaving, or by what is not said on lines: the clients of an ingress are
/// reset, now and from then on.
#[test]
fn a_broken_line_serves_nobody() {
    for rubbish in [&b""[..], b"hello", &[1, 1, 0, 0], &[3, 1, 0, 0], &[5, 1, 0, 2, 0, 0]] {
        let why = if rubbish.is_empty() { FailReason::LinkDown } else { FailReason::Protocol };
        let [near, (far_in, far_out)] = pipes();
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
        let at = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
        let (end, ended) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut memory = Seaprox::<4, 1>::new();
                let clients = Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse);
                let line = Line::new(Role::Dest, near.0, near.1).unwrap();
                let table = memory.tables(1, 4).next().unwrap();
                let told = Told::default();
                let mut worker =
                    Worker::new(Linux, table, clients, line, &told, Options::default()).unwrap();
                serve(&mut worker, ended.as_fd()).unwrap();
                assert_eq!(*told.0.borrow(), [why; 2], "{rubbish:?}");
            });
            let client = patient(TcpStream::connect(at).unwrap());
            let mut open = [0; 4];
            read_exact(&far_in, &mut open);
            assert_eq!(open, [1, 1, 0, 0]);
            rustix::io::write(&far_out, rubbish).unwrap();
            if rubbish.is_empty() {
                drop((far_in, far_out));
            }
            assert_reset(&client);
            assert_reset(&patient(TcpStream::connect(at).unwrap()));
            drop(end);
        });
    }
}

/// Reads from what has no `Read`.
fn read_exact(fd: &OwnedFd, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let count = rustix::io::read(fd, &mut *bytes).unwrap();
        assert!(count > 0, "it has ended");
        bytes = &mut bytes[count..];
    }
}

/// The other end of a broken line ends as well, and so does one that is told to stop.
#[test]
fn a_source_ends_with_its_line() {
    for is_told in [false, true] {
        let [near, far] = pipes();
        let mut memory = Seaprox::<4, 1>::new();
        let line = Line::new(Role::Source, near.0, near.1).unwrap();
        let targets = [Target::Inet((Ipv4Addr::LOCALHOST, 9).into())];
        let dialer = Dialer::new(Linux, &targets, NoNames, DialOptions::default());
        let table = memory.tables(1, 4).next().unwrap();
        let mut worker = Worker::new(Linux, table, line, dialer, (), Options::default()).unwrap();
        let settled = (0..10).any(|_| {
            assert!(worker.turn_within(Some(0)).unwrap());
            worker.timeout().is_none()
        });
        assert!(settled, "it has something to do for ever");
        match is_told {
            true => worker.table().commons().order(Linux, Order::Stop),
            false => drop(far),
        }
        worker.run().unwrap();
    }
}
