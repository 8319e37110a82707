//! The tunnels: what starts each one's two ends, the far end first.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::launch::{Launch, Route, find_in_path};
use crate::lifecycle;

/// Says in one line what ssh lacks beside its server.
pub(super) fn check_ssh() -> Result<(), String> {
    ["ssh", "ssh-keygen"]
        .into_iter()
        .find(|name| find_in_path(name).is_none())
        .map_or(Ok(()), |name| Err(format!("{name} is not installed")))
}

/// What seaprox says of links.
pub(super) fn help(program: &Path) -> Result<String, String> {
    let help = Command::new(program)
        .args(["ingress", "--help"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let lacks = format!("{} has no `ingress`", program.display());
    help.status.success().then(|| String::from_utf8_lossy(&help.stdout).into()).ok_or(lacks)
}

pub(super) fn seaprox(program: &Path, route: &Route<'_>) -> Vec<Launch> {
    let socket = route.folder.join(format!("seaprox-{}.sock", route.listen.port()));
    let link = format!("seqpacket:{}", socket.display());
    let [egress, ingress] = seaprox_ends(program, route, &Ends::insecure(), &link, &link);
    vec![Launch::ready_with(egress, socket), Launch::of(ingress)]
}

/// The egress where `far` says, and the ingress of the link where `near` says.
pub(super) fn seaprox_ends(
    program: &Path,
    route: &Route<'_>,
    ends: &Ends,
    far: &str,
    near: &str,
) -> [Command; 2] {
    let command = |words: [&str; 3], who: &[String]| {
        let mut command = Command::new(program);
        command
            .args(words)
            .args(who)
            .args(["--threads", &route.threads.to_string()])
            .args(route.seaprox_args);
        command
    };
    [
        command(["egress", far, &route.target.to_string()], &ends.far),
        command(["ingress", &route.listen.to_string(), near], &ends.near),
    ]
}

/// What the two ends of a link of seaprox are told of who they are.
pub(super) struct Ends {
    far: Vec<String>,
    near: Vec<String>,
}

impl Ends {
    /// Nothing is encrypted.
    pub(super) fn insecure() -> Self {
        let words = || vec!["--insecure".to_owned()];
        Self { far: words(), near: words() }
    }

    /// With keys that are made for the run.
    pub(super) fn with_keys(program: &Path, folder: &Path) -> io::Result<Self> {
        let [far, near] = ["seaprox-far-key", "seaprox-near-key"].map(|name| folder.join(name));
        let (of_far, of_near) = (public_key(program, &far)?, public_key(program, &near)?);
        let words = |key: &Path, peer: String| {
            vec!["--key".to_owned(), key.display().to_string(), "--peer".to_owned(), peer]
        };
        Ok(Self { far: words(&far, of_near), near: words(&near, of_far) })
    }
}

/// Of a key that is made when it is needed first.
fn public_key(program: &Path, key: &Path) -> io::Result<String> {
    if !key.exists() {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key)?;
        let status = Command::new(program).arg("genkey").stdout(file).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("seaprox genkey: {status}")));
        }
    }
    let output = Command::new(program).arg("pubkey").stdin(fs::File::open(key)?).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(io::Error::other(format!("seaprox pubkey: {}", output.status))),
    }
}

pub(super) fn yamux(program: &Path, route: &Route<'_>) -> io::Result<Vec<Launch>> {
    let link = lifecycle::bind_free_port()?.local_addr()?;
    let launch = |end: &str, from: SocketAddr, to: SocketAddr| {
        let mut command = Command::new(program);
        command.args([end, &from.to_string(), &to.to_string(), &route.threads.to_string()]);
        Launch::of(command)
    };
    Ok(vec![launch("far", link, route.target), launch("near", route.listen, link)])
}

/// Its server is the end that clients connect to, and listens for them once its
/// client, the end at the target, has come.
pub(super) fn rathole(program: &Path, route: &Route<'_>) -> io::Result<Vec<Launch>> {
    let link = lifecycle::bind_free_port()?.local_addr()?;
    let Route { listen, target, .. } = route;
    let token = "default_token = \"peers\"\n";
    let server = format!(
        "[server]\nbind_addr = \"{link}\"\n{token}[server.services.one]\n\
         bind_addr = \"{listen}\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{link}\"\n{token}[client.services.one]\n\
         local_addr = \"{target}\"\n"
    );
    let launch = |role: &str, text: &str| -> io::Result<Launch> {
        let mut command = Command::new(program);
        command.arg(format!("--{role}")).arg(route.write(&format!("rathole-{role}"), text)?);
        // It has no word for it.
        command.env("TOKIO_WORKER_THREADS", route.threads.to_string()).env("RUST_LOG", "error");
        Ok(Launch::of(command))
    };
    Ok(vec![launch("server", &server)?, launch("client", &client)?])
}

/// A server of its own for each tunnel, with keys and a configuration that are
/// the run's; nobody's own are read, and the cipher is the default one.
pub(super) fn ssh(sshd: &Path, route: &Route<'_>) -> io::Result<Vec<Launch>> {
    let keys = SshKeys::of_run(route.folder)?;
    let link = lifecycle::bind_free_port()?.local_addr()?;
    let pid_file = route.folder.join(format!("sshd-{}.pid", link.port()));
    let text = format!(
        "ListenAddress {link}\nHostKey {host_key}\nAuthorizedKeysFile {client_key}.pub\n\
         PidFile {pid_file}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         AllowTcpForwarding local\nPermitTTY no\nLogLevel ERROR\n",
        host_key = keys.host.display(),
        client_key = keys.client.display(),
        pid_file = pid_file.display(),
    );
    // As root it wants one that is empty (sshd(8)); Debian makes it when the service starts, which
    // nobody asks for here.
    if !Path::new(PRIVILEGE_SEPARATION).exists() {
        fs::create_dir(PRIVILEGE_SEPARATION)?;
    }
    let mut server = Command::new(sshd);
    server.args(["-D", "-e", "-f"]).arg(route.write("sshd", &text)?);

    let mut client = Command::new(installed("ssh")?);
    client.args(["-F", "none", "-N", "-T", "-p", &link.port().to_string(), "-i"]);
    client.arg(&keys.client);
    client.args(["-L", &format!("{}:{}", route.listen, route.target)]);
    for option in [
        "BatchMode=yes",
        "ExitOnForwardFailure=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        &format!("HostKeyAlias={HOST}"),
        &format!("UserKnownHostsFile={}", keys.known_hosts.display()),
        "LogLevel=ERROR",
    ] {
        client.args(["-o", option]);
    }
    client.arg(link.ip().to_string());
    Ok(vec![Launch::ready_with(server, pid_file), Launch::of(client)])
}

/// Where Debian's sshd has no more rights than it needs.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// What the client calls every server of the run.
const HOST: &str = "seaprox-peers";

struct SshKeys {
    host: PathBuf,
    client: PathBuf,
    known_hosts: PathBuf,
}

impl SshKeys {
    /// Made when they are needed first.
    fn of_run(folder: &Path) -> io::Result<Self> {
        let [host, client, known_hosts] =
            ["ssh-host-key", "ssh-client-key", "ssh-known-hosts"].map(|name| folder.join(name));
        if !known_hosts.exists() {
            generate(&host)?;
            generate(&client)?;
            let public = fs::read_to_string(host.with_extension("pub"))?;
            fs::write(&known_hosts, format!("{HOST} {public}"))?;
        }
        Ok(Self { host, client, known_hosts })
    }
}

fn generate(key: &Path) -> io::Result<()> {
    let mut command = Command::new(installed("ssh-keygen")?);
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f"]).arg(key);
    match command.stdin(Stdio::null()).status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("ssh-keygen: {status}"))),
    }
}

fn installed(name: &str) -> io::Result<PathBuf> {
    find_in_path(name).ok_or_else(|| io::Error::other(format!("{name} is not installed")))
}
