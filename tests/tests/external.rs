//! Dests that somebody else connects: eight threads complete tickets while the same tickets time
//! out, and every descriptor has exactly one owner; and sockets that are still being connected when the
//! ticket is completed.

use seaprox::Seaprox;
use seaprox::completion::{Outcome, Ticket};
use seaprox::connector::External;
use seaprox::fail::FailReason;
use seaprox::share::Order;
use seaprox::sys::{Errno, Linux, Peer, Sys};
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::{AtEnd, ListenOptions, Listener, listen};
use seaprox_tests::peer::{
    Blackhole, End, assert_ends, assert_refused, assert_rest, connect, end, read_bytes,
    vacant_address,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

static PROXY: Seaprox<64, 1> = Seaprox::new();

const CONNECTORS: usize = 8;
const CLIENTS: usize = 600;
const TIMEOUT_MILLIS: u32 = 10;

/// How often a completion was taken, came too late, or told of a failure.
#[derive(Default)]
struct Tally {
    taken: AtomicUsize,
    late: AtomicUsize,
    failed: AtomicUsize,
}

/// Connects what it is handed, later than the proxy waits about as often as in time.
fn connect_all(tickets: &Mutex<Receiver<(usize, Ticket)>>, target: SocketAddr, tally: &Tally) {
    let commons = PROXY.commons();
    loop {
        let Ok((number, ticket)) = tickets.lock().unwrap().recv() else { return };
        if number % 10 == 0 {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            let _ = commons.complete(Linux, ticket, Outcome::Failed(FailReason::Other));
            continue;
        }
        let stream = TcpStream::connect(target).unwrap();
        // Around the timeout, to the tenth of a millisecond.
        thread::sleep(Duration::from_micros((number as u64 * 7919) % 200 * 100));
        let outcome = Outcome::Connected(stream.as_raw_fd());
        if commons.complete(Linux, ticket, outcome).is_ok() {
            tally.taken.fetch_add(1, Ordering::Relaxed);
            let _ = stream.into_raw_fd();
            assert!(commons.complete(Linux, ticket, outcome).is_err(), "a ticket is good once");
        } else {
            tally.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends everything back until its client's end.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A connect that came too late is closed without a byte.
            if stream.read_to_end(&mut bytes).is_ok() {
                let _ = stream.write_all(&bytes);
            }
        });
    }
}

/// Whether the client was served; if not, it must have been reset.
fn visit(address: SocketAddr, number: usize) -> bool {
    let said = format!("client {number}");
    let mut stream = TcpStream::connect(address).unwrap();
    let talk = |stream: &mut TcpStream| {
        stream.write_all(said.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        Ok::<_, std::io::Error>(heard)
    };
    match talk(&mut stream) {
        Ok(heard) => {
            assert_eq!(heard, said, "an end in order without the answer");
            true
        }
        Err(_) => false,
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn completions_race_timeouts_and_no_descriptor_is_lost() {
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = backend.local_addr().unwrap();
    thread::spawn(move || echo(&backend));

    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
    let fd: RawFd = listener.as_raw_fd();
    let address = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let before = open_descriptors();

    let tally = Arc::new(Tally::default());
    let (sender, tickets) = channel();
    let tickets = Arc::new(Mutex::new(tickets));
    let connectors: Vec<_> = (0..CONNECTORS)
        .map(|_| {
            let (tickets, tally) = (Arc::clone(&tickets), Arc::clone(&tally));
            thread::spawn(move || connect_all(&tickets, target, &tally))
        })
        .collect();
    let worker = thread::spawn(move || {
        let mut number = 0;
        let connect = move |ticket, ()| {
            number += 1;
            sender.send((number, ticket)).unwrap();
            // A worker that is busy for longer than the timeout finds outcomes of what it is about
            // to give up.
            if number % 5 == 0 {
                thread::sleep(Duration::from_millis(u64::from(TIMEOUT_MILLIS) + 2));
            }
        };
        let table = PROXY.claim(1, 64).unwrap().next().unwrap();
        let listener = Listener::new(Linux, fd, AtEnd::Refuse);
        let dest = External::new(connect, TIMEOUT_MILLIS);
        let mut worker = Worker::new(Linux, table, listener, dest, (), Options::default()).unwrap();
        worker.run().unwrap();
        assert_eq!(worker.table().occupied(), 0);
    });

    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for lane in 0..20 {
            let served = &served;
            scope.spawn(move || {
                for number in (lane..CLIENTS).step_by(20) {
                    served.fetch_add(usize::from(visit(address, number)), Ordering::Relaxed);
                }
            });
        }
    });
    PROXY.commons().order(Linux, Order::Drain);
    worker.join().unwrap();
    connectors.into_iter().for_each(|connector| connector.join().unwrap());

    let [taken, late, failed] =
        [&tally.taken, &tally.late, &tally.failed].map(|count| count.load(Ordering::Relaxed));
    let served = served.into_inner();
    assert_eq!(taken + late + failed, CLIENTS);
    assert!(taken > 0 && late > 0 && failed > 0, "{taken} taken, {late} late, {failed} failed");
    assert!(served <= taken, "{served} served, but only {taken} completions were taken");
    let counters = &PROXY.commons().shares()[0].counters;
    assert_eq!(counters.accepted(), CLIENTS as u64);
    assert_eq!(counters.connected() as usize, served);
    // The backend's ends close a moment later, when their threads have read the end.
    for _ in 0..500 {
        if open_descriptors() <= before {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} descriptors, {before} at the start", open_descriptors());
}

/// Why the only connection was not made, if it was not.
#[derive(Clone, Default)]
struct Refusal(Arc<Mutex<Option<FailReason>>>);

impl Observer for Refusal {
    fn notice(&mut self, notice: Notice) {
        if let Notice::Refused { reason, .. } = notice {
            *self.0.lock().unwrap() = Some(reason);
        }
    }
}

/// A socket whose connect is under way, or done.
fn begun(target: SocketAddr) -> RawFd {
    let peer = Peer::Inet(target);
    let fd = Linux.socket(&peer).unwrap();
    assert!(matches!(Linux.connect(fd, &peer), Ok(()) | Err(Errno::INPROGRESS)));
    fd
}

/// Serves the clients of `visit` with dests that `begin` begins to connect; why one was refused.
fn with_begun(
    timeout_millis: u32,
    begin: impl Fn() -> RawFd + Send + 'static,
    visit: impl FnOnce(SocketAddr),
) -> Option<FailReason> {
    let memory: &'static Seaprox<2, 1> = Box::leak(Box::new(Seaprox::new()));
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
    let at = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let refusal = Refusal::default();
    let observer = refusal.clone();
    let worker = thread::spawn(move || {
        // On the worker's own thread: a ticket may be completed before it is waited for.
        let connect = |ticket, ()| {
            let outcome = Outcome::Connected(begin());
            memory.commons().complete(Linux, ticket, outcome).expect("a new ticket");
        };
        let table = memory.claim(1, 2).unwrap().next().unwrap();
        let listener = Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse);
        let dest = External::new(connect, timeout_millis);
        let options = Options::default();
        Worker::new(Linux, table, listener, dest, observer, options).unwrap().run().unwrap();
    });
    visit(at);
    memory.commons().order(Linux, Order::Drain);
    worker.join().unwrap();
    *refusal.0.lock().unwrap()
}

const LONG_MILLIS: u32 = 60_000;

#[test]
fn a_connect_that_is_under_way_is_waited_for() {
    let backend = Arc::new(Blackhole::new());
    let target = backend.address();
    let visit = |at| {
        let mut client = connect(at);
        client.write_all(b"early").unwrap();
        // The kernel asks again a second after the backend did not answer.
        let mut server = backend.open();
        assert_eq!(read_bytes(&server, 5), b"early");
        server.write_all(b"late").unwrap();
        end(&server);
        assert_rest(&mut client, b"late");
    };
    assert_eq!(with_begun(LONG_MILLIS, move || begun(target), visit), None);
}

#[test]
fn a_connect_that_comes_to_nothing_is_no_connection() {
    // Refused before anybody looks, and by one that was never told to connect.
    let nobody = vacant_address();
    let visit = |at| assert_refused(at, b"hello");
    let refused = with_begun(LONG_MILLIS, move || begun(nobody), visit);
    assert_eq!(refused, Some(FailReason::ConnectionRefused));
    let begin = move || Linux.socket(&Peer::Inet(nobody)).unwrap();
    assert_eq!(with_begun(LONG_MILLIS, begin, visit), Some(FailReason::Other));

    let backend = Blackhole::new();
    let target = backend.address();
    let refused = with_begun(
        LONG_MILLIS,
        move || begun(target),
        |at| {
            let mut client = connect(at);
            thread::sleep(Duration::from_millis(100));
            drop(backend);
            assert_ends(&mut client, End::Rst);
        },
    );
    assert_eq!(refused, Some(FailReason::ConnectionRefused));

    let backend = Blackhole::new();
    let target = backend.address();
    let visit = |at| assert_refused(at, b"hello");
    assert_eq!(with_begun(100, move || begun(target), visit), Some(FailReason::TimedOut));
}

/// A socket that is bound to the port it connects to meets itself.
#[test]
fn a_connect_that_reached_itself_is_refused() {
    let begin = move || {
        use nix::sys::socket::{SockaddrIn, bind};
        let target = vacant_address();
        let fd = Linux.socket(&Peer::Inet(target)).unwrap();
        let SocketAddr::V4(own) = target else { unreachable!("tests of their own are IPv4") };
        bind(fd, &SockaddrIn::from(own)).unwrap();
        assert!(matches!(Linux.connect(fd, &Peer::Inet(target)), Ok(()) | Err(Errno::INPROGRESS)));
        fd
    };
    let visit = |at| assert_refused(at, b"hello");
    assert_eq!(with_begun(LONG_MILLIS, begin, visit), Some(FailReason::ConnectionRefused));
}
