//! `cargo +nightly fuzz run allow`, see [`seaprox_fuzz::allow`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(allow);
