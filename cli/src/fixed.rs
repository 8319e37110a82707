//! `seaprox static`: from one listener to fixed targets.

use crate::activation::Passed;
use crate::args::{Config, WhenFull};
use crate::endpoint::{self, Listen};
use crate::exit::{ExitCode, fail};
use crate::listening::Listening;
use crate::memory::RESOLVER;
use crate::proxy::{Ground, wish};
use seaprox::sys::{Linux, RawFd};
use seaprox::worker::Options;
use seaprox_tcp::{AtEnd, Dialer, Listener, Target};
use std::os::fd::AsRawFd;

/// Runs until told to end.
pub fn run(config: &Config) -> ExitCode {
    let common = &config.common;
    let ground = Ground::take(common, &wish(common.connections_max, common.threads));
    let listening = open(&config.listen, &Passed::from_environment(), common.socket_buffer_bytes);
    let targets = leak_targets(&config.targets);
    ground.resolve(targets.iter().any(|target| matches!(target, Target::Name(..))));
    let dial_options = ground.dial_options();
    let options = Options { when_full: when_full(config.when_full), ..ground.options("static") };
    let (fd, at_end) = heard(&listening);
    ground.serve(&config.listen, move |thread, table| {
        let listener = Listener::new(Linux, fd, at_end);
        let dialer = Dialer::new(Linux, targets, &RESOLVER, dial_options);
        thread.run(table, listener, dialer, options);
    })
}

/// Opens a listener, or ends the program.
pub(crate) fn open(at: &Listen, passed: &Passed, buffer_bytes: Option<usize>) -> Listening {
    Listening::open(at, passed, buffer_bytes)
        .unwrap_or_else(|refused| fail(refused.code, refused.line))
}

/// A listener as every thread has it.
pub(crate) fn heard(listening: &Listening) -> (RawFd, AtEnd) {
    let at_end = if listening.adopted { AtEnd::Leave } else { AtEnd::Refuse };
    (listening.fd.as_raw_fd(), at_end)
}

pub(crate) fn when_full(what: WhenFull) -> seaprox::WhenFull {
    match what {
        WhenFull::Wait => seaprox::WhenFull::Wait,
        WhenFull::Refuse => seaprox::WhenFull::Refuse,
    }
}

/// Targets as the dialer wants them, for as long as the process lives.
pub(crate) fn leak_targets(targets: &[endpoint::Target]) -> &'static [Target<'static>] {
    Vec::leak(targets.iter().map(target_of).collect())
}

/// A target as the dialer wants it. Leaks the text: once a process.
fn target_of(target: &endpoint::Target) -> Target<'static> {
    match target {
        endpoint::Target::Name { name, port } => {
            Target::Name(Box::leak(name.clone().into_boxed_str()), *port)
        }
        endpoint::Target::Inet(address) => Target::Inet(*address),
        endpoint::Target::Unix(path) => {
            Target::Unix(Box::leak(path.as_bytes().to_vec().into_boxed_slice()))
        }
    }
}
