//! A bug of ours: one line, and the process ends before it does anything wrong. Nothing unwinds into
//! C: every profile of the workspace aborts, and so does the hook.

use arrayvec::ArrayString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Once;

/// Longer lines are cut.
const LINE_BYTES: usize = 512;

/// From now on a panic says one line.
pub(crate) fn say_one_line() {
    static ONCE: Once = Once::new();
    // A function has captured nothing, so its box takes no heap.
    ONCE.call_once(|| std::panic::set_hook(Box::new(end)));
}

fn end(info: &PanicHookInfo<'_>) {
    let line = line_of(info);
    // What cannot be told is not told.
    let _ = std::io::stderr().write_all(line.as_bytes());
    std::process::abort();
}

fn line_of(info: &PanicHookInfo<'_>) -> ArrayString<LINE_BYTES> {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let why = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let mut line = ArrayString::new();
    let _ = match info.location() {
        Some(at) => write!(line, "libseaprox: a bug at {at}: "),
        None => write!(line, "libseaprox: a bug: "),
    };
    for letter in why.unwrap_or("no message").chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if line.remaining_capacity() <= letter.len_utf8() {
            break;
        }
        line.push(letter);
    }
    let _ = line.try_push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    /// In a process of its own, which is this test once more.
    #[test]
    fn a_panic_is_one_line_and_the_end() {
        const INSIDE: &str = "SEAPROX_TEST_PANICS";
        if std::env::var_os(INSIDE).is_some() {
            say_one_line();
            panic!("of {} lines\n{}", 2, "x".repeat(LINE_BYTES));
        }
        let test = std::env::current_exe().expect("a test has a file");
        let mut again = Command::new(test);
        let name = "panic::tests::a_panic_is_one_line_and_the_end";
        let output = again.args([name, "--exact", "--nocapture"]).env(INSIDE, "").output();
        let output = output.expect("it can be run again");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        let at = concat!("libseaprox: a bug at ", file!(), ":");
        assert!(said.starts_with(at) && said.contains(": of 2 lines xxx"), "{said}");
        assert!(said.lines().count() == 1 && said.len() == LINE_BYTES, "{said}");
    }
}
