//! `cargo +nightly fuzz run table`, see [`seaprox_fuzz::table`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(table);
