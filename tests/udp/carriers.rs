//! How the ends of a run come by their carriers: the real ones, on simulated sockets, each watched.

use crate::net::{Net, SimWire, acceptor_address, line_of};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Interest, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::keys::Peer;
use seaprox_proto::carrier::{Bounds, Carrier, Received};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use seaprox_udp::carrier::{Options, Udp};
use seaprox_udp::hub::Hub;
use seaprox_udp::listener::{Admitted, Listener};
use std::cell::RefCell;
use std::net::SocketAddr;

pub(crate) type SimHub<'n> = Hub<'n, SimWire<'n>>;

/// A carrier that is watched.
pub(crate) struct Hold<'n> {
    pub(crate) udp: Udp<'n, SimWire<'n>>,
    net: &'n RefCell<Net>,
    line: usize,
    end: usize,
    turns: u32,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        // A panic has other things to tell.
        if let Ok(mut net) = self.net.try_borrow_mut() {
            net.drop_end(self.line, self.end);
        }
    }
}

impl Carrier for Hold<'_> {
    fn bounds(&self) -> Bounds {
        self.udp.bounds()
    }

    fn fd(&self) -> Option<RawFd> {
        self.udp.fd()
    }

    fn interest(&self) -> Interest {
        self.udp.interest()
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        self.udp.send(stream, packet)
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        self.udp.receive(room)
    }

    fn window(&mut self) -> usize {
        self.udp.window()
    }

    fn handled(&mut self, kept: bool) {
        self.udp.handled(kept);
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        self.udp.poll()
    }

    fn timeout(&self) -> Option<Instant> {
        self.udp.timeout()
    }

    fn flush(&mut self) {
        self.udp.flush();
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(256)
            && let Some(reliable) = self.udp.reliable()
        {
            reliable.invariants();
        }
    }

    fn is_flushed(&self) -> bool {
        self.udp.is_flushed()
    }
}

/// How an initiator's carrier is connected.
pub(crate) struct Connector<'n> {
    pub(crate) net: &'n RefCell<Net>,
    pub(crate) hub: &'n SimHub<'n>,
    /// Who is to be there, if there are keys.
    pub(crate) peer: Option<&'n Peer>,
    pub(crate) options: Options,
    pub(crate) initiator: usize,
    pub(crate) line: Option<usize>,
}

impl<'n> Connect for Connector<'n> {
    type Carrier = Hold<'n>;

    fn begin(&mut self) -> Begun<Hold<'n>> {
        let line = self.net.borrow_mut().begin(self.initiator);
        self.line = Some(line);
        self.hub.open(SimWire { net: self.net, line: Some(line) }, true);
        match Udp::connect(self.hub, self.peer, self.options) {
            Some(udp) => Begun::Carrier(Hold { udp, net: self.net, line, end: 0, turns: 0 }),
            None => panic!("the memory of the link before was not given back"),
        }
    }

    fn finish(&mut self, carrier: &mut Hold<'n>) -> Result<bool, FailReason> {
        let is_linked = carrier.udp.finish_connect()?;
        self.net.borrow_mut().lines[carrier.line].is_linked |= is_linked;
        Ok(is_linked)
    }

    /// The line, so that who hears of the link knows which it was.
    fn peer(&self) -> Address {
        let number = self.line.unwrap_or(0xffff);
        SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 7)).into()
    }
}

/// Where the acceptor's carriers come from.
pub(crate) struct Acceptor<'n> {
    pub(crate) net: &'n RefCell<Net>,
    pub(crate) listener: Listener<'n, SimWire<'n>>,
}

impl<'n> Acceptor<'n> {
    /// At the acceptor's address, which `hub` listens at from now on.
    pub(crate) fn new(
        net: &'n RefCell<Net>,
        hub: &'n SimHub<'n>,
        admitted: Admitted<'n>,
        options: Options,
    ) -> Self {
        hub.open(SimWire { net, line: None }, false);
        Acceptor { net, listener: Listener::new(hub, admitted, options) }
    }
}

impl<'n> Accept for Acceptor<'n> {
    type Carrier = Hold<'n>;

    fn fd(&self) -> RawFd {
        self.listener.fd()
    }

    fn is_shared(&self) -> bool {
        self.listener.is_shared()
    }

    fn accept(&mut self, refused: Option<FailReason>) -> Result<(Hold<'n>, Address), Errno> {
        let (udp, peer) = self.listener.accept(refused)?;
        assert!(refused.is_none(), "nobody was wanted");
        // A stranger has none.
        let line = line_of(peer).unwrap_or(usize::MAX);
        let net = &mut *self.net.borrow_mut();
        assert_ne!(peer, Address::from(acceptor_address()));
        net.accept(line);
        Ok((Hold { udp, net: self.net, line, end: 1, turns: 0 }, peer))
    }

    fn is_waiting(&self) -> bool {
        self.listener.is_waiting()
    }

    fn end(&mut self) {
        self.listener.end();
    }
}
