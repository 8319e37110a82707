//! `cargo +nightly fuzz run datagram`, see [`seaprox_fuzz::datagram`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(datagram);
