//! How much the far end of a channel may send: credit, granted only against chunks that are reserved
//! for it, so a slow reader costs its own window and nobody else's. Knows no message.
//!
//! A window begins small and doubles while it is what holds the sender up: when half of it is used
//! within two round trips. It may take as much as half of what nobody has (a dynamic threshold, Choudhury
//! and Hahne, 1998): greedy channels come out even, and there is always something for one that comes
//! later. Credit that was granted cannot be taken back; a window that has become too large shrinks
//! as it is used.
//!
//! Invariant: the bytes a channel may still receive, and those that wait, fit its reservation.

use crate::channel::{Channel, Flags};
use crate::pool::{CHUNK_BYTES, Pool, chunks_for};
use seaprox::time::Instant;

/// The widest window.
pub const WINDOW_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// Faster than this is always fast, whatever the round trip: with small windows every message is
/// small, and each costs a call at either end (256 busy channels: 0.94 CPU-s/GB with 2 ms, 0.78 with
/// 10, no less with 40).
const FAST_MILLIS_MIN: u32 = 10;

/// So many times what is fast is slow for half a window: it is more than is needed.
const SLOW_FACTOR: u32 = 16;

/// What all channels of a session have in common.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// The first window of a channel, in bytes.
    pub(crate) initial_bytes: u32,
    /// Chunks that every channel has while it lives: those of the first window.
    pub(crate) base_chunks: u16,
    /// Of the link.
    pub(crate) round_trip_millis: u32,
}

/// The channel's first window, whose chunks are the slot's own and reserved already.
pub(crate) fn begin(channel: &mut Channel, terms: Terms, first_offset: u32, now: Instant) {
    channel.received = first_offset;
    channel.consumed = first_offset;
    channel.granted = first_offset.wrapping_add(terms.initial_bytes);
    channel.granted_at = now.as_millis() as u32;
    channel.window = terms.initial_bytes;
    channel.reserved = terms.base_chunks;
}

/// Chunks for all that may be in the queue before more is granted.
fn needed(channel: &Channel) -> u32 {
    let bytes = channel.granted.wrapping_sub(channel.consumed);
    chunks_for(channel.queue.skipped(), bytes)
}

/// Reserves exactly so many; `false`, and nothing happened, if they are not there.
fn hold(channel: &mut Channel, pool: &mut Pool<'_>, chunks: u32) -> bool {
    let held = u32::from(channel.reserved);
    if chunks < held {
        pool.release(held - chunks);
    } else if !pool.reserve(chunks - held) {
        return false;
    }
    channel.reserved = chunks as u16;
    true
}

/// Nothing more will be kept: gives back what is beyond the slot's own.
pub(crate) fn end(channel: &mut Channel, pool: &mut Pool<'_>, terms: Terms) {
    hold(channel, pool, u32::from(terms.base_chunks));
}

/// The far end has sent all up to `end`, which it had credit for: that is where credit ends now.
pub(crate) fn close(channel: &mut Channel, pool: &mut Pool<'_>, terms: Terms, end: u32) {
    channel.granted = end;
    let chunks = needed(channel).max(u32::from(terms.base_chunks));
    hold(channel, pool, chunks);
}

/// Some bytes were consumed: moves credit on if that is worth a message, and says whether it did.
pub(crate) fn advance(
    channel: &mut Channel,
    pool: &mut Pool<'_>,
    terms: Terms,
    now: Instant,
) -> bool {
    let base = u32::from(terms.base_chunks);
    let needs = needed(channel).max(base);
    hold(channel, pool, needs);
    let left = channel.granted.wrapping_sub(channel.consumed);
    if left > channel.window / 2 || channel.flags.any(Flags::LAST_RECEIVED | Flags::DROPPING) {
        return false;
    }
    let cap = (pool.unreserved() / 2).max(base);
    let window = next_window(channel, terms, cap, now);
    let skipped = channel.queue.skipped();
    let chunks = chunks_for(skipped, window).min(cap.max(needs));
    let fits = (chunks * CHUNK_BYTES as u32).saturating_sub(u32::from(skipped));
    let ahead = window.min(fits);
    // The rest of a chunk that is nearly used up is not worth it.
    if ahead < left || ahead - left < ahead.div_ceil(2) {
        return false;
    }
    if !hold(channel, pool, chunks.max(needs)) {
        return false;
    }
    channel.granted = channel.consumed.wrapping_add(ahead);
    channel.granted_at = now.as_millis() as u32;
    channel.window = window;
    true
}

/// The window after half of the last one was used.
fn next_window(channel: &Channel, terms: Terms, cap_chunks: u32, now: Instant) -> u32 {
    let elapsed = (now.as_millis() as u32).wrapping_sub(channel.granted_at);
    // What fills a window arrives a round trip after it was granted, and a little.
    let fast = (2 * terms.round_trip_millis).max(FAST_MILLIS_MIN);
    let wanted = if elapsed <= fast {
        channel.window.saturating_mul(2)
    } else if elapsed > fast.saturating_mul(SLOW_FACTOR) {
        channel.window / 2
    } else {
        channel.window
    };
    let cap = cap_chunks.saturating_mul(CHUNK_BYTES as u32).min(WINDOW_BYTES_MAX);
    wanted.min(cap).max(terms.initial_bytes)
}
