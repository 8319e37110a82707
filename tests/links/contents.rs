//! What channels carry: bytes that say whose they are and where they belong.

use std::sync::LazyLock;

/// The most bytes [`contents`] gives at a time. No multiple of any power of two, so that a chunk put in
/// the wrong place shows.
pub(crate) const PATTERN_BYTES: usize = 65_521;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = seaprox::sim::Random::new(7);
    let mut bytes: Vec<u8> = (0..PATTERN_BYTES).map(|_| random.bits() as u8).collect();
    bytes.extend_from_within(..PATTERN_BYTES);
    bytes
});

/// What a channel's bytes are from an offset on, in one direction: a function of its serial number.
pub(crate) fn contents(serial: usize, from: usize, offset: u64, bytes: usize) -> &'static [u8] {
    let start = (offset + (serial * 2 + from) as u64 * 7919) % PATTERN_BYTES as u64;
    &PATTERN[start as usize..][..bytes]
}
