//! The words of the command line: which options there are and what help says of them. Knows no
//! value of any.

mod direct;
#[cfg(feature = "links")]
mod links;

use clap::builder::{OsStringValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, Command};

/// What a build of this program can hold, and this machine run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// MAX_NUM_CONNECTIONS, compiled in.
    pub connections: usize,
    /// NUM_THREADS, compiled in.
    pub threads: usize,
    /// The CPUs this process may use.
    pub cpus: usize,
}

const EXAMPLES: &str = "\
Examples:
  seaprox static 127.0.0.1:8080 example.org:80
  seaprox static :8080 10.0.0.1:80 10.0.0.2:80 --connect-timeout 2s
  seaprox static unix:/run/app.sock '[::1]:8080' --max-connections 100
  seaprox socks5 127.0.0.1:1080
  seaprox http :3128 --passwords /etc/seaprox.passwords
  seaprox limits --socket-buffer 65536";

/// Of the same list.
#[cfg(feature = "links")]
const LINKS_EXAMPLES: &str = "
  seaprox ingress 127.0.0.1:8080 udp:egress.example:7000 --key link.key --peer KEY
  seaprox egress udp::7000 10.0.0.1:80 --key link.key --peer KEY
  seaprox genkey";
#[cfg(not(feature = "links"))]
const LINKS_EXAMPLES: &str = "";

const STATIC_EXAMPLES: &str = "\
Examples:
  One name, looked up again for each connection, IPv6 first:
    seaprox static 127.0.0.1:8080 example.org:80
  Two targets, the second for when the first cannot be reached:
    seaprox static :8080 10.0.0.1:80 10.0.0.2:80 --connect-timeout 2s
  A unix socket in front of a port, at most 100 clients, the others are refused:
    seaprox static unix:/run/app.sock '[::1]:8080' --max-connections 100 --when-full refuse
  A socket that systemd opened (FileDescriptorName=web):
    seaprox static fd:web unix:/run/app.sock
";

/// What holds for every proxy.
const SIGNALS: &str = "
Signals:
  TERM, INT  take what is queued, accept nothing more, end when all is done; again: end now
  HUP        look names up again
  USR1       write what runs to the log

Exit codes:
  0 done, 1 failed while running, 64 usage, 69 the system has no such protocol,
  71 system error, 77 permission denied, 78 configuration";

/// The whole command line.
pub(crate) fn command(bounds: Bounds) -> Command {
    let command = Command::new("seaprox")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A socket proxy whose memory is known to the byte before it starts")
        .after_long_help([EXAMPLES, LINKS_EXAMPLES].concat())
        .subcommand_required(true)
        .args_override_self(true)
        .subcommand(static_command(bounds))
        .subcommand(direct::command("socks5", bounds))
        .subcommand(direct::command("http", bounds));
    #[cfg(feature = "links")]
    let command = command
        .subcommand(links::ingress_command(bounds))
        .subcommand(links::egress_command(bounds))
        .subcommands(links::key_commands());
    command.subcommand(
        Command::new("limits")
            .about("Print the limits that were compiled in, and the memory they bound")
            .args_override_self(true)
            .arg(socket_buffer()),
    )
}

fn static_command(bounds: Bounds) -> Command {
    Command::new("static")
        .about("Relay each client of LISTEN to the first TARGET that can be reached")
        .after_long_help([STATIC_EXAMPLES, SIGNALS].concat())
        .args_override_self(true)
        .arg(listen())
        .arg(target().required(true))
        .args(families())
        .args(sizes(bounds))
        .arg(when_full())
        .arg(socket_buffer())
        .arg(connect_timeout())
        .args(timeouts())
        .args(logging())
        .args(rights())
}

fn value(name: &'static str, value_name: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).value_parser(OsStringValueParser::new())
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn positional(name: &'static str) -> Arg {
    Arg::new(name).value_name(name).value_parser(OsStringValueParser::new())
}

fn listen() -> Arg {
    positional("LISTEN")
        .required(true)
        .help("Where clients come from: 127.0.0.1:8080, [::]:8080, :8080, unix:/path, fd:3")
        .long_help(
            "Where clients come from:\n  \
            127.0.0.1:8080  an address; [::]:8080 is IPv6 only\n  \
            :8080           every address, IPv6 and IPv4\n  \
            unix:/path      a unix socket; unix:@name in the abstract namespace\n  \
            fd:3            a listening socket that is open already\n  \
            fd:NAME         the one that LISTEN_FDNAMES calls so (socket activation)",
        )
}

fn target() -> Arg {
    positional("TARGET")
        .num_args(1..)
        .help("Where their bytes go, tried in order: NAME:PORT, 1.2.3.4:80, [::1]:80, unix:/path")
        .long_help(
            "Where their bytes go; several are tried in order:\n  \
            example.org:80      a name, looked up again for each connection (kept 5s)\n  \
            1.2.3.4:80          an address; [::1]:80, [fe80::1%eth0]:80\n  \
            unix:/path          a unix socket; unix:@name in the abstract namespace",
        )
}

fn families() -> [Arg; 2] {
    [
        flag("prefer-ipv4")
            .overrides_with("prefer-ipv6")
            .help("Of a name's addresses, try IPv4 first"),
        flag("prefer-ipv6")
            .overrides_with("prefer-ipv4")
            .help("Of a name's addresses, try IPv6 first (this is the default)")
            .long_help(
                "Of a name's addresses, try IPv6 first (this is the default).\n\
                The families take turns; the next address is tried beside one that has not\n\
                answered for 250ms, and the first to connect wins (RFC 8305).",
            ),
    ]
}

fn sizes(bounds: Bounds) -> [Arg; 2] {
    let Bounds { connections, threads, .. } = bounds;
    [
        value("max-connections", "N")
            .help(format!("Relay at most N connections at once [default and most: {connections}]"))
            .long_help(format!(
                "Relay at most N connections at once, all threads together.\n\
                This build can hold {connections} (SEAPROX_MAX_NUM_CONNECTIONS at build time),\n\
                which is the default [default and most: {connections}]"
            )),
        value("threads", "N")
            .help(format!("Run N threads [default: the usable CPUs, at most {threads}]"))
            .long_help(format!(
                "Run N threads. This build can run {threads} (SEAPROX_NUM_THREADS at build\n\
                time) [default: the CPUs this process may use, at most {threads}]"
            )),
    ]
}

fn when_full() -> Arg {
    Arg::new("when-full")
        .long("when-full")
        .value_name("wait|refuse")
        .hide_possible_values(true)
        .value_parser(PossibleValuesParser::new(["wait", "refuse"]))
        .default_value("wait")
        .help("At the limit, let clients wait, or refuse them")
        .long_help(
            "At the limit, leave clients in the backlog until there is room,\n\
            or accept and reset them",
        )
}

fn socket_buffer() -> Arg {
    value("socket-buffer", "BYTES")
        .help("Give each socket fixed buffers of BYTES [default: the kernel tunes them]")
        .long_help(
            "Give each socket fixed send and receive buffers (SO_SNDBUF, SO_RCVBUF) of BYTES.\n\
            It bounds the kernel's memory, and ends its tuning of them, which costs speed.\n\
            The kernel doubles the number and caps it by net.core.wmem_max and rmem_max;\n\
            `seaprox limits` shows what becomes of it [default: the kernel tunes them]",
        )
}

fn connect_timeout() -> Arg {
    value("connect-timeout", "TIME")
        .default_value("10s")
        .help("Give up when no target is reached within TIME")
        .long_help(
            "Give up on a TARGET that is not reached within TIME, and try the next.\n\
            Times are like 500ms, 3s, 2m, 1h, or `off`",
        )
}

fn timeouts() -> [Arg; 3] {
    [
        value("idle-timeout", "TIME")
            .default_value("off")
            .help("Reset a connection that moved no byte for TIME"),
        value("half-close-timeout", "TIME")
            .default_value("off")
            .help("Reset a connection of which one direction ended TIME ago")
            .long_help(
                "Reset a connection of which one direction ended TIME ago and the other did not",
            ),
        value("drain", "TIME")
            .default_value("30s")
            .help("After TERM or INT, let connections go on for TIME")
            .long_help(
                "After TERM or INT, let connections go on for TIME; what is left is reset then.\n\
                0s resets them at once, `off` waits for the last one",
            ),
    ]
}

fn logging() -> [Arg; 2] {
    [
        Arg::new("log")
            .long("log")
            .value_name("LEVEL")
            .hide_possible_values(true)
            .value_parser(PossibleValuesParser::new(["error", "warn", "info", "debug"]))
            .default_value("info")
            .help("What to write to stderr: error, warn, info or debug"),
        flag("log-connections").help("Write a line for each connection that ended"),
    ]
}

fn rights() -> [Arg; 2] {
    [
        value("user", "NAME[:GROUP]")
            .help("Become this user and group once everything is open")
            .long_help(
                "Become this user, by name or number, once everything is open, with this group alone\n\
                [default: the user's own] and without any capability. Needs root",
            ),
        flag("no-sandbox").help("Keep rights that are not needed, to find out why something fails").long_help(
            "Keep the rights that are given up otherwise once everything is open: to read other\n\
            files than names are looked up by, to write any, to run programs, to make system calls\n\
            that are not needed (no_new_privs, Landlock, seccomp)",
        ),
    ]
}
