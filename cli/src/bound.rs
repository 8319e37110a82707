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

/// Names the resolver knows at once.
pub const NAMES: usize = 64;
/// Lookups that run at once.
pub const RESOLVER_THREADS: usize = 2;

/// The bytes of user memory that grow with neither size: the log's ring, the resolver's names, and
/// the stacks of their threads.
const FIXED_BYTES: usize = 256 * 520 + NAMES * 576 + 1024 + 64 * 1024 + RESOLVER_THREADS * 262_144;
/// A connection in the table, and its place in the resolver's lists.
const CONNECTION_BYTES: usize = 160 + 28;
/// The stack of a thread that relays. Without optimization every value that moves is copied.
pub const WORKER_STACK_BYTES: usize = if cfg!(debug_assertions) { 1024 } else { 128 } * 1024;
/// A thread's stack, buffer and counters.
const THREAD_BYTES: usize = WORKER_STACK_BYTES + 64 * 1024 + 512;

/// The most user memory that the program's statics and its threads' stacks take.
pub const fn user_bytes(connections: usize, threads: usize) -> usize {
    FIXED_BYTES + connections * CONNECTION_BYTES + threads * THREAD_BYTES
}

/// Links that each thread of an egress holds at once; an ingress has one a thread.
pub const LINKS: usize = 2;
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
/// The most memory that links take beside, in an ingress or an egress: chunks, their places and
/// ranges; two records a channel, two packets; and a thread's names.
pub const fn links_bytes(connections: usize, threads: usize) -> usize {
    let chunks = link_chunks(connections, threads) * (4096 + 4 + 12);
    let channels = link_channels(connections, threads) * 2 * 80;
    threads * (LINKS * (chunks + channels + 2 * 32_768 + 64) + 17_408)
}

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
/// packets, what has arrived; and a thread's receive buffer.
pub const fn udp_bytes(connections: usize, threads: usize) -> usize {
    let slots = udp_slots(connections, threads) * (1472 + 8 + 2 * 40);
    threads * (LINKS * (slots + 4096) + 65_536 + 16_384)
}

/// Reads the sizes; `None` is a variable that is not set. An error says what to do.
pub fn read_sizes(
    connections: Option<&str>,
    threads: Option<&str>,
) -> Result<(usize, usize), String> {
    let connections =
        read("SEAPROX_MAX_NUM_CONNECTIONS", connections, CONNECTIONS_DEFAULT, CONNECTIONS_MAX)?;
    let threads_default = THREADS_DEFAULT.min(connections);
    let threads = read("SEAPROX_NUM_THREADS", threads, threads_default, THREADS_MAX)?;
    if threads > connections {
        return Err(format!(
            "SEAPROX_NUM_THREADS is {threads}, but there are only {connections} connections for \
             them: set it to at most SEAPROX_MAX_NUM_CONNECTIONS"
        ));
    }
    Ok((connections, threads))
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
