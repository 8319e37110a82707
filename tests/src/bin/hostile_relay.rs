//! The hostile relay as a program: `hostile-relay LISTEN SERVER [seed=N] [CONDITIONS..]`. Knows
//! only the words; [`seaprox_tests::relay`] does the rest.
//!
//! It says where it listens, then follows the lines of its standard input, and ends with it.

use seaprox_tests::relay::{Conditions, Relay, WORDS};
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let relay = start(words)?;
    let explain = |error: io::Error| error.to_string();
    say(format_args!("listening {}", relay.address())).map_err(explain)?;
    for line in io::stdin().lock().lines() {
        match line.map_err(explain)?.trim() {
            "" => {}
            "totals" => say(relay.totals()).map_err(explain)?,
            "quit" => break,
            words => {
                if let Err(error) = relay.apply(words) {
                    eprintln!("hostile-relay: {error}");
                }
            }
        }
    }
    let totals = relay.end().map_err(explain)?;
    say(totals).map_err(explain)
}

fn start(words: &[String]) -> Result<Relay, String> {
    let usage = || {
        format!(
            "usage: hostile-relay LISTEN SERVER [seed=N] [CONDITIONS..]\n\nconditions, for both \
             ways or with up. or down. in front:\n{WORDS}\non standard input: more of them, \
             totals, quit"
        )
    };
    let [listen, server, words @ ..] = words else { return Err(usage()) };
    let address = |text: &str| -> Result<SocketAddr, String> {
        text.parse().map_err(|_| format!("{text} is not an address with a port\n{}", usage()))
    };
    let mut seed = 1;
    let mut conditions = Conditions::default();
    for word in words {
        match word.strip_prefix("seed=") {
            Some(number) => {
                seed = number.parse().map_err(|_| format!("{number} is not a number"))?;
            }
            None => conditions.apply(word, Duration::ZERO)?,
        }
    }
    Relay::start(address(listen)?, address(server)?, seed, conditions)
        .map_err(|error| format!("{listen}: {error}"))
}

/// Whoever reads it may be gone.
fn say(what: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}
