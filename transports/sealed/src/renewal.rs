//! How keys are agreed on, at first and again while a link goes on: who asked for the link asks for new
//! keys before the old ones end. Knows not how a link begins.
//!
//! Invariants: at most one handshake is under way. New keys never take the place of the current ones; an
//! end without keys that are young enough ends the link, and seals nothing more.

use crate::carrier::Sealed;
use crate::keeper::Outside;
use seaprox::fail::FailReason;
use seaprox::time::Instant;
use seaprox_noise::initiator::{Heard, Initiator, Purpose};
use seaprox_noise::responder::{Asked, Verdict};
use seaprox_proto::carrier::Carrier;

/// INITs that are heard of one far end in a second: one, and one more if the first one's clock was behind.
/// Each costs 300 microseconds.
const INITS_PER_SECOND_MAX: u32 = 2;

/// INITs that came in the second that began then.
#[derive(Debug, Default)]
pub(crate) struct Inits {
    count: u32,
    since: Instant,
}

impl Inits {
    /// One more.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn count(&mut self, now: Instant) -> Result<(), FailReason> {
        if now.since(self.since) >= 1000 {
            *self = Inits { count: 0, since: now };
        }
        self.count += 1;
        if self.count > INITS_PER_SECOND_MAX { Err(FailReason::Protocol) } else { Ok(()) }
    }
}

impl<C: Carrier, O: Outside, const PEERS: usize> Sealed<'_, '_, C, O, PEERS> {
    /// Whether it is for this end to ask for keys, and it does not already.
    pub(crate) fn may_ask(&self) -> bool {
        self.keeper.is_initiator() && self.asking.is_none()
    }

    /// Asks for keys.
    pub(crate) fn ask(&mut self, purpose: Purpose) -> Result<(), FailReason> {
        let (terms, now_micros) = (self.keeper.terms(), self.now_micros());
        self.asking = Some(Initiator::new(self.own_index, purpose, terms, now_micros));
        self.send_init()
    }

    fn send_init(&mut self) -> Result<(), FailReason> {
        let now_micros = self.now_micros();
        let Some(asking) = &mut self.asking else { return Err(FailReason::Protocol) };
        let init = self.keeper.init(asking, now_micros)?;
        self.outbox.owe(&init)
    }

    /// What came is to be an answer; says whether there are new keys.
    pub(crate) fn hear_answer(&mut self, packet: &[u8]) -> Result<bool, FailReason> {
        let now_micros = self.now_micros();
        let (Some(asking), Some(seat)) = (&mut self.asking, &mut self.seat) else {
            return Err(FailReason::Protocol);
        };
        match self.keeper.hear(asking, now_micros, packet) {
            Heard::Agreed(agreed) => {
                self.peer_index = agreed.peer_index;
                // As old as the question: older than the other end takes them for, however long the answer
                // was under way. So they are renewed while they are still good there.
                let asked_micros = now_micros.saturating_sub(agreed.rtt_micros.unwrap_or(0));
                seat.keys.install(agreed.keys, asked_micros);
                self.asking = None;
                Ok(true)
            }
            Heard::Again => self.send_init().map(|()| false),
            Heard::Refused(reason) => Err(reason),
            // Nothing but an answer can come, and nobody else can have sent one.
            Heard::Unproven | Heard::Ignored => Err(FailReason::Auth),
        }
    }

    /// Agrees with a peer that asks.
    pub(crate) fn accept(&mut self, asked: Asked) -> Result<(), FailReason> {
        let now_micros = self.now_micros();
        let Some(seat) = &mut self.seat else { return Err(FailReason::Other) };
        if !seat.keys.may_propose(asked.slot()) {
            return Err(FailReason::Protocol);
        }
        let (reply, agreed) = asked.accept(self.own_index).ok_or(FailReason::Auth)?;
        seat.keys.propose(agreed.keys, now_micros);
        self.outbox.owe(&reply)
    }

    /// A message of a handshake came, while the link goes on.
    pub(crate) fn hear_renewal(&mut self, packet: &[u8]) -> Result<(), FailReason> {
        if self.keeper.is_initiator() {
            return self.hear_answer(packet).map(drop);
        }
        self.inits.count(self.now)?;
        match self.keeper.hear_init(packet, self.now_micros())? {
            Verdict::Asked(asked) => {
                let is_ours = asked.renews() == Some(self.own_index);
                match is_ours && Some(asked.peer()) == self.peer {
                    true => self.accept(asked),
                    false => Err(FailReason::Auth),
                }
            }
            Verdict::Reply(reply) => self.outbox.owe(&reply),
            Verdict::Ignore => Err(FailReason::Auth),
        }
    }

    /// Asks for new keys when it is time, and drops those that are too old.
    ///
    /// # Errors
    /// There are none any more.
    pub(crate) fn renew(&mut self) -> Result<(), FailReason> {
        let (now_micros, may_ask) = (self.now_micros(), self.may_ask());
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.keys.expire(now_micros);
        let slot = seat.keys.next_slot();
        let Some(due_micros) = seat.keys.renew_micros() else { return Err(FailReason::Auth) };
        if may_ask && due_micros <= now_micros {
            self.ask(Purpose::Renewal { peer_index: self.peer_index, slot })?;
        }
        Ok(())
    }
}
