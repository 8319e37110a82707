//! A carrier whose packets are sealed: a carrier around another. Knows no message of the link.
//!
//! ```text
//! 0x10 + key slot | packet of the link | tag16          a packet, on its stream
//! INIT or RESPONSE                                      of a handshake, on stream 0
//! ```
//!
//! A packet of the link is copied once, into the seat, and sealed there; one that came is opened where it
//! was received. A packet that was sealed counts as sent: if the carrier below takes nothing, it waits in
//! the seat, and the link is told that there is no room.
//!
//! Invariants: nothing of the link leaves, or is heard, that is not sealed. Whatever does not open ends the
//! link, for nothing but an attack loses or changes a packet here.

use crate::greeting::Arriving;
use crate::keeper::{Keeper, Outside, Seat};
use crate::outbox::Outbox;
use crate::renewal::Inits;
use core::ops::Range;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::initiator::Initiator;
use seaprox_noise::keyring::Opened;
use seaprox_noise::message::kind_of;
use seaprox_noise::peers::PeerNumber;
use seaprox_noise::streams::{OVERHEAD_BYTES, Position};
use seaprox_proto::carrier::{Bounds, Carrier, Greeting, Order, Received};

/// A carrier of sealed packets.
pub struct Sealed<'k, 'm, C, O: Outside, const PEERS: usize> {
    pub(crate) carrier: C,
    pub(crate) keeper: &'k Keeper<'m, O, PEERS>,
    /// There is one as soon as there is somebody.
    pub(crate) seat: Option<Seat<'m>>,
    bounds: Bounds,
    /// How many there are, of each direction.
    streams: usize,
    /// Who is at the far end, if it asked.
    pub(crate) peer: Option<PeerNumber>,
    pub(crate) own_index: u32,
    pub(crate) peer_index: u32,
    /// A handshake that this end has begun.
    pub(crate) asking: Option<Initiator>,
    pub(crate) outbox: Outbox,
    pub(crate) arriving: Arriving,
    pub(crate) inits: Inits,
    pub(crate) now: Instant,
    /// It is of no more use, and why, which the next poll tells.
    over: Option<FailReason>,
}

impl<'k, 'm, C: Carrier, O: Outside, const PEERS: usize> Sealed<'k, 'm, C, O, PEERS> {
    /// Of a carrier that connects, or is connected: asks the keeper's peer for a link. Once the carrier is
    /// connected [`Carrier::greet`] says whether the link can begin. `None`: there is no memory for another.
    ///
    /// The carrier keeps an order: its bounds say [`Order::One`] or [`Order::Streams`].
    #[must_use]
    pub fn asking(keeper: &'k Keeper<'m, O, PEERS>, carrier: C) -> Option<Self> {
        keeper.take().map(|seat| Sealed::new(keeper, carrier, Some(seat)))
    }

    /// Of a carrier that was accepted: waits for one of the keeper's peers.
    #[must_use]
    pub fn asked(keeper: &'k Keeper<'m, O, PEERS>, carrier: C) -> Self {
        Sealed::new(keeper, carrier, None)
    }

    fn new(keeper: &'k Keeper<'m, O, PEERS>, carrier: C, seat: Option<Seat<'m>>) -> Self {
        Sealed {
            carrier,
            keeper,
            seat,
            bounds: Bounds { channels_max: 0, ..Bounds::ORDERED },
            streams: 0,
            peer: None,
            own_index: 0,
            peer_index: 0,
            asking: None,
            outbox: Outbox::default(),
            arriving: Arriving::default(),
            inits: Inits::default(),
            now: keeper.now(),
            over: None,
        }
    }

    /// The one below: to see whether it is connected.
    pub fn carrier(&mut self) -> &mut C {
        &mut self.carrier
    }

    pub(crate) const fn now_micros(&self) -> u64 {
        self.now.as_millis() * 1000
    }

    /// The carrier is connected, and there is a seat: how many streams there are.
    ///
    /// # Errors
    /// It is of a kind that cannot be sealed.
    pub(crate) fn sit(&mut self) -> Result<(), FailReason> {
        let below = self.carrier.bounds();
        let positions = self.seat.as_mut().map_or(&mut [][..], |seat| seat.positions);
        let places = (positions.len().saturating_sub(1) / 2).try_into().unwrap_or(u16::MAX);
        let (channels_max, streams) = match below.order {
            Order::One => (below.channels_max, 1),
            Order::Streams => {
                let channels = below.channels_max.min(places);
                (channels, 1 + 2 * usize::from(channels))
            }
            Order::Any => return Err(FailReason::Other),
        };
        let sent_bytes_max = below.sent_bytes_max.saturating_sub(OVERHEAD_BYTES);
        self.bounds = Bounds { channels_max, sent_bytes_max, ..below };
        self.streams = streams.min(positions.len());
        positions[..self.streams].fill(Position::NEW);
        Ok(())
    }

    /// Sends what waits; says whether nothing does any more.
    ///
    /// # Errors
    /// The carrier is of no more use.
    pub(crate) fn push(&mut self) -> Result<bool, Errno> {
        let packet = self.seat.as_ref().map_or(&[][..], |seat| seat.packet);
        self.outbox.push(&mut self.carrier, packet, self.now)
    }

    /// The same for those who cannot say that the carrier is of no more use.
    fn push_or_end(&mut self) -> bool {
        let pushed = self.push();
        if pushed.is_err() {
            self.over.get_or_insert(FailReason::LinkDown);
        }
        pushed.unwrap_or(false)
    }

    /// Seals a packet, which is to go next.
    ///
    /// # Errors
    /// EMSGSIZE: it is too long. EKEYEXPIRED: nothing seals it.
    pub(crate) fn seal(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        let now_micros = self.now_micros();
        let Some(seat) = &mut self.seat else { return Err(Errno::KEYEXPIRED) };
        let [head, rest @ ..] = &mut *seat.packet;
        let Some((body, rest)) = rest.split_at_mut_checked(packet.len()) else {
            return Err(Errno::MSGSIZE);
        };
        let Some(end) = rest.first_chunk_mut() else { return Err(Errno::MSGSIZE) };
        body.copy_from_slice(packet);
        let positions = &mut seat.positions[..self.streams];
        let sealed = seat.keys.seal(now_micros, positions, stream, body);
        let Ok((first, tag)) = sealed else {
            body.fill(0);
            return Err(Errno::KEYEXPIRED);
        };
        (*head, *end) = (first, tag);
        self.outbox.hold(stream, packet.len() + OVERHEAD_BYTES);
        Ok(())
    }

    /// The far end waits for a packet under the current keys before it uses them: one of nothing, if there
    /// is no other.
    pub(crate) fn confirm(&mut self) {
        let owes = self.seat.as_ref().is_some_and(|seat| seat.keys.owes_message());
        if owes && !self.outbox.is_full() && self.seal(0, &[]).is_err() {
            self.over = Some(FailReason::Auth);
        }
    }

    /// Opens a packet that was sealed.
    fn unseal(
        &mut self,
        stream: u16,
        packet: &mut [u8],
    ) -> Result<(Range<usize>, Opened), FailReason> {
        let now_micros = self.now_micros();
        let Some((first, rest)) = packet.split_first_mut() else {
            return Err(FailReason::Protocol);
        };
        let Some((body, tag)) = rest.split_last_chunk_mut() else { return Err(FailReason::Auth) };
        let Some(seat) = &mut self.seat else { return Err(FailReason::Auth) };
        let positions = &mut seat.positions[..self.streams];
        match seat.keys.open(now_micros, positions, stream, *first, body, tag) {
            Opened::No => Err(FailReason::Auth),
            opened => Ok((1..1 + body.len(), opened)),
        }
    }

    /// Whether a packet shows that the far end has the keys that were agreed on, and says nothing else.
    pub(crate) fn is_proof(&mut self, stream: u16, packet: &mut [u8]) -> bool {
        let opened = self.unseal(stream, packet);
        matches!(opened, Ok((range, Opened::Confirmed)) if range.is_empty())
    }

    /// When something is to be done about the keys.
    fn keys_timeout(&self) -> Option<Instant> {
        let keys = &self.seat.as_ref()?.keys;
        let renew = keys.renew_micros().filter(|_| self.may_ask());
        let micros = renew.into_iter().chain(keys.stop_micros()).min();
        micros.map(|micros| Instant::from_millis(micros.div_ceil(1000)))
    }
}

impl<C: Carrier, O: Outside, const PEERS: usize> Carrier for Sealed<'_, '_, C, O, PEERS> {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn fd(&self) -> Option<RawFd> {
        self.carrier.fd()
    }

    /// Who is at the far end, as a number among those who may ask; known once it was answered. `None` at
    /// the end that asks.
    fn peer(&self) -> Option<PeerNumber> {
        self.peer
    }

    fn interest(&self) -> Interest {
        self.carrier.interest()
    }

    fn greet(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        self.now = self.keeper.now();
        self.outbox.retry_at = None;
        self.go_on(refused)
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        if !self.push()? {
            self.outbox.is_blocked = true;
            return Err(Errno::AGAIN);
        }
        match self.seal(stream, packet) {
            Ok(()) => self.push().map(drop),
            Err(Errno::KEYEXPIRED) => {
                self.over = Some(FailReason::Auth);
                Err(Errno::AGAIN)
            }
            Err(errno) => Err(errno),
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        self.carrier.receive(room)
    }

    fn open(&mut self, stream: u16, packet: &mut [u8]) -> Result<Range<usize>, FailReason> {
        // After a long silence the last poll was long ago, and new keys would be born old.
        self.now = self.keeper.now();
        if kind_of(packet).is_some() {
            if stream != 0 {
                return Err(FailReason::Protocol);
            }
            return self.hear_renewal(packet).map(|()| 0..0);
        }
        self.unseal(stream, packet).map(|(range, _)| range)
    }

    fn window(&mut self) -> usize {
        let is_empty = self.push_or_end();
        self.outbox.is_blocked |= !is_empty;
        if is_empty { self.carrier.window().saturating_sub(OVERHEAD_BYTES) } else { 0 }
    }

    fn handled(&mut self, kept: bool) {
        self.carrier.handled(kept);
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        self.now = self.keeper.now();
        self.outbox.retry_at = None;
        if let Some(reason) = self.over {
            return Err(reason);
        }
        self.renew()?;
        self.confirm();
        let is_empty = self.push().map_err(|_| FailReason::LinkDown)?;
        let has_room = is_empty && core::mem::take(&mut self.outbox.is_blocked);
        let ready = self.carrier.poll()?;
        Ok(Ready { writable: ready.writable || has_room, ..ready })
    }

    fn timeout(&self) -> Option<Instant> {
        // What waited may have gone at the end of the turn, with nobody to tell.
        let has_room = self.outbox.is_blocked && !self.outbox.waits();
        if self.over.is_some() || has_room {
            return Some(Instant::from_millis(0));
        }
        let own = [self.outbox.retry_at, self.keys_timeout(), self.carrier.timeout()];
        own.into_iter().flatten().min()
    }

    fn flush(&mut self) {
        self.confirm();
        self.push_or_end();
        self.carrier.flush();
    }

    fn is_flushed(&self) -> bool {
        !self.outbox.waits() && self.carrier.is_flushed()
    }
}

impl<C, O: Outside, const PEERS: usize> Drop for Sealed<'_, '_, C, O, PEERS> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.keeper.give(seat);
        }
    }
}
