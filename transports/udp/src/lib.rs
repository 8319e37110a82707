//! UDP as a carrier of links: datagrams become messages that arrive at least once each, in no
//! order. Knows no channel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod ack;
pub mod handshake;
pub mod mtu;
pub mod packet;
pub mod seal;
pub mod time;
