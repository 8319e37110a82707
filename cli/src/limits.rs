//! `seaprox limits`: what was compiled in and what it bounds. Four things are kept apart that are
//! often all called memory: the program's own, descriptors, pipes, and the kernel's socket buffers.
//! Knows no connection; it is told the parts.

use crate::nofile::Wish;
use seaprox::relay::{LARGE_PIPE_BYTES, PipeLimits, SMALL_PIPE_BYTES};
use std::fmt;

/// A part of the user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is for.
    pub name: &'static str,
    /// How large it is, touched or not.
    pub bytes: usize,
}

/// What the kernel of this machine is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The most a socket's receive buffer is tuned to (tcp(7), tcp_rmem).
    pub tcp_rmem_max: u64,
    /// The most a socket's send buffer is tuned to (tcp(7), tcp_wmem).
    pub tcp_wmem_max: u64,
    /// The most SO_RCVBUF may ask for (socket(7)).
    pub rmem_max: u64,
    /// The most SO_SNDBUF may ask for (socket(7)).
    pub wmem_max: u64,
    /// The pages that all tcp sockets together may take (tcp(7), tcp_mem).
    pub tcp_mem_pages: u64,
    /// A page.
    pub page_bytes: u64,
    /// The hard limit of descriptors.
    pub descriptors: u64,
}

impl Kernel {
    /// This machine's; a number that cannot be read is 0.
    pub fn of_this_machine() -> Kernel {
        let last_number = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Kernel {
            tcp_rmem_max: last_number("/proc/sys/net/ipv4/tcp_rmem"),
            tcp_wmem_max: last_number("/proc/sys/net/ipv4/tcp_wmem"),
            rmem_max: last_number("/proc/sys/net/core/rmem_max"),
            wmem_max: last_number("/proc/sys/net/core/wmem_max"),
            tcp_mem_pages: last_number("/proc/sys/net/ipv4/tcp_mem"),
            page_bytes: crate::sys::page_bytes(),
            descriptors: crate::sys::descriptor_limits().map_or(0, |(_, hard)| hard),
        }
    }

    /// What two sockets' buffers may grow to for each connection.
    fn tuned_bytes(&self) -> u64 {
        2 * (self.tcp_rmem_max + self.tcp_wmem_max)
    }

    /// The same with `--socket-buffer`: the kernel caps the number, then doubles it for its own
    /// bookkeeping (socket(7), SO_RCVBUF).
    fn fixed_bytes(&self, socket_buffer_bytes: u64) -> u64 {
        2 * 2 * (socket_buffer_bytes.min(self.rmem_max) + socket_buffer_bytes.min(self.wmem_max))
    }
}

/// What is compiled in of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// How many each thread holds.
    pub links: usize,
    /// How many peers an egress can know.
    pub peers: usize,
    /// Whose ciphers seal data (`seaprox_noise::aead::BACKEND`).
    pub backend: &'static str,
    /// The cipher that this machine prefers.
    pub cipher: &'static str,
}

/// All that `seaprox limits` prints; its `Display` is the output.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'p> {
    /// The parts of the user memory.
    pub parts: &'p [Part],
    /// What some proxies take beside.
    pub beside: &'p [&'p [Part]],
    /// What is compiled in of links; `None`: there are none.
    pub links: Option<Links>,
    /// What is to be held open.
    pub wish: Wish,
    /// What this machine grants.
    pub kernel: Kernel,
    /// `--socket-buffer`, to see what it would make of the socket buffers.
    pub socket_buffer_bytes: Option<usize>,
}

/// What is shown of `--socket-buffer` when the user names no number.
const SOCKET_BUFFER_EXAMPLE: usize = 65536;

impl fmt::Display for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { parts, wish, kernel, .. } = self;
        let connections = wish.connections as u64;
        writeln!(f, "compiled in")?;
        count(f, "connections (SEAPROX_MAX_NUM_CONNECTIONS)", connections)?;
        count(f, "threads (SEAPROX_NUM_THREADS)", wish.threads as u64)?;
        if let Some(Links { links, peers, backend, cipher }) = self.links {
            count(f, "links of a thread (SEAPROX_MAX_NUM_LINKS)", links as u64)?;
            count(f, "peers (SEAPROX_MAX_NUM_PEERS)", peers as u64)?;
            word(f, "ciphers of links (feature ring, or not)", backend)?;
            word(f, "the cipher that this CPU prefers", cipher)?;
        }

        writeln!(f, "\nuser memory, exact; the main thread's stack comes on top")?;
        for part in *parts {
            bytes(f, part.name, part.bytes as u64)?;
        }
        bytes(f, "total", parts.iter().map(|part| part.bytes as u64).sum())?;
        for part in self.beside.iter().copied().flatten() {
            bytes(f, part.name, part.bytes as u64)?;
        }

        writeln!(f, "\ndescriptors, at most")?;
        count(f, "two for each connection", 2 * connections)?;
        count(f, "two for each pooled pipe", 2 * wish.pipes.pipes() as u64)?;
        count(
            f,
            "threads, listener, reserve",
            wish.needed() - 2 * connections - 2 * wish.pipes.pipes() as u64,
        )?;
        count(f, "total", wish.needed())?;
        count(f, "what this process may have (ulimit -Hn)", kernel.descriptors)?;

        writeln!(f, "\nkernel memory in pipes, at most")?;
        let PipeLimits { large, small } = wish.pipes;
        let name = format!("{large} large pipes of {}", Human(LARGE_PIPE_BYTES as u64));
        bytes(f, &name, (large * LARGE_PIPE_BYTES) as u64)?;
        let name = format!("{small} small pipes of {}", Human(SMALL_PIPE_BYTES as u64));
        bytes(f, &name, (small * SMALL_PIPE_BYTES) as u64)?;
        bytes(f, "total", wish.pipes.bytes() as u64)?;

        writeln!(f, "\nkernel memory in socket buffers, at most; two sockets for each connection")?;
        bytes(f, "tuned by the kernel (tcp_rmem, tcp_wmem)", connections * kernel.tuned_bytes())?;
        let wanted = self.socket_buffer_bytes.unwrap_or(SOCKET_BUFFER_EXAMPLE);
        let name = format!("with --socket-buffer {wanted}");
        bytes(f, &name, connections * kernel.fixed_bytes(wanted as u64))?;
        bytes(
            f,
            "all tcp sockets of this machine (tcp_mem)",
            kernel.tcp_mem_pages.saturating_mul(kernel.page_bytes),
        )
    }
}

fn count(f: &mut fmt::Formatter<'_>, name: &str, number: u64) -> fmt::Result {
    writeln!(f, "  {name:<42} {number:>16}")
}

fn word(f: &mut fmt::Formatter<'_>, name: &str, word: &str) -> fmt::Result {
    writeln!(f, "  {name:<42} {word:>16}")
}

fn bytes(f: &mut fmt::Formatter<'_>, name: &str, bytes: u64) -> fmt::Result {
    writeln!(f, "  {name:<42} {bytes:>16} {:>11}", Human(bytes).to_string())
}

/// Bytes as people say them.
struct Human(u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut tenths, mut unit) = (u128::from(self.0) * 10, 0);
        while tenths >= 10_240 && unit < UNITS.len() - 1 {
            // Up: a bound is not made smaller by showing it.
            tenths = tenths.div_ceil(1024);
            unit += 1;
        }
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        match unit {
            0 => write!(f, "{} B", self.0),
            _ => write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nofile::pipes_for;

    const KERNEL: Kernel = Kernel {
        tcp_rmem_max: 6 << 20,
        tcp_wmem_max: 4 << 20,
        rmem_max: 212_992,
        wmem_max: 212_992,
        tcp_mem_pages: 1000,
        page_bytes: 4096,
        descriptors: 20_000,
    };

    #[test]
    fn aligned_and_summed() {
        let parts = [Part { name: "table", bytes: 1000 }, Part { name: "log", bytes: 2000 }];
        let wish = Wish { connections: 100, threads: 2, listeners: 1, pipes: pipes_for(100, 0) };
        let beside = &[&[Part { name: "links", bytes: 7000 }][..]][..];
        let (kernel, socket_buffer_bytes) = (KERNEL, Some(8192));
        let links = Some(Links { links: 2, peers: 64, backend: "theirs", cipher: "rot13" });
        let limits = Limits { parts: &parts, beside, links, wish, kernel, socket_buffer_bytes };
        let text = limits.to_string();
        let number = |name: &str, nth: usize| -> u64 {
            let mut lines = text.lines().filter(|line| line.trim_start().starts_with(name));
            let line = lines.nth(nth).unwrap_or_else(|| panic!("{name} in\n{text}"));
            line[44..61].trim().parse().unwrap()
        };
        assert_eq!(number("total", 0), 3000);
        assert_eq!((number("links of a thread", 0), number("peers", 0)), (2, 64));
        assert!(text.contains("  theirs\n") && text.contains("  rot13\n"), "{text}");
        assert_eq!(number("links", 1), 7000);
        assert_eq!(number("total", 1), wish.needed());
        assert_eq!(number("total", 2), 200 * 256 * 1024);
        assert_eq!(number("tuned", 0), 100 * 2 * (10 << 20));
        assert_eq!(number("with --socket-buffer 8192", 0), 100 * 2 * 4 * 8192);
        assert_eq!(number("all tcp", 0), 4_096_000);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn the_kernel_caps_what_is_asked_for() {
        assert_eq!(KERNEL.fixed_bytes(1 << 30), 4 * 2 * 212_992);
    }

    #[test]
    fn bytes_as_people_say_them() {
        let shown = |bytes| Human(bytes).to_string();
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1024), "1.0 KiB");
        assert_eq!(shown(1025), "1.1 KiB", "a bound is rounded up");
        assert_eq!(shown(64 << 20), "64.0 MiB");
        assert_eq!(shown(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn this_machine_says_something() {
        let kernel = Kernel::of_this_machine();
        assert!(kernel.page_bytes >= 4096 && kernel.descriptors > 0, "{kernel:?}");
    }
}
