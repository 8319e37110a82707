//! What an egress offers, what it is asked for, and who may have what of it. Knows no link, and of peers
//! their numbers.
//!
//! Invariant: what a peer may not have is refused before anything is looked up or connected.

use crate::allow::Allowed;
use crate::args::EgressConfig;
use crate::direct::places;
use crate::fixed::{leak_targets, needs_of};
use crate::keys::{Known, Rights};
use crate::per_thread::OnePerThread;
use crate::sandbox::Needs;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::wanted::{Wanted, Wish};
use seaprox_tcp::{Chosen, Names, Places, Service, Services, Target, Targets};
use std::ops::Range;

/// What ingresses can ask an egress for.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    /// All there are.
    pub(crate) targets: &'static [Target<'static>],
    services: &'static [Service<'static>],
    /// What anybody may name.
    allowed: &'static Allowed,
    /// Of each peer, by its number; nobody's if whoever asks need not be known.
    rights: &'static [Rights],
    /// Where names lie that are asked for.
    places: OnePerThread<&'static mut Places>,
}

impl Offer {
    /// For as long as the process lives. `peers`: those who may ask; nobody, if anybody may.
    pub(crate) fn of(config: &EgressConfig, peers: &[Known], threads: usize) -> Offer {
        let mut targets = config.targets.clone();
        let mut services = Vec::new();
        let mut offer = |name: &str, range: Range<usize>| {
            let name: &'static str = Box::leak(name.into());
            // There are at most 128 targets, as the arguments' reader has made sure.
            let targets = range.start as u8..range.end as u8;
            services.push(Service { name: name.as_bytes(), targets });
        };
        if !targets.is_empty() {
            offer("", 0..targets.len());
        }
        for service in &config.services {
            let start = targets.len();
            targets.extend(service.targets.iter().cloned());
            offer(&service.name, start..targets.len());
        }
        Offer {
            targets: leak_targets(&targets),
            services: Vec::leak(services),
            allowed: Box::leak(Box::new(config.allowed.clone())),
            rights: Vec::leak(peers.iter().map(|known| known.rights.clone()).collect()),
            places: places(threads),
        }
    }

    /// A thread's chooser; `None`: it has taken it before.
    pub(crate) fn take(self, thread: usize) -> Option<Chooser<'static>> {
        let places = self.places.take(thread)?;
        let services = Services::new(self.services, self.allowed, places);
        Some(Chooser { services, allowed: self.allowed, rights: self.rights })
    }
}

/// Chooses among what is offered by what the wire says.
pub(crate) struct Chooser<'p> {
    services: Services<'p, &'static Allowed>,
    allowed: &'static Allowed,
    rights: &'static [Rights],
}

impl Targets<Wish> for Chooser<'_> {
    /// # Errors
    /// `Denied` also for a service that this peer may not ask for, whether there is one or not.
    fn choose(&mut self, side: SideKey, wish: Wish) -> Result<Chosen, FailReason> {
        let mut allowed = self.allowed;
        if !self.rights.is_empty() {
            let number = wish.peer().ok_or(FailReason::Denied)?;
            let rights = self.rights.get(usize::from(number)).ok_or(FailReason::Denied)?;
            if let Wanted::Service(name) = wish.wanted()
                && !rights.has_service(name)
            {
                return Err(FailReason::Denied);
            }
            allowed = rights.allowed.as_ref().unwrap_or(allowed);
        }
        *self.services.allow_mut() = allowed;
        self.services.choose(side, wish)
    }
}

impl Names for Chooser<'_> {
    fn name(&self, place: u8) -> Option<(&str, u16)> {
        self.services.name(place)
    }

    fn forget(&mut self, side: SideKey) {
        self.services.forget(side);
    }
}

/// What connecting to all that is offered needs: what an ingress may name itself may be at any port.
pub(crate) fn needs_of_offer(config: &EgressConfig, peers: &[Known]) -> Needs<'static> {
    let services = config.services.iter().flat_map(|service| &service.targets);
    let needs = needs_of(config.targets.iter().chain(services));
    let of_peers = peers.iter().filter_map(|known| known.rights.allowed.as_ref());
    match of_peers.chain([&config.allowed]).all(|allowed| allowed.patterns().is_empty()) {
        true => needs,
        false => Needs { names: true, ports: None, ..needs },
    }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
