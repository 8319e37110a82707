//! SOCKS 5 in front of a dialer, over real sockets: what clients of all kinds get to hear, and that the
//! bytes behind a handshake are theirs, each once.

use seaprox::Seaprox;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::{Commons, Order};
use seaprox::sys::Linux;
use seaprox::worker::{Options, Worker};
use seaprox_socks5::{Passwords, Socks5};
use seaprox_tcp::resolver::{self, Resolver};
use seaprox_tcp::{Allow, AtEnd, DialOptions, Dialer, ListenOptions, Listener, Places, Services};
use seaprox_tests::bytes::pattern;
use seaprox_tests::peer::{
    Blackhole, End, accept, assert_echoes, assert_ends, assert_rest, connect, echo, end, listen,
    read_bytes, read_to_end, reset, send_pattern, serve, vacant_address,
};
use seaprox_tests::{PATIENCE, eventually};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const CONNECTIONS: usize = 8;

/// Nobody may connect here.
const FORBIDDEN_PORT: u16 = 25;

static RESOLVER: Resolver<16, CONNECTIONS> = Resolver::new();

#[derive(Clone, Copy)]
struct Alice(bool);

impl Passwords for Alice {
    fn asks(&self) -> bool {
        self.0
    }

    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        name == b"alice" && password == b"secret"
    }
}

struct Most;

impl Allow for Most {
    fn permits_name(&self, _: &str, port: u16) -> bool {
        port != FORBIDDEN_PORT
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        address.port() != FORBIDDEN_PORT
    }
}

/// A proxy on a thread of this process.
struct Proxy {
    address: SocketAddr,
    commons: Commons<'static>,
    worker: Option<JoinHandle<()>>,
}

impl Proxy {
    /// With patience for everybody, and no passwords.
    fn start() -> Proxy {
        Proxy::with(false, PATIENCE, PATIENCE)
    }

    fn with(passwords: bool, handshake: Duration, connect: Duration) -> Proxy {
        let memory = Box::leak(Box::new(Seaprox::<CONNECTIONS, 1>::new()));
        let table = memory.tables(1, CONNECTIONS).next().expect("one table for one thread");
        let commons = table.commons();
        let listener =
            seaprox_tcp::listen((Ipv4Addr::LOCALHOST, 0).into(), ListenOptions::default());
        let listener = listener.expect("it listens");
        let address = TcpListener::from(listener.try_clone().expect("one more descriptor"));
        let address = address.local_addr().expect("a listener has an address");
        let handshake_millis = handshake.as_millis() as u32;
        let connect_millis = connect.as_millis() as u32;
        let worker = thread::spawn(move || {
            let seat = || Seat::new(Socks5::<Alice>::VACANT);
            let mut seats: Vec<_> = (0..CONNECTIONS).map(|_| seat()).collect();
            let mut places = Places::new();
            let listener_of = Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse);
            let socks = Socks5(Alice(passwords));
            let source = Handshaking::new(socks, listener_of, &mut seats, handshake_millis);
            let chooser = Services::new(&[], Most, &mut places);
            let options = DialOptions { connect_millis, ..DialOptions::default() };
            let dest = Dialer::choosing(Linux, &[], chooser, &RESOLVER, options);
            let options = Options { proxy: "socks5", ..Options::default() };
            let mut worker = Worker::new(Linux, table, source, dest, (), options).expect("epoll");
            worker.run().expect("it turns");
            assert_eq!(worker.table().occupied(), 0);
        });
        Proxy { address, commons, worker: Some(worker) }
    }

    /// The same, where names can be looked up: once a process, as the mailboxes are one proxy's.
    fn with_names(passwords: bool) -> Proxy {
        let proxy = Proxy::with(passwords, PATIENCE, PATIENCE);
        let options = resolver::Options { threads: 1, prefer_ipv4: true, prepare: || {} };
        RESOLVER.start(proxy.commons, options).expect("threads");
        proxy
    }

    fn order(&self, order: Order) {
        self.commons.order(Linux, order);
    }

    fn occupied(&self) -> u32 {
        self.commons.shares()[0].occupied()
    }

    /// Waits for its end.
    fn join(mut self) {
        self.worker.take().expect("joined once").join().expect("the worker does not panic");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

const GREETING: [u8; 3] = [5, 1, 0];
const SUCCEEDED: [u8; 10] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fn failed(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

fn request(to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    [&[5, 1, 0, 1][..], &to.ip().octets(), &to.port().to_be_bytes()].concat()
}

fn name_request(name: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, name.len() as u8], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// A client that has said what it wants, and has been told that it has it.
#[track_caller]
fn through(proxy: &Proxy, to: SocketAddr) -> TcpStream {
    let mut stream = connect(proxy.address);
    stream.write_all(&GREETING).expect("it listens");
    assert_eq!(read_bytes(&stream, 2), [5, 0]);
    stream.write_all(&request(to)).expect("it listens");
    assert_eq!(read_bytes(&stream, 10), SUCCEEDED);
    stream
}

/// What a client is told that says all this at once, and how that ends.
#[track_caller]
fn told(proxy: &Proxy, said: &[u8]) -> (Vec<u8>, End) {
    let mut stream = connect(proxy.address);
    stream.write_all(said).expect("it listens");
    read_to_end(&mut stream)
}

#[test]
fn curl_goes_through() {
    let page = serve(|mut stream| {
        read_bytes(&stream, 4);
        let page = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(page).expect("curl reads");
        end(&stream);
        read_to_end(&mut stream);
    });
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", ""])
            .args(arguments)
            .output()
            .expect("curl cannot be run, install it");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let hello = (Some(0), "hello".to_owned());
    let (open, closed) = (Proxy::with_names(false), Proxy::with(true, PATIENCE, PATIENCE));
    let [at, guarded] = [&open, &closed].map(|proxy| proxy.address.to_string());
    let url = format!("http://{page}/");
    assert_eq!(curl(&["--socks5", &at, &url]), hello);
    assert_eq!(curl(&["--socks5-hostname", &at, &url]), hello);
    let (known, unknown) = (["-U", "alice:secret"], ["-U", "alice:guess"]);
    assert_eq!(curl(&[&known[..], &["--socks5", &guarded, &url]].concat()), hello);
    for refused in [&unknown[..], &[]] {
        // CURLE_PROXY (libcurl-errors(3)).
        let (code, said) = curl(&[refused, &["--socks5", &guarded, &url]].concat());
        assert_eq!((code, said.as_str()), (Some(97), ""));
    }
    // Looked up here.
    let at_name = listen_on_localhost();
    let url = format!("http://localhost:{}/", at_name.port());
    assert_eq!(curl(&["--socks5-hostname", &at, &url]), hello);
    let unknown = curl(&["--socks5-hostname", &at, "http://no-such-name.invalid/"]);
    assert_eq!(unknown.0, Some(97));
}

/// The same page at the address that `localhost` means.
fn listen_on_localhost() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a backend can listen");
    let address = listener.local_addr().expect("a listener has an address");
    seaprox_tests::peer::serve_on(listener, |mut stream| {
        read_bytes(&stream, 4);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").expect("curl reads");
        end(&stream);
        read_to_end(&mut stream);
    });
    address
}

#[test]
fn bytes_behind_a_handshake_are_exact_both_ways() {
    const BYTES: usize = 3_000_000;
    let proxy = Proxy::start();
    let backend = listen();
    let mut client = through(&proxy, backend.local_addr().unwrap());
    let mut dest = accept(&backend);
    let sending = [send_pattern(&client, 1, BYTES), send_pattern(&dest, 2, BYTES)];
    let up = thread::spawn(move || {
        assert_rest(&mut dest, &pattern(1, BYTES));
    });
    assert_rest(&mut client, &pattern(2, BYTES));
    up.join().unwrap();
    sending.into_iter().for_each(|sent| sent.join().unwrap());
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let proxy = Proxy::start();
    let backend = serve(echo);
    let mut stream = connect(proxy.address);
    stream.set_nodelay(true).unwrap();
    let said = [&GREETING[..], &request(backend)].concat();
    for byte in said {
        stream.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(read_bytes(&stream, 12), [&[5, 0][..], &SUCCEEDED].concat());
    assert_echoes(&mut stream, b"and then bytes");
}

/// What is said behind the request is for the dest: all of it, first, once, before what comes later,
/// and with its end.
#[test]
fn early_bytes_come_first() {
    let proxy = Proxy::start();
    for early_bytes in [1, 100, 500, 507, 508, 600, 5000, 200_000] {
        for ends in [false, true] {
            let backend = listen();
            let all = pattern(early_bytes as u64, early_bytes + 70_000);
            let (early, later) = all.split_at(early_bytes);
            let hello = [&GREETING[..], &request(backend.local_addr().unwrap()), early].concat();
            let mut client = connect(proxy.address);
            let mut writer = client.try_clone().unwrap();
            let later = if ends { Vec::new() } else { later.to_vec() };
            let expected = [early, &later].concat();
            let writing = thread::spawn(move || {
                writer.write_all(&hello).unwrap();
                writer.write_all(&later).unwrap();
                end(&writer);
            });
            let mut dest = accept(&backend);
            assert_rest(&mut dest, &expected);
            dest.write_all(b"thanks").unwrap();
            end(&dest);
            let answer = [&[5, 0][..], &SUCCEEDED, b"thanks"].concat();
            assert_rest(&mut client, &answer);
            writing.join().unwrap();
        }
    }
}

#[test]
fn a_dest_that_speaks_first_is_heard_behind_the_answer() {
    let proxy = Proxy::start();
    let banner = serve(|mut stream| {
        let _ = stream.write_all(b"220 ready");
    });
    for _ in 0..50 {
        let hello = [&GREETING[..], &request(banner)].concat();
        let (bytes, ended) = told(&proxy, &hello);
        assert_eq!((bytes, ended), ([&[5, 0][..], &SUCCEEDED, b"220 ready"].concat(), End::Fin));
    }
}

/// A refusal is heard whole, with an end in order, whatever the client has said behind it.
#[test]
fn a_refusal_has_its_reason() {
    let proxy = Proxy::with(false, PATIENCE, Duration::from_millis(300));
    let hole = Blackhole::new();
    let forbidden: SocketAddr = (Ipv4Addr::LOCALHOST, FORBIDDEN_PORT).into();
    let mut bind = request(vacant_address());
    bind[1] = 2;
    let mut associate = request(vacant_address());
    associate[1] = 3;
    for (asked, code) in [
        (request(vacant_address()), 5),
        (request(forbidden), 2),
        (name_request("example.org", FORBIDDEN_PORT), 2),
        (name_request(&"n".repeat(255), 80), 2),
        (request(hole.address()), 6),
        (request("255.255.255.255:9".parse().unwrap()), 3),
        (request("127.0.0.1:0".parse().unwrap()), 2),
        (bind, 7),
        (associate, 7),
        (vec![5, 1, 0, 9, 1, 2, 3, 4, 0, 80], 8),
        (vec![5, 1, 0, 3, 0, 0, 80], 1),
    ] {
        for beyond in [0, 100_000] {
            let said = [&GREETING[..], &asked, &vec![b'x'; beyond]].concat();
            let expected = [&[5, 0][..], &failed(code)].concat();
            assert_eq!(told(&proxy, &said), (expected, End::Fin), "{asked:?} and {beyond} bytes");
        }
    }
    eventually("refused clients leave the table", || proxy.occupied() == 0);
}

#[test]
fn who_does_not_speak_socks_is_reset() {
    let proxy = Proxy::start();
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 1, 2, 3, 4, 0], &[0; 600]] {
        assert_eq!(told(&proxy, said), (Vec::new(), End::Rst));
    }
    assert_eq!(told(&proxy, &[5, 1, 2]), (vec![5, 255], End::Fin));
}

/// Clients that never say what they want take the table for the time they are given, and no longer;
/// whoever leaves before costs nothing.
#[test]
fn who_does_not_finish_is_given_up() {
    let proxy = Proxy::with(false, Duration::from_millis(1500), PATIENCE);
    let backend = serve(echo);
    let mut slow: Vec<_> = (0..CONNECTIONS).map(|_| connect(proxy.address)).collect();
    eventually("the table is full", || proxy.occupied() as usize == CONNECTIONS);
    let dripping = thread::spawn(move || {
        let said = [&GREETING[..], &request(vacant_address())[..6]].concat();
        for byte in said {
            // Some may be given up already.
            slow.iter_mut().for_each(|stream| drop(stream.write_all(&[byte])));
            thread::sleep(Duration::from_millis(100));
        }
        // What they were told, in time: a refusal, as they were half through.
        for stream in &mut slow {
            let (bytes, _) = read_to_end(stream);
            assert!(bytes == [5, 0] || bytes == [&[5, 0][..], &failed(6)].concat(), "{bytes:?}");
        }
    });
    let mut client = through(&proxy, backend);
    assert_echoes(&mut client, b"there is room again");
    dripping.join().unwrap();
    for leaves in [end as fn(&TcpStream), |stream| reset(stream.try_clone().unwrap())] {
        let mut stream = connect(proxy.address);
        stream.write_all(&GREETING[..2]).unwrap();
        eventually("it is there", || proxy.occupied() == 2);
        leaves(&stream);
        drop(stream);
        eventually("it is gone", || proxy.occupied() == 1);
    }
}

/// Who says nothing at all was told nothing, and is reset.
#[test]
fn silence_ends_in_a_reset() {
    let proxy = Proxy::with(false, Duration::from_millis(50), PATIENCE);
    assert_ends(&mut connect(proxy.address), End::Rst);
}

/// A drain lets handshakes that have begun come to their end, and what they lead to.
#[test]
fn a_drain_waits_for_handshakes() {
    let proxy = Proxy::start();
    let backend = serve(echo);
    let mut stream = connect(proxy.address);
    stream.write_all(&GREETING).unwrap();
    assert_eq!(read_bytes(&stream, 2), [5, 0]);
    proxy.order(Order::Drain);
    eventually("nobody listens any more", || TcpStream::connect(proxy.address).is_err());
    stream.write_all(&request(backend)).unwrap();
    assert_eq!(read_bytes(&stream, 10), SUCCEEDED);
    assert_echoes(&mut stream, b"still there");
    drop(stream);
    proxy.join();
}

/// A stop resets who is still saying what it wants, and who is being told that it has nothing.
#[test]
fn a_stop_waits_for_nobody() {
    let proxy = Proxy::start();
    let mut asking = connect(proxy.address);
    asking.write_all(&GREETING).unwrap();
    assert_eq!(read_bytes(&asking, 2), [5, 0]);
    let mut refused = connect(proxy.address);
    refused.write_all(&[&GREETING[..], &request(vacant_address())].concat()).unwrap();
    assert_eq!(read_bytes(&refused, 12), [&[5, 0][..], &failed(5)].concat());
    eventually("both are there", || proxy.occupied() == 2);
    proxy.order(Order::Stop);
    assert_ends(&mut asking, End::Rst);
    proxy.join();
}
