//! What the network says: ICMP, and wires that take less.

use super::*;

/// ICMP says that nobody listens there: told apart, and of no consequence.
#[test]
fn nobody_there_is_heard_and_the_socket_lives() {
    let _held = no_process_begins();
    for (at, host) in HOSTS {
        let port = port();
        let to = SocketAddr::new(host.parse().unwrap(), port);
        let mut ingress = UdpSocket::connected(to, &Options::USUAL).unwrap();
        assert_eq!(ingress.send(None, &[b"anybody?"]), Ok(1));
        assert_eq!(ingress.take_heard(), None, "it is told in the next call");
        // The next call does what it should.
        assert!(has_nothing(&mut ingress));
        assert_eq!(ingress.take_heard(), Some(Errno::CONNREFUSED), "{host}");
        assert_eq!(ingress.take_heard(), None, "once");
        assert_eq!(ingress.send(None, &slices(&segments(9, 20, 20))), Ok(9));
        let at = SocketAddr::new(address(at).ip(), port);
        let mut egress = UdpSocket::listening(at, &Options::USUAL).unwrap();
        assert_eq!(ingress.send(None, &slices(&segments(9, 20, 20))), Ok(9));
        assert_eq!(ingress.take_heard(), Some(Errno::CONNREFUSED), "{host}");
        assert!(ingress.is_segmenting());
        assert_eq!(receive_all(&mut egress, 9).0, segments(9, 20, 20));
    }
}

/// A socket that is not connected hears nothing of it.
#[test]
fn one_peer_that_is_gone_is_nothing_to_the_others() {
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    let gone = Path::from(SocketAddr::new(address(V4).ip(), port()));
    for _ in 0..3 {
        assert_eq!(egress.send(Some(&gone), &[b"x"]), Ok(1));
        assert!(has_nothing(&mut egress));
    }
    assert_eq!(egress.take_heard(), None);
    ingress.send(None, &[b"y"]).unwrap();
    receive(&mut egress);
}

#[test]
fn errors_of_a_send_are_of_that_send() {
    let (mut egress, _) = pair(V4, "127.0.0.1", &Options::USUAL);
    let v6 = Path::from(address("[::1]:9"));
    let errno = egress.send(Some(&v6), &slices(&segments(2, 9, 9))).unwrap_err();
    assert_ne!(errno, Errno::AGAIN);
    assert_eq!((egress.take_heard(), egress.is_segmenting()), (None, true));
    let too_long = vec![0; 65_508];
    let to = Path::from(address("127.0.0.1:9"));
    assert_eq!(egress.send(Some(&to), &[&too_long]), Err(Errno::MSGSIZE));
    assert_eq!(egress.take_heard(), None);
}

/// Sends until there is no room, over a wire that takes nothing: how many datagrams. Only without
/// UDP_SEGMENT a batch may be sent in part.
fn fill(socket: &mut UdpSocket) -> usize {
    let sent = segments(45, 1452, 1452);
    let mut all = 0;
    for _ in 0..100 {
        match socket.send(None, &slices(&sent)) {
            Ok(count) => {
                assert!(count == 45 || (count > 0 && !socket.is_segmenting()), "{count}");
                all += count;
            }
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                return all;
            }
        }
    }
    panic!("it is never full");
}

/// A network namespace with two ends of a wire, deleted in the end.
struct Wire {
    name: String,
}

fn ip(words: &[&str]) {
    let output = output(Command::new("ip").args(words));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Wire {
    /// 198.51.100.0/24 and 2001:db8::/64 are at the other end, where nobody is. None where this user
    /// may not.
    #[allow(unsafe_code)]
    fn new(kind: &str, mtu: &str) -> Option<Wire> {
        // SAFETY: a call without arguments that cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: needs root for a network namespace");
            return None;
        }
        let name = format!("seaprox-udp-{}-{kind}", std::process::id());
        ip(&["netns", "add", &name]);
        let wire = Wire { name };
        wire.ip(&["link", "set", "lo", "up"]);
        wire.ip(&["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        wire.ip(&["link", "set", "near", "up", "mtu", mtu]);
        wire.ip(&["link", "set", "far", "up", "mtu", mtu]);
        wire.ip(&["addr", "add", "198.51.100.1/24", "dev", "near"]);
        wire.ip(&["addr", "add", "2001:db8::1/64", "dev", "near", "nodad"]);
        for nobody in ["198.51.100.9", "2001:db8::9"] {
            let lladdr = "02:00:00:00:00:09";
            wire.ip(&["neigh", "add", nobody, "lladdr", lladdr, "dev", "near"]);
        }
        Some(wire)
    }

    fn ip(&self, words: &[&str]) {
        ip(&[&["-netns", &self.name], words].concat());
    }

    /// Makes a socket in the namespace: it stays there wherever it is used.
    #[allow(unsafe_code)]
    fn within<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsRawFd;
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
                // SAFETY: a call without pointers; this thread ends with the scope.
                assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                make()
            });
            made.join().expect("it is made")
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// The wire takes 1280: 1252 and 1232 bytes of a datagram. What is more is refused, in a batch and
/// alone, with UDP_SEGMENT and without; and it stays.
#[test]
fn what_the_wire_does_not_take_is_refused() {
    let Some(wire) = Wire::new("mtu", "1280") else {
        return;
    };
    for (to, fits) in [("198.51.100.9:7", 1252), ("[2001:db8::9]:7", 1232)] {
        for segmentation in [true, false] {
            let options = Options { segmentation, ..Options::USUAL };
            let connected = || UdpSocket::connected(address(to), &options).unwrap();
            let mut socket = wire.within(connected);
            for count in [1, 2, 30] {
                let send = |socket: &mut UdpSocket, length| {
                    socket.send(None, &slices(&segments(count, length, length)))
                };
                assert_eq!(send(&mut socket, fits), Ok(count), "{to} {count}");
                assert_eq!(send(&mut socket, fits + 1), Err(Errno::MSGSIZE), "{to} {count}");
                assert_eq!(send(&mut socket, fits), Ok(count), "{to} {count}");
            }
            assert_eq!(socket.is_segmenting(), segmentation);
            assert_eq!(socket.take_heard(), None);
        }
    }
}

/// A queue that sends nothing on: the buffer fills, and that is said.
#[test]
fn a_full_buffer_is_told() {
    let Some(wire) = Wire::new("full", "1500") else {
        return;
    };
    // Slow, and patient.
    let queue = ["rate", "8kbit", "burst", "100kb", "limit", "100mb"];
    let mut tc = Command::new("tc");
    tc.args(["-netns", &wire.name, "qdisc", "add", "dev", "near", "root", "tbf"]);
    let output = output(tc.args(queue));
    if !output.status.success() {
        println!("skipped: no tbf: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let options = Options { send_buffer_bytes: 500_000, ..Options::USUAL };
    for segmentation in [true, false] {
        let options = Options { segmentation, ..options };
        let to = address("198.51.100.9:7");
        let mut socket = wire.within(|| UdpSocket::connected(to, &options).unwrap());
        let all = fill(&mut socket);
        assert!(
            (100..900).contains(&all),
            "{all} datagrams in 1 MB, the kernel's memory for each included"
        );
        assert_eq!(socket.take_heard(), None);
    }
}
