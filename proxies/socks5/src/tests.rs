use super::*;
use seaprox::handshake::INPUT_BYTES;
use std::vec::Vec;

/// One user.
struct Alice;

impl Passwords for Alice {
    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        name == b"alice" && password == b"secret"
    }
}

/// What a client gets to hear, what it wants, and what it said beyond.
#[derive(Debug, PartialEq, Eq)]
struct Talk {
    told: Vec<u8>,
    wanted: Option<Result<Vec<u8>, FailReason>>,
    beyond: usize,
}

/// A client says `bytes`, so many at a time, and hears what it is told at once.
fn talk<P: Passwords>(passwords: P, bytes: &[u8], at_a_time: usize) -> Talk {
    let mut socks = Socks5(passwords);
    let mut state = socks.begin(());
    let (mut told, mut pending) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(at_a_time) {
        pending.extend_from_slice(chunk);
        assert!(pending.len() <= INPUT_BYTES, "more than a seat holds");
        // Again, as long as it has consumed something and there is more.
        loop {
            let mut input = &pending[..];
            let mut reply = Reply::new();
            let wanted = match socks.hear(&mut state, &mut input, &mut reply) {
                Verdict::More => None,
                Verdict::Connect(wanted) => Some(Ok(std::format!("{wanted:?}").into_bytes())),
                Verdict::Reject(reason) => Some(Err(reason)),
            };
            told.extend_from_slice(reply.bytes());
            let beyond = input.len();
            let consumed = pending.len() - beyond;
            pending.drain(..consumed);
            if wanted.is_some() {
                return Talk { told, wanted, beyond };
            }
            if consumed == 0 || pending.is_empty() {
                break;
            }
        }
    }
    Talk { told, wanted: None, beyond: pending.len() }
}

/// However the bytes are cut the talk is the same, but for what comes behind.
#[track_caller]
fn expect<P: Passwords + Copy>(
    passwords: P,
    bytes: &[u8],
    told: &[u8],
    wanted: Result<Wanted<'_>, FailReason>,
) {
    let wanted = wanted.map(|wanted| std::format!("{wanted:?}").into_bytes());
    for at_a_time in [1, 2, 3, 7, 100, bytes.len()] {
        let heard = talk(passwords, bytes, at_a_time);
        assert_eq!(
            (heard.told.as_slice(), heard.wanted),
            (told, Some(wanted.clone())),
            "{at_a_time}"
        );
    }
}

const ANYBODY: &[u8] = &[5, 1, 0];

fn after_greeting(request: &[u8]) -> Vec<u8> {
    [ANYBODY, request].concat()
}

#[test]
fn addresses_and_names_are_wanted() {
    let v4 = Wanted::Inet(SocketAddr::from(([127, 0, 0, 1], 0x1234)));
    expect((), &after_greeting(&[5, 1, 0, 1, 127, 0, 0, 1, 0x12, 0x34]), &[5, 0], Ok(v4));
    let v6 = Wanted::Inet(SocketAddr::from((Ipv6Addr::LOCALHOST, 443)));
    let mut request = after_greeting(&[5, 1, 0, 4]);
    request.extend([&[0; 15][..], &[1, 1, 187]].concat());
    expect((), &request, &[5, 0], Ok(v6));
    for length in [1, 12, 255] {
        let name = std::vec![b'n'; length];
        let mut request = after_greeting(&[5, 1, 0, 3, length as u8]);
        request.extend([&name[..], &[0, 80]].concat());
        expect((), &request, &[5, 0], Ok(Wanted::Name(&name, 80)));
    }
}

#[test]
fn what_comes_behind_is_not_consumed() {
    let bytes = [&after_greeting(&[5, 1, 0, 1, 1, 2, 3, 4, 0, 80])[..], b"GET /"].concat();
    assert_eq!(talk((), &bytes, bytes.len()).beyond, 5);
    assert_eq!(talk((), &bytes, 1).beyond, 0);
}

#[test]
fn passwords_are_asked_for_and_looked_at() {
    let request = [5, 1, 0, 1, 1, 2, 3, 4, 0, 80];
    let known = b"\x01\x05alice\x06secret";
    let wanted = Ok(Wanted::Inet(SocketAddr::from(([1, 2, 3, 4], 80))));
    let both = &[5, 2, 0, 2][..];
    expect(&Alice, &[both, known, &request].concat(), &[5, 2, 1, 0], wanted);
    for unknown in [&b"\x01\x05alice\x06secreT"[..], b"\x01\x00\x00", b"\x02\x05alice\x06secret"] {
        let bytes = [both, unknown].concat();
        expect(&Alice, &bytes, &[5, 2, 1, 1], Err(FailReason::Auth));
    }
    // The longest message there is.
    let longest = [&[1, 255][..], &[b'u'; 255], &[255], &[b'p'; 255]].concat();
    expect(&Alice, &[both, &longest].concat(), &[5, 2, 1, 1], Err(FailReason::Auth));
}

#[test]
fn a_method_that_is_not_offered_is_not_taken() {
    let auth = Err(FailReason::Auth);
    expect((), &[5, 1, 2], &[5, 0xff], auth);
    expect((), &[5, 0], &[5, 0xff], auth);
    expect(&Alice, ANYBODY, &[5, 0xff], auth);
    let all: Vec<u8> = [5, 255].into_iter().chain(1..=255).collect();
    expect((), &all, &[5, 0xff], auth);
}

#[test]
fn what_there_is_not_is_refused_with_its_code() {
    let refused = |code| [&[5, 0][..], &reply_of(code)].concat();
    let protocol = Err(FailReason::Protocol);
    // BIND and UDP ASSOCIATE.
    for command in [0, 2, 3, 255] {
        let bytes = after_greeting(&[5, command, 0, 1, 1, 2, 3, 4, 0, 80]);
        expect((), &bytes, &refused(7), protocol);
    }
    expect((), &after_greeting(&[5, 1, 0, 2, 1, 2, 3, 4, 0, 80]), &refused(8), protocol);
    expect((), &after_greeting(&[4, 1, 0, 1, 1, 2, 3, 4, 0, 80]), &refused(1), protocol);
    expect((), &after_greeting(&[5, 1, 0, 3, 0, 0, 80]), &refused(1), protocol);
    // SOCKS 4, and something else altogether: nothing that they could read.
    expect((), &[4, 1, 0, 80, 1, 2, 3, 4, 0], &[], protocol);
    expect((), b"GET / HTTP/1.1\r\n", &[], protocol);
}

#[test]
fn only_who_has_come_so_far_is_answered() {
    for (state, told) in [(State::Greeting, 0), (State::Password, 0), (State::Request, 10)] {
        let mut reply = Reply::new();
        Socks5(()).answer(&mut state.clone(), Err(FailReason::TimedOut), &mut reply);
        assert_eq!(reply.bytes().len(), told, "{state:?}");
    }
}

#[test]
fn every_reason_has_its_code() {
    for reason in FailReason::ALL {
        let mut reply = Reply::new();
        Socks5(()).answer(&mut State::Request.clone(), Err(reason), &mut reply);
        let code = reply.bytes()[1];
        assert!((1..=8).contains(&code), "{reason}: {code}");
    }
    assert_eq!(code_of(FailReason::ConnectionRefused), 5);
    assert_eq!(code_of(FailReason::Denied), 2);
    assert_eq!(code_of(FailReason::Unreachable), 3);
    assert_eq!(code_of(FailReason::NameResolution), 4);
    assert_eq!(code_of(FailReason::TimedOut), 6);
}
