//! When so many ask for links that they have to show first that their addresses are theirs. Knows no
//! handshake.
//!
//! Invariant: nobody whose address is not its own makes anybody else be left unheard.

use crate::time::Micros;
use core::net::IpAddr;
use twox_hash::XxHash3_64;

/// So many INITs a second are answered without a proof of their address; and while more come, so many of
/// each address that gave one.
const INITS_A_SECOND: u64 = 16;

const SECOND_MICROS: u64 = 1_000_000;
const INIT_MICROS: u64 = SECOND_MICROS / INITS_A_SECOND;

/// Addresses are told apart no better than this.
const SOURCES: usize = 64;

/// When all INITs so far would have come at the greatest rate that is no flood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    even_at: Micros,
}

impl Rate {
    pub(crate) const NEW: Rate = Rate { even_at: Micros(0) };

    /// One more; says whether more than [`INITS_A_SECOND`] came lately.
    pub(crate) fn count(&mut self, now: Micros) -> bool {
        let even_at = self.even_at.max(now).after(INIT_MICROS);
        // A flood is over at most a second after its end, however great it was.
        self.even_at = even_at.min(now.after(2 * SECOND_MICROS));
        self.is_exceeded(now)
    }

    fn is_exceeded(&self, now: Micros) -> bool {
        self.even_at > now.after(SECOND_MICROS)
    }
}

/// What has come lately.
#[derive(Debug)]
pub(crate) struct Flood {
    all: Rate,
    sources: [Rate; SOURCES],
    seed: u64,
}

impl Flood {
    /// Nothing. `seed`: unpredictable, so that nobody knows whose place is whose.
    pub(crate) const fn new(seed: u64) -> Self {
        Flood { all: Rate::NEW, sources: [Rate::NEW; SOURCES], seed }
    }

    /// Counts an INIT, and says whether more came lately than are answered without a proof. O(1).
    pub(crate) fn count(&mut self, now: Micros) -> bool {
        self.all.count(now)
    }

    /// Whether whoever is at this address has shown so and asked too often since. O(1).
    pub(crate) fn is_unheard(&self, from: IpAddr, now: Micros) -> bool {
        self.sources[self.place(from)].is_exceeded(now)
    }

    /// Counts an INIT whose address is its sender's. O(1).
    pub(crate) fn count_proven(&mut self, from: IpAddr, now: Micros) {
        let _ = self.sources[self.place(from)].count(now);
    }

    /// Of IPv6 whoever has one address has 2^64.
    fn place(&self, from: IpAddr) -> usize {
        let hash = match from.to_canonical() {
            IpAddr::V4(v4) => XxHash3_64::oneshot_with_seed(self.seed, &v4.octets()),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) >> 64;
                XxHash3_64::oneshot_with_seed(self.seed, &network.to_le_bytes())
            }
        };
        (hash % SOURCES as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn sixteen_a_second_are_no_flood() {
        let mut flood = Flood::new(1);
        let floods = |flood: &mut Flood, from: u64, every| {
            (0..1000).map(|n| flood.count(Micros(from + n * every))).filter(|is| *is).count()
        };
        assert_eq!(floods(&mut flood, 0, SECOND_MICROS / 16), 0);
        assert!(floods(&mut flood, 100 * SECOND_MICROS, SECOND_MICROS / 17) > 0);
        assert!(floods(&mut flood, 300 * SECOND_MICROS, 0) > 900);
        assert!(!flood.count(Micros(302 * SECOND_MICROS)), "it is over");
    }

    #[test]
    fn who_asks_too_often_is_unheard_and_others_are_not() {
        let mut flood = Flood::new(2);
        let now = Micros(5 * SECOND_MICROS);
        for _ in 0..16 {
            assert!(!flood.is_unheard(at(1), now));
            flood.count_proven(at(1), now);
        }
        flood.count_proven(at(1), now);
        assert!(flood.is_unheard(at(1), now));
        let others = (2..100).filter(|&last| flood.is_unheard(at(last), now)).count();
        assert!(others < 10, "{others} of 98 have the same place");
        assert!(!flood.is_unheard(at(1), now.after(SECOND_MICROS)));
    }

    #[test]
    fn of_ipv6_a_whole_network_is_one() {
        let flood = Flood::new(3);
        let place = |text: &str| flood.place(text.parse().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:ffff:ffff:ffff"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:1::1"));
    }
}
