//! Threads that share a port.

use super::*;
use std::net::UdpSocket as Plain;

/// A datagram of that index.
fn of_index(first: u8, index: u32) -> Vec<u8> {
    let mut datagram = vec![first; 60];
    datagram[4..8].copy_from_slice(&index.to_le_bytes());
    datagram
}

/// Which socket of the group gets something, and that only one does.
fn who_gets(group: &mut [UdpSocket]) -> usize {
    let end = Instant::now() + Duration::from_secs(1);
    let mut buffer = [0; 2048];
    loop {
        let got: Vec<usize> =
            (0..group.len()).filter(|&number| group[number].receive(&mut buffer).is_ok()).collect();
        match got[..] {
            [] => assert!(Instant::now() < end, "nobody got it"),
            [one] => return one,
            _ => panic!("it came twice: {got:?}"),
        }
    }
}

const INDICES: [u32; 12] =
    [0, 1, 2, 3, 4, 5, 6, 7, 0x0100_0000, 0x0001_0000, 0xffff_fffe, 0x1234_5679];

/// Wherever it comes from: each datagram is of a port of its own.
#[test]
fn the_index_alone_chooses_the_thread() {
    for (at, host) in HOSTS {
        for threads in [1, 2, 3, 4, 7, 64] {
            let mut group = listening_group(address(at), threads, &Options::USUAL).unwrap();
            assert_eq!(group.len(), threads);
            let to = SocketAddr::new(host.parse().unwrap(), group[0].local().unwrap().port());
            for socket in &group {
                assert_eq!(socket.local().unwrap(), group[0].local().unwrap());
            }
            for index in INDICES {
                for first in [0x30, 0x21] {
                    let plain = Plain::bind(SocketAddr::new(to.ip(), 0)).unwrap();
                    plain.send_to(&of_index(first, index), to).unwrap();
                    let thread = seaprox_udp::socket::thread_of(index, threads as u32);
                    assert_eq!(
                        who_gets(&mut group),
                        thread as usize,
                        "{host} {threads} {index:#x}"
                    );
                    assert_eq!(thread, index % threads as u32);
                }
            }
            for short in [&[][..], &[9; 7]] {
                let plain = Plain::bind(SocketAddr::new(to.ip(), 0)).unwrap();
                plain.send_to(short, to).unwrap();
                assert_eq!(who_gets(&mut group), 0, "too short");
            }
        }
    }
}

/// A batch is steered whole.
#[test]
fn batches_reach_their_thread() {
    let mut group = listening_group(address(V4), 4, &Options::USUAL).unwrap();
    let mut ingress = UdpSocket::connected(group[0].local().unwrap(), &Options::USUAL).unwrap();
    for index in 0..8 {
        let sent = vec![of_index(0x30, index); 30];
        assert_eq!(ingress.send(None, &slices(&sent)), Ok(30));
        assert_eq!(receive_all(&mut group[index as usize % 4], 30).0, sent);
    }
    for socket in &mut group {
        assert!(has_nothing(socket));
    }
}

#[test]
fn a_port_has_one_group() {
    let options = &Options::USUAL;
    for (at, others) in [
        (V4, ["127.0.0.1", "0.0.0.0", "::"]),
        ("0.0.0.0:0", ["127.0.0.1", "0.0.0.0", "::"]),
        (DUAL, ["127.0.0.1", "::1", "::"]),
    ] {
        for threads in [1, 4] {
            let port = port();
            let at = SocketAddr::new(address(at).ip(), port);
            let group = listening_group(at, threads, options).unwrap();
            for other in others {
                let other = SocketAddr::new(other.parse().unwrap(), port);
                for more in [1, 4] {
                    let refused = listening_group(other, more, options).unwrap_err();
                    assert_eq!(refused, Errno::ADDRINUSE, "{at} {threads} {other} {more}");
                }
            }
            let _held = no_process_begins();
            drop(group);
            listening_group(at, threads, options).unwrap();
        }
    }
    assert_eq!(listening_group(address(V4), 0, options).unwrap_err(), Errno::INVAL);
    assert_eq!(listening_group(address(V4), THREADS_MAX + 1, options).unwrap_err(), Errno::INVAL);
}

const PORT: &str = "SEAPROX_TEST_TAKEN_PORT";

/// The other process of [`another_process_is_refused_too`]; nothing by itself.
#[test]
fn helper_takes_the_port() {
    if let Ok(port) = std::env::var(PORT) {
        let at = address(&format!("127.0.0.1:{port}"));
        let taken = listening_group(at, 4, &Options::USUAL).map(|group| group.len());
        println!("taken: {taken:?}");
    }
}

#[test]
fn another_process_is_refused_too() {
    let port = port();
    let at = SocketAddr::new(address(V4).ip(), port);
    let group = listening_group(at, 4, &Options::USUAL).unwrap();
    let says = || {
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args(["--exact", "group_tests::helper_takes_the_port", "--nocapture"]);
        let output = output(other.env(PORT, port.to_string()));
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = format!("taken: {:?}", Err::<usize, _>(Errno::ADDRINUSE));
    let said = says();
    assert!(said.contains(&refused), "{said}");
    {
        let _held = no_process_begins();
        drop(group);
    }
    let said = says();
    assert!(said.contains("taken: Ok(4)"), "{said}");
}

/// Two that begin at once: one has the port, whole, and the other nothing.
#[test]
fn of_two_at_once_one_has_the_port() {
    let _held = no_process_begins();
    let free = SocketAddr::new(address(V4).ip(), port());
    for _ in 0..100 {
        let start = std::sync::Barrier::new(2);
        let begin = || {
            start.wait();
            listening_group(free, 8, &Options::USUAL)
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(begin);
            (begin(), other.join().unwrap())
        });
        let refused = [&one, &other].map(|group| group.as_ref().err().copied());
        assert!(
            refused == [None, Some(Errno::ADDRINUSE)] || refused == [Some(Errno::ADDRINUSE), None],
            "{refused:?}"
        );
    }
}

/// A stranger that shares ports without asking is let in by the kernel, and gets nothing.
#[test]
fn a_stranger_gets_nothing() {
    let mut group = listening_group(address(V4), 3, &Options::USUAL).unwrap();
    let at = group[0].local().unwrap();
    let stranger = sharing(at);
    for index in 0..50 {
        let plain = Plain::bind(V4).unwrap();
        plain.send_to(&of_index(0x30, index), at).unwrap();
        assert_eq!(who_gets(&mut group), index as usize % 3);
    }
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 64]).is_err());
}

/// Where a stranger is that would share the port, there is no room for a group, nor for one socket.
#[test]
fn what_a_stranger_has_is_not_shared() {
    for threads in [1, 2, 4] {
        let stranger = sharing(SocketAddr::new(address(V4).ip(), port()));
        let at = stranger.local_addr().unwrap();
        let refused = listening_group(at, threads, &Options::USUAL).unwrap_err();
        assert_eq!(refused, Errno::ADDRINUSE);
        assert_eq!(sharing(at).local_addr().unwrap(), at, "others may share it");
    }
}

/// A socket with SO_REUSEPORT, bound there.
fn sharing(at: SocketAddr) -> Plain {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &at).unwrap();
    Plain::from(socket)
}
