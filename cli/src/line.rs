//! One line of text of a fixed size, on the stack: what the log, the exit and the last words of a
//! dying process are written into. It allocates nothing and never fails: what does not fit is cut.

use std::fmt;

/// What stands where something was cut.
const CUT: &str = "...";

/// What always fits: `...`, the quote of a value that was cut, and the newline.
const RESERVE_BYTES: usize = CUT.len() + 2;

/// A line of at most `BYTES` bytes, its newline included.
///
/// Invariant: `length + 4 <= BYTES` until something is cut, which takes 3, and a quote may be
/// closed once more; then the newline still fits. None of the bytes is a control character.
#[derive(Debug)]
pub struct Line<const BYTES: usize> {
    bytes: [u8; BYTES],
    length: usize,
    cut: bool,
}

impl<const BYTES: usize> Default for Line<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> Line<BYTES> {
    /// An empty line.
    pub const fn new() -> Self {
        const { assert!(BYTES >= 64) };
        Line { bytes: [0; BYTES], length: 0, cut: false }
    }

    /// Whether something did not fit. Nothing more is added then.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Adds `text`, which contains no control character, whole or not at all.
    pub(crate) fn push(&mut self, text: &str) {
        if self.cut {
            return;
        }
        if self.length + text.len() + RESERVE_BYTES > BYTES {
            self.append(CUT);
            self.cut = true;
            return;
        }
        self.append(text);
    }

    /// Ends a quoted value that began before anything was cut.
    pub(crate) fn close_quote(&mut self) {
        self.append("\"");
    }

    /// The line with its newline.
    pub fn end(&mut self) -> &[u8] {
        self.bytes[self.length] = b'\n';
        &self.bytes[..self.length + 1]
    }

    fn append(&mut self, text: &str) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
    }
}

/// Control characters become spaces: a line stays one line.
impl<const BYTES: usize> fmt::Write for Line<BYTES> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut utf8 = [0; 4];
        for character in text.chars() {
            let shown = if character.is_control() { ' ' } else { character };
            self.push(shown.encode_utf8(&mut utf8));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    proptest! {
        #[test]
        fn always_one_line_of_utf8_that_fits(texts in prop::collection::vec(".{0,40}", 0..6)) {
            let mut line = Line::<64>::new();
            for text in &texts {
                let opens = !line.is_cut();
                line.push("\"");
                let opens = opens && !line.is_cut();
                writeln!(line, "{text}").unwrap();
                if opens {
                    line.close_quote();
                }
            }
            let cut = line.is_cut();
            let line = str::from_utf8(line.end()).unwrap();
            prop_assert!(line.len() <= 64 && line.ends_with('\n'));
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
            prop_assert!(!cut || line.trim_end_matches(['\n', '"']).ends_with("..."));
            let shown = |c: char| if c.is_control() { 1 } else { c.len_utf8() };
            let whole: usize =
                texts.iter().map(|text| text.chars().map(shown).sum::<usize>() + 3).sum();
            prop_assert_eq!(cut, whole + 4 > 64, "{}", whole);
        }
    }
}
