//! What a turn of the real worker costs over real sockets of this machine: one message through, from
//! the client's write to the backend's read. Only the worker's turns are timed, not what the two
//! ends do.
//!
//! ```text
//! cargo bench -p seaprox-benches --bench relay
//! ```

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seaprox::Seaprox;
use seaprox::sys::{Linux, OwnedFd};
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, DialOptions, Dialer, ListenOptions, Listener, Target};
use std::hint::black_box;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

static OVER_TCP: Seaprox<64, 1> = Seaprox::new();
static OVER_UNIX: Seaprox<64, 1> = Seaprox::new();

/// A small message, and the largest that one read takes.
const MESSAGE_BYTES: [usize; 2] = [64, 64 * 1024];

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// One end of the relayed connection; non-blocking.
type End = Box<dyn Stream>;

/// A worker, and the sockets around it.
struct Relayed<'t> {
    worker: Worker<'static, Linux, Listener<Linux>, Dialer<'t, Linux, NoNames>, ()>,
    client: End,
    backend: End,
    /// What is written, and what is read into.
    message: Vec<u8>,
    read: Vec<u8>,
    _listener: OwnedFd,
}

impl<'t> Relayed<'t> {
    /// Relays one connection from `connect` to whatever `accept` gives, which may be nothing yet.
    fn new(
        memory: &'static Seaprox<64, 1>,
        listener: OwnedFd,
        targets: &'t [Target<'t>],
        connect: impl FnOnce() -> End,
        accept: impl Fn() -> Option<End>,
    ) -> Self {
        let table = memory.claim(1, 64).and_then(|mut tables| tables.next()).expect("claimed once");
        let source = Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse);
        let dest = Dialer::new(Linux, targets, NoNames, DialOptions::default());
        let mut worker = Worker::new(Linux, table, source, dest, (), Options::default())
            .expect("an epoll and an eventfd");
        let client = connect();
        let backend = loop {
            worker.turn().expect("the kernel waits");
            if let Some(backend) = accept() {
                break backend;
            }
        };
        let bytes_max = MESSAGE_BYTES[1];
        Relayed {
            worker,
            client,
            backend,
            message: vec![b'x'; bytes_max],
            read: vec![0; bytes_max],
            _listener: listener,
        }
    }

    /// Sends one message through; gives how long the worker was at it.
    fn relay(&mut self, bytes: usize) -> Duration {
        let (mut written, mut arrived) = (0, 0);
        let mut worked = Duration::ZERO;
        while arrived < bytes {
            written += moved(self.client.write(&self.message[written..bytes]));
            let start = Instant::now();
            self.worker.turn().expect("the kernel waits");
            worked += start.elapsed();
            arrived += moved(self.backend.read(&mut self.read));
        }
        black_box(&self.read);
        worked
    }
}

/// How many bytes a call moved: none if it would have to wait.
fn moved(result: std::io::Result<usize>) -> usize {
    match result {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

fn measure(criterion: &mut Criterion, name: &str, mut relayed: Relayed<'_>) {
    let mut group = criterion.benchmark_group("relay");
    for bytes in MESSAGE_BYTES {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
            bencher.iter_custom(|messages| (0..messages).map(|_| relayed.relay(bytes)).sum());
        });
    }
    group.finish();
}

fn over_tcp(criterion: &mut Criterion) {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let listener = seaprox_tcp::listen(any.into(), ListenOptions::default()).expect("a listener");
    let listener = TcpListener::from(listener);
    let at = listener.local_addr().expect("it is bound");
    let backend = TcpListener::bind(any).expect("a listener");
    backend.set_nonblocking(true).expect("a socket");
    let targets = [Target::Inet(backend.local_addr().expect("it is bound"))];
    let ready = |stream: TcpStream| -> End {
        stream.set_nonblocking(true).and(stream.set_nodelay(true)).expect("a socket");
        Box::new(stream)
    };
    let connect = || ready(TcpStream::connect(at).expect("it listens"));
    let accept = || backend.accept().ok().map(|(stream, _)| ready(stream));
    let relayed = Relayed::new(&OVER_TCP, listener.into(), &targets, connect, accept);
    measure(criterion, "tcp", relayed);
}

fn over_unix(criterion: &mut Criterion) {
    let names =
        ["source", "dest"].map(|end| format!("@seaprox-bench-{end}-{}", std::process::id()));
    let [at, backend_at] = names
        .each_ref()
        .map(|name| SocketAddr::from_abstract_name(&name[1..]).expect("a name that fits"));
    let listener = seaprox_tcp::listen_unix(names[0].as_bytes(), ListenOptions::default());
    let backend = UnixListener::bind_addr(&backend_at).expect("a listener");
    backend.set_nonblocking(true).expect("a socket");
    let targets = [Target::Unix(names[1].as_bytes())];
    let ready = |stream: UnixStream| -> End {
        stream.set_nonblocking(true).expect("a socket");
        Box::new(stream)
    };
    let connect = || ready(UnixStream::connect_addr(&at).expect("it listens"));
    let accept = || backend.accept().ok().map(|(stream, _)| ready(stream));
    let relayed =
        Relayed::new(&OVER_UNIX, listener.expect("a listener"), &targets, connect, accept);
    measure(criterion, "unix", relayed);
}

criterion_group!(benches, over_tcp, over_unix);
criterion_main!(benches);
