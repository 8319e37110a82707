//! How two seaprox talk to each other: many channels over one link, whatever carries it.
//! docs/protocol.md says what goes over the wire, byte by byte.
//!
//! A [`carrier`] moves packets, in pieces perhaps; the [`demarcator`] makes whole packets of them;
//! each packet is one [`message`] after another, and the [`session`] knows what each
//! does.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod carrier;
mod channel;
pub mod demarcator;
pub mod dest;
pub mod link;
pub mod message;
pub mod pool;
mod ranges;
pub mod schedule;
pub mod session;
pub mod source;
pub mod window;
