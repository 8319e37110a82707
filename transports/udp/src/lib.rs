//! UDP as a carrier of links: datagrams become messages that arrive at least once each, in no
//! order. Knows no channel.
#![no_std]

#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod ack;
mod asking;
pub mod carrier;
pub mod congestion;
mod flood;
pub mod handshake;
pub mod hub;
mod join;
pub mod keyed;
pub mod knocks;
pub mod listener;
pub mod mtu;
mod pacer;
pub mod packet;
mod random;
pub mod reliable;
mod renewal;
mod roaming;
mod rtt;
pub mod seal;
mod sent;
pub mod slots;
pub mod socket;
mod split;
mod sys;
pub mod time;
pub mod unsent;
