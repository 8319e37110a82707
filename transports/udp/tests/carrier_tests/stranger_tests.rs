//! What comes to a link's socket and is nobody's.

use super::*;
use rustix::fd::AsFd;
use seaprox_udp::handshake::{Init, Limits, VERSION};
use seaprox_udp::socket::{self, UdpSocket};
use std::net::UdpSocket as Plain;

fn greeting() -> [u8; 184] {
    let limits = Limits { datagram_bytes_max: 1472, window: 1024 };
    let (version_min, version_max, proof) = (VERSION, VERSION, [0; 16]);
    Init { version_min, version_max, sender: 9, nonce: 9, proof, limits }.encode()
}

/// Whoever can send from the peer's address, if only once, has not stopped a link that way.
#[test]
fn a_greeting_to_who_asked_is_passed_over() {
    let socket = UdpSocket::listening(([127, 0, 0, 1], 0).into(), &socket::Options::USUAL).unwrap();
    let at = socket.local().unwrap();
    let forger = Plain::from(socket.as_fd().try_clone_to_owned().unwrap());
    let [near, far] = [hub(STEERING), hub(STEERED)];
    far.open(socket, false);
    let ours = UdpSocket::connected(at, &socket::Options::USUAL).unwrap();
    let own = ours.local().unwrap();
    near.open(ours, true);
    let mut listener = Listener::new(far, ANYBODY, Options::USUAL);
    let mut asker = Udp::connect(near, None, Options::USUAL).unwrap();
    // Before it is linked, and then after.
    forger.send_to(&greeting(), own).unwrap();
    assert_eq!(asker.finish_connect(), Ok(false));
    let (mut acceptor, _) = patiently(|| listener.accept(None).ok());
    patiently(|| asker.finish_connect().expect("nobody refuses").then_some(()));
    forger.send_to(&greeting(), own).unwrap();
    ping(&mut acceptor, 5);
    acceptor.flush();
    assert_eq!(patiently(|| pings(&mut asker).pop()), 5);
}

/// However many strangers' datagrams come, and of whatever kind: nobody looks at more than a few before
/// it is others' turn.
#[test]
fn strangers_leave_the_turn_to_others() {
    let of_no_link = [0x30; 60].to_vec();
    for flood in [vec![], vec![9; 100], of_no_link] {
        let mut pair = Pair::linked();
        pair.between.borrow_mut().flood = Some(flood);
        let mut room = vec![0; PACKET_BYTES];
        let counted = |pair: &mut Pair, call: &mut dyn FnMut(&mut Pair) -> Option<Errno>| {
            pair.between.borrow_mut().receives = 0;
            assert_eq!(call(pair), Some(Errno::INTR));
            assert!(pair.between.borrow().receives <= 64);
        };
        counted(&mut pair, &mut |pair| pair.acceptor.receive(&mut room).err());
        counted(&mut pair, &mut |pair| pair.listener.accept(None).err());
    }
}

/// What is behind them is found in later turns.
#[test]
fn strangers_hide_nothing() {
    let mut pair = Pair::linked();
    pair.between.borrow_mut().to[1].extend((0..200).map(|_| vec![9; 100]));
    ping(&mut pair.asker, 5);
    pair.asker.flush();
    let mut room = vec![0; PACKET_BYTES];
    let turns = (0..10).take_while(|_| pair.acceptor.receive(&mut room) == Err(Errno::INTR));
    assert_eq!(turns.count(), 3);
    let mut pair = Pair::linked();
    pair.between.borrow_mut().to[1].extend((0..200).map(|_| vec![9; 100]));
    ping(&mut pair.asker, 5);
    assert_eq!(pair.run(50_000), Ok(vec![5]));
}
