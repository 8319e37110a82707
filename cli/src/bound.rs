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
