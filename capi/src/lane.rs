//! One thread of a proxy: its worker, whatever its connections come from and go to. Whoever drives it
//! or looks at it has it alone.

use crate::carriers::UdpHub;
use crate::chosen::Chooser;
use crate::links::{FromLinks, ToLink};
use crate::outside::{Outside, Teller};
use crate::setup::{Fixed, Heard, Setup, Targets};
use crate::shape::Shape;
use crate::talk::{ClientSeat, Talk, Talking};
use seaprox::handshake::Handshaking;
use seaprox::side::{Description, SideKey};
use seaprox::sys::{Errno, Linux, OwnedFd, RawFd, SysResult};
use seaprox::table::Table;
use seaprox::transport::{Dest, Observer, Source};
use seaprox::worker::Worker;
use seaprox_tcp::resolve::NoNames;
use seaprox_tcp::{Dialer, Listener, Listeners};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// After so many turns a proxy that was told to stop has ended: each retires what it has room for,
/// and there are no more connections than that.
const STOP_TURNS_MAX: usize = 1 << 16;

/// What is done with a worker, whatever it joins.
trait Turns {
    fn turn(&mut self, limit_millis: Option<u32>) -> SysResult<bool>;
    fn timeout(&mut self) -> Option<u32>;
    fn fd(&self) -> RawFd;
    fn table(&self) -> &Table<'static>;
    fn describe(&self, connection: usize) -> Description;
    fn set_data(&mut self, side: SideKey, data: u64) -> bool;
}

impl<S, D, O> Turns for Worker<'static, Linux, S, D, O>
where
    S: Source<Linux>,
    D: Dest<Linux, S::Target>,
    O: Observer,
{
    fn turn(&mut self, limit_millis: Option<u32>) -> SysResult<bool> {
        self.turn_within(limit_millis)
    }

    fn timeout(&mut self) -> Option<u32> {
        self.timeout()
    }

    fn fd(&self) -> RawFd {
        self.fd()
    }

    fn table(&self) -> &Table<'static> {
        self.table()
    }

    fn describe(&self, connection: usize) -> Description {
        self.describe(connection)
    }

    fn set_data(&mut self, side: SideKey, data: u64) -> bool {
        self.set_data(side, data)
    }
}

/// A worker that dials.
type Dialing<S> = Worker<'static, Linux, S, Dialer<'static, Linux, NoNames, Chooser>, Teller>;
/// A worker whose dests C reaches.
type Asking<S> = Worker<'static, Linux, S, Outside, Teller>;
/// A worker whose dests are at the far end of a link.
type Linking<S> = Worker<'static, Linux, S, ToLink, Teller>;

/// Clients that say nothing but what is for the dest.
type Plain = Listeners<Linux>;
/// Clients that say first what they want.
type Told = Handshaking<'static, Talking, Plain>;

/// Every kind of worker: each is compiled on its own, so none asks what another would have to.
#[allow(clippy::large_enum_variant)] // it stays where it is
enum AnyWorker {
    Dialing(Dialing<Plain>),
    Asking(Asking<Plain>),
    Linking(Linking<Plain>),
    ToldDialing(Dialing<Told>),
    ToldAsking(Asking<Told>),
    ToldLinking(Linking<Told>),
    LinkedDialing(Dialing<FromLinks>),
    LinkedAsking(Asking<FromLinks>),
    LinkedLinking(Linking<FromLinks>),
}

/// Does the same with the worker that there is.
macro_rules! each {
    ($worker:expr, $one:ident => $call:expr) => {
        match $worker {
            AnyWorker::Dialing($one) => $call,
            AnyWorker::Asking($one) => $call,
            AnyWorker::Linking($one) => $call,
            AnyWorker::ToldDialing($one) => $call,
            AnyWorker::ToldAsking($one) => $call,
            AnyWorker::ToldLinking($one) => $call,
            AnyWorker::LinkedDialing($one) => $call,
            AnyWorker::LinkedAsking($one) => $call,
            AnyWorker::LinkedLinking($one) => $call,
        }
    };
}

/// Where connections come from.
#[allow(clippy::large_enum_variant)] // it goes into a worker at once
enum From {
    Plain(Plain),
    Told(Told),
    Links(FromLinks),
}

/// Where they go.
#[allow(clippy::large_enum_variant)] // as above
enum To {
    Dialer(Dialer<'static, Linux, NoNames, Chooser>),
    Outside(Outside),
    Link(ToLink),
}

/// What threads refer to for as long as they run.
pub(crate) struct Ground {
    pub(crate) fixed: &'static Fixed,
    pub(crate) targets: &'static Targets<'static>,
    /// The socket that links come in at, if all threads share it.
    pub(crate) link_socket: &'static OnceLock<OwnedFd>,
    pub(crate) shape: Shape,
}

/// One thread's.
pub(crate) struct Lane {
    worker: Option<AnyWorker>,
    ended: bool,
    /// What its links over udp share: where they come in, and where they go.
    hubs: [Option<&'static UdpHub>; 2],
}

impl Lane {
    /// A thread that was not started.
    pub(crate) const NONE: Lane = Lane { worker: None, ended: false, hubs: [None; 2] };

    /// Makes a thread that waits to be driven.
    ///
    /// # Errors
    /// The kernel gave no epoll, no eventfd, or nothing that is unpredictable.
    pub(crate) fn start(
        &mut self,
        setup: &mut Setup,
        ground: &Ground,
        thread: u32,
        table: Table<'static>,
    ) -> Result<(), Errno> {
        let (options, teller) = (setup.worker_options(ground.fixed), Teller(setup.observer));
        let seats = setup.take_seats(table.capacity());
        let (from, hub) = from(setup, ground, thread, seats)?;
        self.hubs[0] = hub;
        let (to, hub) = to(setup, ground, thread)?;
        self.hubs[1] = hub;
        /// One worker of each kind.
        macro_rules! join {
            ($kind:ident, $source:expr, $dest:expr) => {
                AnyWorker::$kind(Worker::new(Linux, table, $source, $dest, teller, options)?)
            };
        }
        self.worker = Some(match (from, to) {
            (From::Plain(from), To::Dialer(to)) => join!(Dialing, from, to),
            (From::Plain(from), To::Outside(to)) => join!(Asking, from, to),
            (From::Plain(from), To::Link(to)) => join!(Linking, from, to),
            (From::Told(from), To::Dialer(to)) => join!(ToldDialing, from, to),
            (From::Told(from), To::Outside(to)) => join!(ToldAsking, from, to),
            (From::Told(from), To::Link(to)) => join!(ToldLinking, from, to),
            (From::Links(from), To::Dialer(to)) => join!(LinkedDialing, from, to),
            (From::Links(from), To::Outside(to)) => join!(LinkedAsking, from, to),
            (From::Links(from), To::Link(to)) => join!(LinkedLinking, from, to),
        });
        Ok(())
    }

    /// # Errors
    /// EINVAL: it was not started. ESHUTDOWN: it was told to end, and nothing is left.
    fn worker(&mut self) -> Result<&mut dyn Turns, Errno> {
        match &mut self.worker {
            Some(worker) => Ok(each!(worker, one => one)),
            None if self.ended => Err(Errno::SHUTDOWN),
            None => Err(Errno::INVAL),
        }
    }

    /// One turn.
    ///
    /// # Errors
    /// EINVAL: it was not started. ESHUTDOWN: it was told to end, and nothing is left, now or before.
    /// What the kernel says if it refuses to wait.
    pub(crate) fn turn(&mut self, limit_millis: Option<u32>) -> Result<(), Errno> {
        if self.worker()?.turn(limit_millis)? {
            return Ok(());
        }
        self.ended = true;
        // Its links say goodbye: their far ends wait for that.
        self.worker = None;
        Err(Errno::SHUTDOWN)
    }

    /// In how many milliseconds it must be turned; `None`: when its descriptor is readable.
    ///
    /// # Errors
    /// EINVAL: it was not started. ESHUTDOWN: it has ended.
    pub(crate) fn timeout(&mut self) -> Result<Option<u32>, Errno> {
        self.worker().map(Turns::timeout)
    }

    /// Its epoll.
    ///
    /// # Errors
    /// As [`Lane::timeout`].
    pub(crate) fn fd(&mut self) -> Result<RawFd, Errno> {
        self.worker().map(|worker| worker.fd())
    }

    /// Its table.
    ///
    /// # Errors
    /// As [`Lane::timeout`].
    pub(crate) fn table(&mut self) -> Result<&Table<'static>, Errno> {
        self.worker().map(|worker| worker.table())
    }

    /// A connection in words.
    ///
    /// # Errors
    /// As [`Lane::timeout`]. ENOENT: there is no such connection.
    pub(crate) fn describe(&mut self, connection: usize) -> Result<Description, Errno> {
        let worker = self.worker()?;
        if worker.table().holds(connection) {
            Ok(worker.describe(connection))
        } else {
            Err(Errno::NOENT)
        }
    }

    /// Gives a side the embedder's own word.
    ///
    /// # Errors
    /// As [`Lane::timeout`]. ENOENT: there is no such connection.
    pub(crate) fn set_data(&mut self, side: SideKey, data: u64) -> Result<(), Errno> {
        if self.worker()?.set_data(side, data) { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// Ends what runs, after the order to stop, and gives the worker up.
    pub(crate) fn end(&mut self) {
        for _ in 0..STOP_TURNS_MAX {
            if self.turn(Some(0)).is_err() {
                break;
            }
        }
        self.worker = None;
        // No link uses them any more.
        self.hubs.into_iter().flatten().for_each(UdpHub::close);
        self.hubs = [None; 2];
    }
}

/// Where a thread's connections come from.
fn from(
    setup: &mut Setup,
    ground: &Ground,
    thread: u32,
    seats: Option<(Talk, &'static mut [ClientSeat])>,
) -> Result<(From, Option<&'static UdpHub>), Errno> {
    if let Some(links) = &mut setup.from_links {
        let (source, hub) = links.take(thread, ground.link_socket)?;
        return Ok((From::Links(source), hub));
    }
    let listen = |heard: &Heard| Listener::new(Linux, heard.fd.as_raw_fd(), heard.at_end);
    let plain = Listeners::new(setup.listeners.iter().map(|heard| (listen(heard), ())));
    let from = match seats {
        Some((talk, seats)) => {
            let millis = talk.timeout_millis;
            From::Told(Handshaking::new(Talking::new(talk), plain, seats, millis))
        }
        None => From::Plain(plain),
    };
    Ok((from, None))
}

/// Where they go.
fn to(
    setup: &mut Setup,
    ground: &Ground,
    thread: u32,
) -> Result<(To, Option<&'static UdpHub>), Errno> {
    if let Some(link) = &mut setup.to_link {
        let (dest, hub) = link.take(thread)?;
        return Ok((To::Link(dest), hub));
    }
    if let Some(callback) = setup.connector {
        let outside = Outside::new(callback, setup.connect_millis, ground.shape, thread);
        return Ok((To::Outside(outside), None));
    }
    let chooser =
        Chooser { has_targets: setup.has_targets(), addresses: setup.from_links.is_none() };
    let options = setup.dial_options();
    Ok((To::Dialer(Dialer::choosing(Linux, ground.targets, chooser, NoNames, options)), None))
}
