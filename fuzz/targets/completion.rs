//! `cargo +nightly fuzz run completion`, see [`seaprox_fuzz::completion`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(completion);
