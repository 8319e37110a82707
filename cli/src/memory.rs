//! The static memory of the program, and what each part of it takes.

use crate::bound::{
    LINKS, NAMES, RESOLVER_THREADS, WORKER_STACK_BYTES, link_channels, link_chunks, links_bytes,
    user_bytes,
};
use crate::limits::Part;
use crate::log::{self, Log};
use seaprox::Seaprox;
use seaprox_proto::link;
use seaprox_tcp::Places;
use seaprox_tcp::resolver::{self, Resolver};
use std::sync::Mutex;

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

/// The table, and what each thread has for itself.
pub static PROXY: Seaprox<MAX_NUM_CONNECTIONS, NUM_THREADS> = Seaprox::new();

/// The names that are looked up for connections.
pub static RESOLVER: Resolver<NAMES, MAX_NUM_CONNECTIONS> = Resolver::new();

/// What one link uses.
pub type LinkMemory = link::LinkMemory<
    { link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) },
    { link_chunks(MAX_NUM_CONNECTIONS, NUM_THREADS) },
>;

/// The links of each thread. Untouched, and so without a page of its own, unless the program is an
/// end of links; each thread takes its own lock, once, for as long as it lives.
pub static LINK_MEMORIES: [Mutex<[LinkMemory; LINKS]>; NUM_THREADS] =
    [const { Mutex::new([const { LinkMemory::new() }; LINKS]) }; NUM_THREADS];

/// Where the names lie that an ingress asked for, a thread.
pub static NAME_PLACES: [Mutex<Places>; NUM_THREADS] =
    [const { Mutex::new(Places::new()) }; NUM_THREADS];

/// What the links take, in a program that is an end of some.
pub const LINKS_BYTES: usize = size_of_val(&LINK_MEMORIES) + size_of_val(&NAME_PLACES);

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
const _: () = assert!(total(&PARTS) + 16384 >= user_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
const _: () = assert!(LINKS_BYTES <= links_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
const _: () =
    assert!(LINKS_BYTES + LINKS_BYTES / 16 >= links_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS));
