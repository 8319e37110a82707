//! `cargo +nightly fuzz run sealed`, see [`seaprox_fuzz::sealed`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(sealed);
