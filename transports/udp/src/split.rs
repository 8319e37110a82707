//! A packet of the link's, taken apart into what fits datagrams: DATA is cut anywhere, everything else
//! stays whole. Knows no slot.
//!
//! Invariant: what the pieces say, one after another, is what the packet said.

use seaprox_proto::message::{self, Message, OFFSET_HEADER_BYTES, Piece};

/// It is not whole messages, or one of them does not fit a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A piece of DATA shorter than this is not worth its header, if there is a datagram to follow.
const PIECE_BYTES_MIN: usize = 64;

/// What is left of a packet.
pub(crate) struct Split<'p> {
    rest: &'p [u8],
    /// DATA of which a part has gone.
    data: Option<Piece<'p>>,
    datagram_bytes: usize,
    saw_close: bool,
}

impl<'p> Split<'p> {
    /// `datagram_bytes`: of messages in each.
    pub(crate) fn new(packet: &'p [u8], datagram_bytes: usize) -> Split<'p> {
        Split { rest: packet, data: None, datagram_bytes, saw_close: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty() && self.data.is_none()
    }

    /// Whether one of the messages so far ends the link.
    pub(crate) fn saw_close(&self) -> bool {
        self.saw_close
    }

    /// Fills the next datagram, and gives how many bytes that is. O(bytes).
    ///
    /// # Errors
    /// See [`Malformed`].
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<usize, Malformed> {
        let limit = self.datagram_bytes.min(out.len());
        let mut filled = 0;
        loop {
            if let Some(data) = self.data.take() {
                let room = limit - filled;
                let (now, later) = if data.length() <= room {
                    (Some(data), None)
                } else if room >= OFFSET_HEADER_BYTES + PIECE_BYTES_MIN {
                    let (now, later) = data.split(room - OFFSET_HEADER_BYTES);
                    (Some(now), Some(later))
                } else {
                    (None, Some(data))
                };
                if let Some(now) = now {
                    filled += now.emit(&mut out[filled..limit]).ok_or(Malformed)?;
                }
                if later.is_some() {
                    self.data = later;
                    break;
                }
            }
            if self.rest.is_empty() {
                break;
            }
            if let Some(data) = Piece::parse(self.rest).map_err(|_| Malformed)? {
                self.rest = &self.rest[data.length()..];
                self.data = Some(data);
                continue;
            }
            let (message, length) = message::parse(self.rest).map_err(|_| Malformed)?;
            if length <= limit - filled {
                self.saw_close |= matches!(message, Message::Close { .. });
                out[filled..filled + length].copy_from_slice(&self.rest[..length]);
                filled += length;
            } else {
                break;
            }
            self.rest = &self.rest[length..];
        }
        // Nothing fits an empty datagram: it never will.
        if filled == 0 { Err(Malformed) } else { Ok(filled) }
    }
}
