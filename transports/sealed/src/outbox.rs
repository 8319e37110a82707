//! What is to go out and has not: one message of a handshake, and one packet that is sealed. Knows no key.
//!
//! Invariant: what was sealed goes out, and in the order in which it was: both ends count.

use arrayvec::ArrayVec;
use seaprox::fail::FailReason;
use seaprox::sys::Errno;
use seaprox::time::Instant;
use seaprox_noise::message::INIT_BYTES;
use seaprox_proto::carrier::Carrier;

/// After how long it is tried again what the kernel had no memory for: no event tells.
pub(crate) const STARVED_MILLIS: u32 = 10;

/// All of it but the bytes of the packet, which are its owner's.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Goes first: on its stream, 0, it is not counted.
    owed: ArrayVec<u8, INIT_BYTES>,
    /// So many bytes of the packet, on this stream; 0: there is none.
    held: usize,
    stream: u16,
    /// Tried again then.
    pub(crate) retry_at: Option<Instant>,
    /// The link was told that there is no room, and not yet that there is.
    pub(crate) is_blocked: bool,
}

impl Outbox {
    /// Whether anything waits.
    pub(crate) const fn waits(&self) -> bool {
        self.held > 0 || !self.owed.is_empty()
    }

    /// Whether there is no room for a packet.
    pub(crate) const fn is_full(&self) -> bool {
        self.held > 0
    }

    /// A message of a handshake is to go.
    ///
    /// # Errors
    /// There is one already: the far end has not waited for its answer.
    pub(crate) fn owe(&mut self, message: &[u8]) -> Result<(), FailReason> {
        if !self.owed.is_empty() {
            return Err(FailReason::Protocol);
        }
        self.owed.try_extend_from_slice(message).map_err(|_| FailReason::Other)
    }

    /// So many bytes of the packet are to go, on this stream.
    pub(crate) const fn hold(&mut self, stream: u16, bytes: usize) {
        (self.held, self.stream) = (bytes, stream);
    }

    /// Sends what waits, as far as the carrier takes it; says whether nothing waits any more.
    ///
    /// # Errors
    /// The carrier is of no more use.
    pub(crate) fn push(
        &mut self,
        carrier: &mut impl Carrier,
        packet: &[u8],
        now: Instant,
    ) -> Result<bool, Errno> {
        match self.try_push(carrier, packet) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {
                self.retry_at = Some(now.after(STARVED_MILLIS));
                Ok(false)
            }
            Err(errno) => Err(errno),
        }
    }

    fn try_push(&mut self, carrier: &mut impl Carrier, packet: &[u8]) -> Result<(), Errno> {
        if !self.owed.is_empty() {
            carrier.send(0, &self.owed)?;
            self.owed.clear();
        }
        if let Some(held) = packet.get(..self.held).filter(|held| !held.is_empty()) {
            carrier.send(self.stream, held)?;
            self.held = 0;
        }
        Ok(())
    }
}
