//! Bytes both ways at once over one connection, each checked as it arrives at either end; the
//! backend tells at the end whether it got what it should. Knows nothing of what lies between.
//!
//! Its connections have segments as on Ethernet: with the 64 KiB ones of the loopback interface, a
//! receiver that reads slowly opens its window by less than one, does not tell, and its sender waits
//! for the persist timer (200 ms and more). That is TCP's affair, not that of what is tested here.
//!
//! Invariant: a byte that is not the one of its place panics, and no exchange with one is exact.

use crate::bytes::Numbers;
use crate::peer::{end, listen, patient, serve_on};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// More than ever move in a test.
pub const ENDLESS: u64 = 1 << 40;

/// What the backend says when all its bytes were right.
const EXACT: u8 = 0xe4;

const CHUNK_BYTES: usize = 32 * 1024;

/// What times are counted from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Of a TCP segment.
const SEGMENT_BYTES: u32 = 1448;

/// What is seen of all exchanges with one backend.
#[derive(Debug, Default)]
pub struct Watch {
    arrived: AtomicU64,
    /// When something last did, in microseconds since `EPOCH`.
    arrived_at_micros: AtomicU64,
    longest_gap_micros: AtomicU64,
    begun: AtomicU64,
    exact: AtomicU64,
    resets: AtomicU64,
}

impl Watch {
    /// Bytes that arrived so far, at either end.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// The longest time in which nothing arrived anywhere although somebody waited for it.
    pub fn longest_gap(&self) -> Duration {
        Duration::from_micros(self.longest_gap_micros.load(Ordering::Relaxed))
    }

    /// Exchanges of which the backend got every byte.
    pub fn exact(&self) -> u64 {
        self.exact.load(Ordering::Relaxed)
    }

    /// Exchanges that were reset at the backend.
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Relaxed)
    }

    fn note(&self, since: Instant, bytes: usize) {
        self.arrived.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = EPOCH.elapsed().as_micros() as u64;
        let last = self.arrived_at_micros.swap(now, Ordering::Relaxed);
        let gap = now.saturating_sub(last).min(since.elapsed().as_micros() as u64);
        self.longest_gap_micros.fetch_max(gap, Ordering::Relaxed);
    }
}

/// What a client wants: streams of these seeds and lengths, in bytes, a multiple of 8.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Tells this exchange from all others.
    pub seed: u64,
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

impl Wish {
    /// As much both ways.
    pub const fn both(seed: u64, bytes: u64) -> Wish {
        Wish { seed, up: bytes, down: bytes }
    }

    const fn seeds(self) -> (u64, u64) {
        (self.seed * 2, self.seed * 2 + 1)
    }

    fn bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (place, number) in bytes.chunks_exact_mut(8).zip([self.seed, self.up, self.down]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn of(bytes: [u8; 24]) -> Wish {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")));
        let mut next = || numbers.next().expect("three numbers");
        Wish { seed: next(), up: next(), down: next() }
    }
}

/// A backend that gives every client what it wants, until the process ends.
pub fn backend(watch: &Arc<Watch>) -> SocketAddr {
    let watch = Arc::clone(watch);
    let listener = listen();
    let address = listener.local_addr().expect("a listener has an address");
    // Those it accepts have it from it.
    setsockopt(&listener, sockopt::TcpMaxSeg, &SEGMENT_BYTES).expect("segments may be small");
    serve_on(listener, move |stream| match answer(&stream, &watch) {
        Ok(()) => drop(watch.exact.fetch_add(1, Ordering::Relaxed)),
        Err(error) if is_reset(&error) => drop(watch.resets.fetch_add(1, Ordering::Relaxed)),
        Err(_) => {}
    });
    address
}

/// One more client.
///
/// # Panics
/// Nobody listens there.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let fd = fd.expect("there are sockets");
    setsockopt(&fd, sockopt::TcpMaxSeg, &SEGMENT_BYTES).expect("segments may be small");
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).expect("it listens");
    patient(TcpStream::from(fd))
}

fn answer(mut stream: &TcpStream, watch: &Watch) -> io::Result<()> {
    let mut wish = [0; 24];
    stream.read_exact(&mut wish)?;
    let wish = Wish::of(wish);
    watch.begun.fetch_add(1, Ordering::Relaxed);
    let (up, down) = wish.seeds();
    both(
        || write_stream(stream, down, wish.down),
        || {
            read_stream(stream, up, wish.up, watch)?;
            expect_end(stream)
        },
    )?;
    stream.write_all(&[EXACT])?;
    end(stream);
    Ok(())
}

/// Exchanges streams over a connection to a [`backend`]; how much arrives, `watch` sees.
///
/// # Errors
/// It ended before; of a reset the kind is [`ErrorKind::ConnectionReset`].
///
/// # Panics
/// A byte is another than it should be.
pub fn try_exchange(stream: &TcpStream, wish: Wish, watch: &Watch) -> io::Result<()> {
    let mut stream = stream;
    let (up, down) = wish.seeds();
    both(
        || {
            let mut stream = stream;
            stream.write_all(&wish.bytes())?;
            write_stream(stream, up, wish.up)?;
            end(stream);
            Ok(())
        },
        || read_stream(stream, down, wish.down, watch),
    )?;
    let mut verdict = [0];
    stream.read_exact(&mut verdict)?;
    assert_eq!(verdict, [EXACT], "the backend got all of it");
    expect_end(stream)
}

/// The same, which must succeed.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn exchange(stream: &TcpStream, wish: Wish, watch: &Watch) {
    if let Err(error) = try_exchange(stream, wish, watch) {
        panic!("{wish:?}: {error}");
    }
}

/// Exchanges of these wishes at once, each over a connection of its own to `address`; all must
/// succeed.
///
/// # Panics
/// One does not.
#[track_caller]
pub fn exchange_all(address: SocketAddr, wishes: &[Wish], watch: &Watch) {
    thread::scope(|scope| {
        for &wish in wishes {
            scope.spawn(move || exchange(&connect(address), wish, watch));
        }
    });
}

/// As many exchanges as `seeds`, without an end, at once; they begin to move, then `happens`, and
/// that must reset each of them.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn all_reset(
    address: SocketAddr,
    seeds: std::ops::Range<u64>,
    watch: &Watch,
    happens: impl FnOnce(),
) {
    let before = watch.arrived();
    let all = watch.begun.load(Ordering::Relaxed) + (seeds.end - seeds.start);
    thread::scope(|scope| {
        let ends: Vec<_> = seeds
            .map(|seed| {
                let wish = Wish::both(seed, ENDLESS);
                let run = move || try_exchange(&connect(address), wish, watch);
                scope.spawn(run)
            })
            .collect();
        let run = || watch.begun.load(Ordering::Relaxed) >= all;
        crate::eventually("all of them run", || run() && watch.arrived() > before + (1 << 20));
        happens();
        for end in ends {
            let error = end.join().expect("its bytes are its own").expect_err("it has no end");
            assert!(is_reset(&error), "{error}");
        }
    });
}

/// Both at once; what the first said if both fail by a reset: of one reset only one of them hears.
fn both(
    write: impl FnOnce() -> io::Result<()> + Send,
    read: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let (written, read) = thread::scope(|scope| {
        let small = thread::Builder::new().stack_size(128 * 1024);
        let written = small.spawn_scoped(scope, write).expect("a thread for a direction");
        let read = read();
        (written.join().expect("a write does not panic"), read)
    });
    match (written, read) {
        (Err(error), _) if is_reset(&error) => Err(error),
        (written, read) => read.and(written),
    }
}

fn is_reset(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset
}

fn write_stream(mut stream: &TcpStream, seed: u64, bytes: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut rest = bytes;
    while rest > 0 {
        let length = rest.min(CHUNK_BYTES as u64) as usize;
        for place in chunk[..length].chunks_exact_mut(8) {
            place.copy_from_slice(&numbers.next().to_le_bytes());
        }
        stream.write_all(&chunk[..length])?;
        rest -= length as u64;
    }
    Ok(())
}

fn read_stream(mut stream: &TcpStream, seed: u64, bytes: u64, watch: &Watch) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut rest, mut kept) = (bytes, 0);
    while rest > 0 {
        let since = Instant::now();
        let most = (CHUNK_BYTES - kept).min(rest as usize);
        let count = stream.read(&mut chunk[kept..kept + most])?;
        watch.note(since, count);
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        rest -= count as u64;
        let whole = (kept + count) / 8 * 8;
        for place in chunk[..whole].chunks_exact(8) {
            assert_eq!(
                place,
                numbers.next().to_le_bytes(),
                "stream {seed}: a byte of another place"
            );
        }
        chunk.copy_within(whole..kept + count, 0);
        kept = kept + count - whole;
    }
    Ok(())
}

fn expect_end(mut stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more bytes than there are")),
    }
}
