//! What the fuzz targets do with their bytes, and what must hold afterwards. Each function panics
//! when it does not.

use seaprox::completion::{Mailbox, Outcome, Ticket, decode, encode};
use seaprox::fail::FailReason;
use seaprox::share::Commons;
use seaprox::sys::{Linux, RawFd};
use seaprox_cli::args::{self, Answer, Bounds, Command};
use seaprox_cli::duration::Span;
use seaprox_cli::endpoint::{Listen, Refused, Target};
use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::AtomicU8;

/// What is understood is shown so that it is understood again, as far as it can be shown: bytes of a
/// path that are no text are escaped for the reader. What is not understood is one line.
fn round_trip<T: Debug + Display + PartialEq>(bytes: &[u8], read: fn(&[u8]) -> Result<T, Refused>) {
    match read(bytes) {
        Ok(understood) => {
            let shown = understood.to_string();
            one_line(&shown);
            if !is_plain(bytes) {
                return;
            }
            assert_eq!(read(shown.as_bytes()).as_ref(), Ok(&understood), "shown as {shown:?}");
        }
        Err(refused) => one_line(&refused.to_string()),
    }
}

fn is_plain(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| c.escape_debug().len() == 1))
}

fn one_line(text: &str) {
    assert!(!text.is_empty(), "a refusal without a word");
    assert!(!text.chars().any(char::is_control), "more than one line: {text:?}");
}

/// LISTEN.
pub fn listen(bytes: &[u8]) {
    round_trip(bytes, Listen::parse);
}

/// TARGET.
pub fn target(bytes: &[u8]) {
    round_trip(bytes, Target::parse);
}

/// A duration: never longer than the timers can tell.
pub fn duration(bytes: &[u8]) {
    match Span::parse(bytes) {
        Ok(Span::Off) => assert_eq!(bytes, b"off"),
        Ok(Span::Millis(millis)) => assert!(millis <= seaprox::time::DURATION_MILLIS_MAX),
        Err(refused) => one_line(&refused.to_string()),
    }
}

/// A whole command line, its arguments separated by NUL.
pub fn arguments(bytes: &[u8]) {
    let bounds = Bounds { connections: 100, threads: 4, cpus: 2 };
    let given = bytes.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    match args::parse([OsString::from("seaprox")].into_iter().chain(given), bounds) {
        Ok(Command::Static(config)) => {
            assert!((1..=bounds.threads).contains(&config.threads));
            assert!((config.threads..=bounds.connections).contains(&config.connections_max));
            assert!((1..=args::TARGETS_MAX).contains(&config.targets.len()));
        }
        Ok(Command::Limits { .. }) => {}
        Err(Answer::Say(text)) => assert!(text.ends_with('\n'), "help or version: {text:?}"),
        Err(Answer::Refuse(line)) => one_line(&line),
    }
}

/// The completion word, and mailboxes in any order of what a worker and its completers may do,
/// against a model: who awaits, and what was reported.
pub fn completion(bytes: &[u8]) {
    let (words, steps) = bytes.split_at(bytes.len().min(8));
    if let Ok(word) = words.try_into().map(u64::from_le_bytes) {
        let outcome = decode(word);
        assert_eq!(decode(encode(outcome)), outcome, "{word:#x}");
        assert!(encode(outcome) < 1 << 40, "{outcome:?} does not fit beside a generation");
    }
    let (mailboxes, order) = ([const { Mailbox::new() }; 2], AtomicU8::new(0));
    let commons = Commons::of_mailboxes(&mailboxes, &order);
    let mut models = [Model::default(); 2];
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut generation = 0;
    for step in steps.chunks_exact(2) {
        let (number, what) = (u32::from(step[0] & 1), step[0] >> 1);
        let model = &mut models[number as usize];
        match what % 4 {
            // A worker awaits only when nothing is reported and untaken.
            0 if model.reported.is_none() => {
                generation += 1;
                tickets.push(commons.await_outcome(number, generation));
                model.awaited = Some(tickets.len() - 1);
            }
            1 if !tickets.is_empty() => {
                let which = usize::from(step[1]) % tickets.len();
                let ticket = tickets[which];
                let outcome = outcome_of(step[1]);
                let told = commons.complete(Linux, ticket, outcome);
                let model = &mut models[ticket.mailbox()];
                assert_eq!(told.is_ok(), model.awaited == Some(which), "ticket {which}");
                if told.is_ok() {
                    *model = Model { awaited: None, reported: Some(outcome) };
                }
            }
            2 => assert_eq!(commons.take(number), model.reported.take()),
            3 => {
                assert_eq!(commons.abort(number), model.reported.take());
                model.awaited = None;
            }
            _ => {}
        }
    }
}

/// What a mailbox must be like.
#[derive(Clone, Copy, Default)]
struct Model {
    /// The number of the ticket it awaits.
    awaited: Option<usize>,
    reported: Option<Outcome>,
}

fn outcome_of(byte: u8) -> Outcome {
    match byte % 3 {
        0 => Outcome::Resolved,
        1 => Outcome::Connected(RawFd::from(byte) + 1),
        _ => Outcome::Failed(FailReason::ALL[usize::from(byte) % FailReason::ALL.len()]),
    }
}
