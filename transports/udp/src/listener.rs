//! Where links over UDP come from: whoever asks for one, at a socket that all of them share.
//!
//! Invariant: nothing is kept of who was not accepted.

use crate::carrier::{Options, Udp};
use crate::handshake::{Responder, Verdict};
use crate::hub::{Hub, LINKS_MAX, Owner, Wire};
use crate::reliable::Reliable;
use crate::seal::Checksum;
use seaprox::address::Address;
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, RawFd};
use seaprox_proto::source::Accept;

/// Strangers' datagrams that are answered in one go, at most: then it is others' turn.
const ANSWERS_MAX: u32 = 64;

/// Accepts links of one hub.
pub struct Listener<'m, W: Wire> {
    hub: &'m Hub<'m, W>,
    responder: Responder<LINKS_MAX>,
    options: Options,
}

impl<'m, W: Wire> Listener<'m, W> {
    /// At the hub's socket, which listens. `secret`: unpredictable.
    pub fn new(hub: &'m Hub<'m, W>, secret: [u8; 16], options: Options) -> Self {
        Listener { hub, responder: Responder::new(secret, Options::LIMITS), options }
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
        for _ in 0..ANSWERS_MAX {
            if shared.next_owner()? != Owner::Listener {
                return Err(Errno::AGAIN);
            }
            let vacancy = match refused {
                None if shared.has_vacant() => Ok(()),
                None => Err(FailReason::TableFull),
                Some(reason) => Err(reason),
            };
            let Some(heard) = shared.take() else { return Err(Errno::AGAIN) };
            let path = heard.path;
            match self.responder.hear_init(heard.bytes, &path.peer, now, vacancy) {
                Verdict::Ignore => {}
                // What does not go is as good as lost: it will be asked for again.
                Verdict::Reply(answer) => drop(shared.send(&path, &[&answer])),
                Verdict::Accept(init) => {
                    let Some((index, slices)) = shared.begin_link() else { continue };
                    let (answer, agreed) = self.responder.accept(&init, index);
                    let terms = self.options.terms(&agreed, path, shared.random());
                    let reliable =
                        Reliable::new(slices, Checksum::new(agreed.session), &terms, now);
                    let _ = shared.send(&path, &[&answer]);
                    drop(shared);
                    let carrier = Udp::linked(self.hub, index, reliable, self.options);
                    return Ok((carrier, Address::from(path.peer)));
                }
            }
        }
        Err(Errno::AGAIN)
    }

    fn is_waiting(&self) -> bool {
        self.hub.borrow().waiting().is_some()
    }

    /// Those who ask are told so one by one; the socket stays for the links that are there.
    fn end(&mut self) {}
}
