//! A proxy type in front of a worker, in a simulated kernel without faults: the client gets what the
//! handshake told when it was alone, the dest gets the rest, and nothing is left.

use super::{Outcome, Talk, Whims};
use core::cell::RefCell;
use core::net::SocketAddr;
use seaprox::Seaprox;
use seaprox::fail::FailReason;
use seaprox::handshake::{Handshake, Handshaking, Seat};
use seaprox::share::Order;
use seaprox::side::SideKey;
use seaprox::sim::{FarEnd, Place, SimKernel};
use seaprox::sys::Errno;
use seaprox::wanted::Wish;
use seaprox::worker::{Options, Worker};
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{AtEnd, Chosen, DialOptions, Dialer, Listener, Names, Targets};

/// How long the client may take to say what it wants.
const HANDSHAKE_MILLIS: u32 = 10_000;

/// After so many turns without an end there is none.
const TURNS_MAX: usize = 1000;

/// What the dest says, once it has heard all, or all there is.
const BANNER: &[u8] = b"from the dest";

/// Leads every wish to one place, and keeps the last.
struct Anywhere<'w> {
    leads_to: Result<SocketAddr, FailReason>,
    wish: &'w RefCell<Option<Wish>>,
}

impl Names for Anywhere<'_> {
    fn name(&self, _: u8) -> Option<(&str, u16)> {
        None
    }

    fn forget(&mut self, _: SideKey) {}
}

impl Targets<Wish> for Anywhere<'_> {
    fn choose(&mut self, _: SideKey, wish: Wish) -> Result<Chosen, FailReason> {
        *self.wish.borrow_mut() = Some(wish);
        self.leads_to.map(Chosen::Address)
    }
}

/// How a stream ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Fin,
    Reset,
}

/// One end of a connection, and what it has read.
struct Reader {
    end: FarEnd,
    heard: Vec<u8>,
    ended: End,
}

impl Reader {
    fn new(end: FarEnd) -> Reader {
        Reader { end, heard: Vec::new(), ended: End::Open }
    }

    fn read(&mut self, sim: &SimKernel<'_>) {
        match self.end.recv_all(sim, &mut self.heard) {
            Ok(()) if self.ended == End::Open => self.ended = End::Fin,
            Err(Errno::CONNRESET | Errno::PIPE) => self.ended = End::Reset,
            _ => {}
        }
    }
}

pub(super) fn serve<H: Handshake<Origin = ()>>(
    handshake: H,
    said: &[u8],
    whims: Whims,
    talk: &Talk,
    answer: &[u8],
) {
    let [at, backend] = ["10.0.0.9:80", "10.0.0.1:80"].map(|text| text.parse().expect("address"));
    let sim = &SimKernel::calm(1);
    let listener = sim.listen(at, 1);
    if whims.dest.is_ok() {
        sim.place(backend, Place::Listening(1));
    }
    let mut memory = Box::new(Seaprox::<1, 1>::new());
    let Some(table) = memory.tables(1, 1).next() else { unreachable!("one thread, one table") };
    let commons = table.commons();
    let mut seats = [Seat::new(H::VACANT)];
    let wish = RefCell::new(None);
    let leads_to = match whims.dest {
        Err(FailReason::Denied) => Err(FailReason::Denied),
        _ => Ok(backend),
    };
    let source = Listener::new(sim, listener, AtEnd::Refuse);
    let source = Handshaking::new(handshake, source, &mut seats, HANDSHAKE_MILLIS);
    let chooser = Anywhere { leads_to, wish: &wish };
    let dest = Dialer::choosing(sim, &[], chooser, NoNames, DialOptions::default());
    let worker = Worker::new(sim, table, source, dest, (), Options::default());
    let mut worker = worker.unwrap_or_else(|errno| panic!("there are no faults: {errno}"));
    let mut turn = || {
        let runs = worker.turn().unwrap_or_else(|errno| panic!("there are no faults: {errno}"));
        worker.table().invariants();
        (runs, worker.table().occupied())
    };

    let mut client = Reader::new(sim.client_connect(at));
    let mut dest: Option<Reader> = None;
    let (mut rest, mut has_ended) = (said, false);
    for turns in 0.. {
        assert!(turns < TURNS_MAX + said.len(), "there is no end to it");
        let piece = &rest[..rest.len().min(whims.piece_bytes)];
        if piece.is_empty() && !has_ended && (whims.ends || client.ended != End::Open) {
            let _ = client.end.shutdown(sim);
            has_ended = true;
        }
        match client.end.send(sim, piece) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::AGAIN) => {}
            // It was refused, and said more than anybody reads away.
            Err(_) => rest = &[],
        }
        sim.advance(1);
        let (_, occupied) = turn();
        sim.advance(1);
        client.read(sim);
        if let Some(end) = sim.backend_accept(backend) {
            assert!(dest.is_none(), "one client, two dests");
            dest = Some(Reader::new(end));
        }
        if let Some(dest) = &mut dest {
            dest.read(sim);
            if dest.heard.len() >= talk.beyond && rest.is_empty() {
                let _ = dest.end.send(sim, BANNER);
                let _ = dest.end.shutdown(sim);
            }
        }
        if occupied == 0 && client.ended != End::Open {
            break;
        }
    }
    judge(said, whims, talk, answer, (&client, dest.as_ref(), wish.take()));

    commons.order(sim, Order::Drain);
    assert!((0..TURNS_MAX).any(|_| !turn().0), "a drain never ends");
    drop(worker);
    assert_eq!(sim.open_descriptors(), 1, "all but the listener are closed");
}

/// Whether everybody got what they had to.
fn judge(
    said: &[u8],
    whims: Whims,
    talk: &Talk,
    answer: &[u8],
    (client, dest, wish): (&Reader, Option<&Reader>, Option<Wish>),
) {
    let is_let_in =
        matches!(&talk.outcome, Outcome::Wish(wish) if wish.is_some()) && whims.dest.is_ok();
    assert_eq!(dest.is_some(), is_let_in, "{talk:?}");
    if let Outcome::Wish(wanted) = &talk.outcome {
        assert_eq!(wish, **wanted);
    }
    let told = [&talk.told, answer].concat();
    if let Some(dest) = dest {
        assert_eq!(client.heard, [&told, BANNER].concat());
        assert_eq!(dest.heard, said[said.len() - talk.beyond..]);
        assert_eq!((client.ended, dest.ended), (End::Fin, End::Fin));
        return;
    }
    let is_gone = talk.outcome == Outcome::More && whims.ends;
    let last_word = match talk.outcome {
        Outcome::Rejected { with_a_word, .. } => with_a_word,
        _ => !answer.is_empty() && !is_gone,
    };
    if last_word {
        assert_eq!((&client.heard, client.ended), (&told, End::Fin), "{talk:?}");
    } else {
        assert!(told.starts_with(&client.heard), "{:?} of {talk:?}", client.heard);
        assert_eq!(client.ended, End::Reset, "{talk:?}");
    }
}
