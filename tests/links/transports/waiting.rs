//! Connections that wait for the carrier to take their OPEN.

use super::net::{Acceptor, Connector, Faults, Kernel, LISTENER, Net, fd_of};
use crate::wire::{Disorder, Weather};
use seaprox::address::Address;
use seaprox::side::SideKey;
use seaprox::sim::Caller;
use seaprox::sys::{RawFd, Ready};
use seaprox::time::Instant;
use seaprox::transport::{Cause, Step, Transport};
use seaprox_proto::carrier::Order;
use seaprox_proto::dest::{DestOptions, LinkDest};
use seaprox_proto::link::LinkMemory;
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use seaprox_proto::wanted::Wanted;
use std::cell::RefCell;

fn ready<'n>(transport: &mut impl Transport<Kernel<'n>>, own: u32, fd: RawFd) {
    transport.ready(own, fd, Ready { readable: true, writable: true, ..Ready::default() });
}

#[test]
fn any_number_may_wait_for_room_that_want_the_usual_target() {
    let faults = Faults {
        full: 0,
        full_millis_max: 1,
        no_memory: 0,
        lost: 0,
        refused: 0,
        connect_millis_max: 1,
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
        DestOptions { wanted: Wanted::DEFAULT, wait_millis: 0, connect_millis: 2000, seed: 1 };
    let mut dest = LinkDest::new(
        near.link(0, config(Role::Initiator)),
        Connector::<false>::new(&net, 0),
        options,
    );
    let mut source =
        LinkSource::new(Acceptor::<false>(&net), std::array::from_mut(far), config(Role::Acceptor));
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
    let mut dial = |dest: &mut LinkDest<_>, connection, cause| {
        caller.dial(dest, SideKey::dest(connection), Address::UNKNOWN, cause)
    };
    assert!(matches!(dial(&mut dest, 0, Cause::Start(())), Step::Lent(..)), "the link is up");
    (net.borrow_mut().calm, net.borrow_mut().faults.full) = (false, u16::MAX);
    for connection in 1..40 {
        let step = dial(&mut dest, connection, Cause::Start(()));
        assert!(matches!(step, Step::Wait(_)), "{connection}: {step:?}");
    }
    net.borrow_mut().calm = true;
    (net.borrow_mut().now, now) = (now.after(10), now.after(10));
    ready(&mut dest, 0, fd_of(0, 0));
    for connection in 1..40 {
        let step = dial(&mut dest, connection, Cause::Timeout);
        assert!(matches!(step, Step::Lent(..)), "{connection}: {step:?} at {now:?}");
    }
}
