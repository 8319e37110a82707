//! What the worker asks of a transport that is a source, or a dest, in one set of verbs.

use super::net::Kernel;
use super::story::OPENER;
use seaprox::address::Address;
use seaprox::side::{Handle, SideKey};
use seaprox::sim::Caller;
use seaprox::sys::Errno;
use seaprox::transport::{Cause, Desk, Dest, Source, Step, Transport};
use seaprox_proto::dest::{Connect, LinkDest};
use seaprox_proto::source::{Accept, LinkSource};
use seaprox_proto::wanted::Wanted;

/// A source or a dest.
pub(super) trait Role<'n>: Transport<Kernel<'n>> {
    const END: usize;
    fn is_open(&self) -> bool;
    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        at: (SideKey, Address),
        cause: Cause<Wanted>,
    ) -> Step;
    fn abort(&mut self, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>);
    fn wanted(&mut self, handle: Handle, side: SideKey) -> Wanted;
    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>);
    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno>;
}

impl<'n, A: Connect> Role<'n> for LinkDest<'_, A> {
    const END: usize = OPENER;

    fn is_open(&self) -> bool {
        Dest::<Kernel<'n>, Wanted>::is_open(self)
    }

    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        (side, client): (SideKey, Address),
        cause: Cause<Wanted>,
    ) -> Step {
        caller.dial(self, side, client, cause)
    }

    fn abort(&mut self, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>) {
        Dest::<Kernel<'n>, Wanted>::abort(self, side, desk);
    }

    fn wanted(&mut self, _: Handle, _: SideKey) -> Wanted {
        unreachable!("nothing comes from a dest")
    }

    fn answer(&mut self, _: Handle, _: &mut Desk<'_, Kernel<'n>>) {}

    fn admit(&mut self, _: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno> {
        Ok(())
    }
}

impl<'n, A: Accept, const LINKS: usize> Role<'n> for LinkSource<'_, A, LINKS> {
    const END: usize = 1 - OPENER;

    fn is_open(&self) -> bool {
        false
    }

    fn dial(
        &mut self,
        _: &mut Caller<Kernel<'n>>,
        _: (SideKey, Address),
        _: Cause<Wanted>,
    ) -> Step {
        unreachable!("nothing goes to a source")
    }

    fn abort(&mut self, _: SideKey, _: &mut Desk<'_, Kernel<'n>>) {}

    fn wanted(&mut self, handle: Handle, side: SideKey) -> Wanted {
        Source::<Kernel<'n>>::target(self, handle, side)
    }

    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>) {
        Source::answer(self, handle, desk);
    }

    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno> {
        Source::admit(self, true, desk)
    }
}
