//! `cargo +nightly fuzz run duration`, see [`seaprox_fuzz::duration`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(duration);
