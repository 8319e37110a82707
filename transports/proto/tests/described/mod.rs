//! docs/protocol.md, as tests read it: its blocks of examples, its tables, and messages as it writes
//! them. Knows no carrier.

use seaprox_proto::message::{Message, Target};

/// All of it.
pub(crate) const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

/// The lines between ```` ```name ```` and ```` ``` ````.
pub(crate) fn block(name: &str) -> Vec<&'static str> {
    let lines = DOCUMENT.lines().skip_while(|line| line.strip_prefix("```") != Some(name)).skip(1);
    let lines: Vec<_> = lines.take_while(|line| *line != "```").collect();
    assert!(!lines.is_empty(), "there is no block {name}");
    lines
}

/// The bytes of a line of hexadecimal, which begins with four blanks.
pub(crate) fn hexadecimal(line: &str) -> Option<Vec<u8>> {
    let digits = line.strip_prefix("    ")?;
    let bytes = digits.split(' ').map(|two| u8::from_str_radix(two, 16));
    Some(bytes.collect::<Result<_, _>>().unwrap_or_else(|_| panic!("{line:?}")))
}

/// What is described in a line, and the bytes in the lines after it.
pub(crate) fn examples(lines: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
    let mut examples = Vec::<(&str, Vec<u8>)>::new();
    for line in lines {
        match hexadecimal(line) {
            Some(bytes) => examples.last_mut().expect("bytes of something").1.extend(bytes),
            None => examples.push((line.trim_start(), Vec::new())),
        }
    }
    examples
}

/// A message as the document writes it.
pub(crate) fn described(message: &Message<'_>) -> String {
    let text = |bytes: &[u8]| format!("\"{}\"", bytes.escape_ascii());
    match *message {
        Message::Pad => "PAD".into(),
        Message::Hello(hello) => format!(
            "HELLO versions={}..={} flags={} channels_max={} initial_credit={} credit_max={} idle_seconds={}",
            hello.version_min,
            hello.version_max,
            hello.flags,
            hello.channels_max,
            hello.initial_credit,
            hello.credit_max,
            hello.idle_seconds,
        ),
        Message::Data { channel, fin, stopped, offset, bytes } => {
            let fin = if fin { " fin" } else { "" };
            let stopped = if stopped { " stopped" } else { "" };
            let offset = offset.map_or(String::new(), |offset| format!(" offset={offset}"));
            format!("DATA channel={:08x}{fin}{stopped}{offset} bytes={}", channel.0, text(bytes))
        }
        Message::Credit { channel, max_offset } => {
            format!("CREDIT channel={:08x} max_offset={max_offset}", channel.0)
        }
        Message::Open { channel, credit, target, client } => {
            let target = match target {
                Target::Service(name) => format!("service:{}", text(name)),
                Target::Name(name, port) => format!("name:{}:{port}", text(name)),
                Target::V4(ip, port) => std::net::SocketAddr::from((ip, port)).to_string(),
                Target::V6(ip, port) => std::net::SocketAddr::from((ip, port)).to_string(),
            };
            let client = client.map_or("none".into(), |client| client.to_string());
            format!(
                "OPEN channel={:08x} credit={credit} target={target} client={client}",
                channel.0
            )
        }
        Message::Opened { channel, credit } => {
            format!("OPENED channel={:08x} credit={credit}", channel.0)
        }
        Message::Reset { channel, reason, final_offset } => {
            format!("RESET channel={:08x} reason={reason} final_offset={final_offset}", channel.0)
        }
        Message::Stop { channel, reason } => {
            format!("STOP channel={:08x} reason={reason}", channel.0)
        }
        Message::Done { channel } => format!("DONE channel={:08x}", channel.0),
        Message::Ping(value) => format!("PING {value:016x}"),
        Message::Pong(value) => format!("PONG {value:016x}"),
        Message::Close { reason, text: said } => {
            format!("CLOSE reason={reason} text={}", text(said))
        }
        Message::Goaway { last } => format!("GOAWAY last={:08x}", last.0),
        Message::Skipped => "SKIPPED".into(),
    }
}

/// The cells of a row of a table.
pub(crate) fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}
