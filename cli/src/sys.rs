//! The system calls the program makes beside the engine's, each wrapped so that its caller needs
//! no `unsafe`. Knows nothing of why they are made.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

/// The number of the network interface of this name (if_nametoindex(3)).
pub fn interface_number(name: &CStr) -> Option<u32> {
    // SAFETY: reads a string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        number => Some(number),
    }
}

/// Whether a network interface has this number (if_indextoname(3)).
pub fn interface_exists(number: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: writes at most IF_NAMESIZE bytes.
    !unsafe { libc::if_indextoname(number, name.as_mut_ptr()) }.is_null()
}

/// An integer option of a socket (getsockopt(2)).
fn socket_option(fd: i32, option: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut bytes = size_of_val(&value) as libc::socklen_t;
    // SAFETY: writes at most `bytes` bytes to `value`; a bad descriptor is an error.
    let done = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut bytes)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Whether this descriptor is a stream socket that listens (socket(7): SO_TYPE, SO_ACCEPTCONN).
pub fn is_listener(fd: i32) -> io::Result<bool> {
    Ok(socket_option(fd, libc::SO_TYPE)? == libc::SOCK_STREAM
        && socket_option(fd, libc::SO_ACCEPTCONN)? == 1)
}

/// Standard error.
pub const STDERR: i32 = 2;

/// Writes what the descriptor takes (write(2)); blocks as it does. No allocation.
pub fn write(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: reads `bytes.len()` bytes; a bad descriptor is an error.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Waits until the descriptor can be written, for ever if `None` (poll(2)). No allocation.
pub fn wait_writable(fd: i32, timeout_millis: Option<u16>) -> bool {
    let mut wait = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut wait, 1, timeout_millis.map_or(-1, i32::from)) };
    ready == 1
}

/// The device and inode of an open descriptor (fstat(2)).
pub fn device_and_inode(fd: i32) -> Option<(u64, u64)> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills the whole struct when it gives 0.
    let status = unsafe {
        if libc::fstat(fd, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    // On 32-bit machines the fields are narrower.
    #[allow(clippy::useless_conversion)]
    Some((u64::from(status.st_dev), u64::from(status.st_ino)))
}
