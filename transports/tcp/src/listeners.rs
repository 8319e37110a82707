//! Several listening sockets as one source. Knows no more of them than that they are.

use crate::listener::Listener;
use arrayvec::ArrayVec;
use seaprox::side::{Handle, SideKey};
use seaprox::sys::{Errno, RawFd, Ready, Sys};
use seaprox::transport::{Desk, Event, Source, Transport};

/// Listening sockets of one source, at most.
pub const LISTENERS_MAX: usize = 16;

/// Listening sockets whose clients are all to be connected to the same.
#[derive(Debug)]
pub struct Listeners<K>(ArrayVec<Listener<K>, LISTENERS_MAX>);

impl<K: Sys> Listeners<K> {
    /// At most [`LISTENERS_MAX`] of them; more are left out.
    pub fn new(listeners: impl IntoIterator<Item = Listener<K>>) -> Self {
        let numbered = (0..).zip(listeners).map(|(own, listener)| listener.numbered(own));
        Listeners(numbered.take(LISTENERS_MAX).collect())
    }
}

impl<K: Sys> Transport<K> for Listeners<K> {
    const PROMPT: bool = <Listener<K> as Transport<K>>::PROMPT;

    fn ready(&mut self, own: u32, fd: RawFd, ready: Ready) {
        if let Some(listener) = self.0.get_mut(own as usize) {
            listener.ready(own, fd, ready);
        }
    }

    fn poll(&mut self, desk: &mut Desk<'_, K>) -> Option<Event> {
        self.0.iter_mut().find_map(|listener| listener.poll(desk))
    }
}

impl<K: Sys> Source<K> for Listeners<K> {
    type Target = ();

    fn target(&mut self, _: Handle, _: SideKey) {}

    fn admit(&mut self, wanted: bool, desk: &mut Desk<'_, K>) -> Result<(), Errno> {
        self.0.iter_mut().try_for_each(|listener| listener.admit(wanted, desk))
    }

    fn look(&mut self) {
        self.0.iter_mut().for_each(Source::look);
    }

    fn end(&mut self, desk: &mut Desk<'_, K>) {
        self.0.iter_mut().for_each(|listener| listener.end(desk));
    }
}
