//! The ends of links: what each takes of its caller's memory, and how it is put together there for one
//! thread. Knows no worker.

use crate::bounds::{LINKS, connections_of_thread, link_channels, link_chunks, udp_slots};
use crate::carriers::{AnyCarrier, At, From, Sockets, To, UdpHub};
use crate::keys::{Given, KeyMemory, Keys, preferred};
use crate::raw::{Secrets, Zero};
use crate::types::{SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS};
use core::mem::MaybeUninit;
use rustix::rand::{GetRandomFlags, getrandom};
use seaprox::sys::{Errno, OwnedFd};
use seaprox::wanted::Wish;
use seaprox_noise::keys::Identity;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_sealed::Kind;
use seaprox_udp::hub::Numbering;
use seaprox_udp::keyed::{Keyed, Protection};
use seaprox_udp::listener::{Admitted, Listener};
use seaprox_udp::reliable;
use seaprox_udp::socket::RECEIVE_BYTES;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// How long a carrier may take to be connected and greeted, in milliseconds.
const CONNECT_MILLIS: u32 = 10_000;

/// Channels a far end may open in a second: more than one machine accepts on one thread.
const OPENS_PER_SECOND_MAX: u32 = 200_000;

const CHANNELS: usize = link_channels(SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS);
const CHUNKS: usize = link_chunks(CHANNELS);
const SLOTS: usize = udp_slots(CHANNELS);
/// Of a sealed link, over SCTP: one for the link itself, and one each for a channel that either end opens.
const STREAMS: usize = 1 + 2 * CHANNELS;

type OwnLinkMemory = link::LinkMemory<CHANNELS, CHUNKS>;
type UdpMemory = reliable::Memory<SLOTS, { 2 * SLOTS }>;

/// What so many links of one thread take.
pub(crate) struct EndMemory<const LINKS: usize> {
    links: [OwnLinkMemory; LINKS],
    udp: [UdpMemory; LINKS],
    buffer: [u8; RECEIVE_BYTES],
    hub: MaybeUninit<UdpHub>,
    keys: KeyMemory<LINKS, STREAMS>,
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

/// What links over udp share, with these keys.
fn hub(
    place: &'static mut MaybeUninit<UdpHub>,
    (buffer, memories): (&'static mut [u8; RECEIVE_BYTES], &'static mut [UdpMemory]),
    numbering: Numbering,
    own: Option<&'static Identity>,
) -> Result<&'static UdpHub, Errno> {
    let protection = match own {
        None => Protection::Insecure,
        Some(own) => {
            let mut secret = Zeroizing::new([0; 32]);
            random_bytes(&mut *secret)?;
            Protection::Keyed(Keyed::new(own, *secret, preferred()))
        }
    };
    let hub = &*place.write(UdpHub::new(buffer, numbering, random()?, protection));
    memories.iter_mut().for_each(|memory| hub.give(memory.parts()));
    Ok(hub)
}

/// Memory that keys can be put into.
pub(crate) trait TakesKeys {
    /// Copies what C gave.
    ///
    /// # Errors
    /// None that [`Given::read`] has not given.
    fn put(&mut self, given: &Given) -> Result<(), Errno>;
}

impl<const LINKS: usize> TakesKeys for EndMemory<LINKS> {
    fn put(&mut self, given: &Given) -> Result<(), Errno> {
        self.keys.put(given)
    }
}

impl TakesKeys for DestMemory {
    fn put(&mut self, given: &Given) -> Result<(), Errno> {
        self.end.put(given)
    }
}

/// Puts keys into the memory of every thread; says what is to be overwritten in the end, if there are any.
///
/// # Errors
/// As [`TakesKeys::put`].
pub(crate) fn put_keys<T: TakesKeys>(
    memories: &mut [T],
    given: Option<&Given>,
) -> Result<Option<Secrets>, Errno> {
    let Some(given) = given else { return Ok(None) };
    let secrets = Secrets::of(memories);
    memories.iter_mut().try_for_each(|memory| memory.put(given))?;
    Ok(Some(secrets))
}

/// Where links come in.
pub(crate) struct SourceEnd {
    pub(crate) sockets: Sockets,
    pub(crate) memories: &'static mut [SourceMemory],
    pub(crate) idle_millis: u32,
    /// What addresses are proved with, of udp.
    pub(crate) secret: [u8; 16],
    /// What is to be overwritten in the end.
    pub(crate) secrets: Option<Secrets>,
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
        let EndMemory { links, udp, buffer, hub: place, keys } = next(&mut self.memories)?;
        let keys = keys.take()?;
        let config = config(Role::Acceptor, self.idle_millis);
        let share = |fd: &OwnedFd| match shared.get() {
            Some(fd) => Ok(fd),
            None => {
                let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
                Ok::<_, Errno>(shared.get_or_init(|| fd))
            }
        };
        let kind = match &self.sockets {
            Sockets::Sctp(_) => Kind::Sctp,
            Sockets::Udp(_) | Sockets::Seqpacket(_) => Kind::Seqpacket,
        };
        let fd = match &mut self.sockets {
            Sockets::Udp(sockets) => {
                let threads = sockets.len() as u32;
                let numbering = Numbering::Steered { thread, threads };
                let socket = sockets.get_mut(thread as usize).and_then(Option::take);
                let own = keys.as_ref().map(|keys| keys.own);
                let hub = hub(place, (buffer, udp), numbering, own)?;
                hub.open(socket.ok_or(Errno::INVAL)?, false);
                let admitted = match keys {
                    None => Admitted::Anybody { secret: self.secret },
                    Some(keys) => {
                        let (peers, knocks) = keys.door()?;
                        Admitted::Peers { peers, knocks }
                    }
                };
                let options = seaprox_udp::carrier::Options::USUAL;
                let accept = From::Udp(Listener::new(hub, admitted, options));
                return Ok((LinkSource::new(accept, links, config), Some(hub)));
            }
            Sockets::Sctp(fd) | Sockets::Seqpacket(fd) => share(fd)?,
        };
        let (keeper, guests) = match keys {
            None => (None, &mut [][..]),
            Some(keys) => {
                let (keeper, guests) = keys.answering(kind)?;
                (Some(keeper), guests)
            }
        };
        let accept = match kind {
            Kind::Sctp => From::Sctp(fd, keeper),
            Kind::Seqpacket => From::Seqpacket(fd, keeper),
        };
        Ok((LinkSource::new(accept, links, config).receiving(guests), None))
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
    /// What is to be overwritten in the end.
    pub(crate) secrets: Option<Secrets>,
}

impl DestEnd {
    /// A thread's; what comes after that of those before it. Of udp also what is to be closed in the end.
    ///
    /// # Errors
    /// As of a source.
    pub(crate) fn take(&mut self, thread: u32) -> Result<(ToLink, Option<&'static UdpHub>), Errno> {
        let DestMemory { end, wishes } = next(&mut self.memories)?;
        let EndMemory { links: [link], udp, buffer, hub: place, keys } = end;
        let keys = keys.take()?;
        let own = keys.as_ref().map(|keys| keys.own);
        let (expected, unasked) = keys.map(Keys::expected).transpose()?.unzip();
        let kind = match self.at {
            At::Udp(_) => None,
            At::Sctp(_) => Some(Kind::Sctp),
            At::Seqpacket(_) => Some(Kind::Seqpacket),
        };
        let (hub, keeper) = match kind {
            None => {
                let numbering = Numbering::Steering(self.first.wrapping_add(thread));
                (Some(hub(place, (buffer, udp), numbering, own)?), None)
            }
            Some(kind) => {
                let asked = unasked.zip(expected);
                (None, asked.map(|(unasked, peer)| unasked.asking(peer, kind)))
            }
        };
        let link = link.link::<AnyCarrier>(0, config(Role::Initiator, self.idle_millis));
        let options = DestOptions {
            wanted: self.wanted,
            wait_millis: self.wait_millis,
            connect_millis: CONNECT_MILLIS,
            seed: random()? as u32,
        };
        let to = To { at: self.at.clone(), hub, expected, keeper, options: carrier_options() };
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
