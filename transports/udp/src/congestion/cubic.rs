//! CUBIC (RFC 9438): after a loss the window rises fast to what it was, lingers there, then looks for
//! more, by a cubic of the time; never slower than Reno would. Knows nothing of rates.
//!
//! Invariant: the clock of the cubic runs only while the window is used (RFC 9438 section 5.8).

use super::window::Window;
use super::{AckEnd, AckedPacket, Lost, Stamp, scaled};
use crate::time::Micros;

/// What is left of the window after a congestion event, in tenths (section 4.6).
const BETA_TENTHS: u64 = 7;

/// What Reno's window grows by each round trip to match that, in seventeenths of a datagram:
/// 3 (1 - beta) / (1 + beta) (section 4.3).
const ALPHA: (u64, u64) = (9, 17);

/// Far beyond any epoch; keeps the cube within 128 bits.
const SPAN_MICROS_MAX: u64 = 1_000_000_000;

/// A curve since the last congestion event.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Where the curve is flat, in bytes.
    top: u64,
    /// When it is, in microseconds of the epoch (K).
    top_at: u64,
    /// How long it has lasted, in microseconds.
    elapsed: u64,
    /// What Reno would have, in bytes.
    reno: u64,
    /// What is left of the divisions, in bytes acknowledged times bytes to grow.
    rest: u64,
}

/// The controller of one path.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    window: Window,
    epoch: Option<Epoch>,
    /// The window before the last congestion event (cwnd_prior), and the top of the next curve
    /// (W_max); 0 before any.
    prior: u64,
    top: u64,
    acked_at: Micros,
}

impl Cubic {
    pub(super) fn new(datagram: u64, now: Micros) -> Cubic {
        let window = Window::new(datagram, now);
        Cubic { window, epoch: None, prior: 0, top: 0, acked_at: now }
    }

    pub(super) fn on_sent(&mut self, _now: Micros, bytes: u32, in_flight_before: u64) -> Stamp {
        self.window.on_sent(bytes, in_flight_before);
        Stamp::default()
    }

    pub(super) fn on_acked(&mut self, now: Micros, packet: &AckedPacket) {
        let acked = self.window.on_acked(packet);
        if acked > 0 {
            self.grow(now, acked);
        }
    }

    /// Section 4.2 to 4.5.
    fn grow(&mut self, now: Micros, acked: u64) {
        let datagram = self.window.datagram;
        let window = self.window.bytes;
        let rtt = self.window.rtt_smoothed();
        // An acknowledgement each round trip or more: more than one is a pause, not growth.
        let step = now.since(self.acked_at).min(rtt.max(1));
        self.acked_at = now;
        let top = self.top.max(window);
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            top,
            top_at: time_to_rise(top - window, datagram),
            elapsed: 0,
            reno: window,
            rest: 0,
        });
        epoch.elapsed = epoch.elapsed.saturating_add(step);
        let (more, of) = if epoch.reno >= self.prior { (1, 1) } else { ALPHA };
        epoch.reno =
            epoch.reno.saturating_add(scaled(datagram * more, acked, window.saturating_mul(of)));
        if curve(epoch, epoch.elapsed, datagram) < epoch.reno {
            self.window.bytes = window.max(epoch.reno);
            return;
        }
        let ahead = epoch.elapsed.saturating_add(rtt);
        let target = curve(epoch, ahead, datagram).clamp(window, window.saturating_add(window / 2));
        let due = (target - window).saturating_mul(acked).saturating_add(epoch.rest);
        epoch.rest = due % window;
        self.window.bytes = window.saturating_add(due / window);
    }

    pub(super) fn on_ack_end(&mut self, now: Micros, ack: &AckEnd) {
        self.acked_at = now;
        self.window.on_ack_end(now, ack);
    }

    pub(super) fn on_lost(&mut self, now: Micros, lost: &Lost) {
        self.on_ce(now, lost.largest_lost_sent_at);
        if lost.persistent {
            self.window.collapse();
            self.epoch = None;
        }
    }

    pub(super) fn on_ce(&mut self, now: Micros, sent_at: Micros) {
        if !self.window.begin_recovery(now, sent_at) {
            return;
        }
        let window = self.window.bytes;
        // Fast convergence (section 4.7): one that had to shrink further leaves room for others.
        self.top = if window < self.top { scaled(window, 10 + BETA_TENTHS, 20) } else { window };
        self.prior = window;
        self.epoch = None;
        self.window.shrink_to(scaled(window, BETA_TENTHS, 10));
    }

    pub(super) fn on_app_limited(&mut self, _in_flight: u64) {}

    pub(super) fn on_datagram_bytes(&mut self, bytes: u64) {
        // The curve is in datagrams: of another length it is another curve.
        if self.window.on_datagram_bytes(bytes) {
            self.epoch = None;
        }
    }

    pub(super) fn window_bytes(&self) -> u64 {
        self.window.bytes
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        self.window.pacing_rate()
    }
}

/// W_cubic(t), in bytes: C (t - K)^3 + W_max with C of 0.4 datagrams per cubed second.
fn curve(epoch: &Epoch, elapsed: u64, datagram: u64) -> u64 {
    let span = elapsed.abs_diff(epoch.top_at).min(SPAN_MICROS_MAX);
    let cube = u128::from(span).pow(3) / 1_000_000_000_000;
    let off = u64::try_from(cube * u128::from(datagram) * 4 / 10_000_000).unwrap_or(u64::MAX);
    if elapsed < epoch.top_at {
        epoch.top.saturating_sub(off)
    } else {
        epoch.top.saturating_add(off)
    }
}

/// K, in microseconds: how long the curve takes to rise so many bytes to its top.
fn time_to_rise(bytes: u64, datagram: u64) -> u64 {
    let cube = u128::from(bytes) * 10_000_000_000_000_000_000 / (4 * u128::from(datagram.max(1)));
    cube_root(cube).min(SPAN_MICROS_MAX)
}

/// The largest whole number whose cube is no more, one bit after the other.
fn cube_root(of: u128) -> u64 {
    let mut root = 0u128;
    for bit in (0..42).rev() {
        let next = root | (1 << bit);
        if next * next * next <= of {
            root = next;
        }
    }
    root as u64
}
