//! Connections that have echoed one message and then do nothing.

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::bulk::Sink;
use crate::accounting::Processes;
use crate::effort::Effort;
use crate::metrics::{Figures, Metric};
use crate::proxy::Proxy;
use crate::wire::Behaviour;

/// For opening all of them.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Opened before the first look at the memory, for what a proxy sets up once.
const WARM_UP: usize = 16;

/// Given to the proxy to come to rest before its memory is looked at.
const SETTLE: Duration = Duration::from_millis(100);

/// Opens `count` connections and has one message echoed on each.
pub(crate) fn open(proxy: &Proxy, count: usize) -> io::Result<Vec<TcpStream>> {
    let started = Instant::now();
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let opened = streams.len();
        if started.elapsed() > OPEN_TIMEOUT {
            let seconds = OPEN_TIMEOUT.as_secs();
            let text = format!("only {opened} of {count} connections in {seconds} s");
            return Err(io::Error::other(text));
        }
        let stream = proxy.open_echoed(Behaviour::Echo).map_err(|error| {
            io::Error::other(format!("only {opened} of {count} connections: {error}"))
        })?;
        streams.push(stream);
    }
    Ok(streams)
}

/// Connections of the bulk run that comes before.
const BULK: usize = 64;

/// The same once bulk data has gone through, so that memory which all
/// connections share is in use already.
pub(crate) fn measure_after_bulk(proxy: &Proxy, effort: &Effort, count: usize) -> Figures {
    Sink::open(proxy, BULK)?.take_for(effort.warm_up + effort.window)?;
    thread::sleep(SETTLE);
    measure(proxy, count)
}

/// Private memory that each of `count` more connections costs.
pub(crate) fn measure(proxy: &Proxy, count: usize) -> Figures {
    let pss_bytes = || {
        thread::sleep(SETTLE);
        proxy
            .processes()
            .and_then(Processes::pss_bytes)
            .ok_or_else(|| io::Error::other("its memory cannot be read"))
    };
    let _warm = open(proxy, WARM_UP)?;
    let before = pss_bytes()? as f64;
    let _idle = open(proxy, count)?;
    let after = pss_bytes()? as f64;
    Ok(vec![(Metric::BytesPerIdle, (after - before) / count as f64)])
}
