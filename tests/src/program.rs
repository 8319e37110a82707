//! Where the program is; builds it if it is older than its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// The program to test: `SEAPROX_BIN`, else the one of the same profile as this test, built now if
/// a source is younger.
///
/// # Panics
/// It cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("SEAPROX_BIN") {
        Some(path) => path.into(),
        None => built(),
    })
}

fn built() -> PathBuf {
    let (folder, profile) = own_profile();
    let path = folder.join("seaprox");
    if changed(&path).is_some_and(|built| built >= youngest_source()) {
        return path;
    }
    build(&["--package", "seaprox-cli", "--profile", profile]);
    path
}

/// One of the programs in examples/, built now if a source is younger. Not optimized: it is shown that
/// it works.
///
/// # Panics
/// It cannot be built.
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["--package", "seaprox-examples", "--profile", "dev"]));
    let (folder, _) = own_profile();
    folder.with_file_name("debug").join(name)
}

/// Where this test was built, and as what.
fn own_profile() -> (PathBuf, &'static str) {
    let test = std::env::current_exe().expect("the path of this test");
    // target/PROFILE/deps/TEST
    let folder = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
    let is_release = folder.file_name().is_some_and(|name| name == "release");
    (folder.to_path_buf(), if is_release { "release" } else { "dev" })
}

fn build(options: &[&str]) {
    let (folder, _) = own_profile();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet"])
        .args(options)
        .arg("--target-dir")
        .arg(folder.parent().expect("a profile's folder lies in the target folder"))
        .current_dir(workspace())
        .status()
        .expect("cargo cannot be run");
    assert!(status.success(), "it does not build: {options:?}");
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn youngest_source() -> SystemTime {
    ["Cargo.toml", "Cargo.lock", "src", "transports", "proxies", "cli"]
        .into_iter()
        .flat_map(|name| files_in(&workspace().join(name)))
        .filter_map(|path| changed(&path))
        .max()
        .expect("the workspace has sources")
}

/// All files in a folder and the folders in it, or the file itself.
pub fn files_in(path: &Path) -> Vec<PathBuf> {
    let Ok(folder) = path.read_dir() else { return vec![path.to_path_buf()] };
    let mut files: Vec<_> =
        folder.filter_map(Result::ok).flat_map(|entry| files_in(&entry.path())).collect();
    files.sort();
    files
}

/// Runs the program to its end; its exit code, and what it wrote to stdout and stderr.
///
/// # Panics
/// It cannot be run.
pub fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let command =
        Command::new(program()).args(arguments).stdin(std::process::Stdio::null()).output();
    let output = command.expect("the program can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
