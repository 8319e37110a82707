//! The peers on both sides of the proxy, and how a stream ends.

use crate::bytes::{Numbers, assert_same, pattern};
use crate::{PATIENCE, eventually};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, sockopt,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener,
    TcpStream,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A loopback address that no other test process uses.
pub fn own_ip() -> Ipv4Addr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (a & 0x3f), b, c)
}

/// An address that nobody listens on, and that the kernel gives to nobody.
pub fn vacant_address() -> SocketAddr {
    (own_ip(), vacant_port()).into()
}

/// A port that nobody listens on at any address, and that the kernel gives to nobody.
pub fn vacant_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test processes that run at the same time have numbers close to each other.
        let next = std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (next % 20_000) as u16;
        if is_vacant(port) {
            return port;
        }
    }
}

/// Bound, never listening: a process that another test starts at this moment has a copy of the
/// socket until it runs its program, and a copy of a listener would keep the port.
fn is_vacant(port: u16) -> bool {
    let (family, kind) = (AddressFamily::Inet6, SockType::Stream);
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    // As every listener here does (socket(7)): then only one that listens is in the way.
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true).expect("it takes options");
    let everywhere = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    socket::bind(fd.as_raw_fd(), &everywhere).is_ok()
}

/// Listens on a loopback address of this process.
pub fn listen() -> TcpListener {
    TcpListener::bind((own_ip(), 0)).expect("a backend can listen")
}

/// A backend that answers nobody: its backlog is full, so the kernel drops what asks.
pub struct Blackhole {
    listener: TcpListener,
    fillers: Vec<TcpStream>,
}

impl Blackhole {
    /// Listens, and fills its own backlog.
    pub fn new() -> Self {
        let listener = listen();
        set_backlog(&listener, 0);
        let address = listener.local_addr().expect("a listener has an address");
        let mut fillers = Vec::new();
        while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            fillers.push(filler);
            assert!(fillers.len() < 10, "the backlog never fills");
        }
        Blackhole { listener, fillers }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }

    /// Makes room in its backlog, and takes the next client that is none of its own.
    pub fn open(&self) -> TcpStream {
        let own: Vec<_> =
            self.fillers.iter().filter_map(|stream| stream.local_addr().ok()).collect();
        loop {
            let stream = accept(&self.listener);
            let peer = stream.peer_addr().expect("it is connected");
            if !own.contains(&peer) {
                return stream;
            }
        }
    }
}

impl Default for Blackhole {
    fn default() -> Self {
        Self::new()
    }
}

fn set_backlog(listener: &TcpListener, clients: i32) {
    let backlog = Backlog::new(clients).expect("a backlog the kernel knows");
    socket::listen(listener, backlog).expect("the backlog can be changed");
}

/// Takes the next client.
///
/// # Panics
/// None comes.
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    accept_within(listener, PATIENCE).expect("nobody came to the backend")
}

/// Takes the next client, if one comes in time.
pub fn accept_within(listener: &TcpListener, patience: Duration) -> Option<TcpStream> {
    listener.set_nonblocking(true).expect("a listener can be made non-blocking");
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a stream can be made blocking");
                return Some(patient(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("accept: {error}"),
        }
        if start.elapsed() > patience {
            return None;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// A stream that fails rather than wait for ever.
pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// Connects directly.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, PATIENCE).expect("it listens"))
}

/// Connects, says `words` and expects a reset and nothing else, which may come before the connect
/// has returned.
///
/// # Panics
/// It gets something else.
#[track_caller]
pub fn assert_refused(address: SocketAddr, words: &[u8]) {
    match TcpStream::connect(address) {
        Ok(stream) => {
            let mut stream = patient(stream);
            // A write tells of a reset that came before it, and then no read does.
            if stream.write_all(words).is_ok() {
                assert_ends(&mut stream, End::Rst);
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Connects from the next free port from `first` on.
///
/// # Panics
/// There is none, or nobody listens.
pub fn connect_from(first: u16, address: SocketAddrV4) -> TcpStream {
    for port in first..first + 1000 {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None);
        let fd = fd.expect("there are sockets");
        let own = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        if socket::bind(fd.as_raw_fd(), &own).is_ok()
            && socket::connect(fd.as_raw_fd(), &SockaddrIn::from(address)).is_ok()
        {
            return patient(TcpStream::from(fd));
        }
    }
    panic!("cannot connect from port {first} or above")
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Fin,
    /// By a reset.
    Rst,
}

/// Reads until the end.
///
/// # Panics
/// There is none in time.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, End::Fin),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Rst),
            Err(error) => panic!("no end after {} bytes: {error}", bytes.len()),
        }
    }
}

/// Reads so many bytes.
#[track_caller]
pub fn read_bytes(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("more bytes");
    bytes
}

/// # Panics
/// The stream does not end at once in this way.
#[track_caller]
pub fn assert_ends(stream: &mut TcpStream, end: End) {
    let (bytes, ended) = read_to_end(stream);
    assert_eq!((bytes.len(), ended), (0, end), "bytes, and the end");
}

/// # Panics
/// The stream does not give exactly these bytes and then end in order.
#[track_caller]
pub fn assert_rest(stream: &mut TcpStream, expected: &[u8]) {
    let (bytes, end) = read_to_end(stream);
    assert_same(&bytes, expected, "the rest");
    assert_eq!(end, End::Fin);
}

/// Closes with an RST; what the kernel has not sent yet is lost.
pub fn reset(stream: TcpStream) {
    linger(&stream, 0);
}

/// How many seconds a close waits for what was not sent yet (SO_LINGER); 0 is a reset.
pub fn linger(stream: &TcpStream, seconds: i32) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: seconds };
    socket::setsockopt(stream, sockopt::Linger, &linger).expect("a socket can linger");
}

/// Ends this direction in order.
pub fn end(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("an open stream can be ended");
}

/// Sends one byte of urgent data.
pub fn send_urgent(stream: &TcpStream, byte: u8) {
    let send = || socket::send(stream.as_raw_fd(), &[byte], MsgFlags::MSG_OOB);
    eventually("the urgent byte is taken", || send() == Ok(1));
}

/// Waits until the peer's kernel has acknowledged everything, FIN included.
pub fn wait_acknowledged(stream: &TcpStream) {
    let local = stream.local_addr().expect("a stream has an address").port();
    let remote = stream.peer_addr().expect("a connected stream has a peer").port();
    eventually("everything is acknowledged", || unacknowledged(local, remote) == Some(0));
}

/// Bytes a socket has sent that are not acknowledged (tx_queue of /proc/net/tcp).
fn unacknowledged(local_port: u16, remote_port: u16) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").ok()?;
    let ends_with = |word: Option<&str>, port: u16| {
        word.is_some_and(|word| word.ends_with(&format!(":{port:04X}")))
    };
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        if !ends_with(words.next(), local_port) || !ends_with(words.next(), remote_port) {
            return None;
        }
        let queues = words.nth(1)?;
        u64::from_str_radix(queues.split_once(':')?.0, 16).ok()
    })
}

/// Sends until the kernel takes nothing more for a while; gives how much it took.
pub fn fill(stream: &TcpStream, seed: u64) -> usize {
    const BYTES_MAX: usize = 256 * 1024 * 1024;
    let mut bytes = pattern(seed, BYTES_MAX / 64);
    let mut sent = 0;
    let mut stalled = 0;
    while stalled < 20 {
        if sent == bytes.len() {
            bytes = pattern(seed, bytes.len() * 2);
        }
        match socket::send(stream.as_raw_fd(), &bytes[sent..], MsgFlags::MSG_DONTWAIT) {
            Ok(count) => (sent, stalled) = (sent + count, 0),
            Err(Errno::EAGAIN) => {
                stalled += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("send: {error}"),
        }
        assert!(sent < BYTES_MAX, "nothing ever bounds what the proxy takes");
    }
    sent
}

/// Fills a pipe until it takes nothing more; it is non-blocking for that time only.
pub fn fill_pipe(writer: &OwnedFd) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set = |flags| fcntl(writer, FcntlArg::F_SETFL(flags)).expect("a pipe has flags");
    set(OFlag::O_NONBLOCK);
    while nix::unistd::write(writer, &[b'.'; 4096]).is_ok() {}
    while nix::unistd::write(writer, b".").is_ok() {}
    set(OFlag::empty());
}

/// Sends a stream in chunks of random sizes.
#[track_caller]
pub fn send_in_chunks(stream: &mut TcpStream, bytes: &[u8], seed: u64) {
    let mut numbers = Numbers::new(seed);
    let mut rest = bytes;
    while !rest.is_empty() {
        // Many small, some large.
        let most = 1 << (4 + numbers.below(15));
        let (chunk, after) = rest.split_at((1 + numbers.below(most)).min(rest.len()));
        stream.write_all(chunk).expect("the proxy takes the bytes");
        rest = after;
    }
}

/// Sends the stream called `seed` on a thread of its own, and ends the direction.
pub fn send_pattern(stream: &TcpStream, seed: u64, length: usize) -> JoinHandle<()> {
    let mut stream = stream.try_clone().expect("a stream can be cloned");
    thread::spawn(move || {
        send_in_chunks(&mut stream, &pattern(seed, length), seed);
        end(&stream);
    })
}

/// Serves each client on a thread of its own, until the process ends.
pub fn serve<F>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    let listener = listen();
    let address = listener.local_addr().expect("a listener has an address");
    serve_on(listener, serve);
    address
}

/// The same on a listener of yours.
pub fn serve_on<F>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    let serve = std::sync::Arc::new(serve);
    // Somebody may have taken clients from it before, with patience.
    listener.set_nonblocking(false).expect("a listener can be made blocking");
    set_backlog(&listener, 4096);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            let stream = patient(stream.expect("a client can be taken"));
            let small = thread::Builder::new().stack_size(128 * 1024);
            small.spawn(move || serve(stream)).expect("a thread for a client");
        }
    });
}

/// Sends back what comes, until it ends.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// # Panics
/// What is sent does not come back.
#[track_caller]
pub fn assert_echoes(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("the proxy takes the bytes");
    let echoed = read_bytes(stream, message.len());
    assert_same(&echoed, message, "the echo");
}

/// The loopback address of either family.
pub fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}
