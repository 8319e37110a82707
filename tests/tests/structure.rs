//! The house: which package may know which, and what every file owes its reader.

use seaprox_tests::program::{files_in, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How high a package of this workspace stands. It may know those below it, dev-dependencies
/// included; one that is not listed here fails the test.
const FLOORS: &[(&str, u8)] = &[
    ("seaprox", 0),
    ("seaprox-noise", 1),
    ("seaprox-proto", 1),
    ("seaprox-socks5", 1),
    ("seaprox-http-connect", 1),
    ("seaprox-tcp", 2),
    ("seaprox-sctp", 2),
    ("seaprox-sealed", 2),
    ("seaprox-udp", 2),
    ("seaprox-cli", 3),
    ("seaprox-capi", 3),
    ("seaprox-examples", 3),
    ("seaprox-tiny", 3),
    ("seaprox-line", 3),
    ("seaprox-tests", 3),
    ("seaprox-benches", 3),
    ("seaprox-peers", 3),
    ("seaprox-fuzz", 4),
];

/// Packages that are a workspace of their own, and have no rules to inherit.
const OF_THEIR_OWN: [&str; 3] = ["examples/tiny", "examples/transport", "fuzz"];

/// Transports do not know each other, and nor do the packages at the top.
const NEVER: [(&str, &str); 1] = [("seaprox-tcp", "seaprox-proto")];

fn floor(package: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == package).map(|(_, floor)| *floor)
}

/// The packages of the workspace, and those of them that each depends on.
fn packages() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut packages = BTreeMap::new();
    let workspaces = ["Cargo.toml"].into_iter().map(PathBuf::from);
    let workspaces =
        workspaces.chain(OF_THEIR_OWN.map(|folder| Path::new(folder).join("Cargo.toml")));
    for manifest in workspaces.map(|path| workspace().join(path)) {
        let output = Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
            .arg(&manifest)
            .output()
            .expect("cargo can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
        for package in metadata["packages"].as_array().expect("a list of packages") {
            let name = package["name"].as_str().expect("a name").to_owned();
            let dependencies = package["dependencies"].as_array().expect("a list").iter();
            let local = dependencies.filter(|dependency| dependency["path"].is_string());
            let names = local.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            packages.insert(name, names.collect());
        }
    }
    packages
}

/// Arrows go down.
#[test]
fn no_package_depends_upward() {
    let packages = packages();
    assert!(packages.len() >= 4, "these are not all: {packages:?}");
    for (package, dependencies) in &packages {
        let own = floor(package).unwrap_or_else(|| panic!("{package} has no floor yet"));
        for dependency in dependencies {
            let other = floor(dependency).expect("a package of the workspace has a floor");
            assert!(other < own, "{package} depends on {dependency}, which stands no lower");
            let never = NEVER.contains(&(package.as_str(), dependency.as_str()));
            assert!(!never, "{package} depends on {dependency}");
        }
    }
}

/// A module of the engine without its tests and comments.
fn module(name: &str) -> String {
    let path = workspace().join("src").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name} is gone"));
    code_of(&text)
}

/// Code without its tests, comments and strings' contents of more than one line.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The contract does not know the storage, nor the reverse; the layers below the worker know
/// neither what stands above them.
#[test]
fn no_module_of_the_engine_looks_up() {
    for (name, never) in [
        ("transport.rs", &["table", "worker", "relay"][..]),
        ("table.rs", &["transport", "worker", "poller", "relay"]),
        ("side.rs", &["table", "transport", "worker", "poller", "relay"]),
        ("relay.rs", &["worker", "poller"]),
        ("poller.rs", &["table", "transport", "worker", "relay"]),
        ("timers.rs", &["table", "transport", "worker", "relay", "side"]),
        ("ready_list.rs", &["table", "transport", "worker", "relay"]),
        ("sys.rs", &["table", "transport", "worker", "relay", "side", "poller"]),
        ("time.rs", &["sys", "table", "transport", "worker", "relay", "side", "poller"]),
        ("completion.rs", &["table", "transport", "worker", "relay"]),
        ("connector.rs", &["table", "worker", "relay"]),
        ("handshake.rs", &["table", "worker", "relay"]),
        ("passwords.rs", &["transport", "table", "worker", "relay", "sys"]),
        ("wanted.rs", &["transport", "table", "worker", "relay", "sys"]),
    ] {
        let code = module(name);
        for other in never {
            // `use crate::table::BUFFER_BYTES` is a size, not the storage.
            let uses = code.matches(&format!("crate::{other}")).count();
            assert_eq!(uses, 0, "src/{name} knows {other}.rs");
        }
    }
    // Only the worker, of which `ending.rs` is a part, knows both.
    for path in sources().iter().filter(|path| path.starts_with(workspace().join("src"))) {
        let code = code_of(&std::fs::read_to_string(path).unwrap());
        let both = code.contains("crate::table::Table") && code.contains("crate::transport::");
        assert!(!both || path.ends_with("src/worker.rs"), "{} knows both", path.display());
    }
}

/// Only `sys.rs` and `poller.rs` speak of epoll, and no transport does.
#[test]
fn only_the_poller_knows_epoll() {
    for path in sources() {
        let name = path.strip_prefix(workspace()).unwrap().to_str().unwrap();
        let engine = name.starts_with("src/") || name.starts_with("transports/");
        if engine && !is_test(name) && !["src/sys.rs", "src/poller.rs"].contains(&name) {
            let code = code_of(&std::fs::read_to_string(&path).unwrap());
            let calls = ["epoll_add", "epoll_modify", "epoll_delete", "epoll_wait", "event::epoll"];
            let knows = calls.iter().find(|call| code.contains(**call));
            assert!(knows.is_none() || name.contains("sim"), "{name} says {knows:?}");
        }
    }
}

/// The engine and its transports have no heap.
#[test]
fn the_engine_has_no_heap() {
    for path in sources() {
        let name = path.strip_prefix(workspace()).unwrap().to_str().unwrap();
        // The simulated kernel is for tests only, as tests are.
        if name.starts_with("src/") && !name.starts_with("src/sim/") && !is_test(name) {
            let text = code_of(&std::fs::read_to_string(&path).unwrap());
            assert!(!text.contains("extern crate alloc"), "{name} allocates");
            assert!(!text.contains("use std::"), "{name} knows std");
        }
    }
    let root = std::fs::read_to_string(workspace().join("src/lib.rs")).unwrap();
    assert!(root.contains("#![no_std]"));
}

/// All Rust files of ours.
fn sources() -> Vec<PathBuf> {
    let folders =
        ["src", "transports", "proxies", "cli", "capi", "examples", "tests", "benches", "fuzz"];
    let files = folders.iter().flat_map(|folder| files_in(&workspace().join(folder)));
    let is_built = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "target");
    let sources: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !is_built(path))
        .collect();
    assert!(sources.len() > 20, "the sources are elsewhere");
    sources
}

/// Unit tests in a file of their own.
fn is_test(path: &str) -> bool {
    path.ends_with("_tests.rs") || path.ends_with("/tests.rs") || path.contains("_tests/")
}

/// A file is read in one sitting.
#[test]
fn no_file_is_long() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = code_of(&text);
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        let is_test = path.to_str().is_some_and(is_test);
        assert!(is_test || lines <= 500, "{}: {lines} lines of code", path.display());
    }
}

#[test]
fn no_line_is_long() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            assert!(width <= 120, "{}:{}: {width} columns", path.display(), number + 1);
            assert!(!line.ends_with(' '), "{}:{}: ends in blanks", path.display(), number + 1);
            assert!(!line.contains('\t'), "{}:{}: a tab", path.display(), number + 1);
        }
    }
}

/// Nothing is left for later, and no test is asleep.
#[test]
fn nothing_is_unfinished() {
    // Put together here, or this file would be found.
    let words = ["todo!", "unimplemented!", "#[ignore", "dbg!", "FIXME", "XXX"];
    for path in sources().iter().filter(|path| !path.ends_with("tests/structure.rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for word in words {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

/// Every module says what it is.
#[test]
fn every_file_opens_with_what_it_is() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        let says = first.starts_with("//!") || first.starts_with("use super::");
        assert!(says, "{} does not say what it is", path.display());
    }
}

/// `unsafe` only where a system call or an ABI needs it, each block with its reason.
#[test]
fn unsafe_stays_where_it_is_allowed() {
    const ALLOWED: [&str; 18] = [
        "src/sys.rs",
        "src/seaprox.rs",
        "transports/sctp/src/sys.rs",
        "transports/tcp/src/lookup.rs",
        "transports/udp/src/sys.rs",
        "cli/src/sys.rs",
        "cli/src/seal.rs",
        "cli/src/sandbox/sys.rs",
        "cli/src/user/sys.rs",
        "capi/src/raw.rs",
        "capi/src/proxy.rs",
        "capi/src/outside.rs",
        "capi/src/talk.rs",
        "capi/src/links.rs",
        "capi/src/keys.rs",
        "capi/src/exports/life.rs",
        "capi/src/exports/reach.rs",
        "capi/src/exports/drive.rs",
    ];
    for path in sources() {
        let name = path.strip_prefix(workspace()).unwrap().to_str().unwrap();
        let part_of_the_program = ["src/", "transports/", "proxies/", "cli/src/", "capi/src/"];
        if !part_of_the_program.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let code = code_of(&std::fs::read_to_string(&path).unwrap());
        if is_test(name) {
            continue;
        }
        let uses = code.contains("unsafe {") || code.contains("unsafe impl");
        assert!(!uses || ALLOWED.contains(&name), "{name} has unsafe code");
    }
}

/// What the workspace promises of itself in each manifest.
#[test]
fn every_package_inherits_the_rules() {
    for path in files_in(workspace()) {
        let built = path.components().any(|part| part.as_os_str() == "target");
        let alone = OF_THEIR_OWN.iter().any(|folder| path.starts_with(workspace().join(folder)));
        if built || alone || !path.ends_with("Cargo.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for rule in ["[lints]\nworkspace = true", "license.workspace = true", "description = "] {
            assert!(text.contains(rule), "{} lacks {rule}", path.display());
        }
    }
}
