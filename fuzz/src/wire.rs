//! What two seaprox say to each other: messages, and the packets they come in.

use crate::bytes::Bytes;
use seaprox_proto::demarcator::{Broken, Demarcator};
use seaprox_proto::message::{Malformed, Message, PACKET_BYTES, parse};

/// A packet is messages, each of which is written as one that reads as the same, and byte for byte
/// as it was if its kind has only one form; up to where it is malformed, and cut off anywhere it is
/// malformed there.
pub fn message(packet: &[u8]) {
    let mut rest = packet;
    while !rest.is_empty() {
        let Ok((message, length)) = parse(rest) else { return };
        assert!((1..=rest.len()).contains(&length), "{message:?} is {length} bytes");
        let (own, after) = rest.split_at(length);
        check(&message, own);
        rest = after;
    }
}

fn check(message: &Message<'_>, own: &[u8]) {
    // What follows makes no difference, and what is missing does.
    assert_eq!(parse(own), Ok((*message, own.len())));
    let ends = [0, 1, own.len() / 2, own.len() - 1];
    for end in ends.into_iter().filter(|&end| end < own.len()) {
        assert_eq!(parse(&own[..end]), Err(Malformed), "{end} bytes of {message:?}");
    }
    let mut written = vec![0xee; message.length()];
    let short = written.len() - 1;
    assert_eq!(message.emit(&mut written[..short]), None);
    assert!(written.iter().all(|&byte| byte == 0xee), "{message:?} is written without room");
    assert_eq!(message.emit(&mut written), Some(written.len()));
    assert_eq!(parse(&written), Ok((*message, written.len())));
    let has_one_form = !matches!(message, Message::Hello(_) | Message::Skipped);
    assert!(!has_one_form || written == own, "{message:?} has two forms");
    assert!(*message == Message::Skipped || written.len() == own.len(), "{message:?}");
}

/// A packet is the same in whatever pieces it comes; and whatever a carrier says, there is room for
/// a piece, exactly as much as is left of the greatest packet.
pub fn demarcator(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut desk = Desk {
        demarcator: Demarcator::new(),
        buffer: Box::new([0; PACKET_BYTES]),
        under_way: None,
        sent: 0,
    };
    while !bytes.is_empty() {
        desk.receive(&mut bytes);
    }
}

struct Desk {
    demarcator: Demarcator,
    buffer: Box<[u8; PACKET_BYTES]>,
    /// As anybody would keep it: the stream of the packet that is under way, and its bytes.
    under_way: Option<(u16, Vec<u8>)>,
    /// Bytes of all packets so far, of which each has another value than those around it.
    sent: u64,
}

impl Desk {
    /// One piece: its stream, length and end are drawn.
    fn receive(&mut self, bytes: &mut Bytes<'_>) {
        let act = bytes.byte();
        let end = act & 1 == 1;
        let mut stream = u16::from(act >> 1 & 1);
        if act & 4 == 0 {
            // As a carrier in order does it.
            stream = self.under_way.as_ref().map_or(stream, |(stream, _)| *stream);
        }
        let length = match act >> 3 & 3 {
            0 => bytes.below(256),
            1 => bytes.below(256) << 6,
            2 => PACKET_BYTES - bytes.below(256),
            // No carrier gives more than there is room for, but it may say so.
            _ => bytes.u64() as usize,
        };
        let room = self.demarcator.room(&mut self.buffer);
        let before = self.under_way.as_ref().map_or(0, |(_, packet)| packet.len());
        assert_eq!(room.len(), PACKET_BYTES - before);
        let piece: Vec<u8> = (0..length.min(room.len())).map(|at| self.value(at)).collect();
        self.demarcator.room(&mut self.buffer)[..piece.len()].copy_from_slice(&piece);
        self.sent += piece.len() as u64;
        let got = self.demarcator.piece(stream, length, end);
        assert_eq!(got, self.expected(stream, length, end, piece));
    }

    fn value(&self, at: usize) -> u8 {
        let place = self.sent + at as u64;
        (place ^ place >> 8) as u8
    }

    fn expected(
        &mut self,
        stream: u16,
        length: usize,
        end: bool,
        piece: Vec<u8>,
    ) -> Result<Option<usize>, Broken> {
        let (of, mut packet) = self.under_way.take().unwrap_or((stream, Vec::new()));
        let is_too_long =
            length > piece.len() || packet.len() + length + usize::from(!end) > PACKET_BYTES;
        if of != stream || is_too_long {
            // The link ends; another begins.
            self.demarcator = Demarcator::new();
            return Err(if of == stream { Broken::TooLong } else { Broken::OtherStream });
        }
        packet.extend(piece);
        if end {
            assert_eq!(self.buffer[..packet.len()], packet[..]);
            return Ok(Some(packet.len()));
        }
        self.under_way = (!packet.is_empty()).then_some((stream, packet));
        Ok(None)
    }
}
