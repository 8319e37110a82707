//! UDP as a carrier of links: datagrams become messages that arrive at least once each, in no
//! order. Knows no channel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod socket;
mod sys;
pub mod time;
