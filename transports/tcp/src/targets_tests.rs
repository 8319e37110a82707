use super::*;
use seaprox::side::SideKey;
use std::string::String;

/// Names below `.ok`, and what is not this machine.
struct Some443;

impl Allow for Some443 {
    fn permits_name(&self, name: &str, port: u16) -> bool {
        name.ends_with(".ok") && port == 443
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        assert_eq!(address.ip(), address.ip().to_canonical());
        !address.ip().is_loopback() && address.port() == 443
    }
}

const SERVICES: [Service<'static>; 3] = [
    Service { name: b"", targets: 0..2 },
    Service { name: b"web", targets: 2..5 },
    Service { name: b"web", targets: 5..6 },
];

fn side(number: usize) -> SideKey {
    SideKey::dest(number)
}

fn inet(text: &str) -> Wanted<'static> {
    Wanted::Inet(text.parse().unwrap())
}

#[test]
fn a_service_is_its_targets() {
    let mut places = Places::new();
    let mut services = Services::new(&SERVICES, Some443, &mut places);
    let mut choose = |name: &[u8]| services.choose(side(0), Wanted::Service(name));
    assert_eq!(choose(b""), Ok(Chosen::Some(0..2)));
    assert_eq!(choose(b"web"), Ok(Chosen::Some(2..5)), "the first of two");
    for none in [b"WEB".as_slice(), b"we", b"web\0", b"\xff"] {
        assert_eq!(choose(none), Err(FailReason::NoSuchService));
    }
    let mut none = Services::new(&[], (), &mut places);
    assert_eq!(none.choose(side(0), Wanted::Service(b"")), Err(FailReason::NoSuchService));
    assert_eq!(none.choose(side(0), inet("1.2.3.4:443")), Err(FailReason::Denied));
    assert_eq!(none.choose(side(0), Wanted::Name(b"a.ok", 443)), Err(FailReason::Denied));
}

#[test]
fn an_address_is_looked_at_in_its_plain_form() {
    let mut places = Places::new();
    let mut services = Services::new(&SERVICES, Some443, &mut places);
    let mut choose = |wanted| services.choose(side(0), wanted);
    let address = |text: &str| Ok(Chosen::Address(text.parse().unwrap()));
    assert_eq!(choose(inet("1.2.3.4:443")), address("1.2.3.4:443"));
    assert_eq!(choose(inet("[::ffff:1.2.3.4]:443")), address("1.2.3.4:443"));
    assert_eq!(choose(inet("[fe80::1%3]:443")), address("[fe80::1%3]:443"));
    for denied in ["1.2.3.4:80", "1.2.3.4:0", "127.0.0.1:443", "[::ffff:127.0.0.1]:443"] {
        assert_eq!(choose(inet(denied)), Err(FailReason::Denied), "{denied}");
    }
    // Spelt as names they are the same addresses.
    assert_eq!(choose(Wanted::Name(b"1.2.3.4", 443)), address("1.2.3.4:443"));
    assert_eq!(choose(Wanted::Name(b"::ffff:1.2.3.4", 443)), address("1.2.3.4:443"));
    assert_eq!(choose(Wanted::Name(b"::1", 443)), Err(FailReason::Denied));
    assert_eq!(services.taken(), 0);
}

#[test]
fn a_name_lies_in_a_place_until_its_dial_has_ended() {
    let mut places = Places::new();
    let mut services = Services::new(&SERVICES, Some443, &mut places);
    for number in 0..PLACES {
        let name = std::format!("host{number}.ok");
        let chosen = services.choose(side(number), Wanted::Name(name.as_bytes(), 443));
        assert_eq!(chosen, Ok(Chosen::Name(number as u8)));
        assert_eq!(services.name(number as u8), Some((name.as_str(), 443)));
    }
    let wanted = Wanted::Name(b"more.ok", 443);
    assert_eq!(services.choose(side(900), wanted), Err(FailReason::ResolverFull));
    services.forget(side(901));
    assert_eq!(services.taken(), PLACES, "a side without a place");
    assert_eq!(services.choose(side(9), wanted), Ok(Chosen::Name(9)), "one place a side");
    services.forget(side(40));
    services.forget(side(40));
    assert_eq!((services.taken(), services.name(40)), (PLACES - 1, None));
    assert_eq!(services.choose(side(900), wanted), Ok(Chosen::Name(40)));
    for number in (0..PLACES).chain([900]) {
        services.forget(side(number));
    }
    assert_eq!(services.taken(), 0);
    assert!((0..=u8::MAX).all(|place| services.name(place).is_none()));
}

#[test]
fn what_is_no_name_takes_no_place() {
    let mut places = Places::new();
    let mut services = Services::new(&SERVICES, Some443, &mut places);
    let longest = String::from("a").repeat(NAME_BYTES_MAX - 3) + ".ok";
    let mut choose = |name: &[u8], port| services.choose(side(1), Wanted::Name(name, port));
    let too_long = String::from("a") + &longest;
    for (name, port) in [
        (b"\xff.ok".as_slice(), 443),
        (too_long.as_bytes(), 443),
        (b"a.ok", 0),
        (b"a.ok", 80),
        (b"a.no", 443),
        (b"", 443),
    ] {
        assert_eq!(choose(name, port), Err(FailReason::Denied));
    }
    assert_eq!(choose(longest.as_bytes(), 443), Ok(Chosen::Name(0)));
    assert_eq!(services.taken(), 1);
    // Memory that was somebody's before.
    let services = Services::new(&SERVICES, Some443, &mut places);
    assert_eq!((services.taken(), services.name(0)), (0, None));
}

const _: () = assert!(Places::MEMORY_BYTES <= 64 * 272);
