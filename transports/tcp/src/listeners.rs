//! Several listening sockets as one source. Knows no more of them than that they are, and what each
//! says of its clients.

use crate::listener::Listener;
use arrayvec::ArrayVec;
use seaprox::fail::FailReason;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, RawFd, Ready, Sys};
use seaprox::transport::{Asked, Desk, Event, Source, Transport};

/// Listening sockets of one source, at most.
pub const LISTENERS_MAX: usize = 16;

/// Listening sockets, each with a mark: what is said of its clients.
///
/// ```
/// use seaprox::sys::Linux;
/// use seaprox_tcp::{AtEnd, ListenOptions, Listener, Listeners, listen};
/// use std::os::fd::AsRawFd;
///
/// let anywhere = "127.0.0.1:0".parse()?;
/// let sockets = [listen(anywhere, ListenOptions::default())?, listen(anywhere, ListenOptions::default())?];
/// let listeners = sockets.each_ref().map(|fd| Listener::new(Linux, fd.as_raw_fd(), AtEnd::Refuse));
/// // Each client's target is the mark of the socket it came to.
/// let _source = Listeners::new(listeners.into_iter().zip(["the first", "the second"]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listeners<K, M = ()> {
    listeners: ArrayVec<(Listener<K>, M), LISTENERS_MAX>,
    /// Whose the client is that came last.
    latest: usize,
}

impl<K: Sys, M> Listeners<K, M> {
    /// At most [`LISTENERS_MAX`] of them; more are left out.
    pub fn new(listeners: impl IntoIterator<Item = (Listener<K>, M)>) -> Self {
        let numbered =
            (0..).zip(listeners).map(|(own, (listener, mark))| (listener.numbered(own), mark));
        Listeners { listeners: numbered.take(LISTENERS_MAX).collect(), latest: 0 }
    }
}

impl<K: Sys, M> Transport<K> for Listeners<K, M> {
    const PROMPT: bool = <Listener<K> as Transport<K>>::PROMPT;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        if let Some((listener, _)) = self.listeners.get_mut(own as usize) {
            listener.ready(own, fd, ready);
        }
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        for (number, (listener, _)) in self.listeners.iter_mut().enumerate() {
            if let Some(event) = listener.poll(desk) {
                self.latest = number;
                return Some(event);
            }
        }
        None
    }
}

impl<K: Sys, M: Copy> Source<K> for Listeners<K, M> {
    type Target = M;

    fn target(&mut self, _: Handle, _: SideKey, _: &mut Desk<'_, K>) -> Asked<M> {
        match self.listeners.get(self.latest) {
            Some((_, mark)) => Asked::For(*mark),
            None => Asked::Refused(FailReason::Other),
        }
    }

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        self.listeners.iter_mut().try_for_each(|(listener, _)| listener.admit(wanted, desk))
    }

    fn look(&mut self) {
        self.listeners.iter_mut().for_each(|(listener, _)| listener.look());
    }

    fn end(&mut self, desk: &mut Desk<'_, K>) {
        self.listeners.iter_mut().for_each(|(listener, _)| listener.end(desk));
    }
}
