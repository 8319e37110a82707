//! Keys of links: what C gave, where it lies, and what each thread makes of it. Knows no link.
//!
//! Invariants: `peers_size` is 0 if and only if there are no keys. Everything that is secret lies in the
//! memory of links, which is overwritten when the proxy is closed; on the stack it is overwritten at once.

use crate::carriers::AnyCarrier;
use crate::raw;
use crate::types::{Link, Peer, SEAPROX_KEY_SIZE, SEAPROX_PEERS_MAX};
use core::mem::MaybeUninit;
use seaprox::sys::Errno;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keys::{self, Identity, Psk, Public, Secret};
use seaprox_noise::peers::Peers;
use seaprox_noise::streams::{Position, Streams};
use seaprox_proto::message::PACKET_BYTES;
use seaprox_proto::source::Guest;
use seaprox_sealed::{Kind, Seat, System};
use seaprox_udp::knocks::Knocks;
use zeroize::Zeroizing;

/// Places of each thread for those who have connected and not shown yet who they are. A handshake takes a
/// round trip and a half, so of honest ones there are few at once.
const GUESTS: usize = 16;

/// Who this end of sealed links is, of one thread.
pub(crate) type OwnKeeper = seaprox_sealed::Keeper<'static, System, SEAPROX_PEERS_MAX>;

/// A carrier whose packets are sealed.
pub(crate) type OwnSealed<C> =
    seaprox_sealed::Sealed<'static, 'static, C, System, SEAPROX_PEERS_MAX>;

type Key = [u8; SEAPROX_KEY_SIZE];

/// What keys take of the memory of so many links of one thread, each with at most so many streams. All
/// zeroes: there are none.
pub(crate) struct KeyMemory<const LINKS: usize, const STREAMS: usize> {
    own: Key,
    /// What each is known by, and what is known besides; zeroes: nothing.
    peers: [[Key; 2]; SEAPROX_PEERS_MAX],
    peers_size: usize,
    identity: MaybeUninit<Identity>,
    known: MaybeUninit<Peers<SEAPROX_PEERS_MAX>>,
    expected: MaybeUninit<keys::Peer>,
    knocks: MaybeUninit<Knocks>,
    keeper: MaybeUninit<OwnKeeper>,
    streams: [MaybeUninit<Streams>; LINKS],
    positions: [[Position; STREAMS]; LINKS],
    packets: [[u8; PACKET_BYTES]; LINKS],
    guests: [MaybeUninit<Guest<AnyCarrier>>; GUESTS],
}

/// What C gave, looked at.
///
/// Invariant: what it points to is good for as long as this lives, which is no longer than the call from C.
pub(crate) struct Given {
    link: Link,
}

impl Given {
    /// Looks at the keys of a link; `None`: there are none, and the caller wants none. `only`: there is one peer.
    ///
    /// # Errors
    /// EPERM: there are none, and nobody said that there are to be none. EINVAL: a key that is none or keeps no
    /// secret, no peer or too many, this end itself, or keys that are not wanted. ENOSPC: more peers than there
    /// are places. EEXIST: two peers with one key.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn read(link: &Link, only: bool) -> Result<Option<Given>, Errno> {
        match (link.key.is_null(), link.insecure) {
            (true, 1) if link.peers_size == 0 => return Ok(None),
            (true, 0) => return Err(Errno::PERM),
            (false, 0) if link.peers_size > 0 => {}
            _ => return Err(Errno::INVAL),
        }
        if link.peers_size > SEAPROX_PEERS_MAX {
            return Err(Errno::NOSPC);
        }
        if only && link.peers_size != 1 {
            return Err(Errno::INVAL);
        }
        let given = Given { link: *link };
        let mut known = Peers::<SEAPROX_PEERS_MAX>::new();
        // SAFETY: the caller's promise, which is the header's.
        let own = unsafe { identity(&*raw::key(link.key)?)? };
        for index in 0..link.peers_size {
            let [public, psk] = &*given.peer(index)?;
            known.add(peer(&own, public, psk)?).map_err(|_| Errno::EXIST)?;
        }
        Ok(Some(given))
    }

    /// The keys of a peer, as [`KeyMemory`] has them.
    #[allow(unsafe_code)]
    fn peer(&self, index: usize) -> Result<Zeroizing<[Key; 2]>, Errno> {
        // SAFETY: the invariant: there are `peers_size`, and each has the keys it points to.
        unsafe {
            let Peer { key, psk, .. } = raw::read_nth(self.link.peers, index)?;
            let mut keys = Zeroizing::new([*raw::key(key)?, [0; SEAPROX_KEY_SIZE]]);
            if !psk.is_null() {
                let given = raw::key(psk)?;
                // Of zeroes it would be none.
                Psk::from_bytes(*given).map_err(|_| Errno::INVAL)?;
                keys[1] = *given;
            }
            Ok(keys)
        }
    }
}

fn identity(key: &Key) -> Result<Identity, Errno> {
    Secret::from_bytes(*key).map(Identity::new).map_err(|_| Errno::INVAL)
}

fn peer(own: &Identity, public: &Key, psk: &Key) -> Result<keys::Peer, Errno> {
    let public = Public::from_bytes(*public).map_err(|_| Errno::INVAL)?;
    // Zeroes are none.
    let psk = Psk::from_random(*psk);
    keys::Peer::new(own, public, psk).map_err(|_| Errno::INVAL)
}

/// What this end's public key is.
///
/// # Errors
/// EINVAL: it is no secret.
pub(crate) fn public_of(key: &Key) -> Result<Key, Errno> {
    identity(key).map(|own| *own.public().bytes())
}

/// The cipher that is fast on this machine.
pub(crate) fn preferred() -> Algorithm {
    #[cfg(target_arch = "x86_64")]
    let is_aes_fast = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let is_aes_fast = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let is_aes_fast = false;
    Algorithm::preferred(is_aes_fast)
}

/// A thread's keys, as its links use them.
pub(crate) struct Keys<const LINKS: usize, const STREAMS: usize> {
    pub(crate) own: &'static Identity,
    peers: &'static mut [[Key; 2]],
    rest: Rest<LINKS, STREAMS>,
}

/// Where there is room for what they make of them.
struct Rest<const LINKS: usize, const STREAMS: usize> {
    known: &'static mut MaybeUninit<Peers<SEAPROX_PEERS_MAX>>,
    expected: &'static mut MaybeUninit<keys::Peer>,
    knocks: &'static mut MaybeUninit<Knocks>,
    keeper: &'static mut MaybeUninit<OwnKeeper>,
    streams: &'static mut [MaybeUninit<Streams>; LINKS],
    positions: &'static mut [[Position; STREAMS]; LINKS],
    packets: &'static mut [[u8; PACKET_BYTES]; LINKS],
    guests: &'static mut [MaybeUninit<Guest<AnyCarrier>>; GUESTS],
}

impl<const LINKS: usize, const STREAMS: usize> KeyMemory<LINKS, STREAMS> {
    /// Copies what C gave.
    ///
    /// # Errors
    /// None of those that [`Given::read`] has not given.
    #[allow(unsafe_code)]
    pub(crate) fn put(&mut self, given: &Given) -> Result<(), Errno> {
        // SAFETY: the invariant of what was given.
        self.own = *unsafe { raw::key(given.link.key)? };
        for (index, place) in (0..given.link.peers_size).zip(&mut self.peers) {
            *place = *given.peer(index)?;
        }
        self.peers_size = given.link.peers_size;
        Ok(())
    }

    /// What was put there; `None`: nothing.
    ///
    /// # Errors
    /// None: it was looked at.
    pub(crate) fn take(&'static mut self) -> Result<Option<Keys<LINKS, STREAMS>>, Errno> {
        let size = self.peers_size;
        let Some(peers) = self.peers.get_mut(..size).filter(|peers| !peers.is_empty()) else {
            return Ok(None);
        };
        let own = &*self.identity.write(identity(&self.own)?);
        let rest = Rest {
            known: &mut self.known,
            expected: &mut self.expected,
            knocks: &mut self.knocks,
            keeper: &mut self.keeper,
            streams: &mut self.streams,
            positions: &mut self.positions,
            packets: &mut self.packets,
            guests: &mut self.guests,
        };
        Ok(Some(Keys { own, peers, rest }))
    }
}

impl<const LINKS: usize, const STREAMS: usize> Keys<LINKS, STREAMS> {
    /// All peers, by their numbers.
    fn known(&self) -> Result<Peers<SEAPROX_PEERS_MAX>, Errno> {
        let mut known = Peers::new();
        for [public, psk] in &*self.peers {
            known.add(peer(self.own, public, psk)?).map_err(|_| Errno::EXIST)?;
        }
        Ok(known)
    }

    /// Who may come in over udp, and who wants to.
    ///
    /// # Errors
    /// None: they were looked at.
    pub(crate) fn door(
        self,
    ) -> Result<(&'static mut Peers<SEAPROX_PEERS_MAX>, &'static mut Knocks), Errno> {
        let known = self.known()?;
        Ok((self.rest.known.write(known), self.rest.knocks.write(Knocks::new())))
    }

    /// Who is at the far end of a link that goes out.
    ///
    /// # Errors
    /// None: it was looked at.
    pub(crate) fn expected(self) -> Result<(&'static keys::Peer, Unasked<LINKS, STREAMS>), Errno> {
        let Some([public, psk]) = self.peers.first() else { return Err(Errno::INVAL) };
        let expected = peer(self.own, public, psk)?;
        let Keys { own, rest, .. } = self;
        let Rest { expected: place, keeper, streams, positions, packets, .. } = rest;
        Ok((place.write(expected), Unasked { own, keeper, seats: (streams, positions, packets) }))
    }

    /// Of links that any of the peers may ask for, over a carrier that keeps order; and places for those who
    /// have not shown who they are.
    ///
    /// # Errors
    /// There is no chance to be had.
    pub(crate) fn answering(
        self,
        kind: Kind,
    ) -> Result<(&'static OwnKeeper, &'static mut [Guest<AnyCarrier>]), Errno> {
        let known = self.known()?;
        let Rest { keeper, streams, positions, packets, guests, .. } = self.rest;
        let keeper =
            &*keeper.write(OwnKeeper::answering(self.own, known, kind, preferred(), System)?);
        give(keeper, (streams, positions, packets));
        for guest in guests.iter_mut() {
            guest.write(Guest::new());
        }
        let guests: *mut [MaybeUninit<Guest<AnyCarrier>>] = guests;
        // SAFETY: each of them was written, and they are this thread's alone.
        #[allow(unsafe_code)]
        let guests = unsafe { &mut *(guests as *mut [Guest<AnyCarrier>]) };
        Ok((keeper, guests))
    }
}

/// Where the streams, positions and packets of sealed links lie.
type Seats<const LINKS: usize, const STREAMS: usize> = (
    &'static mut [MaybeUninit<Streams>; LINKS],
    &'static mut [[Position; STREAMS]; LINKS],
    &'static mut [[u8; PACKET_BYTES]; LINKS],
);

fn give<const LINKS: usize, const STREAMS: usize>(
    keeper: &OwnKeeper,
    (streams, positions, packets): Seats<LINKS, STREAMS>,
) {
    let parts = streams.iter_mut().zip(positions).zip(packets);
    for ((streams, positions), packet) in parts {
        keeper.give(Seat::of(streams.write(Streams::new()), positions, packet));
    }
}

/// What is left for a carrier that keeps order, of a link that goes out.
pub(crate) struct Unasked<const LINKS: usize, const STREAMS: usize> {
    own: &'static Identity,
    keeper: &'static mut MaybeUninit<OwnKeeper>,
    seats: Seats<LINKS, STREAMS>,
}

impl<const LINKS: usize, const STREAMS: usize> Unasked<LINKS, STREAMS> {
    /// Of links that ask this peer.
    pub(crate) fn asking(self, peer: &'static keys::Peer, kind: Kind) -> &'static OwnKeeper {
        let keeper = OwnKeeper::asking(self.own, peer, kind, preferred(), System);
        let keeper = &*self.keeper.write(keeper);
        give(keeper, self.seats);
        keeper
    }
}
