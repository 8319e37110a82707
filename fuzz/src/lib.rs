//! What must hold for any bytes at all: one function a target. It panics where it does not hold;
//! that it returns is the whole proof.
//!
//! ```text
//! cargo +nightly fuzz run listen                                looks for bytes that fail
//! cargo test --manifest-path fuzz/Cargo.toml                    replays the corpora, on stable
//! cargo run --manifest-path fuzz/Cargo.toml --bin listen FILE   replays one file, on stable
//! ```

mod allow;
mod arguments;
mod bytes;
mod completion;
mod datagram;
mod endpoint;
mod noise_handshake;
mod noise_keys;
mod proxy_type;
mod sealed;
mod session;
mod table;
mod udp_link;
mod wire;

pub use allow::allow;
pub use arguments::{arguments, duration};
pub use completion::completion;
pub use datagram::{acknowledgement, datagram};
pub use endpoint::{link, listen, target};
pub use noise_handshake::noise_handshake;
pub use noise_keys::noise_keys;
pub use proxy_type::{http_connect, socks5};
pub use sealed::sealed;
pub use session::session;
pub use table::table;
pub use udp_link::udp_link;
pub use wire::{demarcator, message};

/// Makes a program of a function that takes bytes: libFuzzer's, or one that is given files.
#[macro_export]
macro_rules! fuzz {
    ($target:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$target(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            std::env::args_os().skip(1).try_for_each(|file| {
                $crate::$target(&std::fs::read(file)?);
                Ok(())
            })
        }
    };
}

/// Text that stays one line wherever it is written.
fn is_one_line(text: &str) -> bool {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    !text.is_empty() && !text.chars().any(breaks)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(name: &str, target: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files: Vec<_> =
            std::fs::read_dir(&corpus).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", corpus.display());
        for file in files {
            // Shown if the target panics.
            println!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
        }
    }

    macro_rules! replayed {
        ($($target:ident)*) => {
            $(#[test]
            fn $target() {
                replay(stringify!($target), super::$target);
            })*
        };
    }

    replayed! {
        listen target link allow arguments duration completion table message demarcator session
        datagram acknowledgement udp_link noise_handshake noise_keys sealed
        socks5 http_connect
    }
}
