#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| seaprox_fuzz::listen(bytes));
