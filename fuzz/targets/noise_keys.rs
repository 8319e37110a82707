//! `cargo +nightly fuzz run noise_keys`, see [`seaprox_fuzz::noise_keys`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(noise_keys);
