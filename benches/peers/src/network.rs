//! A network namespace of the benchmark's own: the same congestion control on
//! every machine, and no port, filter or closed connection of anybody else's.

use std::fs;
use std::io;
use std::process;

use crate::sys;

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// On a loopback that loses nothing it behaves like cubic, and unlike cubic it
/// may be chosen in any namespace. (BBR's pacing costs a proxy several times as
/// much CPU a byte as relaying them.)
const CHOSEN: &str = "reno";

/// Leaves the host's network. Only while the process has a single thread; what
/// it starts later comes along.
pub(crate) fn leave_host() -> io::Result<()> {
    if sys::unshare_network().is_err() {
        leave_as_user()?;
    }
    sys::bring_loopback_up()?;
    fs::write(CONGESTION_CONTROL, CHOSEN)
}

/// The same for those who are not root: by way of a user namespace in which
/// everybody stays who they are.
fn leave_as_user() -> io::Result<()> {
    let (user, group) = sys::user_and_group();
    sys::unshare_user_and_network()?;
    let own = format!("/proc/{}", process::id());
    fs::write(format!("{own}/setgroups"), "deny")?;
    fs::write(format!("{own}/uid_map"), format!("{user} {user} 1"))?;
    fs::write(format!("{own}/gid_map"), format!("{group} {group} 1"))
}

/// The congestion control in use where this process is now.
pub(crate) fn congestion_control() -> String {
    fs::read_to_string(CONGESTION_CONTROL)
        .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}
