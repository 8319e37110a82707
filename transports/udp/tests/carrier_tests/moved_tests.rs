//! A machine whose address is another's, or nobody's.

use super::*;
use seaprox_udp::socket::{self, UdpSocket};

/// The first send that fails is enough; then it is not tried all the time.
#[test]
fn who_cannot_send_looks_for_another_way() {
    for errno in [Errno::NETUNREACH, Errno::INVAL, Errno::DESTADDRREQ] {
        let mut pair = Pair::linked();
        pair.between.borrow_mut().fault = Some(errno);
        let begun = pair.between.borrow().now;
        ping(&mut pair.asker, 5);
        pair.run(4_000_000).expect("nobody says that it is over");
        let looked = pair.between.borrow().reconnects.clone();
        assert_eq!(looked.len(), 2, "{errno}: {looked:?}");
        assert!(looked[0] - begun < 1_000 && looked[1] - looked[0] >= 3_000_000, "{looked:?}");
        pair.between.borrow_mut().fault = None;
        assert_eq!(pair.run(2_000_000).map(|all| all[0]), Ok(5));
    }
    // Anything else is no reason.
    let mut pair = Pair::linked();
    pair.between.borrow_mut().fault = Some(Errno::NOBUFS);
    ping(&mut pair.asker, 5);
    pair.run(10_000).unwrap();
    assert_eq!(pair.between.borrow().reconnects, []);
}

/// Nothing says that what is sent comes from where no answer leads to, but that none comes.
#[test]
fn who_gets_no_answer_looks_for_another_way() {
    let mut pair = Pair::linked();
    ping(&mut pair.asker, 4);
    assert_eq!(pair.run(5_000_000), Ok(vec![4]));
    assert_eq!(pair.between.borrow().reconnects, [], "who is answered, or silent, does not");
    pair.between.borrow_mut().is_dark = true;
    ping(&mut pair.asker, 5);
    let begun = pair.between.borrow().now;
    pair.run(3_000_000).unwrap();
    let looked = pair.between.borrow().reconnects.clone();
    assert_eq!(looked.len(), 1, "{looked:?}");
    assert!((500_000..2_500_000).contains(&(looked[0] - begun)), "{looked:?}");
}

/// A real socket: its peer hears it from elsewhere, and it hears nobody else.
#[test]
fn a_socket_that_was_connected_again_is_as_before() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let options = socket::Options::USUAL;
        let mut far = UdpSocket::listening(at.parse().unwrap(), &options).unwrap();
        let mut near = UdpSocket::connected(far.local().unwrap(), &options).unwrap();
        near.reconnect().unwrap();
        assert_eq!(near.send(None, &[b"here"]), Ok(1));
        let mut buffer = [0; 100];
        let path = patiently(|| far.receive(&mut buffer).ok().map(|datagrams| datagrams.path));
        assert_eq!(path.peer, near.local().unwrap());
        let mut stranger = UdpSocket::listening(at.parse().unwrap(), &options).unwrap();
        stranger.send(Some(&path), &[b"stranger"]).unwrap();
        far.send(Some(&path), &[b"peer"]).unwrap();
        let heard = patiently(|| near.receive(&mut buffer).ok().map(|got| got.bytes.to_vec()));
        assert_eq!(heard, b"peer");
        // One that listens stays where it is.
        let local = far.local().unwrap();
        far.reconnect().unwrap();
        assert_eq!(far.local().unwrap(), local);
    }
}
