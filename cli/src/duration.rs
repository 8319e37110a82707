//! Durations as the user writes them: `500ms`, `3s`, `2m`, `1h`, `off`. Knows no clock.

use crate::endpoint::Refused;
use seaprox::time::DURATION_MILLIS_MAX;
use std::fmt;

/// How long something may take. Invariant: at most [`DURATION_MILLIS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// No limit.
    Off,
    /// So many milliseconds.
    Millis(u32),
}

/// Largest first, so that the first one that divides a span is the one that shows it best.
const UNITS: [(&str, u32); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    /// Reads a duration, or says why not.
    pub fn parse(text: &[u8]) -> Result<Span, Refused> {
        Self::read(text).map_err(|reason| Refused::new(text, reason))
    }

    fn read(text: &[u8]) -> Result<Span, &'static str> {
        const HOW: &str = "a duration is a whole number and its unit, like 500ms, 3s, 2m or 1h, \
            or `off`";
        if text == b"off" {
            return Ok(Span::Off);
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(HOW);
        }
        let Some((_, unit_millis)) = UNITS.iter().find(|(name, _)| name.as_bytes() == unit) else {
            return Err(if unit.is_empty() {
                "no unit: write ms, s, m or h after it"
            } else {
                HOW
            });
        };
        let number = number
            .iter()
            .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        number
            .and_then(|number| number.checked_mul(u64::from(*unit_millis)))
            .filter(|millis| *millis <= u64::from(DURATION_MILLIS_MAX))
            .map(|millis| Span::Millis(millis as u32))
            .ok_or("too long: at most 480h (20 days), or `off`")
    }

    /// The limit in milliseconds, if there is one.
    pub fn millis(self) -> Option<u32> {
        match self {
            Span::Off => None,
            Span::Millis(millis) => Some(millis),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Off => f.write_str("off"),
            Span::Millis(0) => f.write_str("0s"),
            Span::Millis(millis) => {
                let whole = UNITS.iter().find(|(_, unit)| millis % unit == 0);
                let (name, unit) = whole.unwrap_or(&("ms", 1));
                write!(f, "{}{name}", millis / unit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_unit() {
        let millis = |text: &str| Span::parse(text.as_bytes()).map(Span::millis);
        assert_eq!(millis("500ms"), Ok(Some(500)));
        assert_eq!(millis("3s"), Ok(Some(3000)));
        assert_eq!(millis("2m"), Ok(Some(120_000)));
        assert_eq!(millis("480h"), Ok(Some(DURATION_MILLIS_MAX)));
        assert_eq!(millis("0s"), Ok(Some(0)));
        assert_eq!(millis("off"), Ok(None));
    }

    #[test]
    fn refused_with_a_reason() {
        let reason = |text: &str| Span::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(reason("10"), "10: no unit: write ms, s, m or h after it");
        assert_eq!(reason("481h"), "481h: too long: at most 480h (20 days), or `off`");
        assert!(reason("99999999999999999999999999h").contains("too long"));
        for bad in ["", "s", "-1s", "1.5s", "1 s", "1S", "1d", "OFF", "１s"] {
            assert!(reason(bad).contains("like 500ms"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(millis in 0..=DURATION_MILLIS_MAX) {
            let span = Span::Millis(millis);
            prop_assert_eq!(Span::parse(span.to_string().as_bytes()), Ok(span));
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(span) = Span::parse(&text) {
                prop_assert_eq!(Span::parse(span.to_string().as_bytes()), Ok(span));
            }
        }
    }
}
