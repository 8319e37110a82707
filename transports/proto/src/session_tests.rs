use super::*;
use crate::message::{Message, parse};
use crate::pool::CHUNK_BYTES;
use crate::schedule::QUANTUM_BYTES;
use crate::window::WINDOW_BYTES_MAX;
use proptest::prelude::*;
use std::boxed::Box;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

type Small = Memory<4, 64>;

const CREDIT: u32 = Small::INITIAL_CREDIT_BYTES;

fn config(role: Role) -> Config {
    Config {
        role,
        peer_channels_max: 4,
        idle_millis: 15_000,
        opens_per_second_max: 1000,
        first_offset: 0,
    }
}

const T0: Instant = Instant::from_millis(1000);

fn memory() -> Box<[Small; 2]> {
    Box::new([const { Small::new() }; 2])
}

/// Two ends whose packets arrive at once.
struct Pair<'m> {
    ends: [Session<'m>; 2],
    now: Instant,
}

impl<'m> Pair<'m> {
    fn with(memory: &'m mut [Small; 2], change: impl Fn(&mut Config)) -> Pair<'m> {
        Pair::on(Order::One, memory, change)
    }

    fn on(order: Order, memory: &'m mut [Small; 2], change: impl Fn(&mut Config)) -> Pair<'m> {
        let [first, second] = memory;
        let mut configs = [config(Role::Initiator), config(Role::Acceptor)];
        configs.iter_mut().for_each(change);
        let mut ends = [first.session(configs[0]), second.session(configs[1])];
        ends.iter_mut().for_each(|end| end.start(Bounds { order, ..Bounds::ORDERED }, T0));
        let mut pair = Pair { ends, now: T0 };
        assert!(pair.run().is_empty(), "nobody has a channel");
        assert!(pair.ends.iter().all(Session::is_up));
        pair
    }

    fn up(memory: &'m mut [Small; 2]) -> Pair<'m> {
        Pair::with(memory, |_| {})
    }

    fn hear<'p>(&mut self, to: usize, packet: &'p [u8]) -> Vec<Heard<'p>> {
        let stream = match parse(packet) {
            Ok((message, _)) if self.ends[to].has_streams() => {
                message.channel().map_or(0, ChannelId::stream)
            }
            _ => 0,
        };
        let mut rest = packet;
        let mut heard = Vec::new();
        while !rest.is_empty() {
            let (message, length) = parse(rest).unwrap();
            rest = &rest[length..];
            heard.push(self.ends[to].handle(message, stream, self.now).unwrap());
            if let Some(Heard::Bytes { slot, bytes, .. }) = heard.last() {
                self.ends[to].store(*slot, bytes);
            }
            self.ends[to].invariants();
        }
        heard
    }

    /// Exchanges what is owed; gives what the ends heard beside hello.
    fn run(&mut self) -> Vec<(usize, Heard<'static>)> {
        let mut all = Vec::new();
        while let Some((from, stream)) =
            (0..2).find_map(|end| self.ends[end].owes().map(|stream| (end, stream)))
        {
            let mut packet = [0; 64];
            let bytes = self.ends[from].emit_control(&mut packet, Some(stream));
            assert!(bytes > 0, "owes and says nothing");
            for heard in self.hear(1 - from, &packet[..bytes]) {
                match heard {
                    Heard::Nothing | Heard::Up => {}
                    Heard::Accepted(slot) => all.push((1 - from, Heard::Accepted(slot))),
                    Heard::Credit(slot) => all.push((1 - from, Heard::Credit(slot))),
                    Heard::Ended(slot) => all.push((1 - from, Heard::Ended(slot))),
                    Heard::Stopped(slot) => all.push((1 - from, Heard::Stopped(slot))),
                    Heard::Draining => all.push((1 - from, Heard::Draining)),
                    Heard::Closed(reason) => all.push((1 - from, Heard::Closed(reason))),
                    Heard::Opened { .. }
                    | Heard::Bytes { .. }
                    | Heard::Stored(_)
                    | Heard::Refused => panic!("not owed: {heard:?}"),
                }
            }
            self.ends[from].invariants();
        }
        all
    }

    fn open(&mut self, from: usize, user: u32) -> (Slot, Slot) {
        let mut packet = [0; 128];
        let target = Target::Name(b"example.org", 443);
        let (slot, bytes) =
            self.ends[from].open(user, target, None, &mut packet, self.now).unwrap();
        match self.hear(1 - from, &packet[..bytes])[..] {
            [Heard::Opened { slot: far, target: heard, client: None, early: false }] => {
                assert_eq!(heard, target);
                (slot, far)
            }
            ref heard => panic!("{heard:?}"),
        }
    }

    fn send(&mut self, from: usize, slot: Slot, bytes: &[u8]) {
        let mut packet = self.ends[from].data(slot, bytes.len() as u16).as_bytes().to_vec();
        packet.extend_from_slice(bytes);
        let heard = self.hear(1 - from, &packet);
        // Nothing, if the far end has stopped the channel and this end does not know yet.
        assert!(matches!(heard[..], [Heard::Bytes { fin: false, .. } | Heard::Nothing]));
    }

    fn assert_quiet(&self) {
        let nothing = invariants::Holdings {
            channels: 0,
            chunks: 0,
            ranges: 0,
            reserved: 0,
            owing: 0,
            waiting: 0,
        };
        assert_eq!(self.ends.each_ref().map(Session::holdings), [nothing; 2]);
    }
}

#[test]
fn a_channel_lives_and_its_slot_is_used_again() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    for round in 0..3 {
        let (near, far) = pair.open(0, 7);
        assert_eq!((near.index(), far.index()), (1, 0));
        assert_eq!(pair.ends[0].id(1).generation(), round);
        assert_eq!(pair.ends[0].user(near), 7);
        assert_eq!(pair.ends[1].room(far), 0, "nothing before OPENED");
        pair.send(0, near, b"early");
        pair.ends[1].accept(far);
        assert_eq!(pair.run(), [(0, Heard::Accepted(near))]);
        assert_eq!(pair.ends[1].next_waiting(), Some(far), "there is room now");
        assert_eq!(pair.ends[1].stored(far), b"early");
        pair.ends[1].consume(far, 5, T0);
        pair.send(1, far, b"answer");
        pair.ends[0].finish(near);
        assert_eq!(pair.run(), [(1, Heard::Ended(far))]);
        assert_eq!(pair.ends[1].ended(far), Some(Ended::Fin));
        pair.ends[1].finish(far);
        assert_eq!(pair.run(), [(0, Heard::Ended(near))]);
        assert_eq!(pair.ends[0].ended(near), None, "something is stored");
        assert_eq!(pair.ends[0].stored(near), b"answer");
        pair.ends[0].consume(near, 6, T0);
        assert_eq!(pair.ends[0].ended(near), Some(Ended::Fin));
        pair.ends[0].close_channel(near, None);
        assert!(pair.run().is_empty());
        assert_eq!(pair.ends[1].holdings().channels, 1, "until the user has gone");
        assert_eq!(pair.ends[0].holdings().channels, 1, "until DONE");
        pair.ends[1].close_channel(far, None);
        assert!(pair.run().is_empty());
        pair.assert_quiet();
    }
}

#[test]
fn a_reset_reaches_the_other_side_behind_the_bytes() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.send(0, near, b"last words");
    pair.ends[0].close_channel(near, Some(FailReason::Idle));
    assert_eq!(pair.run(), [(1, Heard::Ended(far))]);
    assert_eq!((pair.ends[1].ended(far), pair.ends[1].stored(far)), (None, &b"last words"[..]));
    assert!(pair.ends[1].is_broken(far) && pair.ends[1].room(far) == 0);
    pair.ends[1].consume(far, 10, T0);
    assert_eq!(pair.ends[1].ended(far), Some(Ended::Reset(FailReason::Idle)));
    pair.ends[1].close_channel(far, None);
    pair.run();
    pair.assert_quiet();
}

#[test]
fn a_target_that_is_not_reached_is_a_reset() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.ends[1].close_channel(far, Some(FailReason::ConnectionRefused));
    assert_eq!(pair.run(), [(0, Heard::Ended(near))]);
    assert_eq!(pair.ends[0].ended(near), Some(Ended::Reset(FailReason::ConnectionRefused)));
    pair.ends[0].close_channel(near, None);
    pair.run();
    pair.assert_quiet();
}

#[test]
fn after_a_stop_the_other_direction_goes_on() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.ends[1].accept(far);
    pair.run();
    pair.send(0, near, b"nobody reads this");
    pair.ends[1].stop(far, FailReason::Reset);
    assert_eq!(pair.ends[1].stored(far), b"");
    // The answer to STOP is the last word, so that the far end knows.
    assert_eq!(pair.run(), [(0, Heard::Stopped(near)), (1, Heard::Ended(far))]);
    assert!(pair.ends[0].is_broken(near) && pair.ends[0].room(near) == 0);
    pair.send(1, far, b"still here");
    assert_eq!(pair.ends[0].stored(near), b"still here");
    pair.ends[1].close_channel(far, None);
    pair.run();
    pair.ends[0].close_channel(near, None);
    pair.run();
    pair.assert_quiet();
}

#[test]
fn after_fin_a_failure_is_a_stop() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.ends[1].accept(far);
    pair.ends[0].finish(near);
    pair.run();
    pair.ends[0].close_channel(near, Some(FailReason::TimedOut));
    assert_eq!(pair.run(), [(1, Heard::Stopped(far))]);
    assert_eq!(pair.ends[1].broken(far), Some(FailReason::TimedOut));
    pair.ends[1].close_channel(far, None);
    pair.run();
    pair.assert_quiet();
}

#[test]
fn who_leaves_with_bytes_unread_says_so_before_the_last_word() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.ends[1].accept(far);
    pair.send(0, near, b"unread");
    pair.ends[0].finish(near);
    pair.run();
    pair.ends[1].close_channel(far, None);
    assert_eq!(pair.run(), [(0, Heard::Stopped(near)), (0, Heard::Ended(near))]);
    pair.ends[0].close_channel(near, None);
    pair.run();
    pair.assert_quiet();
}

#[test]
fn credit_is_what_may_be_sent_and_comes_back() {
    let mut memory = memory();
    let mut pair = Pair::with(&mut memory, |config| config.first_offset = u32::MAX - 100);
    let (near, far) = pair.open(0, 0);
    assert_eq!(pair.ends[0].room(near), CREDIT);
    pair.send(0, near, &[1; CREDIT as usize]);
    assert_eq!((pair.ends[0].room(near), pair.ends[1].holdings().chunks), (0, 4));
    pair.ends[0].wait(near);
    assert_eq!(pair.ends[0].next_waiting(), None, "no credit, no turn");
    pair.ends[1].accept(far);
    pair.ends[1].consume(far, CREDIT as usize / 2 - 1, T0);
    assert_eq!(pair.run(), [(0, Heard::Accepted(near))]);
    pair.ends[1].consume(far, 1, T0);
    assert_eq!(pair.run(), [(0, Heard::Credit(near))]);
    // Half was used at once, so the window has doubled.
    assert_eq!(pair.ends[0].room(near), 2 * CREDIT - CREDIT / 2);
    let packet = pair.ends[0].data(near, 9);
    assert!(parse(packet.as_bytes()).is_err(), "the bytes are to follow");
}

#[test]
fn more_than_the_credit_ends_the_link() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, _) = pair.open(0, 0);
    let channel = pair.ends[0].id(near.index());
    let bytes = &[0; CREDIT as usize + 1];
    let message = Message::Data { channel, fin: false, stopped: false, offset: None, bytes };
    assert_eq!(pair.ends[1].handle(message, 0, T0), Err(FailReason::CreditExceeded));
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    let id = pair.ends[0].id(near.index());
    let ChannelId(number) = id;
    let next = ChannelId::new(true, 1, 0);
    let own = ChannelId::new(false, 0, 0);
    let open = |channel, credit| Message::Open {
        channel,
        credit,
        target: Target::Service(b""),
        client: None,
    };
    let protocol = Err(FailReason::Protocol);
    for message in [
        open(id, 0),
        open(next, 0),
        open(own, 0),
        open(ChannelId::new(true, 0, 4), 0),
        open(ChannelId::new(true, 0, 1), CREDIT_BYTES_MAX + 1),
        Message::Data { channel: next, fin: false, stopped: false, offset: None, bytes: b"" },
        Message::Data { channel: own, fin: false, stopped: false, offset: None, bytes: b"" },
        Message::Data {
            channel: ChannelId(number | 0xffff),
            fin: false,
            stopped: false,
            offset: None,
            bytes: b"",
        },
        Message::Opened { channel: id, credit: 0 },
        Message::Done { channel: id },
        Message::Reset { channel: id, reason: 1, final_offset: 1 },
        Message::Credit { channel: id, max_offset: CREDIT_BYTES_MAX + 1 },
        Message::Hello(pair.ends[0].hello()),
    ] {
        assert_eq!(pair.ends[1].handle(message, 0, T0), protocol, "{message:?}");
        pair.ends[1].invariants();
    }
    assert_eq!(pair.ends[1].handle(Message::Ping(1), 5, T0), protocol, "a stream");
    // What is too late is no offence.
    pair.ends[0].close_channel(near, Some(FailReason::Other));
    pair.run();
    pair.ends[1].close_channel(far, None);
    pair.run();
    for message in [
        Message::Data { channel: id, fin: true, stopped: false, offset: None, bytes: b"late" },
        Message::Credit { channel: id, max_offset: 0 },
        Message::Stop { channel: id, reason: 1 },
        Message::Reset { channel: id, reason: 1, final_offset: 1 },
    ] {
        assert_eq!(pair.ends[1].handle(message, 0, T0), Ok(Heard::Nothing), "{message:?}");
    }
    pair.assert_quiet();
}

#[test]
fn nothing_precedes_hello() {
    let mut memory = memory();
    let mut far = memory[0].session(config(Role::Acceptor));
    assert_eq!((far.timeout(), far.owes()), (None, None), "it is down");
    let open = Message::Open {
        channel: ChannelId::new(true, 0, 0),
        credit: 9,
        target: Target::V4([127, 0, 0, 1], 80),
        client: None,
    };
    assert_eq!(far.handle(open, 0, T0), Ok(Heard::Nothing));
    far.start(Bounds::ORDERED, T0);
    assert_eq!(far.handle(open, 0, T0), Err(FailReason::Protocol));
    assert_eq!(far.owes(), None, "the initiator speaks first");
    let hello = Hello { channels_max: 2, initial_credit: 5, ..far.hello() };
    assert_eq!(far.handle(Message::Hello(hello), 0, T0), Ok(Heard::Nothing));
    assert_eq!(far.handle(open, 0, T0), Err(FailReason::Protocol), "nobody said it may");
    assert!(!far.can_open() && !far.is_up());
    let mut packet = [0; 64];
    assert_eq!(far.emit_control(&mut packet, None), 20);
    assert_eq!(far.handle(Message::Ping(3), 0, T0), Ok(Heard::Up));
    assert!(far.can_open() && far.is_up());
    let hello = Hello { version_min: 2, version_max: 3, ..hello };
    far.start(Bounds::ORDERED, T0);
    assert_eq!(far.handle(Message::Hello(hello), 0, T0), Err(FailReason::Version));
    far.close(FailReason::Version, "no version in common");
    let bytes = far.emit_control(&mut packet, None);
    assert!(matches!(parse(&packet), Ok((Message::Hello(_), 20))));
    let close = Message::close(FailReason::Version, "no version in common");
    assert_eq!(parse(&packet[20..bytes]).unwrap().0, close);
    assert_eq!((far.owes(), far.timeout()), (None, None));
}

#[test]
fn too_many_opens_are_refused_and_nothing_breaks() {
    let mut memory = memory();
    let mut pair = Pair::with(&mut memory, |config| config.opens_per_second_max = 2);
    pair.open(0, 0);
    pair.open(0, 0);
    let mut packet = [0; 64];
    let (third, bytes) = pair.ends[0].open(0, Target::Service(b""), None, &mut packet, T0).unwrap();
    assert_eq!(pair.hear(1, &packet[..bytes]), [Heard::Nothing]);
    assert_eq!(pair.run(), [(0, Heard::Ended(third))]);
    assert_eq!(pair.ends[0].ended(third), Some(Ended::Reset(FailReason::TableFull)));
    pair.ends[0].close_channel(third, None);
    pair.run();
    pair.now = T0.after(1000);
    pair.open(0, 0);
    assert_eq!(pair.ends[1].holdings().channels, 3);
    pair.open(0, 0);
    let refused = Refused::Because(FailReason::TableFull);
    let open = pair.ends[0].open(0, Target::Service(b""), None, &mut packet, T0);
    assert_eq!(open, Err(refused));
}

/// Windows grow by the round trip, and the first bytes may come long before the first heartbeat.
#[test]
fn both_ends_know_the_round_trip_once_they_are_up() {
    let mut memory = memory();
    let [first, second] = &mut *memory;
    let mut ends = [first.session(config(Role::Initiator)), second.session(config(Role::Acceptor))];
    ends.iter_mut().for_each(|end| end.start(Bounds::ORDERED, T0));
    let mut now = T0;
    for from in [0, 1, 0, 1] {
        let mut packet = [0; 100];
        let bytes = ends[from].emit_control(&mut packet, None);
        now = now.after(20);
        let mut rest = &packet[..bytes];
        while !rest.is_empty() {
            let (message, length) = parse(rest).unwrap();
            rest = &rest[length..];
            ends[1 - from].handle(message, 0, now).unwrap();
        }
    }
    assert!(ends.iter().all(Session::is_up));
    assert_eq!(ends.map(|end| end.terms.round_trip_millis), [40, 40]);
}

/// What is no end's request, but a late copy of one, is not kept as long as a link that was there.
#[test]
fn who_says_no_hello_is_given_up_sooner() {
    let mut memory = memory();
    for (role, end) in [Role::Initiator, Role::Acceptor].into_iter().zip(&mut *memory) {
        let mut end = end.session(config(role));
        end.start(Bounds::ORDERED, T0);
        assert_eq!(end.timeout(), Some(T0.after(5000)));
        assert_eq!(end.handle_timeout(T0.after(4999)), Ok(()));
        assert_eq!(end.handle_timeout(T0.after(5000)), Err(FailReason::TimedOut));
    }
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let after = |millis| T0.after(millis);
    assert_eq!(pair.ends[0].timeout(), Some(after(5000)));
    assert_eq!(pair.ends[0].handle_timeout(after(4999)), Ok(()));
    assert_eq!(pair.ends[0].owes(), None);
    assert_eq!(pair.ends[0].handle_timeout(after(5000)), Ok(()));
    pair.now = after(5003);
    pair.run();
    assert_eq!(pair.ends[0].terms.round_trip_millis, 3);
    assert_eq!(pair.ends[0].timeout(), Some(after(10_000)));
    assert_eq!(pair.ends[0].handle_timeout(after(10_000)), Ok(()));
    assert_eq!(pair.ends[0].handle_timeout(after(15_000)), Ok(()), "heard of at 5003");
    assert_eq!(pair.ends[0].timeout(), Some(after(20_000)));
    assert_eq!(pair.ends[0].handle_timeout(after(20_003)), Err(FailReason::TimedOut));
    assert!(!pair.ends[0].is_up() && pair.ends[0].timeout().is_none());
}

#[test]
fn draining_opens_nothing_and_ends_nothing() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    let mut packet = [0; 64];
    let late = pair.ends[0].open(0, Target::Service(b""), None, &mut packet, T0);
    let (late, bytes) = late.unwrap();
    pair.ends[1].drain();
    assert_eq!(pair.run(), [(0, Heard::Draining)]);
    assert_eq!(pair.hear(1, &packet[..bytes]), [Heard::Nothing], "it crossed GOAWAY");
    assert_eq!(pair.run(), [(0, Heard::Ended(late))]);
    assert_eq!(pair.ends[0].ended(late), Some(Ended::Reset(FailReason::Shutdown)));
    assert!(!pair.ends[0].can_open());
    pair.ends[1].accept(far);
    assert_eq!(pair.run(), [(0, Heard::Accepted(near))]);
    pair.send(0, near, b"goes on");
    pair.ends[0].close(FailReason::Shutdown, "bye");
    assert_eq!(pair.run(), [(1, Heard::Closed(FailReason::Shutdown))]);
    assert!(pair.ends.iter().all(|end| !end.is_up() && end.owes().is_none()));
    assert!(pair.ends[0].users().map(|(slot, _)| slot).eq([near, late]));
}

#[test]
fn a_new_start_forgets_everything() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, far) = pair.open(0, 0);
    pair.send(0, near, b"old");
    pair.ends[1].accept(far);
    pair.ends[0].wait(near);
    pair.ends.iter_mut().for_each(|end| end.start(Bounds::ORDERED, T0));
    pair.run();
    pair.assert_quiet();
    assert_eq!(pair.ends[0].users().count(), 0);
    assert_eq!((pair.ends[1].stored(far), pair.ends[0].room(near)), (&b""[..], 0));
    let (near, _) = pair.open(0, 0);
    assert_eq!(near.index(), 1);
}

#[test]
fn on_streams_each_channel_owes_on_its_own() {
    let mut memory = memory();
    let mut pair = Pair::on(Order::Streams, &mut memory, |_| {});
    let (first, far_first) = pair.open(0, 0);
    let (second, far_second) = pair.open(0, 0);
    pair.ends[1].accept(far_first);
    pair.ends[1].accept(far_second);
    let mut packet = [0; 256];
    assert_eq!(pair.ends[1].emit_control(&mut packet, None), 0, "the link owes nothing");
    assert_eq!(pair.ends[1].emit_control(&mut packet, Some(9)), 0, "nobody's stream");
    assert_eq!(pair.ends[1].emit_control(&mut packet, Some(4)), 12);
    assert_eq!(pair.hear(0, &packet[..12]), [Heard::Accepted(second)]);
    assert_eq!(pair.ends[1].owes(), Some(pair.ends[1].stream_of(far_first)));
    assert_eq!(pair.ends[0].stream_of(first), 2);
    assert_eq!(pair.run(), [(0, Heard::Accepted(first))]);
    let channel = pair.ends[0].id(first.index());
    let message = Message::Data { channel, fin: false, stopped: false, offset: None, bytes: b"" };
    assert_eq!(pair.ends[1].handle(message, 4, T0), Err(FailReason::Protocol));
}

#[test]
fn a_small_packet_takes_what_fits() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    for _ in 0..3 {
        let (_, far) = pair.open(0, 0);
        pair.ends[1].accept(far);
    }
    let mut packet = [0; 29];
    assert_eq!(pair.ends[1].emit_control(&mut packet, None), 24);
    assert_eq!(pair.ends[1].emit_control(&mut packet[..11], None), 0);
    assert_eq!(pair.ends[1].emit_control(&mut packet, None), 12);
    assert_eq!(pair.ends[1].owes(), None);
}

#[test]
fn turns_are_a_quantum_each() {
    let mut memory = memory();
    let mut pair = Pair::up(&mut memory);
    let (near, _) = pair.open(0, 0);
    assert_eq!(pair.ends[0].deficit(near), QUANTUM_BYTES.into());
    pair.ends[0].data(near, 10_000);
    assert_eq!(pair.ends[0].deficit(near), u32::from(QUANTUM_BYTES) - 10_000);
    pair.ends[0].wait(near);
    assert_eq!(pair.ends[0].next_waiting(), Some(near));
    assert_eq!(pair.ends[0].next_waiting(), None);
    assert_eq!(pair.ends[0].deficit(near), 2 * u32::from(QUANTUM_BYTES) - 10_000);
}

type Large = Memory<300, 6144>;

/// Sends as much as there is room for on each channel and has it delivered at once.
fn pump(
    ends: &mut [Session<'_>; 2],
    channels: &[(Slot, Slot)],
    now: Instant,
    delivered: &mut [u64],
) {
    static BYTES: [u8; 60_000] = [0; 60_000];
    for (&(near, far), delivered) in channels.iter().zip(delivered) {
        let mut room = ends[0].room(near) as usize;
        while room > 0 {
            let bytes = &BYTES[..room.min(BYTES.len())];
            room -= bytes.len();
            ends[0].data(near, bytes.len() as u16);
            let message = Message::Data {
                channel: ends[0].id(near.index()),
                fin: false,
                stopped: false,
                offset: None,
                bytes,
            };
            assert!(matches!(ends[1].handle(message, 0, now), Ok(Heard::Bytes { .. })));
            ends[1].pass(far, bytes.len(), now);
            *delivered += bytes.len() as u64;
        }
    }
    ends[1].invariants();
    let mut packet = [0; 8192];
    while ends[1].owes().is_some() {
        let bytes = ends[1].emit_control(&mut packet, None);
        let mut rest = &packet[..bytes];
        while let Ok((message, length)) = parse(rest) {
            ends[0].handle(message, 0, now).unwrap();
            rest = &rest[length..];
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "megabytes")]
fn greedy_channels_end_up_even_and_leave_room_for_others() {
    // Too much for a stack, and nothing of the program's file.
    static MEMORIES: Mutex<[Large; 2]> = Mutex::new([const { Large::new() }; 2]);
    let mut memories = MEMORIES.lock().unwrap();
    let [first, second] = &mut *memories;
    let config =
        |role| Config { peer_channels_max: 300, opens_per_second_max: 1000, ..config(role) };
    let mut ends = [first.session(config(Role::Initiator)), second.session(config(Role::Acceptor))];
    ends.iter_mut().for_each(|end| end.start(Bounds::ORDERED, T0));
    let mut packet = [0; 128];
    for from in [0, 1, 0] {
        let bytes = ends[from].emit_control(&mut packet, None);
        let mut rest = &packet[..bytes];
        while let Ok((message, length)) = parse(rest) {
            ends[1 - from].handle(message, 0, T0).unwrap();
            rest = &rest[length..];
        }
    }
    let mut open = |ends: &mut [Session<'_>; 2], now| {
        let target = Target::Service(b"");
        let (near, bytes) = ends[0].open(0, target, None, &mut packet, now).unwrap();
        let (message, _) = parse(&packet[..bytes]).unwrap();
        let Ok(Heard::Opened { slot, .. }) = ends[1].handle(message, 0, now) else { panic!() };
        (near, slot)
    };
    let window = |ends: &[Session<'_>; 2], slot: Slot| ends[1].channels[slot.index()].window;
    // One alone may have much, not all.
    let mut channels = vec![open(&mut ends, T0)];
    let mut now = T0;
    let mut round = |ends: &mut _, channels: &[_], times, delivered: &mut [u64]| {
        for _ in 0..times {
            now = now.after(1);
            pump(ends, channels, now, delivered);
        }
        now
    };
    let now = round(&mut ends, &channels, 100, &mut [0]);
    let pool = ends[1].pool.len() - ends[1].base_of(600);
    let alone = window(&ends, channels[0].1);
    assert!(alone >= pool * CHUNK_BYTES as u32 / 4 && alone <= WINDOW_BYTES_MAX, "{alone}");
    // Many come later, and all get the same.
    channels.extend((0..255).map(|_| open(&mut ends, now)));
    let mut delivered = [0; 256];
    round(&mut ends, &channels, 50, &mut delivered);
    let mut delivered = [0; 256];
    round(&mut ends, &channels, 100, &mut delivered);
    let (least, most) = (delivered.iter().min().unwrap(), delivered.iter().max().unwrap());
    assert!(*least > 0 && most - least <= most / 4, "{least} to {most}");
    // And what they hold is not all.
    assert!(ends[1].pool.unreserved() > 0);
    for &(near, far) in &channels {
        ends[0].close_channel(near, None);
        ends[1].close_channel(far, None);
        ends[1].invariants();
    }
    assert_eq!(ends[1].holdings().reserved, 0, "closed ones hold nothing beyond their own");
}

#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    whose: u8,
    bytes: u16,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 256 }))]

    /// Any verb on any slot at any time: the ends stay in step, and in the end nothing is left.
    #[test]
    fn any_order_of_verbs_is_in_order(
        steps in prop::collection::vec(
            (any::<u8>(), any::<u8>(), any::<u16>())
                .prop_map(|(what, whose, bytes)| Step { what, whose, bytes }),
            0..if cfg!(miri) { 20 } else { 120 },
        ),
        streams: bool,
        first_offset in prop_oneof![Just(0), Just(u32::MAX - 9000)],
    ) {
        let mut memory = memory();
        let order = if streams { Order::Streams } else { Order::One };
        let mut pair = Pair::on(order, &mut memory, |config| config.first_offset = first_offset);
        for Step { what, whose, bytes } in steps {
            let from = usize::from(whose % 2);
            let slot = Slot(u32::from(whose / 2 % 9));
            pair.now = pair.now.after(u32::from(bytes % 64));
            let now = pair.now;
            let end = &mut pair.ends[from];
            match what % 10 {
                0 | 1 => if end.can_open() { pair.open(from, 1); },
                2 => end.accept(slot),
                3 | 4 => {
                    let room = end.room(slot).min(u32::from(bytes)) as usize;
                    if room > 0 {
                        pair.send(from, slot, &vec![7; room]);
                    }
                }
                5 => end.finish(slot),
                6 => end.stop(slot, FailReason::Other),
                7 => end.close_channel(slot, (bytes % 2 == 0).then_some(FailReason::Idle)),
                8 => end.consume(slot, bytes.into(), now),
                _ => { pair.run(); }
            }
            pair.ends.iter().for_each(Session::invariants);
        }
        for end in &mut pair.ends {
            (0..8).for_each(|index| end.close_channel(Slot(index), None));
        }
        pair.run();
        pair.assert_quiet();
    }
}
