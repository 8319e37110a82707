//! What happens after the seal, in processes of their own: this program starts itself again, as a
//! child that does one thing and ends.

use seaprox::completion::{Mailbox, Outcome};
use seaprox::share::Commons;
use seaprox_cli::allow::Allowed;
use seaprox_cli::log::{self, Level, Options};
use seaprox_cli::seal::{Sealable, hook_panics, seal};
use seaprox_tcp::resolve::{Lookup, Resolve};
use seaprox_tcp::resolver::{self, Resolver};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

#[global_allocator]
static HEAP: Sealable = Sealable;

static RESOLVER: Resolver<4, 2> = Resolver::new();
static MAILBOXES: [Mailbox; 2] = [const { Mailbox::new() }; 2];
static ORDER: AtomicU8 = AtomicU8::new(0);

const CHILD: &str = "SEAPROX_TEST_CHILD";
const SIGABRT: i32 = 6;

fn main() {
    match std::env::var(CHILD) {
        Ok(what) => child(&what),
        Err(_) => parent(),
    }
}

fn child(what: &str) {
    hook_panics();
    log::LOG.open(Options::stderr(Level::Info));
    log::LOG.start(|| {}).unwrap();
    let commons = Commons::of_mailboxes(&MAILBOXES, &ORDER);
    RESOLVER
        .start(commons, resolver::Options { threads: 2, prefer_ipv4: false, prepare: || {} })
        .unwrap();
    let mut kept = vec![0u8; 1000];
    let patterns = ["*.example.org:443", "a:1-9", "10.0.0.0/8", "[2001:db8::]/32:*"];
    let allowed = Allowed::parse(patterns.map(str::as_bytes)).unwrap();
    let held = seal();
    assert!(held.bytes >= 1000 && held.allocations > 0, "{held:?}");
    match what {
        "allocates" => drop(black_box(Vec::<u8>::with_capacity(12345))),
        "grows" => kept.reserve_exact(54321 - kept.len()),
        "zeroes" => drop(black_box(vec![0u8; 777])),
        "frees" => drop(black_box(kept)),
        "panics" => panic!("the number is {}\nand more", black_box(7)),
        "logs" => {
            log::event(Level::Info, "alive").field("n", format_args!("{} {}", 1, 2)).send();
            assert!(log::LOG.flush(Duration::from_secs(5)));
        }
        "resolves" => resolve(commons),
        "permits" => permit(&allowed),
        other => panic!("{other}?"),
    }
}

/// libc may allocate on the resolver's threads, we may not: two names, each again after a flush.
fn resolve(commons: Commons<'static>) {
    for generation in 1..=2 {
        for (mailbox, name, known) in [(0, "localhost", true), (1, "a b", false)] {
            let ticket = commons.await_outcome(mailbox, generation);
            assert_eq!(RESOLVER.lookup(name, ticket), Lookup::Waiting);
            let outcome = loop {
                match commons.take(mailbox) {
                    Some(outcome) => break outcome,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            assert_eq!(outcome == Outcome::Resolved, known);
        }
        RESOLVER.flush();
    }
}

/// What is wished for comes from outside, after start.
fn permit(allowed: &Allowed) {
    for bad in ["", ".", "a..org", "a b.org", "é.example.org", "127.1", "x.example.org.evil"] {
        assert!(!allowed.permits_name(bad, 443), "{bad}");
    }
    assert!(allowed.permits_name("WWW.example.org.", 443) && allowed.permits_name("a", 9));
    assert!(allowed.permits_address("[::ffff:10.1.2.3]:1".parse().unwrap()));
    assert!(!allowed.permits_address("11.0.0.0:1".parse().unwrap()));
}

fn run(what: &str) -> (ExitStatus, String) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).env(CHILD, what).output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

fn parent() {
    for (what, bytes) in [("allocates", 12345), ("grows", 54321), ("zeroes", 777)] {
        let (status, said) = run(what);
        assert_eq!(status.signal(), Some(SIGABRT), "{what}: {said}");
        let expected = format!(
            "seaprox: {bytes} bytes of heap were asked for after start: this is a bug in seaprox\n"
        );
        assert_eq!(said, expected, "{what}");
    }

    let (status, said) = run("frees");
    assert!(status.success() && said.is_empty(), "{status} {said}");

    let (status, said) = run("resolves");
    assert!(status.success() && said.is_empty(), "{status} {said}");

    let (status, said) = run("permits");
    assert!(status.success() && said.is_empty(), "{status} {said}");

    let (status, said) = run("logs");
    assert!(status.success(), "{status} {said}");
    assert!(said.ends_with(" level=info event=alive n=\"1 2\"\n"), "{said}");

    let (status, said) = run("panics");
    assert_eq!(status.signal(), Some(SIGABRT), "{said}");
    assert!(said.starts_with("seaprox: panic at ") && said.contains("seal.rs:"), "{said}");
    assert!(said.ends_with(": the number is 7 and more\n") && said.lines().count() == 1, "{said}");

    a_reader_that_does_not_read_delays_no_end();
    println!("seal: ok");
}

fn a_reader_that_does_not_read_delays_no_end() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'\n'; 65536]).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child =
        Command::new(program).env(CHILD, "panics").stderr(Stdio::from(writer)).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "it waits for its reader");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().unwrap().signal(), Some(SIGABRT));
    drop(reader);
}
