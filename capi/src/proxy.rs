//! One proxy in the memory that its caller lent: put there, marked, and given back. Knows nothing of
//! what its parts do.
//!
//! Invariant: a proxy is marked from the end of [`place`] to [`Proxy::close`], with a mark that no copy
//! of it has.

use crate::bounds;
use crate::lane::{Ground, Lane};
use crate::raw;
use crate::setup::{Fixed, Setup, Targets};
use crate::shape::Shape;
use crate::types::{SEAPROX_ALIGN, SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS, SEAPROX_SIZE};
use arrayvec::ArrayVec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};
use seaprox::Seaprox;
use seaprox::share::{Commons, Order};
use seaprox::sys::{Errno, Linux, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

/// What an address is mixed with to mark the proxy there: the first bytes of SHA-256's constants,
/// which mean nothing here (FIPS 180-4 section 4.2.2).
const MARK: u64 = 0x428a_2f98_7137_4491;

/// A proxy, in memory of its caller's.
// The table comes last: it was all zeroes before, and pages of it that nobody uses stay untouched.
#[repr(C, align(64))]
pub struct Proxy {
    mark: AtomicU64,
    pub(crate) shape: Shape,
    setup: Mutex<Setup>,
    /// What the threads refer to, from the start on.
    fixed: OnceLock<Fixed>,
    targets: OnceLock<Targets<'static>>,
    link_socket: OnceLock<OwnedFd>,
    lanes: [Mutex<Lane>; SEAPROX_NUM_THREADS],
    table: Seaprox<SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS>,
}

// What the build printed is the header's bound, and close to what is needed.
const _: () =
    assert!(bounds::memory_bytes(SEAPROX_MAX_NUM_CONNECTIONS, SEAPROX_NUM_THREADS) == SEAPROX_SIZE);
const _: () = assert!(size_of::<Proxy>() <= SEAPROX_SIZE);
const _: () = assert!(
    size_of::<Proxy>() + bounds::SEAPROX_FIXED_BYTES + SEAPROX_NUM_THREADS * 24 * 1024
        >= SEAPROX_SIZE
);
const _: () = assert!(align_of::<Proxy>() == SEAPROX_ALIGN);

impl Proxy {
    fn mark(&self) -> u64 {
        MARK ^ core::ptr::from_ref(self) as u64
    }

    pub(crate) fn is_open(&self) -> bool {
        self.mark.load(Ordering::Acquire) == self.mark()
    }

    /// What any thread may use at any time.
    pub(crate) fn commons(&self) -> Commons<'_> {
        self.table.commons()
    }

    /// Tells every thread what to do.
    pub(crate) fn order(&self, order: Order) {
        self.commons().order(Linux, order);
    }

    /// How it is told to be.
    ///
    /// # Errors
    /// EBUSY: it has started, or somebody is telling it right now.
    pub(crate) fn configure(&self) -> Result<MutexGuard<'_, Setup>, Errno> {
        if self.fixed.get().is_some() {
            return Err(Errno::BUSY);
        }
        enter(&self.setup)
    }

    /// How it was told to be, to look at.
    ///
    /// # Errors
    /// EBUSY: somebody is telling it right now.
    pub(crate) fn setup(&self) -> Result<MutexGuard<'_, Setup>, Errno> {
        enter(&self.setup)
    }

    /// One of its threads, for whoever drives it or looks at it.
    ///
    /// # Errors
    /// EINVAL: there is no such thread. EBUSY: somebody is there already, or this is a callback of it.
    pub(crate) fn lane(&self, thread: u32) -> Result<MutexGuard<'_, Lane>, Errno> {
        if thread >= self.shape.threads {
            return Err(Errno::INVAL);
        }
        enter(&self.lanes[thread as usize])
    }

    /// Gives every thread its part of the table, and a worker.
    ///
    /// # Errors
    /// EINVAL: it was not told where connections come from, or where they go. EBUSY: it has started.
    /// What the kernel says: then it can only be closed.
    pub(crate) fn start(&'static self) -> Result<(), Errno> {
        let mut setup = self.configure()?;
        if !setup.is_complete() {
            return Err(Errno::INVAL);
        }
        let fixed = self.fixed.get_or_init(|| setup.fix());
        let targets = self.targets.get_or_init(|| fixed.targets());
        let (threads, connections) = (self.shape.threads as usize, self.shape.connections as usize);
        let Some(tables) = self.table.claim(threads, connections) else {
            return Err(Errno::BUSY);
        };
        let (shape, link_socket) = (self.shape, &self.link_socket);
        let ground = Ground { fixed, targets, link_socket, shape };
        for (thread, table) in (0..).zip(tables) {
            self.lane(thread)?.start(&mut setup, &ground, thread, table)?;
        }
        Ok(())
    }

    /// Ends what runs, and gives everything back: nothing of the library is in the memory any more.
    ///
    /// # Errors
    /// EBUSY: a thread is being driven or looked at; nothing was done.
    pub(crate) fn close(&self) -> Result<(), Errno> {
        let mut setup = self.setup()?;
        let lanes = self.lanes.iter().map(enter);
        let mut lanes = lanes.collect::<Result<ArrayVec<_, SEAPROX_NUM_THREADS>, _>>()?;
        self.mark.store(0, Ordering::Release);
        self.order(Order::Stop);
        lanes.iter_mut().for_each(|lane| lane.end());
        setup.end();
        if let Some(fd) = self.link_socket.get() {
            // Nobody refers to it any more, and the memory is given back with it.
            raw::close(fd);
        }
        Ok(())
    }
}

/// Takes a lock that is never waited for.
fn enter<T>(lock: &Mutex<T>) -> Result<MutexGuard<'_, T>, Errno> {
    match lock.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::WouldBlock) => Err(Errno::BUSY),
        // A panic ends the process.
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
    }
}

/// Puts a proxy into a caller's memory. What is not zero there is made so; pages that are, as those of
/// a static or of mmap(2), are only read, which costs no memory.
///
/// # Errors
/// EINVAL: null, misaligned or too short. EBUSY: there is an open one already.
#[allow(unsafe_code)]
pub(crate) fn place(
    memory: *mut c_void,
    size: usize,
    shape: Shape,
    setup: Setup,
) -> Result<*mut Proxy, Errno> {
    let proxy = memory.cast::<Proxy>();
    if proxy.is_null() || !proxy.is_aligned() || size < size_of::<Proxy>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: the caller lends `size` bytes, aligned, from now to `Proxy::close`. An atomic number may
    // have any bits (were they never written, they are what the kernel gave).
    unsafe {
        if (*proxy).mark.load(Ordering::Acquire) == MARK ^ proxy as u64 {
            return Err(Errno::BUSY);
        }
    }
    // SAFETY: nobody else uses the memory. Zeroes are a `Seaprox` (its documentation), and every other
    // field is written before there is a reference to the whole.
    unsafe {
        raw::make_zero(memory.cast(), size_of::<Proxy>());
        (&raw mut (*proxy).shape).write(shape);
        (&raw mut (*proxy).setup).write(Mutex::new(setup));
        (&raw mut (*proxy).fixed).write(OnceLock::new());
        (&raw mut (*proxy).targets).write(OnceLock::new());
        (&raw mut (*proxy).link_socket).write(OnceLock::new());
        for thread in 0..SEAPROX_NUM_THREADS {
            (&raw mut (*proxy).lanes)
                .cast::<Mutex<Lane>>()
                .add(thread)
                .write(Mutex::new(Lane::NONE));
        }
        let proxy = &*proxy;
        proxy.mark.store(proxy.mark(), Ordering::Release);
    }
    Ok(proxy)
}
