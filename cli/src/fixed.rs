//! `seaprox static`: from one listener to fixed targets.

use crate::activation::Passed;
use crate::args::{Config, WhenFull};
use crate::endpoint::{self, Listen};
use crate::exit::{ExitCode, fail};
use crate::listening::Listening;
use crate::memory::RESOLVER;
use crate::proxy::{Ground, wish};
use crate::sandbox::Needs;
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
    let dial_options = ground.dial_options();
    let options = Options { when_full: when_full(config.when_full), ..ground.options("static") };
    let (fd, at_end) = heard(&listening);
    let needs =
        Needs { paths: listening.path().into_iter().collect(), ..needs_of(&config.targets) };
    ground.serve(&config.listen, &needs, move |thread, table| {
        let listener = Listener::new(Linux, fd, at_end);
        let dialer = Dialer::new(Linux, targets, &RESOLVER, dial_options);
        thread.run(table, listener, dialer, options);
    })
}

/// What reaching these targets, and no others, needs.
pub(crate) fn needs_of<'t>(
    targets: impl IntoIterator<Item = &'t endpoint::Target>,
) -> Needs<'static> {
    let mut needs = Needs::default();
    let mut ports = Vec::new();
    for target in targets {
        match target {
            endpoint::Target::Name { port, .. } => {
                needs.names = true;
                ports.push(*port);
            }
            endpoint::Target::Inet(address) => ports.push(address.port()),
            endpoint::Target::Unix(path) => needs.abstract_sockets |= path.is_abstract(),
        }
    }
    Needs { ports: Some(ports), ..needs }
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
