//! Turns SEAPROX_MAX_NUM_CONNECTIONS and SEAPROX_NUM_THREADS into constants, prints how much memory
//! they bound, and gives the shared library its name.

#[path = "src/bounds.rs"]
#[allow(dead_code, unreachable_pub)]
mod bounds;

use bounds::{CONNECTIONS_DEFAULT, CONNECTIONS_MAX, THREADS_DEFAULT, THREADS_MAX};
use std::path::Path;

/// Reads a number from the environment.
fn number(name: &str, default: usize, most: usize) -> Result<usize, String> {
    println!("cargo::rerun-if-env-changed={name}");
    let Some(value) = std::env::var_os(name) else { return Ok(default) };
    let text = value.to_string_lossy();
    // `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|number| digits && (1..=most).contains(number)) {
        Some(number) => Ok(number),
        None => Err(format!("{name} is `{text}`: set it to a whole number from 1 to {most}")),
    }
}

fn sizes() -> Result<(usize, usize), String> {
    let connections = number("SEAPROX_MAX_NUM_CONNECTIONS", CONNECTIONS_DEFAULT, CONNECTIONS_MAX)?;
    let threads = number("SEAPROX_NUM_THREADS", THREADS_DEFAULT.min(connections), THREADS_MAX)?;
    if threads > connections {
        return Err(format!(
            "SEAPROX_NUM_THREADS is {threads}: set it to at most SEAPROX_MAX_NUM_CONNECTIONS, {connections}"
        ));
    }
    Ok((connections, threads))
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bounds.rs");
    let (connections, threads) = match sizes() {
        Ok(sizes) => sizes,
        Err(why) => {
            println!("cargo::error={why}");
            return;
        }
    };
    let constants = format!(
        "/// How many connections this library can hold.\n\
         pub const SEAPROX_MAX_NUM_CONNECTIONS: usize = {connections};\n\
         /// How many threads it can run.\n\
         pub const SEAPROX_NUM_THREADS: usize = {threads};\n"
    );
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&directory).join("sizes.rs"), constants).expect("OUT_DIR is writable");
    println!(
        "cargo::warning=libseaprox: {connections} connections on {threads} threads: at most {} bytes of \
         the caller's memory",
        bounds::memory_bytes(connections, threads)
    );
    // Programs ask the loader for this name: one of another ABI is not taken for it.
    let name = concat!("libseaprox.so.", env!("CARGO_PKG_VERSION_MAJOR"));
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{name}");
}
