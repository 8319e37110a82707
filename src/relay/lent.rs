//! The pairs with a channel, whose bytes rest in memory that its transport lends: it is filled and
//! drained by the calls themselves, so no byte is copied on its way but from channel to channel.
//! Nothing is ever in between: what the other side does not take stays where it is.

use super::{End, Pumped, Relay, note_read, stops, weigh, write_failed};
use crate::side::Flags;
use crate::sys::Sys;
use crate::transport::{Lent, Room, Transport};

/// After about this many bytes of one direction others have their turn: all channels of a link
/// share one way out. Over UDP what two full packets bring is one send: not more than 64 KiB.
pub(super) const LENT_TURN_BYTES: usize = 60_000;

impl<K: Sys> Relay<'_, K> {
    /// From a descriptor to a channel: read straight into the room that is lent.
    pub(crate) fn fill<T: Transport<K>>(
        &mut self,
        mut from: End<'_>,
        mut to: End<'_>,
        dest: &mut T,
    ) -> Pumped {
        let mut moved = 0;
        loop {
            if let Some(stopped) = stops(from.side, to.side, moved >= LENT_TURN_BYTES) {
                return stopped;
            }
            let room = match room(&mut to, dest) {
                Ok(room) => room,
                Err(stopped) => return stopped,
            };
            let asked = room.len();
            match self.sys.recv(from.fd, room) {
                Ok(bytes) => {
                    note_read(&mut from, bytes, asked);
                    if bytes > 0 {
                        // Bulk, if it fills what it is given: then it is muted while it is blocked.
                        let bulk = from.side.flags.has(Flags::BULK);
                        weigh(from.side, (bytes == asked) != bulk);
                        dest.commit(to.handle, bytes);
                        from.side.bytes += bytes as u64;
                        moved += bytes;
                    }
                }
                Err(errno) => {
                    if let Err(stopped) = self.read_failed(&mut from, errno) {
                        return stopped;
                    }
                }
            }
        }
    }

    /// From a channel to a descriptor: written straight from where the bytes were received.
    pub(super) fn drain<F: Transport<K>>(
        &mut self,
        mut from: End<'_>,
        mut to: End<'_>,
        source: &mut F,
    ) -> Pumped {
        let mut moved = 0;
        loop {
            if let Some(stopped) = stops(from.side, to.side, moved >= LENT_TURN_BYTES) {
                return stopped;
            }
            let bytes = match lent(&mut from, source) {
                Ok(bytes) => bytes,
                Err(stopped) => return stopped,
            };
            self.be_prompt(&mut to, bytes.len());
            match self.sys.send(to.fd, bytes) {
                Ok(sent) => {
                    source.consume(from.handle, sent);
                    from.side.bytes += sent as u64;
                    moved += sent;
                }
                Err(errno) => return write_failed(&mut to, errno),
            }
        }
    }

    /// From a channel to a channel.
    pub(super) fn carry<F: Transport<K>, T: Transport<K>>(
        &mut self,
        mut from: End<'_>,
        mut to: End<'_>,
        source: &mut F,
        dest: &mut T,
    ) -> Pumped {
        let mut moved = 0;
        loop {
            if let Some(stopped) = stops(from.side, to.side, moved >= LENT_TURN_BYTES) {
                return stopped;
            }
            let bytes = match lent(&mut from, source) {
                Ok(bytes) => bytes,
                Err(stopped) => return stopped,
            };
            let room = match room(&mut to, dest) {
                Ok(room) => room,
                Err(stopped) => return stopped,
            };
            let taken = bytes.len().min(room.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            dest.commit(to.handle, taken);
            source.consume(from.handle, taken);
            from.side.bytes += taken as u64;
            moved += taken;
        }
    }
}

/// What a channel has to read, or how that stops the direction.
fn lent<'t, K: Sys, F: Transport<K>>(
    from: &mut End<'_>,
    source: &'t mut F,
) -> Result<&'t [u8], Pumped> {
    let flags = &mut from.side.flags;
    match source.bytes(from.handle) {
        Lent::Bytes(bytes) => Ok(bytes),
        Lent::Drained => {
            flags.clear(Flags::READABLE);
            Err(Pumped::Drained)
        }
        Lent::Ended => {
            flags.set(Flags::ENDED);
            Err(if flags.has(Flags::BROKEN) { Pumped::Reset } else { Pumped::Ended })
        }
        Lent::Reset(reason) => {
            from.side.reason = reason as u8;
            Err(Pumped::Reset)
        }
    }
}

/// Where bytes for a channel are to be put, or how that stops the direction.
pub(super) fn room<'t, K: Sys, T: Transport<K>>(
    to: &mut End<'_>,
    dest: &'t mut T,
) -> Result<&'t mut [u8], Pumped> {
    match dest.room(to.handle) {
        Room::Bytes(room) => Ok(room),
        Room::Full => {
            to.side.flags.clear(Flags::WRITABLE);
            Err(Pumped::Blocked)
        }
        Room::Broken => Err(Pumped::Broken),
    }
}
