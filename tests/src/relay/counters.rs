//! What happened to the datagrams of one way.

use std::fmt;

/// Datagrams of one way since the start, but where a unit is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// That came in.
    pub received: u64,
    /// That went out, copies and replays too.
    pub sent: u64,
    /// Bytes of UDP payload that went out.
    pub sent_bytes: u64,
    /// Lost, alone or in a bad spell.
    pub lost: u64,
    /// That found the queue full.
    pub queue_full: u64,
    /// Above the MTU.
    pub too_large: u64,
    /// That vanished in a blackout.
    pub in_blackout: u64,
    /// Held back, to be overtaken.
    pub held_back: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// With another byte.
    pub corrupted: u64,
    /// Cut short.
    pub truncated: u64,
    /// Old ones sent once more.
    pub replayed: u64,
    /// That no socket took, or that the relay had no room for: nobody asked for that.
    pub refused: u64,
    /// Sent more than 100 us too late: the relay did not get the CPU.
    pub late: u64,
    /// The worst of that, in microseconds.
    pub latest_us: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received {} sent {} sent-bytes {} lost {} queue-full {} too-large {} in-blackout {} \
             held-back {} duplicated {} corrupted {} truncated {} replayed {} refused {} late {} \
             latest-us {}",
            self.received,
            self.sent,
            self.sent_bytes,
            self.lost,
            self.queue_full,
            self.too_large,
            self.in_blackout,
            self.held_back,
            self.duplicated,
            self.corrupted,
            self.truncated,
            self.replayed,
            self.refused,
            self.late,
            self.latest_us,
        )
    }
}
