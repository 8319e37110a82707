//! The kernel as transports see it whose only descriptors are a listener and carriers.

use super::{CARRIERS_FROM, LISTENER, Net};
use seaprox::address::Address;
use seaprox::sys::{EVENTS_MAX, Errno, Interest, Peer, RawFd, Sys, SysEvent, SysResult};
use seaprox::time::Instant;
use std::cell::RefCell;

/// The few system calls transports make that have no descriptors but carriers.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<'n>(pub(crate) &'n RefCell<Net>);

macro_rules! unused {
    ($(fn $name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(self, $(_: $argument),*) $(-> $result)? {
            unreachable!("nobody calls {}", stringify!($name))
        })*
    };
}

impl Sys for Kernel<'_> {
    unused! {
        fn now() -> Instant;
        fn epoll_wait(RawFd, &mut [SysEvent; EVENTS_MAX], Option<u32>) -> SysResult<usize>;
        fn ring(RawFd);
        fn hush(RawFd);
        fn accept(RawFd) -> SysResult<(RawFd, Address)>;
        fn stop_listening(RawFd);
        fn socket(&Peer<'_>) -> SysResult<RawFd>;
        fn connect(RawFd, &Peer<'_>) -> SysResult<()>;
        fn take_error(RawFd) -> SysResult<()>;
        fn local_address(RawFd) -> SysResult<Address>;
        fn peer_address(RawFd) -> SysResult<Address>;
        fn set_nodelay(RawFd) -> SysResult<()>;
        fn set_keepalive(RawFd, u32, u32, u32) -> SysResult<()>;
        fn set_buffers(RawFd, usize) -> SysResult<()>;
        fn set_nonblocking(RawFd) -> SysResult<()>;
        fn recv(RawFd, &mut [u8]) -> SysResult<usize>;
        fn peek(RawFd, &mut [u8]) -> SysResult<usize>;
        fn send(RawFd, &[u8]) -> SysResult<usize>;
        fn shutdown_write(RawFd) -> SysResult<()>;
        fn reset_on_close(RawFd);
        fn unacknowledged(RawFd) -> SysResult<usize>;
        fn pipe(usize) -> SysResult<(RawFd, RawFd, usize)>;
        fn write_pipe(RawFd, &[u8]) -> SysResult<usize>;
        fn splice(RawFd, RawFd, usize) -> SysResult<usize>;
    }

    fn close(self, fd: RawFd) {
        assert!(fd < LISTENER, "closed by somebody else");
    }

    fn epoll_create(self) -> SysResult<RawFd> {
        Ok(1)
    }

    fn eventfd(self) -> SysResult<RawFd> {
        Ok(2)
    }

    fn epoll_add(self, _: RawFd, fd: RawFd, _: Interest, token: u64) -> SysResult<()> {
        let net = &mut *self.0.borrow_mut();
        if fd >= LISTENER && net.maybe(net.faults.no_memory) {
            return Err(Errno::NOMEM);
        }
        if fd == LISTENER {
            assert!(!net.is_listening, "listens twice");
            net.is_listening = true;
        } else if fd > LISTENER {
            let place = (fd - CARRIERS_FROM) as usize;
            // Below the bits that say which transport's it is.
            let own = (token >> 32) as u32 & ((1 << 30) - 1);
            net.lines[place / 2].here[place % 2].own = Some(own);
        }
        Ok(())
    }

    /// Reports anew what is ready.
    fn epoll_modify(self, _: RawFd, fd: RawFd, _: Interest, token: u64) -> SysResult<()> {
        let net = &mut *self.0.borrow_mut();
        if net.maybe(net.faults.no_memory) {
            return Err(Errno::NOMEM);
        }
        let place = (fd - CARRIERS_FROM) as usize;
        let own = (token >> 32) as u32 & ((1 << 30) - 1);
        net.lines[place / 2].here[place % 2].renumber(own);
        Ok(())
    }

    fn epoll_delete(self, _: RawFd, fd: RawFd) -> SysResult<()> {
        let net = &mut *self.0.borrow_mut();
        assert!(fd == LISTENER && net.is_listening, "{fd} was not registered");
        net.is_listening = false;
        Ok(())
    }
}
