//! Links under load: who is slow holds up nobody, offsets wrap, and clients that come while the carrier
//! is blocked are served.

use seaprox_tests::bytes::pattern;
use seaprox_tests::ends::{egress, ingress, vacant_link};
use seaprox_tests::peer::{
    End, accept, assert_echoes, assert_rest, echo, end, listen, read_bytes, read_to_end,
    send_pattern, serve,
};
use seaprox_tests::process::Signal;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

/// One client of nine stops reading in the middle: the others get all of theirs meanwhile, and it, when
/// it reads again, gets the rest.
#[test]
fn a_slow_reader_holds_up_nobody() {
    const BYTES: usize = 16_000_000;
    let link = vacant_link();
    let backend = listen();
    let _egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let ingress = ingress(&link).start();
    for slow_client in [true, false] {
        let (client, server) = ingress.pair(&backend);
        let (mut slow, fast) = if slow_client { (client, server) } else { (server, client) };
        let slow_sent = send_pattern(&fast, 99, BYTES * 2);
        let begun = read_bytes(&slow, 1_000_000);
        thread::sleep(Duration::from_millis(50));
        thread::scope(|scope| {
            for seed in 0..8 {
                let (mut client, mut server) = ingress.pair(&backend);
                scope.spawn(move || {
                    let sent = [
                        send_pattern(&client, seed, BYTES / 8),
                        send_pattern(&server, seed + 100, BYTES),
                    ];
                    let up = thread::spawn(move || {
                        assert_rest(&mut server, &pattern(seed, BYTES / 8));
                    });
                    assert_rest(&mut client, &pattern(seed + 100, BYTES));
                    up.join().unwrap();
                    sent.into_iter().for_each(|sent| sent.join().unwrap());
                });
            }
        });
        assert!(!slow_sent.is_finished(), "all of it was taken from it unread");
        let (rest, ended) = read_to_end(&mut slow);
        assert!([begun, rest].concat() == pattern(99, BYTES * 2), "other bytes");
        assert_eq!(ended, End::Fin);
        slow_sent.join().unwrap();
        end(&slow);
    }
}

/// 5 GiB over one channel, so that its offsets wrap, with every byte looked at.
#[test]
fn offsets_wrap() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 5120;
    let link = vacant_link();
    let backend = listen();
    let _egress = egress(&link).to(backend.local_addr().unwrap()).start();
    let ingress = ingress(&link).start();
    let (mut client, mut server) = ingress.pair(&backend);
    // Of a length that has no factor in common with a packet's, so that no piece fits another's place.
    let piece = pattern(7, PIECE - 3);
    let sent = piece.clone();
    let sender = thread::spawn(move || {
        (0..PIECES).for_each(|_| server.write_all(&sent).unwrap());
        end(&server);
        server
    });
    let mut got = vec![0; piece.len()];
    for number in 0..PIECES {
        client.read_exact(&mut got).unwrap_or_else(|error| panic!("piece {number}: {error}"));
        assert!(got == piece, "piece {number} is another");
    }
    assert_eq!(client.read(&mut got).unwrap(), 0);
    let mut server = sender.join().unwrap();
    // And the other direction still works.
    client.write_all(b"all of it").unwrap();
    end(&client);
    assert_rest(&mut server, b"all of it");
}

/// The egress stands still, and the carrier takes nothing more: who comes then waits, without anybody
/// turning in circles, and is served afterwards.
#[test]
fn clients_come_while_the_carrier_is_blocked() {
    const BYTES: usize = 50_000;
    let link = vacant_link();
    let backend = serve(echo);
    let egress = egress(&link).to(backend).start();
    let ingress = ingress(&link).start();
    let mut first: Vec<_> = (0..100).map(|_| ingress.connect()).collect();
    first.iter_mut().for_each(|client| assert_echoes(client, b"hello"));
    egress.process.signal(Signal::SIGSTOP);
    let sent: Vec<_> = first.iter().map(|client| send_pattern(client, 1, BYTES)).collect();
    thread::sleep(Duration::from_millis(100));
    let mut late: Vec<_> = (0..60).map(|_| ingress.connect()).collect();
    late.iter_mut().for_each(|client| client.write_all(b"late").unwrap());
    thread::sleep(Duration::from_millis(100));
    let cpu = ingress.process.cpu_nanos();
    thread::sleep(Duration::from_millis(300));
    let spent = ingress.process.cpu_nanos() - cpu;
    assert!(spent < 60_000_000, "{spent} ns of CPU in 300 ms");
    egress.process.signal(Signal::SIGCONT);
    for client in &mut first {
        assert!(read_bytes(client, BYTES) == pattern(1, BYTES), "other bytes");
    }
    sent.into_iter().for_each(|sent| sent.join().unwrap());
    for client in &mut late {
        assert_eq!(read_bytes(client, 4), b"late");
    }
    assert_eq!(ingress.failed("table-full"), 0);
}

/// A target that takes nothing for a while ends in order all the same.
#[test]
fn the_end_comes_after_the_bytes() {
    let link = vacant_link();
    let backend = listen();
    let _egress = egress(&link).to(backend.local_addr().unwrap()).threads(2).start();
    let ingress = ingress(&link).threads(2).start();
    let pairs: Vec<_> = (0..16u64)
        .map(|seed| {
            let client = ingress.connect();
            let sent = send_pattern(&client, seed, 700_000 + seed as usize);
            (client, sent, accept(&backend))
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    for (_, _, server) in &pairs {
        end(server);
    }
    let mut unread = Vec::new();
    for (mut client, sent, mut server) in pairs {
        let (bytes, ended) = read_to_end(&mut server);
        assert_eq!(ended, End::Fin);
        unread.push(bytes);
        sent.join().unwrap();
        assert_eq!(read_to_end(&mut client).1, End::Fin);
    }
    // Which client is which server's is for the egress to say, so they are told apart by their ends.
    unread.sort_by_key(Vec::len);
    for (seed, bytes) in unread.iter().enumerate() {
        assert!(*bytes == pattern(seed as u64, 700_000 + seed), "other bytes");
    }
}
