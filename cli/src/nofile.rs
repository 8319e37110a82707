//! How many descriptors the limits need, and what is done when the system grants fewer: fewer
//! pooled pipes first, since a relay without a pipe copies, and fewer connections only then.
//! Knows no connection and opens nothing but one file of /proc.

use crate::sys;
use seaprox::relay::PipeLimits;
use std::fmt;
use std::io;

/// A socket for the client and one for the target.
const PER_CONNECTION: u64 = 2;
/// A pipe's two ends.
const PER_PIPE: u64 = 2;
/// A thread's epoll, its doorbell, and a socket for each staggered second connect.
const PER_THREAD: u64 = seaprox_tcp::RACES_MAX as u64 + 2;
/// The standard streams, the notify socket, what resolver threads open while they look a name up,
/// what was inherited, and a client that is accepted only to be refused.
const RESERVE: u64 = 40;

/// What is to be held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Connections at once.
    pub connections: usize,
    /// Threads that relay.
    pub threads: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// Pooled pipes at most, [`pipes_for`].
    pub pipes: PipeLimits,
}

/// What can be held open. Invariant: `needed(connections, pipes) <= limit`, unless not even one
/// connection fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Connections at once; as wished, unless the hard limit is lower than that.
    pub connections: usize,
    /// Pooled pipes.
    pub pipes: PipeLimits,
    /// Descriptors that the wish needs, pipes included.
    pub needed: u64,
    /// The limit of descriptors from now on.
    pub limit: u64,
}

impl Wish {
    /// Descriptors beside connections and pipes.
    fn fixed(&self) -> u64 {
        self.threads as u64 * PER_THREAD + self.listeners as u64 + RESERVE
    }

    /// Descriptors that all of it needs.
    pub fn needed(&self) -> u64 {
        self.fixed()
            + self.connections as u64 * PER_CONNECTION
            + self.pipes.pipes() as u64 * PER_PIPE
    }

    /// What fits under `limit` descriptors. Connections come first, 0 when none fits.
    pub fn fit(&self, limit: u64) -> Plan {
        let left = limit.saturating_sub(self.fixed());
        let connections = (self.connections as u64).min(left / PER_CONNECTION);
        let left = left - connections * PER_CONNECTION;
        Plan {
            connections: connections as usize,
            pipes: self.pipes.at_most((left / PER_PIPE) as usize),
            needed: self.needed(),
            limit,
        }
    }
}

impl Plan {
    /// What the operator should know, if the system grants less than was wished.
    pub fn warning(&self, wish: &Wish) -> Option<Lowered> {
        (self.connections < wish.connections).then_some(Lowered {
            wished: wish.connections,
            connections: self.connections,
            needed: self.needed,
            limit: self.limit,
        })
    }
}

/// Fewer connections than wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    wished: usize,
    connections: usize,
    needed: u64,
    limit: u64,
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lowered { wished, connections, needed, limit } = self;
        write!(
            f,
            "{wished} connections need {needed} descriptors, but the hard limit is {limit} \
             (ulimit -Hn, LimitNOFILE=): at most {connections} connections"
        )
    }
}

/// Raises RLIMIT_NOFILE to what is wished, as far as the hard limit goes; never lowers it.
pub fn raise(wish: &Wish) -> io::Result<Plan> {
    let (soft, hard) = sys::descriptor_limits()?;
    let needed = wish.needed();
    if soft >= needed {
        return Ok(wish.fit(soft));
    }
    let limit = needed.min(hard);
    sys::set_descriptor_limits(limit, hard)?;
    Ok(wish.fit(limit))
}

/// Which pipes are worth pooling for so many connections: one for each direction, and no more than
/// one user may have (pipe(7): all of the user's processes share that number of pages, and 0 is no
/// limit).
pub fn pipes_for(connections: usize, user_pages_soft: u64) -> PipeLimits {
    let bytes = match user_pages_soft {
        0 => u64::MAX,
        pages => pages.saturating_mul(sys::page_bytes()),
    };
    PipeLimits::of(connections, usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The number of /proc/sys/fs/pipe-user-pages-soft; its default where it cannot be read.
pub fn pipe_user_pages_soft() -> u64 {
    const DEFAULT: u64 = 16384;
    let text = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(connections: usize, threads: usize) -> Wish {
        let pipes = pipes_for(connections, 16384);
        Wish { connections, threads, listeners: 1, pipes }
    }

    #[test]
    fn all_of_it_fits_under_what_it_needs() {
        let wish = wish(8192, 4);
        assert_eq!(wish.needed(), 2 * 8192 + 2 * (128 + 512) + 4 * 18 + 1 + 40);
        let plan = wish.fit(wish.needed());
        assert_eq!((plan.connections, plan.pipes), (8192, PipeLimits { large: 128, small: 512 }));
        assert_eq!(plan.warning(&wish), None);
    }

    #[test]
    fn pipes_go_first_and_then_connections_with_a_warning() {
        let many = wish(9900, 4);
        let plan = many.fit(20_000);
        assert_eq!(plan.connections, 9900, "9,900 idle connections fit under 20,000 descriptors");
        assert!((1..128).contains(&plan.pipes.large) && plan.pipes.small == 0);
        assert_eq!(plan.warning(&many), None);

        let small = wish(8192, 1);
        let plan = small.fit(1024);
        assert_eq!((plan.connections, plan.pipes.pipes()), ((1024 - 18 - 1 - 40) / 2, 0));
        assert_eq!(
            plan.warning(&small).unwrap().to_string(),
            "8192 connections need 17723 descriptors, but the hard limit is 1024 (ulimit -Hn, \
             LimitNOFILE=): at most 482 connections"
        );
        assert_eq!(small.fit(0).connections, 0);
    }

    #[test]
    fn pipes_are_bounded_by_what_a_user_may_have() {
        assert_eq!(pipes_for(10, 16384), PipeLimits { large: 20, small: 0 });
        assert_eq!(pipes_for(100, 16384), PipeLimits { large: 128, small: 72 });
        assert_eq!(pipes_for(8192, 16384), PipeLimits { large: 128, small: 512 });
        assert_eq!(pipes_for(8192, 16384).bytes() as u64, 16384 * sys::page_bytes());
        assert_eq!(pipes_for(8192, 0).pipes(), 1024);
        assert_eq!(pipes_for(8192, 15).pipes(), 0);
    }

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let (soft, hard) = sys::descriptor_limits().unwrap();
        let plan = raise(&Wish {
            connections: 1,
            threads: 1,
            listeners: 1,
            pipes: PipeLimits { large: 2, small: 0 },
        })
        .unwrap();
        assert_eq!((plan.connections, plan.limit), (1, soft));
        let all = Wish {
            connections: 1 << 40,
            threads: 1,
            listeners: 1,
            pipes: PipeLimits { large: 2, small: 0 },
        };
        let plan = raise(&all).unwrap();
        assert_eq!(sys::descriptor_limits().unwrap(), (hard.min(all.needed()), hard));
        assert_eq!(plan.limit, hard.min(all.needed()));
        sys::set_descriptor_limits(soft, hard).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_planned_fits(connections in 1usize..100_000, threads in 1usize..64, limit: u32) {
            let limit = u64::from(limit % 400_000);
            let wish = wish(connections, threads);
            let plan = wish.fit(limit);
            let planned = Wish { connections: plan.connections, pipes: plan.pipes, ..wish };
            prop_assert!(planned.needed() <= limit || plan.connections == 0);
            prop_assert_eq!(plan.warning(&wish).is_some(), plan.connections < connections);
            if limit >= wish.needed() {
                prop_assert_eq!(planned, wish);
            }
        }
    }
}
