//! What is measured: each figure's unit, column, and which way is better.

use std::io;

/// One round's figures, or why there are none.
pub(crate) type Measured = Result<Vec<(Metric, f64)>, String>;

/// The same before it is put into words.
pub(crate) type Figures = io::Result<Vec<(Metric, f64)>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    GigabytesPerSecond,
    MegabytesPerSecond,
    RequestsPerSecond,
    ConnectionsPerSecond,
    CpuPerGigabyte,
    CpuPerRequest,
    CpuPerConnection,
    LatencyHalf,
    LatencyTail,
    RoundTrip,
    RoundTripTimesAlone,
    /// Jain's index of the bytes that each connection got: 1 when all got the
    /// same, 1/n when one of n got everything.
    JainIndex,
    /// Connections that got no byte.
    Starved,
    LostToStall,
    BytesPerIdle,
    CallsPerConnection,
    CallsPerPair,
    FirstConnect,
    FirstReply,
    ProgramSize,
}

/// The columns of the table that hold figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Rate,
    Cpu,
    Latency,
    Other,
}

impl Column {
    pub(crate) const ALL: [Self; 4] = [Self::Rate, Self::Cpu, Self::Latency, Self::Other];

    pub(crate) fn heading(self, of_tunnels: bool) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Cpu if of_tunnels => "CPU of both ends",
            Self::Cpu => "CPU of the proxy",
            Self::Latency => "latency",
            Self::Other => "other",
        }
    }
}

impl Metric {
    /// Its unit, which in the table also serves as its name.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::GigabytesPerSecond => "GB/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::RequestsPerSecond => "req/s",
            Self::ConnectionsPerSecond => "conn/s",
            Self::CpuPerGigabyte => "CPU-s/GB",
            Self::CpuPerRequest => "us/req",
            Self::CpuPerConnection => "us/conn",
            Self::JainIndex => "Jain",
            Self::Starved => "starved",
            Self::LostToStall => "% lost",
            Self::LatencyHalf => "us p50",
            Self::LatencyTail => "us p99",
            Self::RoundTrip => "us round trip",
            Self::RoundTripTimesAlone => "x alone",
            Self::BytesPerIdle => "B/idle conn",
            Self::CallsPerConnection => "calls/conn",
            Self::CallsPerPair => "calls/req",
            Self::FirstConnect => "ms to connect",
            Self::FirstReply => "ms to reply",
            Self::ProgramSize => "KB program",
        }
    }

    pub(crate) fn column(self) -> Column {
        match self {
            Self::GigabytesPerSecond
            | Self::MegabytesPerSecond
            | Self::RequestsPerSecond
            | Self::ConnectionsPerSecond => Column::Rate,
            Self::CpuPerGigabyte | Self::CpuPerRequest | Self::CpuPerConnection => Column::Cpu,
            Self::LatencyHalf
            | Self::LatencyTail
            | Self::RoundTrip
            | Self::FirstConnect
            | Self::FirstReply => Column::Latency,
            Self::RoundTripTimesAlone
            | Self::JainIndex
            | Self::Starved
            | Self::LostToStall
            | Self::BytesPerIdle
            | Self::CallsPerConnection
            | Self::CallsPerPair
            | Self::ProgramSize => Column::Other,
        }
    }

    /// Rates and fairness; everything else is better when it is less.
    pub(crate) fn more_is_better(self) -> bool {
        self.column() == Column::Rate || self == Self::JainIndex
    }

    /// Whether one figure can be divided by another: not if it may be nothing,
    /// or less.
    pub(crate) fn has_ratio(self) -> bool {
        !matches!(self, Self::Starved | Self::LostToStall)
    }
}
