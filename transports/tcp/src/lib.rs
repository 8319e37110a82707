//! The tcp transport.
#![no_std]
pub mod resolve;
