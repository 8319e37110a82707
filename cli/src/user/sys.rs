//! The C library's calls about users and groups, and those that change whose a process is. Knows
//! nothing of names as they are written.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// How long an entry of the user database may be: one with many members is long.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// What is tried first; each next try has twice as much.
const ENTRY_BYTES: usize = 1 << 10;

/// The numbers of a user and of his group (getpwnam_r(3)).
pub(super) fn user_called(name: &CStr) -> Option<(u32, u32)> {
    // SAFETY: reads a string that ends in NUL, and keeps what it finds within what it is given.
    find(|entry: *mut libc::passwd, text, bytes, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), entry, text, bytes, found)
    })
    .map(|entry| (entry.pw_uid, entry.pw_gid))
}

/// The group of a user (getpwuid_r(3)).
pub(super) fn group_of(user: u32) -> Option<u32> {
    // SAFETY: keeps what it finds within what it is given.
    find(|entry: *mut libc::passwd, text, bytes, found| unsafe {
        libc::getpwuid_r(user, entry, text, bytes, found)
    })
    .map(|entry| entry.pw_gid)
}

/// The number of a group (getgrnam_r(3)).
pub(super) fn group_called(name: &CStr) -> Option<u32> {
    // SAFETY: reads a string that ends in NUL, and keeps what it finds within what it is given.
    find(|entry: *mut libc::group, text, bytes, found| unsafe {
        libc::getgrnam_r(name.as_ptr(), entry, text, bytes, found)
    })
    .map(|entry| entry.gr_gid)
}

/// Asks with more and more room; `None`: there is no such entry, or none that can be had. The
/// entry's strings are gone: only its numbers are good.
fn find<T: Copy>(
    ask: impl Fn(*mut T, *mut libc::c_char, usize, *mut *mut T) -> libc::c_int,
) -> Option<T> {
    let mut bytes = ENTRY_BYTES;
    while bytes <= ENTRY_BYTES_MAX {
        let mut text: Vec<libc::c_char> = vec![0; bytes];
        let mut entry = MaybeUninit::<T>::uninit();
        let mut found = null_mut();
        match ask(entry.as_mut_ptr(), text.as_mut_ptr(), bytes, &mut found) {
            libc::ERANGE => bytes *= 2,
            // SAFETY: it has been filled, as `found` says by pointing to it.
            0 if !found.is_null() => return Some(unsafe { entry.assume_init() }),
            _ => return None,
        }
    }
    None
}

/// `struct __user_cap_header_struct` and `struct __user_cap_data_struct` (capset(2)).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    thread: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3 (linux/capability.h): 64 bits, in two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// This process is this user's from now on, in this group and no other, without capabilities
/// (setgroups(2), setresgid(2), setresuid(2), capset(2)). The last of them matters to who was not root and
/// had some: they do not go with the user. If it leaves no core dump (prctl(2), PR_SET_DUMPABLE), it leaves none
/// as that user either.
pub(super) fn switch(user: u32, group: u32) -> io::Result<()> {
    let done = |result| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: no argument.
    let is_dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    // SAFETY: no group is read.
    done(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::setresgid(group, group, group) })?;
    // SAFETY: numbers only.
    done(unsafe { libc::setresuid(user, user, user) })?;
    let header = CapabilityHeader { version: CAPABILITY_VERSION, thread: 0 };
    let nothing = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: the kernel reads the header and, of this version, two structures.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, nothing.as_ptr()) };
    done(result as libc::c_int)?;
    match is_dumpable {
        // Becoming somebody else has set it to fs.suid_dumpable (proc_sys_fs(5)), which may be more.
        // SAFETY: numbers only.
        0 => done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }),
        _ => Ok(()),
    }
}
