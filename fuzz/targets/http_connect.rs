//! `cargo +nightly fuzz run http_connect`, see [`seaprox_fuzz::http_connect`].
#![cfg_attr(fuzzing, no_main)]

seaprox_fuzz::fuzz!(http_connect);
