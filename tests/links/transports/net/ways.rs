//! How the carriers of a run come into being: who connects them, and who accepts them. Knows no wire.

use super::super::carried::{Carried, House};
use super::{Hold, LISTENER, Net, address_of};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox_proto::carrier::{Carrier, Greeting};
use seaprox_proto::dest::{Begun, Connect};
use seaprox_proto::source::Accept;
use std::cell::RefCell;

/// How an initiator's carrier is connected.
pub(crate) struct Connector<'n, 's, const SHARED: bool> {
    net: &'n RefCell<Net>,
    initiator: usize,
    house: Option<&'n House<'n, 's>>,
    line: Option<usize>,
}

impl<'n, 's, const SHARED: bool> Connector<'n, 's, SHARED> {
    pub(crate) fn new(
        net: &'n RefCell<Net>,
        initiator: usize,
        house: Option<&'n House<'n, 's>>,
    ) -> Self {
        Connector { net, initiator, house, line: None }
    }
}

impl<'n, 's, const SHARED: bool> Connect for Connector<'n, 's, SHARED> {
    type Carrier = Carried<'n, 's, SHARED>;

    fn begin(&mut self) -> Begun<Self::Carrier> {
        let line = {
            let net = &mut *self.net.borrow_mut();
            match net.random.below(8) {
                0 if !net.calm => return Begun::Waiting,
                1 if !net.calm => return Begun::Failed(FailReason::NameResolution),
                _ => net.begin(self.initiator),
            }
        };
        self.line = Some(line);
        Carried::connecting(Hold { net: self.net, line, end: 0 }, self.house)
    }

    fn finish(&mut self, carrier: &mut Self::Carrier) -> Result<bool, FailReason> {
        let connected = {
            let net = self.net.borrow();
            let line = &net.lines[carrier.hold().line];
            match line.connected_at <= net.now {
                true if line.is_refused => return Err(FailReason::ConnectionRefused),
                connected => connected,
            }
        };
        Ok(connected && carrier.greet(None)? == Greeting::Done)
    }

    fn peer(&self) -> Address {
        self.line.map_or(Address::UNKNOWN, address_of)
    }
}

/// Where the acceptor's carriers come from.
pub(crate) struct Acceptor<'n, 's, const SHARED: bool> {
    pub(crate) net: &'n RefCell<Net>,
    pub(crate) house: Option<&'n House<'n, 's>>,
}

impl<const SHARED: bool> Acceptor<'_, '_, SHARED> {
    /// The line of the next who waits.
    fn next(&self, refused: Option<FailReason>) -> Result<usize, Errno> {
        let net = &mut *self.net.borrow_mut();
        if net.maybe(net.faults.no_memory) {
            return Err(net.random.pick(&[Errno::MFILE, Errno::CONNABORTED]));
        }
        let held = net.held.filter(|&line| net.lines[line].accepted_at.is_none());
        let line = held.or(net.waiting()).ok_or(Errno::AGAIN)?;
        if SHARED && !net.is_for(line) {
            return Err(Errno::AGAIN);
        }
        assert!(SHARED || refused.is_none(), "nobody looks for who is not wanted");
        if refused.is_some() {
            net.lines[line].asks_at = net.now.after(50);
            return Err(Errno::AGAIN);
        }
        net.lines[line].accepted_at = Some(net.now);
        net.went_on = true;
        Ok(line)
    }
}

impl<'n, 's, const SHARED: bool> Accept for Acceptor<'n, 's, SHARED> {
    type Carrier = Carried<'n, 's, SHARED>;

    fn fd(&self) -> RawFd {
        LISTENER
    }

    fn is_shared(&self) -> bool {
        SHARED
    }

    fn accept(&mut self, refused: Option<FailReason>) -> Result<(Self::Carrier, Address), Errno> {
        let line = self.next(refused)?;
        let hold = Hold { net: self.net, line, end: 1 };
        Ok((Carried::accepted(hold, self.house), address_of(line)))
    }

    fn is_waiting(&self) -> bool {
        self.net.borrow().held.is_some()
    }

    fn end(&mut self) {}
}
