use super::*;
use crate::poller::Poller;
use crate::sys::Linux;
use std::string::String;
use std::vec::Vec;

/// Clients say words, each ended by a blank, and hear how long each was; the first that begins with a
/// star is what they want. One word is heard a call.
#[derive(Default)]
struct Words {
    /// What it was called with.
    heard: Vec<String>,
    answered: Vec<Result<(), FailReason>>,
}

impl Handshake for Words {
    type Origin = ();
    type State = ();
    const VACANT: () = ();

    fn begin(&mut self, (): ()) {}

    fn hear<'v>(&'v mut self, (): &mut (), input: &mut &'v [u8], reply: &mut Reply) -> Verdict<'v> {
        self.heard.push(String::from_utf8_lossy(input).into_owned());
        let Some(end) = input.iter().position(|&byte| byte == b' ') else { return Verdict::More };
        let (word, rest) = input.split_at(end);
        *input = &rest[1..];
        match word {
            [b'*', name @ ..] => Verdict::Connect(Wanted::Name(name, 80)),
            b"!" => Verdict::Reject(FailReason::Auth),
            _ => {
                reply.say(&[b'0' + word.len() as u8]);
                Verdict::More
            }
        }
    }

    fn answer(&mut self, (): &mut (), outcome: Result<(), FailReason>, reply: &mut Reply) {
        self.answered.push(outcome);
        reply.say(b"answered");
    }
}

const BEGIN: Instant = Instant::from_millis(1000);
const UNTIL: Instant = Instant::from_millis(2000);

fn seat() -> Seat<()> {
    let mut seat = Seat::new(());
    seat.occupy((), UNTIL);
    seat
}

/// The client says something.
fn say(seat: &mut Seat<()>, bytes: &[u8]) {
    let end = usize::from(seat.end);
    seat.input[end..end + bytes.len()].copy_from_slice(bytes);
    seat.end += bytes.len() as u16;
}

#[test]
fn one_message_a_call_is_enough() {
    let (mut seat, mut words) = (seat(), Words::default());
    assert_eq!(seat.hear(&mut words, BEGIN), Asked::Until(UNTIL));
    say(&mut seat, b"a bcd e");
    assert_eq!(seat.hear(&mut words, BEGIN), Asked::Until(UNTIL));
    assert_eq!(words.heard, ["", "a bcd e", "bcd e", "e"]);
    assert_eq!(seat.reply.bytes(), b"13");
    say(&mut seat, b"f *there and beyond");
    let Asked::For(wish) = seat.hear(&mut words, BEGIN) else {
        panic!("{words:?}", words = words.heard)
    };
    assert_eq!(wish.wanted(), Wanted::Name(b"there", 80));
    assert_eq!(seat.input(), b"and beyond");
}

/// Not when the client takes what it was told, nor when its time is over.
#[test]
fn a_handshake_is_called_only_when_there_is_more() {
    let (mut seat, mut words) = (seat(), Words::default());
    for said in [&b""[..], b"ab", b"cd ", b"", b"e"] {
        say(&mut seat, said);
        for _ in 0..3 {
            assert_eq!(seat.hear(&mut words, BEGIN), Asked::Until(UNTIL));
        }
    }
    let late = seat.hear(&mut words, UNTIL);
    assert_eq!(late, Asked::Refused(FailReason::TimedOut));
    assert_eq!(words.heard, ["", "ab", "abcd ", "e"]);
    assert!(seat.answer(&mut words, Err(FailReason::TimedOut)));
    assert_eq!(words.answered, [Err(FailReason::TimedOut)]);
}

/// Who has said all of it in time is not too late because nobody looked.
#[test]
fn what_was_said_counts_before_the_time_does() {
    let (mut seat, mut words) = (seat(), Words::default());
    say(&mut seat, b"*there ");
    assert!(matches!(seat.hear(&mut words, UNTIL.after(5000)), Asked::For(_)));
}

/// A handshake learns of every end of a client that it has not rejected itself, and of no other.
#[test]
fn a_refusal_is_answered_once() {
    let longer_than_a_name = [&b"*"[..], &[b'n'; 256], b" "].concat();
    let never_a_word = [b'n'; INPUT_BYTES];
    for (said, refused, is_answered) in [
        (&longer_than_a_name[..], FailReason::Denied, true),
        (&never_a_word, FailReason::Protocol, true),
        (b"! ", FailReason::Auth, false),
    ] {
        let (mut seat, mut words) = (seat(), Words::default());
        say(&mut seat, said);
        assert_eq!(seat.hear(&mut words, BEGIN), Asked::Refused(refused));
        for _ in 0..2 {
            assert!(seat.answer(&mut words, Err(refused)));
        }
        assert_eq!(words.answered.len(), usize::from(is_answered), "{refused}");
        assert_eq!(seat.reply.bytes().is_empty(), !is_answered);
    }
}

#[test]
fn what_has_been_told_makes_room_for_more() {
    let mut reply = Reply::new();
    let bytes: Vec<u8> = (0..REPLY_BYTES as u8).collect();
    reply.say(&bytes);
    reply.consume(100);
    reply.say(&[0xff; 100]);
    assert!(!reply.has_overflowed);
    assert_eq!(reply.bytes(), [&bytes[100..], &[0xff; 100]].concat());
    // All or none.
    reply.say(b"x");
    assert!(reply.has_overflowed);
    assert_eq!(reply.bytes().len(), REPLY_BYTES);
}

#[test]
fn who_does_not_read_what_it_is_told_is_refused() {
    let (mut seat, mut words) = (seat(), Words::default());
    let mut heard = Asked::Until(UNTIL);
    let mut said = 0;
    while heard == Asked::Until(UNTIL) {
        say(&mut seat, b"a ");
        heard = seat.hear(&mut words, BEGIN);
        said += 1;
    }
    assert_eq!((heard, said), (Asked::Refused(FailReason::Protocol), REPLY_BYTES + 1));
}

/// Brings connections, or takes against them.
struct Door {
    refuses: bool,
}

impl Transport<Linux> for Door {
    const PROMPT: bool = true;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, Linux>) -> Option<Event> {
        None
    }
}

impl Source<Linux> for Door {
    type Target = ();

    fn target(&mut self, _: Handle, _: SideKey, _: &mut Desk<'_, Linux>) -> Asked<()> {
        if self.refuses { Asked::Refused(FailReason::Denied) } else { Asked::For(()) }
    }

    fn admit(&mut self, _: bool, _: &mut Desk<'_, Linux>) -> Result<(), Errno> {
        Ok(())
    }

    fn look(&mut self) {}

    fn end(&mut self, _: &mut Desk<'_, Linux>) {}
}

/// Seats are used again: neither what one said nor what it was told is the next one's, not even if that
/// is refused before the handshake hears of it.
#[test]
#[cfg_attr(miri, ignore = "real system calls")]
fn a_seat_knows_nothing_of_who_was_there_before() {
    let mut poller = Poller::new(Linux).unwrap();
    let mut desk = Desk { sys: Linux, poller: &mut poller, now: BEGIN };
    let mut seats = [Seat::new(())];
    let (door, words) = (Door { refuses: false }, Words::default());
    let mut source = Handshaking::new(words, door, &mut seats, 1000);
    let (side, handle) = (SideKey::source(0), Handle::descriptor(7));
    let told = |source: &mut Handshaking<'_, Words, Door>| {
        let channel = crate::transport::stand_in(side.other());
        match Transport::<Linux>::bytes(source, channel) {
            Lent::Bytes(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        }
    };
    for refuses in [true, false] {
        source.source.refuses = false;
        assert_eq!(source.target(handle, side, &mut desk), Asked::Until(UNTIL));
        say(&mut source.seats[0], b"secret half");
        assert_eq!(source.ask(side, &mut desk), Asked::Until(UNTIL));
        assert_eq!(told(&mut source), b"6");
        source.source.refuses = refuses;
        let next = source.target(handle, side, &mut desk);
        assert_eq!(
            next,
            if refuses { Asked::Refused(FailReason::Denied) } else { Asked::Until(UNTIL) }
        );
        if refuses {
            assert_eq!(source.answer(handle, side, Err(FailReason::Denied), &mut desk), Ok(()));
        }
        assert_eq!(told(&mut source), b"", "what another was told");
        assert!(source.seats[0].input().is_empty());
    }
    let nowhere = SideKey::source(1);
    let refused = source.target(handle, nowhere, &mut desk);
    assert_eq!(refused, Asked::Refused(FailReason::TableFull), "there is no seat");
}

/// Or else it would depend on how fast a client reads whether it sees an end or a reset.
#[test]
fn without_a_last_word_what_was_said_before_is_not_told_either() {
    let (mut seat, mut words) = (seat(), Words::default());
    say(&mut seat, b"a ! ");
    assert_eq!(seat.hear(&mut words, BEGIN), Asked::Refused(FailReason::Auth));
    assert_eq!(seat.reply.bytes(), b"");
}
