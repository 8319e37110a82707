//! Turns SEAPROX_MAX_NUM_CONNECTIONS and SEAPROX_NUM_THREADS into constants, and prints how much
//! user memory they bound.

#[path = "src/bound.rs"]
#[allow(dead_code, unreachable_pub)]
mod bound;

use std::path::Path;

fn main() {
    let variable = |name| {
        println!("cargo::rerun-if-env-changed={name}");
        // What is not UTF-8 is not a number either, and is shown as such.
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bound.rs");
    let connections = variable("SEAPROX_MAX_NUM_CONNECTIONS");
    let threads = variable("SEAPROX_NUM_THREADS");
    let (connections, threads) = match bound::read_sizes(connections.as_deref(), threads.as_deref())
    {
        Ok(sizes) => sizes,
        Err(why) => {
            println!("cargo::error={why}");
            return;
        }
    };
    let constants = format!(
        "/// How many connections this build can hold.\n\
         pub const MAX_NUM_CONNECTIONS: usize = {connections};\n\
         /// How many threads this build can run.\n\
         pub const NUM_THREADS: usize = {threads};\n"
    );
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&directory).join("sizes.rs"), constants).expect("OUT_DIR is writable");
    println!(
        "cargo::warning={connections} connections on {threads} threads: at most {} bytes of user \
         memory, and {} more for links in an ingress or an egress",
        bound::user_bytes(connections, threads),
        bound::links_bytes(connections, threads)
    );
}
