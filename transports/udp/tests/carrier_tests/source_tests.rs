//! All links of a thread, at one socket.

use super::*;
use seaprox::address::Address;
use seaprox::sim::Caller;
use seaprox::sys::{Linux, Ready};
use seaprox::transport::{Event, Transport};
use seaprox_proto::link::{Link, LinkMemory, Told};
use seaprox_proto::session::{Config, Role};
use seaprox_proto::source::LinkSource;
use std::net::UdpSocket as Plain;
use std::os::fd::AsRawFd;

type Source = LinkSource<'static, Listener<'static, Toy>, 2>;

fn config(role: Role) -> Config {
    let (idle_millis, opens_per_second_max, first_offset) = (9000, 100, 0);
    Config { role, peer_channels_max: 4, idle_millis, opens_per_second_max, first_offset }
}

fn turn(source: &mut Source, caller: &mut Caller<Linux>) -> Vec<Event> {
    let readable = Ready { readable: true, ..Ready::default() };
    Transport::<Linux>::ready(source, 0, -1, readable);
    let told = std::iter::from_fn(|| source.poll(&mut caller.desk())).collect();
    source.flush(&mut caller.desk());
    told
}

/// A socket that has said that it has nothing more is not asked again by everybody.
#[test]
fn a_turn_ends_with_the_last_datagram() {
    let between = Rc::new(RefCell::new(Between { now: 5_000_000, ..Between::default() }));
    let [near, far] = [hub(STEERING), hub(STEERED)];
    // For the epoll.
    let socket = Plain::bind("127.0.0.1:0").unwrap();
    let fd = socket.as_raw_fd();
    near.open(Toy { between: between.clone(), end: 0, fd }, true);
    far.open(Toy { between: between.clone(), end: 1, fd }, false);
    let listener = Listener::new(far, ANYBODY, Options::USUAL);
    let memories: &mut [LinkMemory<4, 64>; 2] =
        Box::leak(Box::new([const { LinkMemory::new() }; 2]));
    let mut source = LinkSource::new(listener, memories, config(Role::Acceptor));
    let now = Instant::from_millis(5000);
    let mut caller = Caller::new(Linux, now).unwrap();
    let mut asker = Udp::connect(near, None, Options::USUAL).expect("there is memory");
    assert_eq!(asker.finish_connect(), Ok(false));
    assert!(turn(&mut source, &mut caller).is_empty());
    assert_eq!(asker.finish_connect(), Ok(true));
    let memory: &mut LinkMemory<4, 64> = Box::leak(Box::new(LinkMemory::new()));
    let mut link: Link<'_, _> = memory.link(0, config(Role::Initiator));
    link.start(asker, Address::UNKNOWN, now);
    assert_eq!(link.poll(now), None);
    link.end_turn();
    between.borrow_mut().receives = 0;
    let waiting = between.borrow().to[1].len() as u32;
    assert!(turn(&mut source, &mut caller).is_empty());
    // One was nothing, which ended what was received together; and then there was nothing more.
    assert_eq!(between.borrow().receives, waiting + 2);
    link.ready(Ready { readable: true, ..Ready::default() });
    assert_eq!(link.poll(now), Some(Told::Up));
}
