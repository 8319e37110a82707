//! `cargo +nightly fuzz run noise_handshake`, see [`seaprox_fuzz::noise_handshake`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(noise_handshake);
