//! From the start of a proxy to its first connection, and its program's size.

use std::io;

use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;

/// Reads off what the start of a fresh proxy has shown.
pub(crate) fn measure(proxy: &Proxy) -> Figures {
    let (Some(startup), Some(bytes)) = (proxy.startup(), proxy.program_bytes) else {
        return Err(io::Error::other("it has no program"));
    };
    Ok(vec![
        (Metric::FirstConnect, startup.connect.as_secs_f64() * 1e3),
        (Metric::FirstReply, startup.reply.as_secs_f64() * 1e3),
        (Metric::ProgramSize, bytes as f64 / 1e3),
    ])
}
