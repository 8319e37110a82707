//! Bytes from outside, written on one line: nothing a user typed can break a line, a terminal or a
//! log. Knows nothing of what the bytes mean.

use std::fmt;

/// Shows at most this many characters.
const CHARACTERS_MAX: usize = 80;

/// Bytes as an error shows them: control characters escaped, what is not UTF-8 replaced, what is
/// too long cut with `...`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'b>(pub &'b [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = CHARACTERS_MAX;
        for character in characters(self.0) {
            if left == 0 {
                return f.write_str("...");
            }
            left -= 1;
            write_character(f, character)?;
        }
        Ok(())
    }
}

/// Writes all of `bytes`, control characters escaped.
pub fn write_whole(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    characters(bytes).try_for_each(|character| write_character(f, character))
}

fn characters(bytes: &[u8]) -> impl Iterator<Item = char> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let replaced = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(replaced)
    })
}

fn write_character(f: &mut impl fmt::Write, character: char) -> fmt::Result {
    if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
        write!(f, "{}", character.escape_default())
    } else {
        f.write_char(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_one_short_line() {
        assert_eq!(Shown(b"a:80").to_string(), "a:80");
        assert_eq!(Shown(b"a\n\x1b[2Jb\xff").to_string(), "a\\n\\u{1b}[2Jb\u{fffd}");
        assert_eq!(Shown(b"").to_string(), "");
        let long = Shown(&[b'x'; 1000]).to_string();
        assert_eq!(long.len(), CHARACTERS_MAX + 3);
        assert!(long.ends_with("x..."));
    }
}
