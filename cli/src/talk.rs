//! What the clients of a LISTEN talk: a proxy type, or nothing before their bytes. Joins the proxy types
//! of this program to one, so that an ingress may have clients of all kinds. Knows no listener.

use crate::bound::seats_for;
use crate::exit::{ExitCode, fail};
use crate::passwords::Known;
use crate::per_thread::OnePerThread;
use crate::sys;
use seaprox::fail::FailReason;
use seaprox::handshake::{self, Handshake, Handshaking, Reply, Verdict};
use seaprox::sys::Linux;
use seaprox::wanted::Wish;
use seaprox_http_connect::HttpConnect;
use seaprox_socks5::Socks5;
use seaprox_tcp::Listeners;
use std::fmt;

/// What clients talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Nothing: they all want the same.
    Plain,
    /// SOCKS version 5.
    Socks5,
    /// CONNECT of HTTP.
    Http,
}

impl Talk {
    /// What stands for it in front of a LISTEN; nothing for plain.
    pub const fn name(self) -> &'static str {
        match self {
            Talk::Plain => "",
            Talk::Socks5 => "socks5",
            Talk::Http => "http",
        }
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All proxy types; each client's listener says which is its.
#[derive(Clone, Copy, Debug)]
pub struct Talks {
    plain: Wish,
    socks5: Socks5<&'static Known>,
    http: HttpConnect<&'static Known>,
}

impl Talks {
    /// `plain`: what clients want who talk nothing. `known`: who may connect of the others.
    pub fn new(plain: Wish, known: &'static Known) -> Talks {
        Talks { plain, socks5: Socks5(known), http: HttpConnect(known) }
    }
}

/// What is known of a client. All zeroes: of a plain one.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant)] // it stays where it is, in a seat
#[repr(u8)]
pub enum State {
    /// There is nothing to know.
    Plain = 0,
    /// Of one who talks SOCKS.
    Socks5(<Socks5 as Handshake>::State),
    /// Of one who talks HTTP.
    Http(<HttpConnect as Handshake>::State),
}

/// What is kept of a client until its bytes flow.
pub type Seat = handshake::Seat<State>;

impl Handshake for Talks {
    type Origin = Talk;
    type State = State;
    const VACANT: State = State::Plain;

    fn begin(&mut self, origin: Talk) -> State {
        match origin {
            Talk::Plain => State::Plain,
            Talk::Socks5 => State::Socks5(self.socks5.begin(())),
            Talk::Http => State::Http(self.http.begin(())),
        }
    }

    fn hear<'v>(
        &'v mut self,
        state: &'v mut State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Verdict<'v> {
        match state {
            State::Plain => Verdict::Connect(self.plain.wanted()),
            State::Socks5(state) => self.socks5.hear(state, input, reply),
            State::Http(state) => self.http.hear(state, input, reply),
        }
    }

    fn waits(&self, state: &State) -> bool {
        !matches!(state, State::Plain)
    }

    fn answer(&mut self, state: &mut State, outcome: Result<(), FailReason>, reply: &mut Reply) {
        match state {
            State::Plain => {}
            State::Socks5(state) => self.socks5.answer(state, outcome, reply),
            State::Http(state) => self.http.answer(state, outcome, reply),
        }
    }
}

/// How clients are talked to, on every thread.
#[derive(Clone, Copy)]
pub(crate) struct Talking {
    talks: Talks,
    timeout_millis: u32,
    seats: OnePerThread<&'static mut [Seat]>,
}

impl Talking {
    /// Asks the system for seats; without, the program ends.
    pub(crate) fn new(
        talks: Talks,
        timeout_millis: u32,
        (connections, threads): (usize, usize),
    ) -> Talking {
        let seats = granted(sys::seats(threads * seats_for(connections, threads)));
        Talking { talks, timeout_millis, seats: per_thread(seats, connections, threads) }
    }

    /// What clients of these listeners want, on this thread; `None`: it has taken that before.
    pub(crate) fn take(
        self,
        thread: usize,
        listeners: Listeners<Linux, Talk>,
    ) -> Option<Handshaking<'static, Talks, Listeners<Linux, Talk>>> {
        let seats = self.seats.take(thread)?;
        Some(Handshaking::new(self.talks, listeners, seats, self.timeout_millis))
    }
}

/// Takes memory that the system was asked for.
pub(crate) fn granted<T>(asked: std::io::Result<&'static mut [T]>) -> &'static mut [T] {
    asked.unwrap_or_else(|error| {
        fail(ExitCode::System, format_args!("no memory for clients: {error}"))
    })
}

/// To each thread as many as it has connections.
pub(crate) fn per_thread<T>(
    all: &'static mut [T],
    connections: usize,
    threads: usize,
) -> OnePerThread<&'static mut [T]> {
    OnePerThread::of(all.chunks_mut(seats_for(connections, threads)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sys::seats` takes for granted.
    #[test]
    fn zeroes_are_a_vacant_seat() {
        let seats = sys::seats(3).unwrap();
        for seat in seats {
            assert_eq!(format!("{seat:?}"), format!("{:?}", Seat::new(Talks::VACANT)));
        }
    }

    #[test]
    fn who_talks_nothing_waits_for_nothing() {
        let known: &'static Known = Box::leak(Box::default());
        let mut talks = Talks::new(Wish::DEFAULT, known);
        for (talk, waits) in [(Talk::Plain, false), (Talk::Socks5, true), (Talk::Http, true)] {
            let mut state = talks.begin(talk);
            assert_eq!(talks.waits(&state), waits, "{talk:?}");
            let mut reply = Reply::new();
            let verdict = talks.hear(&mut state, &mut &b""[..], &mut reply);
            let expected =
                if waits { Verdict::More } else { Verdict::Connect(Wish::DEFAULT.wanted()) };
            assert_eq!(verdict, expected);
            talks.answer(&mut state, Err(FailReason::Other), &mut reply);
            assert_eq!(reply.bytes(), b"", "{talk:?}");
        }
    }
}
