//! The ends of links: what each takes of its caller's memory, and how it is put together there for one
//! thread. Knows no worker.

use crate::bounds::{LINKS, connections_of_thread, link_channels, link_chunks, udp_slots};
use crate::carriers::{AnyCarrier, At, From, Sockets, To, UdpHub};
use crate::raw::Zero;
use crate::types::{SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS};
use core::mem::MaybeUninit;
use rustix::rand::{GetRandomFlags, getrandom};
use seaprox::sys::{Errno, OwnedFd};
use seaprox::wanted::Wish;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_udp::hub::Numbering;
use seaprox_udp::keyed::Protection;
use seaprox_udp::listener::{Admitted, Listener};
use seaprox_udp::reliable;
use seaprox_udp::socket::RECEIVE_BYTES;
use std::sync::OnceLock;

/// How long a carrier may take to be connected and greeted, in milliseconds.
const CONNECT_MILLIS: u32 = 10_000;

/// Channels a far end may open in a second: more than one machine accepts on one thread.
const OPENS_PER_SECOND_MAX: u32 = 200_000;

const CHANNELS: usize = link_channels(SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS);
const CHUNKS: usize = link_chunks(CHANNELS);
const SLOTS: usize = udp_slots(CHANNELS);

type OwnLinkMemory = link::LinkMemory<CHANNELS, CHUNKS>;
type UdpMemory = reliable::Memory<SLOTS, { 2 * SLOTS }>;

/// What so many links of one thread take.
pub(crate) struct EndMemory<const LINKS: usize> {
    links: [OwnLinkMemory; LINKS],
    udp: [UdpMemory; LINKS],
    buffer: [u8; RECEIVE_BYTES],
    hub: MaybeUninit<UdpHub>,
}

/// What the links take that come in.
pub(crate) type SourceMemory = EndMemory<LINKS>;

/// What the link takes that goes out, with what connections want that wait for it.
pub(crate) struct DestMemory {
    end: EndMemory<1>,
    wishes: [Wish; connections_of_thread(SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS)],
}

// SAFETY: the documentation of all of it says so, but for the hub's, which may be anything.
#[allow(unsafe_code)]
unsafe impl<const LINKS: usize> Zero for EndMemory<LINKS> {}

// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Zero for DestMemory {}

/// A source of links.
pub(crate) type FromLinks = LinkSource<'static, From, LINKS>;
/// A link to go to.
pub(crate) type ToLink = LinkDest<'static, To>;

/// What every carrier is told.
pub(crate) const fn carrier_options() -> seaprox_sctp::Options {
    seaprox_sctp::Options::new(CHANNELS as u16)
}

fn config(role: Role, idle_millis: u32) -> Config {
    Config {
        role,
        // The carrier knows better.
        peer_channels_max: if let Role::Acceptor = role { CHANNELS as u16 } else { 0 },
        idle_millis,
        opens_per_second_max: OPENS_PER_SECOND_MAX,
        first_offset: 0,
    }
}

impl<const LINKS: usize> EndMemory<LINKS> {
    /// What the links over udp share, and the links themselves.
    fn hub(
        &'static mut self,
        numbering: Numbering,
        random: u64,
    ) -> (&'static UdpHub, &'static mut [OwnLinkMemory; LINKS]) {
        let hub = &*self.hub.write(UdpHub::new(
            &mut self.buffer,
            numbering,
            random,
            Protection::Insecure,
        ));
        self.udp.iter_mut().for_each(|memory| hub.give(memory.parts()));
        (hub, &mut self.links)
    }
}

/// Where links come in.
pub(crate) struct SourceEnd {
    pub(crate) sockets: Sockets,
    pub(crate) memories: &'static mut [SourceMemory],
    pub(crate) idle_millis: u32,
    /// What addresses are proved with, of udp.
    pub(crate) secret: [u8; 16],
}

impl SourceEnd {
    /// A thread's; what comes after that of those before it. A socket of all threads goes to `shared`,
    /// where it stays. Of udp also what is to be closed in the end.
    ///
    /// # Errors
    /// EINVAL: there is nothing left. What the kernel says, of which it is to be unpredictable.
    pub(crate) fn take(
        &mut self,
        thread: u32,
        shared: &'static OnceLock<OwnedFd>,
    ) -> Result<(FromLinks, Option<&'static UdpHub>), Errno> {
        let memory = next(&mut self.memories)?;
        let config = config(Role::Acceptor, self.idle_millis);
        let share = |fd: &OwnedFd| match shared.get() {
            Some(fd) => Ok(fd),
            None => {
                let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
                Ok::<_, Errno>(shared.get_or_init(|| fd))
            }
        };
        let accept = match &mut self.sockets {
            Sockets::Udp(sockets) => {
                let threads = sockets.len() as u32;
                let numbering = Numbering::Steered { thread, threads };
                let socket = sockets.get_mut(thread as usize).and_then(Option::take);
                let (hub, links) = memory.hub(numbering, random()?);
                hub.open(socket.ok_or(Errno::INVAL)?, false);
                let options = seaprox_udp::carrier::Options::USUAL;
                let accept = From::Udp(Listener::new(
                    hub,
                    Admitted::Anybody { secret: self.secret },
                    options,
                ));
                return Ok((LinkSource::new(accept, links, config), Some(hub)));
            }
            Sockets::Sctp(fd) => From::Sctp(share(fd)?),
            Sockets::Seqpacket(fd) => From::Seqpacket(share(fd)?),
        };
        Ok((LinkSource::new(accept, &mut memory.links, config), None))
    }
}

/// Where a link leads.
pub(crate) struct DestEnd {
    pub(crate) at: At,
    pub(crate) memories: &'static mut [DestMemory],
    pub(crate) idle_millis: u32,
    pub(crate) wait_millis: u32,
    pub(crate) wanted: Wish,
    /// The number of the first thread's link: the far end's threads are to have equally many.
    pub(crate) first: u32,
}

impl DestEnd {
    /// A thread's; what comes after that of those before it. Of udp also what is to be closed in the end.
    ///
    /// # Errors
    /// As of a source.
    pub(crate) fn take(&mut self, thread: u32) -> Result<(ToLink, Option<&'static UdpHub>), Errno> {
        let DestMemory { end, wishes } = next(&mut self.memories)?;
        let (hub, links) = match self.at {
            At::Udp(_) => {
                let numbering = Numbering::Steering(self.first.wrapping_add(thread));
                let (hub, links) = end.hub(numbering, random()?);
                (Some(hub), links)
            }
            At::Sctp(_) | At::Seqpacket(_) => (None, &mut end.links),
        };
        let [link] = links;
        let link = link.link::<AnyCarrier>(0, config(Role::Initiator, self.idle_millis));
        let options = DestOptions {
            wanted: self.wanted,
            wait_millis: self.wait_millis,
            connect_millis: CONNECT_MILLIS,
            seed: random()? as u32,
        };
        let to = To::new(self.at.clone(), hub, carrier_options());
        Ok((LinkDest::new(link, to, wishes, options), hub))
    }
}

/// The next of what each thread has one of.
fn next<T>(memories: &mut &'static mut [T]) -> Result<&'static mut T, Errno> {
    let (first, others) = core::mem::take(memories).split_first_mut().ok_or(Errno::INVAL)?;
    *memories = others;
    Ok(first)
}

/// An unpredictable number.
pub(crate) fn random() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Unpredictable bytes, at most 256 of them (getrandom(2): those are never fewer than asked for).
pub(crate) fn random_bytes(bytes: &mut [u8]) -> Result<(), Errno> {
    getrandom(bytes, GetRandomFlags::empty()).map(|_| ())
}
