//! Turns SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS, SEAPROX_MAX_NUM_PEERS and
//! SEAPROX_MAX_NUM_LINKS into constants, and prints how much user memory they bound.

#[path = "src/bound.rs"]
#[allow(dead_code, unreachable_pub)]
mod bound;

use std::path::Path;

fn main() {
    let variable = |name: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        // What is not UTF-8 is not a number either, and is shown as such.
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bound.rs");
    let sizes = match bound::read_sizes(variable) {
        Ok(sizes) => sizes,
        Err(why) => {
            println!("cargo::error={why}");
            return;
        }
    };
    let bound::Sizes { connections, threads, peers, links } = sizes;
    let constants = format!(
        "/// How many connections this build can hold.\n\
         pub const MAX_NUM_CONNECTIONS: usize = {connections};\n\
         /// How many threads this build can run.\n\
         pub const NUM_THREADS: usize = {threads};\n\
         /// How many peers an egress of this build can know.\n\
         pub const MAX_NUM_PEERS: usize = {peers};\n\
         /// How many links each thread of an egress of this build can hold.\n\
         pub const MAX_NUM_LINKS: usize = {links};\n"
    );
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&directory).join("sizes.rs"), constants).expect("OUT_DIR is writable");
    println!(
        "cargo::warning={connections} connections on {threads} threads: at most {} bytes of user \
         memory, {} more where clients say where they want to go, {} more for links in an ingress or \
         an egress ({links} a thread, {peers} peers), another {} if those are over udp, and another {} \
         where clients of an ingress say where they want to go",
        bound::user_bytes(sizes),
        bound::seats_bytes(connections, threads),
        bound::links_bytes(sizes),
        bound::udp_bytes(sizes),
        bound::asking_bytes(connections, threads)
    );
}
