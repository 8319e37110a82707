//! What it costs to be told where to: two messages and their answers, before bytes flow.

use super::{pingpong, short};
use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::peers::Peer;
use crate::proxy::Proxy;
use crate::socks5::REQUEST_BYTES;

/// Short connections, which talk SOCKS first where the proxy does. Of a bare echo it is what as many
/// messages cost, and nothing else: a visit is two of them.
pub(crate) fn measure(proxy: &Proxy, effort: &Effort) -> Figures {
    if proxy.peer != Peer::Echo {
        return short::measure(proxy, effort);
    }
    let figures = pingpong::measure(proxy, effort, REQUEST_BYTES)?;
    Ok(figures.into_iter().filter_map(of_a_visit).collect())
}

fn of_a_visit((metric, value): (Metric, f64)) -> Option<(Metric, f64)> {
    match metric {
        Metric::RequestsPerSecond => Some((Metric::ConnectionsPerSecond, value / 2.0)),
        Metric::CpuPerRequest => Some((Metric::CpuPerConnection, value * 2.0)),
        _ => None,
    }
}
