//! Who may connect, of those that say a name and a password: in the words that all proxy types share
//! which ask for them. Knows no file and no proxy type.

/// Who may connect.
///
/// ```
/// use seaprox::passwords::Passwords;
///
/// struct Alice;
///
/// impl Passwords for Alice {
///     fn permits(&self, name: &[u8], password: &[u8]) -> bool {
///         // Of a secret that is worth more: in constant time.
///         name == b"alice" && password == b"secret"
///     }
/// }
///
/// assert!(Alice.asks() && Alice.permits(b"alice", b"secret"));
/// assert!(!().asks());
/// ```
pub trait Passwords {
    /// Whether clients are asked for a name and a password at all; if not, nobody is.
    fn asks(&self) -> bool {
        true
    }

    /// Whether this is the password of a user of this name. Both are of 0 to 255 bytes, or of as many
    /// as the proxy type lets clients say, from outside; how long it takes must not tell how much of a
    /// password is right.
    fn permits(&self, name: &[u8], password: &[u8]) -> bool;
}

/// Everybody.
impl Passwords for () {
    fn asks(&self) -> bool {
        false
    }

    fn permits(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

impl<P: Passwords> Passwords for &P {
    fn asks(&self) -> bool {
        (**self).asks()
    }

    fn permits(&self, name: &[u8], password: &[u8]) -> bool {
        (**self).permits(name, password)
    }
}
