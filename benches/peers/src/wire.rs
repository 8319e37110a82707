//! What client and backend say to each other: the first byte of a connection
//! tells the backend how to behave on it.

/// Bytes of the first message of every connection, and of every short one.
pub(crate) const GREETING_BYTES: usize = 64;

/// How the backend behaves on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Sends back what comes, from its event loop.
    Echo = b'E' as isize,
    /// Sends back what comes, from a blocking thread of the connection's own:
    /// the shortest path, for measuring round trips.
    EchoAlone = b'A' as isize,
    /// Sends back the greeting and closes.
    Short = b'S' as isize,
    /// Sends without end, once greeted.
    Source = b'B' as isize,
}

impl Behaviour {
    /// The message that asks for it.
    pub(crate) fn greeting(self) -> [u8; GREETING_BYTES] {
        [self as u8; GREETING_BYTES]
    }

    /// What a first byte asks for.
    pub(crate) fn of(byte: u8) -> Option<Self> {
        [Self::Echo, Self::EchoAlone, Self::Short, Self::Source]
            .into_iter()
            .find(|&behaviour| behaviour as u8 == byte)
    }
}
