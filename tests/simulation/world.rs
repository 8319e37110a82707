//! The clients, the backends and the names of one run, as the simulated kernel calls them.

use crate::front::Front;
use crate::plan::Plan;
use crate::player::Player;
use crate::talk::Talk;
use arrayvec::ArrayVec;
use core::cell::RefCell;
use core::cmp::Reverse;
use core::net::SocketAddr;
use seaprox::completion::{Outcome, Ticket};
use seaprox::fail::FailReason;
use seaprox::share::{Commons, Order};
use seaprox::sim::{FarEnd, Random, SimKernel};
use seaprox::sys::Sys;
use seaprox::time::Instant;
use seaprox_tcp::resolve::{Addresses, Lookup, Resolve};
use std::collections::{BTreeMap, BinaryHeap};

/// Backends are numbered from here on.
pub(crate) const FIRST_BACKEND: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Start(usize),
    Step(FarEnd),
    Order,
}

/// The names: one, with its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) addresses: Addresses,
    /// How long a lookup takes; `None`: it is known at once.
    pub(crate) lookup_millis: Option<u32>,
    pub(crate) fails: bool,
}

/// One run's world.
pub(crate) struct World<'a> {
    pub(crate) players: Vec<Player>,
    pub(crate) proxy: SocketAddr,
    pub(crate) backends: [SocketAddr; 2],
    /// What clients talk to first.
    front: Option<Front>,
    pub(crate) clients: usize,
    pub(crate) order: Option<Order>,
    pub(crate) wrong: Option<String>,
    pub(crate) progress_at: Instant,
    /// How often anything went on.
    pub(crate) progress: u64,
    /// Who waits for the other's FIN; both would wait for ever.
    patient_clients: bool,
    commons: Commons<'a>,
    random: Random,
    by_end: BTreeMap<FarEnd, usize>,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    lookups: Vec<(Instant, Ticket, bool)>,
    backends_entered: usize,
    scratch: Vec<u8>,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        commons: Commons<'a>,
        mut random: Random,
        proxy: SocketAddr,
        backends: [SocketAddr; 2],
        front: Option<Front>,
    ) -> World<'a> {
        World {
            players: Vec::new(),
            proxy,
            backends,
            front,
            clients: 0,
            order: None,
            wrong: None,
            progress_at: Instant::default(),
            progress: 0,
            patient_clients: random.below(2) == 0,
            commons,
            random,
            by_end: BTreeMap::new(),
            due: BinaryHeap::new(),
            lookups: Vec::new(),
            backends_entered: 0,
            scratch: Vec::new(),
        }
    }

    /// So many clients will come, and the proxy may be told something after a while.
    pub(crate) fn begin(&mut self, begin: Instant, clients: usize, order: Option<(Order, u32)>) {
        (self.progress_at, self.clients) = (begin, clients);
        for client in 0..clients {
            let start = begin.after(self.random.scaled(4000) as u32);
            self.due.push(Reverse((start, Due::Start(client))));
        }
        if let Some((order, millis)) = order {
            self.order = Some(order);
            self.due.push(Reverse((begin.after(millis), Due::Order)));
        }
    }

    /// Everybody has come, and gone.
    pub(crate) fn is_over(&self) -> bool {
        let clients = self.players.len() - self.backends_entered;
        clients == self.clients && self.players.iter().all(|player| player.done)
    }

    /// Everybody acts to whom something happened; gives when to act again.
    pub(crate) fn act(&mut self, sim: &SimKernel<'_>) -> Option<Instant> {
        let now = sim.now();
        self.lookups.retain(|&(at, ticket, fails)| {
            if at <= now {
                let failed = Outcome::Failed(FailReason::NameResolution);
                let outcome = if fails { failed } else { Outcome::Resolved };
                // Stale: nobody waits for it any more.
                let _ = self.commons.complete(sim, ticket, outcome);
            }
            at > now
        });
        for place in 0..self.backends.len() {
            while let Some(end) = sim.backend_accept(self.backends[place]) {
                let plan = Plan::draw(&mut self.random, !self.patient_clients);
                let id = FIRST_BACKEND + self.backends_entered;
                self.backends_entered += 1;
                self.enter(Player::new(id, end, plan, now).at(place), sim);
            }
        }
        while let Some(&Reverse((at, due))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            match due {
                Due::Start(client) => {
                    let plan = Plan::draw(&mut self.random, self.patient_clients);
                    let talk = self.front.map(|front| Talk::draw(&mut self.random, &front));
                    let end = sim.client_connect(self.proxy);
                    let player = Player::new(client, end, plan, now);
                    let player = player.talking(talk, &mut self.random);
                    self.enter(player, sim);
                }
                Due::Step(end) => self.step(end, sim),
                Due::Order => {
                    self.commons.order(sim, self.order.unwrap_or(Order::Run));
                    self.progressed(now);
                }
            }
        }
        while let Some(end) = sim.news() {
            self.step(end, sim);
        }
        let lookup = self.lookups.iter().map(|lookup| lookup.0).min();
        [self.due.peek().map(|Reverse((at, _))| *at), lookup].into_iter().flatten().min()
    }

    fn enter(&mut self, player: Player, sim: &SimKernel<'_>) {
        let end = player.end;
        self.by_end.insert(end, self.players.len());
        self.players.push(player);
        self.progressed(sim.now());
        self.step(end, sim);
    }

    fn step(&mut self, end: FarEnd, sim: &SimKernel<'_>) {
        let Some(&index) = self.by_end.get(&end) else { return };
        match self.players[index].step(sim, &mut self.scratch) {
            Ok(stepped) => {
                if stepped.progress {
                    self.progressed(sim.now());
                }
                if let Some(at) = stepped.again_at {
                    self.due.push(Reverse((at, Due::Step(end))));
                }
            }
            Err(wrong) => self.wrong = Some(wrong),
        }
    }

    fn progressed(&mut self, now: Instant) {
        self.progress_at = now;
        self.progress += 1;
    }
}

/// The resolver of a run: it tells the world of what it is asked.
pub(crate) struct Resolver<'r, 'a, 's> {
    pub(crate) names: &'s Names,
    pub(crate) world: &'r RefCell<World<'a>>,
    pub(crate) sim: &'s SimKernel<'r>,
}

impl Resolve for Resolver<'_, '_, '_> {
    fn lookup(&self, _: &str, ticket: Ticket) -> Lookup {
        let Some(millis) = self.names.lookup_millis else {
            return match self.names.fails {
                true => Lookup::Failed(FailReason::NameResolution),
                false => Lookup::Known(self.names.addresses.clone()),
            };
        };
        let at = self.sim.now().after(millis);
        self.world.borrow_mut().lookups.push((at, ticket, self.names.fails));
        Lookup::Waiting
    }

    fn addresses(&self, _: &str) -> Option<Addresses> {
        (!self.names.fails).then(|| self.names.addresses.clone())
    }
}

pub(crate) fn addresses(of: &[SocketAddr]) -> Addresses {
    of.iter().map(SocketAddr::ip).collect::<ArrayVec<_, _>>()
}
