use super::*;
use crate::resolve::Addresses;
use crate::targets::{Allow, Places, Service, Services};
use crate::{AtEnd, Listener};
use core::cell::{Cell, RefCell};
use core::net::IpAddr;
use seaprox::Seaprox;
use seaprox::completion::Ticket;
use seaprox::share::{Commons, Order};
use seaprox::sim::{FarEnd, Place, SimKernel};
use seaprox::transport::{Asked, Notice, Observer, Source};
use seaprox::wanted::Wanted;
use seaprox::worker::{Options, Worker};
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::string::{String, ToString};
use std::vec::Vec;

const PROXY: &str = "10.0.0.9:8080";
const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";
const THREE: &str = "10.0.0.3:80";
const HOLE: &str = "10.0.0.4:80";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Clients of a listener that want something, one after another.
struct Asking<'s, 'w> {
    listener: Listener<&'s SimKernel<'w>>,
    wishes: &'s RefCell<VecDeque<Wanted<'static>>>,
}

impl<'s, 'w> Transport<&'s SimKernel<'w>> for Asking<'s, 'w> {
    const PROMPT: bool = true;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        self.listener.ready(own, fd, ready);
    }

    fn poll(&mut self, desk: &mut Desk<'_, &'s SimKernel<'w>>) -> Option<Event> {
        self.listener.poll(desk)
    }
}

impl<'s, 'w> Source<&'s SimKernel<'w>> for Asking<'s, 'w> {
    type Target = Wanted<'static>;

    fn target(
        &mut self,
        _: Handle,
        _: SideKey,
        _: &mut Desk<'_, &'s SimKernel<'w>>,
    ) -> Asked<Wanted<'static>> {
        Asked::For(self.wishes.borrow_mut().pop_front().expect("as many wishes as clients"))
    }

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, &'s SimKernel<'w>>) -> Result<(), Errno> {
        self.listener.admit(wanted, desk)
    }

    fn look(&mut self) {
        Source::<&SimKernel<'_>>::look(&mut self.listener);
    }

    fn end(&mut self, desk: &mut Desk<'_, &'s SimKernel<'w>>) {
        self.listener.end(desk);
    }
}

/// Names are known when the test says so.
#[derive(Default)]
struct Book {
    known: RefCell<BTreeMap<String, Addresses>>,
    waiting: RefCell<Vec<(String, Ticket)>>,
}

impl Book {
    fn tell(&self, sim: &SimKernel<'_>, commons: Commons<'_>, name: &str, addresses: &[&str]) {
        let addresses: Addresses =
            addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
        let outcome = match addresses.is_empty() {
            true => Outcome::Failed(FailReason::NameResolution),
            false => Outcome::Resolved,
        };
        self.known.borrow_mut().insert(name.to_string(), addresses);
        for (_, ticket) in self.waiting.borrow_mut().extract_if(.., |(other, _)| other == name) {
            // Stale: the client left.
            let _ = commons.complete(sim, ticket, outcome);
        }
    }
}

impl Resolve for Book {
    fn lookup(&self, name: &str, ticket: Ticket) -> Lookup {
        match self.addresses(name) {
            Some(addresses) => Lookup::Known(addresses),
            None => {
                self.waiting.borrow_mut().push((name.to_string(), ticket));
                Lookup::Waiting
            }
        }
    }

    fn addresses(&self, name: &str) -> Option<Addresses> {
        self.known.borrow().get(name).cloned().filter(|addresses| !addresses.is_empty())
    }
}

/// Everything but port 22.
struct Most;

impl Allow for Most {
    fn permits_name(&self, _: &str, port: u16) -> bool {
        port != 22
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        address.port() != 22
    }
}

/// The chooser, and how many of its places are taken for the test to see.
struct Counted<'b>(Services<'b, Most>, &'b Cell<usize>);

impl Targets<Wanted<'static>> for Counted<'_> {
    fn choose(&mut self, side: SideKey, wanted: Wanted<'static>) -> Result<Chosen, FailReason> {
        let chosen = self.0.choose(side, wanted);
        self.1.set(self.0.taken());
        chosen
    }
}

impl Names for Counted<'_> {
    fn name(&self, place: u8) -> Option<(&str, u16)> {
        self.0.name(place)
    }

    fn forget(&mut self, side: SideKey) {
        self.0.forget(side);
        self.1.set(self.0.taken());
    }
}

/// What became of the connections, in order.
#[derive(Default)]
struct Told(RefCell<Vec<String>>);

impl Observer for &Told {
    fn notice(&mut self, notice: Notice) {
        self.0.borrow_mut().push(match notice {
            Notice::Connected(description) => description.dest.to_string(),
            Notice::Refused { reason, .. } => reason.to_string(),
            Notice::Closed { .. } => return,
            notice => panic!("{notice:?}"),
        });
    }
}

/// A worker whose clients want things, and what is around it.
struct Bed<'b> {
    sim: &'b SimKernel<'static>,
    book: &'b Book,
    told: &'b Told,
    wishes: &'b RefCell<VecDeque<Wanted<'static>>>,
    commons: Commons<'b>,
    taken: &'b Cell<usize>,
    worker: Worker<
        'b,
        &'b SimKernel<'static>,
        Asking<'b, 'static>,
        Dialer<'b, &'b SimKernel<'static>, &'b Book, Counted<'b>>,
        &'b Told,
    >,
}

impl Bed<'_> {
    fn client(&mut self, wanted: Wanted<'static>) -> FarEnd {
        self.wishes.borrow_mut().push_back(wanted);
        self.sim.client_connect(at(PROXY))
    }

    /// Lets so much time pass, and what happens happen.
    fn pass(&mut self, millis: u64) {
        let until = self.sim.now().as_millis() + millis;
        while self.sim.now().as_millis() < until {
            self.sim.advance(1);
            // The worker would wait for ever if nothing was due: the bell is rung.
            self.commons.order(self.sim, Order::Run);
            assert!(self.worker.turn().unwrap());
        }
    }

    fn told(&mut self) -> Vec<String> {
        self.told.0.borrow_mut().drain(..).collect()
    }

    /// What becomes of one client's wish within a second.
    fn ask(&mut self, wanted: Wanted<'static>) -> String {
        self.client(wanted);
        self.pass(1000);
        self.told().join(" ")
    }

    fn know(&self, name: &str, addresses: &[&str]) {
        self.book.tell(self.sim, self.commons, name, addresses);
    }
}

fn with_bed(connections: usize, test: impl FnOnce(&mut Bed<'_>)) {
    let sim = SimKernel::calm(7);
    let (book, told, wishes) = (Book::default(), Told::default(), RefCell::default());
    let mut memory = Box::new(Seaprox::<100, 1>::new());
    let table = memory.tables(1, connections).next().unwrap();
    let commons = table.commons();
    let targets = [
        Target::Inet(at(HOLE)),
        Target::Inet(at(ONE)),
        Target::Inet(at(TWO)),
        Target::Inet(at(THREE)),
    ];
    let services = [Service { name: b"", targets: 2..3 }, Service { name: b"both", targets: 0..2 }];
    let mut places = Places::new();
    for backend in [TWO, THREE] {
        sim.place(at(backend), Place::Listening(100));
    }
    sim.place(at(ONE), Place::Refused);
    sim.place(at(HOLE), Place::Blackhole);
    let listener = sim.listen(at(PROXY), 200);
    let source = Asking { listener: Listener::new(&sim, listener, AtEnd::Refuse), wishes: &wishes };
    let taken = Cell::new(0);
    let chooser = Counted(Services::new(&services, Most, &mut places), &taken);
    let options = DialOptions { connect_millis: 500, ..DialOptions::default() };
    let dialer = Dialer::choosing(&sim, &targets, chooser, &book, options);
    let worker = Worker::new(&sim, table, source, dialer, &told, Options::default()).unwrap();
    let (sim, book, told, wishes, taken) = (&sim, &book, &told, &wishes, &taken);
    test(&mut Bed { sim, book, told, wishes, commons, taken, worker });
    assert_eq!(taken.get(), 0, "every place is vacant again");
}

fn name(name: &'static str) -> Wanted<'static> {
    Wanted::Name(name.as_bytes(), 80)
}

#[test]
fn a_service_leads_to_its_own_targets_and_to_no_other() {
    with_bed(10, |bed| {
        assert_eq!(bed.ask(Wanted::Service(b"")), "ipv4[10.0.0.2:80]");
        // The first of them never answers, the second refuses; the third is another service's.
        assert_eq!(bed.ask(Wanted::Service(b"both")), "connection-refused");
        assert_eq!(bed.ask(Wanted::Service(b"none")), "no-such-service");
        assert_eq!(bed.ask(Wanted::Service(b"")), "ipv4[10.0.0.2:80]");
    });
}

#[test]
fn an_address_is_dialed_as_it_is() {
    with_bed(10, |bed| {
        assert_eq!(bed.ask(Wanted::Inet(at(THREE))), "ipv4[10.0.0.3:80]");
        assert_eq!(bed.ask(Wanted::Inet(at(ONE))), "connection-refused");
        assert_eq!(bed.ask(Wanted::Inet(at(HOLE))), "timed-out");
        assert_eq!(bed.ask(Wanted::Inet(at("10.0.0.3:22"))), "denied");
        bed.sim.place(at(THREE), Place::Unreachable(Errno::NETUNREACH));
        assert_eq!(bed.ask(Wanted::Inet(at(THREE))), "unreachable");
    });
}

#[test]
fn a_name_is_kept_until_its_dial_has_ended() {
    with_bed(10, |bed| {
        // Both of its addresses are wanted after it was looked up.
        bed.client(name("slow"));
        bed.client(name("none"));
        bed.client(name("left"));
        bed.pass(100);
        assert_eq!((bed.taken.get(), bed.told().len()), (3, 0));
        bed.know("slow", &["10.0.0.4", "10.0.0.2"]);
        bed.pass(100);
        assert_eq!((bed.taken.get(), bed.told().len()), (3, 0), "the first does not answer");
        bed.pass(200);
        assert_eq!((bed.taken.get(), bed.told().join(" ").as_str()), (2, "ipv4[10.0.0.2:80]"));
        bed.know("none", &[]);
        bed.pass(5);
        assert_eq!((bed.taken.get(), bed.told().join(" ").as_str()), (1, "name-resolution"));
        bed.pass(200);
        assert_eq!((bed.taken.get(), bed.told().join(" ").as_str()), (0, "timed-out"));
        assert_eq!(bed.ask(name("slow")), "ipv4[10.0.0.2:80]", "known by now");
        assert_eq!(bed.ask(Wanted::Name(b"slow", 22)), "denied");
        assert_eq!(bed.ask(Wanted::Name(b"\xff", 80)), "denied");
        assert_eq!(bed.ask(name("10.0.0.3")), "ipv4[10.0.0.3:80]");
    });
}

#[test]
fn a_client_that_leaves_takes_its_name_along() {
    with_bed(10, |bed| {
        let client = bed.client(name("slow"));
        bed.pass(50);
        assert_eq!(bed.taken.get(), 1);
        client.reset(bed.sim);
        bed.pass(50);
        assert_eq!((bed.taken.get(), bed.told().join(" ").as_str()), (0, "source-gone"));
        // Its slot is another's now, whose name lies in the same place.
        bed.client(name("other"));
        bed.pass(50);
        bed.know("slow", &["10.0.0.2"]);
        bed.pass(50);
        assert_eq!(bed.told().len(), 0);
        bed.know("other", &["10.0.0.3"]);
        bed.pass(50);
        assert_eq!(bed.told(), ["ipv4[10.0.0.3:80]"]);
    });
}

#[test]
fn when_every_place_is_taken_names_are_refused_and_nothing_else() {
    with_bed(100, |bed| {
        for _ in 0..PLACES {
            bed.client(name("slow"));
        }
        bed.pass(100);
        assert_eq!((bed.taken.get(), bed.told().len()), (PLACES, 0));
        bed.client(name("more"));
        bed.client(Wanted::Service(b""));
        bed.client(Wanted::Inet(at(THREE)));
        bed.pass(50);
        let mut told = bed.told();
        told.sort();
        assert_eq!(told, ["ipv4[10.0.0.2:80]", "ipv4[10.0.0.3:80]", "resolver-full"]);
        bed.know("slow", &["10.0.0.2"]);
        bed.pass(100);
        assert_eq!((bed.taken.get(), bed.told().len()), (0, PLACES));
    });
}

/// Of both connects of a side: the first, and the one that is tried as well.
#[test]
fn what_is_said_before_a_reset_that_nobody_saw_is_kept() {
    with_bed(10, |bed| {
        bed.know("both", &["10.0.0.4", "10.0.0.2"]);
        for (wanted, descriptors, fails) in
            [(Wanted::Inet(at(TWO)), 2, "connection-refused"), (name("both"), 3, "timed-out")]
        {
            for speaks in [true, false] {
                let open = bed.sim.open_descriptors();
                let client = bed.client(wanted);
                while bed.sim.open_descriptors() < open + descriptors {
                    bed.pass(1);
                }
                // From here on the worker does not look.
                let backend = loop {
                    bed.sim.advance(1);
                    if let Some(backend) = bed.sim.backend_accept(at(TWO)) {
                        break backend;
                    }
                };
                if speaks {
                    assert_eq!(backend.send(bed.sim, b"the answer"), Ok(10));
                    bed.sim.advance(5);
                }
                backend.reset(bed.sim);
                bed.sim.advance(5);
                bed.pass(1000);
                let mut bytes = Vec::new();
                assert_eq!(client.recv_all(bed.sim, &mut bytes), Err(Errno::CONNRESET));
                let (said, told) = match speaks {
                    true => (&b"the answer"[..], "ipv4[10.0.0.2:80]"),
                    false => (&b""[..], fails),
                };
                assert_eq!((&bytes[..], bed.told().join(" ").as_str()), (said, told));
            }
        }
    });
}
