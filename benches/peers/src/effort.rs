//! What a run may use: cores, time, threads.

use std::time::Duration;

/// Where the processes of a run may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cores {
    One,
    Free,
}

impl Cores {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Free => "free",
        }
    }
}

/// How much time and how many connections a round takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Before counting starts.
    pub(crate) warm_up: Duration,
    /// While counting.
    pub(crate) window: Duration,
    /// While counting what takes long to show: who gets how much, and seldom
    /// latencies.
    pub(crate) long_window: Duration,
    /// Before counting starts on a path whose delay makes everything slow.
    pub(crate) path_warm_up: Duration,
    /// While one ping after the other goes over such a path.
    pub(crate) path_ping_window: Duration,
    /// At most so many short connections in a window.
    pub(crate) short_connections_max: usize,
    /// So many short connections under the system-call tracer.
    pub(crate) traced_connections: usize,
    /// So many request-response pairs under it.
    pub(crate) traced_pairs: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_millis(200),
        window: Duration::from_millis(1000),
        long_window: Duration::from_secs(5),
        path_warm_up: Duration::from_secs(2),
        path_ping_window: Duration::from_secs(10),
        short_connections_max: 20_000,
        traced_connections: 500,
        traced_pairs: 2000,
    };

    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_millis(80),
        window: Duration::from_millis(250),
        long_window: Duration::from_millis(1000),
        path_warm_up: Duration::from_millis(1000),
        path_ping_window: Duration::from_millis(1000),
        short_connections_max: 5000,
        traced_connections: 100,
        traced_pairs: 400,
    };
}

/// How many threads each process gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) proxy: usize,
    pub(crate) tunnel_end: usize,
}
