//! Links as a source: each channel that a far end opens is a connection that came. Accepts carriers,
//! one for each link it has memory for. Knows no address but to tell it.
//!
//! Invariant: the listener is in the epoll if and only if carriers are accepted and a link is vacant that
//! is not set aside for a guest, or if what carriers receive comes through it.

mod guests;
mod quotas;

pub use guests::{GUEST_MILLIS, Guest};
pub use quotas::{Account, Accounts, NOBODY, Quota};

use crate::carrier::{Carrier, Greeting, PeerNumber};
use crate::link::{LINKS_MAX, Link, LinkMemory, Told, link_of};
use crate::session::Config;
use guests::{Guests, Left};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, RawFd, Ready, Sys};
use seaprox::time::Instant;
use seaprox::transport::{Asked, Desk, Event, Lent, Notice, Room, Source, Transport};
use seaprox::wanted::Wish;

/// Where carriers come from.
pub trait Accept {
    /// What moves the packets.
    type Carrier: Carrier;

    /// The listening descriptor.
    fn fd(&self) -> RawFd;

    /// Whether its carriers have no descriptor of their own: what they receive comes through the
    /// listener's, so all of them are asked when that is ready.
    fn is_shared(&self) -> bool {
        false
    }

    /// The next carrier, connected, and who is at its far end. `refused`: nobody is wanted, for this
    /// reason; a carrier that is given all the same is dropped at once.
    ///
    /// # Errors
    /// EAGAIN: none waits. EINVAL: the listener was shut down. Any other: none can be had now, and the
    /// listener is left alone for a moment.
    fn accept(&mut self, refused: Option<FailReason>) -> Result<(Self::Carrier, Address), Errno>;

    /// Whether something was received through the listener for one that has not asked since: for one of
    /// the carriers, or for [`Accept::accept`].
    fn is_waiting(&self) -> bool {
        false
    }

    /// Nobody is wanted any more: whoever connects from now on is to be refused. May be said by every
    /// thread that shares the listener.
    fn end(&mut self);
}

/// How long nobody is accepted when the kernel had no descriptor or no memory for one, in milliseconds.
const PAUSE_MILLIS: u32 = 200;

/// How many that wait at the end are told so at most; no queue is longer (listen(2), somaxconn).
const TURNED_AWAY_MAX: usize = 4096;

/// The listener's number among the source's own descriptors; link n has n + 1, and guests have those after
/// all links.
const LISTENER: u32 = 0;

/// How often in a turn all links are asked once more since something waits for one of them, although
/// none has received anything.
const VAIN_ROUNDS_MAX: u32 = 2;

/// After so many things that one link told it is the next one's turn: a busy link always has more.
const IN_A_ROW_MAX: u32 = 32;

/// Links that are accepted, at most `LINKS` at once.
///
/// ```
/// use seaprox_proto::link::LinkMemory;
/// use seaprox_proto::session::{Config, Role};
/// use seaprox_proto::source::{Accept, LinkSource};
///
/// /// Two links at once, whose far ends may open eight channels each.
/// fn from<A: Accept>(
///     accept: A,
///     memories: &mut [LinkMemory<8, 64>; 2],
/// ) -> LinkSource<'_, A, 2> {
///     let config = Config {
///         role: Role::Acceptor,
///         peer_channels_max: 8,
///         idle_millis: 15_000,
///         opens_per_second_max: 1000,
///         first_offset: 0,
///     };
///     LinkSource::new(accept, memories, config)
/// }
/// ```
pub struct LinkSource<'m, A: Accept, const LINKS: usize> {
    accept: A,
    links: [Link<'m, A::Carrier>; LINKS],
    guests: Guests<'m, A::Carrier>,
    /// Whose each link is that is not down.
    peers: [Option<PeerNumber>; LINKS],
    accounts: Accounts<'m>,
    listening: bool,
    /// Somebody may wait to be accepted.
    ready: bool,
    /// The kernel refused the listener at the end of a turn, which is to be told.
    refused: bool,
    /// Nobody is accepted any more.
    ended: bool,
    /// Nobody is accepted before: the kernel had nothing left.
    paused_until: Option<Instant>,
    /// Whose turn it is to tell.
    turn: usize,
    /// How many things it has told in a row.
    in_a_row: u32,
    /// Rounds of this turn in which nobody received anything.
    vain_rounds: u32,
}

impl<'m, A: Accept, const LINKS: usize> LinkSource<'m, A, LINKS> {
    /// All links are down.
    pub fn new<const CHANNELS: usize, const CHUNKS: usize>(
        accept: A,
        memories: &'m mut [LinkMemory<CHANNELS, CHUNKS>; LINKS],
        config: Config,
    ) -> Self {
        const { assert!(LINKS >= 1 && LINKS <= LINKS_MAX as usize) };
        let mut number = 0;
        let links = memories.each_mut().map(|memory| {
            number += 1;
            memory.link(number - 1, config)
        });
        LinkSource {
            accept,
            links,
            guests: Guests(&mut []),
            peers: [None; LINKS],
            accounts: Accounts::default(),
            listening: false,
            ready: false,
            refused: false,
            ended: false,
            paused_until: None,
            turn: 0,
            in_a_row: 0,
            vain_rounds: 0,
        }
    }

    /// Who connects, and has to show who it is, waits in one of these; where there is none it is refused.
    #[must_use]
    pub fn receiving(mut self, guests: &'m mut [Guest<A::Carrier>]) -> Self {
        self.guests = Guests(guests);
        self
    }

    /// Peers have what these accounts let them have.
    #[must_use]
    pub fn by_accounts(mut self, accounts: Accounts<'m>) -> Self {
        self.accounts = accounts;
        self
    }

    fn vacant(&self) -> Option<usize> {
        self.links.iter().position(Link::is_down)
    }

    /// How many links could be started.
    fn count_vacant(&self) -> usize {
        self.links.iter().filter(|link| link.is_down()).count()
    }

    /// Whether a link is vacant and not set aside.
    fn has_vacant(&self) -> bool {
        self.count_vacant() > self.guests.set_aside()
    }

    /// Takes the listener into the epoll, or out of it.
    fn listen<K: Sys>(&mut self, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        if self.paused_until.is_some_and(|until| until <= desk.now) {
            self.paused_until = None;
        }
        let has_use = match self.accept.is_shared() {
            true => !self.ended || self.links.iter().any(Link::has_carrier),
            false => !self.ended && self.has_vacant() && !self.guests.is_blocked(),
        };
        let wanted = has_use && self.paused_until.is_none();
        if wanted != self.listening {
            match wanted {
                true => desk.poller.add_listener(self.accept.fd(), LISTENER)?,
                false => desk.poller.remove_listener(self.accept.fd())?,
            }
            self.listening = wanted;
        }
        Ok(())
    }

    /// It is the next link's turn to tell.
    fn pass_turn(&mut self) {
        self.turn = (self.turn + 1) % LINKS;
        self.in_a_row = 0;
    }

    /// Takes one carrier that waits.
    fn take<K: Sys>(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        self.ready = false;
        let refused = match self.has_vacant() {
            _ if self.ended => Some(FailReason::Shutdown),
            true => None,
            false => Some(FailReason::TableFull),
        };
        if !self.accept.is_shared() && (refused.is_some() || self.guests.is_full()) {
            return None;
        }
        match self.accept.accept(refused) {
            Ok(_) if refused.is_some() => None,
            Ok((mut carrier, peer)) => match carrier.greet(None) {
                Ok(Greeting::Done) => self.start(carrier, peer, desk),
                Ok(greeting) => self.receive(carrier, peer, greeting, desk),
                Err(reason) => Some(refusal(peer, reason)),
            },
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::PROTO | Errno::INTR) => None,
            Err(Errno::INVAL) => Some(Event::Ended),
            Err(errno) => Some(self.pause(errno, desk.now)),
        }
    }

    /// A carrier that was just accepted is a link's.
    fn start<K: Sys>(
        &mut self,
        carrier: A::Carrier,
        peer: Address,
        desk: &mut Desk<'_, K>,
    ) -> Option<Event> {
        let vacant = self.vacant()?;
        if let Some(fd) = carrier.fd()
            && let Err(errno) = desk.poller.add_source_own(fd, vacant as u32 + 1)
        {
            return Some(self.pause(errno, desk.now));
        }
        self.begin(vacant, carrier, peer, desk.now);
        // Others are told of by the same event.
        self.ready = self.accept.is_shared();
        None
    }

    /// One whose far end has to show who it is waits for that.
    fn receive<K: Sys>(
        &mut self,
        carrier: A::Carrier,
        peer: Address,
        greeting: Greeting,
        desk: &mut Desk<'_, K>,
    ) -> Option<Event> {
        let fd = carrier.fd();
        let Some(place) = self.guests.add(carrier, peer, greeting, desk.now) else {
            return Some(refusal(peer, FailReason::TableFull));
        };
        let number = (LINKS + 1 + place) as u32;
        let added = fd.map_or(Ok(()), |fd| desk.poller.add_source_own(fd, number));
        added.err().map(|errno| {
            self.guests.take(place);
            self.pause(errno, desk.now)
        })
    }

    /// Guests become links, or leave.
    fn greet<K: Sys>(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        while let Some(left) = self.guests.poll(self.count_vacant(), desk.now) {
            let place = match left {
                Left::Known(place) => place,
                Left::Refused { peer, reason } => return Some(refusal(peer, reason)),
            };
            let (Some(vacant), Some((carrier, peer))) = (self.vacant(), self.guests.take(place))
            else {
                continue;
            };
            if let Some(fd) = carrier.fd()
                && let Err(errno) = desk.poller.renumber_source_own(fd, vacant as u32 + 1)
            {
                self.guests.give_up(place, carrier);
                return Some(self.pause(errno, desk.now));
            }
            self.begin(vacant, carrier, peer, desk.now);
        }
        None
    }

    /// A vacant link has a carrier from now on. It is closed again at once if others need it more, which
    /// its far end is told.
    fn begin(&mut self, vacant: usize, carrier: A::Carrier, at: Address, now: Instant) {
        let peer = carrier.peer();
        let busy = || self.links.iter().zip(&self.peers).filter(|(link, _)| !link.is_down());
        let others = busy().filter_map(|(_, peer)| *peer);
        let is_granted = self.accounts.may_link(peer, others, LINKS - busy().count());
        self.peers[vacant] = peer;
        self.links[vacant].start(carrier, at, now);
        if !is_granted {
            self.links[vacant].refuse(FailReason::TableFull);
        }
    }

    /// What the links have to tell, each in its turn.
    fn poll_links(&mut self, now: Instant) -> Option<Event> {
        for _ in 0..LINKS {
            let link = self.turn;
            while let Some(told) = self.links[link].poll(now) {
                self.in_a_row += 1;
                if self.in_a_row >= IN_A_ROW_MAX {
                    self.pass_turn();
                }
                if let Some(event) = self.event(link, told) {
                    return Some(event);
                }
            }
            self.pass_turn();
        }
        None
    }

    /// Everybody is to look once more for what came through the listener.
    fn look_again(&mut self) {
        self.ready = true;
        for link in self.links.iter_mut().filter(|link| link.has_carrier()) {
            link.ready(Ready { readable: true, ..Ready::default() });
        }
    }

    /// Whether there is more: who looked for what is its own may have found what is another's, and left
    /// it there.
    fn has_more(&mut self) -> bool {
        let mut received = false;
        for link in &mut self.links {
            received |= link.has_received();
        }
        if self.paused_until.is_some() || !self.accept.is_waiting() {
            return false;
        }
        self.vain_rounds += u32::from(!received);
        received || self.vain_rounds <= VAIN_ROUNDS_MAX
    }

    /// Whoever waits still waits, so it would be reported again at once.
    fn pause(&mut self, errno: Errno, now: Instant) -> Event {
        self.paused_until = Some(now.after(PAUSE_MILLIS));
        Event::Exhausted(errno)
    }

    /// What a link told, for the engine; `None`: nothing for it.
    fn event(&mut self, link: usize, told: Told) -> Option<Event> {
        let (peer, number) = (self.links[link].peer(), self.peers[link]);
        match told {
            Told::Ready(side, ready) => Some(Event::Ready(side, ready)),
            Told::Opened { channel, client } => {
                Some(Event::Opened { handle: channel, peer: client })
            }
            Told::Up => Some(Event::Told(Notice::LinkUp { peer, number })),
            Told::Dead(reason) => Some(Event::Told(Notice::LinkDown { peer, number, reason })),
            Told::Draining => None,
        }
    }
}

impl<K: Sys, A: Accept, const LINKS: usize> Transport<K> for LinkSource<'_, A, LINKS> {
    const PROMPT: bool = true;
    const LENDS: bool = true;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        match own.checked_sub(1) {
            None if self.accept.is_shared() => self.look_again(),
            None => self.ready = true,
            Some(number) => match self.links.get_mut(number as usize) {
                Some(link) if link.fd() == Some(fd) => link.ready(ready),
                Some(_) => {}
                None => self.guests.ready(number as usize - LINKS, fd),
            },
        }
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        loop {
            while self.ready {
                if let Some(event) = self.take(desk) {
                    return Some(event);
                }
            }
            if let Some(event) = self.greet(desk) {
                return Some(event);
            }
            if let Some(event) = self.poll_links(desk.now) {
                return Some(event);
            }
            if !self.has_more() {
                break;
            }
            self.look_again();
        }
        self.refused = false;
        match self.listen(desk) {
            Ok(()) => None,
            Err(errno) => Some(self.pause(errno, desk.now)),
        }
    }

    fn shut(&mut self, handle: Handle, _: &mut Desk<'_, K>) {
        self.links[link_of(handle)].shut(handle);
    }

    fn stop(&mut self, handle: Handle, _: &mut Desk<'_, K>) {
        self.links[link_of(handle)].stop(handle);
    }

    fn close(&mut self, handle: Handle, reason: Option<FailReason>, _: &mut Desk<'_, K>) {
        self.links[link_of(handle)].close(handle, reason);
    }

    fn unacknowledged(&self, _: Handle, _: K) -> usize {
        // What comes before a reset on a channel is delivered before it.
        0
    }

    fn bytes(&mut self, channel: Handle) -> Lent<'_> {
        self.links[link_of(channel)].bytes(channel)
    }

    fn consume(&mut self, channel: Handle, bytes: usize) {
        self.links[link_of(channel)].consume(channel, bytes);
    }

    fn room(&mut self, channel: Handle) -> Room<'_> {
        self.links[link_of(channel)].room(channel)
    }

    fn commit(&mut self, channel: Handle, bytes: usize) {
        self.links[link_of(channel)].commit(channel, bytes);
    }

    fn timeout(&self) -> Option<Instant> {
        let is_waiting = self.accept.is_waiting() && self.paused_until.is_none();
        if self.ready && self.listening || self.refused || is_waiting {
            return Some(Instant::from_millis(0));
        }
        let own = [self.paused_until, self.guests.timeout()];
        self.links.iter().filter_map(Link::timeout).chain(own.into_iter().flatten()).min()
    }

    fn flush(&mut self, desk: &mut Desk<'_, K>) {
        self.links.iter_mut().for_each(Link::end_turn);
        self.guests.flush();
        self.vain_rounds = 0;
        // The next poll tries again, and tells if it is in vain.
        self.refused = self.listen(desk).is_err();
    }

    /// Far ends that were told to open no more channels close their links themselves, once they have
    /// passed on what was sent to them.
    fn is_flushed(&self) -> bool {
        let is_over = |link: &Link<'_, _>| !link.has_carrier() || !self.ended;
        self.links.iter().all(|link| link.is_flushed() && is_over(link))
    }
}

impl<K: Sys, A: Accept, const LINKS: usize> Source<K> for LinkSource<'_, A, LINKS> {
    type Target = Wish;

    fn target(&mut self, handle: Handle, side: SideKey, desk: &mut Desk<'_, K>) -> Asked<Wish> {
        let (link, peer) = (&mut self.links[link_of(handle)], self.peers[link_of(handle)]);
        link.give_to_side(handle, side);
        match self.accounts.open(peer, side, desk.now) {
            Ok(()) => Asked::For(link.wanted().by(peer)),
            Err(reason) => Asked::Refused(reason),
        }
    }

    fn left(&mut self, side: SideKey) {
        self.accounts.close(side);
    }

    /// A channel whose dest was not reached is reset with the reason.
    fn answer(
        &mut self,
        handle: Handle,
        _: SideKey,
        outcome: Result<(), FailReason>,
        _: &mut Desk<'_, K>,
    ) -> Result<(), FailReason> {
        if outcome.is_ok() {
            self.links[link_of(handle)].accept(handle);
        }
        Ok(())
    }

    /// Links are accepted whether or not there is room for connections: a channel too many is
    /// refused with a reason, which its client would not get from a backlog.
    fn admit(&mut self, _: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        self.listen(desk)
    }

    fn look(&mut self) {
        self.ready = true;
    }

    fn end(&mut self, desk: &mut Desk<'_, K>) {
        if core::mem::replace(&mut self.ended, true) {
            return;
        }
        self.links.iter_mut().for_each(Link::drain);
        self.guests.end();
        let _ = self.listen(desk);
        // Those who wait in the queue would wait in vain for as long as the last channel lives.
        for _ in 0..TURNED_AWAY_MAX {
            if self.accept.accept(Some(FailReason::Shutdown)).is_err() {
                break;
            }
        }
        self.accept.end();
    }
}

/// Somebody came for a link, and there will be none.
const fn refusal(peer: Address, reason: FailReason) -> Event {
    Event::Told(Notice::Refused { source: peer, reason, data: [0; 2] })
}
