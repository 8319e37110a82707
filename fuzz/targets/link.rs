//! `cargo +nightly fuzz run link`, see [`seaprox_fuzz::link`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(link);
