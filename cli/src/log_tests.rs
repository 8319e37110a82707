use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, IntoRawFd};

/// A log that writes into a pipe.
fn piped(level: Level, journald: bool) -> (&'static Log, PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let log: &'static Log = Box::leak(Box::new(Log::new()));
    let fd = writer.try_clone().unwrap();
    log.open(Options { level, journald, fd: std::os::fd::OwnedFd::from(fd).into_raw_fd() });
    log.start(|| {}).unwrap();
    (log, reader, writer)
}

fn read_now(reader: &mut PipeReader) -> String {
    let mut text = vec![0; 1 << 20];
    let length = reader.read(&mut text).unwrap();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

#[test]
fn one_line_an_event_quoted_where_it_must_be() {
    let (log, mut reader, _writer) = piped(Level::Info, true);
    log.event(Level::Info, "listening").field("address", "[::]:80").field("n", 4).send();
    log.event(Level::Debug, "not shown").send();
    log.event(Level::Error, "two words").field("why", "a \"b\"\n\\\x07=é").field("e", "").send();
    assert!(log.flush(Duration::from_secs(5)));
    assert_eq!(
        read_now(&mut reader),
        "<6>level=info event=listening address=[::]:80 n=4\n\
         <3>level=error event=\"two words\" why=\"a \\\"b\\\"\\n\\\\\\?=é\" e=\"\"\n"
    );
}

#[test]
fn elsewhere_a_line_begins_with_its_time() {
    let (log, mut reader, _writer) = piped(Level::Debug, false);
    log.event(Level::Debug, "x").send();
    assert!(log.flush(Duration::from_secs(5)));
    let line = read_now(&mut reader);
    assert!(line.starts_with("time=20") && line.ends_with("Z level=debug event=x\n"), "{line}");
}

/// A pipe nobody reads is full after 64 KiB: callers go on, what is lost is counted where it is
/// missing, and the order is kept.
#[test]
fn a_blocked_reader_blocks_nobody_and_losses_are_counted() {
    const SENT: usize = 3000;
    let (log, mut reader, mut writer) = piped(Level::Info, true);
    writer.write_all(&[b'\n'; 65536]).unwrap();
    let began = Instant::now();
    for number in 0..SENT {
        log.event(Level::Info, "n").field("number", number).send();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    assert!(!log.flush(Duration::from_millis(100)), "nothing can have been written");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    drop(writer);
    let mut seen = 0;
    let mut text = String::new();
    let mut lost_lines = 0;
    while seen < SENT {
        text.push_str(&read_now(&mut reader));
        while let Some(end) = text.find('\n') {
            let line: String = text.drain(..=end).collect();
            if let Some((_, lost)) = line.trim_end().split_once(" lost=") {
                assert!(line.starts_with("<4>level=warn event=\"log lines lost\""), "{line}");
                seen += lost.parse::<usize>().unwrap();
                lost_lines += 1;
            } else if line != "\n" {
                assert_eq!(line, format!("<6>level=info event=n number={seen}\n"));
                seen += 1;
            }
        }
    }
    assert_eq!(seen, SENT);
    assert!(lost_lines >= 1, "a ring of {LINES_MAX} cannot have held {SENT}");
    assert!(log.flush(Duration::from_secs(5)));
}

/// What is said before the thread runs is kept, and written by whoever cannot wait for it.
#[test]
fn lines_from_before_the_start_are_written_by_whoever_waits() {
    let log: &'static Log = Box::leak(Box::new(Log::new()));
    let (mut reader, writer) = pipe().unwrap();
    log.event(Level::Info, "not open yet").send();
    log.open(Options { level: Level::Info, journald: true, fd: writer.as_raw_fd() });
    (0..LINES_MAX + 2).for_each(|number| log.event(Level::Info, "n").field("n", number).send());
    assert!(log.flush(Duration::from_secs(5)));
    let text = read_now(&mut reader);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), LINES_MAX + 1);
    assert_eq!(lines[0], "<6>level=info event=n n=0");
    assert!(lines[LINES_MAX].ends_with(" lost=2"), "{}", lines[LINES_MAX]);

    log.event(Level::Info, "kept").send();
    log.start(|| {}).unwrap();
    assert!(log.flush(Duration::from_secs(5)));
    assert_eq!(read_now(&mut reader), "<6>level=info event=kept\n");
}

#[test]
fn whoever_waits_writes_to_no_reader_that_is_not_there() {
    let log: &'static Log = Box::leak(Box::new(Log::new()));
    let (_reader, mut writer) = pipe().unwrap();
    writer.write_all(&[b'\n'; 65536]).unwrap();
    log.open(Options { level: Level::Info, journald: true, fd: writer.as_raw_fd() });
    log.event(Level::Info, "x").send();
    assert!(!log.flush(Duration::from_millis(50)));
}

#[test]
fn a_descriptor_somebody_made_non_blocking_loses_nothing() {
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(&[b'x'; 65536]).unwrap();
    // SAFETY: sets a flag of an open descriptor.
    #[allow(unsafe_code)]
    let done = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(done, 0);
    let fd = writer.as_raw_fd();
    let blocked = std::thread::spawn(move || write_all(fd, b"all of it\n"));
    let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
    let mut text = vec![0; 65536 + 10];
    reader.read_exact(&mut text).unwrap();
    blocked.join().unwrap();
    assert!(text.ends_with(b"xall of it\n"));
}

#[test]
fn what_cannot_be_written_is_dropped() {
    let (log, reader, writer) = piped(Level::Info, true);
    drop(reader);
    log.event(Level::Info, "x").send();
    assert!(log.flush(Duration::from_secs(5)), "EPIPE, with SIGPIPE ignored as std does");
    drop(writer);
}

#[test]
fn the_journal_is_known_by_its_socket() {
    assert!(is_journal(Some("8:123"), Some((8, 123))));
    assert!(!is_journal(Some("8:124"), Some((8, 123))), "stderr was sent elsewhere");
    for other in [None, Some(""), Some("8"), Some("8:x"), Some(":")] {
        assert!(!is_journal(other, Some((8, 123))) && !is_journal(other, None));
    }
}

proptest! {
    #[test]
    fn the_ring_keeps_order_and_counts_what_it_lost(
        steps in prop::collection::vec(prop_oneof![(1usize..400).prop_map(Some), Just(None)], 1..40),
    ) {
        let log = Box::new(Log::new());
        let mut ring = log.lock();
        let (mut put, mut seen) = (0usize, 0usize);
        let mut batch = [0; BATCH_BYTES];
        let mut check = |ring: &mut Ring, put| {
            let length = ring.take(&mut batch, true);
            for line in str::from_utf8(&batch[..length]).unwrap().lines() {
                match line.split_once(" lost=") {
                    Some((_, lost)) => seen += lost.parse::<usize>().unwrap(),
                    None => {
                        assert_eq!(line.trim_end_matches('.'), seen.to_string());
                        seen += 1;
                    }
                }
            }
            assert!(seen <= put);
            length > 0
        };
        for step in steps {
            for _ in 0..step.unwrap_or(0) {
                ring.put(format!("{put}{}\n", ".".repeat(put % 400)).as_bytes());
                put += 1;
            }
            if step.is_none() {
                check(&mut ring, put);
            }
        }
        while check(&mut ring, put) {}
        prop_assert_eq!(seen, put);
    }
}
