//! What the sizes chosen at build time may be, and how much of the caller's memory they bound. The
//! build script and the library share this file; the library checks it against its own types. Knows
//! no type.

/// SEAPROX_MAX_NUM_CONNECTIONS, unless the environment of the build says otherwise.
pub const CONNECTIONS_DEFAULT: usize = 8192;
/// SEAPROX_NUM_THREADS, unless the environment of the build says otherwise.
pub const THREADS_DEFAULT: usize = 4;
/// Two descriptors a connection, and the kernel's default ceiling is 2^20 of them (fs.nr_open).
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// More than any machine this is for has CPUs.
pub const THREADS_MAX: usize = 256;

/// What a proxy's memory takes beside its connections and threads, in bytes: how it was set up.
pub const SEAPROX_FIXED_BYTES: usize = 12 * 1024;
/// What a connection takes of it, in bytes.
pub const SEAPROX_CONNECTION_BYTES: usize = 160;
/// What a thread takes of it, in bytes: a buffer, counters, and what is ready and to be closed.
pub const SEAPROX_THREAD_BYTES: usize = 120 * 1024;

/// What a client of a proxy type takes, in bytes, in memory of its own.
pub const SEAPROX_SEAT_BYTES: usize = 832;

/// The most memory that a proxy takes of its caller, in bytes.
pub const fn memory_bytes(connections: usize, threads: usize) -> usize {
    SEAPROX_FIXED_BYTES + connections * SEAPROX_CONNECTION_BYTES + threads * SEAPROX_THREAD_BYTES
}

/// Links that each thread takes at once; it opens one.
pub const LINKS: usize = 2;

/// Connections of one thread, at most.
pub const fn connections_of_thread(connections: usize, threads: usize) -> usize {
    connections.div_ceil(threads)
}

/// Channels of one link, for each end to open: as many as a thread has connections.
pub const fn link_channels(connections: usize, threads: usize) -> usize {
    /// The highest number of a channel (docs/protocol.md).
    const CHANNELS_MAX: usize = 32_767;
    let channels = connections_of_thread(connections, threads);
    if channels < CHANNELS_MAX { channels } else { CHANNELS_MAX }
}

/// Chunks of 4 KiB of one link: each channel's first credit (4 KiB, or 16 where there are few), and as
/// many again that are shared, for windows to grow; 2 MiB at least.
pub const fn link_chunks(channels: usize) -> usize {
    let first = if channels > 512 { 1 } else { 4 };
    if channels * first * 2 < 512 { 512 } else { channels * first * 2 }
}

/// Datagrams of one link over udp that have not arrived, at most.
pub const fn udp_slots(channels: usize) -> usize {
    let slots = (channels * 4).next_power_of_two();
    if slots < 256 {
        256
    } else if slots > 8192 {
        8192
    } else {
        slots
    }
}
