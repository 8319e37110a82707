//! Marks, local addresses, and buffers.

use super::*;
use std::net::UdpSocket as Plain;

/// ECN as it is on the wire, to and from a socket that was told nothing.
#[test]
fn marks_are_set_and_seen() {
    for (at, host) in HOSTS {
        let mut egress = listening(at, &Options::USUAL);
        let plain = Plain::bind(SocketAddr::new(host.parse().unwrap(), 0)).unwrap();
        let to = SocketAddr::new(host.parse().unwrap(), egress.local().unwrap().port());
        let mut path = None;
        for tos in [0, 1, 2, 3, 0xbb] {
            if to.is_ipv4() {
                set(&plain, libc::IPPROTO_IP, libc::IP_TOS, tos);
            } else {
                set(&plain, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos);
            }
            plain.send_to(b"x", to).unwrap();
            let batch = receive(&mut egress);
            assert_eq!((batch.is_ect, batch.is_ce), (tos & 3 != 0, tos & 3 == 3), "{host} {tos}");
            path = Some(batch.path);
        }
        // A receiver that is not this code would have to ask for the mark; this one does.
        for (on, ecn) in [(true, true), (false, false)] {
            let mut peer = listening(if to.is_ipv4() { V4 } else { V6 }, &Options::USUAL);
            let mut sender = listening(at, &Options { ecn: !on, ..Options::USUAL });
            sender.set_ecn(on).unwrap();
            let path = Path::from(peer.local().unwrap());
            sender.send(Some(&path), &[b"y"]).unwrap();
            let batch = receive(&mut peer);
            assert_eq!((batch.is_ect, batch.is_ce), (ecn, false), "{host}");
        }
        assert_eq!(path.unwrap().peer, plain.local_addr().unwrap());
    }
}

/// Marked by the first send, without being told to.
#[test]
fn sockets_mark_by_themselves() {
    for (at, host) in HOSTS {
        let (mut egress, mut ingress) = pair(at, host, &Options::USUAL);
        ingress.send(None, &slices(&segments(3, 100, 100))).unwrap();
        let batch = receive(&mut egress);
        assert!(batch.is_ect && !batch.is_ce);
        egress.send(Some(&batch.path), &slices(&segments(3, 100, 100))).unwrap();
        assert!(receive(&mut ingress).is_ect);
    }
}

/// A machine with several addresses answers from the one that was asked; the connected socket hears
/// nothing from another.
#[test]
fn answers_come_from_where_the_question_went() {
    for at in ["0.0.0.0:0", DUAL] {
        for ours in ["127.0.0.1", "127.1.2.3", "127.255.0.9"] {
            let (mut egress, mut ingress) = pair(at, ours, &Options::USUAL);
            ingress.send(None, &[b"where are you"]).unwrap();
            let batch = receive(&mut egress);
            assert_eq!(batch.path.local, Some(ours.parse::<IpAddr>().unwrap()));
            egress.send(Some(&batch.path), &slices(&segments(4, 9, 9))).unwrap();
            assert_eq!(receive_all(&mut ingress, 4).0.len(), 4);
        }
    }
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    ingress.send(None, &[b"x"]).unwrap();
    assert_eq!(receive(&mut egress).path.local, None, "there is only one");
}

#[test]
fn buffers_are_as_large_as_asked_or_told() {
    let wanted =
        Options { receive_buffer_bytes: 3 << 20, send_buffer_bytes: 700_000, ..Options::USUAL };
    let socket = listening(V4, &wanted);
    let may_force = std::fs::read_to_string("/proc/self/status").unwrap();
    let may_force = may_force.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    // CAP_NET_ADMIN is number 12.
    let may_force = u64::from_str_radix(may_force, 16).unwrap() & 1 << 12 != 0;
    if may_force {
        assert_eq!(socket.capped(), None);
    }
    // No kernel gives 2 GiB - 1: doubled it would be no number.
    let socket = listening(V4, &Options { receive_buffer_bytes: i32::MAX as usize, ..wanted });
    let capped = socket.capped().expect("so much is too much");
    assert_eq!((capped.wanted_bytes, capped.limit), (i32::MAX as usize, "net.core.rmem_max"));
    assert!(capped.got_bytes > 0 && capped.got_bytes < i32::MAX as usize);
    let socket = listening(V4, &Options { send_buffer_bytes: i32::MAX as usize, ..wanted });
    if may_force {
        assert_eq!(socket.capped().expect("so much is too much").limit, "net.core.wmem_max");
    }
}

/// What nobody reads waits in the buffer: all of a burst.
#[test]
fn a_burst_is_kept() {
    let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
    let sent = segments(45, 1452, 1452);
    let batches = if egress.capped().is_none() { 20 } else { 2 };
    for _ in 0..batches {
        assert_eq!(ingress.send(None, &slices(&sent)), Ok(45));
    }
    assert_eq!(receive_all(&mut egress, 45 * batches).0.len(), 45 * batches);
}
