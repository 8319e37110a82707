//! UDP as a carrier of links: datagrams become messages that arrive at least once each, in no
//! order. Knows no channel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod congestion;
pub mod pacer;
pub mod time;
