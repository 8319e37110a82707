//! Runs seaprox beside its peers: every proxy in front of the same backend,
//! rounds interleaved, medians in one table.

mod accounting;
mod backend;
mod client;
mod effort;
mod host;
mod lifecycle;
mod metrics;
mod network;
mod options;
mod peers;
mod proxy;
mod report;
mod run;
mod socks5;
#[allow(unsafe_code)]
mod sys;
mod wire;
mod workloads;

use std::env;
use std::fs;
use std::process::ExitCode;

use crate::host::Host;
use crate::lifecycle::Folder;
use crate::options::{HELP, Options, Request};
use crate::proxy::Setting;

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(backend::ROLE) {
        return exit_code(backend::serve().map_err(|error| error.to_string()));
    }
    if let (Some(backend::ECHO_ROLE), Some(at)) =
        (env::args().nth(1).as_deref(), env::args().nth(2))
    {
        return exit_code(backend::serve_at(&at).map_err(|error| error.to_string()));
    }
    match options::parse(env::args().skip(1)) {
        Ok(Request::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Request::Run(options)) => exit_code(benchmark(&options)),
        Err(error) => {
            eprintln!("seaprox-peers: {error}");
            ExitCode::from(2)
        }
    }
}

fn exit_code(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seaprox-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn benchmark(options: &Options) -> Result<(), String> {
    let explain = |what: &'static str| move |error| format!("{what}: {error}");
    if let Err(error) = peers::build_small_peers() {
        eprintln!("the small peers may be missing or old: {error}");
    }
    if !options.host_network
        && let Err(error) = network::leave_host()
    {
        let control = network::congestion_control();
        eprintln!("measuring in the host's network, with {control}: {error}");
    }
    let open_files = sys::raise_open_files().map_err(explain("cannot raise open files"))?;
    lifecycle::guard();
    let folder = Folder::create().map_err(explain("cannot make a temporary folder"))?;
    let installed = peers::find(&options.peers, options.seaprox.as_deref());
    let setting = Setting {
        threads: options.threads,
        open_files,
        seaprox_args: &options.seaprox_args,
        folder: folder.path(),
        path: None,
    };
    // Before the run confines this process to one core.
    let host = Host::this();
    let report = run::run(options, &installed, &setting)?;
    print!("{}", report.markdown(&host, options.threads, options.rounds));
    match &options.json {
        Some(path) => fs::write(path, report.json(&host, options.threads))
            .map_err(explain("cannot write the figures")),
        None => Ok(()),
    }
}
