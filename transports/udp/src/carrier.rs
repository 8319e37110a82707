//! A link's carrier over UDP: [`Reliable`] with a socket.
//!
//! Invariant: datagrams that were emitted and that the socket did not take wait in `unsent`, before any
//! other is emitted.

use crate::congestion::Algorithm;
use crate::handshake::{Agreed, Heard, Initiator, Limits};
use crate::hub::{Hub, Owner, Shared, Wire};
use crate::join::Join;
use crate::reliable::{Counters, Emitted, NotPushed, Reliable, Slices, Terms};
use crate::seal::Checksum;
use crate::slots::DATAGRAM_BYTES_MAX;
use crate::socket::Path;
use crate::time::Micros;
use arrayvec::ArrayVec;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_proto::carrier::{Bounds, Carrier, Order, Received};
use seaprox_proto::message::{CHANNELS_MAX, PACKET_BYTES};

/// Datagrams that are given to the kernel at once, at most.
const SENT_MAX: usize = 64;

/// So much is worth a system call of its own.
const BATCH_BYTES: u64 = 60_000;

/// How soon it is tried again what the kernel had no room for, in milliseconds.
const UNSENT_MILLIS: u32 = 1;

/// A peer whose host says that nobody listens there is believed when nothing came from it for so long.
const REFUSED_MICROS: u64 = 1_000_000;

/// How often another place at the far end is tried when there is none left at one: its threads have each
/// their own, and which one is asked is drawn.
const PLACES_MAX: u32 = 8;

/// What both ends of links over UDP are told.
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

    /// What this end can take.
    pub(crate) const LIMITS: Limits =
        Limits { datagram_bytes_max: DATAGRAM_BYTES_MAX as u16, window: crate::ack::WINDOW as u16 };

    pub(crate) fn terms(&self, agreed: &Agreed, path: Path, random: u64) -> Terms {
        Terms {
            peer_index: agreed.peer_index,
            path,
            datagram_bytes_max: agreed.peer.datagram_bytes_max,
            flight_bytes_max: self.flight_bytes_max,
            algorithm: self.algorithm,
            random,
        }
    }
}

/// How far the carrier is.
#[allow(clippy::large_enum_variant)] // it stays where it is, and there is no heap to put it on
enum Stage<'m> {
    /// It asks for the link; so many places have refused it.
    Asking(Initiator, Slices<'m>, u32),
    Linked(Reliable<'m, Checksum>),
    /// Only while it is dropped.
    Over,
}

/// The carrier of one link.
pub struct Udp<'m, W: Wire> {
    hub: &'m Hub<'m, W>,
    index: u32,
    stage: Stage<'m>,
    options: Options,
    unsent: ArrayVec<Emitted, SENT_MAX>,
    /// Since when the peer's host says that nobody listens, and nothing else has come.
    refused_at: Option<Micros>,
    /// The peer broke the rules.
    dead: Option<FailReason>,
}

impl<'m, W: Wire> Udp<'m, W> {
    pub(crate) fn linked(
        hub: &'m Hub<'m, W>,
        index: u32,
        reliable: Reliable<'m, Checksum>,
        options: Options,
    ) -> Self {
        let stage = Stage::Linked(reliable);
        Udp { hub, index, stage, options, unsent: ArrayVec::new(), refused_at: None, dead: None }
    }

    /// Asks the peer of the hub's socket, which is for that peer alone, for a link. To be followed by
    /// [`Udp::finish_connect`]. `None`: there is no memory for another link.
    pub fn connect(hub: &'m Hub<'m, W>, options: Options) -> Option<Self> {
        let mut shared = hub.borrow();
        let (index, slices) = shared.begin_link()?;
        let initiator = Initiator::new(index, shared.random(), Options::LIMITS, shared.now());
        drop(shared);
        let stage = Stage::Asking(initiator, slices, 0);
        Some(Udp {
            hub,
            index,
            stage,
            options,
            unsent: ArrayVec::new(),
            refused_at: None,
            dead: None,
        })
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
        let Stage::Asking(initiator, _, refused) = &mut self.stage else { return Ok(true) };
        let agreed = loop {
            match shared.next_owner() {
                Ok(Owner::Link(_)) => {}
                Ok(Owner::Listener) => {
                    shared.pass();
                    continue;
                }
                Err(_) => break None,
            }
            let Some(heard) = shared.take() else { break None };
            let path = heard.path;
            match initiator.hear(now, heard.bytes) {
                Heard::Accepted(agreed) => break Some((agreed, path)),
                Heard::Refused(FailReason::TableFull) if *refused < PLACES_MAX => {
                    *refused += 1;
                    let nonce = shared.random();
                    self.index = shared.another_index(self.index);
                    *initiator = Initiator::new(self.index, nonce, Options::LIMITS, now);
                }
                Heard::Refused(reason) => return Err(reason),
                Heard::Ignored | Heard::Proof => {}
            }
        };
        if let Some((agreed, path)) = agreed {
            let terms = self.options.terms(&agreed, path, shared.random());
            if let Stage::Asking(_, slices, _) = core::mem::replace(&mut self.stage, Stage::Over) {
                let seal = Checksum::new(agreed.session);
                self.stage = Stage::Linked(Reliable::new(slices, seal, &terms, now));
            }
            return Ok(true);
        }
        if let Some(init) = initiator.init(now) {
            // What does not go is as good as lost.
            let _ = shared.send_to_peer(&init);
        }
        match shared.take_heard() {
            Some(Errno::CONNREFUSED) => Err(FailReason::ConnectionRefused),
            _ => Ok(false),
        }
    }

    /// What happened to its datagrams.
    pub fn counters(&self) -> Counters {
        self.reliable().map(Reliable::counters).unwrap_or_default()
    }

    /// The protocol without its socket, once there is a link.
    pub fn reliable(&self) -> Option<&Reliable<'m, Checksum>> {
        if let Stage::Linked(reliable) = &self.stage { Some(reliable) } else { None }
    }

    /// Believes what the network says of the peer, unless the peer says otherwise.
    fn heed_refusal(&mut self, now: Micros) {
        let heard = self.hub.borrow().take_heard();
        if heard == Some(Errno::CONNREFUSED) {
            self.refused_at.get_or_insert(now);
        }
        if self.refused_at.is_some_and(|at| now.since(at) >= REFUSED_MICROS) {
            self.dead = Some(FailReason::LinkDown);
        }
    }

    /// Sends what may be sent now.
    fn transmit(&mut self) {
        let Stage::Linked(reliable) = &mut self.stage else { return };
        let mut shared = self.hub.borrow();
        let now = shared.now();
        // What waits goes first: it may be of slots that would be written anew.
        if !send(&mut self.unsent, reliable, &mut shared, now) {
            return;
        }
        loop {
            while !self.unsent.is_full() {
                let Some(emitted) = reliable.emit(now) else { break };
                self.unsent.push(emitted);
                if !emitted.may_wait() {
                    break;
                }
            }
            if self.unsent.is_empty() || !send(&mut self.unsent, reliable, &mut shared, now) {
                return;
            }
        }
    }

    /// Sends one datagram that is no slot's.
    fn transmit_own(
        &mut self,
        emit: impl FnOnce(&mut Reliable<'m, Checksum>, Micros) -> Option<Emitted>,
    ) {
        let Stage::Linked(reliable) = &mut self.stage else { return };
        let mut shared = self.hub.borrow();
        let now = shared.now();
        if self.unsent.is_empty()
            && let Some(emitted) = emit(reliable, now)
        {
            self.unsent.push(emitted);
            send(&mut self.unsent, reliable, &mut shared, now);
        }
    }
}

/// Gives datagrams to the socket; `false`: it took not all of them.
fn send<W: Wire>(
    unsent: &mut ArrayVec<Emitted, SENT_MAX>,
    reliable: &mut Reliable<'_, Checksum>,
    shared: &mut Shared<'_, W>,
    now: Micros,
) -> bool {
    while let Some(&first) = unsent.first() {
        let to = reliable.destination(&first);
        // What is no slot's is alone.
        let together = unsent.iter().take_while(|emitted| emitted.may_wait() == first.may_wait());
        let datagrams: ArrayVec<&[u8], SENT_MAX> =
            together.map(|emitted| reliable.datagram(emitted)).collect();
        let count = datagrams.len();
        let result = shared.send(&to, &datagrams);
        drop(datagrams);
        let sent = match result {
            Ok(sent) => sent.max(1),
            // What cannot wait is as good as lost.
            Err(Errno::AGAIN | Errno::INTR) if first.may_wait() => return false,
            Err(Errno::MSGSIZE) => {
                reliable.handle_too_long(first.bytes(), now);
                1
            }
            // The way is blocked or gone: as good as lost on it.
            Err(_) => count,
        };
        unsent.drain(..sent.min(unsent.len()));
    }
    true
}

impl<W: Wire> Carrier for Udp<'_, W> {
    fn bounds(&self) -> Bounds {
        Bounds { order: Order::Any, channels_max: CHANNELS_MAX, sent_bytes_max: PACKET_BYTES }
    }

    fn fd(&self) -> Option<RawFd> {
        let shared = self.hub.borrow();
        shared.wire.as_ref().filter(|_| shared.is_connected).map(Wire::fd)
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
            let Some(heard) = shared.take() else { break };
            has_heard = true;
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
        if let Some(reason) = self.dead {
            return Err(reason);
        }
        let Stage::Linked(reliable) = &mut self.stage else { return Err(FailReason::LinkDown) };
        if reliable.timeout().is_some_and(|at| at <= now) {
            reliable.handle_timeout(now);
        }
        self.transmit();
        let Stage::Linked(reliable) = &mut self.stage else { return Err(FailReason::LinkDown) };
        Ok(Ready { writable: reliable.is_open(now), ..Ready::default() })
    }

    fn timeout(&self) -> Option<Instant> {
        let at = match &self.stage {
            Stage::Asking(initiator, ..) => initiator.due_at(),
            Stage::Linked(reliable) => reliable.timeout(),
            Stage::Over => None,
        };
        // The engine counts whole milliseconds: too late rather than too early, or it would ask in vain.
        let at = at.map(|at| Instant::from_millis(at.0.div_ceil(1000)));
        let again = || Instant::from_millis(self.hub.borrow().now().0 / 1000).after(UNSENT_MILLIS);
        if self.unsent.is_empty() { at } else { at.into_iter().chain([again()]).min() }
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
        let mut shared = self.hub.borrow();
        shared.end_link(self.index, slices);
        if shared.is_connected {
            shared.wire = None;
        }
    }
}
