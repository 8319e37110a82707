//! What a dialer is to try for each connection: always the same targets, or what the source says it
//! wants, as far as that may be had. Knows no socket and no resolver, and no wire's form of a wish.
//!
//! Invariant: a place of [`Places`] is taken from the choice of a name until the dial of its side
//! has ended, and a side has at most one.

use arrayvec::ArrayString;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::wanted::{Wanted, Wish};

/// How many targets a dialer can know, those of all services together.
pub const TARGETS_MAX: usize = 128;

/// Names under way at the same time that sources asked for, a thread.
pub const PLACES: usize = 64;

/// A name's longest form: 253 characters (RFC 1035 section 2.3.4) and the final dot.
pub const NAME_BYTES_MAX: usize = 254;

/// Where a dest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'t> {
    /// An internet address.
    Inet(SocketAddr),
    /// A name, looked up when it is wanted, and a port.
    Name(&'t str, u16),
    /// A unix socket's path; a leading `@` means the abstract namespace.
    Unix(&'t [u8]),
}

/// What is tried for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// All targets, in order.
    All,
    /// Some of the targets, in order: their places among all. What lies outside is not there.
    Some(Range<u8>),
    /// An address.
    Address(SocketAddr),
    /// The name in this place, see [`Names::name`].
    Name(u8),
}

/// The names that are dialed for a source that asked for them.
pub trait Names {
    /// The name and the port in a place; `None` if it is vacant.
    fn name(&self, place: u8) -> Option<(&str, u16)>;

    /// The dial of this side has ended, one way or another: its place is vacant from now on. Said of
    /// every side, whether it has a place or not.
    fn forget(&mut self, side: SideKey);
}

/// Chooses what is tried for a connection, `T` being what its source says it wants.
pub trait Targets<T>: Names {
    /// Chooses for the side that is to be connected. Never blocks.
    ///
    /// # Errors
    /// Why nothing is tried at all.
    fn choose(&mut self, side: SideKey, wanted: T) -> Result<Chosen, FailReason>;
}

/// Always all targets.
impl Targets<()> for () {
    fn choose(&mut self, _: SideKey, (): ()) -> Result<Chosen, FailReason> {
        Ok(Chosen::All)
    }
}

impl Names for () {
    fn name(&self, _: u8) -> Option<(&str, u16)> {
        None
    }

    fn forget(&mut self, _: SideKey) {}
}

/// What sources may ask for beside services.
pub trait Allow {
    /// Whether this name may be looked up, and any address that is found be connected to. It must
    /// not permit what a resolver takes for an address, like `127.1` (inet_aton(3)).
    fn permits_name(&self, name: &str, port: u16) -> bool;

    /// Whether this address may be connected to. It is in its canonical form: an IPv4 address is
    /// not written as an IPv6 one.
    fn permits_address(&self, address: SocketAddr) -> bool;
}

/// Nothing.
impl Allow for () {
    fn permits_name(&self, _: &str, _: u16) -> bool {
        false
    }

    fn permits_address(&self, _: SocketAddr) -> bool {
        false
    }
}

impl<A: Allow> Allow for &A {
    fn permits_name(&self, name: &str, port: u16) -> bool {
        (**self).permits_name(name, port)
    }

    fn permits_address(&self, address: SocketAddr) -> bool {
        (**self).permits_address(address)
    }
}

/// A name for some of the dialer's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service<'t> {
    /// What sources call it; empty for those that ask for none.
    pub name: &'t [u8],
    /// Which of the dialer's targets, tried in order.
    pub targets: Range<u8>,
}

/// A name under way.
struct Place {
    /// Whose dial it is; `None` is vacant.
    side: Option<SideKey>,
    port: u16,
    name: ArrayString<NAME_BYTES_MAX>,
}

impl Place {
    const VACANT: Place = Place { side: None, port: 0, name: ArrayString::new_const() };
}

/// Where the names that sources asked for lie while they are dialed: one for each thread.
pub struct Places([Place; PLACES]);

impl Places {
    /// The bytes of its memory.
    pub const MEMORY_BYTES: usize = size_of::<Self>();

    /// All vacant.
    pub const fn new() -> Self {
        Places([const { Place::VACANT }; PLACES])
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets sources choose among services, and among what `A` allows.
///
/// A connect takes O(services) to choose, a name O([`PLACES`]) to choose and to forget.
///
/// ```
/// use seaprox::fail::FailReason;
/// use seaprox::side::SideKey;
/// use seaprox::wanted::{Wanted, Wish};
/// use seaprox_tcp::{Chosen, Places, Service, Services, Targets};
///
/// // Of the dialer's three targets the first two are `web`, which is what is meant without a name as well.
/// let services = [
///     Service { name: b"", targets: 0..2 },
///     Service { name: b"web", targets: 0..2 },
///     Service { name: b"mail", targets: 2..3 },
/// ];
/// let mut places = Places::new();
/// let mut chooser = Services::new(&services, (), &mut places);
/// let mut choose = |wanted| chooser.choose(SideKey::dest(0), Wish::new(wanted).unwrap());
/// assert_eq!(choose(Wanted::Service(b"mail")), Ok(Chosen::Some(2..3)));
/// assert_eq!(choose(Wanted::Service(b"news")), Err(FailReason::NoSuchService));
/// assert_eq!(choose(Wanted::Name(b"example.org", 80)), Err(FailReason::Denied));
/// ```
pub struct Services<'t, A> {
    services: &'t [Service<'t>],
    allow: A,
    places: &'t mut Places,
    /// How many places are taken.
    taken: usize,
}

impl<'t, A: Allow> Services<'t, A> {
    /// The first of several services with the same name counts. Places that were taken are vacated.
    pub fn new(services: &'t [Service<'t>], allow: A, places: &'t mut Places) -> Self {
        for place in &mut places.0 {
            place.side = None;
        }
        Services { services, allow, places, taken: 0 }
    }

    /// What sources may ask for beside services, for where that depends on who they are.
    pub fn allow_mut(&mut self) -> &mut A {
        &mut self.allow
    }

    /// How many names are under way.
    pub fn taken(&self) -> usize {
        self.taken
    }

    fn choose_name(&mut self, side: SideKey, name: &[u8], port: u16) -> Result<Chosen, FailReason> {
        let name = str::from_utf8(name).map_err(|_| FailReason::Denied)?;
        if let Ok(ip) = name.parse::<IpAddr>() {
            return self.choose_address((ip, port).into());
        }
        let kept = ArrayString::from(name).map_err(|_| FailReason::Denied)?;
        if port == 0 || !self.allow.permits_name(name, port) {
            return Err(FailReason::Denied);
        }
        self.forget(side);
        let mut places = (0..).zip(&mut self.places.0);
        let Some((index, place)) = places.find(|(_, place)| place.side.is_none()) else {
            return Err(FailReason::ResolverFull);
        };
        *place = Place { side: Some(side), port, name: kept };
        self.taken += 1;
        Ok(Chosen::Name(index))
    }

    fn choose_address(&self, address: SocketAddr) -> Result<Chosen, FailReason> {
        // As an IPv6 address an IPv4 one would get past whoever looks at it.
        let ip = address.ip().to_canonical();
        let address = if ip.is_ipv4() { (ip, address.port()).into() } else { address };
        match address.port() != 0 && self.allow.permits_address(address) {
            true => Ok(Chosen::Address(address)),
            false => Err(FailReason::Denied),
        }
    }
}

impl<A: Allow> Targets<Wanted<'_>> for Services<'_, A> {
    /// # Errors
    /// `NoSuchService`, `Denied`, or `ResolverFull` when as many names are under way as there are
    /// places.
    fn choose(&mut self, side: SideKey, wanted: Wanted<'_>) -> Result<Chosen, FailReason> {
        match wanted {
            Wanted::Service(name) => {
                let service = self.services.iter().find(|service| service.name == name);
                let targets = service.ok_or(FailReason::NoSuchService)?.targets.clone();
                Ok(Chosen::Some(targets))
            }
            Wanted::Inet(address) => self.choose_address(address),
            Wanted::Name(name, port) => self.choose_name(side, name, port),
        }
    }
}

impl<A: Allow> Targets<Wish> for Services<'_, A> {
    fn choose(&mut self, side: SideKey, wish: Wish) -> Result<Chosen, FailReason> {
        self.choose(side, wish.wanted())
    }
}

impl<A> Names for Services<'_, A> {
    fn name(&self, place: u8) -> Option<(&str, u16)> {
        let place = self.places.0.get(usize::from(place))?;
        place.side.map(|_| (place.name.as_str(), place.port))
    }

    fn forget(&mut self, side: SideKey) {
        if self.taken == 0 {
            return;
        }
        let mut places = self.places.0.iter_mut();
        if let Some(place) = places.find(|place| place.side == Some(side)) {
            place.side = None;
            self.taken -= 1;
        }
    }
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
