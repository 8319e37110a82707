//! The callbacks: who reaches dests outside, and who is told what happens. Each knows its function in
//! C and what that is given; nothing is kept of an answer.

use crate::addresses;
use crate::shape::Shape;
use crate::types::{
    Connector, Notice, Observer, SEAPROX_ADDRESS_SIZE, SEAPROX_DESCRIPTION_SIZE, SEAPROX_HOST_SIZE,
    SEAPROX_NONE, SEAPROX_NOTICE_CLOSED, SEAPROX_NOTICE_CONNECTED, SEAPROX_NOTICE_EXHAUSTED,
    SEAPROX_NOTICE_LINK_DOWN, SEAPROX_NOTICE_LINK_UP, SEAPROX_NOTICE_REFUSED,
    SEAPROX_TARGET_ADDRESS, SEAPROX_TARGET_DEFAULT, SEAPROX_TARGET_NAME, SEAPROX_TARGET_SERVICE,
    Target,
};
use core::ffi::c_void;
use core::fmt;
use seaprox::address::Address;
use seaprox::completion::Ticket;
use seaprox::connector::External;
use seaprox::fail::FailReason;
use seaprox::side::SideKey;
use seaprox::sys::{Errno, Linux, RawFd, Ready};
use seaprox::transport::{self, Cause, Desk, Dest, Dial, Event, Step, Transport};
use seaprox::wanted::{Wanted, Wish};

/// C's callback for dests.
#[derive(Clone, Copy)]
pub(crate) struct OnConnect {
    call: unsafe extern "C" fn(*mut c_void, u64, *const Target),
    user: *mut c_void,
}

/// C's callback for notices.
#[derive(Clone, Copy)]
pub(crate) struct OnNotice {
    call: unsafe extern "C" fn(*mut c_void, *const Notice),
    user: *mut c_void,
}

impl TryFrom<Connector> for OnConnect {
    type Error = Errno;

    fn try_from(connector: Connector) -> Result<Self, Errno> {
        let call = connector.on_connect.ok_or(Errno::INVAL)?;
        Ok(OnConnect { call, user: connector.user })
    }
}

impl TryFrom<Observer> for OnNotice {
    type Error = Errno;

    fn try_from(observer: Observer) -> Result<Self, Errno> {
        let call = observer.on_notice.ok_or(Errno::INVAL)?;
        Ok(OnNotice { call, user: observer.user })
    }
}

/// What C is told of a target, besides who wants it.
pub(crate) struct Asked<'t> {
    kind: u32,
    port: u16,
    /// With a zero at its end.
    host: &'t [u8],
}

/// What a source says it wants to be connected to.
pub(crate) trait Asks {
    /// As C is told it.
    ///
    /// # Errors
    /// It cannot be told.
    fn with(&self, tell: impl FnOnce(Asked<'_>)) -> Result<(), FailReason>;
}

/// A listener's connections want whatever the embedder has.
impl Asks for () {
    fn with(&self, tell: impl FnOnce(Asked<'_>)) -> Result<(), FailReason> {
        tell(Asked { kind: SEAPROX_TARGET_DEFAULT, port: 0, host: b"\0" });
        Ok(())
    }
}

impl Asks for Wish {
    /// # Errors
    /// `Denied` for a name with a zero in it: C would take it for a shorter one.
    fn with(&self, tell: impl FnOnce(Asked<'_>)) -> Result<(), FailReason> {
        let mut text = [0; SEAPROX_HOST_SIZE];
        let mut name = |name: &[u8]| {
            // A name is shorter, as both sides make sure.
            let room = text.get_mut(..name.len()).filter(|_| !name.contains(&0));
            room.ok_or(FailReason::Denied).map(|room| room.copy_from_slice(name))
        };
        let (kind, port) = match self.wanted() {
            Wanted::Service(b"") => (SEAPROX_TARGET_DEFAULT, 0),
            Wanted::Service(service) => {
                name(service)?;
                (SEAPROX_TARGET_SERVICE, 0)
            }
            Wanted::Name(host, port) => {
                name(host)?;
                (SEAPROX_TARGET_NAME, port)
            }
            Wanted::Inet(address) => {
                addresses::put(&mut text, address.ip()).map_err(|_| FailReason::Other)?;
                (SEAPROX_TARGET_ADDRESS, address.port())
            }
        };
        tell(Asked { kind, port, host: &text });
        Ok(())
    }
}

/// A dest that C reaches.
pub(crate) struct Outside {
    callback: OnConnect,
    timeout_millis: u32,
    shape: Shape,
    thread: u32,
}

impl Outside {
    pub(crate) fn new(callback: OnConnect, timeout_millis: u32, shape: Shape, thread: u32) -> Self {
        Outside { callback, timeout_millis, shape, thread }
    }

    #[allow(unsafe_code)]
    fn ask(&self, ticket: Ticket, side: SideKey, source: Address, asked: Asked<'_>) {
        let source = Words::<SEAPROX_ADDRESS_SIZE>::of(source);
        let target = Target {
            size: size_of::<Target>(),
            kind: asked.kind,
            port: asked.port,
            connection: self.shape.connection(self.thread, side.connection()),
            host: asked.host.as_ptr().cast(),
            source: source.0.as_ptr().cast(),
        };
        // SAFETY: the function and its word are the caller's; both texts end in a zero, and all of it
        // outlives the call.
        unsafe { (self.callback.call)(self.callback.user, ticket.to_word(), &raw const target) };
    }
}

impl Transport<Linux> for Outside {
    const PROMPT: bool = false;

    fn ready(&mut self, _: u32, _: RawFd, _: Ready) {}

    fn poll(&mut self, _: &mut Desk<'_, Linux>) -> Option<Event> {
        None
    }
}

impl<T: Asks> Dest<Linux, T> for Outside {
    fn dial(&mut self, dial: &mut Dial<'_, Linux>, cause: Cause<T>) -> Step {
        let (side, source) = (dial.side, dial.source);
        let mut told = Ok(());
        let ask = |ticket, target: T| {
            told = target.with(|asked| self.ask(ticket, side, source, asked));
        };
        // It remembers nothing beside the side's own notes, so there may be one a step.
        let step = External::new(ask, self.timeout_millis).dial(dial, cause);
        match told {
            Ok(()) => step,
            Err(reason) => {
                dial.revoke_ticket();
                Step::Failed(reason)
            }
        }
    }

    fn abort(&mut self, _: SideKey, _: &[u8; 8], _: &mut Desk<'_, Linux>) {}
}

/// Tells C what happens, if it wants to know.
pub(crate) struct Teller(pub(crate) Option<OnNotice>);

impl transport::Observer for Teller {
    fn notice(&mut self, notice: transport::Notice) {
        if let Some(callback) = self.0 {
            callback.tell(notice);
        }
    }
}

impl OnNotice {
    fn tell(self, notice: transport::Notice) {
        let nothing = Notice {
            size: size_of::<Notice>(),
            kind: 0,
            reason: 0,
            error: 0,
            source_bytes: 0,
            dest_bytes: 0,
            source_data: 0,
            dest_data: 0,
            description: core::ptr::null(),
            peer: SEAPROX_NONE,
        };
        let known = |number: Option<u16>| number.map_or(SEAPROX_NONE, u32::from);
        let number = |reason: FailReason| u32::from(reason as u8);
        match notice {
            transport::Notice::Connected(description) => {
                self.call(Notice { kind: SEAPROX_NOTICE_CONNECTED, ..nothing }, description);
            }
            transport::Notice::Closed { description, source_bytes, dest_bytes, reason, data } => {
                let reason = reason.map_or(0, number);
                let (kind, [source_data, dest_data]) = (SEAPROX_NOTICE_CLOSED, data);
                let counts = Notice { source_bytes, dest_bytes, source_data, dest_data, ..nothing };
                self.call(Notice { kind, reason, ..counts }, description);
            }
            transport::Notice::Refused { source, reason, data } => {
                let (kind, [source_data, dest_data]) = (SEAPROX_NOTICE_REFUSED, data);
                let words = Notice { source_data, dest_data, ..nothing };
                self.call(Notice { kind, reason: number(reason), ..words }, source);
            }
            transport::Notice::Exhausted(errno) => {
                let (kind, error) = (SEAPROX_NOTICE_EXHAUSTED, errno.raw_os_error());
                self.call(Notice { kind, error, ..nothing }, "");
            }
            transport::Notice::LinkUp { peer: at, number } => {
                let peer = known(number);
                self.call(Notice { kind: SEAPROX_NOTICE_LINK_UP, peer, ..nothing }, at);
            }
            transport::Notice::LinkDown { peer: at, number: peer, reason } => {
                let (kind, reason) = (SEAPROX_NOTICE_LINK_DOWN, number(reason));
                self.call(Notice { kind, reason, peer: known(peer), ..nothing }, at);
            }
        }
    }

    #[allow(unsafe_code)]
    fn call(self, notice: Notice, description: impl fmt::Display) {
        let words = Words::<SEAPROX_DESCRIPTION_SIZE>::of(description);
        let notice = Notice { description: words.0.as_ptr().cast(), ..notice };
        // SAFETY: the function and its word are the caller's; the text ends in a zero, and all of it
        // outlives the call.
        unsafe { (self.call)(self.user, &raw const notice) };
    }
}

/// Words for C, with a zero at their end.
struct Words<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Words<BYTES> {
    fn of(words: impl fmt::Display) -> Self {
        let mut room = [0; BYTES];
        // They fit; if not they are cut.
        let _ = addresses::put(&mut room, words);
        Words(room)
    }
}
