//! `cargo +nightly fuzz run listen`, see [`seaprox_fuzz::listen`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(listen);
