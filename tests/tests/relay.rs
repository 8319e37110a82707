//! Bytes get through: all of them, in order, each once, both ways, whatever the others do.

use seaprox_tests::bulk;
use seaprox_tests::bytes::{Numbers, assert_same, pattern};
use seaprox_tests::launch::{Launch, Proxy};
use seaprox_tests::peer::{
    End, assert_echoes, assert_ends, assert_rest, echo, end, fill, listen, read_bytes, read_to_end,
    send_in_chunks, send_pattern, send_urgent, serve,
};
use seaprox_tests::trace::trace_file;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn proxy_to(backend: &TcpListener) -> Proxy {
    Launch::to(backend.local_addr().unwrap()).start()
}

/// Sends both ways at once, and ends both directions; every byte must arrive.
fn exchange(ends: (TcpStream, TcpStream), seed: u64, up: usize, down: usize) {
    let (mut client, mut server) = ends;
    let sends = [send_pattern(&client, seed, up), send_pattern(&server, seed + 1, down)];
    let reads = thread::spawn(move || {
        assert_rest(&mut server, &pattern(seed, up));
        server
    });
    assert_rest(&mut client, &pattern(seed + 1, down));
    reads.join().expect("the server gets every byte");
    sends.into_iter().for_each(|send| send.join().expect("all is taken"));
}

/// The sizes at which a buffer, a pipe or a read is empty, full, or one too many.
#[test]
fn every_size_arrives_both_ways() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let sizes = [0, 1, 2, 16 * KIB - 1, 16 * KIB, 64 * KIB, 64 * KIB + 1, 70_000, 128 * KIB + 1];
    for (seed, size) in sizes.into_iter().enumerate() {
        exchange(proxy.pair(&backend), seed as u64, size, 0);
        exchange(proxy.pair(&backend), seed as u64, 0, size);
        exchange(proxy.pair(&backend), seed as u64, size, size);
    }
}

#[test]
fn thirty_megabytes_arrive_each_way() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    exchange(proxy.pair(&backend), 1, 30_000_000, 0);
    exchange(proxy.pair(&backend), 2, 0, 30_000_000);
}

/// Both directions of one connection are bulk at the same time: neither waits for the other.
#[test]
fn bulk_both_ways_at_once() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    exchange(proxy.pair(&backend), 3, 20 * MIB, 25 * MIB);
}

#[test]
fn two_hundred_connections_at_once_do_not_mix() {
    let proxy = Launch::to(serve(echo)).threads(2).start();
    thread::scope(|scope| {
        for seed in 0..200 {
            let mut client = proxy.connect();
            scope.spawn(move || {
                let length = Numbers::new(seed).below(100 * KIB);
                let send = send_pattern(&client, seed, length);
                assert_rest(&mut client, &pattern(seed, length));
                send.join().expect("all is taken");
            });
        }
    });
}

/// A stream changes from copying to splicing and back without losing its order (mmproxy-rs#22,
/// haproxy d44ad5b8b).
#[test]
fn chatty_and_bulk_take_turns() {
    let proxy = Launch::to(serve(echo)).start();
    let mut client = proxy.connect();
    let mut numbers = Numbers::new(5);
    for round in 0..12 {
        for _ in 0..20 {
            let message = pattern(numbers.next(), 1 + numbers.below(600));
            assert_echoes(&mut client, &message);
        }
        let bulk = pattern(round, MIB + numbers.below(KIB));
        let mut sender = client.try_clone().unwrap();
        let expected = bulk.clone();
        let send = thread::spawn(move || sender.write_all(&bulk));
        let echoed = read_bytes(&client, expected.len());
        assert_same(&echoed, &expected, "the bulk");
        send.join().unwrap().unwrap();
    }
}

/// What the proxy holds for a reader that stands still is bounded, costs no CPU, and disturbs no
/// other connection; once it reads again, everything is there.
#[test]
fn a_stalled_reader_is_bounded_and_disturbs_nobody() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let before = proxy.process.pss_bytes();
    let pairs: Vec<_> = (0..8).map(|_| proxy.pair(&backend)).collect();
    let stalled: Vec<_> = thread::scope(|scope| {
        let fills = pairs.into_iter().enumerate().map(|(seed, (client, server))| {
            scope.spawn(move || (fill(&server, seed as u64), client, server))
        });
        let fills: Vec<_> = fills.collect();
        fills.into_iter().map(|fill| fill.join().unwrap()).collect()
    });
    // With a link, up to the pool's fixed size: windows have grown for these readers.
    let bound = if proxy.is_linked() { 24 * MIB } else { MIB } as u64;
    assert!(proxy.process.pss_bytes() < before + bound, "user memory grows");
    proxy.wait_asleep();
    let cpu = proxy.process.cpu_nanos();
    thread::sleep(Duration::from_millis(500));
    assert!(proxy.process.cpu_nanos() - cpu < 100_000_000, "it spins");

    let (mut client, server) = proxy.pair(&backend);
    thread::spawn(move || echo(server));
    for seed in 0..200 {
        assert_echoes(&mut client, &pattern(seed, 100));
    }
    exchange(proxy.pair(&backend), 9, 5 * MIB, 5 * MIB);

    for (seed, (sent, mut client, server)) in stalled.into_iter().enumerate() {
        drop(server);
        let (bytes, ended) = read_to_end(&mut client);
        assert_same(&bytes, &pattern(seed as u64, sent), "what was held");
        assert_eq!(ended, End::Fin);
    }
}

/// A reader that stood still, and has caught up, gets what is sent from then on: a source that was
/// muted meanwhile is heard again.
#[test]
fn a_reader_that_catches_up_gets_the_rest() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let (client, server) = proxy.pair(&backend);
    for round in 0..4 {
        let (mut sender, receiver) =
            if round % 2 == 0 { (&server, &client) } else { (&client, &server) };
        let sent = fill(sender, round);
        let got = read_bytes(receiver, sent);
        assert_same(&got, &pattern(round, sent), "what was held");
        proxy.wait_asleep();
        sender.write_all(&pattern(9, 100)).unwrap();
        assert_same(&read_bytes(receiver, 100), &pattern(9, 100), "what came then");
    }
}

/// The end of a stream comes while the other side takes nothing. The kernel tells once; forgetting
/// it hung 15 of 64 connections in a prototype.
#[test]
fn a_hang_up_while_the_other_side_is_blocked_is_remembered() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let mut numbers = Numbers::new(6);
    let mut waiting = Vec::new();
    for seed in 0..64 {
        let length = numbers.below(bulk(9 * MIB));
        let (client, server) = proxy.pair(&backend);
        let (sender, receiver) = if seed % 2 == 0 { (server, client) } else { (client, server) };
        let send = send_pattern(&sender, seed, length);
        if seed % 4 < 2 {
            end(&receiver);
        }
        waiting.push((seed, length, sender, receiver, send));
    }
    // Until it has moved what it can.
    proxy.wait_asleep();
    // A hang-up cannot be masked, and must not be heard again and again (haproxy debdc4b65).
    let cpu = proxy.process.cpu_nanos();
    thread::sleep(Duration::from_millis(300));
    assert!(proxy.process.cpu_nanos() - cpu < 100_000_000, "it spins");
    for (seed, length, sender, mut receiver, send) in waiting {
        assert_rest(&mut receiver, &pattern(seed, length));
        send.join().expect("all is taken");
        drop(sender);
    }
}

/// The urgent byte may or may not come through; everything else does, before the sender has ended.
fn assert_urgent_passes(mut sender: TcpStream, mut receiver: TcpStream, chunk: usize) {
    let chunks: Vec<_> = (0..8).map(|seed| pattern(seed, chunk)).collect();
    let last = pattern(8, chunk);
    let expected = [&chunks.concat()[..], &last].concat();
    let send = thread::spawn(move || {
        for chunk in chunks {
            sender.write_all(&chunk).expect("the proxy takes the bytes");
            send_urgent(&sender, b'!');
        }
        // A new mark may lift the one before it, so much follows the last one.
        sender.write_all(&last).expect("the proxy takes the bytes");
        sender
    });
    let mut bytes = read_bytes(&receiver, expected.len());
    end(&send.join().expect("all is taken"));
    let (rest, ended) = read_to_end(&mut receiver);
    bytes.extend(rest);
    let urgent_bytes = bytes.len().wrapping_sub(expected.len());
    assert!(urgent_bytes <= 8, "{} bytes came of {}", bytes.len(), expected.len());
    let mut rest = bytes.iter();
    let in_order = expected.iter().all(|byte| rest.any(|got| got == byte));
    assert!(in_order, "the bytes come in another order");
    assert_eq!(ended, End::Fin);
}

/// TCP's urgent mark stops every read before it; what follows it must not wait for ever, nor be
/// taken for the end.
#[test]
fn urgent_data_does_not_stall_the_rest() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    for chunk in [1, 100, 20 * KIB, 300 * KIB, 2 * MIB] {
        let (client, server) = proxy.pair(&backend);
        assert_urgent_passes(client, server, chunk);
        let (client, server) = proxy.pair(&backend);
        assert_urgent_passes(server, client, chunk);
    }
}

/// The same when the mark arrives while the receiver takes nothing.
#[test]
fn urgent_data_into_a_blocked_stream() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let (mut client, server) = proxy.pair(&backend);
    // The other direction has ended, so that the sender's end is a hang-up, muted or not.
    end(&client);
    let sent = fill(&server, 1);
    let mut sender = server.try_clone().unwrap();
    let send = thread::spawn(move || {
        send_urgent(&sender, b'!');
        sender.write_all(&pattern(2, MIB)).expect("the proxy takes the bytes");
        end(&sender);
    });
    let first = read_bytes(&client, sent);
    assert_same(&first, &pattern(1, sent), "what came before the mark");
    let (mut rest, ended) = read_to_end(&mut client);
    if rest.len() > MIB {
        assert_eq!(rest.remove(0), b'!');
    }
    assert_same(&rest, &pattern(2, MIB), "what came after the mark");
    assert_eq!(ended, End::Fin);
    send.join().expect("all is taken");
}

/// A second small write is not held back until the first is acknowledged, which takes 40 ms (RFC
/// 896 against RFC 1122 section 4.2.3.2).
#[test]
fn small_writes_are_not_delayed() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    let (client, server) = proxy.pair(&backend);
    for (mut sender, mut receiver) in
        [(&client, &server), (&server, &client), (&client, &server), (&server, &client)]
    {
        sender.set_nodelay(true).unwrap();
        receiver.set_nodelay(true).unwrap();
        let fastest = (0..30).map(|_| {
            let start = Instant::now();
            let mut byte = [0];
            for _ in 0..3 {
                sender.write_all(b"x").unwrap();
                receiver.read_exact(&mut byte).unwrap();
            }
            receiver.write_all(b"y").unwrap();
            sender.read_exact(&mut byte).unwrap();
            start.elapsed()
        });
        let fastest = fastest.skip(5).min().unwrap();
        assert!(fastest < Duration::from_millis(30), "{fastest:?} for three bytes");
    }
}

/// A pipe goes back to the pool only when empty: connections are killed while their pipes are full,
/// and their bytes looked for in the next client's stream.
#[test]
fn the_bytes_of_a_dead_connection_never_reach_another() {
    let backend = listen();
    let proxy = proxy_to(&backend);
    for round in 0..10 {
        let pairs: Vec<_> = (0..4).map(|_| proxy.pair(&backend)).collect();
        thread::scope(|scope| {
            for (seed, (client, server)) in pairs.iter().enumerate() {
                let sender = if seed % 2 == 0 { client } else { server };
                scope.spawn(move || fill(sender, 1000 + seed as u64));
            }
        });
        for (index, (client, server)) in pairs.into_iter().enumerate() {
            match (index + round) % 4 {
                0 => seaprox_tests::peer::reset(client),
                1 => seaprox_tests::peer::reset(server),
                2 => client.shutdown(Shutdown::Both).unwrap(),
                _ => drop((client, server)),
            }
        }
        for seed in 0..3 {
            exchange(proxy.pair(&backend), seed, 300 * KIB, 300 * KIB);
        }
    }
}

/// Without a single pipe bytes are copied, and only what the receiver takes is read.
#[test]
fn without_pipes_bytes_are_copied() {
    for error in ["EMFILE", "EPERM"] {
        let backend = listen();
        let trace = trace_file();
        let inject = format!("inject=pipe2:error={error}");
        let strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", trace.to_str().unwrap()];
        let proxy = Launch::to(backend.local_addr().unwrap())
            .wrapped(strace.into_iter().chain(["-e", "trace=pipe2", "-e", &inject]))
            .start();
        if proxy.is_linked() {
            return; // It has no use for pipes.
        }
        let none = proxy.process.pipe_ends();
        exchange(proxy.pair(&backend), 1, 5 * MIB, 6 * MIB);
        for seed in 0..6 {
            let (client, server) = proxy.pair(&backend);
            let (sender, mut receiver) =
                if seed % 2 == 0 { (server, client) } else { (client, server) };
            let sent = fill(&sender, seed);
            end(&sender);
            assert_rest(&mut receiver, &pattern(seed, sent));
        }
        assert_eq!(proxy.process.pipe_ends(), none);
        drop(proxy);
        let traced = std::fs::read_to_string(&trace).unwrap();
        assert!(traced.contains("INJECTED"), "no pipe was asked for");
        let _ = std::fs::remove_file(&trace);
    }
}

/// A user past pipe-user-pages-soft gets pipes too small to hold what was read (pipe(7)).
#[test]
fn small_pipes_are_not_used() {
    let backend = listen();
    let trace = trace_file();
    let strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", trace.to_str().unwrap()];
    let proxy = Launch::to(backend.local_addr().unwrap())
        .wrapped(strace.into_iter().chain(["-e", "trace=fcntl", "-e", "inject=fcntl:retval=4096"]))
        .start();
    let none = proxy.process.pipe_ends();
    exchange(proxy.pair(&backend), 1, 3 * MIB, 3 * MIB);
    let (mut client, server) = proxy.pair(&backend);
    let sent = fill(&server, 2);
    end(&server);
    assert_rest(&mut client, &pattern(2, sent));
    assert_eq!(proxy.process.pipe_ends(), none);
    drop(proxy);
    let _ = std::fs::remove_file(&trace);
}

/// Connections come and go so fast that descriptors are reused all the time: no event of a former
/// owner reaches the next (haproxy 8235a2478).
#[test]
fn reused_descriptors_are_not_mistaken() {
    let address = serve(|mut stream| {
        // Says what it was told to, ends the way it was told to.
        let mut order = [0; 9];
        if stream.read_exact(&mut order).is_err() {
            return;
        }
        let seed = u64::from_le_bytes(order[..8].try_into().unwrap());
        let _ = stream.write_all(&pattern(seed, Numbers::new(seed).below(40 * KIB)));
        match order[8] {
            0 => assert_ends(&mut stream, End::Fin),
            1 => seaprox_tests::peer::reset(stream),
            _ => {}
        }
    });
    let proxy = Launch::to(address).threads(2).start();
    let clean = proxy.sockets();
    thread::scope(|scope| {
        for lane in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                for round in 0..60 {
                    let seed: u64 = lane * 1000 + round;
                    let how = (seed % 3) as u8;
                    let mut client = proxy.connect();
                    let order = [&seed.to_le_bytes()[..], &[how]].concat();
                    send_in_chunks(&mut client, &order, seed);
                    let expected = pattern(seed, Numbers::new(seed).below(40 * KIB));
                    if how == 0 {
                        end(&client);
                        assert_rest(&mut client, &expected);
                    } else {
                        let (bytes, _) = read_to_end(&mut client);
                        assert_same(&bytes, &expected[..bytes.len()], "as far as it came");
                    }
                }
            });
        }
    });
    proxy.wait_sockets(clean);
}
