//! A worker in a loop of the embedder's, which waits for something else as well; and the embedder's
//! own words on its connections.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use seaprox::Seaprox;
use seaprox::fail::FailReason;
use seaprox::share::Order;
use seaprox::side::{SideKey, SideState};
use seaprox::sys::Linux;
use seaprox::transport::{Notice, Observer};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, DialOptions, Dialer, ListenOptions, Listener, Target, listen};
use seaprox_tests::peer::{End, accept, assert_ends, assert_rest, connect, end};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

/// What the observer is told of the embedder's words.
#[derive(Default)]
struct Told(RefCell<Vec<([u64; 2], Option<FailReason>)>>);

impl Observer for &Told {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Closed { data, reason, .. } => self.0.borrow_mut().push((data, reason)),
            Notice::Refused { data, reason, .. } => self.0.borrow_mut().push((data, Some(reason))),
            _ => {}
        }
    }
}

/// What the loop is asked to do beside the worker's business.
const MARK: u8 = 1;
const DRAIN: u8 = 2;

const WORDS: [u64; 2] = [7, u64::MAX];
const IDLE_MILLIS: u32 = 2000;

/// One client is served, its connection marked, and it ends in order; another falls asleep.
#[test]
fn a_loop_of_the_embedders_turns_the_worker() {
    let mut memory = Seaprox::<4, 1>::new();
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let targets = [Target::Inet(backend.local_addr().unwrap())];
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
    let at = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let table = memory.tables(1, 4).next().unwrap();
    let told = Told::default();
    let mut worker = Worker::new(
        Linux,
        table,
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        Dialer::new(Linux, &targets, NoNames, DialOptions::default()),
        &told,
        Options { idle_millis: Some(IDLE_MILLIS), ..Options::default() },
    )
    .unwrap();
    assert_eq!(worker.timeout(), Some(0), "whether connections are wanted was not said yet");
    assert!(!worker.set_data(SideKey::source(0), 1), "nobody is there");
    assert!(!worker.set_data(SideKey::source(4), 1), "nor can be");

    let (mut asking, mut asked) = UnixStream::pair().unwrap();
    let peers = thread::spawn(move || {
        let mut client = connect(at);
        let mut server = accept(&backend);
        client.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).unwrap();
        asking.write_all(&[MARK]).unwrap();
        asking.read_exact(&mut [0]).unwrap();
        end(&client);
        assert_ends(&mut server, End::Fin);
        server.write_all(b"bye").unwrap();
        end(&server);
        assert_rest(&mut client, b"bye");

        let mut sleeper = connect(at);
        let _other = accept(&backend);
        assert_ends(&mut sleeper, End::Rst);
        asking.write_all(&[DRAIN]).unwrap();
    });

    // A turn that may not wait does not: the loop below would be stuck in it.
    let mut goes_on = true;
    while goes_on {
        let limit = worker.timeout().map_or(PollTimeout::MAX, |millis| {
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        // SAFETY: it is the worker's, which lives longer than this loop.
        #[allow(unsafe_code)]
        let epoll = unsafe { BorrowedFd::borrow_raw(worker.fd()) };
        let mut fds = [epoll, asked.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut fds, limit).unwrap();
        if fds[1].any() == Some(true) {
            let mut what = [0];
            asked.read_exact(&mut what).unwrap();
            match what[0] {
                MARK => {
                    let [source, dest] = [SideKey::source(0), SideKey::dest(0)];
                    assert!(worker.set_data(source, WORDS[0]) && worker.set_data(dest, WORDS[1]));
                    let side = worker.table().side(dest);
                    assert_eq!((side.data, side.state()), (WORDS[1], SideState::Connected));
                    assert!(worker.table().holds(0) && !worker.table().holds(1));
                    asked.write_all(&[MARK]).unwrap();
                }
                _ => worker.table().commons().order(Linux, Order::Drain),
            }
        }
        goes_on = worker.turn_within(Some(0)).unwrap();
    }
    peers.join().unwrap();
    let told = told.0.borrow();
    assert_eq!(*told, [(WORDS, None), ([0; 2], Some(FailReason::Idle))]);
    assert!(!worker.table().holds(0) && worker.table().side(SideKey::source(0)).data == 0);
}

/// A turn with a limit ends when that has passed, although nothing happened.
#[test]
fn a_turn_waits_no_longer_than_it_may() {
    let mut memory = Seaprox::<1, 1>::new();
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default()).unwrap();
    let at = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let targets = [Target::Inet(at)];
    let mut worker = Worker::new(
        Linux,
        memory.tables(1, 1).next().unwrap(),
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        Dialer::new(Linux, &targets, NoNames, DialOptions::default()),
        (),
        Options::default(),
    )
    .unwrap();
    let settled = (0..10).any(|_| {
        assert!(worker.turn_within(Some(0)).unwrap());
        worker.timeout().is_none()
    });
    assert!(settled, "something is always due");
    let began = std::time::Instant::now();
    assert!(worker.turn_within(Some(30)).unwrap(), "without a limit it would not end");
    assert!(began.elapsed() >= Duration::from_millis(29), "it did wait");
}
