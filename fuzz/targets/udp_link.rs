//! `cargo +nightly fuzz run udp_link`, see [`seaprox_fuzz::udp_link`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(udp_link);
