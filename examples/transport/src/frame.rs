//! What two ends of a line say: four bytes, and of some kinds a body. Knows no state.

/// Bytes before each body: kind, number of the connection, length of the body (big-endian).
pub(crate) const HEADER_BYTES: usize = 4;

/// Bytes of the longest message that is no data: a RESET.
pub(crate) const CONTROL_BYTES_MAX: usize = HEADER_BYTES + 1;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A connection is wanted.
    Open = 1,
    /// It is there.
    Opened = 2,
    /// Its next bytes.
    Data = 3,
    /// No more bytes will come.
    End = 4,
    /// It is over, and this is why: one byte, a reason's number.
    Reset = 5,
}

/// How a message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) number: u8,
    pub(crate) length: u16,
}

impl Header {
    /// `None`: nobody says that.
    pub(crate) fn read([kind, number, high, low]: [u8; HEADER_BYTES]) -> Option<Header> {
        let length = u16::from_be_bytes([high, low]);
        let kind = match (kind, length) {
            (1, 0) => Kind::Open,
            (2, 0) => Kind::Opened,
            (3, 1..) => Kind::Data,
            (4, 0) => Kind::End,
            (5, 1) => Kind::Reset,
            _ => return None,
        };
        Some(Header { kind, number, length })
    }

    pub(crate) fn bytes(self) -> [u8; HEADER_BYTES] {
        let [high, low] = self.length.to_be_bytes();
        [self.kind as u8, self.number, high, low]
    }
}
