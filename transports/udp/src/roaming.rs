//! Where the peer is: its address may change, and is believed once what was sent there came back
//! (RFC 9000 section 8.2). Sans-IO.
//!
//! Invariant: nothing but challenges goes to an address that has not answered one.

use crate::random::SplitMix64;
use crate::socket::Path;
use crate::time::Micros;

/// How often an address is asked.
const CHALLENGES_MAX: u8 = 4;

/// How long one waits for an answer at least, in microseconds.
const WAIT_MICROS_MIN: u64 = 100_000;

/// An address the peer seems to have now.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    at: Path,
    token: u64,
    challenges: u8,
    ask_at: Micros,
}

/// The way to the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roaming {
    peer: Path,
    candidate: Option<Candidate>,
    /// Whom to answer with what.
    response: Option<(Path, u64)>,
    random: SplitMix64,
}

impl Roaming {
    /// `random`: unpredictable, for the first challenge.
    pub(crate) fn new(peer: Path, random: u64) -> Roaming {
        Roaming { peer, candidate: None, response: None, random: SplitMix64::new(random) }
    }

    pub(crate) fn path(&self) -> Path {
        self.peer
    }

    /// The newest packet so far came from there, and was the peer's.
    pub(crate) fn came_from(&mut self, from: Path, now: Micros) {
        if from.peer == self.peer.peer {
            // It is where it was after all.
            self.candidate = None;
        } else if self.candidate.is_none_or(|candidate| candidate.at.peer != from.peer) {
            // Whoever has seen no challenge cannot tell the next.
            let token = self.random.draw();
            self.candidate = Some(Candidate { at: from, token, challenges: 0, ask_at: now });
        }
    }

    /// The peer asks whether this end is where `from` says.
    pub(crate) fn challenged(&mut self, from: Path, value: u64) {
        self.response = Some((from, value));
    }

    /// The peer answered a challenge; `true`: it is somewhere else from now on.
    pub(crate) fn answered(&mut self, value: u64) -> bool {
        match self.candidate {
            Some(candidate) if candidate.token == value && candidate.challenges > 0 => {
                self.peer = candidate.at;
                self.candidate = None;
                true
            }
            _ => false,
        }
    }

    /// An answer that is owed, and to whom.
    pub(crate) fn take_response(&mut self) -> Option<(Path, u64)> {
        self.response.take()
    }

    /// A challenge that is due, and to whom.
    pub(crate) fn take_challenge(&mut self, now: Micros, round_trip: u64) -> Option<(Path, u64)> {
        let candidate = self.candidate.as_mut().filter(|candidate| candidate.ask_at <= now)?;
        if candidate.challenges >= CHALLENGES_MAX {
            // Whoever sends from there again is asked again.
            self.candidate = None;
            return None;
        }
        candidate.challenges += 1;
        candidate.ask_at = now.after((3 * round_trip).max(WAIT_MICROS_MIN));
        Some((candidate.at, candidate.token))
    }

    pub(crate) fn timeout(&self) -> Option<Micros> {
        let at_once = self.response.map(|_| Micros(0));
        at_once.or(self.candidate.map(|candidate| candidate.ask_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Path {
        let ip = core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);
        core::net::SocketAddr::new(ip, port).into()
    }

    fn here() -> Path {
        address(1)
    }

    fn there() -> Path {
        address(2)
    }

    #[test]
    fn an_address_is_believed_when_it_answers() {
        let mut roaming = Roaming::new(here(), 7);
        roaming.came_from(here(), Micros(0));
        assert_eq!((roaming.timeout(), roaming.take_challenge(Micros(9), 10)), (None, None));
        roaming.came_from(there(), Micros(5));
        let token = roaming.candidate.unwrap().token;
        assert!(!roaming.answered(token), "it was not asked yet");
        assert_eq!(roaming.take_challenge(Micros(5), 10), Some((there(), token)));
        assert_eq!(roaming.take_challenge(Micros(6), 10), None);
        assert!(!roaming.answered(token + 1));
        assert_eq!(roaming.path(), here());
        assert!(roaming.answered(token));
        assert_eq!(roaming.path(), there());
        assert!(!roaming.answered(token));
    }

    #[test]
    fn who_does_not_answer_is_asked_a_few_times() {
        let mut roaming = Roaming::new(here(), 7);
        roaming.came_from(there(), Micros(0));
        let mut asked = 0;
        while let Some(at) = roaming.timeout() {
            asked += u32::from(roaming.take_challenge(at, 1_000_000).is_some());
        }
        assert_eq!(asked, u32::from(CHALLENGES_MAX));
        roaming.came_from(there(), Micros(99));
        roaming.came_from(here(), Micros(99));
        assert_eq!(roaming.timeout(), None);
        roaming.challenged(there(), 3);
        assert_eq!(roaming.timeout(), Some(Micros(0)));
        assert_eq!((roaming.take_response(), roaming.take_response()), (Some((there(), 3)), None));
    }
}
