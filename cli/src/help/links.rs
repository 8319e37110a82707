//! What help says of the two ends of a link.

use super::direct::handshakes;
use super::{
    Bounds, SIGNALS, connect_timeout, families, flag, logging, positional, rights, sizes,
    socket_buffer, target, timeouts, value, when_full,
};
use crate::args::CONGESTION_DEFAULT;
use crate::memory::MAX_NUM_PEERS;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};
use seaprox_udp::congestion::Algorithm;

/// KEY stands for what `seaprox pubkey` prints.
const INGRESS_EXAMPLES: &str = "\
Examples:
  What comes in at port 8080 goes where the egress says (seaprox genkey --help is about keys):
    seaprox ingress 127.0.0.1:8080 udp:egress.example:7000 --key link.key --peer KEY
  Two ports and a unix socket, to one of the services that the egress offers:
    seaprox ingress :80 :81 unix:/web.sock sctp:a.example:7000 --service web --key link.key --peer KEY
  Two paths to the same egress, for when one of them fails (multihoming):
    seaprox ingress :8080 sctp:192.0.2.1:7000,198.51.100.1 --key link.key --peer KEY
  The ingress names the target, as far as the egress allows it:
    seaprox ingress :8080 udp:egress.example:7000 --to db.internal:5432 --key link.key --peer KEY
  SCTP inside udp, through a network that knows nothing of SCTP (RFC 6951):
    seaprox ingress :8080 sctp:egress.example:7000 --sctp-udp-port 9899 --key link.key --peer KEY
  Clients that say themselves where they want to go, as far as the egress allows it:
    seaprox ingress socks5:127.0.0.1:1080 http::3128 udp:a.example:7000 --key link.key --peer KEY
  Both ends on one machine, without SCTP and without keys:
    seaprox ingress :8080 seqpacket:/run/link.sock --insecure
";

const EGRESS_EXAMPLES: &str = "\
Examples:
  Everything goes to one place, or to the second if the first cannot be reached:
    seaprox egress udp::7000 10.0.0.1:80 10.0.0.2:80 --key link.key --peer KEY
  Services, of which an ingress chooses one with --service NAME:
    seaprox egress udp::7000 --service web=10.0.0.1:80 --service db=db:5432 --key link.key --peer KEY
  Whatever an ingress names with --to, if it is below example.org or in a network:
    seaprox egress udp::7000 --allow '*.example.org:443' --allow 10.0.0.0/8:80-90 --key a --peer KEY
  Several ingresses, each with rights of its own:
    seaprox egress udp::7000 --service web=10.0.0.1:80 --service db=db:5432 --key a --peers peers
  Two addresses of this machine (multihoming):
    seaprox egress sctp:192.0.2.1:7000,198.51.100.1 unix:/run/app.sock --key link.key --peer KEY
";

/// clap takes no options between arguments of two kinds, so the LISTENs and the LINK are one list to
/// it, of which this tells the user.
const INGRESS_TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

Arguments:
{before-help}Options:
{options}{after-help}";

const INGRESS_ARGUMENTS: &str = "  \
  <LISTEN>...  Where clients come from: 127.0.0.1:8080, :8080, unix:/path, fd:3, socks5:.., http:..
  <LINK>       Where the egress is, the last: udp:host:port, sctp:host:port[,host..], seqpacket:/path";

const INGRESS_ARGUMENTS_LONG: &str = "  \
  <LISTEN>...
          Where clients come from, at most 16:
            127.0.0.1:8080  an address; [::]:8080 is IPv6 only
            :8080           every address, IPv6 and IPv4
            unix:/path      a unix socket; unix:@name in the abstract namespace
            fd:3            a listening socket that is open already
            fd:NAME         the one that LISTEN_FDNAMES calls so (socket activation)
          Clients of socks5:LISTEN and http:LISTEN say themselves where they want to go, by
          SOCKS 5 or by CONNECT of HTTP, which the egress must --allow

  <LINK>
          Where the egress is; the last argument:
            udp:host:port         a name or an address, [::1] in brackets
            sctp:host:port        the same; the port is sctp's
            sctp:host:port,host2  with its other addresses, at most 8 in all (multihoming)
            seqpacket:/path       a unix socket on this machine; seqpacket:@name";

/// `seaprox ingress`.
pub(super) fn ingress_command(bounds: Bounds) -> Command {
    Command::new("ingress")
        .about("Carry each client of LISTEN over one link to the egress at its other end")
        .after_long_help([INGRESS_EXAMPLES, SIGNALS].concat())
        .args_override_self(true)
        .override_usage("seaprox ingress [OPTIONS] <LISTEN>... <LINK>")
        .help_template(INGRESS_TEMPLATE)
        .before_help(INGRESS_ARGUMENTS)
        .before_long_help(INGRESS_ARGUMENTS_LONG)
        .arg(positional("LISTEN").required(true).num_args(1..).hide(true))
        .args(protection(peer(
            "The key of the egress, as `seaprox pubkey` prints it there",
            "The key of the egress, as `seaprox pubkey` prints it there: who has not the secret one to\n\
            it is not spoken to",
        )))
        .args(wishes())
        .args(handshakes())
        .arg(
            value("link-wait", "TIME")
                .default_value("10s")
                .help("Let a client wait for the link for TIME")
                .long_help(
                    "While the link is not up, let a client wait for it for TIME, then reset it.\n\
                    0s resets it at once, `off` lets it wait as long as it takes",
                ),
        )
        .arg(link_timeout())
        .arg(
            value("sctp-udp-port", "PORT")
                .help("Put SCTP into udp, sent to this port of the egress's machine (RFC 6951)")
                .long_help(
                    "Put SCTP into udp, sent to this port of the egress's machine (RFC 6951), for\n\
                    networks that know nothing of SCTP. The kernels of both ends must be told:\n\
                    sysctl net.sctp.udp_port=9899 (Linux 5.11). Both must also send such packets\n\
                    uncut, by `ip link set DEVICE gso_max_size 1400` (less than its MTU): where the\n\
                    kernel cuts them itself they are lost, or it panics (seen in 6.1)",
                ),
        )
        .arg(congestion())
        .args(families())
        .args(sizes(bounds))
        .arg(when_full())
        .arg(socket_buffer())
        .arg(
            value("connect-timeout", "TIME")
                .default_value("10s")
                .help("Give an attempt to connect the link up after TIME")
                .long_help(
                    "Give an attempt to connect the link up after TIME; the next follows, for ever.\n\
                    How long a target may take is the egress's own option.\n\
                    Times are like 500ms, 3s, 2m, 1h, or `off`",
                ),
        )
        .args(timeouts())
        .args(logging())
        .args(rights())
}

/// `seaprox egress`.
pub(super) fn egress_command(bounds: Bounds) -> Command {
    Command::new("egress")
        .about("Connect what comes over links to targets, of this end's choice or as it allows")
        .after_long_help([EGRESS_EXAMPLES, SIGNALS].concat())
        .args_override_self(true)
        .arg(egress_link())
        .arg(target())
        .args(protection(peer(
            "The key of an ingress, as `seaprox pubkey` prints it there; repeatable",
            "The key of an ingress, as `seaprox pubkey` prints it there: who has not the secret one to\n\
            it is not answered. May be given several times; --psk is for each of these",
        )))
        .arg(peers())
        .args(offers())
        .arg(link_timeout())
        .arg(congestion())
        .args(families())
        .args(sizes(bounds))
        .arg(socket_buffer())
        .arg(connect_timeout())
        .args(timeouts())
        .args(logging())
        .args(rights())
}

/// `seaprox genkey`, `pubkey`, `genpsk`: as `wg` has them.
pub(super) fn key_commands() -> [Command; 3] {
    [
        Command::new("genkey").about("Print a new secret key, for a file that only you can read").after_long_help(
            "Example, of what each end of a link needs:\n  \
            umask 077\n  \
            seaprox genkey > link.key\n  \
            seaprox pubkey < link.key > link.pub\n\
            The other end knows this one by what is in link.pub. `wg` makes the same keys.",
        ),
        Command::new("pubkey").about("Print what the owner of the secret key on stdin is known by"),
        Command::new("genpsk").about("Print a new preshared key, for a file at both ends of a link").after_long_help(
            "What two ends may know beside each other's keys (--psk), in case the curve of those is\n\
            broken one day: it has to reach both ends by a way that nobody else can read.",
        ),
    ]
}

fn congestion() -> Arg {
    Arg::new("congestion")
        .long("congestion")
        .value_name("NAME")
        .hide_possible_values(true)
        .value_parser(PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::name)))
        .default_value(CONGESTION_DEFAULT.name())
        .help("Over udp, share the path as bbr, cubic or newreno does")
        .long_help(
            "Over udp, how what this end sends shares the path. bbr goes by the rate at which it\n\
            arrives, and is hardly slowed down by a path that loses 1 % whatever the load;\n\
            cubic, like most of TCP, takes any loss for a full path, and is the better neighbour\n\
            where the path is a short one that others share; newreno is the yardstick",
        )
}

fn egress_link() -> Arg {
    positional("LINK")
        .required(true)
        .help("Where links come in: udp::7000, udp:address:port, sctp::7000, seqpacket:/path")
        .long_help(
            "Where links come in:\n  \
            udp::7000                   every address, IPv6 and IPv4\n  \
            udp:address:port            one of this machine\n  \
            sctp::7000                  every address, IPv6 and IPv4\n  \
            sctp:address:port           one of this machine; sctp:[::]:7000 is IPv6 only\n  \
            sctp:address:port,address2  several of them, at most 8 (multihoming)\n  \
            seqpacket:/path             a unix socket on this machine; seqpacket:@name",
        )
}

/// Keys, or none.
fn protection(peer: Arg) -> [Arg; 4] {
    [
        value("key", "FILE")
            .help("Read this end's secret key from FILE, as `seaprox genkey` prints it")
            .long_help(
                "Read this end's secret key from FILE, as `seaprox genkey` prints it. Nobody else may be\n\
                able to read FILE. A name without a slash is looked for in $CREDENTIALS_DIRECTORY first\n\
                (systemd's LoadCredential=), as are those of the other options",
            ),
        peer,
        value("psk", "FILE")
            .help("Read a key that both ends have besides from FILE (`seaprox genpsk`)")
            .long_help(
                "Read a key that both ends have besides from FILE, as `seaprox genpsk` prints it. A link is\n\
                then safe even from who breaks the curve of the other keys one day",
            ),
        flag("insecure")
            .conflicts_with_all(["key", "peer", "psk"])
            .help("Without keys: neither encrypt nor authenticate; needed at both ends")
            .long_help(
                "Let the link be neither encrypted nor authenticated, instead of keys: whoever can reach\n\
                the egress can use it, and whoever is between the ends can read everything and change it.\n\
                Both ends have to be told; one with keys never speaks to one without",
            ),
    ]
}

/// Who is at the far end.
fn peer(help: &'static str, long: &'static str) -> Arg {
    value("peer", "KEY").action(ArgAction::Append).help(help).long_help(long)
}

fn peers() -> Arg {
    value("peers", "FILE")
        .conflicts_with("insecure")
        .help("Read from FILE who the ingresses are, and what each may do")
        .long_help(format!(
            "Read from FILE who the ingresses are, and what each may do; a line for each:\n  \
            NAME KEY [psk=FILE] [services=NAME,..] [allow=PATTERN].. [channels=N]\n  \
            [opens-per-second=N]\n\
            It may ask for these services, of which @ is the TARGETs [default: for all], and name\n\
            what these patterns allow, each as for --allow, which counts for those without any.\n\
            N is for each thread. Whatever they are, of half of each thread every peer has its part.\n\
            A word that begins with # begins a comment. At most {MAX_NUM_PEERS} peers, --peer included\n\
            (SEAPROX_MAX_NUM_PEERS at build time)",
        ))
}

fn link_timeout() -> Arg {
    value("link-timeout", "TIME")
        .default_value("15s")
        .help("Take a link for dead when its far end is silent for TIME")
        .long_help(
            "Take a link for dead when nothing is heard of its far end for TIME, 300ms to 1h, and\n\
            reset what runs over it. A third of TIME is how often each end says that it is there",
        )
}

/// What an ingress may ask for.
fn wishes() -> [Arg; 2] {
    [
        value("service", "NAME")
            .conflicts_with("to")
            .help("Ask for the egress's service of this name")
            .long_help(
                "Ask for the egress's service of this name, its --service NAME=TARGET\n\
                [default: the egress's own TARGETs]",
            ),
        value("to", "TARGET")
            .help("Ask to be connected to this: NAME:PORT, 1.2.3.4:80, [::1]:80")
            .long_help(
                "Ask to be connected to NAME:PORT, 1.2.3.4:80 or [::1]:80, which the egress must\n\
                --allow; a name is looked up there",
            ),
    ]
}

/// What an egress offers beside its own targets.
fn offers() -> [Arg; 2] {
    [
        value("service", "NAME=TARGET,..")
            .action(ArgAction::Append)
            .help("Offer targets under a name, for the ingress's --service NAME")
            .long_help(
                "Offer targets, tried in order, under a name, for the ingress's --service NAME.\n\
                May be given 16 times. A path cannot contain a comma here",
            ),
        value("allow", "PATTERN")
            .action(ArgAction::Append)
            .help("Let ingresses name targets: NAME:80, *.NAME:443, 10.0.0.0/8:80-90")
            .long_help(
                "Let ingresses name targets themselves (--to, socks5:, http:), as far as a PATTERN fits:\n  \
                example.org:80,443    this name\n  \
                *.example.org:443     every name below it; * alone is every name\n  \
                10.0.0.0/8:80-90      these addresses, when they are given as such\n  \
                [2001:db8::]/32:*     every port, as without any\n\
                A name that fits may resolve to any address at all, also one of this machine:\n\
                allow only names whose owner you trust.\n\
                May be given 64 times [default: none, only targets and services]",
            ),
    ]
}
