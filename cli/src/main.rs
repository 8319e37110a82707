//! The program `seaprox`.

use seaprox_cli::args::{self, Answer, Bounds, Command};
use seaprox_cli::direct;
use seaprox_cli::exit::{ExitCode, end, fail};
use seaprox_cli::fixed;
use seaprox_cli::limits::{Kernel, Limits};
use seaprox_cli::memory::{BESIDE, MAX_NUM_CONNECTIONS, NUM_THREADS, PARTS};
use seaprox_cli::proxy;
use seaprox_cli::seal::{self, Sealable};
#[cfg(feature = "links")]
use seaprox_cli::{keys, link};
use std::fmt;
use std::io::Write;

#[global_allocator]
static HEAP: Sealable = Sealable;

fn main() {
    seal::hook_panics();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let bounds = Bounds { connections: MAX_NUM_CONNECTIONS, threads: NUM_THREADS, cpus };
    let code = match args::parse(std::env::args_os(), bounds) {
        Ok(Command::Static(config)) => fixed::run(&config),
        Ok(Command::Direct(config)) => direct::run(&config),
        #[cfg(feature = "links")]
        Ok(Command::Ingress(config)) => link::run_ingress(&config),
        #[cfg(feature = "links")]
        Ok(Command::Egress(config)) => link::run_egress(&config),
        #[cfg(feature = "links")]
        Ok(Command::Key(verb)) => keys::run(verb),
        Ok(Command::Limits { socket_buffer_bytes }) => {
            let wish = proxy::wish(MAX_NUM_CONNECTIONS, NUM_THREADS);
            let kernel = Kernel::of_this_machine();
            #[cfg(feature = "links")]
            let links = Some(link::compiled());
            #[cfg(not(feature = "links"))]
            let links = None;
            print(Limits {
                parts: &PARTS,
                beside: BESIDE,
                links,
                wish,
                kernel,
                socket_buffer_bytes,
            })
        }
        Err(Answer::Say(text)) => print(text),
        Err(Answer::Refuse(line)) => fail(ExitCode::Usage, line),
    };
    end(code);
}

/// A reader that left early wanted no more.
fn print(text: impl fmt::Display) -> ExitCode {
    match write!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::Done,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => fail(ExitCode::Failed, format_args!("stdout: cannot write: {error}")),
    }
}
