//! Two links on a pair of queues: what the simulation of many takes for granted, one by one.

use super::*;
use crate::carrier::{Bounds, Order, Received, WINDOW_BYTES_MIN};
use crate::session::Role;
use seaprox::sys::Errno;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

#[derive(Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    closed: bool,
    /// What a send fails with.
    fault: Option<Errno>,
    /// The sender may not send more, and so much more.
    window: Option<usize>,
    /// What was sent has not arrived.
    is_under_way: bool,
    /// The receiver keeps no order; of what it received it has kept this.
    any_order: bool,
    kept: Vec<bool>,
    /// What a receive fails with, and how often it did.
    refusal: Option<Errno>,
    refusals: u32,
}

type Shared = Rc<RefCell<Queue>>;

/// One end of two queues.
struct Tube {
    out: Shared,
    back: Shared,
}

impl Drop for Tube {
    fn drop(&mut self) {
        self.out.borrow_mut().closed = true;
    }
}

impl Carrier for Tube {
    fn bounds(&self) -> Bounds {
        let order = if self.back.borrow().any_order { Order::Any } else { Order::One };
        Bounds { order, ..Bounds::ORDERED }
    }

    fn fd(&self) -> Option<RawFd> {
        Some(0)
    }

    fn send(&mut self, _: u16, packet: &[u8]) -> Result<(), Errno> {
        let mut out = self.out.borrow_mut();
        out.fault.map_or(Ok(()), Err)?;
        out.packets.push_back(packet.to_vec());
        Ok(())
    }

    fn window(&mut self) -> usize {
        self.out.borrow().window.unwrap_or(usize::MAX)
    }

    fn handled(&mut self, kept: bool) {
        self.back.borrow_mut().kept.push(kept);
    }

    fn poll(&mut self) -> Result<Ready, FailReason> {
        let writable = self.window() >= WINDOW_BYTES_MIN;
        Ok(Ready { writable, ..Ready::default() })
    }

    fn is_flushed(&self) -> bool {
        !self.out.borrow().is_under_way
    }

    fn receive(&mut self, room: &mut [u8]) -> Result<Received, Errno> {
        let mut back = self.back.borrow_mut();
        if let Some(errno) = back.refusal {
            back.refusals += 1;
            return Err(errno);
        }
        let Some(packet) = back.packets.pop_front() else {
            return if back.closed { Ok(Received::Gone) } else { Err(Errno::AGAIN) };
        };
        room[..packet.len()].copy_from_slice(&packet);
        Ok(Received::Piece { stream: 0, bytes: packet.len(), end: true })
    }
}

const IDLE_MILLIS: u32 = 9000;

fn at(millis: u32) -> Instant {
    Instant::from_millis(1000).after(millis)
}

fn link(role: Role) -> Link<'static, Tube> {
    let config = Config {
        role,
        peer_channels_max: 4,
        idle_millis: IDLE_MILLIS,
        opens_per_second_max: 100,
        first_offset: 0,
    };
    Box::leak(Box::new(LinkMemory::<4, 64>::new())).link(0, config)
}

/// A turn in which the descriptor is ready for reading.
fn turn(link: &mut Link<'_, Tube>, now: Instant) -> Vec<Told> {
    link.ready(READABLE);
    let told = core::iter::from_fn(|| link.poll(now)).collect();
    link.end_turn();
    told
}

/// Two links, and the queues from the one to the other and back.
struct Pair {
    near: Link<'static, Tube>,
    far: Link<'static, Tube>,
    queues: [Shared; 2],
}

impl Pair {
    fn new() -> Pair {
        Pair::on(Order::One)
    }

    fn on(order: Order) -> Pair {
        let pair = (link(Role::Initiator), link(Role::Acceptor));
        let mut pair = Pair { near: pair.0, far: pair.1, queues: Default::default() };
        pair.queues[0].borrow_mut().any_order = order == Order::Any;
        pair.start();
        pair
    }

    fn start(&mut self) {
        let any_order = self.queues[0].borrow().any_order;
        self.queues = Default::default();
        for queue in &self.queues {
            queue.borrow_mut().any_order = any_order;
        }
        let [there, back] = &self.queues;
        let near = Tube { out: there.clone(), back: back.clone() };
        let far = Tube { out: back.clone(), back: there.clone() };
        self.near.start(near, Address::UNIX, at(0));
        self.far.start(far, Address::UNIX, at(0));
        for _ in 0..3 {
            turn(&mut self.near, at(0));
            turn(&mut self.far, at(0));
        }
        assert!(self.near.is_open() && self.far.is_open());
    }

    fn open(&mut self, connection: usize) -> Handle {
        let wanted = Wanted::Service(b"");
        self.near.open(SideKey::dest(connection), wanted, None).expect("there is room")
    }
}

#[test]
fn who_stood_still_hears_what_came_before_it_gives_up() {
    let mut pair = Pair::new();
    // Both ask whether the other is there, and then the machine sleeps.
    pair.near.poll(at(IDLE_MILLIS / 3));
    pair.near.end_turn();
    turn(&mut pair.far, at(IDLE_MILLIS / 3));
    for link in [&mut pair.near, &mut pair.far] {
        assert_eq!(turn(link, at(3 * IDLE_MILLIS)), [], "it had word from the other");
    }
    // Nothing came since.
    let told = turn(&mut pair.far, at(5 * IDLE_MILLIS));
    assert_eq!(told, [Told::Dead(FailReason::TimedOut)]);
}

#[test]
fn who_leaves_a_dead_link_is_not_told_of_it() {
    let mut pair = Pair::new();
    let channels = [5, 6, 7].map(|connection| pair.open(connection));
    turn(&mut pair.near, at(1));
    pair.queues[1].borrow_mut().closed = true;
    pair.near.ready(READABLE);
    assert_eq!(pair.near.poll(at(2)), Some(Told::Dead(FailReason::LinkDown)));
    assert_eq!(pair.near.poll(at(2)), Some(Told::Ready(SideKey::dest(5), ERROR)));
    assert_eq!(pair.near.bytes(channels[1]), Lent::Reset(FailReason::LinkDown));
    pair.near.close(channels[1], Some(FailReason::Reset));
    assert_eq!(pair.near.poll(at(2)), Some(Told::Ready(SideKey::dest(7), ERROR)));
    assert_eq!(pair.near.poll(at(2)), None);
}

#[test]
fn nothing_of_a_dead_link_is_in_the_next() {
    let mut pair = Pair::new();
    let old = pair.open(1);
    turn(&mut pair.near, at(1));
    // It would answer, but there is nobody to answer to.
    turn(&mut pair.far, at(1));
    pair.near.shut(old);
    pair.queues[1].borrow_mut().packets.clear();
    pair.queues[1].borrow_mut().closed = true;
    assert_eq!(turn(&mut pair.near, at(2))[0], Told::Dead(FailReason::LinkDown));
    let opened = pair.near.open(SideKey::dest(2), Wanted::Service(b""), None);
    assert_eq!(opened, Err(Refused::Because(FailReason::Unreachable)));
    turn(&mut pair.far, at(2));
    assert!(pair.near.is_down() && pair.far.is_down() && pair.near.is_flushed());
    pair.start();
    let new = pair.open(3);
    assert_ne!(old, new);
    assert_eq!(pair.near.bytes(old), Lent::Reset(FailReason::LinkDown));
    assert_eq!(pair.near.room(old), Room::Broken);
    assert!(matches!(pair.near.room(new), Room::Bytes(_)));
}

#[test]
fn what_the_kernel_had_no_memory_for_is_tried_again() {
    for errno in [Errno::NOBUFS, Errno::NOMEM, Errno::INTR] {
        let mut pair = Pair::new();
        pair.queues[0].borrow_mut().fault = Some(errno);
        pair.open(1);
        turn(&mut pair.near, at(10));
        let again = pair.near.timeout().expect("it wants another turn");
        assert!(at(10) < again && again <= at(10).after(STARVED_MILLIS), "{again:?}");
        pair.queues[0].borrow_mut().fault = None;
        // No event tells.
        assert_eq!(pair.near.poll(again), None);
        pair.near.end_turn();
        assert!(matches!(turn(&mut pair.far, again)[..], [Told::Opened { .. }]), "{errno}");
    }
}

#[test]
fn what_the_network_cannot_take_is_not_put_together() {
    let mut pair = Pair::new();
    pair.queues[0].borrow_mut().window = Some(WINDOW_BYTES_MIN - 1);
    let wanted = Wanted::Service(b"");
    let refused = pair.near.open(SideKey::dest(1), wanted, None);
    assert_eq!(refused, Err(Refused::NoRoom));
    assert!(pair.near.is_blocked());
    turn(&mut pair.near, at(1));
    assert!(pair.near.is_blocked(), "nothing has changed");
    pair.queues[0].borrow_mut().window = Some(600);
    // The carrier says so; no event does.
    assert_eq!(pair.near.poll(at(2)), None);
    let channel = pair.open(1);
    let Room::Bytes(room) = pair.near.room(channel) else { panic!("no room") };
    let bytes = room.len();
    assert!(bytes > 0);
    pair.near.commit(channel, bytes);
    pair.near.end_turn();
    let packets = &pair.queues[0].borrow().packets;
    assert!(packets.iter().all(|packet| packet.len() <= 600), "{packets:?}");
    assert!(packets.iter().any(|packet| packet.len() > bytes));
}

#[test]
fn a_packet_is_kept_or_comes_again() {
    let mut pair = Pair::on(Order::Any);
    pair.open(1);
    pair.near.end_turn();
    assert!(matches!(turn(&mut pair.far, at(1))[..], [Told::Opened { .. }]));
    let data = |offset: u32| {
        let channel = crate::message::ChannelId::new(true, 0, 0);
        let header = crate::message::data_header(channel, Some(offset), 1);
        [header.as_bytes(), b"x"].concat()
    };
    // More gaps than there are nodes, and something after them.
    let packet = |gaps: u32| (1..=gaps).flat_map(|gap| data(gap * 2)).collect::<Vec<u8>>();
    pair.queues[0].borrow_mut().kept.clear();
    for gaps in [64, 70] {
        pair.queues[0].borrow_mut().packets.push_back(packet(gaps));
    }
    assert_eq!(turn(&mut pair.far, at(2)), []);
    assert_eq!(pair.queues[0].borrow().kept, [true, false]);
    // Those that are next are never refused.
    pair.queues[0].borrow_mut().packets.push_back([data(0), data(1)].concat());
    turn(&mut pair.far, at(3));
    assert_eq!(pair.queues[0].borrow().kept, [true, false, true]);
}

#[test]
fn who_comes_early_is_told_of_once_it_has_a_side() {
    let mut pair = Pair::on(Order::Any);
    let channel = pair.open(1);
    pair.near.end_turn();
    let open = pair.queues[0].borrow_mut().packets.pop_back().expect("OPEN");
    let Room::Bytes(room) = pair.near.room(channel) else { panic!("no room") };
    room[..5].copy_from_slice(b"early");
    pair.near.commit(channel, 5);
    pair.near.end_turn();
    assert_eq!(turn(&mut pair.far, at(1)), [], "nobody's as yet");
    pair.queues[0].borrow_mut().packets.push_back(open);
    pair.far.ready(READABLE);
    let Some(Told::Opened { channel, .. }) = pair.far.poll(at(2)) else { panic!("not opened") };
    pair.far.give_to_side(channel, SideKey::source(3));
    assert_eq!(pair.far.poll(at(2)), Some(Told::Ready(SideKey::source(3), READABLE)));
    assert_eq!(pair.far.bytes(channel), Lent::Bytes(b"early"));
}

#[test]
fn a_closed_link_waits_for_what_it_sent() {
    for arrives in [true, false] {
        let mut pair = Pair::new();
        pair.queues[0].borrow_mut().is_under_way = true;
        turn(&mut pair.near, at(1));
        pair.far.drain();
        turn(&mut pair.far, at(1));
        // It is left, so it closes, but not before CLOSE has arrived.
        assert_eq!(turn(&mut pair.near, at(2)), [Told::Draining]);
        assert_eq!(turn(&mut pair.near, at(3)), []);
        let until = pair.near.timeout().expect("it does not wait for ever");
        assert!(at(3) < until && until <= at(3).after(LINGER_MILLIS));
        pair.queues[0].borrow_mut().is_under_way = !arrives;
        let then = if arrives { at(4) } else { until };
        assert_eq!(turn(&mut pair.near, then), [], "it is looked at when the turn is over");
        assert_eq!(turn(&mut pair.near, then), [Told::Dead(FailReason::Shutdown)]);
    }
}

#[test]
fn whose_carrier_has_strangers_gives_its_turn_away() {
    let mut pair = Pair::new();
    let queue = pair.queues[0].clone();
    queue.borrow_mut().refusal = Some(Errno::INTR);
    for turns in 1..4 {
        assert_eq!(turn(&mut pair.far, at(1)), []);
        assert_eq!(queue.borrow().refusals, turns, "once a turn");
        assert_eq!(pair.far.timeout(), Some(Instant::from_millis(0)), "no event will tell");
    }
    queue.borrow_mut().refusal = None;
    pair.near.drain();
    pair.near.end_turn();
    assert_eq!(pair.far.poll(at(1)), Some(Told::Draining));
}

#[test]
fn an_answer_is_what_the_far_end_has_said() {
    for order in [Order::One, Order::Any] {
        let mut pair = Pair::on(order);
        let channels = [5, 6, 7].map(|connection| pair.open(connection));
        let answers = |pair: &Pair| channels.map(|channel| pair.near.answer(channel));
        turn(&mut pair.near, at(1));
        let told = turn(&mut pair.far, at(1));
        let opened = told.iter().filter_map(|told| match told {
            Told::Opened { channel, .. } => Some(*channel),
            _ => None,
        });
        let [first, second, _]: [Handle; 3] = opened.collect::<Vec<_>>().try_into().unwrap();
        turn(&mut pair.near, at(1));
        assert_eq!(answers(&pair), [None; 3]);
        pair.far.accept(first);
        pair.far.close(second, Some(FailReason::NameResolution));
        turn(&mut pair.far, at(2));
        let told = turn(&mut pair.near, at(2));
        assert_eq!(
            told,
            [Told::Ready(SideKey::dest(5), WRITABLE), Told::Ready(SideKey::dest(6), ERROR)]
        );
        let refused = Some(Err(FailReason::NameResolution));
        assert_eq!(answers(&pair), [Some(Ok(())), refused, None]);
        // Whatever becomes of it later, it was reached.
        pair.far.close(first, Some(FailReason::Reset));
        turn(&mut pair.far, at(3));
        turn(&mut pair.near, at(3));
        assert_eq!(answers(&pair), [Some(Ok(())), refused, None]);
        pair.queues[1].borrow_mut().closed = true;
        turn(&mut pair.near, at(4));
        assert_eq!(answers(&pair), [Some(Err(FailReason::LinkDown)); 3]);
    }
}
