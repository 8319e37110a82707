//! What the links of one thread share: the socket, what was received last and nobody has taken, and the
//! memory of links that are not there. Knows which index is whose.
//!
//! Invariant: a batch is received only when the one before is used up; each datagram of it is for the link
//! whose index it has, or for the listener, or nobody's.

use crate::packet::{Kind, index_of, kind_of};
use crate::reliable::Slices;
use crate::socket::{Datagrams, Path, RECEIVE_BYTES, UdpSocket};
use crate::time::Micros;
use arrayvec::ArrayVec;
use core::cell::RefCell;
use rustix::fd::AsRawFd;
use seaprox::sys::{Errno, RawFd};

/// Links of one hub, at most.
pub const LINKS_MAX: usize = 32;

/// What moves datagrams, and tells the time: a socket, or a simulated one. Never waits.
pub trait Wire {
    /// Now.
    fn now(&self) -> Micros;

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

    /// Receives some datagrams of one peer.
    ///
    /// # Errors
    /// EAGAIN: there are none.
    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno>;
}

impl Wire for UdpSocket {
    fn now(&self) -> Micros {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Micros(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000)
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

    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Datagrams<'b>, Errno> {
        UdpSocket::receive(self, buffer)
    }
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
pub struct Hub<'m, W> {
    shared: RefCell<Shared<'m, W>>,
}

pub(crate) struct Shared<'m, W> {
    pub(crate) wire: Option<W>,
    /// The socket has one peer and needs no address.
    pub(crate) is_connected: bool,
    buffer: &'m mut [u8; RECEIVE_BYTES],
    batch: Option<Batch>,
    /// Of links that are there.
    indices: ArrayVec<u32, LINKS_MAX>,
    vacant: ArrayVec<Slices<'m>, LINKS_MAX>,
    numbering: Numbering,
    random: u64,
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
    ) -> Hub<'m, W> {
        Hub {
            shared: RefCell::new(Shared {
                wire: None,
                is_connected: false,
                buffer,
                batch: None,
                indices: ArrayVec::new(),
                vacant: ArrayVec::new(),
                numbering,
                random,
            }),
        }
    }

    /// Memory for one more link.
    ///
    /// # Panics
    /// There are [`LINKS_MAX`] already.
    pub fn give(&self, slices: Slices<'m>) {
        self.shared.borrow_mut().vacant.push(slices);
    }

    /// The socket all of them use from now on: one that listens, or one for a single peer.
    pub fn open(&self, wire: W, is_connected: bool) {
        let mut shared = self.shared.borrow_mut();
        (shared.wire, shared.is_connected, shared.batch) = (Some(wire), is_connected, None);
    }

    /// The socket is closed.
    pub fn close(&self) {
        let mut shared = self.shared.borrow_mut();
        (shared.wire, shared.batch) = (None, None);
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
        // SplitMix64 (Steele, Lea and Flood, 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn has_vacant(&self) -> bool {
        !self.vacant.is_empty()
    }

    /// A new link's index, and its memory. `None`: there is none.
    pub(crate) fn begin_link(&mut self) -> Option<(u32, Slices<'m>)> {
        let slices = self.vacant.pop()?;
        let index = self.draw_index();
        // There are at most as many as there is memory for.
        self.indices.push(index);
        Some((index, slices))
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
    fn draw_index(&mut self) -> u32 {
        let random = self.random();
        self.numbering.index(random)
    }

    pub(crate) fn end_link(&mut self, index: u32, slices: Slices<'m>) {
        self.indices.retain(|other| *other != index);
        self.vacant.push(slices);
    }

    fn is_ours(&self, index: u32) -> bool {
        self.indices.contains(&index)
    }

    /// Whose the next datagram is; receives if there is none. Nobody's are passed over. O(1) but for
    /// those.
    ///
    /// # Errors
    /// EAGAIN: nothing was received. Others of [`Wire::receive`].
    pub(crate) fn next_owner(&mut self) -> Result<Owner, Errno> {
        loop {
            if let Some(owner) = self.waiting() {
                return Ok(owner);
            }
            let wire = self.wire.as_mut().ok_or(Errno::BADF)?;
            let received = wire.receive(&mut self.buffer[..])?;
            self.batch = Some(Batch {
                path: received.path,
                start: 0,
                end: received.bytes.len(),
                segment_bytes: received.segment_bytes,
                is_ce: received.is_ce,
            });
        }
    }

    /// Whose the next of those is that were received.
    pub(crate) fn waiting(&mut self) -> Option<Owner> {
        while let Some(batch) = &self.batch {
            let rest = &self.buffer[batch.start..batch.end];
            if rest.is_empty() {
                self.batch = None;
                break;
            }
            let datagram = &rest[..batch.segment_bytes.min(rest.len())];
            match (kind_of(datagram), index_of(datagram)) {
                (Some(Kind::Data), Some(index)) if self.is_ours(index) => {
                    return Some(Owner::Link(index));
                }
                (Some(Kind::Init), _) => return Some(Owner::Listener),
                (Some(_), Some(index)) if self.is_connected && self.is_ours(index) => {
                    return Some(Owner::Link(index));
                }
                _ => self.pass(),
            }
        }
        None
    }

    /// The next datagram is nobody's.
    pub(crate) fn pass(&mut self) {
        if let Some(batch) = &mut self.batch {
            batch.start = (batch.start + batch.segment_bytes).min(batch.end);
        }
    }

    /// Takes the next datagram, which must be there.
    pub(crate) fn take(&mut self) -> Option<Heard<'_>> {
        let batch = self.batch.as_mut()?;
        let start = batch.start;
        batch.start = (start + batch.segment_bytes).min(batch.end);
        let bytes = &mut self.buffer[start..batch.start];
        Some(Heard { bytes, path: batch.path, is_ce: batch.is_ce })
    }

    /// Sends a datagram to the only peer there is.
    pub(crate) fn send_to_peer(&mut self, datagram: &[u8]) -> Result<usize, Errno> {
        self.wire.as_mut().ok_or(Errno::BADF)?.send(None, &[datagram])
    }

    /// See [`Wire::take_heard`].
    pub(crate) fn take_heard(&mut self) -> Option<Errno> {
        self.wire.as_mut().and_then(Wire::take_heard)
    }

    /// Sends the first of these datagrams, as many as go in one batch.
    pub(crate) fn send(&mut self, to: &Path, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        let to = (!self.is_connected).then_some(to);
        self.wire.as_mut().ok_or(Errno::BADF)?.send(to, datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
