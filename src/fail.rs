//! Why a connection could not be made, or had to end. The numbers are for ever: they travel in
//! completion words and, between two seaprox, on the wire. Knows nothing else but the errors of connect(2).

use crate::sys::Errno;
use core::fmt;

/// How many reasons a completion word leaves room for, for ever: a new reason changes no old word.
pub const NUM_CONNECTION_FAIL_REASONS: u64 = 64;

/// Why a connection was not made, or did not end in order.
///
/// ```
/// use seaprox::fail::FailReason;
///
/// assert_eq!(FailReason::from_number(2), Some(FailReason::ConnectionRefused));
/// assert_eq!(FailReason::from_number(0), None);
/// assert_eq!(FailReason::from_number(200), Some(FailReason::Other), "of a later version");
/// assert_eq!(FailReason::TimedOut.name(), "timed-out");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailReason {
    /// The name could not be resolved to any address.
    NameResolution = 1,
    /// The dest answered that nobody listens there, or the connect reached itself.
    ConnectionRefused = 2,
    /// The kernel or a connector gave an error that has no reason of its own.
    Other = 3,
    /// No vacant slot in the table.
    TableFull = 4,
    /// The dest did not answer in time.
    TimedOut = 5,
    /// The peer broke the protocol.
    Protocol = 6,
    /// The peer sent more than it had credit for.
    CreditExceeded = 7,
    /// The far end offers no such service.
    NoSuchService = 8,
    /// The far end may not connect there.
    Denied = 9,
    /// No route to the dest.
    Unreachable = 10,
    /// No byte moved for the idle timeout.
    Idle = 11,
    /// The proxy is ending.
    Shutdown = 12,
    /// The two ends have no protocol version in common.
    Version = 13,
    /// The peer could not prove who it is.
    Auth = 14,
    /// One side reset the connection.
    Reset = 15,
    /// Too many lookups are waiting for the resolver.
    ResolverFull = 16,
    /// The process or the system is out of descriptors, buffers or memory.
    OutOfDescriptors = 17,
    /// The source left while its dest was being connected.
    SourceGone = 18,
    /// One direction had ended and the other did not within the half-close timeout.
    HalfClosed = 19,
    /// The link to the far end is down, or went down.
    LinkDown = 20,
    /// The peer has as much as it may have, or asks for more in a second than it may.
    OverLimit = 21,
}

impl FailReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [FailReason; 21] = [
        FailReason::NameResolution,
        FailReason::ConnectionRefused,
        FailReason::Other,
        FailReason::TableFull,
        FailReason::TimedOut,
        FailReason::Protocol,
        FailReason::CreditExceeded,
        FailReason::NoSuchService,
        FailReason::Denied,
        FailReason::Unreachable,
        FailReason::Idle,
        FailReason::Shutdown,
        FailReason::Version,
        FailReason::Auth,
        FailReason::Reset,
        FailReason::ResolverFull,
        FailReason::OutOfDescriptors,
        FailReason::SourceGone,
        FailReason::HalfClosed,
        FailReason::LinkDown,
        FailReason::OverLimit,
    ];

    /// The reason with this number; an unknown number is [`FailReason::Other`], 0 is none.
    pub const fn from_number(number: u8) -> Option<FailReason> {
        match number {
            0 => None,
            n if (n as usize) <= Self::ALL.len() => Some(Self::ALL[n as usize - 1]),
            _ => Some(FailReason::Other),
        }
    }

    /// Why a socket could not be connected (connect(2), unix(7), tcp(7)), or not even had (socket(2),
    /// epoll_ctl(2)).
    pub fn of_connect(errno: Errno) -> FailReason {
        match errno {
            // No socket at a path is nobody who listens there.
            Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOENT => FailReason::ConnectionRefused,
            // Of a unix socket: the queue of those who wait to be accepted is full.
            Errno::TIMEDOUT | Errno::AGAIN => FailReason::TimedOut,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => {
                FailReason::Unreachable
            }
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => {
                FailReason::OutOfDescriptors
            }
            Errno::ACCESS | Errno::PERM => FailReason::Denied,
            _ => FailReason::Other,
        }
    }

    /// One word, as logs and counters name it.
    pub const fn name(self) -> &'static str {
        match self {
            FailReason::NameResolution => "name-resolution",
            FailReason::ConnectionRefused => "connection-refused",
            FailReason::Other => "other",
            FailReason::TableFull => "table-full",
            FailReason::TimedOut => "timed-out",
            FailReason::Protocol => "protocol",
            FailReason::CreditExceeded => "credit-exceeded",
            FailReason::NoSuchService => "no-such-service",
            FailReason::Denied => "denied",
            FailReason::Unreachable => "unreachable",
            FailReason::Idle => "idle",
            FailReason::Shutdown => "shutdown",
            FailReason::Version => "version",
            FailReason::Auth => "auth",
            FailReason::Reset => "reset",
            FailReason::ResolverFull => "resolver-full",
            FailReason::OutOfDescriptors => "out-of-descriptors",
            FailReason::SourceGone => "source-gone",
            FailReason::HalfClosed => "half-closed",
            FailReason::LinkDown => "link-down",
            FailReason::OverLimit => "over-limit",
        }
    }
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

static_assertions::const_assert!((FailReason::ALL.len() as u64) < NUM_CONNECTION_FAIL_REASONS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_connect_has_a_reason() {
        let reasons = [
            (Errno::NOENT, FailReason::ConnectionRefused),
            (Errno::AGAIN, FailReason::TimedOut),
            (Errno::ADDRNOTAVAIL, FailReason::Unreachable),
            (Errno::NOSPC, FailReason::OutOfDescriptors),
            (Errno::PERM, FailReason::Denied),
            (Errno::INVAL, FailReason::Other),
        ];
        for (errno, reason) in reasons {
            assert_eq!(FailReason::of_connect(errno), reason);
        }
    }

    #[test]
    fn numbers_and_reasons_are_inverse() {
        assert_eq!(FailReason::from_number(0), None);
        for (index, reason) in FailReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index + 1);
            assert_eq!(FailReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(FailReason::from_number(200), Some(FailReason::Other));
    }
}
