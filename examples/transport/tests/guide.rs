//! docs/embedding.md shows parts of this package as they are. (Its other programs are compiled and run as
//! documentation tests of the library.)

use std::path::Path;

/// Each block of `rs` is in the file that the line before it names, but for indentation.
#[test]
fn the_guide_quotes_this_package() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(package.join("../../docs/embedding.md")).unwrap();
    let (mut quotes, mut rest) = (0, guide.as_str());
    while let Some((before, after)) = rest.split_once("```rs\n") {
        let named = before.trim_end().lines().last().unwrap();
        let file = named.split('`').find(|word| word.starts_with("src/"));
        let file = file.unwrap_or_else(|| panic!("no file is named: {named}"));
        let (block, after) = after.split_once("```").unwrap();
        let source = std::fs::read_to_string(package.join(file)).unwrap();
        for part in block.split("// ..\n") {
            let (part, source) = (plain(part), plain(&source));
            assert!(!part.is_empty() && source.contains(&part), "{file} has not:\n{part}");
        }
        (quotes, rest) = (quotes + 1, after);
    }
    assert!(quotes > 3, "there are {quotes}");
}

fn plain(text: &str) -> String {
    text.lines().map(|line| line.trim().to_owned() + "\n").collect()
}
