use super::*;
use crate::keys::Known;
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_proto::carrier::PeerNumber;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

fn config(line: &str) -> EgressConfig {
    let line = format!("seaprox egress udp::1 --insecure {line}");
    let bounds = crate::args::Bounds { connections: 8, threads: 1, cpus: 1 };
    match crate::args::parse(line.split_whitespace().map(Into::into), bounds) {
        Ok(crate::args::Command::Egress(config)) => config,
        other => panic!("{other:?}"),
    }
}

/// Somebody with these rights.
fn known(number: u8, services: Option<&[&str]>, allowed: Option<&[&str]>) -> Known {
    let secret = |of| Secret::from_random([of; 32]);
    let own = Identity::new(secret(0xff));
    let peer = Peer::new(&own, secret(number).public(), Psk::NONE).unwrap();
    let services = services.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let patterns = |texts: &[&str]| Allowed::parse(texts.iter().map(|text| text.as_bytes()));
    let allowed = allowed.map(|texts| patterns(texts).unwrap());
    let rights = Rights { services, allowed, ..Rights::default() };
    Known { name: number.to_string(), peer, rights }
}

const OWN: Wanted<'_> = Wanted::Service(b"");
const WEB: Wanted<'_> = Wanted::Service(b"web");
const NONE: Wanted<'_> = Wanted::Service(b"none");
const TEN: Wanted<'_> =
    Wanted::Inet(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80)));
const NAME: Wanted<'_> = Wanted::Name(b"a.example", 80);

/// What becomes of everything that a peer asks for, in the order above.
fn answers(chooser: &mut Chooser<'_>, peer: Option<PeerNumber>) -> [Result<(), FailReason>; 5] {
    [OWN, WEB, NONE, TEN, NAME].map(|target| {
        let wish = Wish::new(target).unwrap().by(peer);
        let chosen = chooser.choose(SideKey::dest(0), wish).map(drop);
        chooser.forget(SideKey::dest(0));
        chosen
    })
}

#[test]
fn each_peer_has_what_is_its_own() {
    use FailReason::{Denied, NoSuchService};
    let config = config("a:1 --service web=b:1 --allow 10.0.0.0/8:80");
    let peers = [
        known(0, None, None),
        known(1, Some(&["web"]), Some(&[])),
        known(2, Some(&["", "none"]), Some(&["*.example"])),
        known(3, Some(&[]), None),
    ];
    let mut chooser = Offer::of(&config, &peers, 1).take(0).unwrap();
    let all = [
        [Ok(()), Ok(()), Err(NoSuchService), Ok(()), Err(Denied)],
        [Err(Denied), Ok(()), Err(Denied), Err(Denied), Err(Denied)],
        [Ok(()), Err(Denied), Err(NoSuchService), Err(Denied), Ok(())],
        [Err(Denied), Err(Denied), Err(Denied), Ok(()), Err(Denied)],
    ];
    // What one may does not stay with the next.
    for peer in [0, 1, 2, 3, 2, 1, 0, 3, 0] {
        assert_eq!(answers(&mut chooser, Some(peer)), all[usize::from(peer)], "{peer}");
    }
    // Who is not known has nothing, where everybody has to be.
    for peer in [None, Some(4), Some(PeerNumber::MAX)] {
        assert_eq!(answers(&mut chooser, peer), [Err(Denied); 5]);
    }
    assert!(Offer::of(&config, &[], 1).take(1).is_none());
    let mut chooser = Offer::of(&config, &[], 1).take(0).unwrap();
    assert_eq!(answers(&mut chooser, None), all[0]);
}

#[test]
fn what_peers_may_name_may_be_anywhere() {
    let config = config("10.0.0.1:80");
    let ports = |peers: &[Known]| needs_of_offer(&config, peers).ports;
    assert_eq!(ports(&[]), Some(vec![80]));
    assert_eq!(ports(&[known(0, None, None), known(1, None, Some(&[]))]), Some(vec![80]));
    assert_eq!(ports(&[known(0, None, None), known(1, None, Some(&["a:1"]))]), None);
}
