//! A session whose carrier keeps no order: rule by rule.

use super::*;
use crate::message::Message;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

type Small = Memory<2, 16>;

const T0: Instant = Instant::from_millis(1000);
const FIRST: u32 = u32::MAX - 5;
const CREDIT: u32 = Small::INITIAL_CREDIT_BYTES;
/// Of the initiator's first slot.
const ID: ChannelId = ChannelId::new(true, 0, 0);

fn config(role: Role) -> Config {
    Config {
        role,
        peer_channels_max: 2,
        idle_millis: 15_000,
        opens_per_second_max: 1000,
        first_offset: FIRST,
    }
}

fn at(offset: u32) -> u32 {
    FIRST.wrapping_add(offset)
}

fn data(offset: u32, bytes: &[u8]) -> Message<'_> {
    Message::Data { channel: ID, fin: false, stopped: false, offset: Some(at(offset)), bytes }
}

fn fin(offset: u32, bytes: &[u8]) -> Message<'_> {
    Message::Data { channel: ID, fin: true, stopped: false, offset: Some(at(offset)), bytes }
}

const OPEN: Message<'_> =
    Message::Open { channel: ID, credit: 100, target: Target::Service(b""), client: None };

/// An end that is up, and hears messages.
struct End(Session<'static>);

impl End {
    fn up(role: Role) -> End {
        let memory = Box::leak(Box::new(Small::new()));
        let mut session = memory.session(config(role));
        session.start(Bounds { order: Order::Any, ..Bounds::ORDERED }, T0);
        let hello = Hello { initial_credit: 50, channels_max: 2, ..session.hello() };
        let mut end = End(session);
        end.say();
        end.hear(Message::Hello(hello));
        end.say();
        end.hear(Message::Ping(0));
        end.say();
        assert!(end.0.is_up());
        // Copies of all that come later.
        assert_eq!(end.hear(Message::Hello(hello)), Heard::Nothing);
        end
    }

    fn handle<'m>(&mut self, message: Message<'m>) -> Result<Heard<'m>, FailReason> {
        let heard = self.0.handle(message, 0, T0);
        if let Ok(Heard::Bytes { slot, bytes, .. }) = heard {
            self.0.store(slot, bytes);
        }
        self.0.invariants();
        heard
    }

    fn hear<'m>(&mut self, message: Message<'m>) -> Heard<'m> {
        self.handle(message).unwrap()
    }

    /// What it owes.
    fn say(&mut self) -> Vec<u8> {
        let mut out = vec![0; 200];
        let bytes = self.0.emit_control(&mut out, None);
        self.0.invariants();
        out.truncate(bytes);
        out
    }

    fn read(&mut self, slot: Slot) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.0.stored(slot).is_empty() {
            let bytes = self.0.stored(slot).to_vec();
            self.0.consume(slot, bytes.len(), T0);
            self.0.invariants();
            all.extend(bytes);
        }
        all
    }

    /// Of the initiator: a channel, its OPEN sent.
    fn open(&mut self) -> Slot {
        let mut out = [0; 64];
        self.0.open(1, Target::Service(b""), None, &mut out, T0).unwrap().0
    }
}

fn said(message: Message<'_>) -> Vec<u8> {
    let mut out = vec![0; message.length()];
    message.emit(&mut out).unwrap();
    out
}

#[test]
fn a_channel_may_come_before_its_open() {
    let mut end = End::up(Role::Acceptor);
    assert_eq!(end.hear(data(3, b"def")), Heard::Nothing);
    assert_eq!(end.hear(data(0, b"abc")), Heard::Nothing);
    assert_eq!(end.hear(fin(6, b"")), Heard::Nothing);
    assert_eq!(end.hear(Message::Credit { channel: ID, max_offset: at(200) }), Heard::Nothing);
    assert_eq!((end.0.users().count(), end.0.owes()), (0, None), "nobody knows of it");
    let Heard::Opened { slot, early: true, .. } = end.hear(OPEN) else { panic!("not opened") };
    assert_eq!(end.hear(OPEN), Heard::Nothing, "a copy");
    assert_eq!((end.0.stored(slot), end.0.ended(slot)), (&b"abcdef"[..], None));
    assert_eq!(end.read(slot), b"abcdef");
    assert_eq!(end.0.ended(slot), Some(Ended::Fin));
    end.0.accept(slot);
    end.say();
    assert_eq!(end.0.room(slot), 200, "the CREDIT was more than OPEN says");
    let Heard::Opened { early: false, .. } = end.hear(match OPEN {
        Message::Open { credit, target, client, .. } => {
            Message::Open { channel: ChannelId::new(true, 0, 1), credit, target, client }
        }
        _ => unreachable!(),
    }) else {
        panic!("the other is not early")
    };
}

#[test]
fn a_reset_and_a_stop_may_come_before_the_open() {
    let mut end = End::up(Role::Acceptor);
    let reset = Message::Reset { channel: ID, reason: 11, final_offset: at(2) };
    assert_eq!(end.hear(reset), Heard::Nothing);
    assert_eq!(
        (end.hear(Message::Stop { channel: ID, reason: 9 }), end.0.owes()),
        (Heard::Nothing, None)
    );
    let Heard::Opened { slot, early: true, .. } = end.hear(OPEN) else { panic!("not opened") };
    assert!(end.0.is_broken(slot) && end.0.ended(slot).is_none(), "two bytes are missing");
    assert!(!end.0.is_over(slot));
    let answer = Message::Reset { channel: ID, reason: 11, final_offset: FIRST };
    assert_eq!(end.say(), said(answer), "it is answered at once");
    assert!(matches!(end.hear(data(0, b"xy")), Heard::Bytes { fin: true, .. }));
    assert_eq!(end.read(slot), b"xy");
    assert_eq!(end.0.ended(slot), Some(Ended::Reset(FailReason::Idle)));
    assert!(end.0.is_over(slot));
}

#[test]
fn gaps_close_in_any_order_and_copies_change_nothing() {
    let mut end = End::up(Role::Acceptor);
    let Heard::Opened { slot, .. } = end.hear(OPEN) else { panic!("not opened") };
    assert_eq!(end.hear(data(8, b"ij")), Heard::Nothing);
    assert_eq!(end.hear(data(4, b"ef")), Heard::Nothing);
    assert_eq!(end.0.holdings().ranges, 2);
    assert_eq!(end.hear(data(2, b"cdefg")), Heard::Nothing);
    assert_eq!(end.0.holdings().ranges, 2);
    assert_eq!(end.hear(data(5, b"fghi")), Heard::Nothing);
    assert_eq!(end.0.holdings().ranges, 1);
    assert!(end.0.stored(slot).is_empty());
    assert_eq!(end.hear(data(0, b"abc")), Heard::Stored(slot));
    assert_eq!(end.read(slot), b"abcdefghij");
    assert_eq!(
        (end.hear(data(0, b"abc")), end.hear(data(4, b"ef"))),
        (Heard::Nothing, Heard::Nothing)
    );
    assert_eq!(
        end.hear(data(7, b"hijkl")),
        Heard::Bytes { slot, bytes: b"kl", fin: false },
        "without what was there"
    );
    assert_eq!(end.read(slot), b"kl");
    assert_eq!(end.hear(fin(14, b"o")), Heard::Nothing);
    assert_eq!(end.0.ended(slot), None);
    assert_eq!(end.hear(data(12, b"mn")), Heard::Stored(slot));
    assert_eq!(end.read(slot), b"mno");
    assert_eq!(end.0.ended(slot), Some(Ended::Fin));
    assert_eq!((end.hear(fin(14, b"o")), end.hear(fin(15, b""))), (Heard::Nothing, Heard::Nothing));
}

#[test]
fn what_contradicts_is_a_breach() {
    fn breach<'m>(before: &[Message<'m>], message: Message<'m>) -> Result<Heard<'m>, FailReason> {
        let mut end = End::up(Role::Acceptor);
        for &message in before {
            end.hear(message);
        }
        end.handle(message)
    }
    let reset = |end| Message::Reset { channel: ID, reason: 1, final_offset: at(end) };
    let protocol = Err(FailReason::Protocol);
    let beyond = vec![0; CREDIT as usize + 1];
    let exceeded = Err(FailReason::CreditExceeded);
    assert_eq!(breach(&[], data(0, &beyond)), exceeded, "before OPEN too");
    assert_eq!(breach(&[OPEN], data(CREDIT, b"x")), exceeded);
    assert_eq!(breach(&[OPEN, fin(3, b"")], data(3, b"x")), protocol);
    assert_eq!(breach(&[OPEN, data(5, b"x")], fin(5, b"")), protocol);
    assert_eq!(breach(&[OPEN, data(5, b"x")], reset(5)), protocol);
    assert_eq!(breach(&[OPEN], reset(CREDIT + 1)), protocol);
    assert_eq!(breach(&[OPEN, fin(3, b"")], fin(4, b"")), protocol);
    assert_eq!(breach(&[OPEN, fin(3, b"")], reset(3)), protocol);
    assert_eq!(breach(&[OPEN, reset(3)], reset(4)), protocol);
    let without =
        Message::Data { channel: ID, fin: false, stopped: false, offset: None, bytes: b"" };
    assert_eq!(breach(&[OPEN], without), protocol, "no offset");
    let next = ChannelId::new(true, 1, 0);
    assert_eq!(breach(&[OPEN], Message::Stop { channel: next, reason: 0 }), protocol);
    assert_eq!(breach(&[], Message::Done { channel: ID }), protocol, "from the opener");
}

#[test]
fn what_has_no_node_is_refused_and_what_is_next_is_not() {
    let mut end = End::up(Role::Acceptor);
    let Heard::Opened { slot, .. } = end.hear(OPEN) else { panic!("not opened") };
    // As many ranges as there are chunks.
    for range in 1..=16 {
        assert_eq!(end.hear(data(range * 2, b"x")), Heard::Nothing);
    }
    assert_eq!(end.hear(data(34, b"x")), Heard::Refused);
    assert_eq!(end.hear(fin(35, b"x")), Heard::Refused);
    assert_eq!(end.hear(data(33, b"x")), Heard::Nothing, "it joins the one before it");
    assert_eq!(end.hear(data(0, b"xx")), Heard::Stored(slot));
    assert_eq!(end.hear(fin(35, b"x")), Heard::Nothing, "a node is vacant again");
    assert_eq!(end.read(slot).len(), 3);
    end.0.close_channel(slot, None);
    end.0.invariants();
    assert_eq!((end.0.holdings().ranges, end.0.holdings().chunks), (0, 0));
}

#[test]
fn bytes_before_opened_say_the_same() {
    let mut end = End::up(Role::Initiator);
    let slot = end.open();
    assert_eq!(end.0.room(slot), 50);
    assert!(matches!(end.hear(data(0, b"hi")), Heard::Bytes { .. }));
    end.0.data(slot, 50);
    let opened = Message::Opened { channel: ID, credit: 60 };
    assert_eq!((end.hear(opened), end.0.room(slot)), (Heard::Credit(slot), 10));
    assert_eq!(end.hear(opened), Heard::Nothing);
}

#[test]
fn a_fin_after_a_stop_says_both() {
    let mut end = End::up(Role::Initiator);
    let slot = end.open();
    end.0.stop(slot, FailReason::Idle);
    end.0.finish(slot);
    let stopped =
        Message::Data { channel: ID, fin: true, stopped: true, offset: Some(FIRST), bytes: b"" };
    let both = [said(Message::Stop { channel: ID, reason: 11 }), said(stopped)].concat();
    assert_eq!(end.say(), both);
    // And who hears the second first knows.
    let mut far = End::up(Role::Acceptor);
    let Heard::Opened { slot, .. } = far.hear(OPEN) else { panic!("not opened") };
    far.0.accept(slot);
    far.say();
    assert_eq!(far.hear(stopped), Heard::Ended(slot));
    assert!(far.0.is_broken(slot) && far.0.is_over(slot) && far.0.room(slot) == 0);
    assert_eq!(far.hear(Message::Stop { channel: ID, reason: 11 }), Heard::Nothing);
}

#[test]
fn done_before_the_last_word_waits_for_it() {
    let mut end = End::up(Role::Initiator);
    let slot = end.open();
    assert_eq!(
        end.handle(Message::Done { channel: ID }),
        Err(FailReason::Protocol),
        "no last word"
    );
    end.0.finish(slot);
    end.say();
    for _ in 0..2 {
        assert_eq!(end.hear(Message::Done { channel: ID }), Heard::Nothing);
    }
    assert_eq!(end.hear(fin(3, b"d")), Heard::Nothing);
    assert!(matches!(end.hear(data(0, b"abc")), Heard::Stored(_)));
    assert_eq!(end.read(slot), b"abcd");
    assert_eq!(end.0.ended(slot), Some(Ended::Fin));
    end.0.close_channel(slot, None);
    assert_eq!(end.0.holdings().channels, 0);
    // Copies of the dead.
    assert_eq!(
        (end.hear(data(0, b"abc")), end.hear(Message::Done { channel: ID })),
        (Heard::Nothing, Heard::Nothing)
    );
    let next = end.open();
    assert_eq!((next, end.0.id(next.index()).generation()), (slot, 1));
    // Without its user a channel waits for the last word too, but not for bytes.
    end.0.close_channel(next, None);
    end.say();
    let channel = ChannelId::new(true, 1, 0);
    end.hear(Message::Done { channel });
    assert_eq!(end.0.holdings().channels, 1);
    end.hear(Message::Data { channel, fin: true, stopped: false, offset: Some(at(9)), bytes: b"" });
    assert_eq!(end.0.holdings().channels, 0);
}

#[test]
fn hello_may_be_overtaken() {
    let memory = Box::leak(Box::new(Small::new()));
    let mut near = memory.session(config(Role::Initiator));
    near.start(Bounds { order: Order::Any, ..Bounds::ORDERED }, T0);
    assert_eq!(near.handle(Message::Ping(9), 0, T0), Err(FailReason::Protocol), "of whom?");
    near.emit_control(&mut [0; 64], None);
    assert_eq!(near.handle(Message::Ping(9), 0, T0), Ok(Heard::Nothing));
    let goaway = Message::Goaway { last: ChannelId(u32::MAX) };
    assert_eq!(near.handle(goaway, 0, T0), Ok(Heard::Draining));
    assert_eq!(near.handle(goaway, 0, T0), Ok(Heard::Nothing), "a copy");
    assert_eq!(near.handle(OPEN, 0, T0), Err(FailReason::Protocol), "it knows that it may");
    assert_eq!(near.handle(Message::Hello(near.hello()), 0, T0), Ok(Heard::Up));
    let other = Hello { initial_credit: 1, ..near.hello() };
    assert_eq!(near.handle(Message::Hello(other), 0, T0), Err(FailReason::Protocol), "no copy");
}
