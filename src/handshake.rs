//! Proxy types: what clients say before their bytes flow, and what they are told. A [`Handshake`] is
//! one proxy type, bytes in and bytes out; [`Handshaking`] is a source whose clients talk it. Neither
//! makes a system call, and none of them knows where connections go.
//!
//! Invariant: what a seat holds of a client's bytes has not been consumed by its handshake, and once
//! the target is known those bytes are the first for the dest.

use crate::fail::FailReason;
use crate::side::{Handle, SideKey, SideKind};
use crate::sys::{Errno, RawFd, Ready, Sys};
use crate::time::Instant;
use crate::transport::{Asked, Desk, Event, Lent, Room, Source, Transport};
use crate::wanted::{Wanted, Wish};

/// How many bytes of a client's a handshake can see at a time: the longest message that it cannot
/// take piece by piece. SOCKS has one of 513 (RFC 1929 section 2).
pub const INPUT_BYTES: usize = 520;

/// How many bytes a handshake can have said and not yet got rid of.
pub const REPLY_BYTES: usize = 192;

/// What a handshake has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'v> {
    /// More must be heard first.
    More,
    /// The client wants this. What it said beyond is for the dest.
    Connect(Wanted<'v>),
    /// The client has no connection. What the reply says now it is given time to read; if it says
    /// nothing, the client is reset.
    Reject(FailReason),
}

/// A proxy type. It makes no system call and does not wait: it is given what a client said, and
/// says what it makes of it. A client it never understands costs its seat, for the time it is given. One
/// that panics is a bug: it must end the process (docs/embedding.md has a hook that does so in one line),
/// as the program, the library for C and `examples/tiny` do.
///
/// ```
/// use seaprox::fail::FailReason;
/// use seaprox::handshake::{Handshake, Reply, Verdict};
/// use seaprox::wanted::Wanted;
///
/// /// Clients say the name of a service in a line of its own.
/// struct Named;
///
/// impl Handshake for Named {
///     type Origin = ();
///     type State = ();
///     const VACANT: () = ();
///
///     fn begin(&mut self, (): ()) {}
///
///     fn hear<'v>(&'v mut self, (): &'v mut (), input: &mut &'v [u8], _: &mut Reply) -> Verdict<'v> {
///         let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Verdict::More };
///         let (name, rest) = input.split_at(end);
///         *input = &rest[1..];
///         Verdict::Connect(Wanted::Service(name))
///     }
///
///     fn answer(&mut self, (): &mut (), outcome: Result<(), FailReason>, reply: &mut Reply) {
///         reply.say(if outcome.is_ok() { b"ok\n" } else { b"no\n" });
///     }
/// }
/// ```
pub trait Handshake {
    /// What its source says of a connection that came: its `Target`.
    type Origin;

    /// What is remembered of one client.
    type State;

    /// The state of nobody. Best all zeroes: then the seats of a `static` cost no bytes in a file.
    const VACANT: Self::State;

    /// A client came.
    fn begin(&mut self, origin: Self::Origin) -> Self::State;

    /// Hears `input`, which is all that the client has said and that has not been consumed, at most
    /// [`INPUT_BYTES`] bytes; called first when it came, with none, and from then on when it has said
    /// more. What is cut off the front of `input` is consumed and not seen again; is something cut
    /// off and something left, it is called again at once, so that one message a call is enough.
    /// [`Verdict::More`] with all [`INPUT_BYTES`] left could never become anything else: then the
    /// client is refused ([`FailReason::Protocol`]).
    fn hear<'v>(
        &'v mut self,
        state: &'v mut Self::State,
        input: &mut &'v [u8],
        reply: &mut Reply,
    ) -> Verdict<'v>;

    /// Whether the client is to be told what becomes of its dest before its bytes flow; asked once it
    /// is known what it wants. If not, its bytes need not wait for a dest that takes them sooner.
    fn waits(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }

    /// The dest was reached, or was not; or the client took too long to say what it wants
    /// ([`FailReason::TimedOut`]), or wants what cannot be wanted ([`FailReason::Denied`]). Called
    /// once, unless the handshake itself has rejected the client, or the client is gone, or the
    /// proxy stops. The reply goes before all bytes of the dest; without one a client that has no
    /// connection is reset.
    fn answer(
        &mut self,
        state: &mut Self::State,
        outcome: Result<(), FailReason>,
        reply: &mut Reply,
    );
}

/// What a client is told, as far as it has not been told yet.
///
/// ```
/// use seaprox::handshake::Reply;
///
/// let mut reply = Reply::new();
/// reply.say(b"250 ");
/// reply.say(b"OK\r\n");
/// assert_eq!(reply.bytes(), b"250 OK\r\n");
/// ```
///
/// Invariant: `start <= end <= REPLY_BYTES`.
#[derive(Debug)]
pub struct Reply {
    start: u16,
    end: u16,
    has_overflowed: bool,
    bytes: [u8; REPLY_BYTES],
}

impl Reply {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Reply { start: 0, end: 0, has_overflowed: false, bytes: [0; REPLY_BYTES] }
    }

    /// Adds bytes, all or none. More than there is room for are a mistake of the handshake's, or of
    /// a client that does not read what it is told: it is refused.
    pub fn say(&mut self, bytes: &[u8]) {
        if bytes.len() > REPLY_BYTES - usize::from(self.end) {
            // What has been told is still in the way.
            let told = usize::from(self.start);
            self.bytes.copy_within(told..usize::from(self.end), 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let end = usize::from(self.end);
        match self.bytes.get_mut(end..end + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.end += bytes.len() as u16;
            }
            None => self.has_overflowed = true,
        }
    }

    /// What there is to be told.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..usize::from(self.end)]
    }

    fn clear(&mut self) {
        (self.start, self.end, self.has_overflowed) = (0, 0, false);
    }

    /// So many bytes of it have been told.
    fn consume(&mut self, bytes: usize) {
        self.start += bytes as u16;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nobody, or one of before.
    Vacant = 0,
    /// It is heard.
    Hearing,
    /// What it wants is known, or the handshake has rejected it.
    Heard,
    /// It is refused: what it says is not for anybody.
    Refused,
}

/// How many bytes the handshake has heard that has not been called yet.
const NEVER_HEARD: u16 = u16::MAX;

const _: () = assert!(INPUT_BYTES < NEVER_HEARD as usize);

/// What is kept of one client until its bytes flow. All zeroes is nobody's, if all zeroes is
/// [`Handshake::VACANT`].
///
/// ```
/// use seaprox::handshake::Seat;
///
/// /// What a proxy type remembers of each client: here how many messages it has heard.
/// type State = u8;
///
/// static SEATS: [Seat<State>; 8] = [const { Seat::new(0) }; 8];
/// # assert_eq!(SEATS.len(), 8);
/// ```
///
/// Invariant: `start <= end <= INPUT_BYTES`.
#[derive(Debug)]
pub struct Seat<T> {
    state: T,
    phase: Phase,
    start: u16,
    end: u16,
    /// How much of the input the handshake has heard already and made nothing of.
    heard: u16,
    /// When it must have said what it wants.
    until: Instant,
    input: [u8; INPUT_BYTES],
    reply: Reply,
}

impl<T> Seat<T> {
    /// Nobody's; `state` is [`Handshake::VACANT`].
    pub const fn new(state: T) -> Self {
        Seat {
            state,
            phase: Phase::Vacant,
            start: 0,
            end: 0,
            heard: 0,
            until: Instant::from_millis(0),
            input: [0; INPUT_BYTES],
            reply: Reply::new(),
        }
    }

    fn input(&self) -> &[u8] {
        &self.input[usize::from(self.start)..usize::from(self.end)]
    }

    /// Whoever was here is gone, with all that was said.
    fn vacate(&mut self) {
        self.phase = Phase::Vacant;
        (self.start, self.end) = (0, 0);
        self.reply.clear();
    }

    /// A client came, of whom nothing is known.
    fn occupy(&mut self, state: T, until: Instant) {
        self.vacate();
        (self.state, self.phase) = (state, Phase::Hearing);
        (self.heard, self.until) = (NEVER_HEARD, until);
    }

    /// Makes room behind what has not been consumed.
    fn compact(&mut self) {
        let (start, end) = (usize::from(self.start), usize::from(self.end));
        self.input.copy_within(start..end, 0);
        (self.start, self.end) = (0, (end - start) as u16);
    }

    /// The handshake hears what there is, if that is more than it has heard. It is called for as long
    /// as each call consumes something, so [`INPUT_BYTES`] times at most.
    fn hear<H: Handshake<State = T>>(&mut self, handshake: &mut H, now: Instant) -> Asked<Wish> {
        while self.input().len() != usize::from(self.heard) {
            let mut input = &self.input[usize::from(self.start)..usize::from(self.end)];
            let before = input.len();
            let told = self.reply.bytes().len();
            let wish = match handshake.hear(&mut self.state, &mut input, &mut self.reply) {
                Verdict::More => None,
                // The handshake will be told so.
                Verdict::Connect(wanted) => Some(Wish::new(wanted).ok_or(FailReason::Denied)),
                Verdict::Reject(reason) => return self.refuse(reason, told),
            };
            // What it was lent may have been changed for something else.
            self.start += before.saturating_sub(input.len()) as u16;
            self.heard = if self.start == self.end { 0 } else { before as u16 };
            match wish {
                _ if self.reply.has_overflowed => {
                    self.reply.clear();
                    return self.refuse(FailReason::Protocol, 0);
                }
                Some(Ok(wish)) => {
                    self.phase = Phase::Heard;
                    return Asked::For(wish);
                }
                Some(Err(reason)) => return Asked::Refused(reason),
                None => {}
            }
        }
        if now >= self.until {
            return Asked::Refused(FailReason::TimedOut);
        }
        self.compact();
        match usize::from(self.end) == INPUT_BYTES {
            true => Asked::Refused(FailReason::Protocol),
            false => Asked::Until(self.until),
        }
    }

    /// The client is not heard any more, nor is the handshake. `told`: how much there was to be told
    /// before its last word; without one the client is reset, whether it has heard all before or not.
    fn refuse(&mut self, reason: FailReason, told: usize) -> Asked<Wish> {
        self.phase = Phase::Refused;
        if self.reply.bytes().len() == told {
            self.reply.clear();
        }
        Asked::Refused(reason)
    }

    /// The handshake answers, unless it has rejected the client; whether there was room for that.
    fn answer<H: Handshake<State = T>>(
        &mut self,
        handshake: &mut H,
        outcome: Result<(), FailReason>,
    ) -> bool {
        if !matches!(self.phase, Phase::Hearing | Phase::Heard) {
            return true;
        }
        let told = self.reply.bytes().len();
        handshake.answer(&mut self.state, outcome, &mut self.reply);
        let has_room = !self.reply.has_overflowed;
        if let Err(reason) = outcome {
            let _ = self.refuse(reason, told);
        }
        has_room
    }
}

/// A source whose clients say what they want: `S` brings them, `H` is what they talk.
///
/// ```
/// use seaprox::handshake::{Handshake, Handshaking, Seat};
/// use seaprox::sys::Sys;
/// use seaprox::transport::Source;
///
/// /// How long a client may take to say what it wants.
/// const HANDSHAKE_MILLIS: u32 = 10_000;
///
/// /// Whoever comes through `listener` has to talk `handshake` first.
/// fn behind<K, S, H>(
///     handshake: H,
///     listener: S,
///     seats: &mut [Seat<H::State>],
/// ) -> impl Source<K>
/// where
///     K: Sys,
///     S: Source<K>,
///     H: Handshake<Origin = S::Target>,
/// {
///     Handshaking::new(handshake, listener, seats, HANDSHAKE_MILLIS)
/// }
/// ```
///
/// Memory: a [`Seat`] for each connection of the worker's table.
#[derive(Debug)]
pub struct Handshaking<'m, H: Handshake, S> {
    handshake: H,
    source: S,
    seats: &'m mut [Seat<H::State>],
    timeout_millis: u32,
}

impl<'m, H: Handshake, S> Handshaking<'m, H, S> {
    /// `seats`: as many as the worker's table has connections; who comes to a connection without
    /// one is refused. `timeout_millis`: how long a client may take to say what it wants.
    pub fn new(
        handshake: H,
        source: S,
        seats: &'m mut [Seat<H::State>],
        timeout_millis: u32,
    ) -> Self {
        Handshaking { handshake, source, seats, timeout_millis }
    }

    fn seat(&mut self, channel: Handle) -> Option<(&mut Seat<H::State>, SideKind)> {
        let side = SideKey::from_number(channel.number());
        Some((self.seats.get_mut(side.connection())?, side.kind()))
    }
}

impl<K: Sys, H, S> Transport<K> for Handshaking<'_, H, S>
where
    H: Handshake<Origin = S::Target>,
    S: Source<K>,
{
    const PROMPT: bool = S::PROMPT;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        self.source.ready(own, fd, ready);
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        self.source.poll(desk)
    }

    fn shut(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        self.source.shut(handle, desk);
    }

    fn stop(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        self.source.stop(handle, desk);
    }

    fn close(&mut self, handle: Handle, reason: Option<FailReason>, desk: &mut Desk<'_, K>) {
        self.source.close(handle, reason, desk);
    }

    fn unacknowledged(&self, handle: Handle, sys: K) -> usize {
        self.source.unacknowledged(handle, sys)
    }

    fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        let bytes = match self.seat(channel) {
            Some((seat, SideKind::Source)) if seat.phase == Phase::Heard => seat.input(),
            Some((seat, SideKind::Dest)) => seat.reply.bytes(),
            _ => &[],
        };
        if bytes.is_empty() { Lent::Drained } else { Lent::Bytes(bytes) }
    }

    fn consume(&mut self, channel: Handle, bytes: usize) {
        match self.seat(channel) {
            Some((seat, SideKind::Source)) => seat.start += bytes as u16,
            Some((seat, SideKind::Dest)) => seat.reply.consume(bytes),
            None => {}
        }
    }

    fn room(&mut self, channel: Handle) -> Room<'_> {
        match self.seat(channel) {
            Some((seat, SideKind::Dest)) => {
                // Of one that is refused nothing is kept.
                let end = if seat.phase == Phase::Hearing { seat.end } else { 0 };
                match (seat.phase, &mut seat.input[usize::from(end)..]) {
                    (Phase::Hearing | Phase::Refused, room @ [_, ..]) => Room::Bytes(room),
                    _ => Room::Full,
                }
            }
            _ => Room::Full,
        }
    }

    fn commit(&mut self, channel: Handle, bytes: usize) {
        if let Some((seat, SideKind::Dest)) = self.seat(channel)
            && seat.phase == Phase::Hearing
        {
            seat.end += bytes as u16;
        }
    }

    fn timeout(&self) -> Option<Instant> {
        self.source.timeout()
    }

    fn flush(&mut self, desk: &mut Desk<'_, K>) {
        self.source.flush(desk);
    }

    fn is_flushed(&self) -> bool {
        self.source.is_flushed()
    }

    fn settle(&mut self, handle: Handle, desk: &mut Desk<'_, K>) {
        self.source.settle(handle, desk);
    }
}

impl<K: Sys, H, S> Source<K> for Handshaking<'_, H, S>
where
    H: Handshake<Origin = S::Target>,
    S: Source<K>,
{
    type Target = Wish;

    const ASKS: bool = {
        assert!(!S::LENDS, "a handshake reads from descriptors");
        assert!(!S::ASKS, "one handshake after the other is one of its own");
        true
    };

    /// # Errors
    /// `TableFull` if there are fewer seats than connections.
    fn target(&mut self, handle: Handle, side: SideKey, desk: &mut Desk<'_, K>) -> Asked<Wish> {
        let Some(seat) = self.seats.get_mut(side.connection()) else {
            return Asked::Refused(FailReason::TableFull);
        };
        // Whom the source refuses must not hear what was said to who was here before.
        seat.vacate();
        match self.source.target(handle, side, desk) {
            Asked::For(origin) => {
                let until = desk.now.after(self.timeout_millis);
                seat.occupy(self.handshake.begin(origin), until);
                seat.hear(&mut self.handshake, desk.now)
            }
            // It does not ask.
            Asked::Until(_) => Asked::Refused(FailReason::Other),
            Asked::Refused(reason) => Asked::Refused(reason),
        }
    }

    fn ask(&mut self, side: SideKey, desk: &mut Desk<'_, K>) -> Asked<Wish> {
        match self.seats.get_mut(side.connection()) {
            Some(seat) if seat.phase == Phase::Hearing => seat.hear(&mut self.handshake, desk.now),
            _ => Asked::Refused(FailReason::Other),
        }
    }

    fn waits(&self, side: SideKey) -> bool {
        self.seats.get(side.connection()).is_some_and(|seat| self.handshake.waits(&seat.state))
    }

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        self.source.admit(wanted, desk)
    }

    fn answer(
        &mut self,
        _: Handle,
        side: SideKey,
        outcome: Result<(), FailReason>,
        _: &mut Desk<'_, K>,
    ) -> Result<(), FailReason> {
        let seat = self.seats.get_mut(side.connection()).ok_or(FailReason::TableFull)?;
        match seat.answer(&mut self.handshake, outcome) {
            true => Ok(()),
            false => Err(FailReason::Protocol),
        }
    }

    fn left(&mut self, side: SideKey) {
        self.source.left(side);
    }

    fn look(&mut self) {
        self.source.look();
    }

    fn end(&mut self, desk: &mut Desk<'_, K>) {
        self.source.end(desk);
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
