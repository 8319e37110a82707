//! The command line.

use std::path::PathBuf;

use crate::effort::{Cores, Effort, Threads};
use crate::peers::Peer;
use crate::workloads::Workload;

pub(crate) const HELP: &str = "\
Runs seaprox and its peers side by side and prints one table of medians.

usage: seaprox-peers [OPTIONS]

  --seaprox PATH      the seaprox program (default: beside this program)
  --seaprox-args ARGS more arguments for it, separated by blanks; for both ends
                      of its tunnel too
  --rounds N          rounds of every workload (default 7; 2 with --quick)
  --quick             short rounds: shows that everything works, not much more
  --only A,B,..       these workloads only: a name, or its part before a dash
  --tunnels           the workloads of tunnels only
  --paths             the workloads through a hostile relay only, which are not
                      part of any other run
  --relay WORDS       the same, with this path instead of the usual ones; may be
                      given again; `hostile-relay` lists the words:
                      --relay loss=1%,rtt=20ms,rate=400M,queue=1bdp
  --peers A,B,..      these peers only (seaprox is one of them)
  --one-core          client, proxy and backend on one core, only
  --free              on all cores, only
  --both              first one, then the other (default)
  --core N            the core of the one-core runs (default: the last allowed)
  --threads N         threads of each proxy that has any (default 2)
  --tunnel-threads N  threads of each end of a tunnel that has any (default 1)
  --host-network      stay in the host's network, with its congestion control
                      (default: a network namespace of its own, with reno)
  --json FILE         writes the figures there as well
  --help              prints this
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) seaprox: Option<PathBuf>,
    pub(crate) seaprox_args: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) effort: Effort,
    pub(crate) workloads: Vec<Workload>,
    /// For the workloads of paths: what the relay does, each in its words.
    pub(crate) paths: Vec<String>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) cores: Vec<Cores>,
    pub(crate) core: Option<usize>,
    pub(crate) threads: Threads,
    pub(crate) host_network: bool,
    pub(crate) json: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Run(Box<Options>),
    Help,
}

impl Options {
    fn new() -> Self {
        Self {
            seaprox: None,
            seaprox_args: Vec::new(),
            rounds: 0,
            effort: Effort::FULL,
            workloads: Vec::new(),
            paths: Vec::new(),
            peers: Peer::ALL.to_vec(),
            cores: vec![Cores::One, Cores::Free],
            core: None,
            threads: Threads { proxy: 2, tunnel_end: 1 },
            host_network: false,
            json: None,
        }
    }
}

/// Parses the words after the program's name.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut options = Options::new();
    let mut rounds = None;
    let mut quick = false;
    let mut tunnels = false;
    let mut on_paths = false;
    let mut only = None;
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seaprox" => options.seaprox = Some(value()?.into()),
            "--seaprox-args" => {
                options.seaprox_args = value()?.split_whitespace().map(String::from).collect();
            }
            "--rounds" => rounds = Some(positive(&word, &value()?)?),
            "--quick" => quick = true,
            "--tunnels" => tunnels = true,
            "--paths" => on_paths = true,
            "--relay" => options.paths.push(value()?),
            "--only" => only = Some(workloads(&value()?)?),
            "--peers" => options.peers = peers(&value()?)?,
            "--one-core" => options.cores = vec![Cores::One],
            "--free" => options.cores = vec![Cores::Free],
            "--both" => options.cores = vec![Cores::One, Cores::Free],
            "--core" => options.core = Some(number(&word, &value()?)?),
            "--threads" => options.threads.proxy = positive(&word, &value()?)?,
            "--tunnel-threads" => options.threads.tunnel_end = positive(&word, &value()?)?,
            "--host-network" => options.host_network = true,
            "--json" => options.json = Some(value()?.into()),
            "--help" | "-h" => return Ok(Request::Help),
            _ => return Err(format!("unknown option {word}; --help lists them")),
        }
    }
    if quick {
        options.effort = Effort::QUICK;
    }
    options.rounds = rounds.unwrap_or(if quick { 2 } else { 7 });
    on_paths |= !options.paths.is_empty();
    if options.paths.is_empty() {
        options.paths = usual_paths();
    }
    options.workloads = only.unwrap_or_else(|| {
        let all = Workload::ALL.into_iter();
        all.filter(|workload| workload.is_of_paths() == on_paths).collect()
    });
    if tunnels {
        options.workloads.retain(|workload| workload.is_of_tunnels());
    }
    if on_paths {
        options.workloads.retain(|workload| workload.is_of_paths());
    }
    let workloads = &options.workloads;
    options.peers.retain(|&peer| workloads.iter().any(|workload| workload.applies_to(peer)));
    if options.peers.is_empty() {
        return Err("none of these workloads is for any of these peers".into());
    }
    Ok(Request::Run(Box::new(options)))
}

/// Each loss with each delay, and a bottleneck with one of them.
fn usual_paths() -> Vec<String> {
    let delays = ["0ms", "20ms", "50ms"];
    let losses = ["0%", "0.1%", "1%", "3%"];
    let path = |delay: &str, loss: &str| format!("rtt={delay},loss={loss}");
    let mut paths: Vec<_> =
        delays.iter().flat_map(|delay| losses.iter().map(|loss| path(delay, loss))).collect();
    paths.push("rtt=20ms,loss=1%,rate=400M,queue=1bdp".into());
    paths
}

fn number(option: &str, text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{option} needs a number, not {text:?}"))
}

fn positive(option: &str, text: &str) -> Result<usize, String> {
    match number(option, text)? {
        0 => Err(format!("{option} must be at least 1")),
        value => Ok(value),
    }
}

fn workloads(list: &str) -> Result<Vec<Workload>, String> {
    select(list, "workload", &Workload::ALL, |workload, word| {
        let name = workload.name();
        name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

fn peers(list: &str) -> Result<Vec<Peer>, String> {
    select(list, "peer", &Peer::ALL, |peer, word| peer.name() == word)
}

/// The members of `all` that a word of `list` names, in the order of `all`.
fn select<T: Copy>(
    list: &str,
    kind: &str,
    all: &[T],
    names: impl Fn(T, &str) -> bool,
) -> Result<Vec<T>, String> {
    for word in list.split(',') {
        if !all.iter().any(|&item| names(item, word)) {
            return Err(format!("no {kind} is called {word:?}"));
        }
    }
    let chosen = |item: &T| list.split(',').any(|word| names(*item, word));
    Ok(all.iter().copied().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<Options, String> {
        match parse(words.iter().map(ToString::to_string))? {
            Request::Run(options) => Ok(*options),
            Request::Help => Err("help".into()),
        }
    }

    #[test]
    fn a_workload_is_named_in_full_or_by_its_family() {
        let names = |list| -> Vec<_> {
            let options = run(&["--only", list]).unwrap();
            options.workloads.iter().map(|w| w.name()).collect()
        };
        assert_eq!(names("bulk-16,rtt"), ["bulk-16", "rtt"]);
        assert_eq!(names("pingpong"), ["pingpong-64", "pingpong-4096"]);
        assert_eq!(names("tunnel-bulk").len(), 3);
        assert_eq!(names("tunnel").len(), 8);
        assert!(run(&["--only", "bul"]).unwrap_err().contains("bul"));
    }

    #[test]
    fn tunnels_have_workloads_and_peers_of_their_own() {
        let tunnels = run(&["--tunnels"]).unwrap();
        let is_named_so = |workload: &Workload| workload.name().starts_with("tunnel-");
        assert_eq!(tunnels.workloads.len(), 8);
        assert!(tunnels.workloads.iter().all(is_named_so));
        let peers: Vec<_> = tunnels.peers.iter().map(|peer| peer.name()).collect();
        let expected = [
            "direct",
            "seaprox-link",
            "seaprox-udp",
            "seaprox-udp-keys",
            "yamux",
            "rathole",
            "ssh",
            "quinn-cubic",
            "quinn-bbr",
            "kcp",
        ];
        assert_eq!(peers, expected);
        let one = run(&["--tunnels", "--only", "tunnel-ping,bulk"]).unwrap();
        assert_eq!(one.workloads, [Workload::TunnelPing1, Workload::TunnelPing]);
        assert!(run(&["--tunnels", "--peers", "nginx"]).unwrap_err().contains("these peers"));
        assert!(run(&["--tunnels", "--only", "bulk"]).unwrap_err().contains("these workloads"));
    }

    #[test]
    fn paths_are_measured_when_they_are_asked_for_only() {
        assert!(run(&[]).unwrap().workloads.iter().all(|workload| !workload.is_of_paths()));
        let usual = run(&["--paths"]).unwrap();
        assert_eq!(usual.workloads, [Workload::PathBulk, Workload::PathPing]);
        assert_eq!(usual.paths.len(), 13);
        assert_eq!(usual.paths[6], "rtt=20ms,loss=1%");
        let peers: Vec<_> = usual.peers.iter().map(|peer| peer.name()).collect();
        let expected = ["seaprox-udp", "seaprox-udp-keys", "quinn-cubic", "quinn-bbr", "kcp"];
        assert_eq!(peers, expected);
        assert_eq!(run(&["--only", "path"]).unwrap().paths, usual.paths);
        let own = run(&["--relay", "loss=1%", "--relay", "rtt=5ms"]).unwrap();
        assert_eq!(own.paths, ["loss=1%", "rtt=5ms"]);
        assert_eq!(own.workloads, usual.workloads);
        assert!(run(&["--paths", "--peers", "yamux"]).unwrap_err().contains("these peers"));
    }

    #[test]
    fn bad_words_are_named() {
        assert!(run(&["--only", "nope"]).unwrap_err().contains("nope"));
        assert!(run(&["--peers", "nope"]).unwrap_err().contains("nope"));
        assert!(run(&["--rounds", "0"]).unwrap_err().contains("at least 1"));
        assert!(run(&["--rounds"]).unwrap_err().contains("needs a value"));
        assert!(run(&["--frobnicate"]).unwrap_err().contains("--help"));
    }

    #[test]
    fn quick_lowers_the_rounds_unless_they_are_given() {
        assert_eq!(run(&["--quick"]).unwrap().rounds, 2);
        assert_eq!(run(&["--rounds", "5", "--quick"]).unwrap().rounds, 5);
    }
}
