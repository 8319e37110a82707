//! From the caller's memory to a proxy that runs, and back.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn, clippy::missing_safety_doc)]

use crate::addresses::{self, Place};
use crate::carriers::{At, Sockets};
use crate::keys::{self, Given};
use crate::links::{self, DestEnd, DestMemory, SourceEnd, SourceMemory};
use crate::panic;
use crate::proxy::{self, Proxy};
use crate::raw::{self, answer};
use crate::setup::Setup;
use crate::talk::{self, Talk};
use crate::types::{Connector, Link, Observer, Options, ProxyType, SEAPROX_DEST, SEAPROX_SOURCE};
use core::ffi::{c_char, c_int, c_void};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use seaprox::sys::{Errno, RawFd};
use seaprox::time::DURATION_MILLIS_MAX;
use seaprox::wanted::Wish;
use seaprox_tcp::{AtEnd, ListenOptions};

/// How many bytes of memory a proxy takes: at most SEAPROX_SIZE.
#[unsafe(no_mangle)]
pub extern "C" fn seaprox_sizeof() -> usize {
    size_of::<Proxy>()
}

/// What their address must be a multiple of: SEAPROX_ALIGN.
#[unsafe(no_mangle)]
pub extern "C" fn seaprox_alignof() -> usize {
    align_of::<Proxy>()
}

/// Puts a proxy into memory, which is the library's from now until seaprox_close gave 0. Best it is
/// zero already (a static, calloc, mmap): what is not is made so, and pages of it that are
/// never used take no room then. The descriptors 0, 1 and 2 must be open.
///
/// -EINVAL: a null pointer, memory that is too short (seaprox_sizeof) or misaligned, options of another
/// ABI version or that mean nothing, more connections or threads than the library was built for.
/// -E2BIG: options that this library does not know. -EBUSY: there is a proxy in this memory that was not
/// closed. -EBADF: a standard descriptor is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_init(
    memory: *mut c_void,
    size: usize,
    options: *const Options,
    proxy: *mut *mut Proxy,
) -> c_int {
    panic::say_one_line();
    let init = || {
        raw::check_place(proxy)?;
        let options = raw::read(options)?;
        let name = if options.name.is_null() { None } else { Some(raw::text(options.name)?) };
        let (shape, setup) = Setup::read(&options, name)?;
        for standard in 0..=2 {
            rustix::io::fcntl_getfd(BorrowedFd::borrow_raw(standard))?;
        }
        raw::put(proxy, proxy::place(memory, size, shape, setup)?)
    };
    answer(init())
}

/// Listens on an address: "1.2.3.4:80", "[::1]:80" (IPv6 alone), ":80" (every address of this
/// machine), "unix:/path" or "unix:@name". Port 0 takes one that is free, which seaprox_listening
/// tells. May be called up to SEAPROX_LISTENERS_MAX times.
///
/// -EINVAL: no such address. -EBUSY: the proxy has started. -ENOSPC: too many. Or what the kernel says:
/// -EADDRINUSE, -EACCES ..
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_listen(proxy: *mut Proxy, address: *const c_char) -> c_int {
    let listen = || {
        let mut setup = raw::proxy(proxy)?.configure()?;
        let fd = addresses::listen(raw::text(address)?, setup.buffer_bytes)?;
        setup.hear(fd, AtEnd::Refuse)
    };
    answer(listen())
}

/// Listens on a socket that somebody else has opened and that listens already, such as one of socket
/// activation. If this gives 0 the descriptor is the library's, which closes it in seaprox_close;
/// but it does not shut the socket down, so that others may go on with it.
///
/// -EBADF: it is not open. -EPROTOTYPE: it is no stream socket. -EINVAL: it does not listen.
/// -EBUSY, -ENOSPC: as seaprox_listen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_listen_fd(proxy: *mut Proxy, fd: c_int) -> c_int {
    let listen = || {
        let mut setup = raw::proxy(proxy)?.configure()?;
        if setup.listeners.is_full() {
            return Err(Errno::NOSPC);
        }
        let socket = borrow(fd)?;
        if !rustix::net::sockopt::socket_acceptconn(socket)? {
            return Err(Errno::INVAL);
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let options = ListenOptions { v6_only: false, buffer_bytes: setup.buffer_bytes };
        if let Err(errno) = seaprox_tcp::adopt_listener(&fd, options) {
            // It stays the caller's.
            core::mem::forget(fd);
            return Err(errno);
        }
        setup.hear(fd, AtEnd::Leave)
    };
    answer(listen())
}

/// The address of listener number `index`, in the order they were added, in words that seaprox_listen
/// reads ("unix" for a path); number 0 is where links come in, if they do, before the start.
/// SEAPROX_ADDRESS_SIZE bytes of room are enough.
///
/// -ENOENT: there are not so many. -ENOSPC: it is cut.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_listening(
    proxy: *const Proxy,
    index: u32,
    text: *mut c_char,
    size: usize,
) -> c_int {
    let tell = || {
        let setup = raw::proxy(proxy)?.setup()?;
        let listener = setup.listeners.get(index as usize).map(|heard| heard.fd.as_fd());
        let links = setup.from_links.as_ref().filter(|_| index == 0);
        let socket = listener.or(links.and_then(|links| links.sockets.first()));
        addresses::put(raw::room(text, size)?, addresses::place_of(socket.ok_or(Errno::NOENT)?)?)
    };
    answer(tell())
}

/// Adds a target: "1.2.3.4:80", "[::1]:80" or "unix:/path". Each connection goes to the first of them that
/// can be reached. Names are for a connector (seaprox_connector).
///
/// -EINVAL: no such address. -EEXIST: there is a connector. -EBUSY: the proxy has started. -ENOSPC:
/// there are SEAPROX_TARGETS_MAX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_target(proxy: *mut Proxy, address: *const c_char) -> c_int {
    let aim = || {
        let mut setup = raw::proxy(proxy)?.configure()?;
        setup.aim(Place::read(raw::text(address)?)?)
    };
    answer(aim())
}

/// Lets a callback reach every dest, in place of targets.
///
/// -EINVAL: no callback, or no size. -EEXIST: there is one, or there are targets. -EBUSY: the proxy
/// has started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_connector(
    proxy: *mut Proxy,
    connector: *const Connector,
) -> c_int {
    let set = || {
        let mut setup = raw::proxy(proxy)?.configure()?;
        setup.connect_by(raw::read(connector)?.try_into()?)
    };
    answer(set())
}

/// Lets a callback be told what happens.
///
/// -EINVAL: no callback, or no size. -EEXIST: there is one. -EBUSY: the proxy has started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_observer(proxy: *mut Proxy, observer: *const Observer) -> c_int {
    let set = || {
        let mut setup = raw::proxy(proxy)?.configure()?;
        setup.tell(raw::read(observer)?.try_into()?)
    };
    answer(set())
}

/// Lets clients say what they want, in what a proxy type understands: before a connector, or before the
/// library's own dialing of addresses and of the proxy's targets, if there are any.
///
/// -EINVAL: no callbacks, no size, too much state; no memory for the seats, too little of it, misaligned,
/// or the proxy's own. -EEXIST: there is one. -EBUSY: the proxy has started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_proxy_type(
    proxy: *mut Proxy,
    proxy_type: *const ProxyType,
) -> c_int {
    let set = || {
        let proxy = raw::proxy(proxy)?;
        let mut setup = proxy.configure()?;
        let told = raw::read(proxy_type)?;
        if setup.talk.is_some() {
            return Err(Errno::EXIST);
        }
        let connections = proxy.shape.connections as usize;
        let seats = raw::lent(proxy, told.seats, told.seats_size, connections)?;
        setup.talk = Some((Talk::try_from(&told)?, seats));
        Ok(())
    };
    answer(set())
}

/// How many bytes of memory an end of links takes: `kind` as of seaprox_link, `threads` as of the options.
/// 0: no such end.
#[unsafe(no_mangle)]
pub extern "C" fn seaprox_link_sizeof(kind: u32, threads: u32) -> usize {
    let each = match kind {
        SEAPROX_SOURCE => size_of::<SourceMemory>(),
        SEAPROX_DEST => size_of::<DestMemory>(),
        _ => return 0,
    };
    (threads.max(1) as usize).checked_mul(each).unwrap_or(0)
}

/// What the other ends are to know an end by: writes the SEAPROX_KEY_SIZE bytes of the public key that goes with a
/// secret of as many. Any bytes that were drawn at random are one.
///
/// -EINVAL: null, or nothing but zeroes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_public_key(key: *const u8, public_key: *mut u8) -> c_int {
    let make = || {
        let public = keys::public_of(&*raw::key(key)?)?;
        raw::put(public_key.cast(), public)
    };
    answer(make())
}

/// Joins the proxy to another seaprox by links. `kind` SEAPROX_SOURCE: links come in at the address, up to two a
/// thread, in place of listeners; their connections go to the targets, or to a connector (which is told what
/// each wants), or on through another link. SEAPROX_DEST: connections go into a link a thread to the
/// address, which is connected, and again for ever when it is lost.
///
/// -EINVAL: no such kind or address, no size, memory as of seaprox_proxy_type; a key of nothing but zeroes, one that
/// keeps no secret, this end's own among the peers, no peer, more than one of a link that goes out, or
/// keys and `insecure` as well. -EPERM: no keys, and `insecure` is not 1. -ENOSPC: more than SEAPROX_PEERS_MAX.
/// -EEXIST: there is one, or connections come from, or go, somewhere else, or two peers have one key. -EBUSY: the
/// proxy has started. Or what the kernel says: -EADDRINUSE, -EPROTONOSUPPORT (it has no SCTP) ..
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_link(proxy: *mut Proxy, kind: u32, link: *const Link) -> c_int {
    let set = || {
        let proxy = raw::proxy(proxy)?;
        let mut setup = proxy.configure()?;
        let link = raw::read(link)?;
        let address = raw::text(link.address)?;
        let keys = Given::read(&link, kind == SEAPROX_DEST)?;
        match kind {
            SEAPROX_SOURCE => from_links(proxy, &mut setup, (&link, keys), address),
            SEAPROX_DEST => to_link(proxy, &mut setup, (&link, keys), address),
            _ => Err(Errno::INVAL),
        }
    };
    answer(set())
}

unsafe fn from_links(
    proxy: &Proxy,
    setup: &mut Setup,
    (link, keys): (&Link, Option<Given>),
    address: &[u8],
) -> Result<(), Errno> {
    let threads = proxy.shape.threads;
    let at = At::read(address, true)?;
    if setup.comes_from_somewhere() {
        return Err(Errno::EXIST);
    }
    let memories = raw::lent(proxy, link.memory, link.memory_size, threads as usize)?;
    let mut secret = [0; 16];
    links::random_bytes(&mut secret)?;
    let idle_millis = link_millis(link.timeout_millis, LINK_TIMEOUT_MILLIS)?;
    let sockets = Sockets::listen(&at, threads, &links::carrier_options())?;
    // Last, so that memory that was refused has no keys in it.
    let secrets = links::put_keys(memories, keys.as_ref())?;
    setup.from_links = Some(SourceEnd { sockets, memories, idle_millis, secret, secrets });
    Ok(())
}

unsafe fn to_link(
    proxy: &Proxy,
    setup: &mut Setup,
    (link, keys): (&Link, Option<Given>),
    address: &[u8],
) -> Result<(), Errno> {
    let threads = proxy.shape.threads as usize;
    let at = At::read(address, false)?;
    let host = if link.host.is_null() { &[] } else { raw::text(link.host)? };
    let wanted = talk::wanted(link.target_kind, host, link.port).and_then(Wish::new);
    if setup.goes_somewhere() {
        return Err(Errno::EXIST);
    }
    if let At::Sctp(_) = at {
        // Without SCTP in the kernel it would be tried for ever.
        let anywhere = At::read(b"sctp:127.0.0.1:0", true)?;
        if let Err(errno) = Sockets::listen(&anywhere, 1, &links::carrier_options())
            && seaprox_sctp::is_missing(errno)
        {
            return Err(errno);
        }
    }
    let memories = raw::lent(proxy, link.memory, link.memory_size, threads)?;
    let idle_millis = link_millis(link.timeout_millis, LINK_TIMEOUT_MILLIS)?;
    let wait_millis = link_millis(link.wait_millis, LINK_WAIT_MILLIS)?;
    let (wanted, first) = (wanted.ok_or(Errno::INVAL)?, links::random()? as u32 / 2);
    // Last, as above.
    let secrets = links::put_keys(memories, keys.as_ref())?;
    setup.to_link =
        Some(DestEnd { at, memories, idle_millis, wait_millis, wanted, first, secrets });
    Ok(())
}

/// After how long a silent link is dead, and how long connections wait for one, unless the caller says.
const LINK_TIMEOUT_MILLIS: u32 = 15_000;
const LINK_WAIT_MILLIS: u32 = 10_000;

fn link_millis(given: u32, usual: u32) -> Result<u32, Errno> {
    match given {
        0 => Ok(usual),
        millis if millis > DURATION_MILLIS_MAX => Err(Errno::INVAL),
        millis => Ok(millis),
    }
}

/// Starts the proxy: from now on its threads may be driven, and must be. Where SIGPIPE would end the process
/// it is ignored from now on: splice(2) has no flag that says so.
///
/// -EINVAL: it is not known where connections come from, or where they go. -EBUSY: it has started. Or
/// what the kernel says (-EMFILE ..): then it can only be closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_start(proxy: *mut Proxy) -> c_int {
    let start = || {
        let proxy = raw::proxy(proxy)?;
        raw::ignore_broken_pipes();
        proxy.start()
    };
    answer(start())
}

/// Ends the proxy: what runs is reset, every descriptor of it is closed, and the memory is the
/// caller's again. Tickets that were given out must not be used any more, nor anything else of it.
///
/// -EBUSY: a thread is being driven (seaprox_stop, and wait for it), or this is a callback; nothing was
/// done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn seaprox_close(proxy: *mut Proxy) -> c_int {
    answer(raw::proxy(proxy).and_then(Proxy::close))
}

/// An open descriptor of the caller's.
unsafe fn borrow<'f>(fd: RawFd) -> Result<BorrowedFd<'f>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    let fd = BorrowedFd::borrow_raw(fd);
    rustix::io::fcntl_getfd(fd)?;
    Ok(fd)
}
