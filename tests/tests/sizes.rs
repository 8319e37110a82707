//! The sizes are chosen when the program is built: what is wrong is said then, in words, and what
//! is right is what the program has.

use seaprox_tests::ends::vacant_path;
use seaprox_tests::keys::{self, Which};
use seaprox_tests::peer::vacant_port;
use seaprox_tests::program::workspace;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

/// Builds the program with these sizes, in a folder of its own that stays for the next time.
fn build(connections: &str, threads: &str, peers: &str, links: &str) -> Output {
    let target = target().to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args(["build", "--package", "seaprox-cli", "--target-dir", &target])
        .env("SEAPROX_MAX_NUM_CONNECTIONS", connections)
        .env("SEAPROX_NUM_THREADS", threads)
        .env("SEAPROX_MAX_NUM_PEERS", peers)
        .env("SEAPROX_MAX_NUM_LINKS", links)
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
    for (connections, threads, peers, links, name) in [
        ("many", "1", "1", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("0", "1", "1", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("-1", "1", "1", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("99999999999999999999", "1", "1", "1", "SEAPROX_MAX_NUM_CONNECTIONS"),
        ("4", "", "1", "1", "SEAPROX_NUM_THREADS"),
        ("4", "0", "1", "1", "SEAPROX_NUM_THREADS"),
        ("1", "2", "1", "1", "SEAPROX_NUM_THREADS"),
        ("4", "1", "0", "1", "SEAPROX_MAX_NUM_PEERS"),
        ("4", "1", "1", "33", "SEAPROX_MAX_NUM_LINKS"),
    ] {
        let output = build(connections, threads, peers, links);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{connections:?} and {threads:?} are taken");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.iter().any(|line| line.contains(name)), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }

    let output = build("5", "2", "7", "3");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("5 connections on 2 threads"), "the bound is not printed: {said}");
    assert!(said.contains("(3 a thread, 7 peers)"), "{said}");
    let program = format!("{}/debug/seaprox", target());
    let limits = seaprox_tests::run(&[&program, "limits"]);
    let sizes: Vec<_> = limits
        .lines()
        .filter(|line| line.contains("SEAPROX_"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(sizes, ["5", "2", "3", "7"], "{limits}");
    // What the build promised holds, and is not far off.
    let number = |text: &str| text.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    for (promised, shown) in [
        ("at most ", "total"),
        ("user memory, ", "handshakes beside, in socks5 and http"),
        ("want to go, ", "links beside, in ingress and egress"),
        ("peers), another ", "and if they are over udp"),
        ("over udp, and another ", "handshakes beside, if an ingress has any"),
    ] {
        let line = limits.lines().find_map(|line| line.trim_start().strip_prefix(shown));
        let bytes = line.and_then(number).unwrap_or_else(|| panic!("no {shown}: {limits}"));
        let (_, bound) = said.split_once(promised).expect("it is promised");
        let bound = number(bound).expect("a number");
        let most = bytes + (bytes / 16).max(16 * 1024);
        assert!((bytes..most).contains(&bound), "{shown}: promised {bound}, has {bytes}");
    }

    // The stack of a worker is as large as the most links and peers want it, which are moved into it.
    let output = build("64", "1", "1024", "32");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for link in [vacant_path(), format!("udp:127.0.0.1:{}", vacant_port())] {
        let mut egress = Command::new(format!("{}/debug/seaprox", target()))
            .args(["egress", &link, "127.0.0.1:9", "--threads", "1"])
            .args(keys::words_of_ends(Which::Egress))
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let said = BufReader::new(egress.stderr.take().expect("it is piped"));
        let mut lines = said.lines().map_while(Result::ok).inspect(|line| eprintln!("{line}"));
        assert!(lines.any(|line| line.contains("event=listening")), "{link}");
        egress.kill().expect("it is ours");
        egress.wait().expect("it is ours");
    }
}

/// The README quotes what the default build says of itself, and what it prints when it is built.
#[test]
fn the_readme_quotes_the_default_build() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("there is one");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = words(&readme);
    let (code, limits, _) = seaprox_tests::program::output(&["limits"]);
    assert_eq!(code, Some(0));
    let beside = limits
        .lines()
        .map(words)
        .filter(|line| line.contains("beside") || line.contains("over udp"));
    let beside: Vec<_> = beside.collect();
    assert_eq!(beside.len(), 4, "{limits}");
    for line in beside {
        assert!(readme.contains(&line), "the README has not: {line}");
    }
    let total = limits.lines().map(words).find_map(|line| {
        line.strip_prefix("total ").and_then(|rest| rest.split(' ').next().map(str::to_owned))
    });
    let grouped = grouped(&total.expect("there is a total"));
    assert!(readme.contains(&grouped), "the README's table has not {grouped}");

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // A check of the release profile runs the build script as the real build does.
    let output = Command::new(cargo)
        .args(["check", "--release", "--package", "seaprox-cli", "--target-dir", target()])
        .env_remove("SEAPROX_MAX_NUM_CONNECTIONS")
        .env_remove("SEAPROX_NUM_THREADS")
        .env_remove("SEAPROX_MAX_NUM_PEERS")
        .env_remove("SEAPROX_MAX_NUM_LINKS")
        .current_dir(workspace())
        .output()
        .expect("cargo can be run");
    let said = words(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let (_, promise) = said.split_once("4 threads: ").expect("the bound is printed");
    let (promise, _) = promise
        .split_once(" want to go Finished")
        .or_else(|| promise.split_once(" want to go warning"))
        .unwrap_or_else(|| promise.rsplit_once(" want to go").expect("it ends like this"));
    assert!(readme.contains(&format!("{promise} want to go\"")), "the README has not: {promise}");
}

/// With a comma after each three digits from the right.
fn grouped(number: &str) -> String {
    let digits = number.len();
    let comma = |place: usize| place > 0 && (digits - place).is_multiple_of(3);
    number.chars().enumerate().fold(String::new(), |mut text, (place, digit)| {
        if comma(place) {
            text.push(',');
        }
        text.push(digit);
        text
    })
}
