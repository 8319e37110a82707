//! What the sizes chosen at build time may be, and how much user memory they bound. `build.rs` and
//! the library share this file, so that the number the build prints is checked against the program
//! (`memory.rs`) by the compiler. Knows no type of the program.

/// MAX_NUM_CONNECTIONS, unless SEAPROX_MAX_NUM_CONNECTIONS says otherwise.
pub const CONNECTIONS_DEFAULT: usize = 8192;
/// NUM_THREADS, unless SEAPROX_NUM_THREADS says otherwise.
pub const THREADS_DEFAULT: usize = 4;
/// Two descriptors a connection, and the kernel's default ceiling is 2^20 of them (fs.nr_open).
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// More than any machine this is for has CPUs.
pub const THREADS_MAX: usize = 256;

/// MAX_NUM_PEERS, unless SEAPROX_MAX_NUM_PEERS says otherwise.
pub const PEERS_DEFAULT: usize = 64;
/// Whoever asks for a link is looked for among all of them.
pub const PEERS_MAX: usize = 1024;
/// MAX_NUM_LINKS, unless SEAPROX_MAX_NUM_LINKS says otherwise.
pub const LINKS_DEFAULT: usize = 2;
/// A channel's number has 5 bits for its link (`seaprox_proto::link::LINKS_MAX`).
pub const LINKS_MAX: usize = 32;

/// Names the resolver knows at once.
pub const NAMES: usize = 64;
/// Lookups that run at once.
pub const RESOLVER_THREADS: usize = 2;

/// The bytes of user memory that grow with neither size: the log's ring, the resolver's names, and
/// the stacks of their threads.
const FIXED_BYTES: usize = 256 * 520 + NAMES * 576 + 1024 + 64 * 1024 + RESOLVER_THREADS * 262_144;
/// A connection in the table, and its place in the resolver's lists.
const CONNECTION_BYTES: usize = 160 + 28;
/// The stack of a thread that relays: at least twice of what one touches of it (/proc/PID/pagemap) under load over
/// sealed links, on x86-64: 124 KiB with 2 links and 64 peers, 18 KiB more a link and 330 bytes more a peer, which
/// are moved into the worker once. Without optimization 256 KiB, since every value that moves is copied. Of whole
/// pages.
pub const fn worker_stack_bytes(sizes: Sizes) -> usize {
    let bytes = 140 * 1024 + sizes.links * 36 * 1024 + sizes.peers * 672;
    let bytes = if cfg!(debug_assertions) { 4 * bytes } else { bytes };
    bytes.next_multiple_of(16 * 1024)
}
/// A thread's buffer and counters.
const THREAD_BYTES: usize = 64 * 1024 + 512;

/// The most user memory that the program's statics and its threads' stacks take.
pub const fn user_bytes(sizes: Sizes) -> usize {
    let Sizes { connections, threads, .. } = sizes;
    let thread = THREAD_BYTES + worker_stack_bytes(sizes);
    FIXED_BYTES + connections * CONNECTION_BYTES + threads * thread
}

/// Clients of each thread, at most.
pub const fn seats_for(connections: usize, threads: usize) -> usize {
    connections.div_ceil(threads)
}
/// What is kept of a client that says where it wants to go, until its bytes flow.
const SEAT_BYTES: usize = 1024;
/// The most memory that such clients take beside, in socks5 and http, and a thread's names.
pub const fn seats_bytes(connections: usize, threads: usize) -> usize {
    threads * (seats_for(connections, threads) * SEAT_BYTES + 17_408)
}

/// What such a client of an ingress wants, until its link is there.
const WISH_BYTES: usize = 272;
/// The most memory that such clients take beside in an ingress, where the egress looks names up.
pub const fn asking_bytes(connections: usize, threads: usize) -> usize {
    threads * seats_for(connections, threads) * (SEAT_BYTES + WISH_BYTES)
}

/// Channels of one link, for each end to open: as many as a thread has connections.
pub const fn link_channels(connections: usize, threads: usize) -> usize {
    let channels = connections.div_ceil(threads);
    if channels < 32_767 { channels } else { 32_767 }
}
/// Chunks of 4 KiB of one link: for each channel's first credit, and as much again, shared, for
/// windows to grow; 2 MiB at least, so that one channel can be fast.
pub const fn link_chunks(connections: usize, threads: usize) -> usize {
    let channels = link_channels(connections, threads);
    let first_bytes = if channels > 512 { 4096 } else { 16_384 };
    let chunks = channels * 2 * (first_bytes / 4096);
    if chunks < 512 { 512 } else { chunks }
}
/// The most memory that links take beside, in an ingress or an egress: of each link chunks, their places and
/// ranges, two records a channel, two packets; if it is sealed, keys, a packet, and how far each stream is;
/// of each thread names, strangers and peers, and whose each connection is.
pub const fn links_bytes(sizes: Sizes) -> usize {
    let Sizes { connections, threads, peers, links } = sizes;
    let channels = link_channels(connections, threads);
    let plain =
        link_chunks(connections, threads) * (4096 + 4 + 12) + channels * 2 * 80 + 2 * 32_768;
    let sealed = 40_960 + (1 + 2 * channels) * 16;
    let own = 17_408 + 65_536 + peers * PEER_BYTES + connections.div_ceil(threads) * 2;
    threads * (links * (plain + sealed + 64) + own)
}

/// What a thread knows of a peer.
const PEER_BYTES: usize = 128;

/// Datagrams that one link over udp may have sent and not seen acknowledged, and packets.
pub const fn udp_slots(connections: usize, threads: usize) -> usize {
    let slots = (link_channels(connections, threads) * 4).next_power_of_two();
    match slots {
        0..256 => 256,
        256..=8192 => slots,
        _ => 8192,
    }
}
/// The most memory that links over udp take beside that of all links: slots with their notes, records of
/// packets, a batch of datagrams, what has arrived, keys; and a thread's receive buffer, and who has
/// knocked, and may.
pub const fn udp_bytes(sizes: Sizes) -> usize {
    let Sizes { connections, threads, peers, links } = sizes;
    let slots = udp_slots(connections, threads) * (1444 + 8 + 2 * 40);
    threads * (links * (slots + 44 * 1472 + 16_384) + 65_536 + 49_152 + peers * PEER_BYTES)
}

/// What is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Connections at once.
    pub connections: usize,
    /// Threads that relay.
    pub threads: usize,
    /// Peers that an egress can know.
    pub peers: usize,
    /// Links that each thread of an egress holds at once; an ingress has one a thread.
    pub links: usize,
}

/// Reads the sizes from variables; `None` is one that is not set. An error says what to do.
pub fn read_sizes(variable: impl Fn(&str) -> Option<String>) -> Result<Sizes, String> {
    let size = |name: &str, default, most| read(name, variable(name).as_deref(), default, most);
    let connections = size("SEAPROX_MAX_NUM_CONNECTIONS", CONNECTIONS_DEFAULT, CONNECTIONS_MAX)?;
    let threads_default = THREADS_DEFAULT.min(connections);
    let threads = size("SEAPROX_NUM_THREADS", threads_default, THREADS_MAX)?;
    let peers = size("SEAPROX_MAX_NUM_PEERS", PEERS_DEFAULT, PEERS_MAX)?;
    let links = size("SEAPROX_MAX_NUM_LINKS", LINKS_DEFAULT, LINKS_MAX)?;
    if threads > connections {
        return Err(format!(
            "SEAPROX_NUM_THREADS is {threads}, but there are only {connections} connections for \
             them: set it to at most SEAPROX_MAX_NUM_CONNECTIONS"
        ));
    }
    Ok(Sizes { connections, threads, peers, links })
}

fn read(name: &str, value: Option<&str>, default: usize, most: usize) -> Result<usize, String> {
    let Some(value) = value else { return Ok(default) };
    // `parse` would take a sign.
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok());
    match number.flatten() {
        Some(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} is `{value}`: set it to a whole number from 1 to {most}")),
    }
}

#[cfg(test)]
#[path = "bound_tests.rs"]
mod tests;
