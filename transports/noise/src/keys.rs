//! Keys, as people know them from WireGuard: 32 bytes, written as 44 characters of base64. Knows
//! neither where they are kept nor what is done with them.
//!
//! Invariant: no secret is shown, compared in a time that depends on it, or left behind when it is
//! dropped; no [`Public`] is a point with which every secret agrees on the same.

use base64ct::{Base64, Encoding};
use core::fmt;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The bytes of any key.
pub const KEY_BYTES: usize = 32;

/// The characters of any key, as `wg` prints it: base64 with padding (RFC 4648, section 4).
pub const TEXT_BYTES: usize = 44;

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is not 44 characters of base64.
    Malformed,
    /// All its bytes are zero: nobody drew this at random.
    Zero,
    /// It is a point of low order (RFC 7748, section 6.1): whatever the secret, the outcome is known.
    LowOrder,
    /// The peer's key is the own one: whoever has it is not told apart from this end.
    Own,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Malformed => "a key is 44 characters of base64",
            KeyError::Zero => "a key of nothing but zeroes is no key",
            KeyError::LowOrder => "this public key keeps no secret",
            KeyError::Own => "the peer's key is this end's own",
        })
    }
}

impl core::error::Error for KeyError {}

/// A key as text, overwritten when it is dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Text([u8; TEXT_BYTES]);

impl Text {
    fn new(key: &[u8; KEY_BYTES]) -> Text {
        let mut text = Text([0; TEXT_BYTES]);
        // 32 bytes are 44 characters, so there is always room.
        let _ = Base64::encode(key, &mut text.0);
        text
    }

    /// 44 characters, without a newline.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only base64 was ever written there.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The bytes that a text stands for, in a time that does not depend on them.
fn bytes_of(text: &[u8]) -> Result<[u8; KEY_BYTES], KeyError> {
    let mut bytes = [0; KEY_BYTES];
    let is_key = text.len() == TEXT_BYTES
        && Base64::decode(text, &mut bytes).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    if is_key {
        return Ok(bytes);
    }
    bytes.zeroize();
    Err(KeyError::Malformed)
}

fn is_zero(bytes: &[u8; KEY_BYTES]) -> bool {
    bytes.ct_eq(&[0; KEY_BYTES]).into()
}

/// What only its owner knows.
///
/// ```
/// use seaprox_noise::keys::{KeyError, Secret};
///
/// let secret = Secret::from_random([7; 32]);
/// let text = secret.to_base64();
/// assert_eq!(Secret::from_base64(text.as_str().as_bytes()), Ok(secret));
/// assert_eq!(Secret::from_base64(b"short"), Err(KeyError::Malformed));
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; KEY_BYTES]);

impl Secret {
    /// Of 32 bytes that were drawn at random; made a scalar as RFC 7748, section 5 says, so that it is
    /// printed as `wg genkey` would.
    #[must_use]
    pub fn from_random(mut random: [u8; KEY_BYTES]) -> Secret {
        let mut secret = Secret(random);
        random.zeroize();
        secret.0[0] &= 0b1111_1000;
        secret.0[31] &= 0b0111_1111;
        secret.0[31] |= 0b0100_0000;
        secret
    }

    /// Of the bytes that its text stands for.
    ///
    /// # Errors
    /// [`KeyError::Zero`].
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Result<Secret, KeyError> {
        let secret = Secret(bytes);
        bytes.zeroize();
        if is_zero(&secret.0) { Err(KeyError::Zero) } else { Ok(secret) }
    }

    /// As [`Secret::to_base64`] wrote it, or `wg genkey`.
    ///
    /// # Errors
    /// It is none.
    pub fn from_base64(text: &[u8]) -> Result<Secret, KeyError> {
        Secret::from_bytes(bytes_of(text)?)
    }

    /// Itself, to be kept in a file.
    #[must_use]
    pub fn to_base64(&self) -> Text {
        Text::new(&self.0)
    }

    /// What others know its owner by. About 30 microseconds.
    #[must_use]
    pub fn public(&self) -> Public {
        Public(PublicKey::from(&StaticSecret::from(self.0)).to_bytes())
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What one end is known by.
///
/// ```
/// use seaprox_noise::keys::{KeyError, Public, Secret};
///
/// let public = Secret::from_random([7; 32]).public();
/// assert_eq!(Public::from_base64(public.to_string().as_bytes()), Ok(public));
/// assert_eq!(Public::from_bytes([0; 32]), Err(KeyError::Zero));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Public([u8; KEY_BYTES]);

impl Public {
    /// As [`Public`] is shown, or `wg pubkey` prints it. About 50 microseconds.
    ///
    /// # Errors
    /// It is none, or one that keeps no secret.
    pub fn from_base64(text: &[u8]) -> Result<Public, KeyError> {
        Public::from_bytes(bytes_of(text)?)
    }

    /// Of its bytes. About 50 microseconds.
    ///
    /// # Errors
    /// It keeps no secret.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Public, KeyError> {
        if is_zero(&bytes) {
            return Err(KeyError::Zero);
        }
        // A scalar is a multiple of 8, and so is the order of every other point but for a factor that
        // no scalar has: the outcome is zero for points of low order, and for no others.
        let any = StaticSecret::from([0x5a; KEY_BYTES]);
        let shared = any.diffie_hellman(&PublicKey::from(bytes));
        if shared.was_contributory() { Ok(Public(bytes)) } else { Err(KeyError::LowOrder) }
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Text::new(&self.0).as_str())
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Public({self})")
    }
}

/// What two ends know besides, so that who breaks the curve one day still reads nothing.
///
/// ```
/// use seaprox_noise::keys::{KeyError, Psk};
///
/// assert_ne!(Psk::from_random([7; 32]), Psk::NONE);
/// assert_eq!(Psk::from_bytes([0; 32]), Err(KeyError::Zero));
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; KEY_BYTES]);

impl Psk {
    /// None: 32 zero bytes, as WireGuard has it.
    pub const NONE: Psk = Psk([0; KEY_BYTES]);

    /// Of 32 bytes that were drawn at random.
    #[must_use]
    pub fn from_random(mut random: [u8; KEY_BYTES]) -> Psk {
        let psk = Psk(random);
        random.zeroize();
        psk
    }

    /// Of the bytes that its text stands for.
    ///
    /// # Errors
    /// [`KeyError::Zero`]: whoever names one does not mean [`Psk::NONE`].
    pub fn from_bytes(mut bytes: [u8; KEY_BYTES]) -> Result<Psk, KeyError> {
        let psk = Psk(bytes);
        bytes.zeroize();
        if is_zero(&psk.0) { Err(KeyError::Zero) } else { Ok(psk) }
    }

    /// As [`Psk::to_base64`] wrote it, or `wg genpsk`.
    ///
    /// # Errors
    /// It is none; whoever names one does not mean [`Psk::NONE`].
    pub fn from_base64(text: &[u8]) -> Result<Psk, KeyError> {
        Psk::from_bytes(bytes_of(text)?)
    }

    /// Itself, to be kept in a file.
    #[must_use]
    pub fn to_base64(&self) -> Text {
        Text::new(&self.0)
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl PartialEq for Psk {
    fn eq(&self, other: &Psk) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Psk {}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

/// This end: its secret, and what it is known by.
///
/// ```
/// use seaprox_noise::keys::{Identity, Secret};
///
/// let secret = Secret::from_random([1; 32]);
/// let public = secret.public();
/// assert_eq!(Identity::new(secret).public(), public);
/// ```
#[derive(Debug)]
pub struct Identity {
    secret: Secret,
    public: Public,
}

impl Identity {
    /// Of this secret. About 30 microseconds.
    #[must_use]
    pub fn new(secret: Secret) -> Identity {
        let public = secret.public();
        Identity { secret, public }
    }

    /// What others know it by.
    #[must_use]
    pub const fn public(&self) -> Public {
        self.public
    }

    /// One who says that it is somebody else.
    #[cfg(test)]
    pub(crate) const fn with(secret: Secret, public: Public) -> Identity {
        Identity { secret, public }
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// Somebody else: what it is known by, and what is known besides.
///
/// ```
/// use seaprox_noise::keys::{Identity, KeyError, Peer, Psk, Secret};
///
/// let own = Identity::new(Secret::from_random([1; 32]));
/// let theirs = Secret::from_random([2; 32]).public();
/// let peer = Peer::new(&own, theirs, Psk::NONE)?;
/// assert_eq!(peer.public(), theirs);
/// assert_eq!(Peer::new(&own, own.public(), Psk::NONE), Err(KeyError::Own));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    public: Public,
    psk: Psk,
}

impl Peer {
    /// Of these keys. The own ones are needed to see that they are not the same.
    ///
    /// # Errors
    /// They are.
    pub fn new(own: &Identity, public: Public, psk: Psk) -> Result<Peer, KeyError> {
        if own.public == public { Err(KeyError::Own) } else { Ok(Peer { public, psk }) }
    }

    /// What it is known by.
    #[must_use]
    pub const fn public(&self) -> Public {
        self.public
    }

    pub(crate) const fn psk(&self) -> &Psk {
        &self.psk
    }
}

/// Every point of low order of the curve and its twist, however it is written: 0, 1, two of order 8,
/// p - 1, p, p + 1 (<https://cr.yp.to/ecdh.html#validate>), each with the top bit, which is not looked
/// at, and without.
#[cfg(test)]
pub(crate) fn low_order() -> [[u8; KEY_BYTES]; 14] {
    let negative_or_zero = |low| {
        core::array::from_fn(|at| match at {
            0 => low,
            31 => 0x7f,
            _ => 0xff,
        })
    };
    let one = core::array::from_fn(|at| u8::from(at == 0));
    let points = [
        [0; KEY_BYTES],
        one,
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ],
        negative_or_zero(0xec),
        negative_or_zero(0xed),
        negative_or_zero(0xee),
    ];
    core::array::from_fn(|at| {
        let mut point = points[at / 2];
        point[31] |= if at % 2 == 1 { 0x80 } else { 0 };
        point
    })
}

#[cfg(test)]
mod tests;
