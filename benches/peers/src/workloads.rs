//! The workloads, and what each needs of a run.

mod beside;
mod bulk;
mod idle;
mod ping;
mod pingpong;
mod setup;
mod short;
mod stall;
mod start;
mod syscalls;

use crate::effort::{Cores, Effort};
use crate::metrics::Measured;
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
    Socks5Short,
    Socks5Bulk1,
    Socks5Bulk16,
    Socks5Syscalls,
    TunnelBulk1,
    TunnelBulk16,
    TunnelBulk256,
    TunnelPing1,
    TunnelPing,
    TunnelShort,
    TunnelIdle,
    TunnelStall,
    PathBulk,
    PathPing,
}

impl Workload {
    pub(crate) const ALL: [Self; 28] = [
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
        Self::Socks5Short,
        Self::Socks5Bulk1,
        Self::Socks5Bulk16,
        Self::Socks5Syscalls,
        Self::TunnelBulk1,
        Self::TunnelBulk16,
        Self::TunnelBulk256,
        Self::TunnelPing1,
        Self::TunnelPing,
        Self::TunnelShort,
        Self::TunnelIdle,
        Self::TunnelStall,
        Self::PathBulk,
        Self::PathPing,
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
            Self::Socks5Short => "socks5-short",
            Self::Socks5Bulk1 => "socks5-bulk-1",
            Self::Socks5Bulk16 => "socks5-bulk-16",
            Self::Socks5Syscalls => "socks5-syscalls",
            Self::TunnelBulk1 => "tunnel-bulk-1",
            Self::TunnelBulk16 => "tunnel-bulk-16",
            Self::TunnelBulk256 => "tunnel-bulk-256",
            Self::TunnelPing1 => "tunnel-ping-1",
            Self::TunnelPing => "tunnel-ping",
            Self::TunnelShort => "tunnel-short",
            Self::TunnelIdle => "tunnel-idle",
            Self::TunnelStall => "tunnel-stall",
            Self::PathBulk => "path-bulk",
            Self::PathPing => "path-ping",
        }
    }

    /// Whether tunnels do it, and proxies of one process do not.
    pub(crate) fn is_of_tunnels(self) -> bool {
        self >= Self::TunnelBulk1
    }

    /// Whether those do it that talk SOCKS 5, beside a static proxy.
    fn is_of_socks5(self) -> bool {
        matches!(
            self,
            Self::Socks5Short | Self::Socks5Bulk1 | Self::Socks5Bulk16 | Self::Socks5Syscalls
        )
    }

    /// Whether it is measured through a hostile relay, for each of its paths.
    pub(crate) fn is_of_paths(self) -> bool {
        self >= Self::PathBulk
    }

    /// Whether it is measured on `cores` when all of `selected` are asked for.
    pub(crate) fn runs_on(self, cores: Cores, selected: &[Cores]) -> bool {
        match self {
            // On two cores these measure how an idle CPU wakes up.
            Self::RoundTrip | Self::Beside1000 | Self::Beside5000 => cores == Cores::One,
            // These do not depend on it.
            Self::Idle1000
            | Self::Idle5000
            | Self::Syscalls
            | Self::Socks5Syscalls
            | Self::Start => selected.last() == Some(&cores),
            // Two ends that can run at once are what a tunnel is.
            _ if self.is_of_tunnels() => selected.last() == Some(&cores),
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
                | Self::Socks5Syscalls
                | Self::Start
                | Self::TunnelIdle
        ) || self.is_of_paths()
    }

    /// Counts vary little: a few rounds are enough. And paths are many.
    pub(crate) fn rounds_max(self) -> usize {
        match self {
            Self::Idle1000
            | Self::Idle5000
            | Self::Syscalls
            | Self::Socks5Syscalls
            | Self::TunnelIdle => 3,
            _ if self.is_of_paths() => 3,
            _ => usize::MAX,
        }
    }

    /// Whether it makes sense for `peer`.
    pub(crate) fn applies_to(self, peer: Peer) -> bool {
        if self.is_of_paths() {
            return peer.is_over_udp();
        }
        if self.is_of_socks5() {
            let is_echo = peer == Peer::Echo && self == Self::Socks5Short;
            return is_echo || peer.talks_socks5() || peer == Peer::Seaprox;
        }
        if peer.talks_socks5() || peer == Peer::Echo {
            return false;
        }
        let proxy = peer != Peer::Direct;
        if proxy && peer.is_tunnel() != self.is_of_tunnels() {
            return false;
        }
        match self {
            Self::Idle1000 | Self::Syscalls | Self::Start | Self::TunnelIdle => proxy,
            // A process for each of so many connections is no benchmark.
            Self::Idle5000 => proxy && !peer.forks(),
            Self::Beside5000 => !peer.forks(),
            _ => true,
        }
    }

    /// Measures one round.
    pub(crate) fn measure(self, proxy: &Proxy, effort: &Effort) -> Measured {
        match self {
            Self::Bulk1 | Self::Socks5Bulk1 | Self::TunnelBulk1 => bulk::measure(proxy, effort, 1),
            Self::Bulk16 | Self::Socks5Bulk16 | Self::TunnelBulk16 => {
                bulk::measure(proxy, effort, 16)
            }
            Self::Bulk64 => bulk::measure(proxy, effort, 64),
            Self::Bulk256 => bulk::measure(proxy, effort, 256),
            Self::PingPong64 => pingpong::measure(proxy, effort, 64),
            Self::PingPong4096 => pingpong::measure(proxy, effort, 4096),
            Self::RoundTrip => beside::round_trip(proxy, effort),
            Self::Socks5Short => setup::measure(proxy, effort),
            Self::Short | Self::TunnelShort => short::measure(proxy, effort),
            Self::Beside1000 => beside::measure(proxy, effort, 1000),
            Self::Beside5000 => beside::measure(proxy, effort, 5000),
            Self::Idle1000 => idle::measure(proxy, 1000),
            Self::Idle5000 => idle::measure(proxy, 5000),
            Self::Syscalls | Self::Socks5Syscalls => return syscalls::measure(proxy, effort),
            Self::Start => start::measure(proxy),
            Self::TunnelBulk256 => bulk::measure_shares(proxy, effort, 256),
            Self::TunnelPing1 => ping::measure(proxy, effort, 1),
            Self::TunnelPing => ping::measure(proxy, effort, 16),
            Self::TunnelIdle => idle::measure_after_bulk(proxy, effort, 1000),
            Self::TunnelStall => stall::measure(proxy, effort, 16),
            Self::PathBulk => bulk::measure_path(proxy, effort),
            Self::PathPing => ping::measure_path(proxy, effort),
        }
        .map_err(|error| error.to_string())
    }
}
