//! Links with keys: how they begin, what of them anybody sees, how their keys are renewed, and what
//! becomes of what strangers send.

use super::*;
use seaprox_noise::aead::Algorithm;
use seaprox_noise::keyring::{KEY_MICROS, RENEW_MICROS};
use seaprox_noise::keys::{Identity, Peer, Psk, Secret};
use seaprox_noise::peers::Peers;
use seaprox_udp::keyed::Keyed;
use seaprox_udp::knocks::{KNOCK_MICROS, Knocks};
use seaprox_udp::packet::{Header, Kind, Mode, kind_of, take_apart};

const SECOND: u64 = 1_000_000;

/// An end with its keys, for as long as the test runs.
fn identity(number: u8) -> &'static Identity {
    Box::leak(Box::new(Identity::new(Secret::from_random([number; 32]))))
}

fn peer_of(own: &Identity, other: &Identity, psk: u8) -> Peer {
    Peer::new(own, other.public(), Psk::from_random([psk; 32])).expect("two keys")
}

fn keyed(own: &'static Identity, secret: u8) -> Protection<'static> {
    Protection::Keyed(Keyed::new(own, [secret; 32], Algorithm::ChaCha20Poly1305))
}

/// An end that listens and one that asks, on a toy wire.
struct Ends {
    between: Rc<RefCell<Between>>,
    near: &'static Hub<'static, Toy>,
    peer: &'static Peer,
    listener: Listener<'static, Toy>,
}

const NEAR: u8 = 1;
const FAR: u8 = 2;
const STRANGER: u8 = 3;

impl Ends {
    fn new() -> Ends {
        Ends::with(NEAR, 7)
    }

    /// Whoever asks has these keys; the one who is asked knows another's perhaps.
    fn with(asker: u8, psk: u8) -> Ends {
        let between = Rc::new(RefCell::new(Between { now: 5_000_000, ..Between::default() }));
        let [own, far] = [asker, FAR].map(identity);
        let near = protected_hub(STEERING, keyed(own, 11));
        near.open(Toy { between: between.clone(), end: 0, fd: 3 }, true);
        let peer = Box::leak(Box::new(peer_of(own, far, psk)));
        let listener = listener(&between, 12);
        Ends { between, near, peer, listener }
    }

    fn ask(&self) -> Udp<'static, Toy> {
        self.near.open(Toy { between: self.between.clone(), end: 0, fd: 3 }, true);
        let mut asker =
            Udp::connect(self.near, Some(self.peer), Options::USUAL).expect("there is memory");
        assert_eq!(asker.finish_connect(), Ok(false));
        asker
    }

    /// A link, once its first packet has come.
    fn linked(mut self) -> Linked {
        let mut asker = self.ask();
        assert_eq!(self.listener.accept(None).err(), Some(Errno::AGAIN), "nothing was shown yet");
        assert_eq!(asker.finish_connect(), Ok(true));
        ping(&mut asker, 1);
        asker.flush();
        let (mut acceptor, _) = self.listener.accept(None).expect("it has shown who it is");
        assert_eq!(acceptor.peer(), Some(0));
        assert_eq!(asker.peer(), None);
        assert_eq!(turn(&mut acceptor), Ok(vec![1]));
        let Ends { between, listener, .. } = self;
        Linked { between, asker, acceptor, listener }
    }
}

/// Another process at the end that listens.
fn listener(between: &Rc<RefCell<Between>>, secret: u8) -> Listener<'static, Toy> {
    let far = identity(FAR);
    let hub = protected_hub(STEERED, keyed(far, secret));
    hub.open(Toy { between: between.clone(), end: 1, fd: 3 }, false);
    let peers = Box::leak(Box::new(Peers::<2>::new()));
    for number in [NEAR, STRANGER + 1] {
        peers.add(peer_of(far, identity(number), 7)).expect("there is room");
    }
    let knocks = Box::leak(Box::new(Knocks::new()));
    let listener = Listener::new(hub, Admitted::Peers { peers, knocks }, Options::USUAL);
    assert!(listener.is_open());
    listener
}

/// Two carriers that are linked.
struct Linked {
    between: Rc<RefCell<Between>>,
    asker: Udp<'static, Toy>,
    acceptor: Udp<'static, Toy>,
    listener: Listener<'static, Toy>,
}

impl Linked {
    /// All have a turn; what each end received, and how either is.
    fn turn(&mut self) -> [Result<Vec<u64>, FailReason>; 2] {
        self.between.borrow_mut().receives = 0;
        assert!(self.listener.accept(None).is_err(), "another link");
        let acceptor = turn(&mut self.acceptor);
        let asker = turn(&mut self.asker);
        [asker, acceptor]
    }

    fn pass(&self, micros: u64) {
        self.between.borrow_mut().now += micros;
    }

    fn now(&self) -> u64 {
        self.between.borrow().now
    }

    /// So many datagrams of this kind do not come to an end.
    fn lose(&self, end: usize, kind: Kind, times: u32) {
        self.between.borrow_mut().lost = Some((end, kind.first(Mode::Keyed), times));
    }

    /// How many of this kind were sent.
    fn sent(&self, kind: Kind) -> usize {
        let between = self.between.borrow();
        let kinds = between.sent.iter().map(|(_, bytes)| kind_of(Mode::Keyed, bytes));
        kinds.filter(|other| *other == Some(kind)).count()
    }

    /// Of packets that were sent to an end.
    fn headers(&self, end: usize) -> Vec<Header> {
        let between = self.between.borrow();
        let to_end = between.sent.iter().filter(|(to, _)| *to == end);
        let parts = to_end.filter_map(|(_, bytes)| {
            let mut bytes = bytes.clone();
            take_apart(&mut bytes).map(|parts| parts.header)
        });
        parts.collect()
    }
}

#[test]
fn a_link_with_keys_carries_both_ways_and_nobody_reads_it() {
    let mut linked = Ends::new().linked();
    linked.between.borrow_mut().sent.clear();
    let token = *b"a token!";
    for number in 0..50 {
        ping(&mut linked.asker, u64::from_le_bytes(token));
        ping(&mut linked.acceptor, u64::from_le_bytes(token) + number);
        linked.asker.flush();
        linked.acceptor.flush();
        let [asker, acceptor] = linked.turn();
        assert_eq!(acceptor, Ok(vec![u64::from_le_bytes(token)]));
        assert_eq!(asker, Ok(vec![u64::from_le_bytes(token) + number]));
        linked.pass(10_000);
    }
    let between = linked.between.borrow();
    assert!(between.sent.len() >= 100);
    for (_, bytes) in &between.sent {
        assert!(!bytes.windows(5).any(|window| token.starts_with(window)), "{bytes:02x?}");
        assert_eq!(kind_of(Mode::Keyed, bytes), Some(Kind::Data));
        assert_eq!(kind_of(Mode::Insecure, bytes), None);
    }
    assert_eq!(linked.acceptor.reliable().unwrap().counters().corrupt, 0);
}

#[test]
fn the_first_packets_are_the_links_though_they_come_late() {
    let mut ends = Ends::new();
    let mut asker = ends.ask();
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(asker.finish_connect(), Ok(true));
    for number in 0..3 {
        ping(&mut asker, number);
        asker.flush();
    }
    // The last of them overtakes the others.
    ends.between.borrow_mut().to[1].make_contiguous().reverse();
    let (mut acceptor, _) = ends.listener.accept(None).expect("it is there");
    let mut came = turn(&mut acceptor).unwrap();
    came.sort_unstable();
    assert_eq!(came, [0, 1, 2]);
}

#[test]
fn who_has_other_keys_has_no_link() {
    for (asker, psk, is_answered) in [(STRANGER, 7, false), (NEAR, 8, true)] {
        let mut ends = Ends::with(asker, psk);
        let mut asker = ends.ask();
        for _ in 0..40 {
            assert_eq!(ends.listener.accept(None).err(), Some(Errno::AGAIN));
            let answered = !ends.between.borrow().to[0].is_empty();
            assert!(!answered || is_answered, "a stranger meets silence");
            ends.between.borrow_mut().receives = 0;
            assert_eq!(asker.finish_connect(), Ok(false));
            ends.between.borrow_mut().now += 250_000;
        }
    }
}

#[test]
fn modes_do_not_hear_each_other() {
    // A hub without keys, and one with, at either end.
    let insecure = Pair::linked();
    let init = |between: &Rc<RefCell<Between>>| between.borrow().to[1].front().cloned();
    let mut ends = Ends::new();
    let open = hub(STEERING);
    open.open(Toy { between: ends.between.clone(), end: 0, fd: 3 }, true);
    let mut asker = Udp::connect(open, None, Options::USUAL).unwrap();
    assert_eq!(asker.finish_connect(), Ok(false));
    assert_eq!(init(&ends.between).unwrap()[0], 0x21);
    assert!(ends.listener.accept(None).is_err());
    assert_eq!((ends.between.borrow().to[1].len(), ends.between.borrow().to[0].len()), (0, 0));
    drop(asker);
    // The reverse.
    let Pair { between, mut listener, .. } = insecure;
    between.borrow_mut().to = Default::default();
    ends.between.borrow_mut().to = Default::default();
    let _asker = ends.ask();
    let keyed = init(&ends.between).unwrap();
    assert_eq!(keyed[0], 0x01);
    between.borrow_mut().to[1].push_back(keyed);
    assert!(listener.accept(None).is_err());
    assert_eq!((between.borrow().to[1].len(), between.borrow().to[0].len()), (0, 0));
}

#[test]
fn keys_and_who_may_come_in_go_together_or_nobody_does() {
    let ends = Ends::new();
    assert!(Udp::connect(ends.near, None, Options::USUAL).is_none());
    let open: &Hub<'_, Toy> = hub(STEERING);
    assert!(Udp::connect(open, Some(ends.peer), Options::USUAL).is_none());
    // The memory was given back.
    let _asker = ends.ask();
    assert!(!Listener::new(ends.near, ANYBODY, Options::USUAL).is_open());
    let (peers, knocks) = (Box::leak(Box::new(Peers::<1>::new())), Box::leak(Box::default()));
    assert!(!Listener::new(open, Admitted::Peers { peers, knocks }, Options::USUAL).is_open());
}

#[test]
fn packets_that_are_not_the_peers_change_nothing() {
    let mut linked = Ends::new().linked();
    ping(&mut linked.asker, 5);
    linked.asker.flush();
    let good = linked.between.borrow_mut().to[1].pop_back().expect("it was sent");
    let path = toy_address(0);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        linked.between.borrow_mut().to[1].push_back(bad);
        linked.between.borrow_mut().receives = 0;
        let _ = linked.listener.accept(None);
        assert_eq!(turn(&mut linked.acceptor), Ok(vec![]), "bit {bit}");
    }
    for length in 0..good.len() {
        linked.between.borrow_mut().to[1].push_back(good[..length].to_vec());
        linked.between.borrow_mut().receives = 0;
        let _ = linked.listener.accept(None);
        assert_eq!(turn(&mut linked.acceptor), Ok(vec![]), "{length} bytes");
    }
    // As one without keys would say that the link ends, with a checksum of the same index.
    let mut forged = good.clone();
    forged[0] = 0x30;
    linked.between.borrow_mut().to[1].extend([forged, good.clone(), good.clone()]);
    assert_eq!(turn(&mut linked.acceptor), Ok(vec![5]), "once");
    linked.between.borrow_mut().to[1].push_back(good);
    assert_eq!(turn(&mut linked.acceptor), Ok(vec![]), "it came before");
    let reliable = linked.acceptor.reliable().unwrap();
    assert_eq!(reliable.path(), path.into());
    assert_eq!(reliable.counters().received, 2);
    assert!(reliable.counters().duplicates >= 1);
}

#[test]
fn an_init_that_is_repeated_gives_nobody_a_link() {
    let mut linked = Ends::new().linked();
    let replay = {
        // As it was seen on the wire: another end that begins as this one did.
        let other = Ends::new();
        let _asker = other.ask();
        other.between.borrow_mut().to[1].pop_front().expect("an INIT")
    };
    let index = u32::from_le_bytes(replay[4..8].try_into().unwrap());
    assert_eq!(kind_of(Mode::Keyed, &replay), Some(Kind::Init));
    for after in [0, SECOND, 200 * SECOND] {
        linked.pass(after);
        linked.between.borrow_mut().to = Default::default();
        linked.between.borrow_mut().to[1].push_back(replay.clone());
        linked.between.borrow_mut().receives = 0;
        assert!(linked.listener.accept(None).is_err());
        // The clock that it shows was seen.
        assert_eq!(linked.between.borrow().to[0].len(), 0, "after {after}");
    }
    // Another process knows no clock: one answer, which is no use to who repeats, and no link.
    let between = linked.between.clone();
    between.borrow_mut().to = Default::default();
    let mut anew = listener(&between, 13);
    for number in 0..10 {
        between.borrow_mut().receives = 0;
        between.borrow_mut().to[1].push_back(replay.clone());
        assert!(anew.accept(None).is_err());
        let answers = between.borrow_mut().to[0].drain(..).count();
        assert_eq!(answers, usize::from(number == 0));
        between.borrow_mut().now += KNOCK_MICROS / 5;
    }
    // It has no link: another has room at once.
    let ends = Ends { between: between.clone(), listener: anew, ..Ends::new() };
    ends.near.open(Toy { between, end: 0, fd: 3 }, true);
    assert_ne!(index, 0);
    let mut linked = ends.linked();
    assert!(linked.turn().iter().all(Result::is_ok));
}

#[test]
fn an_init_leaves_a_link_that_there_is_alone() {
    let mut linked = Ends::new().linked();
    // The same peer asks again, as another process of it would; there is no room, which is sealed.
    let again = Ends::new();
    again.near.open(Toy { between: linked.between.clone(), end: 0, fd: 3 }, true);
    let mut asker = Udp::connect(again.near, Some(again.peer), Options::USUAL).unwrap();
    linked.pass(SECOND);
    assert_eq!(asker.finish_connect(), Ok(false));
    assert!(linked.listener.accept(None).is_err());
    let refusal = linked.between.borrow().to[0].front().cloned().expect("an answer");
    assert_eq!(kind_of(Mode::Keyed, &refusal), Some(Kind::Response));
    // It asks elsewhere, with another index.
    assert_eq!(asker.finish_connect(), Ok(false));
    let inits = linked.between.borrow().to[1].iter().filter(|bytes| bytes[0] == 1).count();
    assert_eq!(inits, 1);
    linked.between.borrow_mut().to = Default::default();
    ping(&mut linked.asker, 9);
    linked.asker.flush();
    assert_eq!(linked.turn()[1], Ok(vec![9]));
    drop(asker);
}

/// Lets time pass, with a word each way every tenth of a second, none of which may get lost.
fn talk(linked: &mut Linked, micros: u64) {
    let until = linked.now() + micros;
    let mut number = linked.now();
    while linked.now() < until {
        number += 1;
        ping(&mut linked.asker, number);
        ping(&mut linked.acceptor, number);
        linked.asker.flush();
        linked.acceptor.flush();
        let [asker, acceptor] = linked.turn();
        assert_eq!(asker, Ok(vec![number]));
        assert_eq!(acceptor, Ok(vec![number]));
        linked.pass(100_000);
    }
}

/// Which keys were used to an end, each once, in order.
fn slots(linked: &Linked, end: usize) -> Vec<u8> {
    let mut slots: Vec<u8> = linked.headers(end).iter().map(|header| header.key_slot).collect();
    slots.dedup();
    slots
}

#[test]
fn keys_are_renewed_while_the_link_goes_on() {
    let mut linked = Ends::new().linked();
    talk(&mut linked, 6 * RENEW_MICROS + 10 * SECOND);
    for end in [0, 1] {
        assert_eq!(slots(&linked, end), [0, 1, 2, 3, 0, 1, 2]);
        let numbers: Vec<_> = linked.headers(end).iter().map(|header| header.number).collect();
        assert!(numbers.is_sorted(), "they go on across keys");
    }
    assert_eq!(linked.sent(Kind::Init), 7, "one for the link, and one for each renewal");
    for end in [&linked.asker, &linked.acceptor] {
        assert_eq!(end.reliable().unwrap().counters().corrupt, 0);
    }
}

#[test]
fn an_answer_that_is_lost_at_a_renewal_costs_another() {
    let mut linked = Ends::new().linked();
    linked.lose(0, Kind::Response, 3);
    talk(&mut linked, RENEW_MICROS + 20 * SECOND);
    assert_eq!(linked.sent(Kind::Response), 1 + 4);
    assert_eq!((slots(&linked, 0), slots(&linked, 1)), (vec![0, 1], vec![0, 1]));
}

#[test]
fn a_link_whose_keys_are_not_renewed_ends() {
    for (end, kind) in [(1, Kind::Init), (0, Kind::Response)] {
        let mut linked = Ends::new().linked();
        let begun = linked.now();
        linked.lose(end, kind, u32::MAX);
        talk(&mut linked, KEY_MICROS - SECOND);
        assert_eq!(slots(&linked, 1), [0]);
        linked.pass(begun + KEY_MICROS - linked.now());
        assert_eq!(linked.turn(), [Err(FailReason::Auth), Err(FailReason::Auth)]);
        assert!(linked.now() - begun <= KEY_MICROS);
    }
}

#[test]
fn the_turns_of_a_link_without_keys_do_not_come_all_at_once() {
    let mut linked = Ends::new().linked();
    talk(&mut linked, SECOND);
    linked.lose(1, Kind::Init, u32::MAX);
    assert!(linked.turn().iter().all(Result::is_ok));
    // Until something is due, nothing is.
    for _ in 0..1000 {
        let at = linked.asker.timeout().expect("its keys end some day");
        let now = linked.now();
        assert!(at.as_millis() * 1000 > now, "it does not wait at all");
        linked.between.borrow_mut().now = at.as_millis() * 1000;
        let [asker, _] = linked.turn();
        if asker == Err(FailReason::Auth) {
            return;
        }
    }
    panic!("its keys do not end");
}

#[test]
fn another_peer_has_no_say_in_the_keys() {
    let mut linked = Ends::new().linked();
    talk(&mut linked, RENEW_MICROS - SECOND);
    // Another peer of the listener asks for new keys of a link that is not its own, whose index it
    // has seen: as its own link would, were it given that index.
    use seaprox_noise::agreed::Terms;
    use seaprox_noise::initiator::{Clock, Ends as Both, Heard, Initiator, Purpose};
    let (own, far) = (identity(STRANGER + 1), identity(FAR));
    let peer = peer_of(own, far, 7);
    let ends = Both { own, peer: &peer };
    let peer_index = linked.headers(1)[0].receiver;
    let index = linked.acceptor.reliable().unwrap().peer_index();
    let preferred = Algorithm::ChaCha20Poly1305;
    let mut parameters = [0; 16];
    parameters[..4].copy_from_slice(&[0xc0, 5, 0, 0x40]);
    let terms = Terms { carrier: seaprox_udp::keyed::CARRIER, parameters, preferred };
    let mut clock = Clock::new();
    for (purpose, expected) in [
        (Purpose::Renewal { peer_index, slot: 1 }, FailReason::Protocol),
        (Purpose::Renewal { peer_index: peer_index ^ 4, slot: 1 }, FailReason::LinkDown),
    ] {
        let now = linked.now();
        let mut initiator = Initiator::new(index, purpose, terms, now);
        let init = initiator.init(ends, &mut clock, now, now, [now as u8; 32]).unwrap();
        linked.between.borrow_mut().to[1].push_back(init.to_vec());
        while let Err(Errno::INTR) = linked.listener.accept(None).map(|_| ()) {}
        turn(&mut linked.acceptor).unwrap();
        let answers: Vec<_> = linked.between.borrow_mut().to[0].drain(..).collect();
        let mut heard = answers.iter().map(|bytes| initiator.hear(ends, &mut clock, now, bytes));
        let refused =
            heard.any(|heard| matches!(heard, Heard::Refused(reason) if reason == expected));
        assert!(refused, "{purpose:?}");
        linked.pass(1000);
    }
    linked.between.borrow_mut().sent.clear();
    talk(&mut linked, 5 * SECOND);
    assert_eq!(slots(&linked, 1), [0, 1], "and its own renewal goes on");
}

#[test]
fn a_peer_without_such_a_link_ends_it_at_the_renewal() {
    let mut linked = Ends::new().linked();
    talk(&mut linked, RENEW_MICROS - SECOND);
    // Another process listens; it knows the peer, and no link.
    linked.listener = listener(&linked.between, 14);
    let mut reason = None;
    for _ in 0..40 {
        linked.pass(100_000);
        linked.between.borrow_mut().receives = 0;
        while let Err(Errno::INTR) = linked.listener.accept(None).map(|_| ()) {}
        if let Err(why) = turn(&mut linked.asker) {
            reason = Some(why);
            break;
        }
    }
    assert_eq!(reason, Some(FailReason::LinkDown), "it says so, sealed");
}

#[test]
fn who_asks_while_many_do_shows_its_address_first() {
    let ends = Ends::new();
    let mut ends = ends;
    // Strangers who know this end's public key, which is no secret.
    let strangers = Ends::with(STRANGER, 7);
    let mut answers = Vec::new();
    for _ in 0..60 {
        let hub: &Hub<'_, Toy> = protected_hub(STEERING, keyed(identity(STRANGER), 15));
        hub.open(Toy { between: ends.between.clone(), end: 0, fd: 3 }, true);
        let mut asker = Udp::connect(hub, Some(strangers.peer), Options::USUAL).unwrap();
        assert_eq!(asker.finish_connect(), Ok(false));
        while let Err(Errno::INTR) = ends.listener.accept(None).map(|_| ()) {}
        answers.extend(ends.between.borrow_mut().to[0].drain(..));
        ends.between.borrow_mut().receives = 0;
    }
    assert!(!answers.is_empty(), "only those in excess are");
    assert!(answers.iter().all(|bytes| kind_of(Mode::Keyed, bytes) == Some(Kind::Cookie)));
    // A peer comes in all the same, one round trip later.
    let mut asker = ends.ask();
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(ends.between.borrow().to[0][0][0], Kind::Cookie as u8);
    assert_eq!(asker.finish_connect(), Ok(false));
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(asker.finish_connect(), Ok(true));
    ping(&mut asker, 3);
    asker.flush();
    let (mut acceptor, _) = ends.listener.accept(None).expect("a link");
    assert_eq!(turn(&mut acceptor), Ok(vec![3]));
}

#[test]
fn a_peer_whose_clock_was_set_back_is_told_and_comes_in() {
    let ends = Ends::new();
    ends.between.borrow_mut().now = 500 * SECOND;
    let linked = ends.linked();
    let Linked { between, listener, asker, acceptor, .. } = linked;
    drop((asker, acceptor));
    between.borrow_mut().to = Default::default();
    // Another process of the peer, whose time begins anew.
    let again = Ends::new();
    let mut ends = Ends { between: between.clone(), listener, near: again.near, peer: again.peer };
    let late = Rc::new(RefCell::new(Between { now: 5, ..Between::default() }));
    again.near.open(Toy { between: late.clone(), end: 0, fd: 3 }, true);
    let mut asker = Udp::connect(ends.near, Some(ends.peer), Options::USUAL).unwrap();
    for expected in [false, false, true] {
        assert_eq!(asker.finish_connect(), Ok(expected));
        relay(&late, &between, 1);
        between.borrow_mut().receives = 0;
        assert!(ends.listener.accept(None).is_err());
        relay(&between, &late, 0);
    }
}

/// What lies on the way to an end of one wire comes to that of another.
fn relay(from: &Rc<RefCell<Between>>, to: &Rc<RefCell<Between>>, end: usize) {
    let all: Vec<_> = from.borrow_mut().to[end].drain(..).collect();
    to.borrow_mut().to[end].extend(all);
}

#[test]
fn who_knocked_and_finds_the_last_link_taken_is_told_so() {
    let mut ends = Ends::new();
    let mut first = ends.ask();
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(first.finish_connect(), Ok(true));
    let near = protected_hub(Numbering::Steering(2), keyed(identity(NEAR), 21));
    let other = Ends { near, ..Ends::new() };
    other.between.borrow_mut().now += SECOND;
    let mut second = other.ask();
    relay(&other.between, &ends.between, 1);
    assert!(ends.listener.accept(None).is_err());
    relay(&ends.between, &other.between, 0);
    assert_eq!(second.finish_connect(), Ok(true), "there is room for either");
    ping(&mut first, 1);
    first.flush();
    let (mut acceptor, _) = ends.listener.accept(None).expect("a link");
    assert_eq!(turn(&mut acceptor), Ok(vec![1]));
    ends.between.borrow_mut().to = Default::default();
    ping(&mut second, 2);
    second.flush();
    relay(&other.between, &ends.between, 1);
    let packet = ends.between.borrow().to[1][0].clone();
    assert!(ends.listener.accept(None).is_err(), "for both there is none");
    relay(&ends.between, &other.between, 0);
    let mut room = vec![0; PACKET_BYTES];
    let Ok(Received::Piece { bytes, .. }) = second.receive(&mut room) else { panic!("no word") };
    let (message, length) = parse(&room[..bytes]).expect("a message");
    assert_eq!(length, bytes);
    let reason = FailReason::TableFull as u16;
    assert_eq!(message, Message::Close { reason, text: b"" });
    // Said once: another word of the same number would give the keys away.
    ends.between.borrow_mut().to[1].push_back(packet);
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(ends.between.borrow().to[0].len(), 0);
}

#[test]
fn who_has_knocked_shows_that_it_has_the_keys_and_soon() {
    let mut ends = Ends::new();
    let mut asker = ends.ask();
    assert!(ends.listener.accept(None).is_err());
    let response = ends.between.borrow().to[0][0].clone();
    assert_eq!(asker.finish_connect(), Ok(true));
    ping(&mut asker, 4);
    asker.flush();
    let good = ends.between.borrow_mut().to[1].pop_back().expect("its first packet");
    assert_eq!(kind_of(Mode::Keyed, &response), Some(Kind::Response));
    // Whoever hears all of it knows the index, and has no keys.
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        ends.between.borrow_mut().to[1].push_back(bad);
        assert!(ends.listener.accept(None).is_err(), "bit {bit}");
    }
    for length in [0, 12, 27, 28, good.len() - 1] {
        ends.between.borrow_mut().to[1].push_back(good[..length].to_vec());
        assert!(ends.listener.accept(None).is_err(), "{length} bytes");
    }
    let long = [&good[..], &[0; 2000]].concat();
    ends.between.borrow_mut().to[1].push_back(long);
    assert!(ends.listener.accept(None).is_err());
    let again = ends.between.borrow().now;
    ends.between.borrow_mut().receives = 0;
    ends.between.borrow_mut().to[1].push_back(good.clone());
    let (acceptor, _) = ends.listener.accept(None).expect("a link");
    drop(acceptor);
    // The same once more, too late.
    let mut ends = Ends::new();
    let mut asker = ends.ask();
    assert!(ends.listener.accept(None).is_err());
    assert_eq!(asker.finish_connect(), Ok(true));
    ping(&mut asker, 5);
    asker.flush();
    ends.between.borrow_mut().now = again + KNOCK_MICROS;
    assert!(ends.listener.accept(None).is_err(), "nobody waits any more");
}
