//! What the worker asks of a transport that is a source, or a dest, in one set of verbs.

use super::net::Kernel;
use super::story::OPENER;
use seaprox::side::{Handle, SideKey};
use seaprox::sim::{Caller, Dialed};
use seaprox::sys::Errno;
use seaprox::transport::{Asked, Cause, Desk, Dest, Source, Step, Transport};
use seaprox::wanted::Wish;
use seaprox_proto::dest::{Connect, LinkDest};
use seaprox_proto::source::{Accept, LinkSource};

/// A source or a dest.
pub(super) trait Role<'n>: Transport<Kernel<'n>> {
    const END: usize;
    fn is_open(&self) -> bool;
    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        dialed: Dialed<'_>,
        cause: Cause<Wish>,
    ) -> Step;
    fn abort(&mut self, side: SideKey, notes: &[u8; 8], desk: &mut Desk<'_, Kernel<'n>>);
    fn wanted(&mut self, handle: Handle, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>) -> Wish;
    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>);
    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno>;
}

impl<'n, A: Connect> Role<'n> for LinkDest<'_, A> {
    const END: usize = OPENER;

    fn is_open(&self) -> bool {
        Dest::<Kernel<'n>, Wish>::is_open(self)
    }

    fn dial(
        &mut self,
        caller: &mut Caller<Kernel<'n>>,
        dialed: Dialed<'_>,
        cause: Cause<Wish>,
    ) -> Step {
        caller.dial(self, dialed, cause)
    }

    fn abort(&mut self, side: SideKey, notes: &[u8; 8], desk: &mut Desk<'_, Kernel<'n>>) {
        Dest::<Kernel<'n>, Wish>::abort(self, side, notes, desk);
    }

    fn wanted(&mut self, _: Handle, _: SideKey, _: &mut Desk<'_, Kernel<'n>>) -> Wish {
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

    fn dial(&mut self, _: &mut Caller<Kernel<'n>>, _: Dialed<'_>, _: Cause<Wish>) -> Step {
        unreachable!("nothing goes to a source")
    }

    fn abort(&mut self, _: SideKey, _: &[u8; 8], _: &mut Desk<'_, Kernel<'n>>) {}

    fn wanted(&mut self, handle: Handle, side: SideKey, desk: &mut Desk<'_, Kernel<'n>>) -> Wish {
        match Source::target(self, handle, side, desk) {
            Asked::For(wanted) => wanted,
            asked => panic!("a channel says at once what it wants: {asked:?}"),
        }
    }

    fn answer(&mut self, handle: Handle, desk: &mut Desk<'_, Kernel<'n>>) {
        let told = Source::answer(self, handle, SideKey::source(0), Ok(()), desk);
        assert_eq!(told, Ok(()));
    }

    fn admit(&mut self, desk: &mut Desk<'_, Kernel<'n>>) -> Result<(), Errno> {
        Source::admit(self, true, desk)
    }
}
