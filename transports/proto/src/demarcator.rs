//! Makes whole packets of the pieces a carrier gives, in the one buffer they are received into: no
//! byte is moved. Knows no message.
//!
//! Invariant: a packet is under way if and only if `bytes > 0`; it is of `stream`, its first
//! `bytes` are at the start of the buffer, and `bytes < PACKET_BYTES`.

use crate::message::PACKET_BYTES;
use core::fmt;

/// Where one packet ends and the next begins.
///
/// ```
/// use seaprox_proto::demarcator::Demarcator;
/// use seaprox_proto::message::PACKET_BYTES;
///
/// let mut buffer = [0; PACKET_BYTES];
/// let mut demarcator = Demarcator::new();
/// for (piece, end) in [(&b"a pac"[..], false), (b"ket", true)] {
///     demarcator.room(&mut buffer)[..piece.len()].copy_from_slice(piece);
///     let packet = demarcator.piece(1, piece.len(), end);
///     assert_eq!(packet, Ok(end.then_some(8)));
/// }
/// assert_eq!(&buffer[..8], b"a packet");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demarcator {
    stream: u16,
    bytes: u16,
}

// What has arrived of a packet that is under way.
const _: () = assert!(PACKET_BYTES <= u16::MAX as usize);

/// The peer sent what is no packet: it broke the protocol, and the link is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Bytes of another stream before the end of a packet.
    OtherStream,
    /// A packet longer than [`PACKET_BYTES`].
    TooLong,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::OtherStream => "a packet of another stream within a packet",
            Broken::TooLong => "a packet that is too long",
        })
    }
}

impl core::error::Error for Broken {}

impl Demarcator {
    /// No packet is under way.
    #[must_use]
    pub const fn new() -> Self {
        Demarcator { stream: 0, bytes: 0 }
    }

    /// Where the next piece is to be received. Never empty. A packet that was whole is overwritten.
    pub fn room<'b>(&self, buffer: &'b mut [u8; PACKET_BYTES]) -> &'b mut [u8] {
        &mut buffer[usize::from(self.bytes)..]
    }

    /// So many bytes of a packet were put at the start of the room; `end`: they complete it. Gives
    /// the length of the packet when it is whole; it is at the start of the buffer then. O(1).
    ///
    /// # Errors
    /// They cannot be of a packet. Nothing was taken; what comes after them can make no sense.
    #[inline]
    pub fn piece(&mut self, stream: u16, bytes: usize, end: bool) -> Result<Option<usize>, Broken> {
        let before = usize::from(self.bytes);
        if before > 0 && stream != self.stream {
            return Err(Broken::OtherStream);
        }
        // The end comes with a packet's last bytes, never after them: when the buffer is full there
        // is more to come, and there would be no room to see it in.
        let most = if end { PACKET_BYTES } else { PACKET_BYTES - 1 };
        if bytes > most - before {
            return Err(Broken::TooLong);
        }
        let bytes = before + bytes;
        *self = Demarcator { stream, bytes: if end { 0 } else { bytes as u16 } };
        Ok(end.then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    fn config() -> ProptestConfig {
        let usual = ProptestConfig::default();
        match cfg!(miri) {
            true => ProptestConfig { cases: 3, failure_persistence: None, ..usual },
            false => usual,
        }
    }

    /// Packets of some stream: short ones, and such as just fit.
    fn any_packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
        let length = prop_oneof![4 => 1..50usize, 1 => PACKET_BYTES - 3..=PACKET_BYTES];
        (any::<u16>(), length, any::<u8>()).prop_map(|(stream, length, first)| {
            (stream, (0..length).map(|at| first.wrapping_add(at as u8)).collect())
        })
    }

    /// A demarcator and the buffer it is lent.
    struct Desk {
        demarcator: Demarcator,
        buffer: Box<[u8; PACKET_BYTES]>,
    }

    impl Desk {
        fn new() -> Desk {
            Desk { demarcator: Demarcator::new(), buffer: Box::new([0; PACKET_BYTES]) }
        }

        /// A carrier gives as much of the packet as it pleases and there is room for; the end, if
        /// it gave all of it. Returns how much, and what became of it.
        fn receive(
            &mut self,
            stream: u16,
            rest: &[u8],
            most: usize,
        ) -> (usize, Result<Option<usize>, Broken>) {
            let room = self.demarcator.room(&mut self.buffer);
            let bytes = most.min(rest.len()).min(room.len());
            room[..bytes].copy_from_slice(&rest[..bytes]);
            (bytes, self.demarcator.piece(stream, bytes, bytes == rest.len()))
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn any_fragmentation_gives_the_same_packets(
            packets in prop::collection::vec(any_packet(), 1..6),
            cuts in prop::collection::vec(prop_oneof![0..9usize, 0..=PACKET_BYTES], 1..20),
        ) {
            let mut cuts = cuts.into_iter().cycle();
            // With only cuts of nothing there would be no end.
            let mut cut = || cuts.next().map_or(1, |cut| if cut == 0 { 1_000 } else { cut });
            let mut desk = Desk::new();
            for (stream, packet) in packets {
                let mut sent = 0;
                let length = loop {
                    let (bytes, got) = desk.receive(stream, &packet[sent..], cut());
                    sent += bytes;
                    match got {
                        Ok(Some(length)) => break length,
                        Ok(None) => prop_assert!(sent < packet.len()),
                        Err(broken) => prop_assert!(false, "{broken:?} of {}", packet.len()),
                    }
                };
                prop_assert_eq!(sent, packet.len());
                prop_assert_eq!(&desk.buffer[..length], &packet[..]);
            }
        }

        #[test]
        fn another_stream_within_a_packet_is_an_error(
            (stream, packet) in any_packet(), other in any::<u16>(), at in 0..PACKET_BYTES,
        ) {
            prop_assume!(other != stream);
            let mut desk = Desk::new();
            let cut = at % packet.len();
            let (sent, got) = desk.receive(stream, &packet, cut);
            prop_assert_eq!((sent, got), (cut, Ok(None)));
            let is_between = cut == 0;
            let (_, got) = desk.receive(other, b"x", 1);
            prop_assert_eq!(got, if is_between { Ok(Some(1)) } else { Err(Broken::OtherStream) });
            // The packet that was broken into is as it was.
            let (_, got) = desk.receive(stream, &packet[cut..], PACKET_BYTES);
            prop_assert_eq!(got, Ok(Some(packet.len())));
            prop_assert_eq!(is_between || desk.buffer[..packet.len()] == packet[..], true);
        }

        #[test]
        fn a_longer_packet_is_an_error(more in 1..40_000usize, cut in 1..20_000usize) {
            let packet = vec![7; PACKET_BYTES + more];
            let mut desk = Desk::new();
            let mut sent = 0;
            let broken = loop {
                let (bytes, got) = desk.receive(3, &packet[sent..], cut);
                sent += bytes;
                match got {
                    Ok(length) => prop_assert_eq!((length, sent < PACKET_BYTES), (None, true)),
                    Err(broken) => break broken,
                }
            };
            prop_assert_eq!((broken, sent), (Broken::TooLong, PACKET_BYTES));
        }

        /// Whatever numbers a carrier gives.
        #[test]
        fn the_room_is_what_is_left_and_never_empty(
            pieces in prop::collection::vec(
                (0..3u16, prop_oneof![0..100usize, 16_000..=PACKET_BYTES, any::<usize>()], any::<bool>()),
                0..30,
            ),
        ) {
            let mut desk = Desk::new();
            let (mut of, mut length) = (0, 0usize);
            for (stream, bytes, end) in pieces {
                let whole = length.saturating_add(bytes);
                let expected = if length > 0 && stream != of {
                    Err(Broken::OtherStream)
                } else if whole > PACKET_BYTES || whole == PACKET_BYTES && !end {
                    Err(Broken::TooLong)
                } else {
                    (of, length) = (stream, if end { 0 } else { whole });
                    Ok(end.then_some(whole))
                };
                prop_assert_eq!(desk.demarcator.piece(stream, bytes, end), expected);
                prop_assert!(length < PACKET_BYTES);
                prop_assert_eq!(desk.demarcator.room(&mut desk.buffer).len(), PACKET_BYTES - length);
            }
        }
    }
}
