//! docs/protocol.md and the code say the same: every example both ways, every limit, every reason.

mod described;

use described::{DOCUMENT, block, cells, described, examples, hexadecimal};
use seaprox::fail::FailReason;
use seaprox_proto::message::{
    CHANNELS_MAX, DATA_HEADER_BYTES, Malformed, Message, NAME_BYTES_MAX, PACKET_BYTES,
    TEXT_BYTES_MAX, data_header, parse,
};
use std::collections::BTreeSet;

fn check(description: &str, bytes: &[u8]) {
    let (message, length) = parse(bytes).unwrap_or_else(|_| panic!("{description}: {bytes:02x?}"));
    assert_eq!(length, bytes.len(), "{description}");
    assert_eq!(described(&message), description);
    let mut out = vec![0xee; length + 1];
    assert_eq!(message.emit(&mut out), Some(length), "{description}");
    assert_eq!(&out[..length], bytes, "{description}");
    assert_eq!(out[length], 0xee, "{description} is longer than it says");
    if let Message::Data { channel, fin: false, offset, bytes: payload, .. } = message {
        let header = data_header(channel, offset, payload.len() as u16);
        assert_eq!(header.as_bytes(), &bytes[..length - payload.len()], "{description}");
    }
}

/// What kind and form an example is of: its name, and of OPEN both families, of DATA the flags.
fn form(description: &str) -> String {
    let word = |key: &str| description.split(' ').find_map(|word| word.strip_prefix(key));
    let family = |address: &str| match address.split(':').next() {
        Some(kind @ ("service" | "name" | "none")) => kind.to_owned(),
        _ => if address.starts_with('[') { "v6" } else { "v4" }.to_owned(),
    };
    let name = description.split(' ').next().unwrap_or_default();
    match (name, word("target="), word("client=")) {
        ("OPEN", Some(target), Some(client)) => {
            format!("OPEN {} {}", family(target), family(client))
        }
        ("DATA", ..) => {
            let flags = [" fin ", " stopped ", " offset"];
            let flags = flags.into_iter().filter(|flag| description.contains(flag));
            flags.fold("DATA".into(), |form, flag| format!("{form} {}", flag.trim()))
        }
        _ => name.into(),
    }
}

#[test]
fn every_message_is_what_its_bytes_say() {
    let examples = examples(&block("messages"));
    for (description, bytes) in &examples {
        check(description, bytes);
    }
    let forms: BTreeSet<_> = examples.iter().map(|(description, _)| form(description)).collect();
    let forms: Vec<_> = forms.iter().map(String::as_str).collect();
    let all = [
        "CLOSE",
        "CREDIT",
        "DATA",
        "DATA fin",
        "DATA fin offset",
        "DATA fin stopped offset",
        "DATA offset",
        "DONE",
        "GOAWAY",
        "HELLO",
        "OPEN name v6",
        "OPEN service none",
        "OPEN service v4",
        "OPEN v4 none",
        "OPEN v6 v4",
        "OPENED",
        "PAD",
        "PING",
        "PONG",
        "RESET",
        "SKIPPED",
        "STOP",
    ];
    assert_eq!(forms, all, "each kind and family has an example");
}

#[test]
fn what_is_to_be_skipped_is_skipped() {
    for bytes in block("skipped").into_iter().filter_map(hexadecimal) {
        assert_eq!(parse(&bytes), Ok((Message::Skipped, bytes.len())), "{bytes:02x?}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    for (description, bytes) in examples(&block("malformed")) {
        assert_eq!(parse(&bytes), Err(Malformed), "{description}");
    }
}

/// A link, packet by packet: `WHO, stream N, N bytes`, then its messages.
#[test]
fn an_exchange_is_made_of_its_messages() {
    let lines = block("exchange");
    let is_packet = |line: &str| !line.starts_with(' ');
    let mut rest = &lines[..];
    let mut packets = 0;
    while let [head, after @ ..] = rest {
        let end = after.iter().position(|line| is_packet(line)).unwrap_or(after.len());
        let messages = examples(&after[..end]);
        rest = &after[end..];
        packets += 1;
        let parts: Vec<_> = head.split([',', ' ']).filter(|part| !part.is_empty()).collect();
        let &["initiator" | "acceptor", "stream", stream, bytes, "bytes"] = &parts[..] else {
            panic!("{head:?}");
        };
        for (description, bytes) in &messages {
            check(description, bytes);
        }
        // As a receiver takes it apart.
        let packet: Vec<u8> = messages.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(bytes.parse(), Ok(packet.len()), "{head}");
        let mut left = &packet[..];
        for (description, _) in &messages {
            let (message, length) = parse(left).unwrap();
            assert_eq!(described(&message), *description);
            let own = message.channel().map_or(0, |channel| channel.stream());
            assert_eq!(stream.parse(), Ok(own), "{description}");
            left = &left[length..];
        }
        assert_eq!(left, []);
    }
    assert!(packets > 10, "the exchange has only {packets} packets");
}

#[test]
fn every_reason_has_its_row() {
    let rows = DOCUMENT.lines().skip_while(|line| *line != "## Reasons");
    let rows = rows.take_while(|line| *line != "## Examples");
    let rows: Vec<_> = rows.filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
    assert_eq!(rows.len(), FailReason::ALL.len());
    for (row, reason) in rows.iter().zip(FailReason::ALL) {
        assert_eq!(row[..2], [&(reason as u8).to_string()[..], reason.name()]);
    }
}

#[test]
fn every_limit_is_the_one_that_is_compiled_in() {
    let limit = |what: &str| -> usize {
        let row = DOCUMENT.lines().map(cells).find(|row| row[0] == what && row.len() == 2);
        let row = row.unwrap_or_else(|| panic!("no limit of {what}"));
        let number = row[1].split(' ').next().unwrap_or_default();
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    assert_eq!(limit("a packet"), PACKET_BYTES);
    assert_eq!(limit("the bytes of one DATA"), PACKET_BYTES - DATA_HEADER_BYTES);
    assert_eq!(limit("channels an end has open"), usize::from(CHANNELS_MAX));
    assert_eq!(limit("a service or host name"), NAME_BYTES_MAX);
    assert_eq!(limit("the text of CLOSE"), TEXT_BYTES_MAX);
}
