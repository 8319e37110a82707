//! Somebody between two ends: a carrier that keeps what is sent, and may send something else instead.

use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, RawFd};
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_sctp::Seqpacket;
use std::sync::{Arc, Mutex};

/// What is sent instead of a packet.
type Change = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

#[derive(Default)]
pub(crate) struct Between {
    /// What was to be sent.
    sent: Vec<Vec<u8>>,
    change: Option<Change>,
}

/// What is known of all that one end sends.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Between>>);

impl Wire {
    /// What was to be sent, so far.
    pub(crate) fn look<R>(&self, at: impl FnOnce(&[Vec<u8>]) -> R) -> R {
        at(&self.0.lock().expect("no holder panics").sent)
    }

    /// How many packets begin with this byte.
    pub(crate) fn count(&self, first: u8) -> usize {
        self.look(|sent| sent.iter().filter(|packet| packet[0] == first).count())
    }

    /// From now on these are sent instead of each.
    pub(crate) fn change(&self, change: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) {
        self.0.lock().expect("no holder panics").change = Some(Box::new(change));
    }
}

/// A socket with somebody at it.
pub(crate) struct Tap {
    pub(crate) socket: Seqpacket,
    pub(crate) wire: Wire,
}

impl Carrier for Tap {
    fn bounds(&self) -> Bounds {
        self.socket.bounds()
    }

    fn fd(&self) -> Option<RawFd> {
        self.socket.fd()
    }

    fn interest(&self) -> Interest {
        self.socket.interest()
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        let between = &mut *self.wire.0.lock().expect("no holder panics");
        let Some(change) = &mut between.change else {
            self.socket.send(stream, packet)?;
            between.sent.push(packet.to_vec());
            return Ok(());
        };
        between.sent.push(packet.to_vec());
        for packet in change(packet) {
            self.socket.send(stream, &packet)?;
        }
        Ok(())
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        self.socket.receive(room)
    }

    fn greet(
        &mut self,
        _: Option<FailReason>,
    ) -> Result<seaprox_proto::carrier::Greeting, FailReason> {
        unreachable!("it is the sealed one that greets")
    }
}
