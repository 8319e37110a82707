//! UDP as a carrier of links: datagrams become messages that arrive at least once each, in no
//! order. Knows no channel.
#![no_std]

#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod ack;
pub mod carrier;
pub mod congestion;
pub mod handshake;
pub mod hub;
mod join;
pub mod listener;
pub mod mtu;
pub mod pacer;
pub mod packet;
pub mod reliable;
mod roaming;
mod rtt;
pub mod seal;
mod sent;
pub mod slots;
pub mod socket;
mod split;
mod sys;
pub mod time;
