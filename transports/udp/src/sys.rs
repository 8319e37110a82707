//! The system calls of UDP that rustix does not make: options by number, and messages with control
//! messages. Knows no meaning of an option or of a control message.
//!
//! Invariant: a pointer given to the kernel is to memory that lives until the call returns, of the
//! length given with it; the kernel keeps none.
#![allow(unsafe_code)]

use crate::socket::address::Name;
use crate::socket::control::Control;
use arrayvec::ArrayVec;
use core::ffi::{c_int, c_void};
use core::mem::zeroed;
use libc::{MSG_DONTWAIT, MSG_NOSIGNAL, iovec, mmsghdr, msghdr, socklen_t};
use rustix::fd::{AsRawFd, BorrowedFd};
use seaprox::sys::Errno;

/// Segments of one call, at most.
pub(crate) const PIECES_MAX: usize = 64;

fn last_error() -> Errno {
    // SAFETY: the C library's word of this thread's last failure; it is there in every thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// setsockopt(2).
///
/// # Safety
/// `value` is of the structure that the option takes, all of it: also what that points to lives
/// until the call returns.
unsafe fn set_value<T>(
    fd: BorrowedFd<'_>,
    (level, option): (c_int, c_int),
    value: &T,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as a `T` has, and what the caller answers for.
    let done = unsafe {
        let (from, length) = (core::ptr::from_ref(value).cast(), size_of::<T>() as socklen_t);
        libc::setsockopt(fd.as_raw_fd(), level, option, from, length)
    };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

/// setsockopt(2) of an option, `(level, name)`, that is a number.
pub(crate) fn set(fd: BorrowedFd<'_>, option: (c_int, c_int), value: c_int) -> Result<(), Errno> {
    // SAFETY: a number points to nothing, and the kernel refuses one where a structure belongs,
    // which is longer.
    unsafe { set_value(fd, option, &value) }
}

/// SO_ATTACH_REUSEPORT_CBPF (socket(7)): the program that chooses among the sockets of a port.
pub(crate) fn set_steering(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Errno::INVAL);
    };
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the structure of this option; the kernel copies the instructions, of which there are
    // `len`.
    unsafe { set_value(fd, (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF), &program) }
}

fn piece(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// A message to `to`, or to whom the socket is connected, with no bytes yet. What it points to has
/// to outlive its use.
fn outgoing(to: Option<&Name>, control: &Control) -> msghdr {
    // SAFETY: a structure of C, of numbers and pointers, for which zeroes are a value.
    let mut message: msghdr = unsafe { zeroed() };
    if let Some(name) = to {
        message.msg_name = name.bytes().as_ptr().cast_mut().cast();
        message.msg_namelen = name.bytes().len() as socklen_t;
    }
    if !control.bytes().is_empty() {
        message.msg_control = control.bytes().as_ptr().cast_mut().cast::<c_void>();
        message.msg_controllen = control.bytes().len() as _;
    }
    message
}

/// sendmsg(2) of the pieces, one after the other, at most [`PIECES_MAX`].
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    to: Option<&Name>,
    control: &Control,
    pieces: &[&[u8]],
) -> Result<usize, Errno> {
    let mut pieces: ArrayVec<iovec, PIECES_MAX> =
        pieces.iter().take(PIECES_MAX).map(|bytes| piece(bytes)).collect();
    let mut message = outgoing(to, control);
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the message and what it points to live until the call returns, and the kernel only
    // reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| last_error())
}

/// sendmmsg(2) of the pieces, each a message of its own, at most [`PIECES_MAX`]: how many went. An
/// error is of the first.
pub(crate) fn send_each(
    fd: BorrowedFd<'_>,
    to: Option<&Name>,
    control: &Control,
    pieces: &[&[u8]],
) -> Result<usize, Errno> {
    let mut pieces: ArrayVec<iovec, PIECES_MAX> =
        pieces.iter().take(PIECES_MAX).map(|bytes| piece(bytes)).collect();
    let common = outgoing(to, control);
    let mut messages: ArrayVec<mmsghdr, PIECES_MAX> = pieces
        .iter_mut()
        .map(|piece| {
            let mut message = common;
            message.msg_iov = piece;
            message.msg_iovlen = 1;
            mmsghdr { msg_hdr: message, msg_len: 0 }
        })
        .collect();
    // SAFETY: the messages and what they point to live until the call returns; the kernel writes
    // only their `msg_len`.
    let sent = unsafe {
        let (first, count) = (messages.as_mut_ptr(), messages.len() as _);
        libc::sendmmsg(fd.as_raw_fd(), first, count, (MSG_NOSIGNAL | MSG_DONTWAIT) as _)
    };
    usize::try_from(sent).map_err(|_| last_error())
}

/// What recvmsg(2) gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Bytes at the start of the room.
    pub(crate) bytes: usize,
    /// MSG_TRUNC: there were more.
    pub(crate) is_truncated: bool,
}

/// recvmsg(2), with the sender's name and what the kernel says of the message.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    name: &mut Name,
    control: &mut Control,
    room: &mut [u8],
) -> Result<Message, Errno> {
    let mut piece = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: a structure of C, of numbers and pointers, for which zeroes are a value.
    let mut message: msghdr = unsafe { zeroed() };
    message.msg_name = name.room().as_mut_ptr().cast();
    message.msg_namelen = name.room().len() as socklen_t;
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.room().as_mut_ptr().cast();
    message.msg_controllen = control.room().len() as _;
    // SAFETY: the message and what it points to live until the call returns, and are as long as it
    // says; any bytes are a value of each.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, MSG_DONTWAIT) };
    let bytes = usize::try_from(got).map_err(|_| last_error())?;
    name.set_length(message.msg_namelen as usize);
    control.set_length(message.msg_controllen as usize);
    Ok(Message { bytes, is_truncated: message.msg_flags & libc::MSG_TRUNC != 0 })
}
