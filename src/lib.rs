//! seaprox: a socket proxy whose memory is known to the byte before it starts.
#![no_std]
#![deny(unsafe_code)]
pub mod address;
pub mod completion;
pub mod fail;
pub mod share;
pub mod sys;
pub mod time;
