//! Connections that wait for the carrier to take their OPEN.

use super::net::{Acceptor, Connector, Faults, Kernel, LISTENER, Net, fd_of};
use crate::wire::{Disorder, Weather};
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::sim::{Caller, Dialed};
use seaprox::sys::{RawFd, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Asked, Cause, Event, Source, Step, Transport};
use seaprox::wanted::{Wanted, Wish};
use seaprox_proto::carrier::Order;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use std::cell::RefCell;

/// Connections that may wait with a wish of their own.
const PLACES: usize = 20;

fn ready<'n>(transport: &mut impl Transport<Kernel<'n>>, own: u32, fd: RawFd) {
    transport.ready(own, fd, Ready { readable: true, writable: true, ..Ready::default() });
}

#[test]
fn any_number_may_wait_for_room_and_gets_what_it_wants() {
    let faults = Faults {
        full: 0,
        full_millis_max: 1,
        no_memory: 0,
        lost: 0,
        refused: 0,
        connect_millis_max: 1,
        meddled: 0,
    };
    let weather = Weather {
        order: Order::Streams,
        delay_millis: 0,
        jitter_millis: 0,
        pieces: 0,
        capacity_bytes: 64 << 10,
        disorder: Disorder { lost: 0, copied: 0, cut: 0, later_millis: 1 },
    };
    let config = |role| Config {
        role,
        peer_channels_max: 64,
        idle_millis: 10_000,
        opens_per_second_max: 1000,
        first_offset: 0,
    };
    let mut now = Instant::from_millis(1);
    let net = RefCell::new(Net::new(now, 7, faults, weather));
    net.borrow_mut().calm = true;
    let mut memories = Box::new([const { LinkMemory::<64, 1200>::new() }; 2]);
    let [near, far] = &mut *memories;
    let options =
        DestOptions { wanted: Wish::DEFAULT, wait_millis: 0, connect_millis: 2000, seed: 1 };
    let mut wishes = [Wish::DEFAULT; PLACES];
    let mut dest = LinkDest::new(
        near.link(0, config(Role::Initiator)),
        Connector::<false>::new(&net, 0, None),
        &mut wishes,
        options,
    );
    let acceptor = Acceptor::<false> { net: &net, house: None };
    let mut source = LinkSource::new(acceptor, std::array::from_mut(far), config(Role::Acceptor));
    let mut caller = Caller::new(Kernel(&net), now).expect("it always gives one");
    for _ in 0..10 {
        now = now.after(10);
        (net.borrow_mut().now, caller.now) = (now, now);
        ready(&mut source, 0, LISTENER);
        ready(&mut source, 1, fd_of(0, 1));
        ready(&mut dest, 0, fd_of(0, 0));
        while dest.poll(&mut caller.desk()).is_some() {}
        while source.poll(&mut caller.desk()).is_some() {}
        dest.flush(&mut caller.desk());
        source.flush(&mut caller.desk());
    }
    let mut notes = [[0; 8]; 45];
    let mut dial = |dest: &mut LinkDest<_>, connection: usize, cause| {
        let side = SideKey::dest(connection);
        let notes = &mut notes[connection];
        let dialed = Dialed { side, source: Address::UNKNOWN, awaited: false, notes };
        caller.dial(dest, dialed, cause)
    };
    let step = dial(&mut dest, 0, Cause::Start(Wish::DEFAULT));
    assert!(matches!(step, Step::Lent(..)), "the link is up");
    (net.borrow_mut().calm, net.borrow_mut().faults.full) = (false, u16::MAX);
    for connection in 1..40 {
        let wish = if connection < PLACES { name(connection) } else { Wish::DEFAULT };
        let step = dial(&mut dest, connection, Cause::Start(wish));
        assert!(matches!(step, Step::Wait(_)), "{connection}: {step:?}");
    }
    for connection in 40..45 {
        let step = dial(&mut dest, connection, Cause::Start(name(connection)));
        assert_eq!(step, Step::Failed(FailReason::TableFull), "there is no place");
    }
    // Each time they wait longer, but not for ever.
    for tries in 1..10 {
        let step = dial(&mut dest, 1, Cause::Timeout);
        assert_eq!(step, Step::Wait(now.after(1 << tries.min(5))));
    }
    net.borrow_mut().calm = true;
    (net.borrow_mut().now, now) = (now.after(10), now.after(10));
    ready(&mut dest, 0, fd_of(0, 0));
    for connection in 1..40 {
        let step = dial(&mut dest, connection, Cause::Timeout);
        assert!(matches!(step, Step::Lent(..)), "{connection}: {step:?} at {now:?}");
    }
    let mut wishes = Vec::new();
    for _ in 0..3 {
        now = now.after(10);
        (net.borrow_mut().now, caller.now) = (now, now);
        ready(&mut source, 1, fd_of(0, 1));
        dest.flush(&mut caller.desk());
        while let Some(event) = source.poll(&mut caller.desk()) {
            let Event::Opened { handle, .. } = event else { continue };
            let side = SideKey::source(wishes.len());
            match Source::target(&mut source, handle, side, &mut caller.desk()) {
                Asked::For(wish) => wishes.push(wish),
                asked => panic!("{asked:?}"),
            }
        }
        source.flush(&mut caller.desk());
    }
    // Streams keep no order among each other.
    let mut names: Vec<_> = (1..PLACES).map(name).collect();
    wishes.retain(|wish| match names.iter().position(|name| name == wish) {
        Some(place) => {
            names.remove(place);
            false
        }
        None => true,
    });
    assert_eq!((names.len(), wishes.len()), (0, 1 + 40 - PLACES), "{names:?} {wishes:?}");
    assert!(wishes.iter().all(|wish| *wish == Wish::DEFAULT));
}

/// Who wants something of its own.
fn name(connection: usize) -> Wish {
    let name = connection.to_string();
    Wish::new(Wanted::Name(name.as_bytes(), 80)).expect("its name is short")
}
