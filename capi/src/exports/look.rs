//! What there is: counters, at any time; connections and their sides, between two turns of their thread.
//!
//! Connections and sides are numbers, places in the table: the same number may be another connection
//! after the next turn. A connection's sides are `2 * connection` (source) and one more (dest).
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)]

use crate::addresses;
use crate::lane::Lane;
use crate::proxy::Proxy;
use crate::raw::{self, answer};
use crate::types::{
    Counters, SEAPROX_ALL, SEAPROX_CONNECTED, SEAPROX_CONNECTING, SEAPROX_DEST, SEAPROX_IDLE,
    SEAPROX_NONE, SEAPROX_NUM_CONNECTION_FAIL_REASONS, SEAPROX_SOURCE,
};
use core::ffi::{CStr, c_char, c_int};
use seaprox::fail::FailReason;
use seaprox::share::Share;
use seaprox::side::{SideKey, SideState};
use seaprox::sys::Errno;
use std::sync::MutexGuard;

/// What a thread, or all of them (SEAPROX_ALL), hold and have seen. From any thread, at any time, and from
/// callbacks. Set `counters->size` first.
///
/// -EINVAL: there is no such thread, or no size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_counters(
    proxy: *const Proxy,
    thread: u32,
    counters: *mut Counters,
) -> c_int {
    let count = || {
        let proxy = raw::proxy(proxy)?;
        let shares = proxy.commons().shares();
        let shares = match thread {
            SEAPROX_ALL => shares,
            thread if thread < proxy.shape.threads => {
                core::slice::from_ref(&shares[thread as usize])
            }
            _ => return Err(Errno::INVAL),
        };
        raw::write(counters, &sum(shares))
    };
    answer(count())
}

fn sum(shares: &[Share]) -> Counters {
    let total = |number: fn(&Share) -> u64| shares.iter().map(number).sum();
    let mut failed = [0; SEAPROX_NUM_CONNECTION_FAIL_REASONS];
    for reason in FailReason::ALL {
        failed[reason as usize] = shares.iter().map(|share| share.counters.failed(reason)).sum();
    }
    Counters {
        size: size_of::<Counters>(),
        occupied: total(|share| share.occupied().into()),
        limit: total(|share| share.limit().into()),
        accepted: total(|share| share.counters.accepted()),
        connected: total(|share| share.counters.connected()),
        closed: total(|share| share.counters.closed()),
        bytes: total(|share| share.counters.bytes()),
        failed,
    }
}

/// A reason in one word, "timed-out"; "none" for 0, and null for what is no reason. Good for ever.
#[unsafe(no_mangle)]
pub extern "C" fn seaprox_reason_name(reason: u32) -> *const c_char {
    NAMES.get(reason as usize).map_or(core::ptr::null(), |name| name.as_ptr())
}

/// Every reason's name with a zero at its end, which the engine's own have not; 0 is none.
const NAMES: [&CStr; FailReason::ALL.len() + 1] = [
    c"none",
    c"name-resolution",
    c"connection-refused",
    c"other",
    c"table-full",
    c"timed-out",
    c"protocol",
    c"credit-exceeded",
    c"no-such-service",
    c"denied",
    c"unreachable",
    c"idle",
    c"shutdown",
    c"version",
    c"auth",
    c"reset",
    c"resolver-full",
    c"out-of-descriptors",
    c"source-gone",
    c"half-closed",
    c"link-down",
    c"over-limit",
];

/// The next connection of a thread after `*connection`, which it becomes; SEAPROX_NONE begins.
/// O(connections) for all of them together.
///
/// -ENOENT: there is none any more. -EINVAL: there is no such thread, it was not started, or
/// `*connection` is another's. -EBUSY: it is being driven, or this is a callback. -ESHUTDOWN: it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_next(
    proxy: *const Proxy,
    thread: u32,
    connection: *mut u32,
) -> c_int {
    let next = || {
        let proxy = raw::proxy(proxy)?;
        let mut lane = proxy.lane(thread)?;
        let first = match raw::get(connection)? {
            SEAPROX_NONE => 0,
            after => match proxy.shape.place(after) {
                Some((of, place)) if of == thread => place + 1,
                _ => return Err(Errno::INVAL),
            },
        };
        let table = lane.table()?;
        let place = (first..table.capacity()).find(|place| table.holds(*place));
        raw::put(connection, proxy.shape.connection(thread, place.ok_or(Errno::NOENT)?))
    };
    answer(next())
}

/// A connection in words: "static[ipv4[1.2.3.4:3234]->ipv6[[::1]:80]]". SEAPROX_DESCRIPTION_SIZE bytes of room
/// are enough.
///
/// -ENOENT: there is no such connection. -ENOSPC: it is cut. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_connection_describe(
    proxy: *const Proxy,
    connection: u32,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let describe = || {
        let proxy = raw::proxy(proxy)?;
        let (thread, place) = proxy.shape.place(connection).ok_or(Errno::INVAL)?;
        let description = proxy.lane(thread)?.describe(place)?;
        addresses::put(raw::room(text, size)?, description)
    };
    answer(describe())
}

/// The source side of a connection: who came.
///
/// -EINVAL: there can be no such connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_connection_source(
    proxy: *const Proxy,
    connection: u32,
    side: *mut u32,
) -> c_int {
    answer(side_of(proxy, connection, SEAPROX_SOURCE, side))
}

/// The dest side of a connection: whom the proxy went to.
///
/// -EINVAL: there can be no such connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_connection_dest(
    proxy: *const Proxy,
    connection: u32,
    side: *mut u32,
) -> c_int {
    answer(side_of(proxy, connection, SEAPROX_DEST, side))
}

unsafe fn side_of(
    proxy: *const Proxy,
    connection: u32,
    kind: u32,
    side: *mut u32,
) -> Result<(), Errno> {
    raw::proxy(proxy)?.shape.place(connection).ok_or(Errno::INVAL)?;
    raw::put(side, connection << 1 | kind)
}

/// The connection of a side.
///
/// -EINVAL: there can be no such side.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_get_connection(
    proxy: *const Proxy,
    side: u32,
    connection: *mut u32,
) -> c_int {
    answer(number_of(proxy, side).and_then(|side| raw::put(connection, side >> 1)))
}

/// The other side of the same connection.
///
/// -EINVAL: there can be no such side.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_get_other_side(
    proxy: *const Proxy,
    side: u32,
    other: *mut u32,
) -> c_int {
    answer(number_of(proxy, side).and_then(|side| raw::put(other, side ^ 1)))
}

/// Which side it is: SEAPROX_SOURCE or SEAPROX_DEST.
///
/// -EINVAL: there can be no such side.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_kind(
    proxy: *const Proxy,
    side: u32,
    kind: *mut u32,
) -> c_int {
    answer(number_of(proxy, side).and_then(|side| raw::put(kind, side & 1)))
}

/// A number, if a side may have it.
unsafe fn number_of(proxy: *const Proxy, side: u32) -> Result<u32, Errno> {
    raw::proxy(proxy)?.shape.side(side).map(|_| side).ok_or(Errno::INVAL)
}

/// The thread of a side, and where it is there.
unsafe fn find<'p>(
    proxy: *const Proxy,
    side: u32,
) -> Result<(MutexGuard<'p, Lane>, SideKey), Errno> {
    let proxy = raw::proxy(proxy)?;
    let (thread, key) = proxy.shape.side(side).ok_or(Errno::INVAL)?;
    Ok((proxy.lane(thread)?, key))
}

/// How far a side is: SEAPROX_IDLE, SEAPROX_CONNECTING or SEAPROX_CONNECTED.
///
/// -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_state(
    proxy: *const Proxy,
    side: u32,
    state: *mut u32,
) -> c_int {
    let tell = || {
        let (mut lane, key) = find(proxy, side)?;
        let number = match lane.table()?.side(key).state() {
            SideState::Idle => SEAPROX_IDLE,
            SideState::Connecting => SEAPROX_CONNECTING,
            SideState::Connected => SEAPROX_CONNECTED,
        };
        raw::put(state, number)
    };
    answer(tell())
}

/// The descriptor of a side, -1 if it has none (a channel of a link has none). It is the library's, and may be
/// closed in the next turn: to look at, or to set an option.
///
/// -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_fd(proxy: *const Proxy, side: u32, fd: *mut c_int) -> c_int {
    let tell = || {
        let (mut lane, key) = find(proxy, side)?;
        raw::put(fd, lane.table()?.fd(key).unwrap_or(-1))
    };
    answer(tell())
}

/// The bytes read from a side so far.
///
/// -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_bytes(
    proxy: *const Proxy,
    side: u32,
    bytes: *mut u64,
) -> c_int {
    let tell = || {
        let (mut lane, key) = find(proxy, side)?;
        raw::put(bytes, lane.table()?.side(key).bytes())
    };
    answer(tell())
}

/// Who is at the far end of a side, in words: "ipv4[1.2.3.4:3234]". SEAPROX_ADDRESS_SIZE bytes of room are
/// enough.
///
/// -ENOENT: there is no such connection. -ENOSPC: it is cut. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_describe(
    proxy: *const Proxy,
    side: u32,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let describe = || {
        let (mut lane, key) = find(proxy, side)?;
        let table = lane.table()?;
        if !table.holds(key.connection()) {
            return Err(Errno::NOENT);
        }
        addresses::put(raw::room(text, size)?, table.side(key).peer())
    };
    answer(describe())
}

/// The caller's own word on a side, 0 if it has none.
///
/// -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_data(
    proxy: *const Proxy,
    side: u32,
    data: *mut u64,
) -> c_int {
    let tell = || {
        let (mut lane, key) = find(proxy, side)?;
        raw::put(data, lane.table()?.side(key).data)
    };
    answer(tell())
}

/// Sets the caller's own word on a side, until its connection ends: the observer is told of it then.
///
/// -ENOENT: there is no such connection. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_side_set_data(proxy: *const Proxy, side: u32, data: u64) -> c_int {
    let set = || {
        let (mut lane, key) = find(proxy, side)?;
        lane.set_data(key, data)
    };
    answer(set())
}

/// The first side of a thread that has this word of the caller's, which is not 0. O(connections).
///
/// -ENOENT: none has. -EINVAL, -EBUSY, -ESHUTDOWN: as seaprox_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_data_get_side(
    proxy: *const Proxy,
    thread: u32,
    data: u64,
    side: *mut u32,
) -> c_int {
    let find = || {
        let proxy = raw::proxy(proxy)?;
        let mut lane = proxy.lane(thread)?;
        if data == 0 {
            return Err(Errno::INVAL);
        }
        let table = lane.table()?;
        let keys = (0..table.capacity()).flat_map(|n| [SideKey::source(n), SideKey::dest(n)]);
        let key = keys.into_iter().find(|key| table.side(*key).data == data).ok_or(Errno::NOENT)?;
        raw::put(side, proxy.shape.number(thread, key))
    };
    answer(find())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_called_what_the_engine_calls_them() {
        for reason in FailReason::ALL {
            assert_eq!(NAMES[reason as usize].to_str(), Ok(reason.name()));
        }
    }
}
