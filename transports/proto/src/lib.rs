//! How two seaprox talk to each other: many channels over one link, whatever carries it.
//! docs/protocol.md says what goes over the wire, byte by byte.
//!
//! A [`carrier`] moves packets, in pieces perhaps; the [`demarcator`] makes whole packets of them;
//! each packet is one [`message`] after another.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod carrier;
pub mod demarcator;
pub mod message;
