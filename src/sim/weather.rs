//! How fast, regular and reliable the network of a run is.

use super::fault::swarm_chance;
use super::random::Random;

/// How the network of one run is: drawn from the seed, then constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The longest time anything takes to arrive.
    pub(super) latency_micros_max: usize,
    /// The least (if there is as much) and the most that arrives at a time.
    pub(super) chunk_bytes: (usize, usize),
    /// The smallest and the largest send or receive buffer.
    pub(super) buffer_bytes: (usize, usize),
    /// How often a FIN comes with the last bytes instead of after them.
    pub(super) joined_fin_chance: u16,
    /// How often a connect is through at once, as a unix socket's.
    pub(super) connect_at_once_chance: u16,
    /// How often a delivery ends the connection instead, at both ends.
    pub(super) loss_chance: u16,
}

impl Weather {
    /// Fast, regular and roomy.
    pub(super) fn calm() -> Weather {
        Weather {
            latency_micros_max: 1,
            chunk_bytes: (1 << 20, 1 << 20),
            buffer_bytes: (1 << 16, 1 << 16),
            joined_fin_chance: 0,
            connect_at_once_chance: 0,
            loss_chance: 0,
        }
    }

    /// That of a seed.
    pub(super) fn swarm(random: &mut Random) -> Weather {
        Weather {
            latency_micros_max: random.pick(&[1, 50, 1000, 20_000, 200_000]),
            chunk_bytes: (1, random.pick(&[1460, 1 << 14, 1 << 17])),
            buffer_bytes: (512, random.pick(&[1 << 12, 1 << 16, 1 << 19])),
            joined_fin_chance: random.pick(&[0, 1 << 15, u16::MAX]),
            connect_at_once_chance: swarm_chance(random),
            loss_chance: if random.below(4) == 0 { swarm_chance(random) / 16 } else { 0 },
        }
    }
}
