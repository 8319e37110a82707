//! `seaprox genkey`, `pubkey` and `genpsk`, which print what `wg` prints. What they read and write goes
//! by no buffer of the standard library, since those are not overwritten.

use super::file::read_text;
use crate::exit::{self, ExitCode, fail};
use crate::sys;
use seaprox_noise::keys::{Psk, Secret, TEXT_BYTES, Text};
use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use zeroize::Zeroizing;

/// What is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new secret.
    GenKey,
    /// What the owner of the secret on stdin is known by.
    PubKey,
    /// A new preshared key.
    GenPsk,
}

/// Prints it, or ends the program.
pub fn run(verb: Verb) -> ExitCode {
    let stdout = File::from(sys::own(1));
    let printed = match verb {
        Verb::GenKey => print(&stdout, &Secret::from_random(random()).to_base64()),
        Verb::GenPsk => print(&stdout, &Psk::from_random(random()).to_base64()),
        Verb::PubKey => writeln!(&stdout, "{}", secret_of_stdin().public()),
    };
    printed.unwrap_or_else(|error| failed(format_args!("stdout: cannot write: {error}")));
    ExitCode::Done
}

fn print(mut stdout: &File, text: &Text) -> io::Result<()> {
    warn_of_readers(stdout);
    // In one write, so that a reader has all of it or nothing.
    let mut line = Zeroizing::new([b'\n'; TEXT_BYTES + 1]);
    line[..TEXT_BYTES].copy_from_slice(text.as_str().as_bytes());
    stdout.write_all(&*line)
}

/// A link would refuse such a file, and by then others may have read it.
fn warn_of_readers(stdout: &File) {
    let is_open = |metadata: Metadata| metadata.is_file() && metadata.mode() & 0o077 != 0;
    if stdout.metadata().is_ok_and(is_open) {
        exit::say("stdout: others may read this file: `chmod 600` it, and do `umask 077` before");
    }
}

fn random() -> [u8; 32] {
    sys::random().unwrap_or_else(|error| fail(ExitCode::System, format_args!("getrandom: {error}")))
}

fn secret_of_stdin() -> Secret {
    let read = read_text(&mut File::from(sys::own(0)));
    let text = read.unwrap_or_else(|why| failed(format_args!("stdin: {why}")));
    Secret::from_base64(text.as_bytes()).unwrap_or_else(|why| failed(format_args!("stdin: {why}")))
}

fn failed(why: impl Display) -> ! {
    fail(ExitCode::Failed, why)
}
