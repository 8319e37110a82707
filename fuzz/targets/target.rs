//! `cargo +nightly fuzz run target`, see [`seaprox_fuzz::target`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(target);
