//! Bytes of a source's transport that go before all others: what it says to the source in the place of the
//! dest, and what the source said before its dest was known. They rest in memory that is lent
//! (`lent.rs`), and are few. Knows not what they mean.

use super::lent::room;
use super::{End, Pumped, Relay, write_failed};
use crate::side::{Flags, Handle};
use crate::sys::Sys;
use crate::transport::{Lent, Transport};

impl<K: Sys> Relay<'_, K> {
    /// Writes all that `channel` has to a descriptor. Ends with what the channel holds: nothing is put
    /// into it meanwhile.
    ///
    /// # Errors
    /// What stopped it before.
    pub(crate) fn say<F: Transport<K>>(
        &mut self,
        channel: Handle,
        mut to: End<'_>,
        speaker: &mut F,
    ) -> Result<(), Pumped> {
        while let Lent::Bytes(bytes) = speaker.bytes(channel) {
            if !to.side.flags.has(Flags::WRITABLE) {
                return Err(Pumped::Blocked);
            }
            self.be_prompt(&mut to, bytes.len());
            match self.sys.send(to.fd, bytes) {
                Ok(sent) => speaker.consume(channel, sent),
                Err(errno) => return Err(write_failed(&mut to, errno)),
            }
        }
        Ok(())
    }

    /// The same, to a channel.
    ///
    /// # Errors
    /// What stopped it before.
    pub(crate) fn pass_on<F: Transport<K>, T: Transport<K>>(
        &mut self,
        channel: Handle,
        mut to: End<'_>,
        (speaker, dest): (&mut F, &mut T),
    ) -> Result<(), Pumped> {
        while let Lent::Bytes(bytes) = speaker.bytes(channel) {
            if !to.side.flags.has(Flags::WRITABLE) {
                return Err(Pumped::Blocked);
            }
            let room = room(&mut to, dest)?;
            let taken = bytes.len().min(room.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            dest.commit(to.handle, taken);
            speaker.consume(channel, taken);
        }
        Ok(())
    }
}
