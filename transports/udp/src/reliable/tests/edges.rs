//! What a peer or a path may do that is rare, or wrong.

use super::*;
use crate::packet::{PATH_CHALLENGE, PATH_RESPONSE};

/// A datagram with these messages, as the peer of an end would send it.
fn sealed(number: u64, messages: &[u8]) -> Vec<u8> {
    let head = head(number);
    let tag = CHECKSUM.tag(number, &head, messages);
    [&head[..], messages, &tag].concat()
}

/// An ACK of these numbers, of which the first so many came marked.
fn ack(numbers: impl IntoIterator<Item = u64>, marked: usize) -> Vec<u8> {
    let mut received = Box::new(Received::new());
    for (nth, number) in numbers.into_iter().enumerate() {
        received.insert(number, Micros(5), true, nth < marked);
    }
    let mut out = [0; crate::ack::ACK_BYTES_MAX];
    let bytes = received.emit(Micros(5), &mut out);
    out[..bytes].to_vec()
}

/// So many datagrams with a PING each leave the first end, and reach nobody.
fn send_into_the_dark(pair: &mut Pair, count: u64) {
    let lost = core::mem::replace(&mut pair.weather.loss, 1000);
    for value in 0..count {
        pair.ends[0].reliable.push(&pings(value..value + 1)).unwrap();
        pair.send(0, true);
    }
    pair.weather.loss = lost;
}

#[test]
fn a_challenge_is_answered_and_not_acknowledged() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 1);
    let challenge = crate::packet::path_challenge(77);
    assert_eq!(challenge[0], PATH_CHALLENGE);
    pair.hear(0, address(2), sealed(0, &challenge), true);
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    let (_, answer) = emit(end, now).unwrap();
    assert_eq!(answer[HEADER_BYTES], PATH_RESPONSE);
    let later = now.after(1_000_000);
    assert!(emit(end, later).is_none_or(|(_, other)| other.len() > 1232), "but for a length");
    assert!(written(|out| end.emit_acknowledgement(later, out)).is_none());
}

#[test]
fn an_acknowledgement_that_was_overtaken_marks_nothing() {
    let mut pair = Pair::new(CALM, Algorithm::NewReno, 1);
    send_into_the_dark(&mut pair, 9);
    let before = pair.ends[0].reliable.window_bytes();
    pair.now = pair.now.after(20_000);
    pair.hear(0, address(2), sealed(0, &ack(5..7, 2)), true);
    let halved = pair.ends[0].reliable.window_bytes();
    assert!(halved < before, "two were marked");
    // Written before the other, by when only one was.
    pair.hear(0, address(2), sealed(1, &ack(3..5, 1)), true);
    let next = pair.ends[0].reliable.sent.next();
    pair.now = pair.now.after(20_000);
    send_into_the_dark(&mut pair, 3);
    pair.now = pair.now.after(20_000);
    pair.hear(0, address(2), sealed(2, &ack(next + 1..next + 3, 2)), true);
    assert!(pair.ends[0].reliable.window_bytes() >= halved, "no more were");
    // The count wraps; more were marked all the same.
    pair.ends[0].reliable.ce_count = u16::MAX;
    let next = pair.ends[0].reliable.sent.next();
    pair.now = pair.now.after(20_000);
    send_into_the_dark(&mut pair, 2);
    pair.now = pair.now.after(20_000);
    pair.hear(0, address(2), sealed(3, &ack(next + 1..next + 2, 1)), true);
    assert!(pair.ends[0].reliable.window_bytes() < halved);
}

#[test]
fn each_datagram_is_counted_once() {
    for seed in 0..8 {
        let weather = Weather { loss: 100, jitter: 15_000, ..CALM };
        let mut pair = Pair::new(weather, Algorithm::ALL[seed as usize % 3], seed);
        for round in 0..20 {
            for at in [0, 1] {
                pair.ends[at].reliable.push(&pings(round * 10..round * 10 + 10)).unwrap();
                pair.send(at, true);
            }
            if round == 7 {
                pair.ends[0].here = address(77);
            }
            pair.run_until(pair.now.after(30_000));
        }
        for end in &pair.ends {
            assert!(end.reliable.counters().probes > 0, "of every kind");
            assert_eq!(end.reliable.counters().sent, end.emitted);
        }
    }
}

#[test]
fn what_was_agreed_is_kept() {
    let terms = |peer| Terms {
        peer_index: u32::from(peer),
        path: address(peer),
        peer: Limits { datagram_bytes_max: 1400, window: 300 },
        rtt_micros: Some(20_000),
        flight_bytes_max: 1 << 20,
        algorithm: Algorithm::Bbr,
        random: 1,
    };
    let mut pair = Pair::agreed(CALM, 1, terms);
    assert_eq!(pair.ends[0].reliable.sent.room(), 300, "as many numbers as the peer tells apart");
    send_into_the_dark(&mut pair, 1);
    pair.ends[0].reliable.copy_at = None;
    let asks_at = pair.ends[0].reliable.probe_at().unwrap();
    assert!(asks_at.since(pair.now) < 40_000, "the round trip is known from the handshake");
    pair.run_until(pair.now.after(2_000_000));
    assert_eq!(pair.ends[0].reliable.datagram_bytes(), 1392);
}

#[test]
fn a_peer_that_acknowledges_nothing_leaves_numbers() {
    let mut pair = Pair::new(CALM, Algorithm::NewReno, 1);
    pair.ends[0].reliable.push(&pings(0..600)).unwrap();
    // It is heard and hears nothing: each two of its datagrams cost a number, and none comes back.
    pair.weather.loss = 1000;
    for _ in 0..6_000 {
        let number = pair.ends[1].reliable.sent.next();
        pair.ends[1].reliable.sent.skip();
        let datagram = sealed(number, &pings(number..number + 1));
        let mut join = [0; 2000];
        let mut join = Join::new(&mut join);
        let (now, end) = (pair.now, &mut pair.ends[0].reliable);
        end.hear(&mut datagram.clone(), false, address(2), now, &mut join).unwrap();
        end.handled(true, now);
        pair.run_until(now.after(5_000));
    }
    let end = &pair.ends[0].reliable;
    end.invariants();
    assert!(end.sent.room() > 0 && end.counters().lost > 0);
    assert!(end.counters().sent > 1_500, "{:?} in half a minute", end.counters());
    assert!(!end.is_flushed());
    // All numbers are used up: it waits until some are given up.
    let end = &mut pair.ends[0].reliable;
    while end.sent.room() > 0 {
        end.sent.skip();
    }
    end.ask();
    pair.ends[1].reliable.sent.skip();
    pair.hear(0, address(2), sealed(6_000, &crate::packet::path_challenge(7)), true);
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    assert!(emit(end, now).is_none() && end.timeout().unwrap() > now, "nothing can be sent");
    pair.weather.loss = 0;
    let begun = pair.now;
    while !pair.ends[0].reliable.is_flushed() {
        assert!(pair.step() && pair.now.since(begun) < 30_000_000, "it is stuck");
    }
    assert_eq!(pair.ends[1].pings.len(), 600);
}

#[test]
fn who_is_asked_answers_and_then_all_is_quiet() {
    let mut pair = Pair::new(CALM, Algorithm::Bbr, 1);
    pair.meet();
    let before = [0, 1].map(|at| pair.ends[at].reliable.counters().sent);
    pair.ends[0].reliable.ask();
    pair.ends[0].reliable.ask();
    pair.run_until(pair.now.after(5_000_000));
    let after = [0, 1].map(|at| pair.ends[at].reliable.counters().sent);
    assert_eq!(after, before.map(|sent| sent + 1), "one asks, one answers");
    assert_eq!(pair.ends[0].reliable.in_flight_bytes(), 0);
}

#[test]
fn what_cannot_become_several_yet_is_waited_for() {
    let mut pair = Pair::new(CALM, Algorithm::NewReno, 1);
    pair.meet();
    pair.stream(500_000);
    pair.weather.loss = 1000;
    let mut pushed = 0;
    while pair.ends[0].reliable.push(&pings(pushed * 119..pushed * 119 + 119)).is_ok() {
        pair.send(0, true);
        pair.now = pair.now.after(200);
        pushed += 1;
    }
    // All are lost, of a last one that is only to be acknowledged, and too long now.
    let now = pair.now.after(5_000);
    let end = &mut pair.ends[0].reliable;
    end.handle_too_long(600, now);
    assert_eq!(end.datagram_bytes(), 548);
    end.probed = 2;
    end.probes_owed = 1;
    pair.now = now;
    pair.send(0, true);
    let last = pair.ends[0].reliable.sent.next() - 1;
    pair.now = now.after(50_000);
    let number = pair.ends[1].reliable.sent.next();
    pair.ends[1].reliable.sent.skip();
    pair.hear(0, address(2), sealed(number, &ack([last], 0)), true);
    // The pace lets a few of them go at a time.
    for _ in 0..200 {
        pair.send(0, true);
        if pair.ends[0].reliable.slots.queued_bytes() == 0 {
            break;
        }
        pair.now = pair.now.after(100);
    }
    let (now, end) = (pair.now, &mut pair.ends[0].reliable);
    end.invariants();
    assert!(end.slots.has_aside() && end.slots.queued_bytes() == 0);
    assert!(end.sent.in_flight_bytes() < end.window_bytes(), "only slots are missing");
    assert!(end.timeout().unwrap() > now, "nothing can be done before something arrives");
    pair.weather = Weather { longest: 548, ..CALM };
    let mut steps = 0;
    while !pair.ends[0].reliable.is_flushed() {
        steps += 1;
        assert!(pair.step() && steps < 20_000, "it is stuck");
    }
    assert_eq!(pair.ends[1].pings.len() as u64, pushed * 119);
}

#[test]
fn who_has_not_spoken_is_sent_nothing_long() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 1);
    let end = &mut pair.ends[0].reliable;
    end.push(&pings(0..1_000)).unwrap();
    let mut sent = 0;
    while let Some(now) = end.timeout().filter(|now| now.0 < 1_900_000) {
        let now = now.max(Micros(1_000_000));
        end.handle_timeout(now);
        while let Some((_, emitted)) = emit(end, now) {
            assert!(emitted.len() <= usize::from(crate::mtu::BASE_BYTES));
            sent += 1;
        }
    }
    assert!(sent > 10, "{sent}");
    let now = Micros(1_900_000);
    pair.now = now;
    pair.hear(0, address(2), sealed(0, &[crate::packet::PROBE]), true);
    let end = &mut pair.ends[0].reliable;
    let longest = core::iter::from_fn(|| emit(end, now)).map(|(_, emitted)| emitted.len()).max();
    assert_eq!(longest, Some(1392));
}

#[test]
fn a_full_packet_fills_its_datagrams() {
    let mut pair = Pair::new(CALM, Algorithm::NewReno, 1);
    pair.meet();
    pair.stream(1_000_000);
    pair.now = pair.now.after(1_000_000);
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    let window = end.window(now);
    // 1,444 bytes, and 21 times 1,432.
    assert_eq!(window, 31_516, "the most that fills datagrams, of the 32,768 of a packet");
    let bytes = window - OFFSET_HEADER_BYTES;
    let mut message = std::vec![1, 2, bytes as u8, (bytes >> 8) as u8, 7, 0, 0, 0];
    message.resize(window, 0);
    end.push(&message).unwrap();
    let sent: Vec<usize> = core::iter::from_fn(|| emit(end, now)).map(|(_, e)| e.len()).collect();
    assert_eq!(sent, [1472; 22]);
}

#[test]
fn what_there_is_no_room_for_comes_again() {
    let mut pair = Pair::new(CALM, Algorithm::Cubic, 1);
    let now = pair.now;
    let end = &mut pair.ends[0].reliable;
    let mut out = [0; 1460];
    let mut join = Join::new(&mut out);
    let hear = |end: &mut Reliable<'_>, join: &mut Join<'_>, number, messages: &[u8]| {
        end.hear(&mut sealed(number, messages), false, address(2), now, join)
    };
    assert_eq!(hear(end, &mut join, 0, &pings(0..120)), Ok(()));
    assert_eq!((join.bytes(), end.counters().received), (1440, 1));
    assert_eq!(hear(end, &mut join, 1, &pings(0..2)), Ok(()), "24 bytes into 20");
    assert_eq!((join.bytes(), end.counters().received), (1440, 1));
    end.handled(true, now);
    let mut join = Join::new(&mut out);
    assert_eq!(hear(end, &mut join, 1, &pings(0..2)), Ok(()));
    assert_eq!((join.bytes(), end.counters().received), (24, 2));
    // More packets than can wait for the link to take them.
    for number in 2..200 {
        assert_eq!(hear(end, &mut join, number, &pings(0..1)), Ok(()));
    }
    assert!(!end.can_hear());
    assert_eq!(end.counters().received, 1 + PENDING_MAX as u64);
    end.handled(true, now);
    // Longer than this end takes, whatever room there is.
    let mut long = [0; 4000];
    let mut join = Join::new(&mut long);
    assert_eq!(hear(end, &mut join, 300, &pings(0..121)), Ok(()));
    assert_eq!((join.bytes(), end.received.largest()), (0, Some(64)));
}

#[test]
fn without_a_key_nothing_is_sent_and_nothing_is_due() {
    use seaprox_noise::aead::Algorithm as Cipher;
    let keys = |sealing, opening| Keys::new(Cipher::ChaCha20Poly1305, 0, &sealing, &opening);
    let end = |sealing, peer: u16| {
        let memory = Box::leak(Box::new(Memory::<SLOTS, 1024>::new()));
        let terms = Terms {
            peer_index: peer.into(),
            path: address(peer),
            peer: Limits::OWN,
            rtt_micros: None,
            flight_bytes_max: 1 << 20,
            algorithm: Algorithm::Bbr,
            random: 3,
        };
        Reliable::new(memory.parts().slices, sealing, &terms, Micros(1_000_000))
    };
    let mut asked = end(Sealing::Given(keys([1; 32], [2; 32])), 1);
    let mut asks = end(Sealing::Asked(keys([2; 32], [1; 32])), 2);
    let now = Micros(1_000_000);
    asked.push(&pings(0..5)).unwrap();
    assert_eq!(emit(&mut asked, now), None);
    assert!(asked.timeout().is_none_or(|at| at > now), "it would be asked in vain, and again");
    // The first packet shows that the peer has the keys.
    asks.push(&pings(5..6)).unwrap();
    let (_, mut first) = emit(&mut asks, now).unwrap();
    let mut out = [0; 2048];
    asked.hear(&mut first, false, address(1), now, &mut Join::new(&mut out)).unwrap();
    asked.handled(true, now);
    let (_, mut answer) = emit(&mut asked, now).expect("there is a key");
    asks.hear(&mut answer, false, address(2), now, &mut Join::new(&mut out)).unwrap();
    assert_eq!(asks.counters().received, 1);
    // When it has done its time nothing is sealed with it any more.
    let late = now.after(seaprox_noise::keyring::KEY_MICROS);
    asks.push(&pings(6..7)).unwrap();
    asks.handle_timeout(late);
    assert_eq!(emit(&mut asks, late), None);
    assert!(asks.timeout().is_none_or(|at| at > late));
}
