//! `cargo +nightly fuzz run session`, see [`seaprox_fuzz::session`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(session);
