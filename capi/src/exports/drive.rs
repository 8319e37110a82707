//! The threads: they are the caller's, who turns each of them, and says when it is over.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)]

use crate::proxy::Proxy;
use crate::raw::{self, answer};
use core::ffi::c_int;
use seaprox::share::Order;
use seaprox::sys::Errno;

/// Drives a thread until it was told to drain or to stop and nothing is left. Blocks; the thread may
/// be any, one for each number below the options' `threads`.
///
/// -EINVAL: there is no such thread, or the proxy was not started. -EBUSY: it is driven by somebody
/// else, or this is a callback. Or what the kernel says if it refuses to wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_run(proxy: *mut Proxy, thread: u32) -> c_int {
    let run = || {
        let mut lane = raw::proxy(proxy)?.lane(thread)?;
        loop {
            match lane.turn(None) {
                Ok(()) => {}
                Err(Errno::SHUTDOWN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    };
    answer(run())
}

/// One turn of a thread. Waits for something to do for `timeout_millis` at most: 0 not at all, less than
/// 0 as long as it takes. Between two turns the thread's connections can be looked at.
///
/// -ESHUTDOWN: it was told to drain or to stop, and nothing is left. Else as seaprox_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_turn(
    proxy: *mut Proxy,
    thread: u32,
    timeout_millis: c_int,
) -> c_int {
    let turn = || raw::proxy(proxy)?.lane(thread)?.turn(u32::try_from(timeout_millis).ok());
    answer(turn())
}

/// The descriptor that is readable when a turn has something to do, for a loop of one's own. It is an
/// epoll, and the library's.
///
/// -ESHUTDOWN: as seaprox_turn. -EINVAL, -EBUSY: as seaprox_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_fd(proxy: *const Proxy, thread: u32, fd: *mut c_int) -> c_int {
    let tell = || raw::put(fd, raw::proxy(proxy)?.lane(thread)?.fd()?);
    answer(tell())
}

/// In how many milliseconds a turn is due although that descriptor may not be readable; -1: not before
/// it is. To be asked after every turn.
///
/// -ESHUTDOWN: as seaprox_turn. -EINVAL, -EBUSY: as seaprox_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_timeout(
    proxy: *const Proxy,
    thread: u32,
    timeout_millis: *mut c_int,
) -> c_int {
    let tell = || {
        let timeout = raw::proxy(proxy)?.lane(thread)?.timeout()?;
        let millis = timeout.map_or(-1, |millis| c_int::try_from(millis).unwrap_or(c_int::MAX));
        raw::put(timeout_millis, millis)
    };
    answer(tell())
}

/// Lets every turn that waits end now. From any thread, from callbacks and from signal handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_wake(proxy: *const Proxy) -> c_int {
    // It goes on running: an order is never taken back.
    answer(raw::proxy(proxy).map(|proxy| proxy.order(Order::Run)))
}

/// Drains: what waits at the listeners is taken, nothing after it, and what runs is finished. From
/// any thread, from callbacks and from signal handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_drain(proxy: *const Proxy) -> c_int {
    answer(raw::proxy(proxy).map(|proxy| proxy.order(Order::Drain)))
}

/// Stops: what runs is reset. From any thread, from callbacks and from signal handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_stop(proxy: *const Proxy) -> c_int {
    answer(raw::proxy(proxy).map(|proxy| proxy.order(Order::Stop)))
}
