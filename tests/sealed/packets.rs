//! What goes over the wire once there is a link, and what becomes of what was not sent so.

use crate::keys::{self, Clock};
use crate::pair::{Greeted, Memories, Pair, greet, sockets};
use seaprox::fail::FailReason;
use seaprox_proto::carrier::Carrier;
use seaprox_proto::message::{Message, PACKET_BYTES};
use seaprox_tests::bytes::pattern;
use std::collections::HashSet;
use std::fmt::Debug;

#[test]
fn bytes_of_many_channels_arrive_both_ways() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(8);
    let texts: Vec<_> = (0..8).map(|seed| pattern(seed, 100_000 + seed as usize * 7777)).collect();
    let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
    for from in [0, 1] {
        pair.exchange(from, &texts);
    }
    assert_eq!(pair.dead(), [None, None]);
    for wire in &pair.wires {
        let longest = wire.look(|sent| sent.iter().map(Vec::len).max());
        assert!(longest.is_some_and(|bytes| bytes <= PACKET_BYTES), "{longest:?}");
    }
}

/// The socket is full, and what was sealed last waits; not a byte is lost or said twice.
#[test]
fn a_full_socket_loses_nothing() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(8);
    let text = pattern(5, 1_000_000);
    let mut said = [0; 8];
    for _ in 0..1000 {
        for (connection, said) in said.iter_mut().enumerate() {
            *said += pair.ends[0].say(connection, &text[*said..]);
        }
        // The other end does not look.
        pair.ends[0].turn(&pair.clock);
    }
    assert!(said.iter().all(|&said| said < text.len()), "there is credit for all of it");
    pair.turns(3);
    for (connection, said) in said.into_iter().enumerate() {
        assert!(pair.ends[1].heard[connection] == text[..said], "channel {connection}");
    }
    pair.exchange(0, &[&text]);
    assert_eq!(pair.dead(), [None, None]);
}

/// Whoever is in between sends something else instead of the packet with the second of three words; what
/// became of the two ends.
fn meddle(change: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> [Option<FailReason>; 2] {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(1);
    pair.exchange(0, &[b"first"]);
    pair.wires[0].change(change);
    assert_eq!(pair.ends[0].say(0, b"second"), 6);
    pair.ends[0].turn(&pair.clock);
    assert_eq!(pair.ends[0].say(0, b"third"), 5);
    pair.turns(4);
    let heard = &pair.ends[1].heard[0];
    let is_prefix = b"firstsecondthird".starts_with(heard);
    assert!(is_prefix, "{}", heard.escape_ascii());
    let is_all = heard == b"firstsecondthird";
    assert!(is_all || pair.dead().iter().all(Option::is_some), "lost, and nobody knows");
    pair.dead()
}

/// Changes the first packet, and leaves the others alone.
fn once(mut change: impl FnMut(&[u8]) -> Vec<Vec<u8>>) -> impl FnMut(&[u8]) -> Vec<Vec<u8>> {
    let mut is_over = false;
    move |packet| match std::mem::replace(&mut is_over, true) {
        false => change(packet),
        true => vec![packet.to_vec()],
    }
}

/// The end that was lied to says why it ends the link; the other hears that, or that the socket was closed
/// with something unread in it, which overtakes what was said (unix(7)).
#[track_caller]
fn assert_ended([near, far]: [Option<FailReason>; 2], why: FailReason, which: impl Debug) {
    assert_eq!(far, Some(why), "{which:?}");
    assert!(near == Some(why) || near == Some(FailReason::LinkDown), "{which:?}: {near:?}");
}

#[test]
fn what_is_not_touched_arrives() {
    assert_eq!(meddle(|packet| vec![packet.to_vec()]), [None, None]);
}

#[test]
fn every_bit_that_is_flipped_ends_the_link() {
    // The first byte, the header of DATA, "second", the tag.
    for bit in 0..8 * (1 + 8 + 6 + 16) {
        let ended = meddle(once(move |packet| {
            let mut packet = packet.to_vec();
            assert_eq!(packet.len(), 31);
            packet[bit / 8] ^= 1 << (bit % 8);
            vec![packet]
        }));
        assert_ended(ended, FailReason::Auth, bit);
    }
}

#[test]
fn every_length_but_its_own_ends_the_link() {
    // A packet of nothing is the end of a socket.
    for length in (1..31).chain(32..80).chain([1000, 16_384, PACKET_BYTES]) {
        let ended = meddle(once(move |packet| {
            let mut packet = packet.to_vec();
            packet.resize(length, 0);
            vec![packet]
        }));
        assert_ended(ended, FailReason::Auth, length);
    }
    let ended = meddle(once(|packet| vec![[packet, &vec![0; PACKET_BYTES]].concat()]));
    assert_ended(ended, FailReason::Protocol, "longer than any packet");
}

#[test]
fn a_packet_that_comes_twice_late_or_not_at_all_ends_the_link() {
    let twice = meddle(once(|packet| vec![packet.to_vec(), packet.to_vec()]));
    assert_ended(twice, FailReason::Auth, "twice");
    // The next one shows that one is missing, even if that comes then.
    assert_ended(meddle(once(|_| vec![])), FailReason::Auth, "not at all");
    let mut held = None;
    let swapped = meddle(move |packet| match held.take() {
        None => {
            held = Some(packet.to_vec());
            vec![]
        }
        Some(held) => vec![packet.to_vec(), held],
    });
    assert_ended(swapped, FailReason::Auth, "late");
}

/// As who knows the protocol and has no key would say it.
#[test]
fn what_is_not_sealed_ends_the_link() {
    let mut close = [0; 68];
    let said = Message::close(FailReason::Shutdown, "come home").emit(&mut close).unwrap();
    let close = close[..said].to_vec();
    let ended = meddle(once(move |packet| vec![close.clone(), packet.to_vec()]));
    assert_ended(ended, FailReason::Auth, "CLOSE");
    for first in 0..=255 {
        let garbage = [&[first][..], &pattern(u64::from(first), 99)].concat();
        let ended = meddle(once(move |packet| vec![garbage.clone(), packet.to_vec()]));
        assert_ended(ended, FailReason::Auth, first);
    }
}

/// What an end has said itself, it does not take from the other.
#[test]
fn a_packet_that_comes_back_ends_the_link() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(1);
    pair.exchange(0, &[b"to and fro"]);
    let own = pair.wires[0].look(|sent| sent.last().cloned()).expect("it was sent");
    pair.wires[1].change(move |packet| vec![own.clone(), packet.to_vec()]);
    assert!(pair.ends[1].say(0, b"fro") > 0);
    pair.turns(4);
    let [near, far] = pair.dead();
    assert_ended([far, near], FailReason::Auth, "its own");
    assert_eq!(pair.ends[0].heard[0], b"");
}

/// Nothing that is said can be read on the way: neither bytes, nor names, nor that somebody says hello.
#[test]
fn nothing_is_to_be_read_on_the_way() {
    let mut memories = Memories::new();
    let mut pair = Pair::new(&mut memories);
    pair.open(3);
    let token = b"a token that nobody may see";
    for from in [0, 1] {
        pair.exchange(from, &[&token.repeat(1000)[..], token, &token.repeat(9)]);
    }
    let hello = [0x0e, 1, 1, 0];
    for wire in &pair.wires {
        wire.look(|sent| {
            let holds = |token: &[u8]| {
                let mut windows = sent.iter().flat_map(|packet| packet.windows(token.len()));
                windows.any(|window| window == token)
            };
            assert!(!holds(&token[..8]) && !holds(b"echo") && !holds(b"nobody"));
            assert!(sent.iter().all(|packet| !packet[1..].starts_with(&hello)));
        });
    }
}

/// The same packet, sealed again and again, of links that begin again and again with the same keys: each
/// time it is another, so no nonce is used twice.
#[test]
fn no_packet_is_sealed_as_another_was() {
    let packets = if cfg!(debug_assertions) { 10_000 } else { 250_000 };
    let clock = Clock::default();
    let (own, asks) = (keys::identity(2), keys::identity(1));
    let mut seen = HashSet::new();
    for start in 0..4 {
        // Everything is made anew, as when a program starts.
        let near = keys::asking(1, own, keys::psk(9), &clock);
        let far = keys::answering(own, &[(asks, keys::psk(9))], 1, &clock);
        let Greeted { mut carriers, wires, .. } = greet(near, far, sockets());
        for (carrier, wire) in carriers.iter_mut().zip(&wires) {
            wire.change(|_| vec![]);
            for _ in 0..packets / 2 {
                assert_eq!(carrier.send(0, &[0; 16]), Ok(()));
            }
            wire.look(|sent| {
                for packet in sent.iter().filter(|packet| packet.len() == 33) {
                    assert!(seen.insert(packet[1..17].to_vec()), "start {start}: again");
                }
            });
        }
    }
    assert_eq!(seen.len(), 4 * packets);
}
