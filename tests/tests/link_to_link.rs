//! From a link to a link: an ingress and an egress of the program, and between them a worker put
//! together from the libraries, whose source is links and whose dest is a link.

use seaprox::Seaprox;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::share::{Commons, Order};
use seaprox::sys::{Errno, Linux, OwnedFd, RawFd};
use seaprox::transport::{Notice, Observer};
use seaprox::wanted::Wish;
use seaprox::worker::{self, Worker};
use seaprox_proto::dest::{Begun, Connect, DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::{Accept, LinkSource};
use seaprox_sctp::{Options, Seqpacket, Socket};
use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::eventually;
use seaprox_tests::peer::{
    End, accept, assert_ends, assert_refused, assert_rest, connect, echo, end, listen, read_bytes,
    read_to_end, reset, serve, vacant_address,
};
use seaprox_tests::program::program;
use std::fmt::Display;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Channels of a link.
const CHANNELS: usize = 64;

/// Connections the middle can have.
const CONNECTIONS: usize = 48;

/// The end of a link in the program.
struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Program {
    fn start(arguments: &[&dyn Display]) -> Program {
        let mut command = Command::new(program());
        command.args(arguments.iter().map(ToString::to_string));
        // The middle has sockets of its own, without keys.
        command.args(["--insecure", "--threads", "1", "--log-connections"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let mut pipe = child.stderr.take().expect("stderr is a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                heard.lock().expect("no holder panics").push_str(&text);
            }
        });
        Program { child, said }
    }

    fn says(&self, words: &str) -> bool {
        self.said.lock().expect("no holder panics").contains(words)
    }

    fn wait_says(&self, words: &str) {
        eventually(words, || self.says(words));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.said.lock().expect("no holder panics"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const OPTIONS: Options = Options::new(CHANNELS as u16);

struct To(String);

impl Connect for To {
    type Carrier = Seqpacket;

    fn begin(&mut self) -> Begun<Seqpacket> {
        match Seqpacket::connect(self.0.as_bytes(), &OPTIONS) {
            Ok(carrier) => Begun::Carrier(carrier),
            Err(_) => Begun::Failed(FailReason::ConnectionRefused),
        }
    }

    fn finish(&mut self, carrier: &mut Seqpacket) -> Result<bool, FailReason> {
        carrier.finish_connect().map(|()| true).map_err(|_| FailReason::ConnectionRefused)
    }

    fn peer(&self) -> Address {
        Address::UNIX
    }
}

struct From(OwnedFd);

impl Accept for From {
    type Carrier = Seqpacket;

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn accept(&mut self, _: Option<FailReason>) -> Result<(Seqpacket, Address), Errno> {
        Seqpacket::accept(&self.0)
    }

    fn end(&mut self) {
        Seqpacket::stop_listening(&self.0);
    }
}

/// What the middle tells.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Notice>>>);

impl Notes {
    fn count(&self, counts: impl Fn(&Notice) -> bool) -> usize {
        self.0.lock().expect("no holder panics").iter().filter(|notice| counts(notice)).count()
    }

    fn links_up(&self) -> usize {
        self.count(|notice| matches!(notice, Notice::LinkUp { .. }))
    }

    fn over(&self) -> usize {
        self.count(|notice| matches!(notice, Notice::Closed { .. } | Notice::Refused { .. }))
    }
}

impl Observer for Notes {
    fn notice(&mut self, notice: Notice) {
        self.0.lock().expect("no holder panics").push(notice);
    }
}

/// The worker between the two links.
struct Middle {
    commons: Commons<'static>,
    notes: Notes,
    thread: Option<JoinHandle<()>>,
}

impl Middle {
    fn start(at: &str, to: &str) -> Middle {
        let table: &'static Seaprox<CONNECTIONS, 1> = Box::leak(Box::new(Seaprox::new()));
        let tables = table.claim(1, CONNECTIONS).expect("claimed for the first time");
        let commons = table.commons();
        let notes = Notes::default();
        let (observer, to) = (notes.clone(), To(to.to_string()));
        let listener = Seqpacket::listen(at.as_bytes(), &OPTIONS).expect("a vacant name");
        let thread = thread::Builder::new().stack_size(64 << 20).spawn(move || {
            let mut sources = [LinkMemory::<CHANNELS, 1200>::new()];
            let mut dest = LinkMemory::<CHANNELS, 1200>::new();
            let mut wishes = [Wish::DEFAULT; CONNECTIONS];
            let config = |role, peer_channels_max| Config {
                role,
                peer_channels_max,
                idle_millis: 15_000,
                opens_per_second_max: 10_000,
                first_offset: 0,
            };
            let acceptor = config(Role::Acceptor, CHANNELS as u16);
            let source = LinkSource::new(From(listener), &mut sources, acceptor);
            let options = DestOptions {
                wanted: Wish::DEFAULT,
                wait_millis: 10_000,
                connect_millis: 3000,
                seed: 1,
            };
            let dest =
                LinkDest::new(dest.link(0, config(Role::Initiator, 0)), to, &mut wishes, options);
            let options = worker::Options { proxy: "between", ..worker::Options::default() };
            let table = { tables }.next().expect("one thread's table");
            let worker = Worker::new(Linux, table, source, dest, observer, options);
            worker.expect("an epoll").run().expect("the kernel lets it wait");
        });
        Middle { commons, notes, thread: Some(thread.expect("a thread")) }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.commons.order(Linux, Order::Stop);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "it panicked");
    }
}

/// A client's way to the targets: ingress, middle, egress.
struct Way {
    ingress: Program,
    middle: Middle,
    egress: Option<Program>,
    address: SocketAddr,
    far: String,
}

impl Way {
    fn new(ask: &[&dyn Display], offer: &[&dyn Display]) -> Way {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |which| format!("@seaprox-between-{}-{number}-{which}", std::process::id());
        let (near, far) = (name("near"), name("far"));
        let egress = Way::egress(&far, offer);
        let middle = Middle::start(&near, &far);
        eventually("the egress is linked", || middle.notes.links_up() == 1);
        let address = vacant_address();
        let link = format!("seqpacket:{near}");
        let mut arguments: Vec<&dyn Display> = vec![&"ingress", &address, &link];
        arguments.extend(ask);
        let ingress = Program::start(&arguments);
        ingress.wait_says("link up");
        Way { ingress, middle, egress: Some(egress), address, far }
    }

    fn egress(at: &str, offer: &[&dyn Display]) -> Program {
        let link = format!("seqpacket:{at}");
        let mut arguments: Vec<&dyn Display> = vec![&"egress", &link];
        arguments.extend(offer);
        let egress = Program::start(&arguments);
        egress.wait_says("listening");
        egress
    }
}

#[test]
fn bytes_and_half_closes_go_through_both_links() {
    let backend = listen();
    let way = Way::new(&[], &[&backend.local_addr().unwrap()]);
    let length = 3_000_000;
    thread::scope(|scope| {
        for seed in 0..8 {
            let (backend, way) = (&backend, &way);
            // One after the other, so that each is known by what it says first.
            let mut client = connect(way.address);
            client.write_all(&[seed]).unwrap();
            let mut server = accept(backend);
            assert_eq!(read_bytes(&server, 1), [seed]);
            scope.spawn(move || {
                let (up, down) = [u64::from(seed), 1000 + u64::from(seed)]
                    .map(|seed| pattern(seed, length))
                    .into();
                thread::scope(|scope| {
                    // Both ways at once.
                    scope.spawn(|| (&client).write_all(&up).unwrap());
                    scope.spawn(|| (&server).write_all(&down).unwrap());
                    scope.spawn(|| {
                        assert_same(&read_bytes(&server, length), &up, "what the client said");
                    });
                    assert_same(&read_bytes(&client, length), &down, "what the server said");
                });
                end(&client);
                assert_ends(&mut server, End::Fin);
                // The client has ended, and the server has not.
                server.write_all(b"the last word").unwrap();
                end(&server);
                assert_rest(&mut client, b"the last word");
            });
        }
    });
    eventually("all are over", || way.middle.notes.over() == 8);
}

#[test]
fn resets_go_through_both_links_either_way() {
    let backend = listen();
    let way = Way::new(&[], &[&backend.local_addr().unwrap()]);
    for by_client in [true, false] {
        let client = connect(way.address);
        (&client).write_all(b"hello").unwrap();
        let server = accept(&backend);
        assert_eq!(read_bytes(&server, 5), b"hello");
        (&server).write_all(b"good day").unwrap();
        assert_eq!(read_bytes(&client, 8), b"good day");
        let (one, mut other) = if by_client { (client, server) } else { (server, client) };
        reset(one);
        assert_ends(&mut other, End::Rst);
    }
    eventually("both are over", || way.middle.notes.over() == 2);
    let reset =
        |notice: &Notice| matches!(notice, Notice::Closed { reason: Some(FailReason::Reset), .. });
    assert_eq!(way.middle.notes.count(reset), 2);
}

#[test]
fn why_a_target_is_not_reached_is_known_at_the_first_ingress() {
    let nobody = vacant_address();
    let way = Way::new(&[&"--service", &"web"], &[&"--service", &format!("web={nobody}")]);
    assert_refused(way.address, b"");
    way.ingress.wait_says("connection-refused");
    let way = Way::new(&[&"--service", &"shop"], &[&"--service", &format!("web={nobody}")]);
    assert_refused(way.address, b"");
    way.ingress.wait_says("no-such-service");
    let way = Way::new(&[&"--to", &nobody], &[&"--service", &format!("web={nobody}")]);
    assert_refused(way.address, b"");
    way.ingress.wait_says("denied");
}

#[test]
fn a_target_that_the_ingress_names_is_named_to_the_egress() {
    let to = serve(echo);
    let way = Way::new(&[&"--to", &to], &[&"--allow", &"127.0.0.0/8:*"]);
    let mut client = connect(way.address);
    client.write_all(b"over two links").unwrap();
    end(&client);
    assert_rest(&mut client, b"over two links");
}

#[test]
fn the_far_link_dies_and_comes_back() {
    let to = serve(echo);
    let mut way = Way::new(&[], &[&to]);
    let mut clients: Vec<_> = (0..20).map(|_| connect(way.address)).collect();
    for client in &mut clients {
        client.write_all(b"before").unwrap();
        assert_eq!(read_bytes(client, 6), b"before");
    }
    drop(way.egress.take());
    for client in &mut clients {
        assert_eq!(read_to_end(client), (Vec::new(), End::Rst));
    }
    eventually("all are over", || way.middle.notes.over() == clients.len());
    way.egress = Some(Way::egress(&way.far, &[&to]));
    // The ingress's, the egress's, and the egress's again.
    eventually("the egress is linked again", || way.middle.notes.links_up() == 3);
    let mut client = connect(way.address);
    client.write_all(b"after").unwrap();
    end(&client);
    assert_rest(&mut client, b"after");
}

#[test]
fn the_near_link_dies_and_the_targets_are_reset() {
    let backend = listen();
    let way = Way::new(&[], &[&backend.local_addr().unwrap()]);
    let clients: Vec<_> = (0..20).map(|_| connect(way.address)).collect();
    let mut servers: Vec<_> = clients.iter().map(|_| accept(&backend)).collect();
    let Way { ingress, middle, egress, .. } = way;
    drop(ingress);
    for server in &mut servers {
        assert_ends(server, End::Rst);
    }
    eventually("all are over", || middle.notes.over() == clients.len());
    drop(egress);
}

#[test]
fn more_clients_than_the_middle_has_room_for_are_reset() {
    let backend = listen();
    let way = Way::new(&[], &[&backend.local_addr().unwrap()]);
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(way.address)).collect();
    let servers: Vec<_> = clients.iter().map(|_| accept(&backend)).collect();
    assert_refused(way.address, b"");
    way.ingress.wait_says("table-full");
    drop(clients);
    for mut server in servers {
        assert_ends(&mut server, End::Fin);
    }
    // There is room again.
    eventually("all are over", || way.middle.notes.over() == CONNECTIONS + 1);
    let client = connect(way.address);
    (&client).write_all(b"room").unwrap();
    assert_eq!(read_bytes(&accept(&backend), 4), b"room");
}
