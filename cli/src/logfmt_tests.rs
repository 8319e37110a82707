use super::*;
use proptest::prelude::*;

#[test]
fn times_are_those_of_the_calendar() {
    let shown = |seconds: u64| Utc { millis: seconds * 1000 + 7 }.to_string();
    assert_eq!(shown(0), "1970-01-01T00:00:00.007Z");
    assert_eq!(shown(951_782_400), "2000-02-29T00:00:00.007Z");
    assert_eq!(shown(951_868_799), "2000-02-29T23:59:59.007Z");
    assert_eq!(shown(951_868_800), "2000-03-01T00:00:00.007Z");
    assert_eq!(shown(1_735_689_599), "2024-12-31T23:59:59.007Z");
    assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00.007Z");
}

/// Splits a logfmt line as its readers do; `None` when it is none.
fn fields(line: &str) -> Option<Vec<(String, String)>> {
    let mut rest = line.strip_suffix('\n')?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            rest = loop {
                match characters.next()? {
                    (at, '"') => break &quoted[at + 1..],
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        't' => '\t',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            value.push_str(&after[..end]);
            rest = &after[end..];
        }
        fields.push((key.into(), value));
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    Some(fields)
}

proptest! {
    #[test]
    fn every_line_is_logfmt_that_fits(
        values in prop::collection::vec("[ -~\n\té]{0,200}|\\PC{0,300}", 0..5),
    ) {
        let mut line = Line::new();
        begin(&mut line, true, Level::Info);
        for value in &values {
            add_field(&mut line, "k", value);
        }
        let cut = line.is_cut();
        let line = str::from_utf8(line.end()).unwrap();
        prop_assert!(line.len() <= LINE_BYTES);
        prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
        let read = if cut { None } else { Some(fields(line).unwrap()) };
        if let Some(read) = read {
            let read: Vec<_> = read[1..].iter().map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
