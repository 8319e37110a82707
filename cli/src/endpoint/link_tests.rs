use super::*;
use crate::sys;
use proptest::prelude::*;

fn link(text: &str) -> Result<Link, String> {
    Link::parse(text.as_bytes()).map_err(|refused| refused.to_string())
}

fn sctp(hosts: &[&str], port: u16) -> Result<Link, String> {
    let host = |text: &&str| match text.parse::<IpAddr>() {
        Ok(ip) => LinkHost::Address((ip, port).into()),
        Err(_) => LinkHost::Name((*text).into()),
    };
    Ok(Link::Sctp { hosts: hosts.iter().map(host).collect(), port })
}

#[test]
fn each_kind() {
    assert_eq!(link("sctp:peer:7000"), sctp(&["peer"], 7000));
    assert_eq!(
        link("sctp:peer.example:7000,b.example."),
        sctp(&["peer.example", "b.example."], 7000)
    );
    assert_eq!(
        link("sctp:10.0.0.1:7000,10.1.0.1,[fd00::1]"),
        sctp(&["10.0.0.1", "10.1.0.1", "fd00::1"], 7000)
    );
    assert_eq!(link("sctp:[::]:7000"), sctp(&["::"], 7000));
    assert_eq!(link("sctp:[::1]:7000,1.2.3.4"), sctp(&["::1", "1.2.3.4"], 7000));
    assert_eq!(link("sctp:[::ffff:1.2.3.4]:1"), sctp(&["1.2.3.4"], 1));
    assert_eq!(link("sctp::7000"), sctp(&[], 7000));
    assert_eq!(
        link("seqpacket:/run/a,b"),
        Ok(Link::Seqpacket(UnixPath(b"/run/a,b".as_slice().into())))
    );
    assert_eq!(link("seqpacket:@x"), Ok(Link::Seqpacket(UnixPath(b"@x".as_slice().into()))));
    let Ok(Link::Sctp { hosts, .. }) = link("sctp:[fe80::1%lo]:80,[fe80::2%lo]") else { panic!() };
    let scope = sys::interface_number(c"lo").unwrap();
    assert_eq!(hosts[1].to_string(), format!("[fe80::2%{scope}]"));
}

#[test]
fn one_host_over_udp() {
    let udp = |host, port| Ok(Link::Udp { host, port });
    let at = |text: &str| Some(LinkHost::Address(text.parse().unwrap()));
    assert_eq!(link("udp:peer:7000"), udp(Some(LinkHost::Name("peer".into())), 7000));
    assert_eq!(link("udp:10.0.0.1:7000"), udp(at("10.0.0.1:7000"), 7000));
    assert_eq!(link("udp:[::1]:7000"), udp(at("[::1]:7000"), 7000));
    assert_eq!(link("udp::7000"), udp(None, 7000));
    for text in ["udp:peer:7000", "udp:10.0.0.1:7000", "udp:[::1]:7000", "udp::7000"] {
        assert_eq!(link(text).unwrap().to_string(), text);
    }
    let local = |text| link(text).unwrap().check_local().map_err(|refused| refused.to_string());
    assert!(local("udp:peer:7000").unwrap_err().contains("udp::7000 for every one"));
    assert_eq!((local("udp::7000"), local("udp:[::]:7000")), (Ok(()), Ok(())));
    let peer = |text| link(text).unwrap().check_peer().map_err(|refused| refused.to_string());
    assert!(peer("udp::7000").unwrap_err().contains("no host: write udp:NAME:7000"));
    assert!(peer("udp:0.0.0.0:7000").unwrap_err().contains("nobody's address"));
    assert_eq!(peer("udp:peer:7000"), Ok(()));
}

#[test]
fn refused_with_what_to_write_instead() {
    let kinds = "write udp:HOST:PORT, sctp:HOST:PORT, or seqpacket:/path on one machine";
    let whole = [
        ("", format!(": not a link: {kinds}")),
        ("peer:7000", format!("peer:7000: not a link: {kinds}")),
        ("tcp:peer:7000", format!("tcp:peer:7000: not a link: {kinds}")),
        ("udp:7000", "udp:7000: no host: write udp::7000 or udp:127.0.0.1:7000".into()),
        ("udp:peer", "udp:peer: no port: write peer:PORT".into()),
        ("udp:*:7000", "udp:*:7000: write udp::7000 for every address".into()),
        ("udp:a:1,b", "udp:a:1,b: udp has one host: several are one end with sctp".into()),
        ("sctp:7000", "sctp:7000: no host: write sctp::7000 or sctp:127.0.0.1:7000".into()),
        ("sctp:peer", "sctp:peer: no port: write peer:PORT".into()),
        ("sctp:*:7000", "sctp:*:7000: write sctp::7000 for every address".into()),
        ("sctp:a:1,", "sctp:a:1,: nothing between two commas".into()),
        ("sctp::1,b", "sctp::1,b: sctp::1 is every address already: write it alone".into()),
        ("sctp:a:1,b,a", "sctp:a:1,b,a: a is there twice".into()),
        (
            "sctp:a:1,b:2",
            "sctp:a:1,b:2: only the first host has a port, which is all the others' too: 1".into(),
        ),
        (
            "sctp:a:1,[::1]:2",
            "sctp:a:1,[::1]:2: only the first host has a port, which is all the others' too: 1"
                .into(),
        ),
        (
            "sctp:a:1,::1",
            "sctp:a:1,::1: an IPv6 address goes in brackets: write [ADDRESS]:PORT".into(),
        ),
        ("sctp:a b:1", "sctp:a b:1: no name contains ` `".into()),
        ("seqpacket:", "seqpacket:: no path: write seqpacket:/path".into()),
        ("seqpacket:@", "seqpacket:@: no name after the @: write seqpacket:@name".into()),
    ];
    for (text, expected) in whole {
        assert_eq!(link(text).unwrap_err(), expected);
    }
    assert!(link("sctp:a:1,127.1").unwrap_err().contains("not an IPv4 address"));
    let hosts = |count: usize| {
        let others: String = (2..=count).map(|number| format!(",h{number}")).collect();
        link(&format!("sctp:h1:7000{others}"))
    };
    assert!(hosts(LINK_HOSTS_MAX).is_ok());
    assert!(hosts(LINK_HOSTS_MAX + 1).unwrap_err().contains("at most 8 hosts"));
    assert!(Link::parse(b"sctp:\xff:1").unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn which_end_it_may_be() {
    let peer = |text| link(text).unwrap().check_peer().map_err(|refused| refused.to_string());
    let local = |text| link(text).unwrap().check_local().map_err(|refused| refused.to_string());
    for good in ["sctp:peer:7000,[::1]", "seqpacket:/x"] {
        assert_eq!(peer(good), Ok(()));
    }
    for good in [
        "sctp::7000",
        "sctp:[::]:7000",
        "sctp:0.0.0.0:7000",
        "sctp:1.2.3.4:1,[::1]",
        "seqpacket:@x",
    ] {
        assert_eq!(local(good), Ok(()));
    }
    assert_eq!(
        peer("sctp::7000").unwrap_err(),
        "sctp::7000: no host: write sctp:NAME:7000, where the egress is"
    );
    assert_eq!(peer("sctp:[::]:1").unwrap_err(), "sctp:[::]:1: [::] is nobody's address");
    assert_eq!(
        local("sctp:1.2.3.4:7000,peer").unwrap_err(),
        "sctp:1.2.3.4:7000,peer: a name cannot be listened on: write addresses, like \
         sctp:127.0.0.1:7000, or sctp::7000 for every one"
    );
    assert_eq!(
        local("sctp:1.2.3.4:7,0.0.0.0").unwrap_err(),
        "sctp:1.2.3.4:7,0.0.0.0: 0.0.0.0 is every address already: write it alone"
    );
}

fn any_link() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-z]([a-z0-9-]{0,9}\\.){0,2}[a-z]{1,5}\\.?",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
    ];
    prop_oneof![
        (prop::collection::vec(host, 1..=LINK_HOSTS_MAX), 1..=u16::MAX).prop_map(
            |(hosts, port)| {
                let others: String = hosts[1..].iter().map(|host| format!(",{host}")).collect();
                format!("sctp:{}:{port}{others}", hosts[0])
            }
        ),
        (1..=u16::MAX).prop_map(|port| format!("sctp::{port}")),
        "seqpacket:/[a-z,:/]{1,50}",
    ]
}

proptest! {
    #[test]
    fn what_is_shown_can_be_read(text in any_link()) {
        // Two hosts may be the same by chance, or a part of a name begin or end in nothing.
        if let Ok(link) = link(&text) {
            prop_assert_eq!(Link::parse(link.to_string().as_bytes()), Ok(link));
        }
    }

    #[test]
    fn no_bytes_panic_and_every_refusal_is_one_line(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "sctp:", "seqpacket:", "udp:", ",", ":", "[", "]", "::", "%", "lo", "1", "70000",
                "a", ".", "@", "\0", "é", "\n", "1.2.3.4", "*", "0x7f",
            ]),
            0..12,
        ),
    ) {
        let text = pieces.concat();
        for text in [text.clone(), format!("sctp:{text}"), format!("sctp:a:1,{text}")] {
            match Link::parse(text.as_bytes()) {
                Ok(link) => prop_assert_eq!(link.check_peer().is_err() && link.check_local().is_err(), matches!(
                    &link,
                    Link::Sctp { hosts, .. } if hosts.len() > 1 && hosts.iter().any(LinkHost::is_unspecified)
                )),
                Err(refused) => {
                    prop_assert!(!refused.to_string().chars().any(char::is_control), "{refused}");
                }
            }
        }
    }
}
