//! Whoever connects to an end with keys and has none, or says nothing: they hold no link, hear nothing,
//! leave in time, and disturb nobody.

use crate::keys::{self, Clock, PEERS};
use crate::parties::{GUESTS, LINKS, socket, try_socket};
use crate::tap::{Tap, Wire};
use crate::whole::{Whole, ingress};
use seaprox::fail::FailReason;
use seaprox::sys::Errno;
use seaprox_proto::carrier::{Carrier, Greeting, Received};
use seaprox_proto::source::GUEST_MILLIS;
use seaprox_sctp::Seqpacket;
use seaprox_sealed::Sealed;
use seaprox_tests::bytes::pattern;
use seaprox_tests::eventually;
use seaprox_tests::peer::{assert_echoes, connect};
use std::time::{Duration, Instant};

/// All that an end says until it closes the connection; `None`: it has not yet.
fn heard(stranger: &mut Seqpacket) -> Option<usize> {
    let mut room = vec![0; 40_000];
    let mut packets = 0;
    loop {
        match stranger.receive(&mut room) {
            Ok(Received::Piece { .. }) => packets += 1,
            Ok(Received::Gone) => return Some(packets),
            Ok(_) => {}
            Err(Errno::AGAIN) => return None,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Everybody is gone, and heard nothing.
fn wait_gone(strangers: &mut [Seqpacket]) {
    for stranger in strangers {
        let mut packets = None;
        eventually("the stranger is gone", || {
            packets = heard(stranger);
            packets.is_some()
        });
        assert_eq!(packets, Some(0), "something was said to a stranger");
    }
}

/// Another end that has keys finds a link, whatever strangers do.
fn another_begins(whole: &Whole) {
    let (other, clients) = ingress(3, &whole.name, &Wire::default(), &whole.clock);
    eventually("another link is up", || other.links_up() == 1);
    assert_echoes(&mut connect(clients), b"beside strangers");
    assert_echoes(&mut connect(whole.clients), b"and so does the first");
    assert_eq!([whole.ingress.links_up(), whole.egress.links_up()], [1, LINKS]);
}

#[test]
fn the_silent_hold_no_link() {
    let whole = Whole::new();
    let start = Instant::now();
    // With whoever comes beside them all places but one are taken.
    let mut strangers: Vec<_> = (0..GUESTS - 2).map(|_| socket(&whole.name)).collect();
    another_begins(&whole);
    wait_gone(&mut strangers);
    let longest = start.elapsed();
    assert!(longest >= Duration::from_millis(GUEST_MILLIS.into()), "not given their time");
    assert_eq!(whole.egress.without_link(FailReason::TimedOut), strangers.len());
}

/// However many come, there are a few places for them, and those who come from elsewhere find one.
#[test]
fn a_crowd_of_the_silent_is_sent_away() {
    let whole = Whole::new();
    let start = Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..1000 {
        match try_socket(&whole.name) {
            Ok(stranger) => strangers.push(stranger),
            // The queue is full for a moment.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => panic!("{errno}"),
        }
    }
    another_begins(&whole);
    wait_gone(&mut strangers);
    let sent_away = whole.egress.without_link(FailReason::TableFull);
    let timed_out = whole.egress.without_link(FailReason::TimedOut);
    // Who is not sent away has a place for all of its time, after which it is another's: on a machine that is busy
    // those who come last find the places of the first ones.
    let turns = start.elapsed().as_millis() as usize / GUEST_MILLIS as usize + 1;
    assert!(timed_out <= turns * GUESTS, "{timed_out} were there in {turns} turns");
    assert!(sent_away > 0, "places for all of them");
    assert_eq!(sent_away + timed_out, strangers.len());
}

#[test]
fn who_says_anything_else_is_gone_at_once() {
    let whole = Whole::new();
    let mut strangers = Vec::new();
    for seed in 0..200 {
        let mut stranger = socket(&whole.name);
        let mut said = pattern(seed, 1 + seed as usize * 41 % 3000);
        // Not HELLO, which would be answered.
        said[0] = if seed % 2 == 0 { 0x01 } else { said[0] | 0x10 };
        stranger.send(0, &said).expect("there is room");
        strangers.push(stranger);
        while whole.egress.count(|_| true) < strangers.len() {
            std::thread::yield_now();
        }
    }
    wait_gone(&mut strangers);
    another_begins(&whole);
    assert_eq!(whole.egress.without_link(FailReason::TimedOut), 0);
}

/// A peer that asks, is answered and then says nothing: a link is set aside for it, but not for long.
#[test]
fn who_is_answered_and_silent_holds_a_link_for_seconds() {
    let whole = Whole::new();
    let own = keys::identity(2);
    let house = keys::asking(3, own, keys::psk(3), &Clock::default());
    let tap = Tap { socket: socket(&whole.name), wire: Wire::default() };
    tap.wire.change(|packet| if packet[0] == 0x01 { vec![packet.to_vec()] } else { vec![] });
    let mut silent: Sealed<'_, '_, Tap, Clock, PEERS> = Sealed::asking(house, tap).expect("a seat");
    let start = Instant::now();
    eventually("it is answered", || silent.greet(None) == Ok(Greeting::Done));
    // The one link that is left is not there for another, who waits for it.
    another_begins(&whole);
    assert!(start.elapsed() >= Duration::from_millis(GUEST_MILLIS.into()));
    assert_eq!(whole.egress.without_link(FailReason::TimedOut), 1);
    let mut room = [0; 200];
    assert_eq!(silent.receive(&mut room), Ok(Received::Gone));
}
