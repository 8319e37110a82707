//! seaprox: a socket proxy whose memory is known to the byte before it starts.
#![no_std]
#![deny(unsafe_code)]
#[cfg(feature = "sim")]
extern crate std;

pub mod address;
pub mod completion;
pub mod fail;
pub mod share;
#[cfg(feature = "sim")]
pub mod sim;
pub mod sys;
pub mod time;
