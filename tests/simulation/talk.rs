//! What a client and the proxy type in front of the listener say to each other before bytes flow, from
//! the client's side: what it means to say, all at once or as it is answered, and what it must hear.
//! Knows no proxy and no socket.

use crate::front::{Fate, Front, Kind};
use crate::rounds;
use core::fmt;
use seaprox::fail::FailReason;
use seaprox::sim::Random;

/// What it was told in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Connected,
    Refused(u8),
}

/// Why it never comes to the end of what it has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Falters {
    /// It says nothing more and waits.
    Waits,
    /// It says nothing more, and its kernel says so.
    Ends,
}

#[derive(Clone)]
pub(crate) struct Talk {
    kind: Kind,
    hello: Vec<u8>,
    /// How much of that is said only once so much was heard.
    barriers: Vec<(usize, usize)>,
    /// Its stream begins only once it was told that it is connected.
    waits: bool,
    falters: Option<Falters>,
    /// It says all it meant to, whatever it is told.
    goes_on: bool,
    /// How much it says at a time.
    pub(crate) write_bytes: usize,
    /// What is answered before the outcome, and with what it is rejected if it does wrong.
    answers: Vec<Vec<u8>>,
    rejection: Option<Vec<u8>>,
    pub(crate) fate: Fate,
    pub(crate) said: usize,
    /// Answers so far, and their bytes.
    answered: usize,
    heard: usize,
    /// The beginning of the next.
    message: Vec<u8>,
    pub(crate) told: Option<Told>,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk")
            .field("kind", &self.kind)
            .field("hello", &self.hello.len())
            .field("waits", &(self.barriers.len(), self.waits))
            .field("falters", &(self.falters, self.goes_on))
            .field("rejection", &self.rejection)
            .field("fate", &self.fate)
            .field("said", &self.said)
            .field("answered", &(self.answered, self.answers.len()))
            .field("told", &self.told)
            .finish()
    }
}

impl Talk {
    /// What one client will say.
    pub(crate) fn draw(random: &mut Random, front: &Front) -> Talk {
        let mut exchanges = front.draw_exchanges(random);
        let (mut last, mut fate) = front.draw_wish(random);
        let mut rejection = None;
        let whim = random.below(8);
        if whim == 0 {
            let (at, wrong, answer) = front.draw_wrong(random, exchanges.len());
            exchanges.truncate(at);
            (last, fate) = (wrong, Fate::Refused(answer.get(1).map(|&code| vec![code])));
            rejection = Some(answer);
        }
        let pipelines = random.below(2) == 0;
        let (mut hello, mut barriers, mut told) = (Vec::new(), Vec::new(), 0);
        for (said, answer) in &exchanges {
            if !pipelines {
                barriers.push((hello.len(), told));
            }
            hello.extend(said);
            told += answer.len();
        }
        if !pipelines {
            barriers.push((hello.len(), told));
        }
        hello.extend(last);
        let falters =
            (whim == 1).then(|| random.pick(&[Falters::Waits, Falters::Waits, Falters::Ends]));
        if falters.is_some() {
            hello.truncate(random.below(hello.len()));
            fate = Fate::Refused(Some(vec![]));
        }
        Talk {
            kind: front.kind,
            write_bytes: random.scaled(hello.len().max(1)),
            hello,
            barriers,
            waits: random.below(2) == 0,
            falters,
            goes_on: falters.is_none() && random.below(4) == 0,
            answers: exchanges.into_iter().map(|(_, answer)| answer).collect(),
            rejection,
            fate,
            said: 0,
            answered: 0,
            heard: 0,
            message: Vec::new(),
            told: None,
        }
    }

    /// How long all is that it has to say before its stream.
    pub(crate) fn bytes(&self) -> usize {
        self.hello.len()
    }

    /// What it can say now.
    pub(crate) fn next(&self) -> &[u8] {
        if self.has_given_up() {
            return &[];
        }
        let unmet = self.barriers.iter().find(|(_, heard)| self.heard < *heard);
        let end = unmet.filter(|_| self.told.is_none()).map_or(self.hello.len(), |(at, _)| *at);
        let end = end.clamp(self.said, self.hello.len());
        &self.hello[self.said..end]
    }

    /// Whether its stream may begin once it has said so much.
    pub(crate) fn is_through(&self, said: usize) -> bool {
        said == self.hello.len()
            && self.falters.is_none()
            && !self.has_given_up()
            && (!self.waits || self.told.is_some())
    }

    /// It was refused, and says nothing more; or it ends in the midst of what it had to say.
    pub(crate) fn has_given_up(&self) -> bool {
        let ends = self.falters == Some(Falters::Ends) && self.said == self.hello.len();
        ends || matches!(self.told, Some(Told::Refused(_))) && !self.goes_on
    }

    /// Hears what it is told, up to the outcome; gives how many bytes that was.
    ///
    /// # Errors
    /// It makes no sense.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<usize, String> {
        for (at, &byte) in bytes.iter().enumerate() {
            if self.told.is_some() {
                return Ok(at);
            }
            self.message.push(byte);
            if self.message.len() == self.message_bytes()? {
                self.hear_message()?;
                self.message.clear();
            }
        }
        Ok(bytes.len())
    }

    /// How long the message is that has begun.
    fn message_bytes(&self) -> Result<usize, String> {
        match (self.kind, self.message[0]) {
            (Kind::Socks { .. }, _) => {
                let answer = self.answers.get(self.answered).map(Vec::len);
                let rejection = self.rejection.as_ref().map_or(0, Vec::len);
                Ok(answer.unwrap_or(if rejection > 0 { rejection } else { 10 }))
            }
            (Kind::Rounds, rounds::WELCOME) => Ok(1),
            (Kind::Rounds, rounds::HEARD) => Ok(3),
            (Kind::Rounds, rounds::OUTCOME) => Ok(2),
            (Kind::Rounds, byte) => Err(format!("was told {byte}")),
        }
    }

    fn hear_message(&mut self) -> Result<(), String> {
        if self.answers.get(self.answered) == Some(&self.message) {
            self.answered += 1;
            self.heard += self.message.len();
            return Ok(());
        }
        let code = match (self.kind, &self.message[..]) {
            (Kind::Socks { .. }, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]) => code,
            (Kind::Rounds, &[rounds::OUTCOME, code]) => code,
            (_, message) if self.rejection.as_deref() == Some(message) => message[1],
            (_, message) => return Err(format!("was told {message:?}")),
        };
        let is_all = self.answered == self.answers.len() && self.said == self.hello.len();
        self.told = match code {
            0 if is_all => Some(Told::Connected),
            0 => return Err("was let through too early".into()),
            code => Some(Told::Refused(code)),
        };
        Ok(())
    }

    /// Whether it was told what it had to be. `anything`: calls failed that can make anybody be
    /// refused.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn judge(&self, ended_in_order: bool, anything: bool) -> Result<(), String> {
        let timed_out = match self.kind {
            Kind::Socks { .. } => 6,
            Kind::Rounds => FailReason::TimedOut as u8,
        };
        match (self.told, &self.fate) {
            (None, _) if ended_in_order => Err("an end in order instead of an answer".into()),
            (Some(Told::Connected), Fate::Refused(_)) => Err("was let through".into()),
            (Some(Told::Refused(code)), fate) if code != timed_out && !anything => match fate {
                Fate::Refused(None) => Ok(()),
                Fate::Refused(Some(codes)) if codes.contains(&code) => Ok(()),
                fate => Err(format!("was refused with {code}: {fate:?}")),
            },
            _ => Ok(()),
        }
    }
}
