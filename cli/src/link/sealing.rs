//! What sealed links over carriers that keep order need: keys, and memory, of which each thread takes its
//! own. Knows no socket.

use crate::carriers::Keeper;
use crate::exit::{ExitCode, fail};
use crate::keys::Keys;
use crate::memory::{MAX_NUM_PEERS, SealedMemory};
use crate::per_thread::OnePerThread;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::peers::Peers;
use seaprox_sealed::{Kind, Memory, Seat, System};
use std::io;

/// Of all threads.
#[derive(Clone, Copy)]
pub(super) struct Sealing {
    keys: &'static Keys,
    kind: Kind,
    seats: OnePerThread<Vec<Seat<'static>>>,
}

impl Sealing {
    /// Of so many links on each of so many threads, for as long as the process lives.
    pub(super) fn new(keys: &'static Keys, kind: Kind, threads: usize, links: usize) -> Sealing {
        let seat = || match kind {
            Kind::Sctp => Box::leak(Box::new(SealedMemory::new())).seat(),
            // There is one stream for everything.
            Kind::Seqpacket => Box::leak(Box::new(Memory::<1>::new())).seat(),
        };
        let seats = (0..threads).map(|_| (0..links).map(|_| seat()).collect());
        Sealing { keys, kind, seats: OnePerThread::of(seats) }
    }

    /// A thread's, for links that ask the only peer; `None`: it has taken it before.
    pub(super) fn asking(self, thread: usize) -> Option<&'static Keeper> {
        let peer = &self.keys.peers.first()?.peer;
        let keeper = Keeper::asking(&self.keys.identity, peer, self.kind, preferred(), System);
        self.keep(thread, keeper)
    }

    /// A thread's, for links that any of the peers may ask for; `None`: it has taken it before.
    pub(super) fn answering(self, thread: usize) -> Option<&'static Keeper> {
        let (own, peers) = (&self.keys.identity, peers(self.keys));
        let keeper = Keeper::answering(own, peers, self.kind, preferred(), System);
        let keeper = keeper.unwrap_or_else(|errno| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            fail(ExitCode::System, format_args!("getrandom: {error}"))
        });
        self.keep(thread, keeper)
    }

    fn keep(self, thread: usize, keeper: Keeper) -> Option<&'static Keeper> {
        let seats = self.seats.take(thread)?;
        let keeper: &'static Keeper = Box::leak(Box::new(keeper));
        seats.into_iter().for_each(|seat| keeper.give(seat));
        Some(keeper)
    }
}

/// All peers, by their numbers: those of [`Keys::peers`].
pub(super) fn peers(keys: &Keys) -> Peers<MAX_NUM_PEERS> {
    let mut peers = Peers::new();
    for known in &keys.peers {
        // Neither full nor twice: see there.
        let _ = peers.add(known.peer.clone());
    }
    peers
}

/// The cipher that is fast on this machine.
pub(super) fn preferred() -> Algorithm {
    #[cfg(target_arch = "x86_64")]
    let is_aes_fast = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let is_aes_fast = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let is_aes_fast = false;
    Algorithm::preferred(is_aes_fast)
}
