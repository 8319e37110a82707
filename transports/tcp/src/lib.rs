//! The tcp transport.
#![no_std]
#[cfg(feature = "std")]
extern crate std;
#[cfg(feature = "std")]
mod lookup;
pub mod resolve;
#[cfg(feature = "std")]
pub mod resolver;
