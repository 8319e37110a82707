//! `cargo +nightly fuzz run arguments`, see [`seaprox_fuzz::arguments`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(arguments);
