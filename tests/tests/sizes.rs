//! The sizes are chosen when the program is built: what is wrong is said then, in words, and what
//! is right is what the program has.

use seaprox_tests::program::workspace;
use std::process::{Command, Output};

/// Builds the program with these sizes, in a folder of its own that stays for the next time.
fn build(connections: &str, threads: &str) -> Output {
    let target = target().to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args(["build", "--package", "seaprox-cli", "--target-dir", &target])
        .env("SEAPROX_MAX_NUM_CONNECTIONS", connections)
        .env("SEAPROX_NUM_THREADS", threads)
        .current_dir(workspace())
        .output()
        .expect("cargo can be run")
}

fn target() -> &'static str {
    concat!(env!("CARGO_TARGET_TMPDIR"), "/sizes")
}

/// One test, as all of them use the same folder.
#[test]
fn sizes_are_chosen_at_build_time() {
    for (connections, threads, names) in [
        ("many", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("0", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("-1", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("99999999999999999999", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("4", "", "SEAPROX_NUM_THREADS"),
        ("4", "0", "SEAPROX_NUM_THREADS"),
        ("1", "2", "SEAPROX_NUM_THREADS"),
    ] {
        let output = build(connections, threads);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{connections:?} and {threads:?} are taken");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.iter().any(|line| line.contains(names)), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }

    let output = build("5", "2");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("5 connections on 2 threads"), "the bound is not printed: {said}");
    let program = format!("{}/debug/seaprox", target());
    let limits = seaprox_tests::run(&[&program, "limits"]);
    let sizes: Vec<_> = limits
        .lines()
        .filter(|line| line.contains("SEAPROX_"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(sizes, ["5", "2"], "{limits}");
    // What the build promised holds, and is not far off.
    let total = limits.lines().find(|line| line.trim_start().starts_with("total"));
    let total = total.and_then(|line| line.split_whitespace().nth(1)).expect("a total");
    let (_, bound) = said.split_once("at most ").expect("a bound");
    let bound = bound.split_whitespace().next().expect("a number");
    let [total, bound] = [total, bound].map(|number| number.parse::<u64>().expect("a number"));
    assert!((total..total + 16 * 1024).contains(&bound), "promised {bound}, has {total}");
}
