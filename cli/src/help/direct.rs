//! What help says of proxies whose clients say where they want to go.

use super::{
    Bounds, SIGNALS, connect_timeout, families, listen, logging, rights, sizes, socket_buffer,
    timeouts, value, when_full,
};
use clap::{Arg, ArgAction, Command};

const SOCKS5_EXAMPLES: &str = "\
Examples:
  For the users of this machine, to wherever they want:
    seaprox socks5 127.0.0.1:1080
    curl --socks5-hostname 127.0.0.1:1080 http://example.org/
  For others, as far as patterns permit:
    seaprox socks5 :1080 --allow '*.example.org:80,443' --allow 10.0.0.0/8
  For those who know a password, to wherever they want:
    seaprox socks5 :1080 --passwords /etc/seaprox.passwords
";

const HTTP_EXAMPLES: &str = "\
Examples:
  For the users of this machine, to wherever they want:
    seaprox http 127.0.0.1:3128
    curl --proxy http://127.0.0.1:3128 https://example.org/
  For others, as far as patterns permit:
    seaprox http :3128 --allow '*.example.org:443' --allow 10.0.0.0/8
  For those who know a password, to wherever they want:
    seaprox http :3128 --passwords /etc/seaprox.passwords
";

/// `seaprox socks5`, `seaprox http`.
pub(super) fn command(name: &'static str, bounds: Bounds) -> Command {
    let (about, examples) = match name {
        "socks5" => ("Connect each client of LISTEN to where it says by SOCKS 5", SOCKS5_EXAMPLES),
        _ => ("Connect each client of LISTEN to where it says by CONNECT of HTTP", HTTP_EXAMPLES),
    };
    Command::new(name)
        .about(about)
        .after_long_help([examples, SIGNALS].concat())
        .args_override_self(true)
        .arg(listen())
        .arg(allow())
        .args(handshakes())
        .args(families())
        .args(sizes(bounds))
        .arg(when_full())
        .arg(socket_buffer())
        .arg(connect_timeout())
        .args(timeouts())
        .args(logging())
        .args(rights())
}

fn allow() -> Arg {
    value("allow", "PATTERN")
        .action(ArgAction::Append)
        .help("Let clients go here only: NAME:80, *.NAME:443, 10.0.0.0/8:80-90")
        .long_help(
            "Let clients go only where a PATTERN fits:\n  \
            example.org:80,443    this name\n  \
            *.example.org:443     every name below it; * alone is every name\n  \
            10.0.0.0/8:80-90      these addresses, when they are given as such\n  \
            [2001:db8::]/32:*     every port, as without any\n\
            A name that fits may resolve to any address at all, also one of this machine:\n\
            allow only names whose owner you trust.\n\
            May be given 64 times [default: everywhere, if only users of this machine can connect,\n\
            or with --passwords; else it must be said]",
        )
}

/// How clients are talked to.
pub(super) fn handshakes() -> [Arg; 2] {
    [
        value("passwords", "FILE")
            .help("Let only clients connect whose name and password are in FILE")
            .long_help(
                "Ask clients of socks5 and http for a name and a password, and let only those connect\n\
                who are in FILE: a line each, NAME:PASSWORD; lines that begin with # say nothing.\n\
                It is read once, at start. Both travel as they are: whoever is between a client and\n\
                this proxy can read them",
            ),
        value("handshake-timeout", "TIME")
            .default_value("10s")
            .help("Give clients TIME to say where they want to go")
            .long_help(
                "Give up a client of socks5 or http that has not said within TIME where it wants to go:\n\
                until then it takes up a connection",
            ),
    ]
}
