//! The carriers of a run, some of them sealed: with keys that all ends know, a clock that jumps so that
//! they are renewed, and chance that is the seed's. Knows no link.

use super::net::{Hold, Net};
use seaprox::fail::FailReason;
use seaprox::sim::Random;
use seaprox::sys::{Errno, RawFd, Ready};
use seaprox::time::Instant;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_proto::carrier::{Bounds, Carrier, Greeting, Received};
use seaprox_proto::dest::Begun;
use seaprox_sealed::{Keeper, Kind, Memory, Outside, Sealed};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::LazyLock;

/// Streams of a link: of up to 8 channels each end.
pub(crate) const STREAMS: usize = 17;

/// Ends that ask, at most.
const PEERS: usize = 2;

/// The one that is asked, and those who ask.
static IDENTITIES: LazyLock<[Identity; 1 + PEERS]> =
    LazyLock::new(|| [1, 2, 3].map(|number| Identity::new(Secret::from_random([number; 32]))));

/// Who is asked.
static ASKED: LazyLock<Peer> = LazyLock::new(|| known(&IDENTITIES[1], &IDENTITIES[0]));

fn known(by: &Identity, peer: &Identity) -> Peer {
    let psk = Psk::from_random([9; 32]);
    Peer::new(by, peer.public(), psk).expect("they are not the same")
}

/// The world of one end that has keys.
pub(crate) struct Around<'n> {
    net: &'n RefCell<Net>,
    random: RefCell<Random>,
}

impl Outside for Around<'_> {
    fn now(&self) -> Instant {
        self.net.borrow().key_time()
    }

    fn wall_micros(&self) -> u64 {
        self.now().as_millis() * 1000
    }

    fn random(&self) -> Result<[u8; 32], Errno> {
        let mut random = self.random.borrow_mut();
        Ok(std::array::from_fn(|_| random.below(256) as u8))
    }
}

pub(crate) type House<'n, 's> = Keeper<'s, Around<'n>, PEERS>;

/// An end's keys, with so many links: of the acceptor, or of an initiator.
pub(crate) fn house<'n, 's>(
    net: &'n RefCell<Net>,
    initiator: Option<usize>,
    memories: &'s mut [Memory<STREAMS>],
    seed: u64,
) -> House<'n, 's> {
    let around = Around { net, random: RefCell::new(Random::new(seed)) };
    let (kind, preferred) = (Kind::Sctp, Algorithm::Aes128Gcm);
    let house = match initiator {
        Some(number) => {
            let own = &IDENTITIES[1 + number];
            Keeper::asking(own, &ASKED, kind, preferred, around)
        }
        None => {
            let own = &IDENTITIES[0];
            let mut peers = Peers::new();
            for peer in &IDENTITIES[1..] {
                peers.add(known(own, peer)).expect("there is room for each");
            }
            Keeper::answering(own, peers, kind, preferred, around).expect("there is chance")
        }
    };
    memories.iter_mut().for_each(|memory| house.give(memory.seat()));
    house
}

/// One end's hold on a line, sealed or not.
pub(crate) enum Carried<'n, 's, const SHARED: bool> {
    Plain(Hold<'n, SHARED>),
    Sealed(Box<Sealed<'n, 's, Hold<'n, SHARED>, Around<'n>, PEERS>>, &'n RefCell<Net>),
}

impl<'n, 's, const SHARED: bool> Carried<'n, 's, SHARED> {
    pub(crate) fn connecting(
        hold: Hold<'n, SHARED>,
        house: Option<&'n House<'n, 's>>,
    ) -> Begun<Self> {
        let net = hold.net();
        let Some(house) = house else { return Begun::Carrier(Carried::Plain(hold)) };
        match Sealed::asking(house, hold) {
            Some(sealed) => Begun::Carrier(Carried::Sealed(Box::new(sealed), net)),
            None => unreachable!("one carrier at a time has one seat"),
        }
    }

    pub(crate) fn accepted(hold: Hold<'n, SHARED>, house: Option<&'n House<'n, 's>>) -> Self {
        let net = hold.net();
        match house {
            Some(house) => Carried::Sealed(Box::new(Sealed::asked(house, hold)), net),
            None => Carried::Plain(hold),
        }
    }

    pub(crate) fn hold(&mut self) -> &mut Hold<'n, SHARED> {
        match self {
            Carried::Plain(hold) => hold,
            Carried::Sealed(sealed, _) => sealed.carrier(),
        }
    }
}

/// Calls the carrier that there is.
macro_rules! each {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            Carried::Plain($one) => $call,
            Carried::Sealed($one, _) => $call,
        }
    };
}

impl<const SHARED: bool> Carrier for Carried<'_, '_, SHARED> {
    fn bounds(&self) -> Bounds {
        each!(self, one => one.bounds())
    }

    fn fd(&self) -> Option<RawFd> {
        each!(self, one => one.fd())
    }

    fn greet(&mut self, refused: Option<FailReason>) -> Result<Greeting, FailReason> {
        each!(self, one => one.greet(refused))
    }

    fn send(&mut self, stream: u16, packet: &[u8]) -> Result<(), Errno> {
        each!(self, one => one.send(stream, packet))
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        each!(self, one => one.receive(room))
    }

    fn open(&mut self, stream: u16, packet: &mut [u8]) -> Result<Range<usize>, FailReason> {
        each!(self, one => one.open(stream, packet))
    }

    fn window(&mut self) -> usize {
        each!(self, one => one.window())
    }

    fn handled(&mut self, kept: bool) {
        each!(self, one => one.handled(kept));
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        each!(self, one => one.poll())
    }

    fn timeout(&self) -> Option<Instant> {
        match self {
            Carried::Plain(hold) => hold.timeout(),
            // The keys' time is ahead of everybody else's.
            Carried::Sealed(sealed, net) => {
                let ahead_millis = net.borrow().ahead_millis;
                let at_millis = sealed.timeout()?.as_millis();
                Some(Instant::from_millis(at_millis.saturating_sub(ahead_millis)))
            }
        }
    }

    fn flush(&mut self) {
        each!(self, one => one.flush());
    }

    fn is_flushed(&self) -> bool {
        each!(self, one => one.is_flushed())
    }
}
