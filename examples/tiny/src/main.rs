//! A static proxy for small machines: one thread, no heap, no std; what it listens on, what it
//! connects to and how many connections it holds are chosen when it is built.
//!
//! ```text
//! cd examples/tiny
//! rustup target add aarch64-unknown-linux-musl
//! SEAPROX_LISTEN=0.0.0.0:8080 SEAPROX_TARGET=192.0.2.1:80 SEAPROX_MAX_NUM_CONNECTIONS=256 \
//!     cargo build --release --target aarch64-unknown-linux-musl
//! ```
//!
//! SEAPROX_LISTEN and SEAPROX_TARGET are an address and a port each; `[::]:8080` takes IPv6 alone.
//! SEAPROX_PIPE_BYTES is what pipes may take of the kernel's memory; 0 copies every byte instead,
//! which is slower. SIGTERM ends the program, and with it every connection. An error at start is
//! one line on stderr and exit code 71; 1 if it fails later.
#![no_std]
#![no_main]

mod sys;

use core::ffi::c_int;
use core::net::SocketAddr;
use rustix::fd::AsRawFd as _;
use rustix::io::Errno;
use seaprox::Seaprox;
use seaprox::relay::PipeLimits;
use seaprox::sys::Linux;
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, DialOptions, Dialer, ListenOptions, Listener, Target};

// LISTEN, CANNOT_LISTEN, TARGET, MAX_NUM_CONNECTIONS and PIPE_BYTES as they were chosen, and
// MEMORY_BYTES_MAX, the bound that the build printed.
include!(concat!(env!("OUT_DIR"), "/constants.rs"));

static PROXY: Seaprox<MAX_NUM_CONNECTIONS, 1> = Seaprox::new();

const _: () = assert!(
    Seaprox::<MAX_NUM_CONNECTIONS, 1>::MEMORY_BYTES <= MEMORY_BYTES_MAX,
    "the build prints less than there is"
);

/// The standard descriptors, the listener, the epoll, the doorbell, and what was inherited.
const RESERVE: u64 = 16;
/// A socket for the client and one for the target.
const PER_CONNECTION: u64 = 2;
/// A pipe's two ends.
const PER_PIPE: u64 = 2;

/// Failed while running, as the program `seaprox` says it.
const FAILED: c_int = 1;
/// The system refused what it should grant (sysexits.h, EX_OSERR).
const EX_OSERR: c_int = 71;

/// Where the C library's start hands over.
// SAFETY: no other function of the program has this name.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn main() -> c_int {
    let Err((code, what, errno)) = serve() else { return 0 };
    sys::say(format_args!("{what}: errno {}", errno.raw_os_error()));
    code
}

/// Why the program ends: its exit code, what failed, and how.
type Failure = (c_int, &'static str, Errno);

fn serve() -> Result<(), Failure> {
    let refused = |what| move |errno| (EX_OSERR, what, errno);
    sys::take_standard_descriptors().map_err(refused("descriptors"))?;
    sys::ignore_broken_pipes();
    let (connections, pipes) = fit();
    let tables = (connections > 0).then(|| PROXY.claim(1, connections)).flatten();
    let Some(table) = tables.and_then(|mut tables| tables.next()) else {
        return Err((EX_OSERR, "not enough descriptors for one connection", Errno::MFILE));
    };
    let options = ListenOptions { v6_only: true, ..ListenOptions::default() };
    let listener = seaprox_tcp::listen(LISTEN, options).map_err(refused(CANNOT_LISTEN))?;
    let targets = [Target::Inet(TARGET)];
    let mut worker = Worker::new(
        Linux,
        table,
        Listener::new(Linux, listener.as_raw_fd(), AtEnd::Refuse),
        Dialer::new(Linux, &targets, NoNames, DialOptions::default()),
        (),
        Options { pipes, ..Options::default() },
    )
    .map_err(refused("cannot wait for events"))?;
    worker.run().map_err(|errno| (FAILED, "cannot go on", errno))
}

/// How many connections, and which pipes, fit under the limit of descriptors once it was raised.
/// Connections come first: a relay without a pipe copies.
fn fit() -> (usize, PipeLimits) {
    let pipes = PipeLimits::of(MAX_NUM_CONNECTIONS, PIPE_BYTES);
    let wished = MAX_NUM_CONNECTIONS as u64 * PER_CONNECTION;
    let limit = sys::raise_descriptors(RESERVE + wished + pipes.pipes() as u64 * PER_PIPE);
    let left = limit.saturating_sub(RESERVE);
    let connections = wished.min(left) / PER_CONNECTION;
    if connections < MAX_NUM_CONNECTIONS as u64 {
        sys::say(format_args!("at most {connections} connections: a limit of {limit} descriptors"));
    }
    let left = left - connections * PER_CONNECTION;
    (connections as usize, pipes.at_most((left / PER_PIPE) as usize))
}
