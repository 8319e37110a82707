//! Time and chance, from the kernel.

use crate::keeper::Outside;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use seaprox::sys::{Errno, Linux, Sys};
use seaprox::time::Instant;

/// The clocks of this machine, and getrandom(2).
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Outside for System {
    fn now(&self) -> Instant {
        Linux.now()
    }

    fn wall_micros(&self) -> u64 {
        let time = clock_gettime(ClockId::Realtime);
        // Before 1970 is no time to be shown.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(time.tv_nsec as u64 / 1000)
    }

    /// Waits, once after the machine has started, until its kernel has seen enough chance. Up to 256 bytes
    /// come whole (getrandom(2)).
    fn random(&self) -> Result<[u8; 32], Errno> {
        let mut bytes = [0; 32];
        match getrandom(&mut bytes, GetRandomFlags::empty())? {
            32 => Ok(bytes),
            _ => Err(Errno::IO),
        }
    }
}
