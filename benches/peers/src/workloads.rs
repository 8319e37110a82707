//! The workloads, and what each needs of a run.

mod beside;
mod bulk;
mod idle;
mod pingpong;
mod short;
mod start;
mod syscalls;

use std::io;

use crate::metrics::Metric;
use crate::options::{Cores, Effort};
use crate::peers::Peer;
use crate::proxy::Proxy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Bulk1,
    Bulk16,
    Bulk64,
    Bulk256,
    PingPong64,
    PingPong4096,
    RoundTrip,
    Short,
    Beside1000,
    Beside5000,
    Idle1000,
    Idle5000,
    Syscalls,
    Start,
}

/// One round's figures, or why there are none.
pub(crate) type Measured = Result<Vec<(Metric, f64)>, String>;

impl Workload {
    pub(crate) const ALL: [Self; 14] = [
        Self::Bulk1,
        Self::Bulk16,
        Self::Bulk64,
        Self::Bulk256,
        Self::PingPong64,
        Self::PingPong4096,
        Self::RoundTrip,
        Self::Short,
        Self::Beside1000,
        Self::Beside5000,
        Self::Idle1000,
        Self::Idle5000,
        Self::Syscalls,
        Self::Start,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk1 => "bulk-1",
            Self::Bulk16 => "bulk-16",
            Self::Bulk64 => "bulk-64",
            Self::Bulk256 => "bulk-256",
            Self::PingPong64 => "pingpong-64",
            Self::PingPong4096 => "pingpong-4096",
            Self::RoundTrip => "rtt",
            Self::Short => "short",
            Self::Beside1000 => "beside-1000",
            Self::Beside5000 => "beside-5000",
            Self::Idle1000 => "idle-1000",
            Self::Idle5000 => "idle-5000",
            Self::Syscalls => "syscalls",
            Self::Start => "start",
        }
    }

    /// Whether it is measured on `cores` when all of `selected` are asked for.
    pub(crate) fn runs_on(self, cores: Cores, selected: &[Cores]) -> bool {
        match self {
            // On two cores these measure how an idle CPU wakes up.
            Self::RoundTrip | Self::Beside1000 | Self::Beside5000 => cores == Cores::One,
            // These do not depend on it.
            Self::Idle1000 | Self::Idle5000 | Self::Syscalls | Self::Start => {
                selected.last() == Some(&cores)
            }
            _ => true,
        }
    }

    /// Whether every round needs a proxy that has done nothing yet.
    pub(crate) fn needs_fresh(self) -> bool {
        matches!(
            self,
            Self::Beside1000
                | Self::Beside5000
                | Self::Idle1000
                | Self::Idle5000
                | Self::Syscalls
                | Self::Start
        )
    }

    /// Counts vary little: a few rounds are enough.
    pub(crate) fn rounds_max(self) -> usize {
        match self {
            Self::Idle1000 | Self::Idle5000 | Self::Syscalls => 3,
            _ => usize::MAX,
        }
    }

    /// Whether it makes sense for `peer`.
    pub(crate) fn applies_to(self, peer: Peer) -> bool {
        let proxy = peer != Peer::Direct;
        match self {
            Self::Idle1000 | Self::Syscalls | Self::Start => proxy,
            // A process for each of so many connections is no benchmark.
            Self::Idle5000 => proxy && !peer.forks(),
            Self::Beside5000 => !peer.forks(),
            _ => true,
        }
    }

    /// Measures one round.
    pub(crate) fn measure(self, proxy: &Proxy, effort: &Effort) -> Measured {
        match self {
            Self::Bulk1 => bulk::measure(proxy, effort, 1),
            Self::Bulk16 => bulk::measure(proxy, effort, 16),
            Self::Bulk64 => bulk::measure(proxy, effort, 64),
            Self::Bulk256 => bulk::measure(proxy, effort, 256),
            Self::PingPong64 => pingpong::measure(proxy, effort, 64),
            Self::PingPong4096 => pingpong::measure(proxy, effort, 4096),
            Self::RoundTrip => beside::round_trip(proxy, effort),
            Self::Short => short::measure(proxy, effort),
            Self::Beside1000 => beside::measure(proxy, effort, 1000),
            Self::Beside5000 => beside::measure(proxy, effort, 5000),
            Self::Idle1000 => idle::measure(proxy, 1000),
            Self::Idle5000 => idle::measure(proxy, 5000),
            Self::Syscalls => return syscalls::measure(proxy, effort),
            Self::Start => start::measure(proxy),
        }
        .map_err(|error| error.to_string())
    }
}

/// What a workload returns before it is wrapped up.
type Figures = io::Result<Vec<(Metric, f64)>>;
