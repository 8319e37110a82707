//! UDP sockets against the kernel: batches, ECN, addresses, errors, and the sharing of a port by
//! threads. Over the loopback.

use seaprox::sys::Errno;
use seaprox_udp::socket::{
    Datagrams, Options, Path, RECEIVE_BYTES, SEGMENTS_MAX, THREADS_MAX, UdpSocket, listening_group,
};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

#[path = "socket_tests/group_tests.rs"]
mod group_tests;
#[path = "socket_tests/network_tests.rs"]
mod network_tests;
#[path = "socket_tests/options_tests.rs"]
mod options_tests;
#[path = "socket_tests/refusal_tests.rs"]
mod refusal_tests;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";
const DUAL: &str = "[::]:0";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn listening(at: &str, options: &Options) -> UdpSocket {
    UdpSocket::listening(address(at), options).unwrap()
}

/// Written while a process is begun, read by tests that close a socket and want its port back: until
/// it runs its program, a new process holds whatever this one had open.
static BEGINNING: RwLock<()> = RwLock::new(());

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let _alone = BEGINNING.write().unwrap_or_else(|poison| poison.into_inner());
        command.spawn().expect("it runs")
    };
    child.wait_with_output().unwrap()
}

/// Nobody begins a process meanwhile.
fn no_process_begins() -> RwLockReadGuard<'static, ()> {
    BEGINNING.read().unwrap_or_else(|poison| poison.into_inner())
}

/// A port that no other test has, nor will the kernel choose it (ip_local_port_range): for tests that
/// give a port away and want it back.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 5_000 + ((std::process::id() as u16).wrapping_mul(64) + number) % 25_000;
        if UdpSocket::listening(SocketAddr::new(address(DUAL).ip(), port), &Options::USUAL).is_ok()
        {
            return port;
        }
    }
}

/// A socket that listens, and one connected to it from that host.
fn pair(at: &str, to_host: &str, options: &Options) -> (UdpSocket, UdpSocket) {
    let egress = listening(at, options);
    let to = SocketAddr::new(to_host.parse().unwrap(), egress.local().unwrap().port());
    (egress, UdpSocket::connected(to, options).unwrap())
}

/// What a receive gave, kept.
#[derive(Debug)]
struct Batch {
    path: Path,
    segments: Vec<Vec<u8>>,
    is_ce: bool,
    is_ect: bool,
    is_truncated: bool,
}

impl From<Datagrams<'_>> for Batch {
    fn from(mut datagrams: Datagrams<'_>) -> Batch {
        Batch {
            path: datagrams.path,
            segments: datagrams.segments().map(|segment| segment.to_vec()).collect(),
            is_ce: datagrams.is_ce,
            is_ect: datagrams.is_ect,
            is_truncated: datagrams.is_truncated,
        }
    }
}

/// What comes, within a second.
fn receive(socket: &mut UdpSocket) -> Batch {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        match socket.receive(&mut buffer) {
            Ok(datagrams) => return datagrams.into(),
            Err(errno) => assert_eq!(errno, Errno::AGAIN),
        }
        assert!(Instant::now() < end, "nothing came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn has_nothing(socket: &mut UdpSocket) -> bool {
    socket.receive(&mut [0; 64]).is_err_and(|errno| errno == Errno::AGAIN)
}

/// So many segments, each other bytes.
fn segments(count: usize, length: usize, last: usize) -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> =
        (0..count).map(|number| (0..length).map(|at| (number * 31 + at) as u8).collect()).collect();
    segments[count - 1].truncate(last);
    segments
}

fn slices(segments: &[Vec<u8>]) -> Vec<&[u8]> {
    segments.iter().map(Vec::as_slice).collect()
}

/// All there is, however it is cut into batches: the segments, and how many batches.
fn receive_all(socket: &mut UdpSocket, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut all, mut batches) = (Vec::new(), 0);
    while all.len() < count {
        let batch = receive(socket);
        assert!(!batch.is_truncated);
        all.extend(batch.segments);
        batches += 1;
    }
    (all, batches)
}

const HOSTS: [(&str, &str); 4] =
    [(V4, "127.0.0.1"), (V6, "::1"), (DUAL, "::1"), (DUAL, "127.0.0.1")];

#[test]
fn a_batch_arrives_as_a_batch() {
    for (at, host) in HOSTS {
        for (count, length, last) in [(45, 1452, 1452), (45, 1452, 1), (64, 1000, 999), (2, 9, 9)] {
            let (mut egress, mut ingress) = pair(at, host, &Options::USUAL);
            assert!(ingress.is_segmenting() && egress.is_coalescing());
            let sent = segments(count, length, last);
            assert_eq!(ingress.send(None, &slices(&sent)), Ok(count));
            let batch = receive(&mut egress);
            assert_eq!(batch.segments, sent, "{host} {count} {length} {last}");
            let from = ingress.local().unwrap();
            assert_eq!((batch.path.peer, batch.is_truncated), (from, false));
            assert!(has_nothing(&mut egress));

            // And back, to where it came from.
            assert_eq!(egress.send(Some(&batch.path), &slices(&sent)), Ok(count));
            let back = receive(&mut ingress);
            assert_eq!(
                (back.segments, back.path.peer.port()),
                (sent, egress.local().unwrap().port())
            );
        }
    }
}

#[test]
fn what_is_more_than_a_batch_is_left() {
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    let many = segments(SEGMENTS_MAX + 6, 10, 10);
    assert_eq!(ingress.send(None, &slices(&many)), Ok(SEGMENTS_MAX));
    assert_eq!(ingress.send(None, &slices(&many[SEGMENTS_MAX..])), Ok(6));
    assert_eq!(receive_all(&mut egress, many.len()).0, many);
    assert_eq!(ingress.send(None, &[]), Ok(0));
    let large = segments(64, 1452, 1452);
    assert_eq!(ingress.send(None, &slices(&large)), Ok(45), "64 KiB");
    assert_eq!(receive_all(&mut egress, 45).0, large[..45]);
    let uneven: [&[u8]; 4] = [&[1; 5], &[2; 7], &[3; 7], &[4; 1]];
    assert_eq!(ingress.send(None, &uneven), Ok(1));
    assert_eq!(ingress.send(None, &uneven[1..]), Ok(3));
    assert_eq!(receive_all(&mut egress, 4).0, uneven);
}

#[test]
fn datagrams_without_bytes_are_datagrams() {
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    assert_eq!(ingress.send(None, &[&[], &[]]), Ok(1));
    let batch = receive(&mut egress);
    assert_eq!((batch.segments.len(), batch.path.peer), (0, ingress.local().unwrap()));
}

/// Off by an option, or refused by the kernel in earnest: no segments without checksums.
#[test]
fn without_segments_the_same_arrives() {
    for refused in [false, true] {
        for (at, host) in HOSTS {
            let options = Options { segmentation: refused, ..Options::USUAL };
            let (mut egress, mut ingress) = pair(at, host, &options);
            if refused {
                for socket in [&egress, &ingress] {
                    set_no_checksum(socket);
                }
            }
            assert_eq!(ingress.is_segmenting(), refused);
            let sent = segments(45, 1452, 77);
            assert_eq!(ingress.send(None, &slices(&sent)), Ok(45), "{refused} {host}");
            assert!(!ingress.is_segmenting(), "refused once is refused");
            assert_eq!(ingress.take_heard(), None);
            let first = receive(&mut egress);
            let rest = receive_all(&mut egress, 45 - first.segments.len()).0;
            assert_eq!([first.segments, rest].concat(), sent);
            assert_eq!(egress.send(Some(&first.path), &slices(&sent)), Ok(45));
            assert_eq!(receive_all(&mut ingress, 45).0, sent);
        }
    }
}

#[allow(unsafe_code)]
fn set(socket: &impl std::os::fd::AsRawFd, level: i32, option: i32, value: i32) {
    let (from, length) = (std::ptr::from_ref(&value).cast(), 4);
    // SAFETY: a number, of that length.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, from, length) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Of IPv4: SO_NO_CHECK; of IPv6: UDP_NO_CHECK6_TX and UDP_NO_CHECK6_RX. udp_send_skb and
/// udp_v6_send_skb do not segment then, and say EINVAL.
fn set_no_checksum(socket: &UdpSocket) {
    set(socket, libc::SOL_SOCKET, 11, 1);
    for option in [101, 102] {
        set(socket, libc::SOL_UDP, option, 1);
    }
}

#[test]
fn without_coalescing_the_same_arrives() {
    let options = Options { coalescing: false, ..Options::USUAL };
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &options);
    assert!(!egress.is_coalescing());
    let sent = segments(45, 1452, 77);
    assert_eq!(ingress.send(None, &slices(&sent)), Ok(45));
    assert_eq!(receive_all(&mut egress, 45), (sent, 45));
}

#[test]
fn a_small_buffer_is_told() {
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    let sent = segments(3, 10, 10);
    ingress.send(None, &slices(&sent)).unwrap();
    let batch: Batch = egress.receive(&mut [0; 25]).unwrap().into();
    assert!(batch.is_truncated);
    assert_eq!(batch.segments, [&sent[0][..], &sent[1], &sent[2][..5]]);
    ingress.send(None, &slices(&sent)).unwrap();
    let whole: Batch = egress.receive(&mut [0; 30]).unwrap().into();
    assert!(!whole.is_truncated);
}
