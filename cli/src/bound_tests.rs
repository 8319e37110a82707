use super::*;

fn sizes(given: [Option<&str>; 4]) -> Result<Sizes, String> {
    const NAMES: [&str; 4] = [
        "SEAPROX_MAX_NUM_CONNECTIONS",
        "SEAPROX_NUM_THREADS",
        "SEAPROX_MAX_NUM_PEERS",
        "SEAPROX_MAX_NUM_LINKS",
    ];
    read_sizes(|name| {
        let which = NAMES.iter().position(|other| *other == name).expect("it is one of these");
        given[which].map(str::to_owned)
    })
}

#[test]
fn sizes_are_whole_numbers_in_their_range() {
    let read = |given| {
        sizes(given).map(|sizes| (sizes.connections, sizes.threads, sizes.peers, sizes.links))
    };
    assert_eq!(read([None; 4]), Ok((8192, 4, 64, 2)));
    assert_eq!(read([Some("256"), Some("1"), Some("1"), Some("1")]), Ok((256, 1, 1, 1)));
    let most = [Some("1048576"), Some("256"), Some("1024"), Some("32")];
    assert_eq!(read(most), Ok((1 << 20, 256, 1024, 32)));
    assert_eq!(
        read([Some("0"), None, None, None]),
        Err("SEAPROX_MAX_NUM_CONNECTIONS is `0`: set it to a whole number from 1 to 1048576".into())
    );
    for bad in ["", "-1", "+1", " 1", "1k", "257", "99999999999999999999"] {
        let why = read([None, Some(bad), None, None]).unwrap_err();
        assert!(why.contains("SEAPROX_NUM_THREADS") && why.contains("from 1 to 256"), "{why}");
    }
    for (which, name) in [(2, "SEAPROX_MAX_NUM_PEERS"), (3, "SEAPROX_MAX_NUM_LINKS")] {
        let mut given = [None; 4];
        given[which] = Some("1025");
        assert!(read(given).unwrap_err().contains(name));
    }
    assert_eq!(read([Some("3"), None, None, None]), Ok((3, 3, 64, 2)));
    let why = read([Some("3"), Some("4"), None, None]).unwrap_err();
    assert!(why.contains("only 3 connections"), "{why}");
}
