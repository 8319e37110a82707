//! Two programs' worth of workers with a sealed link between them, and clients.

use crate::keys::{self, Clock};
use crate::parties::{Party, PlainFrom, PlainTo, SealedFrom, SealedTo, listener, vacant_name};
use crate::tap::Wire;
use seaprox::fail::FailReason;
use seaprox_tests::bytes::{assert_same, pattern};
use seaprox_tests::eventually;
use seaprox_tests::peer::{assert_echoes, connect, echo, end, read_bytes, serve};
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Both ends, and what is known of their wires.
pub(crate) struct Whole {
    pub(crate) ingress: Party,
    pub(crate) egress: Party,
    pub(crate) clients: SocketAddr,
    pub(crate) name: String,
    /// What the ingress sends, and the egress.
    pub(crate) wires: [Wire; 2],
    pub(crate) clock: Clock,
}

impl Whole {
    pub(crate) fn new() -> Whole {
        let (name, clock) = (vacant_name(), Clock::default());
        let wires = [Wire::default(), Wire::default()];
        let egress = egress(&name, &wires[1], &clock);
        let (ingress, clients) = ingress(1, &name, &wires[0], &clock);
        eventually("the link is up", || ingress.links_up() == 1 && egress.links_up() == 1);
        Whole { ingress, egress, clients, name, wires, clock }
    }
}

/// Number 2, who knows 1 and 3, and echoes.
pub(crate) fn egress(name: &str, wire: &Wire, clock: &Clock) -> Party {
    let (listener, wire, clock) = (listener(name), wire.clone(), clock.clone());
    let accept = move || {
        let peers = [1, 3].map(|number| (keys::identity(number), keys::psk(number)));
        let house = keys::answering(keys::identity(2), &peers, crate::parties::LINKS, &clock);
        SealedFrom { house, listener, wire }
    };
    Party::egress(accept, serve(echo))
}

/// Somebody who asks number 2.
pub(crate) fn ingress(own: u8, name: &str, wire: &Wire, clock: &Clock) -> (Party, SocketAddr) {
    let (name, wire, clock) = (name.to_string(), wire.clone(), clock.clone());
    Party::ingress(move || {
        let house = keys::asking(own, keys::identity(2), keys::psk(own), &clock);
        SealedTo { house, name, wire }
    })
}

#[test]
fn many_connections_go_through_and_keys_are_renewed_meanwhile() {
    let whole = Whole::new();
    let length = 2_000_000;
    thread::scope(|scope| {
        for seed in 0..12 {
            let address = whole.clients;
            scope.spawn(move || {
                let client = connect(address);
                let bytes = pattern(seed, length);
                thread::scope(|scope| {
                    scope.spawn(|| (&client).write_all(&bytes).unwrap());
                    assert_same(&read_bytes(&client, length), &bytes, "the echo");
                });
                end(&client);
            });
        }
        for renewal in 1..=6 {
            // In steps: a turn in which a clock jumps would make keys that are old already.
            for _ in 0..121 {
                whole.clock.forward(1000);
                thread::sleep(Duration::from_micros(200));
            }
            let first = 0x10 + renewal % 4;
            let before = whole.wires.each_ref().map(|wire| wire.count(first));
            let is_more = |end: usize| whole.wires[end].count(first) > before[end];
            eventually("both use the new keys", || is_more(0) && is_more(1));
            // What was under way before has arrived when this has.
            assert_echoes(&mut connect(whole.clients), b"there and back");
        }
    });
    assert_eq!([whole.wires[0].count(0x01), whole.wires[1].count(0x02)], [7, 7]);
    assert_echoes(&mut connect(whole.clients), b"and on");
    assert_eq!([whole.ingress.links_up(), whole.egress.links_up()], [1, 1], "of one link");
}

/// Neither is taken for the other, and both say why.
#[test]
fn an_end_with_keys_and_one_without_say_so() {
    let (name, clock) = (vacant_name(), Clock::default());
    let wire = Wire::default();
    let asked = egress(&name, &wire, &clock);
    let plain = name.clone();
    let (asks, _) = Party::ingress(move || PlainTo(plain));
    asks.wait_without_link(FailReason::Auth);
    asked.wait_without_link(FailReason::Auth);
    assert_eq!([asks.links_up(), asked.links_up()], [0, 0]);

    let name = vacant_name();
    let at = listener(&name);
    let asked = Party::egress(move || PlainFrom(at), serve(echo));
    let (asks, _) = ingress(1, &name, &wire, &clock);
    asks.wait_without_link(FailReason::Auth);
    asked.wait_without_link(FailReason::Auth);
    assert_eq!([asks.links_up(), asked.links_up()], [0, 0]);
}

/// The end that asks is started anew, and so is the other.
#[test]
fn ends_that_start_anew_begin_anew() {
    let Whole { ingress: first, egress: there, clients, name, wires, clock } = Whole::new();
    assert_echoes(&mut connect(clients), b"before");
    drop(first);
    let (again, clients) = ingress(1, &name, &wires[0], &clock);
    eventually("the link is up", || again.links_up() == 1);
    assert_echoes(&mut connect(clients), b"after the one");
    drop(there);
    eventually("the link is down", || again.count(is_down) == 1);
    let there = egress(&name, &wires[1], &clock);
    eventually("the link is up", || again.links_up() == 2 && there.links_up() == 1);
    assert_echoes(&mut connect(clients), b"after the other");
}

fn is_down(notice: &seaprox::transport::Notice) -> bool {
    matches!(notice, seaprox::transport::Notice::LinkDown { .. })
}
