//! Turns what is chosen at build time into constants, and prints how much memory it bounds.

#[path = "src/constants.rs"]
mod constants;

use constants::Constants;
use std::net::SocketAddr;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/constants.rs");
    let constants = match Constants::read(|name| {
        println!("cargo::rerun-if-env-changed={name}");
        // What is not UTF-8 is no address and no number either, and is shown as such.
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }) {
        Ok(constants) => constants,
        Err(why) => {
            println!("cargo::error={why}");
            return;
        }
    };
    // The C library of the target: its start, memcpy(3) and the like, which std would bring along.
    println!("cargo::rustc-link-arg-bins=-lc");
    let Constants { listen, target, connections, pipe_bytes } = &constants;
    let memory_bytes = constants.memory_bytes();
    let text = format!(
        "const LISTEN: SocketAddr = {};\n\
         const CANNOT_LISTEN: &str = \"cannot listen on {listen}\";\n\
         const TARGET: SocketAddr = {};\n\
         const MAX_NUM_CONNECTIONS: usize = {connections};\n\
         const PIPE_BYTES: usize = {pipe_bytes};\n\
         const MEMORY_BYTES_MAX: usize = {memory_bytes};\n",
        literal(listen),
        literal(target),
    );
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(Path::new(&directory).join("constants.rs"), text).expect("OUT_DIR is writable");
    println!(
        "cargo::warning={connections} connections from {listen} to {target}: at most \
         {memory_bytes} bytes of user memory for them, and {pipe_bytes} of the kernel's for pipes"
    );
}

/// The address as an expression that can be a constant.
fn literal(address: &SocketAddr) -> String {
    let (kind, ip) = match address {
        SocketAddr::V4(v4) => ("4", v4.ip().to_bits().into()),
        SocketAddr::V6(v6) => ("6", v6.ip().to_bits()),
    };
    let scope = match address {
        SocketAddr::V4(_) => String::new(),
        SocketAddr::V6(v6) => format!(", {}, {}", v6.flowinfo(), v6.scope_id()),
    };
    let port = address.port();
    format!(
        "SocketAddr::V{kind}(core::net::SocketAddrV{kind}::new(\
         core::net::Ipv{kind}Addr::from_bits({ip}), {port}{scope}))"
    )
}
