//! docs/protocol.md and the code say the same of links over UDP: every datagram and message both ways,
//! how a packet is split, a whole link as the code itself speaks it, and every number.

#[path = "../../proto/tests/described/mod.rs"]
mod described;
#[path = "document/keyed.rs"]
mod keyed;

use described::{DOCUMENT, block, cells, described, examples};
use seaprox_noise::keyring;
use seaprox_proto::message::{Message, OFFSET_HEADER_BYTES, Piece, parse};
use seaprox_udp::ack::{self, Received};
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::handshake::{
    Answer, Cookie, Heard, Init, Initiator, Limits, Responder, Response, Verdict, Versions,
};
use seaprox_udp::knocks;
use seaprox_udp::mtu;
use seaprox_udp::packet::{self, Header, Kind, Mode, Own, kind_of, take_apart};
use seaprox_udp::reliable::{Memory, Reliable, Terms};
use seaprox_udp::seal::{Checksum, Sealing, TAG_BYTES};
use seaprox_udp::slots::DATAGRAM_BYTES_MAX;
use seaprox_udp::socket::Path;
use seaprox_udp::time::Micros;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

/// As the document writes bytes.
fn written(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().chunks(32).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}

fn proof(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn limits(limits: Limits) -> String {
    format!("datagram_bytes_max={} window={}", limits.datagram_bytes_max, limits.window)
}

/// A datagram without messages as the document writes it, and as the code does.
fn without_messages(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    Some(match kind_of(Mode::Insecure, bytes)? {
        Kind::Init => {
            let init = Init::decode(bytes)?;
            let described = format!(
                "INIT versions={}..={} sender={:08x} nonce={:016x} proof={} {}",
                init.version_min,
                init.version_max,
                init.sender,
                init.nonce,
                proof(init.proof),
                limits(init.limits),
            );
            (described, init.encode().to_vec())
        }
        Kind::Response => {
            let response = Response::decode(bytes)?;
            let described = format!(
                "RESPONSE version={} refused={} receiver={:08x} nonce={:016x} sender={:08x} {}",
                response.version,
                response.refused.map_or("none", |reason| reason.name()),
                response.receiver,
                response.nonce,
                response.sender,
                limits(response.limits),
            );
            (described, response.encode().to_vec())
        }
        Kind::Cookie => {
            let cookie = Cookie::decode(bytes)?;
            let (receiver, nonce) = (cookie.receiver, cookie.nonce);
            let proof = proof(cookie.proof);
            let described =
                format!("COOKIE receiver={receiver:08x} nonce={nonce:016x} proof={proof}");
            (described, cookie.encode().to_vec())
        }
        Kind::Versions => {
            let versions = Versions::decode(bytes)?;
            let described = format!(
                "VERSIONS versions={}..={} receiver={:08x} nonce={:016x}",
                versions.version_min, versions.version_max, versions.receiver, versions.nonce,
            );
            (described, versions.encode().to_vec())
        }
        Kind::Data => return None,
    })
}

/// A message of the carrier as the document writes it.
fn own(own: &Own<'_>) -> String {
    match own {
        Own::Ack(ack) => {
            let ranges = ack.ascending().map(|range| match range.start() == range.end() {
                true => range.start().to_string(),
                false => format!("{}..={}", range.start(), range.end()),
            });
            let ranges = ranges.collect::<Vec<_>>().join(",");
            format!("ACK marked={} delay={} ranges={ranges}", ack.ce_count, ack.delay_micros)
        }
        Own::PathChallenge(value) => format!("PATH_CHALLENGE {value:016x}"),
        Own::PathResponse(value) => format!("PATH_RESPONSE {value:016x}"),
        Own::Probe => "PROBE".into(),
    }
}

/// What the code writes for it.
fn own_bytes(own: &Own<'_>) -> Vec<u8> {
    match own {
        Own::Ack(ack) => {
            let mut received = Received::new();
            for (nth, number) in ack.ascending().flatten().enumerate() {
                received.insert(number, Micros(0), true, nth < ack.ce_count.into());
            }
            let mut out = [0; ack::ACK_BYTES_MAX];
            let length = received.emit(Micros(ack.delay_micros), &mut out);
            out[..length].to_vec()
        }
        Own::PathChallenge(value) => packet::path_challenge(*value).to_vec(),
        Own::PathResponse(value) => packet::path_response(*value).to_vec(),
        Own::Probe => vec![packet::PROBE],
    }
}

/// The first message of these bytes, whoever's it is, as the document writes it, and its length.
fn any(bytes: &[u8]) -> (String, usize) {
    match Own::parse(bytes).unwrap_or_else(|_| panic!("{bytes:02x?}")) {
        Some((message, length)) => (own(&message), length),
        None => {
            let (message, length) = parse(bytes).unwrap_or_else(|_| panic!("{bytes:02x?}"));
            (described(&message), length)
        }
    }
}

#[test]
fn every_datagram_without_messages_is_what_its_bytes_say() {
    let examples = examples(&block("datagrams"));
    let mut kinds = BTreeSet::new();
    for (description, bytes) in &examples {
        let said = without_messages(bytes).unwrap_or_else(|| panic!("{description}: is none"));
        assert_eq!((&said.0[..], written(&said.1)), (*description, written(bytes)));
        kinds.insert(bytes[0]);
    }
    assert_eq!(kinds, (0x21..=0x24).collect(), "each kind has an example");
}

#[test]
fn every_message_of_the_carrier_is_what_its_bytes_say() {
    let examples = examples(&block("own"));
    let mut kinds = BTreeSet::new();
    for (description, bytes) in &examples {
        let parsed = Own::parse(bytes).unwrap_or_else(|_| panic!("{description}: is none"));
        let (message, length) = parsed.unwrap_or_else(|| panic!("{description}: is the link's"));
        assert_eq!(length, bytes.len(), "{description}");
        assert_eq!(own(&message), *description);
        assert_eq!(written(&own_bytes(&message)), written(bytes), "{description}");
        kinds.insert(bytes[0]);
    }
    let all = [packet::ACK, packet::PATH_CHALLENGE, packet::PATH_RESPONSE, packet::PROBE];
    assert_eq!(kinds, BTreeSet::from(all), "each kind has an example");
}

#[test]
fn what_is_no_message_of_the_carrier_is_refused() {
    for (description, bytes) in examples(&block("own-malformed")) {
        assert_eq!(Own::parse(&bytes), Err(packet::Malformed), "{description}");
    }
}

#[test]
fn what_is_ignored_is_no_datagram() {
    for (description, mut bytes) in examples(&block("ignored")) {
        assert_eq!(without_messages(&bytes), None, "{description}");
        let mode = take_apart(&mut bytes).map(|parts| parts.header.mode);
        assert_ne!(mode, Some(Mode::Insecure), "{description}");
    }
}

fn path() -> Path {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into()
}

fn terms(peer_index: u32, peer: Limits) -> Terms {
    Terms {
        peer_index,
        path: path(),
        peer,
        rtt_micros: None,
        flight_bytes_max: 1 << 20,
        algorithm: Algorithm::Bbr,
        random: 7,
    }
}

fn sealing(session: u64) -> Sealing {
    Sealing::Checksum(Checksum::new(session))
}

/// The parts of a block that begin with a line like `head`: that line, and what follows.
fn parts<'l>(lines: &'l [&'static str]) -> Vec<(&'static str, &'l [&'static str])> {
    let is_head = |line: &&str| !line.starts_with(' ');
    let heads = lines.iter().enumerate().filter(|(_, line)| is_head(line));
    let parts = heads.map(|(at, head)| {
        let rest = &lines[at + 1..];
        let end = rest.iter().position(is_head).unwrap_or(rest.len());
        (*head, &rest[..end])
    });
    parts.collect()
}

/// The messages of a part of the split: of DATA only the header is written, bytes are those of a
/// pattern that goes by their offset.
fn unfolded(lines: &[&'static str]) -> Vec<u8> {
    let mut all = Vec::new();
    for (description, mut bytes) in examples(lines) {
        if description.starts_with("DATA") {
            assert_eq!(bytes.len(), OFFSET_HEADER_BYTES, "{description}");
            let length = u16::from_le_bytes([bytes[2], bytes[3]]);
            let offset = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            let pattern =
                (0..length.into()).map(|at| offset.wrapping_add(at).wrapping_mul(0x9e37_79b9));
            bytes.extend(pattern.map(|value| (value >> 24) as u8));
            let (message, whole) = parse(&bytes).unwrap();
            assert_eq!(whole, bytes.len());
            let Message::Data { channel, fin, stopped: false, offset: Some(_), .. } = message
            else {
                panic!("{description}")
            };
            let fin = if fin { " fin" } else { "" };
            let said =
                format!("DATA channel={:08x}{fin} offset={offset}, {length} bytes", channel.0);
            assert_eq!(said, description);
        } else {
            assert_eq!(any(&bytes), (description.into(), bytes.len()));
        }
        all.extend(bytes);
    }
    all
}

/// Each DATA among these messages.
fn pieces_of(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (message, length) = parse(rest).unwrap();
        if matches!(message, Message::Data { .. }) {
            pieces.push(rest[..length].to_vec());
        }
        rest = &rest[length..];
    }
    pieces
}

#[test]
fn a_packet_is_split_and_joined_as_it_says() {
    let lines = block("split");
    let parts = parts(&lines);
    let [("packet", packet), datagrams @ ..] = &parts[..] else { panic!("no packet") };
    let packet = unfolded(packet);
    let narrow = Limits { datagram_bytes_max: mtu::LOWEST_BYTES, window: ack::WINDOW_MIN as u16 };
    let mut memory = Memory::<64, 128>::new();
    let mut sender = Reliable::new(memory.parts().slices, sealing(5), &terms(3, narrow), Micros(0));
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    sender.push(&packet).unwrap();
    assert_eq!(datagrams.len(), 3);
    for (number, (head, lines)) in datagrams.iter().enumerate() {
        let now = Micros(number as u64 * 10_000);
        assert_eq!(*head, "datagram");
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let emitted = sender.emit(now, &mut out).unwrap_or_else(|| panic!("datagram {number}"));
        let datagram = &out[..emitted.bytes()];
        assert!(datagram.len() <= mtu::LOWEST_BYTES.into());
        let body = &datagram[packet::HEADER_BYTES..datagram.len() - TAG_BYTES];
        assert_eq!(written(body), written(&unfolded(lines)), "datagram {number}");
        pieces.extend(pieces_of(body));
    }
    assert!(sender.emit(Micros(90_000), &mut [0; DATAGRAM_BYTES_MAX]).is_none());
    let [first, second] = &pieces[..] else { panic!("{} pieces", pieces.len()) };
    let [first, second] = [first, second].map(|bytes| Piece::parse(bytes).unwrap().unwrap());
    let header = first.joined(&second).expect("one goes on where the other ends");
    let joined = [&header[..], first.bytes, second.bytes].concat();
    assert_eq!(pieces_of(&packet), [joined], "together again");
}

/// How long a datagram is under way.
const WAY_MICROS: u64 = 10_000;

/// One datagram of the exchange, as the document says.
struct Step {
    head: &'static str,
    is_initiator: bool,
    at: Micros,
    parts: Vec<(&'static str, Vec<u8>)>,
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// The link's messages in it.
    fn packet(&self) -> Vec<u8> {
        let is_links = |bytes: &[u8]| Own::parse(bytes) == Ok(None);
        let messages = self.parts.iter().filter(|(description, bytes)| {
            !["HEADER", "TAG"].contains(&description.split(' ').next().unwrap()) && is_links(bytes)
        });
        messages.flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// That its descriptions and its length are right.
    fn check(&self) {
        let bytes = self.bytes();
        assert!(self.head.ends_with(&format!(", {} bytes", bytes.len())), "{}", self.head);
        let mut messages = self.parts.iter();
        let (description, head) = messages.next().unwrap();
        let header = Header::decode(head.first_chunk().unwrap()).unwrap();
        let said = format!(
            "HEADER key_slot={} number={} receiver={:08x}",
            header.key_slot, header.number, header.receiver
        );
        assert_eq!((&said[..], head.len()), (*description, packet::HEADER_BYTES));
        for (description, bytes) in messages {
            match *description {
                "TAG" => assert_eq!(bytes.len(), TAG_BYTES),
                _ => assert_eq!(any(bytes), (description.to_string(), bytes.len())),
            }
        }
    }
}

fn steps() -> Vec<Step> {
    let lines = block("datagram-exchange");
    let steps = parts(&lines).into_iter().map(|(head, lines)| {
        let words: Vec<_> = head.split([',', ' ']).filter(|part| !part.is_empty()).collect();
        let &[who, "at", at, _, "bytes"] = &words[..] else { panic!("{head:?}") };
        assert!(["initiator", "acceptor"].contains(&who), "{head}");
        let (is_initiator, at) = (who == "initiator", Micros(at.parse().unwrap()));
        Step { head, is_initiator, at, parts: examples(lines) }
    });
    steps.collect()
}

/// The datagrams that make the link are what both ends of the code say, and the first that carries
/// messages is what a link that begins so sends; all others have their numbers and their tags, and tell of
/// what can have arrived.
#[test]
fn the_code_speaks_the_exchange() {
    let steps = steps();
    let [init, response, rest @ ..] = &steps[..] else { panic!("no handshake") };
    let said = Init::decode(&init.bytes()).unwrap();
    let answer = Response::decode(&response.bytes()).unwrap();

    let mut initiator = Initiator::new(said.sender, said.nonce, said.limits, init.at);
    let sent = initiator.init(init.at).unwrap();
    assert_eq!(written(&sent), written(&init.bytes()));
    let mut responder = Responder::<1>::new([0; 16], answer.limits);
    let vacancy = Ok(());
    let Verdict::Accept(heard) = responder.hear_init(&sent, &path().peer, response.at, vacancy)
    else {
        panic!("no link")
    };
    let (answered, agreed): (Answer, _) = responder.accept(&heard, answer.sender);
    assert_eq!(written(&answered), written(&response.bytes()));
    let Heard::Accepted(also) = initiator.hear(response.at.after(WAY_MICROS), &answered) else {
        panic!("no link")
    };
    assert_eq!(also.session, agreed.session);

    let checksum = Checksum::new(agreed.session);
    let mut memory = Memory::<64, 128>::new();
    let terms = terms(also.peer_index, also.peer);
    let mut link =
        Reliable::new(memory.parts().slices, sealing(agreed.session), &terms, rest[0].at);
    link.push(&rest[0].packet()).unwrap();
    let mut out = [0; DATAGRAM_BYTES_MAX];
    let emitted = link.emit(rest[0].at, &mut out).expect("the first");
    assert_eq!(written(&out[..emitted.bytes()]), written(&rest[0].bytes()));

    // When each number of the acceptor's, and of the initiator's, has arrived.
    let mut arrived: [Vec<Micros>; 2] = Default::default();
    let mut last = response.at;
    assert!(rest.len() > 8, "the exchange has only {} datagrams", rest.len());
    for step in rest {
        step.check();
        assert!(step.at > last, "{}: not in turn", step.head);
        last = step.at;
        let own = usize::from(step.is_initiator);
        let number = arrived[own].len() as u64;
        let receiver = if step.is_initiator { agreed.own_index } else { also.own_index };
        let mode = Mode::Insecure;
        let header = Header { mode, key_slot: 0, number, receiver }.encode();
        let bytes = step.bytes();
        let body = &bytes[header.len()..bytes.len() - TAG_BYTES];
        let tag = checksum.tag(number, &header, body);
        let datagram = [&header[..], body, &tag].concat();
        assert_eq!(written(&datagram), written(&bytes), "{}", step.head);
        let messages = &step.parts[1..step.parts.len() - 1];
        for (_, message) in messages {
            if let Ok(Some((Own::Ack(ack), _))) = Own::parse(message) {
                let heard = arrived[1 - own].iter().filter(|at| **at <= step.at);
                assert_eq!(ack.largest + 1, heard.count() as u64, "{}", step.head);
            }
        }
        arrived[own].push(step.at.after(WAY_MICROS));
    }
}

/// A tag is made as the document says: computed here from its three lines.
#[test]
fn a_tag_is_what_the_formula_gives() {
    use twox_hash::{XxHash3_64, XxHash3_128};
    let steps = steps();
    let init = Init::decode(&steps[0].bytes()).unwrap();
    let response = Response::decode(&steps[1].bytes()).unwrap();
    let [initiator, acceptor] = [init.sender, response.sender].map(u32::to_le_bytes);
    let session =
        XxHash3_64::oneshot(&[&initiator[..], &acceptor, &init.nonce.to_le_bytes()].concat());
    for step in &steps[2..] {
        let mut datagram = step.bytes();
        let number = take_apart(&mut datagram).unwrap().header.number;
        let (rest, tag) = datagram.split_last_chunk::<TAG_BYTES>().unwrap();
        let (head, body) = rest.split_at(12);
        let seed = session.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sum = XxHash3_128::oneshot(body).rotate_left(41);
        let expected = sum.wrapping_add(XxHash3_128::oneshot_with_seed(seed, head));
        assert_eq!(*tag, expected.to_le_bytes(), "{}", step.head);
        assert_eq!(*tag, Checksum::new(session).tag(number, head, body), "{}", step.head);
    }
}

/// A constant that only its module knows.
fn inside(source: &str, name: &str) -> u64 {
    let lines = source.lines().map(|line| line.trim_start().trim_start_matches("pub "));
    let mut after = lines.filter_map(|line| line.strip_prefix(&format!("const {name}: ")[..]));
    let value = after.next().and_then(|line| line.split("= ").nth(1));
    let value = value.unwrap_or_else(|| panic!("there is no {name}"));
    value.trim_end_matches(';').replace('_', "").parse().unwrap_or_else(|_| panic!("{value}"))
}

#[test]
fn every_number_is_the_one_that_is_compiled_in() {
    let rows = DOCUMENT.lines().skip_while(|line| *line != "| of links over UDP | is |").skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).map(cells).collect();
    let rows: Vec<_> = rows.iter().map(|row| (row[0], row[1].replace(',', ""))).collect();
    let reliable = include_str!("../src/reliable.rs");
    let sent = include_str!("../src/sent.rs");
    let roaming = include_str!("../src/roaming.rs");
    let asks = include_str!("../src/handshake/initiator.rs");
    let numbers: Vec<(&str, u64)> = vec![
        ("bytes of INIT", packet::INIT_BYTES as u64),
        ("bytes of RESPONSE", packet::RESPONSE_BYTES as u64),
        ("bytes of COOKIE", packet::COOKIE_BYTES as u64),
        ("bytes of VERSIONS", packet::VERSIONS_BYTES as u64),
        ("bytes of DATA beside its messages", packet::OVERHEAD_BYTES as u64),
        ("bytes of a datagram, what every path is taken to carry", mtu::LOWEST_BYTES.into()),
        ("bytes of a datagram, at first", mtu::BASE_BYTES.into()),
        ("bytes of a datagram, at most in this version of seaprox", DATAGRAM_BYTES_MAX as u64),
        ("bits of a packet number", u64::from((packet::NUMBER_MAX + 1).trailing_zeros())),
        ("packet numbers that are known one by one", ack::WINDOW),
        ("the same, of the other end, at least", ack::WINDOW_MIN),
        ("ranges of an ACK", ack::RANGES_MAX as u64),
        ("bytes of an ACK, at most", ack::ACK_BYTES_MAX as u64),
        ("microseconds an ACK is held back", ack::ACK_DELAY_MICROS),
        ("microseconds, where a round trip is shorter", ack::ACK_DELAY_SHORT_MICROS),
        ("microseconds of an ACK's unit of delay", ack::DELAY_UNIT_MICROS),
        (
            "datagrams that have to arrive before an earlier one is lost",
            inside(sent, "REORDERING_PACKETS"),
        ),
        ("the same, on a path that reorders, at most", inside(sent, "REORDERING_PACKETS_MAX")),
        (
            "microseconds taken for the first round trip",
            inside(include_str!("../src/rtt.rs"), "INITIAL_MICROS"),
        ),
        (
            "microseconds between two requests for an ACK, at most",
            inside(reliable, "PROBE_MICROS_MAX"),
        ),
        ("datagrams of one request for an ACK", inside(reliable, "PROBES")),
        (
            "microseconds after which little is sent once more",
            inside(reliable, "COPY_AFTER_MICROS"),
        ),
        ("bytes that are little", inside(reliable, "COPY_BYTES_MAX")),
        (
            "bytes of DATA for which it is cut",
            inside(include_str!("../src/split.rs"), "PIECE_BYTES_MIN"),
        ),
        ("challenges to an address", inside(roaming, "CHALLENGES_MAX")),
        ("microseconds between them, at least", inside(roaming, "WAIT_MICROS_MIN")),
        ("microseconds between lost tries of a length", mtu::RETRY_MICROS),
        ("microseconds until a length that failed is tried again", mtu::RAISE_MICROS),
        ("microseconds between INIT and its first repeat", inside(asks, "RETRY_MICROS")),
        ("the same, at most", inside(asks, "RETRY_MICROS_MAX")),
        (
            "INITs a second without a proof",
            inside(include_str!("../src/flood.rs"), "INITS_A_SECOND"),
        ),
        (
            "microseconds a refusal is doubted",
            inside(include_str!("../src/carrier.rs"), "REFUSED_MICROS"),
        ),
        (
            "microseconds between INITs with keys, at most",
            inside(include_str!("../../noise/src/initiator.rs"), "RETRY_MICROS_MAX"),
        ),
        ("microseconds who has asked with keys is waited for", knocks::KNOCK_MICROS),
        ("who have asked and are waited for, at most", knocks::KNOCKS_MAX as u64),
        ("microseconds until keys are renewed", keyring::RENEW_MICROS),
        ("microseconds until keys are of no use", keyring::KEY_MICROS),
        ("packets until keys are renewed", keyring::PACKETS_RENEW),
        ("packets of a key, at most", keyring::PACKETS_MAX),
        ("the number of UDP among carriers", u64::from(seaprox_udp::keyed::CARRIER)),
    ];
    let numbers: Vec<_> = numbers.into_iter().map(|(what, n)| (what, n.to_string())).collect();
    assert_eq!(rows, numbers);
}
