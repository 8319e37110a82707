//! What links take beside, in a program that is an end of some. It is asked of the system at start,
//! before the heap is sealed, as no other program needs it.

use super::{MAX_NUM_CONNECTIONS, MAX_NUM_LINKS, MAX_NUM_PEERS, NUM_THREADS, SIZES, is_close};
use crate::bound::{
    asking_bytes, link_channels, link_chunks, links_bytes, seats_for, udp_bytes, udp_slots,
};
use crate::carriers::{AnyCarrier, Keeper};
use crate::limits::Part;
use crate::talk::Seat;
use seaprox::wanted::Wish;
use seaprox_noise::peers::Peers;
use seaprox_proto::carrier::PeerNumber;
use seaprox_proto::link;
use seaprox_proto::source::{Account, Guest};
use seaprox_tcp::Places;
use seaprox_udp::hub::Hub;
use seaprox_udp::knocks::Knocks;
use seaprox_udp::reliable;
use seaprox_udp::socket::{RECEIVE_BYTES, UdpSocket};

/// What one link uses.
pub type LinkMemory = link::LinkMemory<
    { link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) },
    { link_chunks(MAX_NUM_CONNECTIONS, NUM_THREADS) },
>;

/// What one sealed link uses beside, over a carrier that keeps order: over SCTP there is a stream for the
/// link and one for each channel that either end may open.
pub type SealedMemory =
    seaprox_sealed::Memory<{ 1 + 2 * link_channels(MAX_NUM_CONNECTIONS, NUM_THREADS) }>;

/// Places of each thread for those who have connected and not shown yet who they are. A handshake takes a
/// round trip and a half, so of honest ones there are few at once.
pub const GUESTS: usize = 16;

/// What the links of a thread take, with the names that an ingress may ask an egress for, and its peers.
const THREAD_BYTES: usize = MAX_NUM_LINKS * (size_of::<LinkMemory>() + SealedMemory::MEMORY_BYTES)
    + GUESTS * size_of::<Guest<AnyCarrier>>()
    + size_of::<Keeper>()
    + MAX_NUM_PEERS * size_of::<Account>()
    + MAX_NUM_CONNECTIONS.div_ceil(NUM_THREADS) * size_of::<PeerNumber>()
    + Places::MEMORY_BYTES;

/// What the links of all threads take.
const LINKS_BYTES: usize = NUM_THREADS * THREAD_BYTES;

/// What one link over udp uses beside.
pub type UdpMemory = reliable::Memory<
    { udp_slots(MAX_NUM_CONNECTIONS, NUM_THREADS) },
    { 2 * udp_slots(MAX_NUM_CONNECTIONS, NUM_THREADS) },
>;

/// What the links of one thread share, if they are over udp.
pub type UdpHub = Hub<'static, UdpSocket>;

/// What links over udp take beside that.
const UDP_BYTES: usize = NUM_THREADS
    * (MAX_NUM_LINKS * UdpMemory::MEMORY_BYTES
        + size_of::<UdpHub>()
        + RECEIVE_BYTES
        + size_of::<Knocks>()
        + size_of::<Peers<MAX_NUM_PEERS>>());

/// What an ingress takes beside whose clients say where they want to go: their seats, and what those want
/// who wait for the link.
const ASKING_BYTES: usize = NUM_THREADS
    * seats_for(MAX_NUM_CONNECTIONS, NUM_THREADS)
    * (size_of::<Seat>() + size_of::<Wish>());

/// The same, to be shown.
pub(super) const LINKS_PARTS: &[Part] = &[
    Part { name: "links beside, in ingress and egress", bytes: LINKS_BYTES },
    Part { name: "and if they are over udp", bytes: UDP_BYTES },
    Part { name: "handshakes beside, if an ingress has any", bytes: ASKING_BYTES },
];

const _: () = assert!(is_close(asking_bytes(MAX_NUM_CONNECTIONS, NUM_THREADS), ASKING_BYTES));
const _: () = assert!(is_close(links_bytes(SIZES), LINKS_BYTES));
const _: () = assert!(is_close(udp_bytes(SIZES), UDP_BYTES));
