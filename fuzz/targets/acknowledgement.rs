//! `cargo +nightly fuzz run acknowledgement`, see [`seaprox_fuzz::acknowledgement`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(acknowledgement);
