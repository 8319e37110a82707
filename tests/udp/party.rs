//! A stand-in for the worker that does at once whatever can be done: one transport, and the connections
//! it has a side of. What they carry is checked as it comes.

use crate::contents::{PATTERN_BYTES, contents};
use crate::net::{Kernel, LISTENER, Net};
use crate::role::Role;
use crate::story::OPENER;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sim::{Caller, Dialed};
use seaprox::sys::Ready;
use seaprox::time::Instant;
use seaprox::transport::{Cause, Event, Lent, Notice, Room, Step};
use seaprox::wanted::Wish;
use std::cell::RefCell;
use std::collections::VecDeque;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    InOrder,
    Because(FailReason),
}

/// A connection.
pub(crate) struct Side {
    handle: Option<Handle>,
    /// Whose contents it sends.
    serial: usize,
    /// Bytes it will send before it ends; it is open for as long as there are more.
    pub(crate) to_send: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// When the last of them came, in microseconds.
    pub(crate) received_at: u64,
    /// It sends back what it gets: these bytes wait.
    echo: Option<VecDeque<u8>>,
    /// It ends when all was sent.
    pub(crate) ends: bool,
    has_ended: bool,
    told_end: bool,
    /// Nobody takes what it sends.
    is_broken: bool,
    readable: bool,
    writable: bool,
    dials_at: Option<Instant>,
    pub(crate) over: Option<Over>,
}

pub(crate) struct Party<'n, T> {
    number: usize,
    transport: T,
    caller: Caller<Kernel<'n>>,
    net: &'n RefCell<Net>,
    pub(crate) sides: Vec<Side>,
    /// New ones that the far end opened send back what they get.
    pub(crate) echoes: bool,
    /// What was told, and when.
    pub(crate) notices: Vec<(u64, Notice)>,
    is_up: bool,
    admitted: bool,
}

impl<'n, T: Role<'n>> Party<'n, T> {
    pub(crate) fn new(number: usize, transport: T, net: &'n RefCell<Net>, now: Instant) -> Self {
        let caller = Caller::new(Kernel(net), now).expect("it always gives one");
        Party {
            number,
            transport,
            caller,
            net,
            sides: Vec::new(),
            echoes: false,
            notices: Vec::new(),
            is_up: false,
            admitted: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_up && self.transport.is_open()
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        let dials = self.sides.iter().filter_map(|side| side.dials_at);
        dials.chain(self.transport.timeout()).min()
    }

    fn key(place: usize) -> SideKey {
        if T::END == OPENER { SideKey::dest(place) } else { SideKey::source(place) }
    }

    /// Opens a channel that sends so much; gives its number.
    pub(crate) fn open(&mut self, to_send: u64, now: Instant) -> usize {
        self.sides.push(Side {
            handle: None,
            serial: 0,
            to_send,
            sent: 0,
            received: 0,
            received_at: 0,
            echo: None,
            ends: true,
            has_ended: false,
            told_end: false,
            is_broken: false,
            readable: false,
            writable: true,
            dials_at: Some(now),
            over: None,
        });
        self.sides.len() - 1
    }

    /// Sends so much more on a channel at the next turn.
    pub(crate) fn send(&mut self, place: usize, bytes: u64, now: Instant) {
        self.sides[place].to_send += bytes;
        self.sides[place].dials_at = Some(now);
    }

    pub(crate) fn turn_if_woken(&mut self, now: Instant) -> bool {
        let told = {
            let net = self.net.borrow();
            T::END != OPENER && net.listener_is_ready() || net.has_event(T::END, self.number)
        };
        let is_due = self.timeout().is_some_and(|at| at <= now);
        if told || is_due || !self.admitted {
            self.turn(now);
            return true;
        }
        false
    }

    fn turn(&mut self, now: Instant) {
        self.caller.now = now;
        if !std::mem::replace(&mut self.admitted, true) {
            self.transport.admit(&mut self.caller.desk()).expect("nothing fails here");
        }
        if T::END != OPENER && self.net.borrow().listener_is_ready() {
            self.transport.ready(0, LISTENER, Ready { readable: true, ..Ready::default() });
        }
        loop {
            let event = self.net.borrow_mut().event(T::END, self.number);
            let Some((own, fd, ready)) = event else { break };
            self.transport.ready(own, fd, ready);
        }
        for _ in 0..4096 {
            let Some(event) = self.transport.poll(&mut self.caller.desk()) else { break };
            self.told(event);
        }
        for place in 0..self.sides.len() {
            if self.sides[place].dials_at.take_if(|at| *at <= now).is_some() {
                self.go_on(place);
            }
        }
        self.transport.flush(&mut self.caller.desk());
        self.caller.end_turn();
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Opened { handle, .. } => {
                let now = self.caller.now;
                let place = self.open(0, now);
                let key = Self::key(place);
                self.transport.wanted(handle, key, &mut self.caller.desk());
                self.transport.answer(handle, &mut self.caller.desk());
                let echo = self.echoes.then(VecDeque::new);
                let side = &mut self.sides[place];
                (side.handle, side.echo, side.readable) = (Some(handle), echo, true);
                self.go_on(place);
            }
            Event::Ready(side, ready) => {
                let place = side.connection();
                let side = &mut self.sides[place];
                side.readable |= ready.readable || ready.error;
                side.writable |= ready.writable || ready.error;
                self.go_on(place);
            }
            Event::Told(notice) => {
                self.is_up = matches!(notice, Notice::LinkUp { .. });
                self.notices.push((self.net.borrow().now.0, notice));
            }
            event => panic!("{event:?}"),
        }
    }

    /// Dials, or moves bytes.
    fn go_on(&mut self, place: usize) {
        let side = &mut self.sides[place];
        if side.over.is_some() {
            return;
        }
        side.dials_at = None;
        if side.handle.is_some() {
            return self.pump(place);
        }
        let (side, source) = (Self::key(place), Address::UNKNOWN);
        let dialed = Dialed { side, source, awaited: false, notes: &mut [0; 8] };
        match self.transport.dial(&mut self.caller, dialed, Cause::Start(Wish::DEFAULT)) {
            Step::Wait(until) => self.sides[place].dials_at = Some(until),
            Step::Lent(handle, _) => {
                self.sides[place].handle = Some(handle);
                self.pump(place);
            }
            Step::Failed(reason) => self.sides[place].over = Some(Over::Because(reason)),
            step => panic!("{step:?}"),
        }
    }

    fn pump(&mut self, place: usize) {
        let now = self.net.borrow().now.0;
        let side = &mut self.sides[place];
        let Some(handle) = side.handle else { return };
        while side.readable && !side.told_end {
            match self.transport.bytes(handle) {
                Lent::Bytes(bytes) => {
                    let count = bytes.len().min(PATTERN_BYTES);
                    let expected = contents(side.serial, 0, side.received, count);
                    assert!(bytes[..count] == *expected, "other bytes than were sent");
                    if let Some(echo) = &mut side.echo {
                        echo.extend(&bytes[..count]);
                    }
                    self.transport.consume(handle, count);
                    (side.received, side.received_at) = (side.received + count as u64, now);
                }
                Lent::Drained => side.readable = false,
                Lent::Ended => (side.told_end, side.ends) = (true, true),
                Lent::Reset(reason) => return self.finish(place, Over::Because(reason)),
            }
        }
        while side.writable && !side.has_ended {
            let waits = match &side.echo {
                Some(echo) => echo.len() as u64,
                None => side.to_send - side.sent,
            };
            if waits == 0 {
                if side.ends && (side.told_end || side.echo.is_none()) {
                    side.has_ended = true;
                    self.transport.shut(handle, &mut self.caller.desk());
                }
                break;
            }
            match self.transport.room(handle) {
                Room::Bytes(room) => {
                    let count = room.len().min(waits as usize);
                    match &mut side.echo {
                        Some(echo) => {
                            room.iter_mut().zip(echo.drain(..count)).for_each(|(r, b)| *r = b);
                        }
                        None => room[..count].copy_from_slice(contents(
                            side.serial,
                            0,
                            side.sent,
                            count,
                        )),
                    }
                    side.sent += count as u64;
                    self.transport.commit(handle, count);
                }
                Room::Full => side.writable = false,
                // The reason is to be read.
                Room::Broken => {
                    side.is_broken = true;
                    (side.has_ended, side.readable, side.told_end) = (true, true, false);
                }
            }
        }
        if side.told_end && side.has_ended {
            let reset = Over::Because(FailReason::Reset);
            let over = if side.is_broken { reset } else { Over::InOrder };
            self.finish(place, over);
        } else if side.has_ended && side.readable {
            self.pump(place);
        }
    }

    fn finish(&mut self, place: usize, over: Over) {
        let side = &mut self.sides[place];
        side.over = Some(over);
        let reason = match over {
            Over::InOrder => None,
            Over::Because(_) => Some(FailReason::Reset),
        };
        if let Some(handle) = side.handle {
            self.transport.close(handle, reason, &mut self.caller.desk());
        }
    }
}
