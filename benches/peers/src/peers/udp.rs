//! The tunnels over UDP: what starts each one's two ends, the far end first,
//! and the hostile relay between them where the route has a path.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use super::launch::{Launch, Route, beside_this, find_in_path};
use super::tunnels::{self, Ends};
use crate::lifecycle;

/// The relay's program, of the package of the tests.
const RELAY: &str = "hostile-relay";

/// The bytes that quinn may have on their way in a stream over a path without a
/// limit of its rate: so many that they never are the limit, 335 MB/s at 50 ms.
const FAST_PATH_WINDOW: &str = "16777216";

/// The same where the rate has a limit: 400 Mbit/s at 60 ms. Not more: what its
/// BBR begins with overruns the queue, and more than 1024 gaps in a stream end
/// the connection ("too many gaps in stream buffer").
const NARROW_PATH_WINDOW: &str = "3145728";

/// Where the ends of a link are, as each knows it.
struct Link {
    /// Where the far end listens.
    far: SocketAddr,
    /// Where the near end sends to.
    near: SocketAddr,
    relay: Option<Launch>,
}

impl Link {
    fn of(route: &Route<'_>) -> io::Result<Self> {
        let far = vacant_address()?;
        let Some(path) = route.path else { return Ok(Self { far, near: far, relay: None }) };
        let near = vacant_address()?;
        let program = beside_this(RELAY)
            .ok_or_else(|| io::Error::other(format!("there is no {RELAY} beside this program")))?;
        // It shall be punctual while the ends fight for the CPU. Who may not
        // have that goes without.
        let mut command = match find_in_path("nice") {
            Some(nice) => {
                let mut command = Command::new(nice);
                command.args(["-n", "-15"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args([near.to_string(), far.to_string(), path.to_owned()]);
        let relay = Some(Launch { is_relay: true, ..Launch::of(command) });
        Ok(Self { far, near, relay })
    }

    /// In the order of their start.
    fn launches(self, far: Launch, near: Launch) -> Vec<Launch> {
        [Some(far), self.relay, Some(near)].into_iter().flatten().collect()
    }
}

/// A port that is free for UDP too.
fn vacant_address() -> io::Result<SocketAddr> {
    /// The next port is another one.
    const TRIES: usize = 100;
    let mut error = io::Error::other("no port is free");
    for _ in 0..TRIES {
        let address = lifecycle::bind_free_port()?.local_addr()?;
        match UdpSocket::bind(address) {
            Ok(_) => return Ok(address),
            Err(taken) => error = taken,
        }
    }
    Err(error)
}

/// Whether this seaprox knows links over UDP.
pub(super) fn check(program: &Path) -> Result<(), String> {
    let lacks = format!("{} has no links over udp:HOST:PORT yet", program.display());
    tunnels::help(program)?.contains("udp:").then_some(()).ok_or(lacks)
}

pub(super) fn seaprox(program: &Path, route: &Route<'_>, ends: &Ends) -> io::Result<Vec<Launch>> {
    let link = Link::of(route)?;
    let (far, near) = (format!("udp:{}", link.far), format!("udp:{}", link.near));
    let [egress, ingress] = tunnels::seaprox_ends(program, route, ends, &far, &near);
    Ok(link.launches(Launch::of(egress), Launch::of(ingress)))
}

/// `control` is its congestion control.
pub(super) fn quinn(program: &Path, route: &Route<'_>, control: &str) -> io::Result<Vec<Launch>> {
    let link = Link::of(route)?;
    let certificate = route.folder.join(format!("quinn-{}.der", link.far.port()));
    let window = match route.path {
        Some(path) if path.contains("rate=") => NARROW_PATH_WINDOW,
        Some(_) => FAST_PATH_WINDOW,
        None => "0",
    };
    let command = |end: &str, from: SocketAddr, to: SocketAddr| {
        let mut command = Command::new(program);
        command.args([end, control, window]).arg(&certificate);
        command.args([from.to_string(), to.to_string(), route.threads.to_string()]);
        command
    };
    let far = command("far", link.far, route.target);
    let near = Launch::of(command("near", route.listen, link.near));
    Ok(link.launches(Launch::ready_with(far, certificate), near))
}

pub(super) fn kcp(program: &Path, route: &Route<'_>) -> io::Result<Vec<Launch>> {
    let link = Link::of(route)?;
    let launch = |end: &str, from: SocketAddr, to: SocketAddr| {
        let mut command = Command::new(program);
        command.args([end, &from.to_string(), &to.to_string(), &route.threads.to_string()]);
        Launch::of(command)
    };
    let far = launch("far", link.far, route.target);
    let near = launch("near", route.listen, link.near);
    Ok(link.launches(far, near))
}
