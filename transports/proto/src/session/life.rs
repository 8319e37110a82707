//! The life of a link: hello, heartbeat, drain, close. Knows no channel.
//!
//! Hello goes once around: the initiator's, then the acceptor's, then a PING of the initiator. On
//! a carrier that orders nothing between streams this is what keeps a channel's first message from
//! overtaking hello: each end knows that the other has its hello before it opens anything.

use super::{CREDIT_BYTES_MAX, Heard, Rate, Role, Session};
use crate::message::{ChannelId, Hello, Message, TEXT_BYTES_MAX, fail_reason};
use seaprox::fail::FailReason;
use seaprox::time::Instant;

/// How long the far end's hello is waited for, at most, in milliseconds: several losses of it, and many
/// round trips. Over UDP a copy of a request that was refused, and comes late, makes a link of which
/// nobody else knows.
const GREETING_MILLIS_MAX: u32 = 5_000;

/// Longer round trips are taken for this.
const ROUND_TRIP_MILLIS_MAX: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Not started.
    Down,
    /// The far end has not said hello.
    Greeting,
    /// The acceptor knows the initiator, and not yet whether it is known.
    Greeted,
    Up,
    /// CLOSE is owed: nothing else counts.
    Closing,
    /// CLOSE was sent or received, or the link is dead.
    Closed,
}

/// What the link itself owes the far end.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Owed {
    pub(super) hello: bool,
    pub(super) ping: bool,
    pub(super) pong: bool,
    pub(super) goaway: bool,
    pub(super) close: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) stage: Stage,
    pub(super) owed: Owed,
    pub(super) hello_sent: bool,
    /// How many channels this end may open.
    pub(super) channels_max: u16,
    /// What may be sent on them at first.
    pub(super) peer_initial_credit: u32,
    heard_at: Instant,
    /// When the acceptor answered the initiator's hello with its own.
    greeted_at: Instant,
    ping_at: Instant,
    /// The PING that is not answered.
    pub(super) pinged: Option<u64>,
    pub(super) pong: u64,
    /// This end takes no more channels.
    pub(super) draining: bool,
    /// The far end takes no more channels.
    pub(super) peer_draining: bool,
    pub(super) last_opened: ChannelId,
    pub(super) close_reason: u16,
    pub(super) close_text: [u8; TEXT_BYTES_MAX],
    pub(super) close_text_bytes: u8,
    /// Channels that the far end opens.
    pub(super) opens: Rate,
}

impl Life {
    pub(super) const DOWN: Life = Life {
        stage: Stage::Down,
        owed: Owed { hello: false, ping: false, pong: false, goaway: false, close: false },
        hello_sent: false,
        channels_max: 0,
        peer_initial_credit: 0,
        heard_at: Instant::from_millis(0),
        greeted_at: Instant::from_millis(0),
        ping_at: Instant::from_millis(0),
        pinged: None,
        pong: 0,
        draining: false,
        peer_draining: false,
        last_opened: ChannelId(u32::MAX),
        close_reason: 0,
        close_text: [0; TEXT_BYTES_MAX],
        close_text_bytes: 0,
        opens: Rate::NONE,
    };

    pub(super) fn begin(role: Role, now: Instant) -> Life {
        let owed = Owed { hello: role == Role::Initiator, ..Owed::default() };
        Life { stage: Stage::Greeting, owed, heard_at: now, ping_at: now, ..Life::DOWN }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Whether something is owed that may be said now.
    pub(super) fn owes(&self) -> bool {
        let goaway = self.owed.goaway && self.is_greeted();
        Owed { goaway, ..self.owed } != Owed::default()
    }

    /// The far end has said hello, so it may be told more than that.
    pub(super) fn is_greeted(&self) -> bool {
        matches!(self.stage, Stage::Greeted | Stage::Up)
    }
}

impl Session<'_> {
    /// When [`Session::handle_timeout`] is to be called.
    pub fn timeout(&self) -> Option<Instant> {
        let death = self.death_at();
        match self.life.stage {
            Stage::Down | Stage::Closed => None,
            Stage::Greeting | Stage::Closing => Some(death),
            Stage::Greeted | Stage::Up => Some(death.min(self.life.ping_at)),
        }
    }

    /// Time has passed: a heartbeat may be owed.
    ///
    /// # Errors
    /// The far end was silent for too long ([`FailReason::TimedOut`]): the link is dead.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), FailReason> {
        if matches!(self.life.stage, Stage::Down | Stage::Closed) {
            return Ok(());
        }
        if now >= self.death_at() {
            self.life.stage = Stage::Closed;
            self.life.owed = Owed::default();
            return Err(FailReason::TimedOut);
        }
        if self.life.is_greeted() && now >= self.life.ping_at {
            self.ping(now);
        }
        Ok(())
    }

    /// When the far end has been silent for too long.
    fn death_at(&self) -> Instant {
        let silence_millis = match self.life.stage {
            Stage::Greeting => self.config.idle_millis.min(GREETING_MILLIS_MAX),
            _ => self.config.idle_millis,
        };
        self.life.heard_at.after(silence_millis)
    }

    fn ping(&mut self, now: Instant) {
        self.life.ping_at = now.after(self.config.idle_millis / 3);
        self.life.pinged = Some(now.as_millis());
        self.life.owed.ping = true;
    }

    /// The far end is to open no more channels: GOAWAY is owed. Those that are open go on.
    pub fn drain(&mut self) {
        let is_open = !matches!(self.life.stage, Stage::Down | Stage::Closing | Stage::Closed);
        if is_open && !self.life.draining {
            self.life.draining = true;
            self.life.owed.goaway = true;
        }
    }

    /// Whether the far end takes no more channels, and none is left: whoever opened them knows best when
    /// their bytes were delivered, so it is this end that is to close the link.
    pub fn is_left(&self) -> bool {
        self.life.stage == Stage::Up && self.life.peer_draining && !self.has_channels()
    }

    /// Whether the far end has not said hello.
    pub fn is_greeting(&self) -> bool {
        self.life.stage == Stage::Greeting
    }

    /// Whether this end has closed the link, or the far end has, or it is dead.
    pub fn is_closed(&self) -> bool {
        self.life.stage == Stage::Closed
    }

    /// The link ends: CLOSE is owed, and nothing else any more. Once that has been emitted, or
    /// cannot be, the carrier is to be closed.
    pub fn close(&mut self, reason: FailReason, text: &str) {
        if matches!(self.life.stage, Stage::Down | Stage::Closing | Stage::Closed) {
            return;
        }
        self.life.stage = Stage::Closing;
        // Hello comes first, whatever happens.
        self.life.owed = Owed { hello: !self.life.hello_sent, close: true, ..Owed::default() };
        self.life.close_reason = reason as u16;
        if let Message::Close { text, .. } = Message::close(reason, text) {
            self.life.close_text[..text.len()].copy_from_slice(text);
            self.life.close_text_bytes = text.len() as u8;
        }
    }

    /// Whether the link is up by it.
    pub(super) fn handle_hello(&mut self, hello: Hello, now: Instant) -> Result<bool, FailReason> {
        if self.is_unordered() && self.life.stage != Stage::Greeting {
            // A copy.
            let is_same = hello.initial_credit == self.life.peer_initial_credit;
            return if is_same { Ok(false) } else { Err(FailReason::Protocol) };
        }
        if self.life.stage != Stage::Greeting || hello.initial_credit > CREDIT_BYTES_MAX {
            return Err(FailReason::Protocol);
        }
        if self.hello().version_with(&hello).is_none() {
            return Err(FailReason::Version);
        }
        let slots = hello.channels_max.min((self.channels.len() / 2) as u16);
        let slots = slots.min(self.carrier.channels_max);
        // There are enough: asserted where the memory is made, and no window has grown yet.
        if !self.pool.reserve(self.base_of(slots)) {
            return Err(FailReason::Other);
        }
        self.life.channels_max = slots;
        self.life.peer_initial_credit = hello.initial_credit;
        match self.config.role {
            Role::Initiator => {
                self.life.stage = Stage::Up;
                self.ping(now);
            }
            Role::Acceptor => {
                self.life.stage = Stage::Greeted;
                self.life.owed.hello = true;
                self.life.ping_at = now.after(self.config.idle_millis / 3);
                self.life.greeted_at = now;
            }
        }
        Ok(self.is_up())
    }

    pub(super) fn handle_ping(&mut self, value: u64, now: Instant) -> Heard<'static> {
        // One answer for many is enough: it proves the same.
        self.life.pong = value;
        self.life.owed.pong = true;
        if self.life.stage == Stage::Greeted {
            self.life.stage = Stage::Up;
            // It answers hello, so this was a round trip: windows can grow from now on, not from the
            // first heartbeat on.
            self.note_round_trip(now.since(self.life.greeted_at));
            return Heard::Up;
        }
        Heard::Nothing
    }

    pub(super) fn handle_pong(&mut self, value: u64, now: Instant) {
        if self.life.pinged == Some(value) && !self.life.owed.ping {
            self.life.pinged = None;
            self.note_round_trip(now.as_millis().saturating_sub(value));
        }
    }

    fn note_round_trip(&mut self, millis: u64) {
        self.terms.round_trip_millis = millis.min(ROUND_TRIP_MILLIS_MAX) as u32;
    }

    pub(super) fn handle_close(&mut self, reason: u16) -> Heard<'static> {
        self.life.stage = Stage::Closed;
        self.life.owed = Owed::default();
        Heard::Closed(fail_reason(reason).unwrap_or(FailReason::Shutdown))
    }
}
