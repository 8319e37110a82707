//! How a link begins: who asks sends INIT, gets RESPONSE, and shows by a sealed packet of nothing that it
//! is there now. Nothing of the link is said before.
//!
//! Invariants: whoever cannot show that it knows this end's public key meets silence, and so does who is
//! no peer; but who says HELLO is told that keys are wanted here. A stranger takes up no seat. What is
//! received is bounded in bytes, in pieces and in INITs; time is bounded by whoever waits.

use crate::carrier::Sealed;
use crate::keeper::Outside;
use crate::outbox::STARVED_MILLIS;
use seaprox::fail::FailReason;
use seaprox::sys::Errno;
use seaprox_noise::initiator::Purpose;
use seaprox_noise::message::{INIT_BYTES, Kind, kind_of};
use seaprox_noise::responder::{Asked, Verdict};
use seaprox_proto::carrier::{Carrier, Greeting, Received};
use seaprox_proto::message::{Message, parse};

/// What a carrier gives while a link begins, at most: three packets, in pieces, and what it has to say
/// itself.
const PIECES_MAX: u32 = 32;

/// What CLOSE takes, at most (docs/protocol.md).
const CLOSE_BYTES_MAX: usize = 68;

/// A packet that is being received, before there is a link with its buffer. None is longer than INIT.
#[derive(Debug)]
pub(crate) struct Arriving {
    bytes: [u8; INIT_BYTES],
    filled: usize,
    pieces: u32,
}

impl Default for Arriving {
    fn default() -> Self {
        Arriving { bytes: [0; INIT_BYTES], filled: 0, pieces: 0 }
    }
}

impl Arriving {
    /// Takes a piece that was received; says how long the packet is that it completes.
    fn take(&mut self, received: Received) -> Result<Option<usize>, FailReason> {
        self.pieces += 1;
        if self.pieces > PIECES_MAX {
            return Err(FailReason::Protocol);
        }
        match received {
            Received::Piece { stream, bytes, end } => {
                let filled = self.filled + bytes;
                if stream != 0 || filled > INIT_BYTES || filled == INIT_BYTES && !end {
                    return Err(FailReason::Protocol);
                }
                self.filled = if end { 0 } else { filled };
                Ok(end.then_some(filled))
            }
            Received::Up | Received::Nothing => Ok(None),
            Received::Restarted | Received::Gone => Err(FailReason::LinkDown),
        }
    }
}

impl<C: Carrier, O: Outside, const PEERS: usize> Sealed<'_, '_, C, O, PEERS> {
    /// Goes on with all that has come.
    pub(crate) fn go_on(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        let is_initiator = self.keeper.is_initiator();
        if is_initiator && self.asking.is_none() {
            self.own_index = self.keeper.index()?;
            self.sit()?;
            self.ask(Purpose::Link)?;
        }
        self.push().map_err(|_| FailReason::LinkDown)?;
        while let Some(length) = self.next_packet()? {
            let mut bytes = self.arriving.bytes;
            let Some(packet) = bytes.get_mut(..length) else { break };
            let is_done = match is_initiator {
                true => self.hear_answer(packet)?,
                false if self.seat.is_some() => self.hear_proof(packet)?,
                false => self.hear_stranger(packet, refused)?,
            };
            if is_done {
                self.confirm();
            }
            self.push().map_err(|_| FailReason::LinkDown)?;
            if is_done {
                return Ok(Greeting::Done);
            }
        }
        let is_answered = !is_initiator && self.seat.is_some();
        Ok(if is_answered { Greeting::Answered } else { Greeting::Stranger })
    }

    /// The length of the next packet, when it is whole.
    fn next_packet(&mut self) -> Result<Option<usize>, FailReason> {
        loop {
            let Arriving { bytes, filled, .. } = &mut self.arriving;
            let Some(room) = bytes.get_mut(*filled..) else { return Err(FailReason::Protocol) };
            match self.carrier.receive(room) {
                Ok(received) => {
                    if let Some(length) = self.arriving.take(received)? {
                        return Ok(Some(length));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {
                    self.outbox.retry_at = Some(self.now.after(STARVED_MILLIS));
                    return Ok(None);
                }
                Err(Errno::MSGSIZE) => return Err(FailReason::Protocol),
                Err(_) => return Err(FailReason::LinkDown),
            }
        }
    }

    /// The first thing that somebody says.
    fn hear_stranger(
        &mut self,
        packet: &[u8],
        refused: Option<FailReason>,
    ) -> Result<bool, FailReason> {
        self.inits.count(self.now)?;
        match self.keeper.hear_init(packet, self.now_micros())? {
            Verdict::Asked(asked) => self.answer(asked, refused)?,
            Verdict::Reply(reply) => {
                self.outbox.owe(&reply)?;
                if kind_of(&reply) == Some(Kind::Versions) {
                    // The peer is told, as far as that is possible at once.
                    let _ = self.push();
                    return Err(FailReason::Version);
                }
            }
            Verdict::Ignore => {
                if matches!(parse(packet), Ok((Message::Hello(_), _))) {
                    self.want_keys();
                }
                return Err(FailReason::Auth);
            }
        }
        Ok(false)
    }

    /// A peer asks for a link: there is a seat for it, or why not.
    fn answer(&mut self, asked: Asked, refused: Option<FailReason>) -> Result<(), FailReason> {
        if asked.renews().is_some() {
            return Err(FailReason::Protocol);
        }
        let seat = if refused.is_some() { None } else { self.keeper.take() };
        let Some(seat) = seat else {
            let reason = refused.unwrap_or(FailReason::TableFull);
            let reply = asked.refuse(reason).ok_or(FailReason::Auth)?;
            self.outbox.owe(&reply)?;
            let _ = self.push();
            return Err(reason);
        };
        self.seat = Some(seat);
        self.sit()?;
        (self.own_index, self.peer) = (self.keeper.index()?, Some(asked.peer()));
        self.accept(asked)
    }

    /// What whoever was answered says: that it is there.
    fn hear_proof(&mut self, packet: &mut [u8]) -> Result<bool, FailReason> {
        if self.is_proof(0, packet) { Ok(true) } else { Err(FailReason::Auth) }
    }

    /// Whoever says HELLO has no keys: it is told why there is no link, in the words that it knows.
    fn want_keys(&mut self) {
        let mut bytes = [0; CLOSE_BYTES_MAX];
        let close = Message::close(FailReason::Auth, "keys are wanted here");
        if let Some(said) = close.emit(&mut bytes).and_then(|length| bytes.get(..length)) {
            let _ = self.outbox.owe(said);
            let _ = self.push();
        }
    }
}
