//! What the links of one thread share: the socket, what was received last and nobody has taken, and the
//! memory of links that are not there. Knows which index is whose, and whether there are keys.
//!
//! Invariant: a batch is received only when the one before is used up; each datagram of it is for the link
//! whose index it has, or for the listener, or nobody's.

use crate::keyed::Protection;
use crate::knocks::KNOCKS_MAX;
use crate::packet::{INIT_BYTES, Kind, index_of, kind_of};
use crate::random::SplitMix64;
use crate::reliable::Parts;
use crate::socket::{Datagrams, Path, RECEIVE_BYTES, UdpSocket};
use crate::time::Micros;
use arrayvec::ArrayVec;
use core::cell::RefCell;
use rustix::fd::AsRawFd;
use rustix::time::{ClockId, clock_gettime};
use seaprox::sys::{Errno, RawFd};
use seaprox_noise::initiator::Initiator;
use seaprox_noise::keys::Peer;

/// Links of one hub, at most.
pub const LINKS_MAX: usize = 32;

/// How often another way to the peer is looked for, in microseconds: each that is found has another
/// port, which the peer has to believe first.
const RECONNECT_MICROS: u64 = 3_000_000;

/// Datagrams of nobody's that are passed over in one go, at most: then it is others' turn.
const STRANGERS_MAX: u32 = 64;

/// What moves datagrams, and tells the time: a socket, or a simulated one. Never waits.
pub trait Wire {
    /// Now.
    fn now(&self) -> Micros;

    /// Microseconds since 1970, as well as is known.
    fn wall_micros(&self) -> u64;

    /// The descriptor.
    fn fd(&self) -> RawFd;

    /// Sends the first of these datagrams, as many as go in one batch; says how many.
    ///
    /// # Errors
    /// As [`UdpSocket::send`].
    fn send(&mut self, to: Option<&Path>, datagrams: &[&[u8]]) -> Result<usize, Errno>;

    /// What the network said of something that was sent before, once (ICMP).
    fn take_heard(&mut self) -> Option<Errno> {
        None
    }

    /// Finds another way from this machine to the only peer there is, if it is a socket of one. Until it
    /// succeeds nothing is sent.
    ///
    /// # Errors
    /// As [`UdpSocket::reconnect`].
    fn reconnect(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// Receives some datagrams of one peer.
    ///
    /// # Errors
    /// EAGAIN: there are none.
    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno>;
}

impl Wire for UdpSocket {
    fn now(&self) -> Micros {
        Micros(micros_of(ClockId::Monotonic))
    }

    fn wall_micros(&self) -> u64 {
        micros_of(ClockId::Realtime)
    }

    fn fd(&self) -> RawFd {
        self.as_raw_fd()
    }

    fn send(&mut self, to: Option<&Path>, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        UdpSocket::send(self, to, datagrams)
    }

    fn take_heard(&mut self) -> Option<Errno> {
        UdpSocket::take_heard(self)
    }

    fn reconnect(&mut self) -> Result<(), Errno> {
        UdpSocket::reconnect(self)
    }

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        UdpSocket::receive(self, buffer)
    }
}

/// A clock that is set before 1970 shows 0.
fn micros_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).map_or(0, |seconds| seconds * 1_000_000 + time.tv_nsec as u64 / 1000)
}

/// What was received and not taken.
#[derive(Clone, Copy)]
struct Batch {
    path: Path,
    /// Where it goes on in the buffer, and ends.
    start: usize,
    end: usize,
    segment_bytes: usize,
    is_ce: bool,
}

/// A datagram that was received.
pub(crate) struct Heard<'b> {
    pub(crate) bytes: &'b mut [u8],
    pub(crate) path: Path,
    pub(crate) is_ce: bool,
}

/// Whose a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The link with this index.
    Link(u32),
    /// Whoever greets.
    Listener,
}

/// All of it, one for each thread.
///
/// ```
/// use seaprox_udp::hub::{Hub, Numbering};
/// use seaprox_udp::keyed::Protection;
/// use seaprox_udp::reliable::Memory;
/// use seaprox_udp::socket::{Options, RECEIVE_BYTES, UdpSocket};
///
/// // Of one thread whose only link goes out, without keys.
/// let (mut buffer, mut memory) = ([0; RECEIVE_BYTES], Box::new(Memory::<64, 128>::new()));
/// let hub = Hub::new(&mut buffer, Numbering::Steering(0), 0x5eed, Protection::Insecure);
/// hub.give(memory.parts());
/// let socket = UdpSocket::connected("127.0.0.1:7000".parse()?, &Options::USUAL)?;
/// hub.open(socket, true);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Hub<'m, W> {
    shared: RefCell<Shared<'m, W>>,
}

pub(crate) struct Shared<'m, W> {
    pub(crate) wire: Option<W>,
    /// The socket has one peer and needs no address.
    pub(crate) is_connected: bool,
    buffer: &'m mut [u8; RECEIVE_BYTES],
    batch: Option<Batch>,
    /// Another way is not looked for before.
    reconnect_at: Micros,
    /// Of links that are there.
    indices: ArrayVec<u32, LINKS_MAX>,
    /// Of links that there may be: what comes for them is the listener's.
    pub(crate) expected: ArrayVec<u32, KNOCKS_MAX>,
    pub(crate) protection: Protection<'m>,
    vacant: ArrayVec<Parts<'m>, LINKS_MAX>,
    numbering: Numbering,
    random: SplitMix64,
}

/// Which indices the links of a hub have.
#[derive(Clone, Copy, Debug)]
pub enum Numbering {
    /// This end listens with so many threads, of which this one is the hub's, and has what is sent to it
    /// steered by the remainder ([`crate::socket::thread_of`]).
    Steered {
        /// The thread's number.
        thread: u32,
        /// How many there are.
        threads: u32,
    },
    /// The far end steers by it: links with consecutive numbers here, of one process, go to different
    /// threads there, however many there are up to 16.
    Steering(u32),
}

/// A multiple of every number up to 16.
const COMMON_MULTIPLE: u32 = 720_720;

impl Numbering {
    fn index(self, random: u64) -> u32 {
        let (step, first) = match self {
            Numbering::Steered { thread, threads } => (threads.max(1), thread),
            Numbering::Steering(number) => (COMMON_MULTIPLE, number % COMMON_MULTIPLE),
        };
        let most = (u32::MAX - first) / step;
        (random % u64::from(most)) as u32 * step + first
    }
}

impl<'m, W: Wire> Hub<'m, W> {
    /// Without a socket as yet. It receives into `buffer`. `random`: unpredictable.
    pub fn new(
        buffer: &'m mut [u8; RECEIVE_BYTES],
        numbering: Numbering,
        random: u64,
        protection: Protection<'m>,
    ) -> Hub<'m, W> {
        Hub {
            shared: RefCell::new(Shared {
                wire: None,
                is_connected: false,
                buffer,
                batch: None,
                reconnect_at: Micros(0),
                indices: ArrayVec::new(),
                expected: ArrayVec::new(),
                protection,
                vacant: ArrayVec::new(),
                numbering,
                random: SplitMix64::new(random),
            }),
        }
    }

    /// Memory for one more link.
    ///
    /// # Panics
    /// There are [`LINKS_MAX`] already.
    pub fn give(&self, memory: Parts<'m>) {
        self.shared.borrow_mut().vacant.push(memory);
    }

    /// The socket all of them use from now on: one that listens, or one for a single peer.
    pub fn open(&self, wire: W, is_connected: bool) {
        let mut shared = self.shared.borrow_mut();
        (shared.wire, shared.is_connected, shared.batch) = (Some(wire), is_connected, None);
    }

    /// The socket is closed: nothing comes or goes any more. For when the links are gone.
    pub fn close(&self) {
        self.shared.borrow_mut().wire = None;
    }

    /// The socket's descriptor; -1 if there is none.
    pub fn fd(&self) -> RawFd {
        self.shared.borrow().wire.as_ref().map_or(-1, Wire::fd)
    }

    /// Nothing that is called while this is in use may use it again.
    pub(crate) fn borrow(&self) -> core::cell::RefMut<'_, Shared<'m, W>> {
        self.shared.borrow_mut()
    }
}

impl<'m, W: Wire> Shared<'m, W> {
    pub(crate) fn now(&self) -> Micros {
        self.wire.as_ref().map_or(Micros(0), Wire::now)
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.random.draw()
    }

    pub(crate) fn has_vacant(&self) -> bool {
        !self.vacant.is_empty()
    }

    /// A new link's index, and its memory. `None`: there is none.
    pub(crate) fn begin_link(&mut self) -> Option<(u32, Parts<'m>)> {
        let index = self.draw_index();
        self.begin_link_at(index).map(|memory| (index, memory))
    }

    /// The memory of a new link that has this index.
    pub(crate) fn begin_link_at(&mut self, index: u32) -> Option<Parts<'m>> {
        let memory = self.vacant.pop()?;
        // There are at most as many as there is memory for.
        self.indices.push(index);
        Some(memory)
    }

    /// The same link under another index, which leads to the next thread of the far end.
    pub(crate) fn another_index(&mut self, index: u32) -> u32 {
        if let Numbering::Steering(number) = &mut self.numbering {
            *number = number.wrapping_add(1);
        }
        let another = self.draw_index();
        self.indices.iter_mut().filter(|other| **other == index).for_each(|i| *i = another);
        another
    }

    /// Random but for what steers, so that what is on its way to a link that is gone finds nobody.
    /// None that another link has: of one more than there can be, which all differ, one is free.
    pub(crate) fn draw_index(&mut self) -> u32 {
        const TAKEN_MAX: usize = LINKS_MAX + KNOCKS_MAX;
        let random = self.random() / 2;
        let mut drawn = (0..=TAKEN_MAX as u64).map(|next| self.numbering.index(random + next));
        let is_taken = |index: &u32| self.is_link(*index) || self.expected.contains(index);
        drawn.find(|index| !is_taken(index)).unwrap_or_default()
    }

    pub(crate) fn end_link(&mut self, index: u32, memory: Parts<'m>) {
        self.indices.retain(|other| *other != index);
        if let Protection::Keyed(keyed) = &mut self.protection {
            // There is nobody to answer any more.
            drop(keyed.take_asked(index));
        }
        self.vacant.push(memory);
    }

    /// Whether a link that is there has this index.
    pub(crate) fn is_link(&self, index: u32) -> bool {
        self.indices.contains(&index)
    }

    /// Whose the next datagram is; receives if there is none. Nobody's are passed over. O(1) but for
    /// those.
    ///
    /// # Errors
    /// EAGAIN: nothing was received. EINTR: so many were nobody's that it is others' turn; there may be
    /// more. Others of [`Wire::receive`].
    pub(crate) fn next_owner(&mut self) -> Result<Owner, Errno> {
        for _ in 0..STRANGERS_MAX {
            if self.batch.is_none() {
                self.receive()?;
            }
            if let Some(owner) = self.owner() {
                return Ok(owner);
            }
            self.pass();
        }
        Err(Errno::INTR)
    }

    fn receive(&mut self) -> Result<(), Errno> {
        let wire = self.wire.as_mut().ok_or(Errno::BADF)?;
        let received = wire.receive(&mut self.buffer[..])?;
        self.batch = Some(Batch {
            path: received.path,
            start: 0,
            end: received.bytes.len(),
            segment_bytes: received.segment_bytes,
            is_ce: received.is_ce,
        });
        Ok(())
    }

    /// Whether any of those that were received is somebody's. O(those).
    pub(crate) fn is_waiting(&mut self) -> bool {
        while self.batch.is_some() {
            if self.owner().is_some() {
                return true;
            }
            self.pass();
        }
        false
    }

    /// Whose the next of those is that were received; `None`: nobody's.
    fn owner(&self) -> Option<Owner> {
        let datagram = self.look()?;
        let kind = kind_of(self.protection.mode(), datagram)?;
        let index = index_of(datagram)?;
        let link = self.is_link(index).then_some(Owner::Link(index));
        match kind {
            Kind::Data => link.or(self.expected.contains(&index).then_some(Owner::Listener)),
            // Who has one peer listens to nobody: a greeting would wait for ever, and all behind it.
            _ if self.is_connected => link,
            Kind::Init => Some(Owner::Listener),
            _ => None,
        }
    }

    /// The next datagram is nobody's.
    pub(crate) fn pass(&mut self) {
        let _ = self.take();
    }

    /// The next datagram, which stays where it is.
    pub(crate) fn look(&self) -> Option<&[u8]> {
        let batch = self.batch.as_ref()?;
        let rest = &self.buffer[batch.start..batch.end];
        Some(&rest[..batch.segment_bytes.min(rest.len())])
    }

    /// Takes the next datagram, which must be there.
    pub(crate) fn take(&mut self) -> Option<Heard<'_>> {
        self.take_beside().map(|(heard, _)| heard)
    }

    /// The same, with what it may take to understand it.
    pub(crate) fn take_beside(&mut self) -> Option<(Heard<'_>, &mut Protection<'m>)> {
        let Batch { path, start, end, segment_bytes, is_ce } = self.batch?;
        let next = (start + segment_bytes).min(end);
        self.batch = self.batch.filter(|_| next < end).map(|batch| Batch { start: next, ..batch });
        let heard = Heard { bytes: &mut self.buffer[start..next], path, is_ce };
        Some((heard, &mut self.protection))
    }

    /// Sends a datagram to the only peer there is.
    pub(crate) fn send_to_peer(&mut self, datagram: &[u8]) -> Result<usize, Errno> {
        self.wire.as_mut().ok_or(Errno::BADF)?.send(None, &[datagram])
    }

    /// The INIT to be sent now, if one is due; the hub has keys.
    pub(crate) fn init(
        &mut self,
        initiator: &mut Initiator,
        peer: &Peer,
        now: Micros,
    ) -> Option<[u8; INIT_BYTES]> {
        let Protection::Keyed(keyed) = &mut self.protection else { return None };
        let wall = || self.wire.as_ref().map_or(0, Wire::wall_micros);
        keyed.init(initiator, peer, now, wall)
    }

    /// See [`Wire::take_heard`].
    pub(crate) fn take_heard(&mut self) -> Option<Errno> {
        self.wire.as_mut().and_then(Wire::take_heard)
    }

    /// Sends the first of these datagrams, as many as go in one batch. If they cannot leave from where
    /// the only peer was connected to, the next may leave from elsewhere.
    pub(crate) fn send(&mut self, to: &Path, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        let to = (!self.is_connected).then_some(to);
        let sent = self.wire.as_mut().ok_or(Errno::BADF)?.send(to, datagrams);
        if sent.is_err_and(has_no_way) {
            self.reconnect();
        }
        sent
    }

    /// Looks for another way to the only peer there is, unless that was done lately.
    pub(crate) fn reconnect(&mut self) {
        let now = self.now();
        if self.is_connected
            && now >= self.reconnect_at
            && let Some(wire) = &mut self.wire
        {
            self.reconnect_at = now.after(RECONNECT_MICROS);
            // If there is none the next send fails too.
            let _ = wire.reconnect();
        }
    }
}

/// Whether an error of send means that there is no way from here: no route (ip(7)); an address that is
/// this machine's no more (ENETUNREACH too, or EINVAL, by `ip_route_output_key_hash_rcu` of
/// net/ipv4/route.c; IPv6 says nothing); or a socket that was not connected again.
fn has_no_way(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::ADDRNOTAVAIL
            | Errno::INVAL
            | Errno::DESTADDRREQ
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first that is drawn is another's, and so is the next.
    #[test]
    fn no_two_links_have_one_index() {
        for numbering in [Numbering::Steered { thread: 1, threads: 3 }, Numbering::Steering(5)] {
            let buffer = std::boxed::Box::leak(std::boxed::Box::new([0; RECEIVE_BYTES]));
            let hub = Hub::<UdpSocket>::new(buffer, numbering, 7, Protection::Insecure);
            let mut shared = hub.borrow();
            let seed = shared.random;
            let mut expected = ArrayVec::<u32, LINKS_MAX>::new();
            while !expected.is_full() {
                // The same number is drawn each time.
                shared.random = seed;
                let index = shared.draw_index();
                assert!(!expected.contains(&index));
                expected.push(index);
                shared.indices.push(index);
            }
            shared.random = seed;
            let index = shared.draw_index();
            assert!(!expected.contains(&index), "one more, under way to another thread");
        }
    }

    #[test]
    fn indices_lead_to_the_thread_they_are_to_lead_to() {
        for random in (0..2000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            for threads in 1..=16 {
                let thread = (random % u64::from(threads)) as u32;
                let index = Numbering::Steered { thread, threads }.index(random >> 7);
                assert_eq!(crate::socket::thread_of(index, threads), thread);
                let there = |number| {
                    let index = Numbering::Steering(number).index(random.rotate_left(number));
                    crate::socket::thread_of(index, threads)
                };
                assert_eq!(there(40 + 1), (there(40) + 1) % threads);
            }
        }
        assert_eq!(
            Numbering::Steering(u32::MAX).index(u64::MAX) % 16,
            u32::MAX % COMMON_MULTIPLE % 16
        );
    }
}
