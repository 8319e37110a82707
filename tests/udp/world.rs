//! Two initiators at most, an acceptor, and the network between them, for tests that say themselves
//! who does what. Deterministic, by seed.

use crate::carriers::{Acceptor, Connector, SimHub};
use crate::keys;
use crate::net::{Net, Weather};
use crate::party::Party;
use seaprox::sim::Random;
use seaprox::time::Instant;
use seaprox::wanted::Wish;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_udp::carrier::Options;
use seaprox_udp::congestion::Algorithm;
use seaprox_udp::hub::{Hub, Numbering};
use seaprox_udp::keyed::Protection;
use seaprox_udp::knocks::Knocks;
use seaprox_udp::listener::Admitted;
use seaprox_udp::reliable::Memory;
use seaprox_udp::socket::RECEIVE_BYTES;
use seaprox_udp::time::Micros;
use std::cell::RefCell;
use std::mem::ManuallyDrop;

/// Rounds at one instant: somebody spins.
const SPIN_ROUNDS: u32 = 20_000;

type Link = LinkMemory<64, 4096>;
type Datagrams = Memory<4096, 8192>;

/// The dead time of links.
pub(crate) const IDLE_MILLIS: u32 = 15_000;

pub(crate) type Initiator<'n> = Party<'n, LinkDest<'n, Connector<'n>>>;
pub(crate) type Egress<'n, const LINKS: usize> = Party<'n, LinkSource<'n, Acceptor<'n>, LINKS>>;

/// What is given to [`world`].
#[derive(Clone)]
pub(crate) struct Setup {
    /// From the initiators, and back.
    pub(crate) weather: [Weather; 2],
    /// Of each initiator.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) seed: u64,
    /// With keys.
    pub(crate) is_sealed: bool,
}

fn boxed<T>(new: impl FnOnce() -> Box<T>) -> &'static mut T {
    // Of a test that ends with its process.
    Box::leak(new())
}

fn hub<'n>(
    links: usize,
    numbering: Numbering,
    random: u64,
    protection: Protection<'n>,
) -> &'n SimHub<'n> {
    let buffer = boxed(|| Box::new([0; RECEIVE_BYTES]));
    let hub: &'n ManuallyDrop<SimHub<'n>> =
        Box::leak(Box::new(ManuallyDrop::new(Hub::new(buffer, numbering, random, protection))));
    for _ in 0..links {
        hub.give(boxed(|| Box::new(const { Datagrams::new() })).parts());
    }
    hub
}

const fn config(role: Role) -> Config {
    let peer_channels_max = if matches!(role, Role::Acceptor) { 64 } else { 0 };
    Config {
        role,
        peer_channels_max,
        idle_millis: IDLE_MILLIS,
        opens_per_second_max: 1000,
        first_offset: 0,
    }
}

/// All of it.
pub(crate) struct World<const LINKS: usize> {
    pub(crate) net: &'static RefCell<Net>,
    pub(crate) initiators: Vec<Initiator<'static>>,
    pub(crate) egress: Option<Egress<'static, LINKS>>,
    setup: Setup,
    random: Random,
}

impl<const LINKS: usize> World<LINKS> {
    pub(crate) fn new(setup: &Setup) -> World<LINKS> {
        let mut random = Random::new(setup.seed);
        let start = Micros(1_000_000 + random.below(5_000_000) as u64);
        let faults = crate::net::Faults { batch: 40, ..Default::default() };
        let net = Net::new(start, random.bits(), faults, setup.weather);
        let net: &'static RefCell<Net> = Box::leak(Box::new(RefCell::new(net)));
        let mut world =
            World { net, initiators: Vec::new(), egress: None, setup: setup.clone(), random };
        for number in 0..setup.algorithms.len() {
            let initiator = world.new_initiator(number);
            world.initiators.push(initiator);
        }
        world.start_egress();
        world
    }

    fn new_initiator(&mut self, number: usize) -> Initiator<'static> {
        let options = DestOptions {
            wanted: Wish::DEFAULT,
            wait_millis: 1000,
            connect_millis: 5000,
            seed: 7 + number as u32,
        };
        let random = self.random.bits();
        let protection = match self.setup.is_sealed {
            true => keys::of_initiator(number, random),
            false => Protection::Insecure,
        };
        let connector = Connector {
            net: self.net,
            hub: hub(1, Numbering::Steering(number as u32), random, protection),
            peer: self.setup.is_sealed.then(|| keys::acceptor_of(number)),
            options: Options { algorithm: self.setup.algorithms[number], ..Options::USUAL },
            initiator: number,
            line: None,
        };
        let memory = boxed(|| Box::new(const { Link::new() }));
        let dest =
            LinkDest::new(memory.link(0, config(Role::Initiator)), connector, &mut [], options);
        Party::new(number, dest, self.net, self.now())
    }

    /// The process at the initiator's end ends without a word, and another begins.
    pub(crate) fn restart_initiator(&mut self, number: usize) {
        let line = self.net.borrow().latest(number).expect("it was there");
        self.net.borrow_mut().lines[line].is_silent = true;
        self.initiators[number] = self.new_initiator(number);
    }

    /// The process at the acceptor's end begins, or another does.
    pub(crate) fn start_egress(&mut self) {
        self.stop_egress();
        self.net.borrow_mut().bind(true);
        let numbering = Numbering::Steered { thread: 0, threads: 1 };
        let (random, secret) = (self.random.bits(), self.random.bits());
        let (protection, admitted) = match self.setup.is_sealed {
            true => {
                let peers = boxed(|| Box::new(keys::peers()));
                let knocks = boxed(|| Box::new(Knocks::new()));
                (keys::of_acceptor(secret), Admitted::Peers { peers, knocks })
            }
            false => (Protection::Insecure, Admitted::Anybody { secret: [secret as u8; 16] }),
        };
        let hub = hub(LINKS, numbering, random, protection);
        // Whoever asks says how; the acceptor sends as the first of them does.
        let options = Options { algorithm: self.setup.algorithms[0], ..Options::USUAL };
        let acceptor = Acceptor::new(self.net, hub, admitted, options);
        let memories: &'static mut [Link; LINKS] =
            boxed(|| Box::new([const { Link::new() }; LINKS]));
        let source = LinkSource::new(acceptor, memories, config(Role::Acceptor));
        self.egress = Some(Party::new(9, source, self.net, self.now()));
    }

    /// The process at the acceptor's end ends without a word.
    pub(crate) fn stop_egress(&mut self) {
        let Some(egress) = self.egress.take() else { return };
        let is_silent: Vec<bool> =
            self.net.borrow().lines.iter().map(|line| line.is_silent).collect();
        self.net.borrow_mut().lines.iter_mut().for_each(|line| line.is_silent = true);
        drop(egress);
        let net = &mut *self.net.borrow_mut();
        net.bind(false);
        net.lines.iter_mut().zip(is_silent).for_each(|(line, was)| line.is_silent = was);
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(self.net.borrow().now.0 / 1000)
    }

    pub(crate) fn micros(&self) -> u64 {
        self.net.borrow().now.0
    }

    /// Lets everybody have a turn who has reason to; whether anybody had.
    fn round(&mut self) -> bool {
        let now = self.now();
        let mut went_on = false;
        for initiator in &mut self.initiators {
            went_on |= initiator.turn_if_woken(now);
        }
        if let Some(egress) = &mut self.egress {
            went_on |= egress.turn_if_woken(now);
        }
        went_on
    }

    /// Runs until then, or until something holds; whether it does.
    pub(crate) fn run_until(&mut self, until: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let mut rounds = 0;
        loop {
            if holds(self) {
                return true;
            }
            if self.round() {
                rounds += 1;
                assert!(rounds < SPIN_ROUNDS, "spins");
                continue;
            }
            rounds = 0;
            let now = self.now();
            let timeouts = self.initiators.iter().filter_map(Party::timeout);
            let timeouts = timeouts.chain(self.egress.as_ref().and_then(Party::timeout));
            let at = timeouts.filter(|&at| at > now).min().map(|at| Micros(at.as_millis() * 1000));
            let next = at.into_iter().chain(self.net.borrow().next_at()).min();
            let next = next.unwrap_or(Micros(until)).min(Micros(until));
            self.net.borrow_mut().advance(next);
            if next.0 >= until {
                return holds(self);
            }
        }
    }

    pub(crate) fn run(&mut self, micros: u64) {
        let until = self.micros() + micros;
        self.run_until(until, |_| false);
    }

    /// Runs until every initiator's link is up.
    pub(crate) fn connect(&mut self) {
        let until = self.micros() + 20_000_000;
        let up = self.run_until(until, |world| world.initiators.iter().all(Party::is_open));
        assert!(up, "no link within 20 s");
    }
}
