//! The seal on the heap: before the first accept the allocator is sealed, and whoever allocates
//! after that ends the process. So "nothing is allocated after start" is enforced where it is
//! promised, in the program that runs. Memory that libc takes for itself (`getaddrinfo` on the
//! resolver's threads) does not come through here.

use crate::exit;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static SEALED: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES_HELD: AtomicUsize = AtomicUsize::new(0);

/// The allocator to declare as `#[global_allocator]`: the system's, until the seal.
pub struct Sealable;

/// What was allocated before the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many times memory was asked for.
    pub allocations: usize,
    /// The bytes that were not given back.
    pub bytes: usize,
}

/// From now on an allocation ends the process; memory may still be given back.
pub fn seal() -> Held {
    SEALED.store(true, Ordering::SeqCst);
    Held {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES_HELD.load(Ordering::Relaxed),
    }
}

fn count(bytes: usize) {
    // std puts a formatted panic message into a String before it calls the hook.
    // A panic is the end of the process (`hook_panics`), and its message is worth more.
    if SEALED.load(Ordering::Relaxed) && !std::thread::panicking() {
        broken(bytes);
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES_HELD.fetch_add(bytes, Ordering::Relaxed);
}

#[cold]
fn broken(bytes: usize) -> ! {
    exit::say(format_args!(
        "{bytes} bytes of heap were asked for after start: this is a bug in seaprox"
    ));
    std::process::abort();
}

// SAFETY: every call is handed to the system's allocator as it came; in between only atomics are
// touched, so nothing here can allocate or unwind.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Sealable {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        BYTES_HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES_HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Makes a panic one line, written from the stack, and the end of the process: std's own hook locks stderr and takes a
/// backtrace, for which it allocates.
pub fn hook_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no message");
        match panic.location() {
            Some(location) => exit::say(format_args!("panic at {location}: {message}")),
            None => exit::say(format_args!("panic: {message}")),
        }
        // The profiles say panic = "abort"; a build that overrides them must not unwind through a
        // seal that is open to a panicking thread.
        std::process::abort();
    }));
}
