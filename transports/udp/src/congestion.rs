//! How much may be under way on one path, and how fast it should leave: three controllers behind one
//! face. Knows packets only by their size and when they were sent; no socket, no packet number, no
//! timer (RFC 9002 section 7).
//!
//! Invariants: the window is never below `WINDOW_DATAGRAMS_MIN` datagrams and the pacing rate never
//! 0, whatever it is told; the state is fixed, integers only, and every call is O(1).

use crate::time::Micros;

mod bbr;
mod cubic;
mod hystart;
mod newreno;
mod rate;
mod window;

use bbr::Bbr;
use cubic::Cubic;
use newreno::NewReno;

/// What a path may carry before anything is known of it, in datagrams (RFC 9002 section 7.2).
pub(crate) const WINDOW_DATAGRAMS_INITIAL: u64 = 10;

/// What a path may always carry, in datagrams (RFC 9002 section 7.2).
pub(crate) const WINDOW_DATAGRAMS_MIN: u64 = 2;

/// Which controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 9002 appendix B: one datagram more a round trip, half on a loss. The yardstick.
    NewReno,
    /// RFC 9438, with HyStart++ (RFC 9406): what most of the net does.
    Cubic,
    /// Sends at the rate that was seen to arrive, so that loss below 2 % does not slow it
    /// (draft-ietf-ccwg-bbr, version 3).
    Bbr,
}

impl Algorithm {
    /// All of them, as a command line may offer them.
    pub const ALL: [Algorithm; 3] = [Algorithm::NewReno, Algorithm::Cubic, Algorithm::Bbr];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::NewReno => "newreno",
            Algorithm::Cubic => "cubic",
            Algorithm::Bbr => "bbr",
        }
    }
}

/// What has to be kept of each packet that was sent, for the sample of the delivery rate that its
/// acknowledgement is (draft-cheng-iccrg-delivery-rate-estimation). Counters of bytes and of
/// microseconds that wrap: one packet is never under way for an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Bytes delivered when it was sent.
    pub(crate) delivered: u32,
    /// When the last of those was.
    pub(crate) delivered_at: u32,
    /// When the packet was sent whose acknowledgement that was.
    pub(crate) first_sent_at: u32,
    /// Bytes under way with it, and in the lowest bit whether the sender had too little to send.
    pub(crate) flight: u32,
}

const _: () = assert!(size_of::<Stamp>() <= 16);

/// A packet that was acknowledged, and was not before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckedPacket {
    /// Its size on the wire.
    pub(crate) bytes: u32,
    /// When it was sent.
    pub(crate) sent_at: Micros,
    /// What [`Congestion::on_sent`] returned for it.
    pub(crate) stamp: Stamp,
}

/// What an acknowledgement says beyond its packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckEnd {
    /// Round trip of its largest packet, in microseconds, if that was newly acknowledged.
    pub(crate) rtt_latest: Option<u64>,
    /// The smallest round trip seen on this path, in microseconds.
    pub(crate) rtt_min: u64,
    /// The smoothed round trip, in microseconds.
    pub(crate) rtt_smoothed: u64,
    /// Bytes under way after it.
    pub(crate) in_flight: u64,
    /// When the largest packet it acknowledges was sent.
    pub(crate) largest_acked_sent_at: Micros,
}

/// Packets that were declared lost together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    /// Their size on the wire, all together.
    pub(crate) bytes: u64,
    /// When the last of them was sent.
    pub(crate) largest_lost_sent_at: Micros,
    /// They span so long that the path counts as gone (RFC 9002 section 7.6).
    pub(crate) persistent: bool,
}

/// The controller of one path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion(Kind);

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a link, in fixed memory that must fit any of them"
)]
enum Kind {
    NewReno(NewReno),
    Cubic(Cubic),
    Bbr(Bbr),
}

/// Calls the controller that there is.
macro_rules! each {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            Kind::NewReno($one) => $call,
            Kind::Cubic($one) => $call,
            Kind::Bbr($one) => $call,
        }
    };
}

impl Congestion {
    /// For a path of which nothing is known but what a datagram may carry.
    pub(crate) fn new(algorithm: Algorithm, datagram_bytes: u32, now: Micros) -> Congestion {
        let datagram = u64::from(datagram_bytes.max(1));
        Congestion(match algorithm {
            Algorithm::NewReno => Kind::NewReno(NewReno::new(datagram, now)),
            Algorithm::Bbr => Kind::Bbr(Bbr::new(datagram, now)),
            Algorithm::Cubic => Kind::Cubic(Cubic::new(datagram, now)),
        })
    }

    /// A packet that asks for an acknowledgement leaves, with so many bytes under way before it. What
    /// is returned belongs to the packet until it is acknowledged or lost.
    pub(crate) fn on_sent(&mut self, now: Micros, bytes: u32, in_flight_before: u64) -> Stamp {
        each!(&mut self.0, one => one.on_sent(now, bytes, in_flight_before))
    }

    /// A packet was acknowledged; those of one acknowledgement come by rising numbers, before
    /// [`Congestion::on_lost`] for what it showed to be lost and [`Congestion::on_ack_end`].
    pub(crate) fn on_acked(&mut self, now: Micros, packet: &AckedPacket) {
        each!(&mut self.0, one => one.on_acked(now, packet));
    }

    /// An acknowledgement has been read to its end. Once for each that acknowledged anything new.
    pub(crate) fn on_ack_end(&mut self, now: Micros, ack: &AckEnd) {
        each!(&mut self.0, one => one.on_ack_end(now, ack));
    }

    /// Packets were declared lost. Once for each time that any were.
    pub(crate) fn on_lost(&mut self, now: Micros, lost: &Lost) {
        each!(&mut self.0, one => one.on_lost(now, lost));
    }

    /// The other end reports packets that were marked on the way (RFC 3168); `sent_at` is when the
    /// largest packet acknowledged with that report was sent.
    pub(crate) fn on_ce(&mut self, now: Micros, sent_at: Micros) {
        each!(&mut self.0, one => one.on_ce(now, sent_at));
    }

    /// There is nothing more to send although the window has room: what arrives in the next round
    /// trip says nothing of what the path can carry.
    pub(crate) fn on_app_limited(&mut self, in_flight: u64) {
        each!(&mut self.0, one => one.on_app_limited(in_flight));
    }

    /// A datagram may now carry so much; as much as before changes nothing.
    pub(crate) fn on_datagram_bytes(&mut self, bytes: u32) {
        each!(&mut self.0, one => one.on_datagram_bytes(u64::from(bytes.max(1))));
    }

    /// How many bytes may be under way.
    pub(crate) fn window_bytes(&self) -> u64 {
        each!(&self.0, one => one.window_bytes())
    }

    /// How fast they should leave, in bytes per second; never 0.
    pub(crate) fn pacing_rate(&self) -> u64 {
        each!(&self.0, one => one.pacing_rate()).max(1)
    }
}

/// `a * b / c` without overflow; everything for `c` of 0 is as for 1.
fn scaled(a: u64, b: u64, c: u64) -> u64 {
    let c = c.max(1);
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => u64::try_from(u128::from(a) * u128::from(b) / u128::from(c)).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
#[path = "congestion_tests.rs"]
mod tests;
