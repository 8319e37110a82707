//! How long a datagram may be: search upward with probes, fall when long ones vanish (RFC 8899).
//! Sizes are bytes of UDP payload, packet header and tag included. Refuses to know what a probe is
//! made of, and believes no ICMP: a forged one changes nothing.
//!
//! Invariant: `LOWEST_BYTES <= datagram_bytes() <= limit`, and it rises only to what a probe that was
//! acknowledged had.

use crate::time::Micros;

/// What every path carries: 576 bytes less the headers of IPv4 and UDP (RFC 791, RFC 1122).
pub const LOWEST_BYTES: u16 = 548;

/// Where a link begins: what IPv6 guarantees, 1280 bytes less its headers (RFC 8200 section 5).
pub const BASE_BYTES: u16 = 1232;

/// What is tried, upward: LANs and most paths are Ethernet, tunnels take some off, and jumbo frames
/// are of 4 KiB pages or 9000 bytes.
const STEPS: [u16; 7] = [LOWEST_BYTES, BASE_BYTES, 1392, 1452, 1472, 4052, 8972];

/// So many probes of a size are lost before the path is taken not to carry it (MAX_PROBES).
const TRIES_MAX: u8 = 3;

/// The time between a lost probe and the next, in microseconds: a full queue is another one then.
pub const RETRY_MICROS: u64 = 250_000;

/// After so long a search that failed is made again, in microseconds (PMTU_RAISE_TIMER).
pub const RAISE_MICROS: u64 = 600_000_000;

/// After a fall, once the path carries anything, a search waits so long, in microseconds.
pub const SETTLE_MICROS: u64 = 1_000_000;

/// Long packets vanish so many times in a row, each time sent after the last was seen to be gone,
/// before the path is taken not to carry them any more.
const ROUNDS_MAX: u8 = 3;

/// So many probe timeouts in a row are taken for the same: then nothing at all comes through.
const TIMEOUTS_MAX: u32 = 3;

/// A probe under way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    number: u64,
    bytes: u16,
}

/// The search on one path.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    bytes: u16,
    limit: u16,
    /// The greatest of [`STEPS`] within the limit: nothing beyond is searched for.
    top: u16,
    /// At most one at a time.
    probe: Option<Probe>,
    /// Probes of the next size that were lost.
    tries: u8,
    /// When the next probe may go.
    due: Micros,
    /// It fell, and nothing was acknowledged since: the path may be dead, and probes would only be
    /// lost and give a wrong answer.
    is_waiting: bool,
    /// Probe timeouts in a row.
    timeouts: u32,
    /// Of packets longer than each of [`FLOORS`].
    vanished: [Vanished; FLOORS.len()],
}

/// What it falls to: both are watched, as a path may carry neither what goes over it at present nor what
/// is halfway.
const FLOORS: [u16; 2] = [BASE_BYTES, LOWEST_BYTES];

/// What became of packets that are too long for a path.
#[derive(Clone, Copy, Debug)]
struct Vanished {
    /// All numbers of those that came through are below.
    through_below: u64,
    /// Times in a row that such packets were lost and later ones that are short were not.
    rounds: u8,
    /// When the last of those times was seen.
    round_at: Micros,
}

impl Vanished {
    const NONE: Vanished = Vanished { through_below: 0, rounds: 0, round_at: Micros(0) };
}

const fn top_of(limit: u16) -> u16 {
    let mut at = STEPS.len() - 1;
    while at > 0 && STEPS[at] > limit {
        at -= 1;
    }
    STEPS[at]
}

impl Search {
    /// Begins at [`BASE_BYTES`], and searches at once up to `limit`: the least of what there is room
    /// for at both ends and what the interface carries; taken as [`LOWEST_BYTES`] if below.
    #[must_use]
    pub(crate) const fn new(limit: u16, now: Micros) -> Self {
        let limit = if limit < LOWEST_BYTES { LOWEST_BYTES } else { limit };
        Search {
            bytes: if limit < BASE_BYTES { limit } else { BASE_BYTES },
            limit,
            top: top_of(limit),
            probe: None,
            tries: 0,
            due: now,
            is_waiting: false,
            timeouts: 0,
            vanished: [Vanished::NONE; FLOORS.len()],
        }
    }

    /// How long a datagram may be at present, in bytes of UDP payload.
    #[inline]
    #[must_use]
    pub(crate) const fn datagram_bytes(&self) -> u16 {
        self.bytes
    }

    /// What the next probe would be; `None`: there is nothing greater to be tried.
    fn next_size(&self) -> Option<u16> {
        if self.bytes >= self.top {
            return None;
        }
        STEPS.into_iter().find(|&step| step > self.bytes && step <= self.limit)
    }

    /// When a probe is to be sent next; `None`: not before something else happens. O(1).
    #[must_use]
    pub(crate) fn due_at(&self) -> Option<Micros> {
        let is_idle = self.probe.is_none() && !self.is_waiting;
        self.next_size().filter(|_| is_idle).map(|_| self.due)
    }

    /// How long a probe, to be sent now, has to be. Send it whatever the congestion window says, in
    /// a packet of its own with nothing in it that is missed if it is lost, and do not take its loss
    /// for congestion (RFC 8899 section 3).
    #[must_use]
    pub(crate) fn probe_due(&self, now: Micros) -> Option<u16> {
        self.due_at().filter(|&due| due <= now).and_then(|_| self.next_size())
    }

    /// A probe of this length went out under this number.
    pub(crate) fn on_probe_sent(&mut self, number: u64, bytes: u16) {
        self.probe = Some(Probe { number, bytes });
    }

    /// A packet with this number was acknowledged, which was sent as a probe. Whether
    /// [`Search::datagram_bytes`] rose: the next probe is due at once then. A probe that is not
    /// under way any more changes nothing. [`Search::on_acked`] wants to know of it as well.
    pub(crate) fn on_probe_acked(&mut self, now: Micros, number: u64) -> bool {
        let Some(probe) = self.probe.take_if(|probe| probe.number == number) else { return false };
        self.tries = 0;
        self.due = now;
        let rises = probe.bytes > self.bytes && probe.bytes <= self.limit;
        if rises {
            self.bytes = probe.bytes;
        }
        rises
    }

    /// A packet with this number was lost, which was sent as a probe. While the path is dead it is
    /// not taken for an answer.
    pub(crate) fn on_probe_lost(&mut self, now: Micros, number: u64) {
        if self.probe.take_if(|probe| probe.number == number).is_none() {
            return;
        }
        self.due = now.after(RETRY_MICROS);
        if self.timeouts == 0 {
            self.tries += 1;
            if self.tries >= TRIES_MAX {
                self.give_up(now);
            }
        }
    }

    /// The next size is not carried, for some time.
    fn give_up(&mut self, now: Micros) {
        self.probe = None;
        self.tries = 0;
        self.due = now.after(RAISE_MICROS);
    }

    /// What it would fall to: shorter packets say nothing about longer ones.
    const fn below(&self) -> u16 {
        if self.bytes > BASE_BYTES { BASE_BYTES } else { LOWEST_BYTES }
    }

    /// A packet was acknowledged, probe or not: its number and its length as a datagram. O(1).
    #[inline]
    pub(crate) fn on_acked(&mut self, now: Micros, number: u64, bytes: u16) {
        self.timeouts = 0;
        if self.is_waiting {
            self.is_waiting = false;
            self.due = now.after(SETTLE_MICROS);
        }
        for (vanished, floor) in self.vanished.iter_mut().zip(FLOORS) {
            if bytes > floor && number >= vanished.through_below {
                vanished.through_below = number.saturating_add(1);
                vanished.rounds = 0;
            }
        }
    }

    /// A packet that was no probe is taken for lost: its number, its length as a datagram, and when
    /// it was sent. First tell of what the same ACK acknowledged. Whether
    /// [`Search::datagram_bytes`] fell: what is longer is to be sent again in pieces. O(1).
    ///
    /// A loss counts only if no long packet with a greater number came through: then it was none of
    /// its length.
    #[inline]
    #[must_use]
    pub(crate) fn on_lost(
        &mut self,
        now: Micros,
        number: u64,
        bytes: u16,
        sent_at: Micros,
    ) -> bool {
        let mut falls_to = None;
        for (vanished, floor) in self.vanished.iter_mut().zip(FLOORS) {
            let is_long = bytes > floor && bytes <= self.bytes;
            if !is_long || number < vanished.through_below {
                continue;
            }
            // Of one flight all may be lost at once, by a queue or a flap: one time.
            if vanished.rounds == 0 || sent_at >= vanished.round_at {
                vanished.rounds += 1;
                vanished.round_at = now;
            }
            if vanished.rounds >= ROUNDS_MAX {
                falls_to = falls_to.or(Some(floor));
            }
        }
        falls_to.is_some_and(|floor| self.fall(floor))
    }

    /// A probe timeout (RFC 9002 section 6.2) expired, so many in a row. Of the packets sent then let
    /// one be short: if it alone comes through, [`Search::on_lost`] soon knows why. Whether
    /// [`Search::datagram_bytes`] fell.
    #[must_use]
    pub(crate) fn on_timeout(&mut self, in_a_row: u32) -> bool {
        self.timeouts = in_a_row;
        in_a_row > 0 && in_a_row.is_multiple_of(TIMEOUTS_MAX) && self.fall(self.below())
    }

    /// The socket refused a datagram of this length, probe or not (EMSGSIZE): the interface carries
    /// less. Whether [`Search::datagram_bytes`] fell; it does at once.
    #[must_use]
    pub(crate) fn on_too_long(&mut self, now: Micros, bytes: u16) -> bool {
        let fits = STEPS.into_iter().rev().find(|&step| step < bytes).unwrap_or(LOWEST_BYTES);
        let falls = fits < self.bytes;
        if falls {
            self.bytes = fits;
            self.forget();
        }
        // If more is carried than before all the same, the refusal is of another time.
        if falls || self.next_size().is_some_and(|next| next >= bytes) {
            self.give_up(now);
        }
        falls
    }

    fn forget(&mut self) {
        self.vanished.iter_mut().for_each(|vanished| vanished.rounds = 0);
    }

    fn fall(&mut self, below: u16) -> bool {
        let falls = below < self.bytes;
        self.bytes = below.min(self.bytes);
        self.probe = None;
        self.tries = 0;
        self.forget();
        self.is_waiting = true;
        falls
    }
}

#[cfg(test)]
mod tests;
