//! A link's carrier over UDP: [`Reliable`] with a socket.
//!
//! Invariant: while datagrams that were emitted wait in `unsent` for the socket, no other is emitted.

mod keys;

use crate::asking::{Asking, Begun, Heard};
use crate::congestion::Algorithm;
use crate::hub::{Hub, Owner, Wire};
use crate::join::Join;
use crate::packet::{Kind, kind_of};
use crate::reliable::{Emitted, NotPushed, Parts, Reliable, Slices, Terms};
use crate::renewal::Renewal;
use crate::slots::DATAGRAM_BYTES_MAX;
use crate::socket::Path;
use crate::time::Micros;
use crate::unsent::{Outgoing, Unsent};
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::keys::Peer;
use seaprox_proto::carrier::{Bounds, Carrier, Order, PeerNumber, Received};
use seaprox_proto::message::{CHANNELS_MAX, PACKET_BYTES};

/// So much is worth a system call of its own: what a side may send in a turn.
const BATCH_BYTES: u64 = 60_000;

/// A peer whose host says that nobody listens there is believed when nothing came from it for so long.
const REFUSED_MICROS: u64 = 1_000_000;

/// How often another place at the far end is tried when there is none left at one: its threads have each
/// their own, and which one is asked is drawn.
const PLACES_MAX: u32 = 8;

/// What both ends of links over UDP are told.
///
/// ```
/// use seaprox_udp::carrier::Options;
/// use seaprox_udp::congestion::Algorithm;
///
/// let options = Options { algorithm: Algorithm::Cubic, ..Options::USUAL };
/// assert_eq!(options.flight_bytes_max, Options::USUAL.flight_bytes_max);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much may be under way.
    pub algorithm: Algorithm,
    /// But never more than this, in bytes.
    pub flight_bytes_max: u64,
}

impl Options {
    /// The usual: 1 Gbit/s on a round trip of 64 ms.
    pub const USUAL: Options =
        Options { algorithm: Algorithm::Bbr, flight_bytes_max: 8 * 1024 * 1024 };

    fn terms(&self, begun: &Begun, path: Path, random: u64) -> Terms {
        Terms {
            peer_index: begun.peer_index,
            path,
            peer: begun.peer,
            rtt_micros: begun.rtt_micros,
            flight_bytes_max: self.flight_bytes_max,
            algorithm: self.algorithm,
            random,
        }
    }
}

/// Where a datagram is written to.
type Out = [u8; DATAGRAM_BYTES_MAX];

/// How far the carrier is.
#[allow(clippy::large_enum_variant)] // it stays where it is, and there is no heap to put it on
enum Stage<'m> {
    /// It asks for the link; so many places have refused it.
    Asking(Asking<'m>, Slices<'m>, u32),
    Linked(Reliable<'m>),
    /// Only while it is dropped.
    Over,
}

/// The carrier of one link.
pub struct Udp<'m, W: Wire> {
    hub: &'m Hub<'m, W>,
    index: u32,
    stage: Stage<'m>,
    options: Options,
    unsent: Unsent<'m>,
    /// The socket had no room, and nothing is sent before.
    again_at: Option<Micros>,
    /// Since when the peer's host says that nobody listens, and nothing else has come.
    refused_at: Option<Micros>,
    /// The peer broke the rules.
    dead: Option<FailReason>,
    /// Of a link with keys that this end has asked for.
    renewal: Option<Renewal<'m>>,
    /// Of a link with keys that the far end has asked for.
    peer: Option<PeerNumber>,
}

impl<'m, W: Wire> Udp<'m, W> {
    /// A link that the far end has asked for: its index, its memory, what was agreed, and with whom.
    pub(crate) fn accepted(
        hub: &'m Hub<'m, W>,
        (index, memory, begun, path, peer): (u32, Parts<'m>, Begun, Path, Option<PeerNumber>),
        options: Options,
        random: u64,
        now: Micros,
    ) -> Self {
        let terms = options.terms(&begun, path, random);
        let reliable = Reliable::new(memory.slices, begun.sealing, &terms, now);
        let mut udp = Udp::of(hub, index, Stage::Linked(reliable), memory.outgoing, options);
        udp.peer = peer;
        udp
    }

    fn of(
        hub: &'m Hub<'m, W>,
        index: u32,
        stage: Stage<'m>,
        outgoing: &'m mut Outgoing,
        options: Options,
    ) -> Self {
        Udp {
            hub,
            index,
            stage,
            options,
            unsent: Unsent::new(outgoing),
            again_at: None,
            refused_at: None,
            dead: None,
            renewal: None,
            peer: None,
        }
    }

    /// Asks the peer of the hub's socket, which is for that peer alone, for a link. To be followed by
    /// [`Udp::finish_connect`]. `peer`: who is to be there, if the hub has keys. `None`: there is no
    /// memory for another link; or the hub has keys and it is not said who is to be there, or the reverse.
    pub fn connect(hub: &'m Hub<'m, W>, peer: Option<&'m Peer>, options: Options) -> Option<Self> {
        let mut shared = hub.borrow();
        let (index, memory) = shared.begin_link()?;
        let Some(asking) = Asking::new(&mut shared, index, peer) else {
            shared.end_link(index, memory);
            return None;
        };
        drop(shared);
        let stage = Stage::Asking(asking, memory.slices, 0);
        Some(Udp::of(hub, index, stage, memory.outgoing, options))
    }

    /// Whether there is a link now. To be called when the descriptor is ready, and when the timeout has
    /// come.
    ///
    /// # Errors
    /// There will be none: the far end's reason, or [`FailReason::ConnectionRefused`] if its host says
    /// that nobody listens there.
    pub fn finish_connect(&mut self) -> Result<bool, FailReason> {
        let mut shared = self.hub.borrow();
        let now = shared.now();
        let Stage::Asking(asking, _, refused) = &mut self.stage else { return Ok(true) };
        let begun = loop {
            // After too many strangers too: the next INIT that is due looks again.
            if shared.next_owner().is_err() {
                break None;
            }
            let Some((heard, protection)) = shared.take_beside() else { break None };
            let path = heard.path;
            match asking.hear(protection, now, heard.bytes) {
                Heard::Begun(begun) => break Some((begun, path)),
                Heard::Refused(FailReason::TableFull) if *refused < PLACES_MAX => {
                    *refused += 1;
                    self.index = shared.another_index(self.index);
                    if let Some(other) = Asking::new(&mut shared, self.index, asking.peer()) {
                        *asking = other;
                    }
                }
                Heard::Refused(reason) => return Err(reason),
                Heard::Nothing => {}
            }
        };
        if let Some((begun, path)) = begun {
            let terms = self.options.terms(&begun, path, shared.random());
            self.renewal = asking.peer().map(Renewal::new);
            if let Stage::Asking(_, slices, _) = core::mem::replace(&mut self.stage, Stage::Over) {
                self.stage = Stage::Linked(Reliable::new(slices, begun.sealing, &terms, now));
            }
            return Ok(true);
        }
        if let Some(init) = asking.init(&mut shared, now) {
            // What does not go is as good as lost.
            let _ = shared.send_to_peer(&init);
        }
        match shared.take_heard() {
            Some(Errno::CONNREFUSED) => Err(FailReason::ConnectionRefused),
            _ => Ok(false),
        }
    }

    /// The protocol without its socket, once there is a link.
    pub fn reliable(&self) -> Option<&Reliable<'m>> {
        if let Stage::Linked(reliable) = &self.stage { Some(reliable) } else { None }
    }

    /// Believes what the network says of the peer, unless the peer, who is asked, says otherwise.
    fn heed_refusal(&mut self, now: Micros) {
        let heard = self.hub.borrow().take_heard();
        if heard == Some(Errno::CONNREFUSED)
            && self.refused_at.is_none()
            && let Stage::Linked(reliable) = &mut self.stage
        {
            self.refused_at = Some(now);
            reliable.ask();
        }
        if self.believed_at().is_some_and(|at| at <= now) {
            self.dead = Some(FailReason::LinkDown);
        }
    }

    /// When the peer's host is believed that nobody listens there.
    fn believed_at(&self) -> Option<Micros> {
        self.refused_at.map(|at| at.after(REFUSED_MICROS))
    }

    /// Sends what may be sent now.
    fn transmit(&mut self) {
        let Stage::Linked(reliable) = &mut self.stage else { return };
        let mut shared = self.hub.borrow();
        let now = shared.now();
        if self.again_at.is_some_and(|at| now < at) {
            return;
        }
        loop {
            // What waits goes first.
            let too_long = |bytes| reliable.handle_too_long(bytes, now);
            self.again_at = self.unsent.send(&mut shared, now, too_long);
            if self.again_at.is_some() {
                return;
            }
            while self.unsent.add(|out| reliable.emit(now, out)) {}
            if self.unsent.is_empty() {
                return;
            }
        }
    }

    /// Sends one datagram that is no slot's.
    fn transmit_own(
        &mut self,
        emit: impl FnOnce(&mut Reliable<'m>, Micros, &mut Out) -> Option<Emitted>,
    ) {
        let Stage::Linked(reliable) = &mut self.stage else { return };
        let mut shared = self.hub.borrow();
        let now = shared.now();
        if self.unsent.is_empty() && self.unsent.add(|out| emit(reliable, now, out)) {
            let too_long = |bytes| reliable.handle_too_long(bytes, now);
            self.again_at = self.unsent.send(&mut shared, now, too_long);
        }
    }
}

impl<W: Wire> Carrier for Udp<'_, W> {
    fn bounds(&self) -> Bounds {
        Bounds { order: Order::Any, channels_max: CHANNELS_MAX, sent_bytes_max: PACKET_BYTES }
    }

    fn fd(&self) -> Option<RawFd> {
        let shared = self.hub.borrow();
        shared.wire.as_ref().filter(|_| shared.is_connected).map(Wire::fd)
    }

    fn peer(&self) -> Option<PeerNumber> {
        self.peer
    }

    fn interest(&self) -> Interest {
        Interest::Datagrams
    }

    fn window(&mut self) -> usize {
        if !self.unsent.is_empty() {
            self.transmit();
        }
        let now = self.hub.borrow().now();
        match &mut self.stage {
            Stage::Linked(reliable) => reliable.window(now),
            _ => 0,
        }
    }

    fn send(&mut self, _: u16, packet: &[u8]) -> Result<(), Errno> {
        let Stage::Linked(reliable) = &mut self.stage else { return Err(Errno::NOTCONN) };
        match reliable.push(packet) {
            Ok(()) => {
                // What is less goes at the end of the turn, perhaps with more.
                if reliable.queued_bytes() >= BATCH_BYTES {
                    self.transmit();
                }
                Ok(())
            }
            Err(NotPushed::Full) => Err(Errno::AGAIN),
            Err(NotPushed::Malformed) => Err(Errno::INVAL),
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        let Stage::Linked(reliable) = &mut self.stage else { return Err(Errno::NOTCONN) };
        let mut shared = self.hub.borrow();
        let now = shared.now();
        let mut join = Join::new(room);
        let mut has_heard = false;
        while reliable.can_hear() && join.room() >= DATAGRAM_BYTES_MAX {
            match shared.next_owner() {
                Ok(Owner::Link(index)) if index == self.index => {}
                Ok(_) | Err(Errno::AGAIN) => break,
                Err(errno) if has_heard => {
                    let _ = errno;
                    break;
                }
                Err(errno) => return Err(errno),
            }
            let Some((heard, protection)) = shared.take_beside() else { break };
            has_heard = true;
            if let Some(renewal) = &mut self.renewal
                && kind_of(protection.mode(), heard.bytes) != Some(Kind::Data)
            {
                let done = renewal.hear(protection, reliable, now, heard.bytes);
                self.dead = done.err().or(self.dead);
                continue;
            }
            let heard_before = reliable.counters().received;
            if reliable.hear(heard.bytes, heard.is_ce, heard.path, now, &mut join).is_err() {
                self.dead = Some(FailReason::Protocol);
                break;
            }
            if reliable.counters().received != heard_before {
                self.refused_at = None;
            }
        }
        match join.bytes() {
            0 if !has_heard => Err(Errno::AGAIN),
            0 => {
                reliable.handled(true, now);
                Ok(Received::Nothing)
            }
            bytes => Ok(Received::Piece { stream: 0, bytes, end: true }),
        }
    }

    fn handled(&mut self, kept: bool) {
        let now = self.hub.borrow().now();
        if let Stage::Linked(reliable) = &mut self.stage {
            reliable.handled(kept, now);
        }
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        let now = self.hub.borrow().now();
        self.heed_refusal(now);
        self.renew_keys(now);
        if let Some(reason) = self.dead {
            return Err(reason);
        }
        let Stage::Linked(reliable) = &mut self.stage else { return Err(FailReason::LinkDown) };
        if reliable.timeout().is_some_and(|at| at <= now) {
            reliable.handle_timeout(now);
            if reliable.is_unanswered() {
                // What is sent may leave from an address to which no answer comes any more.
                self.hub.borrow().reconnect();
            }
        }
        self.transmit();
        let Stage::Linked(reliable) = &mut self.stage else { return Err(FailReason::LinkDown) };
        Ok(Ready { writable: reliable.is_open(now), ..Ready::default() })
    }

    fn timeout(&self) -> Option<Instant> {
        let at = match &self.stage {
            Stage::Asking(asking, ..) => asking.due_at(),
            Stage::Linked(reliable) => {
                reliable.timeout().into_iter().chain(self.keys_at(reliable)).min()
            }
            Stage::Over => None,
        };
        // While the socket is full nothing else can be done, whatever is due.
        let at = self.again_at.or(at.into_iter().chain(self.believed_at()).min());
        // The engine counts whole milliseconds: too late rather than too early, or it would ask in vain.
        at.map(|at| Instant::from_millis(at.0.div_ceil(1000)))
    }

    fn flush(&mut self) {
        self.transmit();
        self.transmit_own(Reliable::emit_acknowledgement);
        if let Stage::Linked(reliable) = &mut self.stage {
            reliable.note_idle();
        }
    }

    fn is_flushed(&self) -> bool {
        self.reliable().is_none_or(Reliable::is_flushed)
    }
}

impl<W: Wire> Drop for Udp<'_, W> {
    fn drop(&mut self) {
        self.again_at = None;
        self.transmit();
        // Nobody will ask for it if it is lost.
        for _ in 0..2 {
            self.transmit_own(Reliable::emit_last_words);
        }
        let slices = match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Asking(_, slices, _) => slices,
            Stage::Linked(reliable) => reliable.into_slices(),
            Stage::Over => return,
        };
        let Some(outgoing) = self.unsent.take_memory() else { return };
        let mut shared = self.hub.borrow();
        shared.end_link(self.index, Parts { slices, outgoing });
        if shared.is_connected {
            shared.wire = None;
        }
    }
}
