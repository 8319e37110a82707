use super::*;

#[test]
fn sizes_are_whole_numbers_in_their_range() {
    assert_eq!(read_sizes(None, None), Ok((8192, 4)));
    assert_eq!(read_sizes(Some("256"), Some("1")), Ok((256, 1)));
    assert_eq!(read_sizes(Some("1048576"), Some("256")), Ok((1 << 20, 256)));
    assert_eq!(
        read_sizes(Some("0"), None),
        Err("SEAPROX_MAX_NUM_CONNECTIONS is `0`: set it to a whole number from 1 to 1048576".into())
    );
    for bad in ["", "-1", "+1", " 1", "1k", "257", "99999999999999999999"] {
        let why = read_sizes(None, Some(bad)).unwrap_err();
        assert!(why.contains("SEAPROX_NUM_THREADS") && why.contains("from 1 to 256"), "{why}");
    }
    assert_eq!(read_sizes(Some("3"), None), Ok((3, 3)));
    assert!(read_sizes(Some("3"), Some("4")).unwrap_err().contains("only 3 connections"));
}
