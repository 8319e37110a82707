//! Reads what is chosen at build time. Part of `build.rs` alone: the program only has the results.
//!
//! Invariant: what is let through makes a program that can run; an error names the variable, what
//! it is, and what it should be.

use std::net::SocketAddr;

/// Connections, unless SEAPROX_MAX_NUM_CONNECTIONS says otherwise.
const CONNECTIONS_DEFAULT: usize = 64;
/// Two descriptors a connection, and the kernel's default ceiling is 2^20 of them (fs.nr_open).
const CONNECTIONS_MAX: usize = 1 << 19;
/// Kernel memory for pipes in bytes, unless SEAPROX_PIPE_BYTES says otherwise.
const PIPE_BYTES_DEFAULT: usize = 1 << 20;
/// What one user may have by default (pipe(7), pipe-user-pages-soft).
const PIPE_BYTES_MAX: usize = 64 << 20;

/// What was chosen.
pub(crate) struct Constants {
    /// Where clients come from.
    pub(crate) listen: SocketAddr,
    /// Where they are connected to.
    pub(crate) target: SocketAddr,
    /// How many connections at once.
    pub(crate) connections: usize,
    /// How much kernel memory pipes may take, in bytes.
    pub(crate) pipe_bytes: usize,
}

impl Constants {
    /// Reads them from where `variable` finds their values.
    ///
    /// # Errors
    /// One line: which variable is wrong, and what to do.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Constants, String> {
        let address = |name: &str, example| address(name, variable(name), example);
        let number = |name: &str, default, range| number(name, variable(name), default, range);
        let constants = Constants {
            listen: address("SEAPROX_LISTEN", "0.0.0.0:8080 or [::]:8080")?,
            target: address("SEAPROX_TARGET", "192.0.2.1:80 or [2001:db8::1]:80")?,
            connections: number(
                "SEAPROX_MAX_NUM_CONNECTIONS",
                CONNECTIONS_DEFAULT,
                (1, CONNECTIONS_MAX),
            )?,
            pipe_bytes: number("SEAPROX_PIPE_BYTES", PIPE_BYTES_DEFAULT, (0, PIPE_BYTES_MAX))?,
        };
        if constants.target == constants.listen {
            return Err(format!(
                "SEAPROX_TARGET is {}, where it listens itself: set it to where clients should get",
                constants.target
            ));
        }
        Ok(constants)
    }

    /// User memory in bytes that the program's tables bound: 160 a connection, a buffer, and what
    /// one thread counts. The program checks it against its own.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.connections * 160 + 64 * 1024 + 1024
    }
}

/// A literal address; names are for programs that can look them up.
fn address(name: &str, value: Option<String>, example: &str) -> Result<SocketAddr, String> {
    let Some(value) = value else {
        return Err(format!("{name} is not set: set it to an address and a port, like {example}"));
    };
    match value.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(format!(
            "{name} is `{value}`: set it to an address (no name) and a port (not 0), like {example}"
        )),
    }
}

fn number(
    name: &str,
    value: Option<String>,
    default: usize,
    (least, most): (usize, usize),
) -> Result<usize, String> {
    let Some(value) = value else { return Ok(default) };
    // `parse` would take a sign.
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok());
    match number.flatten() {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} is `{value}`: set it to a whole number from {least} to {most}")),
    }
}
