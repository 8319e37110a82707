//! `cargo +nightly fuzz run message`, see [`seaprox_fuzz::message`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(message);
