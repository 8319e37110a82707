//! The proxies and tunnels of a run: which there are, where their programs lie,
//! and the commands that start each.

mod launch;
mod tunnels;
mod udp;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::backend::ECHO_ROLE;
use launch::{beside_this, is_program};
use tunnels::Ends;

pub(crate) use launch::{Launch, Route, find_in_path};

/// Connections that every proxy is configured to hold.
const CONNECTIONS: u64 = 6000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Direct,
    Seaprox,
    Haproxy,
    HaproxySplice,
    Nginx,
    Socat,
    Rinetd,
    Tokio,
    Realm,
    SeaproxSocks5,
    Microsocks,
    Echo,
    SeaproxLink,
    SeaproxUdp,
    SeaproxUdpKeys,
    Yamux,
    Rathole,
    Ssh,
    QuinnCubic,
    QuinnBbr,
    Kcp,
}

impl Peer {
    pub(crate) const ALL: [Self; 21] = [
        Self::Direct,
        Self::Seaprox,
        Self::Haproxy,
        Self::HaproxySplice,
        Self::Nginx,
        Self::Socat,
        Self::Rinetd,
        Self::Tokio,
        Self::Realm,
        Self::SeaproxSocks5,
        Self::Microsocks,
        Self::Echo,
        Self::SeaproxLink,
        Self::SeaproxUdp,
        Self::SeaproxUdpKeys,
        Self::Yamux,
        Self::Rathole,
        Self::Ssh,
        Self::QuinnCubic,
        Self::QuinnBbr,
        Self::Kcp,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Seaprox => "seaprox",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::Nginx => "nginx",
            Self::Socat => "socat",
            Self::Rinetd => "rinetd",
            Self::Tokio => "tokio",
            Self::Realm => "realm",
            Self::SeaproxSocks5 => "seaprox-socks5",
            Self::Microsocks => "microsocks",
            Self::Echo => "echo",
            Self::SeaproxLink => "seaprox-link",
            Self::SeaproxUdp => "seaprox-udp",
            Self::SeaproxUdpKeys => "seaprox-udp-keys",
            Self::Yamux => "yamux",
            Self::Rathole => "rathole",
            Self::Ssh => "ssh",
            Self::QuinnCubic => "quinn-cubic",
            Self::QuinnBbr => "quinn-bbr",
            Self::Kcp => "kcp",
        }
    }

    /// What the table calls it: of a tunnel also the carrier, and whether it
    /// encrypts.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SeaproxLink => "seaprox over SEQPACKET (unencrypted)",
            Self::SeaproxUdp => "seaprox over UDP (unencrypted)",
            Self::SeaproxUdpKeys => "seaprox over UDP (encrypted)",
            Self::Yamux => "yamux over TCP (unencrypted)",
            Self::Rathole => "rathole over TCP (unencrypted)",
            Self::Ssh => "ssh -L (encrypted)",
            Self::QuinnCubic => "quinn, CUBIC (encrypted)",
            Self::QuinnBbr => "quinn, BBR (encrypted)",
            Self::Kcp => "yamux over KCP (unencrypted)",
            _ => self.name(),
        }
    }

    /// Whether it is the one that the others are measured against.
    pub(crate) fn is_seaprox(self) -> bool {
        self.program() == Program::Beside("seaprox")
    }

    /// Whether it is none of those that are compared, but shows what the least is.
    pub(crate) fn is_yardstick(self) -> bool {
        matches!(self, Self::Direct | Self::Echo)
    }

    /// Whether clients tell it in SOCKS 5 where they want to go.
    pub(crate) fn talks_socks5(self) -> bool {
        matches!(self, Self::SeaproxSocks5 | Self::Microsocks)
    }

    /// Whether it is a pair of processes: one that clients connect to, and one
    /// that connects to the backend.
    pub(crate) fn is_tunnel(self) -> bool {
        self >= Self::SeaproxLink
    }

    /// Whether it is a tunnel whose two ends send each other UDP, so that a
    /// hostile relay can be put between them.
    pub(crate) fn is_over_udp(self) -> bool {
        matches!(
            self,
            Self::SeaproxUdp | Self::SeaproxUdpKeys | Self::QuinnCubic | Self::QuinnBbr | Self::Kcp
        )
    }

    /// Whether it makes a process for each connection.
    pub(crate) fn forks(self) -> bool {
        self == Self::Socat
    }

    /// Where its program is looked for: beside this program, or in PATH.
    fn program(self) -> Program {
        match self {
            Self::Direct => Program::None,
            Self::Seaprox
            | Self::SeaproxSocks5
            | Self::SeaproxLink
            | Self::SeaproxUdp
            | Self::SeaproxUdpKeys => Program::Beside("seaprox"),
            Self::Microsocks => Program::InPath("microsocks"),
            Self::Echo => Program::Beside("seaprox-peers"),
            Self::Haproxy | Self::HaproxySplice => Program::InPath("haproxy"),
            Self::Nginx => Program::InPath("nginx"),
            Self::Socat => Program::InPath("socat"),
            Self::Rinetd => Program::InPath("rinetd"),
            Self::Tokio => Program::Beside("peer-tokio"),
            Self::Realm => Program::Beside("peer-realm"),
            Self::Yamux => Program::Beside("peer-yamux"),
            Self::Rathole => Program::InPath("rathole"),
            Self::QuinnCubic | Self::QuinnBbr => Program::Beside("peer-quinn"),
            Self::Kcp => Program::Beside("peer-kcp"),
            Self::Ssh => Program::InPath("sshd"),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Program {
    None,
    Beside(&'static str),
    InPath(&'static str),
}

/// A peer that can be started here; the program is none for `direct`.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) peer: Peer,
    program: Option<PathBuf>,
}

impl Installed {
    /// Finds a peer, or says in one line what is missing.
    fn find(peer: Peer, seaprox: Option<&Path>) -> Result<Self, String> {
        let program = match (peer.program(), seaprox) {
            (Program::None, _) => None,
            (Program::Beside("seaprox"), Some(path)) if is_program(path) => Some(path.to_owned()),
            (Program::Beside("seaprox"), Some(path)) => {
                return Err(format!("{} is no program", path.display()));
            }
            (Program::Beside(name), _) => Some(beside_this(name).ok_or_else(|| {
                format!("there is no {name} beside this program: build it, or give its path")
            })?),
            (Program::InPath(name), _) => {
                Some(find_in_path(name).ok_or_else(|| format!("{name} is not installed"))?)
            }
        };
        // What a tunnel lacks beside its program.
        match (peer, &program) {
            (Peer::SeaproxLink, Some(program)) => tunnels::help(program).map(drop)?,
            (Peer::SeaproxUdp | Peer::SeaproxUdpKeys, Some(program)) => udp::check(program)?,
            (Peer::Ssh, _) => tunnels::check_ssh()?,
            _ => {}
        }
        Ok(Self { peer, program })
    }

    /// The size of its program file.
    pub(crate) fn program_bytes(&self) -> Option<u64> {
        Some(fs::metadata(self.program.as_ref()?).ok()?.len())
    }

    /// What makes it listen and forward, in the order in which it is to be
    /// started, its configuration written to the route's folder; nothing for
    /// `direct`.
    pub(crate) fn launches(&self, route: &Route<'_>) -> io::Result<Vec<Launch>> {
        let Some(program) = &self.program else {
            return Ok(Vec::new());
        };
        let mut launches = match self.peer {
            Peer::SeaproxLink => tunnels::seaprox(program, route),
            Peer::SeaproxUdp => udp::seaprox(program, route, &Ends::insecure())?,
            Peer::SeaproxUdpKeys => {
                udp::seaprox(program, route, &Ends::with_keys(program, route.folder)?)?
            }
            Peer::Yamux => tunnels::yamux(program, route)?,
            Peer::Rathole => tunnels::rathole(program, route)?,
            Peer::QuinnCubic => udp::quinn(program, route, "cubic")?,
            Peer::QuinnBbr => udp::quinn(program, route, "bbr")?,
            Peer::Kcp => udp::kcp(program, route)?,
            Peer::Ssh => tunnels::ssh(program, route)?,
            _ => vec![Launch::of(self.command(program, route)?)],
        };
        for launch in &mut launches {
            // The relay ends with its input, which is open as long as it is ours.
            let input = if launch.is_relay { Stdio::piped() } else { Stdio::null() };
            launch.command.stdin(input).stdout(Stdio::null());
        }
        Ok(launches)
    }

    /// The command of a proxy of one process.
    fn command(&self, program: &Path, route: &Route<'_>) -> io::Result<Command> {
        let mut command = Command::new(program);
        let Route { listen, target, .. } = *route;
        match self.peer {
            Peer::Seaprox => {
                command
                    .args(["static", &listen.to_string(), &target.to_string()])
                    .args(["--threads", &route.threads.to_string()])
                    .args(route.seaprox_args);
            }
            Peer::SeaproxSocks5 => {
                command
                    .args(["socks5", &listen.to_string()])
                    .args(["--threads", &route.threads.to_string()])
                    .args(route.seaprox_args);
            }
            Peer::Microsocks => {
                command.args(["-i", &listen.ip().to_string()]);
                command.args(["-p", &listen.port().to_string()]);
            }
            Peer::Echo => {
                command.args([ECHO_ROLE, &listen.to_string()]);
            }
            Peer::Haproxy => {
                command.args(["-db", "-f"]).arg(haproxy(route, "")?);
            }
            Peer::HaproxySplice => {
                let splice = "  option splice-request\n  option splice-response\n";
                command.args(["-db", "-f"]).arg(haproxy(route, splice)?);
            }
            Peer::Nginx => {
                command.args(["-e", "stderr", "-p"]).arg(route.folder);
                command.arg("-c").arg(nginx(program, route)?);
            }
            Peer::Socat => {
                command
                    .arg(format!(
                        "TCP-LISTEN:{},bind={},reuseaddr,fork,backlog=1024,nodelay",
                        listen.port(),
                        listen.ip()
                    ))
                    .arg(format!("TCP:{target},nodelay"));
            }
            Peer::Rinetd => {
                command.args(["-f", "-c"]).arg(rinetd(route)?);
            }
            Peer::Tokio | Peer::Realm => {
                command
                    .args([listen.to_string(), target.to_string()])
                    .arg(route.threads.to_string());
            }
            _ => return Err(io::Error::other("it is not one process")),
        }
        Ok(command)
    }
}

fn haproxy(route: &Route<'_>, more: &str) -> io::Result<PathBuf> {
    let text = format!(
        "global\n  nbthread {threads}\n  maxconn {connections}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen proxy\n  maxconn {connections}\n  bind {listen}\n{more}  server backend {target}\n",
        threads = route.threads,
        // Two descriptors a connection, and a pipe for every fourth.
        connections = CONNECTIONS.min(route.open_files.saturating_sub(200) * 2 / 5),
        listen = route.listen,
        target = route.target,
    );
    route.write("haproxy", &text)
}

fn nginx(program: &Path, route: &Route<'_>) -> io::Result<PathBuf> {
    let module = nginx_stream_module(program)?
        .map(|path| format!("load_module {};\n", path.display()))
        .unwrap_or_default();
    let text = format!(
        "{module}daemon off;\nworker_processes {threads};\nworker_rlimit_nofile {open_files};\n\
         pid {folder}/nginx-{port}.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {connections}; }}\n\
         stream {{\n  server {{\n    listen {listen} backlog=4096;\n    proxy_pass {target};\n    \
         proxy_timeout 1h;\n  }}\n}}\n",
        threads = route.threads,
        open_files = route.open_files,
        folder = route.folder.display(),
        port = route.listen.port(),
        connections = (2 * CONNECTIONS + 100).min(route.open_files),
        listen = route.listen,
        target = route.target,
    );
    route.write("nginx", &text)
}

/// The stream module, where it is not compiled into nginx.
fn nginx_stream_module(program: &Path) -> io::Result<Option<PathBuf>> {
    let output = Command::new(program).arg("-V").output()?;
    let built = String::from_utf8_lossy(&output.stderr);
    let folder = built.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
    Ok(folder
        .map(|folder| Path::new(folder).join("ngx_stream_module.so"))
        .filter(|module| module.exists()))
}

fn rinetd(route: &Route<'_>) -> io::Result<PathBuf> {
    let Route { listen, target, .. } = route;
    let text = format!("{} {} {} {}\n", listen.ip(), listen.port(), target.ip(), target.port());
    route.write("rinetd", &text)
}

/// Those of `peers` that are here; the others are named. `seaprox` is where its
/// program lies, if not beside this one.
pub(crate) fn find(peers: &[Peer], seaprox: Option<&Path>) -> Vec<Installed> {
    let find = |&peer: &Peer| {
        Installed::find(peer, seaprox)
            .inspect_err(|reason| eprintln!("without {}: {reason}", peer.name()))
            .ok()
    };
    peers.iter().filter_map(find).collect()
}

/// Builds the small peers of this package and the hostile relay too when cargo
/// runs us, as it builds only the program it is told to run.
pub(crate) fn build_small_peers() -> io::Result<()> {
    let (Some(cargo), Some(folder)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
    else {
        return Ok(());
    };
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--bins", "--package", "seaprox-peers"])
        .args(["--package", "seaprox-tests", "--manifest-path"])
        .arg(Path::new(&folder).join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("cargo build: {status}"))),
    }
}
