//! Every file of every corpus, on stable Rust.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = 0;
    for entry in folder.read_dir().expect("a corpus for each target") {
        let path = entry.expect("a readable folder").path();
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 5, "{} has hardly anything in it", folder.display());
}

#[test]
fn listen() {
    replay("listen", seaprox_fuzz::listen);
}

#[test]
fn target() {
    replay("target", seaprox_fuzz::target);
}

#[test]
fn duration() {
    replay("duration", seaprox_fuzz::duration);
}

#[test]
fn arguments() {
    replay("arguments", seaprox_fuzz::arguments);
}

#[test]
fn completion() {
    replay("completion", seaprox_fuzz::completion);
}
