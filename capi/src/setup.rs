//! How a proxy was told to be, before it starts: from where connections come, where they go, who is
//! called. Knows no worker.

use crate::addresses::Place;
use crate::links::{DestEnd, SourceEnd};
use crate::outside::{OnConnect, OnNotice};
use crate::raw::Secrets;
use crate::shape::Shape;
use crate::talk::{ClientSeat, Talk};
use crate::types::{
    Options, SEAPROX_ABI_VERSION, SEAPROX_LISTENERS_MAX, SEAPROX_MAX_NUM_CONNECTIONS,
    SEAPROX_NUM_THREADS, SEAPROX_TARGETS_MAX, SEAPROX_WHEN_FULL_REFUSE, SEAPROX_WHEN_FULL_WAIT,
};
use arrayvec::{ArrayString, ArrayVec};
use seaprox::WhenFull;
use seaprox::relay::PipeLimits;
use seaprox::sys::{Errno, OwnedFd};
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::worker;
use seaprox_tcp::{AtEnd, DialOptions, LISTENERS_MAX, TARGETS_MAX, Target};

/// How long a dest may take, unless the caller says.
const CONNECT_MILLIS: u32 = 10_000;

/// The longest beginning of a description.
const NAME_BYTES_MAX: usize = 15;

const _: () = assert!(SEAPROX_LISTENERS_MAX == LISTENERS_MAX && SEAPROX_TARGETS_MAX <= TARGETS_MAX);

/// A listening socket.
pub(crate) struct Heard {
    pub(crate) fd: OwnedFd,
    pub(crate) at_end: AtEnd,
}

/// What a proxy was told so far.
pub(crate) struct Setup {
    name: ArrayString<NAME_BYTES_MAX>,
    pub(crate) connect_millis: u32,
    idle_millis: Option<u32>,
    half_close_millis: Option<u32>,
    when_full: WhenFull,
    pub(crate) buffer_bytes: Option<usize>,
    pipes: PipeLimits,
    pub(crate) listeners: ArrayVec<Heard, SEAPROX_LISTENERS_MAX>,
    targets: ArrayVec<Place, SEAPROX_TARGETS_MAX>,
    pub(crate) connector: Option<OnConnect>,
    pub(crate) observer: Option<OnNotice>,
    /// What clients talk, and where they sit.
    pub(crate) talk: Option<(Talk, &'static mut [ClientSeat])>,
    /// Links that come in, in place of listeners.
    pub(crate) from_links: Option<SourceEnd>,
    /// Links to go to, in place of targets.
    pub(crate) to_link: Option<DestEnd>,
}

impl Setup {
    /// Reads options; `name` is what theirs points to.
    ///
    /// # Errors
    /// EINVAL: another ABI, more than the library was built for, or a value that means nothing.
    pub(crate) fn read(options: &Options, name: Option<&[u8]>) -> Result<(Shape, Setup), Errno> {
        let shape = shape(options)?;
        let when_full = match options.when_full {
            SEAPROX_WHEN_FULL_WAIT => WhenFull::Wait,
            SEAPROX_WHEN_FULL_REFUSE => WhenFull::Refuse,
            _ => return Err(Errno::INVAL),
        };
        let given = |number: u32| (number != 0).then_some(number);
        let millis = |number: u32| match given(number) {
            Some(millis) if millis > DURATION_MILLIS_MAX => Err(Errno::INVAL),
            given => Ok(given),
        };
        let setup = Setup {
            name: read_name(name.unwrap_or(b"static"))?,
            connect_millis: millis(options.connect_timeout_millis)?.unwrap_or(CONNECT_MILLIS),
            idle_millis: millis(options.idle_timeout_millis)?,
            half_close_millis: millis(options.half_close_timeout_millis)?,
            when_full,
            buffer_bytes: given(options.socket_buffer_bytes).map(|bytes| bytes as usize),
            pipes: pipes(options.pipe_bytes, shape),
            listeners: ArrayVec::new(),
            targets: ArrayVec::new(),
            connector: None,
            observer: None,
            talk: None,
            from_links: None,
            to_link: None,
        };
        Ok((shape, setup))
    }

    /// One more listening socket.
    ///
    /// # Errors
    /// ENOSPC: there are SEAPROX_LISTENERS_MAX. EEXIST: links come in.
    pub(crate) fn hear(&mut self, fd: OwnedFd, at_end: AtEnd) -> Result<(), Errno> {
        if self.from_links.is_some() {
            return Err(Errno::EXIST);
        }
        self.listeners.try_push(Heard { fd, at_end }).map_err(|_| Errno::NOSPC)
    }

    /// One more target.
    ///
    /// # Errors
    /// ENOSPC: there are SEAPROX_TARGETS_MAX. EEXIST: a connector or a link leads to dests.
    pub(crate) fn aim(&mut self, place: Place) -> Result<(), Errno> {
        if self.connector.is_some() || self.to_link.is_some() {
            return Err(Errno::EXIST);
        }
        self.targets.try_push(place).map_err(|_| Errno::NOSPC)
    }

    /// Somebody outside reaches dests.
    ///
    /// # Errors
    /// EEXIST: somebody does already, or there are targets or a link.
    pub(crate) fn connect_by(&mut self, connector: OnConnect) -> Result<(), Errno> {
        if self.goes_somewhere() {
            return Err(Errno::EXIST);
        }
        self.connector = Some(connector);
        Ok(())
    }

    /// Somebody wants to know what happens.
    ///
    /// # Errors
    /// EEXIST: somebody else does already.
    pub(crate) fn tell(&mut self, observer: OnNotice) -> Result<(), Errno> {
        if self.observer.is_some() {
            return Err(Errno::EXIST);
        }
        self.observer = Some(observer);
        Ok(())
    }

    /// A thread's part of what clients talk: what comes after the parts of those before it.
    pub(crate) fn take_seats(&mut self, count: usize) -> Option<(Talk, &'static mut [ClientSeat])> {
        let (talk, seats) = self.talk.take()?;
        let (own, others) = seats.split_at_mut(count.min(seats.len()));
        self.talk = Some((talk, others));
        Some((talk, own))
    }

    /// Whether there are targets of the proxy's own.
    pub(crate) fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Whether it is known where connections come from and where they go.
    pub(crate) fn is_complete(&self) -> bool {
        (self.goes_somewhere() || self.talk.is_some()) && self.comes_from_somewhere()
    }

    /// Whether it is known where connections go.
    pub(crate) fn goes_somewhere(&self) -> bool {
        self.has_targets() || self.connector.is_some() || self.to_link.is_some()
    }

    /// Whether it is known where they come from.
    pub(crate) fn comes_from_somewhere(&self) -> bool {
        !self.listeners.is_empty() || self.from_links.is_some()
    }

    /// What threads refer to.
    pub(crate) fn fix(&self) -> Fixed {
        Fixed { name: self.name, places: self.targets.clone() }
    }

    /// How each worker behaves.
    pub(crate) fn worker_options(&self, fixed: &'static Fixed) -> worker::Options {
        worker::Options {
            proxy: &fixed.name,
            idle_millis: self.idle_millis,
            half_close_millis: self.half_close_millis,
            when_full: self.when_full,
            pipes: self.pipes,
            ..worker::Options::default()
        }
    }

    /// How dests are dialed.
    pub(crate) fn dial_options(&self) -> DialOptions {
        DialOptions {
            connect_millis: self.connect_millis,
            buffer_bytes: self.buffer_bytes,
            ..DialOptions::default()
        }
    }

    /// Closes what was opened, and what was taken over.
    pub(crate) fn end(&mut self) {
        self.talk = None;
        let secrets = [
            self.from_links.take().and_then(|end| end.secrets),
            self.to_link.take().and_then(|end| end.secrets),
        ];
        secrets.into_iter().flatten().for_each(Secrets::wipe);
        self.listeners.clear();
    }
}

/// Where connections go, as a dialer has it.
pub(crate) type Targets<'t> = ArrayVec<Target<'t>, SEAPROX_TARGETS_MAX>;

/// What does not change once a proxy has started.
pub(crate) struct Fixed {
    name: ArrayString<NAME_BYTES_MAX>,
    places: ArrayVec<Place, SEAPROX_TARGETS_MAX>,
}

impl Fixed {
    /// Where connections go.
    pub(crate) fn targets(&self) -> Targets<'_> {
        let target = |place| match place {
            &Place::Inet(address) => Target::Inet(address),
            Place::Unix(path) => Target::Unix(path),
        };
        self.places.iter().map(target).collect()
    }
}

fn shape(options: &Options) -> Result<Shape, Errno> {
    let connections = match options.connections {
        0 => SEAPROX_MAX_NUM_CONNECTIONS as u32,
        connections => connections,
    };
    let shape = Shape { connections, threads: options.threads.max(1) };
    let fits = shape.connections <= SEAPROX_MAX_NUM_CONNECTIONS as u32
        && shape.threads <= SEAPROX_NUM_THREADS as u32
        && shape.threads <= shape.connections;
    if fits && options.abi_version == SEAPROX_ABI_VERSION { Ok(shape) } else { Err(Errno::INVAL) }
}

fn read_name(name: &[u8]) -> Result<ArrayString<NAME_BYTES_MAX>, Errno> {
    let is_word = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let name = str::from_utf8(name).ok().filter(|name| is_word && !name.is_empty());
    name.and_then(|name| ArrayString::from(name).ok()).ok_or(Errno::INVAL)
}

/// Each thread's part of the memory for pipes.
fn pipes(bytes: u64, shape: Shape) -> PipeLimits {
    /// What an unprivileged user may have (pipe(7), pipe-user-pages-soft: 16,384 pages).
    const USUAL_BYTES: u64 = 64 << 20;
    let bytes = if bytes == 0 { USUAL_BYTES } else { bytes };
    let bytes = usize::try_from(bytes / u64::from(shape.threads)).unwrap_or(usize::MAX);
    PipeLimits::of(shape.connections.div_ceil(shape.threads) as usize, bytes)
}
