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
