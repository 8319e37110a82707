//! The proxy types of a run, and all that can be said to them: what leads where, what they answer, what is
//! wrong. Drawn for one client at a time.

use crate::rounds;
use core::net::SocketAddr;
use seaprox::fail::FailReason;
use seaprox::sim::{Place, Random};

/// Nobody may be connected to this port.
pub(crate) const FORBIDDEN_PORT: u16 = 25;

pub(crate) const USER: &[u8] = b"alice";
pub(crate) const PASSWORD: &[u8] = b"secret";

/// The longest message that is heard as it comes.
const STREAM_BYTES_MAX: usize = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Socks { passwords: bool },
    Rounds,
}

/// A proxy type, and what can be asked of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) kind: Kind,
    /// Where backends listen; what nobody asks for leads to the first, if anywhere.
    pub(crate) backends: [SocketAddr; 2],
    pub(crate) bad: [(SocketAddr, Place); 2],
    /// Whether the default service leads to a backend, and the name.
    pub(crate) service_leads: bool,
    pub(crate) name_leads: bool,
}

/// What must become of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It gets to this backend.
    Served(usize),
    /// It is refused, with one of these codes, unless it is for want of time; `None`: any.
    Refused(Option<Vec<u8>>),
}

/// One message, and its answer.
pub(crate) type Exchange = (Vec<u8>, Vec<u8>);

impl Front {
    /// What one client wants, in the words of its kind.
    pub(crate) fn draw_wish(&self, random: &mut Random) -> (Vec<u8>, Fate) {
        let is_socks = self.kind != Kind::Rounds;
        let code = |reason| Fate::Refused(Some(vec![self.code(reason)]));
        let (address, fate) = match random.below(8) {
            0 | 1 => (self.backends[1], Fate::Served(1)),
            2 => {
                let (address, place) = self.bad[random.below(if is_socks { 2 } else { 1 })];
                let reason = match place {
                    Place::Refused | Place::Itself => FailReason::ConnectionRefused,
                    Place::Blackhole => FailReason::TimedOut,
                    _ => FailReason::Unreachable,
                };
                (address, code(reason))
            }
            3 => {
                let forbidden = (self.backends[0].ip(), FORBIDDEN_PORT).into();
                (forbidden, code(FailReason::Denied))
            }
            4 => {
                let fate = match self.name_leads {
                    true => Fate::Served(0),
                    false => code(FailReason::NameResolution),
                };
                return (self.name_wish(80), fate);
            }
            5 if !is_socks => {
                let fate = if self.service_leads { Fate::Served(0) } else { Fate::Refused(None) };
                return (message(rounds::WISH, &[rounds::SERVICE]), fate);
            }
            _ => (self.backends[0], Fate::Served(0)),
        };
        (self.address_wish(address), fate)
    }

    fn address_wish(&self, address: SocketAddr) -> Vec<u8> {
        let port = address.port();
        match (self.kind, address) {
            (Kind::Socks { .. }, SocketAddr::V4(v4)) => {
                [&[5, 1, 0, 1][..], &v4.ip().octets(), &port.to_be_bytes()].concat()
            }
            (Kind::Socks { .. }, SocketAddr::V6(v6)) => {
                [&[5, 1, 0, 4][..], &v6.ip().octets(), &port.to_be_bytes()].concat()
            }
            (Kind::Rounds, SocketAddr::V4(v4)) => {
                let contents = [&[rounds::V4][..], &v4.ip().octets(), &port.to_le_bytes()];
                message(rounds::WISH, &contents.concat())
            }
            (Kind::Rounds, SocketAddr::V6(v6)) => panic!("no word for {v6}"),
        }
    }

    fn name_wish(&self, port: u16) -> Vec<u8> {
        match self.kind {
            Kind::Socks { .. } => [&[5, 1, 0, 3, 4][..], b"name", &port.to_be_bytes()].concat(),
            Kind::Rounds => {
                message(rounds::WISH, &[&[rounds::NAME][..], &port.to_le_bytes()].concat())
            }
        }
    }

    pub(crate) fn code(&self, reason: FailReason) -> u8 {
        use FailReason as R;
        match (self.kind, reason) {
            (Kind::Rounds, reason) => reason as u8,
            // RFC 1928 section 6.
            (_, R::Denied) => 2,
            (_, R::Unreachable) => 3,
            (_, R::NameResolution) => 4,
            (_, R::ConnectionRefused) => 5,
            (_, R::TimedOut) => 6,
            (_, reason) => panic!("nobody is refused for {reason}"),
        }
    }

    /// All that is said and answered before the wish.
    pub(crate) fn draw_exchanges(&self, random: &mut Random) -> Vec<Exchange> {
        match self.kind {
            Kind::Socks { passwords } => {
                let wanted = if passwords { 2 } else { 0 };
                let more = (0..random.scaled(254)).map(|_| 0x80 | random.bits() as u8);
                let mut methods: Vec<u8> = more.collect();
                methods.insert(random.below(methods.len() + 1), wanted);
                let greeting = [&[5, methods.len() as u8][..], &methods].concat();
                let mut exchanges = vec![(greeting, vec![5, wanted])];
                if passwords {
                    exchanges.push((password(PASSWORD), vec![1, 0]));
                }
                exchanges
            }
            Kind::Rounds => {
                let mut exchanges = vec![(vec![], vec![rounds::WELCOME])];
                for number in 0..random.scaled(40) - 1 {
                    let is_stream = random.below(3) == 0;
                    let most = if is_stream { STREAM_BYTES_MAX } else { 300 };
                    let contents: Vec<u8> = (0..random.scaled(most)).map(|n| n as u8).collect();
                    let kind = if is_stream { rounds::STREAM } else { rounds::ROUND };
                    let answer = rounds::answer_to(number as u8, &contents).to_vec();
                    exchanges.push((message(kind, &contents), answer));
                }
                exchanges
            }
        }
    }

    /// Something wrong in the place of a message; gives which, what is said from there on, and what
    /// that is answered with, if it is.
    pub(crate) fn draw_wrong(
        &self,
        random: &mut Random,
        exchanges: usize,
    ) -> (usize, Vec<u8>, Vec<u8>) {
        let tail = vec![b'x'; random.scaled(2000)];
        let at = random.below(exchanges + 1);
        let (wrong, rejection) = match (self.kind, at) {
            // Another protocol, or a method that is not offered.
            (Kind::Socks { .. }, 0) => match random.below(2) {
                0 => (b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![]),
                _ => (vec![5, 1, 0x80], vec![5, 0xff]),
            },
            (Kind::Socks { passwords: true }, 1) => (password(b"guess"), vec![1, 1]),
            // BIND.
            (Kind::Socks { .. }, _) => {
                let mut wish = self.address_wish(self.backends[0]);
                wish[1] = 2;
                (wish, vec![5, 7, 0, 1, 0, 0, 0, 0, 0, 0])
            }
            (Kind::Rounds, _) => match random.below(3) {
                0 => (vec![b'?', 0, 0], vec![]),
                1 => {
                    let auth = FailReason::Auth as u8;
                    (message(rounds::ROUND, &[rounds::WRONG]), vec![rounds::OUTCOME, auth])
                }
                // More than anybody keeps.
                _ => {
                    let too_long = [&[rounds::ROUND, 0xff, 0xff][..], &[b'x'; 600]].concat();
                    (too_long, vec![rounds::OUTCOME, FailReason::Protocol as u8])
                }
            },
        };
        // What there is before the first message nobody says.
        let at = if self.kind == Kind::Rounds { at.max(1) } else { at };
        (at, [wrong, tail].concat(), rejection)
    }
}

fn password(password: &[u8]) -> Vec<u8> {
    [&[1, USER.len() as u8][..], USER, &[password.len() as u8], password].concat()
}

fn message(kind: u8, contents: &[u8]) -> Vec<u8> {
    let [low, high] = (contents.len() as u16).to_le_bytes();
    [&[kind, low, high][..], contents].concat()
}
