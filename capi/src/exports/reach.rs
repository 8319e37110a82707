//! Dests that are connected outside: what became of a ticket.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)]

use crate::addresses::Place;
use crate::proxy::Proxy;
use crate::raw::{self, answer};
use core::ffi::{c_char, c_int};
use rustix::fd::BorrowedFd;
use seaprox::completion::{Outcome, Ticket};
use seaprox::fail::FailReason;
use seaprox::sys::{Errno, Linux, RawFd, Sys};

/// Reports what became of a connect, once, from any thread or from the callback itself. `reason` 0:
/// `fd` is a stream socket that is connected, or whose connect is under way, and the library's from now on. Else
/// the connect failed for this reason (SEAPROX_REASON_..), and `fd` is -1.
///
/// If this does not give 0 the descriptor is still the caller's, to be closed. -ESTALE: the ticket was used,
/// or its connection timed out or was given up. -EINVAL: no such reason, or a descriptor with one, or a
/// standard descriptor. -EBADF: it is not open. -ENOTSOCK: it is no socket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_complete(
    proxy: *const Proxy,
    ticket: u64,
    fd: c_int,
    reason: u32,
) -> c_int {
    let report = || complete(raw::proxy(proxy)?, ticket, outcome(fd, reason)?);
    answer(report())
}

/// Connects a ticket to an address: "1.2.3.4:80", "[::1]:80" or "unix:/path". Does not wait: the proxy
/// does. For whoever only looks a name up, or only chooses. From any thread or from the callback.
///
/// -EINVAL: no such address. -ESTALE: as seaprox_complete. Or what the kernel says of socket(2) and
/// connect(2); except with -ESTALE the ticket is still good, for another address or a reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_connect(
    proxy: *const Proxy,
    ticket: u64,
    address: *const c_char,
) -> c_int {
    let connect = || {
        let proxy = raw::proxy(proxy)?;
        let place = Place::read(raw::text(address)?)?;
        let fd = Linux.socket(&place.peer())?;
        let begun = match Linux.connect(fd, &place.peer()) {
            Ok(()) | Err(Errno::INPROGRESS) => complete(proxy, ticket, Outcome::Connected(fd)),
            Err(errno) => Err(errno),
        };
        // Nobody took it over.
        begun.inspect_err(|_| Linux.close(fd))
    };
    answer(connect())
}

fn complete(proxy: &Proxy, ticket: u64, outcome: Outcome) -> Result<(), Errno> {
    let ticket = Ticket::from_word(ticket);
    proxy.commons().complete(Linux, ticket, outcome).map_err(|_| Errno::STALE)
}

fn outcome(fd: RawFd, reason: u32) -> Result<Outcome, Errno> {
    if reason != 0 {
        let known = FailReason::ALL.into_iter().find(|known| *known as u32 == reason);
        return match known {
            Some(reason) if fd == -1 => Ok(Outcome::Failed(reason)),
            _ => Err(Errno::INVAL),
        };
    }
    match fd {
        ..0 => Err(Errno::BADF),
        0..=2 => Err(Errno::INVAL),
        fd => {
            // SAFETY: not negative; what is not open is an error of the call.
            let socket = unsafe { BorrowedFd::borrow_raw(fd) };
            rustix::net::sockopt::socket_type(socket)?;
            Ok(Outcome::Connected(fd))
        }
    }
}
