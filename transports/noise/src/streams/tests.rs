use super::*;
use crate::keyring::tests::pair;
use crate::keyring::{KEY_MICROS, RENEW_MICROS};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::vec::Vec;

const STREAMS: usize = 5;

/// One end, and where its streams are.
struct End {
    keys: Streams,
    positions: [Position; STREAMS],
}

#[derive(Clone, Debug)]
struct Message {
    stream: u16,
    first: u8,
    body: Vec<u8>,
    tag: Tag,
}

impl End {
    fn new() -> End {
        End { keys: Streams::new(), positions: [Position::NEW; STREAMS] }
    }

    fn seal(&mut self, now: u64, stream: u16, text: &[u8]) -> Message {
        let mut body = text.to_vec();
        let (first, tag) = self.keys.seal(now, &mut self.positions, stream, &mut body).unwrap();
        Message { stream, first, body, tag }
    }

    fn open(&mut self, now: u64, message: &Message) -> Result<Vec<u8>, Opened> {
        let Message { stream, first, ref body, ref tag } = *message;
        let mut body = body.clone();
        match self.keys.open(now, &mut self.positions, stream, first, &mut body, tag) {
            Opened::No => Err(Opened::No),
            Opened::Yes | Opened::Confirmed => Ok(body),
        }
    }
}

fn ends() -> (End, End) {
    let (mut asking, mut asked) = (End::new(), End::new());
    let (ours, theirs) = pair(1, asking.keys.next_slot());
    assert!(asked.keys.propose(theirs, 0));
    asking.keys.install(ours, 0);
    (asking, asked)
}

fn renew(asking: &mut End, asked: &mut End, number: u8, now: u64) {
    let (ours, theirs) = pair(number, asking.keys.next_slot());
    assert!(asked.keys.may_propose(asking.keys.next_slot()));
    assert!(asked.keys.propose(theirs, now));
    asking.keys.install(ours, now);
}

#[test]
fn nothing_is_sealed_without_keys() {
    let mut end = End::new();
    assert_eq!(end.keys.seal(0, &mut end.positions, 0, &mut [1]), Err(Spent));
    let (mut asking, mut asked) = ends();
    assert_eq!(asked.keys.seal(0, &mut asked.positions, 0, &mut [1]), Err(Spent));
    assert!(asking.keys.owes_message());
    let first = asking.seal(0, 4, b"one");
    assert!(!asking.keys.owes_message());
    assert_eq!(asked.open(0, &first), Ok(b"one".to_vec()));
    let answer = asked.seal(0, 4, b"two");
    assert_eq!(asking.open(0, &answer), Ok(b"two".to_vec()));
    assert_eq!(asking.keys.seal(KEY_MICROS, &mut asking.positions, 0, &mut [1]), Err(Spent));
    let no_such = asking.keys.seal(0, &mut asking.positions, STREAMS as u16, &mut [1]);
    assert_eq!(no_such, Err(Spent));
}

/// One key of slot 0, made of ones and twos, as bytes for whoever writes another: the first byte, and the
/// nonce's places.
#[test]
fn a_message_is_these_bytes() {
    let (mut asking, _) = ends();
    asking.seal(0, 3, b"before");
    let message = asking.seal(0, 3, b"text");
    assert_eq!(message.first, 0x10);
    let cipher = crate::aead::Cipher::new(Algorithm::Aes128Gcm, &[2; 32]);
    let mut body = *b"text";
    let tag = cipher.seal_in_place(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0], &[0x10], &mut body);
    assert_eq!((&message.body[..], message.tag), (&body[..], tag));
}

#[test]
fn every_change_is_seen() {
    let (mut asking, mut asked) = ends();
    let before = asking.seal(0, 1, b"before");
    let good = asking.seal(0, 1, b"text");
    assert_eq!(asked.open(0, &good), Err(Opened::No), "one is missing");
    assert!(asked.open(0, &before).is_ok());
    assert_eq!(asked.open(0, &before), Err(Opened::No), "it came before");
    for bit in 0..8 {
        let other = Message { first: good.first ^ 1 << bit, ..good.clone() };
        assert_eq!(asked.open(0, &other), Err(Opened::No));
    }
    for bit in 0..16 {
        let other = Message { stream: good.stream ^ 1 << bit, ..good.clone() };
        assert_eq!(asked.open(0, &other), Err(Opened::No));
    }
    for bit in 0..good.body.len() * 8 {
        let mut other = good.clone();
        other.body[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(asked.open(0, &other), Err(Opened::No));
    }
    for bit in 0..128 {
        let mut other = good.clone();
        other.tag[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(asked.open(0, &other), Err(Opened::No));
    }
    for length in 0..1500 {
        let other = Message { body: std::vec![0; length], ..good.clone() };
        assert_eq!(asked.open(0, &other), Err(Opened::No));
    }
    // Nothing of it counted.
    assert_eq!(asked.open(0, &good), Ok(b"text".to_vec()));
}

#[test]
fn streams_switch_one_by_one() {
    let (mut asking, mut asked) = ends();
    // Sealed before, and under way; some on a stream that has said nothing before.
    let old: Vec<_> = (0..STREAMS as u16).map(|stream| asking.seal(0, stream, b"old")).collect();
    let more: Vec<_> = (0..STREAMS as u16).map(|stream| asking.seal(0, stream, b"more")).collect();
    assert!(asked.open(0, &old[0]).is_ok());
    renew(&mut asking, &mut asked, 2, RENEW_MICROS);
    let new: Vec<_> = (0..STREAMS as u16).map(|stream| asking.seal(0, stream, b"new")).collect();
    assert!(new.iter().all(|message| message.first == 0x11));
    assert!(asked.open(0, &more[0]).is_ok());
    assert!(asked.open(0, &new[0]).is_ok());
    // That stream has switched, and does not go back: not even to the first message of the old key.
    assert_eq!(asked.open(0, &old[0]), Err(Opened::No));
    assert_eq!(asked.open(0, &more[0]), Err(Opened::No));
    for stream in 1..STREAMS {
        assert!(asked.keys.keys.has_slot(0), "streams from {stream} on have not switched");
        for message in [&old[stream], &more[stream], &new[stream]] {
            assert!(asked.open(0, message).is_ok());
        }
    }
    assert!(!asked.keys.keys.has_slot(0), "the last one has switched");
}

#[test]
fn an_idle_stream_is_no_trouble_later() {
    let (mut asking, mut asked) = ends();
    for stream in [0, 1] {
        for _ in 0..=stream {
            let message = asking.seal(0, stream, b"text");
            assert!(asked.open(0, &message).is_ok());
        }
    }
    for round in 2..60 {
        let now = u64::from(round - 1) * RENEW_MICROS;
        renew(&mut asking, &mut asked, round, now);
        let message = asking.seal(now, 0, b"text");
        assert!(asked.open(now, &message).is_ok());
        let answer = asked.seal(now, 0, b"text");
        assert!(asking.open(now, &answer).is_ok());
        if round % 7 == 3 {
            let message = asking.seal(now, 1, b"text");
            assert!(asked.open(now, &message).is_ok());
        }
    }
}

/// Of one stream, as over SOCK_SEQPACKET, the old key goes at once.
#[test]
fn with_one_stream_there_is_nothing_to_wait_for() {
    let (mut asking, mut asked) = (Streams::new(), Streams::new());
    let (mut here, mut there) = ([Position::NEW], [Position::NEW]);
    let mut say = |asking: &mut Streams, asked: &mut Streams| {
        let mut body = [1];
        let (first, tag) = asking.seal(0, &mut here, 0, &mut body).unwrap();
        asked.open(0, &mut there, 0, first, &mut body, &tag)
    };
    for round in 1..9 {
        let (ours, theirs) = pair(round, asking.next_slot());
        if round > 1 {
            // Under way while new keys are agreed on.
            assert_eq!(say(&mut asking, &mut asked), Opened::Yes);
        }
        assert!(asked.propose(theirs, 0));
        if round > 1 {
            assert_eq!(say(&mut asking, &mut asked), Opened::Yes);
        }
        asking.install(ours, 0);
        assert_eq!(say(&mut asking, &mut asked), Opened::Confirmed);
        assert!(asked.keys.has_slot((round - 1) & 3));
        assert!(!asked.keys.has_slot((round + 2) & 3) || round == 1);
        assert_eq!(say(&mut asking, &mut asked), Opened::Yes);
    }
}

type Flying = [[VecDeque<Message>; STREAMS]; 2];

fn deliver_all(flying: &mut Flying, asking: &mut End, asked: &mut End) {
    let [to_asked, to_asking] = flying;
    for (streams, end) in [(to_asked, asked), (to_asking, asking)] {
        for message in streams.iter_mut().flat_map(|stream| stream.drain(..)) {
            assert_eq!(end.open(0, &message), Ok(b"text".to_vec()));
        }
    }
}

proptest! {
    /// However messages of streams overtake those of others, and keys are renewed: each opens, once, in
    /// order, and no nonce is used twice under a key.
    #[test]
    fn any_order_of_streams_opens(
        steps in proptest::collection::vec((0..9u8, 0..STREAMS as u16, any::<bool>()), 1..300),
    ) {
        let (mut asking, mut asked) = ends();
        let mut flying = Flying::default();
        let mut nonces = BTreeSet::new();
        let mut key = 1;
        for (step, stream, is_initiator) in steps {
            let (own, other) = match is_initiator {
                true => (&mut asking, &mut asked),
                false => (&mut asked, &mut asking),
            };
            let queue = &mut flying[usize::from(!is_initiator)][usize::from(stream)];
            match step {
                0..4 if own.keys.algorithm().is_some() => {
                    queue.push_back(own.seal(0, stream, b"text"));
                    let count = own.positions[usize::from(stream)].sealed;
                    let nonce = (is_initiator, stream, count.generation, count.messages);
                    prop_assert!(nonces.insert(nonce));
                }
                4..8 => {
                    if let Some(message) = queue.pop_front() {
                        prop_assert_eq!(other.open(0, &message), Ok(b"text".to_vec()));
                    }
                }
                8 if key < 100 => {
                    // Two minutes after the last ones, nothing of before them is under way.
                    deliver_all(&mut flying, &mut asking, &mut asked);
                    let owed = asking.seal(0, stream, b"owed");
                    prop_assert!(asked.open(0, &owed).is_ok());
                    flying[0][0].push_back(asking.seal(0, 0, b"text"));
                    flying[1][3].push_back(asked.seal(0, 3, b"text"));
                    key += 1;
                    renew(&mut asking, &mut asked, key, 0);
                }
                _ => (),
            }
        }
        deliver_all(&mut flying, &mut asking, &mut asked);
    }
}
