//! `seaprox socks5` and `seaprox http`: clients say where they want to go, and are connected by this
//! program itself.

use crate::activation::Passed;
use crate::args::DirectConfig;
use crate::exit::{ExitCode, fail};
use crate::fixed::{heard, open, when_full};
use crate::memory::RESOLVER;
use crate::passwords::Known;
use crate::per_thread::OnePerThread;
use crate::proxy::{Ground, wish};
use crate::sandbox::Needs;
use crate::talk::{Talking, Talks};
use seaprox::sys::Linux;
use seaprox::wanted::Wish;
use seaprox::worker::Options;
use seaprox_tcp::{Dialer, Listener, Listeners, Places, Services};
use std::path::Path;

/// Runs until told to end.
pub fn run(config: &DirectConfig) -> ExitCode {
    let common = &config.common;
    let ground = Ground::take(common, &wish(common.connections_max, common.threads));
    let listening = open(&config.listen, &Passed::from_environment(), common.socket_buffer_bytes);
    let known = known_of(config.handshakes.passwords.as_deref());
    let talks = Talks::new(Wish::DEFAULT, known);
    let talking = Talking::new(talks, config.handshakes.timeout_millis, ground.sizes());
    let allowed: &'static _ = Box::leak(Box::new(config.allowed.clone()));
    let places = places(ground.threads);
    let dial_options = ground.dial_options();
    let talk = config.talk;
    let options = Options { when_full: when_full(config.when_full), ..ground.options(talk.name()) };
    let (fd, at_end) = heard(&listening);
    // Where to, only clients know.
    let needs =
        Needs { names: true, paths: listening.path().into_iter().collect(), ..Needs::default() };
    ground.serve(&config.listen, &needs, move |thread, table| {
        let Some(places) = places.take(thread.number) else { return };
        let listeners = Listeners::new([(Listener::new(Linux, fd, at_end), talk)]);
        let Some(source) = talking.take(thread.number, listeners) else { return };
        let chooser = Services::new(&[], allowed, places);
        let dialer = Dialer::choosing(Linux, &[], chooser, &RESOLVER, dial_options);
        thread.run(table, source, dialer, options);
    })
}

/// Who may connect, for as long as the process lives: everybody, if there is no file.
pub(crate) fn known_of(file: Option<&Path>) -> &'static Known {
    let known = file.map(Known::read).transpose();
    let known = known.unwrap_or_else(|refused| fail(refused.code, refused.line));
    Box::leak(Box::new(known.unwrap_or_default()))
}

/// Where the names lie that clients ask for.
pub(crate) fn places(threads: usize) -> OnePerThread<&'static mut Places> {
    OnePerThread::of((0..threads).map(|_| &mut *Box::leak(Places::new().into())))
}
