//! What C hands over, as Rust may use it. C promises what the header says: a pointer is null, or
//! good for as long as the header says. Everything else is looked at here: null, alignment, sizes,
//! the ends of strings, the mark of a proxy. Knows nothing of what it is for.
//!
//! Each function's contract is that promise, so it is stated once, here: "pointers are null or as the
//! header says".
#![allow(unsafe_code, clippy::missing_safety_doc)]

use crate::proxy::Proxy;
use crate::types::{
    Connector, Counters, Link, Observer, Options, Peer, ProxyType, SEAPROX_KEY_SIZE,
};
use core::ffi::c_void;
use core::ffi::{c_char, c_int};
use core::mem::{MaybeUninit, offset_of};
use seaprox::sys::{Errno, OwnedFd};
use std::os::fd::{AsRawFd, FromRawFd};
use zeroize::Zeroizing;

/// The longest text that is read, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;

/// What a function of the library gives: 0, or a negative errno.
pub(crate) fn answer(result: Result<(), Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(errno) => -errno.raw_os_error(),
    }
}

/// The proxy of a handle.
///
/// # Errors
/// EINVAL: it is none, or was closed.
pub(crate) unsafe fn proxy(handle: *const Proxy) -> Result<&'static Proxy, Errno> {
    check_place(handle)?;
    // SAFETY: not null and aligned; as the header says it is what `seaprox_init` gave, whose memory is
    // the library's until `seaprox_close`. (After that it is the caller's, and readable still.) Several
    // threads may be here: what they share is atomic, or behind a lock, callbacks and hubs as well.
    let proxy = unsafe { &*handle };
    if proxy.is_open() { Ok(proxy) } else { Err(Errno::INVAL) }
}

/// A struct that begins with its size, and whose fields are numbers and pointers.
///
/// # Safety
/// Every pattern of bits is a value of it, and the first `usize` is its size.
pub(crate) unsafe trait Growing: Copy {
    /// The size it had in the first version, of which no caller's has less.
    const BYTES_MIN: usize;
}

// SAFETY: numbers, pointers and optional functions; `size` comes first.
unsafe impl Growing for Options {
    const BYTES_MIN: usize = offset_of!(Options, name) + size_of::<*const c_char>();
}

// SAFETY: as above.
unsafe impl Growing for Connector {
    const BYTES_MIN: usize = size_of::<Connector>();
}

// SAFETY: as above.
unsafe impl Growing for Observer {
    const BYTES_MIN: usize = size_of::<Observer>();
}

// SAFETY: as above.
unsafe impl Growing for ProxyType {
    const BYTES_MIN: usize = size_of::<ProxyType>();
}

// SAFETY: as above.
unsafe impl Growing for Link {
    const BYTES_MIN: usize = offset_of!(Link, memory_size) + size_of::<usize>();
}

// SAFETY: as above.
unsafe impl Growing for Peer {
    const BYTES_MIN: usize = size_of::<Peer>();
}

// SAFETY: as above.
unsafe impl Growing for Counters {
    const BYTES_MIN: usize = offset_of!(Counters, failed);
}

/// Reads the size of a struct, which is what its caller knows of it.
unsafe fn size_of_callers<T: Growing>(from: *const T) -> Result<usize, Errno> {
    /// Larger than any of ours will be: then the size was not set.
    const BYTES_MAX: usize = 4096;
    check_place(from)?;
    // SAFETY: not null and aligned, and the size comes first.
    let size = unsafe { from.cast::<usize>().read() };
    match size {
        size if size < T::BYTES_MIN || size > BYTES_MAX => Err(Errno::INVAL),
        size => Ok(size),
    }
}

/// Reads a struct: what an older caller does not know is zero; what a newer one knows that we do not
/// must be.
///
/// # Errors
/// EINVAL: null, misaligned, or no size of ours. E2BIG: it asks for what this library does not know.
pub(crate) unsafe fn read<T: Growing>(from: *const T) -> Result<T, Errno> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_callers(from)? };
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the struct is `size` bytes long, as it says; `value` has room for `known` of them, and
    // any bits are a value.
    let (value, beyond) = unsafe {
        core::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known);
        let beyond = core::slice::from_raw_parts(from.cast::<u8>().add(known), size - known);
        (value.assume_init(), beyond)
    };
    if beyond.iter().any(|byte| *byte != 0) { Err(Errno::TOOBIG) } else { Ok(value) }
}

/// Writes a struct as far as its caller knows it, and leaves its size as the caller set it.
///
/// # Errors
/// EINVAL: null, misaligned, or no size of ours.
pub(crate) unsafe fn write<T: Growing>(to: *mut T, value: &T) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_callers(to.cast_const())? };
    let (first, known) = (size_of::<usize>(), size.min(size_of::<T>()));
    // SAFETY: `to` is `size` bytes long, as it says; the value's padding is copied as it is.
    unsafe {
        let from = core::ptr::from_ref(value).cast::<MaybeUninit<u8>>();
        let to = to.cast::<MaybeUninit<u8>>();
        core::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first);
    }
    Ok(())
}

/// Reads one struct of an array of `count`, each as long as the first says.
///
/// # Errors
/// As [`read`]. EINVAL: this one says another size.
pub(crate) unsafe fn read_nth<T: Growing>(from: *const T, index: usize) -> Result<T, Errno> {
    // SAFETY: the caller's promise: the array has this element.
    unsafe {
        let size = size_of_callers(from)?;
        let element = from.cast::<u8>().add(index * size).cast::<T>();
        match size_of_callers(element)? {
            own if own == size => read(element),
            _ => Err(Errno::INVAL),
        }
    }
}

/// Reads a key.
///
/// # Errors
/// EINVAL: null.
pub(crate) unsafe fn key(from: *const u8) -> Result<Zeroizing<[u8; SEAPROX_KEY_SIZE]>, Errno> {
    check_place(from)?;
    // SAFETY: not null, and as long as a key is.
    Ok(Zeroizing::new(unsafe { from.cast::<[u8; SEAPROX_KEY_SIZE]>().read() }))
}

/// Looks at a place where a number or a pointer is to be written.
///
/// # Errors
/// EINVAL: null or misaligned.
pub(crate) fn check_place<T>(place: *const T) -> Result<(), Errno> {
    if place.is_null() || !place.is_aligned() { Err(Errno::INVAL) } else { Ok(()) }
}

/// Writes a number or a pointer.
///
/// # Errors
/// EINVAL: null or misaligned.
pub(crate) unsafe fn put<T: Copy>(to: *mut T, value: T) -> Result<(), Errno> {
    check_place(to)?;
    // SAFETY: not null, aligned, and the caller's to be written.
    unsafe { to.write(value) };
    Ok(())
}

/// Reads a number.
///
/// # Errors
/// EINVAL: null or misaligned.
pub(crate) unsafe fn get<T: Copy>(from: *const T) -> Result<T, Errno> {
    check_place(from)?;
    // SAFETY: not null, aligned, and the caller's to be read.
    Ok(unsafe { from.read() })
}

/// The bytes of a text that ends in a zero.
///
/// # Errors
/// EINVAL: null. ENAMETOOLONG: no end within [`TEXT_BYTES_MAX`].
pub(crate) unsafe fn text<'t>(from: *const c_char) -> Result<&'t [u8], Errno> {
    if from.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the text is good up to its end, beyond which nothing is read.
    let end = (0..TEXT_BYTES_MAX).find(|&index| unsafe { from.add(index).read() } == 0);
    // SAFETY: as far as it was just read.
    let bytes = |length| unsafe { core::slice::from_raw_parts(from.cast::<u8>(), length) };
    end.map(bytes).ok_or(Errno::NAMETOOLONG)
}

/// Room for a text.
///
/// # Errors
/// EINVAL: null, or no byte of room.
pub(crate) unsafe fn room<'t>(to: *mut c_char, size: usize) -> Result<&'t mut [u8], Errno> {
    if to.is_null() || size == 0 || size > isize::MAX as usize {
        return Err(Errno::INVAL);
    }
    // SAFETY: the caller's `size` bytes to be written. They need not be initialized: zeroes first.
    unsafe {
        to.write_bytes(0, size);
        Ok(core::slice::from_raw_parts_mut(to.cast::<u8>(), size))
    }
}

/// What may lie in memory that a caller lends.
///
/// # Safety
/// All zeroes is a value of it.
pub(crate) unsafe trait Zero {}

/// So many values of nothing but zeroes in a caller's memory.
///
/// # Errors
/// EINVAL: null, misaligned, too short, or a part of the proxy itself.
pub(crate) unsafe fn lent<T: Zero>(
    proxy: &Proxy,
    memory: *mut c_void,
    size: usize,
    count: usize,
) -> Result<&'static mut [T], Errno> {
    let start = memory.cast::<T>();
    check_place(start)?;
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= size);
    let bytes = bytes.ok_or(Errno::INVAL)?;
    let own = core::ptr::from_ref(proxy).addr();
    let overlaps = memory.addr() < own + size_of::<Proxy>() && own < memory.addr() + bytes;
    if overlaps {
        return Err(Errno::INVAL);
    }
    // SAFETY: the caller lends the memory, which nobody else uses, until the proxy is closed; aligned, long
    // enough, and zeroes are values.
    unsafe {
        make_zero(memory.cast(), bytes);
        Ok(core::slice::from_raw_parts_mut(start, count))
    }
}

/// Memory that was lent, and held what nobody is to find in it.
pub(crate) struct Secrets {
    memory: *mut u8,
    bytes: usize,
}

impl Secrets {
    /// Of all that is in there.
    pub(crate) fn of<T>(lent: &mut [T]) -> Secrets {
        Secrets { memory: lent.as_mut_ptr().cast(), bytes: size_of_val(lent) }
    }

    /// Overwrites them. Nobody uses the memory from now on but its owner.
    pub(crate) fn wipe(self) {
        // SAFETY: `lent` gave it, until the proxy is closed, which is now; nobody refers to it any more.
        unsafe { make_zero(self.memory, self.bytes) };
        // What comes after must not be taken for a reason to leave the zeroes out.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
}

/// Makes memory zero without touching pages that are.
///
/// # Safety
/// The bytes are the caller's alone, and aligned for a word.
pub(crate) unsafe fn make_zero(memory: *mut u8, bytes: usize) {
    const PAGE_BYTES: usize = 4096;
    for start in (0..bytes).step_by(PAGE_BYTES) {
        let length = PAGE_BYTES.min(bytes - start);
        // SAFETY: within the bytes. They are volatile reads, as the memory may never have been written:
        // whatever is there is looked at, and then overwritten unless it is zero.
        unsafe {
            let page = memory.add(start);
            if !is_zero(page, length) {
                page.write_bytes(0, length);
            }
        }
    }
}

/// Whether all of it is zero: words, and the bytes behind them.
///
/// # Safety
/// The bytes are the caller's alone, and aligned for a word.
unsafe fn is_zero(memory: *const u8, bytes: usize) -> bool {
    const WORD_BYTES: usize = size_of::<usize>();
    debug_assert!(memory.cast::<usize>().is_aligned());
    let words = bytes / WORD_BYTES;
    let (mut all, start) = (0, memory.cast::<usize>());
    for index in 0..words {
        // SAFETY: within the bytes, and aligned.
        all |= unsafe { start.add(index).read_volatile() };
    }
    // SAFETY: within the bytes.
    let rest =
        (words * WORD_BYTES..bytes).map(|index| unsafe { memory.add(index).read_volatile() });
    all == 0 && rest.fold(0, |all, byte| all | byte) == 0
}

/// Closes a descriptor whose owner lies in memory that is given back, and is not looked at again.
pub(crate) fn close(fd: &OwnedFd) {
    // SAFETY: it is the owner's, which nobody uses or drops from now on.
    drop(unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) });
}

/// Ignores SIGPIPE where nobody has said what else is to happen (sigaction(2)).
pub(crate) fn ignore_broken_pipes() {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only, and fills the struct when it gives 0; SIG_IGN is no function, so nothing of
    // ours runs in a signal.
    unsafe {
        let asked = libc::sigaction(libc::SIGPIPE, core::ptr::null(), action.as_mut_ptr());
        if asked == 0 && action.assume_init().sa_sigaction == libc::SIG_DFL {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
    }
}
