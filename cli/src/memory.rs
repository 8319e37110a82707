//! The static memory of the program, and what each part of it takes.

#[cfg(feature = "links")]
mod links;

#[cfg(feature = "links")]
use links::LINKS_PARTS;
#[cfg(feature = "links")]
pub use links::{GUESTS, LinkMemory, SealedMemory, UdpHub, UdpMemory};

use crate::bound::{
    NAMES, RESOLVER_THREADS, Sizes, seats_bytes, seats_for, user_bytes, worker_stack_bytes,
};
use crate::limits::Part;
use crate::log::{self, Log};
use crate::talk::Seat;
use seaprox::Seaprox;
use seaprox_tcp::Places;
use seaprox_tcp::resolver::{self, Resolver};

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

/// What was chosen when this was built.
const SIZES: Sizes = Sizes {
    connections: MAX_NUM_CONNECTIONS,
    threads: NUM_THREADS,
    peers: MAX_NUM_PEERS,
    links: MAX_NUM_LINKS,
};

/// The stack of each thread that relays.
pub const WORKER_STACK_BYTES: usize = worker_stack_bytes(SIZES);

/// The table, and what each thread has for itself.
pub static PROXY: Seaprox<MAX_NUM_CONNECTIONS, NUM_THREADS> = Seaprox::new();

/// The names that are looked up for connections.
pub static RESOLVER: Resolver<NAMES, MAX_NUM_CONNECTIONS> = Resolver::new();

/// What proxies take beside whose clients say where they want to go; asked of the system at start.
const SEATS_PARTS: &[Part] =
    &[Part { name: "handshakes beside, in socks5 and http", bytes: SEATS_BYTES }];

const SEATS_BYTES: usize = NUM_THREADS
    * (seats_for(MAX_NUM_CONNECTIONS, NUM_THREADS) * size_of::<Seat>() + Places::MEMORY_BYTES);

/// What some proxies take beside.
#[cfg(feature = "links")]
pub const BESIDE: &[&[Part]] = &[SEATS_PARTS, LINKS_PARTS];
/// The same of this build, which has no links.
#[cfg(not(feature = "links"))]
pub const BESIDE: &[&[Part]] = &[SEATS_PARTS];

/// Every part of the user memory: statics, and stacks of threads beside the main one.
pub const PARTS: [Part; 7] = [
    Part { name: "table", bytes: Seaprox::<MAX_NUM_CONNECTIONS, NUM_THREADS>::TABLE_BYTES },
    Part {
        name: "buffers and counters of the threads",
        bytes: Seaprox::<MAX_NUM_CONNECTIONS, NUM_THREADS>::THREADS_BYTES,
    },
    Part { name: "stacks of the threads", bytes: NUM_THREADS * WORKER_STACK_BYTES },
    Part { name: "log, lines", bytes: size_of::<Log>() },
    Part { name: "log, stack", bytes: log::STACK_BYTES },
    Part {
        name: "resolver, names and waiters",
        bytes: Resolver::<NAMES, MAX_NUM_CONNECTIONS>::MEMORY_BYTES,
    },
    Part { name: "resolver, stacks", bytes: RESOLVER_THREADS * resolver::STACK_BYTES },
];

const fn total(parts: &[Part]) -> usize {
    let (mut sum, mut index) = (0, 0);
    while index < parts.len() {
        sum += parts[index].bytes;
        index += 1;
    }
    sum
}

/// Whether this is a bound, and a close one.
const fn is_close(bound: usize, bytes: usize) -> bool {
    bytes <= bound && bound <= bytes + bytes / 16
}

const _: () = assert!(is_close(seats_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS), SEATS_BYTES));
// What the build printed is a bound, and a close one.
const _: () = assert!(total(&PARTS) <= user_bytes(SIZES));
const _: () = assert!(total(&PARTS) + 16384 + NUM_THREADS * 256 >= user_bytes(SIZES));
