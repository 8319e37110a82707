//! Who asks for a link, or for new keys of one. Knows neither when to give up nor where its datagrams
//! go.
//!
//! Invariants: every INIT is a handshake of its own, with a key drawn for it and a clock after all
//! before; only the newest can be answered. However many answers come, INITs are sent at most twice as
//! often as without any. Whatever comes that is not sealed by the peer leaves the handshake as it was.

use crate::aead::Algorithm;
use crate::agreed::{Agreed, Keys, Terms};
use crate::keys::{Identity, Peer, Secret};
use crate::mac::{self, Label, MAC_BYTES};
use crate::message::{
    ANSWER_BYTES, Answer, HEAD_BYTES, INIT_BYTES, INIT_NOISE_END, Kind, Offer, Outcome, VERSION,
    at, bit, head, index_of, kind_of, prologue, put,
};
use crate::suite::{Handshake, Wiped, handshake, with_psk};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use seaprox::fail::FailReason;
use zeroize::Zeroize;

/// After the first INIT the next waits so long, and each one twice as long as that before.
const RETRY_MICROS: u64 = 250_000;

/// But no longer than this; an answer that takes longer comes too late for ever, since only the newest
/// INIT can be answered.
const RETRY_MICROS_MAX: u64 = 4_000_000;

/// A cookie is good for so long at least: the responder's secret changes as often, and the one before
/// is still known.
const COOKIE_MICROS: u64 = crate::responder::COOKIE_MICROS;

/// What the INITs to one peer show, one after the other, for as long as the program runs: a peer answers
/// none that shows less than the one before.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: u64,
}

impl Clock {
    /// Showed nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Clock { last: 0 }
    }

    /// Microseconds since 1970, as far as is known; but more than before.
    fn next(&mut self, wall_micros: u64) -> u64 {
        self.last = self.last.saturating_add(1).max(wall_micros);
        self.last
    }

    /// The peer says that it saw this one.
    fn saw(&mut self, clock: u64) {
        self.last = self.last.max(clock);
    }
}

/// Two ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'k> {
    /// This one.
    pub own: &'k Identity,
    /// The one who is asked.
    pub peer: &'k Peer,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A link that is not there yet; its keys are in slot 0.
    Link,
    /// New keys for a link.
    Renewal {
        /// The link, as the responder counts.
        peer_index: u32,
        /// Where the keys will be: [`crate::keyring::Keyring::next_slot`].
        slot: u8,
    },
}

/// What a datagram was to the one who asked.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap for keys")]
pub enum Heard {
    /// Nothing: it is not of this attempt, or not whole, or too late.
    Ignored,
    /// An INIT is due sooner: the far end wants to see that this address is real, or a later clock.
    Again,
    /// It answers this attempt, and was not sealed by the peer, or with another psk. Others may have
    /// made it up, so the attempt goes on; over a carrier on which nobody can, it is
    /// [`FailReason::Auth`].
    Unproven,
    /// There is a link, or there are new keys.
    Agreed(Agreed),
    /// There will be none. VERSIONS, which tell of [`FailReason::Version`], anybody on the path can make
    /// up who knows the peer's public key; who is on the path can as well let nothing through.
    Refused(FailReason),
}

/// Whether an answer made an INIT due before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// Not since the last one that was due by time.
    No,
    /// The one that is due.
    Due,
    /// The last one: no other before one is due by time.
    Done,
}

/// The newest INIT.
struct Sent {
    handshake: Handshake,
    clock: u64,
    mac1: [u8; MAC_BYTES],
    at_micros: u64,
}

/// One attempt at a link, or at new keys. Time is in microseconds of any clock that does not go back.
pub struct Initiator {
    index: u32,
    purpose: Purpose,
    terms: Terms,
    cookie: Option<([u8; MAC_BYTES], u64)>,
    /// INITs that went by time, and the last of all.
    sends: u32,
    sent: Option<Sent>,
    /// When the next one is due.
    due_micros: u64,
    haste: Haste,
    /// It was accepted or refused.
    is_over: bool,
}

impl Initiator {
    /// For the link that has this index here.
    #[must_use]
    pub const fn new(index: u32, purpose: Purpose, terms: Terms, now_micros: u64) -> Self {
        Initiator {
            index,
            purpose,
            terms,
            cookie: None,
            sends: 0,
            sent: None,
            due_micros: now_micros,
            haste: Haste::No,
            is_over: false,
        }
    }

    /// When an INIT is to be sent, in microseconds; `None`: no more.
    #[must_use]
    pub fn due_micros(&self) -> Option<u64> {
        (!self.is_over).then_some(self.due_micros)
    }

    /// The INIT to be sent now, if one is due; it counts as sent. `wall_micros` is the time since 1970
    /// as well as it is known; `random` 32 bytes that were drawn for this INIT and are used for nothing
    /// else. About 130 microseconds.
    pub fn init(
        &mut self,
        ends: Ends<'_>,
        clock: &mut Clock,
        now_micros: u64,
        wall_micros: u64,
        random: [u8; 32],
    ) -> Option<[u8; INIT_BYTES]> {
        let ephemeral = Secret::from_random(random);
        self.due_micros().filter(|&due| due <= now_micros)?;
        self.due_micros = now_micros.saturating_add(self.wait_micros());
        let clock = clock.next(wall_micros);
        let offer = self.offer(clock).encode();
        let mut bytes = [0; INIT_BYTES];
        let head = head(Kind::Init, VERSION, VERSION, self.index);
        put(&mut bytes, 0, &head);
        let prologue = prologue(self.terms.carrier, &head);
        let peer = ends.peer.public();
        let mut handshake = handshake(ends.own, Some(peer.bytes()), &ephemeral, &prologue);
        // It fails for no key that is a `Public`.
        handshake.write_message(&offer, bytes.get_mut(HEAD_BYTES..INIT_NOISE_END)?).ok()?;
        let mac1 = put_macs(&mut bytes, ends.peer, self.cookie(now_micros));
        self.sent = Some(Sent { handshake, clock, mac1, at_micros: now_micros });
        Some(bytes)
    }

    /// A datagram came from where the INITs go. About 100 microseconds for a RESPONSE to the newest
    /// INIT, else about one.
    pub fn hear(
        &mut self,
        ends: Ends<'_>,
        clock: &mut Clock,
        now_micros: u64,
        datagram: &[u8],
    ) -> Heard {
        if self.is_over || index_of(datagram) != Some(self.index) {
            return Heard::Ignored;
        }
        let heard = match kind_of(datagram) {
            Some(Kind::Response) => self.response(ends, clock, now_micros, datagram),
            Some(Kind::Cookie) => self.cookie_came(ends, now_micros, datagram),
            Some(Kind::Versions) => self.versions(ends, datagram),
            Some(Kind::Init) | None => None,
        };
        let heard = heard.unwrap_or(Heard::Ignored);
        self.is_over = matches!(heard, Heard::Agreed(_) | Heard::Refused(_));
        if self.is_over {
            self.sent = None;
        }
        heard
    }

    /// An INIT goes now: how long the next one waits. One that was hastened counts for nothing.
    fn wait_micros(&mut self) -> u64 {
        if self.haste == Haste::Due {
            self.haste = Haste::Done;
        } else {
            self.haste = Haste::No;
            self.sends = self.sends.saturating_add(1);
        }
        // More doublings are beyond the greatest wait anyway.
        let wait = RETRY_MICROS << self.sends.saturating_sub(1).min(8);
        wait.min(RETRY_MICROS_MAX)
    }

    const fn offer(&self, clock: u64) -> Offer {
        let (renews, slot) = match self.purpose {
            Purpose::Link => (None, 0),
            Purpose::Renewal { peer_index, slot } => (Some(peer_index), slot),
        };
        Offer {
            clock,
            parameters: self.terms.parameters,
            algorithms: bit(Algorithm::Aes128Gcm) | bit(Algorithm::ChaCha20Poly1305),
            preferred: self.terms.preferred as u8,
            slot,
            renews,
        }
    }

    fn cookie(&self, now_micros: u64) -> Option<&[u8; MAC_BYTES]> {
        let (cookie, at_micros) = self.cookie.as_ref()?;
        (now_micros.saturating_sub(*at_micros) < COOKIE_MICROS).then_some(cookie)
    }

    fn response(
        &mut self,
        ends: Ends<'_>,
        clock: &mut Clock,
        now_micros: u64,
        datagram: &[u8],
    ) -> Option<Heard> {
        let sent = self.sent.as_ref()?;
        let (front, mac1) = datagram.split_last_chunk::<MAC_BYTES>()?;
        let (first, noise) = front.split_first_chunk::<HEAD_BYTES>()?;
        let key = mac::key(Label::Mac1, ends.own.public().bytes());
        let is_whole = mac::is_same(&mac::mac(&key, &[front]), mac1);
        if !is_whole || *first != head(Kind::Response, 0, 0, self.index) {
            return None;
        }
        // The handshake stays as it is if this was made up.
        let mut handshake = sent.handshake.clone();
        let mut answer = [0; ANSWER_BYTES];
        let read = with_psk(&mut handshake, ends.peer.psk(), |handshake| {
            handshake.read_message(noise, &mut answer)
        });
        if read.is_err() {
            return Some(Heard::Unproven);
        }
        let answer = Answer::decode(&answer)?;
        match answer.outcome {
            Outcome::Refused(reason) => Some(Heard::Refused(reason)),
            Outcome::Clock => {
                if answer.clock < sent.clock {
                    return None;
                }
                clock.saw(answer.clock);
                self.hasten(now_micros)
            }
            Outcome::Link { .. } if answer.version != VERSION => None,
            Outcome::Link { algorithm, sender } => Some(Heard::Agreed(Agreed {
                version: answer.version,
                own_index: self.index,
                peer_index: sender,
                parameters: answer.parameters,
                rtt_micros: Some(now_micros.saturating_sub(sent.at_micros)),
                keys: Keys::of(&handshake, algorithm, self.offer(0).slot, true),
            })),
        }
    }

    fn cookie_came(&mut self, ends: Ends<'_>, now_micros: u64, datagram: &[u8]) -> Option<Heard> {
        let sent = self.sent.as_ref()?;
        if at::<HEAD_BYTES>(datagram, 0) != head(Kind::Cookie, 0, 0, self.index) {
            return None;
        }
        let nonce: [u8; 24] = at(datagram, 8);
        let mut cookie: [u8; MAC_BYTES] = at(datagram, 32);
        let tag: [u8; 16] = at(datagram, 48);
        let key = Wiped::new(mac::key(Label::Cookie, ends.peer.public().bytes()));
        let cipher = XChaCha20Poly1305::new(<&Key>::from(key.bytes()));
        let opened = cipher.decrypt_inout_detached(
            <&XNonce>::from(&nonce),
            &sent.mac1,
            cookie.as_mut_slice().into(),
            <&Tag>::from(&tag),
        );
        if opened.is_err() {
            return None;
        }
        self.cookie = Some((cookie, now_micros));
        cookie.zeroize();
        self.hasten(now_micros)
    }

    fn versions(&self, ends: Ends<'_>, datagram: &[u8]) -> Option<Heard> {
        let sent = self.sent.as_ref()?;
        let (front, tag) = datagram.split_last_chunk::<MAC_BYTES>()?;
        let key = mac::key(Label::Versions, ends.peer.public().bytes());
        let is_answer = mac::is_same(&mac::mac(&key, &[front, &sent.mac1]), tag);
        let [_, version_min, version_max, _] = at(front, 0);
        let has_ours = (version_min..=version_max).contains(&VERSION);
        (is_answer && !has_ours).then_some(Heard::Refused(FailReason::Version))
    }

    /// An INIT is due at once, but for one that was hastened since the last that was due by time.
    fn hasten(&mut self, now_micros: u64) -> Option<Heard> {
        if self.haste != Haste::No {
            return None;
        }
        self.haste = Haste::Due;
        self.due_micros = now_micros;
        Some(Heard::Again)
    }
}

impl core::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Initiator")
            .field("index", &self.index)
            .field("purpose", &self.purpose)
            .field("sends", &self.sends)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// Puts both at the end of an INIT, and says what the first is.
fn put_macs(
    init: &mut [u8; INIT_BYTES],
    peer: &Peer,
    cookie: Option<&[u8; MAC_BYTES]>,
) -> [u8; MAC_BYTES] {
    let key = mac::key(Label::Mac1, peer.public().bytes());
    let mac1 = mac::mac(&key, &[init.split_at(INIT_NOISE_END).0]);
    put(init, INIT_NOISE_END, &mac1);
    if let Some(cookie) = cookie {
        let mac2 = mac::mac(cookie, &[init.split_at(INIT_NOISE_END + MAC_BYTES).0]);
        put(init, INIT_NOISE_END + MAC_BYTES, &mac2);
    }
    mac1
}
