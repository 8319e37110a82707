//! What the dialer asks of a resolver. Knows no thread and no DNS.

use arrayvec::ArrayVec;
use core::net::IpAddr;
use seaprox::completion::Ticket;
use seaprox::fail::FailReason;

/// How many addresses of one name are kept; the kernel's connect timeout ends long before more
/// could be tried.
pub const ADDRESSES_MAX: usize = 16;

/// A name's addresses in the order to try them: the families take turns, beginning with the
/// preferred one (RFC 8305 section 4).
pub type Addresses = ArrayVec<IpAddr, ADDRESSES_MAX>;

/// What a resolver knows of a name.
// There is no heap to put the addresses into.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses, at least one.
    Known(Addresses),
    /// It is being looked up; the ticket will be completed with
    /// [`seaprox::completion::Outcome::Resolved`] or with a failure.
    Waiting,
    /// It cannot be looked up.
    Failed(FailReason),
}

/// Turns names into addresses, without blocking the caller.
pub trait Resolve {
    /// The name's addresses, if they were looked up a short time ago; else looks them up and lets
    /// the ticket wait. At most one lookup of a name runs at a time.
    fn lookup(&self, name: &str, ticket: Ticket) -> Lookup;

    /// The addresses a ticket was told of, however old by now; `None` once another name took their
    /// place.
    fn addresses(&self, name: &str) -> Option<Addresses>;
}

/// No names at all: for a build whose targets are numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Resolve for NoNames {
    fn lookup(&self, _: &str, _: Ticket) -> Lookup {
        Lookup::Failed(FailReason::NameResolution)
    }

    fn addresses(&self, _: &str) -> Option<Addresses> {
        None
    }
}

impl<R: Resolve> Resolve for &R {
    fn lookup(&self, name: &str, ticket: Ticket) -> Lookup {
        (**self).lookup(name, ticket)
    }

    fn addresses(&self, name: &str) -> Option<Addresses> {
        (**self).addresses(name)
    }
}
