//! What a client or a backend means to do, and the bytes it sends. Knows neither what became of it nor
//! a socket.

use seaprox::sim::Random;
use std::sync::LazyLock;

/// The largest stream.
pub(crate) const STREAM_BYTES_MAX: usize = 300_000;

/// Every stream is a part of this, behind its sender's number.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(7);
    (0..2 * STREAM_BYTES_MAX).map(|_| random.bits() as u8).collect()
});

/// The sender's number goes first, in so many bytes.
pub(crate) const HEAD_BYTES: usize = 2;

/// The stream that player `id` sends, from `from` on.
pub(crate) fn stream(id: usize, from: usize, bytes: usize) -> impl Iterator<Item = u8> {
    let start = id * 7919 % STREAM_BYTES_MAX;
    let head = (id as u16).to_le_bytes();
    (from..from + bytes).map(move |at| match head.get(at) {
        Some(&byte) => byte,
        None => PATTERN[start + at],
    })
}

/// What it means to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How much it sends.
    pub(crate) total: usize,
    /// How much of it at a time, and how long it waits in between.
    pub(crate) write_bytes: usize,
    pub(crate) gap_millis: u32,
    /// Where it sends an urgent byte, which is no part of the stream.
    pub(crate) urgent_at: Option<usize>,
    /// It does not read on for so long, once it has read so much.
    pub(crate) stall: Option<(usize, u32)>,
    /// How long it waits with its FIN.
    pub(crate) linger_millis: u32,
    /// It sends its FIN only after the other's.
    pub(crate) patient: bool,
    /// It leaves early.
    pub(crate) leave: Option<(When, How)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// So much of what goes before its stream.
    Said(usize),
    Sent(usize),
    Received(usize),
    After(u32),
}

/// How it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Reset,
    Close,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random, may_be_patient: bool) -> Plan {
        let total = match random.below(8) {
            0 => 0,
            1 | 2 => random.between(HEAD_BYTES, 64),
            3 | 4 => random.between(HEAD_BYTES, 4096),
            _ => random.scaled(STREAM_BYTES_MAX).max(HEAD_BYTES),
        };
        let write_bytes = random.scaled(1 << 16).max(total / 100).max(1);
        let few_writes = total / write_bytes < 20;
        let mut maybe =
            |times, most| if random.below(times) == 0 { random.scaled(most) } else { 0 };
        let gap_millis = if few_writes { maybe(3, 200) as u32 } else { 0 };
        let linger_millis = maybe(4, 2000) as u32;
        let stall_millis = maybe(4, 4000) as u32;
        let stall = (stall_millis > 0).then(|| (random.below(100_000), stall_millis));
        let urgent = total > 8 && random.below(12) == 0;
        let urgent_at = urgent.then(|| random.between(HEAD_BYTES, total - 1));
        let patient = may_be_patient && random.below(3) == 0;
        let when = match random.below(8) {
            0 => Some(When::Sent(random.below(total + 1))),
            1 => Some(When::Received(random.scaled(STREAM_BYTES_MAX))),
            2 => Some(When::After(random.scaled(3000) as u32)),
            _ => None,
        };
        let leave = when.map(|when| (when, How::draw(random)));
        Plan { total, write_bytes, gap_millis, urgent_at, stall, linger_millis, patient, leave }
    }
}

impl How {
    pub(crate) fn draw(random: &mut Random) -> How {
        random.pick(&[How::Reset, How::Close])
    }
}
