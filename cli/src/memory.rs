//! The static memory of the program, and what each part of it takes.

#[cfg(feature = "links")]
use crate::bound::{LINKS, link_channels, link_chunks, links_bytes, udp_bytes, udp_slots};
use crate::bound::{NAMES, RESOLVER_THREADS, WORKER_STACK_BYTES, user_bytes};
use crate::limits::Part;
use crate::log::{self, Log};
use seaprox::Seaprox;
#[cfg(feature = "links")]
use seaprox_proto::link;
#[cfg(feature = "links")]
use seaprox_tcp::Places;
use seaprox_tcp::resolver::{self, Resolver};
#[cfg(feature = "links")]
use seaprox_udp::hub::Hub;
#[cfg(feature = "links")]
use seaprox_udp::reliable;
#[cfg(feature = "links")]
use seaprox_udp::socket::{RECEIVE_BYTES, UdpSocket};

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

/// The table, and what each thread has for itself.
pub static PROXY: Seaprox<MAX_NUM_CONNECTIONS, NUM_THREADS> = Seaprox::new();

/// The names that are looked up for connections.
pub static RESOLVER: Resolver<NAMES, MAX_NUM_CONNECTIONS> = Resolver::new();

/// What one link uses.
#[cfg(feature = "links")]
pub type LinkMemory = link::LinkMemory<
    { link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) },
    { link_chunks(MAX_NUM_CONNECTIONS, NUM_THREADS) },
>;

/// What the links of all threads take, in a program that is an end of some, with the names that an
/// ingress may ask an egress for. It is asked of the system at start, before the heap is sealed, as
/// no other program needs it.
#[cfg(feature = "links")]
pub const LINKS_BYTES: usize =
    NUM_THREADS * (LINKS * size_of::<LinkMemory>() + Places::MEMORY_BYTES);

/// What one link over udp uses beside.
#[cfg(feature = "links")]
pub type UdpMemory = reliable::Memory<
    { udp_slots(MAX_NUM_CONNECTIONS, NUM_THREADS) },
    { 2 * udp_slots(MAX_NUM_CONNECTIONS, NUM_THREADS) },
>;

/// What the links of one thread share, if they are over udp.
#[cfg(feature = "links")]
pub type UdpHub = Hub<'static, UdpSocket>;

/// What links over udp take beside that, asked of the system likewise.
#[cfg(feature = "links")]
pub const UDP_BYTES: usize =
    NUM_THREADS * (LINKS * UdpMemory::MEMORY_BYTES + size_of::<UdpHub>() + RECEIVE_BYTES);

/// The same, to be shown.
#[cfg(feature = "links")]
pub const LINKS_PARTS: &[Part] = &[
    Part { name: "links beside, in ingress and egress", bytes: LINKS_BYTES },
    Part { name: "and if they are over udp", bytes: UDP_BYTES },
];
/// There are none.
#[cfg(not(feature = "links"))]
pub const LINKS_PARTS: &[Part] = &[];

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

// What the build printed is a bound, and a close one.
const _: () = assert!(total(&PARTS) <= user_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
const _: () = assert!(
    total(&PARTS) + 16384 + NUM_THREADS * 256 >= user_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS)
);
#[cfg(feature = "links")]
const _: () = assert!(UDP_BYTES <= udp_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
#[cfg(feature = "links")]
const _: () = assert!(LINKS_BYTES <= links_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
#[cfg(feature = "links")]
const _: () =
    assert!(LINKS_BYTES + LINKS_BYTES / 16 >= links_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
