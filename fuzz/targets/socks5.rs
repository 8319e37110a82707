//! `cargo +nightly fuzz run socks5`, see [`seaprox_fuzz::socks5`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(socks5);
