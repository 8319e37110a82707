use super::file::tests::{Folder, NOWHERE};
use super::*;
use std::path::Path;

/// A secret, and what it is known by (RFC 7748, section 6.1).
const SECRET: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const OTHER: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
const PSK: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn files(key: &Path) -> KeyFiles {
    KeyFiles { key: key.into(), psk: None, peers: vec![public(OTHER)], list: None }
}

fn public(text: &str) -> Public {
    Public::from_base64(text.as_bytes()).unwrap()
}

fn line(read: Result<Keys, CannotUse>) -> String {
    read.map(|keys| keys.peers.len()).unwrap_err().line
}

#[test]
fn an_identity_and_its_peer() {
    let folder = Folder::new();
    let (key, psk) = (folder.write("key", SECRET, 0o600), folder.write("psk", PSK, 0o400));
    let files = KeyFiles { psk: Some(psk.into()), ..files(&key) };
    let keys = files.read_from(&NOWHERE, &[]).unwrap();
    assert_eq!(keys.identity.public(), public(PUBLIC));
    let [known] = &keys.peers[..] else { panic!("one peer") };
    assert_eq!(known.name, OTHER);
    let psk = Psk::from_base64(PSK.as_bytes()).unwrap();
    let expected = Peer::new(&keys.identity, public(OTHER), psk).unwrap();
    assert!(known.peer == expected && known.rights == Rights::default());
    // Whatever the file that is read holds, it is read without moving to and fro.
    assert!(keys.peers.capacity() >= MAX_NUM_PEERS);
}

#[test]
fn what_is_no_key_is_said_and_not_shown() {
    let folder = Folder::new();
    let key = folder.write("key", SECRET, 0o600);
    let bad = folder.write("bad", &SECRET[1..], 0o600);
    let at = |option: &str, path: &Path, why: &str| format!("{option} {}: {why}", path.display());
    let malformed = "a key is 44 characters of base64";
    assert_eq!(line(files(&bad).read_from(&NOWHERE, &[])), at("--key", &bad, malformed));
    let with_psk = |psk: &Path| KeyFiles { psk: Some(psk.into()), ..files(&key) };
    assert_eq!(line(with_psk(&bad).read_from(&NOWHERE, &[])), at("--psk", &bad, malformed));
    let zero = folder.write("zero", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0o600);
    let why = "a key of nothing but zeroes is no key";
    assert_eq!(line(with_psk(&zero).read_from(&NOWHERE, &[])), at("--psk", &zero, why));
    let own = KeyFiles { peers: vec![public(PUBLIC)], ..files(&key) };
    assert_eq!(
        line(own.read_from(&NOWHERE, &[])),
        format!("--peer {PUBLIC}: the peer's key is this end's own")
    );
    let gone = files(Path::new("/no/such")).read_from(&NOWHERE, &[]);
    assert_eq!(gone.map(drop).unwrap_err().code, ExitCode::Configuration);
}

/// What a list is made of, and the line that says what is wrong with it.
fn listed(text: &str, services: &[&str]) -> Result<Keys, String> {
    let folder = Folder::new();
    let (key, list) = (folder.write("key", SECRET, 0o600), folder.write("list", text, 0o644));
    let path = list.display().to_string();
    let list = Some(list.clone().into());
    let read = KeyFiles { peers: vec![], list, ..files(&key) }.read_from(&NOWHERE, services);
    read.map_err(|why| why.line.strip_prefix(&format!("--peers {path}")).unwrap().to_owned())
}

#[test]
fn a_list_says_who_may_what() {
    let folder = Folder::new();
    let psk = folder.write("psk", PSK, 0o600);
    let text = format!(
        "# our offices\r\n\n  berlin {OTHER} psk={} services=web,@ channels=50 # the new one\r\n\
         \tlaptop\t{PUBLIC_2} services= allow=*.example.org:80,443 allow=10.0.0.0/8 \
         opens-per-second=20\nx {PUBLIC_3}\ny {PUBLIC_4} allow=",
        psk.display()
    );
    let keys = listed(&text, &["", "web", "db"]).unwrap();
    let names: Vec<_> = keys.peers.iter().map(|known| known.name.as_str()).collect();
    assert_eq!(names, ["berlin", "laptop", "x", "y"]);
    let [berlin, laptop, x, y] = &keys.peers[..] else { panic!("four") };
    let expected = Psk::from_base64(PSK.as_bytes()).unwrap();
    assert!(berlin.peer == Peer::new(&keys.identity, public(OTHER), expected).unwrap());
    assert_eq!(berlin.rights.services, Some(vec!["web".into(), String::new()]));
    assert_eq!((&berlin.rights.allowed, berlin.rights.quota.channels_max), (&None, 50));
    assert!(laptop.peer == Peer::new(&keys.identity, public(PUBLIC_2), Psk::NONE).unwrap());
    assert_eq!(laptop.rights.services, Some(vec![]));
    let allowed = laptop.rights.allowed.as_ref().unwrap();
    assert!(allowed.permits_name("a.example.org", 443) && !allowed.permits_name("a.b", 443));
    assert!(allowed.permits_address(([10, 1, 1, 1], 1).into()));
    assert_eq!(laptop.rights.quota.opens_per_second_max, 20);
    assert_eq!(x.rights, Rights::default());
    assert_eq!(y.rights.allowed.as_ref().map(|allowed| allowed.patterns().len()), Some(0));
}

/// Of secrets that nobody has.
const PUBLIC_2: &str = "B6N8vBQgk8i3VdwbEOhstCY3StFqpFPtC9/AsrhtHHw=";
const PUBLIC_3: &str = "w8JQBy1M5yvC0/FqM7MLQsXCGNWrKzfYR4WlQeLhR1E=";
const PUBLIC_4: &str = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn what_is_wrong_with_a_list_is_said_with_its_line() {
    let a = format!("a {OTHER}");
    for (text, expected) in [
        ("", ": there is nobody in it"),
        ("# a b\n\n", ": there is nobody in it"),
        ("\na", ":2: no public key after the name"),
        ("a x", ":1: x: a key is 44 characters of base64"),
        ("a/b x", ":1: a/b: a line begins with a name: 1 to 63 letters, digits, `-`, `_` or `.`"),
        (SECRET, ":1: a key: a line begins with a name: 1 to 63 letters, digits, `-`, `_` or `.`"),
        (&format!("{a}\na {PUBLIC_2}"), ":2: there is one of this name already"),
        (&format!("{a}\n\nb {OTHER}"), ":3: this key is that of a already"),
        (&format!("a {PUBLIC}"), ":1: the peer's key is this end's own"),
        (&format!("{a} channels=0"), ":1: channels=0: a number from 1 to 8192"),
        (&format!("{a} opens-per-second=+1"), ":1: opens-per-second=+1: a number from 1 to 200000"),
        (&format!("{a} channels=1 channels=2"), ":1: channels=2: once is enough"),
        (&format!("{a} services=web,x"), ":1: services=web,x: this egress has no --service x"),
        (
            &format!("{a} services=@"),
            ":1: services=@: this egress has no targets of its own, which is what @ means",
        ),
        (&format!("{a} psk={PSK}"), ":1: psk=: a key has a file of its own: write psk=FILE"),
        (&format!("{a} psk=/no/such"), ":1: psk=/no/such: there is no such file"),
        (
            &format!("{a} allow=10.0.0.1/8"),
            ":1: allow=10.0.0.1/8: bits are set behind the first 8: write 10.0.0.0/8",
        ),
        (
            &format!("{a} channel=1"),
            ":1: channel=1: after the key come psk=FILE, services=NAME,.. allow=PATTERN, channels=N, \
             opens-per-second=N",
        ),
    ] {
        let read = listed(text, &["web"]).map(|keys| keys.peers.len());
        assert_eq!(read, Err(expected.to_owned()), "{text}");
    }
    let many: String =
        (0..=MAX_NUM_PEERS).map(|number| format!("n{number} {}\n", nth(number))).collect();
    let why = listed(&many, &[]).map(|keys| keys.peers.len()).unwrap_err();
    assert_eq!(why, format!(":{}: {}", MAX_NUM_PEERS + 1, too_many()));
}

/// A key that keeps secrets and is like no other.
fn nth(number: usize) -> Public {
    Secret::from_random([number as u8; 32]).public()
}
