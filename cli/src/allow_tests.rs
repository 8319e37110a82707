use super::*;
use proptest::prelude::*;
use std::str::FromStr;

fn allowed(patterns: &str) -> Allowed {
    Allowed::parse(patterns.split(' ').map(str::as_bytes)).unwrap()
}

fn name(patterns: &str, name: &str, port: u16) -> bool {
    allowed(patterns).permits_name(name, port)
}

fn address(patterns: &str, address: &str) -> bool {
    allowed(patterns).permits_address(address.parse().unwrap())
}

fn refusal(pattern: &str) -> String {
    Pattern::parse(pattern.as_bytes()).unwrap_err().reason().to_owned()
}

#[test]
fn a_name_is_permitted_as_it_is_spelt() {
    assert!(name("example.org", "example.org", 1) && name("example.org", "example.org", 65535));
    assert!(name("Example.ORG.:443", "eXample.org", 443), "case and final dot do not matter");
    assert!(name("example.org:443", "example.org.", 443));
    for other in ["example.com", "www.example.org", "xample.org", "example.org..", "", ".", "org"] {
        assert!(!name("example.org", other, 443), "{other}");
    }
    assert!(!name("example.org:443", "example.org", 80));
    assert!(!name("example.org", "example.org", 0), "no port is 0");
}

#[test]
fn a_star_stands_for_what_is_below() {
    let below = "*.example.org:443";
    assert!(name(below, "a.example.org", 443) && name(below, "A.B.EXAMPLE.ORG.", 443));
    for other in
        ["example.org", ".example.org", "aexample.org", "a.example.org.evil", "*.example.org"]
    {
        assert!(!name(below, other, 443), "{other}");
    }
    assert!(name("*:443", "anything", 443) && !name("*:443", "anything", 444));
}

/// What getaddrinfo(3) reads as a number, a pattern of names says nothing of.
#[test]
fn an_address_is_no_name() {
    for spelt in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0X7f.1",
        "127.1.",
        "::1",
        "[::1]",
        "a.1",
    ] {
        assert!(!name("* 127.0.0.0/8 [::]/0", spelt, 443), "{spelt}");
    }
    assert!(!name("* *.org", "a b.org", 1) && !name("*", "a..org", 1) && !name("*", "é.org", 1));
    assert!(!address("*", "1.2.3.4:443") && !address("*:443", "[2001:db8::1]:443"));
    assert!(
        !name("0.0.0.0/0 [::]/0", "example.org", 443),
        "nor does a range say anything of names"
    );
}

#[test]
fn addresses_are_permitted_by_ranges() {
    let inside = "10.0.0.0/8:80-90";
    assert!(address(inside, "10.0.0.0:80") && address(inside, "10.255.255.255:90"));
    assert!(!address(inside, "11.0.0.0:80") && !address(inside, "9.255.255.255:80"));
    assert!(!address(inside, "10.0.0.0:79") && !address(inside, "10.0.0.0:91"));
    assert!(address(inside, "[::ffff:10.0.0.1]:80"), "an IPv4 address spelt as an IPv6 one");
    assert!(!address("[::]/0", "[::ffff:10.0.0.1]:80") && !address("[::]/0", "10.0.0.1:80"));
    assert!(address("0.0.0.0/0", "255.255.255.255:1") && !address("0.0.0.0/0", "[::1]:1"));
    let documentation = "[2001:db8::]/32:*";
    assert!(address(documentation, "[2001:db8:ffff::1]:1"));
    assert!(!address(documentation, "[2001:db9::]:1"));
    assert!(address("1.2.3.4", "1.2.3.4:9") && !address("1.2.3.4", "1.2.3.5:9"), "one alone");
    assert!(address("[fe80::1]:5", "[fe80::1%3]:5") && !address("[fe80::1]:5", "[fe80::2]:5"));
    assert!(address("10.0.0.2/31", "10.0.0.3:1") && !address("10.0.0.2/31", "10.0.0.4:1"));
    assert!(!address("0.0.0.0/0", "1.2.3.4:0"));
}

#[test]
fn ports_are_listed() {
    let some = "a:80,443,8000-8001,9-9";
    let permitted: Vec<u16> = (0..=u16::MAX).filter(|&port| name(some, "a", port)).collect();
    assert_eq!(permitted, [9, 80, 443, 8000, 8001]);
    assert!(name("b:1 a:2", "a", 2) && !name("b:1 a:2", "a", 1), "each pattern for itself");
    assert!(!Allowed::default().permits_name("a", 1));
    assert!(!Allowed::default().permits_address("1.2.3.4:1".parse().unwrap()));
}

#[test]
fn refused_with_what_to_write_instead() {
    let how = "ports are like 443, 80-90, 80,443 or *, each 1 to 65535";
    let four = "not an IPv4 address: four numbers from 0 to 255, like 10.0.0.0/8";
    for (pattern, reason) in [
        ("", "no name: write * for every name"),
        (":80", "no name: write * for every name"),
        ("a:", how),
        ("a:0", how),
        ("a:65536", how),
        ("a:+1", how),
        ("a:1,", how),
        ("a:1-", how),
        ("a:1-2-3", how),
        ("a:http", how),
        ("a:90-80", "ports 90 to 80 are none: write 80-90"),
        ("a:1,2,3,4,5,6,7,8,9", "at most 8 ports or ranges of them in one pattern"),
        ("http://a", "a URL: write NAME:PORTS, without what is before and after"),
        ("a*b", "a * stands alone, or at the front: *.example.org"),
        ("*a", "a * stands alone, or at the front: *.example.org"),
        ("*.*.a", "a * stands alone, or at the front: *.example.org"),
        ("*.", "nothing between two dots of the name"),
        ("*.1", four),
        ("a b", "no name contains ` `"),
        ("10.0.0.1/8", "bits are set behind the first 8: write 10.0.0.0/8"),
        ("10.0.0.0/33", "after the / comes a number of bits, 0 to 32"),
        ("10.0.0.0/", "after the / comes a number of bits, 0 to 32"),
        ("10.0.0.0/+8", "after the / comes a number of bits, 0 to 32"),
        ("10.0.0", four),
        ("10/8", four),
        ("a/8", four),
        ("256.0.0.1", four),
        ("::1", "an IPv6 address goes in brackets: write [ADDRESS]/BITS:PORTS"),
        ("2001:db8::/32", "an IPv6 address goes in brackets: write [ADDRESS]/BITS:PORTS"),
        ("[::1", "no `]`: write [ADDRESS]/BITS:PORTS"),
        ("[x]", "not an IPv6 address between the brackets"),
        ("[2001:db8::/32]", "write the bits after the `]`: [ADDRESS]/BITS"),
        ("[2001:db8::1]/32", "bits are set behind the first 32: write [2001:db8::]/32"),
        ("[::1]/129", "after the / comes a number of bits, 0 to 128"),
        ("[::1]80", "after the `]` come /BITS and :PORTS"),
        ("[fe80::1%lo]", "a pattern has no interface: write the address without %..."),
        ("[::ffff:10.0.0.0]/104", "an IPv4 address is matched as one: write 10.0.0.0"),
    ] {
        assert_eq!(refusal(pattern), reason, "{pattern}");
    }
    assert_eq!(Pattern::parse(b"\xff").unwrap_err().reason(), "not UTF-8");
    let many = |count| Allowed::parse(std::iter::repeat_n(b"a".as_slice(), count));
    assert!(many(PATTERNS_MAX).is_ok());
    assert_eq!(many(PATTERNS_MAX + 1).unwrap_err().to_string(), "a: at most 64 patterns");
}

#[test]
fn shown_in_full() {
    let shown = |text: &str| Pattern::parse(text.as_bytes()).unwrap().to_string();
    assert_eq!(shown("Example.org."), "example.org:*");
    assert_eq!(shown("*.A:1,2-3"), "*.a:1,2-3");
    assert_eq!(shown("10.0.0.1:1-65535"), "10.0.0.1/32:*");
    assert_eq!(shown("[2001:DB8::]/32"), "[2001:db8::]/32:*");
    assert_eq!(shown("*"), "*:*");
}

fn any_pattern() -> impl Strategy<Value = String> {
    let hosts = prop_oneof![
        Just("*".to_owned()),
        "(\\*\\.)?[a-z]{1,3}(\\.[a-z]{1,2}){0,2}\\.?",
        // Near each other, so that ranges are met.
        (0u32..64, 0..=32u8).prop_map(|(ip, bits)| {
            let ip = Ipv4Addr::from_bits(0x0a00_0000 | ip << 20);
            format!("{}/{bits}", ip & Ipv4Addr::from_bits(!mask(bits, 32) as u32))
        }),
        (0u128..64, 0..=128u8).prop_map(|(ip, bits)| {
            let ip = Ipv6Addr::from_bits(0xfd00 << 112 | ip << 60);
            format!("[{}]/{bits}", ip & Ipv6Addr::from_bits(!mask(bits, 128)))
        }),
    ];
    let ports = prop_oneof![
        Just(String::new()),
        Just(":*".to_owned()),
        (1..10u16, 0..5u16).prop_map(|(first, more)| format!(":{first}-{},{first}", first + more)),
    ];
    (hosts, ports).prop_map(|(hosts, ports)| hosts + &ports)
}

/// The same ranges bit by bit.
fn lies_in(ip: IpAddr, range: &str) -> bool {
    let (first, bits) = range.split_once('/').unwrap();
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let first = octets(IpAddr::from_str(first.trim_matches(['[', ']'])).unwrap());
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    let ip = octets(ip);
    first.len() == ip.len() && (0..bits.parse().unwrap()).all(|at| bit(&first, at) == bit(&ip, at))
}

proptest! {
    #[test]
    fn what_is_shown_can_be_read(text in any_pattern()) {
        let pattern = Pattern::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(Pattern::parse(pattern.to_string().as_bytes()), Ok(pattern));
    }

    #[test]
    fn ranges_hold_what_they_hold_bit_by_bit(
        text in any_pattern(),
        v4 in 0u32..64,
        v6 in 0u128..64,
        port in 0..16u16,
    ) {
        let pattern = Pattern::parse(text.as_bytes()).unwrap();
        let shown = pattern.to_string();
        let (hosts, _) = shown.rsplit_once(':').unwrap();
        let in_ports = pattern.ports.contains(port);
        let v4 = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | v4 << 20));
        let v6 = IpAddr::from(Ipv6Addr::from_bits(0xfd00 << 112 | v6 << 60));
        let allowed = Allowed::parse([text.as_bytes()]).unwrap();
        for ip in [v4, v6] {
            let inside = hosts.contains('/') && lies_in(ip, hosts);
            prop_assert_eq!(allowed.permits_address((ip, port).into()), inside && in_ports);
        }
    }

    #[test]
    fn more_patterns_never_permit_less(
        one in any_pattern(),
        two in any_pattern(),
        host in "[a-z]{1,3}(\\.[a-z]{1,2}){0,3}\\.?",
        port in 0..16u16,
    ) {
        let permits = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|pattern| pattern.as_bytes());
            Allowed::parse(patterns).unwrap().permits_name(&host, port)
        };
        prop_assert_eq!(permits(&[&one, &two]), permits(&[&one]) || permits(&[&two]));
    }

    #[test]
    fn no_bytes_panic_and_every_refusal_is_one_line(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "*", ".", "a", "/", ":", ",", "-", "[", "]", "::", "10.0.0.0", "8", "80", "0", "é",
                "\0", "\n", "65535", "ffff:",
            ]),
            0..10,
        ),
    ) {
        let text = pieces.concat();
        match Pattern::parse(text.as_bytes()) {
            Ok(pattern) => {
                prop_assert_eq!(Pattern::parse(pattern.to_string().as_bytes()), Ok(pattern));
            }
            Err(refused) => {
                prop_assert!(!refused.to_string().chars().any(char::is_control), "{refused}");
            }
        }
    }
}

#[test]
fn everything_is_every_name_and_address() {
    let everything = Allowed::everything();
    for address in ["127.0.0.1:1", "255.255.255.255:65535", "[::1]:1", "[ff02::1]:65535"] {
        assert!(everything.permits_address(address.parse().unwrap()), "{address}");
    }
    assert!(everything.permits_name("a", 1) && everything.permits_name("b.example.org.", 65535));
    // What a resolver takes for an address is still no name.
    assert!(!everything.permits_name("127.1", 80) && !everything.permits_name("a b", 80));
}
