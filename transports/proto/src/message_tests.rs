use super::*;
use core::net::{IpAddr, SocketAddr};
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// Few cases under an interpreter, which may read no file either.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    match cfg!(miri) {
        true => ProptestConfig { cases: 6, failure_persistence: None, ..usual },
        false => ProptestConfig { cases: 2048, ..usual },
    }
}

/// What messages are built from.
type Draw = (u8, bool, u16, u32, u32, u64, Vec<u8>, Option<SocketAddr>);

const KINDS: u8 = 18;

fn any_draw() -> impl Strategy<Value = Draw> {
    let client = prop::option::of(any::<(IpAddr, u16)>().prop_map(SocketAddr::from));
    let bytes = prop::collection::vec(any::<u8>(), 0..=NAME_BYTES_MAX);
    let numbers = (0..KINDS, any::<bool>(), any::<u16>(), any::<u32>(), any::<u32>());
    (numbers, any::<u64>(), bytes, client)
        .prop_map(|((k, flag, a, b, c), d, bytes, client)| (k, flag, a, b, c, d, bytes, client))
}

fn message((kind, flag, a, b, c, d, bytes, client): &Draw) -> Message<'_> {
    let (a, b, c, d, bytes) = (*a, *b, *c, *d, &bytes[..]);
    let channel = ChannelId(b);
    let mut ip = [0; 16];
    ip[..8].copy_from_slice(&d.to_le_bytes());
    let open = |target| Message::Open { channel, credit: c, target, client: *client };
    match kind {
        0 => Message::Pad,
        1 => Message::Hello(Hello {
            version_min: b as u8,
            version_max: (b >> 8) as u8,
            flags: (b >> 16) as u8,
            channels_max: a,
            initial_credit: c,
            credit_max: d as u32,
            idle_seconds: (d >> 32) as u16,
        }),
        2 => Message::Data { channel, fin: *flag, stopped: false, offset: None, bytes },
        16 => Message::Data {
            channel,
            fin: *flag,
            stopped: *flag && a % 2 == 0,
            offset: Some(c),
            bytes,
        },
        3 => Message::Credit { channel, max_offset: c },
        4 => open(Target::Service(bytes)),
        5 => open(Target::Name(bytes, a)),
        6 => open(Target::V4(b.to_le_bytes(), a)),
        7 => open(Target::V6(ip, a)),
        8 => Message::Opened { channel, credit: c },
        9 => Message::Reset { channel, reason: a, final_offset: c },
        10 => Message::Stop { channel, reason: a },
        11 => Message::Done { channel },
        12 => Message::Ping(d),
        13 => Message::Pong(d),
        14 => Message::Close { reason: a, text: &bytes[..bytes.len() / 4] },
        15 => Message::Goaway { last: channel },
        _ => Message::Skipped,
    }
}

fn emitted(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0xee; message.length()];
    assert_eq!(message.emit(&mut bytes), Some(bytes.len()), "{message:?}");
    bytes
}

/// Whether every message of this kind has one form only.
fn has_one_form(message: &Message<'_>) -> bool {
    !matches!(message, Message::Hello(_) | Message::Skipped)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_emitted_parses_to_the_same(draw in any_draw(), after in any::<[u8; 3]>()) {
        let message = message(&draw);
        let mut bytes = emitted(&message);
        let length = bytes.len();
        prop_assert_eq!(parse(&bytes), Ok((message, length)));
        // What follows is not looked at.
        bytes.extend(after);
        prop_assert_eq!(parse(&bytes), Ok((message, length)));
    }

    #[test]
    fn a_prefix_is_malformed(draw in any_draw()) {
        let bytes = emitted(&message(&draw));
        for end in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..end]), Err(Malformed), "{} of {:?}", end, bytes);
        }
    }

    #[test]
    fn without_room_nothing_is_written(draw in any_draw(), less in 1..300usize) {
        let message = message(&draw);
        let mut out = vec![0xee; message.length().saturating_sub(less)];
        prop_assert_eq!(message.emit(&mut out), None);
        prop_assert!(out.iter().all(|&byte| byte == 0xee));
    }

    #[test]
    fn any_bytes_are_a_message_of_one_form_or_none(
        kind in prop_oneof![0..=0x10u8, any::<u8>()],
        mut bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            // Reserved bytes and lengths are mostly zero or small.
            prop::collection::vec(prop_oneof![Just(0), 0..8u8], 0..64),
        ],
    ) {
        bytes.insert(0, kind);
        if let Ok((message, length)) = parse(&bytes) {
            prop_assert!((1..=bytes.len()).contains(&length));
            let again = emitted(&message);
            prop_assert_eq!(parse(&again), Ok((message, again.len())));
            prop_assert!(!has_one_form(&message) || again == bytes[..length]);
        }
    }

    #[test]
    fn a_message_with_one_byte_changed_is_a_message_of_one_form_or_none(
        draw in any_draw(),
        (place, byte) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let mut bytes = emitted(&message(&draw));
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok((message, length)) = parse(&bytes) {
            let again = emitted(&message);
            prop_assert!(!has_one_form(&message) || again == bytes[..length]);
        }
    }

    #[test]
    fn a_kind_from_0x80_on_is_skipped(
        (kind, reserved) in (0x80..=0xffu8, any::<u8>()),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let [low, high] = (bytes.len() as u16).to_le_bytes();
        let message = [&[kind, reserved, low, high], &bytes[..]].concat();
        prop_assert_eq!(parse(&message), Ok((Message::Skipped, message.len())));
        prop_assert_eq!(parse(&message[..message.len() - 1]), Err(Malformed));
    }

    #[test]
    fn an_unknown_kind_below_0x80_is_malformed(
        kind in prop_oneof![Just(0x02), 0x09..=0x0au8, 0x10..0x80u8],
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(Just(0), 0..300),
        ],
    ) {
        let message = [&[kind], &bytes[..]].concat();
        prop_assert_eq!(parse(&message), Err(Malformed));
    }

    #[test]
    fn the_parts_of_an_id_are_what_it_was_made_of(
        by_initiator in any::<bool>(), generation in any::<u16>(), slot in any::<u16>(),
    ) {
        let id = ChannelId::new(by_initiator, generation, slot);
        prop_assert_eq!(id.by_initiator(), by_initiator);
        prop_assert_eq!(id.generation(), generation % (1 << 15));
        prop_assert_eq!(id.slot(), slot);
    }

    #[test]
    fn a_close_says_as_much_as_fits(text in prop::collection::vec(any::<char>(), 0..80)) {
        let text = String::from_iter(text);
        let message = Message::close(FailReason::Shutdown, &text);
        let Message::Close { reason: 12, text: said } = message else { panic!("{message:?}") };
        let said = str::from_utf8(said).unwrap();
        prop_assert!(text.starts_with(said));
        let more = text[said.len()..].chars().next().map_or(0, char::len_utf8);
        prop_assert!(more == 0 || said.len() + more > TEXT_BYTES_MAX);
        prop_assert_eq!(emitted(&message).len(), 4 + said.len());
    }
}

#[test]
fn no_reserved_byte_may_be_set() {
    let channel = ChannelId(0x8001_0002);
    for (message, reserved) in [
        (Message::Credit { channel, max_offset: 1 }, &[1, 2, 3][..]),
        (Message::Opened { channel, credit: 1 }, &[1, 2, 3]),
        (Message::Reset { channel, reason: 1, final_offset: 1 }, &[1]),
        (Message::Stop { channel, reason: 1 }, &[1]),
        (Message::Done { channel }, &[1, 2, 3]),
        (Message::Ping(1), &[1, 2, 3]),
        (Message::Pong(1), &[1, 2, 3]),
        (Message::Goaway { last: channel }, &[1, 2, 3]),
    ] {
        let bytes = emitted(&message);
        for &place in reserved {
            let mut bytes = bytes.clone();
            assert_eq!(bytes[place], 0);
            bytes[place] = 1;
            assert_eq!(parse(&bytes), Err(Malformed), "{message:?}, byte {place}");
        }
    }
    // Flags nobody knows, or not so together; a port of a service.
    for flags in 0..=u8::MAX {
        let is_known = matches!(flags, 0..=3 | 7);
        let data = [1, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&data).is_ok(), is_known, "{flags}");
    }
    assert_eq!(parse(&[4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed));
    assert!(parse(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_ok());
}

/// A later version's HELLO is read all the same, or its sender could not be told why it is refused.
#[test]
fn what_is_reserved_in_a_hello_is_not_looked_at() {
    let hello = Hello {
        version_min: 2,
        version_max: 3,
        flags: 0xff,
        channels_max: 4,
        initial_credit: 5,
        credit_max: 6,
        idle_seconds: 7,
    };
    let mut bytes = emitted(&Message::Hello(hello));
    for place in [6, 7, 18, 19] {
        bytes[place] = 0xff;
    }
    assert_eq!(parse(&bytes), Ok((Message::Hello(hello), 20)));
}

#[test]
fn what_is_too_long_is_not_said() {
    let mut out = vec![0xee; 70_000];
    let long = vec![b'a'; 65_536];
    let channel = ChannelId(0);
    let open = |target| Message::Open { channel, credit: 0, target, client: None };
    for (message, is_sayable) in [
        (
            Message::Data {
                channel,
                fin: false,
                stopped: false,
                offset: None,
                bytes: &long[..65_535],
            },
            true,
        ),
        (Message::Data { channel, fin: false, stopped: false, offset: None, bytes: &long }, false),
        (Message::Data { channel, fin: true, stopped: true, offset: Some(1), bytes: b"" }, true),
        (Message::Data { channel, fin: true, stopped: true, offset: None, bytes: b"" }, false),
        (Message::Data { channel, fin: false, stopped: true, offset: Some(1), bytes: b"" }, false),
        (open(Target::Service(&long[..255])), true),
        (open(Target::Service(&long[..256])), false),
        (open(Target::Name(&long[..255], 1)), true),
        (open(Target::Name(&long[..256], 1)), false),
        (Message::Close { reason: 0, text: &long[..64] }, true),
        (Message::Close { reason: 0, text: &long[..65] }, false),
    ] {
        assert_eq!(message.emit(&mut out).is_some(), is_sayable);
        assert_eq!(out[0] != 0xee, is_sayable);
        out[0] = 0xee;
    }
    // Nor is it heard.
    let close = [&[0x0b, 65, 0, 0], &long[..65]].concat();
    assert_eq!(parse(&close), Err(Malformed));
}

#[test]
fn a_header_is_what_data_begins_with() {
    let channel = ChannelId(0x8123_4567);
    for offset in [None, Some(0xfedc_ba98)] {
        let data = |fin| Message::Data { channel, fin, stopped: false, offset, bytes: &[7; 300] };
        let bytes = emitted(&data(false));
        let header = data_header(channel, offset, 300);
        assert_eq!(&bytes[..bytes.len() - 300], header.as_bytes());
        assert_ne!(emitted(&data(true)), bytes);
    }
    assert_eq!(data_header(channel, None, 1).as_bytes().len(), DATA_HEADER_BYTES);
    assert_eq!(data_header(channel, Some(1), 1).as_bytes().len(), OFFSET_HEADER_BYTES);
}

#[test]
fn every_channel_has_a_stream_of_its_own() {
    let mut streams = vec![false; 1 << 16];
    streams[0] = true;
    for slot in (0..CHANNELS_MAX).step_by(if cfg!(miri) { 601 } else { 1 }) {
        for by_initiator in [false, true] {
            let stream = ChannelId::new(by_initiator, slot, slot).stream();
            assert_eq!(u32::from(stream), 1 + 2 * u32::from(slot) + u32::from(by_initiator));
            assert!(!core::mem::replace(&mut streams[usize::from(stream)], true));
        }
    }
    // No channel has this slot, but any peer may say that one does.
    let _ = ChannelId(u32::MAX).stream();
}

#[test]
fn the_version_is_the_highest_that_both_speak() {
    let speaks = |version_min, version_max| Hello {
        version_min,
        version_max,
        flags: 0,
        channels_max: 0,
        initial_credit: 0,
        credit_max: 0,
        idle_seconds: 0,
    };
    for (ours, theirs, version) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 5), Some(3)),
        ((2, 2), (1, 3), Some(2)),
        ((1, 1), (2, 3), None),
        // Who says so speaks nothing.
        ((1, 3), (3, 1), None),
    ] {
        let (ours, theirs) = (speaks(ours.0, ours.1), speaks(theirs.0, theirs.1));
        assert_eq!(ours.version_with(&theirs), version);
        assert_eq!(theirs.version_with(&ours), version);
    }
}

#[test]
fn any_number_is_some_reason() {
    assert_eq!(fail_reason(0), None);
    for reason in FailReason::ALL {
        assert_eq!(fail_reason(reason as u16), Some(reason));
    }
    // Not what its low byte says.
    for number in [FailReason::ALL.len() as u16 + 1, 255, 256, 257, u16::MAX] {
        assert_eq!(fail_reason(number), Some(FailReason::Other));
    }
}

#[test]
fn a_target_is_what_is_wanted() {
    for target in [
        Target::Service(b""),
        Target::Service(b"web"),
        Target::V4([1, 2, 3, 4], 80),
        Target::V6([7; 16], 65535),
        Target::Name(&[b'x'; NAME_BYTES_MAX], 443),
    ] {
        assert_eq!(Target::from(Wanted::from(target)), target);
    }
}
