//! What a run is played in: how much there is of everything, who listens, where targets lead, what the
//! proxy is told. Drawn from the seed.

use crate::front::{Front, Kind};
use crate::world::{Names, addresses};
use core::net::SocketAddr;
use seaprox::WhenFull;
use seaprox::fail::FailReason;
use seaprox::relay::PipeLimits;
use seaprox::share::Order;
use seaprox::sim::{Place, Random};
use seaprox::sys::Errno;
use seaprox::worker::Options;
use seaprox_tcp::Target;

pub(crate) const PROXY: &str = "10.0.0.9:8080";
pub(crate) const GOOD: &str = "10.0.0.1:80";
/// Another backend, for whoever may ask.
pub(crate) const OTHER: &str = "10.0.0.4:80";

/// The circumstances.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) clients: usize,
    pub(crate) descriptors_max: usize,
    pub(crate) backlog: usize,
    pub(crate) options: Options,
    pub(crate) targets: Vec<Target<'static>>,
    pub(crate) names: Names,
    pub(crate) bad: [(SocketAddr, Place); 2],
    pub(crate) order: Option<(Order, u32)>,
    pub(crate) front: Option<Kind>,
}

/// What may stand in front of the listener.
fn draw_front(random: &mut Random) -> Option<Kind> {
    match random.below(4) {
        0 => Some(Kind::Rounds),
        1 => Some(Kind::Socks { passwords: random.below(2) == 0 }),
        _ => None,
    }
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Circumstances {
    pub(crate) fn draw(random: &mut Random) -> Circumstances {
        let (good, bad) = (at(GOOD), [at("10.0.0.2:80"), at("[fd00::3]:80")]);
        let bad = bad.map(|address| {
            let place = match random.below(5) {
                0 => Place::Refused,
                1 => Place::Blackhole,
                2 => Place::Unreachable(random.pick(&[Errno::NETUNREACH, Errno::ADDRNOTAVAIL])),
                3 => Place::Fails(Errno::HOSTUNREACH, random.scaled(3000) as u32),
                _ => Place::Itself,
            };
            (address, place)
        });
        let name = Target::Name("name", 80);
        let [first, second] = bad.map(|(address, _)| Target::Inet(address));
        let (targets, known): (Vec<_>, Vec<_>) = match random.below(8) {
            0 => (vec![first, Target::Inet(good)], vec![]),
            1 => (vec![first, second], vec![]),
            2 => (vec![name], vec![bad[1].0, good]),
            3 => (vec![name], vec![bad[0].0, bad[1].0, good]),
            4 => (vec![name, Target::Inet(good)], vec![]),
            _ => (vec![Target::Inet(good)], vec![]),
        };
        let lookup_millis = [None, Some(random.scaled(2000) as u32)][random.below(2)];
        let names = Names { addresses: addresses(&known), lookup_millis, fails: known.is_empty() };
        let mut maybe = |times: usize| random.below(times) == 0;
        let (few_descriptors, impatient, refuses) = (maybe(8), maybe(16), maybe(6));
        let order = if maybe(10) { Some(Order::Drain) } else { maybe(20).then_some(Order::Stop) };
        let order = order.map(|order| (order, random.scaled(6000) as u32));
        let options = Options {
            idle_millis: impatient.then_some(3000),
            half_close_millis: impatient.then_some(2000),
            when_full: if refuses { WhenFull::Refuse } else { WhenFull::Wait },
            pipes: random.pick(&[
                PipeLimits { large: 0, small: 0 },
                PipeLimits { large: 1, small: 0 },
                PipeLimits { large: 1, small: 2 },
                PipeLimits { large: 128, small: 512 },
            ]),
            ..Options::default()
        };
        let threads = random.between(1, 2);
        Circumstances {
            threads,
            connections: random.between(threads, 16),
            clients: random.scaled(24),
            descriptors_max: if few_descriptors { random.between(12, 30) } else { 1024 },
            backlog: random.scaled(16),
            options,
            targets,
            names,
            bad,
            order,
            front: draw_front(random),
        }
    }

    /// Room for everybody, and a target with three addresses of which two are bad, so that every
    /// kind of call is made.
    pub(crate) fn calm(front: Option<Kind>) -> Circumstances {
        let bad = [(at("10.0.0.2:80"), Place::Refused), (at("[fd00::3]:80"), Place::Blackhole)];
        let known = [bad[0].0, bad[1].0, at(GOOD)];
        Circumstances {
            threads: 1,
            connections: 16,
            clients: 10,
            descriptors_max: 1024,
            backlog: 16,
            options: Options { pipes: PipeLimits { large: 1, small: 2 }, ..Options::default() },
            targets: vec![Target::Name("name", 80)],
            names: Names { addresses: addresses(&known), lookup_millis: Some(20), fails: false },
            bad,
            order: None,
            front,
        }
    }

    /// What clients may ask of the proxy type, if there is one.
    pub(crate) fn front(&self) -> Option<Front> {
        let name_leads = !self.names.addresses.is_empty();
        self.front.map(|kind| Front {
            kind,
            backends: [at(GOOD), at(OTHER)],
            bad: self.bad,
            service_leads: self.is_reachable(),
            name_leads,
        })
    }

    fn is_reachable(&self) -> bool {
        self.targets.contains(&Target::Inet(at(GOOD))) || !self.names.addresses.is_empty()
    }

    /// Why a client may be refused in these circumstances.
    pub(crate) fn plausible_reasons(&self, fatal_faults: bool) -> impl Iterator<Item = FailReason> {
        use FailReason as R;
        let anything = fatal_faults || !self.is_reachable() || self.descriptors_max < 1024;
        let refuses = self.options.when_full == WhenFull::Refuse;
        let draining = self.order.is_some();
        R::ALL.into_iter().filter(move |&reason| match reason {
            // A backend's queue may be full, or time may fly.
            R::TimedOut => true,
            R::TableFull => refuses,
            R::Shutdown => draining,
            _ => anything,
        })
    }
}
