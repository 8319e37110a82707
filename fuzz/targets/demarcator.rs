//! `cargo +nightly fuzz run demarcator`, see [`seaprox_fuzz::demarcator`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(demarcator);
