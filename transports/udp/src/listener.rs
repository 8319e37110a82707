//! Where links over UDP come from: whoever asks for one, at a socket that all of them share.
//!
//! Invariant: nothing is kept of who was not accepted; with keys, nothing but a knock of who has not shown
//! yet that it is a peer, now.

mod gate;

use crate::asking::Begun;
use crate::carrier::{Options, Udp};
use crate::handshake::{Limits, Responder, Verdict};
use crate::hub::{Hub, LINKS_MAX, Owner, Shared, Wire};
use crate::keyed::{AnyPeers, Protection};
use crate::knocks::Knocks;
use crate::reliable::Parts;
use crate::socket::Path;
use crate::time::Micros;
use gate::Gate;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox_proto::carrier::PeerNumber;
use seaprox_proto::source::Accept;

/// Strangers' datagrams that are answered in one go, at most: then it is others' turn.
const ANSWERS_MAX: u32 = 64;

/// The same where there are keys, and an answer takes 300 microseconds.
const KEYED_ANSWERS_MAX: u32 = 8;

/// Who may have a link.
pub enum Admitted<'m> {
    /// Whoever asks; the hub has no keys.
    Anybody {
        /// Unpredictable: who knows it can show any address.
        secret: [u8; 16],
    },
    /// Peers whose keys are known; the hub has keys.
    Peers {
        /// Who they are. What their clocks showed is kept there: it is to be one table as long as the
        /// program runs. Each thread may have a table of its own: the kernel steers an INIT by what
        /// cannot be changed in it, so one that is repeated comes to the same.
        peers: &'m mut dyn AnyPeers,
        /// Who of them has not shown yet that it is one.
        knocks: &'m mut Knocks,
    },
}

/// Who is answered.
enum Door<'m> {
    Open(Responder<LINKS_MAX>),
    Guarded(Gate<'m>),
    /// Keys and who may come in do not go together.
    Shut,
}

/// A link that there is from now on.
struct Accepted<'m> {
    index: u32,
    memory: Parts<'m>,
    begun: Begun,
    path: Path,
    peer: Option<PeerNumber>,
}

/// Accepts links of one hub.
pub struct Listener<'m, W: Wire> {
    hub: &'m Hub<'m, W>,
    door: Door<'m>,
    options: Options,
}

impl<'m, W: Wire> Listener<'m, W> {
    /// At the hub's socket, which listens. Nobody is answered if the hub has keys and anybody is admitted,
    /// or the reverse.
    pub fn new(hub: &'m Hub<'m, W>, admitted: Admitted<'m>, options: Options) -> Self {
        let mut shared = hub.borrow();
        let seed = shared.random();
        let door = match (&mut shared.protection, admitted) {
            (Protection::Insecure, Admitted::Anybody { secret }) => {
                Door::Open(Responder::new(secret, Limits::OWN))
            }
            (Protection::Keyed(keyed), Admitted::Peers { peers, knocks }) => {
                Door::Guarded(Gate::new(keyed.responder(), seed, peers, knocks))
            }
            _ => Door::Shut,
        };
        drop(shared);
        Listener { hub, door, options }
    }

    /// Whether anybody is answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.door, Door::Shut)
    }
}

impl<'m, W: Wire> Accept for Listener<'m, W> {
    type Carrier = Udp<'m, W>;

    fn is_shared(&self) -> bool {
        true
    }

    fn fd(&self) -> RawFd {
        self.hub.fd()
    }

    fn accept(&mut self, refused: Option<FailReason>) -> Result<(Udp<'m, W>, Address), Errno> {
        let mut shared = self.hub.borrow();
        let now = shared.now();
        let most = if matches!(self.door, Door::Open(_)) { ANSWERS_MAX } else { KEYED_ANSWERS_MAX };
        for _ in 0..most {
            if shared.next_owner()? != Owner::Listener {
                return Err(Errno::AGAIN);
            }
            let vacancy = match refused {
                None if shared.has_vacant() => Ok(()),
                None => Err(FailReason::TableFull),
                Some(reason) => Err(reason),
            };
            let accepted = match &mut self.door {
                Door::Open(responder) => hear_anybody(responder, &mut shared, now, vacancy),
                Door::Guarded(gate) => gate.hear(&mut shared, now, vacancy),
                Door::Shut => {
                    shared.pass();
                    None
                }
            };
            if let Some(accepted) = accepted {
                let Accepted { index, memory, begun, path, peer } = accepted;
                let random = shared.random();
                drop(shared);
                let start = (index, memory, begun, path, peer);
                let carrier = Udp::accepted(self.hub, start, self.options, random, now);
                return Ok((carrier, Address::from(path.peer)));
            }
        }
        Err(Errno::AGAIN)
    }

    fn is_waiting(&self) -> bool {
        self.hub.borrow().is_waiting()
    }

    /// Those who ask are told so one by one; the socket stays for the links that are there.
    fn end(&mut self) {}
}

/// The next datagram is for a listener that has no keys: takes it, and perhaps there is a link.
fn hear_anybody<'m, W: Wire>(
    responder: &mut Responder<LINKS_MAX>,
    shared: &mut Shared<'m, W>,
    now: Micros,
    vacancy: Result<(), FailReason>,
) -> Option<Accepted<'m>> {
    let heard = shared.take()?;
    let path = heard.path;
    match responder.hear_init(heard.bytes, &path.peer, now, vacancy) {
        Verdict::Ignore => None,
        // What does not go is as good as lost: it will be asked for again.
        Verdict::Reply(answer) => {
            let _ = shared.send(&path, &[&answer]);
            None
        }
        Verdict::Accept(init) => {
            let (index, memory) = shared.begin_link()?;
            let (answer, agreed) = responder.accept(&init, index);
            let _ = shared.send(&path, &[&answer]);
            Some(Accepted { index, memory, begun: agreed.into(), path, peer: None })
        }
    }
}
