//! The system calls of SCTP that rustix does not make: options, and messages with the stream they
//! are of. Knows no meaning of an option.
//!
//! Invariant: a pointer given to the kernel is to memory that lives until the call returns, of the
//! length given with it; the kernel keeps none.
#![allow(unsafe_code)]

use crate::kernel;
use core::ffi::c_int;
use core::mem::{MaybeUninit, zeroed};
use libc::{IPPROTO_SCTP, MSG_DONTWAIT, MSG_NOSIGNAL, SCTP_RCVINFO, SCTP_SNDINFO, socklen_t};
use rustix::fd::{AsRawFd, BorrowedFd};
use seaprox::sys::Errno;

/// Structures of the kernel's.
///
/// # Safety
/// Any bits are a value: the kernel writes them.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for c_int {}
// SAFETY: each consists of numbers and arrays of numbers.
unsafe impl Plain for libc::sctp_initmsg {}
// SAFETY: as above.
unsafe impl Plain for kernel::RtoInfo {}
// SAFETY: as above.
unsafe impl Plain for kernel::AssocParams {}
// SAFETY: as above.
unsafe impl Plain for kernel::PathParams {}
// SAFETY: as above.
unsafe impl Plain for kernel::SackInfo {}
// SAFETY: as above.
unsafe impl Plain for kernel::AssocValue {}
// SAFETY: as above.
unsafe impl Plain for kernel::Event {}
// SAFETY: as above.
unsafe impl Plain for kernel::UdpEncaps {}
// SAFETY: as above.
unsafe impl Plain for kernel::Status {}

/// A structure of zeroes.
pub(crate) fn zeroes<T: Plain>() -> T {
    // SAFETY: any bits are a value, so zeroes are.
    unsafe { zeroed() }
}

fn last_error() -> Errno {
    // SAFETY: the C library's word of this thread's last failure; it is there in every thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// setsockopt(2) with some bytes, at the level of SCTP.
pub(crate) fn set_bytes(fd: BorrowedFd<'_>, option: c_int, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as there are.
    let done = unsafe {
        let (from, length) = (bytes.as_ptr().cast(), bytes.len() as socklen_t);
        libc::setsockopt(fd.as_raw_fd(), IPPROTO_SCTP, option, from, length)
    };
    // SCTP_SOCKOPT_CONNECTX gives a number above 0.
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

/// setsockopt(2) with a structure, at the level of SCTP.
pub(crate) fn set<T: Plain>(fd: BorrowedFd<'_>, option: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as a `T` has; it makes no difference what padding is.
    let done = unsafe {
        let (from, length) = (core::ptr::from_ref(value).cast(), size_of::<T>() as socklen_t);
        libc::setsockopt(fd.as_raw_fd(), IPPROTO_SCTP, option, from, length)
    };
    if done < 0 { Err(last_error()) } else { Ok(()) }
}

/// getsockopt(2), at the level of SCTP. Some options want to be asked with a part of the structure,
/// such as the kind of an event; zeroes mean the one association there is.
pub(crate) fn get<T: Plain>(fd: BorrowedFd<'_>, option: c_int, asked: T) -> Result<T, Errno> {
    let mut value = asked;
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, and any bits are a `T`.
    let done = unsafe {
        let into = core::ptr::from_mut(&mut value).cast();
        libc::getsockopt(fd.as_raw_fd(), IPPROTO_SCTP, option, into, &mut length)
    };
    if done < 0 { Err(last_error()) } else { Ok(value) }
}

/// A control message with a `T` (cmsg(3)).
#[repr(C)]
struct Control<T> {
    header: libc::cmsghdr,
    data: T,
}

// CMSG_SPACE is the size and CMSG_DATA the place only where nothing has to be padded before data.
static_assertions::const_assert_eq!(
    core::mem::offset_of!(Control<libc::sctp_rcvinfo>, data),
    size_of::<libc::cmsghdr>()
);
static_assertions::const_assert_eq!(size_of::<libc::cmsghdr>() % size_of::<usize>(), 0);

/// CMSG_LEN of a `T`.
const fn control_bytes<T>() -> usize {
    size_of::<libc::cmsghdr>() + size_of::<T>()
}

/// sendmsg(2) of one message on a stream, whole or not at all.
pub(crate) fn send(fd: BorrowedFd<'_>, stream: u16, packet: &[u8]) -> Result<usize, Errno> {
    // SAFETY: both are structures of C, of numbers and pointers, for which zeroes are a value.
    let (mut message, mut control): (libc::msghdr, Control<libc::sctp_sndinfo>) =
        unsafe { (zeroed(), zeroed()) };
    control.header.cmsg_len = control_bytes::<libc::sctp_sndinfo>() as _;
    control.header.cmsg_level = IPPROTO_SCTP;
    control.header.cmsg_type = SCTP_SNDINFO;
    control.data.snd_sid = stream;
    let mut piece =
        libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    message.msg_control = core::ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message and what it points to live until the call returns; the kernel only reads
    // the packet.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| last_error())
}

/// What recvmsg(2) gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Bytes at the start of the room.
    pub(crate) bytes: usize,
    /// MSG_EOR: they are the last.
    pub(crate) end: bool,
    /// MSG_NOTIFICATION: they are no data.
    pub(crate) notification: bool,
    /// Of data: the stream.
    pub(crate) stream: Option<u16>,
}

/// recvmsg(2) of a message, or a piece of it.
pub(crate) fn receive(fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<Message, Errno> {
    // SAFETY: a structure of C, of numbers and pointers, for which zeroes are a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    let mut control = MaybeUninit::<Control<libc::sctp_rcvinfo>>::uninit();
    let mut piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message and what it points to live until the call returns, and are as long as it
    // says.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, MSG_DONTWAIT) };
    let bytes = usize::try_from(got).map_err(|_| last_error())?;
    let is_whole = message.msg_controllen as usize >= control_bytes::<libc::sctp_rcvinfo>();
    let stream = is_whole.then(|| {
        // SAFETY: the kernel has written the header and as many bytes as a `sctp_rcvinfo` has, and
        // any bits are a value.
        let control = unsafe { control.assume_init_ref() };
        let header = (control.header.cmsg_level, control.header.cmsg_type);
        (header == (IPPROTO_SCTP, SCTP_RCVINFO)).then_some(control.data.rcv_sid)
    });
    Ok(Message {
        bytes,
        end: message.msg_flags & libc::MSG_EOR != 0,
        notification: message.msg_flags & libc::MSG_NOTIFICATION != 0,
        stream: stream.flatten(),
    })
}
