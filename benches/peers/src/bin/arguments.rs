//! What all tokio peers share: the command line and the runtime.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

/// `LISTEN TARGET [THREADS]`, all numeric.
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) target: SocketAddr,
    threads: usize,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut parse = || {
            Some(Self {
                listen: words.next()?.parse().ok()?,
                target: words.next()?.parse().ok()?,
                threads: words.next().map_or(Some(1), |word| word.parse().ok())?,
            })
        };
        parse().ok_or_else(|| wrong("expected: LISTEN TARGET [THREADS]"))
    }

    /// Runs `service` on as many threads as were asked for.
    pub(crate) fn run(&self, service: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads)
            .enable_all()
            .build()?
            .block_on(service)
    }
}

/// A command line that cannot be followed.
pub(crate) fn wrong(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, expected)
}
